"""Three formats, one payload: the same pixels, views and errors, and readable without mmcache."""

import json
import shutil
import subprocess
import sys

import h5py
import numpy as np
import pytest
import zarr

import mmcache
from mmcache import layout
from mmcache.stores import zarr as zarr_store
from mmcache.testing import paint_folder

ENDINGS = ("mmc", "h5", "zarr")
BARE = {
    "mmc": lambda path, name: np.load(path / f"{name}.npy"),
    "h5": lambda path, name: h5py.File(path)[name][()],
    "zarr": lambda path, name: zarr.open_group(path, mode="r")[name][...],
}
RECIPES = {
    "ragged": {"size": 64},
    "uniform": {"size": 48, "resize": "crop"},
}


@pytest.fixture(scope="module")
def photos(tmp_path_factory):
    folder = paint_folder(tmp_path_factory.mktemp("source") / "photos", 30, longest=160)
    (folder / "circles" / "broken.jpg").write_bytes(b"\xff\xd8\xff\xe0 no picture")
    return folder


@pytest.fixture(scope="module", params=RECIPES)
def three(request, photos, tmp_path_factory):
    """One cache in each format, of several slabs and shards."""
    where = tmp_path_factory.mktemp(request.param)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(layout, "SLAB", 40 << 10)
        patch.setattr(layout, "CHUNK", 1 << 10)
        patch.setattr(zarr_store, "CHUNK", 1 << 10)
        patch.setattr(zarr_store, "MOST_SHARDS", 4)
        patch.setattr(zarr_store, "SHARD", 1)
        with pytest.warns(mmcache.PicturesSkippedWarning):
            return {
                ending: mmcache.build(
                    photos, where / f"c.{ending}", progress=False, **RECIPES[request.param]
                )
                for ending in ENDINGS
            }


def test_three_formats_hold_the_same_pixels_order_columns_and_failures(three):
    one = three["mmc"]
    for cache in three.values():
        assert cache.fingerprint == one.fingerprint
        assert cache.keys == one.keys
        assert cache.labels.tolist() == one.labels.tolist()
        assert cache.failures == one.failures
        assert len(cache.failures) == 1
        assert np.array_equal(cache.shapes, one.shapes)
        for picture, same in zip(cache, one, strict=True):
            assert np.array_equal(picture, same)


@pytest.mark.parametrize("ending", ENDINGS)
def test_the_library_of_the_format_reads_every_array_alone(three, ending):
    cache = three[ending]
    for name, frame in cache._files.frame.arrays.items():
        bare = BARE[ending](cache.path, name)
        assert bare.shape == frame.shape
        assert bare.dtype.str == frame.dtype
        assert np.array_equal(bare, BARE["mmc"](three["mmc"].path, name)), name
    pixels, records = (BARE[ending](cache.path, name) for name in ("pixels", "records"))
    for row, (offset, *shape) in enumerate(records):
        picture = pixels.reshape(-1)[offset : offset + np.prod(shape)].reshape(shape)
        assert np.array_equal(picture, cache[row])


@pytest.mark.parametrize("ending", ENDINGS)
def test_a_picture_is_a_view_of_the_file_whatever_the_format(three, ending):
    cache = three[ending]
    for row in range(len(cache)):
        picture = cache[row]
        assert not picture.flags.owndata
        assert not picture.flags.writeable
        assert any(np.shares_memory(picture, flat) for flat in cache._flats)
        assert np.shares_memory(picture, cache[[row]][0])


@pytest.mark.parametrize("ending", ENDINGS)
def test_opening_and_slicing_imports_no_library_of_the_format(three, ending):
    asked = (
        "import sys, mmcache; cache = mmcache.open(sys.argv[1]); cache[3], cache[1:5], cache.keys;"
        " print([name for name in ('h5py', 'zarr', 'PIL') if name in sys.modules])"
    )
    ran = subprocess.run(
        [sys.executable, "-c", asked, three[ending].path],
        capture_output=True,
        check=True,
        text=True,
    )
    assert ran.stdout.strip() == "[]"


def test_zarr_lies_in_several_shards_and_a_chunk_is_no_more_than_a_picture_or_so(three):
    cache = three["zarr"]
    assert 1 < len(cache._flats) <= 4
    described = json.loads((cache.path / "pixels" / "zarr.json").read_text())
    (codec,) = described["codecs"]
    chunk = codec["configuration"]["chunk_shape"]
    uniform = len(chunk) == 4
    assert chunk == ([1, 48, 48, 3] if uniform else [1 << 10])


def test_black_pictures_stay_in_zarr(tmp_path):
    from PIL import Image  # noqa: PLC0415

    (tmp_path / "photos").mkdir()
    for name in ("a", "b"):
        Image.new("RGB", (16, 16)).save(tmp_path / "photos" / f"{name}.png")
    cache = mmcache.build(
        tmp_path / "photos", tmp_path / "c.zarr", size=16, resize="crop", progress=False
    )
    assert np.asarray(cache).shape == (2, 16, 16, 3)
    (shard,) = (cache.path / "pixels" / "c").rglob("0/0/0/0")
    assert shard.stat().st_size >= 2 * 16 * 16 * 3
    assert not zarr.open_group(cache.path, mode="r")["pixels"][...].any()


