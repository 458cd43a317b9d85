"""A cache's files as memory: mapped once, read-only, and never read past their end.

Knows no format: a frame says which bytes are which array.
"""

from __future__ import annotations

import contextlib
import mmap
import os
import stat
from time import perf_counter
from typing import TYPE_CHECKING, Any

import numpy as np

from mmcache.errors import DamagedCacheError, TooManyFilesError
from mmcache.memory import Looked, is_memory_alone, pages_of, resident_bytes, scattered
from mmcache.stores.frame import file_of, lies_inside
from mmcache.stores.payload import reading

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from numpy.typing import NDArray

    from mmcache.stores.frame import Frame, Segment

__all__ = ["Mapping"]


class Mapping:
    """All files of the cache at *path*, mapped when it is made.

    Raises
    ------
    DamagedCacheError
        Where a file is missing, is no plain file, or has another length than the frame says.
    """

    def __init__(self, path: Path, frame: Frame) -> None:
        self.path = path
        self.frame = frame
        used = {segment.file for one in frame.arrays.values() for segment in one.segments}
        self._maps: dict[str, mmap.mmap] = {}
        self._statuses: dict[str, os.stat_result] = {}
        for name, one in frame.files.items():
            # A cache of one file is that file itself, and its frame follows.
            file = _inside(path, name) if path.is_dir() else file_of(path, name)
            with _checked(file, one.length + frame.trailing) as descriptor:
                self._statuses[name] = os.fstat(descriptor)
                if name in used:
                    self._maps[name] = mmap.mmap(descriptor, one.length, access=mmap.ACCESS_READ)

    def segments(self, name: str) -> list[NDArray[Any]]:
        """Return array *name* as flat, read-only arrays, a segment each."""
        one = self.frame.arrays[name]
        dtype = np.dtype(one.dtype)
        return [
            np.ndarray(
                (segment.length // dtype.itemsize,), dtype, self._maps[segment.file], segment.offset
            )
            for segment in one.segments
        ]

    def array(self, name: str) -> NDArray[Any]:
        """Return array *name*, which lies in one segment, in its shape; its file is looked at."""
        self.check(name)
        one = self.frame.arrays[name]
        flat = self.segments(name)[0] if one.segments else np.empty(0, one.dtype)
        return flat.reshape(one.shape)

    def paths(self, name: str) -> list[Path]:
        """Return the files that array *name* lies in, a segment each."""
        return [file_of(self.path, one.file) for one in self.frame.arrays[name].segments]

    @contextlib.contextmanager
    def reopened(self, name: str) -> Iterator[int | None]:
        """Open the mapped file *name* once more; None where another one has its name by now.

        A newer generation may stand at the path. What is mapped is still the old one, whole.
        """
        with contextlib.ExitStack() as stack:
            try:
                descriptor = stack.enter_context(reading(file_of(self.path, name)))
            except OSError:
                yield None
                return
            same = os.path.samestat(os.fstat(descriptor), self._statuses[name])
            yield descriptor if same else None

    # What of it is in memory -----------------------------------------------------------------

    @property
    def nbytes(self) -> int:
        """The bytes of the mapped files."""
        return sum(map(len, self._maps.values()))

    def looked(self, seconds: float) -> Looked | None:
        """Look for so long how much of the files is in memory, whichever process has read it.

        None where the system has no way to tell.
        """
        deadline = perf_counter() + seconds
        names = list(self._maps)
        at = cached = length = 0
        for number in scattered(len(names)):
            if length and perf_counter() > deadline:
                break
            found = self._pages(names[number], deadline)
            if found is None:
                return None
            at += found.at
            cached += found.cached
            length += len(self._maps[names[number]])
        return Looked(at, cached * self.nbytes // length)

    def _pages(self, name: str, deadline: float) -> Looked | None:
        owner = self._statuses[name].st_uid
        mine = hasattr(os, "geteuid") and os.geteuid() in (owner, 0)
        with self.reopened(name) as descriptor:
            return pages_of(self._maps[name], descriptor, deadline, mine=mine)

    def resident(self) -> int | None:
        """Return how many bytes of the files this process has in memory; None if not told."""
        return resident_bytes(self._maps.values())

    def in_memory_alone(self) -> bool:
        """Tell whether the files lie on a file system that has no other place than memory."""
        return any(
            is_memory_alone(device) for device in {s.st_dev for s in self._statuses.values()}
        )

    def __contains__(self, name: str) -> bool:
        return name in self.frame.arrays

    def check(self, *names: str) -> None:
        """Raise :class:`DamagedCacheError` where a file of the arrays *names* was cut.

        Touching a mapped page that its file no longer has would end the process. Between this
        look and the touch a file can still be cut: that race remains.
        """
        for name in names:
            for number in range(len(self.frame.arrays[name].segments)):
                self.check_segment(name, number)

    def view(self, segment: Segment, length: int) -> NDArray[np.uint8]:
        """Return the first *length* mapped bytes of a segment."""
        return np.ndarray((length,), np.uint8, self._maps[segment.file], segment.offset)

    def check_segment(self, name: str, number: int) -> None:
        """Do the same for one segment of an array."""
        segment = self.frame.arrays[name].segments[number]
        if self._maps[segment.file].size() < segment.offset + segment.length:
            raise DamagedCacheError(
                f"{file_of(self.path, segment.file)} was cut while it was open: it is shorter than"
                " when it was written; build the cache again, or have mmcache.repair mend it"
            )


def _inside(path: Path, name: str) -> Path:
    """Return where file *name* of the cache at *path* is; its folders may be no links either."""
    file = path / name
    if "/" in name and not lies_inside(path, file):
        raise DamagedCacheError(f"{file} lies behind a link, and no file of a cache does")
    return file


@contextlib.contextmanager
def _checked(path: Path, length: int) -> Iterator[int]:
    """Open a file of the cache, which must be a plain file of this length."""
    try:
        with reading(path) as descriptor:
            status = os.fstat(descriptor)
            if not stat.S_ISREG(status.st_mode):
                raise DamagedCacheError(f"{path} is no plain file, as a cache's files are")
            if status.st_size != length:
                raise DamagedCacheError(
                    f"{path} has {status.st_size} bytes and was written with {length}: the cache"
                    " was not copied whole, or was changed; copy it again, or"
                    " have mmcache.repair mend it"
                )
            yield descriptor
    except TooManyFilesError:
        raise
    except OSError as error:
        raise DamagedCacheError(
            f"{path} belongs to the cache and cannot be read: {error.strerror}"
        ) from error
