"""Verify: whatever was done to a cache is found, and nothing is found where nothing was done."""

from __future__ import annotations

import hashlib
import inspect
import json
import mmap
import os
import shutil
import subprocess
import sys
import time
import tracemalloc
from pathlib import Path

import google_crc32c
import h5py
import numpy as np
import pytest
import zarr
from odd_frames import altered
from PIL import Image

import mmcache
from mmcache import layout
from mmcache.integrity import index, pictures, verifying
from mmcache.records import Strings
from mmcache.stores import zarr as zarr_store
from mmcache.stores.digests import content_digest, rest_digest
from mmcache.stores.frame import (
    FRAME_FILE,
    GROUP_FILE,
    Frame,
    _array_from_json,
    _sealed,
    in_group,
    read_frame,
    segment_at,
    signpost,
)
from mmcache.stores.npy import npy_header
from mmcache.testing import paint_folder

GOLDEN = Path(__file__).parent / "golden"
ENDINGS = ("mmc", "h5", "zarr")
KINDS = ("ragged", "uniform", "wide")
CACHES = [GOLDEN / f"{kind}.{ending}" for kind in KINDS for ending in ENDINGS]


def verify(path, **how):
    return mmcache.verify(path, progress=False, **how)


def copied(golden, folder):
    """Return a copy of a cache under *folder*, to be damaged."""
    path = folder / golden.name
    return shutil.copytree(golden, path) if golden.is_dir() else Path(shutil.copy(golden, path))


def files_of(path):
    """Return every file of a cache by what a report calls it."""
    if not path.is_dir():
        return {path.name: path}
    return {f.relative_to(path).as_posix(): f for f in sorted(path.rglob("*")) if f.is_file()}


def frame_file_of(path):
    names = {".mmc": FRAME_FILE, ".zarr": GROUP_FILE, ".h5": path.name}
    return names[path.suffix]


def pixel_files(path):
    segments = read_frame(path).arrays["pixels"].segments
    return sorted({segment.file if path.is_dir() else path.name for segment in segments})


def place_of_record(path, row, byte=0):
    """Return the file that a byte of a record lies in, its name, and where."""
    cache = mmcache.open(path)
    frame = cache.files.frame
    position = int(cache.files.array("records")[row, 0]) * cache.recipe.dtype.itemsize + byte
    segment, offset = segment_at(frame.arrays["pixels"].segments, position)
    name = segment.file if path.is_dir() else path.name
    return files_of(path)[name], name, offset


def flip(file, place, bit=0):
    with file.open("r+b") as stream:
        stream.seek(place)
        (byte,) = stream.read(1)
        stream.seek(place)
        stream.write(bytes([byte ^ 1 << bit]))


def only(report):
    """Return the one finding of a report."""
    assert not report.ok
    (damage,) = report.damaged
    return damage


@pytest.fixture(params=CACHES, ids=lambda path: path.name)
def golden(request, tmp_path):
    """A copy of each golden cache."""
    return copied(request.param, tmp_path)


@pytest.fixture(params=ENDINGS)
def ragged_copy(request, tmp_path):
    return copied(GOLDEN / f"ragged.{request.param}", tmp_path)


@pytest.fixture
def npy(tmp_path):
    return copied(GOLDEN / "ragged.mmc", tmp_path)


# Nothing is found where nothing was done ---------------------------------------------------------


def test_golden_caches_are_whole(golden):
    report = verify(golden)
    assert report.ok, report
    files = files_of(golden).values()
    assert (report.pictures, report.files) == (6, len(files))
    assert report.nbytes == sum(file.stat().st_size for file in files)
    assert (report.damaged, list(report.keys), report.rows.tolist()) == ((), [], [])
    assert f"{golden.name} is whole: 6 pictures, " in repr(report)


def small_slabs(monkeypatch):
    monkeypatch.setattr(layout, "SLAB", 40 << 10)
    monkeypatch.setattr(layout, "CHUNK", 1 << 10)
    monkeypatch.setattr(zarr_store, "CHUNK", 1 << 10)
    monkeypatch.setattr(zarr_store, "MOST_SHARDS", 4)
    monkeypatch.setattr(zarr_store, "SHARD", 1)


@pytest.mark.parametrize("small", [False, True])
@pytest.mark.parametrize(
    "settings",
    [
        {"size": 64},
        {"size": 48, "resize": "crop"},
        {"size": 40, "mode": "I;16"},
        {"size": 32, "mode": "RGBA", "resize": "pad"},
        {"size": (30, 50), "mode": "L", "multiple_of": 8},
    ],
    ids=str,
)
def test_caches_of_every_recipe_and_format_with_holes_are_whole(
    partly_broken, tmp_path, monkeypatch, settings, small
):
    if small:
        small_slabs(monkeypatch)
    with pytest.warns(mmcache.PicturesSkippedWarning):
        cache = mmcache.build(partly_broken, tmp_path / "a.mmc", progress=False, **settings)
    assert len(cache.failures) == 2
    for ending in ENDINGS:
        copy = mmcache.convert(cache, tmp_path / f"b.{ending}", progress=False)
        few = mmcache.convert(cache[[9, 2, 5]], tmp_path / f"c.{ending}", progress=False)
        one = mmcache.convert(cache[3:4], tmp_path / f"d.{ending}", progress=False)
        for each in (copy, few, one):
            report = verify(each)
            assert report.ok, report
            assert report.pictures == len(each)


def test_a_narrower_cache_is_verified_whole(golden):
    cache = mmcache.open(golden)
    assert verify(cache[2:4]).pictures == 6
    file, _, place = place_of_record(golden, 0)
    flip(file, place)
    assert list(verify(cache[2:4]).keys) == [cache.keys[0]]


def test_another_generation_than_the_open_one_is_told(golden, tmp_path):
    cache = mmcache.open(golden)
    other = mmcache.convert(cache[1:], tmp_path / f"other{golden.suffix}", progress=False)
    golden.rename(tmp_path / "away")
    other.path.rename(golden)
    with pytest.raises(mmcache.DifferentCacheError, match="built anew"):
        verify(cache)
    assert verify(golden).ok


def test_verifying_changes_nothing(golden):
    before = {name: (f.read_bytes(), f.stat().st_mtime_ns) for name, f in files_of(golden).items()}
    verify(golden)
    after = {name: (f.read_bytes(), f.stat().st_mtime_ns) for name, f in files_of(golden).items()}
    assert before == after


