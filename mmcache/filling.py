"""Filling: the payload of a build, from its allocation to its frame.

The plan has decided where each record lies, so that filling needs no lock: workers are handed a
path, a description of the source and numbers, and write at offsets that never overlap. Nothing is
decoded twice: what there is of the same recipe is checked and taken.
"""

from __future__ import annotations

import os
from contextlib import closing
from itertools import chain
from operator import itemgetter
from time import monotonic
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

import numpy as np

from mmcache.donors import Donor, Matched, donor_left
from mmcache.errors import PictureError, SourceError
from mmcache.facts import counted
from mmcache.framing import Payload, index_arrays, write_index
from mmcache.layout import SLAB
from mmcache.libraries import libraries, merged
from mmcache.records import COLUMNS, HEIGHT, OFFSET, Failures, key_order, printable
from mmcache.remembering import forget_headers
from mmcache.room import check_room, has_room
from mmcache.sources import Ahead
from mmcache.steps import Done, Step, made_by, rows_of, step_of
from mmcache.stores.frame import file_of, segment_at
from mmcache.stores.payload import Flusher, in_blocks, taken_bytes
from mmcache.survey import check_failures
from mmcache.tasks import (
    DECODED,
    FAILED,
    Copies,
    Pictures,
    Pixels,
    Records,
    check_records,
    copy_records,
    make_records,
)
from mmcache.workers import is_ours, results, under_way

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from concurrent.futures import Executor

    from numpy.typing import NDArray

    from mmcache.limits import Limits
    from mmcache.planning import Plan
    from mmcache.progress import Shown
    from mmcache.sources import Source
    from mmcache.stores.contract import Store
    from mmcache.stores.frame import Segment
    from mmcache.stores.publishing import Work

__all__ = ["Filling", "OnError", "nothing_readable"]

OnError = Literal["skip", "raise"]

_SPAN_ROWS = 32
_SPAN_PIXELS = 16 << 20  # of the sources: large pictures are handed out few at a time
_PARTS = 4  # a worker: into at least so many spans is cut what is left
_COPIED = 8 << 20  # bytes copied by one worker at a time
_NOTED = 48  # bytes of the journal a picture
_FRAME = 64 << 10  # bytes: the frame, and the folders
_CHECKPOINT = SLAB // 4  # bytes written between two notes of what is on disk
_OFTEN = 2.0  # seconds between them at most


def nothing_readable(source: Source, failures: Failures) -> SourceError:
    """Return the error for a source of which every picture failed."""
    return SourceError(
        f"none of {counted(len(failures), 'picture')} in {source} can be read: {failures.named()}"
    )


class _Stretch(NamedTuple):
    """The rows of a slab, the file that they lie in, and their places and lengths in bytes."""

    rows: range
    file: str
    places: NDArray[np.int64]
    lengths: NDArray[np.int64]

    def records(self, here: NDArray[np.int64], checksums: NDArray[np.uint32]) -> Records:
        """Return those records of it that are at the places *here*, with all rows' *checksums*."""
        rows = here + self.rows.start
        return Records(
            self.file,
            rows.tolist(),
            self.places[here].tolist(),
            self.lengths[here].tolist(),
            checksums[rows].tolist(),
        )


class _Notes:
    """Keeps what is done, shows it, and has it brought to disk and noted there now and then."""

    def __init__(self, done: Done, flusher: Flusher, show: Shown) -> None:
        self.done = done
        self._flusher = flusher
        self._show = show
        self._rows = done.count
        self._nbytes = self._flushed = 0
        self._flushed_at = monotonic()

    def made_by(self, versions: dict[str, str], *, older: bool) -> None:
        """Note who made the records that follow, unless it is known."""
        if versions not in self.done.libraries or (older and not self.done.older):
            self._add(made_by(versions, older=older))

    def rows(self, step: Step | None, rows: int, nbytes: int) -> None:
        """Note what came of some more rows, of which *step* tells those that are there."""
        if step is not None:
            self._add(step)
        self._rows += rows
        self._nbytes += nbytes
        if self._nbytes - self._flushed >= _CHECKPOINT or monotonic() - self._flushed_at > _OFTEN:
            self._flusher.flush()
            self._flushed, self._flushed_at = self._nbytes, monotonic()
        self._show.to(self._rows, len(self.done.there), self._nbytes)

    def _add(self, step: Step) -> None:
        self.done.add(step)
        self._flusher.tell(step)


