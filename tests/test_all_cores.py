"""No core waits for another at the end, for memory that another needs, or for a slow disk."""

from __future__ import annotations

import heapq
import io
import os
import threading
import time

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import mmcache
from mmcache import filling, tasks
from mmcache.filling import Shares
from mmcache.sources import Encoded, ahead
from mmcache.testing import paint, paint_folder
from mmcache.workers import executor_of, results

WEB, PHONE = 500 * 375, 8000 * 6000
PIXELS = st.lists(
    st.one_of(st.just(0), st.integers(1, 300_000), st.integers(1, 60_000_000)), min_size=1
)


def cut(pixels, workers):
    """Return what is handed out, in order: the rows of each span."""
    pixels = np.array(pixels, np.int64)
    shares = Shares(pixels, workers)
    heavy = pixels > shares.heavy
    alone = [range(row, row + 1) for row in np.flatnonzero(heavy).tolist()]
    rest = np.where(heavy, 0, pixels).tolist()
    return alone, list(shares.spans(range(len(rest)), rest))


def ends(pixels, spans, workers):
    """Return when each span ends if whoever is free takes the next, a pixel a unit of time."""
    free = [0] * workers
    done = []
    for span in spans:
        done.append(heapq.heappop(free) + sum(pixels[span.start : span.stop]))
        heapq.heappush(free, done[-1])
    return done


# The order of the work ---------------------------------------------------------------------------


@given(PIXELS, st.integers(1, 70))
def test_every_picture_is_handed_out_once_and_files_are_written_from_end_to_end(pixels, workers):
    heavy, spans = cut(pixels, workers)
    rows = [row for span in [*heavy, *spans] for row in span]
    assert sorted(rows) == [row for row, count in enumerate(pixels) if count]
    assert spans == sorted(spans, key=lambda span: span.start)
    for span in spans:
        assert len(span) == 1 or sum(pixels[span.start : span.stop]) <= filling._SPAN_PIXELS
        assert len(span) <= filling._SPAN_ROWS


@given(PIXELS, st.integers(1, 70))
def test_the_work_takes_at_most_a_quarter_more_than_the_ideal_unless_one_picture_does(
    pixels, workers
):
    heavy, spans = cut(pixels, workers)
    done = ends(pixels, [*heavy, *spans], workers)
    ideal = sum(pixels) / workers
    last_heavy = max(done[: len(heavy)], default=0)
    assert max(done, default=0) <= max(last_heavy, 1.25 * ideal)


@pytest.mark.parametrize("workers", [2, 8, 64])
def test_a_giant_at_the_end_of_many_photos_leaves_nobody_idle(workers):
    pixels = [WEB] * 20_000
    pixels[-3:] = [PHONE] * 3
    heavy, spans = cut(pixels, workers)
    ideal = sum(pixels) / workers
    assert max(ends(pixels, [*heavy, *spans], workers)) < 1.01 * ideal
    in_order = [range(row, row + 1) for row in range(len(pixels))]
    assert max(ends(pixels, in_order, workers)) > 1.01 * ideal or workers == 2


def test_large_pictures_come_first_and_the_bytes_are_those_of_any_order(tmp_path, monkeypatch):
    folder = paint_folder(tmp_path / "photos", 40, longest=60)
    large = ["circles/00017.png", "zz.png"]
    for name in large:
        paint(mmcache.Size(600, 700)).save(folder / name)
    monkeypatch.setattr(filling, "_SPAN_PIXELS", 1 << 16)
    seen = []
    make = filling.make_records

    def noted(pictures):
        seen.append([key.decode() for key in pictures.keys])
        return make(pictures)

    monkeypatch.setattr(filling, "make_records", noted)
    caches = [mmcache.build(folder, tmp_path / "0.mmc", size=48, executor="serial")]
    assert seen[:2] == [[name] for name in large]
    rest = [key for keys in seen[2:] for key in keys]
    assert rest == [key for key in caches[0].keys if key not in large]
    monkeypatch.undo()
    for executor, workers in (("threads", 3), ("processes", 2)):
        path = tmp_path / f"{executor}.mmc"
        caches.append(mmcache.build(folder, path, size=48, executor=executor, workers=workers))
    assert len({cache.fingerprint for cache in caches}) == 1


