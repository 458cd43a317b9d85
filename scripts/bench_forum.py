#!/usr/bin/env python3
"""What the usual answers of a forum do to a folder of pictures, and how fast, beside mmcache.

Each snippet runs in a process of its own, and they take turns. Odd pictures are added to the
folder: a strip, a portrait, a grey one, a clear one, one of 16 bits, half a file, and a text.
``--peers`` makes an environment for OpenCV below .venv and installs it there, once.
"""

from __future__ import annotations

import shutil
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from contest.asking import asked, parser_of
from contest.building.race import watched
from contest.client import Contender, FailedError
from contest.forum.pictures import FLOOR, NONE, ODD, filled, is_right
from contest.forum.snippets import WAYS
from contest.installing import installed, python_of
from contest.page import put_into
from contest.turns import Turn, by_rounds, take_rounds
from measuring import median, table, workplace
from PIL import Image

import mmcache
from mmcache.testing import paint

if TYPE_CHECKING:
    import argparse

SERVER = "contest.forum.server"
OURS = "Mmcache"
LONGEST = 300  # seconds for one epoch
HEAD = (
    "way", "right", "wrong, silently", "missing, silently", "error", "first epoch, pictures/s",
    "later epochs", "mmcache is faster", "private MB, peak",
)  # fmt: skip


class Fates(NamedTuple):
    """What became of the files: how many, and the odd ones by name."""

    right: int
    wrong: int
    lost: int
    error: int
    odd: dict[str, str]


class Forum:
    """The snippets, each in its process.

    Attributes
    ----------
    left_out : dict of str to str
        Why a snippet is not in the table, by its title.
    """

    def __init__(self, folder: Path, work: Path, options: argparse.Namespace) -> None:
        self.folder, self.work, self.options = folder, work, options
        self.left_out: dict[str, str] = {}
        self.seats: dict[str, Contender] = {}
        self.private: dict[str, int] = {}
        if options.peers:
            self.left_out |= installed(WAYS.values())

    def seat(self) -> None:
        """Start everybody whose library can be had; the first epoch of each is not timed."""
        words = [word.lower() for word in self.options.who.split(",") if word]
        for name, way in WAYS.items():
            if words and not any(word in way.title.lower() for word in words):
                continue
            python = python_of(way, installed=self.options.peers)
            if python is None:
                needed = ", ".join(way.modules)
                why = f"{needed} is not installed here (--peers installs it)"
                self.left_out.setdefault(way.title, why)
                continue
            paths = (self.folder, self.work / name, str(self.options.size))
            seat = Contender(name, python, *paths, serves=SERVER)
            try:
                seat.ask("imports")
                _, self.private[name] = watched(seat, "go", what="first")
            except FailedError as error:
                self.left_out[way.title] = str(error)
                seat.close(now=True)
            else:
                self.seats[name] = seat

    def timed(self) -> dict[tuple[str, str], list[Turn]]:
        """Let all go through the pictures in turns, for the first time and for another."""

        def turn(entry: tuple[str, str], number: int) -> dict[str, Any]:  # noqa: ARG001
            name, what = entry
            return self.seats[name].ask("go", LONGEST, what=what)

        def failed(entry: tuple[str, str], error: FailedError) -> None:
            self.left_out[f"{WAYS[entry[0]].title}, {entry[1]}"] = str(error)

        entries = [(name, what) for what in ("first", "epoch") for name in self.seats]
        limits = {"rounds": self.options.rounds, "seconds": self.options.seconds}
        return take_rounds(entries, turn, failed, **limits)

    def fates(self, name: str) -> Fates:
        """Look at every picture that a snippet gives."""
        kept = self.work / f"{name}-kept"
        kept.mkdir()
        fates = self.seats[name].ask("keep", LONGEST, folder=str(kept))["fates"]
        for file, fate in fates.items():
            if fate == "picture":
                picture = np.load(kept / f"{file}.npy")
                right = is_right(self.folder / file, picture, self.options.size)
                fates[file] = "right" if right else f"wrong: {picture.shape}, {picture.dtype}"
        shutil.rmtree(kept)
        kinds = [fate.partition(":")[0] for fate in fates.values()]
        counts = (kinds.count(kind) for kind in ("right", "wrong", "lost", "error"))
        return Fates(*counts, {file: fates[file] for file in ODD})

    def dismiss(self) -> None:
        """End all processes."""
        while self.seats:
            self.seats.popitem()[1].close()


