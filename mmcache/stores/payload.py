"""Bytes onto the disk: room really allocated, writes at known offsets, flushes that last."""

from __future__ import annotations

import contextlib
import errno
import os
import shutil
import threading
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any, Self

from mmcache.errors import TooManyFilesError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator
    from pathlib import Path

__all__ = [
    "FULL",
    "Flusher",
    "allocated",
    "copied",
    "free_bytes",
    "in_blocks",
    "opened",
    "pieces_of",
    "reading",
    "refuse_too_many",
    "synced",
    "synced_directory",
    "taken_bytes",
    "write_at",
    "written",
]

FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
"""Numbers of the errors that tell that there is no room."""

_BINARY = getattr(os, "O_BINARY", 0)
_PIECE = 1 << 20  # bytes copied at a time
_BLOCK = 4096  # file systems share whole blocks alone
_AT_ONCE = 8
_CHUNK = 64 << 20  # bytes given to one write: some systems refuse more than 2 GiB


@contextlib.contextmanager
def opened(path: str | os.PathLike[str], flags: int) -> Iterator[int]:
    """Open a file as a bare descriptor, and close it."""
    descriptor = os.open(path, flags | _BINARY | getattr(os, "O_CLOEXEC", 0), 0o666)
    try:
        yield descriptor
    finally:
        os.close(descriptor)


@contextlib.contextmanager
def reading(path: Path) -> Iterator[int]:
    """Open a file of a cache to read it: through no link, and without waiting at a FIFO.

    :class:`TooManyFilesError` where this process may open no more, and :class:`OSError` as ever.
    """
    flags = os.O_RDONLY | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_NONBLOCK", 0)
    try:
        with opened(path, flags) as descriptor:
            yield descriptor
    except OSError as error:
        refuse_too_many(error, path)
        raise


def refuse_too_many(error: OSError, path: Path) -> None:
    """Raise :class:`TooManyFilesError` where that is why *path* could not be opened."""
    if error.errno in (errno.EMFILE, errno.ENFILE):
        raise TooManyFilesError(
            f"{path} could not be opened, since this process has too many files open: close other"
            " caches, or allow it more with ulimit -n"
        ) from error


def allocated(path: Path, header: bytes, length: int) -> None:
    """Create a file that begins with *header*, with blocks for all of its *length* bytes.

    A full disk is found here, as :class:`OSError` (``ENOSPC``), and never as a signal later.
    """
    with opened(path, os.O_RDWR | os.O_CREAT) as descriptor:
        os.ftruncate(descriptor, length)
        if hasattr(os, "posix_fallocate"):
            os.posix_fallocate(descriptor, 0, length)
        write_at(descriptor, header, 0)


def write_at(descriptor: int, data: Any, offset: int) -> None:
    """Write all of *data*, a buffer, at *offset* of a file."""
    rest = memoryview(data).cast("B")
    while rest:
        if hasattr(os, "pwrite"):
            done = os.pwrite(descriptor, rest[:_CHUNK], offset)
        else:  # Windows; each writer has a descriptor of its own
            os.lseek(descriptor, offset, os.SEEK_SET)
            done = os.write(descriptor, rest[:_CHUNK])
        rest, offset = rest[done:], offset + done


def pieces_of(descriptor: int, start: int, end: int) -> Iterator[bytes]:
    """Yield the bytes of a stretch of a file; :class:`OSError` where the file ends before."""
    while start < end:
        piece = _read_at(descriptor, min(end - start, _PIECE), start)
        if not piece:
            raise OSError(errno.EIO, "it ends early")
        yield piece
        start += len(piece)


def _read_at(descriptor: int, length: int, offset: int) -> bytes:
    try:
        if hasattr(os, "pread"):
            return os.pread(descriptor, length, offset)
        # Windows; each reader has a descriptor of its own
        os.lseek(descriptor, offset, os.SEEK_SET)
        return os.read(descriptor, length)
    except OverflowError:  # behind the end of any file
        return b""


def written(path: Path, pieces: Iterable[Any]) -> None:
    """Write a file of *pieces*, buffers; :func:`synced` brings it to disk."""
    with opened(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC) as descriptor:
        offset = 0
        for piece in pieces:
            data = memoryview(piece)
            if data.nbytes:
                write_at(descriptor, data, offset)
            offset += data.nbytes


