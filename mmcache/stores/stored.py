"""A cache's files as they lie on the disk, whole or not: read in pieces, never mapped.

A file that is cut while it is read is an error here, and not a signal. Nothing behind a link is
read.
"""

from __future__ import annotations

import contextlib
import errno
import hashlib
import os
import stat
from typing import TYPE_CHECKING, Any

import numpy as np

from mmcache.errors import DamagedCacheError, TooManyFilesError
from mmcache.stores.frame import FRAME_FILE, GROUP_FILE, file_of, in_group, lies_inside
from mmcache.stores.payload import pieces_of, reading

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from numpy.typing import NDArray

    from mmcache.stores.frame import ArrayFrame, Frame

__all__ = ["Column", "Stored"]

_SENTENCES = {
    errno.ENOENT: "is missing",
    errno.ENOTDIR: "is missing",
    errno.ELOOP: "is a link, and no file of a cache is",
}


class Stored:
    """The files of the cache at *path*, as *frame* tells of them; threads may share it."""

    def __init__(self, path: Path, frame: Frame) -> None:
        self.path = path
        self.frame = frame
        self.is_directory = path.is_dir()

    @property
    def frame_file(self) -> str:
        """The name of the file that the frame is in."""
        if not self.is_directory:
            return self.path.name
        return FRAME_FILE if (self.path / FRAME_FILE).exists() else GROUP_FILE

    @property
    def frame_bytes(self) -> int:
        """The length of the frame, with what is round it in a file of its own."""
        if self.frame.trailing:
            return self.frame.trailing
        document = self.frame.to_bytes()
        return len(in_group(document) if self.frame_file == GROUP_FILE else document)

    def shown(self, name: str) -> str:
        """Return what people call file *name*: a cache of one file has any name."""
        return name if self.is_directory else self.path.name

    def file_with(self, array: str) -> str:
        """Return the file that an array begins in; that of the frame where it lies in none."""
        one = self.frame.arrays.get(array)
        return self.shown(one.segments[0].file) if one and one.segments else self.frame_file

    @contextlib.contextmanager
    def opened(self, name: str) -> Iterator[int]:
        """Open file *name*; :class:`DamagedCacheError`, half a sentence, where that cannot be."""
        with contextlib.ExitStack() as stack:
            try:
                file = file_of(self.path, name)
                if self.is_directory and not lies_inside(self.path, file):
                    raise DamagedCacheError("lies behind a link, and no file of a cache does")
                descriptor = stack.enter_context(reading(file))
            except TooManyFilesError:
                raise
            except OSError as error:
                told = _SENTENCES.get(error.errno or 0, f"cannot be read: {error.strerror}")
                raise DamagedCacheError(told) from error
            except UnicodeError as error:
                raise DamagedCacheError("has a name that no file can have") from error
            mode = os.fstat(descriptor).st_mode
            if not stat.S_ISREG(mode):
                kind = "a folder" if stat.S_ISDIR(mode) else "no plain file"
                raise DamagedCacheError(f"is {kind}, and a cache has a plain file there")
            yield descriptor

    def problem(self, name: str) -> str | None:
        """Return half a sentence on what is wrong with file *name* itself, or None."""
        length = self.frame.files[name].length + self.frame.trailing
        try:
            with self.opened(name) as descriptor:
                there = os.fstat(descriptor).st_size
        except DamagedCacheError as error:
            return str(error)
        return None if there == length else f"has {there:,} bytes and was written with {length:,}"

    def strangers(self) -> Iterator[str]:
        """Yield what is in the directory and does not belong to the cache; folders end in ``/``."""
        if not self.is_directory:
            return
        files = {*self.frame.files, self.frame_file}
        folders = {""}
        for name in files:
            parts = name.split("/")
            folders |= {"/".join(parts[:depth]) for depth in range(1, len(parts))}
        waiting = [""]
        while waiting:
            for entry in sorted(self._entries(waiting.pop()), key=lambda one: one.name):
                name = os.path.relpath(entry.path, self.path).replace(os.sep, "/")
                if not entry.is_dir(follow_symlinks=False):
                    if name not in files:
                        yield name
                elif name in folders:
                    waiting.append(name)
                elif name not in files:  # of which it is told already that it is a folder
                    yield f"{name}/"

    def _entries(self, folder: str) -> list[os.DirEntry[str]]:
        with contextlib.suppress(OSError), os.scandir(self.path / folder) as entries:
            return list(entries)
        return []

    def digest(self, array: str) -> str:
        """Return the SHA-256 of an array's bytes; :class:`DamagedCacheError` where some lack."""
        digest = hashlib.sha256()
        for segment in self.frame.arrays[array].segments:
            with self.opened(segment.file) as descriptor:
                try:
                    end = segment.offset + segment.length
                    for piece in pieces_of(descriptor, segment.offset, end):
                        digest.update(piece)
                except OSError as error:
                    raise DamagedCacheError(f"cannot be read: {error.strerror}") from error
        return digest.hexdigest()

    def array(self, name: str) -> NDArray[Any]:
        """Return all of an array that lies in one file, in memory of its own."""
        with self.column(name) as column:
            return column.read(0, len(column))

    @contextlib.contextmanager
    def column(self, array: str) -> Iterator[Column]:
        """Open an array that lies in one file, to read rows of it."""
        one = self.frame.arrays[array]
        if not one.segments:
            yield Column(None, one)
            return
        with self.opened(one.segments[0].file) as descriptor:
            yield Column(descriptor, one)


class Column:
    """An array of which some rows are read at a time, made by :meth:`Stored.column`."""

    def __init__(self, descriptor: int | None, one: ArrayFrame) -> None:
        self._descriptor = descriptor
        self._one = one
        self._dtype = np.dtype(one.dtype)
        self._width = self._dtype.itemsize * int(np.prod(one.shape[1:], dtype=object))

    def __len__(self) -> int:
        return self._one.shape[0]

    def read(self, start: int, stop: int) -> NDArray[Any]:
        """Return rows; :class:`DamagedCacheError` where the array or its file has them not."""
        if not 0 <= start <= stop <= len(self):
            raise DamagedCacheError(f"has no rows {start:,} to {stop:,}")
        data = b""
        if self._descriptor is not None:
            offset = self._one.segments[0].offset
            ends = offset + start * self._width, offset + stop * self._width
            try:
                data = b"".join(pieces_of(self._descriptor, *ends))
            except OSError as error:
                raise DamagedCacheError(f"cannot be read: {error.strerror}") from error
        return np.frombuffer(data, self._dtype).reshape(stop - start, *self._one.shape[1:])
