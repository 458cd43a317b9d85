"""Per-record rows: where each picture lies, what it is called, what it was made from.

A million pictures are a few arrays here, not a million objects. Names and reasons are one blob of
bytes and its offsets, so that ten million open as fast as ten.
"""

from __future__ import annotations

from array import array
from collections.abc import Sequence
from itertools import pairwise
from typing import TYPE_CHECKING, Any, NamedTuple, overload

import numpy as np

from mmcache.errors import DamagedCacheError, SourceError
from mmcache.facts import Facts, counted, html_table

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from numpy.typing import NDArray

__all__ = [
    "CHANNELS",
    "COLUMNS",
    "FLAGS",
    "HEIGHT",
    "LATER_COLUMNS",
    "OFFSET",
    "SOURCE_MODES",
    "STAGES",
    "WIDTH",
    "Failure",
    "Failures",
    "Lookup",
    "RawFailure",
    "Strings",
    "find",
    "key_order",
    "printable",
    "to_bytes",
    "to_str",
]

OFFSET, HEIGHT, WIDTH, CHANNELS = range(4)
"""The columns of ``records``, an int64 array ``(N, 4)``; the offset counts elements."""

COLUMNS: dict[str, np.dtype[Any]] = {
    "height": np.dtype("<i4"),
    "width": np.dtype("<i4"),
    "orientation": np.dtype("u1"),
    "file_size": np.dtype("<i8"),
    "mtime_ns": np.dtype("<i8"),
    "content_hash": np.dtype("<u4"),
    "flags": np.dtype("u1"),
    "format": np.dtype("u1"),
    "mode": np.dtype("u1"),
}
"""What each picture was made from: upright height and width, EXIF orientation as stored, the file's
size in bytes and its time in nanoseconds, CRC-32C of its bytes, bits of :data:`FLAGS`, and its
format and mode as positions in :data:`mmcache.signatures.FORMATS` and :data:`SOURCE_MODES`."""

LATER_COLUMNS = ("format", "mode")
"""Columns that the first caches do not have; zeros stand for them, which say that it is unknown."""

SOURCE_MODES = (
    "", "1", "L", "LA", "La", "P", "PA", "RGB", "RGBA", "RGBa", "RGBX", "CMYK", "YCbCr", "LAB",
    "HSV", "I;16", "I;16B", "I;16L", "I;16N", "I", "F",
)  # fmt: skip
"""Pillow's names of how pixels are stored; only appended to, since caches store positions."""

FLAGS = {
    "truncated": 1,
    "stretched": 2,
    "clipped": 4,
    "profile": 8,
}
"""What is worth knowing of a picture that is in the cache all the same, a bit each: its pixels end
early and it was kept; its numbers have no known range and its own smallest and largest became black
and white; numbers outside the range were brought to its ends; its colour profile is of no use."""

_SPAN = 1 << 16  # names whose places are looked up at once
_OFFSETS_DAMAGED = "the index is damaged: its offsets of names do not divide them"

_SHOWN = 20  # failures that show themselves
STAGES = ("list", "header", "decode", "write")
"""Where a picture can fail; stored by position."""


def to_bytes(key: str | bytes) -> bytes:
    """Return a key's bytes, as the file system gave them; no ``str`` makes this raise."""
    if isinstance(key, bytes):
        return key
    try:
        return key.encode("utf-8", "surrogateescape")
    except UnicodeEncodeError:  # a surrogate that stands for no byte: no file is called so
        return key.encode("utf-8", "surrogatepass")


def to_str(key: bytes) -> str:
    """Return a key as ``str``; bytes that are not UTF-8 become lone surrogates."""
    return key.decode("utf-8", "surrogateescape")


def printable(key: str | bytes) -> str:
    r"""Return a key for people and for JSON: what does not print is escaped with a backslash.

    >>> printable(b"cats/caf\xe9 \n.jpg")
    'cats/caf\\xe9 \\n.jpg'
    """
    text = to_bytes(key).decode("utf-8", "backslashreplace")
    if text.isprintable():  # most are, and this is fifty times as fast
        return text
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)


