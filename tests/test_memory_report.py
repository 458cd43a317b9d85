"""The memory report: private memory and pages of files are told apart, and each is what it is."""

import dataclasses
import json
import mmap
import os
import shutil
import sys
import time
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import mmcache
from mmcache import memory
from mmcache.memory import (
    Looked,
    MemoryReport,
    ProcessMemory,
    pages_of,
    process_memory,
    resident_bytes,
    scattered,
)
from mmcache.stores.mapping import Mapping

MB = 1 << 20
NEAR = 2 * MB  # what the interpreter does beside, and pages that the system brings with others
LARGE = 48 * MB

linux = pytest.mark.skipif(sys.platform != "linux", reason="only Linux tells")


def has_cachestat():
    try:
        with Path(__file__).open("rb") as file:
            memory._cachestat(file.fileno(), 0, 1)
    except OSError:
        return False
    return True


@pytest.fixture
def large(tmp_path):
    """A file whose bytes are on disk, and all in memory."""
    path = tmp_path / "large"
    with path.open("wb") as file:
        file.write(bytes(LARGE))
        os.fsync(file.fileno())
    path.read_bytes()
    return path


def mapped(path):
    with path.open("rb") as file:
        return mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)


def forget(path):
    """Have the system drop what it keeps of a file."""
    with path.open("rb") as file:
        os.fsync(file.fileno())
        os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)


def looked(path, one, **how):
    with path.open("rb") as file:
        return pages_of(one, file.fileno(), time.perf_counter() + 60, mine=True, **how)


def by_mincore(one, **how):
    return pages_of(one, None, time.perf_counter() + 60, **({"mine": True} | how))


# The process --------------------------------------------------------------------------------------


@linux
def test_what_is_allocated_is_private_and_no_page_of_a_file():
    flags = mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS
    memory_of_its_own = mmap.mmap(-1, LARGE, flags)  # which no allocator has had before
    before = process_memory()
    np.frombuffer(memory_of_its_own, np.uint8)[:] = 1
    after = process_memory()
    assert after.private - before.private == pytest.approx(LARGE, abs=NEAR)
    assert after.files - before.files == pytest.approx(0, abs=NEAR)


