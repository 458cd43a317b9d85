#!/usr/bin/env python3
"""Would many cores be kept busy? What one picture costs beside decoding, and who does it.

Workers sleep as long as decoding takes, so that there can be more of them than cores; they read,
sum up and write as ever. What they reach is compared with what arithmetic says.
"""

from __future__ import annotations

import contextlib
import heapq
import io
import os
import sys
import time
from concurrent.futures import Executor, ThreadPoolExecutor
from typing import TYPE_CHECKING, NamedTuple

import google_crc32c
import numpy as np
from bench_memory import linked
from measuring import median, options_of, table, workplace
from sleeping import Sleeping, asleep, decoded_asleep

import mmcache
from mmcache import tasks
from mmcache.filling import Filling, Shares
from mmcache.limits import limits_of
from mmcache.progress import Shown
from mmcache.stores import store_for
from mmcache.stores.payload import opened, write_at
from mmcache.stores.publishing import Work
from mmcache.workers import ProcessExecutor, SerialExecutor

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from mmcache.planning import Plan

WEB, CAMERA = 0.0014, 0.040  # seconds to decode and resize a web photo, and one of 12 megapixels
SMALL = 64  # of the records in the simulation: no disk takes what 64 cores would write
GIANT = 48_000_000  # pixels
GIANT_SECONDS = 0.5