def results(forum: Forum, options: argparse.Namespace) -> str:
    """Return the table of all snippets, and print what became of the odd pictures."""
    turns = forum.timed()
    lines = []
    for name in forum.seats:
        fates = forum.fates(name)
        if options.odd:
            print(table((WAYS[name].title, "came out as"), fates.odd.items()), end="\n\n")
        first, later = turns.get((name, "first"), []), turns.get((name, "epoch"), [])
        private = f"{forum.private[name] / 1e6:,.0f}"
        ours = turns.get((OURS, "epoch"), [])
        faster = ""
        if ours and name != OURS and later and later[0].pictures:
            faster = f"{by_rounds(ours, later):,.3g} x"
        lines.append((WAYS[name].title, *fates[:4], _rate(first), _rate(later), faster, private))
    return table(HEAD, lines)


def _rate(turns: list[Turn]) -> str:
    """Return how many pictures came in a second."""
    rate = median(turn.rate for turn in turns) if turns else 0
    return f"{rate:,.0f}" if rate else "none came"


# What one would train on -------------------------------------------------------------------------

SHOWN = 224  # pixels each way
BETWEEN = 16


def drawn(work: Path) -> Image.Image:
    """Return a painted picture as it is, and beside it what `np.memmap` shows of its file."""
    file = work / "shown.jpg"
    paint(mmcache.Size(1200, 1200), 12).save(file, quality=90)
    bytes_as_pixels = np.memmap(file, dtype="uint8", mode="r", shape=(SHOWN, SHOWN, 3))
    both = Image.new("RGB", (2 * SHOWN + BETWEEN, SHOWN), "white")
    both.paste(Image.fromarray(mmcache.apply(file, mmcache.Recipe(size=SHOWN))), (0, 0))
    both.paste(Image.fromarray(np.array(bytes_as_pixels)), (SHOWN + BETWEEN, 0))
    return both


# The script --------------------------------------------------------------------------------------


def main(arguments: list[str] | None = None) -> int:
    """Print the table, and draw the picture where that is asked."""
    options = options_of(arguments)
    with workplace(options) as (photos, work):
        if options.draw:
            drawn(work).save(options.draw, quality=60, optimize=True)
        folder = filled(work / "photos", photos, options.most)
        forum = Forum(folder, work, options)
        try:
            forum.seat()
            made = results(forum, options)
        finally:
            forum.dismiss()
        count = len(list(folder.iterdir()))
        told = f"""\
{count:,} files, {len(ODD)} of them odd, to {options.size}; of {len(NONE)} no picture can be made.
*Right* is a picture that is upright, in RGB, with its aspect kept to within a pixel, and at least
{FLOOR:.0f} dB near to Pillow's full decode by its bicubic, Lanczos, bilinear or box filter.

{made}
"""
        if forum.left_out:
            left = table(("who is not in it", "why"), forum.left_out.items())
            told += f"\n{left}\n"
    print(told)
    if options.into:
        put_into(options.into, "bench_forum.py", told)
    return 0


def options_of(arguments: list[str] | None) -> argparse.Namespace:
    """Read the command line."""
    parser = parser_of(__doc__, ())
    add = parser.add_argument
    add("--size", type=int, default=256, help="box that pictures are brought to")
    add("--most", type=int, default=1000, help="pictures to take, the odd ones not counted")
    add("--rounds", type=int, default=3, help="of first and of later epochs, if time allows")
    add("--seconds", type=float, default=120, help="after which there is no further round")
    add("--odd", action="store_true", help="tell what became of each odd picture")
    add("--draw", type=Path, metavar="FILE", help="draw what one would train on")
    return asked(parser, arguments, ())


if __name__ == "__main__":
    sys.exit(main())
