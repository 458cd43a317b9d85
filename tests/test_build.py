"""Build: the right pixels, the same bytes whoever makes them, and a whole cache or none."""

from __future__ import annotations

import hashlib
import io
import os
import subprocess
import sys
import tempfile
import textwrap
import threading
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import google_crc32c
import numpy as np
import pytest
from PIL import Image, ImageOps

import mmcache
from mmcache import filling, layout, planning, survey, tasks
from mmcache.errors import PicturesSkippedWarning
from mmcache.recipe import Recipe
from mmcache.sources import Encoded
from mmcache.stores.publishing import work_path
from mmcache.testing import paint_folder

RECIPES = {
    "ragged": {"size": 64},
    "covered": {"size": (30, 50), "resize": "cover", "mode": "L", "resample": "lanczos"},
    "uniform": {"size": (40, 52), "resize": "crop"},
    "padded": {"size": 48, "resize": "pad", "background": "white", "multiple_of": 7},
}


def names(folder):
    """Return what is in a folder, hidden things too."""
    return sorted(path.name for path in folder.iterdir())


@pytest.fixture(scope="module")
def photos(tmp_path_factory):
    return paint_folder(tmp_path_factory.mktemp("source") / "photos", 26, longest=220)


@pytest.fixture
def small_slabs(monkeypatch):
    """Slabs of some kB and spans of a few rows, so that few pictures fill many."""
    monkeypatch.setattr(layout, "SLAB", 40 << 10)
    monkeypatch.setattr(layout, "CHUNK", 1 << 10)
    monkeypatch.setattr(survey, "_SPAN", 4)
    monkeypatch.setattr(filling, "_SPAN_ROWS", 2)


