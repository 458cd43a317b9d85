"""The plainest format: a directory of ``.npy`` files, each header filled up to one page."""

from __future__ import annotations

import io
from typing import TYPE_CHECKING, Any

import numpy as np

from mmcache.stores.frame import FRAME_FILE, PAGE, Segment
from mmcache.stores.payload import allocated, in_blocks, synced, written

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from numpy.typing import NDArray

    from mmcache.stores.frame import Frame

__all__ = ["NpyStore"]

_PRELUDE = 10  # magic, version and the length of what follows


class NpyStore:
    """A directory with one ``.npy`` file an array and ``mmcache.json``."""

    name = "npy"
    title = "npy directory"

    def disk_bytes(
        self,
        sizes: Mapping[str, int],
        dtype: np.dtype[Any],  # noqa: ARG002  # a file is as long as its array, whatever that is
        shape: tuple[int, ...],  # noqa: ARG002
        slab: int,  # noqa: ARG002
    ) -> int:
        """Return what it takes on disk; see :class:`mmcache.stores.contract.Store`."""
        return sum(PAGE + in_blocks(size) for size in sizes.values())

    def allocate(
        self,
        path: Path,
        dtype: np.dtype[Any],
        shape: tuple[int, ...],
        slab: int,  # noqa: ARG002  # one file holds all slabs
    ) -> list[Segment]:
        """Create the directory; see :class:`mmcache.stores.contract.Store`."""
        path.mkdir(exist_ok=True)
        length = dtype.itemsize * int(np.prod(shape, dtype=object))
        allocated(path / "pixels.npy", npy_header(dtype, shape), PAGE + length)
        return [Segment("pixels.npy", PAGE, length)]

    def write_arrays(
        self, path: Path, arrays: Mapping[str, NDArray[Any]]
    ) -> dict[str, list[Segment]]:
        """Write a file an array; see :class:`mmcache.stores.contract.Store`."""
        segments = {}
        for name, array in arrays.items():
            written(path / f"{name}.npy", [npy_header(array.dtype, array.shape), array])
            segments[name] = [Segment(f"{name}.npy", PAGE, array.nbytes)]
        return segments

    def write_frame(self, path: Path, frame: Frame) -> None:
        """Write ``mmcache.json``; see :class:`mmcache.stores.contract.Store`."""
        synced(path)
        written(path / FRAME_FILE, [frame.to_bytes()])
        synced(path / FRAME_FILE)


def npy_header(dtype: np.dtype[Any], shape: tuple[int, ...]) -> bytes:
    """Return a header of format 1.0 that is exactly one page long.

    Source: the format's description in ``numpy.lib.format``; it asks for spaces and a newline
    at the end, and sets no limit to the number of spaces.
    """
    header = io.BytesIO()
    described = {
        "descr": np.lib.format.dtype_to_descr(dtype),
        "fortran_order": False,
        "shape": shape,
    }
    np.lib.format.write_array_header_1_0(header, described)
    plain = header.getvalue()[_PRELUDE:].rstrip()
    filled = plain.ljust(PAGE - _PRELUDE - 1) + b"\n"
    return np.lib.format.magic(1, 0) + len(filled).to_bytes(2, "little") + filled
