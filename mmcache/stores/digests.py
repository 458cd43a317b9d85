"""Every byte is under a checksum: of its record, or, here, of its file's rest."""

from __future__ import annotations

import hashlib
import os
from itertools import chain
from typing import TYPE_CHECKING

import google_crc32c
import numpy as np

from mmcache.records import HEIGHT, OFFSET
from mmcache.stores.frame import ArrayFrame, FileFrame
from mmcache.stores.payload import opened, pieces_of

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from pathlib import Path

    from numpy.typing import NDArray

__all__ = ["content_digest", "crc32c_of", "file_frames", "records_in", "rest_digest"]


def content_digest(recipe: str, classes: Iterable[str], arrays: dict[str, ArrayFrame]) -> str:
    """Return what identifies a cache's contents in any format.

    It covers the recipe's fingerprint, the classes, and every array; pixels are in it by their
    checksums, which are an array too.
    """
    digest = hashlib.sha256(recipe.encode())
    for name in classes:
        digest.update(name.encode("utf-8", "surrogateescape") + b"\0")
    for name in sorted(arrays):
        one = arrays[name]
        digest.update(f"{name} {one.dtype} {one.shape} {one.sha256 or ''} ".encode())
    return digest.hexdigest()


def file_frames(
    path: Path, arrays: dict[str, ArrayFrame], records: NDArray[np.int64]
) -> dict[str, FileFrame]:
    """Return each file's length and the SHA-256 of its bytes that belong to no record.

    *records* are the rows ``(N, 4)`` in the order of their offsets.
    """
    if not path.is_dir():
        (name,) = {segment.file for one in arrays.values() for segment in one.segments}
        return {name: _file_frame(path, records_in(name, arrays["pixels"], records))}
    # All there are: of some formats a file may hold no array, but what the array is.
    names = sorted(file.relative_to(path).as_posix() for file in path.rglob("*") if file.is_file())
    return {
        name: _file_frame(path / name, records_in(name, arrays["pixels"], records))
        for name in names
    }


def records_in(
    file: str, pixels: ArrayFrame, records: NDArray[np.int64]
) -> Iterator[tuple[int, int]]:
    """Yield start and end in bytes of the records that lie in *file*, in order."""
    item = np.dtype(pixels.dtype).itemsize
    starts = records[:, OFFSET] * item
    ends = starts + np.prod(records[:, HEIGHT:], axis=1) * item
    base = 0
    for segment in pixels.segments:
        if segment.file == file:
            here = slice(*np.searchsorted(starts, [base, base + segment.length]))
            shift = segment.offset - base
            for start, end in _runs(starts[here], ends[here]):
                yield start + shift, end + shift
        base += segment.length


def _runs(starts: NDArray[np.int64], ends: NDArray[np.int64]) -> Iterator[tuple[int, int]]:
    """Join stretches that follow one another without a gap."""
    if not len(starts):
        return
    first = np.flatnonzero(np.concatenate([[True], starts[1:] != ends[:-1]]))
    last = np.append(first[1:] - 1, len(starts) - 1)
    yield from zip(starts[first].tolist(), ends[last].tolist(), strict=True)


def _file_frame(file: Path, taken: Iterable[tuple[int, int]]) -> FileFrame:
    with opened(file, os.O_RDONLY) as descriptor:
        length = os.fstat(descriptor).st_size
        return FileFrame(length, rest_digest(descriptor, length, taken))


def rest_digest(descriptor: int, length: int, taken: Iterable[tuple[int, int]]) -> str:
    """Return the SHA-256 of the first *length* bytes of a file without the stretches *taken*.

    Stretches are start and end in bytes, in order; :class:`OSError` where the file ends before.
    """
    digest = hashlib.sha256()
    position = 0
    for start, end in chain(taken, [(length, length)]):
        for piece in pieces_of(descriptor, position, start):
            digest.update(piece)
        # Never back: damaged stretches do not make it read a byte twice.
        position = max(position, end)
    return digest.hexdigest()


def crc32c_of(descriptor: int, start: int, end: int) -> int:
    """Return the CRC-32C of a stretch of a file, or -1, which none is, where it cannot be read."""
    checksum = 0
    try:
        for piece in pieces_of(descriptor, start, end):
            checksum = google_crc32c.extend(checksum, piece)
    except OSError:
        return -1
    return checksum
