"""A folder of pictures, and the folders in it."""

from __future__ import annotations

import heapq
import os
import stat
from array import array
from dataclasses import dataclass, field
from itertools import islice
from typing import TYPE_CHECKING, Any

import numpy as np

from mmcache.errors import SourceError, SourceNotFoundError
from mmcache.records import Failures, Strings, printable, to_bytes, to_str
from mmcache.sources.contract import Encoded, Listing, Mark
from mmcache.sources.files import (
    is_a_picture,
    looks_like_a_picture,
    mark_of,
    open_regular,
    stat_regular,
)

if TYPE_CHECKING:
    from collections.abc import Iterator

    from mmcache.records import RawFailure

__all__ = ["Folder"]

_RUN = 4096


class Folder:
    """The pictures in a folder and its subfolders, in the byte order of their keys.

    A picture's key is its path below the folder, with ``/`` between the parts. Hidden files and
    folders (those that begin with a dot) are left out. So are files that neither are called as
    pictures are nor begin as pictures do, and cameras' raw files. Where there are subfolders, those
    of the first level are classes, as in torchvision's ``ImageFolder``: sorted by name, numbered
    from 0; a picture beside them has the label -1.

    Parameters
    ----------
    path : path
        The folder.
    follow_links : bool
        Links to pictures inside the folder are followed. With ``follow_links=True`` so are links
        to subfolders, and links that lead out of the folder; otherwise these are named as failures.

    Raises
    ------
    SourceNotFoundError
        (a ``FileNotFoundError``) where the folder is not there.
    SourceError
        (a ``ValueError``) where it is no folder.
    """

    def __init__(
        self,
        path: str | bytes | os.PathLike[str] | os.PathLike[bytes],
        *,
        follow_links: bool = False,
    ) -> None:
        self.root = os.path.abspath(os.fsencode(path))
        self.follow_links = follow_links
        shown = os.fsdecode(path)
        if not shown:
            raise SourceNotFoundError("the path of the folder is empty: say where the pictures are")
        if not os.path.exists(self.root):
            raise SourceNotFoundError(
                f"there is no folder {shown}: looked in {os.fsdecode(os.path.dirname(self.root))}"
            )
        if not os.path.isdir(self.root):
            raise SourceError(
                f"{shown} is a file, and a folder of pictures was asked for; to build from single"
                " files, give a list of their paths"
            )

    def __repr__(self) -> str:
        return f"Folder({os.fsdecode(self.root)!r}, follow_links={self.follow_links})"

    def __str__(self) -> str:
        return printable(self.root)

    def listing(self) -> Listing:
        """Walk the folder; see :class:`mmcache.sources.Source`."""
        walk = _Walk(self.root, follow_links=self.follow_links)
        blob, ends, labels = bytearray(), array("q", [0]), array("q")
        classes = walk.classes()
        numbers = {name: number for number, name in enumerate(classes)}
        for key in walk.pictures():
            blob += key
            ends.append(len(blob))
            labels.append(numbers.get(key.partition(b"/")[0], -1) if b"/" in key else -1)
        labelled = np.frombuffer(labels, np.int64)
        has_classes = bool((labelled >= 0).any())
        return Listing(
            keys=Strings(np.frombuffer(blob, np.uint8), np.frombuffer(ends, np.int64)),
            labels=labelled if has_classes else None,
            classes=tuple(to_str(name) for name in classes) if has_classes else (),
            failures=Failures.of(walk.failures),
            left_out=walk.left_out,
        )

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
        return self.root + b"/" + key

    def describe(self) -> dict[str, Any]:
        """Return this source as JSON; see :class:`mmcache.sources.Source`."""
        return {"kind": "folder", "path": to_str(self.root), "follow_links": self.follow_links}

    @classmethod
    def from_json(cls, plain: dict[str, Any]) -> Folder:
        """Return the source that :meth:`describe` described."""
        return cls(to_bytes(plain["path"]), follow_links=plain["follow_links"])


