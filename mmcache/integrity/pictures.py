"""Records: whether each lies where one may lie, and is what its checksum says."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from mmcache.errors import DamagedCacheError
from mmcache.layout import lengths_within
from mmcache.records import HEIGHT, OFFSET
from mmcache.stores.digests import crc32c_of

if TYPE_CHECKING:
    from collections.abc import Iterator

    from numpy.typing import NDArray

    from mmcache.integrity.files import Spans
    from mmcache.integrity.inspection import Inspection
    from mmcache.recipe import Recipe
    from mmcache.stores.frame import ArrayFrame

__all__ = ["check_pictures"]

_ROWS = 256  # records of one task
_MOST = 1 << 50  # bytes of pixels: no sum of lengths in a task overflows

_CHANGED = "records are not as they were written"
_UNCHECKED = "records could not all be checked"
_SENSELESS = "records overlap, point outside of the pixels, or have shapes that there are not"


def check_pictures(it: Inspection) -> Spans | None:
    """Compare every record with its checksum.

    Returns the rows that lie in each segment of pixels; None where not all records make sense.
    """
    payload = _payload(it)
    if payload is None:
        return None
    blocks = _Blocks(it, payload)
    done = 0
    for block, bad in it.each(lambda block: (block, _bad(it, block)), blocks):
        _add_bad(it, block, bad)
        done += len(block.rows)
        it.show.to(done, blocks.rows, blocks.nbytes)
    told = it.frame.counts.get("pixel_bytes")
    if blocks.sound and blocks.nbytes != told:
        what = f"tells of records of {told} bytes, and they have {blocks.nbytes}"
        it.findings.add(it.stored.frame_file, what)
    return blocks.spans if blocks.sound else None


# What records may be ------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Payload:
    """The place for records; ``ends`` of its segments and ``elements`` in all count elements."""

    ends: NDArray[np.int64]
    elements: int
    channels: int
    shape: tuple[int, ...] | None
    item: int

    def lengths(self, records: NDArray[np.int64]) -> NDArray[np.int64]:
        """Return how many elements each record has; 0 where it cannot be one of these."""
        offset = records[:, OFFSET]
        length = lengths_within(records[:, HEIGHT:], self.elements, self.channels)
        fine = length > 0
        if self.shape is not None:
            fine &= (records[:, HEIGHT:] == self.shape).all(axis=1)
        fine &= (offset >= 0) & (offset <= self.elements - length)
        return np.where(fine & self._in_one_segment(offset, length, fine), length, 0)

    def _in_one_segment(
        self, offset: NDArray[np.int64], length: NDArray[np.int64], fine: NDArray[np.bool_]
    ) -> NDArray[np.bool_]:
        offset = np.where(fine, offset, 0)
        segment = np.minimum(self.segments_at(offset), len(self.ends) - 1)
        inside: NDArray[np.bool_] = offset + length <= self.ends[segment]
        return inside

    def segments_at(self, offset: NDArray[np.int64]) -> NDArray[np.int64]:
        """Return the numbers of the segments in which elements lie."""
        return np.searchsorted(self.ends, offset, side="right")


def _payload(it: Inspection) -> _Payload | None:
    """Return the place for records; None where there is none as a cache has it."""
    rows = it.frame.counts.get("rows", 0)
    pixels = it.frame.arrays.get("pixels")
    if (
        it.recipe is None
        or pixels is None
        or pixels.dtype != it.recipe.dtype.str
        or not it.has("records", "<i8", rows, 4)
        or not it.has("checksums", "<u4", rows)
    ):
        return None  # which opening tells
    if not _fits(pixels, it.recipe):
        it.add("pixels", "pixels have a shape or a length that no such cache has")
        return None
    item = it.recipe.dtype.itemsize
    lengths = np.array([segment.length for segment in pixels.segments], np.int64)
    return _Payload(
        ends=np.cumsum(lengths) // item,
        elements=int(lengths.sum()) // item,
        channels=it.recipe.channels,
        shape=it.recipe.shape,
        item=item,
    )


def _fits(pixels: ArrayFrame, recipe: Recipe) -> bool:
    lengths = [segment.length for segment in pixels.segments]
    return (
        bool(pixels.shape)
        and pixels.shape[1:] == (recipe.shape or ())
        and 0 < sum(lengths) <= _MOST
        and not any(length % recipe.dtype.itemsize for length in lengths)
    )


# Records in order ---------------------------------------------------------------------------------


class _Block(NamedTuple):
    """Some records to check, of which it is known that they lie within the pixels.

    Attributes
    ----------
    rows, segments : int64 (n,)
        Their rows, and the numbers of the segments that they lie in.
    starts, lengths : int64 (n,)
        Where they lie there, in bytes.
    checksums : uint32 (n,)
    """

    rows: NDArray[np.int64]
    segments: NDArray[np.int64]
    starts: NDArray[np.int64]
    lengths: NDArray[np.int64]
    checksums: NDArray[np.uint32]


class _Blocks:
    """All records, some at a time; one that makes no sense is told of, and not among them.

    Where ``records`` is as it was written, each lies behind those before it. Where it is damaged,
    checksums decide which of two is right. In either case no byte is read more than twice.

    Attributes
    ----------
    sound : bool
        Whether all records so far make sense.
    spans : dict
        By segment: the first and the last row of those so far.
    nbytes : int
        Bytes of all records so far.
    """

    def __init__(self, it: Inspection, payload: _Payload) -> None:
        self._it = it
        self._payload = payload
        self._end = 0  # of the records so far, in elements
        self.rows = it.frame.counts["rows"]
        self.sound = "records" in it.whole
        self.spans: Spans = {}
        self.nbytes = 0

    def __iter__(self) -> Iterator[_Block]:
        for start in range(0, self.rows, _ROWS):
            rows = np.arange(start, min(start + _ROWS, self.rows))
            records, checksums = (self._read(name, rows) for name in ("records", "checksums"))
            if records is not None and checksums is not None:
                yield self._block(rows, records, checksums)

    def _read(self, name: str, rows: NDArray[np.int64]) -> NDArray[Any] | None:
        try:
            with self._it.stored.column(name) as column:
                return column.read(int(rows[0]), int(rows[-1]) + 1)
        except DamagedCacheError:
            self.sound = False
            self._it.whole.discard(name)
            self._it.add(name, _UNCHECKED, rows)
            return None

    def _block(
        self, rows: NDArray[np.int64], records: NDArray[np.int64], checksums: NDArray[np.uint32]
    ) -> _Block:
        payload = self._payload
        lengths = payload.lengths(records)
        fine = self._in_order(records[:, OFFSET], lengths)
        if not fine.all():
            self.sound = False
            self._it.add("records", _SENSELESS if self._trusted else _UNCHECKED, rows[~fine])
        offsets = records[fine, OFFSET]
        segments = payload.segments_at(offsets)
        begins = np.concatenate([[0], payload.ends])[segments]
        block = _Block(
            rows[fine],
            segments,
            (offsets - begins) * payload.item,
            lengths[fine] * payload.item,
            checksums[fine],
        )
        self._count(block)
        return block

    @property
    def _trusted(self) -> bool:
        return "records" in self._it.whole

    def _in_order(
        self, offsets: NDArray[np.int64], lengths: NDArray[np.int64]
    ) -> NDArray[np.bool_]:
        """Tell which of the records that can be any are to be read."""
        fine = lengths > 0
        if not self._trusted:
            read = self.nbytes // self._payload.item + np.cumsum(lengths)
            within: NDArray[np.bool_] = fine & (read <= 2 * self._payload.elements)
            return within
        ends = np.where(fine, offsets, 0) + lengths
        before = np.maximum.accumulate(np.concatenate([[self._end], ends]))
        self._end = int(before[-1])
        behind: NDArray[np.bool_] = fine & (offsets >= before[:-1])
        return behind

    def _count(self, block: _Block) -> None:
        self.nbytes += int(block.lengths.sum())
        for segment in np.unique(block.segments).tolist():
            here = block.rows[block.segments == segment]
            first, _ = self.spans.get(segment, (int(here[0]), 0))
            self.spans[segment] = first, int(here[-1])


# Checksums ----------------------------------------------------------------------------------------


def _bad(it: Inspection, block: _Block) -> NDArray[np.bool_]:
    """Return which records of a block are not what their checksums say, or cannot be read."""
    bad = np.ones(len(block.rows), bool)
    for number in np.unique(block.segments).tolist():
        segment = it.frame.arrays["pixels"].segments[number]
        here = np.flatnonzero(block.segments == number)
        starts = (segment.offset + block.starts[here]).tolist()
        try:
            with it.stored.opened(segment.file) as descriptor:
                found = [
                    crc32c_of(descriptor, start, start + length)
                    for start, length in zip(starts, block.lengths[here].tolist(), strict=True)
                ]
        except DamagedCacheError:  # the file is not there, and all of them are bad
            continue
        bad[here] = found != block.checksums[here]
    return bad


def _add_bad(it: Inspection, block: _Block, bad: NDArray[np.bool_]) -> None:
    if not bad.any():
        return
    # A record whose place or checksum was not what was written may itself be as it was.
    for name in ("records", "checksums"):
        if name not in it.whole:
            it.add(name, _UNCHECKED, block.rows[bad])
            return
    for number in np.unique(block.segments[bad]).tolist():
        file = it.frame.arrays["pixels"].segments[number].file
        what = "" if file in it.broken else _CHANGED
        here = bad & (block.segments == number)
        it.findings.add(it.stored.shown(file), what, block.rows[here])
