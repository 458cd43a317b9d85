"""One self-contained HDF5 file: a page that h5py skips, the HDF5 data, and the frame behind them.

The container is always made whole, in memory and with nothing in it; all of it but the payload is
then written over the file. So it may be written again at any time, and keeps the payload; and what
goes to the disk goes there by our own hands, so that a full one is an error and never a signal.
"""

from __future__ import annotations

import io
import os
from typing import TYPE_CHECKING, Any

import h5py
import numpy as np

from mmcache.stores.frame import PAGE, Segment, signpost
from mmcache.stores.payload import allocated, in_blocks, opened, synced, write_at

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping
    from pathlib import Path

    from numpy.typing import NDArray

    from mmcache.stores.frame import Frame

__all__ = ["FILE", "Hdf5Store"]

_ZEROS = bytes(PAGE)
_ROUND = 2 * PAGE  # what HDF5 writes to describe a dataset

FILE = "cache.h5"
"""What a frame calls the file, which may have any name."""


class Hdf5Store:
    """An HDF5 file whose datasets are contiguous, uncompressed, and begin on pages."""

    name = "hdf5"
    title = "HDF5 file"

    def __init__(self) -> None:
        self._pixels: tuple[np.dtype[Any], tuple[int, ...]] = (np.dtype("u1"), (0,))
        self._end = 0

    def disk_bytes(
        self,
        sizes: Mapping[str, int],
        dtype: np.dtype[Any],  # noqa: ARG002  # a dataset is as long as its array, whatever that is
        shape: tuple[int, ...],  # noqa: ARG002
        slab: int,  # noqa: ARG002
    ) -> int:
        """Return what it takes on disk; see :class:`mmcache.stores.contract.Store`."""
        return PAGE + sum(_ROUND + in_blocks(size) for size in sizes.values())

    def allocate(
        self,
        path: Path,
        dtype: np.dtype[Any],
        shape: tuple[int, ...],
        slab: int,  # noqa: ARG002  # one file holds all slabs
    ) -> list[Segment]:
        """Create the file; see :class:`mmcache.stores.contract.Store`."""
        self._pixels = (dtype, shape)
        return [self._contain(path, {})["pixels"]]

    def write_arrays(
        self, path: Path, arrays: Mapping[str, NDArray[Any]]
    ) -> dict[str, list[Segment]]:
        """Write a dataset an array; see :class:`mmcache.stores.contract.Store`."""
        segments = self._contain(path, arrays)
        with opened(path, os.O_RDWR) as descriptor:
            for name, array in arrays.items():
                if array.nbytes:
                    write_at(descriptor, array, segments[name].offset)
        return {name: [segments[name]] for name in arrays}

    def write_frame(self, path: Path, frame: Frame) -> None:
        """Write the frame behind the data; see :class:`mmcache.stores.contract.Store`."""
        document = frame.to_bytes()
        synced(path)
        with opened(path, os.O_RDWR) as descriptor:
            write_at(descriptor, document, self._end)
            os.ftruncate(descriptor, self._end + len(document))
            os.fsync(descriptor)

    def _contain(self, path: Path, arrays: Mapping[str, NDArray[Any]]) -> dict[str, Segment]:
        """Write the container round the payload, and return where each dataset lies."""
        shapes = {name: (array.dtype, array.shape) for name, array in arrays.items()}
        container = _Sparse()
        segments = _datasets(container, {"pixels": self._pixels} | shapes)
        self._end = container.seek(0, os.SEEK_END)
        allocated(path, signpost(self._end), self._end)
        with opened(path, os.O_RDWR) as descriptor:
            for start, stop in _between(segments.values(), self._end):
                for place, piece in container.pieces(start, stop):
                    write_at(descriptor, piece, place)
        return segments


class _Sparse(io.RawIOBase):
    """A file in memory of any length, of which only pages that were written are kept."""

    def __init__(self) -> None:
        super().__init__()
        self._pages: dict[int, bytearray] = {}
        self._position = self._length = 0

    def readable(self) -> bool:
        return True

    def writable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def tell(self) -> int:
        return self._position

    def seek(self, offset: int, whence: int = os.SEEK_SET, /) -> int:
        start = {os.SEEK_SET: 0, os.SEEK_CUR: self._position, os.SEEK_END: self._length}[whence]
        self._position = start + offset
        return self._position

    def truncate(self, size: int | None = None, /) -> int:
        self._length = self._position if size is None else size
        return self._length

    def pieces(self, start: int, stop: int) -> Iterator[tuple[int, bytes]]:
        """Yield the bytes of a stretch, a page or less each, with their places."""
        while start < stop:
            number, first = divmod(start, PAGE)
            last = min(PAGE, first + stop - start)
            yield start, bytes(self._pages.get(number, _ZEROS)[first:last])
            start += last - first

    def readinto(self, buffer: Any, /) -> int:
        view = memoryview(buffer).cast("B")
        begun = self._position
        for place, piece in self.pieces(begun, min(begun + len(view), self._length)):
            view[place - begun : place - begun + len(piece)] = piece
            self._position = place + len(piece)
        return self._position - begun

    def write(self, data: Any, /) -> int:
        view = memoryview(data).cast("B")
        rest = view
        while rest:
            number, first = divmod(self._position, PAGE)
            page = self._pages.setdefault(number, bytearray(PAGE))
            length = min(len(rest), PAGE - first)
            page[first : first + length] = rest[:length]
            rest, self._position = rest[length:], self._position + length
        self._length = max(self._length, self._position)
        return len(view)


def _datasets(
    container: _Sparse, shapes: Mapping[str, tuple[np.dtype[Any], tuple[int, ...]]]
) -> dict[str, Segment]:
    """Write an HDF5 file of empty datasets, and return where each lies."""
    # Later versions of the file format leave a file that a killed writer makes unopenable.
    with h5py.File(
        container,
        "w",
        libver=("v108", "v108"),
        userblock_size=PAGE,
        alignment_threshold=1,
        alignment_interval=PAGE,
    ) as file:
        return {name: _dataset(file, name, *shape) for name, shape in shapes.items()}


def _dataset(file: h5py.File, name: str, dtype: np.dtype[Any], shape: tuple[int, ...]) -> Segment:
    how = h5py.h5p.create(h5py.h5p.DATASET_CREATE)
    how.set_layout(h5py.h5d.CONTIGUOUS)
    how.set_alloc_time(h5py.h5d.ALLOC_TIME_EARLY)
    how.set_fill_time(h5py.h5d.FILL_TIME_NEVER)
    how.set_obj_track_times(False)  # h5py's own
    kind = h5py.h5t.py_create(dtype, logical=True)
    made = h5py.h5d.create(file.id, name.encode(), kind, h5py.h5s.create_simple(shape), dcpl=how)
    length = made.get_storage_size()
    return Segment(FILE, made.get_offset() if length else 0, length)


def _between(segments: Iterable[Segment], end: int) -> Iterator[tuple[int, int]]:
    """Yield the stretches of a file that are neither the user block nor a dataset's own bytes."""
    position = PAGE
    for one in sorted(segments, key=lambda one: one.offset):
        if one.length:
            yield position, one.offset
            position = one.offset + one.length
    yield position, end
