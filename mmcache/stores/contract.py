"""What a format promises: where named arrays lie in files."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    import numpy as np
    from numpy.typing import NDArray

    from mmcache.stores.frame import Frame, Segment

__all__ = ["Store"]


class Store(Protocol):
    """A format. Its methods are called in the order they stand in, by one builder at a time.

    ``allocate`` may be called again over what a killed builder left and keeps the payload.
    All bytes that a store writes depend on its arguments alone.
    """

    name: str
    title: str

    def disk_bytes(
        self, sizes: Mapping[str, int], dtype: np.dtype[Any], shape: tuple[int, ...], slab: int
    ) -> int:
        """Return the bytes on disk that arrays of *sizes* bytes take with all that is round them.

        The other arguments are those of ``allocate``. About, and rather too many.
        """
        ...

    def allocate(
        self, path: Path, dtype: np.dtype[Any], shape: tuple[int, ...], slab: int
    ) -> list[Segment]:
        """Create the container at *path* with really allocated room for ``pixels``.

        Returns the segments of ``pixels``, in order, each but the last a whole number of slabs of
        *slab* elements. :class:`OSError` (``ENOSPC``) where there is no room.
        """
        ...

    def write_arrays(
        self, path: Path, arrays: Mapping[str, NDArray[Any]]
    ) -> dict[str, list[Segment]]:
        """Write the arrays beside ``pixels`` and return where each lies."""
        ...

    def write_frame(self, path: Path, frame: Frame) -> None:
        """Write the frame, last of all, when everything else is on disk."""
        ...
