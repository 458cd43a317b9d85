"""What simplejpeg and cykooz-resizer make in Pillow's place, against Pillow; and who is chosen."""

import dataclasses
import io
import subprocess
import sys

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from stopping import stopped
from test_images import psnr

import mmcache
from mmcache import DifferentCacheError, Recipe, SettingError, ingest, resampling
from mmcache.geometry import RESIZES, Size
from mmcache.images import decode, decode_bytes, read_header, resizing, turbo
from mmcache.images.opening import load, open_image
from mmcache.images.resizing import Part, is_fast
from mmcache.images.turbo import MOST, decoded_packed
from mmcache.libraries import libraries
from mmcache.recipe import RESAMPLERS
from mmcache.testing import paint, paint_folder

pytest.importorskip("cykooz_resizer", reason='no cykooz-resizer: pip install "mmcache[fast]"')
simplejpeg = pytest.importorskip("simplejpeg", reason='no simplejpeg: pip install "mmcache[fast]"')

NEAREST_DB = 40  # of edges that were painted sharply; photos come nearer
PLACED = [one for one in RESIZES if one != "bucket"]  # which is a crop to a shape of several
SUBSAMPLINGS = ("4:4:4", "4:2:2", "4:2:0")


def encoded(image, **settings):
    file = io.BytesIO()
    image.save(file, "JPEG", **settings)
    return file.getvalue()


def noisy(height, width, mode, seed):
    rng = np.random.default_rng(seed)
    coarse = rng.integers(0, 256, (2, 3, 3), dtype=np.uint8)
    smooth = np.asarray(Image.fromarray(coarse).resize((width, height), Image.Resampling.BICUBIC))
    grain = rng.integers(-20, 21, smooth.shape)
    return Image.fromarray(np.clip(smooth + grain, 0, 255).astype(np.uint8)).convert(mode)


def without(monkeypatch, name):
    """Let a library be missing, however it was found before."""
    monkeypatch.setitem(sys.modules, name, None)
    room = {"cykooz_resizer": resampling._cykooz, "simplejpeg": turbo._simplejpeg}[name]
    room.cache_clear()
    return room


@pytest.fixture
def no_cykooz(monkeypatch):
    room = without(monkeypatch, "cykooz_resizer")
    yield
    room.cache_clear()


@pytest.fixture
def no_simplejpeg(monkeypatch):
    room = without(monkeypatch, "simplejpeg")
    yield
    room.cache_clear()


# Decoding ----------------------------------------------------------------------------------------


@given(
    st.integers(1, 90), st.integers(1, 90), st.sampled_from(("RGB", "L")),
    st.sampled_from(SUBSAMPLINGS), st.integers(10, 100), st.booleans(), st.integers(0, 3),
)  # fmt: skip
def test_a_plain_jpeg_is_decoded_to_the_pixels_that_pillow_makes(  # noqa: PLR0917
    height, width, mode, subsampling, quality, progressive, restart
):
    jpeg = encoded(
        noisy(height, width, mode, height * width), quality=quality, progressive=progressive,
        restart_marker_rows=restart, **({"subsampling": subsampling} if mode == "RGB" else {}),
    )  # fmt: skip
    packed = decoded_packed(open_image(io.BytesIO(jpeg)))
    assert np.array_equal(
        np.squeeze(packed, -1) if mode == "L" else packed, np.asarray(Image.open(io.BytesIO(jpeg)))
    )


