#!/usr/bin/env python3
"""Builds that are killed with ``kill -9``, at random times and at every call that changes the disk.

After each: what stands at the destination is whole, or nothing does; the same call goes on and
gives the very bytes of a build that was never killed, by however many workers; nothing is left.
"""

from __future__ import annotations

import random
import shutil
import signal
import sys
import time
from typing import TYPE_CHECKING

from trying import CALLS, NAMES, bytes_of, header, options_of, row, signalling, started, workplace

import mmcache

if TYPE_CHECKING:
    import subprocess
    from collections.abc import Iterator
    from pathlib import Path


def main(arguments: list[str] | None = None) -> int:
    """Print a table; exit status 1 where anything was lost, wrong or left."""
    options = options_of(__doc__, arguments, tries=100, more={"each": 20, "over": 50})
    bad = 0
    header("fault", "format", "tries", "killed", "whole already", "same bytes after", "bad")
    with workplace(options.pictures) as (photos, work):
        for store, name in NAMES.items():
            trial = Trial(photos, work / store, name, random.Random(options.seed))  # noqa: S311  # no secret
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

    def run(self, exist: str = "resume", before: str = "") -> subprocess.Popen[bytes]:
        """Start a builder of some kind."""
        return started(self.photos, self.out, self.chance, exist=exist, before=before)

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
            last = number + max(0, number - 10) ** 2
            yield self.run(before=signalling(call, last, signal.SIGKILL)).wait()

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
            good = there in (None, self.expected) or (overwriting and is_old(self.out))
            self.run("overwrite" if overwriting else "resume").wait()
            left = [path.name for path in self.out.parent.iterdir()]
            again = bytes_of(self.out) == self.expected and left == [self.out.name]
            same += again
            bad += not (good and again and (there is not None or not overwriting))
        store = mmcache.open(self.out).to_json()["format"]
        row(fault, store, tries, killed, whole, same, bad)
        return bad


def is_old(path: Path) -> bool:
    """Tell whether the cache that was to be overwritten is there, every byte of it."""
    small = mmcache.open(path).recipe.box == (64, 64)
    return small and mmcache.verify(path, progress=False).ok


if __name__ == "__main__":
    sys.exit(main())
