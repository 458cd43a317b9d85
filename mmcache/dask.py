"""A cache as a lazy array of Dask, for what is larger than memory or for many machines.

>>> pixels = mmcache.dask.array(cache)  # doctest: +SKIP
>>> pixels.mean(axis=(0, 1, 2)).compute()  # doctest: +SKIP
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from mmcache.errors import MissingLibraryError, SettingError
from mmcache.stack import Stack

if TYPE_CHECKING:
    from dask.array import Array

    from mmcache.cache import Cache

__all__ = ["array"]


def array(
    cache: Cache,
    chunks: int | str = "auto",
    *,
    pad: int | tuple[int, int] | None = None,
    crop: int | tuple[int, int] | None = None,
    centering: tuple[float, float] = (0.5, 0.5),
    background: int | tuple[int, ...] | None = None,
) -> Array:
    """Return the pictures as one Dask array ``(N, height, width, channels)``; nothing is read.

    Its graph has the cache's path and fingerprint, and numbers of rows, never pixels: workers in
    other processes or on other machines open the cache themselves, where it must be at the same
    path. A block of rows that lie one after the other is a view of the file, in this process
    without a copy; so ``pixels[17]`` reads that picture, however large its block is.

    Parameters
    ----------
    cache : Cache
        Pictures of one shape, unless *pad* or *crop* gives them one.
    chunks : int or str
        Pictures in a block: a number, a size as ``"64MiB"``, or ``"auto"``, which is Dask's own
        ``array.chunk-size`` (128 MiB if not configured).
    pad, crop, centering, background
        As of :meth:`mmcache.Cache.batch`.

    Raises
    ------
    MissingLibraryError
        (an ``ImportError``) where Dask is not installed.
    ShapesDifferError
        (a ``ValueError``) where the pictures differ in shape, or do not fit into *pad*.
    SettingError
        (a ``ValueError``) where a setting makes no sense.
    """
    try:
        import dask.array  # noqa: PLC0415  # where it is used, for those who have it
        from dask.base import tokenize  # noqa: PLC0415
    except ImportError as error:
        raise MissingLibraryError(
            f'mmcache.dask needs Dask, pip install "mmcache[dask]": {error}'
        ) from error
    stack = Stack(cache, pad=pad, crop=crop, centering=centering, background=background)
    whole = isinstance(chunks, (int, np.integer)) and not isinstance(chunks, bool)
    if not (whole and int(chunks) >= 1) and not isinstance(chunks, str):
        raise SettingError(
            f"chunks={chunks!r} is neither a number of pictures, a size as '64MiB', nor 'auto'"
        )
    made: Any = dask.array.from_array(
        stack,
        chunks=(chunks, -1, -1, -1),
        name=f"mmcache-{tokenize(stack)}",
        asarray=False,  # they are arrays already
        fancy=False,
        meta=np.empty((0,) * stack.ndim, stack.dtype),
    )
    return made
