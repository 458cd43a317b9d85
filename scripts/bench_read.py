#!/usr/bin/env python3
"""What training reads: batches from a warm and from a cold cache, for mmcache and for its peers.

Each contender keeps the same pixels in its own way and runs in a process of its own; they take
turns. ``--peers`` makes environments for the peers below .venv and installs them there, once.
"""

from __future__ import annotations

import os
import random
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from bench_rows import generated
from contest.asking import asked, parser_of
from contest.chart import Panel, drawn
from contest.client import Contender, FailedError
from contest.cold import drop, resident
from contest.installing import installed, python_of
from contest.limited import NoLimitError, run_limited
from contest.page import put_into
from contest.peers import PEERS
from contest.pictures import Pictures
from contest.turns import Turn, by_rounds, take_rounds
from measuring import median, table, workplace

import mmcache

if TYPE_CHECKING:
    import argparse
    from collections.abc import Callable, Iterable

LIMITS = ("MemoryCopy", "MemoryCopyByTwo", "MemoryCopyByPicture")
READERS = ("DirectReads",)
BATCHES = ("MmcacheBatchOut", "MmcacheBatchOutTwo", "MmcacheBatch", "MmcacheHdf5", "MmcacheZarr")
LOADERS = ("MmcacheLoader", "MmcacheLoaderHdf5", "MmcacheLoaderZarr")
HAND = (
    "MemmapLoop", "MemmapTake", "H5pyChunks", "H5pyContiguous", "ZarrChunks", "ZarrShards", "Lmdb",
)  # fmt: skip
OTHERS = (
    "MmapNinja", "Ffcv", "FfcvTwo", "Streaming", "LitData", "HuggingFace", "WebDataset", "Jpeg",
)  # fmt: skip
BASES = (*LOADERS[:1], *BATCHES, "MmcacheDataset", "MmcacheSamples")
"""What the others are compared with: the first of these that takes part."""

DRAWN = {
    *LIMITS, *READERS, "MmcacheBatchOut", "MmcacheLoader", "MmcacheLoaderBlocks", "MmcacheSamples",
    "MmcacheDataset", "MemmapLoop", "MemmapOfCache", "H5pyContiguous", "ZarrChunks", "Lmdb",
    *OTHERS,
} - {"FfcvTwo"}  # fmt: skip
PANELS = ("random batches of one shape", "torch DataLoader", "cold, random order")
TRIES = 10
WARM = 5.0  # per cent of a file that may stay in memory when it is called cold


class Entry(NamedTuple):
    """A contender in one table: its line's title, its peer, and the workers of a DataLoader."""

    title: str
    name: str
    workers: int | None = None

    @property
    def more(self) -> dict[str, int]:
        """What is asked of it besides."""
        return {} if self.workers is None else {"workers": self.workers}