@dataclass
class _Walk:
    """One walk over a folder, which holds the names of one subfolder at a time.

    Entries are visited in the byte order of the keys that they lead to: a folder sorts as its name
    and a slash, since that is how its keys begin.
    """

    root: bytes
    follow_links: bool
    failures: list[RawFailure] = field(default_factory=list)
    left_out: int = 0

    def __post_init__(self) -> None:
        self.inside = os.path.realpath(self.root) + b"/"

    def classes(self) -> list[bytes]:
        """Return the names of the first level's folders, sorted."""
        with os.scandir(self.root) as entries:
            return sorted(
                entry.name
                for entry in entries
                if not entry.name.startswith(b".")
                and entry.is_dir(follow_symlinks=self.follow_links)
            )

    def pictures(self) -> Iterator[bytes]:
        """Yield the keys of all pictures, in byte order."""
        # A stack of its own: a folder may be deeper than Python's.
        parents = {_identity(os.stat(self.root))}
        stack = [(b"", parents, self._names(b""))]
        while stack:
            prefix, parents, names = stack[-1]
            name = next(names, None)
            if name is None:
                stack.pop()
            elif not name.endswith(b"/"):
                yield prefix + name
            elif here := self._enter(prefix + name, parents):
                stack.append((prefix + name, parents | {here}, self._names(prefix + name)))

    def _enter(self, key: bytes, parents: set[tuple[int, int]]) -> tuple[int, int] | None:
        """Return the identity of a subfolder that may be walked."""
        try:
            here = _identity(os.stat(self.root + b"/" + key))
        except OSError as error:
            self._failed(key, f"the folder cannot be listed: {error.strerror}")
            return None
        if here in parents:
            self._failed(key, "a link to a folder above it: a loop, which is not followed")
            return None
        return here

    def _names(self, prefix: bytes) -> Iterator[bytes]:
        """Return the names in one folder that lead to pictures, folders ending in a slash."""
        try:
            with os.scandir(self.root + b"/" + prefix) as entries:
                names = (self._name(prefix, entry) for entry in entries)
                return _in_byte_order(name for name in names if name is not None)
        except OSError as error:
            self._failed(prefix, f"the folder cannot be listed: {error.strerror}")
            return iter(())

    def _name(self, prefix: bytes, entry: os.DirEntry[bytes]) -> bytes | None:
        name = entry.name
        if name.startswith(b"."):
            return None
        if entry.is_symlink():
            return self._link(prefix, entry)
        if entry.is_dir():
            return name + b"/"
        if not entry.is_file():
            self._unless_other(prefix + name, "not a regular file")
            return None
        if not is_a_picture(entry.path):
            self.left_out += 1
            return None
        return name

    def _link(self, prefix: bytes, entry: os.DirEntry[bytes]) -> bytes | None:
        """Return the name of a link that may be followed."""
        name = entry.name
        try:
            mode = entry.stat().st_mode
        except OSError as error:
            self._unless_other(prefix + name, f"a link that leads nowhere: {error.strerror}")
            return None
        if stat.S_ISDIR(mode):
            if self.follow_links:
                return name + b"/"
            self._failed(prefix + name, "a link to a folder; follow_links=True follows it")
        elif not stat.S_ISREG(mode):
            self._unless_other(prefix + name, "not a regular file")
        elif self.follow_links or os.path.realpath(entry.path).startswith(self.inside):
            if is_a_picture(entry.path):
                return name
            self.left_out += 1
        else:
            self._unless_other(
                prefix + name, "a link that leads out of the folder; follow_links=True follows it"
            )
        return None

    def _unless_other(self, key: bytes, reason: str) -> None:
        """Name a failure, where the file was meant as a picture."""
        if looks_like_a_picture(key):
            self._failed(key, reason)
        else:
            self.left_out += 1

    def _failed(self, key: bytes, reason: str) -> None:
        self.failures.append((key.rstrip(b"/"), "list", reason, None))


def _in_byte_order(names: Iterator[bytes]) -> Iterator[bytes]:
    """Return *names* sorted, all of them taken now, in little more memory than their bytes.

    A million ``bytes`` objects would take several times that: they are kept as sorted runs, each
    one blob, and merged.
    """
    runs = []
    while run := sorted(islice(names, _RUN)):
        runs.append(b"\0".join([*run, b""]))  # no name has a NUL
    return heapq.merge(*(_parted(run) for run in runs))


def _parted(run: bytes) -> Iterator[bytes]:
    start = 0
    while (end := run.find(b"\0", start)) >= 0:
        yield run[start:end]
        start = end + 1


def _identity(status: os.stat_result) -> tuple[int, int]:
    return status.st_dev, status.st_ino
