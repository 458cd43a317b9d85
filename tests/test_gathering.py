"""Batches padded, cut, mirrored, resampled, into buffers: a naive loop is the rule."""

import os
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

import mmcache
from mmcache import SettingError, ShapesDifferError, layout
from mmcache.stores import zarr as zarr_store
from mmcache.testing import paint_folder

KINDS = {
    "ragged": {"size": 64},
    "uniform": {"size": 48, "resize": "crop"},
    "grey": {"size": 40, "mode": "L"},
    "alpha": {"size": (30, 50), "resize": "pad", "mode": "RGBA", "background": (1, 2, 3, 4)},
    "sixteen": {"size": 40, "mode": "I;16", "background": 513},
    "multiples": {"size": 60, "multiple_of": 16, "background": 9},
}
SEVERAL = {"several": {"size": 64}, "several uniform": {"size": 48, "resize": "crop"}}
"""Zarr caches whose pixels lie in several shards, that is, files."""


@pytest.fixture(scope="module")
def caches(tmp_path_factory):
    """A cache of each kind; one row of each has become a hole."""
    where = tmp_path_factory.mktemp("kinds")
    photos = paint_folder(where / "photos", 24, longest=90)
    made = {
        kind: mmcache.build(photos, where / f"{kind}.mmc", progress=False, **recipe)
        for kind, recipe in KINDS.items()
    }
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(layout, "SLAB", 40 << 10)
        patch.setattr(layout, "CHUNK", 1 << 10)
        patch.setattr(zarr_store, "CHUNK", 1 << 10)
        patch.setattr(zarr_store, "MOST_SHARDS", 4)
        patch.setattr(zarr_store, "SHARD", 1)
        for kind, recipe in SEVERAL.items():
            made[kind] = mmcache.build(photos, where / f"{kind}.zarr", progress=False, **recipe)
            assert len(made[kind].files.segments("pixels")) > 1
    return made


kinds = st.sampled_from([*KINDS, *SEVERAL])
many_rows = st.lists(st.integers(-24, 23), max_size=9)


def taken(cache, batch, number):
    """Return picture *number* of a batch as its windows and flips say it should be."""
    picture = cache[int(batch.rows[number])]
    if batch.windows is not None:
        top, left, height, width = batch.windows[number].tolist()
        picture = picture[top : top + height, left : left + width]
    if batch.flipped is not None and batch.flipped[number]:
        picture = picture[:, ::-1]
    return picture


def padded(picture, height, width, centering, colour):
    """Return a picture in its padding, made pixel by pixel of two loops."""
    whole = np.empty((height, width, picture.shape[2]), picture.dtype)
    whole[:] = colour
    top = int((height - picture.shape[0]) * centering[0])
    left = int((width - picture.shape[1]) * centering[1])
    whole[top : top + picture.shape[0], left : left + picture.shape[1]] = picture
    return whole


centres = st.sampled_from([(0.5, 0.5), (0, 0), (1, 1), (0.25, 1.0)])


@given(kinds, many_rows, centres, st.sampled_from([None, 0, 200]), st.booleans(), st.integers(1, 3))
@settings(max_examples=150)
def test_a_padded_batch_equals_a_naive_loop(caches, kind, rows, centering, colour, flip, threads):  # noqa: PLR0917  # each is varied
    cache = caches[kind]
    batch = cache.batch(
        rows, pad="batch", centering=centering, background=colour, flip=flip, threads=threads
    )
    fill = cache.recipe.background if colour is None else colour
    pictures = [taken(cache, batch, number) for number in range(len(rows))]
    assert batch.images.dtype == cache.recipe.dtype
    if not rows:
        assert len(batch.images) == 0
        return
    height, width = np.max([picture.shape[:2] for picture in pictures], axis=0)
    expected = [padded(picture, height, width, centering, fill) for picture in pictures]
    assert np.array_equal(batch.images, expected)
    assert batch.rows.tolist() == [row % 24 for row in rows]


