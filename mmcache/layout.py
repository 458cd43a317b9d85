"""Shapes in, offsets out: where each record lies in the payload. Pure arithmetic."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from mmcache.records import HEIGHT, OFFSET

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from mmcache.recipe import Recipe

__all__ = ["CHUNK", "SLAB", "Layout", "elements", "laid_out", "lengths_within", "lie_apart"]

SLAB = 32 << 20
"""The least length of a slab in bytes."""

CHUNK = 128 << 10
"""A slab of a ragged cache is a whole number of these many bytes."""


class Layout(NamedTuple):
    """How records lie: their rows ``(N, 4)``, a slab's length, the shape of ``pixels``."""

    records: NDArray[np.int64]
    slab: int
    shape: tuple[int, ...]


def elements(edges: tuple[int, ...]) -> int:
    """Return how many elements an array of a shape has; Python's integers do not overflow."""
    product = 1
    for edge in edges:
        product *= edge
    return product


def lengths_within(shapes: NDArray[np.int64], total: int, channels: int) -> NDArray[np.int64]:
    """Return how many elements records of *shapes* ``(N, 3)`` have; 0 for what cannot be one.

    None has more than *total*, or other *channels*; damaged numbers do not overflow.
    """
    height, width = shapes[:, 0], shapes[:, 1]
    fine = (height > 0) & (width > 0) & (shapes[:, 2] == channels)
    fine &= height <= total // channels
    row_of_pixels = np.where(fine, height, 1) * channels
    fine &= width <= total // row_of_pixels
    return np.where(fine, row_of_pixels * np.where(fine, width, 0), 0)


def lie_apart(records: NDArray[np.int64], total: int, channels: int) -> bool:
    """Tell whether *records* ``(N, 4)`` lie one behind another in *total* elements."""
    offsets, lengths = records[:, OFFSET], lengths_within(records[:, HEIGHT:], total, channels)
    return bool(
        ((lengths > 0) & (offsets >= 0) & (offsets <= total - lengths)).all()
        and (offsets[1:] >= (offsets + lengths)[:-1]).all()
    )


def laid_out(shapes: NDArray[np.int64], recipe: Recipe) -> Layout:
    """Return where records of *shapes* ``(N, 3)`` lie.

    When the recipe fixes the shape, records follow each other without gaps and a slab is a whole
    number of rows. Otherwise no record crosses the end of a slab, and what is left of it is zeros.
    """
    item = recipe.dtype.itemsize
    records = np.empty((len(shapes), 4), np.int64)
    records[:, HEIGHT:] = shapes
    lengths = np.prod(shapes, axis=1)
    if recipe.shape is not None:
        length = elements(recipe.shape)
        records[:, OFFSET] = np.arange(len(shapes)) * length
        rows = max(1, -(-SLAB // (length * item)))
        return Layout(records, rows * length, (len(shapes), *recipe.shape))
    longest = int(lengths.max(initial=0))
    chunk = CHUNK // item
    slab = max(SLAB // item, -(-longest // chunk) * chunk)
    ends = np.cumsum(lengths)
    row = number = end = 0
    while row < len(lengths):
        before = int(ends[row - 1]) if row else 0
        after = int(np.searchsorted(ends, before + slab, side="right"))
        records[row:after, OFFSET] = ends[row:after] - lengths[row:after] - before + number * slab
        end = int(ends[after - 1]) - before + number * slab
        row, number = after, number + 1
    return Layout(records, slab, (end,))
