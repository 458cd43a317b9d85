"""Room on the disk: looked for before the first byte, and named in one sentence where it lacks."""

from __future__ import annotations

import errno
from contextlib import contextmanager
from typing import TYPE_CHECKING

from mmcache.errors import NoSpaceError
from mmcache.facts import human_bytes
from mmcache.stores.payload import FULL, free_bytes

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

__all__ = ["check_room", "has_room", "room_for"]


def has_room(needed: int, where: Path, allocated: int = 0) -> bool:
    """Tell whether a cache of *needed* bytes has room at *where*; *allocated* are there already."""
    return needed - allocated <= free_bytes(where.parent)


def check_room(needed: int, where: Path, allocated: int = 0) -> None:
    """Raise :class:`NoSpaceError` where a cache of *needed* bytes has no room at *where*.

    *allocated* bytes of it are there already.
    """
    if not has_room(needed, where, allocated):
        raise _no_room(needed, where)


@contextmanager
def room_for(needed: int | None, where: Path) -> Iterator[None]:
    """Turn a disk that is full, while *needed* bytes are written, into :class:`NoSpaceError`.

    None where it is not known yet how many these are.
    """
    try:
        yield
    except OSError as error:
        if error.errno not in FULL:
            raise
        raise (_too_large if error.errno == errno.EFBIG else _no_room)(needed, where) from error


def _no_room(needed: int | None, where: Path) -> NoSpaceError:
    folder = where.parent
    free = free_bytes(folder)
    return NoSpaceError(
        f"{_need(needed)} and {human_bytes(free)} are free on {folder}",
        needed=needed or 0,
        free=free,
    )


def _too_large(needed: int | None, where: Path) -> NoSpaceError:
    limit = _largest_file()
    if limit is None:
        return NoSpaceError(
            f"{_need(needed)}, and {where.parent} takes no file that large: build it on another"
            " file system, or as .zarr, which has many files",
            needed=needed or 0,
            free=free_bytes(where.parent),
        )
    return NoSpaceError(
        f"{_need(needed)}, and this process may make no file larger than {human_bytes(limit)}, its"
        " limit: raise that with ulimit -f",
        needed=needed or 0,
        free=limit,
    )


def _need(needed: int | None) -> str:
    return f"the cache needs {'some room' if needed is None else human_bytes(needed)}"


def _largest_file() -> int | None:
    """Return the most bytes that this process may give a file; None where there is no limit."""
    try:
        import resource  # noqa: PLC0415  # Windows has none
    except ImportError:
        return None
    limit, _ = resource.getrlimit(resource.RLIMIT_FSIZE)
    return None if limit == resource.RLIM_INFINITY else limit
