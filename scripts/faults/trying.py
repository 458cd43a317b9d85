"""What the fault scripts share: pictures, builders in processes of their own, what came of them."""

from __future__ import annotations

import argparse
import contextlib
import dataclasses
import hashlib
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

import mmcache
from mmcache import layout
from mmcache.testing import paint_folder

if TYPE_CHECKING:
    import random
    from collections.abc import Iterator, Sequence
    from typing import Any, TypeVar

    from mmcache.sources import Listing

    Item = TypeVar("Item")

__all__ = [
    "CALLS",
    "NAMES",
    "Backwards",
    "bytes_of",
    "evenly",
    "header",
    "is_whole",
    "options_of",
    "processes_of",
    "row",
    "signalling",
    "small_caches",
    "started",
    "workplace",
]

NAMES = {"npy": "out.mmc", "hdf5": "out.h5", "zarr": "out.zarr"}
"""A path for each format."""

# A builder of many small slabs, which notes what it did every few pictures.
_BUILDER = """
import sys
import mmcache
from mmcache import filling, layout
layout.SLAB, filling._CHECKPOINT = 1 << 18, 1 << 16
photos, out, size, executor, workers, exist = sys.argv[1:]
mmcache.build(photos, out, size=int(size), executor=executor, workers=int(workers), exist=exist,
              progress=False)
"""

CALLS = ("pwrite", "fsync", "fdatasync", "ftruncate", "posix_fallocate", "rename", "unlink")
"""The calls by which a builder changes the disk."""

_SIGNALLING = """
import itertools, os, signal
def signalling(real, counter=itertools.count(1)):
    def call(*args, **kwargs):
        if next(counter) == {number}:
            os.kill(os.getpid(), {signal:d})
        return real(*args, **kwargs)
    return call
os.{call} = signalling(os.{call})
"""


def options_of(
    doc: str, arguments: Sequence[str] | None, *, tries: int, more: dict[str, int] | None = None
) -> argparse.Namespace:
    """Read ``--tries``, ``--pictures`` and ``--seed``, and numbers by *more* names."""
    parser = argparse.ArgumentParser(description=doc.partition("\n")[0])
    defaults = {"tries": tries, "pictures": 120, "seed": 0, **(more or {})}
    for name, default in defaults.items():
        parser.add_argument(f"--{name}", type=int, default=default, help=f"(default: {default})")
    return parser.parse_args(arguments)


@contextlib.contextmanager
def workplace(pictures: int) -> Iterator[tuple[Path, Path]]:
    """Give a folder of painted pictures, and one to work in; both are removed at the end."""
    with tempfile.TemporaryDirectory(prefix="mmcache-faults-") as name:
        work = Path(name) / "work"
        work.mkdir()
        yield paint_folder(Path(name) / "photos", pictures, longest=240), work


def started(
    photos: Path,
    out: Path,
    chance: random.Random,
    *,
    exist: str = "resume",
    size: int = 96,
    executor: str | None = None,
    before: str = "",
    under: Sequence[str] = (),
    **how: Any,
) -> subprocess.Popen[Any]:
    """Start a builder of *photos* at *out*, with some executor if none is named.

    *before* it runs a few lines; *under* are the words of a command that runs it; *how* goes to
    :class:`subprocess.Popen`.
    """
    executor = executor or chance.choice(["serial", "threads", "processes"])
    workers = chance.choice([1, 2, 3])
    words = [photos, out, size, executor, workers, exist]
    command = [*under, sys.executable, "-c", before + _BUILDER, *map(str, words)]
    return subprocess.Popen(command, **how)


class Backwards(mmcache.Folder):
    """A folder whose pictures come in reverse, so that a cache needs an order of its keys."""

    def listing(self) -> Listing:
        """Return what the folder holds, turned round."""
        told = super().listing()
        rows = np.arange(len(told.keys))[::-1]
        labels = None if told.labels is None else told.labels[rows]
        return dataclasses.replace(told, keys=told.keys.take(rows).packed(), labels=labels)


def small_caches(photos: Path, folder: Path, store: str) -> list[mmcache.Cache]:
    """Build a cache of one shape and one of many: labels, failures, an order, slabs."""
    from mmcache.stores import zarr  # noqa: PLC0415  # slow to import, and needed here alone

    layout.SLAB, zarr.SHARD = 1 << 16, 1  # a file each
    (photos / "broken.jpg").write_bytes(b"no picture")
    (photos / "empty.png").touch()
    source = Backwards(photos)
    folder.mkdir()
    return [
        mmcache.build(
            source, folder / f"{how}-{NAMES[store]}", resize=how, size=size, progress=False
        )
        for how, size in (("pad", (60, 80)), ("contain", 120))
    ]


def evenly(items: Sequence[Item], most: int) -> list[Item]:
    """Return an even sample of at most *most* items."""
    count = min(most, len(items))
    return [items[number * len(items) // count] for number in range(count)]


def processes_of(group: int, patience: float = 2.0) -> list[int]:
    """Return which processes of a group still run after *patience* seconds; Linux tells."""
    until = time.monotonic() + patience
    while (running := list(_running(group))) and time.monotonic() < until:
        time.sleep(0.01)
    return running


def _running(group: int) -> Iterator[int]:
    for stat in Path("/proc").glob("[0-9]*/stat"):
        with contextlib.suppress(OSError):  # it has ended
            state, _, of = stat.read_text().rpartition(")")[2].split()[:3]
            if int(of) == group and state != "Z":
                yield int(stat.parent.name)


def signalling(call: str, number: int, signal: int) -> str:
    """Return the head of a program that sends itself a signal at a call of :data:`CALLS`."""
    return _SIGNALLING.format(call=call, number=number, signal=signal)


def is_whole(path: Path) -> bool:
    """Tell whether every byte of a cache is as it was written."""
    return mmcache.verify(path, progress=False).ok


def bytes_of(path: Path) -> str:
    """Return a digest of all files of a cache and their names."""
    digest = hashlib.sha256()
    for file in [path] if path.is_file() else sorted(path.rglob("*")):
        if file.is_file():
            digest.update(b"%s\0" % str(file.relative_to(path)).encode() + file.read_bytes())
    return digest.hexdigest()


def header(*names: str) -> None:
    """Print the first two lines of a Markdown table: two columns of words, and numbers."""
    print("| " + " | ".join(names) + " |")
    print("|---|---|" + "--:|" * (len(names) - 2), flush=True)


def row(*values: object) -> None:
    """Print a line of it."""
    print("| " + " | ".join(map(str, values)) + " |", flush=True)
