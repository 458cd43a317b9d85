"""Which few shapes waste the least, when each picture is padded, or cut, to one of them.

A bucket's shape *holds* its pictures: it is as high as the highest and as wide as the widest. Or
it *cuts* what is beyond it, where that is allowed. Wasted are the pixels that are padded and those
that are cut away.

To choose the best of all divisions into buckets is hard. Of those that divide pictures in a given
order, by their aspect for instance, dynamic programming finds the best. That is done for several
orders, each result is improved by moving pictures to the bucket that wastes least with them until
nothing changes, and the best is returned.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from mmcache.geometry import Size, snug_shapes

if TYPE_CHECKING:
    from collections.abc import Iterator

    from numpy.typing import NDArray

__all__ = ["Ladder", "Rule", "ladder", "wasted"]

_MOST_SIZES = 1_000
"""Sizes that are told apart while shapes are chosen; of more, those that are near are merged."""

_MOST_EDGES = 32
_MOST_BOUND = 256
"""Edges, and shapes as large as may be, that are tried for buckets that cut."""

_MOST_ROUNDS = 100
_STEPS, _WAYS = (8, 3, 1), (-1, 0, 1)


class Ladder(NamedTuple):
    """Chosen shapes, and for each size which of them it goes to: int64 ``(k, 2)``, ``(m,)``."""

    shapes: NDArray[np.int64]
    which: NDArray[np.int64]


@dataclass(frozen=True, kw_only=True)
class Rule:
    """What a bucket's shape may be.

    Attributes
    ----------
    multiple_of : int
        Its edges are multiples of this.
    max_pixels : int or None
        It has at most as many pixels, at least the square of *multiple_of*. Where it cannot hold
        its pictures then, it cuts them.
    crops : bool
        Whether it may cut its pictures wherever that wastes less.
    """

    multiple_of: int = 1
    max_pixels: int | None = None
    crops: bool = False

    def holding(self, sizes: NDArray[np.int64]) -> NDArray[np.int64]:
        """Return the smallest shapes that hold *sizes* ``(..., 2)``."""
        return -(-sizes // self.multiple_of) * self.multiple_of


class _Sizes(NamedTuple):
    """Sizes of pictures, int64 ``(m, 2)``, and how many have each, int64 ``(m,)``."""

    sizes: NDArray[np.int64]
    counts: NDArray[np.int64]

    def at(self, places: NDArray[np.int64] | NDArray[np.bool_]) -> _Sizes:
        return _Sizes(self.sizes[places], self.counts[places])


class _Buckets(NamedTuple):
    """Shapes, int64 ``(k, 2)``, and which of them cut what is beyond, bool ``(k,)``."""

    shapes: NDArray[np.int64]
    cuts: NDArray[np.bool_]


def wasted(
    sizes: NDArray[np.int64], shapes: NDArray[np.int64]
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Return how many pixels are padded and how many cut, for each of *sizes* in its shape.

    Both are ``(..., 2)``, and are broadcast.
    """
    kept = np.minimum(sizes, shapes).prod(axis=-1)
    return shapes.prod(axis=-1) - kept, sizes.prod(axis=-1) - kept


def ladder(sizes: NDArray[np.int64], counts: NDArray[np.int64], count: int, rule: Rule) -> Ladder:
    """Choose at most *count* shapes for pictures of *sizes*, so that few pixels are wasted.

    Parameters
    ----------
    sizes : int64 (m, 2)
        Different heights and widths, at least one.
    counts : int64 (m,)
        How many pictures have each.
    count : int
        At least 1.
    rule : Rule
    """
    every = _Sizes(sizes, counts)
    few = _merged(every)
    cutting = _cutting(few, rule)
    found = (
        _improved(_divided(few.at(order), count, rule, cutting), few, rule, cutting)
        for order in _orders(few.sizes)
    )
    _, best = min(found, key=lambda one: one[0])
    # For the sizes themselves, where some were merged, shapes that hold may be smaller.
    _, best = _improved(best, every, rule, cutting[:0])
    upwards = np.lexsort(best.shapes.T[::-1])
    best = _Buckets(best.shapes[upwards], best.cuts[upwards])
    which, _ = _cheapest(every.sizes, best)
    return Ladder(best.shapes, which)


