"""Repair: damaged records are made anew from their pictures, into a new generation."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from mmcache.cache import Cache, open_cache
from mmcache.donors import ARRAYS, Donor, donor_with
from mmcache.errors import (
    DamagedCacheError,
    DestinationError,
    DifferentCacheError,
    PicturesSkippedWarning,
    SettingError,
    SourceError,
)
from mmcache.facts import counted
from mmcache.filling import Filling, OnError
from mmcache.images import RefusedError, read_header, unreadable
from mmcache.integrity.verifying import verified
from mmcache.layout import elements, lie_apart
from mmcache.limits import MAX_PIXELS, Limits, limits_of
from mmcache.pairing import going_with
from mmcache.planning import Plan, make_plan
from mmcache.progress import Progress, progress_of
from mmcache.recipe import Recipe
from mmcache.records import COLUMNS, HEIGHT, LATER_COLUMNS, OFFSET, Failures, Strings, printable
from mmcache.room import room_for
from mmcache.sources import Partners, source_of
from mmcache.stores import store_for
from mmcache.stores.frame import read_frame
from mmcache.stores.publishing import Work, destination_of
from mmcache.stores.stored import Stored
from mmcache.survey import SURVEYED, memory_needed
from mmcache.tasks import NOT_THE_FILE
from mmcache.workers import checked_executor, executor_of, worker_count

if TYPE_CHECKING:
    import os
    from collections.abc import Iterator
    from concurrent.futures import Executor

    from numpy.typing import NDArray

    from mmcache.integrity.report import Report
    from mmcache.sources import Source
    from mmcache.stores.frame import Frame

__all__ = ["repair"]

_NAMED = 3  # pictures in one sentence

_DTYPES = {
    "records": "<i8",
    "checksums": "<u4",
    "keys": "|u1",
    "key_offsets": "<i8",
    "key_order": "<i8",
    "labels": "<i8",
    **{name: dtype.str for name, dtype in COLUMNS.items()},
    "failure_keys": "|u1",
    "failure_key_offsets": "<i8",
    "failure_stages": "|u1",
    "failure_reasons": "|u1",
    "failure_reason_offsets": "<i8",
    "failure_sizes": "<i8",
}
_BLOBS = {"keys", *(name for name in _DTYPES if name.startswith("failure_"))}  # of any length
_NEEDED = _DTYPES.keys() - {"key_order", "labels", "failure_sizes", *LATER_COLUMNS}


def repair(
    cache: Cache | str | os.PathLike[str],
    source: Any,
    *,
    report: Report | None = None,
    like: Cache | str | os.PathLike[str] | None = None,
    max_pixels: int = MAX_PIXELS,
    max_memory: int | str | None = None,
    workers: int | None = None,
    executor: str | Executor = "threads",
    on_error: OnError = "raise",
    progress: bool | Progress = True,
) -> Cache:
    """Make a damaged cache whole: what is damaged is decoded again, into a new generation.

    Records that are as they were written are copied, and of *source* no other pictures are read
    than those of the damaged ones, each of which must have the content that it was built from. Only
    where the index itself is damaged the whole source is read, and must be what it was. The old
    files stay as they are until the new ones are complete and on disk, and are then gone, with
    whatever lay among them that is not the cache's.

    Parameters
    ----------
    cache : Cache or path
        What is at a path need not open any more.
    source : path, list of paths, or Source
        What the cache was built from.
    report : Report, optional
        What :func:`verify` has just found; by default it is asked.
    like : Cache or path, optional
        Pictures that those of *cache* go with, if it was built so.
    max_pixels, max_memory, workers, executor, progress
        As for :func:`mmcache.build`.
    on_error : {"raise", "skip"}
        Where a damaged record cannot be made again, change nothing and name it; or leave it out,
        named in ``cache.failures``.

    Returns
    -------
    Cache
        Open, and byte for byte as it was where the libraries that decode are the same.

    Raises
    ------
    DamagedCacheError
        (a ``ValueError``) where the frame cannot be read: with it the recipe is lost.
    SourceError
        (a ``ValueError``) where a damaged picture is not in *source* as it was.
    DifferentCacheError
        (a ``ValueError``) where by now another cache stands there than *report* tells of.
    SettingError, NoSpaceError, BusyError, DestinationError
        As for :func:`mmcache.build`.
    """
    if on_error not in ("raise", "skip"):
        raise SettingError(f"on_error={on_error!r} is not one of raise, skip")
    limits = limits_of(max_pixels, max_memory)
    number = worker_count(workers)
    checked_executor(executor)
    found = source_of(source)
    path = cache.path if isinstance(cache, Cache) else Path(cache).absolute()
    with progress_of(progress, "verifying", prepares=True) as show:
        told = verified(cache, workers, show) if report is None else report
        if told.ok:
            return open_cache(path)
        where = destination_of(path)
        with room_for(None, where), Work(where, goes_on=True) as work:
            damaged = _Damaged(path, told)  # with the lock: nobody builds it anew from here on
            if like is not None:
                found, _ = going_with(found, damaged.recipe, like)
            with executor_of(executor, number, inherited=work.lock.descriptor) as pool:
                if damaged.index_is_whole:
                    planned = damaged.plan(found, limits, on_error)
                else:
                    show.begins("reading headers", prepares=True)
                    planned = make_plan(
                        found,
                        damaged.recipe,
                        limits,
                        workers=number,
                        executor=pool,
                        progress=show.to,
                    )
                    damaged.check_count(planned, found)
                _check_unfinished(work, planned)
                filling = Filling(
                    planned,
                    found,
                    store_for(where, damaged.frame.store),
                    work,
                    on_error="skip",
                    limits=limits,
                    donors=damaged.donors(),
                    contents=damaged.contents,
                )
                filling.prepare()
                with room_for(filling.needed, where):
                    filling.fill(pool, number, show, "repairing")
            failed = filling.failures
            if failed and on_error == "raise":
                names = {printable(planned.keys.raw(row)): reason for row, reason in failed}
                raise damaged.lost(names, found)
            with room_for(filling.needed, where):
                filling.finish()
            if not damaged.becomes(read_frame(work.content)):
                work.begun.clear()
                raise damaged.other(found)
            work.publish()
    if failed:
        warnings.warn(
            f"{counted(len(failed), 'picture')} could not be made again: cache.failures names them",
            PicturesSkippedWarning,
            stacklevel=2,
        )
    return open_cache(where)


def _check_unfinished(work: Work, planned: Plan) -> None:
    """Refuse to throw away what another build has begun."""
    if work.has_unfinished and work.begun.journal.facts.get("plan") != planned.digest:
        where = work.destination
        raise DestinationError(
            f"an unfinished build of {where} is there: finish it by the same call, or remove it"
            f' with mmcache.discard("{where}")'
        )


class _Damaged:
    """A cache of which something is not as it was written, and what of it is."""

    def __init__(self, path: Path, report: Report) -> None:
        self.path = path
        self.report = report
        if not report.fingerprint:
            raise DamagedCacheError(
                f"the frame of {path} cannot be read, and with it what it was built with is lost:"
                " move it away, and build it again"
            )
        self.frame: Frame = read_frame(path)
        if self.frame.content != report.fingerprint:
            raise DifferentCacheError(
                f"{path} was built anew since the report was made: verify it again"
            )
        self.recipe = Recipe.from_json(self.frame.recipe)
        stored = Stored(path, self.frame)
        self._arrays = {name: stored.array(name) for name in self.frame.arrays if self._has(name)}

    @property
    def index_is_whole(self) -> bool:
        """Whether every array but the pixels is as it was written."""
        return self._arrays.keys() >= {*_NEEDED, *self.frame.arrays} - {"pixels"}

    def _has(self, name: str) -> bool:
        """Tell whether an array is as it was written, and such as a cache has."""
        one, rows = self.frame.arrays[name], self.report.pictures
        shapes = {"records": (rows, 4), "key_offsets": (rows + 1,)}
        if name in _BLOBS:
            shapes[name] = one.shape[:1]
        right = one.shape == shapes.get(name, (rows,)) and one.dtype == _DTYPES.get(name)
        return right and name in self.report.whole

    @property
    def _keys(self) -> Strings:
        return Strings(self._arrays["keys"], self._arrays["key_offsets"])

    def plan(self, source: Source, limits: Limits, on_error: OnError) -> Plan:
        """Return the plan of the very rows that there were, where the index is whole.

        :class:`SourceError` where damaged pictures are not in the source as they were.
        """
        arrays = self._arrays
        rows = self.report.pictures
        keys = self._keys
        self._check_records()
        planned = Plan(
            recipe=self.recipe,
            source=source.describe(),
            keys=keys,
            key_order=arrays.get("key_order"),
            labels=arrays.get("labels"),
            classes=self.frame.classes,
            columns={
                name: arrays[name] if name in arrays else np.zeros(rows, dtype)
                for name, dtype in SURVEYED.items()
            },
            records=arrays["records"],
            slab=self.frame.slab,
            pixels=self.frame.arrays["pixels"].shape,
            failures=Failures(
                Strings(arrays["failure_keys"], arrays["failure_key_offsets"]),
                arrays["failure_stages"],
                Strings(arrays["failure_reasons"], arrays["failure_reason_offsets"]),
                arrays.get("failure_sizes"),
            ),
            left_out=0,
            names=_names_of(keys, source) if isinstance(source, Partners) else None,
        )
        lost = dict(_survey(planned, source, np.unique(self.report.rows), limits))
        if lost and on_error == "raise":
            raise self.lost(lost, source)
        return planned

    def _check_records(self) -> None:
        """Refuse an index by whose word records would be written over others, or elsewhere."""
        pixels, slab = self.frame.arrays["pixels"], self.frame.slab
        total = sum(one.length for one in pixels.segments) // self.recipe.dtype.itemsize
        records = self._arrays["records"]
        apart = lie_apart(records, total, self.recipe.channels)
        lengths = np.prod(records[:, HEIGHT:], axis=1)
        if (
            not apart
            or total != elements(pixels.shape)
            or slab < 1
            or (records[:, OFFSET] % slab + lengths > slab).any()
        ):
            raise DamagedCacheError(
                f"the index of {self.path} tells of records that no cache has: move it away, and"
                " build it again"
            )

    @property
    def contents(self) -> NDArray[np.uint32] | None:
        """What the files' CRC-32C must be, where the index tells it of every row."""
        return self._arrays["content_hash"] if self.index_is_whole else None

    def donors(self) -> list[Donor]:
        """Return who has the records that are as they were written."""
        needed = {*ARRAYS} | ({"key_order"} & self.frame.arrays.keys())
        if not needed <= self._arrays.keys():
            return []
        there = np.ones(self.report.pictures, bool)
        there[self.report.rows] = False
        return [donor_with(self.path, self.frame, self._arrays, there)]

    def lost(self, reasons: dict[str, str], source: Source) -> SourceError:
        """Return the error for pictures that cannot be made again, and why each cannot."""
        few = "; ".join(f"{key}: {reason}" for key, reason in [*reasons.items()][:_NAMED])
        more = f"; and {len(reasons) - _NAMED:,} more" if len(reasons) > _NAMED else ""
        return SourceError(
            f"{counted(len(reasons), 'damaged picture')} of {self.path} cannot be made again from"
            f' {source}: {few}{more}.\n    Put them there as they were, or pass on_error="skip" to'
            " leave them out."
        )

    def check_count(self, planned: Plan, source: Source) -> None:
        """Refuse a source that is another, where the index does not tell what was in it."""
        counts = self.frame.counts
        if (len(planned), len(planned.failures)) > (counts["rows"], counts["failures"]):
            raise self.other(source)

    def becomes(self, frame: Frame) -> bool:
        """Tell whether a cache of *frame* is what this one was, as far as that can be told."""
        other_makers = frame.libraries != self.frame.libraries
        return self.index_is_whole or other_makers or frame.content == self.frame.content

    def other(self, source: Source) -> SourceError:
        """Return the error for a source that is not what the cache was built from."""
        return SourceError(
            f"the index of {self.path} is damaged, and {source} holds other pictures by now than"
            " those that it was built from, so that the cache cannot be made whole; build it again"
            ' with exist="overwrite"'
        )


def _names_of(keys: Strings, partners: Partners) -> Strings:
    """Return what the source calls the pictures of *keys*; their keys where it has them not."""
    there = partners.listing()
    names = there.called
    by_key = {there.keys.raw(place): names.raw(place) for place in range(len(names))}
    raw = (keys.raw(row) for row in range(len(keys)))
    return Strings.of(by_key.get(key, key) for key in raw)


def _survey(
    planned: Plan, source: Source, rows: NDArray[np.int64], limits: Limits
) -> Iterator[tuple[str, str]]:
    """Note what memory the damaged rows need, and yield those that cannot be made, and why."""
    names = planned.called
    columns = planned.columns
    for row in rows.tolist():
        try:
            with source.open(names.raw(row)) as encoded:
                if encoded.size != columns["file_size"][row]:
                    raise RefusedError(NOT_THE_FILE)  # noqa: TRY301
                header = read_header(encoded.file, planned.recipe.frame)
                columns["decode_bytes"][row] = memory_needed(
                    header, encoded.size, planned.recipe, limits
                )
        except Exception as error:  # noqa: BLE001  # whatever a broken file makes Pillow raise
            yield printable(planned.keys.raw(row)), unreadable(error)
