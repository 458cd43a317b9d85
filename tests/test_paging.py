"""What the system is told about pages, seen from outside: what is in memory, what is mapped."""

import os
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import mmcache
from mmcache.gathering import Located
from mmcache.paging import Pages, can_tell

linux = pytest.mark.skipif(sys.platform != "linux", reason="only Linux tells it in this way")

LENGTH = 64 << 20


def located(array, starts, lengths):
    count = len(starts)
    return Located(
        [array],
        None,
        np.array(starts, np.int64),
        np.ones(count, np.int64),
        np.array(lengths, np.int64),
        1,
        None,
        None,
    )


@pytest.fixture
def mapped(tmp_path):
    """A file of 64 MB that is on disk and not in memory, and a mapping of it."""
    path = tmp_path / "bytes"
    path.write_bytes(os.urandom(1 << 20) * (LENGTH >> 20))
    cold(path)
    return path, np.memmap(path, np.uint8, mode="r").view(np.ndarray)


def cold(path):
    """Have the system forget what it has of a file."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
        os.posix_fadvise(descriptor, 0, 0, os.POSIX_FADV_DONTNEED)
    finally:
        os.close(descriptor)


def is_cached(path, offset):
    """Ask for a byte that may not be read from the disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        return os.preadv(descriptor, [bytearray(1)], offset, os.RWF_NOWAIT) == 1
    except BlockingIOError:
        return False
    finally:
        os.close(descriptor)


def mapped_bytes(path):
    """Return how much of a file's mapping is in this process, as the system tells it."""
    inside, total = False, 0
    with Path("/proc/self/smaps").open(encoding="utf-8", errors="replace") as lines:
        for line in lines:
            if "-" in line.split(" ")[0]:
                inside = line.rstrip().endswith(str(path))
            elif inside and line.startswith("Rss:"):
                total += int(line.split()[1]) * 1024
    return total


def waited_for(condition, seconds=10):
    end = time.monotonic() + seconds
    while not condition() and time.monotonic() < end:
        time.sleep(0.01)
    return condition()


@linux
def test_what_is_wanted_is_read_and_the_rest_is_not(mapped):
    path, array = mapped
    if is_cached(path, 0):
        pytest.skip("this file system keeps everything in memory")
    pages = Pages([array])
    few = located(array, [5 << 20, 40 << 20, 41 << 20], [200_000, 300_000, 1])
    assert not pages.are_there(few)
    pages.want(few)
    offsets = [5 << 20, (5 << 20) + 199_999, (40 << 20) + 299_999, 41 << 20]
    assert waited_for(lambda: all(is_cached(path, offset) for offset in offsets))
    assert waited_for(lambda: pages.are_there(few))
    assert not is_cached(path, 20 << 20)
    assert mapped_bytes(path) == 0  # nothing was touched


@linux
def test_what_is_let_go_leaves_the_process_and_can_be_read_again(mapped):
    path, array = mapped
    pages = Pages([array])
    expected = array[: 32 << 20].sum(dtype=np.int64)
    assert mapped_bytes(path) >= 32 << 20
    pages.let_go(located(array, [0], [32 << 20]))
    assert mapped_bytes(path) < 1 << 20
    assert array[: 32 << 20].sum(dtype=np.int64) == expected


@given(
    st.lists(
        st.tuples(st.integers(0, 2), st.integers(0, (1 << 18) - 1), st.integers(1, 50_000)),
        max_size=30,
    ),
    st.sampled_from([0, 1 << 16]),
)
def test_stretches_hold_every_record_and_nothing_outside_its_own_file(records, margin):
    # Three files whose mappings lie side by side, as the system likes to lay them, and what is
    # between and behind them is somebody else's.
    page = os.sysconf("SC_PAGE_SIZE") if hasattr(os, "sysconf") else 4096
    memory = np.zeros(3 << 19, np.uint8)
    first = -memory.ctypes.data % page
    bounds = [(first, 1 << 18), (first + (1 << 18), 200_000), (first + (3 << 18), 1 << 18)]
    files = [memory[start : start + length] for start, length in bounds]
    records = [one for one in records if one[1] + one[2] <= files[one[0]].size]
    numbers, starts, lengths = (
        np.array([one[column] for one in records], np.int64) for column in range(3)
    )
    ones = np.ones(len(records), np.int64)
    where = Located(files, numbers, starts, ones, lengths, 1, None, None)
    covered = np.zeros(memory.size, bool)
    last = 0
    for start, length in Pages(files)._stretches(where, margin):
        place = start - memory.ctypes.data
        assert start % page == 0
        assert place >= last  # in order, none over another
        last = place + length
        inside = [a <= place and last <= a + size for a, size in bounds]
        assert any(inside)
        covered[place:last] = True
    for number, start, length in records:
        place = bounds[number][0] + start
        assert covered[place : place + length].all()


def test_a_system_that_cannot_be_told_reads_as_well(uniform, monkeypatch):
    monkeypatch.setattr("mmcache.paging._madvise", None)
    monkeypatch.setattr("mmcache.paging._mincore", None)
    assert not can_tell(uniform.path)
    rows = [row for batch in mmcache.Loader(uniform, 5) for row in batch.rows.tolist()]
    assert rows == list(range(24))


@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() == 0, reason="root may write to all")
def test_of_a_file_that_may_not_be_written_the_system_would_not_tell(tmp_path):
    path = tmp_path / "bytes"
    path.write_bytes(b"1")
    path.chmod(0o444)
    assert not can_tell(path)
