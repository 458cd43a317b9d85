"""Donors: records that are there already, in an unfinished build or an older generation.

A donor tells what each of its records was made of and where it lies. That its bytes are what they
are said to be is checked by whoever takes them.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np

from mmcache.errors import DamagedCacheError, SettingError
from mmcache.planning import Plan
from mmcache.records import HEIGHT, OFFSET, Lookup, Strings
from mmcache.steps import Done
from mmcache.stores.frame import Segment, file_of, read_frame
from mmcache.stores.stored import Stored
from mmcache.tasks import Gift

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from pathlib import Path

    from numpy.typing import NDArray

    from mmcache.stores.frame import Frame
    from mmcache.stores.unfinished import Unfinished

__all__ = ["Donor", "Matched", "donor_left", "donor_of", "donor_with"]

_ALIKE = 16  # records that a picture of the same size may be given, at most

ARRAYS = (
    "records", "checksums", "keys", "key_offsets", "file_size", "mtime_ns", "content_hash", "flags"
)  # fmt: skip
"""The arrays of a cache that a donor is made of."""


@dataclass(frozen=True, eq=False)
class Donor:
    """Records with what they were made of: ``(M,)`` arrays, as in a cache.

    Attributes
    ----------
    name : str
        What people call it.
    files : tuple of str
        Of each segment of the pixels, its file.
    begins : int64 (S,)
        Where each segment begins in its file, in bytes.
    ends : int64 (S,)
        Where each ends in the flat pixels, in bytes.
    there : bool (M,)
        Which of the records there are.
    libraries : tuple of dict
        Of library to version, for each who made some of them.
    older : bool
        Whether they are of an older generation, or some were taken from one.
    """

    name: str
    files: tuple[str, ...]
    begins: NDArray[np.int64]
    ends: NDArray[np.int64]
    item: int
    records: NDArray[np.int64]
    keys: Strings
    key_order: NDArray[np.int64] | None
    sizes: NDArray[np.int64]
    times: NDArray[np.int64]
    checksums: NDArray[np.uint32]
    hashes: NDArray[np.uint32]
    flags: NDArray[np.uint8]
    there: NDArray[np.bool_]
    libraries: tuple[dict[str, str], ...]
    older: bool

    def places_of(self, rows: NDArray[np.int64]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Return the segment of each row's record, and where it begins in that file, in bytes."""
        offsets = self.records[rows, OFFSET] * self.item
        segments = np.searchsorted(self.ends, offsets, side="right")
        # A damaged offset leads behind all of them; what is read there has another checksum.
        segments = np.minimum(segments, len(self.ends) - 1)
        before = np.concatenate([[0], self.ends[:-1]])
        return segments, offsets - before[segments] + self.begins[segments]

    def rows_named(self, keys: Strings) -> NDArray[np.int64]:
        """Return for each of *keys* the row of that key; -1 where there is none."""
        lookup = Lookup(self.keys, self.key_order)
        found = (lookup.row_of(keys.raw(place)) for place in range(len(keys)))
        return np.fromiter((-1 if row is None else row for row in found), np.int64, len(keys))

    def rows_sized(self, size: int) -> NDArray[np.int64]:
        """Return some rows whose files had *size* bytes."""
        order, sizes = self._by_size
        first = int(np.searchsorted(sizes, size))
        last = int(np.searchsorted(sizes[first : first + _ALIKE], size, side="right"))
        return order[first : first + last]

    @cached_property
    def _by_size(self) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        order = np.argsort(self.sizes, kind="stable")
        return order, self.sizes[order]


