"""Marked numbers out of ``range(length)``, a bit each: ten million take 1.25 MB, however many.

What a filter leaves and what a person selects are marks.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from numpy.typing import NDArray

__all__ = ["Marks"]

_BLOCK = 512  # bytes whose marks are counted together
_SPAN = 1 << 20  # numbers that are looked at at once, a multiple of a block's


class Marks:
    """A set of numbers from 0 to ``length - 1``, in order; it is never changed once it is made.

    Parameters
    ----------
    length : int
        How many numbers there are to mark.
    bits : uint8 (bytes,)
        A bit a number, the first the highest of its byte; a whole number of blocks.
    """

    __slots__ = ("_before", "_bits", "length")

    def __init__(self, length: int, bits: NDArray[np.uint8]) -> None:
        self.length = length
        self._bits = bits
        self._before = np.zeros(len(bits) // _BLOCK + 1, np.int64)
        counts = np.bitwise_count(bits).reshape(-1, _BLOCK).sum(axis=1, dtype=np.int64)
        np.cumsum(counts, out=self._before[1:])

    @classmethod
    def where(cls, length: int, mask_of: Callable[[int, int], NDArray[np.bool_]]) -> Marks:
        """Mark what ``mask_of(start, stop)`` says, asked a part at a time."""
        bits = _no_bits(length)
        for start, stop in _spans(length):
            part = np.packbits(mask_of(start, stop))
            bits[start // 8 : start // 8 + len(part)] = part
        return cls(length, bits)

    @classmethod
    def none(cls, length: int) -> Marks:
        """Mark nothing."""
        return cls(length, _no_bits(length))

    @classmethod
    def between(cls, length: int, start: int, stop: int) -> Marks:
        """Mark the numbers from *start* to *stop*, which is not marked any more."""
        bits = _no_bits(length)
        start, stop = min(start, length), min(stop, length)
        if start < stop:
            first, last = start // 8, (stop - 1) // 8
            bits[first : last + 1] = 0xFF
            bits[first] &= 0xFF >> start % 8
            bits[last] &= (0xFF << (7 - (stop - 1) % 8)) & 0xFF
        return cls(length, bits)

    def __len__(self) -> int:
        return int(self._before[-1])

    def __contains__(self, number: int) -> bool:
        return bool(self.has(np.array([number], np.int64))[0])

    def __or__(self, other: Marks) -> Marks:
        return Marks(self.length, self._bits | other._bits)

    def __and__(self, other: Marks) -> Marks:
        return Marks(self.length, self._bits & other._bits)

    def __sub__(self, other: Marks) -> Marks:
        return Marks(self.length, self._bits & ~other._bits)

    def has(self, numbers: NDArray[np.int64]) -> NDArray[np.bool_]:
        """Tell which of *numbers*, each of them from 0 to ``length - 1``, are marked."""
        held: NDArray[np.bool_] = (self._bits[numbers >> 3] & (0x80 >> (numbers & 7))) != 0
        return held

    def below(self, number: int) -> int:
        """Return how many numbers below *number* are marked: its place, if it is marked."""
        number = max(0, min(number, self.length))
        block, rest = divmod(number, 8 * _BLOCK)
        part = np.unpackbits(self._bits[block * _BLOCK : (block + 1) * _BLOCK], count=rest)
        return int(self._before[block]) + int(part.sum())

    def numbers(self, start: int, stop: int) -> NDArray[np.int64]:
        """Return the marked numbers at the places *start* to *stop* in their order: int64 (n,)."""
        stop = min(stop, len(self))
        if start >= stop:
            return np.empty(0, np.int64)
        places = np.arange(start, stop)
        # Between two blocks in which some of these lie are only blocks without marks.
        blocks = np.unique(np.searchsorted(self._before, places, side="right") - 1)
        within = self._bits.reshape(-1, _BLOCK)[blocks]
        which, bit = np.nonzero(np.unpackbits(within, axis=1))
        found = blocks[which] * (8 * _BLOCK) + bit
        skipped = start - int(self._before[blocks[0]])
        return found[skipped : skipped + stop - start]

    def _alone(self) -> range | None:
        """Return the marked numbers as a range, where they follow one another."""
        count = len(self)
        if not count:
            return range(0)
        (first,), (last,) = self.numbers(0, 1), self.numbers(count - 1, count)
        return range(int(first), int(last) + 1) if last - first + 1 == count else None

    def rows(self) -> range | NDArray[np.int64]:
        """Return all marked numbers: a range where they follow one another, else int64 (n,)."""
        if (alone := self._alone()) is not None:
            return alone
        found = np.empty(len(self), np.int64)
        done = 0
        for start, stop in _spans(self.length):
            part = np.flatnonzero(np.unpackbits(self._bits[start // 8 : -(-stop // 8)]))
            found[done : done + len(part)] = part + start
            done += len(part)
        return found

    def runs(self, most: int) -> list[tuple[int, int]]:
        """Return the first *most* of the ranges, as (start, stop), that the marked numbers make."""
        if (alone := self._alone()) is not None:
            return [(alone.start, alone.stop)] if alone else []
        runs: list[tuple[int, int]] = []
        for start in range(0, len(self), _SPAN):
            part = self.numbers(start, start + _SPAN)
            breaks = np.flatnonzero(np.diff(part) != 1)[: most + 1]
            firsts = [int(part[0]), *part[breaks + 1].tolist()]
            lasts = [*part[breaks].tolist(), int(part[-1])]
            if len(breaks) > most:
                firsts, lasts = firsts[:most], lasts[:most]
            if runs and runs[-1][1] == firsts[0]:
                firsts[0] = runs.pop()[0]
            runs += [(first, last + 1) for first, last in zip(firsts, lasts, strict=True)]
            if len(runs) > most:
                break
        return runs[:most]


def _no_bits(length: int) -> NDArray[np.uint8]:
    return np.zeros((length // (8 * _BLOCK) + 1) * _BLOCK, np.uint8)


def _spans(length: int) -> Iterator[tuple[int, int]]:
    return ((start, min(start + _SPAN, length)) for start in range(0, length, _SPAN))
