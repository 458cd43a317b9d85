"""What was found wrong with a cache, gathered by file, for people and for programs."""

from __future__ import annotations

import os
from collections import defaultdict
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from mmcache.facts import Facts, counted, human_bytes
from mmcache.records import Strings, printable

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from numpy.typing import NDArray

__all__ = ["Damage", "Findings", "Report"]

_NAMED = 3  # keys that are shown of a file


@dataclass(frozen=True, eq=False, repr=False)
class Damage:
    """What is wrong with one file of a cache.

    Attributes
    ----------
    file : str
        Its name in the cache.
    what : str
        What is wrong, in words.
    rows : int64 (n,)
        The records that are damaged by it, or could not be checked because of it.
    keys : sequence of str
        Their keys; an empty one where it cannot be read itself.
    """

    file: str
    what: str
    rows: NDArray[np.int64]
    keys: Strings

    def to_json(self) -> dict[str, Any]:
        """Return it as plain data, valid as JSON whatever bytes a name has."""
        return {
            "file": printable(self.file),
            "what": printable(self.what),
            "rows": self.rows.tolist(),
            "keys": [printable(key) for key in self.keys],
        }

    def __repr__(self) -> str:
        text = f"{printable(self.file)}: {printable(self.what)}"
        if not len(self.rows):
            return text
        few = zip(self.keys[:_NAMED], self.rows.tolist(), strict=False)
        named = ", ".join(printable(key) or f"row {row}" for key, row in few)
        rest = len(self.rows) - _NAMED
        named += f", and {rest:,} more" if rest > 0 else ""
        return f"{text}; {counted(len(self.rows), 'picture')}: {named}"


@dataclass(frozen=True, eq=False, repr=False)
class Report:
    """What :func:`mmcache.verify` found; it prints well, in notebooks too.

    Attributes
    ----------
    path : pathlib.Path
    pictures : int
        How many the cache has; like the next two, 0 where its frame cannot be read.
    files, nbytes : int
        How many files it has, and their bytes in all, as they were written.
    damaged : tuple of Damage
        What is wrong, a file each: ``file``, ``what``, and ``rows`` and ``keys`` of its records.
    fingerprint : str
        Of the cache that was looked at, as its frame tells it; empty where that cannot be read.
    whole : frozenset of str
        The arrays, pixels aside, whose bytes are as they were written.
    """

    path: Path
    pictures: int
    files: int
    nbytes: int
    damaged: tuple[Damage, ...]
    fingerprint: str = ""
    whole: frozenset[str] = frozenset()

    @property
    def ok(self) -> bool:
        """Whether all is as it was written."""
        return not self.damaged

    @property
    def rows(self) -> NDArray[np.int64]:
        """The rows of all damaged records: int64 ``(n,)``, in the order of ``keys``."""
        return np.concatenate([np.empty(0, np.int64), *(one.rows for one in self.damaged)])

    @property
    def keys(self) -> Strings:
        """The keys of all damaged records: a sequence of ``str``."""
        return Strings.of(one.keys.raw(at) for one in self.damaged for at in range(len(one.keys)))

    def to_json(self) -> dict[str, Any]:
        """Return it as plain data, valid as JSON whatever bytes names have."""
        return {
            "path": printable(os.fsencode(self.path)),
            "ok": self.ok,
            "pictures": self.pictures,
            "files": self.files,
            "bytes": self.nbytes,
            "damaged": [one.to_json() for one in self.damaged],
        }

    def _title(self) -> str:
        name = printable(os.fsencode(self.path.name))
        if self.ok:
            files = f"{counted(self.files, 'file')}, {human_bytes(self.nbytes)}"
            return f"{name} is whole: {counted(self.pictures, 'picture')}, {files}"
        if not self.files:
            return f"{name} is damaged: its frame cannot be read"
        files = counted(len(self.damaged), "file")
        if not len(self.rows):
            return f"{name} is damaged: {files}"
        return (
            f"{name} is damaged: {len(self.rows):,} of {counted(self.pictures, 'picture')}, {files}"
        )

    def _facts(self) -> Facts:
        return Facts(
            self._title(),
            [("path", printable(os.fsencode(self.path)))],
            lines=[repr(one) for one in self.damaged],
            more=", all of them in damaged and with --json",
        )

    def __repr__(self) -> str:
        return self._facts().to_text()

    def _repr_html_(self) -> str:
        return self._facts().to_html()


class Findings:
    """What was found so far, by file."""

    def __init__(self) -> None:
        self._whats: dict[str, list[str]] = {}
        self._rows: dict[str, list[NDArray[np.int64]]] = defaultdict(list)

    def add(self, file: str, what: str = "", rows: NDArray[np.int64] | None = None) -> None:
        """Note what is wrong with a file, unless that is known, and which records it damages."""
        whats = self._whats.setdefault(file, [])
        if what and what not in whats:
            whats.append(what)
        if rows is not None and len(rows):
            self._rows[file].append(rows)

    def __len__(self) -> int:
        return len(self._whats)

    def damaged(self, keys_of: Callable[[NDArray[np.int64]], Strings]) -> Iterator[Damage]:
        """Yield what was found, a file each, in the order in which it was found."""
        for file, whats in self._whats.items():
            rows = np.unique(np.concatenate([np.empty(0, np.int64), *self._rows[file]]))
            yield Damage(file, "; ".join(whats), rows, keys_of(rows))
