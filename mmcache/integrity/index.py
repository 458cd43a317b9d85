"""The index: whether what it says makes sense. Of arrays that are damaged nothing is asked."""

from __future__ import annotations

from itertools import pairwise
from typing import TYPE_CHECKING, Any

import numpy as np

from mmcache.errors import DamagedCacheError
from mmcache.records import STAGES, Strings, printable
from mmcache.stores.digests import content_digest

if TYPE_CHECKING:
    from collections.abc import Iterator

    from numpy.typing import NDArray

    from mmcache.integrity.inspection import Inspection
    from mmcache.stores.stored import Column, Stored

__all__ = ["check_index", "keys_of"]

_ROWS = 4096  # looked at at a time
_MOST_KEYS = 64 << 20  # bytes of as many keys
_MOST_KEY = 1 << 20  # bytes of one key


def check_index(it: Inspection) -> None:
    """Look whether keys, failures, labels and sizes are such as a builder writes."""
    rows, failures = (it.frame.counts.get(name, 0) for name in ("rows", "failures"))
    _check_offsets(it, "key_offsets", "keys", rows)
    _check_offsets(it, "failure_key_offsets", "failure_keys", failures)
    _check_offsets(it, "failure_reason_offsets", "failure_reasons", failures)
    _check_order(it, rows)
    _check_range(it, "failure_stages", "|u1", failures, (0, len(STAGES) - 1))
    _check_range(it, "labels", "<i8", rows, (-1, len(it.frame.classes) - 1))
    for edge in ("height", "width"):
        _check_range(it, edge, "<i4", rows, (1, np.iinfo(np.int32).max))
    _check_content(it)


def _check_content(it: Inspection) -> None:
    if it.recipe is None:
        return
    frame = it.frame
    try:
        content = content_digest(it.recipe.fingerprint, frame.classes, frame.arrays)
    except UnicodeError:  # a digest that none can be
        content = ""
    if content != frame.content:
        it.findings.add(it.stored.frame_file, "its fingerprint is one of other contents")


def _check_range(it: Inspection, name: str, dtype: str, rows: int, bounds: tuple[int, int]) -> None:
    if not it.relies_on(name, dtype, rows):
        return
    low, high = bounds
    for start, some in _stretches(it, name):
        wrong = np.flatnonzero((some < low) | (some > high))
        if len(wrong):
            row = int(wrong[0])
            it.add(name, f"{name} is {some[row]} at {start + row}, not from {low} to {high}")
            return


def _stretches(it: Inspection, name: str) -> Iterator[tuple[int, NDArray[Any]]]:
    """Yield an array some rows at a time, each time after the first one's number."""
    try:
        with it.stored.column(name) as column:
            for start in range(0, len(column), _ROWS):
                yield start, column.read(start, min(start + _ROWS, len(column)))
    except DamagedCacheError as error:  # it was whole a moment ago
        it.whole.discard(name)
        it.add(name, f"{name} {error}")


def _check_offsets(it: Inspection, name: str, blob: str, count: int) -> None:
    """Look whether offsets begin at 0, never fall, and end where their blob does."""
    if not (it.relies_on(name, "<i8", count + 1) and it.relies_on_bytes(blob)):
        return
    right, last = True, 0
    for start, some in _stretches(it, name):
        right &= int(some[0]) == 0 if start == 0 else int(some[0]) >= last
        right &= bool((some[1:] >= some[:-1]).all())
        last = int(some[-1])
    if name in it.whole and not (right and last == it.frame.arrays[blob].shape[0]):
        it.whole.discard(name)
        it.add(name, f"{name} does not divide {blob}")


# Keys ---------------------------------------------------------------------------------------------


def _check_order(it: Inspection, rows: int) -> None:
    """Look whether each key is there once, and in its order as far as an order is told."""
    listed = "key_order" in it.frame.arrays
    if not (
        it.relies_on("key_offsets", "<i8", rows + 1)
        and it.relies_on_bytes("keys")
        and (not listed or it.relies_on("key_order", "<i8", rows))
    ):
        return
    blamed = "key_order" if listed else "keys"
    try:
        with it.stored.column("keys") as keys, it.stored.column("key_offsets") as offsets:
            names = _listed_keys(it, keys, offsets) if listed else _all_keys(keys, offsets)
            # That none is before or equal to the last shows that no row is told of twice.
            for before, after in pairwise(names):
                if before >= after:
                    it.add(
                        blamed, f"{printable(after)} is not in the order of keys, or twice there"
                    )
                    return
    except DamagedCacheError as error:
        it.add(blamed, f"{blamed} {error}")


def _listed_keys(it: Inspection, keys: Column, offsets: Column) -> Iterator[bytes]:
    for _, rows in _stretches(it, "key_order"):
        for row in rows.tolist():
            yield _key(keys, offsets, row)


def _all_keys(keys: Column, offsets: Column) -> Iterator[bytes]:
    for first in range(0, len(offsets) - 1, _ROWS):
        ends = offsets.read(first, min(first + _ROWS + 1, len(offsets)))
        low, high = int(ends[0]), int(ends[-1])
        if high - low > _MOST_KEYS:
            raise DamagedCacheError(f"has keys of {high - low:,} bytes")
        blob = keys.read(low, high).tobytes()
        yield from (blob[start:end] for start, end in pairwise((ends - low).tolist()))


def _key(keys: Column, offsets: Column, row: int) -> bytes:
    """Return the key of a row; :class:`DamagedCacheError` where there is none."""
    start, end = offsets.read(row, row + 2).tolist()
    if end - start > _MOST_KEY:
        raise DamagedCacheError(f"has a key of {end - start:,} bytes")
    return keys.read(start, end).tobytes()


def keys_of(stored: Stored, rows: NDArray[np.int64]) -> Strings:
    """Return the keys of *rows*, an empty one for each that cannot be read."""
    arrays = stored.frame.arrays
    told = {
        name: (arrays[name].dtype, len(arrays[name].shape), len(arrays[name].segments))
        for name in ("keys", "key_offsets")
        if name in arrays
    }
    if told != {"keys": ("|u1", 1, 1), "key_offsets": ("<i8", 1, 1)}:
        return Strings.of(b"" for _ in rows)
    try:
        with stored.column("keys") as keys, stored.column("key_offsets") as offsets:
            return Strings.of(_key_or_none(keys, offsets, row) for row in rows.tolist())
    except DamagedCacheError:
        return Strings.of(b"" for _ in rows)


def _key_or_none(keys: Column, offsets: Column, row: int) -> bytes:
    try:
        return _key(keys, offsets, row)
    except DamagedCacheError:
        return b""
