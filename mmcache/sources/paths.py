"""A plain list of paths."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

from mmcache.errors import SettingError
from mmcache.records import Failures, Strings, to_bytes, to_str
from mmcache.sources.contract import Encoded, Listing, Mark
from mmcache.sources.files import mark_of, open_regular, stat_regular

if TYPE_CHECKING:
    from collections.abc import Iterable

__all__ = ["Paths"]


class Paths:
    """Pictures given by their paths: rows in the order given, keys as given, no labels.

    Every path is taken for a picture, whatever its ending; one that cannot be read is a failure.

    Parameters
    ----------
    paths : iterable of paths
        Relative ones are looked for in the present working directory.

    Raises
    ------
    SettingError
        (a ``ValueError``) where something in the list is no path.
    """

    def __init__(
        self,
        paths: Iterable[str | bytes | os.PathLike[str] | os.PathLike[bytes]],
        *,
        folder: str | bytes | None = None,
    ) -> None:
        self._folder = os.fsencode(folder) if folder is not None else os.fsencode(os.getcwd())
        self._keys = Strings.of(_key(path) for path in paths)

    def __repr__(self) -> str:
        return f"Paths({len(self._keys)} paths)"

    def __str__(self) -> str:
        return f"the list of {len(self._keys)} paths"

    def listing(self) -> Listing:
        """Return the paths; see :class:`mmcache.sources.Source`."""
        return Listing(self._keys, None, (), Failures.of([]), 0)

    def open(self, key: bytes) -> Encoded:
        """Open a picture; see :class:`mmcache.sources.Source`."""
        return open_regular(self._path(key))

    def stat(self, key: bytes) -> tuple[int, int]:
        """Return a picture's size and time; see :class:`mmcache.sources.Source`."""
        status = stat_regular(self._path(key))
        return status.st_size, status.st_mtime_ns

    def mark(self, key: bytes) -> Mark:
        """Return what a picture's file has while nobody touches it; :class:`OSError` likewise."""
        return mark_of(stat_regular(self._path(key)))

    def _path(self, key: bytes) -> bytes:
        return os.path.join(self._folder, key)

    def describe(self) -> dict[str, Any]:
        """Return how to find a key's file; see :class:`mmcache.sources.Source`.

        The paths themselves are not part of it: a worker is told the keys that it is to read.
        """
        return {"kind": "paths", "folder": to_str(self._folder)}

    @classmethod
    def from_json(cls, plain: dict[str, Any]) -> Paths:
        """Return a source that opens the same keys and lists none."""
        return cls((), folder=to_bytes(plain["folder"]))


def _key(path: Any) -> bytes:
    try:
        key = os.fsencode(path)
    except TypeError as error:
        raise SettingError(f"{path!r} is in the list of pictures, and is no path") from error
    return key.replace(os.fsencode(os.sep), b"/")