# Memory ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("heavy", [[6, 6], [2, 9]])
def test_what_is_light_passes_what_waits_for_memory_and_leaves_it_the_room(heavy):
    lock, now, most, begun = threading.Lock(), [0], [0], []

    def work(weight):
        with lock:
            begun.append(weight)
            now[0] += weight
            most[0] = max(most[0], now[0])
        time.sleep(0.01 * weight)
        with lock:
            now[0] -= weight
        return weight

    with executor_of("threads", 4) as pool:
        done = list(
            results(pool, work, [1] * 60, 4, before=heavy, weigh=lambda weight: weight, most=10)
        )
    assert sorted(done) == [1] * 60 + heavy
    assert most[0] <= 10
    second = [place for place, weight in enumerate(begun) if weight > 1][1]
    assert 1 in begun[:second]  # they passed it
    assert 1 in begun[second:]  # and it did not wait for them all


# A slow disk -------------------------------------------------------------------------------------


class SlowDisk(mmcache.Folder):
    """A folder whose files come to memory some time after they are asked for or read."""

    seconds = 0.01

    def __init__(self, path):
        super().__init__(path)
        self.there = {}  # of each file, by its number in the file system: from when on
        self.waits = 0

    def describe(self):
        return None

    def open(self, key):
        encoded = super().open(key)
        return Encoded(SlowFile(encoded.file, self), encoded.size, encoded.mtime_ns)

    def asked(self, descriptor, *_):
        self.there.setdefault(os.fstat(descriptor).st_ino, time.monotonic() + self.seconds)

    def is_there(self, file, _size=0):
        return self.there.get(os.fstat(file.fileno()).st_ino, float("inf")) <= time.monotonic()


class SlowFile(io.BytesIO):
    """A file of such a disk."""

    def __init__(self, file, disk):
        with file:
            super().__init__(file.read())
            self._descriptor = os.dup(file.fileno())
        self._disk = disk

    def fileno(self):
        return self._descriptor

    def read(self, size=-1):
        if size < 0 and not self._disk.is_there(self):  # as a whole, and not its header
            self._disk.waits += 1
            time.sleep(self._disk.seconds)
            self._disk.asked(self._descriptor)
        return super().read(size)

    def close(self):
        if not self.closed:
            os.close(self._descriptor)
        super().close()


@pytest.fixture(scope="module")
def photos(tmp_path_factory):
    return paint_folder(tmp_path_factory.mktemp("source") / "photos", 300, longest=40)


@pytest.mark.skipif(ahead._WANTED is None, reason="the system cannot be told what is wanted")
def test_on_a_slow_disk_most_files_are_there_before_a_worker_wants_them(
    photos, tmp_path, monkeypatch
):
    decode = tasks.decode_flagged

    def slowly(*args, **kwargs):
        time.sleep(0.005)
        return decode(*args, **kwargs)

    monkeypatch.setattr(tasks, "decode_flagged", slowly)
    expected = mmcache.build(photos, tmp_path / "fast.mmc", size=32)
    waits = {}
    for name, wanted in (("told", ahead._WANTED), ("not told", None)):
        disk = SlowDisk(photos)
        monkeypatch.setattr(ahead, "_WANTED", wanted)
        monkeypatch.setattr(ahead.os, "posix_fadvise", disk.asked)
        monkeypatch.setattr(tasks, "is_in_memory", disk.is_there)
        cache = mmcache.build(disk, tmp_path / f"{name}.mmc", size=32, workers=2)
        assert cache.fingerprint == expected.fingerprint
        waits[name] = disk.waits
    assert waits["not told"] == 300
    assert waits["told"] < 150


def test_nobody_is_told_of_files_that_are_in_memory(photos, tmp_path, monkeypatch):
    told = []
    monkeypatch.setattr(ahead.os, "posix_fadvise", lambda *args: told.append(args), raising=False)
    mmcache.build(photos, tmp_path / "out.mmc", size=32, workers=2)
    assert told == []


def test_a_source_that_has_no_files_is_read_as_ever(photos, tmp_path, monkeypatch):
    class InMemory(mmcache.Folder):
        def describe(self):
            return None

        def open(self, key):
            with super().open(key) as encoded:
                data = encoded.file.read()
            return Encoded(io.BytesIO(data), encoded.size, encoded.mtime_ns)

    monkeypatch.setattr(ahead, "_WORTH", -1)  # as if everybody waited
    expected = mmcache.build(photos, tmp_path / "folder.mmc", size=32)
    cache = mmcache.build(InMemory(photos), tmp_path / "memory.mmc", size=32, workers=2)
    assert cache.fingerprint == expected.fingerprint
