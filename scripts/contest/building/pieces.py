"""What a build costs beside decoding: against a bare loop, without its care, and piece by piece.

All of it runs in this process, with mmcache as it is imported here.
"""

from __future__ import annotations

import contextlib
import functools
import io
import itertools
import os
import shutil
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any, NamedTuple

import google_crc32c
from measuring import Spent, first_time, median, processor_time, ratio, table, take_turns

import mmcache
from mmcache import filling, ingest, planning, tasks
from mmcache.images import decode
from mmcache.stores.journal import Journal
from mmcache.stores.payload import Flusher
from mmcache.stores.publishing import Work

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from contest.building.sets import PhotoSet

__all__ = ["Inside"]

DECODING = "decode and resize"


class Inside:
    """Builds of one set of photos, looked at from inside.

    Attributes
    ----------
    bare : dict of str to (float, float)
        Each build's share of the bare loop's speed, by the clock and by processor time.
    outside : dict of str to float
        Which part of a core's time a build spends outside of decoding and resizing.
    """

    def __init__(self, photos: PhotoSet, work: Path, size: int, rounds: int) -> None:
        self.photos, self.work, self.size, self.rounds = photos, work, size, rounds
        self.paths = photos.paths
        self.names = (work / f"{number}.mmc" for number in itertools.count())
        self.bare: dict[str, tuple[float, float]] = {}
        self.outside: dict[str, float] = {}
        # The files are read once, so that no contender reads them first; and who resizes is known.
        self.recipe = self.build("serial", 1).recipe
        self._empty()

    def build(self, executor: str, workers: int) -> mmcache.Cache:
        """Build as everybody does, from photos that were never seen before."""
        with first_time():
            return mmcache.build(
                self.photos.folder, next(self.names), size=self.size, icc="ignore",
                executor=executor, workers=workers, progress=False,
            )  # fmt: skip

    def _empty(self) -> None:
        for path in self.work.iterdir():
            shutil.rmtree(path)
        os.sync()  # nobody writes what another left

    # Against the bare loop ---------------------------------------------------------------------

    def _loop(self, workers: int) -> None:
        """Decode and resize with the build's own function, and throw the pixels away."""
        each = functools.partial(_decoded, recipe=self.recipe)
        if workers == 1:
            for path in self.paths:
                each(path)
            return
        with ThreadPoolExecutor(workers) as pool:
            for _ in pool.map(each, self.paths, chunksize=1):
                pass

    def compared(self) -> str:
        """Return a table of builds beside bare loops."""
        contenders: dict[str, Callable[[], object]] = {
            "bare loop, 1 thread": lambda: self._loop(1),
            "build, serial": lambda: self.build("serial", 1),
            "build, 1 thread": lambda: self.build("threads", 1),
            "bare loop, 2 threads": lambda: self._loop(2),
            "build, 2 threads": lambda: self.build("threads", 2),
            "build, 2 processes": lambda: self.build("processes", 2),
        }
        taken = take_turns(contenders, self.rounds, after=self._empty)
        rows = []
        for name, rounds in taken.items():
            against = taken["bare loop, 2 threads" if " 2 " in name else "bare loop, 1 thread"]
            clock, processor = zip(*rounds, strict=True)
            bare_clock, bare_processor = zip(*against, strict=True)
            self.bare[name] = ratio(bare_clock, clock), ratio(bare_processor, processor)
            shares = *self.bare[name], min(bare_clock) / min(clock)
            rate = len(self.paths) / median(clock)
            each = median(processor) / len(self.paths) * 1e3
            rows.append((name, f"{rate:.0f}", f"{each:.2f}", *(f"{one:.0%}" for one in shares)))
        head = ("contender", "pictures/s", "processor ms a picture", "of the bare loop, clock",
                "of it, processor", "of it, fastest rounds")  # fmt: skip
        return table(head, rows)

    # Without checksums and flushes -------------------------------------------------------------

    def careless(self) -> str:
        """Return a table of builds beside those that take no care."""
        builds = {
            f"{name}{careless}": functools.partial(
                run, functools.partial(self.build, executor, workers)
            )
            for name, executor, workers in (("serial", "serial", 1), ("2 threads", "threads", 2))
            for careless, run in (("", _as_it_is), (", careless", _careless))
        }
        taken = take_turns(builds, self.rounds, after=self._empty)
        rows = []
        for name in [name for name in taken if ", careless" not in name]:
            both = (zip(*taken[f"{name}{one}"], strict=True) for one in ("", ", careless"))
            (clock, processor), (careless_clock, careless_processor) = both
            times = (
                ratio(clock, careless_clock),
                ratio(processor, careless_processor),
                min(clock) / min(careless_clock),
            )
            rows.append((name, *(f"{one:.3f}" for one in times)))
        head = ("build", "of a careless one, clock", "of it, processor", "of it, fastest rounds")
        return table(head, rows)

    # Piece by piece ----------------------------------------------------------------------------

    def shares(self) -> str:
        """Return a table of where processor time goes, all threads together."""
        columns = {
            name: self._watched_builds(executor)
            for name, executor in (("serial", "serial"), ("2 threads", "threads"))
        }
        rows = []
        for piece in next(iter(columns.values())):
            row = [piece]
            for name, taken in columns.items():
                each = taken[piece]
                share = ratio(each, taken["in all"])
                if piece == DECODING:
                    self.outside[name] = 1 - share
                row += [f"{median(each) / len(self.paths) * 1e6:.0f}", f"{share:.1%}"]
            rows.append(row)
        rows.append(["**outside of decoding and resizing**"])
        for share in self.outside.values():
            rows[-1] += ["", f"**{share:.1%}**"]
        head = ("piece", "serial: us a picture", "of it", "2 threads: us a picture", "of it")
        return table(head, rows)

    def _watched_builds(self, executor: str) -> dict[str, list[float]]:
        """Return the processor seconds of each piece in each round."""
        taken: dict[str, list[float]] = {}
        cost = cost_of_watching()
        for _ in range(self.rounds):
            before = processor_time()
            with watched(PIECES) as seen:
                self.build(executor, 2)
            whole = processor_time() - before - seen.calls * cost
            pieces = {name: piece.processor for name, piece in seen.pieces.items()}
            rest = whole - sum(pieces.values())
            for name, piece in {**pieces, "everything else": rest, "in all": whole}.items():
                taken.setdefault(name, []).append(piece)
            self._empty()
        return taken


