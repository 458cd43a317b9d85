"""What nobody can be faster than: copies in memory, and reads of the disk by many at once."""

from __future__ import annotations

import itertools
import os
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from contest.peer import Peer, parts
from contest.pictures import BATCH

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

    from numpy.typing import NDArray

    from contest.pictures import Pictures

__all__ = ["DirectReads", "MemoryCopy", "MemoryCopyByPicture", "MemoryCopyByTwo"]

READERS = 32  # threads of the direct reads


class MemoryCopy(Peer):
    """The same bytes from one place in memory to another, and nothing else."""

    title = "a memory copy, 1 thread"
    exact = False
    threads: ClassVar[int] = 1

    def write(self, pictures: Pictures, labels: NDArray[np.int64]) -> None:
        """Keep nothing: the pictures are copied to memory when they are opened."""

    def open(self) -> None:
        self.source = np.array(self.pictures.flat)
        ends = [0, *itertools.accumulate(map(self.pictures.nbytes, range(len(self.pictures))))]
        self.ends = ends
        self.pool = ThreadPoolExecutor(self.threads)

    def batches(self, rows: Sequence[int]) -> Iterator[Any]:
        """Copy as many bytes as the pictures have, one stretch a batch and thread."""
        count = len(self.pictures)
        longest = max(map(self.pictures.nbytes, range(count)))
        out = np.empty(BATCH * longest, np.uint8)
        first = 0
        for part in parts(rows):
            length = sum(map(self.pictures.nbytes, part))
            if first + length > len(self.source):
                first = 0
            self._copy(out[:length], self.source[first : first + length])
            first += length
            yield range(len(part))  # so many pictures

    def padded(self, seed: int, passes: int) -> Iterator[Any]:
        """Copy the bytes without their padding."""
        return self.random(seed, passes)

    def _copy(self, out: NDArray[np.uint8], source: NDArray[np.uint8]) -> None:
        if self.threads == 1:
            np.copyto(out, source)
            return
        edges = np.linspace(0, len(out), self.threads + 1).astype(int).tolist()
        parts = [slice(*pair) for pair in itertools.pairwise(edges)]
        list(self.pool.map(lambda part: np.copyto(out[part], source[part]), parts))

    def files(self) -> list[Path]:
        return []


class MemoryCopyByTwo(MemoryCopy):
    """The same by two threads."""

    title = "a memory copy, 2 threads"
    threads = 2


class MemoryCopyByPicture(MemoryCopy):
    """The same in pieces as long as the pictures, which the processor's caches like better."""

    title = "a memory copy, picture by picture"

    def batches(self, rows: Sequence[int]) -> Iterator[Any]:
        """Copy a stretch a picture, from wherever it lies."""
        starts, ends = self.ends[:-1], self.ends[1:]
        longest = max(map(self.pictures.nbytes, range(len(self.pictures))))
        out = np.empty(BATCH * longest, np.uint8).data
        source = self.source.data
        for part in parts(rows):
            place = 0
            for row in part:
                length = ends[row] - starts[row]
                out[place : place + length] = source[starts[row] : ends[row]]
                place += length
            yield range(len(part))


class DirectReads(Peer):
    """The same records of the same file by ``preadv`` of many threads: what the disk can give."""

    title = f"preadv, {READERS} threads"
    exact = False

    def write(self, pictures: Pictures, labels: NDArray[np.int64]) -> None:
        """Keep nothing: the file of the pictures is what it reads."""

    def files(self) -> list[Path]:
        return [self.pictures.path]

    def open(self) -> None:
        self.file = os.open(self.pictures.path, os.O_RDONLY)
        os.posix_fadvise(self.file, 0, 0, os.POSIX_FADV_RANDOM)
        self.pool = ThreadPoolExecutor(READERS)

    def batches(self, rows: Sequence[int]) -> Iterator[Any]:
        """Read into one buffer, a record a task."""
        sizes = [self.pictures.nbytes(row) for row in range(len(self.pictures))]
        out = np.empty(BATCH * max(sizes), np.uint8)
        start, offsets = self.pictures.start, self.pictures.offsets

        def read(place: int, row: int) -> None:
            os.preadv(self.file, [out[place : place + sizes[row]]], start + offsets[row])

        for part in parts(rows):
            places = itertools.accumulate((sizes[row] for row in part[:-1]), initial=0)
            list(self.pool.map(read, places, part))
            yield range(len(part))


# mmcache -----------------------------------------------------------------------------------------
