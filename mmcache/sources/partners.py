"""Pictures that go with those of a cache: masks, depth maps, the other half of a pair."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

import numpy as np

from mmcache.records import Failures, RawFailure, Strings, printable
from mmcache.sources.contract import Encoded, Listing

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from mmcache.sources.contract import Source

__all__ = ["Partners"]


class Partners:
    """The pictures of a source that go with given ones, in their order and under their keys.

    A picture's partner is the file of the same key, or else the one whose key differs in the ending
    alone. Pictures of the source that are nobody's partner are left out.

    Parameters
    ----------
    source : Source
        Where the partners are.
    keys : Strings
        Of the pictures.
    sizes : int32 (N, 2)
        Their upright heights and widths, which their partners must have.
    labels : int64 (N,) or None
    classes : tuple of str
    """

    def __init__(
        self,
        source: Source,
        keys: Strings,
        sizes: NDArray[np.int32],
        labels: NDArray[np.int64] | None,
        classes: tuple[str, ...],
    ) -> None:
        self.source = source
        self._keys = keys
        self._sizes = sizes
        self._labels = labels
        self._classes = classes

    def __repr__(self) -> str:
        return f"Partners({self.source!r}, {len(self._keys)} pictures)"

    def __str__(self) -> str:
        return str(self.source)

    def listing(self) -> Listing:
        """Find each picture's partner; see :class:`mmcache.sources.Source`."""
        there = self.source.listing()
        found = _Found(there)
        names, rows = [], []
        failures: list[RawFailure] = []
        for row in range(len(self._keys)):
            key = self._keys.raw(row)
            name = found.partner(key)
            if isinstance(name, bytes):
                names.append(name)
                rows.append(row)
            else:
                failures.append((key, "list", name, None))
        kept = np.array(rows, np.int64)
        return Listing(
            keys=self._keys.take(kept).packed(),
            labels=None if self._labels is None else self._labels[kept],
            classes=self._classes,
            failures=Failures.of(failures),
            left_out=there.left_out + len(there.keys) - len(set(names)),
            names=Strings.of(names),
            sizes=self._sizes[kept],
        )

    def open(self, key: bytes) -> Encoded:
        """Open a picture by the name that its source has for it."""
        return self.source.open(key)

    def stat(self, key: bytes) -> tuple[int, int]:
        """Return a picture's size and time by the name that its source has for it."""
        return self.source.stat(key)

    def describe(self) -> dict[str, Any] | None:
        """Return the source itself as JSON: workers are told its own names."""
        return self.source.describe()


class _Found:
    """What a source has, by name and by name without ending."""

    def __init__(self, there: Listing) -> None:
        self._names: set[bytes] = set()
        self._stems: dict[bytes, list[bytes]] = {}
        for row in range(len(there.keys)):
            name = there.keys.raw(row)
            self._names.add(name)
            self._stems.setdefault(_stem(name), []).append(name)
        self._failed = {_stem(key): reason for key, _, reason, _ in there.failures.raw()}

    def partner(self, key: bytes) -> bytes | str:
        """Return the name of a picture's partner, or why there is none."""
        if key in self._names:
            return key
        alike = self._stems.get(_stem(key), [])
        if len(alike) == 1:
            return alike[0]
        if alike:
            several = ", ".join(printable(name) for name in alike[:3])
            return f"{len(alike)} files could be its partner: {several}"
        return self._failed.get(_stem(key), "it has no partner: no file is called as it is")


def _stem(key: bytes) -> bytes:
    return os.path.splitext(key)[0]