@given(kinds, many_rows, st.integers(1, 70), st.integers(1, 70), st.data())
@settings(max_examples=150)
def test_a_cropped_batch_equals_slices(caches, kind, rows, height, width, data):  # noqa: PLR0917  # each is varied
    cache = caches[kind]
    position = data.draw(st.sampled_from(["center", "random"]))
    batch = cache.batch(
        rows, crop=(height, width), pad=(height, width), position=position, flip=0.5, mask=True
    )
    assert batch.images.shape == (len(rows), height, width, cache.recipe.channels)
    for number, image in enumerate(batch.images):
        expected = padded(
            taken(cache, batch, number), height, width, (0.5, 0.5), cache.recipe.background
        )
        assert np.array_equal(image, expected)
        whole = cache[int(batch.rows[number])].shape[:2]
        top, left, cut_height, cut_width = batch.windows[number].tolist()
        assert (cut_height, cut_width) == (min(height, whole[0]), min(width, whole[1]))
        assert 0 <= top <= whole[0] - cut_height
        assert 0 <= left <= whole[1] - cut_width
        if position == "center":
            assert (top, left) == ((whole[0] - cut_height) // 2, (whole[1] - cut_width) // 2)


@given(kinds, many_rows, st.booleans(), st.integers(1, 3))
def test_rows_of_any_kind_equal_the_pictures_one_by_one(caches, kind, rows, into, threads):
    cache = caches[kind]
    out = np.zeros(10 * 64 * 64 * 4, cache.recipe.dtype) if into else None
    batch = cache.batch(rows, out=out, threads=threads)
    assert len(batch.images) == len(rows)
    for image, row in zip(batch.images, rows, strict=True):
        assert np.array_equal(image, cache[row])
        if into:
            assert np.shares_memory(image, out)
            assert image.flags.writeable


@given(kinds, many_rows, st.lists(st.integers(0, 23), min_size=1, max_size=30))
def test_a_batch_of_a_narrower_cache_is_of_its_rows(caches, kind, rows, narrower):
    cache = caches[kind]
    part = cache[narrower]
    rows = [row % len(narrower) for row in rows]
    batch = part.batch(rows, pad=(64, 64))
    direct = cache.batch([narrower[row] for row in rows], pad=(64, 64))
    assert np.array_equal(batch.images, direct.images)
    assert np.array_equal(batch.sizes, direct.sizes)
    assert batch.keys == direct.keys
    assert batch.rows.tolist() == rows


# What of it is picture ------------------------------------------------------------------------


@given(kinds, many_rows, st.booleans(), st.sampled_from([None, (20, 33)]), st.integers(0, 9))
@settings(max_examples=100)
def test_mask_sizes_and_origins_tell_pictures_from_padding(caches, kind, rows, flip, crop, seed):  # noqa: PLR0917  # each is varied
    cache = caches[kind]
    given_settings = {"crop": crop, "pad": (70, 80), "position": "random" if crop else "center"}
    batch = cache.batch(rows, flip=flip, seed=seed, mask=True, **given_settings)
    assert batch.mask.shape == (len(rows), 70, 80)
    for number in range(len(rows)):
        # The naive way: a mask of the record goes through the same steps as its pixels.
        row = int(batch.rows[number])
        placement = cache.placement(row)
        valid = np.zeros((*cache[row].shape[:2], 1), bool)
        top, left = placement.padding
        height, width = placement.valid
        valid[top : top + height, left : left + width] = True
        if batch.windows is not None:
            top, left, height, width = batch.windows[number].tolist()
            valid = valid[top : top + height, left : left + width]
        if batch.flipped is not None and batch.flipped[number]:
            valid = valid[:, ::-1]
        expected = padded(valid, 70, 80, (0.5, 0.5), colour=False)[:, :, 0]
        assert np.array_equal(batch.mask[number], expected)
        (top, left), (height, width) = batch.origins[number], batch.sizes[number]
        expected[top : top + height, left : left + width] = False
        assert not expected.any()


def test_a_mask_of_pictures_that_differ_in_shape_is_refused(caches):
    with pytest.raises(SettingError, match='pass pad="batch"'):
        caches["ragged"].batch([0, 1, 2, 3, 4, 5], mask=True)


# Chance ----------------------------------------------------------------------------------------


RANDOM = {
    "crop": {"crop": (20, 20), "pad": (20, 20), "position": "random", "flip": True},
    "flip": {"pad": (64, 64), "flip": 0.3},
    "resized": {"crop": "random_resized", "size": (17, 23), "flip": True},
}


@pytest.mark.parametrize("name", RANDOM)
def test_a_seed_makes_the_same_crops_and_flips_and_another_seed_others(caches, name):
    cache = caches["ragged"]
    rows = list(range(24))
    first, again, other = (cache.batch(rows, seed=s, **RANDOM[name]) for s in (5, 5, 6))
    assert np.array_equal(first.images, again.images)
    assert not np.array_equal(first.images, other.images)
    assert not np.array_equal(
        cache.batch(rows, **RANDOM[name]).images, cache.batch(rows, **RANDOM[name]).images
    )


def test_flips_come_as_often_as_asked(caches):
    rows = np.arange(4000) % 24
    for probability in (0.0, 0.25, True, 1.0):
        flipped = caches["uniform"].batch(rows, flip=probability, seed=1, out=None).flipped
        share = 0.0 if flipped is None else flipped.mean()
        assert share == pytest.approx(0.5 if probability is True else probability, abs=0.03)


def test_a_random_crop_lies_anywhere(caches):
    cache = caches["uniform"]
    batch = cache.batch(np.zeros(3000, int), crop=(45, 46), position="random", seed=2)
    places, counts = np.unique(batch.windows[:, :2], axis=0, return_counts=True)
    assert len(places) == 4 * 3
    assert counts.min() > 3000 / 12 * 0.75


# Random resized crops -------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["ragged", "uniform", "grey", "several"])
@pytest.mark.parametrize("resample", ["bilinear", "bicubic", "nearest"])
def test_a_random_resized_crop_is_a_slice_resized_once_by_pillow(caches, kind, resample):
    cache = caches[kind]
    rows = [3, 7, 7, 20]
    shape = {"size": (19, 27), "resample": resample, "flip": True}
    batch = cache.batch(rows, crop="random_resized", seed=4, **shape)
    assert batch.images.shape == (4, 19, 27, cache.recipe.channels)
    for number, image in enumerate(batch.images):
        top, left, height, width = batch.windows[number].tolist()
        part = cache[rows[number]][top : top + height, left : left + width]
        if batch.flipped[number]:
            part = part[:, ::-1]
        plain = part[:, :, 0] if part.shape[2] == 1 else part
        made = Image.fromarray(np.ascontiguousarray(plain)).resize(
            (27, 19), Image.Resampling[resample.upper()]
        )
        expected = np.asarray(made).reshape(19, 27, -1)
        assert np.abs(image.astype(int) - expected).max() <= 4  # another resampler may be installed


def test_who_resamples_can_be_said_by_name(caches):
    shape = {"crop": "random_resized", "size": (19, 27), "seed": 4}
    batch = caches["ragged"].batch([3, 7], resampler="pillow", **shape)
    for number, row in enumerate((3, 7)):
        top, left, height, width = batch.windows[number].tolist()
        part = np.ascontiguousarray(caches["ragged"][row][top : top + height, left : left + width])
        made = Image.fromarray(part).resize((27, 19), Image.Resampling.BILINEAR)
        assert np.array_equal(batch.images[number], np.asarray(made))
    with pytest.raises(SettingError, match="resampler='opencv' is not one of auto, pillow, cykooz"):
        caches["ragged"].batch([3, 7], resampler="opencv", **shape)


def test_the_numbers_of_masks_are_not_mixed(tmp_path):
    folder = tmp_path / "masks"
    folder.mkdir()
    numbers = np.random.default_rng(1).choice([0, 7, 200], (6, 40, 50)).astype(np.uint8)
    for number, pixels in enumerate(numbers):
        Image.fromarray(pixels).save(folder / f"{number}.png")
    masks = mmcache.build(
        folder, tmp_path / "masks.mmc", size=32, mode="P", resample="nearest", progress=False
    )
    shape = {"crop": "random_resized", "size": 16}
    with pytest.raises(SettingError, match='pass resample="nearest"'):
        masks.batch([0, 1], **shape)
    with pytest.raises(SettingError, match='pass resample="nearest"'):
        mmcache.Loader(masks, 2, **shape)
    batch = masks.batch(range(6), resample="nearest", **shape)
    assert set(np.unique(batch.images)) == {0, 7, 200}


def test_threads_make_the_same_random_resized_crops(caches):
    shape = {"crop": "random_resized", "size": 31, "seed": 8, "flip": True}
    one, four = (caches["ragged"].batch(range(24), threads=n, **shape) for n in (1, 4))
    assert np.array_equal(one.images, four.images)


# Into a buffer --------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["uniform", "ragged", "several uniform"])
@pytest.mark.parametrize("shape", [{}, {"pad": (64, 64)}, {"crop": (8, 8), "pad": (8, 8)}])
def test_a_buffer_is_written_to_and_what_lies_behind_is_left_alone(caches, kind, shape):
    cache = caches[kind]
    rows = [4, 2, 9]
    without = cache.batch(rows, **shape)
    out = np.full(3 * 64 * 64 * 3 + 100, 91, np.uint8)
    batch = cache.batch(rows, out=out, **shape)
    used = sum(image.size for image in batch.images)
    for image, expected in zip(batch.images, without.images, strict=True):
        assert np.array_equal(image, expected)
    assert np.array_equal(out[:used], np.concatenate([image.ravel() for image in without.images]))
    assert (out[used:] == 91).all()


def test_a_buffer_of_the_shape_of_the_batch_becomes_the_batch(caches):
    out = np.empty((5, 48, 48, 3), np.uint8)
    batch = caches["uniform"].batch([1, 2, 3], out=out)
    assert np.array_equal(batch.images, out[:3])
    assert np.shares_memory(batch.images, out)


@pytest.mark.parametrize(
    ("out", "says"),
    [
        (np.empty(10, np.uint8), r"out has 10 elements, and these 13,824 need more"),
        (np.empty(100_000, np.int8), "out is int8, and these pictures need a numpy array of uint8"),
        (bytearray(100_000), "out is bytearray"),
        (np.empty((2, 100_000), np.uint8)[:, ::2], "not contiguous"),
        (np.frombuffer(bytes(100_000), np.uint8), "not writable"),
    ],
)
def test_a_buffer_that_does_not_fit_is_refused_with_a_sentence(caches, out, says):
    with pytest.raises(SettingError, match=says):
        caches["uniform"].batch([0, 1], out=out)


def test_many_threads_gather_from_one_cache_at_once(caches):
    cache = caches["ragged"]
    rows = np.random.default_rng(3).integers(0, 24, (40, 16))
    expected = [cache.batch(some, pad=(64, 64)).images for some in rows]
    with ThreadPoolExecutor(4) as pool:
        made = pool.map(lambda some: cache.batch(some, pad=(64, 64), threads=2).images, rows)
        assert all(np.array_equal(a, b) for a, b in zip(made, expected, strict=True))


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system cannot fork")
def test_a_process_that_was_forked_gathers_with_threads_of_its_own(caches):
    script = """
    import os, sys, warnings
    import mmcache
    warnings.simplefilter("ignore")
    cache = mmcache.open(sys.argv[1])
    ask = {"crop": "random_resized", "size": 16, "threads": 2, "seed": 1}
    before = cache.batch(range(24), **ask).images
    child = os.fork()
    if not child:
        os._exit(0 if (cache.batch(range(24), **ask).images == before).all() else 1)
    print(os.waitpid(child, 0)[1])
    """
    script = "\n".join(line[4:] for line in script.splitlines())
    command = [sys.executable, "-c", script, str(caches["ragged"].path)]
    told = subprocess.run(command, capture_output=True, text=True, timeout=60, check=True)
    assert told.stdout.split() == ["0"]


# Settings --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("shape", "says"),
    [
        ({"pad": "row"}, 'neither an edge nor a .height, width. pair or "batch"'),
        ({"pad": (0, 4)}, "neither an edge"),
        ({"pad": True}, "neither an edge"),
        ({"crop": (3, 4, 5)}, 'pair or "random_resized"'),
        ({"crop": 2.5}, "neither an edge"),
        ({"crop": "random_resized"}, "needs the size of what comes out"),
        ({"crop": "random_resized", "size": 8, "pad": 9}, "leaves nothing to pad"),
        ({"size": 8}, 'size goes with crop="random_resized"'),
        ({"position": "random"}, 'position="random" goes with crop'),
        ({"position": "left"}, "neither center nor random"),
        ({"flip": 2}, "nor a probability from 0 to 1"),
        ({"flip": "yes"}, "nor a probability"),
        ({"crop": "random_resized", "size": 8, "scale": (0.5, 0.1)}, "no pair .low, high."),
        ({"crop": "random_resized", "size": 8, "scale": (0.5, 1.5)}, "at most 1"),
        ({"crop": "random_resized", "size": 8, "ratio": (0, 1)}, "above 0"),
        ({"crop": "random_resized", "size": 8, "resample": "cubic"}, "is not one of nearest"),
        ({"pad": 64, "centering": (0.5, 1.2)}, "numbers from 0 to 1"),
        ({"pad": 64, "centering": 0.5}, "no pair .vertical, horizontal."),
        ({"pad": 64, "background": 256}, "neither a number from 0 to 255 nor 3 of them"),
        ({"pad": 64, "background": (1, 2)}, "nor 3 of them"),
        ({"seed": -1}, "no whole number from 0 up"),
        ({"seed": 1.5}, "no whole number"),
    ],
    ids=repr,
)
def test_a_setting_that_makes_no_sense_is_refused_with_a_sentence(caches, shape, says):
    with pytest.raises(SettingError, match=says) as caught:
        caches["ragged"].batch([0, 1], **shape)
    assert isinstance(caught.value, ValueError)


