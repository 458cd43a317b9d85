#!/usr/bin/env python3
"""How fast a build is beside a bare loop that decodes and resizes, and throws the pixels away.

Everything of the build counts: listing, headers, checksums, flushing, publishing.
"""

from __future__ import annotations

import contextlib
import functools
import io
import itertools
import os
import shutil
import sys
import threading
import time
from collections import defaultdict
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

import google_crc32c
import numpy as np
from measuring import Spent, median, options_of, ratio, table, take_turns, workplace
from PIL import Image, ImageOps

import mmcache
from mmcache import filling, ingest, planning, tasks
from mmcache.images import decode
from mmcache.stores.journal import Journal
from mmcache.stores.payload import Flusher
from mmcache.stores.publishing import Work

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path


def main(arguments: list[str] | None = None) -> int:
    """Print the tables."""
    options = options_of(__doc__, arguments, rounds=7, size=256)
    with workplace(options) as (photos, work):
        listing = mmcache.Folder(photos).listing()
        paths = [photos / key for key in listing.keys]
        recipe = mmcache.Recipe(size=options.size)
        names = (work / f"{number}.mmc" for number in itertools.count())

        def build(executor: str, workers: int) -> None:
            mmcache.build(
                photos, next(names), size=options.size, executor=executor, workers=workers,
                progress=False,
            )  # fmt: skip

        def bare(workers: int) -> None:
            each = functools.partial(_decoded, recipe=recipe)
            if workers == 1:
                for path in paths:
                    each(path)
                return
            with ThreadPoolExecutor(workers) as pool:
                for _ in pool.map(each, paths, chunksize=1):
                    pass

        contenders: dict[str, Callable[[], object]] = {
            "bare loop, 1 thread": lambda: bare(1),
            "build, serial": lambda: build("serial", 1),
            "build, 1 thread": lambda: build("threads", 1),
            "bare loop, 2 threads": lambda: bare(2),
            "build, 2 threads": lambda: build("threads", 2),
            "build, 2 processes": lambda: build("processes", 2),
            "plain Pillow, 1 thread": lambda: [_by_pillow(path, options.size) for path in paths],
        }
        bare(1)  # the files are read once, so that no contender reads them first
        build("serial", 1)
        _emptied(work)
        taken = take_turns(contenders, options.rounds, after=lambda: _emptied(work))
        print(f"## Build speed: {len(paths):,} pictures to {options.size}\n")
        print(_compared(taken, len(paths)), end="\n\n")
        print("## What checksums, flushes and the journal cost\n")
        builds = {
            f"{name}{careless}": functools.partial(run, functools.partial(build, executor, workers))
            for name, executor, workers in (("serial", "serial", 1), ("2 threads", "threads", 2))
            for careless, run in (("", _as_it_is), (", careless", _careless))
        }
        taken = take_turns(builds, options.rounds, after=lambda: _emptied(work))
        print(_costs(taken), end="\n\n")
        for title, pieces, executor in (
            ("a serial build", PIECES, "serial"),
            ("a build with 2 threads", STAGES, "threads"),
        ):
            print(f"## Where {title} spends its time\n")
            taken = _watched_builds(
                lambda name=executor: build(name, 2), pieces, options.rounds, work
            )
            print(_shares(taken, len(paths)), end="\n\n")
    return 0


def _decoded(path: Path, recipe: mmcache.Recipe) -> None:
    decode(io.BytesIO(path.read_bytes()), recipe)


def _by_pillow(path: Path, size: int) -> None:
    """Do what a page of any tutorial does: no scaled decode, no checks."""
    with Image.open(path) as image:
        upright = ImageOps.exif_transpose(image).convert("RGB")
        if max(upright.size) > size:
            upright = ImageOps.contain(upright, (size, size), Image.Resampling.BICUBIC)
        np.asarray(upright)


def _emptied(work: Path) -> None:
    for path in work.iterdir():
        shutil.rmtree(path)
    os.sync()  # nobody writes what another left


# Against the bare loop ---------------------------------------------------------------------------


def _compared(taken: dict[str, list[Spent]], count: int) -> str:
    rows = []
    for name, rounds in taken.items():
        against = taken["bare loop, 2 threads" if " 2 " in name else "bare loop, 1 thread"]
        clock, processor = zip(*rounds, strict=True)
        bare_clock, bare_processor = zip(*against, strict=True)
        rows.append(
            (
                name,
                f"{count / median(clock):.0f}",
                f"{median(processor) / count * 1e3:.2f}",
                f"{ratio(bare_clock, clock):.0%}",
                f"{ratio(bare_processor, processor):.0%}",
                f"{min(bare_clock) / min(clock):.0%}",
            )
        )
    return table(
        (
            "contender",
            "pictures/s",
            "processor ms a picture",
            "of the bare loop, clock",
            "of it, processor",
            "of it, fastest rounds",
        ),
        rows,
    )


