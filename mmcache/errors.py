"""Everything that mmcache raises: one sentence each, with its values as attributes."""

from __future__ import annotations

import functools
from typing import Any

__all__ = [
    "BusyError",
    "CacheNotFoundError",
    "DamagedCacheError",
    "DestinationError",
    "DifferentCacheError",
    "MissingLibraryError",
    "MmcacheError",
    "NoSpaceError",
    "PictureError",
    "PicturesSkippedWarning",
    "RowError",
    "SelectionError",
    "SettingError",
    "ShapesDifferError",
    "SourceError",
    "SourceNotFoundError",
    "TooManyFailuresError",
    "TooManyFilesError",
    "UnknownKeyError",
    "WorkerError",
]


class MmcacheError(Exception):
    """The base of every error of mmcache."""


class SettingError(MmcacheError, ValueError):
    """A setting that makes no sense: found before anything is read or written."""


class SourceError(MmcacheError, ValueError):
    """A source in which there is nothing to build from."""


class SourceNotFoundError(MmcacheError, FileNotFoundError):
    """A source that is not there."""


class DestinationError(MmcacheError, FileExistsError):
    """A destination that cannot be built to; what stands there is left as it is."""


class NoSpaceError(MmcacheError, OSError):
    """A destination without room.

    Attributes
    ----------
    needed : int
        Bytes that the cache would take.
    free : int
        Bytes that are free there.
    """

    def __init__(self, message: str, *, needed: int, free: int) -> None:
        super().__init__(message)
        self.needed = needed
        self.free = free

    def __reduce__(self) -> tuple[Any, ...]:
        # Exceptions pickle their args; this one has keywords too.
        made = functools.partial(type(self), needed=self.needed, free=self.free)
        return made, (str(self),)


class BusyError(MmcacheError, OSError):
    """A destination that another process is building right now."""


class CacheNotFoundError(MmcacheError, FileNotFoundError):
    """A path to open at which there is no cache."""


class DamagedCacheError(MmcacheError, ValueError):
    """A cache whose frame, files or index are not what its builder wrote."""


class TooManyFilesError(MmcacheError, OSError):
    """A cache that is whole, and more files than this process may have open."""


class DifferentCacheError(MmcacheError, ValueError):
    """A cache that is whole, and of something else than was asked for."""


class ShapesDifferError(MmcacheError, ValueError):
    """One array was asked of pictures whose shapes differ, or that is larger than memory."""


class MissingLibraryError(MmcacheError, ImportError):
    """A library that a part of mmcache is made for, and that is not installed."""


class SelectionError(MmcacheError, TypeError):
    """An index that is neither number, slice, list, mask nor key."""


class RowError(MmcacheError, IndexError):
    """A row that a cache does not have."""


class UnknownKeyError(MmcacheError, KeyError):
    """A key that a cache does not hold."""

    def __str__(self) -> str:
        # KeyError would print its argument's repr, and this one's is a sentence.
        return str(self.args[0])


class PictureError(MmcacheError, OSError):
    """A picture that cannot be read.

    Attributes
    ----------
    key : str
        Its name.
    stage : str
        Where it failed: ``"list"``, ``"header"``, ``"decode"`` or ``"write"``.
    reason : str
        Why.
    """

    def __init__(self, key: str, stage: str, reason: str) -> None:
        super().__init__(f"{key}: {reason}")
        self.key = key
        self.stage = stage
        self.reason = reason

    def __reduce__(self) -> tuple[type[PictureError], tuple[str, str, str]]:
        # Exceptions pickle their args; this one is built from three.
        return type(self), (self.key, self.stage, self.reason)


class TooManyFailuresError(MmcacheError, OSError):
    """More pictures cannot be read than ``max_failures`` allows.

    Attributes
    ----------
    failures : Failures
        Those that were found until then.
    """

    def __init__(self, message: str, failures: Any = ()) -> None:
        super().__init__(message)
        self.failures = failures

    def __reduce__(self) -> tuple[Any, ...]:
        # Exceptions pickle their args; this one has failures too.
        return type(self), (str(self), self.failures)


class WorkerError(MmcacheError, RuntimeError):
    """A worker process that ended before its work did.

    Attributes
    ----------
    how : str
        How it ended while it was at its work; empty where it never began, or something else failed.
    """

    def __init__(self, message: str, how: str = "") -> None:
        super().__init__(message)
        self.how = how

    def __reduce__(self) -> tuple[type[WorkerError], tuple[str, str]]:
        # Exceptions pickle their args; this one is built from two.
        return type(self), (str(self), self.how)


class PicturesSkippedWarning(UserWarning):
    """Some pictures could not be read and are not in the cache; ``cache.failures`` names them."""
