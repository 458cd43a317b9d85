#!/usr/bin/env python3
"""Builds stopped by Ctrl-C or SIGTERM, at random times of their life and at calls to the disk.

Ctrl-C goes to the whole process group, as a terminal sends it, SIGTERM to the builder alone. After
each: it ended soon, without a traceback, and said in one line what is true of the disk; no process
of it is left; what stands at the destination is whole, or nothing does; the same command gives the
very bytes of a build that was never stopped, and nothing else is left.
"""

from __future__ import annotations

import contextlib
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from typing import TYPE_CHECKING, NamedTuple

from ending import STATUS, Ended, wrong_with
from trying import (
    CALLS,
    NAMES,
    bytes_of,
    header,
    options_of,
    processes_of,
    row,
    signalling,
    workplace,
)

import mmcache

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

COMMAND = "import sys; from mmcache.__main__ import run; sys.exit(run())"

# A script that is stopped, and builds after all.
SCRIPT = """
import sys
import h5py, zarr  # interrupted, imports cannot be done again
import mmcache
photos, out, _, workers, _, executor = sys.argv[2:8]
def build():
    mmcache.build(photos, out, size=96, workers=int(workers), executor=executor, progress=False)
try:
    print("begun", flush=True)
    build()
except KeyboardInterrupt as stop:
    print("mmcache: interrupted", *stop.args, file=sys.stderr)
    build()
    sys.exit(130)
"""


class Fault(NamedTuple):
    """What a builder is stopped by, how often, and at what."""

    name: str
    signal: signal.Signals = signal.SIGINT
    times: int = 1
    exist: str = "resume"
    script: bool = False


FAULTS = (
    Fault("Ctrl-C"),
    Fault("SIGTERM", signal.SIGTERM),
    Fault("Ctrl-C twice", times=2),
    Fault("SIGINT at a call", times=0),
    Fault("SIGTERM at a call", signal.SIGTERM, times=0),
    Fault("Ctrl-C while updating", exist="update"),
    Fault("Ctrl-C while overwriting", exist="overwrite"),
    Fault("Ctrl-C in a script", script=True),
)


def main(arguments: list[str] | None = None) -> int:
    """Print a table; exit status 1 where anything was lost, wrong, untrue or left."""
    options = options_of(__doc__, arguments, tries=20, more={"pictures": 400})
    bad = 0
    header("fault", "format", "tries", "stopped", "kept", "not in mmcache", "after the end", "bad")
    with workplace(options.pictures) as (photos, work):
        for store, name in NAMES.items():
            chance = random.Random(options.seed)  # noqa: S311  # no secret
            trial = Trial(photos, work / store, name, chance)
            for fault in FAULTS:
                bad += trial.row(fault, store, options.tries)
    return 1 if bad else 0


class Trial:
    """One format: a build that was never stopped, and many that were."""

    def __init__(self, photos: Path, folder: Path, name: str, chance: random.Random) -> None:
        folder.mkdir()
        self.photos, self.out, self.chance = photos, folder / name, chance
        self.older = folder.with_name(f"older-{name}")
        fewer = shutil.ignore_patterns("*7.jpg")
        some = shutil.copytree(photos, folder.with_name(f"some-{name}"), ignore=fewer)
        mmcache.build(some, self.older, size=96, progress=False)
        begun = time.monotonic()
        self.done(FAULTS[0])
        self.took = time.monotonic() - begun
        self.expected = bytes_of(self.out)

    def command(self, fault: Fault, *start: str) -> list[str]:
        """Return a command with some executor."""
        executor, workers = self.chance.choice(["serial", "threads", "processes"]), "2"
        words = ["build", self.photos, self.out, "--workers", workers, "--executor", executor]
        more = ["--size", "96", "--exist", fault.exist]
        return [sys.executable, *start, *map(str, words), *more]

    def done(self, fault: Fault) -> str:
        """Run a command to its end; return what is wrong with how it ended."""
        command = self.command(fault, "-m", "mmcache")
        ran = subprocess.run(command, capture_output=True, text=True, check=False)
        return "" if (ran.returncode, ran.stderr) == (0, "") else f"{ran.returncode} {ran.stderr}"

    def stoppable(self, fault: Fault) -> list[str]:
        """Return the command that is stopped, or that stops itself at some call."""
        if fault.script:
            return self.command(fault, "-c", SCRIPT)
        if fault.times:
            return self.command(fault, "-m", "mmcache")
        call, number = self.chance.choice(CALLS), self.chance.choice([1, 2, 3, 10, 30])
        return self.command(fault, "-c", signalling(call, number, fault.signal) + COMMAND)

    def stopped(self, command: list[str], fault: Fault) -> Ended:
        """Start a builder where nothing is, or an older cache, and stop it at some time."""
        shutil.rmtree(self.out.parent)
        self.out.parent.mkdir()
        if fault.exist != "resume":
            copy = shutil.copytree if self.older.is_dir() else shutil.copy
            copy(self.older, self.out)
        before = self.standing()
        pipe = subprocess.PIPE
        builder = subprocess.Popen(
            command, stdout=pipe, stderr=pipe, text=True, start_new_session=True
        )
        assert builder.stdout is not None
        if fault.script:  # it catches nothing before it has begun
            builder.stdout.readline()
        if fault.times:
            time.sleep(self.chance.uniform(0, 1.1) * self.took)
        at = time.monotonic()
        for _ in range(fault.times):
            with contextlib.suppress(ProcessLookupError):
                send = os.killpg if fault.signal == signal.SIGINT else os.kill
                send(builder.pid, fault.signal)
            time.sleep(self.chance.choice([0, 0.001, 0.02]))
        said = builder.communicate()[1]
        took = time.monotonic() - at
        kept = any(path != self.out for path in self.out.parent.iterdir())
        running = processes_of(builder.pid)
        return Ended(builder.returncode, said, took, before, self.standing(), kept, running)

    def standing(self) -> str | None:
        """Return a digest of what stands at the destination."""
        return bytes_of(self.out) if self.out.exists() else None

    def row(self, fault: Fault, store: str, tries: int) -> int:
        """Print what came of *tries* builders, and return how often it was bad."""
        counts = dict.fromkeys(("stopped", "kept", "outside", "after"), 0)
        bad = 0
        for number in range(tries):
            command = self.stoppable(fault)
            ended = self.stopped(command, fault)
            wrong = [
                *wrong_with(ended, fault.signal, self.expected, script=fault.script),
                *self.wrong_after(fault),
            ]
            kinds = {0: "after", STATUS[fault.signal]: "stopped"}
            counts[kinds.get(ended.status, "outside")] += 1
            counts["kept"] += ended.kept
            bad += bool(wrong)
            for what in wrong:
                print(f"{fault.name}, {store}, try {number}: {what}; {command}", file=sys.stderr)
        row(fault.name, store, tries, *counts.values(), bad)
        return bad

    def wrong_after(self, fault: Fault) -> Iterator[str]:
        """Give the same command again, and yield what is wrong then."""
        if what := self.done(fault):
            yield f"the same command ended so: {what}"
        if self.standing() != self.expected:
            yield "the same command gave other bytes"
        if left := [path.name for path in self.out.parent.iterdir() if path != self.out]:
            yield f"{left} are left"


if __name__ == "__main__":
    sys.exit(main())