class Matched:
    """What a donor has for the rows of a plan.

    Attributes
    ----------
    rows : int64 (N,)
        Its row of the same key, file size, file time and shape; -1 where there is none.
    taken : int
        How many records were taken from it.
    """

    def __init__(self, donor: Donor, plan: Plan, number: int) -> None:
        self.donor = donor
        self._plan = plan
        self._number = number
        self.taken = 0
        self._named = donor.rows_named(plan.keys)
        same = self._named >= 0
        rows = self._named[same]
        columns = plan.columns
        same[same] = (
            donor.there[rows]
            & (donor.sizes[rows] == columns["file_size"][same])
            & (donor.times[rows] == columns["mtime_ns"][same])
            & (donor.records[rows, HEIGHT:] == plan.shapes[same]).all(axis=1)
        )
        self.rows = np.where(same, self._named, -1)

    def gifts(self, row: int) -> list[Gift]:
        """Return what may be the record of a row, if its file has the content: moved or touched."""
        donor, plan = self.donor, self._plan
        size = int(plan.columns["file_size"][row])
        named = int(self._named[row])
        rows = donor.rows_sized(size)
        if named >= 0 and donor.sizes[named] == size:
            rows = np.concatenate([[named], rows[rows != named]])
        rows = rows[
            donor.there[rows] & (donor.records[rows, HEIGHT:] == plan.shapes[row]).all(axis=1)
        ]
        segments, starts = donor.places_of(rows)
        return [
            Gift(content, self._number, donor.files[segment], start, checksum, flags)
            for content, segment, start, checksum, flags in zip(
                donor.hashes[rows].tolist(),
                segments.tolist(),
                starts.tolist(),
                donor.checksums[rows].tolist(),
                donor.flags[rows].tolist(),
                strict=True,
            )
        ]


def donor_of(path: Path) -> Donor:
    """Return what the cache at *path* has to give.

    Its arrays are read, and not mapped: a cache that is cut meanwhile is no end of the process.
    """
    frame = read_frame(path)
    stored = Stored(path, frame)
    names = [*ARRAYS, "key_order"] if "key_order" in frame.arrays else ARRAYS
    try:
        return donor_with(path, frame, {name: stored.array(name) for name in names})
    except DamagedCacheError as error:
        raise DamagedCacheError(f"the index of {path} {error}: mmcache.repair mends it") from error


def donor_with(
    path: Path,
    frame: Frame,
    arrays: Mapping[str, NDArray[Any]],
    there: NDArray[np.bool_] | None = None,
) -> Donor:
    """Return what a cache has to give, by its :data:`ARRAYS` and ``key_order``, if it has that."""
    pixels = frame.arrays["pixels"]
    return Donor(
        name=path.name,
        **_segments(path, pixels.segments),
        item=np.dtype(pixels.dtype).itemsize,
        records=arrays["records"],
        keys=Strings(arrays["keys"], arrays["key_offsets"]),
        key_order=arrays.get("key_order"),
        sizes=arrays["file_size"],
        times=arrays["mtime_ns"],
        checksums=arrays["checksums"],
        hashes=arrays["content_hash"],
        flags=arrays["flags"],
        there=np.ones(len(arrays["records"]), bool) if there is None else there,
        libraries=(frame.libraries,),
        older=True,
    )


def donor_left(unfinished: Unfinished) -> Donor | None:
    """Return what an unfinished build has to give, if anything."""
    if not unfinished.is_of_use:
        return None
    facts = unfinished.journal.facts
    try:
        plan = Plan.load(unfinished.plan)
    except (SettingError, OSError):
        return None
    if plan.digest != facts["plan"]:
        return None
    done = Done(len(plan), unfinished.journal)
    return Donor(
        name="the unfinished build",
        **_segments(unfinished.content, [Segment(*one) for one in facts["segments"]]),
        item=plan.recipe.dtype.itemsize,
        records=plan.records,
        keys=plan.keys,
        key_order=plan.key_order,
        sizes=plan.columns["file_size"],
        times=plan.columns["mtime_ns"],
        checksums=done.checksums,
        hashes=done.hashes,
        flags=done.flags,
        there=done.there,
        libraries=tuple(done.libraries),
        older=done.older,
    )


def _segments(path: Path, segments: Iterable[Segment]) -> dict[str, Any]:
    some = list(segments)
    return {
        "files": tuple(os.fspath(file_of(path, one.file)) for one in some),
        "begins": np.array([one.offset for one in some], np.int64),
        "ends": np.cumsum([one.length for one in some], dtype=np.int64),
    }