@given(st.integers(0, 1 << 30), st.integers(1, 12), st.booleans())
@settings(max_examples=300)
def test_a_damaged_jpeg_is_pillows_or_has_the_pixels_that_pillow_makes(seed, count, progressive):
    rng = np.random.default_rng(seed)
    jpeg = bytearray(encoded(noisy(40, 56, "RGB", seed), progressive=progressive))
    for place in rng.integers(2, len(jpeg), count):
        jpeg[place] = rng.integers(256)
    if seed % 4 == 0:
        del jpeg[len(jpeg) * 3 // 4 :]
    try:
        image = open_image(io.BytesIO(jpeg))
        packed = decoded_packed(image)
    except Exception:  # noqa: BLE001  # a header that nobody can read
        return
    if packed is not None:
        load(image)
        assert np.array_equal(np.squeeze(packed), np.squeeze(np.asarray(image)))


def test_what_is_no_plain_jpeg_is_left_to_pillow():
    picture = paint(Size(30, 40), 1)
    for file, why in (
        (encoded(picture.convert("CMYK")), "ink"),
        (encoded(picture)[:-300], "cut"),
        (encoded(noisy(MOST // 1000 + 1, 1000, "L", 0), quality=10), "large"),
    ):
        assert decoded_packed(open_image(io.BytesIO(file))) is None, why
    other = io.BytesIO()
    picture.save(other, "PNG")
    assert decoded_packed(open_image(other)) is None
    loaded = Image.open(io.BytesIO(encoded(picture)))
    loaded.load()
    assert decoded_packed(loaded) is None


@pytest.mark.usefixtures("no_simplejpeg")
def test_the_pixels_are_the_same_where_simplejpeg_is_missing(monkeypatch):
    pictures = [encoded(noisy(61 + 7 * n, 90 - 5 * n, "RGB", n), quality=90) for n in range(6)]
    recipes = [Recipe(size=40, resize=one, resampler="cykooz") for one in PLACED]
    here = [decode(io.BytesIO(one), recipe) for one in pictures for recipe in recipes]
    assert decoded_packed(open_image(io.BytesIO(pictures[0]))) is None
    monkeypatch.setitem(sys.modules, "simplejpeg", simplejpeg)
    turbo._simplejpeg.cache_clear()
    assert decoded_packed(open_image(io.BytesIO(pictures[0]))) is not None
    there = [decode(io.BytesIO(one), recipe) for one in pictures for recipe in recipes]
    assert all(map(np.array_equal, here, there))


# Resampling --------------------------------------------------------------------------------------


@pytest.mark.parametrize("resample", RESAMPLERS["cykooz"])
@pytest.mark.parametrize("resize", RESIZES)
def test_records_are_near_those_of_pillow(tmp_path, resize, resample):
    folder = paint_folder(tmp_path / "photos", 40, longest=300)
    # What is laid in a box of as many pixels and cut: see resizing for what that once did.
    settings = {"size": (88, 104), "resize": resize, "resample": resample, "progress": False}
    fast = mmcache.build(folder, tmp_path / "fast.mmc", resampler="cykooz", **settings)
    slow = mmcache.build(folder, tmp_path / "slow.mmc", resampler="pillow", **settings)
    assert fast.shapes.tolist() == slow.shapes.tolist()
    assert min(map(psnr, fast, slow)) >= NEAREST_DB
    assert any(psnr(one, other) < np.inf for one, other in zip(fast, slow, strict=True))


@given(st.integers(1, 60), st.integers(1, 60), st.integers(1, 60), st.integers(1, 60),
       st.integers(1, 8), st.sampled_from(PLACED))  # fmt: skip
def test_any_size_becomes_any_other_turned_or_not(  # noqa: PLR0917
    height, width, high, wide, orientation, resize
):
    exif = Image.Exif()
    exif[0x0112] = orientation
    jpeg = encoded(noisy(height, width, "RGB", 0), exif=exif, quality=95)
    recipe = Recipe(size=(high, wide), resize=resize, resample="bilinear")
    fast = decode(io.BytesIO(jpeg), dataclasses.replace(recipe, resampler="cykooz"))
    assert np.abs(fast.astype(int) - decode(io.BytesIO(jpeg), recipe)).max() <= 3


def test_only_whole_pictures_are_given_to_it_and_none_of_which_most_is_cut():
    recipe = Recipe(resampler="cykooz")
    square = Size(100, 100)
    assert is_fast(Part(Size(400, 400), 4, square, 0, 0, square), recipe)
    assert not is_fast(Part(Size(400, 401), 4, square, 0, 0, square), recipe)
    assert not is_fast(Part(Size(400, 400), 4, square, 0, 0, square), Recipe())
    assert is_fast(Part(Size(400, 1600), 1, Size(100, 400), 0, 150, square), recipe)
    assert not is_fast(Part(Size(400, 1604), 1, Size(100, 401), 0, 150, square), recipe)


def test_alpha_ink_and_palettes_keep_pillows_pixels_or_come_near(tmp_path):
    (tmp_path / "photos").mkdir()
    picture = paint(Size(150, 200), 3)
    picture.convert("RGBA").save(tmp_path / "photos" / "alpha.png")
    picture.convert("LA").save(tmp_path / "photos" / "grey_alpha.png")
    picture.convert("CMYK").save(tmp_path / "photos" / "ink.jpg")
    picture.convert("P").save(tmp_path / "photos" / "palette.png")
    built = {
        who: mmcache.build(tmp_path / "photos", tmp_path / f"{who}.mmc", size=64, resampler=who)
        for who in ("pillow", "cykooz")
    }
    for key in list(built["pillow"].keys):
        distance = psnr(built["cykooz"][key], built["pillow"][key])
        assert distance == np.inf if "alpha" in key else distance >= NEAREST_DB


def test_a_picture_in_strips_is_pillows(monkeypatch):
    monkeypatch.setattr(resizing, "STRIP", 1000)
    picture = noisy(60, 80, "RGB", 2).quantize(200)
    file = io.BytesIO()
    picture.save(file, "PNG")
    recipes = (Recipe(size=32), Recipe(size=32, resampler="cykooz"))
    assert np.array_equal(*(decode(file, recipe) for recipe in recipes))


def test_the_memory_that_packed_pixels_take_is_counted():
    header = read_header(io.BytesIO(encoded(paint(Size(600, 800), 0))))
    pillow, fast = (
        decode_bytes(header, Recipe(resampler=who), 1000) for who in ("pillow", "cykooz")
    )
    assert fast - pillow >= 6 * 600 * 800


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux tells the most that was taken")
@pytest.mark.parametrize("mode", ["RGB", "L"])
@pytest.mark.parametrize(("height", "width", "size"), [(3000, 4000, 1024), (1300, 1500, 1000)])
def test_the_memory_that_is_told_is_at_least_what_is_taken(tmp_path, mode, height, width, size):
    coarse = noisy(height // 20, width // 20, mode, 1)
    coarse.resize((width, height)).save(tmp_path / "large.jpg", quality=80)
    paint(Size(64, 64), 1).save(tmp_path / "small.jpg")
    program = f"""
import io
from pathlib import Path
from mmcache import Recipe
from mmcache.images import decode, decode_bytes, read_header

def most():
    (line,) = (one for one in open("/proc/self/status") if one.startswith("VmHWM"))
    return int(line.split()[1]) * 1024

recipe = Recipe(size={size}, resampler="cykooz", mode="{mode}")
decode(io.BytesIO(Path("small.jpg").read_bytes()), recipe)
before = most()
large = Path("large.jpg").read_bytes()
told = decode_bytes(read_header(io.BytesIO(large)), recipe, len(large))
decode(io.BytesIO(large), recipe)
assert most() - before <= told, (most() - before, told)
"""
    ran = subprocess.run(
        [sys.executable, "-c", program], cwd=tmp_path, capture_output=True, text=True, check=False
    )
    assert ran.returncode == 0, ran.stderr


# Who is chosen -----------------------------------------------------------------------------------


def test_a_new_cache_takes_the_fastest_that_is_installed(painted, tmp_path):
    cache = mmcache.build(painted, tmp_path / "a.mmc", size=32, progress=False)
    assert cache.recipe.resampler == "cykooz"
    assert cache.recipe == mmcache.plan(painted, size=32, progress=False).recipe
    assert "bicubic by cykooz-resizer" in str(cache.recipe)
    masks = mmcache.build(
        painted, tmp_path / "b.mmc", like=cache, mode="L", resample="nearest", progress=False
    )
    assert masks.recipe.resampler == "pillow"


def test_what_it_lacks_is_pillows_or_refused_if_it_is_asked_for(painted, tmp_path):
    cache = mmcache.build(painted, tmp_path / "a.mmc", size=32, resample="hamming", progress=False)
    assert cache.recipe.resampler == "pillow"
    with pytest.raises(SettingError, match=r"bilinear, bicubic, lanczos, and not hamming"):
        mmcache.build(painted, tmp_path / "b.mmc", resample="hamming", resampler="cykooz")
    with pytest.raises(SettingError, match=r"resampler='opencv' is not one of auto, pillow"):
        mmcache.plan(painted, resampler="opencv")


@pytest.mark.usefixtures("no_cykooz")
def test_without_it_pillow_makes_the_pixels(painted, tmp_path):
    cache = mmcache.build(painted, tmp_path / "a.mmc", size=32, progress=False)
    assert cache.recipe == Recipe(size=32)
    with pytest.raises(SettingError, match=r'not installed here: pip install "mmcache\[fast\]"'):
        mmcache.build(painted, tmp_path / "b.mmc", size=32, resampler="cykooz")
    assert [one.name for one in tmp_path.iterdir()] == ["a.mmc"]


def test_reading_never_needs_it(painted, tmp_path, monkeypatch):
    cache = mmcache.build(painted, tmp_path / "a.mmc", size=32, progress=False)
    room = without(monkeypatch, "cykooz_resizer")
    try:
        again = mmcache.build(painted, tmp_path / "a.mmc", size=32, progress=False)
        assert again.fingerprint == cache.fingerprint
        assert np.array_equal(mmcache.open(tmp_path / "a.mmc")[3], cache[3])
        with pytest.raises(mmcache.MmcacheError, match=r"mmcache\[fast\]"):
            mmcache.apply(painted / again.keys[0], again.recipe)
    finally:
        room.cache_clear()


@pytest.mark.parametrize("who", ["pillow", "cykooz"])
def test_a_cache_keeps_whom_it_was_begun_with(tmp_path, who):
    folder = paint_folder(tmp_path / "photos", 12, longest=100)
    first = mmcache.build(folder, tmp_path / "a.mmc", size=32, resampler=who, progress=False)
    assert mmcache.build(folder, tmp_path / "a.mmc", size=32).recipe == first.recipe
    paint(Size(70, 50), 5).save(folder / "added.png")
    updated = mmcache.build(folder, tmp_path / "a.mmc", size=32, exist="update", progress=False)
    assert updated.recipe.resampler == who
    anew = mmcache.build(folder, tmp_path / "a.mmc", size=32, exist="overwrite", progress=False)
    assert anew.recipe.resampler == "cykooz"


@pytest.mark.usefixtures("noted_at_once")
@pytest.mark.parametrize("who", ["pillow", "cykooz"])
def test_an_unfinished_build_goes_on_with_whom_it_was_begun(tmp_path, who, monkeypatch):
    folder = paint_folder(tmp_path / "photos", 60, longest=100)

    settings = {"size": 64, "executor": "serial"}
    stopped(folder, tmp_path / "a.mmc", 40, resampler=who, **settings)
    other = {"pillow": "cykooz", "cykooz": "pillow"}[who]
    with pytest.raises(DifferentCacheError, match=f"has resampler='{who}', and you asked for"):
        mmcache.build(folder, tmp_path / "a.mmc", resampler=other, **settings)
    told = []
    real = ingest.make_plan
    monkeypatch.setattr(
        ingest, "make_plan", lambda *args, **kw: told.append(real(*args, **kw)) or told[-1]
    )
    cache = mmcache.build(folder, tmp_path / "a.mmc", progress=False, **settings)
    assert cache.recipe.resampler == told[0].recipe.resampler == who
    whole = mmcache.build(folder, tmp_path / "b.mmc", resampler=who, progress=False, **settings)
    assert cache.fingerprint == whole.fingerprint


def test_another_one_than_the_cache_has_is_an_error_that_names_both(painted, tmp_path):
    mmcache.build(painted, tmp_path / "a.mmc", size=32, resampler="pillow", progress=False)
    with pytest.raises(DifferentCacheError, match=r"resampler='pillow', and you asked for resa"):
        mmcache.build(painted, tmp_path / "a.mmc", size=32, resampler="cykooz")


def test_a_worker_that_lacks_it_ends_the_build_and_fails_no_picture(painted, tmp_path, monkeypatch):
    checked = []

    def missing(resampler):
        checked.append(resampler)
        raise SettingError("not installed there")

    monkeypatch.setattr("mmcache.tasks.check_resampler", missing)
    with pytest.raises(SettingError, match="not installed there"):
        mmcache.build(painted, tmp_path / "a.mmc", size=32, executor="serial", progress=False)
    assert checked == ["cykooz"]


def test_libraries_name_what_had_a_hand_in_the_pixels(painted, tmp_path):
    fast = libraries(Recipe(resampler="cykooz"))
    assert {"pillow", "cykooz-resizer", "simplejpeg"} <= set(fast)
    assert set(libraries(Recipe())) == set(fast) - {"cykooz-resizer", "simplejpeg"}
    cache = mmcache.build(painted, tmp_path / "a.mmc", size=32, progress=False)
    assert cache.files.frame.libraries == fast
    assert mmcache.compare(cache, painted).libraries == {}


def test_a_recipe_of_pillow_has_the_json_that_it_always_had():
    assert "resampler" not in Recipe(size=32, resampler="pillow").to_json()
    other = Recipe(size=32, resampler="cykooz")
    assert other.to_json()["resampler"] == "cykooz"
    assert Recipe.from_json(other.to_json()) == other != Recipe(size=32)


def test_apply_takes_the_fastest_where_a_recipe_leaves_it_open(painted, tmp_path):
    cache = mmcache.build(painted, tmp_path / "a.mmc", size=48, progress=False)
    open_one = dataclasses.replace(cache.recipe, resampler="auto")
    assert np.array_equal(mmcache.apply(painted / cache.keys[5], open_one), cache[5])


def test_apply_makes_the_pixels_of_the_cache(painted, tmp_path):
    cache = mmcache.build(painted, tmp_path / "a.mmc", size=48, progress=False)
    for row, key in enumerate(cache.keys):
        assert np.array_equal(mmcache.apply(painted / key, cache.recipe), cache[row])
    with Image.open(painted / cache.keys[0]) as image:
        image.load()
        assert psnr(mmcache.apply(image, cache.recipe), cache[0]) == np.inf
