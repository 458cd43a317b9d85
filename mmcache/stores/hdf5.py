"""One self-contained HDF5 file: a page that h5py skips, the HDF5 data, and the frame behind them.

The container is always written whole and beside, with nothing in it; all of it but the payload is
then copied over the file. So it may be written again at any time, and keeps the payload.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

import h5py
import numpy as np

from mmcache.stores.frame import PAGE, Segment, signpost
from mmcache.stores.payload import allocated, opened, pieces_of, synced, write_at

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from pathlib import Path

    from numpy.typing import NDArray

    from mmcache.stores.frame import Frame

__all__ = ["FILE", "Hdf5Store"]

FILE = "cache.h5"
"""What a frame calls the file, which may have any name."""


class Hdf5Store:
    """An HDF5 file whose datasets are contiguous, uncompressed, and begin on pages."""

    name = "hdf5"
    title = "HDF5 file"

    def __init__(self) -> None:
        self._pixels: tuple[np.dtype[Any], tuple[int, ...]] = (np.dtype("u1"), (0,))
        self._end = 0

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
        beside = path.with_name(path.name + ".container")
        try:
            segments = _container(beside, {"pixels": self._pixels} | shapes)
            self._end = beside.stat().st_size
            allocated(path, signpost(self._end), self._end)
            _copy_between(beside, path, segments.values())
        finally:
            beside.unlink(missing_ok=True)
        return segments


def _container(
    path: Path, shapes: Mapping[str, tuple[np.dtype[Any], tuple[int, ...]]]
) -> dict[str, Segment]:
    """Write an HDF5 file of empty datasets, and return where each lies."""
    # Later versions of the file format leave a file that a killed writer makes unopenable.
    with h5py.File(
        path,
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


def _copy_between(source: Path, target: Path, segments: Iterable[Segment]) -> None:
    """Copy all but the user block and the datasets' own bytes."""
    taken = sorted((one.offset, one.offset + one.length) for one in segments if one.length)
    end = source.stat().st_size
    position = PAGE
    with opened(source, os.O_RDONLY) as here, opened(target, os.O_RDWR) as there:
        for start, stop in [*taken, (end, end)]:
            for piece in pieces_of(here, position, start):
                write_at(there, piece, position)
                position += len(piece)
            position = stop
