"""What the system is told of mapped files: what is wanted next, and what is done with.

Reading a mapping stops at every page that is not in memory, one after the other. The system reads
many at once when it is told beforehand. Where it cannot be told, nothing is done, and reading is as
right as before.
"""

from __future__ import annotations

import contextlib
import mmap
import os
import threading
import weakref
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np

from mmcache.errors import TooManyFilesError

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from mmcache.gathering import Located
    from mmcache.stores.mapping import Mapping

__all__ = ["Pages"]

_PAGE = mmap.PAGESIZE
_NEAR = 64 << 10  # bytes; parts that are nearer than this are asked for as one
_AT_ONCE = 256 << 10  # bytes; of a longer part the system may read the beginning alone
_FAR = 1 << 48  # bytes; no file is longer
_SAMPLE = 16  # records that are looked at to tell whether a batch is in memory
# Linux has these; elsewhere the system is told nothing.
_WANTED, _DONE, _SCATTERED = (
    getattr(os, f"POSIX_FADV_{name}", None) for name in ("WILLNEED", "DONTNEED", "RANDOM")
)
_NO_WAIT = getattr(os, "RWF_NOWAIT", None)


class Pages:
    """The files of a cache's pixels, opened once more, to tell the system about and to read from.

    They are opened when they are first needed and closed with this object. A file that another
    one has replaced by now is left alone: its pages are in the mapping only.
    """

    def __init__(self, files: Mapping) -> None:
        self._files = files
        self._segments = files.frame.arrays["pixels"].segments
        self._starts = np.array([one.offset for one in self._segments], np.int64)
        self._descriptors: dict[int, int | None] = {}
        self._lock = threading.Lock()
        self._open = contextlib.ExitStack()
        weakref.finalize(self, self._open.close)

    def _descriptor(self, number: int) -> int | None:
        """Return a descriptor of the file of a segment; None where it cannot be had."""
        with self._lock:
            if number not in self._descriptors:
                found = None
                with contextlib.suppress(TooManyFilesError):
                    name = self._segments[number].file
                    found = self._open.enter_context(self._files.reopened(name))
                if found is not None and _SCATTERED is not None:
                    # What is asked for is read, and not some megabytes round it.
                    os.posix_fadvise(found, 0, 0, _SCATTERED)
                self._descriptors[number] = found
            return self._descriptors[number]

    # Telling -------------------------------------------------------------------------------------

    def want(self, located: Located) -> None:
        """Have the system read these records, many at once, and do not wait for it."""
        self._tell(located, _WANTED)

    def done_with(self, located: Located) -> None:
        """Have the system forget what it has of these records, if nobody else is reading them."""
        self._tell(located, _DONE)

    def _tell(self, located: Located, what: int | None) -> None:
        if what is None:
            return
        for number, start, length in self._stretches(located):
            if (descriptor := self._descriptor(number)) is None:
                continue
            for place in range(start, start + length, _AT_ONCE):
                part = min(_AT_ONCE, start + length - place)
                os.posix_fadvise(descriptor, place, part, what)

    def _stretches(self, located: Located) -> list[list[int]]:
        """Return segments, offsets in their files and lengths, of parts that lie apart."""
        if not len(located):
            return []
        numbers, low, high = self._ends(located)
        order = np.lexsort((low, numbers))
        numbers, low, high = numbers[order], low[order], high[order]
        # Records may come twice, or lie in one that came already.
        far = numbers * _FAR
        high = np.maximum.accumulate(high + far) - far
        apart = (numbers[1:] != numbers[:-1]) | (low[1:] > high[:-1] + _NEAR)
        first, last = np.concatenate([[True], apart]), np.concatenate([apart, [True]])
        starts = low[first]
        told: list[list[int]] = np.stack([numbers[first], starts, high[last] - starts], 1).tolist()
        return told

    def _ends(
        self, located: Located
    ) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.int64]]:
        """Return each record's segment, and where in its file it begins and ends, in bytes."""
        numbers = located.numbers
        if numbers is None:
            numbers = np.zeros(len(located), np.int64)
        item = located.dtype.itemsize
        low = self._starts[numbers] + located.starts * item
        return numbers, low, low + located.lengths * item

    # Looking and reading -------------------------------------------------------------------------

    def are_there(self, located: Located) -> bool:
        """Tell whether these records seem to be in memory, by a look at a few of them."""
        if _NO_WAIT is None or not len(located):
            return False
        few = located.part(slice(None, None, -(-len(located) // _SAMPLE)))
        numbers, low, high = self._ends(few)
        byte = bytearray(1)
        for number, *places in np.stack([numbers, low, high - 1], 1).tolist():
            if (descriptor := self._descriptor(number)) is None:
                return True  # nobody can be told either
            try:
                for place in places:
                    os.preadv(descriptor, [byte], place, _NO_WAIT)
            except OSError:  # it would have to wait, or cannot tell
                return False
        return True

    def read(self, located: Located, room: NDArray[Any]) -> Located:
        """Read these records into a flat buffer, past the mapping, and return where they lie there.

        A mapping that is read from end to end fills the process with its pages; this does not.
        """
        numbers, low, high = self._ends(located)
        ends = np.cumsum(located.lengths)
        starts = ends - located.lengths
        target = memoryview(room.data).cast("B")
        item = located.dtype.itemsize
        for number, offset, stop, start, view in zip(
            numbers.tolist(), low.tolist(), high.tolist(), (starts * item).tolist(), located.flat(),
            strict=True,
        ):  # fmt: skip
            part = target[start : start + stop - offset]
            descriptor = self._descriptor(number)
            if descriptor is None or os.preadv(descriptor, [part], offset) < len(part):
                self._files.check_segment("pixels", number)
                part[:] = memoryview(view.data).cast("B")  # what the mapping still has
        return replace(located, segments=[room], numbers=None, starts=starts)