@pytest.fixture
def broken(tmp_path):
    """A folder in which pixels of some files are cut off, so that they fail in decoding."""
    folder = paint_folder(tmp_path / "broken", 20, longest=150)
    for number, path in enumerate(sorted(folder.rglob("0*"))):
        if number % 6 == 2:
            os.truncate(path, path.stat().st_size * 2 // 3)
    return folder


def bytes_of(path):
    """Return a digest of each file's bytes, by name."""
    return {
        file.name: hashlib.sha256(file.read_bytes()).hexdigest() for file in sorted(path.iterdir())
    }


def listing(folder):
    """Return the names of all that is in a folder, hidden things too."""
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*"))


def arrays_of(path):
    """Read a cache with numpy alone."""
    return {file.stem: np.load(file, allow_pickle=False) for file in path.glob("*.npy")}


def pictures_of(arrays):
    """Take each picture out of the arrays, with numpy alone, as docs/format.md tells."""
    flat = arrays["pixels"].reshape(-1)
    return [
        flat[offset : offset + height * width * channels].reshape(height, width, channels)
        for offset, height, width, channels in arrays["records"].tolist()
    ]


def crc32c(data):
    """Return the CRC-32C of *data*, bit by bit: Castagnoli's polynomial, reflected; RFC 3720."""
    crc = 0xFFFF_FFFF
    for byte in data:
        crc ^= byte
        for _ in range(8):
            crc = (crc >> 1) ^ (0x82F6_3B78 if crc & 1 else 0)
    return crc ^ 0xFFFF_FFFF


# What is built ---------------------------------------------------------------------------------


@pytest.mark.parametrize("settings", RECIPES.values(), ids=RECIPES)
def test_every_record_is_what_apply_gives(photos, tmp_path, settings):
    cache = mmcache.build(photos, tmp_path / "out.mmc", **settings)
    assert len(cache) == 26
    for key, record in zip(cache.keys, cache, strict=True):
        recipe = Recipe(**settings, resampler=cache.recipe.resampler)
        assert np.array_equal(record, mmcache.apply(photos / key, recipe))


def test_pixels_come_within_45_db_of_pillows_full_decode(photos, tmp_path):
    cache = mmcache.build(photos, tmp_path / "out.mmc", size=64)
    for key, record in zip(cache.keys, cache, strict=True):
        with Image.open(photos / key) as image:
            upright = ImageOps.exif_transpose(image).convert("RGB")
        height, width, _ = record.shape
        scaled = np.asarray(upright.resize((width, height), Image.Resampling.BICUBIC))
        error = np.mean((scaled.astype(float) - record) ** 2)
        assert 10 * np.log10(255**2 / max(error, 1e-9)) >= 45, key


@pytest.mark.parametrize("settings", RECIPES.values(), ids=RECIPES)
@pytest.mark.usefixtures("small_slabs")
def test_numpy_alone_reads_what_was_built(photos, tmp_path, settings):
    cache = mmcache.build(photos, tmp_path / "out.mmc", **settings)
    arrays = arrays_of(tmp_path / "out.mmc")
    assert set(arrays) == set(cache._files.frame.arrays)
    pictures = pictures_of(arrays)
    assert len(pictures) == len(cache)
    for mine, theirs in zip(cache, pictures, strict=True):
        assert np.array_equal(mine, theirs)
    blob = arrays["keys"].tobytes()
    ends = arrays["key_offsets"].tolist()
    assert [blob[a:b].decode() for a, b in pairwise(ends)] == list(cache.keys)
    assert arrays["labels"].tolist() == cache.labels.tolist()


def test_checksums_are_crc_32c_of_the_records_and_of_the_files(photos, tmp_path):
    cache = mmcache.build(photos, tmp_path / "out.mmc", size=16)
    arrays = arrays_of(tmp_path / "out.mmc")
    assert crc32c(b"123456789") == 0xE306_9283  # RFC 3720's own example of the polynomial
    for row, picture in enumerate(pictures_of(arrays)):
        assert arrays["checksums"][row] == crc32c(picture.tobytes())
        content = (photos / cache.keys[row]).read_bytes()
        assert arrays["content_hash"][row] == google_crc32c.value(content)


@pytest.mark.usefixtures("small_slabs")
def test_gaps_between_records_are_zeros(photos, tmp_path):
    mmcache.build(photos, tmp_path / "out.mmc", size=64)
    arrays = arrays_of(tmp_path / "out.mmc")
    unused = np.ones(len(arrays["pixels"]), bool)
    for offset, *shape in arrays["records"].tolist():
        unused[offset : offset + int(np.prod(shape))] = False
    assert unused.any()
    assert not arrays["pixels"][unused].any()


def test_every_file_is_as_long_as_its_frame_says_and_its_rest_has_a_digest(photos, tmp_path):
    cache = mmcache.build(photos, tmp_path / "out.mmc", size=20)
    frame = cache._files.frame
    names = {path.name for path in (tmp_path / "out.mmc").iterdir()}
    assert names == {*frame.files, "mmcache.json"}
    records = arrays_of(tmp_path / "out.mmc")["records"]
    for name, file in frame.files.items():
        content = (tmp_path / "out.mmc" / name).read_bytes()
        assert len(content) == file.length
        if name == "pixels.npy":
            kept = bytearray(content[:4096])
            position = 0
            for offset, *shape in records.tolist():
                kept += content[4096 + position : 4096 + offset]
                position = offset + int(np.prod(shape))
            content = bytes(kept) + content[4096 + position :]
        assert hashlib.sha256(content).hexdigest() == file.sha256


# Whoever builds --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "settings", [RECIPES["ragged"], RECIPES["uniform"]], ids=["ragged", "uniform"]
)
@pytest.mark.usefixtures("small_slabs")
def test_the_bytes_are_the_same_whoever_builds(broken, tmp_path, settings):
    def built(name, **how):
        with pytest.warns(PicturesSkippedWarning):
            mmcache.build(broken, tmp_path / f"{name}.mmc", **settings, **how)
        return bytes_of(tmp_path / f"{name}.mmc")

    serial = built("serial", executor="serial")
    for executor in ("threads", "processes"):
        for workers in (1, 2):
            assert built(f"{executor}{workers}", executor=executor, workers=workers) == serial
    with ThreadPoolExecutor(3) as pool:
        assert built("theirs", executor=pool) == serial
        assert pool.submit(int, "7").result() == 7  # it is still its owner's
    assert built("default") == serial


