#!/usr/bin/env python3
"""Disks that are full, at sizes from nothing to just over what a build needs, and later.

Three limits: a ``tmpfs``, an ``ext4`` in a file, and ``RLIMIT_FSIZE``, the length that a process
may give a file. Another file takes all the rest of a disk: before the build begins, or when it has
told of its first pictures, since others write too. Only root can mount the two disks.

The builder is ``mmcache build``. It must end by itself, with status 1 and one sentence that is
true: of the bytes that are needed and are free, or of the limit. Nothing stands at the destination,
or the whole old cache that was to be overwritten. Once there is room the same call gives the bytes
of a build that never lacked it, and nothing is left.
"""

from __future__ import annotations

import contextlib
import io
import os
import random
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import NamedTuple

from rooms import FileLimit, Mounted, NotMountedError
from trying import NAMES, bytes_of, header, is_whole, options_of, row, workplace

import mmcache
from mmcache.cli import main as command_line

OLD = 64  # the size of the pictures of a cache that is overwritten
SIZE = 96
ROOMY = 32 << 20  # bytes of a disk beside what a few caches take
PATIENCE = 300  # seconds for a build, after which it hangs

# What `mmcache build` does, while another file fills the disk behind its first pictures.
AMONG_OTHERS = """
import sys
from pathlib import Path
import mmcache
from rooms import filled
from mmcache.cli import main
other, left, build, told = Path(sys.argv[1]), int(sys.argv[2]), mmcache.build, []
def tell(done, total):
    told.append(done)
    if done and 0 in told and not other.exists():  # headers are never told of from 0 on
        filled(other, left)
mmcache.build = lambda *args, **more: build(*args, **more | {"progress": tell})
sys.exit(main(sys.argv[3:]))
"""

# What a build needs is not known yet where there is no room to begin in.
SPACE = re.compile(r"(?:needs ([\d.]+) (\w+) and )?([\d.]+) (\w+) are free")
UNITS = {"bytes": 1, "kB": 1e3, "MB": 1e6, "GB": 1e9}


class Fault(NamedTuple):
    """What is at the destination, when the disk becomes full, and how many tries of all."""

    name: str
    exist: str
    later: bool
    share: int


FAULTS = (
    Fault("full", "resume", later=False, share=1),
    Fault("full, overwriting", "overwrite", later=False, share=4),
    Fault("full by another's file", "resume", later=True, share=4),
)


