#!/usr/bin/env python3
"""What reading costs: pictures, batches and keys of a warm cache, and opening ten million rows.

The large cache has a real index and pixels that were never written: a file of holes.
"""

from __future__ import annotations

import json
import random
import subprocess
import sys
from typing import TYPE_CHECKING, Any

import numpy as np
from measuring import median, options_of, ratio, table, take_turns, workplace

import mmcache
import mmcache.cache
from mmcache.records import COLUMNS, HEIGHT, OFFSET
from mmcache.stores.frame import ArrayFrame, FileFrame, Frame, Segment
from mmcache.stores.npy import PAGE, NpyStore, npy_header

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from numpy.typing import NDArray

EDGE = 32  # of the large cache's pictures
FEW = 1000  # rows of the cache that the large one is compared with
DIGITS = 9  # of a generated key


def main(arguments: list[str] | None = None) -> int:
    """Print the tables."""
    options = options_of(
        __doc__, arguments, rounds=15, size=256, rows=10_000_000, reads=20_000, opens=11
    )
    with workplace(options) as (photos, work):
        cache = mmcache.build(photos, work / "photos.mmc", size=options.size, progress=False)
        print(f"## Reading pictures: {len(cache):,} pictures to {options.size}, warm\n")
        print(pictures(cache, options.reads, options.rounds), end="\n\n")
        even = mmcache.build(photos, work / "even.mmc", size=224, resize="crop", progress=False)
        print("## Many at once: the same pictures cropped to 224\n")
        print(many(even, options.rounds), end="\n\n")
        del cache, even
        few, large = work / "few.mmc", work / "large.mmc"
        generated(few, FEW)
        generated(large, options.rows)
        print(f"## Opening {options.rows:,} rows, each time in a fresh process\n")
        print(opening({FEW: few, options.rows: large}, options.opens))
    return 0


# Pictures ----------------------------------------------------------------------------------------


