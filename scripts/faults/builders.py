#!/usr/bin/env python3
"""Builders of one destination at once, some of them killed, while somebody opens it all the time.

After each try: every builder that was not killed has built or opened the cache, or says which
process is building it, or which two recipes are at odds; readers saw no cache or a whole one; one
more call gives the very bytes of a build that was alone, and nothing is left, no process either.
"""

from __future__ import annotations

import os
import random
import re
import shutil
import signal
import subprocess
import sys
import threading
import time
from typing import TYPE_CHECKING, NamedTuple

from reading import watched
from trying import (
    NAMES,
    bytes_of,
    header,
    options_of,
    processes_of,
    row,
    started,
    workplace,
)

import mmcache
from mmcache.stores.publishing import work_path

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

SIZE, OTHER = 96, 64  # of the pictures, in two recipes
PATIENCE = 10.0  # seconds for the workers of a builder that was killed
NOBODY = 2**22 + 1  # no process has a larger number
SETTING = re.compile(r"\bsize=\(?(\d+)")


class Fault(NamedTuple):
    """Builders at once: of each its size, and what it does where a cache is."""

    name: str
    sizes: tuple[int, ...]
    exist: str = "resume"
    killed: float = 0.3  # of each builder, the chance
    orphans: bool = False  # whether they find workers of one that was killed just now
    lock: bool = False  # whether they find a lock that nobody has any more


# Every second try has twice as many.
FAULTS = (
    Fault("two or four at once", (SIZE, SIZE)),
    Fault("after a killed one", (SIZE, SIZE), orphans=True),
    Fault("and a stale lock", (SIZE, SIZE), killed=0, lock=True),
    Fault("of different recipes", (SIZE, OTHER)),
    Fault("that overwrite", (SIZE, OTHER), "overwrite"),
)


KINDS = ("done", "killed", "busy", "at odds")


class Ended(NamedTuple):
    """How a builder ended."""

    pid: int
    status: int
    said: str


def main(arguments: list[str] | None = None) -> int:
    """Print a table; exit status 1 where anything was lost, wrong, untrue or left."""
    options = options_of(__doc__, arguments, tries=20)
    bad = 0
    header("fault", "format", "tries", *KINDS, "bad")
    with workplace(options.pictures) as (photos, work):
        for store, name in NAMES.items():
            chance = random.Random(options.seed)  # noqa: S311  # no secret
            trial = Trial(photos, work / store, name, chance)
            for fault in FAULTS:
                bad += trial.row(fault, store, options.tries)
    return 1 if bad else 0