def main(arguments: list[str] | None = None) -> int:
    """Print a table; exit status 1 where anything was lost, wrong, left or not told."""
    options = options_of(__doc__, arguments, tries=20)
    bad, left_out = 0, set()
    header("fault", "format", "tries", "had room", "told", "same bytes after", "bad")
    with workplace(options.pictures) as (photos, work):
        for store, name in NAMES.items():
            good = work / name
            mmcache.build(photos, good, size=SIZE, progress=False)
            for kind in (Mounted("tmpfs"), Mounted("ext4"), FileLimit()):
                trial = Trial(photos, good, kind, options.seed)
                try:
                    with kind.at(work / f"{store}-{kind.name}", ROOMY + 4 * kind.need(good)):
                        for fault in FAULTS if kind.is_shared else FAULTS[:-1]:
                            bad += trial.row(fault, store, -(-options.tries // fault.share))
                except NotMountedError:
                    left_out.add(kind.name)
    if left_out:
        print(f"\nLeft out, since only root can mount them: {', '.join(sorted(left_out))}.")
    return 1 if bad else 0


class Trial:
    """One format on one kind of disk."""

    def __init__(self, photos: Path, good: Path, kind: Mounted | FileLimit, seed: int) -> None:
        self.photos, self.good, self.kind, self.seed = photos, good, kind, seed
        self.expected = bytes_of(good)

    @property
    def out(self) -> Path:
        """Where is built."""
        return self.kind.folder / self.good.name

    def row(self, fault: Fault, store: str, tries: int) -> int:
        """Print what came of *tries* builds, and return how often it was bad."""
        room = told = same = bad = 0
        for number in range(tries):
            chance = random.Random(f"{self.seed} {fault.name} {number}")  # noqa: S311  # no secret
            part = (number + chance.random()) / tries if number or tries == 1 else 0
            size = int(part * self.most(fault))
            first = self.first(fault, size, chance)
            wrong = self.wrong_at_first(fault, first)
            room += first.returncode == 0
            told += first.returncode != 0 and not wrong
            wrong_then = self.wrong_with_room(fault, chance)
            same += not wrong_then
            if wrong or wrong_then:
                bad += 1
                print(
                    f"{store}, {self.kind.name}, {fault.name}, --seed {self.seed}, try {number},"
                    f" {size} bytes: {'; '.join([*wrong, *wrong_then])}",
                    file=sys.stderr,
                )
        row(f"{self.kind.name} {fault.name}", store, tries, room, told, same, bad)
        return bad

    def most(self, fault: Fault) -> float:
        """Return a little more bytes than a build needs, or than it needs behind the payload."""
        shapes = mmcache.open(self.good).shapes
        behind = int(shapes.prod(axis=1).sum()) if fault.later else 0
        return 1.3 * (self.kind.need(self.good) - behind)

    def first(
        self, fault: Fault, size: int, chance: random.Random
    ) -> subprocess.CompletedProcess[str]:
        """Build where there are *size* bytes of room, and tell how it ended."""
        self.kind.give()
        shutil.rmtree(self.kind.folder, ignore_errors=True)
        self.kind.folder.mkdir()
        if fault.exist == "overwrite":
            mmcache.build(self.photos, self.out, size=OLD, progress=False)
        if fault.later:
            program = ["-c", AMONG_OTHERS, str(self.kind.other), str(size)]
        else:
            program = ["-m", "mmcache"]
            self.kind.leave(size)
        return subprocess.run(
            [*self.kind.under, sys.executable, *program, *self.words(fault, chance)],
            cwd=Path(__file__).parent, capture_output=True, text=True, check=False,
            timeout=PATIENCE,
        )  # fmt: skip

    def words(self, fault: Fault, chance: random.Random) -> list[str]:
        """Return the words of the call that is made twice, by some executor."""
        executor, workers = chance.choice(["serial", "threads", "processes"]), chance.choice("123")
        settings = f"--size {SIZE} --exist {fault.exist} --executor {executor} --workers {workers}"
        return ["build", str(self.photos), str(self.out), *settings.split()]

    def wrong_at_first(self, fault: Fault, ended: subprocess.CompletedProcess[str]) -> list[str]:
        """Tell what is wrong when a build has lacked room; nothing, where it did not."""
        if ended.returncode == 0:
            return [] if self.is_new() else ["it ended well, and gave other bytes"]
        wrong = []
        lines = ended.stderr.splitlines()
        if ended.returncode != 1 or len(lines) != 1 or not is_true(lines[0], self.kind):
            wrong.append(f"it ended with {ended.returncode} and said {ended.stderr!r}")
        if fault.exist == "overwrite":
            if not is_old(self.out):
                wrong.append("the old cache is not whole")
        elif os.path.lexists(self.out):
            wrong.append("something stood at the destination")
        return wrong

    def wrong_with_room(self, fault: Fault, chance: random.Random) -> list[str]:
        """Make the same call where there is room, and tell what is wrong then."""
        self.kind.give()
        said = io.StringIO()
        with contextlib.redirect_stdout(said), contextlib.redirect_stderr(said):
            status = command_line(self.words(fault, chance))
        left = sorted(path.name for path in self.out.parent.iterdir())
        if status == 0 and self.is_new() and left == [self.out.name]:
            return []
        return [f"with room it ended with {status}, said {said.getvalue()!r}, and left {left}"]

    def is_new(self) -> bool:
        """Tell whether the very bytes of an undisturbed build stand at the destination."""
        return self.out.exists() and bytes_of(self.out) == self.expected


def is_old(path: Path) -> bool:
    """Tell whether the cache that was to be overwritten is there, every byte of it."""
    try:
        return mmcache.open(path).recipe.box == (OLD, OLD) and is_whole(path)
    except mmcache.MmcacheError:
        return False


def is_true(sentence: str, kind: Mounted | FileLimit) -> bool:
    """Tell whether an error names what is lacking, and names nothing that is not."""
    if not sentence.startswith("mmcache: error: "):
        return False
    if isinstance(kind, FileLimit):
        return "limit" in sentence
    if (match := SPACE.search(sentence)) is None:
        return False
    needed, unit, free, free_unit = match.groups(default="")
    return not needed or float(needed) * UNITS[unit] >= float(free) * UNITS[free_unit]


if __name__ == "__main__":
    sys.exit(main())
