"""One slice and one resize, against Pillow on the same slice and against floats."""

import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from PIL import Image

import mmcache
from mmcache import SettingError, resampling
from mmcache.recipe import RESAMPLES
from mmcache.resampling import RESAMPLERS, resampler_for, resized

FAST = ["bilinear", "bicubic", "lanczos"]  # the filters that cykooz-resizer has
KINDS = [("u1", 1), ("u1", 3), ("u1", 4), ("u2", 1)]
NEAREST_DB = {"bilinear": 50, "bicubic": 46, "lanczos": 42}

kinds = st.sampled_from(KINDS)
edges = st.integers(1, 40)
sizes = st.tuples(edges, edges)
filters = st.sampled_from(RESAMPLES)


@st.composite
def pictures_and_windows(draw):
    height, width = draw(sizes)
    dtype, channels = draw(kinds)
    rng = np.random.default_rng(draw(st.integers(0, 1000)))
    most = np.iinfo(dtype).max
    picture = rng.integers(0, most, (height, width, channels), dtype, endpoint=True)
    top, left = draw(st.integers(0, height - 1)), draw(st.integers(0, width - 1))
    window = top, left, draw(st.integers(1, height - top)), draw(st.integers(1, width - left))
    return picture, window


def cut(picture, window):
    top, left, height, width = window
    return picture[top : top + height, left : left + width]


def by_pillow(picture, window, size, resample):
    """The oracle: Pillow's resize of the slice."""
    taken = cut(picture, window)
    image = Image.fromarray(taken[..., 0] if taken.shape[2] == 1 else taken)
    made = image.resize(size[::-1], Image.Resampling[resample.upper()])
    return np.asarray(made).reshape(*size, taken.shape[2])


def in_floats(taken, size, resample):
    """What Pillow makes of each channel as floats: nothing is rounded or clipped between."""
    channels = [Image.fromarray(taken[..., c].astype(np.float32)) for c in range(taken.shape[2])]
    made = [one.resize(size[::-1], Image.Resampling[resample.upper()]) for one in channels]
    return np.stack([np.asarray(one) for one in made], axis=-1)


def seen(picture):
    """Colours by how much they are seen: those of what is nearly clear may be anything."""
    if picture.shape[2] != 4:
        return picture.astype(np.float64)
    alpha = picture[..., 3:].astype(np.float64)
    return np.concatenate([picture[..., :3] * (alpha / 255), alpha], axis=-1)


def decibels(one, other, most=255):
    error = np.mean((np.asarray(one, np.float64) - other) ** 2)
    return 10 * np.log10(most**2 / error) if error else np.inf


def a_photo(dtype="u1", channels=3, height=90, width=120, seed=0):
    """Something smooth with edges and grain, as a photo has."""
    rng = np.random.default_rng(seed)
    coarse = rng.random((9, 12, channels)).astype(np.float32)
    large = in_floats(coarse, (height, width), "bicubic")
    large += 0.3 * (np.indices((height, width)).sum(axis=0) % 37 < 9)[..., None]
    large += rng.normal(0, 0.03, large.shape)
    most = np.iinfo(dtype).max
    return (np.clip(large / 1.3, 0, 1) * most).round().astype(dtype)


@pytest.fixture
def cykooz():
    pytest.importorskip("cykooz_resizer")


@pytest.fixture
def without_cykooz(monkeypatch):
    resampling._cykooz.cache_clear()
    monkeypatch.setitem(sys.modules, "cykooz_resizer", None)  # then importing it fails
    yield
    resampling._cykooz.cache_clear()


@given(pictures_and_windows(), sizes, filters)
@settings(max_examples=300)
def test_by_pillow_it_is_pillows_resize_of_the_slice_bit_by_bit(one, size, resample):
    picture, window = one
    made = resized(picture, window, size, resample, resampler="pillow")
    assert made.dtype == picture.dtype
    assert np.array_equal(made, by_pillow(picture, window, size, resample))


@given(pictures_and_windows(), sizes, filters)
@settings(max_examples=300)
@example((np.full((1, 1, 3), 7, np.uint8), (0, 0, 1, 1)), (1, 40), "lanczos")
@example((np.full((1, 40, 1), 7, np.uint16), (0, 0, 1, 40)), (40, 1), "bicubic")
def test_of_one_colour_comes_that_colour_whoever_resamples(one, size, resample):
    picture, window = np.full_like(one[0], 200), one[1]
    for resampler in RESAMPLERS:
        if resampler == "cykooz" and (resample not in FAST or resampling._cykooz() is None):
            continue
        made = resized(picture, window, size, resample, resampler=resampler)
        assert made.shape == (*size, picture.shape[2])
        # Colours are multiplied by alpha, divided again, and rounded both times.
        assert np.all(np.abs(made.astype(int) - 200) <= (picture.shape[2] == 4))


