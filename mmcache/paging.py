"""What the system is told of mapped files: which parts are wanted next, and which are done with.

Reading a mapping stops at every page that is not in memory, one after the other. The system reads
many at once when it is told beforehand. Where it cannot be told, nothing is done, and reading is as
right as before.
"""

from __future__ import annotations

import ctypes
import mmap
import os
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from mmcache.gathering import Located

__all__ = ["Pages", "can_tell"]

_PAGE = mmap.PAGESIZE
_NEAR = 16 * _PAGE  # parts that are nearer than this are asked for as one
_SAMPLE = 8  # records that are looked at to tell whether a batch is in memory
# The constants of Linux and macOS; a system without madvise has neither.
_WANTED, _DONE = (getattr(mmap, name, None) for name in ("MADV_WILLNEED", "MADV_DONTNEED"))


def _function(name: str, *arguments: Any) -> Any:
    """Return a function of the C library, which ctypes calls without Python's lock; or None."""
    try:
        found = getattr(ctypes.CDLL(None), name)
    except (OSError, TypeError, AttributeError):  # Windows has no such library
        return None
    found.argtypes = arguments
    return found


_madvise = _function("madvise", ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int)
_mincore = _function("mincore", ctypes.c_void_p, ctypes.c_size_t, ctypes.c_char_p)


class Pages:
    """The pages of some mapped arrays.

    Parameters
    ----------
    segments : sequence of flat arrays
        Mapped, and kept by whoever has this.
    """

    def __init__(self, segments: Sequence[NDArray[Any]]) -> None:
        self._segments = segments
        self._addresses = np.array([one.ctypes.data for one in segments], np.int64)

    def want(self, located: Located) -> None:
        """Have the system read these records, many at once, and do not wait for it."""
        self._tell(located, _WANTED)

    def let_go(self, located: Located) -> None:
        """Have the system take these records' pages out of this process; the files keep them."""
        self._tell(located, _DONE)

    def _tell(self, located: Located, what: int | None) -> None:
        if _madvise is None or what is None:
            return
        for start, length in self._stretches(located):
            _madvise(start, length, what)

    def _stretches(self, located: Located) -> list[list[int]]:
        """Return addresses and lengths of whole pages, those that are near each other together."""
        if not len(located):
            return []
        low, high = self._ends(located)
        order = np.argsort(low, kind="stable")
        low = low[order] & -_PAGE
        # Records may come twice, and none overlaps another one.
        high = np.maximum.accumulate(high[order])
        first = np.concatenate([[True], low[1:] > high[:-1] + _NEAR])
        last = np.concatenate([first[1:], [True]])
        starts, ends = low[first], high[last]
        stretches: list[list[int]] = np.stack([starts, ends - starts], axis=1).tolist()
        return stretches

    def _ends(self, located: Located) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        item = located.dtype.itemsize
        numbers = 0 if located.numbers is None else located.numbers
        low = self._addresses[numbers] + located.starts * item
        return low, low + located.lengths * item

    def are_there(self, located: Located) -> bool:
        """Tell whether these records seem to be in memory, by a look at a few of them.

        Linux tells it only to who may write to a file, and calls everything there otherwise.
        """
        if _mincore is None or not len(located):
            return False
        few = located.part(slice(None, None, max(1, len(located) // _SAMPLE)))
        low, high = self._ends(few)
        seen = ctypes.create_string_buffer(1)
        for address in np.concatenate([low, high - 1]).tolist():
            if _mincore(address & -_PAGE, _PAGE, seen) or not seen.raw[0] & 1:
                return False
        return True


def can_tell(path: str | os.PathLike[str]) -> bool:
    """Tell whether the system would say which pages of this file are in memory."""
    return _mincore is not None and os.access(path, os.W_OK)
