"""Which pictures look alike: 64-bit hashes, and those that differ in a few bits. Arrays alone.

The hash is dHash, the difference hash that Neal Krawetz describes in "Kind of Like That"
(hackerfactor.com, 2013): a picture is shrunk to 8 lines of 9 pixels in grey, and each of the 64
bits tells whether a pixel is darker than the one at its right. Size, compression and brightness
change few bits; other pictures differ in about half of them.
"""

from __future__ import annotations

import math
from itertools import combinations
from typing import TYPE_CHECKING, Any

import numpy as np
from PIL import Image

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from numpy.typing import NDArray

__all__ = ["BITS", "difference_hashes", "distances", "near_duplicates"]

BITS = 64
"""Of a hash."""

_LINES, _COLUMNS = 8, 9
_STEP = 1 / 8  # of 256 greys: what is less apart is equal, so that rounding is no detail
_FEW = 512  # hashes of which each pair is compared, by one operation of numpy for many such heaps
_SAMPLE = 1 << 14  # hashes that are looked at to see what bits tell
_AT_ONCE = 1 << 21  # pairs compared by one operation within a large heap
_SORTING = 10  # what sorting one hash costs, in comparisons of two


# Hashes ------------------------------------------------------------------------------------------


def difference_hashes(pictures: Iterable[NDArray[Any]]) -> NDArray[np.uint64]:
    """Return the hash of each picture: uint64 (n,).

    Parameters
    ----------
    pictures : iterable of (height, width, channels) arrays
        uint8 or uint16, of 1, 3 or 4 channels; what is clear counts as black.
    """
    greys = np.empty((0, _LINES, _COLUMNS), np.float32)
    if small := [_shrunk(picture) for picture in pictures]:
        greys = np.rint(np.stack(small) / _STEP)
    rises = (greys[:, :, 1:] > greys[:, :, :-1]).reshape(-1, BITS)
    packed = np.packbits(rises, axis=1).view(">u8")
    hashes: NDArray[np.uint64] = packed.astype(np.uint64).reshape(-1)
    return hashes


def _shrunk(picture: NDArray[Any]) -> NDArray[np.float32]:
    """Return 8 lines of 9 pixels in grey, 0 to 255: float32 (8, 9)."""
    plain = picture[:, :, 0] if picture.shape[2] == 1 else picture
    if picture.dtype == np.uint16:
        image = Image.fromarray(plain.astype(np.float32) / 257)
    else:
        image = Image.fromarray(plain)
        if image.mode == "RGBA":
            image = image.convert("RGBa")  # alpha multiplied in
            image = Image.merge("RGB", [image.getchannel(band) for band in "RGB"])
        image = image.convert("L").convert("F")
    # Parts that overlap, and greys that are no whole numbers: of copies at a third of the size
    # 99.8 % are then within 4 bits, and of means of parts that do not, in whole numbers, 38 %.
    size = _COLUMNS, _LINES  # Pillow's order
    return np.asarray(image.resize(size, Image.Resampling.BILINEAR, reducing_gap=3.0))


def distances(
    hashes: NDArray[np.uint64], others: NDArray[np.uint64] | np.uint64
) -> NDArray[np.uint8]:
    """Return in how many bits hashes differ (the Hamming distance): uint8, broadcast as numpy does.

    >>> distances(np.array([0, 1, 255], np.uint64), np.uint64(1)).tolist()
    [1, 0, 7]
    """
    counted: NDArray[np.uint8] = np.bitwise_count(np.bitwise_xor(hashes, others))
    return counted


# Near duplicates ---------------------------------------------------------------------------------


def near_duplicates(
    hashes: NDArray[np.uint64], most: int = 4, *, same: NDArray[np.int64] | None = None
) -> list[NDArray[np.int64]]:
    """Return the groups of hashes that differ in at most *most* bits.

    Two are in one group if a chain of such pairs leads from one to the other. Not all pairs are
    compared: of two hashes that differ in at most k bits, cut into k + j bands, j bands are equal
    (the pigeonhole principle); only hashes that share j bands are compared.

    A hash of 0 tells of a picture in which no pixel is darker than its right neighbour: it mostly
    has no detail, and so many are called alike that are not. Such are in one group only where they
    are equal in *same*.

    Parameters
    ----------
    hashes : uint64 (n,)
    most : int
        From 0 up to 63.
    same : int64 (n,), optional
        Numbers that are equal for pictures that are the same, pixel by pixel.

    Returns
    -------
    list of int64 arrays
        The places in *hashes* of each group of two or more, ascending; the largest group first, and
        of equally large ones that which begins first.
    """
    different, which = np.unique(hashes, return_inverse=True)
    group = _components(different, most)[which.reshape(-1)]
    flat = hashes == 0
    if flat.any():
        alone = np.arange(len(hashes))
        if same is not None:
            alone = np.unique(same, return_inverse=True)[1].reshape(-1)
        group[flat] = len(different) + alone[flat]
    return _groups(group)


def _groups(group: NDArray[np.int64]) -> list[NDArray[np.int64]]:
    """Return where each number stands that is there twice or more, the most frequent first."""
    order = np.argsort(group, kind="stable")
    starts = np.flatnonzero(np.diff(group[order], prepend=-1))
    sizes = np.diff(starts, append=len(group))
    kept = np.flatnonzero(sizes > 1)
    kept = kept[np.lexsort((order[starts[kept]], -sizes[kept]))]
    return [order[starts[one] : starts[one] + sizes[one]] for one in kept.tolist()]