class Arena:
    """Where the contenders keep their pictures, and how they are started.

    Attributes
    ----------
    left_out : dict of str to str
        Why a contender is not in a table, by its title and the table's.
    panels : list of Panel
        What is drawn.
    """

    def __init__(self, photos: Path, work: Path, options: argparse.Namespace) -> None:
        self.photos, self.work, self.options = photos, work, options
        self.left_out: dict[str, str] = {}
        self.panels: list[Panel] = []
        self.wrote: dict[tuple[str, str], dict[str, Any] | str] = {}
        self.caches: dict[str, Path] = {}
        self._seated: dict[tuple[Entry, str], Contender] = {}
        if options.peers:
            self.left_out |= installed(PEERS.values())

    def chosen(self, names: Iterable[str]) -> list[str]:
        """Return those of *names* that ``--who`` names, or all."""
        words = [word.lower() for word in self.options.who.split(",") if word]
        always = (*LIMITS, *READERS)
        return [
            name
            for name in names
            if not words
            or name in always
            or any(word in PEERS[name].title.lower() for word in words)
        ]

    def pictures(self, layout: str) -> Path:
        """Return the cache that all pictures are from: "fixed", "ragged" or "large"."""
        if layout not in self.caches:
            (self.work / layout).mkdir()
            if layout == "large":
                self.caches[layout] = self._large()
                return self.caches[layout]
            how: dict[str, Any] = (
                {"size": self.options.crop, "resize": "crop"}
                if layout == "fixed"
                else {"size": self.options.size}
            )
            path = self.work / layout / "cache.mmc"
            mmcache.build(self.photos, path, progress=False, **how)
            self.caches[layout] = path
        return self.caches[layout]

    def _large(self) -> Path:
        """Generate a cache four times as large as the memory limit of the last table."""
        cache = self.work / "large" / "cache.mmc"
        edge = self.options.crop
        generated(cache, max(256, (self.options.limit << 22) // (edge * edge * 3)), edge)
        _filled(cache / "pixels.npy")
        return cache

    def contender(self, name: str, layout: str) -> Contender:
        """Start a contender, which has written its pictures; it has nothing open yet."""
        pictures = self.pictures(layout)
        kept = PEERS[name].kept or name
        if (kept, layout) not in self.wrote:
            self.wrote[kept, layout] = self._written(kept, layout)
        wrote = self.wrote[kept, layout]
        if isinstance(wrote, str):
            raise FailedError(wrote)
        return self._start(name, layout, pictures)

    def _written(self, name: str, layout: str) -> dict[str, Any] | str:
        """Have a peer write its pictures; return what it took, or why it could not."""
        contender = None
        try:
            contender = self._start(name, layout, self.pictures(layout))
            return contender.ask("write", timeout=120)
        except FailedError as error:
            return str(error)
        finally:
            if contender:
                contender.close()

    def _start(self, name: str, layout: str, pictures: Path) -> Contender:
        python = python_of(PEERS[name], installed=self.options.peers)
        if python is None:
            needed = ", ".join(PEERS[name].modules)
            raise FailedError(f"{needed} is not installed here (--peers installs it)")
        where = self.work / layout / (PEERS[name].kept or name)
        return Contender(name, python, where, pictures, self.photos)

    def seated(self, entry: Entry, layout: str) -> Contender:
        """Return a contender that is open, and was seen to give the right pixels.

        It stays for the next table: to start some of them takes seconds.
        """
        chair = entry._replace(title=""), layout
        contender = self._seated.get(chair)
        if contender is None or contender.ended:
            contender = self.contender(entry.name, layout)
            try:
                contender.ask("open")
                contender.ask("check")
            except FailedError:
                contender.close(now=True)
                raise
            self._seated[chair] = contender
        return contender

    def let_go(self, files: list[str]) -> None:
        """Have all that are seated let go of the pages of *files* that they have mapped."""
        for contender in self._seated.values():
            contender.ask("let_go", files=files)

    def dismiss(self) -> None:
        """End all that are seated: what they have mapped stays in memory while they live."""
        while self._seated:
            self._seated.popitem()[1].close()

    def leave_out(self, entry: Entry, where: str, error: object) -> None:
        """Remember why a contender is not in a table."""
        self.left_out[f"{entry.title} ({where})"] = str(error)


# Races -------------------------------------------------------------------------------------------


def entries(arena: Arena, *groups: Iterable[str]) -> list[Entry]:
    """Return an entry for each peer of *groups* that was chosen."""
    names = arena.chosen(name for group in groups for name in group)
    return [Entry(PEERS[name].title, name) for name in names]


def raced(
    arena: Arena,
    where: str,
    layout: str,
    those: list[Entry],
    turn: Callable[[Contender, Entry, int], dict[str, Any]],
) -> dict[Entry, list[Turn]]:
    """Let all take turns; those that do not get through their pictures in time, fewer of them."""
    return take_rounds(
        those,
        lambda entry, number: turn(arena.seated(entry, layout), entry, number),
        lambda entry, error: arena.leave_out(entry, where, error),
        rounds=arena.options.rounds,
        seconds=arena.options.seconds,
        slow=arena.options.turn,
    )


def results(
    arena: Arena,
    title: str,
    turns: dict[Entry, list[Turn]],
    size: float | None,
    limit: str | None,
) -> str:
    """Return a table, fastest first: *size* is the bytes of a picture, *limit* a peer's name."""
    order = sorted(turns, key=lambda entry: -median(one.rate for one in turns[entry]))
    bound = next((entry for entry in turns if entry.name == limit), None)
    base = next((entry for name in BASES for entry in turns if entry.name == name), None)
    bars = [(one.title, median(t.rate for t in turns[one])) for one in order if one.name in DRAWN]
    if title in PANELS:
        arena.panels.append(Panel(title, "pictures/s", bars))
    head = ["way", "pictures/s", "us, clock", "us, processor"]
    head += ["GB/s"] * (size is not None) + ([f"of {bound.title}"] if bound else [])
    head += [f"{base.title}: times as fast"] * (base is not None)
    lines = []
    for entry in order:
        each = turns[entry]
        rate = median(one.rate for one in each)
        line = [entry.title, f"{rate:,.0f}", f"{1e6 / rate:,.1f}"]
        line += [f"{median(one.processor / one.pictures for one in each) * 1e6:,.1f}"]
        line += [f"{rate * size / 1e9:.2f}"] if size is not None else []
        line += [f"{by_rounds(each, turns[bound]):.2f}"] if bound else []
        line += [f"{by_rounds(turns[base], each):.2f}"] if base is not None else []
        lines.append(line)
    return table(head, lines)


def epochs(arena: Arena, where: str, layout: str, what: str, those: list[Entry]) -> str:
    """Race whole epochs from a warm cache."""

    def turn(contender: Contender, entry: Entry, number: int) -> dict[str, Any]:
        options = arena.options
        return contender.ask(
            "epoch", what=what, seed=number, passes=options.passes, most=options.turn, **entry.more
        )

    turns = raced(arena, where, layout, those, turn)
    size = mean_bytes(arena.pictures(layout)) if what not in ("views", "crops") else None
    return results(arena, where, turns, size, "MemoryCopy")


def mean_bytes(cache: Path) -> float:
    """Return the bytes of a picture of a cache, on average."""
    return float(np.load(cache / "records.npy")[:, 1:].prod(axis=1).mean())


# Tables ------------------------------------------------------------------------------------------


def warm(arena: Arena) -> str:
    """Race random batches of one shape."""
    those = entries(arena, LIMITS, BATCHES, LOADERS, HAND, OTHERS)
    return epochs(arena, "random batches of one shape", "fixed", "random", those)


def ragged(arena: Arena) -> str:
    """Race random batches of many shapes: lists of arrays in memory of their own."""
    those = entries(arena, LIMITS, BATCHES[:3], LOADERS, HAND[:1], HAND[2:3], HAND[6:], OTHERS)
    return epochs(arena, "random batches of many shapes", "ragged", "random", those)


def padded(arena: Arena) -> str:
    """Race the same, padded to the largest of the batch; bytes are those of the pictures."""
    those = entries(arena, LIMITS, BATCHES[:3], LOADERS[:1], HAND[:1], HAND[6:], OTHERS)
    return epochs(arena, "random batches, padded", "ragged", "padded", those)


def views(arena: Arena) -> str:
    """Race lists of views: no pixel is touched."""
    those = entries(arena, BATCHES[2:3], HAND[:1], HAND[6:], OTHERS[:1])
    return epochs(arena, "lists of views", "ragged", "views", those)


def sequential(arena: Arena) -> str:
    """Race epochs in the order of the files."""
    those = entries(arena, LIMITS, BATCHES[:1], LOADERS, HAND, OTHERS)
    return epochs(arena, "an epoch in order", "fixed", "epoch", those)


def single(arena: Arena) -> str:
    """Race pictures at random rows, each into memory of its own."""

    def turn(contender: Contender, entry: Entry, number: int) -> dict[str, Any]:  # noqa: ARG001
        count = len(Pictures(arena.pictures("fixed")))
        rows = random.Random(number).choices(range(count), k=4000)  # noqa: S311
        return contender.ask("singles", rows=rows, most=arena.options.turn)

    own = [
        Entry("mmcache, `np.array(cache[i])`", "MmcacheBatch"),
        Entry("mmcache, `np.array(cache[i])`, HDF5", "MmcacheHdf5"),
        Entry("mmcache, `np.array(cache[i])`, Zarr", "MmcacheZarr"),
    ]
    those = [*own, *entries(arena, HAND[:1], HAND[2:], OTHERS)]
    title = "single pictures at random"
    turns = raced(arena, title, "fixed", those, turn)
    return results(arena, title, turns, None, None)


def loader(arena: Arena) -> str:
    """Race everybody through torch's DataLoader, without and with two workers."""
    arena.dismiss()
    through = ("MmcacheSamples", "MmcacheDataset", "MemmapLoop", "MmapNinja", "Streaming",
               "LitData", "HuggingFace", "Jpeg")  # fmt: skip
    those = [
        Entry(f"{PEERS[name].title}, {workers} workers", name, workers)
        for name in arena.chosen(through)
        for workers in (0, 2)
    ]
    alone = [Entry(PEERS[name].title, name, 0) for name in
             arena.chosen(("MmcacheLoader", "Ffcv"))]  # fmt: skip
    return epochs(arena, "torch DataLoader", "fixed", "loader", [*alone, *those])


def crops(arena: Arena) -> str:
    """Race random resized crops; processor time is what counts."""
    those = entries(arena, ("MmcacheBatchOutOne", "MmcacheLoader", "PillowCrops", "Ffcv"))
    return epochs(arena, "random resized crops", "ragged", "crops", those)


def cold(arena: Arena) -> str:
    """Race epochs of files that are not in memory: small ones whole, and a part of a large one."""
    arena.dismiss()
    own = (READERS, LOADERS, BATCHES[:1], ["MemmapOfCache"])
    others = ("H5pyContiguous", "Lmdb", *OTHERS[:2], *OTHERS[3:7])
    some = arena.options.some
    races = (
        ("cold, random order", "fixed", "random", (*own, ["MmcacheLoaderBlocks"], others), None),
        ("cold, in order", "fixed", "epoch", (*own, others), None),
        (f"cold, {some:,} of a large cache, random", "large", "random",
         (READERS, LOADERS[:1], BATCHES[:1], ["MemmapOfCache"]), some),
    )  # fmt: skip
    parts = []
    for title, layout, what, groups, few in races:
        turns = _cold_turns(arena, title, layout, what, entries(arena, *groups), few=few)
        size = mean_bytes(arena.pictures(layout))
        parts.append(f"#### {title}\n\n{results(arena, title, turns, size, 'DirectReads')}\n")
        arena.dismiss()
    return "\n".join(parts)


def _cold_turns(
    arena: Arena, title: str, layout: str, what: str, those: list[Entry], *, few: int | None
) -> dict[Entry, list[Turn]]:
    """Race one pass, all files dropped before each turn.

    Their mappings are let go of first, since what a process has mapped and touched stays in memory.
    So the first epoch of a process, in which buffers are allocated and FFCV compiles, is not in it.
    """

    def turn(contender: Contender, entry: Entry, number: int) -> dict[str, Any]:
        files = contender.ask("files")["files"]
        arena.let_go(files)
        for _ in range(TRIES):  # what was still being read ahead comes after the first
            drop(map(Path, files))
            if (part := resident(map(Path, files)) * 100) <= WARM:
                break
            time.sleep(0.05)
        if number and part > WARM:
            told = f"{part:.0f}% of its files stayed in memory, so it was not quite cold"
            arena.leave_out(entry, title, told)
        return contender.ask("epoch", what=what, seed=number, passes=1, most=10.0, few=few)

    return raced(arena, title, layout, those, turn)


def memory(arena: Arena) -> str:
    """Tell what a process and its workers hold at the end of an epoch."""
    arena.dismiss()  # file pages that two share are counted by halves
    alone = ("MmcacheLoader", "MmcacheBatchOut", "MemmapLoop", "H5pyChunks", "ZarrChunks", "Lmdb",
             "MmapNinja", "Ffcv", "Streaming", "LitData", "HuggingFace", "WebDataset")  # fmt: skip
    those = [Entry(PEERS[name].title, name) for name in arena.chosen(alone)]
    those += [
        Entry(f"{PEERS[name].title}, DataLoader with 2 workers", name, 2)
        for name in arena.chosen(("MmcacheSamples", "MmcacheDataset", "Jpeg"))
    ]
    lines = []
    for entry in those:
        try:
            lines.append((entry.title, *_memory(arena, entry)))
        except FailedError as error:
            arena.leave_out(entry, "memory", error)
    head = (
        "way",
        "private after imports, MB",
        "private at the end",
        "more",
        "file pages",
        "shared",
    )
    return table(head, lines)


def _memory(arena: Arena, entry: Entry) -> list[str]:
    contender = arena.contender(entry.name, "fixed")
    try:
        contender.ask("imports")
        before = contender.ask("memory")["Pss_Anon"]
        contender.ask("open")
        what = "loader" if entry.workers else "random"
        answer = contender.ask("epoch", what=what, seed=1, passes=1, most=10.0, weigh=True,
                               **entry.more)  # fmt: skip
        after = answer["memory"]
    finally:
        contender.close()
    figures = (before, after["Pss_Anon"], after["Pss_Anon"] - before, after["Pss_File"],
               after["Pss_Shmem"])  # fmt: skip
    return [f"{value / 1e6:.1f}" for value in figures]


def first(arena: Arena) -> str:
    """Time the start of a process to its first random batch."""
    arena.dismiss()
    those = entries(arena, LOADERS, BATCHES[:1], HAND[:1], HAND[2:3], HAND[4:5], HAND[6:], OTHERS)
    seen: dict[Entry, list[tuple[float, float]]] = {}
    end = time.monotonic() + arena.options.seconds
    for number in range(arena.options.starts):
        for entry in those:
            try:
                seen.setdefault(entry, []).append(_first(arena, entry, number))
            except FailedError as error:
                arena.leave_out(entry, "first batch", error)
        if time.monotonic() > end:
            break
    rows = []
    for entry, each in seen.items():
        if each:
            imports, batch = (median(column) * 1e3 for column in zip(*each, strict=True))
            rows.append((entry.title, imports + batch, imports, batch))
    rows.sort(key=lambda row: row[1])
    head = ("way", "ms from the start", "of it Python and imports", "open, and the first batch")
    return table(head, ((title, *(f"{ms:,.0f}" for ms in times)) for title, *times in rows))


def _first(arena: Arena, entry: Entry, number: int) -> tuple[float, float]:
    contender = arena.contender(entry.name, "fixed")
    try:
        contender.ask("imports")
        answer = contender.ask("first", seed=number)
    finally:
        contender.close()
    imported = answer["imported"] - contender.started
    return imported, answer["first"] - answer["imported"]


# An epoch under a memory limit -------------------------------------------------------------------

EPOCH = """
import sys
import mmcache
cache = mmcache.open(sys.argv[1])
shuffle = {"shuffled": True, "in order": False, "blocks": "blocks"}[sys.argv[2]]
seen = sum(len(batch) for batch in mmcache.Loader(cache, 64, shuffle=shuffle))
assert seen == len(cache), seen
"""


def limited(arena: Arena) -> str:
    """Run epochs over a cache four times as large as the memory that the process may have."""
    arena.dismiss()
    limit = arena.options.limit << 20
    cache = arena.pictures("large")
    length = mmcache.open(cache).nbytes
    lines = []
    for way in ("shuffled", "blocks", "in order"):
        drop([cache / "pixels.npy"])
        try:
            run = run_limited(
                [sys.executable, "-c", EPOCH, str(cache), way],
                limit,
                os.environ | {"PYTHONPATH": str(Path(__file__).resolve().parent.parent)},
            )
        except NoLimitError as error:
            return f"No memory limit could be set here: {error}."
        how = "finished" if run.status == 0 else f"ended with {run.status}: {run.said[:80]}"
        rate = f"{length / run.seconds / 1e9:.2f}"
        lines.append(
            (f"mmcache.Loader, {way}", how, f"{run.peak / 2**20:,.0f}", f"{run.seconds:.1f}", rate)
        )
    told = (
        f"{length / 2**20:,.0f} MiB of pixels, {limit / 2**20:,.0f} MiB of memory, from a cold file"
    )
    head = (told, "epoch", "peak, MiB, file pages counted", "seconds", "GB/s")
    return table(head, lines)


def _filled(path: Path) -> None:
    """Fill the holes of a generated cache's pixels, and bring them to disk."""
    block = np.random.default_rng(1).integers(0, 256, 1 << 22, np.uint8)
    with path.open("r+b") as file:
        length = file.seek(0, os.SEEK_END)
        file.seek(4096)
        while (left := length - file.tell()) > 0:
            file.write(block[:left])
        file.flush()
        os.fdatasync(file.fileno())


# The script --------------------------------------------------------------------------------------

TABLES: dict[str, tuple[str, Callable[[Arena], str]]] = {
    "warm": ("Random batches of 256, one shape, warm", warm),
    "ragged": ("Random batches of 256, many shapes, warm: lists", ragged),
    "padded": ("The same, padded to the largest of the batch", padded),
    "views": ("The same, as lists of views: no pixel is touched", views),
    "sequential": ("An epoch in order, one shape, warm", sequential),
    "single": ("Single pictures at random, one shape, warm", single),
    "loader": ("torch DataLoader, one shape, warm", loader),
    "crops": ("Random resized crops to 224, from many shapes, warm", crops),
    "cold": ("A cold cache, one shape", cold),
    "memory": ("Memory at the end of an epoch", memory),
    "first": ("The first batch of a fresh process", first),
    "limited": ("An epoch over more than memory holds", limited),
}


SENTENCES = {
    "warm": "What a training loop asks for in every step, and all of it is in memory already. Each"
    " way fills memory of its own, a buffer that is used again where it can.",
    "ragged": "A batch is a list here: each picture has the shape that its photo gave it.",
    "padded": "The same pictures as one array, filled up with zeros. GB/s counts the pictures'"
    " bytes alone; the zeros come on top.",
    "views": "Where a loop only looks at its pictures, nothing has to be copied.",
    "sequential": "Validation, statistics, exports: every picture once, as it lies in the file.",
    "single": "A picture at a time, each copied into an array of its own.",
    "loader": "torch's own way: a sample a call, collated to a batch, in this process or in two"
    " workers, which hand batches over through shared memory. `mmcache.Loader` and FFCV have"
    " loaders of their own and stand here to compare.",
    "crops": "A random window of each picture, resized to 224 x 224. mmcache and Pillow smooth what"
    " they make smaller; FFCV does not, so that its pictures alias.",
    "cold": "Nothing is in memory when a turn begins, which the script makes sure of. In the first"
    " two tables all of a small cache is read, and the system's read-ahead brings in what comes"
    " next, in any order. In the third, some pictures of a large one are.",
    "memory": "Private memory is what a process has for itself. File pages are the cache as the"
    " system keeps it in memory: it counts as the process's, is shared by all, and is given up when"
    " anybody needs room. Workers are counted with their process.",
    "first": "A fresh process, files in memory: how long one waits in a notebook.",
    "limited": "A process that may have a quarter of what its cache takes, file pages counted.",
    "written": "The pixels were decoded and resized before; mmcache's npy was what all others were"
    " made from.",
}


def main(arguments: list[str] | None = None) -> int:
    """Print the tables, and draw them where that is asked."""
    options = options_of(arguments)
    started = time.monotonic()
    told: list[str] = []

    def tell(title: str, text: str) -> None:
        told.append(f"### {title}\n\n{text.strip()}\n")
        print(told[-1], flush=True)

    with workplace(options) as (photos, work):
        arena = Arena(photos, work, options)
        for name in options.only:
            title, made = TABLES[name]
            tell(title, f"{SENTENCES[name]}\n\n{made(arena).strip()}")
        arena.dismiss()
        tell("What each needs to write", f"{SENTENCES['written']}\n\n{written(arena)}")
        if arena.left_out:
            lines = ((name, why) for name, why in arena.left_out.items())
            tell("Who is not in a table, and why", table(("who", "why"), lines))
    print(f"All of it took {time.monotonic() - started:.0f} seconds.")
    if options.plot:
        options.plot.write_text(drawn(arena.panels))
    if options.into:
        put_into(options.into, "bench_read.py", "\n".join(told))
    return 0


def written(arena: Arena) -> str:
    """Return a table of what it took each to write the pictures that were resized already."""
    took = {key: told["clock"] for key, told in arena.wrote.items() if not isinstance(told, str)}
    lines = []
    for name in dict.fromkeys(name for name, _ in took):
        each = [took.get((name, layout), 0) for layout in ("fixed", "ragged")]
        seconds = [f"{one:.2f}".replace("0.00", "") for one in each]
        if any(seconds):  # some have nothing to write
            lines.append((PEERS[name].title, *seconds))
    return table(("way", "one shape", "many shapes"), lines)


def options_of(arguments: list[str] | None) -> argparse.Namespace:
    """Read the command line."""
    parser = parser_of(__doc__, TABLES)
    add = parser.add_argument
    add("--crop", type=int, default=224, help="edge of pictures of one shape")
    add("--size", type=int, default=256, help="box of pictures of many shapes")
    add("--rounds", type=int, default=5, help="of each table, if time allows")
    add("--starts", type=int, default=2, help="fresh processes to the first batch")
    add("--passes", type=int, default=4, help="over all pictures in a turn")
    add("--turn", type=float, default=0.5, help="seconds after which a turn ends")
    add("--seconds", type=float, default=20, help="after which no further round begins")
    add("--some", type=int, default=1000, help="pictures that are read of the large cache")
    add("--limit", type=int, default=256, help="MiB of memory for the last table")
    return asked(parser, arguments, TABLES)


if __name__ == "__main__":
    sys.exit(main())
