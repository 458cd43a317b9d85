"""Filling: the payload of a build, from its allocation to its frame.

The plan has decided where each record lies, so that filling needs no lock: workers are handed a
path, a description of the source and numbers, and write at offsets that never overlap.
"""

from __future__ import annotations

import errno
import io
import os
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from operator import itemgetter
from time import monotonic
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

import google_crc32c
import numpy as np

from mmcache.errors import NoSpaceError, PictureError, SourceError
from mmcache.facts import counted, human_bytes
from mmcache.framing import Payload, index_arrays, write_index
from mmcache.geometry import Size
from mmcache.images import decode_flagged, returned_memory, unreadable
from mmcache.layout import SLAB
from mmcache.libraries import libraries
from mmcache.records import COLUMNS, HEIGHT, OFFSET, Failures, key_order, printable
from mmcache.sources import from_json
from mmcache.stores.digests import crc32c_of
from mmcache.stores.frame import file_of, segment_at
from mmcache.stores.payload import Flusher, free_bytes, opened, taken_bytes, write_at
from mmcache.survey import check_failures, check_given_up
from mmcache.workers import Span, results

if TYPE_CHECKING:
    from collections.abc import Iterator
    from concurrent.futures import Executor
    from pathlib import Path

    from numpy.typing import NDArray

    from mmcache.limits import Limits
    from mmcache.planning import Plan
    from mmcache.progress import Shown
    from mmcache.recipe import Recipe
    from mmcache.sources import Source
    from mmcache.stores.contract import Store
    from mmcache.stores.frame import Segment
    from mmcache.stores.publishing import Work

__all__ = ["Filling", "OnError", "check_room", "nothing_readable", "room_for"]

OnError = Literal["skip", "raise"]

_SPAN_ROWS = 8
_SPAN_PIXELS = 16 << 20  # of the sources: large pictures are handed out few at a time
_CHECKPOINT = SLAB // 4  # bytes written between two notes of what is on disk
_OFTEN = 2.0  # seconds between them at most
_LARGE = 64 << 20  # bytes of memory for one picture, after which what is free is given back


def no_room(where: Path, needed: int) -> NoSpaceError:
    """Return the error for a cache of *needed* bytes that *where* has no room for."""
    folder = where.parent
    free = free_bytes(folder)
    return NoSpaceError(
        f"the cache needs {human_bytes(needed)} and {human_bytes(free)} are free on {folder}",
        needed=needed,
        free=free,
    )


def check_room(needed: int, where: Path, allocated: int = 0) -> None:
    """Raise :class:`NoSpaceError` where a cache of *needed* bytes has no room at *where*.

    *allocated* bytes of it are there already.
    """
    if needed - allocated > free_bytes(where.parent):
        raise no_room(where, needed)


@contextmanager
def room_for(needed: int, where: Path) -> Iterator[None]:
    """Turn a disk that is full, while *needed* bytes are written, into :class:`NoSpaceError`."""
    try:
        yield
    except OSError as error:
        if error.errno not in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
            raise
        raise no_room(where, needed) from error


def nothing_readable(source: Source, failures: Failures) -> SourceError:
    """Return the error for a source of which every picture failed."""
    return SourceError(
        f"none of {counted(len(failures), 'picture')} in {source} can be read: {failures.named()}"
    )


@dataclass(frozen=True, kw_only=True)
class _Span(Span):
    """Some rows of one slab, and where their records go.

    ``sizes`` are those that the headers told; ``places`` are offsets in bytes in ``file``, and
    ``lengths`` are the records' own;
    ``memory`` is what the largest of the pictures needs to be decoded, in bytes.
    """

    source: dict[str, Any] | Source
    recipe: Recipe
    file: str
    sizes: list[tuple[int, int]]
    orientations: list[int]
    stats: list[tuple[int, int]]
    places: list[int]
    lengths: list[int]
    memory: int


