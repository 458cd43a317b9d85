"""What the system is told about pages, seen from outside: what is in memory, what is mapped."""

import contextlib
import os
import sys
import time
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import mmcache
from mmcache import paging
from mmcache.gathering import Located
from mmcache.paging import Pages
from mmcache.stores.frame import Segment

LINUX = sys.platform == "linux"
linux = pytest.mark.skipif(not LINUX, reason="only Linux tells it in this way")

LENGTH = 64 << 20


def located(array, starts, lengths, numbers=None):
    ones = np.ones(len(starts), np.int64)
    return Located(
        array if isinstance(array, list) else [array],
        None if numbers is None else np.array(numbers, np.int64),
        np.array(starts, np.int64),
        ones,
        np.array(lengths, np.int64),
        1,
        None,
        None,
    )


def descriptors():
    return set(Path("/proc/self/fd").iterdir())


class Files:
    """What Pages needs of a cache's files."""

    def __init__(self, *paths, offset=0):
        segments = [Segment(str(path), offset, path.stat().st_size - offset) for path in paths]
        self.frame = SimpleNamespace(arrays={"pixels": SimpleNamespace(segments=segments)})

    @contextlib.contextmanager
    def reopened(self, name):
        descriptor = os.open(name, os.O_RDONLY)
        try:
            yield descriptor
        finally:
            os.close(descriptor)


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
    pages = Pages(Files(path))
    few = located(array, [5 << 20, 40 << 20, 41 << 20], [200_000, 300_000, 1])
    assert not pages.are_there(few)
    pages.want(few)
    offsets = [5 << 20, (5 << 20) + 199_999, (40 << 20) + 299_999, 41 << 20]
    assert waited_for(lambda: all(is_cached(path, offset) for offset in offsets))
    assert waited_for(lambda: pages.are_there(few))
    assert not is_cached(path, 20 << 20)
    assert mapped_bytes(path) == 0  # nothing was touched


@linux
def test_what_is_done_with_is_forgotten(mapped):
    path, array = mapped
    pages = Pages(Files(path))
    few = located(array, [1 << 20, 40 << 20], [1 << 20, 2 << 20])
    pages.want(few)
    assert waited_for(lambda: pages.are_there(few))
    pages.done_with(few)
    assert not is_cached(path, (1 << 20) + 5000)
    assert not is_cached(path, (41 << 20) + 5000)


@linux
def test_what_is_read_past_the_mapping_is_what_the_mapping_has_and_maps_nothing(mapped):
    path, array = mapped
    few = located(array, [5, 40 << 20, 41 << 20, 5], [200_001, 300_000, 1, 7])
    room = np.zeros(1 << 20, np.uint8)
    read = Pages(Files(path)).read(few, room)
    assert mapped_bytes(path) == 0
    expected = list(few.flat())
    assert all(np.array_equal(a, b) for a, b in zip(read.flat(), expected, strict=True))
    assert all(np.shares_memory(one, room) for one in read.flat())


@given(
    st.lists(
        st.tuples(st.integers(0, 2), st.integers(0, (1 << 18) - 1), st.integers(1, 50_000)),
        max_size=30,
    ),
    st.integers(0, 9000),
)
def test_stretches_hold_every_record_of_their_file_and_lie_apart(records, offset):
    segments = [Segment(str(number), offset, 1 << 18) for number in range(3)]
    files = SimpleNamespace(
        frame=SimpleNamespace(arrays={"pixels": SimpleNamespace(segments=segments)})
    )
    numbers, starts, lengths = ([one[column] for one in records] for column in range(3))
    arrays = [np.zeros(1, np.uint8)] * 3
    covered = [np.zeros(1 << 19, bool) for _ in range(3)]
    last = (-1, 0)
    for number, start, length in Pages(files)._stretches(located(arrays, starts, lengths, numbers)):
        assert (number, start) > last
        last = number, start + length
        covered[number][start : start + length] = True
    for number, start, length in records:
        assert covered[number][offset + start : offset + start + length].all()
    # Nothing is asked for but records and what lies between two that are near each other.
    assert sum(one.sum() for one in covered) <= sum(lengths) + len(records) * (64 << 10)


def test_a_file_that_cannot_be_opened_again_is_read_from_its_mapping(mapped):
    path, array = mapped

    class Gone(Files):
        @contextlib.contextmanager
        def reopened(self, name):  # noqa: ARG002  # as of a cache that was replaced
            yield None

        def check_segment(self, name, number):
            assert (name, number) == ("pixels", 0)

    pages = Pages(Gone(path))
    few = located(array, [77, 1 << 20], [1000, 2000])
    assert pages.are_there(few)  # so that nothing is asked for in vain
    pages.want(few)
    read = pages.read(few, np.zeros(5000, np.uint8))
    assert all(np.array_equal(a, b) for a, b in zip(read.flat(), few.flat(), strict=True))


def test_files_are_opened_once_when_needed_and_closed_in_the_end(mapped):
    path, array = mapped
    before = descriptors() if LINUX else None
    pages = Pages(Files(path))
    few = located(array, [77], [1000])
    for _ in range(3):
        pages.want(few)
        pages.are_there(few)
    if LINUX:
        assert len(descriptors() - before) == 1
    del pages
    if LINUX:
        assert descriptors() == before


def test_a_system_that_cannot_be_told_reads_as_well(uniform, monkeypatch):
    for name in ("_WANTED", "_DONE", "_SCATTERED", "_NO_WAIT"):
        monkeypatch.setattr(paging, name, None)
    rows = [row for batch in mmcache.Loader(uniform, 5) for row in batch.rows.tolist()]
    assert rows == list(range(24))