def pictures(cache: mmcache.Cache, reads: int, rounds: int) -> str:
    """Compare ``cache[i]`` with a bare loop over lists, at the same random rows."""
    rows = random.Random(1).choices(range(len(cache)), k=reads)  # noqa: S311  # not for secrets
    shuffled = cache[random.Random(2).sample(range(len(cache)), len(cache))]  # noqa: S311
    names = cache.keys
    keys = [names[row] for row in rows]
    passes = max(1, reads // len(cache))
    for picture in cache:
        picture.sum()  # warm: every page is mapped
    taken = take_turns(
        {
            "bare loop over lists": _bare(cache.path, rows),
            "`cache[i]`": lambda: _indexed(cache, rows),
            "`cache[i]`, the files' sizes asked every time": lambda: _looking(cache, rows),
            "`cache[::-1][i]`": lambda reverse=cache[::-1]: _indexed(reverse, rows),
            "`cache[[3, 1, 2]][i]`": lambda: _indexed(shuffled, rows),
            "`for picture in cache`": lambda: [None for _ in range(passes) for _ in cache],
            "`cache[key]`": lambda: _indexed(cache, keys),
        },
        rounds,
    )
    counts = dict.fromkeys(taken, reads) | {"`for picture in cache`": passes * len(cache)}
    times = {name: [one.clock / counts[name] for one in each] for name, each in taken.items()}
    base = times["bare loop over lists"]
    return table(
        ("a picture by", "us", "times the bare loop"),
        (
            (name, f"{median(each) * 1e6:.2f}", f"{ratio(each, base):.2f}")
            for name, each in times.items()
        ),
    )


def _bare(path: Path, rows: list[int]) -> Callable[[], None]:
    records = np.load(path / "records.npy")
    offsets = records[:, OFFSET].tolist()
    shapes = [tuple(shape) for shape in records[:, HEIGHT:].tolist()]
    flat = np.load(path / "pixels.npy", mmap_mode="r").view(np.ndarray).reshape(-1)

    def loop() -> None:
        for row in rows:
            start = offsets[row]
            height, width, channels = shapes[row]
            flat[start : start + height * width * channels].reshape(height, width, channels)

    return loop


def _indexed(cache: mmcache.Cache, rows: list[Any]) -> None:
    for row in rows:
        cache[row]


def _looking(cache: mmcache.Cache, rows: list[int]) -> None:
    """Read as a loop does that is slow enough for the files to be looked at every time."""
    usual = mmcache.cache._LOOK_AGAIN  # noqa: SLF001  # the least time between looks, in seconds
    mmcache.cache._LOOK_AGAIN = -1.0  # noqa: SLF001
    try:
        _indexed(cache, rows)
    finally:
        mmcache.cache._LOOK_AGAIN = usual  # noqa: SLF001


def many(cache: mmcache.Cache, rounds: int) -> str:
    """Time arrays of many pictures, beside what numpy needs for them."""
    size = min(256, len(cache))
    rows = random.Random(3).sample(range(len(cache)), size)  # noqa: S311
    whole = np.load(cache.path / "pixels.npy", mmap_mode="r").view(np.ndarray)
    whole.sum(dtype=np.int64)
    taken = take_turns(
        {
            f"`np.stack` of {size} views, bare numpy": lambda: np.stack([whole[i] for i in rows]),
            f"`cache.batch` of {size}": lambda: cache.batch(rows),
            "`np.asarray(cache)`, a view": lambda: np.asarray(cache),
            "`cache[rows]`, a narrower cache": lambda: cache[rows],
            "`cache[10:100]`": lambda: cache[10:100],
        },
        rounds,
    )
    base = [one.clock for one in next(iter(taken.values()))]
    return table(
        ("what", "us", "times `np.stack`"),
        (
            (
                name,
                f"{median(one.clock for one in each) * 1e6:.0f}",
                f"{ratio([one.clock for one in each], base):.2f}",
            )
            for name, each in taken.items()
        ),
    )


# Ten million rows --------------------------------------------------------------------------------

# Memory is counted after one round of the same work, so that what Python loads once is not in it.
PROBE = """
import json, random, sys, time
import mmcache, mmcache.cache

def anonymous():
    with open("/proc/self/smaps_rollup") as file:
        return sum(int(line.split()[1]) for line in file if line.startswith("Anonymous:"))

few, path, digits = sys.argv[1], sys.argv[2], int(sys.argv[3])
open_cache = mmcache.open
if sys.argv[4] == "memory":
    warm = open_cache(few)
    warm[0], warm["0" * digits + ".jpg"]
    anonymous()
    before = anonymous()
started = time.perf_counter()
cache = open_cache(path)
opened = time.perf_counter() - started
picked = random.Random(4)
rows = [picked.randrange(len(cache)) for _ in range(2000)]
for row in rows:
    cache[row]
keys = [f"{row:0{digits}}.jpg" for row in rows]
lookups = []
for _ in range(2):  # the second time round the index is warm
    lookups = []
    for key in keys:
        started = time.perf_counter()
        cache[key]
        lookups.append(time.perf_counter() - started)
private = anonymous() - before if sys.argv[4] == "memory" else 0
print(json.dumps({"opened": opened, "lookup": sorted(lookups)[1000],
                  "slowest": sorted(lookups)[1980], "private": private}))
"""


def opening(caches: dict[int, Path], opens: int) -> str:
    """Open each cache in fresh processes that take turns."""
    seen: dict[int, list[dict[str, float]]] = {rows: [] for rows in caches}
    for _ in range(opens):
        for rows, path in caches.items():
            timed, counted = (_probed(caches[FEW], path, what) for what in ("time", "memory"))
            seen[rows].append(timed | {"private": counted["private"]})
    return table(
        ("", *(f"{rows:,} rows" for rows in caches)),
        [
            (title, *(f"{median(one[name] for one in seen[rows]) * scale:.{digits}f}"
                      for rows in caches))
            for title, name, scale, digits in (
                ("opening, ms", "opened", 1e3, 2),
                ("a picture by its key, us, warm, median", "lookup", 1e6, 1),
                ("the same, 99th of a hundred, us", "slowest", 1e6, 1),
                ("private memory of opening, 2,000 rows and 2,000 keys, kB", "private", 1, 0),
            )
        ],
    )  # fmt: skip


def _probed(few: Path, path: Path, what: str) -> dict[str, float]:
    command = [sys.executable, "-c", PROBE, few, path, str(DIGITS), what]
    answer: dict[str, float] = json.loads(subprocess.check_output(command))
    return answer


def generated(path: Path, rows: int, edge: int = EDGE) -> None:
    """Write a cache of *rows* squares whose index is whole and whose pixels are holes."""
    recipe = mmcache.Recipe(size=edge, resize="crop")
    store = NpyStore()
    path.mkdir()
    shape = (rows, edge, edge, 3)
    length = rows * edge * edge * 3
    with (path / "pixels.npy").open("wb") as file:
        file.write(npy_header(recipe.dtype, shape))
        file.truncate(PAGE + length)
    arrays = _index(rows, edge)
    segments = store.write_arrays(path, arrays)
    frames = {
        name: ArrayFrame(array.dtype.str, array.shape, tuple(segments[name]), "")
        for name, array in arrays.items()
    }
    pixels = Segment("pixels.npy", PAGE, length)
    frames["pixels"] = ArrayFrame(recipe.dtype.str, shape, (pixels,))
    segment_of = {name: frame.segments[0] for name, frame in frames.items()}
    store.write_frame(
        path,
        Frame(
            store=store.name,
            recipe=recipe.to_json(),
            libraries={},
            counts={"rows": rows, "failures": 0, "pixel_bytes": length},
            classes=(),
            slab=length,
            arrays=frames,
            # Opening looks at lengths; the digests are for `verify`, which this cache never meets.
            files={one.file: FileFrame(one.offset + one.length, "") for one in segment_of.values()},
            content="generated",
        ),
    )


def _index(rows: int, edge: int) -> dict[str, NDArray[Any]]:
    records = np.empty((rows, 4), "<i8")
    records[:, OFFSET] = np.arange(rows) * (edge * edge * 3)
    records[:, HEIGHT:] = edge, edge, 3
    first = np.frombuffer(b"0" * DIGITS + b".jpg", np.uint8)
    keys = np.tile(first, (rows, 1))
    number = np.arange(rows)
    for place in reversed(range(DIGITS)):
        keys[:, place] += (number % 10).astype(np.uint8)
        number //= 10
    none: NDArray[Any] = np.empty(0, np.uint8)
    return {
        "records": records,
        "checksums": np.zeros(rows, "<u4"),
        "keys": keys.reshape(-1),
        "key_offsets": np.arange(rows + 1, dtype="<i8") * len(first),
        **{name: np.ones(rows, dtype) for name, dtype in COLUMNS.items()},
        "failure_keys": none,
        "failure_key_offsets": np.zeros(1, "<i8"),
        "failure_stages": none,
        "failure_reasons": none,
        "failure_reason_offsets": np.zeros(1, "<i8"),
    }


if __name__ == "__main__":
    sys.exit(main())