@pytest.mark.parametrize("ending", ENDINGS)
def test_the_same_bytes_come_twice_and_from_any_executor(photos, tmp_path, ending):
    seen = set()
    for number, executor in enumerate(("serial", "threads", "processes", "threads")):
        path = tmp_path / f"{number}.{ending}"
        with pytest.warns(mmcache.PicturesSkippedWarning):
            mmcache.build(photos, path, size=32, executor=executor, workers=2, progress=False)
        files = sorted(path.rglob("*")) if path.is_dir() else [path]
        seen.add(tuple(file.read_bytes() for file in files if file.is_file()))
    assert len(seen) == 1
    assert [one.name for one in tmp_path.iterdir() if one.name.startswith(".")] == []


@pytest.mark.parametrize("ending", ENDINGS)
@pytest.mark.parametrize("change", ["cut", "longer", "missing"])
def test_a_cut_longer_or_missing_file_is_refused(photos, tmp_path, ending, change):
    path = tmp_path / f"c.{ending}"
    with pytest.warns(mmcache.PicturesSkippedWarning):
        mmcache.build(photos, path, size=32, progress=False)
    files = [f for f in path.rglob("*") if f.is_file()] if path.is_dir() else [path]
    for file in files:
        whole = file.read_bytes()
        if change == "missing":
            file.unlink()
        else:
            file.write_bytes(whole[:-1] if change == "cut" else whole + b"\0")
        with pytest.raises((mmcache.DamagedCacheError, mmcache.CacheNotFoundError)):
            mmcache.open(path)
        file.write_bytes(whole)
    assert len(mmcache.open(path)) == 30


@pytest.mark.parametrize("ending", ["h5", "zarr"])
def test_every_changed_byte_round_the_frame_is_refused(photos, tmp_path, ending):
    path = tmp_path / f"c.{ending}"
    with pytest.warns(mmcache.PicturesSkippedWarning):
        mmcache.build(photos, path, size=32, progress=False)
    file = path if ending == "h5" else path / "zarr.json"
    whole = file.read_bytes()
    end = len(whole)
    frame = end - whole.index(b'{\n "format": "mmcache"') if ending == "h5" else end
    places = [*range(80), 4095, *range(end - frame, end, 37), end - 1]
    for place in places:
        changed = bytearray(whole)
        changed[place] ^= 1
        file.write_bytes(changed)
        with pytest.raises(mmcache.DamagedCacheError):
            mmcache.open(path)
    file.write_bytes(whole)
    assert len(mmcache.open(path)) == 30


@pytest.mark.parametrize("ending", ENDINGS)
def test_overwriting_in_place_and_changing_the_format_of_a_path_work(photos, tmp_path, ending):
    path = tmp_path / f"c.{ending}"
    settings = {"progress": False, "exist": "overwrite"}
    with pytest.warns(mmcache.PicturesSkippedWarning):
        first = mmcache.build(photos, path, size=32, progress=False)
    again = mmcache.build(photos, path, size=32, progress=False)
    with pytest.warns(mmcache.PicturesSkippedWarning):
        other = mmcache.build(photos, path, size=16, store="npy", **settings)
    assert again.fingerprint == first.fingerprint
    assert first[0].shape != other[0].shape  # who has the old one open keeps it
    assert path.is_dir()
    assert {one.name for one in tmp_path.iterdir()} == {path.name}


def test_a_file_that_is_no_cache_is_refused_and_never_overwritten(photos, tmp_path):
    path = tmp_path / "c.h5"
    with h5py.File(path, "w") as file:
        file["pixels"] = np.arange(3)
    kept = path.read_bytes()
    with pytest.raises(mmcache.DamagedCacheError, match="does not begin as one"):
        mmcache.open(path)
    with pytest.raises(mmcache.DestinationError, match="is no cache"):
        mmcache.build(photos, path, exist="overwrite", progress=False)
    assert path.read_bytes() == kept


CUT = """
import os, sys, time
import mmcache
cache = mmcache.open(sys.argv[1])
for picture in cache:
    picture.sum()
file = sys.argv[2]
os.truncate(file, 10)
time.sleep(0.01)
seen = 0
for row in range(len(cache)):
    try:
        cache[row].sum()
        seen += 1
    except mmcache.DamagedCacheError as error:
        assert "was cut while it was open" in str(error), error
print(seen, len(cache))
"""


@pytest.mark.parametrize("ending", ENDINGS)
def test_a_file_cut_under_an_open_cache_is_an_error_at_the_pictures_in_it_alone(
    three, tmp_path, ending
):
    whole = three[ending].path
    (shutil.copytree if whole.is_dir() else shutil.copy)(whole, tmp_path / whole.name)
    copy = mmcache.open(tmp_path / whole.name)
    file = copy._files.frame.arrays["pixels"].segments[-1].file
    path = copy.path / file if copy.path.is_dir() else copy.path
    ran = subprocess.run(
        [sys.executable, "-c", CUT, copy.path, path], capture_output=True, text=True, check=False
    )
    assert ran.returncode == 0, ran.stderr  # and never by a signal
    seen, length = map(int, ran.stdout.split())
    assert seen < length
    assert (seen > 0) == (ending == "zarr")
