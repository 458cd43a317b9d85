"""Contests of building: everybody builds from the same photos, in turns, and is looked at."""

from __future__ import annotations

import threading
import time
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from measuring import median, table
from PIL import Image

from contest.building.writers import WRITERS
from contest.client import Contender, FailedError
from contest.installing import installed, python_of
from contest.process import memory_of
from contest.quality import lanczos, psnr, ssim
from contest.turns import Turn, by_rounds, take_rounds

if TYPE_CHECKING:
    import argparse
    from collections.abc import Iterable
    from pathlib import Path

    from numpy.typing import NDArray

    from contest.building.sets import PhotoSet

__all__ = ["BASE", "EQUAL", "Builders", "Race", "Seen", "core_rate", "results", "watched"]

SERVER = "contest.building.server"
BASE = "PillowLoop"
"""What everybody is compared with."""
EQUAL = 1.0  # dB that a peer of equal quality may be below the base
LONGEST = 300  # seconds for one build
SLOW = 4.0  # seconds for a build after which two rounds are enough
LOOK = 0.003  # seconds between two looks at a process's memory


class Seen(NamedTuple):
    """What was seen of a contender's first build, which is not timed.

    Attributes
    ----------
    private : int
        The most private memory of it and its workers, in bytes.
    room : int
        Bytes on disk.
    decibels, similar : list of float
        PSNR and SSIM of what it kept, against Lanczos in floats.
    """

    private: int
    room: int
    decibels: list[float]
    similar: list[float]


class Race(NamedTuple):
    """What came of a contest, by the names of those who took part."""

    title: str
    photos: PhotoSet
    size: int
    turns: dict[str, list[Turn]]
    seen: dict[str, Seen]

    def times(self, one: str, other: str, rate: str) -> float | None:
        """Return how many times as fast *one* was as *other*; None where one is missing."""
        if not (self.turns.get(one) and self.turns.get(other)):
            return None
        return by_rounds(self.turns[one], self.turns[other], rate)

    def equals(self) -> list[str]:
        """Return the peers that keep pictures as good as the base's, fastest first."""
        if BASE not in self.seen:
            return []
        least = median(self.seen[BASE].decibels) - EQUAL
        peers = [
            name
            for name in self.turns
            if WRITERS[name].kind == "peer" and median(self.seen[name].decibels) >= least
        ]
        return sorted(peers, key=lambda name: -core_rate(self.turns[name]))


def core_rate(turns: list[Turn]) -> float:
    """Return the pictures a second of processor time, of half of the rounds."""
    return median(one.core_rate for one in turns)


