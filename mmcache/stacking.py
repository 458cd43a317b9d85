"""What batches that are one array look like, known before any is gathered."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from mmcache.errors import ShapesDifferError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from numpy.typing import NDArray

    from mmcache.cache import Cache
    from mmcache.shaping import Shaping

__all__ = ["Edges", "stacked_edges"]

Edges = tuple[int | None, int | None]
"""Height and width of every batch; None where batches may differ."""

_ROWS = 1 << 16  # whose shapes are looked at together, so that memory stays flat


def stacked_edges(cache: Cache, shaping: Shaping) -> Edges:
    """Return the height and width that every batch of this cache has, so shaped.

    Raises
    ------
    ShapesDifferError
        (a ``ValueError``) where some batch would not be one array: it is said here rather than in
        the middle of an epoch.
    """
    if shaping.resized is not None:
        return shaping.resized
    if shaping.pad == "batch" and cache.recipe.shape is None:
        return None, None
    rooms = {shaping.room(*_taken(shapes, shaping)) for shapes in _shapes(cache)}
    room = rooms.pop()
    if rooms or room is None:
        raise ShapesDifferError(
            "these pictures differ in shape, and batches that are one array were asked for: pass"
            ' pad="batch", pad=(height, width) or crop=(height, width)'
        )
    return room


def _shapes(cache: Cache) -> Iterator[NDArray[np.int64]]:
    """Yield the height and width of every record that may differ from those before."""
    if cache.recipe.shape is not None:
        yield np.array([cache.recipe.shape[:2]], np.int64)
        return
    for start in range(0, max(1, len(cache)), _ROWS):
        yield cache[start : start + _ROWS].shapes[:, :2]


def _taken(shapes: NDArray[np.int64], shaping: Shaping) -> tuple[NDArray[np.int64], ...]:
    """Return heights and widths of what a crop leaves of records."""
    heights, widths = shapes.T
    if shaping.crop is None:
        return heights, widths
    height, width = shaping.crop
    return np.minimum(heights, height), np.minimum(widths, width)