def _decoded(path: Path, recipe: mmcache.Recipe) -> None:
    decode(io.BytesIO(path.read_bytes()), recipe)


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
    with contextlib.ExitStack() as stack:
        for where, name, instead in nothing:
            stack.callback(setattr, where, name, getattr(where, name))
            setattr(where, name, instead)
        build()


# Watching ----------------------------------------------------------------------------------------


class Piece(NamedTuple):
    """Where a function is looked up, its name there, and what it is called in the table."""

    owner: Any
    attribute: str
    title: str


PIECES = (
    Piece(mmcache.Folder, "listing", "list the folder"),
    Piece(planning, "survey", "read the headers"),
    Piece(tasks, "_encoded", "read the files"),
    Piece(tasks, "decode_flagged", DECODING),
    Piece(tasks, "write_at", "write the records"),
    Piece(google_crc32c, "value", "checksums"),
    Piece(Flusher, "_sync", "flush to disk"),
    Piece(Journal, "_write", "the journal"),
    Piece(filling.Filling, "finish", "write the index and the frame"),
    Piece(Work, "publish", "publish"),
    Piece(ingest, "open_cache", "open the cache"),
)


class Taken:
    """What pieces took, by their titles, and how often they were called."""

    def __init__(self, pieces: tuple[Piece, ...]) -> None:
        self.pieces = {piece.title: Spent(0, 0) for piece in pieces}
        self.calls = 0
        self._own, self._lock = threading.local(), threading.Lock()

    def timed(self, function: Callable[..., Any], title: str) -> Callable[..., Any]:
        """Return *function*, timed; what it calls of the other pieces is not its own."""
        own = self._own

        @functools.wraps(function)
        def call(*args: Any, **kwargs: Any) -> Any:
            around, own.within = getattr(own, "within", Spent(0, 0)), Spent(0, 0)
            clock, processor = time.perf_counter(), time.thread_time()
            try:
                return function(*args, **kwargs)
            finally:
                spent = Spent(time.perf_counter() - clock, time.thread_time() - processor)
                alone = (part - within for part, within in zip(spent, own.within, strict=True))
                own.within = Spent(*map(sum, zip(around, spent, strict=True)))
                with self._lock:
                    self.calls += 1
                    self.pieces[title] = Spent(
                        *map(sum, zip(self.pieces[title], alone, strict=True))
                    )

        return call


@contextlib.contextmanager
def watched(pieces: tuple[Piece, ...]) -> Iterator[Taken]:
    """Time calls of *pieces* in every thread."""
    taken = Taken(pieces)
    with contextlib.ExitStack() as stack:
        for owner, attribute, title in pieces:
            original = getattr(owner, attribute)
            stack.callback(setattr, owner, attribute, original)
            setattr(owner, attribute, taken.timed(original, title))
        yield taken


def cost_of_watching(calls: int = 20_000) -> float:
    """Return the processor seconds that a call takes longer for being timed, beside its own."""
    taken = Taken((Piece(None, "", "nothing"),))
    call = taken.timed(lambda: None, "nothing")
    before = time.thread_time()
    for _ in range(calls):
        call()
    return (time.thread_time() - before - taken.pieces["nothing"].processor) / calls