class _Filled(NamedTuple):
    """What a worker did: bytes, checksums, flags, and what failed by its index."""

    start: int
    nbytes: int
    checksums: list[int]
    hashes: list[int]
    flags: list[int]
    failures: list[tuple[int, str]]

    def step(self) -> dict[str, list[int]] | None:
        """Return what a journal tells of it: the rows that are there, if any."""
        failed = {index for index, _ in self.failures}
        there = [index for index in range(len(self.checksums)) if index not in failed]
        if not there:
            return None
        return {
            "rows": [self.start + index for index in there],
            "checksums": [self.checksums[index] for index in there],
            "hashes": [self.hashes[index] for index in there],
            "flags": [self.flags[index] for index in there],
        }


class _Stretch(NamedTuple):
    """The rows of a slab, the file that they lie in, and their places and lengths in bytes."""

    rows: range
    file: str
    places: NDArray[np.int64]
    lengths: NDArray[np.int64]


class _Written(NamedTuple):
    """Records that are said to be in *file*: what a worker looks at."""

    file: str
    rows: list[int]
    places: list[int]
    lengths: list[int]
    checksums: list[int]


def _checked(written: _Written) -> list[int]:
    """Return the rows of *written* whose bytes are not as their checksums say."""
    bad = []
    with opened(written.file, os.O_RDONLY) as descriptor:
        for row, place, length, checksum in zip(
            written.rows, written.places, written.lengths, written.checksums, strict=True
        ):
            if crc32c_of(descriptor, place, place + length) != checksum:
                bad.append(row)
    return bad


def _fill(span: _Span) -> _Filled:
    """Do the work of *span*, and leave no more memory taken than before."""
    filled = _decoded(span)
    if span.memory > _LARGE:
        returned_memory()
    return filled


def _decoded(span: _Span) -> _Filled:
    """Decode the pictures of *span*, one at a time, each straight to its place."""
    source = from_json(span.source) if isinstance(span.source, dict) else span.source
    nbytes, failures = 0, []
    checksums, hashes, flags = ([0] * len(span.keys) for _ in range(3))
    with opened(span.file, os.O_RDWR) as descriptor:
        for index in range(len(span.keys)):
            try:
                check_given_up(span)
                encoded = _encoded(source, span, index)
                record, flags[index] = decode_flagged(
                    io.BytesIO(encoded),
                    span.recipe,
                    expected=Size(*span.sizes[index]),
                    orientation=span.orientations[index],
                )
            except Exception as error:  # noqa: BLE001  # whatever a broken file makes Pillow raise
                failures.append((index, unreadable(error)))
                # Of a builder that was killed a part of it may be here.
                write_at(descriptor, bytes(span.lengths[index]), span.places[index])
                continue
            write_at(descriptor, record, span.places[index])
            nbytes += record.nbytes
            checksums[index] = google_crc32c.value(record)
            hashes[index] = google_crc32c.value(encoded)
    return _Filled(span.start, nbytes, checksums, hashes, flags, failures)


def _encoded(source: Source, span: _Span, index: int) -> bytes:
    with source.open(span.keys[index]) as encoded:
        if (encoded.size, encoded.mtime_ns) != span.stats[index]:
            raise OSError(errno.ESTALE, "changed while the cache was being built")
        data = encoded.file.read()
    if len(data) != encoded.size:
        raise OSError(errno.ESTALE, "changed while the cache was being built")
    return data