class Filling:
    """The payload of one build, from its allocation to its frame.

    Parameters
    ----------
    plan : Plan
    source : Source
    store : Store
    work : Work
        What it has of unfinished builds is gone on with, or taken from.
    on_error : {"skip", "raise"}
    limits : Limits
    donors : sequence of Donor
        Who else has records.
    contents : uint32 (N,), optional
        CRC-32C that each file must have, whatever its time.
    """

    def __init__(
        self,
        plan: Plan,
        source: Source,
        store: Store,
        work: Work,
        *,
        on_error: OnError,
        limits: Limits,
        donors: Sequence[Donor] = (),
        contents: NDArray[np.uint32] | None = None,
    ) -> None:
        self.plan = plan
        self.source = source
        self.store = store
        self.work = work
        self.on_error = on_error
        self.limits = limits
        self.failures: list[tuple[int, str]] = []
        self.done = Done(len(plan))
        self.segments: list[Segment] = []
        self._donors = list(donors)
        self._contents = contents
        # What an unfinished payload must be of, to be gone on with.
        self._facts = {
            "mmcache_work": 1,
            "recipe": plan.recipe.to_json(),
            "plan": plan.digest,
            "store": store.name,
        }
        self._goes_on = False

    @property
    def needed(self) -> int:
        """The bytes on disk that the build takes: the cache, and what stands beside it by then."""
        planned = self.plan
        sizes = planned.array_bytes
        cache = self.store.disk_bytes(sizes, planned.recipe.dtype, planned.pixels, planned.slab)
        index = sum(sizes.values()) - sizes["pixels"]  # the plan is about as large
        return cache + in_blocks(index) + in_blocks(_NOTED * len(planned)) + _FRAME

    def prepare(self) -> None:
        """Decide what to go on with and what to take from; :class:`NoSpaceError` without room."""
        begun = self.work.begun
        self._goes_on = self._facts.items() <= begun.journal.facts.items()
        if not self._goes_on:
            self._set_aside()
        needed, where = self.needed, self.work.destination
        there = taken_bytes(begun.content) if self._goes_on else 0
        left = donor_left(self.work.earlier)
        if left is not None and has_room(needed, where, there):
            self._donors.insert(0, left)
        elif left is not None:
            self.work.forget_earlier()
        check_room(needed, where, there)

    def _set_aside(self) -> None:
        """Keep, of what was begun and cannot be gone on with, that of which the most is done."""
        work = self.work
        if rows_of(work.begun.journal) > rows_of(work.earlier.journal):
            work.set_aside()
        else:
            work.begun.clear()

    def fill(self, pool: Executor, workers: int, show: Shown, what: str) -> None:
        """Allocate the payload and have *pool* write every record, shown as *what* is done."""
        planned, begun = self.plan, self.work.begun
        self.segments = self.store.allocate(
            begun.content, planned.recipe.dtype, planned.pixels, planned.slab
        )
        files = sorted({file_of(begun.content, segment.file) for segment in self.segments})
        if self._goes_on:
            begun.keep({segment.file for segment in self.segments})
            self._take_over(pool, workers, show)
        else:
            planned.save(begun.plan)
            begun.begin(self._facts | {"segments": self.segments})
        show.begins(what)
        show.to(self.done.count, len(planned))
        with Flusher(files, begun.journal.add) as flusher:
            notes = _Notes(self.done, flusher, show)
            matches = [Matched(one, planned, number) for number, one in enumerate(self._donors)]
            for one in matches:
                self._copy(one, pool, workers, notes)
            self._decode(matches, pool, workers, notes)
        for one in matches:
            if one.taken:
                taken = f"{one.taken:,} of {counted(len(planned), 'picture')}"
                show.say(f"{taken} are taken from {one.donor.name}")

    def _take_over(self, pool: Executor, workers: int, show: Shown) -> None:
        """Find the records of which the journal tells that are on disk as they were written."""
        self.done = done = Done(len(self.plan), self.work.begun.journal)
        told = done.count
        show.begins("checking", prepares=True)
        checked = 0
        with closing(results(pool, check_records, self._written(), workers)) as checks:
            for count, bad in checks:
                done.remove(bad)
                checked += count
                show.to(checked, told)
        show.say(
            f"{done.count:,} of {counted(len(self.plan), 'picture')} are there from before"
            + ("" if done.count == told else ", others were damaged")
        )

    def _copy(self, match: Matched, pool: Executor, workers: int, notes: _Notes) -> None:
        """Copy the records of a donor that were made of the same files."""
        donor = match.donor
        with closing(results(pool, copy_records, self._copies(match), workers)) as copies:
            for (_, _, records), bad in copies:
                there = np.setdiff1d(records.rows, bad)
                if len(there):
                    match.taken += len(there)
                    given = match.rows[there]
                    self._note_makers(notes, donor)
                    notes.rows(
                        step_of(
                            there.tolist(),
                            checksums=donor.checksums[given].tolist(),
                            hashes=donor.hashes[given].tolist(),
                            flags=donor.flags[given].tolist(),
                        ),
                        len(there),
                        sum(records.lengths),
                    )

    def _note_makers(self, notes: _Notes, donor: Donor) -> None:
        for versions in donor.libraries:
            notes.made_by(versions, older=donor.older)

    def _decode(
        self, matches: Sequence[Matched], pool: Executor, workers: int, notes: _Notes
    ) -> None:
        """Decode what is not there."""
        own = libraries(self.plan.recipe)
        shares = Shares(self._pixels(slice(None)), workers)
        ahead = Ahead(self.source, 2 * workers, helps=is_ours(pool))
        with (
            ahead,
            closing(
                results(
                    pool,
                    make_records,
                    _wanted(ahead, self._spans(matches, shares)),
                    workers,
                    before=_wanted(ahead, self._heavy(matches, shares)),
                    weigh=lambda span: span.memory,
                    most=self.limits.decoding,
                )
            ) as spans,
        ):

            def take(made: Pixels) -> None:
                ahead.waited(made.waited, len(made.givers))
                for giver in set(made.givers):
                    if giver == DECODED:
                        notes.made_by(own, older=False)
                    elif giver != FAILED:
                        self._note_makers(notes, self._donors[giver])
                        matches[giver].taken += made.givers.count(giver)
                notes.rows(made.step(), len(made.givers), made.nbytes)
                self._take_failures(made)

            try:
                for made in spans:
                    take(made)
            except KeyboardInterrupt as interruption:
                for made in under_way(spans, interruption):
                    take(made)
                raise

    def _take_failures(self, made: Pixels) -> None:
        failures = [(made.start + index, reason) for index, reason in made.failures]
        if failures:
            self._forget([row for row, _ in failures])
        if failures and self.on_error == "raise":
            row, reason = failures[0]
            raise PictureError(printable(self.plan.keys.raw(row)), "decode", reason)
        self.failures += failures
        if failures and self.limits.failures is not None:
            check_failures(list(self._all_failures().raw()), self.limits)

    def _forget(self, rows: list[int]) -> None:
        """Have the headers of pictures read again that may not be what these said."""
        names = [self.plan.called.raw(row) for row in rows]
        forget_headers(self.source, self.plan.recipe.frame, names)

    # Where records lie ---------------------------------------------------------------------------

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
                os.fspath(file_of(self.work.content, segment.file)),
                records[:, OFFSET] * item - slab.number * slab_bytes + base,
                np.prod(records[:, HEIGHT:], axis=1) * item,
            )

    def _written(self) -> Iterator[Records]:
        """Yield the records that are said to be there, some at a time."""
        for stretch in self._stretches():
            here = np.flatnonzero(self.done.there[stretch.rows.start : stretch.rows.stop])
            if len(here):
                yield stretch.records(here, self.done.checksums)

    def _copies(self, match: Matched) -> Iterator[Copies]:
        """Yield the records that are to be copied: runs that lie in the same way here and there."""
        donor = match.donor
        checksums = np.where(match.rows >= 0, donor.checksums[match.rows], 0)
        for stretch in self._stretches():
            rows = slice(stretch.rows.start, stretch.rows.stop)
            here = np.flatnonzero((match.rows[rows] >= 0) & ~self.done.there[rows])
            segments, starts = donor.places_of(match.rows[here + stretch.rows.start])
            places, lengths = stretch.places[here], stretch.lengths[here]
            for run in _runs(segments, starts, places, lengths):
                yield Copies(
                    donor.files[segments[run.start]],
                    int(starts[run.start]),
                    stretch.records(here[run.start : run.stop], checksums),
                )

    def _pixels(self, rows: slice) -> NDArray[np.int64]:
        """Return how many pixels each of the rows is decoded from: 0 for one that is there."""
        columns = self.plan.columns
        pixels: NDArray[np.int64] = columns["height"][rows].astype(np.int64)
        pixels *= columns["width"][rows]
        pixels[self.done.there[rows]] = 0
        return pixels

    def _heavy(self, matches: Sequence[Matched], shares: Shares) -> Iterator[Pictures]:
        """Yield the pictures that are more than a worker may be left with at the end."""
        for stretch in self._stretches():
            pixels = self._pixels(slice(stretch.rows.start, stretch.rows.stop))
            for here in np.flatnonzero(pixels > shares.heavy).tolist():
                row = stretch.rows[here]
                yield self._pictures(stretch, range(row, row + 1), matches)

    def _spans(self, matches: Sequence[Matched], shares: Shares) -> Iterator[Pictures]:
        """Yield all others in the order of their rows: files are written from end to end."""
        for stretch in self._stretches():
            pixels = self._pixels(slice(stretch.rows.start, stretch.rows.stop))
            pixels[pixels > shares.heavy] = 0
            for rows in shares.spans(stretch.rows, pixels.tolist()):
                yield self._pictures(stretch, rows, matches)

    def _pictures(self, stretch: _Stretch, rows: range, matches: Sequence[Matched]) -> Pictures:
        """Return what a worker is to know of some rows of a slab."""
        planned, columns = self.plan, self.plan.columns
        all_of = slice(rows.start, rows.stop)
        here = slice(rows.start - stretch.rows.start, rows.stop - stretch.rows.start)
        return Pictures(
            source=planned.source or self.source,
            recipe=planned.recipe,
            file=stretch.file,
            start=rows.start,
            keys=[bytes(name) for name in self.plan.called[rows.start : rows.stop].views()],
            sizes=_pairs(columns["height"][all_of], columns["width"][all_of]),
            orientations=columns["orientation"][all_of].tolist(),
            stats=_pairs(columns["file_size"][all_of], columns["mtime_ns"][all_of]),
            contents=[] if self._contents is None else self._contents[all_of].tolist(),
            gifts=(
                [[gift for one in matches for gift in one.gifts(row)] for row in rows]
                if matches
                else []
            ),
            places=stretch.places[here].tolist(),
            lengths=stretch.lengths[here].tolist(),
            memory=int(columns["decode_bytes"][all_of].max()),
        )

    # The end -------------------------------------------------------------------------------------

    def finish(self) -> None:
        """Write the other arrays and, when all is on disk, the frame."""
        planned = self.plan
        write_index(
            self.store,
            self.work.content,
            Payload(planned.recipe, planned.pixels, planned.slab, self.segments),
            self._arrays(),
            classes=planned.classes,
            libraries=merged(self.done.libraries),
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
            "content_hash": self.done.hashes,
            "flags": self.done.flags,
        }
        return index_arrays(
            records=planned.records[kept],
            checksums=self.done.checksums[kept],
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


def _wanted(ahead: Ahead, spans: Iterator[Pictures]) -> Iterator[Pictures]:
    """Yield what a worker comes to when it has done what is queued before; its files are wanted."""
    for span in spans:
        ahead.want(span.keys)
        yield span


def _pairs(one: NDArray[Any], other: NDArray[Any]) -> list[tuple[int, int]]:
    return list(zip(one.tolist(), other.tolist(), strict=True))


class Shares:
    """How much is handed to a worker at a time: less and less, so that all end together.

    A span of pictures costs something beside them and is as large as it may be: at most a quarter
    of what each worker would have of the rest. A picture that alone is more than that is *heavy*,
    and comes before all spans: who is given one last keeps the others waiting. By Graham's bound
    for lists (whoever is free takes the next) the work then takes at most a quarter more than the
    ideal, if the picture that ends last is not heavy; and of many pictures next to nothing more.

    Parameters
    ----------
    pixels : int64 (N,)
        Of each picture that is to be done; 0 for the others.
    workers : int

    Attributes
    ----------
    heavy : int
        Pixels; a picture that has more is heavy.
    """

    def __init__(self, pixels: NDArray[np.int64], workers: int) -> None:
        self._parts = _PARTS * workers
        self.heavy = min(_SPAN_PIXELS, int(pixels.sum()) // self._parts)
        self._left = int(pixels.sum(where=pixels <= self.heavy))

    def spans(self, rows: range, pixels: list[int]) -> Iterator[range]:
        """Cut some rows, of as many *pixels*; those that have none are in no span."""
        start, total, most = rows.start, 0, self._most()
        for row, count in zip(rows, pixels, strict=True):
            full = row - start >= _SPAN_ROWS or total + count > most
            if row > start and (full or not count):
                yield range(start, row)
                self._left -= total
                start, total, most = row, 0, self._most()
            if count:
                total += count
            else:
                start = row + 1
        if start < rows.stop:
            yield range(start, rows.stop)
            self._left -= total

    def _most(self) -> int:
        return min(_SPAN_PIXELS, self._left // self._parts)


def _runs(
    files: NDArray[np.int64],
    starts: NDArray[np.int64],
    places: NDArray[np.int64],
    lengths: NDArray[np.int64],
) -> Iterator[range]:
    """Yield ranges of records that follow one another without a gap, both here and there."""
    if not len(files):
        return
    apart = (
        (files[1:] != files[:-1])
        | (starts[1:] != starts[:-1] + lengths[:-1])
        | (places[1:] != places[:-1] + lengths[:-1])
        | (np.diff((places - places[0]) // _COPIED) != 0)
    )
    ends = [*(np.flatnonzero(apart) + 1).tolist(), len(files)]
    yield from map(range, chain([0], ends), ends)