@linux
def test_what_is_touched_of_a_mapping_is_pages_of_a_file_and_not_private(large):
    one = mapped(large)
    before, untouched = process_memory(), resident_bytes([one])
    assert untouched < NEAR
    np.frombuffer(one, np.uint8, LARGE // 2).sum()
    after = process_memory()
    assert after.private - before.private == pytest.approx(0, abs=NEAR)
    # A file on a file system that is memory alone is shared memory to the system.
    risen = after.files + after.shared - before.files - before.shared
    assert risen == pytest.approx(LARGE // 2, abs=NEAR)
    assert resident_bytes([one]) - untouched == pytest.approx(LARGE // 2, abs=NEAR)


@linux
def test_memory_that_processes_share_is_shared():
    before = process_memory()
    with mmap.mmap(-1, LARGE) as one:
        one.write(bytes(LARGE))
        after = process_memory()
    assert after.shared - before.shared == pytest.approx(LARGE, abs=NEAR)
    assert after.private - before.private == pytest.approx(0, abs=NEAR)


@linux
def test_resident_bytes_are_those_of_the_mappings_that_are_asked_for(large):
    first, other = mapped(large), mapped(large)
    np.frombuffer(other, np.uint8).sum()
    assert resident_bytes([first]) < NEAR
    assert resident_bytes([first, other]) == pytest.approx(LARGE, abs=NEAR)
    assert resident_bytes([]) == 0
    large.unlink()  # its path is gone, and its pages are there
    assert resident_bytes([other]) == LARGE


@pytest.mark.parametrize("text", [None, "", "Rss:\n", "VmRSS: 1 kB\n", "0-1 r\nRss: x kB\n"])
def test_where_proc_is_missing_or_says_something_else_nothing_is_told(
    text, uniform, tmp_path, monkeypatch
):
    for name in ("_STATUS", "_SMAPS", "_MEMINFO", "_MOUNTS"):
        if text is not None:
            (tmp_path / name).write_text(text)
        monkeypatch.setattr(memory, name, tmp_path / name)
    assert process_memory() is None
    assert memory.free_memory() > 0
    assert "process" not in repr(uniform)
    uniform._repr_html_()
    told = json.loads(json.dumps(uniform.to_json()))["memory"]
    assert told["process"] is None
    if text is None or "Rss" in text:
        assert told["resident"] is None


# The page cache -----------------------------------------------------------------------------------


def of_page_cache(test):
    return linux(pytest.mark.parametrize("way", ["cachestat", "mincore"])(test))


def look(way, large, one):
    if way == "cachestat" and not has_cachestat():
        pytest.skip("the kernel has no cachestat")
    return looked(large, one) if way == "cachestat" else by_mincore(one)


@of_page_cache
def test_a_file_that_was_read_is_in_the_page_cache_until_it_is_forgotten(way, large, monkeypatch):
    for name in ("_STAT_PIECE", "_CORE_PIECE"):
        monkeypatch.setattr(memory, name, MB)
    one = mapped(large)
    assert look(way, large, one) == (LARGE, LARGE)
    if memory.is_memory_alone(large.stat().st_dev):
        pytest.skip("the file has no other place than memory")
    forget(large)
    assert look(way, large, one).cached < LARGE // 10
    with large.open("rb") as file:
        os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_RANDOM)  # no more than is read
        file.seek(LARGE // 2)
        file.read(LARGE // 4)
    assert look(way, large, one).cached == pytest.approx(LARGE // 4, abs=LARGE // 10)


@of_page_cache
@pytest.mark.parametrize("length", [1, 4095, 4096, 4097, 5 * MB + 3])
def test_a_page_that_the_file_does_not_fill_counts_as_far_as_it_does(way, length, tmp_path):
    path = tmp_path / "file"
    path.write_bytes(bytes(length))
    assert look(way, path, mapped(path)) == (length, length)


@linux
def test_of_a_file_of_somebody_else_mincore_is_not_believed(large):
    one = mapped(large)
    assert by_mincore(one, mine=False) is None
    assert by_mincore(one, mine=True) == (LARGE, LARGE)


@linux
def test_where_a_system_has_neither_call_nothing_is_told(uniform, monkeypatch):
    def lacking(*_):
        raise OSError("there is no such call here")

    monkeypatch.setattr(memory, "_cachestat", lacking)
    assert uniform._memory().looked is not None
    monkeypatch.setattr(memory, "_mincore", lacking)
    assert uniform._memory().looked is None
    assert "how much of its files is in memory, this system does not tell" in repr(uniform)
    assert uniform.to_json()["memory"]["cached"] is None


@given(st.integers(0, 3000))
def test_scattered_numbers_are_each_there_once(count):
    assert sorted(scattered(count)) == list(range(count))


@given(st.integers(40, 3000), st.integers(10, 40))
def test_the_first_scattered_numbers_lie_all_over(count, first):
    numbers = [number for number, _ in zip(scattered(count), range(first), strict=False)]
    ends = sorted([-1, *numbers, count])
    assert max(b - a for a, b in pairwise(ends)) <= 1 + 5 * count / first


@given(st.integers(1, 500), st.integers(1, 60), st.integers(1, 30))
def test_when_the_time_is_over_what_was_looked_at_is_told(length, piece, most):
    asked = []

    def cached(start, size):
        asked.append((start, size))
        if len(asked) >= most:
            times.append(1.0)
        return size

    times = [0.0]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(memory, "perf_counter", lambda: times[-1])
        found = memory._looked(cached, length, piece, 0.5)
    pieces = -(-length // piece)
    assert len(asked) == len(set(asked)) == min(most, pieces)
    assert found == (sum(size for _, size in asked), length)
    assert (found.at == length) == (most >= pieces)


# The cache ----------------------------------------------------------------------------------------


@linux
def test_a_caches_pages_rise_with_what_is_read_of_it(uniform, tmp_path):
    cache = mmcache.open(shutil.copytree(uniform.path, tmp_path / "copy.mmc"))
    untouched = cache.to_json()["memory"]["resident"]
    sum(int(picture.sum()) for picture in cache)
    told = cache.to_json()["memory"]
    assert told["resident"] - untouched >= cache.nbytes - (untouched + 2 * mmap.PAGESIZE)
    assert told["resident"] <= told["files"] + 64 * mmap.PAGESIZE
    assert told["files"] == sum(
        frame.length for name, frame in cache.files.frame.files.items() if name in cache.files._maps
    )
    assert (told["cached"], told["exact"]) == (told["files"], True)


@linux
def test_a_cache_that_was_deleted_or_replaced_is_told_by_its_mapping(uniform, tmp_path):
    path = shutil.copytree(uniform.path, tmp_path / "copy.mmc")
    cache = mmcache.open(path)
    sum(int(picture.sum()) for picture in cache)
    whole = cache.to_json()["memory"]
    shutil.rmtree(path)
    assert cache.to_json()["memory"]["cached"] == whole["cached"]
    shutil.copytree(uniform.path, path)
    again = cache.to_json()["memory"]
    assert again["cached"] == whole["cached"]
    assert again["resident"] == whole["resident"]


def test_a_caches_own_memory_is_its_rows_and_what_finds_keys_among_them(uniform):
    assert uniform._memory().own == uniform[3:9]._memory().own == 0
    part = uniform[[5, 3, 9]]
    assert part._memory().own == 3 * 8
    assert part.keys[0] in part
    assert part._memory().own == 3 * 8 + 2 * 3 * 8


@linux
def test_the_repr_and_info_tell_private_memory_and_files_apart(uniform, capsys):
    from mmcache.cli import main  # noqa: PLC0415

    main(["info", str(uniform.path)])
    for text in (repr(uniform), uniform._repr_html_(), capsys.readouterr().out):
        assert "0 bytes of its own; " in text
        assert "of its files are in memory, " in text
        assert "private; " in text
        assert "are pages of files, which are the system" in text


@linux
def test_on_a_file_system_that_is_memory_alone_pages_are_not_said_to_go(uniform):
    shared = Path("/dev/shm")
    mounts = [line.split()[1:3] for line in Path("/proc/mounts").read_text().splitlines()]
    if [str(shared), "tmpfs"] not in mounts:
        pytest.skip("there is no /dev/shm")
    path = shared / f"mmcache-test-{os.getpid()}.mmc"
    try:
        cache = mmcache.open(shutil.copytree(uniform.path, path))
        assert "of its files are in memory, where they lie and stay" in repr(cache)
    finally:
        shutil.rmtree(path, ignore_errors=True)


def test_what_was_only_looked_at_in_part_is_said_to_be_about():
    report = MemoryReport(1000, 10_000, Looked(100, 5000), lasting=False, process=None)
    (row,) = report.rows()
    assert row[0] == "memory"
    assert row[1].startswith("1.0 kB of its own; about 5.0 kB of its files are in memory, which ")
    told = report._replace(process=ProcessMemory(1, 2, 3)).to_json()
    assert told == {
        "own": 1000,
        "files": 10_000,
        "cached": 5000,
        "exact": False,
        "process": {"private": 1, "files": 2, "shared": 3},
    }


def sparse(cache, folder, length):
    """Copy a cache and make its pixels *length* bytes, of which the file system has few."""
    path = shutil.copytree(cache.path, folder / "sparse.mmc")
    frame = cache.files.frame
    pixels = frame.arrays["pixels"]
    (segment,) = pixels.segments
    try:
        os.truncate(path / segment.file, segment.offset + length)
    except OSError as error:
        pytest.skip(f"the file system has no files so long: {error}")
    longer = dataclasses.replace(pixels, segments=(segment._replace(length=length),))
    file = dataclasses.replace(frame.files[segment.file], length=segment.offset + length)
    frame = dataclasses.replace(
        frame,
        arrays=frame.arrays | {"pixels": longer},
        files=frame.files | {segment.file: file},
    )
    return mmcache.Cache(Mapping(path, frame))


@linux
@pytest.mark.parametrize("way", ["cachestat", "mincore"])
def test_the_repr_of_a_sparse_cache_of_200_gb_is_quick(uniform, tmp_path, monkeypatch, way):
    if way == "mincore":

        def none(*_):
            raise OSError("there is no such call here")

        monkeypatch.setattr(memory, "_cachestat", none)
    cache = sparse(uniform, tmp_path, 200_000_000_000)
    took = []
    for _ in range(20):
        began = time.perf_counter()
        text = repr(cache)
        took.append(time.perf_counter() - began)
    # The quickest, since a machine that is busy is not slow.
    assert min(took) < 0.010
    assert ("about " in text) == (way == "mincore")
    assert cache._memory().looked.cached < 1000 * MB


def test_the_memory_of_a_group_of_processes_counts_and_of_those_above_it(tmp_path, monkeypatch):
    root, mine = tmp_path / "groups", tmp_path / "mine"
    monkeypatch.setattr(memory, "_GROUPS", root)
    monkeypatch.setattr(memory, "_MY_GROUPS", mine)
    (root / "memory" / "jobs" / "one").mkdir(parents=True)
    (root / "user" / "app").mkdir(parents=True)
    alone = memory.machine_memory()
    mine.write_text("3:cpu,cpuacct:/x\n4:memory:/jobs/one\n0::/user/app\n")
    assert memory.machine_memory() == alone
    for file, limit in (
        (root / "memory" / "memory.limit_in_bytes", 9 << 20),
        (root / "memory" / "jobs" / "memory.limit_in_bytes", 8 << 20),
        (root / "memory" / "jobs" / "one" / "memory.limit_in_bytes", 7 << 20),
        (root / "user" / "memory.max", 6 << 20),
        (root / "user" / "app" / "memory.max", 5 << 20),
        (root / "memory.max", 4 << 20),
    ):
        file.write_text(f"{limit}\n")
        assert memory.machine_memory() == limit
    mine.write_text("4:memory:/jobs/another\n")
    (root / "memory.max").write_text("max\n")
    assert memory.machine_memory() == 8 << 20
