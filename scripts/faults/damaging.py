"""What can happen to the files of a cache, and which of their bytes are what."""

from __future__ import annotations

import ctypes
import os
import shutil
from itertools import combinations
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from trying import evenly

from mmcache.stores.frame import FRAME_FILE, GROUP_FILE

if TYPE_CHECKING:
    import random
    from collections.abc import Callable, Iterator
    from pathlib import Path

    import mmcache

__all__ = ["BITS", "FAULTS", "Fault", "Good", "Place"]

BITS = "a bit of a picture"

PAGE = 4096
CUTS = 20  # lengths that a file is cut to
KEEP_LENGTH, PUNCH_HOLE = 1, 2  # of Linux's fallocate

HEADER, GAP, INDEX, FRAME, RECORD = range(5)
"""What a byte is; a gap is filled with zeros or spaces, be it in a header or between arrays."""


class Good:
    """A cache that nothing was done to: the bytes of its files, and what they are."""

    def __init__(self, cache: mmcache.Cache) -> None:
        self.path, self.store = cache.path, cache.to_json()["format"]
        self.files = files_of(cache.path)
        self.own = {"npy": FRAME_FILE, "zarr": GROUP_FILE}.get(self.store, cache.path.name)
        self.records = dict(self._records(cache))
        self.kinds = {
            name: np.where(np.isin(np.frombuffer(data, "u1"), [*b"\0 "]), GAP, HEADER)
            for name, data in self.files.items()
        }
        frame = cache.files.frame
        for one in (one for name, one in frame.arrays.items() if name != "pixels"):
            for name, offset, length in one.segments:
                self.kinds[self._called(name)][offset : offset + length] = INDEX
        for name, start, end in self.records.values():
            self.kinds[name][start:end] = RECORD
        self.kinds[self.own][-frame.trailing or None :] = FRAME  # a whole file, or what ends one

    def _called(self, name: str) -> str:
        return self.path.name if self.path.is_file() else name

    def _records(self, cache: mmcache.Cache) -> Iterator[tuple[str, tuple[str, int, int]]]:
        """Yield keys, and where the bytes of their pictures are found."""
        for key, picture in zip(cache.keys, cache, strict=True):
            data = picture.tobytes()
            found = [(name, held.find(data)) for name, held in self.files.items() if data in held]
            ((name, start),) = found
            yield key, (name, start, start + len(data))

    def hit(self, path: Path) -> set[str]:
        """Return the keys of the pictures whose bytes at *path* are not what they were."""
        files = files_of(path)
        return {
            key
            for key, (name, start, end) in self.records.items()
            if files.get(name, b"")[start:end] != self.files[name][start:end]
        }

    def tells_of_none(self, name: str) -> bool:
        """Tell whether a file holds nothing that tells of pictures, so that they can be named."""
        return not np.isin(self.kinds[name], (INDEX, FRAME)).any()

    def restored(self, path: Path) -> None:
        """Copy it to *path*, whatever is there."""
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path)
        path.unlink(missing_ok=True)
        (shutil.copytree if self.path.is_dir() else shutil.copyfile)(self.path, path)


def files_of(path: Path) -> dict[str, bytes]:
    """Return the plain files of a cache, through no link."""
    if path.is_file():
        return {path.name: path.read_bytes()}
    return {
        file.relative_to(path).as_posix(): file.read_bytes()
        for file in sorted(path.rglob("*"))
        if file.is_file() and not file.is_symlink()
    }


def file_at(path: Path, name: str) -> Path:
    """Return where file *name* of a cache is, be it a link or gone by now."""
    return path if name == path.name and not path.is_dir() else path / name


# What happens -------------------------------------------------------------------------------------

Place = tuple[str, int]
"""A file's name, and a number: of a byte, a length, another file."""


class Fault(NamedTuple):
    """Where it can happen, and what then does; that returns the files that have changed."""

    places: Callable[[Good], list[Place]]
    do: Callable[[Path, Place, random.Random], tuple[str, ...]]