@pytest.mark.parametrize(
    "executor",
    ["'serial'", "'threads'", "'processes'", "ProcessPoolExecutor(2, get_context('spawn'))"],
)
def test_a_plain_script_without_a_main_guard_can_build(photos, tmp_path, executor):
    theirs = "Pool" in executor
    body = f"""
    import mmcache, pathlib
    from concurrent.futures import ProcessPoolExecutor
    from multiprocessing import get_context
    print("top")
    cache = mmcache.build({str(photos)!r}, "out.mmc", size=30, executor={executor}, workers=2)
    print(len(cache))
    """
    body = textwrap.dedent(body)
    if theirs:  # spawned workers of the standard library ask for the guard
        lines = body.strip().splitlines()
        body = "\n".join(
            [*lines[:3], "if __name__ == '__main__':", *(f"    {one}" for one in lines[3:])]
        )
    script = tmp_path / "script.py"
    script.write_text(body)
    done = subprocess.run(
        [sys.executable, "-W", "error", script],
        cwd=tmp_path, capture_output=True, text=True, timeout=90, check=False,
    )  # fmt: skip
    assert (done.returncode, done.stdout.split()) == (0, ["top", "26"]), done.stderr
    mmcache.build(photos, tmp_path / "here.mmc", size=30)
    assert bytes_of(tmp_path / "out.mmc") == bytes_of(tmp_path / "here.mmc")


@pytest.mark.parametrize("executor", ["serial", "threads", "processes"])
def test_a_build_from_a_thread_works(photos, tmp_path, executor):
    done = []
    thread = threading.Thread(
        target=lambda: done.append(
            mmcache.build(photos, tmp_path / "out.mmc", size=20, executor=executor, workers=2)
        )
    )
    thread.start()
    thread.join()
    assert len(done[0]) == 26


class Memory:
    """A source of pictures that are only in memory: it cannot be described."""

    def __init__(self, folder):
        self.within = mmcache.Folder(folder)

    def listing(self):
        return self.within.listing()

    def open(self, key):
        return self.within.open(key)

    def stat(self, key):
        return self.within.stat(key)

    def describe(self):
        return None


def test_a_source_that_cannot_be_described_is_built_by_threads(photos, tmp_path):
    cache = mmcache.build(Memory(photos), tmp_path / "out.mmc", size=20)
    mmcache.build(photos, tmp_path / "folder.mmc", size=20)
    assert cache.fingerprint == mmcache.open(tmp_path / "folder.mmc").fingerprint
    with pytest.raises(mmcache.SettingError, match="threads"):
        mmcache.build(Memory(photos), tmp_path / "other.mmc", executor="processes")


# What fails ------------------------------------------------------------------------------------


class Growing(Memory):
    """A source of which one file goes on growing after it was looked at."""

    def open(self, key):
        encoded = super().open(key)
        if key.endswith(b"3.jpg"):
            encoded.file.close()
            with Path(os.fsdecode(self.within.root), os.fsdecode(key)).open("rb") as file:
                data = file.read() + b"more"
            return Encoded(io.BytesIO(data), encoded.size, encoded.mtime_ns)
        return encoded


def test_a_picture_that_grows_while_it_is_read_is_a_failure(photos, tmp_path):
    with pytest.warns(PicturesSkippedWarning):
        cache = mmcache.build(Growing(photos), tmp_path / "out.mmc", size=20)
    assert len(cache.failures)
    assert all(one.key.endswith("3.jpg") for one in cache.failures)
    assert {one.reason for one in cache.failures} == {"changed while the cache was being built"}


@pytest.mark.parametrize("settings", RECIPES.values(), ids=RECIPES)
@pytest.mark.usefixtures("small_slabs")
def test_a_picture_that_fails_in_decoding_leaves_a_hole_of_zeros(broken, tmp_path, settings):
    planned = mmcache.plan(broken, **settings)
    assert len(planned) == 20
    with pytest.warns(PicturesSkippedWarning, match="3 pictures of 20"):
        cache = mmcache.build(broken, tmp_path / "out.mmc", **settings)
    failed = [key for number, key in enumerate(sorted(planned.keys)) if number % 6 == 2]
    assert sorted(failure.key for failure in cache.failures) == failed
    assert {failure.stage for failure in cache.failures} == {"decode"}
    assert list(cache.keys) == [key for key in planned.keys if key not in failed]
    for key, record in zip(cache.keys, cache, strict=True):
        assert np.array_equal(record, mmcache.apply(broken / key, cache.recipe))
        assert np.array_equal(record, cache[key])
    arrays = arrays_of(tmp_path / "out.mmc")
    assert arrays["pixels"].shape == planned.pixels
    for row, key in enumerate(planned.keys):
        offset, *shape = planned.records[row].tolist()
        assert arrays["pixels"].reshape(-1)[offset : offset + np.prod(shape)].any() == (
            key not in failed
        )
    lengths = {name: len(array) for name, array in arrays.items() if name in planning.COLUMNS}
    assert set(lengths.values()) == {17}