class Strings(Sequence[str]):
    """Many names in one blob of bytes: a sequence of ``str`` that holds no ``str``.

    Parameters
    ----------
    blob : uint8 (bytes,)
        All names, one after the other.
    offsets : int64 (N + 1,)
        Where each begins; the last is where the last one ends.
    rows : range or int64 (n,), optional
        Which of them this sequence has, in which order; all by default.
    """

    def __init__(
        self,
        blob: NDArray[np.uint8],
        offsets: NDArray[np.int64],
        rows: range | NDArray[np.int64] | None = None,
    ) -> None:
        self.blob = blob
        self.offsets = offsets
        self.rows = range(len(offsets) - 1) if rows is None else rows

    @classmethod
    def of(cls, names: Iterable[bytes]) -> Strings:
        """Gather *names* into a blob."""
        blob = bytearray()
        ends = array("q", [0])
        for name in names:
            blob += name
            ends.append(len(blob))
        return cls(np.frombuffer(blob, np.uint8), np.frombuffer(ends, np.int64))

    def __len__(self) -> int:
        return len(self.rows)

    def raw(self, index: int) -> bytes:
        """Return name *index* as bytes."""
        row = self.rows[index]
        return self.blob[self.offsets[row] : self.offsets[row + 1]].tobytes()

    @overload
    def __getitem__(self, index: int) -> str: ...
    @overload
    def __getitem__(self, index: slice) -> Strings: ...
    def __getitem__(self, index: int | slice) -> str | Strings:
        if isinstance(index, slice):
            return Strings(self.blob, self.offsets, self.rows[index])
        return to_str(self.raw(index))

    def __iter__(self) -> Iterator[str]:
        return (to_str(self.raw(index)) for index in range(len(self)))

    def views(self) -> Iterator[memoryview]:
        """Yield the bytes of each name, without copying them: ten times as fast as :meth:`raw`."""
        names = np.ascontiguousarray(self.blob).data
        for rows in self._spans():
            starts, ends = self.offsets[rows], self.offsets[rows + 1]
            if ((starts < 0) | (starts > ends) | (ends > len(names))).any():
                raise DamagedCacheError(_OFFSETS_DAMAGED)
            for start, end in zip(starts.tolist(), ends.tolist(), strict=True):
                yield names[start:end]

    def _spans(self) -> Iterator[NDArray[np.int64]]:
        """Yield the rows a part at a time, so that memory stays flat."""
        return (
            np.asarray(self.rows[first : first + _SPAN], np.int64)
            for first in range(0, len(self), _SPAN)
        )

    def take(self, indices: NDArray[np.int64] | range) -> Strings:
        """Return a view of the names at *indices*; nothing is copied but the indices."""
        if isinstance(self.rows, range) and self.rows == range(len(self.offsets) - 1):
            return Strings(self.blob, self.offsets, indices)
        rows, wanted = (np.asarray(some, np.int64) for some in (self.rows, indices))
        return Strings(self.blob, self.offsets, rows[wanted])

    def packed(self) -> Strings:
        """Return the same names with a blob that holds them alone, in this order."""
        if isinstance(self.rows, range) and self.rows == range(len(self.offsets) - 1):
            return self
        rows = np.asarray(self.rows, np.int64)
        starts = self.offsets[:-1][rows]
        lengths = self.offsets[1:][rows] - starts
        offsets = np.zeros(len(self) + 1, np.int64)
        np.cumsum(lengths, out=offsets[1:])
        if ((starts < 0) | (lengths < 0) | (starts > len(self.blob) - lengths)).any():
            raise DamagedCacheError(_OFFSETS_DAMAGED)
        blob = np.empty(int(offsets[-1]), np.uint8)
        for to, start, length in zip(offsets, starts, lengths, strict=False):
            blob[to : to + length] = self.blob[start : start + length]
        return Strings(blob, offsets)

    def __eq__(self, other: object) -> bool:
        if isinstance(other, Strings):
            mine, theirs = self.packed(), other.packed()
            return np.array_equal(mine.offsets, theirs.offsets) and np.array_equal(
                mine.blob, theirs.blob
            )
        if isinstance(other, (list, tuple)):
            return len(self) == len(other) and all(a == b for a, b in zip(self, other, strict=True))
        return NotImplemented

    __hash__ = None  # type: ignore[assignment]  # equal to lists, which have none either

    def __repr__(self) -> str:
        shown = ", ".join(repr(name) for name in self[:3])
        return f"[{shown}, ... {len(self)} in all]" if len(self) > len(self[:3]) else f"[{shown}]"