def _bytes_that_are(kind: int) -> Callable[[Good], list[Place]]:
    def places(good: Good) -> list[Place]:
        return [
            (name, place)
            for name, kinds in good.kinds.items()
            for place in np.flatnonzero(kinds == kind).tolist()
        ]

    return places


def _flip(path: Path, place: Place, chance: random.Random) -> tuple[str, ...]:
    name, at = place
    with file_at(path, name).open("r+b") as file:
        file.seek(at)
        (byte,) = file.read(1)
        file.seek(at)
        file.write(bytes([byte ^ 1 << chance.randrange(8)]))
    return (name,)


def _lengths(good: Good) -> list[Place]:
    files = good.files.items()
    return [(name, length) for name, data in files for length in evenly(range(len(data)), CUTS)]


def _longer(good: Good) -> list[Place]:
    return [(name, len(data) + more) for name, data in good.files.items() for more in (1, PAGE)]


def _resize(path: Path, place: Place, _: random.Random) -> tuple[str, ...]:
    name, length = place
    os.truncate(file_at(path, name), length)
    return (name,)


def _pages(good: Good) -> list[Place]:
    return [
        (name, at)
        for name, data in good.files.items()
        for at in range(0, len(data), PAGE)
        if any(data[at : at + PAGE])
    ]


def _punch(path: Path, place: Place, _: random.Random) -> tuple[str, ...]:
    """Give a page back to the file system, which then reads as zeros."""
    name, at = place
    with file_at(path, name).open("r+b") as file:
        how = KEEP_LENGTH | PUNCH_HOLE
        stretch = (ctypes.c_int64(at), ctypes.c_int64(PAGE))
        if ctypes.CDLL(None, use_errno=True).fallocate(file.fileno(), how, *stretch):
            raise OSError(ctypes.get_errno(), "no hole could be punched")
    return (name,)


def _each(*numbers: int) -> Callable[[Good], list[Place]]:
    return lambda good: [(name, number) for name in good.files for number in numbers]


def _remove(path: Path, place: Place, _: random.Random) -> tuple[str, ...]:
    file_at(path, place[0]).unlink()
    return place[:1]


def _pairs(good: Good) -> list[Place]:
    names = list(good.files)
    return [
        (one, number)
        for (_, one), (number, other) in combinations(enumerate(names), 2)
        if len(good.files[one]) == len(good.files[other]) and good.files[one] != good.files[other]
    ]


def _swap(path: Path, place: Place, _: random.Random) -> tuple[str, ...]:
    pair = place[0], list(files_of(path))[place[1]]
    one, other = (file_at(path, name) for name in pair)
    one.rename(path / "between")
    other.rename(one)
    (path / "between").rename(other)
    return pair


def _replacements(good: Good) -> list[Place]:
    # A cache of one file may itself stand behind a link, as one of a folder may.
    return [place for place in _each(0, 1, 2, 3)(good) if place[1] or good.path.is_dir()]


def _replace(path: Path, place: Place, _: random.Random) -> tuple[str, ...]:
    """Put a link to the same bytes there, a link to itself, a folder, or a FIFO."""
    name, how = place
    file = file_at(path, name)
    moved = path.with_name("elsewhere")
    file.replace(moved)
    (
        lambda: file.symlink_to(moved),
        lambda: file.symlink_to(file),
        file.mkdir,
        lambda: os.mkfifo(file),
    )[how]()
    return (name,)


FAULTS = {
    "a bit of an index array": Fault(_bytes_that_are(INDEX), _flip),
    "a bit of the frame": Fault(_bytes_that_are(FRAME), _flip),
    "a bit of a header": Fault(_bytes_that_are(HEADER), _flip),
    "a bit of a gap": Fault(_bytes_that_are(GAP), _flip),
    BITS: Fault(_bytes_that_are(RECORD), _flip),
    "a file cut": Fault(_lengths, _resize),
    "a file longer": Fault(_longer, _resize),
    "a page zeroed": Fault(_pages, _punch),
    "a file missing": Fault(_each(0), _remove),
    "two files swapped": Fault(_pairs, _swap),
    "a link, folder or FIFO": Fault(_replacements, _replace),
}