def _components(hashes: NDArray[np.uint64], most: int) -> NDArray[np.int64]:
    """Return a number for each of these different hashes, equal for those of one group.

    A hash of 0 is in no other's group.
    """
    root = np.arange(len(hashes))
    lit = np.flatnonzero(hashes)
    for mask in _masks(most, hashes[lit]) if most and len(lit) else ():
        order = lit[np.argsort(hashes[lit] & mask)]
        for pairs in _near_pairs(hashes, hashes[order] & mask, order, most, root):
            _join(root, *pairs)
    return root


def _masks(most: int, hashes: NDArray[np.uint64]) -> Iterator[np.uint64]:
    """Yield bits to be equal in: each near pair is so in those of one mask at least."""
    told = _told_by_bits(hashes)
    # More bands to agree in: smaller heaps, and more often to be made.
    shared = min(range(1, 5), key=lambda shared: _cost(most, shared, len(hashes), told.sum()))
    bands = [0] * (most + shared)
    # Each band tells about as much: bits are dealt out, those that tell the most first.
    for place, bit in enumerate(np.argsort(-told, kind="stable").tolist()):
        bands[place % len(bands)] |= 1 << bit
    for agreeing in combinations(bands, shared):
        yield np.uint64(sum(agreeing))


def _told_by_bits(hashes: NDArray[np.uint64]) -> NDArray[np.float64]:
    """Return how often each bit halves the number of equal pairs: 1 for a fair coin, 0 for none."""
    sample = hashes[:: max(1, len(hashes) // _SAMPLE)]
    lit = ((sample[:, None] >> np.arange(BITS, dtype=np.uint64)) & np.uint64(1)).mean(axis=0)
    told: NDArray[np.float64] = -np.log2(lit**2 + (1 - lit) ** 2)
    return told


def _cost(most: int, shared: int, count: int, told: float) -> float:
    bands = most + shared
    return math.comb(bands, shared) * (_SORTING + count / 2 ** (1 + told * shared / bands))


def _near_pairs(
    hashes: NDArray[np.uint64],
    heaps: NDArray[np.uint64],
    order: NDArray[np.int64],
    most: int,
    root: NDArray[np.int64],
) -> Iterator[tuple[NDArray[np.int64], NDArray[np.int64]]]:
    """Yield enough pairs to join all that are near each other and in one heap.

    *heaps* are equal for those of one heap, which follow one another in *order*.
    """
    starts = np.flatnonzero(np.diff(heaps, prepend=~heaps[:1]))
    sizes = np.diff(starts, append=len(heaps))
    roots = root[order]
    open_ = np.minimum.reduceat(roots, starts) != np.maximum.reduceat(roots, starts)
    small = np.flatnonzero(np.repeat(open_ & (sizes <= _FEW), sizes))
    yield _pairs_of_few(hashes, heaps, order, most, small)
    for heap in np.flatnonzero(open_ & (sizes > _FEW)).tolist():
        members = order[starts[heap] : starts[heap] + sizes[heap]]
        yield _pairs_of_many(hashes, members, most)


def _pairs_of_few(
    hashes: NDArray[np.uint64],
    heaps: NDArray[np.uint64],
    order: NDArray[np.int64],
    most: int,
    places: NDArray[np.int64],
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Return the near pairs of small heaps, those at *places*: each with its neighbours there."""
    ones, others = [order[:0]], [order[:0]]
    for step in range(1, _FEW):
        places = places[places < len(heaps) - step]
        places = places[heaps[places] == heaps[places + step]]
        if not len(places):
            break
        one, other = order[places], order[places + step]
        near = distances(hashes[one], hashes[other]) <= most
        ones.append(one[near])
        others.append(other[near])
    return np.concatenate(ones), np.concatenate(others)


def _pairs_of_many(
    hashes: NDArray[np.uint64], members: NDArray[np.int64], most: int
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Return pairs of a large heap that join all of it that are near each other.

    What was reached is not compared with again: in a heap of near duplicates few pairs are.
    """
    left, ones, others = members, [members[:0]], [members[:0]]
    while len(left):
        first, left = left[0], left[1:]
        reached = np.array([first])
        while len(reached) and len(left):
            take = max(1, _AT_ONCE // len(left))
            some, reached = reached[:take], reached[take:]
            near = (distances(hashes[left][:, None], hashes[some]) <= most).any(axis=1)
            ones.append(np.full(int(near.sum()), first))
            others.append(left[near])
            reached, left = np.concatenate([reached, left[near]]), left[~near]
    return np.concatenate(ones), np.concatenate(others)


def _join(root: NDArray[np.int64], ones: NDArray[np.int64], others: NDArray[np.int64]) -> None:
    """Let pairs have one root each, in place: union-find, all pairs at once.

    Each element's root is the least of its group, and its own.
    """
    while len(ones):
        low, high = np.minimum(root[ones], root[others]), np.maximum(root[ones], root[others])
        apart = low != high
        ones, others, low, high = ones[apart], others[apart], low[apart], high[apart]
        np.minimum.at(root, high, low)
        while not np.array_equal(root[root], root):
            root[:] = root[root]