# Flipped bytes -----------------------------------------------------------------------------------


def test_the_report_names_exactly_the_record_that_was_flipped(golden):
    cache = mmcache.open(golden)
    for row, picture in enumerate(cache):
        for byte in (0, picture.nbytes // 2, picture.nbytes - 1):
            file, name, place = place_of_record(golden, row, byte)
            flip(file, place, bit=7)
            damage = only(verify(golden))
            assert (damage.file, damage.rows.tolist()) == (name, [row])
            assert list(damage.keys) == [cache.keys[row]]
            assert "not as they were written" in damage.what
            flip(file, place, bit=7)
    assert verify(golden).ok


def test_several_flipped_records_are_all_named(golden):
    cache = mmcache.open(golden)
    for row in (1, 2, 5):
        file, _, place = place_of_record(golden, row, 3)
        flip(file, place)
    report = verify(golden)
    assert report.rows.tolist() == [1, 2, 5]
    assert list(report.keys) == [cache.keys[row] for row in (1, 2, 5)]
    assert repr(report).startswith(f"{golden.name} is damaged: 3 of 6 pictures, ")


def places_to_flip(file, *, dense):
    """Return every place of what is short or begins a file, and some of the rest."""
    size = file.stat().st_size
    if file.name in (FRAME_FILE, GROUP_FILE):
        return range(0, size, 7 if dense else 101)
    near = [0, size // 2, *range(1, min(size, 120), 2 if dense else 53)]
    step = 97 if dense else 701 if file.suffix == ".h5" else 1_777
    return sorted({*near, *range(0, size, step), *range(max(0, size - 2), size)})


@pytest.mark.parametrize(
    "dense", [False, pytest.param(True, marks=pytest.mark.slow)], ids=["some", "dense"]
)
@pytest.mark.parametrize("ending", ENDINGS)
def test_every_flipped_byte_is_found(tmp_path, ending, dense):
    path = copied(GOLDEN / f"ragged.{ending}", tmp_path)
    count = 0
    for name, file in files_of(path).items():
        for place in places_to_flip(file, dense=dense):
            bit = count % 8
            flip(file, place, bit)
            damage = only(verify(path, workers=1))
            assert damage.file == name, (name, place)
            flip(file, place, bit)
            count += 1
    assert count > 120
    assert verify(path).ok


@pytest.mark.slow
@pytest.mark.parametrize("ending", ENDINGS)
def test_every_byte_of_the_index_is_found(tmp_path, ending):
    path = copied(GOLDEN / f"ragged.{ending}", tmp_path)
    frame = read_frame(path)
    for name, one in frame.arrays.items():
        for segment in one.segments:
            file = path / segment.file if path.is_dir() else path
            end = segment.offset + segment.length
            for place in range(segment.offset, end, 13 if name == "pixels" else 1):
                flip(file, place, place % 8)
                report = verify(path, workers=1)
                assert not report.ok, (segment, place)
                flip(file, place, place % 8)
    assert verify(path).ok


def test_every_fifth_byte_of_the_frame_is_found_and_is_one_finding(ragged_copy):
    name = frame_file_of(ragged_copy)
    file = files_of(ragged_copy)[name]
    whole = file.read_bytes()
    begins = read_frame(ragged_copy).files.get("cache.h5")
    places = [*range(begins.length if begins else 0, len(whole))]
    places += range(100) if begins else []
    for place in places[:: 1 if begins else 5]:
        flip(file, place, place % 8)
        report = verify(ragged_copy)
        damage = only(report)
        assert (damage.file, len(damage.rows), report.files) == (name, 0, 0)
        flip(file, place, place % 8)
    assert file.read_bytes() == whole


def test_a_flipped_hole_is_bytes_that_belong_to_no_record(golden):
    cache = mmcache.open(golden)
    item = cache.recipe.dtype.itemsize
    records = cache.files.array("records")
    ends = ((records[:, 0] + records[:, 1:].prod(axis=1)) * item).tolist()
    starts = (records[:, 0] * item).tolist()
    gap = next(end for end, start in zip(ends, starts[1:], strict=False) if start > end)
    segment, offset = segment_at(cache.files.frame.arrays["pixels"].segments, gap)
    name = segment.file if golden.is_dir() else golden.name
    assert not any(files_of(golden)[name].read_bytes()[offset : offset + 1])
    flip(files_of(golden)[name], offset)
    damage = only(verify(golden))
    assert (damage.file, damage.rows.tolist()) == (name, [])
    assert "no record" in damage.what


@pytest.mark.parametrize("name", ["records", "checksums", "keys", "key_offsets", "labels", "width"])
def test_a_damaged_array_is_named_and_so_are_the_records_that_it_makes_doubtful(ragged_copy, name):
    cache = mmcache.open(ragged_copy)
    (segment,) = read_frame(ragged_copy).arrays[name].segments
    shown = segment.file if ragged_copy.is_dir() else ragged_copy.name
    row_bytes = segment.length // len(cache)
    flip(
        files_of(ragged_copy)[shown],
        segment.offset + 3 * row_bytes + (8 if name == "records" else 0),
    )
    damage = only(verify(ragged_copy))
    assert damage.file == shown
    assert f"{name} is not as it was written" in damage.what
    expected = [3] if name in ("records", "checksums") else []
    assert damage.rows.tolist() == expected
    assert list(damage.keys) == [cache.keys[row] for row in expected]


def test_records_that_are_damaged_everywhere_are_all_named(ragged_copy):
    random = np.random.default_rng(0)
    (segment,) = read_frame(ragged_copy).arrays["records"].segments
    file = files_of(ragged_copy)[segment.file if ragged_copy.is_dir() else ragged_copy.name]
    for noise in (b"\xff", b"\x00", b"\x7f", None):
        whole = bytearray(file.read_bytes())
        data = noise * segment.length if noise else random.bytes(segment.length)
        whole[segment.offset : segment.offset + segment.length] = data
        file.write_bytes(whole)
        report = verify(ragged_copy)
        assert report.rows.tolist() == list(range(6))


# Files -------------------------------------------------------------------------------------------


def cut(file):
    os.truncate(file, file.stat().st_size - 1)


def emptied(file):
    os.truncate(file, 0)


def extended(file):
    with file.open("ab") as stream:
        stream.write(b"\0")


def removed(file):
    file.unlink()


def linked(file):
    root = next(folder for folder in file.parents if folder.suffix in (".mmc", ".zarr"))
    file.symlink_to(file.replace(root.with_name("away")))


def piped(file):
    file.unlink()
    os.mkfifo(file)


def foldered(file):
    file.unlink()
    file.mkdir()


def sparse(file):
    os.truncate(file, 1 << 40)


HARMS = {
    cut: "bytes and was written with", emptied: "bytes and was written with",
    extended: "bytes and was written with", sparse: "bytes and was written with",
    removed: "is missing", linked: "is a link", piped: "is no plain file", foldered: "is a folder",
}  # fmt: skip


@pytest.mark.parametrize("ending", ["mmc", "zarr"])
@pytest.mark.parametrize("harm", HARMS, ids=lambda harm: harm.__name__)
def test_each_file_that_is_not_there_as_it_was_is_named(tmp_path, harm, ending):
    for name in [*files_of(GOLDEN / f"ragged.{ending}")][:: 4 if ending == "zarr" else 2]:
        path = copied(GOLDEN / f"ragged.{ending}", tmp_path)
        if name != frame_file_of(path):
            harm(files_of(path)[name])
            begun = time.monotonic()
            damage = only(verify(path))
            assert time.monotonic() - begun < 5
            assert damage.file == name
            assert HARMS[harm] in damage.what
        shutil.rmtree(path)


@pytest.mark.parametrize("ending", ["mmc", "zarr"])
@pytest.mark.parametrize("harm", HARMS, ids=lambda harm: harm.__name__)
def test_a_frame_that_is_not_there_as_it_was_is_the_one_finding(tmp_path, harm, ending):
    path = copied(GOLDEN / f"uniform.{ending}", tmp_path)
    harm(path / frame_file_of(path))
    report = verify(path)
    assert only(report).file == frame_file_of(path)
    assert (report.pictures, report.files, report.nbytes) == (0, 0, 0)
    assert repr(report).startswith(f"uniform.{ending} is damaged: its frame cannot be read")


@pytest.mark.parametrize("size", [100, 4_100, 5_000, 100_000, -1])
def test_an_hdf5_file_that_was_cut_is_one_finding(tmp_path, size):
    path = copied(GOLDEN / "uniform.h5", tmp_path)
    os.truncate(path, size % path.stat().st_size)
    assert only(verify(path)).file == "uniform.h5"
    extended(path)
    assert only(verify(path)).file == "uniform.h5"


@pytest.mark.parametrize("begins", [b"", b"\0", b"\xff", b"no first page"])
def test_an_hdf5_file_whose_first_page_is_gone_was_a_cache(tmp_path, begins):
    path = copied(GOLDEN / "uniform.h5", tmp_path)
    page = (begins * 4_096)[:4_096] or path.read_bytes()[:4_096].replace(b"byte", b"bite")
    with path.open("r+b") as file:
        file.write(page)
    assert only(verify(path)).file == "uniform.h5"


@pytest.mark.parametrize("kind", KINDS)
def test_a_payload_file_that_is_missing_or_cut_damages_its_records_alone(tmp_path, kind):
    for harm in (cut, removed, linked):
        path = copied(GOLDEN / f"{kind}.zarr", tmp_path)
        second = pixel_files(path)[1]
        cache = mmcache.open(path)
        rows = [row for row in range(6) if place_of_record(path, row)[1] == second]
        assert rows
        harm(path / second)
        damage = only(verify(path))
        assert damage.file == second
        # What was cut off is the last byte of the shard's index, and no record's.
        assert damage.rows.tolist() == ([] if harm is cut else rows)
        assert list(damage.keys) == [cache.keys[row] for row in damage.rows]
        shutil.rmtree(path)


def test_records_before_the_place_of_a_cut_are_not_damaged(npy):
    file, _, place = place_of_record(npy, 3)
    os.truncate(file, place + 1)
    assert only(verify(npy)).rows.tolist() == [3, 4, 5]


@pytest.mark.parametrize(
    ("ending", "one", "other"),
    [
        ("mmc", "checksums.npy", "content_hash.npy"),
        ("mmc", "height.npy", "width.npy"),
        ("zarr", "pixels/c/0", "pixels/c/1"),
        ("zarr", "height/c/0", "width/c/0"),
        ("zarr", "height/zarr.json", "labels/zarr.json"),
    ],
)
def test_two_files_in_each_others_place_are_both_named(tmp_path, ending, one, other):
    path = copied(GOLDEN / f"ragged.{ending}", tmp_path)
    (path / one).rename(path / "aside")
    (path / other).rename(path / one)
    (path / "aside").rename(path / other)
    assert sorted(damage.file for damage in verify(path).damaged) == sorted([one, other])


@pytest.mark.parametrize("page", range(5))
def test_zeroed_pages_are_found(golden, page):
    for name in {frame_file_of(golden), *pixel_files(golden)}:
        file = files_of(golden)[name]
        whole = file.read_bytes()
        zeroed = bytearray(whole)
        zeroed[page * 4_096 : (page + 1) * 4_096] = bytes(len(whole[page * 4_096 :][:4_096]))
        file.write_bytes(zeroed)
        if zeroed != whole:
            assert only(verify(golden)).file == name
        file.write_bytes(whole)


@pytest.mark.parametrize("ending", ["mmc", "zarr"])
def test_what_does_not_belong_to_the_cache_is_named(tmp_path, ending):
    path = copied(GOLDEN / f"ragged.{ending}", tmp_path)
    (path / "extra.npy").touch()
    (path / "folder" / "deep").mkdir(parents=True)
    (path / "link").symlink_to(path)
    (path / "nowhere").symlink_to("nothing")
    os.mkfifo(path / "fifo")
    os.mkdir(os.fsencode(path) + b"/caf\xe9")  # noqa: PTH102  # bytes
    expected = {"extra.npy", "folder/", "link", "nowhere", "fifo", os.fsdecode(b"caf\xe9/")}
    if ending == "zarr":
        (path / "labels" / "c" / "1").touch()
        expected |= {"labels/c/1"}
    report = verify(path)
    assert {damage.file for damage in report.damaged} == expected
    assert {damage.what for damage in report.damaged} == {"does not belong to the cache"}
    json.dumps(report.to_json()).encode("ascii")
    assert r"caf\xe9/" in repr(report)


def test_a_folder_of_the_cache_that_is_a_link_is_not_followed(tmp_path):
    path = copied(GOLDEN / "ragged.zarr", tmp_path)
    (path / "labels").rename(tmp_path / "outside")
    (path / "labels").symlink_to(tmp_path / "outside")
    report = verify(path)
    told = {damage.file: damage.what for damage in report.damaged}
    assert set(told) == {"labels", "labels/zarr.json", "labels/c/0"}
    assert "behind a link" in told["labels/c/0"]


def test_a_loop_of_links_is_a_finding(tmp_path):
    path = copied(GOLDEN / "ragged.zarr", tmp_path)
    shutil.rmtree(path / "labels")
    (path / "labels").symlink_to("labels")
    assert not verify(path).ok


def test_a_cache_may_itself_stand_behind_a_link(npy, tmp_path):
    (tmp_path / "link.mmc").symlink_to(npy)
    assert verify(tmp_path / "link.mmc").ok


# No caches ---------------------------------------------------------------------------------------


def test_nothing_there_is_not_found_as_opening_says(tmp_path):
    with pytest.raises(mmcache.CacheNotFoundError):
        verify(tmp_path / "nothing.mmc")


@pytest.fixture
def no_caches(tmp_path, painted):
    (tmp_path / "empty").mkdir()
    (tmp_path / "empty.mmc").touch()
    (tmp_path / "text.mmc").write_text("mmcache is a fine thing to have", encoding="utf-8")
    (tmp_path / "short.h5").write_bytes(b"mmcache ")
    os.mkfifo(tmp_path / "fifo.h5")
    with h5py.File(tmp_path / "plain.h5", "w") as file:
        file["records"] = np.arange(3)
    zarr.create_group(tmp_path / "plain.zarr").create_array("records", data=np.arange(3))
    shutil.copytree(painted, tmp_path / "photos")
    golden = mmcache.open(GOLDEN / "ragged.mmc")
    mmcache.export(golden, tmp_path / "exported.zarr", progress=False)
    return [*tmp_path.iterdir()]


def test_what_never_was_a_cache_is_refused_as_opening_refuses_it(no_caches):
    for path in no_caches:
        with pytest.raises(mmcache.DamagedCacheError) as opening:
            mmcache.open(path)
        with pytest.raises(mmcache.DamagedCacheError) as verifying:
            verify(path)
        assert str(opening.value) == str(verifying.value)


# Hostile caches, whose seals are right -----------------------------------------------------------


def plain_of(path):
    plain = json.loads(read_frame(path).to_bytes())
    plain.pop("sha256")
    return plain


def seal(path, plain):
    """Write a frame of which the digest is right, whatever it says."""
    document = _sealed(plain)
    if path.suffix == ".mmc":
        (path / FRAME_FILE).write_bytes(document)
    elif path.suffix == ".zarr":
        (path / GROUP_FILE).write_bytes(in_group(document))
    else:
        (one,) = plain["files"].values()
        data = path.read_bytes()[4_096 : one["length"]]
        path.write_bytes(signpost(one["length"]) + data + document)


def resealed(path, plain):
    """Seal a frame whose fingerprint and digests of files without pixels are right, too."""
    arrays = {name: _array_from_json(one) for name, one in plain["arrays"].items()}
    recipe = mmcache.Recipe.from_json(plain["recipe"])
    plain["content"] = content_digest(recipe.fingerprint, plain["classes"], arrays)
    for name, one in plain["files"].items():
        file = path / name if path.is_dir() else path
        if name != "pixels.npy" and not name.startswith("pixels/c") and path.is_dir():
            data = file.read_bytes()
            one |= {"length": len(data), "sha256": hashlib.sha256(data).hexdigest()}
    seal(path, plain)


def put(path, **arrays):
    """Put arrays in the place of an npy cache's own, all digests being right."""
    plain = plain_of(path)
    for name, array in arrays.items():
        array = np.ascontiguousarray(array, array.dtype.newbyteorder("<"))  # noqa: PLW2901
        file = f"{name}.npy"
        (path / file).write_bytes(npy_header(array.dtype, array.shape) + array.tobytes())
        plain["files"].setdefault(file, {})
        plain["arrays"][name] = {
            "dtype": array.dtype.str,
            "shape": list(array.shape),
            "segments": [[file, 4_096, array.nbytes]],
            "sha256": hashlib.sha256(array.tobytes()).hexdigest(),
        }
    resealed(path, plain)


def array_of(path, name):
    return np.load(path / f"{name}.npy")


def test_putting_the_same_arrays_is_whole(npy):
    for name in ("records", "keys", "labels", "height"):
        put(npy, **{name: array_of(npy, name)})
    assert verify(npy).ok


HUGE = [-1, 2**31, 2**40, 2**62, 2**63 - 1, -(2**63), 0]


@pytest.mark.parametrize("column", range(4))
@pytest.mark.parametrize("row", [0, 3, 5])
def test_a_record_of_any_numbers_is_named_and_nothing_breaks(npy, column, row):
    records = array_of(npy, "records")
    _, height, width, _ = records[row].tolist()
    # These products overflow into small numbers.
    for value in [*HUGE, 2**64 // 3 + 1, 2**64 // (height * 3) + 1, 2**64 // (width * 3) + 1]:
        if value > 2**63 - 1:
            continue
        if (row, column, value) == (0, 0, 0):
            continue  # which is what is there
        wrong = records.copy()
        wrong[row, column] = value
        put(npy, records=wrong)
        report = verify(npy)
        assert row in report.rows.tolist()
        assert "records.npy" in {damage.file for damage in report.damaged}


@pytest.mark.parametrize("column", range(4))
def test_nothing_is_repaired_by_the_word_of_records_that_no_cache_has(npy, tmp_path, column):
    photos = paint_folder(tmp_path / "photos", 2, longest=20)
    records = array_of(npy, "records")
    for value in HUGE:
        wrong = records.copy()
        wrong[3, column] = value
        put(npy, records=wrong)
        before = names_and_bytes(tmp_path)
        with pytest.raises(mmcache.DamagedCacheError, match="that no cache has"):
            mmcache.repair(npy, photos, progress=False)
        assert names_and_bytes(tmp_path) == before


def names_and_bytes(folder):
    return {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_a_record_of_a_shape_that_the_recipe_does_not_make_is_named(tmp_path):
    path = copied(GOLDEN / "uniform.mmc", tmp_path)
    records = array_of(path, "records")
    records[2, 1:] = [12, 48, 3]
    put(path, records=records)
    damage = only(verify(path))
    assert (damage.file, damage.rows.tolist()) == ("records.npy", [2])


def test_records_that_all_claim_everything_are_read_once(npy):
    records = array_of(npy, "records")
    total = 6_936
    records[:] = [0, 1, total // 3, 3]
    put(npy, records=records)
    report = verify(npy)
    assert sorted(report.rows.tolist()) == list(range(6))


def test_many_records_that_claim_everything_are_not_all_read(npy, monkeypatch):
    """No small file can be made to be read a million times."""
    count = 200_000
    records = np.tile(np.array([0, 1, 6_936 // 3, 3]), (count, 1))
    put(npy, records=records, checksums=np.zeros(count, np.uint32))
    read = []
    monkeypatch.setattr(pictures, "crc32c_of", lambda _, start, end: read.append(end - start))
    for digest in (hashlib.sha256(records.tobytes()).hexdigest(), "0" * 64):
        plain = plain_of(npy)
        plain["counts"]["rows"] = count
        plain["arrays"]["records"]["sha256"] = digest
        resealed(npy, plain)
        read.clear()
        assert len(verify(npy).rows) == count
        assert 6_936 <= sum(read) <= 2 * 6_936


def test_a_record_across_two_files_is_named(tmp_path):
    path = copied(GOLDEN / "ragged.zarr", tmp_path)
    plain = plain_of(path)
    records = np.frombuffer((path / "records/c/0/0").read_bytes(), "<i8").reshape(-1, 4).copy()
    records[1, 0] = 2_048 - 3
    (path / "records/c/0/0").write_bytes(records.tobytes())
    plain["arrays"]["records"]["sha256"] = hashlib.sha256(records.tobytes()).hexdigest()
    resealed(path, plain)
    assert verify(path).rows.tolist()[:1] == [1]


def offsets_of(path, name, change):
    offsets = array_of(path, name)
    change(offsets)
    return offsets


def twice(path):
    names = list(mmcache.open(path).keys)
    names[4] = names[3]
    packed = Strings.of(name.encode() for name in names)
    return {"keys": packed.blob, "key_offsets": packed.offsets}


SENSELESS = {
    "a stage that there is not": lambda _: {"failure_stages": np.array([1, 4], np.uint8)},
    "a label that there is not": lambda _: {"labels": np.array([0, 0, 1, 1, 2, 3])},
    "a label below none": lambda _: {"labels": np.array([0, 0, -2, 1, 2, 2])},
    "a picture of no height": lambda _: {"height": np.array([9, 0, 9, 9, 9, 9], np.int32)},
    "a picture of negative width": lambda _: {"width": np.full(6, -3, np.int32)},
    "keys that begin late": lambda path: {
        "key_offsets": offsets_of(path, "key_offsets", lambda it: it.__setitem__(0, 1))
    },
    "keys that go back": lambda path: {"key_offsets": array_of(path, "key_offsets")[::-1]},
    "keys far outside": lambda path: {
        "key_offsets": offsets_of(path, "key_offsets", lambda it: it.__setitem__(3, 2**62))
    },
    "keys before the beginning": lambda path: {
        "key_offsets": offsets_of(path, "key_offsets", lambda it: it.__setitem__(3, -(2**62)))
    },
    "keys that end early": lambda path: {"keys": array_of(path, "keys")[:-1]},
    "keys with more behind them": lambda path: {
        "keys": np.append(array_of(path, "keys"), np.uint8(65))
    },
    "keys twice": twice,
    "keys out of order": lambda path: {"keys": array_of(path, "keys")[::-1]},
    "an order of one row": lambda _: {"key_order": np.zeros(6, np.int64)},
    "an order of other rows": lambda _: {"key_order": np.arange(1, 7)},
    "an order that is none": lambda _: {"key_order": np.arange(6)[::-1]},
    "an order of huge rows": lambda _: {"key_order": np.array([0, 1, 2, 2**62, 4, -(2**63)])},
    "reasons that go back": lambda path: {
        "failure_reason_offsets": array_of(path, "failure_reason_offsets")[[0, 2, 1]]
    },
}


@pytest.mark.parametrize("arrays", SENSELESS.values(), ids=SENSELESS)
def test_an_index_that_makes_no_sense_is_named_though_its_digests_are_right(npy, arrays):
    changed = arrays(npy)
    put(npy, **changed)
    report = verify(npy)
    assert only(report).file in {f"{name}.npy" for name in (*changed, "key_offsets")}


def test_keys_of_gigabytes_are_not_read(npy, monkeypatch):
    monkeypatch.setattr(index, "_MOST_KEY", 10)
    monkeypatch.setattr(index, "_MOST_KEYS", 60)
    assert "has keys of" in only(verify(npy)).what
    put(npy, key_order=np.arange(6))
    assert "has a key of" in only(verify(npy)).what


@pytest.mark.parametrize(
    ("change", "what"),
    [
        (lambda it: it.update(content="0" * 64), "fingerprint"),
        (lambda it: it["counts"].update(pixel_bytes=5), "of 5 bytes"),
        (lambda it: it["counts"].pop("pixel_bytes"), "None bytes"),
        (lambda it: it["counts"].update(rows=7), "does not open"),
        (lambda it: it["counts"].update(failures=7), "does not open"),
        (lambda it: it["counts"].update(rows=10**300), "does not open"),
        (lambda it: it["recipe"].update(sharpen=3), "does not open"),
        (lambda it: it["arrays"].pop("width"), "fingerprint"),
        (lambda it: it["arrays"].pop("records"), "fingerprint"),
        (lambda it: it["arrays"].pop("pixels"), "fingerprint"),
        (lambda it: it.update(store="tar"), "a format tar"),
        (lambda it: it["arrays"].update(more=it["arrays"]["width"]), "the same bytes"),
        (lambda it: it["arrays"]["pixels"].update(shape=[1, 6_936]), "fingerprint"),
        (lambda it: it["arrays"]["width"].pop("sha256"), "width is not as it was written"),
        (lambda it: it["arrays"]["width"].update(sha256=5), "width is not as it was written"),
        (lambda it: it["files"]["width.npy"].update(sha256=None), "is not as it was written"),
        (lambda it: it.update(classes=["\ud800"] * 3), "does not read as a frame"),
    ],
)
def test_a_frame_that_is_wrong_though_its_seal_is_right_is_found(npy, change, what):
    plain = plain_of(npy)
    change(plain)
    seal(npy, plain)
    report = verify(npy)
    assert not report.ok
    assert what in "\n".join(damage.what for damage in report.damaged)


@pytest.mark.parametrize("name", ["x" * 300, "x/" * 3_000 + "x", "é", "con", "a:b", "*"])
def test_a_file_of_any_name_is_missing_and_no_more(npy, name):
    plain = plain_of(npy)
    plain["files"][name] = {"length": 2**62, "sha256": ""}
    plain["arrays"]["more"] = {
        "dtype": "|u1", "shape": [2**62], "segments": [[name, 0, 2**62]], "sha256": "",
    }  # fmt: skip
    seal(npy, plain)
    report = verify(npy)
    assert name in {damage.file for damage in report.damaged}
    json.dumps(report.to_json()).encode()
    repr(report).encode()


def test_an_array_behind_the_end_of_any_file_is_not_looked_for(npy):
    plain = plain_of(npy)
    plain["files"]["width.npy"]["length"] = 2**71
    plain["arrays"]["width"]["segments"] = [["width.npy", 2**70, 24]]
    plain["files"]["height.npy"]["length"] = 2**62
    plain["arrays"]["height"]["segments"] = [["height.npy", 2**61, 24]]
    seal(npy, plain)
    assert {damage.file for damage in verify(npy).damaged} >= {"width.npy", "height.npy"}


def test_stretches_out_of_order_make_no_byte_be_read_twice(tmp_path):
    data = bytes(range(100))
    (tmp_path / "file").write_bytes(data)
    with (tmp_path / "file").open("rb") as file:
        digest = rest_digest(file.fileno(), 100, [(50, 60), (10, 20), (50, 55), (70, 80)])
    assert digest == hashlib.sha256(data[:50] + data[60:70] + data[80:]).hexdigest()


def test_a_payload_of_exabytes_is_not_believed(npy):
    plain = plain_of(npy)
    length = 2**70 * 3
    plain["files"]["pixels.npy"]["length"] = length + 4_096
    plain["arrays"]["pixels"] |= {"shape": [length], "segments": [["pixels.npy", 4_096, length]]}
    seal(npy, plain)
    assert "pixels.npy" in {damage.file for damage in verify(npy).damaged}


@pytest.mark.slow
@pytest.mark.parametrize("ending", ["mmc", "zarr"])
def test_a_frame_in_which_anything_is_something_else_never_breaks_it(tmp_path, ending, monkeypatch):
    path = copied(GOLDEN / f"ragged.{ending}", tmp_path)
    monkeypatch.setattr(verifying, "_check_bare", lambda _: None)
    found = 0
    for plain in altered(plain_of(path)):
        seal(path, plain)
        report = verify(path, workers=1)
        json.dumps(report.to_json())
        repr(report)
        found += not report.ok
    assert found > 1_000


@pytest.mark.slow
def test_noise_with_right_seals_never_breaks_it(tmp_path, monkeypatch):
    monkeypatch.setattr(verifying, "_check_bare", lambda _: None)
    random = np.random.default_rng(4)
    path = copied(GOLDEN / "wide.mmc", tmp_path)
    names = [name for name in plain_of(path)["arrays"] if name != "pixels"]
    for _ in range(400):
        name = names[random.integers(len(names))]
        array = np.load(GOLDEN / "wide.mmc" / f"{name}.npy")
        raw = bytearray(array.tobytes())
        for _ in range(random.integers(1, 4)):
            raw[random.integers(len(raw))] = random.integers(256)
        put(path, **{name: np.frombuffer(raw, array.dtype).reshape(array.shape)})
        json.dumps(verify(path, workers=2).to_json())
        shutil.rmtree(path)
        path = copied(GOLDEN / "wide.mmc", tmp_path)


# What other libraries see ------------------------------------------------------------------------


def rest_resealed(path, plain):
    """Seal a frame whose digests of every file's rest are right."""
    arrays = {name: _array_from_json(one) for name, one in plain["arrays"].items()}
    records = np.asarray(mmcache.open(GOLDEN / f"{path.stem}.mmc").files.array("records"))
    taken = bytearray()
    (name,) = plain["files"]
    (segment,) = arrays["pixels"].segments
    data = path.read_bytes()[: plain["files"][name]["length"]]
    item = np.dtype(arrays["pixels"].dtype).itemsize
    position = 0
    for offset, *shape in records.tolist():
        start = segment.offset + offset * item
        taken += data[position:start]
        position = start + int(np.prod(shape)) * item
    taken += data[position:]
    plain["files"][name]["sha256"] = hashlib.sha256(taken).hexdigest()
    seal(path, plain)


def edited(path, edit):
    """Let h5py change an HDF5 cache, and make all seals right."""
    plain = plain_of(path)
    with h5py.File(path, "r+") as file:
        edit(file)
    plain["files"]["cache.h5"]["length"] = path.stat().st_size
    seal(path, plain)
    rest_resealed(path, plain)


def renamed(file):
    # Not deleted, here and below: HDF5 would put what is new in the room of what was there.
    file.move("width", "was")


def aliased(file):
    renamed(file)
    file["width"] = file["height"]


def chunked(file):
    renamed(file)
    file.create_dataset("width", data=file["was"][...], chunks=(3,), compression="gzip")


def shorter(file):
    renamed(file)
    file.create_dataset("width", (5,), "<i4")


def soft(file):
    renamed(file)
    file["width"] = h5py.SoftLink("/was")


def external(file):
    renamed(file)
    with h5py.File(Path(file.filename).with_name("outside.h5"), "w") as outside:
        outside["width"] = file["was"][...]
    file["width"] = h5py.ExternalLink("outside.h5", "width")


def outside(file):
    renamed(file)
    data = file["was"][...]
    raw = Path(file.filename).with_name("outside.raw")
    raw.write_bytes(data.tobytes())
    file.create_dataset("width", data.shape, "<i4", external=[(str(raw), 0, data.nbytes)])


@pytest.mark.parametrize(
    "edit",
    [renamed, aliased, chunked, shorter, soft, external, outside],
    ids=lambda edit: edit.__name__,
)
def test_a_dataset_that_is_not_the_plain_array_is_found(tmp_path, edit):
    path = copied(GOLDEN / "ragged.h5", tmp_path)
    edited(path, edit)
    assert mmcache.open(path).columns["width"].tolist()  # mmcache itself does not ask HDF5
    damage = only(verify(path))
    assert damage.file == "ragged.h5"
    assert "h5py sees width otherwise" in damage.what


def test_hdf5_data_that_are_none_are_found(tmp_path):
    path = copied(GOLDEN / "ragged.h5", tmp_path)
    plain = plain_of(path)
    flip(path, 4_096)
    rest_resealed(path, plain)
    assert "h5py could not read it" in only(verify(path)).what


def test_resealing_hdf5_alone_is_whole(tmp_path):
    path = copied(GOLDEN / "ragged.h5", tmp_path)
    rest_resealed(path, plain_of(path))
    assert verify(path).ok


@pytest.mark.parametrize(
    ("file", "old", "new"),
    [
        ("records.npy", b"'fortran_order': False", b"'fortran_order': True "),
        ("width.npy", b"<i4", b">i4"),
        ("width.npy", b"(6,)", b"(5,)"),
        ("pixels.npy", b"'|u1'", b"'|i1'"),
        ("pixels.npy", b"\x93NUMPY", b"\x93NAMPY"),
    ],
)
def test_a_header_that_says_something_else_is_found(npy, file, old, new):
    plain = plain_of(npy)
    data = (npy / file).read_bytes()
    assert data.count(old) == 1
    (npy / file).write_bytes(data.replace(old, new))
    if file == "pixels.npy":
        rest = hashlib.sha256(rest_of_pixels(npy))
        plain["files"][file]["sha256"] = rest.hexdigest()
    resealed(npy, plain)
    damage = only(verify(npy))
    assert damage.file == file
    assert "numpy sees" in damage.what


def rest_of_pixels(path):
    data = (path / "pixels.npy").read_bytes()
    rest, position = b"", 0
    for offset, *shape in array_of(path, "records").tolist():
        rest += data[position : 4_096 + offset]
        position = 4_096 + offset + int(np.prod(shape))
    return rest + data[position:]


def test_an_array_of_another_dtype_is_found_in_zarr(tmp_path):
    path = copied(GOLDEN / "ragged.zarr", tmp_path)
    file = path / "labels" / "zarr.json"
    file.write_bytes(file.read_bytes().replace(b'"int64"', b'"uint64"'))
    resealed(path, plain_of(path))
    damage = only(verify(path))
    assert damage.file == "labels/c/0"
    assert "zarr sees labels otherwise: as uint64" in damage.what


def test_chunks_in_each_others_place_are_found_in_zarr(tmp_path):
    path = copied(GOLDEN / "ragged.zarr", tmp_path)
    plain = plain_of(path)
    shard = path / "pixels" / "c" / "0"
    data = bytearray(shard.read_bytes())
    entries = np.frombuffer(data[2_048:-4], "<u8").reshape(-1, 2).copy()
    assert entries[0].tolist() != entries[1].tolist()
    entries[[0, 1]] = entries[[1, 0]]
    data[2_048:-4] = entries.tobytes()
    data[-4:] = google_crc32c.value(entries.tobytes()).to_bytes(4, "little")
    shard.write_bytes(data)
    records = np.frombuffer((path / "records/c/0/0").read_bytes(), "<i8").reshape(-1, 4)
    rest, position = b"", 0
    for offset, *shape in records[records[:, 0] < 2_048].tolist():
        rest += data[position:offset]
        position = offset + int(np.prod(shape))
    rest += data[position:]
    plain["files"]["pixels/c/0"]["sha256"] = hashlib.sha256(rest).hexdigest()
    resealed(path, plain)
    assert "zarr sees pixels otherwise: its elements differ" in only(verify(path)).what


ENDS = {
    "os.abort()": "Aborted",
    "os.kill(os.getpid(), 11)": "Segmentation fault",
    "sys.exit(3)": "exit status 3",
    "sys.exit('what it said')": "what it said",
    "print('no JSON')": "exit status 0",
    "1 / 0": "ZeroDivisionError",
}


@pytest.mark.parametrize(("code", "what"), ENDS.items(), ids=ENDS)
def test_a_library_that_crashes_is_a_finding(golden, monkeypatch, code, what):
    monkeypatch.setattr(verifying, "_CHILD", f"import os, sys; {code}")
    damage = only(verify(golden))
    assert damage.file == frame_file_of(golden)
    assert "could not read it: " in damage.what
    assert what in damage.what


def test_a_library_that_does_not_end_is_a_finding_after_a_time(golden, monkeypatch):
    monkeypatch.setattr(verifying, "_CHILD", "import time; time.sleep(600)")
    monkeypatch.setattr(verifying, "_LIMIT", 0.5)
    begun = time.monotonic()
    assert "did not end reading it within 0.5 seconds" in only(verify(golden)).what
    assert time.monotonic() - begun < 20


def test_the_process_of_the_library_imports_nothing_from_where_it_is_started(
    npy, tmp_path, monkeypatch
):
    for name in ("json", "numpy"):
        (tmp_path / f"{name}.py").write_text("raise SystemExit('of the wrong folder')")
    monkeypatch.chdir(tmp_path)
    assert verify(npy).ok


# How it works ------------------------------------------------------------------------------------


def test_nothing_is_mapped_before_all_is_well(golden, monkeypatch):
    file, _, place = place_of_record(golden, 2)
    flip(file, place)
    monkeypatch.setattr(mmap, "mmap", None)
    assert verify(golden).rows.tolist() == [2]


def test_a_file_that_is_cut_meanwhile_is_a_finding(golden, monkeypatch):
    monkeypatch.setattr(pictures, "_ROWS", 1)
    name = pixel_files(golden)[-1]

    def cuts(*_):
        os.truncate(files_of(golden)[name], 0)

    report = mmcache.verify(golden, workers=1, progress=cuts)
    assert name in {damage.file for damage in report.damaged}


@pytest.mark.parametrize("rows", [1, 2, 5, 6, 7])
@pytest.mark.parametrize("workers", [1, 2, 5])
def test_tasks_of_any_length_find_the_same_and_show_how_far_they_are(
    golden, monkeypatch, rows, workers
):
    monkeypatch.setattr(pictures, "_ROWS", rows)
    file, _, place = place_of_record(golden, 4)
    flip(file, place)
    shown = []
    report = mmcache.verify(golden, workers=workers, progress=lambda *far: shown.append(far))
    assert report.rows.tolist() == [4]
    assert shown == [(min(done, 6), 6) for done in sorted(one[0] for one in shown)]
    assert shown[-1] == (6, 6)
    assert shown[0] == (0, 6)
    assert len(shown) == 1 - (-6 // rows)


def test_memory_stays_flat_however_large_a_record_is(tmp_path):
    Image.new("RGB", (40, 40), "teal").save(tmp_path / "a.png")
    cache = mmcache.build([tmp_path / "a.png"], tmp_path / "a.mmc", size=4_000, resize="stretch")
    assert cache.nbytes == 48_000_000
    tracemalloc.start()
    assert verify(cache).ok
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 12_000_000


@pytest.mark.parametrize("workers", [0, -1, 1.5, "2"])
def test_nonsense_workers_are_refused(npy, workers):
    with pytest.raises(mmcache.SettingError, match="workers"):
        mmcache.verify(npy, workers=workers)


def test_every_word_of_the_signature_stands_in_the_docstring():
    for parameter in inspect.signature(mmcache.verify).parameters:
        assert parameter in mmcache.verify.__doc__


# How it is told ----------------------------------------------------------------------------------


@pytest.fixture
def oddly_named(tmp_path):
    """A cache of names that are not UTF-8, all of whose records are damaged."""
    folder = tmp_path / "in"
    folder.mkdir()
    for number in range(5):
        name = os.fsencode(folder) + b"/caf\xe9\n<b>%d.png" % number
        Image.new("RGB", (9, 9), "teal").save(os.fsdecode(name))
    odd = Path(os.fsdecode(os.fsencode(tmp_path) + b"/o\xe9\n"))
    odd.mkdir()
    cache = mmcache.build(folder, odd / "a.mmc", size=9, progress=False)
    with (cache.path / "pixels.npy").open("r+b") as file:
        file.seek(4_096)
        file.write(bytes(5 * 9 * 9 * 3))
    return cache


def test_names_of_any_bytes_are_told_and_are_json(oddly_named):
    report = verify(oddly_named.path)
    assert list(report.keys) == list(oddly_named.keys)
    told = report.to_json()
    assert json.loads(json.dumps(told)) == told
    assert told["damaged"][0]["keys"][0] == r"caf\xe9\n<b>0.png"
    assert told["damaged"][0]["rows"] == [0, 1, 2, 3, 4]
    assert (told["ok"], told["pictures"], told["files"]) == (False, 5, report.files)
    text = repr(report)
    assert text.startswith("a.mmc is damaged: 5 of 5 pictures, 1 file\n")
    assert r"caf\xe9\n<b>2.png, and 2 more" in text
    text.encode()
    assert "&lt;b&gt;" in report._repr_html_()
    assert "<b>0" not in report._repr_html_()


@pytest.mark.parametrize("name", ["keys", "key_offsets"])
@pytest.mark.parametrize("harm", [removed, emptied])
def test_a_record_whose_key_cannot_be_read_is_told_by_its_row(npy, name, harm):
    file, _, place = place_of_record(npy, 4)
    flip(file, place)
    harm(npy / f"{name}.npy")
    report = verify(npy)
    assert (report.rows.tolist(), list(report.keys)) == ([4], [""])
    assert "; 1 picture: row 4" in repr(report)


def test_a_single_file_may_stand_behind_a_link_too(tmp_path):
    path = copied(GOLDEN / "ragged.h5", tmp_path)
    (tmp_path / "link.h5").symlink_to(path)
    assert mmcache.open(tmp_path / "link.h5").fingerprint == mmcache.open(path).fingerprint
    assert verify(tmp_path / "link.h5").ok


def test_many_damaged_files_are_counted_and_ten_are_shown(npy):
    for file in sorted(npy.glob("*.npy"))[:12]:
        cut(file)
    text = repr(verify(npy))
    assert "is damaged: " in text
    assert "12 files" in text
    assert "and 2 more, all of them in damaged and with --json" in text


def command(*arguments):
    return subprocess.run(
        [sys.executable, "-W", "error", "-m", "mmcache", "verify", *arguments],
        capture_output=True, text=True, timeout=120, check=False,
    )  # fmt: skip


def test_the_command_line_exits_with_0_for_whole_and_1_for_damaged(ragged_copy):
    ran = command(ragged_copy, "--workers", "2")
    assert (ran.returncode, ran.stderr) == (0, "")
    assert ran.stdout.rstrip("\n") == repr(verify(ragged_copy))
    file, _, place = place_of_record(ragged_copy, 1)
    flip(file, place)
    ran = command(ragged_copy, "--quiet")
    assert (ran.returncode, ran.stderr) == (1, "")
    assert ran.stdout.rstrip("\n") == repr(verify(ragged_copy))
    ran = command(ragged_copy, "--json")
    assert (ran.returncode, ran.stderr) == (1, "")
    assert json.loads(ran.stdout) == verify(ragged_copy).to_json()


def test_the_command_line_says_what_is_no_cache(tmp_path):
    for path in (tmp_path, tmp_path / "nothing.mmc"):
        ran = command(path)
        assert (ran.returncode, ran.stdout) == (1, "")
        assert ran.stderr.startswith("mmcache: error: ")
        assert ran.stderr.count("\n") == 1


def test_names_of_any_bytes_can_be_printed_on_the_command_line(oddly_named):
    for how in ([], ["--json"]):
        ran = command(oddly_named.path, *how)
        assert (ran.returncode, ran.stderr) == (1, "")
        assert "caf" in ran.stdout


def test_the_frames_of_golden_caches_survive_this_files_own_sealing(golden):
    before = {name: file.read_bytes() for name, file in files_of(golden).items()}
    seal(golden, plain_of(golden))
    assert {name: file.read_bytes() for name, file in files_of(golden).items()} == before
    assert isinstance(read_frame(golden), Frame)
