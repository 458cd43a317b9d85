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

from mmcache.errors import BusyError, DestinationError
from mmcache.stores.frame import is_cache
from mmcache.stores.locking import Lock
from mmcache.stores.payload import synced_directory
from mmcache.stores.unfinished import Unfinished, identity, removed

if TYPE_CHECKING:
    from types import TracebackType

__all__ = ["Work", "destination_of", "refuse_foreign", "unfinished_at", "work_path"]

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
    the folder with all that is in it, but for what can be gone on with: where an error ends the
    block, what is :attr:`Unfinished.is_of_use` stays. :meth:`publish` puts the content of ``begun``
    in place before.

    Parameters
    ----------
    destination : Path
    goes_on : bool
        Whether the block goes on with unfinished work, or refuses to begin where there is some.

    Attributes
    ----------
    begun, earlier : Unfinished
        What is being built, and what was begun before and cannot become the cache any more, but has
        records that may go into it.

    Raises
    ------
    BusyError
        (an ``OSError``) where another process is building the same destination.
    DestinationError
        (a ``FileExistsError``) where unfinished work is there.
    """

    begun: Unfinished  # both are read by whoever has the lock
    earlier: Unfinished

    def __init__(self, destination: Path, *, goes_on: bool = False) -> None:
        self.destination = destination
        self.folder = work_path(destination)
        self.lock = Lock(self.folder / "lock")
        self._goes_on = goes_on
        self._stood: tuple[int, int] | None = None

    def __enter__(self) -> Self:
        try:
            self._lock_folder()
            self._recover()
            self._read()
            if self.has_unfinished and not self._goes_on:
                raise DestinationError(  # noqa: TRY301
                    f"an unfinished build of {self.destination} is there: finish it by the same"
                    f" call, or remove it with mmcache.discard({str(self.destination)!r})"
                )
            self._stood = identity(self.destination)
        except BaseException:
            with contextlib.suppress(OSError):
                self._not_begun()
            self.lock.release()
            raise
        return self

    def _not_begun(self) -> None:
        """Remove the folder, unless it is another's, or has what can be gone on with or put back.

        So Ctrl-C that comes before the work has begun leaves nothing.
        """
        if self.lock.descriptor is None:
            self.folder.rmdir()  # which an empty folder alone allows
            return
        stay = [Unfinished(self.folder / name).is_of_use for name in ("begun", "earlier")]
        if not any(stay) and not os.path.lexists(self.folder / "old"):
            self._remove()

    def _lock_folder(self) -> None:
        for _ in range(_TRIES):
            try:
                self.folder.mkdir(exist_ok=True)
                if self.lock.acquire():
                    return
            except (FileExistsError, FileNotFoundError):
                continue  # another builder ended between these two calls, and removed the folder
            break
        holder = self.lock.holder()
        who = "another process" if holder is None else f"process {holder}"
        raise BusyError(f"{self.destination} is being built by {who}: wait for it to end")

    def _recover(self) -> None:
        """Put back the old generation, where an exchange in two steps was killed between them."""
        aside = self.folder / "old"
        if not os.path.lexists(aside):
            return
        if not os.path.lexists(self.destination):
            aside.rename(self.destination)
        removed(aside)

    def _read(self) -> None:
        """See what builders before have left; what is of no use is removed."""
        removed(self.folder / "gone")
        self.begun, self.earlier = (Unfinished(self.folder / name) for name in ("begun", "earlier"))
        for one in (self.begun, self.earlier):
            if not one.is_of_use:
                one.clear()
        self.begun.folder.mkdir(exist_ok=True)

    @property
    def content(self) -> Path:
        """What :meth:`publish` puts in place."""
        return self.begun.content

    @property
    def has_unfinished(self) -> bool:
        """Whether a builder before has left anything that can be gone on with."""
        return self.begun.is_of_use or self.earlier.is_of_use

    def set_aside(self) -> None:
        """Let ``begun`` become ``earlier``, in place of what that was, and begin with nothing."""
        gone = self.folder / "gone"
        if self.earlier.folder.exists():
            self.earlier.folder.rename(gone)
        self.begun.folder.rename(self.earlier.folder)
        self._read()

    def forget_earlier(self) -> None:
        """Remove what was begun before."""
        self.earlier.clear()
        removed(self.earlier.folder)

    def publish(self) -> None:
        """Put ``content``, which is whole and on disk, at the destination.

        :class:`DestinationError` where something that is no cache has come to stand there.
        """
        self.forget_earlier()  # before: what is whole is not to be followed by unfinished work
        if self.content.is_dir():
            synced_directory(self.content)
        if (now := identity(self.destination)) is not None:
            if now != self._stood:
                refuse_foreign(self.destination)
            _exchange(self.content, self.destination, self.folder / "old")
        else:
            self.content.rename(self.destination)
        synced_directory(self.destination.parent)

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if kind is not None and self.has_unfinished:
            if isinstance(error, KeyboardInterrupt):
                error.args = ("what is done is kept, and the same call goes on with it",)
            self.lock.release()
            return
        # As long as the lock is there nobody else begins: it goes last.
        self.forget_earlier()
        self.begun.clear()
        removed(self.begun.folder)
        self._remove()

    def _remove(self) -> None:
        """Remove the folder, and give the lock back."""
        if os.name == "posix":
            shutil.rmtree(self.folder, ignore_errors=True)
            self.lock.release()
        else:  # an open file cannot be removed there
            self.lock.release()
            shutil.rmtree(self.folder, ignore_errors=True)


def unfinished_at(destination: Path) -> bool:
    """Tell whether a working folder is beside *destination*, of a builder that lives or not."""
    return work_path(destination).is_dir()


def _exchange(new: Path, old: Path, aside: Path) -> None:
    """Let *new* take the place of *old*, at once where the system can; *aside* is free."""
    with contextlib.suppress(OSError):
        _exchange_at_once(new, old)
        return
    # Without an exchange there is a moment in which nothing stands at the destination; a process
    # that is killed in it leaves the old cache beside the new one in the working folder.
    old.rename(aside)
    try:
        new.rename(old)
    except OSError:
        aside.rename(old)
        raise
    removed(aside)


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
