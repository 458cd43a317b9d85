"""A path is a whole cache or it is no cache: work goes on beside it and is exchanged into place."""

from __future__ import annotations

import contextlib
import ctypes
import errno
import hashlib
import os
import shutil
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Self

from filelock import FileLock, Timeout

from mmcache.errors import BusyError, DestinationError
from mmcache.stores.frame import is_cache
from mmcache.stores.payload import synced_directory

if TYPE_CHECKING:
    from types import TracebackType

__all__ = ["Work", "destination_of", "refuse_foreign", "work_path"]

_AT_FDCWD = -100
_RENAME_EXCHANGE = 2
_TRIES = 10


def work_path(destination: Path) -> Path:
    """Return the neighbour in which *destination* is built: its name is always short."""
    digest = hashlib.sha256(os.fsencode(destination.name)).hexdigest()
    return destination.parent / f".mmcache-{digest[:12]}"


def destination_of(path: str | os.PathLike[str]) -> Path:
    """Return where a cache of this path is built: absolute, and behind any link."""
    where = Path(os.path.realpath(path))
    if not where.parent.is_dir():
        raise DestinationError(
            f"{os.fspath(path)} cannot be built: there is no folder {where.parent}; create it, or"
            " mend the path"
        )
    return where


def refuse_foreign(where: Path) -> None:
    """Raise :class:`DestinationError` where something stands that is no cache."""
    if not is_cache(where):
        raise DestinationError(
            f"{where} exists and is no cache of this mmcache, so that it is not overwritten: build"
            " to another path, or move it away"
        )


class Work:
    """The right to build *destination*: a neighbouring folder, and a lock on it.

    The lock is the operating system's and ends with its process. Leaving the ``with`` block removes
    the folder with all that is in it; :meth:`publish` puts ``content`` in place before.

    Raises
    ------
    BusyError
        (an ``OSError``) where another process is building the same destination.
    """

    def __init__(self, destination: Path) -> None:
        self.destination = destination
        self.folder = work_path(destination)
        self.content = self.folder / "new"
        self._stood: tuple[int, int] | None = None
        self._lock = FileLock(self.folder / "lock", timeout=0)

    def __enter__(self) -> Self:
        self._lock_folder()
        # What a killed builder left is of no use to this one.
        _removed(self.content)
        self._stood = _identity(self.destination)
        return self

    def _lock_folder(self) -> None:
        busy = f"{self.destination} is being built by another process: wait for it to end"
        for _ in range(_TRIES):
            try:
                self.folder.mkdir(exist_ok=True)
                self._lock.acquire()
            except Timeout as error:
                raise BusyError(busy) from error
            except (FileExistsError, FileNotFoundError):
                continue  # another builder ended between these two calls, and removed the folder
            return
        raise BusyError(busy)

    def publish(self) -> None:
        """Put ``content``, which is whole and on disk, at the destination.

        :class:`DestinationError` where something that is no cache has come to stand there.
        """
        if self.content.is_dir():
            synced_directory(self.content)
        if (now := _identity(self.destination)) is not None:
            if now != self._stood:
                refuse_foreign(self.destination)
            _exchange(self.content, self.destination)
        else:
            self.content.rename(self.destination)
        synced_directory(self.destination.parent)

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        _removed(self.content)
        if os.name == "posix":
            shutil.rmtree(self.folder, ignore_errors=True)
            self._lock.release()
        else:  # an open file cannot be removed there
            self._lock.release()
            shutil.rmtree(self.folder, ignore_errors=True)


def _identity(path: Path) -> tuple[int, int] | None:
    """Return what tells one file or folder from another that takes its name; None for nothing."""
    try:
        status = path.lstat()
    except FileNotFoundError:
        return None
    return status.st_dev, status.st_ino


def _removed(path: Path) -> None:
    if path.is_dir():
        shutil.rmtree(path, ignore_errors=True)
    else:
        path.unlink(missing_ok=True)


def _exchange(new: Path, old: Path) -> None:
    """Let *new* and *old* change places, at once where the system can."""
    with contextlib.suppress(OSError):
        _exchange_at_once(new, old)
        return
    # Without an exchange there is a moment in which nothing stands at the destination; a process
    # that is killed in it leaves the old cache beside the new one in the working folder.
    aside = new.with_name("old")
    old.rename(aside)
    try:
        new.rename(old)
    except OSError:
        aside.rename(old)
        raise
    _removed(aside)


def _exchange_at_once(new: Path, old: Path) -> None:
    """Call Linux's ``renameat2(..., RENAME_EXCHANGE)``; :class:`OSError` where there is none."""
    libc = ctypes.CDLL(None, use_errno=True) if sys.platform == "linux" else None
    if libc is None or not hasattr(libc, "renameat2"):
        raise OSError(errno.ENOSYS, "no renameat2")
    done = libc.renameat2(
        _AT_FDCWD, os.fsencode(new), _AT_FDCWD, os.fsencode(old), _RENAME_EXCHANGE
    )
    if done != 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))