def test_a_list_of_paths_with_failures_is_found_by_key(broken, tmp_path):
    paths = sorted(map(str, broken.rglob("0*")), reverse=True)
    with pytest.warns(PicturesSkippedWarning):
        cache = mmcache.build(paths, tmp_path / "out.mmc", size=30)
    failed = {failure.key for failure in cache.failures}
    assert list(cache.keys) == [path for path in paths if path not in failed]
    for row, key in enumerate(cache.keys):
        assert np.array_equal(cache[key], cache[row])
    for key in failed:
        assert key not in cache


def test_without_failures_there_is_no_warning(photos, tmp_path):
    assert not mmcache.build(photos, tmp_path / "out.mmc", size=20).failures


@pytest.mark.parametrize("executor", ["serial", "threads", "processes"])
def test_on_error_raise_names_the_picture_and_keeps_what_is_done(broken, tmp_path, executor):
    with pytest.raises(mmcache.PictureError) as caught:
        mmcache.build(broken, tmp_path / "out.mmc", on_error="raise", executor=executor, workers=2)
    assert caught.value.stage == "decode"
    assert caught.value.key in set(mmcache.Folder(broken).listing().keys)
    mmcache.discard(tmp_path / "out.mmc")
    assert names(tmp_path) == ["broken"]


def test_on_error_raise_stops_at_a_bad_header_before_anything_is_decoded(tmp_path, monkeypatch):
    folder = paint_folder(tmp_path / "in", 3, longest=60)
    (folder / "bad.jpg").write_text("no picture")
    monkeypatch.setattr(tasks, "decode_flagged", None)
    with pytest.raises(mmcache.PictureError, match=r"bad\.jpg"):
        mmcache.build(folder, tmp_path / "out.mmc", on_error="raise")
    assert names(tmp_path) == ["in"]


def test_a_file_that_changes_while_it_is_built_is_a_failure(tmp_path, monkeypatch):
    folder = paint_folder(tmp_path / "in", 5, longest=60, classes=False)
    make_plan = planning.make_plan

    def and_then_change(*args, **kwargs):
        planned = make_plan(*args, **kwargs)
        (folder / "00001.jpg").write_bytes((folder / "00002.jpg").read_bytes())
        (folder / "00002.jpg").unlink()
        os.utime(folder / "00004.jpg", ns=(5, 5))
        return planned

    monkeypatch.setattr("mmcache.ingest.make_plan", and_then_change)
    with pytest.warns(PicturesSkippedWarning):
        cache = mmcache.build(folder, tmp_path / "out.mmc", size=30)
    assert list(cache.keys) == ["00000.jpg", "00003.png"]
    reasons = {failure.key: failure.reason for failure in cache.failures}
    assert "changed" in reasons["00001.jpg"]
    assert "changed" in reasons["00004.jpg"]


def test_failures_of_listing_header_and_decoding_are_all_kept(tmp_path, broken):
    (broken / "nowhere.jpg").symlink_to("missing.jpg")
    (broken / "text.png").write_text("no picture")
    with pytest.warns(PicturesSkippedWarning, match="5 pictures of 22"):
        cache = mmcache.build(broken, tmp_path / "out.mmc", size=30)
    stages = [failure.stage for failure in cache.failures]
    assert sorted(stages) == ["decode"] * 3 + ["header", "list"]
    assert sorted(cache.failures) == sorted(mmcache.open(tmp_path / "out.mmc").failures)


# What is there already -------------------------------------------------------------------------


@pytest.fixture
def standing(tmp_path):
    """A folder of its own and a cache of it."""
    folder = paint_folder(tmp_path / "in", 8, longest=80)
    return folder, mmcache.build(folder, tmp_path / "out.mmc", size=30)


def test_an_unchanged_source_is_opened_without_decoding(standing, tmp_path, monkeypatch):
    folder, cache = standing
    before = bytes_of(cache.path)
    for name in ("mmcache.tasks.decode_flagged", "mmcache.survey.read_header"):
        monkeypatch.setattr(name, None)
    for exist in ("resume", "update"):
        again = mmcache.build(folder, tmp_path / "out.mmc", size=30, exist=exist)
        assert again.fingerprint == cache.fingerprint
    assert bytes_of(cache.path) == before


