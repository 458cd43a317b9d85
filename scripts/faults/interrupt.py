#!/usr/bin/env python3
"""Builds that are stopped by Ctrl-C or SIGTERM, at random times over their whole life.

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

from trying import NAMES, bytes_of, header, options_of, processes_of, row, workplace

import mmcache

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

SOON = 10.0  # seconds in which a builder that was stopped has to end
STATUS = {signal.SIGINT: 130, signal.SIGTERM: 143}
RESUME = "run the same command to resume"

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
    start: tuple[str, ...] = ("-m", "mmcache")


FAULTS = (
    Fault("Ctrl-C"),
    Fault("SIGTERM", signal.SIGTERM),
    Fault("Ctrl-C twice", times=2),
    Fault("SIGTERM twice", signal.SIGTERM, times=2),
    Fault("Ctrl-C while updating", exist="update"),
    Fault("Ctrl-C while overwriting", exist="overwrite"),
    Fault("Ctrl-C in a script", start=("-c", SCRIPT)),
)


class Ended(NamedTuple):
    """How a builder ended, and what it left."""

    status: int
    said: str
    took: float
    before: str | None
    there: str | None
    kept: bool
    running: list[int]


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
        self.done(self.command(FAULTS[0]))
        self.took = time.monotonic() - begun
        self.expected = bytes_of(self.out)

    def command(self, fault: Fault) -> list[str]:
        """Return a command with some executor."""
        executor, workers = self.chance.choice(["serial", "threads", "processes"]), "2"
        words = ["build", self.photos, self.out, "--workers", workers, "--executor", executor]
        more = ["--size", "96", "--exist", fault.exist]
        return [sys.executable, *fault.start, *map(str, words), *more]

    def done(self, command: list[str]) -> str:
        """Run a command to its end; return what is wrong with how it ended."""
        ran = subprocess.run(command, capture_output=True, text=True, check=False)
        return "" if (ran.returncode, ran.stderr) == (0, "") else f"{ran.returncode} {ran.stderr}"

    def stopped(self, command: list[str], fault: Fault) -> Ended:
        """Start a builder where nothing is, or an older cache, and stop it at some time."""
        shutil.rmtree(self.out.parent)
        self.out.parent.mkdir()
        if fault.exist != "resume":
            copy = shutil.copytree if self.older.is_dir() else shutil.copy
            copy(self.older, self.out)
        before = self.standing()
        builder = subprocess.Popen(
            command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
            start_new_session=True,
        )  # fmt: skip
        if "-c" in fault.start:  # a script catches nothing before it has begun
            builder.stdout.readline()
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
            command = self.command(fault)
            ended = self.stopped(command, fault)
            wrong = list(self.wrong(ended, fault))
            if what := self.done(command):
                wrong.append(f"the same command ended so: {what}")
            if self.standing() != self.expected:
                wrong.append("the same command gave other bytes")
            left = [path.name for path in self.out.parent.iterdir() if path != self.out]
            if left:
                wrong.append(f"{left} are left")
            counts[kind_of(ended, fault)] += 1
            counts["kept"] += ended.kept
            bad += bool(wrong)
            for what in wrong:
                print(
                    f"{fault.name}, {store}, try {number}, {command[-5]}: {what}", file=sys.stderr
                )
        row(fault.name, store, tries, *counts.values(), bad)
        return bad

    def wrong(self, ended: Ended, fault: Fault) -> Iterator[str]:
        """Yield all that is wrong with how a builder ended and what it left."""
        status, lines = ended.status, ended.said.splitlines()
        if ended.took > SOON:
            yield f"it took {ended.took:.1f} s"
        if ended.running:
            yield f"processes {ended.running} are left"
        if ended.there not in (ended.before, self.expected):
            yield "what stands at the destination is not whole"
        if status == 0 and (lines or ended.there != self.expected or ended.kept):
            yield f"it ended as if nothing had been, and said {lines}"
        if status == -fault.signal and ended.kept and RESUME not in ended.said:
            yield f"it was stopped by a bare signal, kept something, and said {lines}"
        outside = bool(lines) and mmcache.__path__[0] not in ended.said and not ended.kept
        if status not in (0, -fault.signal, STATUS[fault.signal]) and not outside:
            yield f"it ended with exit status {status}, and said {lines}"
        if "Traceback" in ended.said and "-m" in fault.start and not outside:
            yield f"it said {lines}"
        elif status == STATUS[fault.signal] and "-m" in fault.start:
            yield from untrue(ended, lines)


def untrue(ended: Ended, lines: list[str]) -> Iterator[str]:
    """Yield what a command that was stopped should not have said."""
    if len(lines) != 1 or not lines[0].startswith("mmcache: interrupted"):
        yield f"it said {lines}"
    elif ended.kept != (RESUME in lines[0]):
        yield f"{'something' if ended.kept else 'nothing'} is kept, and it said {lines}"


def kind_of(ended: Ended, fault: Fault) -> str:
    """Tell whether mmcache was stopped, or Python outside of it, or nothing any more."""
    if ended.status == 0:
        return "after"
    return "stopped" if ended.status == STATUS[fault.signal] else "outside"


if __name__ == "__main__":
    sys.exit(main())