def _merged(every: _Sizes) -> _Sizes:
    """Return at most about a thousand sizes that hold those that are near them."""
    sizes, counts = every
    step = 1
    while len(sizes) > _MOST_SIZES:
        step = step + 1 + step // 4
        cells = -(-every.sizes // step)
        packed = (cells[:, 0] << 32) | cells[:, 1]
        _, which = np.unique(packed, return_inverse=True)
        which = which.reshape(-1)
        sizes = np.zeros((int(which.max()) + 1, 2), np.int64)
        np.maximum.at(sizes, which, every.sizes)
        counts = np.bincount(which, every.counts).astype(np.int64)
    return _Sizes(sizes, counts)


def _orders(sizes: NDArray[np.int64]) -> Iterator[NDArray[np.int64]]:
    """Yield orders of the sizes in which those that should share a bucket may be neighbours."""
    height, width = sizes.T
    yield np.lexsort((height, width / height))
    yield np.lexsort((width, height * width))
    yield np.lexsort((width, height))
    yield np.lexsort((height, width))


def _cutting(few: _Sizes, rule: Rule) -> NDArray[np.int64]:
    """Return the shapes that a bucket which cuts may have: int64 ``(c, 2)``.

    Where pictures are cut only for want of room, the bucket has all the room that there is.
    """
    largest = rule.holding(few.sizes.max(axis=0))
    bound = rule.max_pixels
    shapes = []
    if bound is not None and bound < largest.prod():
        snug = np.array(list(snug_shapes(Size(1, bound), rule.multiple_of)), np.int64)
        shapes.append(_evenly(np.unique(np.minimum(snug, largest), axis=0), _MOST_BOUND))
    if rule.crops:
        heights, widths = (_edges(few.sizes[:, axis], rule.multiple_of) for axis in (0, 1))
        grid = np.stack(np.meshgrid(heights, widths, indexing="ij"), axis=-1).reshape(-1, 2)
        shapes.append(grid if bound is None else grid[grid.prod(axis=1) <= bound])
    return np.concatenate([np.empty((0, 2), np.int64), *shapes])


def _edges(edges: NDArray[np.int64], multiple_of: int) -> NDArray[np.int64]:
    """Return multiples that are next to *edges*, below and above, at most 32 of them.

    With the other edge given, waste is linear between these, and from the least that there can be.
    """
    down = edges // multiple_of * multiple_of
    near = np.concatenate([[multiple_of], down, down + (edges > down) * multiple_of])
    return _evenly(np.unique(near[near > 0]), _MOST_EDGES)


def _evenly(some: NDArray[np.int64], most: int) -> NDArray[np.int64]:
    if len(some) <= most:
        return some
    return some[np.linspace(0, len(some) - 1, most).astype(np.int64)]


# In one order ------------------------------------------------------------------------------------


def _divided(ordered: _Sizes, count: int, rule: Rule, cutting: NDArray[np.int64]) -> _Buckets:
    """Divide sizes in their order into *count* buckets at most, so that the least is wasted.

    ``best[j]`` is the least waste of the first ``j`` sizes in as many buckets as there were rounds.
    The last of them is the sizes from ``i`` to ``j``: held, or cut to one shape of *cutting*. What
    the latter wastes is a difference of sums, ``sums[j] - sums[i]``, so that the best ``i`` for
    each shape is found by running minima.
    """
    held, sums = _held(ordered, rule), _sums(ordered, cutting)
    best = np.full(len(ordered.sizes) + 1, np.inf)
    best[0] = 0
    rounds = [best]
    for _ in range(min(count, len(ordered.sizes))):
        after = np.full_like(best, np.inf)
        after[1:] = (best[:-1, None] + held).min(axis=0)
        if len(cutting):
            before = np.minimum.accumulate(best[:, None] - sums, axis=0)
            after[1:] = np.minimum(after[1:], (before[:-1] + sums[1:]).min(axis=1))
        best = after
        rounds.append(best)
    end = len(ordered.sizes)
    shapes, cuts = [], []
    for best in rounds[-2::-1]:  # and back again: how each of the least ones came about
        by_holding = best[:end] + held[:end, end - 1]
        start = int(by_holding.argmin())
        shape = rule.holding(ordered.sizes[start:end].max(axis=0))
        cut = False
        if len(cutting):
            by_cutting = best[:end, None] - sums[:end] + sums[end]
            place, one = divmod(int(by_cutting.argmin()), len(cutting))
            if by_cutting[place, one] < by_holding[start]:
                start, shape, cut = place, cutting[one], True
        shapes.append(shape)
        cuts.append(cut)
        end = start
    return _Buckets(np.array(shapes, np.int64), np.array(cuts, bool))


def _held(ordered: _Sizes, rule: Rule) -> NDArray[np.float64]:
    """Return what is wasted if the sizes from ``i`` to ``j`` are held: float64 ``(m, m)``."""
    sizes, counts = ordered
    later = np.triu(np.ones((len(sizes), len(sizes)), bool))
    height, width = (
        rule.holding(np.maximum.accumulate(np.where(later, edge, 0), axis=1)) for edge in sizes.T
    )
    pixels = height * width
    before = np.concatenate([[0], np.cumsum(counts)])
    own = np.concatenate([[0], np.cumsum(counts * sizes.prod(axis=1))])
    waste = pixels * (before[1:] - before[:-1, None]) - (own[1:] - own[:-1, None])
    allowed = later if rule.max_pixels is None else later & (pixels <= rule.max_pixels)
    return np.where(allowed, waste.astype(np.float64), np.inf)


def _sums(ordered: _Sizes, cutting: NDArray[np.int64]) -> NDArray[np.float64]:
    """Return what is wasted of the first ``j`` sizes in each shape that cuts: ``(m + 1, c)``."""
    waste = sum(wasted(ordered.sizes[:, None], cutting[None])) * ordered.counts[:, None]
    return np.concatenate([np.zeros((1, len(cutting))), np.cumsum(waste, axis=0)])


# In no order -------------------------------------------------------------------------------------


def _improved(
    buckets: _Buckets, all_of: _Sizes, rule: Rule, cutting: NDArray[np.int64]
) -> tuple[float, _Buckets]:
    """Move sizes to the bucket that wastes least with them, and let shapes follow, until it stops.

    Returned is what is wasted then, and the buckets; one that has become empty is gone.
    """
    which, waste = _cheapest(all_of.sizes, buckets)
    total = float(waste @ all_of.counts)
    for _ in range(_MOST_ROUNDS):
        shaped = [
            _shaped(
                all_of.at(which == number),
                rule,
                cutting,
                buckets.shapes[number],
                cuts=buckets.cuts[number],
            )
            for number in np.unique(which)
        ]
        then = _Buckets(
            np.array([shape for shape, _ in shaped], np.int64),
            np.array([cut for _, cut in shaped], bool),
        )
        which, waste = _cheapest(all_of.sizes, then)
        if len(then.shapes) == len(buckets.shapes) and not waste @ all_of.counts < total:
            break
        buckets, total = then, float(waste @ all_of.counts)
    return total, buckets


def _shaped(
    members: _Sizes,
    rule: Rule,
    cutting: NDArray[np.int64],
    shape: NDArray[np.int64],
    *,
    cuts: bool,
) -> tuple[NDArray[np.int64], bool]:
    """Return the best shape for the pictures of one bucket, and whether it cuts."""
    held = rule.holding(members.sizes.max(axis=0))
    tried = [(held, False)]
    if rule.max_pixels is not None and held.prod() > rule.max_pixels:
        tried = []
    if cuts:
        tried.append((shape, True))
    if len(cutting):
        waste = _sums(members, cutting)[-1]
        best = cutting[int(waste.argmin())]
        tried.append((_climbed(members, rule, best) if rule.crops else best, True))
    return min(tried, key=lambda one: float(_sums(members, one[0][None])[-1, 0]))


def _climbed(members: _Sizes, rule: Rule, shape: NDArray[np.int64]) -> NDArray[np.int64]:
    """Return a shape near *shape* of which no neighbour wastes less."""
    around = np.array([(0, 0), *((up, aside) for up in _WAYS for aside in _WAYS)], np.int64)
    for step in _STEPS:
        while True:
            near = shape + around * step * rule.multiple_of
            near = near[(near > 0).all(axis=1)]
            if rule.max_pixels is not None:
                near = near[near.prod(axis=1) <= rule.max_pixels]
            # Of several the first, which is the shape itself.
            best = near[int(_sums(members, near)[-1].argmin())]
            if (best == shape).all():
                break
            shape = best
    return shape


def _cheapest(
    sizes: NDArray[np.int64], buckets: _Buckets
) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    """Return for each size the bucket that wastes least with it, the first of several, and that."""
    which = np.zeros(len(sizes), np.int64)
    least = np.full(len(sizes), np.inf)
    for number, (shape, cuts) in enumerate(zip(*buckets, strict=True)):
        padded, cut = wasted(sizes, shape)
        waste = np.where(cuts | (cut == 0), padded + cut, np.inf)
        better = waste < least
        which[better], least[better] = number, waste[better]
    return which, least