class Trial:
    """One format: a builder of each recipe that was alone, and many that were not."""

    def __init__(self, photos: Path, folder: Path, name: str, chance: random.Random) -> None:
        self.photos, self.out, self.chance = photos, folder / name, chance
        folder.mkdir()
        self.expected: dict[int, str] = {}
        self.fingerprints: list[str] = []
        for size in (OTHER, SIZE):
            begun = time.monotonic()
            self.last_call(size, "overwrite")
            self.took = time.monotonic() - begun
            self.expected[size] = bytes_of(self.out)
            self.fingerprints.append(mmcache.open(self.out).fingerprint)

    def builder(self, size: int, exist: str, **more: str) -> subprocess.Popen[str]:
        """Start a builder of some kind."""
        return started(
            self.photos, self.out, self.chance, size=size, exist=exist, **more,
            stderr=subprocess.PIPE, text=True, start_new_session=True,
        )  # fmt: skip

    def clear(self, fault: Fault) -> None:
        """Begin with nothing, with a cache to overwrite, or with a lock that nobody has."""
        if fault.exist != "overwrite":
            shutil.rmtree(self.out.parent)
            self.out.parent.mkdir()
        elif not self.out.exists():
            self.last_call(SIZE, fault.exist)
        if fault.lock:
            lock = work_path(self.out) / "lock"
            lock.parent.mkdir()
            # The number of a process that has ended may be another's by now.
            lock.write_text(f"{self.chance.choice([NOBODY, os.getpid()])}\n")

    def at_once(self, fault: Fault, number: int) -> list[Ended]:
        """Start builders together or soon after one another, and return how they ended."""
        builders, timers = [], []
        if fault.orphans:
            builders.append(self.builder(SIZE, fault.exist, executor="processes"))
            time.sleep(self.chance.uniform(0.5, 1.0) * self.took)
            builders[0].kill()
        for size in fault.sizes * (1 + number % 2):
            time.sleep(self.chance.choice([0.0, 0.01, self.took]) * self.chance.random())
            builders.append(self.builder(size, fault.exist))
            if self.chance.random() < fault.killed:
                when = self.chance.uniform(0.2, 1.2) * self.took
                timers.append(threading.Timer(when, builders[-1].kill))
                timers[-1].start()
        ended = [(one.pid, one.communicate()[1], one.returncode) for one in builders]
        for timer in timers:
            timer.cancel()
        return [Ended(pid, status, said) for pid, said, status in ended]

    def last_call(self, size: int, exist: str) -> str:
        """Call once more with nobody beside; return what went wrong."""
        with self.builder(size, exist) as last:
            return last.communicate()[1]

    def row(self, fault: Fault, store: str, tries: int) -> int:
        """Print what came of *tries* groups of builders, and return how often it was bad."""
        counts = dict.fromkeys(KINDS, 0)
        bad = 0
        for number in range(tries):
            self.clear(fault)
            absent = "never" if fault.exist == "overwrite" else "may be absent"
            with watched(self.out, self.fingerprints, absent) as seen:
                ended = self.at_once(fault, number)
                seen.extend(self.wrong(fault, ended))
                seen.extend(self.wrong_after(fault))
            pids = [one.pid for one in ended]
            for one in ended:
                kind = kind_of(one, pids, fault)
                counts[kind] = counts.get(kind, 0) + 1
                if kind not in KINDS:
                    seen.append(kind)
            if running := [pid for group in pids for pid in processes_of(group, PATIENCE)]:
                seen.append(f"processes {running} are left")
            bad += bool(seen)
            for what in seen:
                print(f"{fault.name}, {store}, try {number}: {what}", file=sys.stderr)
        row(fault.name, store, tries, *(counts[kind] for kind in KINDS), bad)
        return bad

    def wrong(self, fault: Fault, ended: list[Ended]) -> Iterator[str]:
        """Yield what is wrong with what stands at the destination."""
        there = bytes_of(self.out) if self.out.exists() else None
        statuses = {one.status for one in ended}
        must = 0 in statuses or fault.exist == "overwrite"
        if there not in self.expected.values() and (must or there is not None):
            yield "what stands at the destination is not whole"
        if not statuses & {0, -signal.SIGKILL}:
            yield "nobody was killed, and nobody could build"

    def wrong_after(self, fault: Fault) -> Iterator[str]:
        """Call once more, and yield what is wrong then."""
        size = self.chance.choice(fault.sizes)
        exist = "resume" if len({*fault.sizes}) == 1 else "overwrite"
        if complaint := self.last_call(size, exist):
            yield f"the last call ended so: {complaint}"
        elif bytes_of(self.out) != self.expected[size]:
            yield "the last call gave other bytes"
        if left := [path.name for path in self.out.parent.iterdir() if path != self.out]:
            yield f"{left} are left"


def kind_of(one: Ended, builders: list[int], fault: Fault) -> str:
    """Tell how a builder ended, of which only *builders* can be in the way; its end if not well."""
    if one.status == -signal.SIGKILL:
        return "killed"
    if (one.status, one.said) == (0, ""):
        return "done"
    busy = re.search(r"BusyError: .* is being built by process (\d+): wait for it", one.said)
    if busy and int(busy[1]) in builders:
        return "busy"
    named = {int(size) for size in SETTING.findall(one.said.partition("DifferentCacheError: ")[2])}
    if named == {*fault.sizes} and fault.exist == "resume":
        return "at odds"
    return f"a builder ended with {one.status}: {one.said}"


if __name__ == "__main__":
    sys.exit(main())