@given(pictures_and_windows(), sizes)
@settings(max_examples=300)
def test_bilinear_by_cykooz_differs_from_floats_by_rounding_only(one, size):
    pytest.importorskip("cykooz_resizer")
    picture, window = one
    taken = cut(picture, window)
    if picture.shape[2] == 4:
        picture = picture.copy()
        picture[..., 3] = 255
        taken = cut(picture, window)
    made = resized(picture, window, size, "bilinear", resampler="cykooz")
    assert np.abs(made - in_floats(taken, size, "bilinear").astype(np.float64)).max() < 1.6


@pytest.mark.usefixtures("cykooz")
@pytest.mark.parametrize("resample", FAST)
@pytest.mark.parametrize(("dtype", "channels"), KINDS)
@pytest.mark.parametrize("size", [(224, 224), (31, 47), (60, 200)])
def test_cykooz_is_near_pillow(dtype, channels, size, resample):
    picture = a_photo(dtype, channels)
    window = 10, 20, 75, 91
    fast = resized(picture, window, size, resample, resampler="cykooz")
    pillow = resized(picture, window, size, resample, resampler="pillow")
    most = np.iinfo(dtype).max
    assert fast.dtype == picture.dtype
    assert decibels(seen(fast), seen(pillow), most) > NEAREST_DB[resample]


@pytest.mark.parametrize("resampler", ["pillow", "cykooz"])
@pytest.mark.parametrize("resample", FAST)
def test_sixteen_bits_keep_sixteen_bits(resampler, resample):
    if resampler == "cykooz":
        pytest.importorskip("cykooz_resizer")
    rng = np.random.default_rng(0)
    # Far enough from black and white that no filter is clipped.
    picture = rng.integers(25_000, 40_000, (60, 70, 1), np.uint16)
    for size in ((224, 224), (20, 30)):
        made = resized(picture, (3, 4, 50, 60), size, resample, resampler=resampler)
        exact = in_floats(picture[3:53, 4:64], size, resample)
        assert np.abs(made.astype(np.float64) - exact).max() < 1.6


@pytest.mark.parametrize("resampler", ["pillow", "cykooz"])
def test_colours_that_are_not_seen_do_not_shine_through(resampler):
    if resampler == "cykooz":
        pytest.importorskip("cykooz_resizer")
    picture = np.zeros((32, 32, 4), np.uint8)
    picture[:, :16] = 255, 0, 0, 0  # red, and clear
    picture[:, 16:] = 0, 0, 255, 255
    made = resized(picture, (0, 0, 32, 32), (100, 100), resampler=resampler)
    assert not made[made[..., 3] > 0][:, 0].any()


def test_shrinking_is_antialiased():
    # Stripes of one pixel become grey, where interpolation alone would take some of them.
    stripes = np.zeros((64, 64, 3), np.uint8)
    stripes[:, ::2] = 255
    for resampler in RESAMPLERS:
        if resampler == "cykooz" and resampling._cykooz() is None:
            continue
        made = resized(stripes, (0, 0, 64, 64), (20, 20), resampler=resampler)
        assert np.abs(made[:, 2:-2].astype(int) - 128).max() < 25


@given(pictures_and_windows(), filters)
def test_a_window_of_the_wanted_size_is_copied_as_it_is(one, resample):
    picture, window = one
    made = resized(picture, window, window[2:], resample)
    assert np.array_equal(made, cut(picture, window))
    assert not np.shares_memory(made, picture)


@given(pictures_and_windows(), sizes, filters)
def test_a_mirrored_window_is_the_window_of_a_mirrored_picture(one, size, resample):
    picture, (top, left, height, width) = one
    turned = np.ascontiguousarray(picture[:, ::-1])
    right = picture.shape[1] - left - width
    made = resized(picture, (top, left, height, width), size, resample, mirror=True)
    assert np.array_equal(made, resized(turned, (top, right, height, width), size, resample))


@pytest.mark.parametrize("resample", ["bilinear", "hamming", "bicubic", "lanczos"])
def test_it_makes_no_difference_whether_mirroring_comes_first_or_last(resample):
    picture = a_photo()
    for window in ((0, 0, 90, 120), (3, 5, 61, 77), (10, 10, 33, 98)):
        made = resized(picture, window, (64, 80), resample)
        mirrored = resized(picture, window, (64, 80), resample, mirror=True)
        assert np.abs(mirrored[:, ::-1].astype(int) - made).max() <= 1


@given(pictures_and_windows(), sizes)
def test_out_may_be_any_view(one, size):
    picture, window = one
    plain = resized(picture, window, size, resampler="pillow")
    turned = np.empty((*size, picture.shape[2]), picture.dtype)
    resized(picture, window, size, out=turned[::-1, ::-1], resampler="pillow")
    assert np.array_equal(turned, plain[::-1, ::-1])