def test_a_source_whose_failures_are_the_same_is_unchanged(broken, tmp_path, monkeypatch):
    (broken / "text.png").write_text("no picture")
    with pytest.warns(PicturesSkippedWarning):
        mmcache.build(broken, tmp_path / "out.mmc", size=30)
    monkeypatch.setattr("mmcache.tasks.decode_flagged", None)
    assert len(mmcache.build(broken, tmp_path / "out.mmc", size=30)) == 17


def test_what_changed_is_counted_and_update_builds_it(standing, tmp_path):
    folder, cache = standing
    first, second, third = (folder / key for key in cache.keys[:3])
    first.write_bytes(third.read_bytes())
    second.unlink()
    (folder / "new-1.jpg").write_bytes(third.read_bytes())
    (folder / "new-2.jpg").write_bytes(third.read_bytes())
    before = bytes_of(cache.path)
    with pytest.raises(mmcache.DifferentCacheError, match="2 added, 1 changed, 1 removed"):
        mmcache.build(folder, tmp_path / "out.mmc", size=30)
    assert bytes_of(cache.path) == before
    updated = mmcache.build(folder, tmp_path / "out.mmc", size=30, exist="update")
    mmcache.build(folder, tmp_path / "anew.mmc", size=30)
    assert bytes_of(updated.path) == bytes_of(tmp_path / "anew.mmc")
    assert names(tmp_path) == ["anew.mmc", "in", "out.mmc"]


@pytest.mark.parametrize("exist", ["resume", "update"])
def test_another_recipe_is_refused_and_its_setting_named(standing, tmp_path, exist):
    folder, cache = standing
    with pytest.raises(mmcache.DifferentCacheError, match=r"size=.30, 30.*asked for size=.31, 30"):
        mmcache.build(folder, tmp_path / "out.mmc", size=(31, 30), exist=exist)
    with pytest.raises(mmcache.DifferentCacheError, match=r"resample='bicubic'.*'box'"):
        mmcache.build(folder, tmp_path / "out.mmc", size=30, resample="box", exist=exist)
    assert mmcache.open(tmp_path / "out.mmc").fingerprint == cache.fingerprint


def test_exist_error_refuses_whatever_stands_there(standing, tmp_path):
    folder, _ = standing
    with pytest.raises(mmcache.DestinationError, match="exists"):
        mmcache.build(folder, tmp_path / "out.mmc", size=30, exist="error")


def test_overwrite_builds_anew_and_readers_keep_the_old_generation(standing, tmp_path):
    folder, old = standing
    pictures = [picture.copy() for picture in old]
    view = old[0]
    new = mmcache.build(folder, tmp_path / "out.mmc", size=20, mode="L", exist="overwrite")
    assert new.recipe == replace(old.recipe, size=20, mode="L", background=0)
    for kept, picture in zip(old, pictures, strict=True):
        assert np.array_equal(kept, picture)
    assert np.array_equal(view, pictures[0])
    assert mmcache.open(tmp_path / "out.mmc").fingerprint == new.fingerprint != old.fingerprint
    assert names(tmp_path) == ["in", "out.mmc"]


def test_a_cache_that_fails_to_be_overwritten_stays(standing, tmp_path):
    folder, cache = standing
    before = bytes_of(cache.path)
    for path in folder.rglob("0*"):
        path.write_text("no picture")
    with pytest.raises(mmcache.SourceError):
        mmcache.build(folder, tmp_path / "out.mmc", size=30, exist="overwrite")
    assert bytes_of(cache.path) == before
    assert names(tmp_path) == ["in", "out.mmc"]


# How it ends -----------------------------------------------------------------------------------


@pytest.mark.usefixtures("small_slabs")
def test_progress_is_told_of_pictures_and_of_none_while_headers_are_read(photos, tmp_path):
    told = []
    mmcache.build(photos, tmp_path / "out.mmc", progress=lambda *so_far: told.append(so_far))
    assert told == sorted(told)
    assert {total for _, total in told} == {26}
    assert told.count((0, 26)) > 3
    assert told.count((26, 26)) == 1
    assert len({done for done, _ in told}) > 3


def interrupting(call):
    """Return progress that is interrupted when it is told of for the *call*th time."""
    calls = []

    def interrupt(*so_far):
        calls.append(so_far)
        if len(calls) == call:
            raise KeyboardInterrupt

    return interrupt