@dataclass
class Filling:
    """The payload of one build, from its allocation to its frame.

    What *work* has of it from a builder that ended early is checked, and not done again.
    """

    plan: Plan
    source: Source
    store: Store
    work: Work
    on_error: OnError
    limits: Limits
    failures: list[tuple[int, str]] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.checksums = np.zeros(len(self.plan), np.uint32)
        self.hashes = np.zeros(len(self.plan), np.uint32)
        self.flags = np.zeros(len(self.plan), np.uint8)
        self.done = np.zeros(len(self.plan), bool)
        self.segments: list[Segment] = []
        # What an unfinished payload must be of, to be gone on with.
        self._facts = {
            "mmcache_work": 1,
            "recipe": self.plan.recipe.to_json(),
            "plan": self.plan.digest,
            "store": self.store.name,
            "libraries": libraries(),
        }
        self._goes_on = self._facts.items() <= self.work.journal.facts.items()

    @property
    def path(self) -> Path:
        """Where the payload is filled."""
        return self.work.content

    @property
    def allocated(self) -> int:
        """The bytes on disk that an unfinished build has for this one."""
        return taken_bytes(self.path) if self._goes_on else 0

    def fill(self, pool: Executor, workers: int, show: Shown) -> None:
        """Allocate the payload and have *pool* write every record."""
        planned = self.plan
        if not self._goes_on:
            self.work.clear()
        self.segments = self.store.allocate(
            self.path, planned.recipe.dtype, planned.pixels, planned.slab
        )
        files = sorted({file_of(self.path, segment.file) for segment in self.segments})
        show.to(0, len(planned))
        if self._goes_on:
            self.work.keep({segment.file for segment in self.segments})
            self._take_over(pool, workers, show)
        else:
            self.work.begin(self._facts)
        done = int(self.done.sum())
        nbytes = flushed = 0
        flushed_at = monotonic()
        with (
            Flusher(files, self.work.journal.add) as flusher,
            closing(
                results(
                    pool,
                    _fill,
                    self._spans(),
                    workers,
                    weigh=lambda span: span.memory,
                    most=self.limits.decoding,
                )
            ) as spans,
        ):
            for filled in spans:
                if step := filled.step():
                    flusher.tell(step)
                self._take(filled)
                done += len(filled.checksums)
                nbytes += filled.nbytes
                if nbytes - flushed >= _CHECKPOINT or monotonic() - flushed_at > _OFTEN:
                    flusher.flush()
                    flushed, flushed_at = nbytes, monotonic()
                show.to(done, len(planned), nbytes)

    def _take_over(self, pool: Executor, workers: int, show: Shown) -> None:
        """Find the records of which the journal tells that are on disk as they were written."""
        for step in self.work.journal:
            rows = np.array(step["rows"], np.int64)
            self.done[rows] = True
            for column, name in (
                (self.checksums, "checksums"), (self.hashes, "hashes"), (self.flags, "flags")
            ):  # fmt: skip
                column[rows] = step[name]
        told = int(self.done.sum())
        with closing(results(pool, _checked, self._written(), workers)) as checks:
            for bad in checks:
                self.done[bad] = False
        there = int(self.done.sum())
        show.say(
            f"{there:,} of {counted(len(self.plan), 'picture')} are there from before"
            + ("" if there == told else ", others were damaged")
        )

    def _stretches(self) -> Iterator[_Stretch]:
        """Yield where the records of each slab lie."""
        planned = self.plan
        item = planned.recipe.dtype.itemsize
        slab_bytes = planned.slab * item
        for slab in planned.slabs:
            segment, base = segment_at(self.segments, slab.number * slab_bytes)
            records = planned.records[slab.rows.start : slab.rows.stop]
            yield _Stretch(
                slab.rows,
                os.fspath(file_of(self.path, segment.file)),
                records[:, OFFSET] * item - slab.number * slab_bytes + base,
                np.prod(records[:, HEIGHT:], axis=1) * item,
            )

    def _written(self) -> Iterator[_Written]:
        """Yield the records that are said to be there, some at a time."""
        for rows, file, places, lengths in self._stretches():
            here = np.flatnonzero(self.done[rows.start : rows.stop])
            if len(here):
                yield _Written(
                    file,
                    (here + rows.start).tolist(),
                    places[here].tolist(),
                    lengths[here].tolist(),
                    self.checksums[here + rows.start].tolist(),
                )

    def _take(self, filled: _Filled) -> None:
        stretch = slice(filled.start, filled.start + len(filled.checksums))
        self.checksums[stretch] = filled.checksums
        self.hashes[stretch] = filled.hashes
        self.flags[stretch] = filled.flags
        failures = [(filled.start + index, reason) for index, reason in filled.failures]
        if failures and self.on_error == "raise":
            row, reason = failures[0]
            raise PictureError(printable(self.plan.keys.raw(row)), "decode", reason)
        self.failures += failures
        if failures and self.limits.failures is not None:
            check_failures(list(self._all_failures().raw()), self.limits)

    def _spans(self) -> Iterator[_Span]:
        """Cut each slab into spans: few enough pictures that no worker is left with the last."""
        planned, columns = self.plan, self.plan.columns
        source = planned.source or self.source
        names = planned.keys if planned.names is None else planned.names
        for slab, file, places, lengths in self._stretches():
            for rows in _spans_of(slab, columns, self.done):
                stretch = slice(rows.start, rows.stop)
                here = slice(rows.start - slab.start, rows.stop - slab.start)
                yield _Span(
                    source=source,
                    recipe=planned.recipe,
                    file=file,
                    start=rows.start,
                    keys=[names.raw(row) for row in rows],
                    sizes=_pairs(columns["height"][stretch], columns["width"][stretch]),
                    orientations=columns["orientation"][stretch].tolist(),
                    stats=_pairs(columns["file_size"][stretch], columns["mtime_ns"][stretch]),
                    places=places[here].tolist(),
                    lengths=lengths[here].tolist(),
                    memory=int(columns["decode_bytes"][stretch].max()),
                )

    def finish(self) -> None:
        """Write the other arrays and, when all is on disk, the frame."""
        planned = self.plan
        write_index(
            self.store,
            self.path,
            Payload(planned.recipe, planned.pixels, planned.slab, self.segments),
            self._arrays(),
            classes=planned.classes,
            libraries=libraries(),
        )

    def _arrays(self) -> dict[str, NDArray[Any]]:
        """Return every array but ``pixels``: the rows of the pictures that succeeded."""
        planned = self.plan
        failed = [row for row, _ in self.failures]
        keys, order = planned.keys.packed(), planned.key_order
        kept: Any = slice(None)
        if failed:
            kept = np.setdiff1d(np.arange(len(planned)), failed)
            if not len(kept):
                raise nothing_readable(self.source, self._all_failures())
            keys = planned.keys.take(kept).packed()
            order = None if order is None else key_order(keys)
        columns = planned.columns | {
            "content_hash": self.hashes,
            "flags": self.flags,
        }
        return index_arrays(
            records=planned.records[kept],
            checksums=self.checksums[kept],
            keys=keys,
            key_order=order,
            labels=None if planned.labels is None else planned.labels[kept],
            columns={name: columns[name][kept] for name in COLUMNS},
            failures=self._all_failures(),
        )

    def _all_failures(self) -> Failures:
        keys, sizes = self.plan.keys, self.plan.columns["file_size"]
        here = ((keys.raw(row), "decode", reason, int(sizes[row])) for row, reason in self.failures)
        return Failures.of(sorted([*self.plan.failures.raw(), *here], key=itemgetter(0, 1, 2)))


def _pairs(one: NDArray[Any], other: NDArray[Any]) -> list[tuple[int, int]]:
    return list(zip(one.tolist(), other.tolist(), strict=True))


def _spans_of(
    rows: range, columns: dict[str, NDArray[Any]], done: NDArray[np.bool_]
) -> Iterator[range]:
    """Cut the rows of a slab that are to be done so that each piece is a fraction of a second."""
    stretch = slice(rows.start, rows.stop)
    pixels = columns["height"][stretch].astype(np.int64) * columns["width"][stretch]
    start, total = rows.start, 0
    for row, count, there in zip(rows, pixels.tolist(), done[stretch].tolist(), strict=True):
        full = row - start >= _SPAN_ROWS or total + count > _SPAN_PIXELS
        if row > start and (there or full):
            yield range(start, row)
            start, total = row, 0
        if there:
            start = row + 1
        else:
            total += count
    if start < rows.stop:
        yield range(start, rows.stop)