def key_order(keys: Strings) -> NDArray[np.int64] | None:
    """Return the rows in the byte order of their keys; None where they are in order already.

    Raises
    ------
    SourceError
        Where a key is there twice, with that key.
    """
    if all(before < after for before, after in pairwise(_raw(keys))):
        return None
    names = list(_raw(keys))
    order = sorted(range(len(names)), key=names.__getitem__)
    for before, after in pairwise(order):
        if names[before] == names[after]:
            raise SourceError(f"{printable(names[before])} is there twice: keys are unique")
    return np.array(order, np.int64)


def _raw(keys: Strings) -> Iterator[bytes]:
    return (keys.raw(row) for row in range(len(keys)))


def find(keys: Strings, order: NDArray[np.int64] | None, key: bytes) -> int | None:
    """Return the row whose key is *key*, by bisection; None where there is none.

    *keys* are all of a cache's keys, and *order* is its ``key_order``. :class:`DamagedCacheError`
    where that makes no sense.
    """
    blob, offsets = keys.blob, keys.offsets
    low, high = 0, len(offsets) - 1
    while low < high:
        middle = (low + high) // 2
        row = middle if order is None else int(order[middle])
        try:
            start, end = offsets[row : row + 2].tolist()
        except ValueError as error:
            raise DamagedCacheError("the order of keys names rows that are not there") from error
        name = blob[start:end].tobytes()
        if name < key:
            low = middle + 1
        elif name > key:
            high = middle
        else:
            return row
    return None


class Lookup:
    """Finds rows by their keys; the fastest for keys that come in the order of the rows.

    Parameters
    ----------
    keys : Strings
        All of a cache's keys.
    order : int64 (N,) or None
        Its ``key_order``.
    """

    def __init__(self, keys: Strings, order: NDArray[np.int64] | None) -> None:
        self._keys = keys
        self._order = order
        self._next = 0

    def row_of(self, key: bytes) -> int | None:
        """Return the row of a key; None where there is none."""
        row: int | None = self._next
        if self._next >= len(self._keys) or self._keys.raw(self._next) != key:
            row = find(self._keys, self._order, key)
        if row is not None:
            self._next = row + 1
        return row


class Failure(NamedTuple):
    """A picture that is not in the cache, and why; ``file_size`` in bytes, None where not known."""

    key: str
    stage: str
    reason: str
    file_size: int | None = None


RawFailure = tuple[bytes, str, str, int | None]
"""A failure whose key is bytes, as the file system gave them."""


