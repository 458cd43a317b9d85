"""Which few shapes serve pictures of every aspect best, when each is cut to one of them.

A picture that covers a shape and is cut to it loses a part that depends on the two aspects alone:
``1 - min(a / b, b / a)``. So a few shapes are chosen out of those that are possible as medians of
the pictures' aspects: k-median on a line, which dynamic programming solves exactly.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from mmcache.geometry import Size

__all__ = ["chosen_shapes"]

_MOST = 1_500
"""Shapes that are tried. Of more, which lie closer than a thousandth, as many evenly chosen ones
are."""


def chosen_shapes(
    sizes: NDArray[np.int64], counts: NDArray[np.int64], shapes: Sequence[Size], count: int
) -> tuple[Size, ...]:
    """Return *count* of *shapes* so that the least is cut away of all pictures.

    Each picture counts alike, however large it is. The same is returned on every machine: only
    arithmetic is used that IEEE 754 rounds in one way, and sums that are made in one order.

    Parameters
    ----------
    sizes : int64 (m, 2)
        Heights and widths of pictures; none at all is allowed.
    counts : int64 (m,)
        How many pictures have each.
    shapes : sequence of Size
        What is possible, from wide to tall, at least *count*.
    count : int
        At least 1. Where the pictures need fewer, the rest are those that are nearest to square.
    """
    # From tall to wide: an aspect is width over height, and grows.
    possible = sorted(shapes, key=lambda shape: (shape.width / shape.height, shape))
    aspects = np.array([shape.width / shape.height for shape in possible])
    pictures = _pictures(sizes, counts)
    kept = _worth_trying(pictures.aspects, aspects, count)
    chosen = kept if len(kept) <= count else kept[_medians(pictures, aspects[kept], count)]
    chosen = chosen[_used(pictures.aspects, aspects[chosen])]
    spare = sorted(set(range(len(possible))) - set(chosen.tolist()), key=_squareness(aspects))
    return tuple(sorted(possible[one] for one in [*chosen, *spare[: count - len(chosen)]]))


def _squareness(aspects: NDArray[np.float64]) -> Any:
    return lambda one: (max(aspects[one], 1 / aspects[one]), one)


class _Pictures(NamedTuple):
    """Different aspects in order, and sums over all before each: float64 ``(m,)``, ``(m + 1,)``."""

    aspects: NDArray[np.float64]
    counts: NDArray[np.float64]
    sums: NDArray[np.float64]
    inverses: NDArray[np.float64]


def _pictures(sizes: NDArray[np.int64], counts: NDArray[np.int64]) -> _Pictures:
    aspects, which = np.unique(sizes[:, 1] / sizes[:, 0], return_inverse=True)
    weights = np.bincount(which.reshape(-1), counts, len(aspects))
    sums = (np.cumsum(one) for one in (weights, weights * aspects, weights / aspects))
    return _Pictures(aspects, *(np.concatenate([[0.0], one]) for one in sums))


def _worth_trying(
    pictures: NDArray[np.float64], aspects: NDArray[np.float64], count: int
) -> NDArray[np.int64]:
    """Return which of the *aspects* can be among the best.

    Between two pictures next to each other, what is cut for all is a sum of concave functions of a
    shape's (logarithmic) aspect, so that none there is better than the first or the last.
    """
    gaps = np.searchsorted(pictures, aspects)
    ends = np.concatenate([[True], np.diff(gaps) > 0, [True]])
    first, last = ends[:-1], ends[1:]
    # Outside of all pictures only what is next to them.
    worth = (first & (gaps > 0)) | (last & (gaps < len(pictures)))
    kept = np.flatnonzero(worth)
    if len(kept) > max(_MOST, count):
        kept = kept[np.linspace(0, len(kept) - 1, max(_MOST, count)).astype(np.int64)]
    return kept


def _used(pictures: NDArray[np.float64], aspects: NDArray[np.float64]) -> NDArray[np.bool_]:
    """Tell which of the *aspects* are the closest of any picture: bool ``(c,)``."""
    meet = np.searchsorted(pictures**2, aspects[:-1] * aspects[1:])
    bounds = np.concatenate([[0], meet, [len(pictures)]])[: len(aspects) + 1]
    return np.diff(bounds) > 0


def _medians(pictures: _Pictures, aspects: NDArray[np.float64], count: int) -> NDArray[np.int64]:
    """Return which *count* of the *aspects* are the best, in order: int64 ``(count,)``."""
    _, counts, sums, inverses = pictures
    before = np.searchsorted(pictures.aspects, aspects)
    # What is cut of the pictures beyond a shape, if it is the first or the last that is chosen.
    first = counts[before] - sums[before] / aspects
    last = (counts[-1] - counts[before]) - aspects * (inverses[-1] - inverses[before])
    between = _between(pictures, aspects, before)
    best, came = first, []
    for _ in range(count - 1):
        total = best[:, None] + between
        came.append(total.argmin(axis=0))
        best = total.min(axis=0)
    chosen = [int((best + last).argmin())]
    for before_it in reversed(came):
        chosen.append(int(before_it[chosen[-1]]))
    return np.array(chosen[::-1], np.int64)


def _between(
    pictures: _Pictures, aspects: NDArray[np.float64], before: NDArray[np.int64]
) -> NDArray[np.float64]:
    """Return what is cut of the pictures between two shapes with no other between them.

    float64 ``(c, c)``: the first index is the taller shape; infinite where it is not.
    """
    _, counts, sums, inverses = pictures
    low, high = np.triu_indices(len(aspects), 1)
    # Each goes to the shape that is nearer by its ratio: they meet at the geometric mean.
    middle = np.searchsorted(pictures.aspects**2, aspects[low] * aspects[high])
    start, end = before[low], before[high]
    middle = np.clip(middle, start, end)
    cut = (
        (counts[end] - counts[start])
        - aspects[low] * (inverses[middle] - inverses[start])
        - (sums[end] - sums[middle]) / aspects[high]
    )
    between = np.full((len(aspects), len(aspects)), np.inf)
    between[low, high] = cut
    return between