class Builders:
    """The contenders, and how they are started.

    Attributes
    ----------
    left_out : dict of str to str
        Why a contender is not in a table, by its title and the table's.
    """

    def __init__(self, work: Path, options: argparse.Namespace) -> None:
        self.work, self.options = work, options
        self.left_out: dict[str, str] = {}
        self._seated: dict[str, Contender] = {}
        if options.peers:
            self.left_out |= installed(WRITERS.values())

    def race(
        self, title: str, photos: PhotoSet, size: int, names: Iterable[str], rounds: int
    ) -> Race:
        """Let all of *names* build from *photos*, in turns."""
        seen: dict[str, Seen] = {}
        references: dict[Any, NDArray[np.float32]] = {}

        def turn(name: str, number: int) -> dict[str, Any]:
            contender = self._seat(name)
            build = {"folder": str(photos.folder), "size": size}
            if number:
                answer = contender.ask("build", LONGEST, **build)
            else:
                answer, private = watched(contender, "build", **build)
                seen[name] = self._look(contender, name, photos, private, references)
            contender.ask("clear")
            return answer

        def failed(name: str, error: FailedError) -> None:
            if str(error) not in self.left_out.values():  # once is enough
                self.left_out[f"{WRITERS[name].title} ({title})"] = str(error)
            if name in self._seated:
                self._seated.pop(name).close(now=True)

        chosen = self._chosen(names)
        # Contests with few rounds are many, and shorter.
        seconds = self.options.seconds * rounds / self.options.rounds
        turns = take_rounds(chosen, turn, failed, rounds=rounds, seconds=seconds, slow=SLOW)
        return Race(title, photos, size, turns, seen)

    def _chosen(self, names: Iterable[str]) -> list[str]:
        """Return those of *names* that ``--who`` names and whose library can be had."""
        words = [word.lower() for word in self.options.who.split(",") if word]
        chosen = []
        for name in names:
            kind = WRITERS[name]
            if words and not any(word in kind.title.lower() for word in words):
                continue
            if kind.title in self.left_out:
                continue
            if python_of(kind, installed=self.options.peers) is None:
                needed = ", ".join(kind.modules)
                why = f"{needed} is not installed here (--peers installs it)"
                self.left_out[kind.title] = why
                continue
            chosen.append(name)
        return chosen

    def _seat(self, name: str) -> Contender:
        if name not in self._seated:
            python = python_of(WRITERS[name], installed=self.options.peers)
            assert python is not None
            self._seated[name] = Contender(name, python, self.work / name, serves=SERVER)
            self._seated[name].ask("imports")
        return self._seated[name]

    def _look(
        self,
        contender: Contender,
        name: str,
        photos: PhotoSet,
        private: int,
        references: dict[Any, NDArray[np.float32]],
    ) -> Seen:
        """See what a contender has kept."""
        room = contender.ask("room")["bytes"]
        if WRITERS[name].kind == "limit":
            return Seen(private, room, [], [])
        paths = photos.paths
        step = max(1, len(paths) // self.options.sample)
        file = self.work / f"{name}.npz"
        contender.ask("keep", file=str(file), count=len(paths), step=step)
        decibels, similar = [], []
        with np.load(file) as kept:
            for path, key in zip(paths[::step], kept.files, strict=True):
                picture = kept[key]
                reference = _referred(path, picture.shape[:2], references)
                decibels.append(psnr(picture, reference))
                similar.append(ssim(picture.mean(axis=2), reference.mean(axis=2, dtype=np.float64)))
        file.unlink()
        return Seen(private, room, decibels, similar)

    def dismiss(self) -> None:
        """End all contenders: the next contest has fresh ones, whose memory can be told."""
        while self._seated:
            self._seated.popitem()[1].close()


def _referred(
    path: Path, shape: tuple[int, int], references: dict[Any, NDArray[np.float32]]
) -> NDArray[np.float32]:
    which = path.stat().st_ino, shape  # of a file with many names there is one reference
    if which not in references:
        with Image.open(path) as image:
            whole = np.asarray(image.convert("RGB"))
        references[which] = lanczos(whole, shape).astype(np.float32)
    return references[which]


def watched(contender: Contender, do: str, **request: Any) -> tuple[dict[str, Any], int]:
    """Have it *do* something; return its answer and the most private memory seen meanwhile."""
    done = threading.Event()
    most = 0

    def look() -> None:
        nonlocal most
        while not done.is_set():
            most = max(most, memory_of(contender.pid)["Pss_Anon"])
            time.sleep(LOOK)

    watcher = threading.Thread(target=look)
    watcher.start()
    try:
        return contender.ask(do, LONGEST, **request), most
    finally:
        done.set()
        watcher.join()


# Tables ------------------------------------------------------------------------------------------

HEAD = (
    "way",
    "pictures/s",
    "ms of a core a picture",
    "times the Pillow loop, clock",
    "by processor",
    "private MB, peak",
    "MB on disk",
    "PSNR, dB: half; worst",
    "SSIM: half; worst",
)


def results(race: Race) -> str:
    """Return a table, the least processor time first."""
    order = sorted(race.turns, key=lambda name: -core_rate(race.turns[name]))
    return table(HEAD, (_line(race, name) for name in order if race.turns[name]))


def _line(race: Race, name: str) -> list[str]:
    turns, seen = race.turns[name], race.seen[name]
    clock, processor = (race.times(name, BASE, rate) for rate in ("rate", "core_rate"))
    line = [WRITERS[name].title, f"{median(one.rate for one in turns):,.4g}"]
    line += [f"{1e3 / core_rate(turns):,.2f}"]
    line += ["" if times is None else f"{times:.2f}" for times in (clock, processor)]
    line += [f"{seen.private / 1e6:,.0f}"]
    if not seen.decibels:  # a limit, which keeps nothing
        return [*line, "", "", ""]
    line += [f"{seen.room / 1e6:,.1f}"]
    line += [f"{median(seen.decibels):.1f}; {min(seen.decibels):.1f}"]
    return [*line, f"{median(seen.similar):.4f}; {min(seen.similar):.4f}"]