@pytest.mark.parametrize("executor", ["serial", "threads", "processes"])
@pytest.mark.usefixtures("small_slabs")
def test_a_build_interrupted_before_anything_is_decoded_leaves_nothing(photos, tmp_path, executor):
    before = threading.active_count()
    with pytest.raises(KeyboardInterrupt):
        mmcache.build(
            photos, tmp_path / "out.mmc", executor=executor, workers=2, progress=interrupting(2)
        )
    assert listing(tmp_path) == []
    assert threading.active_count() == before


def test_nothing_is_left_beside_the_cache_and_nothing_is_written_elsewhere(
    photos, tmp_path, monkeypatch
):
    (tmp_path / "tmp").mkdir()
    (tmp_path / "out").mkdir()
    monkeypatch.setenv("TMPDIR", str(tmp_path / "tmp"))
    monkeypatch.setattr(tempfile, "tempdir", None)
    monkeypatch.setattr(tempfile, "mkstemp", None)
    before = listing(photos)
    for executor in ("threads", "processes"):
        mmcache.build(
            photos, tmp_path / "out" / f"{executor}.mmc", size=20, executor=executor, workers=2
        )
    assert listing(tmp_path / "tmp") == []
    assert names(tmp_path / "out") == ["processes.mmc", "threads.mmc"]
    assert listing(photos) == before


def test_two_builders_at_once_are_one_build_and_one_busy_error(photos, tmp_path):
    started, go_on = threading.Event(), threading.Event()

    def wait(*_):
        started.set()
        go_on.wait(30)

    with ThreadPoolExecutor(1) as pool:
        first = pool.submit(mmcache.build, photos, tmp_path / "out.mmc", size=20, progress=wait)
        assert started.wait(30)
        assert work_path(tmp_path / "out.mmc").exists()
        script = (
            "import sys, mmcache\n"
            "try:\n    mmcache.build(sys.argv[1], sys.argv[2], size=20)\n"
            "except mmcache.BusyError as error:\n    print(error)\n"
        )
        second = subprocess.run(
            [sys.executable, "-c", script, photos, tmp_path / "out.mmc"],
            capture_output=True, text=True, timeout=60, check=True,
        )  # fmt: skip
        with pytest.raises(mmcache.BusyError):  # in the same process too
            mmcache.build(photos, tmp_path / "out.mmc", size=20)
        go_on.set()
        cache = first.result()
    assert f"is being built by process {os.getpid()}: wait for it to end" in second.stdout
    assert len(cache) == 26
    assert names(tmp_path) == ["out.mmc"]


def test_what_a_killed_builder_left_is_cleared_by_the_next(photos, tmp_path):
    script = (
        "import os, signal, sys, mmcache\n"
        "def die(done, total):\n"
        "    if os.path.exists(sys.argv[3]): os.kill(os.getpid(), signal.SIGKILL)\n"
        "mmcache.build(sys.argv[1], sys.argv[2], size=20, progress=die)\n"
    )
    work = work_path(tmp_path / "out.mmc")
    killed = subprocess.run(
        [sys.executable, "-c", script, photos, tmp_path / "out.mmc", work / "begun/new/pixels.npy"],
        timeout=60, check=False,
    )  # fmt: skip
    assert killed.returncode == -9
    assert names(tmp_path) == [work.name]
    with pytest.raises(mmcache.CacheNotFoundError):
        mmcache.open(tmp_path / "out.mmc")
    cache = mmcache.build(photos, tmp_path / "out.mmc", size=20)
    mmcache.build(photos, tmp_path / "other.mmc", size=20)
    assert bytes_of(cache.path) == bytes_of(tmp_path / "other.mmc")
    assert names(tmp_path) == ["other.mmc", "out.mmc"]


def test_update_takes_in_a_picture_that_failed_and_was_mended(tmp_path):
    folder = paint_folder(tmp_path / "few", 4, longest=120, classes=False)
    broken = folder / "broken.jpg"
    whole = (folder / "00000.jpg").read_bytes()
    broken.write_bytes(whole[: len(whole) // 2])
    path = tmp_path / "out.mmc"
    with pytest.warns(mmcache.PicturesSkippedWarning):
        first = mmcache.build(folder, path, size=32, progress=False)
    again = mmcache.build(folder, path, size=32, exist="update", progress=False)
    assert again.fingerprint == first.fingerprint
    broken.write_bytes(whole)
    mended = mmcache.build(folder, path, size=32, exist="update", progress=False)
    assert "broken.jpg" in mended
    assert not mended.failures
