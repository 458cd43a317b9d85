"""Caches that were written once open for ever, with mmcache and without it."""

import hashlib
import json
import shutil
from itertools import pairwise
from pathlib import Path

import h5py
import numpy as np
import pytest
import zarr

import mmcache

GOLDEN = Path(__file__).parent / "golden"
EXPECTED = json.loads((GOLDEN / "expected.json").read_text(encoding="utf-8"))
CACHES = [GOLDEN / f"{name}.{ending}" for name in EXPECTED for ending in ("mmc", "h5", "zarr")]
MOST_BYTES = 1_200_000
VERSION = b'"version": 1,'


def sha256(picture):
    return hashlib.sha256(picture.tobytes()).hexdigest()


def bare(path):
    """Return a function that reads an array of a cache with the format's own library alone."""
    match path.suffix:
        case ".mmc":
            return lambda name: np.load(path / f"{name}.npy")
        case ".h5":
            return lambda name: h5py.File(path)[name][()]
        case ".zarr":
            return lambda name: zarr.open_group(path, mode="r")[name][...]


@pytest.fixture(params=CACHES, ids=lambda path: path.name)
def golden(request):
    return request.param


@pytest.fixture
def copied(golden, tmp_path):
    """A copy that a test may change."""
    path = tmp_path / golden.name
    return shutil.copytree(golden, path) if golden.is_dir() else shutil.copy(golden, path)


def test_a_golden_cache_opens_and_holds_what_it_held(golden):
    cache = mmcache.open(golden)
    expected = EXPECTED[golden.stem]
    assert list(cache.keys) == expected["keys"]
    assert (None if cache.labels is None else cache.labels.tolist()) == expected["labels"]
    assert list(cache.classes) == expected["classes"]
    assert cache.shapes.tolist() == expected["shapes"]
    assert [sha256(picture) for picture in cache] == expected["sha256"]
    assert [[one.key, one.stage, one.reason] for one in cache.failures] == expected["failures"]
    assert cache.recipe.to_json() == expected["recipe"]
    assert cache.fingerprint == expected["fingerprint"]
    for row, key in enumerate(expected["keys"]):
        assert np.array_equal(cache[key], cache[row])


def test_bare_libraries_read_every_golden_picture_and_its_key(golden):
    expected = EXPECTED[golden.stem]
    read = bare(golden)
    flat, keys, ends = read("pixels").reshape(-1), read("keys"), read("key_offsets")
    found = [
        flat[offset : offset + np.prod(shape)].reshape(shape)
        for offset, *shape in read("records").tolist()
    ]
    assert [sha256(picture) for picture in found] == expected["sha256"]
    assert [list(picture.shape) for picture in found] == expected["shapes"]
    names = [keys[start:end].tobytes() for start, end in pairwise(ends)]
    assert [name.decode() for name in names] == expected["keys"]
    if expected["labels"] is not None:
        assert read("labels").tolist() == expected["labels"]


@pytest.mark.parametrize("ending", ["mmc", "h5", "zarr"])
def test_a_golden_cache_converts_to_every_format(golden, tmp_path, ending):
    converted = mmcache.convert(golden, tmp_path / f"c.{ending}", progress=False)
    expected = EXPECTED[golden.stem]
    assert converted.fingerprint == expected["fingerprint"]
    assert [sha256(picture) for picture in converted] == expected["sha256"]


@pytest.mark.parametrize("version", [b"2", b"0", b"9"])
def test_a_format_version_that_is_not_known_is_refused_with_a_sentence(copied, version):
    frame = {".mmc": copied / "mmcache.json", ".zarr": copied / "zarr.json"}.get(
        copied.suffix, copied
    )
    whole = frame.read_bytes()
    assert whole.count(VERSION) == 1
    frame.write_bytes(whole.replace(VERSION, VERSION.replace(b"1", version)))
    with pytest.raises(
        mmcache.DamagedCacheError, match=f"format version {version.decode()}.*upgrade"
    ):
        mmcache.open(copied)


@pytest.mark.parametrize("name", EXPECTED)
def test_golden_caches_are_of_what_formats_can_differ_in(name):
    """Several slabs and shards, a hole where a picture failed, and both orders of keys."""
    cache = GOLDEN / f"{name}.mmc"
    frame = json.loads((cache / "mmcache.json").read_text())
    elements = np.prod(frame["arrays"]["pixels"]["shape"])
    assert elements > 2 * frame["slab"]
    item = np.dtype(frame["arrays"]["pixels"]["dtype"]).itemsize
    assert elements * item > frame["counts"]["pixel_bytes"]
    assert {stage for _, stage, _ in EXPECTED[name]["failures"]} == {"header", "decode"}
    assert len([*(GOLDEN / f"{name}.zarr" / "pixels" / "c").glob("*")]) > 2
    ordered = EXPECTED[name]["keys"] == sorted(EXPECTED[name]["keys"], key=str.encode)
    assert (cache / "key_order.npy").exists() is not ordered
    shape = {"ragged": [], "uniform": [24, 24, 3], "wide": [24, 24, 1]}[name]
    assert frame["arrays"]["pixels"]["shape"][1:] == shape
    assert frame["arrays"]["pixels"]["dtype"] == ("<u2" if name == "wide" else "|u1")


def test_golden_caches_are_of_the_first_version_and_of_this():
    """What came later is not there in the first, and is told as unknown."""
    for path in CACHES:
        cache = mmcache.open(path)
        later = path.stem == "wide"
        assert bool(cache.columns["format"].any()) is later
        assert bool(cache.columns["mode"].any()) is later
        assert all((failure.file_size is not None) is later for failure in cache.failures)


@pytest.mark.parametrize("name", EXPECTED)
def test_bare_zarr_reads_a_missing_shard_as_zeros_and_mmcache_refuses_it(name, tmp_path):
    path = shutil.copytree(GOLDEN / f"{name}.zarr", tmp_path / "c.zarr")
    shard = next(file for file in sorted(path.glob("pixels/c/**/*")) if file.is_file())
    whole = shard.read_bytes()
    assert bare(path)("pixels").reshape(-1)[:100].any()
    shard.write_bytes(whole[:-1])
    with pytest.raises(ValueError, match="checksum"):
        bare(path)("pixels")
    with pytest.raises(mmcache.DamagedCacheError, match="copied whole"):
        mmcache.open(path)
    shard.unlink()
    assert not bare(path)("pixels").reshape(-1)[:100].any()
    with pytest.raises(mmcache.DamagedCacheError, match="cannot be read"):
        mmcache.open(path)


def test_golden_caches_stay_small_and_git_leaves_their_bytes_alone():
    files = [file for file in GOLDEN.rglob("*") if file.is_file()]
    assert sum(file.stat().st_size for file in files) < MOST_BYTES
    attributes = (GOLDEN.parent.parent / ".gitattributes").read_text()
    assert "tests/golden/** -text\n" in attributes