def test_pictures_too_large_to_pad_or_too_small_to_crop_name_the_way_out(caches):
    ragged = caches["ragged"]
    with pytest.raises(ShapesDifferError, match=r"pass crop=\(10, 10\) too"):
        ragged.batch([0, 1], pad=10)
    with pytest.raises(ShapesDifferError, match=r"pass pad=\(64, 64\) too"):
        ragged.batch(range(24), crop=64)


def test_a_file_that_was_cut_is_an_error_and_no_crash(painted, tmp_path):
    cache = mmcache.build(painted, tmp_path / "cut.mmc", size=64, progress=False)
    assert len(cache.batch(range(24), pad=64)) == 24
    os.truncate(tmp_path / "cut.mmc" / "pixels.npy", 5000)
    with pytest.raises(mmcache.DamagedCacheError, match="was cut while it was open"):
        cache.batch(range(24), pad=64)


@pytest.mark.parametrize("column", [0, 1, 2, 3])
@pytest.mark.parametrize("value", [-1, 0, 2**40, 2**62, -(2**63)])
def test_a_damaged_row_is_the_same_error_as_for_a_picture(painted, tmp_path, column, value):
    path = tmp_path / "damaged.mmc"
    mmcache.build(painted, path, size=64, progress=False)
    records = np.load(path / "records.npy", mmap_mode="r+")
    if column == 0 and value == 0:
        pytest.skip("where the first record lies is no nonsense")
    records[5, column] = value
    records.flush()
    cache = mmcache.open(path)
    with pytest.raises(mmcache.DamagedCacheError, match="damaged at row 5"):
        cache.batch([1, 5, 2])
    assert len(cache.batch([1, 2])) == 2
