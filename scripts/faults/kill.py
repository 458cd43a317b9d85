#!/usr/bin/env python3
"""Builds that are killed with ``kill -9``, at random times and at every call that changes the disk.

After each: what stands at the destination is whole, or nothing does; the same call goes on and
gives the very bytes of a build that was never killed, by however many workers; nothing is left.
"""

from __future__ import annotations

import argparse
import hashlib
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING

import mmcache
from mmcache.testing import paint_folder

if TYPE_CHECKING:
    from collections.abc import Iterator

NAMES = {"npy": "out.mmc", "hdf5": "out.h5", "zarr": "out.zarr"}
CALLS = ("pwrite", "fsync", "fdatasync", "ftruncate", "posix_fallocate", "rename", "unlink")

# A builder that notes what it did every few pictures, and dies at a given call.
BUILDER = """
import itertools, os, signal, sys
import mmcache
from mmcache import filling, layout
layout.SLAB, filling._CHECKPOINT = 1 << 18, 1 << 16
photos, out, executor, workers, exist, call, number = sys.argv[1:]
counter = itertools.count(1)
if call:
    real = getattr(os, call)
    def dying(*args, **kwargs):
        if next(counter) == int(number):
            os.kill(os.getpid(), signal.SIGKILL)
        return real(*args, **kwargs)
    setattr(os, call, dying)
mmcache.build(photos, out, size=96, executor=executor, workers=int(workers), exist=exist,
              progress=False)
"""


def main(arguments: list[str] | None = None) -> int:
    """Print a table; exit status 1 where anything was lost, wrong or left."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--tries", type=int, default=100, help="at random times (default: 100)")
    parser.add_argument("--each", type=int, default=20, help="a kind of call (default: 20)")
    parser.add_argument("--over", type=int, default=50, help="while overwriting (default: 50)")
    parser.add_argument("--pictures", type=int, default=120)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args(arguments)
    bad = 0
    print("| fault | format | tries | killed | whole already | gone on with, same bytes | bad |")
    print("|---|---|--:|--:|--:|--:|--:|", flush=True)
    with tempfile.TemporaryDirectory(prefix="mmcache-faults-") as name:
        work = Path(name)
        photos = paint_folder(work / "photos", options.pictures, longest=240)
        for store, out in NAMES.items():
            trial = Trial(photos, work / store, out, random.Random(options.seed))  # noqa: S311  # no secret
            bad += trial.row("at a random time", options.tries, trial.moments())
            for call in CALLS:
                bad += trial.row(f"at {call}", options.each, trial.calls(call, options.each))
            bad += trial.row("while overwriting", options.over, trial.moments("overwrite"))
    return 1 if bad else 0


class Trial:
    """One format: a build that was never killed, and many that were."""

    def __init__(self, photos: Path, folder: Path, name: str, chance: random.Random) -> None:
        folder.mkdir()
        self.photos, self.out, self.chance = photos, folder / name, chance
        begun = time.monotonic()
        self.run().wait()
        self.took = time.monotonic() - begun
        self.expected = bytes_of(self.out)

    def run(
        self, exist: str = "resume", call: str = "", number: int = 0
    ) -> subprocess.Popen[bytes]:
        """Start a builder of some kind."""
        executor = self.chance.choice(["serial", "threads", "processes"])
        workers = self.chance.choice([1, 2, 3])
        words = [self.photos, self.out, executor, workers, exist, call, number]
        return subprocess.Popen([sys.executable, "-c", BUILDER, *map(str, words)])

    def moments(self, exist: str = "resume") -> Iterator[int]:
        """Yield exit statuses of builders killed at random times."""
        while True:
            self.clear(exist)
            builder = self.run(exist)
            time.sleep(self.chance.uniform(0.2, 1.0) * self.took)
            builder.kill()
            yield builder.wait()

    def calls(self, call: str, tries: int) -> Iterator[int]:
        """Yield exit statuses of builders killed at the first, second, ... call of a kind."""
        for number in range(1, tries + 1):
            self.clear()
            # The first few one by one, then further and further on.
            yield self.run(call=call, number=number + max(0, number - 10) ** 2).wait()

    def clear(self, exist: str = "resume") -> None:
        """Begin with nothing, or with a good cache that is to be overwritten."""
        shutil.rmtree(self.out.parent)
        self.out.parent.mkdir()
        if exist == "overwrite":
            mmcache.build(self.photos, self.out, size=64, progress=False)

    def row(self, fault: str, tries: int, statuses: Iterator[int]) -> int:
        """Print what came of *tries* builders, and return how often it was bad."""
        killed = whole = same = bad = 0
        for _, status in zip(range(tries), statuses, strict=False):
            killed += status == -signal.SIGKILL
            overwriting = fault == "while overwriting"
            there = bytes_of(self.out) if self.out.exists() else None
            whole += there == self.expected
            good = there in (None, self.expected) or (overwriting and is_whole(self.out))
            self.run("overwrite" if overwriting else "resume").wait()
            left = [path.name for path in self.out.parent.iterdir()]
            again = bytes_of(self.out) == self.expected and left == [self.out.name]
            same += again
            bad += not (good and again and (there is not None or not overwriting))
        store = mmcache.open(self.out).to_json()["format"]
        print(f"| {fault} | {store} | {tries} | {killed} | {whole} | {same} | {bad} |", flush=True)
        return bad


def is_whole(path: Path) -> bool:
    """Tell whether the cache that was to be overwritten is there, every picture of it."""
    cache = mmcache.open(path)
    return cache.recipe.box == (64, 64) and all(picture.size for picture in cache)


def bytes_of(path: Path) -> str:
    """Return a digest of all files of a cache and their names."""
    digest = hashlib.sha256()
    for file in [path] if path.is_file() else sorted(path.rglob("*")):
        if file.is_file():
            digest.update(b"%s\0" % str(file.relative_to(path)).encode() + file.read_bytes())
    return digest.hexdigest()


if __name__ == "__main__":
    sys.exit(main())
