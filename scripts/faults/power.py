#!/usr/bin/env python3
"""Builds whose power is cut, so that what was not synced is lost, wholly or in part.

Each builder runs to its end while ``strace`` records every call with which it and its workers
change files. A disk is modelled from the record (``disks.py`` says what is modelled and what is
not), and at a random moment of it the power is cut. What is then on that disk is put back into the
very files that the builder left, on the same inodes, so that the next call finds its unfinished
work; now and then its power is cut, too. The record proves itself: replayed whole, it must give the
folder that is there.

After a cut in the middle nothing stands at the destination, or what ``mmcache.open`` refuses, or
the whole cache, or the whole old one that was to be overwritten. After exit status 0 the new one is
whole. Always the same call then gives the bytes of a build that was never cut, and nothing is left.
"""

from __future__ import annotations

import os
import random
import shutil
import sys
from typing import TYPE_CHECKING, NamedTuple

from disks import KEPT, Luck
from recording import calls_in, recorder
from replaying import Replay
from trying import NAMES, bytes_of, header, is_whole, options_of, row, started, workplace

import mmcache
from mmcache.stores.publishing import work_path
from mmcache.stores.unfinished import Unfinished

if TYPE_CHECKING:
    from pathlib import Path

OLD = 64  # the size of the pictures of a cache that is overwritten
AGAIN = 0.3  # of the builders that go on after a cut have their power cut, too


class Fault(NamedTuple):
    """When the power is cut, and over what."""

    name: str
    in_the_middle: bool
    exist: str

    @property
    def allowed(self) -> set[str]:
        """What may stand at the destination."""
        if not self.in_the_middle:
            return {"the new one"}
        return {"the new one", *(("the old one",) if self.exist == "overwrite" else ABSENT)}


ABSENT = ("nothing", "what is refused")
FAULTS = [
    Fault(when + over, when == "in the middle", exist)
    for over, exist in (("", "resume"), (", while overwriting", "overwrite"))
    for when in ("in the middle", "right after exit 0")
]


def main(arguments: list[str] | None = None) -> int:
    """Print a table; exit status 1 where anything was lost, wrong or left."""
    options = options_of(__doc__, arguments, tries=30, more={"after": 12})
    bad = 0
    header(
        "power cut", "format", "tries", "nothing or refused", "old", "new", "gone on with",
        "same bytes after", "bad",
    )  # fmt: skip
    with workplace(options.pictures) as (photos, work):
        for store, name in NAMES.items():
            trial = Trial(photos, work / store, name, options.seed)
            for fault in FAULTS:
                bad += trial.row(
                    fault, store, options.tries if fault.in_the_middle else options.after
                )
    return 1 if bad else 0


class Trial:
    """One format: a build whose power was never cut, and many whose was."""

    def __init__(self, photos: Path, folder: Path, name: str, seed: int) -> None:
        folder.mkdir()
        self.photos, self.out, self.seed = photos, folder / name, seed
        started(photos, self.out, random.Random(seed)).wait()  # noqa: S311  # no secret
        self.expected = bytes_of(self.out)

    def row(self, fault: Fault, store: str, tries: int) -> int:
        """Print what came of *tries* cuts, and return how often it was bad."""
        stood = dict.fromkeys(["nothing", "what is refused", "the old one", "the new one"], 0)
        resumed = same = bad = 0
        for number in range(tries):
            chance = random.Random(f"{self.seed} {fault.name} {number}")  # noqa: S311
            kept = KEPT[number % len(KEPT)]
            self.clear(fault)
            cut = self.cut(fault, kept, chance)
            if fault.in_the_middle and self.goes_on() and chance.random() < AGAIN:
                cut += f", and then {self.cut(fault, kept, chance)}"
            there = self.standing()
            stood[there] = stood.get(there, 0) + 1
            resumed += self.goes_on()
            status = started(self.photos, self.out, chance, exist=fault.exist).wait()
            left = sorted(path.name for path in self.out.parent.iterdir())
            again = self.standing() == "the new one" and left == [self.out.name] and not status
            same += again
            if there not in fault.allowed or not again:
                bad += 1
                print(
                    f"{store}, {fault.name}, --seed {self.seed}, try {number}: cut {cut}, {kept} of"
                    f" the unsynced kept: {there} stood there; after the same call, which ended"
                    f" with {status}, {self.standing()}, among {left}",
                    file=sys.stderr,
                )
        absent = stood["nothing"] + stood["what is refused"]
        old, new = stood["the old one"], stood["the new one"]
        row(fault.name, store, tries, absent, old, new, resumed, same, bad)
        return bad

    def cut(self, fault: Fault, kept: str, chance: random.Random) -> str:
        """Let a builder run, then let its folder be what a power cut leaves, and tell when."""
        folder = self.out.parent
        log = folder.with_name("record")
        replay = Replay(folder)
        builder = started(self.photos, self.out, chance, exist=fault.exist, under=recorder(log))
        if builder.wait():
            raise RuntimeError(f"a builder under strace ended with status {builder.returncode}")
        replay.run(calls_in(log))
        disk = replay.disk
        last = len(disk.moments) - 1
        which = chance.randrange(last) if fault.in_the_middle else last
        disk.put_back(folder, disk.after(disk.moments[which], Luck(kept, chance)))
        return f"at moment {which} of {last}"

    def clear(self, fault: Fault) -> None:
        """Begin with nothing, or with a good cache that is to be overwritten."""
        shutil.rmtree(self.out.parent)
        self.out.parent.mkdir()
        if fault.exist == "overwrite":
            mmcache.build(self.photos, self.out, size=OLD, progress=False)

    def standing(self) -> str:
        """Tell what stands at the destination."""
        if not os.path.lexists(self.out):
            return "nothing"
        try:
            box = mmcache.open(self.out).recipe.box
        except mmcache.MmcacheError:
            return "what is refused"
        if box == (OLD, OLD):
            return "the old one" if is_whole(self.out) else "a part of the old one"
        return "the new one" if bytes_of(self.out) == self.expected else "other bytes"

    def goes_on(self) -> bool:
        """Tell whether the next builder finds unfinished work, of which something is done."""
        return Unfinished(work_path(self.out) / "begun").is_of_use


if __name__ == "__main__":
    sys.exit(main())