def synced_directory(path: str | os.PathLike[str]) -> None:
    """Wait until a directory's entries are on disk, where the system knows such a thing."""
    if os.name == "posix":
        with opened(path, os.O_RDONLY) as descriptor:
            os.fsync(descriptor)


def synced(path: Path) -> None:
    """Wait until a file, or a directory with all that is in it, is on disk."""
    # Many at once: the file system then brings several to disk in one go.
    with ThreadPoolExecutor(_AT_ONCE, thread_name_prefix="mmcache-sync") as pool:
        for _ in pool.map(_synced, [path, *path.rglob("*")]):
            pass


def _synced(path: Path) -> None:
    if path.is_dir():
        synced_directory(path)
        return
    with opened(path, os.O_RDWR) as descriptor:
        os.fsync(descriptor)


def copied(here: int, start: int, there: int, to: int, length: int) -> None:
    """Copy *length* bytes between open files, sharing blocks where the file system can."""
    while length:
        step = _whole_blocks(start, to, length)
        done = _copied_inside(here, start, there, to, step)
        if not done:
            piece = next(pieces_of(here, start, start + step))
            write_at(there, piece, to)
            done = len(piece)
        start, to, length = start + done, to + done, length - done


def _whole_blocks(start: int, to: int, length: int) -> int:
    """Return how much of a stretch to copy at once: whole blocks apart from what is round them."""
    if start % _BLOCK != to % _BLOCK or length < 2 * _BLOCK:
        return length
    return -start % _BLOCK or length - length % _BLOCK


def _copied_inside(here: int, start: int, there: int, to: int, length: int) -> int:
    """Let the kernel copy, and return how many bytes it did; 0 where it cannot."""
    if not hasattr(os, "copy_file_range"):
        return 0
    try:
        return os.copy_file_range(here, there, length, start, to)
    except OSError as error:
        if error.errno in (*FULL, errno.EIO):
            raise
        return 0


def in_blocks(length: int) -> int:
    """Return the bytes on disk that a file of this length takes, in most file systems."""
    return -(-length // _BLOCK) * _BLOCK


def free_bytes(folder: Path) -> int:
    """Return the bytes that may still be written to the file system of *folder*."""
    return shutil.disk_usage(folder).free


def taken_bytes(path: Path) -> int:
    """Return the bytes on disk that a file, or a directory with all in it, takes."""
    blocks = (getattr(one.lstat(), "st_blocks", 0) for one in [path, *path.rglob("*")])
    return 512 * sum(blocks)


class Flusher:
    """A thread that brings files to disk while others fill them.

    ``flush`` asks for one more round and returns at once; what it was told is noted when all that
    was written before is on disk. Leaving the ``with`` block waits for a last round, and raises
    what went wrong.

    Parameters
    ----------
    paths : paths
        Of the files.
    note : callable
        Called, in the thread, with what each round has brought to disk.
    """

    def __init__(
        self, paths: Iterable[Path], note: Callable[[list[Any]], None] = lambda _: None
    ) -> None:
        self._paths = list(paths)
        self._note = note
        self._told: list[Any] = []
        self._wanted = threading.Event()
        self._ended = False
        self._error: OSError | None = None
        self._thread = threading.Thread(target=self._run, name="mmcache-flush", daemon=True)

    def tell(self, what: Any) -> None:
        """Say what was written, to be noted with the next round."""
        self._told.append(what)

    def flush(self) -> None:
        """Ask for what was written until now to be brought to disk."""
        self._wanted.set()

    def _run(self) -> None:
        last = False
        while not last:
            self._wanted.wait()
            self._wanted.clear()
            last = self._ended  # read before the round that then covers all that was written
            self._sync()

    def _sync(self) -> None:
        sync = getattr(os, "fdatasync", os.fsync)
        told = list(self._told)  # before this round: more may be told meanwhile
        try:
            for path in self._paths:
                with opened(path, os.O_RDWR) as descriptor:
                    sync(descriptor)
            if told:
                self._note(told)
            del self._told[: len(told)]
        except OSError as error:
            self._error = error

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        self._ended = True
        self._wanted.set()
        self._thread.join()
        if self._error is not None and kind is None:
            raise self._error