# Without checksums and flushes -------------------------------------------------------------------


def _as_it_is(build: Callable[[], object]) -> None:
    build()


def _careless(build: Callable[[], object]) -> None:
    """Build, and neither sum what is read and written, nor wait for the disk, nor note anything."""
    nothing: tuple[tuple[Any, str, Callable[..., object]], ...] = (
        (google_crc32c, "value", lambda *_: 0),
        (Flusher, "_sync", lambda *_: None),
        (Journal, "_write", lambda *_: None),
        (os, "fsync", lambda *_: None),
    )
    kept = [getattr(where, name) for where, name, _ in nothing]
    try:
        for where, name, instead in nothing:
            setattr(where, name, instead)
        build()
    finally:
        for (where, name, _), was in zip(nothing, kept, strict=True):
            setattr(where, name, was)


def _costs(taken: dict[str, list[Spent]]) -> str:
    rows = []
    for name in [name for name in taken if ", careless" not in name]:
        whole, careless = taken[name], taken[f"{name}, careless"]
        each = (zip(*some, strict=True) for some in (whole, careless))
        (clock, processor), (careless_clock, careless_processor) = each
        rows.append(
            (
                name,
                f"{ratio(clock, careless_clock):.3f}",
                f"{ratio(processor, careless_processor):.3f}",
                f"{min(clock) / min(careless_clock):.3f}",
            )
        )
    head = ("build", "of a careless one, clock", "of it, processor", "of it, fastest rounds")
    return table(head, rows)


# Piece by piece ----------------------------------------------------------------------------------

Piece = tuple[Any, str, str]
"""Where a function is looked up, its name there, and what it is called in the table."""

AROUND: tuple[Piece, ...] = (
    (mmcache.Folder, "listing", "list the folder"),
    (planning, "survey", "read the headers"),
    (filling.Filling, "finish", "write the index and the frame"),
    (Work, "publish", "publish"),
    (ingest, "open_cache", "open the cache"),
)
STAGES = (*AROUND, (filling.Filling, "fill", "decode, resize and write"))
PIECES = (
    *AROUND,
    (tasks, "_encoded", "read the files"),
    (tasks, "decode_flagged", "decode and resize"),
    (tasks, "write_at", "write the records"),
    (google_crc32c, "value", "checksums"),
    (Flusher, "__exit__", "wait for the last flush"),
)


def _watched_builds(
    build: Callable[[], object], pieces: tuple[Piece, ...], rounds: int, work: Path
) -> dict[str, list[Spent]]:
    """Build *rounds* times, and time the pieces in the thread that called for the build."""
    taken: dict[str, list[Spent]] = defaultdict(list)
    for _ in range(rounds):
        with _watched(pieces) as watched:
            whole = _spent_here(build)
        for name, piece in watched.items():
            taken[name].append(piece)
        clock, processor = (sum(part) for part in zip(*watched.values(), strict=True))
        taken["everything else"].append(Spent(whole.clock - clock, whole.processor - processor))
        taken["in all"].append(whole)
        _emptied(work)
    return taken


@contextlib.contextmanager
def _watched(pieces: tuple[Piece, ...]) -> Iterator[dict[str, Spent]]:
    here = threading.get_ident()
    watched = {name: Spent(0, 0) for _, _, name in pieces}

    def timed(function: Callable[..., Any], name: str) -> Callable[..., Any]:
        @functools.wraps(function)
        def call(*args: Any, **kwargs: Any) -> Any:
            if threading.get_ident() != here:
                return function(*args, **kwargs)
            answer = []
            spent = _spent_here(lambda: answer.append(function(*args, **kwargs)))
            watched[name] = Spent(*map(sum, zip(watched[name], spent, strict=True)))
            return answer[0]

        return call

    with contextlib.ExitStack() as stack:
        for owner, attribute, name in pieces:
            original = getattr(owner, attribute)
            stack.callback(setattr, owner, attribute, original)
            setattr(owner, attribute, timed(original, name))
        yield watched


def _spent_here(work: Callable[[], object]) -> Spent:
    clock, processor = time.perf_counter(), time.thread_time()
    work()
    return Spent(time.perf_counter() - clock, time.thread_time() - processor)


def _shares(taken: dict[str, list[Spent]], count: int) -> str:
    whole = [one.clock for one in taken["in all"]]
    return table(
        ("piece", "us a picture, clock", "this thread's processor", "of the build"),
        (
            (
                name,
                f"{median(one.clock for one in each) / count * 1e6:.0f}",
                f"{median(one.processor for one in each) / count * 1e6:.0f}",
                f"{ratio([one.clock for one in each], whole):.1%}",
            )
            for name, each in taken.items()
        ),
    )


if __name__ == "__main__":
    sys.exit(main())