@pytest.mark.parametrize("resampler", ["auto", "pillow"])
@pytest.mark.parametrize(("dtype", "channels"), KINDS)
def test_out_may_be_part_of_a_larger_array_and_nothing_else_is_written(resampler, dtype, channels):
    picture = a_photo(dtype, channels)
    whole = np.full((3, 40, 50, channels), 99, dtype)
    place = whole[1, 4:-4, 5:-5]
    made = resized(picture, (5, 6, 70, 80), (32, 40), out=place, resampler=resampler)
    assert made is place
    assert np.array_equal(place, resized(picture, (5, 6, 70, 80), (32, 40), resampler=resampler))
    place[...] = 99
    assert np.all(whole == 99)


def test_a_record_of_a_mapped_file_is_read_as_it_is(ragged):
    record = ragged[3]
    height, width, _ = record.shape
    window = np.array([1, 2, height - 3, width - 2])
    made = resized(record, window, mmcache.Size(50, 60), resampler="pillow")
    assert made.flags.writeable
    assert np.array_equal(made, by_pillow(record, window, (50, 60), "bilinear"))


@pytest.mark.parametrize("resampler", ["auto", "pillow"])
def test_threads_that_resample_at_once_get_what_one_alone_gets(resampler):
    rng = np.random.default_rng(0)
    pictures = [a_photo(seed=seed, height=60 + seed, width=100 - seed) for seed in range(24)]
    windows = [(seed % 5, seed % 7, 40 + seed // 2, 50 + seed // 3) for seed in range(24)]
    alone = [
        resized(picture, window, (64, 64), resampler=resampler)
        for picture, window in zip(pictures, windows, strict=True)
    ]
    out = np.zeros((200, 64, 64, 3), np.uint8)
    which = rng.integers(0, 24, 200)
    together = threading.Barrier(8)

    def do(worker):
        together.wait()
        for place in range(worker, 200, 8):
            picture, window = pictures[which[place]], windows[which[place]]
            resized(picture, window, (64, 64), out=out[place], resampler=resampler)

    with ThreadPoolExecutor(8) as executor:
        list(executor.map(do, range(8)))
    assert np.array_equal(out, np.stack([alone[one] for one in which]))


# Who resamples -----------------------------------------------------------------------------------


@pytest.mark.usefixtures("cykooz")
def test_auto_is_the_fast_one_where_it_is_installed_and_has_the_filter():
    for resample in RESAMPLES:
        assert resampler_for("auto", resample) == ("cykooz" if resample in FAST else "pillow")
        assert resampler_for("pillow", resample) == "pillow"


@pytest.mark.usefixtures("without_cykooz")
def test_without_the_fast_one_pillow_does_it():
    picture = a_photo()
    made = resized(picture, (5, 5, 60, 70), (99, 98))
    assert np.array_equal(made, by_pillow(picture, (5, 5, 60, 70), (99, 98), "bilinear"))
    with pytest.raises(SettingError, match=r'pip install "mmcache\[fast\]"'):
        resized(picture, (5, 5, 60, 70), (99, 98), resampler="cykooz")


def test_a_filter_that_the_fast_one_has_not_is_said():
    with pytest.raises(SettingError, match="bilinear, bicubic, lanczos, and not hamming"):
        resampler_for("cykooz", "hamming")


def test_a_resampler_that_nobody_knows_is_said():
    with pytest.raises(SettingError, match="'opencv' is not one of auto, pillow, cykooz"):
        resampler_for("opencv", "bilinear")


def test_nothing_is_imported_before_it_is_used():
    code = (
        "import sys, mmcache.resampling\n"
        "assert not {'PIL', 'cykooz_resizer'} & set(sys.modules), sorted(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


# What is refused ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "window",
    [
        (0, 0, 5, 4),
        (0, 0, 4, 7),
        (-3, 0, 2, 2),
        (0, -2, 1, 1),
        (0, -3, 2, 2),
        (4, 0, 1, 1),
        (0, 0, 0, 2),
    ],
)
def test_a_window_that_is_not_inside_is_an_error(window):
    picture = np.zeros((4, 6, 3), np.uint8)
    with pytest.raises(SettingError, match="is not inside of a picture of 4 x 6"):
        resized(picture, window, (2, 2))


@pytest.mark.parametrize(
    "out",
    [np.zeros((2, 2, 1), np.uint8), np.zeros((3, 2, 3), np.uint8), np.zeros((2, 2, 3), np.float32)],
)
def test_an_out_of_another_shape_or_dtype_is_an_error_and_is_not_written(out):
    picture = np.ones((4, 6, 3), np.uint8)
    with pytest.raises(SettingError, match="what is written there is uint8"):
        resized(picture, (0, 0, 4, 4), (2, 2), out=out)
    assert not out.any()


@pytest.mark.parametrize(
    "picture", [np.zeros((4, 4, 2), np.uint8), np.zeros((4, 4, 3), np.uint16), np.zeros((4, 4, 1))]
)
def test_what_no_recipe_makes_is_refused(picture):
    with pytest.raises(SettingError, match="none that a recipe makes"):
        resized(picture, (0, 0, 4, 4), (2, 2))