def main(arguments: list[str] | None = None) -> int:
    """Print the tables."""
    options = options_of(__doc__, arguments, pictures=300, workers=64, size=256, rounds=5)
    with workplace(options) as (photos, work):
        files = [photos / key for key in mmcache.Folder(photos).listing().keys]
        folder = linked(
            _copied(files, work / "few"), work / "many", options.workers * options.pictures
        )
        print(f"## What a picture costs beside decoding: {len(files):,} to {options.size}\n")
        costs = worker_costs(photos, work, options.size, options.rounds)
        costs |= coordinator_costs(folder, work, options.rounds)
        print(table(("part", "us a picture"), [(n, f"{v * 1e6:.1f}") for n, v in costs.items()]))
        print("\n## How many cores each part can keep busy\n")
        print(limits(costs), end="\n\n")
        for name, seconds, each in (
            ("web photos", WEB, options.pictures),
            ("12 MP photos", CAMERA, max(1, options.pictures // 20)),
        ):
            print(f"## Simulated: {name}, {seconds * 1e3:g} ms each\n")
            print(simulated(folder, work, seconds, each, options.workers), end="\n\n")
        print("## How long the last worker keeps the others waiting\n")
        print(ends())
    return 0


def _copied(files: list[Path], folder: Path, most: int = 1000) -> list[Path]:
    """Copy the first files to where they can be linked."""
    folder.mkdir()
    for number, file in enumerate(files[:most]):
        (folder / str(number)).write_bytes(file.read_bytes())
    return list(folder.iterdir())


# What a picture costs ----------------------------------------------------------------------------


class Run(NamedTuple):
    """What it took to fill a cache, in seconds a picture."""

    clock: float
    processor: float  # of this process
    coordinator: float  # of the thread that hands out the work


class _Timed(Filling):
    """Filling of which the decoding is timed; *count* pictures are decoded."""

    count = 0
    run = Run(0, 0, 0)

    def _decode(self, *args: object) -> None:
        self.done.there[self.count :] = True
        clocks = time.perf_counter, time.process_time, time.thread_time
        begun = [clock() for clock in clocks]
        super()._decode(*args)  # type: ignore[arg-type]
        self.run = Run(*((clock() - at) / self.count for clock, at in zip(clocks, begun)))  # noqa: B905


def filled(plan: Plan, work: Path, pool: Executor, workers: int, count: int) -> Run:
    """Fill a cache with the first *count* pictures of a plan, and remove it."""
    where = work / "filled.mmc"
    source = mmcache.sources.from_json(plan.source)
    with Work(where) as unfinished:
        filling = _Timed(
            plan, source, store_for(where, None), unfinished, on_error="raise", limits=limits_of()
        )
        filling.count = count
        filling.prepare()
        filling.fill(pool, workers, Shown(), "building")
        unfinished.begun.clear()
    return filling.run


def worker_costs(photos: Path, work: Path, size: int, rounds: int) -> dict[str, float]:
    """Return the processor seconds a picture of what a worker does, the median of some rounds."""
    plan = mmcache.plan(photos, size=size, progress=False)
    source = mmcache.sources.from_json(plan.source)
    paths = [source._path(plan.keys.raw(row)) for row in range(len(plan))]  # noqa: SLF001  # as it does
    encoded = [_read(path) for path in paths]
    sizes = _sizes(plan)
    record = np.zeros(int(np.prod(plan.shapes.mean(axis=0))), np.uint8)
    pieces: dict[str, Callable[[int], object]] = {
        "worker: read the file": lambda row: _read(paths[row]),
        "worker: checksums": lambda row: (
            google_crc32c.value(encoded[row]),
            google_crc32c.value(record),
        ),
        "worker: write the record": lambda row: write_at(descriptor, record, row * record.nbytes),
        "worker: decoding, with Python's lock": lambda row: decoded_asleep(
            io.BytesIO(encoded[row]), plan.recipe, sizes[row]
        ),
    }
    timed: dict[str, list[float]] = {name: [] for name in [*pieces, "worker: all but decoding"]}
    with opened(work / "written", os.O_RDWR | os.O_CREAT) as descriptor:
        for _ in range(rounds):
            os.ftruncate(descriptor, 0)
            os.posix_fallocate(descriptor, 0, record.nbytes * len(plan))
            for name, piece in pieces.items():
                begun = time.thread_time()
                for row in range(len(plan)):
                    piece(row)
                timed[name].append((time.thread_time() - begun) / len(plan))
            timed["worker: all but decoding"].append(_worker_seconds(plan, work))
    (work / "written").unlink()
    costs = {name: median(each) for name, each in timed.items()}
    released = sum(costs[name] for name in list(pieces)[:3])
    costs["worker: Python, with its lock"] = max(0.0, costs["worker: all but decoding"] - released)
    costs["disk: a record of the mean size"] = _disk_seconds(work, record.nbytes)
    return costs


def coordinator_costs(folder: Path, work: Path, rounds: int) -> dict[str, float]:
    """Return the processor seconds a picture of who plans and hands out the work."""
    begun = time.thread_time()
    plan = mmcache.plan(folder, size=SMALL, progress=False)
    header = (time.thread_time() - begun) / len(plan)
    threads, processes = [], []
    for _ in range(rounds):
        with ThreadPoolExecutor(2) as pool:
            run = filled(plan, work, Sleeping(pool, 0, idle=True), 2, len(plan))
            threads.append(run.coordinator)
        with _processes(2) as pool:
            run = filled(plan, work, Sleeping(pool, 0, idle=True), 2, len(plan))
            processes.append(run.processor)
    return {
        "coordinator: headers, by one thread": header,
        "coordinator of threads": median(threads),
        "coordinator of processes": median(processes),
    }


def _sizes(plan: Plan) -> list[mmcache.Size]:
    heights, widths = (plan.columns[edge].tolist() for edge in ("height", "width"))
    return [mmcache.Size(*size) for size in zip(heights, widths, strict=True)]


def _read(path: bytes) -> bytes:
    """Read a file by the bare system calls that it takes."""
    os.stat(path)  # noqa: PTH116  # as a source does: pathlib has no bytes
    with opened(path, os.O_RDONLY) as descriptor:
        return os.read(descriptor, os.fstat(descriptor).st_size)


def _worker_seconds(plan: Plan, work: Path) -> float:
    """Return what a worker takes a picture, when decoding takes nothing."""
    records = {
        size: (np.zeros(shape, np.uint8), 0)
        for size, shape in zip(_sizes(plan), plan.shapes.tolist(), strict=True)
    }
    took = 0.0

    class Timing(SerialExecutor):
        def submit(self, fn: Callable[..., object], /, *args: object, **_: object) -> object:
            nonlocal took
            begun = time.thread_time()
            future = super().submit(fn, *args)
            took += time.thread_time() - begun
            return future

    decode = tasks.decode_flagged
    tasks.decode_flagged = lambda *_, expected, **__: records[expected]
    try:
        filled(plan, work, Timing(), 1, len(plan))
    finally:
        tasks.decode_flagged = decode
    return took / len(plan)


def _disk_seconds(work: Path, nbytes: int, total: int = 128 << 20) -> float:
    """Return how long the disk takes for a record."""
    piece = os.urandom(1 << 20)
    begun = time.perf_counter()
    with opened(work / "through", os.O_RDWR | os.O_CREAT) as descriptor:
        for place in range(0, total, len(piece)):
            write_at(descriptor, piece, place)
        os.fsync(descriptor)
    took = time.perf_counter() - begun
    (work / "through").unlink()
    return took / total * nbytes


def limits(costs: dict[str, float]) -> str:
    """Say how many pictures a second each part allows, and how many cores decode as many."""
    lock = (
        costs["worker: Python, with its lock"]
        + costs["worker: decoding, with Python's lock"]
        + costs["coordinator of threads"]
    )
    parts = {
        "Python's lock, of one process with threads": lock,
        "the coordinator of worker processes": costs["coordinator of processes"],
        "this disk, for records as large": costs["disk: a record of the mean size"],
        "headers read by one thread": costs["coordinator: headers, by one thread"],
    }
    return table(
        ("part", "us a picture", "pictures/s", "cores, web photos", "cores, 12 MP"),
        (
            (
                name,
                f"{cost * 1e6:.0f}",
                f"{1 / cost:,.0f}",
                f"{WEB / cost:,.0f}",
                f"{CAMERA / cost:,.0f}",
            )
            for name, cost in parts.items()
        ),
    )


# Many workers ------------------------------------------------------------------------------------


@contextlib.contextmanager
def _processes(workers: int) -> Iterator[ProcessExecutor]:
    """Give worker processes that have begun, and have imported what they need."""
    with ProcessExecutor(workers) as pool:
        # As long as that, so that no worker is called twice.
        for call in [pool.submit(asleep, 0.2) for _ in range(workers)]:
            call.result()
        yield pool


def simulated(folder: Path, work: Path, seconds: float, each: int, most: int) -> str:
    """Say what more and more workers reach, of which each has as much to do."""
    plan = mmcache.plan(folder, size=SMALL, progress=False)
    ones: list[float] = []
    rows: list[list[object]] = []
    workers = 1
    while workers <= most:
        count = workers * each
        with ThreadPoolExecutor(workers) as threads:
            runs = [filled(plan, work, Sleeping(threads, seconds), workers, count)]
        with _processes(workers) as processes:
            for idle in (False, True):
                pool = Sleeping(processes, seconds, idle=idle)
                runs.append(filled(plan, work, pool, workers, count))
        speeds = [1 / run.clock for run in runs]
        ones = ones or speeds
        rows.append([workers])
        for speed, one in zip(speeds, ones, strict=True):
            rows[-1] += [f"{speed:,.0f}", f"{speed / one:.1f}"]
        workers *= 2
    return table(
        (
            "workers", "threads, pictures/s", "times one", "processes, pictures/s", "times one",
            "processes that only sleep", "times one",
        ),
        rows,
    )  # fmt: skip


# The end of the work -----------------------------------------------------------------------------


def ends() -> str:
    """Say how much longer than the ideal the work takes, by who is handed what in which order."""
    rng = np.random.default_rng(1)
    rows = []
    for workers in (2, 8, 64):
        for where, giants in (
            ("anywhere", rng.permutation(10_000)[:20]),
            ("at the end", np.arange(9_995, 10_000)),
        ):
            pixels = np.full(10_000, 500 * 375)
            pixels[giants] = GIANT
            took = np.where(pixels == GIANT, GIANT_SECONDS, WEB)
            ideal = max(took.sum() / workers, took.max())
            rows.append(
                (
                    f"{len(giants)} of 48 MP {where}, {workers} workers",
                    f"{ideal:.2f}",
                    f"{_ends(_in_order(len(pixels)), took, workers) / ideal:.3f}",
                    f"{_ends(_by_shares(pixels, workers), took, workers) / ideal:.3f}",
                )
            )
    head = ("10,000 web photos", "ideal, s", "in the order of rows, times", "as mmcache does")
    return table(head, rows)


def _in_order(count: int) -> Iterator[range]:
    """Yield spans of eight rows, whatever they are."""
    return (range(start, min(start + 8, count)) for start in range(0, count, 8))


def _by_shares(pixels: np.ndarray, workers: int) -> Iterator[range]:
    shares = Shares(pixels, workers)
    for row in np.flatnonzero(pixels > shares.heavy).tolist():
        yield range(row, row + 1)
    light = np.where(pixels > shares.heavy, 0, pixels)
    yield from shares.spans(range(len(pixels)), light.tolist())


def _ends(spans: Iterator[range], took: np.ndarray, workers: int) -> float:
    """Return when the last worker is done, if whoever is free takes the next span."""
    free = [0.0] * workers
    for span in spans:
        heapq.heappush(free, heapq.heappop(free) + float(took[span.start : span.stop].sum()))
    return max(free)


if __name__ == "__main__":
    sys.exit(main())
