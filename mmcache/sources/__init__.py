"""The door where pictures come from."""

from __future__ import annotations

import os
from collections.abc import Iterable
from typing import Any

from mmcache.errors import SettingError
from mmcache.sources.ahead import Ahead, is_in_memory
from mmcache.sources.contract import Encoded, Listing, Mark, Source
from mmcache.sources.folder import Folder
from mmcache.sources.partners import Partners
from mmcache.sources.paths import Paths

__all__ = [
    "SOURCES",
    "Ahead",
    "Encoded",
    "Folder",
    "Listing",
    "Mark",
    "Partners",
    "Paths",
    "Source",
    "from_json",
    "is_in_memory",
    "source_of",
]

SOURCES: dict[str, type[Folder | Paths]] = {"folder": Folder, "paths": Paths}
"""The sources that can be described in JSON, and so be read by any worker."""


def source_of(what: Any) -> Source:
    """Return the source that *what* means: a folder's path, a list of paths, or a source itself.

    Raises
    ------
    SourceNotFoundError
        Where the folder is not there.
    SourceError
        Where it is a file.
    SettingError
        Where *what* is something else.
    """
    if isinstance(what, (str, bytes, os.PathLike)):
        return Folder(what)
    if isinstance(what, Source):
        return what
    if isinstance(what, Iterable):
        return Paths(what)
    raise SettingError(
        f"source={what!r} is neither a folder, nor a list of paths, nor a source of pictures"
    )


def from_json(description: dict[str, Any]) -> Folder | Paths:
    """Return the source that :meth:`Source.describe` described."""
    plain = dict(description)
    return SOURCES[plain.pop("kind")].from_json(plain)
