"""The right to build one destination: the operating system's lock on a file.

It ends with the last process that holds the file's descriptor, however that process ends. Workers
inherit the descriptor, so that nobody begins anew while one of them may still write.
"""

from __future__ import annotations

import os
import time
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from io import FileIO
    from pathlib import Path

__all__ = ["Lock"]

_PATIENCE = 10.0  # seconds for the workers of a builder that was killed
_PAUSE = 0.02
_AWAY = 1 << 30  # a byte that nobody reads: what Windows locks cannot be read
_DIGITS = 20


class Lock:
    """A lock on the file at *path*, which tells who has it."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._file: FileIO | None = None

    @property
    def descriptor(self) -> int | None:
        """What holds the lock, and may be handed on; None where it is not held."""
        return None if self._file is None else self._file.fileno()

    def acquire(self) -> bool:
        """Take the lock, and tell whether it could be had.

        Nobody waits for a process that lives; for the workers of one that does not, a little.
        :class:`FileNotFoundError` where the file was removed meanwhile.
        """
        until = time.monotonic() + _PATIENCE
        while not self._taken():
            holder = self.holder()
            # Who has only just taken it has not told yet.
            if (holder is not None and _lives(holder)) or time.monotonic() > until:
                return False
            time.sleep(_PAUSE)
        return True

    def _taken(self) -> bool:
        # An object closes its file, which gives the lock back, when an interruption loses it.
        file = open(self.path, "r+b", buffering=0, opener=_created)  # noqa: SIM115
        try:
            if not _locked(file.fileno()):
                file.close()
                return False
            here, there = os.fstat(file.fileno()), self.path.stat()
            if (here.st_dev, here.st_ino) != (there.st_dev, there.st_ino):
                raise FileNotFoundError(self.path)  # noqa: TRY301  # another by now
            file.truncate(0)
            file.write(b"%d\n" % os.getpid())
        except BaseException:
            file.close()
            raise
        self._file = file
        return True

    def holder(self) -> int | None:
        """Return the process that took the lock last; None where that is not told."""
        try:
            with self.path.open("rb") as file:
                return int(file.read(_DIGITS))
        except (OSError, ValueError):
            return None

    def release(self) -> None:
        """Give the lock back; whoever inherited it keeps it until it ends."""
        if self._file is not None:
            self._file.close()
            self._file = None


def _created(path: str, flags: int) -> int:
    return os.open(path, flags | os.O_CREAT, 0o666)


def _locked(descriptor: int) -> bool:
    try:
        import fcntl  # noqa: PLC0415  # POSIX alone has it
    except ImportError:
        return _locked_on_windows(descriptor)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _locked_on_windows(descriptor: int) -> bool:
    import msvcrt  # noqa: PLC0415  # Windows alone has it

    os.lseek(descriptor, _AWAY, os.SEEK_SET)
    try:
        msvcrt.locking(descriptor, msvcrt.LK_NBLCK, 1)  # type: ignore[attr-defined, unused-ignore]
    except OSError:
        return False
    os.lseek(descriptor, 0, os.SEEK_SET)
    return True


def _lives(process: int) -> bool:
    if os.name != "posix":
        return True  # to ask would end it there
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except PermissionError:  # it is somebody else's
        pass
    return True