class Failures(Sequence[Failure]):
    """The pictures that could not be read: a sequence of :class:`Failure`, held as arrays.

    Parameters
    ----------
    keys, reasons : Strings
        Their names, and why.
    stages : uint8 (n,)
        Positions in :data:`STAGES`.
    sizes : int64 (n,), optional
        Of their files in bytes, -1 where that is not known; the first caches do not tell.
    """

    def __init__(
        self,
        keys: Strings,
        stages: NDArray[np.uint8],
        reasons: Strings,
        sizes: NDArray[np.int64] | None = None,
    ) -> None:
        self.keys = keys
        self.stages = stages
        self.reasons = reasons
        self.sizes = np.full(len(stages), -1, np.int64) if sizes is None else sizes

    @classmethod
    def of(cls, failures: Iterable[RawFailure]) -> Failures:
        """Gather ``(key, stage, reason, file_size)`` tuples."""
        rows = list(failures)
        return cls(
            Strings.of(row[0] for row in rows),
            np.array([STAGES.index(row[1]) for row in rows], np.uint8),
            Strings.of(to_bytes(row[2]) for row in rows),
            np.array([-1 if row[3] is None else row[3] for row in rows], np.int64),
        )

    def __len__(self) -> int:
        return len(self.stages)

    @overload
    def __getitem__(self, index: int) -> Failure: ...
    @overload
    def __getitem__(self, index: slice) -> Failures: ...
    def __getitem__(self, index: int | slice) -> Failure | Failures:
        if isinstance(index, slice):
            return Failures(
                self.keys[index], self.stages[index], self.reasons[index], self.sizes[index]
            )
        return Failure(self.keys[index], self._stage(index), self.reasons[index], self._size(index))

    def _stage(self, index: int) -> str:
        number = int(self.stages[index])
        if number >= len(STAGES):
            raise DamagedCacheError(f"failure {index} is damaged: there is no stage {number}")
        return STAGES[number]

    def _size(self, index: int) -> int | None:
        size = int(self.sizes[index])
        return size if size >= 0 else None

    def raw(self) -> Iterator[RawFailure]:
        """Yield ``(key, stage, reason, file_size)`` with the key as bytes."""
        for index in range(len(self)):
            yield (
                self.keys.raw(index), self._stage(index), self.reasons[index], self._size(index)
            )  # fmt: skip

    def __eq__(self, other: object) -> bool:
        if isinstance(other, (Failures, list, tuple)):
            return list(self) == list(other)
        return NotImplemented

    __hash__ = None  # type: ignore[assignment]  # equal to lists, which have none either

    def to_json(self) -> list[dict[str, str | int | None]]:
        """Return plain data, valid as JSON whatever bytes a name has."""
        return [
            {"key": printable(key), "stage": stage, "reason": printable(reason), "file_size": size}
            for key, stage, reason, size in self.raw()
        ]

    def named(self, most: int = 3) -> str:
        """Return the first few in half a sentence."""
        few = "; ".join(f"{printable(f.key)}: {printable(f.reason)}" for f in self[:most])
        return few + (f"; and {len(self) - most:,} more" if len(self) > most else "")

    def to_text(self, most: int | None = None) -> str:
        """Return a line a failure, of at most *most* of them."""
        lines = [
            f"{printable(f.key)}: {printable(f.reason)}"
            f" ({', '.join(filter(None, [f.stage, _size_shown(f.file_size)]))})"
            for f in self[:most]
        ]
        if len(self) > len(lines):
            lines.append(f"... {len(self):,} in all")
        return "\n".join(lines) or "no failures"

    def __repr__(self) -> str:
        return self.to_text(_SHOWN)

    def _repr_html_(self) -> str:
        counts = np.bincount(self.stages, minlength=len(STAGES))[: len(STAGES)].tolist()
        rows = [
            (printable(f.key), f.stage, printable(f.reason), _size_shown(f.file_size))
            for f in self[:_SHOWN]
        ]
        if len(self) > _SHOWN:
            rows.append((f"… {len(self) - _SHOWN:,} more", "", "", ""))
        return Facts(
            counted(len(self), "failure"),
            brief=[
                f"{count:,} {stage}" for stage, count in zip(STAGES, counts, strict=True) if count
            ],
        ).to_html(html_table(("key", "stage", "reason", "file"), rows) if rows else "")


def _size_shown(size: int | None) -> str:
    return "" if size is None else f"{size:,} bytes"
