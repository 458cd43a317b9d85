"""Build: a source in, a published cache out. Every picture is decoded once, beside the destination.

The plan has decided where each record lies, so that filling needs no lock: workers are handed a
path, a description of the source and numbers, and write at offsets that never overlap.
"""

from __future__ import annotations

import errno
import hashlib
import io
import os
import shutil
import warnings
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, NamedTuple, get_args

import google_crc32c
import numpy as np
import PIL
from PIL import features

from mmcache.cache import Cache, open_cache
from mmcache.errors import (
    DestinationError,
    DifferentCacheError,
    NoSpaceError,
    PictureError,
    PicturesSkippedWarning,
    SettingError,
    SourceError,
)
from mmcache.facts import counted, human_bytes
from mmcache.geometry import Size
from mmcache.images import decode, unreadable
from mmcache.planning import Plan, make_plan
from mmcache.progress import Progress, progress_of
from mmcache.recipe import Mode, Recipe, Resample
from mmcache.records import (
    COLUMNS,
    HEIGHT,
    OFFSET,
    Failures,
    Strings,
    key_order,
    printable,
    to_str,
)
from mmcache.sources import Folder, Source, from_json, source_of
from mmcache.stores import store_for
from mmcache.stores.frame import ArrayFrame, FileFrame, Frame, is_cache
from mmcache.stores.payload import Flusher, opened, write_at
from mmcache.stores.publishing import Work
from mmcache.workers import checked_executor, executor_of, results, worker_count

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator
    from concurrent.futures import Executor

    from numpy.typing import NDArray

    from mmcache.geometry import Resize
    from mmcache.stores.contract import Segment, Store

__all__ = ["Exist", "OnError", "build", "plan"]

OnError = Literal["skip", "raise"]
Exist = Literal["resume", "update", "overwrite", "error"]

_SPAN_ROWS = 64
_SPAN_PIXELS = 16 << 20  # of the sources: large pictures are handed out few at a time


def plan(
    source: Any,
    path: str | os.PathLike[str] | None = None,
    *,
    size: int | tuple[int, int] = 256,
    resize: Resize = "contain",
    resample: Resample = "bicubic",
    mode: Mode = "RGB",
    background: tuple[int, ...] | str | int = 0,
    upscale: bool | None = None,
    multiple_of: int = 1,
    workers: int | None = None,
    executor: str | Executor = "threads",
    progress: bool | Progress = True,
) -> Plan:
    """Tell what :func:`build` would do, reading headers alone: rows, bytes, shapes, what will fail.

    Parameters
    ----------
    source, size, resize, resample, mode, background, upscale, multiple_of
        As for :func:`build`.
    path : path, optional
        Where the cache would be built: the free space there becomes part of the plan.
    workers, executor, progress
        As for :func:`build`.

    Returns
    -------
    Plan
        Pure data; prints well, in notebooks too.
    """
    recipe = Recipe(
        size=size, resize=resize, resample=resample, mode=mode, background=background,
        upscale=upscale, multiple_of=multiple_of,
    )  # fmt: skip
    checked_executor(executor)
    where = None if path is None else _destination(path)
    free = None if where is None else shutil.disk_usage(where.parent).free
    found = source_of(source)
    with progress_of(progress, "headers") as show:
        return make_plan(
            found, recipe, workers=workers, executor=executor, progress=show.to, free=free
        )


def build(
    source: Any,
    path: str | os.PathLike[str],
    *,
    size: int | tuple[int, int] = 256,
    resize: Resize = "contain",
    resample: Resample = "bicubic",
    mode: Mode = "RGB",
    background: tuple[int, ...] | str | int = 0,
    upscale: bool | None = None,
    multiple_of: int = 1,
    store: str | None = None,
    workers: int | None = None,
    executor: str | Executor = "threads",
    on_error: OnError = "skip",
    exist: Exist = "resume",
    progress: bool | Progress = True,
) -> Cache:
    """Read every picture of *source* once, bring it to size, and write it into a cache at *path*.

    The exact size is known from the headers and its room is allocated before a picture is decoded;
    the cache appears at *path* when it is complete and on disk, or not at all.

    Parameters
    ----------
    source : path, list of paths, or Source
        A folder, searched with its subfolders; or pictures by their paths.
    path : path
        Where to build; its ending chooses the format (``.mmc``: a directory of ``.npy`` files).
    size : int or (int, int)
        The box in pixels: one edge, or height and width.
    resize : {"contain", "cover", "crop", "pad", "stretch"}
        ``contain`` fits inside the box, ``cover`` fills it and cuts nothing, ``crop`` covers it and
        cuts to exactly the box, ``pad`` contains and fills up to exactly the box, ``stretch`` is
        the only one that distorts.
    resample : {"bicubic", "lanczos", "bilinear", "hamming", "box", "nearest"}
        The filter, Pillow's.
    mode : {"RGB", "L", "RGBA"}
        The channels of every record.
    background : colour, optional
        Of padding and under transparency: a name, ``#rrggbb``, or a number per channel.
    upscale : bool, optional
        Whether ``contain`` and ``pad`` enlarge what is smaller than the box; they do not by default.
    multiple_of : int
        Each edge of a record is filled up with background to a multiple of this.
    store : {"npy"}, optional
        The format, whatever the ending of *path*.
    workers : int, optional
        By default one a core.
    executor : {"threads", "processes", "serial"} or concurrent.futures.Executor
        Who decodes. The bytes are the same whoever does.
    on_error : {"skip", "raise"}
        A picture that cannot be read is named in ``cache.failures``, or ends the build.
    exist : {"resume", "update", "overwrite", "error"}
        What to do where a cache is at *path*: open it if it is of this recipe and the source is
        unchanged, and otherwise say what differs; build it anew if anything differs; build it anew
        in any case; or refuse. The old cache stays whole until the new one is.
    progress : bool or callable
        A bar on a terminal or in a notebook; or ``progress(done, total)``, called now and then
        with numbers of pictures.

    Returns
    -------
    Cache
        Open, to be indexed.

    Raises
    ------
    SettingError
        (a ``ValueError``) where a setting makes no sense.
    SourceNotFoundError, SourceError
        (a ``FileNotFoundError``, a ``ValueError``) where there is nothing to build from.
    DestinationError
        (a ``FileExistsError``) where something else stands at *path*.
    DifferentCacheError
        (a ``ValueError``) where the cache at *path* is of another recipe or another source.
    NoSpaceError
        (an ``OSError``) where there is no room.
    BusyError
        (an ``OSError``) where another process is building at *path*.
    PictureError
        (an ``OSError``) for the first picture that cannot be read, with ``on_error="raise"``.
    """
    recipe = Recipe(
        size=size, resize=resize, resample=resample, mode=mode, background=background,
        upscale=upscale, multiple_of=multiple_of,
    )  # fmt: skip
    for name, value, known in (("on_error", on_error, OnError), ("exist", exist, Exist)):
        if value not in get_args(known):
            raise SettingError(f"{name}={value!r} is not one of {', '.join(get_args(known))}")
    number = worker_count(workers)
    checked_executor(executor)
    form = store_for(path, store)
    found = source_of(source)
    if found.describe() is None and executor == "processes":
        raise SettingError(
            f"{found!r} cannot be described, so that other processes cannot read it:"
            ' pass executor="threads"'
        )
    where = _destination(path)
    _check_apart(found, where)
    if (standing := _standing(where, exist, recipe, found)) is not None:
        return standing
    with Work(where) as work:
        # Another builder may have finished while this one waited for nothing but the lock.
        if (standing := _standing(where, exist, recipe, found)) is not None:
            return standing
        with progress_of(progress, "headers") as show:
            planned = make_plan(
                found, recipe, workers=number, executor=executor, progress=show.to
            )
        _refuse_hopeless(planned, found, on_error)
        _check_room(planned, where)
        with progress_of(progress, "pictures") as show:
            filling = _Filling(planned, found, form, work.content, on_error)
            filling.fill(executor, number, show)
        filling.finish()
        work.publish()
    cache = open_cache(where)
    if failed := len(cache.failures):
        warnings.warn(
            f"{counted(failed, 'picture')} of {len(cache) + failed:,} could not be read:"
            " cache.failures names them",
            PicturesSkippedWarning,
            stacklevel=2,
        )
    return cache


# Before a byte is written ------------------------------------------------------------------------


def _destination(path: str | os.PathLike[str]) -> Path:
    """Return where a cache of this path is built: absolute, and behind any link."""
    where = Path(os.path.realpath(path))
    if not where.parent.is_dir():
        raise DestinationError(
            f"{os.fspath(path)} cannot be built: there is no folder {where.parent}; create it, or"
            " mend the path"
        )
    return where


def _check_apart(source: Source, where: Path) -> None:
    """Refuse a cache inside its own source, which the next build would find there."""
    if not isinstance(source, Folder):
        return
    folder = Path(os.fsdecode(os.path.realpath(source.root)))
    if where == folder or folder in where.parents:
        raise DestinationError(
            f"{where} is inside the folder of pictures {folder}: build the cache beside it"
        )
    if where in folder.parents:
        raise DestinationError(
            f"{where} contains the folder of pictures {folder}: build the cache beside it"
        )


def _standing(where: Path, exist: Exist, recipe: Recipe, source: Source) -> Cache | None:
    """Return the cache at the destination where it is what was asked for."""
    if not os.path.lexists(where):
        return None
    if not is_cache(where):
        raise DestinationError(
            f"{where} exists and is no cache of this mmcache, so that it is not overwritten: build"
            " to another path, or move it away"
        )
    if exist == "error":
        raise DestinationError(f'{where} exists, and exist="error" was asked for')
    if exist == "overwrite":
        return None
    cache = open_cache(where)
    _check_same_recipe(cache, recipe)
    difference = _difference(cache, source)
    if difference is None:
        return cache
    if exist == "update":
        return None
    raise DifferentCacheError(
        f"{where} was built from other pictures than are in {source} now: {difference}.\n"
        f'    Open it as it is with mmcache.open("{where.name}"), or pass exist="update".'
    )


def _check_same_recipe(cache: Cache, recipe: Recipe) -> None:
    old, new = cache.recipe.to_json(), recipe.to_json()
    differ = [name for name in new if old[name] != new[name]]
    if differ:
        was = ", ".join(f"{name}={old[name]!r}" for name in differ)
        asked = ", ".join(f"{name}={new[name]!r}" for name in differ)
        raise DifferentCacheError(
            f"{cache.path} was built with {was}, and you asked for {asked}.\n"
            f'    Open it as it is with mmcache.open("{cache.path.name}"), or build to another'
            ' path, or pass exist="overwrite".'
        )


def _difference(cache: Cache, source: Source) -> str | None:
    """Return how *source* differs from what *cache* was built from; None where it does not."""
    keys = source.listing().keys
    failed = {key for key, stage, _ in cache.failures.raw() if stage != "list"}
    sizes, times = (cache.columns[name] for name in ("file_size", "mtime_ns"))
    in_order = keys == cache.keys
    added = changed = kept = 0
    for place in range(len(keys)):
        key = keys.raw(place)
        if key in failed:
            continue
        row = place if in_order else cache._find(key)  # noqa: SLF001  # without an exception each
        if row is None:
            added += 1
            continue
        kept += 1
        try:
            changed += source.stat(key) != (sizes[row], times[row])
        except OSError:
            changed += 1
    removed = len(cache) - kept
    if not added + changed + removed:
        return None
    words = ((added, "added"), (changed, "changed"), (removed, "removed"))
    return ", ".join(f"{count:,} {word}" for count, word in words if count)


def _refuse_hopeless(planned: Plan, source: Source, on_error: OnError) -> None:
    failures = planned.failures
    if failures and on_error == "raise":
        first = failures[0]
        raise PictureError(printable(first.key), first.stage, first.reason)
    if not len(planned):
        raise _nothing_readable(source, failures)


def _nothing_readable(source: Source, failures: Failures) -> SourceError:
    few = "; ".join(f"{printable(f.key)}: {f.reason}" for f in failures[:3])
    more = f"; and {len(failures) - 3:,} more" if len(failures) > 3 else ""  # noqa: PLR2004
    return SourceError(
        f"none of {counted(len(failures), 'picture')} in {source} can be read: {few}{more}"
    )


def _check_room(planned: Plan, where: Path) -> None:
    needed, free = planned.nbytes, shutil.disk_usage(where.parent).free
    if needed > free:
        raise _no_room(where, needed, free)


def _no_room(where: Path, needed: int, free: int) -> NoSpaceError:
    return NoSpaceError(
        f"{where} needs {human_bytes(needed)} and {human_bytes(free)} are free on {where.parent}",
        needed=needed,
        free=free,
    )


# Filling -----------------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Span:
    """Some rows of one slab: what a worker is handed. Numbers and names, never pictures.

    ``sizes`` are those that the headers told; ``places`` are offsets in bytes in ``file``.
    """

    source: dict[str, Any] | Source
    recipe: Recipe
    file: str
    start: int
    keys: list[bytes]
    sizes: list[tuple[int, int]]
    orientations: list[int]
    stats: list[tuple[int, int]]
    places: list[int]


class _Filled(NamedTuple):
    """What a worker found: checksums of records and files, and what failed by its index."""

    start: int
    checksums: list[int]
    hashes: list[int]
    failures: list[tuple[int, str]]


def _fill(span: _Span) -> _Filled:
    """Decode the pictures of *span*, one at a time, each straight to its place."""
    source = from_json(span.source) if isinstance(span.source, dict) else span.source
    checksums, hashes, failures = [0] * len(span.keys), [0] * len(span.keys), []
    with opened(span.file, os.O_RDWR) as descriptor:
        for index in range(len(span.keys)):
            try:
                encoded = _encoded(source, span, index)
                record = decode(
                    io.BytesIO(encoded),
                    span.recipe,
                    expected=Size(*span.sizes[index]),
                    orientation=span.orientations[index],
                )
            except Exception as error:  # noqa: BLE001  # whatever a broken file makes Pillow raise
                failures.append((index, unreadable(error)))
                continue
            write_at(descriptor, record, span.places[index])
            checksums[index] = google_crc32c.value(record)
            hashes[index] = google_crc32c.value(encoded)
    return _Filled(span.start, checksums, hashes, failures)


def _encoded(source: Source, span: _Span, index: int) -> bytes:
    with source.open(span.keys[index]) as encoded:
        if (encoded.size, encoded.mtime_ns) != span.stats[index]:
            raise OSError("changed while the cache was being built")
        return encoded.file.read()


@dataclass
class _Filling:
    """The payload of one build, from its allocation to its frame."""

    plan: Plan
    source: Source
    store: Store
    path: Path
    on_error: OnError
    failures: list[tuple[int, str]] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.checksums = np.zeros(len(self.plan), np.uint32)
        self.hashes = np.zeros(len(self.plan), np.uint32)
        self.segments: list[Segment] = []

    def fill(self, executor: str | Executor, workers: int, show: Any) -> None:
        """Allocate the payload and write every record."""
        planned = self.plan
        try:
            self.segments = self.store.allocate(
                self.path, planned.recipe.dtype, planned.pixels, planned.slab
            )
            files = sorted({self.path / segment.file for segment in self.segments})
            done = 0
            show.to(0, len(planned))
            with (
                Flusher(files) as flusher,
                executor_of(executor, workers) as pool,
                closing(results(pool, _fill, self._spans(), workers)) as spans,
            ):
                for filled in spans:
                    self._take(filled)
                    flusher.flush()
                    done += len(filled.checksums)
                    show.to(done, len(planned))
        except OSError as error:
            if error.errno not in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
                raise
            where = self.path.parent.parent
            free = shutil.disk_usage(where).free
            raise _no_room(where, planned.nbytes, free) from error

    def _take(self, filled: _Filled) -> None:
        stretch = slice(filled.start, filled.start + len(filled.checksums))
        self.checksums[stretch] = filled.checksums
        self.hashes[stretch] = filled.hashes
        failures = [(filled.start + index, reason) for index, reason in filled.failures]
        if failures and self.on_error == "raise":
            row, reason = failures[0]
            raise PictureError(printable(self.plan.keys.raw(row)), "decode", reason)
        self.failures += failures

    def _spans(self) -> Iterator[_Span]:
        """Cut each slab into spans: few enough pictures that no worker is left with the last."""
        planned, columns = self.plan, self.plan.columns
        item = planned.recipe.dtype.itemsize
        source = planned.source or self.source
        slab_bytes = planned.slab * item
        for slab in planned.slabs:
            segment, base = _segment_of(self.segments, slab.number * slab_bytes)
            for rows in _spans_of(slab.rows, columns):
                stretch = slice(rows.start, rows.stop)
                offsets = planned.records[stretch, OFFSET] * item - slab.number * slab_bytes + base
                yield _Span(
                    source=source,
                    recipe=planned.recipe,
                    file=os.fspath(self.path / segment.file),
                    start=rows.start,
                    keys=[planned.keys.raw(row) for row in rows],
                    sizes=_pairs(columns["height"][stretch], columns["width"][stretch]),
                    orientations=columns["orientation"][stretch].tolist(),
                    stats=_pairs(columns["file_size"][stretch], columns["mtime_ns"][stretch]),
                    places=offsets.tolist(),
                )

    # Finishing -----------------------------------------------------------------------------------

    def finish(self) -> None:
        """Write the other arrays and, when all is on disk, the frame."""
        planned = self.plan
        arrays = self._arrays()
        segments = self.store.write_arrays(self.path, arrays)
        records = arrays["records"]
        frames = {
            name: ArrayFrame(
                dtype=array.dtype.str,
                shape=array.shape,
                segments=tuple(segments[name]),
                sha256=hashlib.sha256(array).hexdigest(),
            )
            for name, array in arrays.items()
        }
        frames["pixels"] = ArrayFrame(
            planned.recipe.dtype.str, planned.pixels, tuple(self.segments)
        )
        counts = {
            "rows": len(records),
            "failures": len(arrays["failure_stages"]),
            "pixel_bytes": int(np.prod(records[:, HEIGHT:], axis=1).sum())
            * planned.recipe.dtype.itemsize,
        }
        frame = Frame(
            store=self.store.name,
            recipe=planned.recipe.to_json(),
            libraries=_libraries(),
            counts=counts,
            classes=planned.classes,
            slab=planned.slab,
            arrays=frames,
            files=_files(self.path, frames, records, planned.recipe.dtype.itemsize),
            content=_content(planned, frames),
        )
        self.store.write_frame(self.path, frame)

    def _arrays(self) -> dict[str, NDArray[Any]]:
        """Return every array but ``pixels``: the rows of the pictures that succeeded."""
        planned = self.plan
        failed = [row for row, _ in self.failures]
        keys, order = planned.keys.packed(), planned.key_order
        kept: Any = slice(None)
        if failed:
            kept = np.setdiff1d(np.arange(len(planned)), failed)
            if not len(kept):
                raise _nothing_readable(self.source, self._all_failures())
            keys = planned.keys.take(kept).packed()
            order = None if order is None else key_order(keys)
        failures = self._all_failures()
        columns = planned.columns | {
            "content_hash": self.hashes,
            "flags": np.zeros(len(planned), np.uint8),
        }
        arrays: dict[str, NDArray[Any] | None] = {
            "records": planned.records[kept],
            "checksums": self.checksums[kept],
            "keys": keys.blob,
            "key_offsets": keys.offsets,
            "key_order": order,
            "labels": None if planned.labels is None else planned.labels[kept],
            **{name: columns[name][kept].astype(dtype, copy=False) for name, dtype in COLUMNS.items()},
            "failure_keys": failures.keys.blob,
            "failure_key_offsets": failures.keys.offsets,
            "failure_stages": failures.stages,
            "failure_reasons": failures.reasons.blob,
            "failure_reason_offsets": failures.reasons.offsets,
        }
        return {
            name: np.ascontiguousarray(one, one.dtype.newbyteorder("<"))
            for name, one in arrays.items()
            if one is not None
        }

    def _all_failures(self) -> Failures:
        here = ((self.plan.keys.raw(row), "decode", reason) for row, reason in self.failures)
        return Failures.of(sorted([*self.plan.failures.raw(), *here]))


def _pairs(one: NDArray[Any], other: NDArray[Any]) -> list[tuple[int, int]]:
    return list(zip(one.tolist(), other.tolist(), strict=True))


def _spans_of(rows: range, columns: dict[str, NDArray[Any]]) -> Iterator[range]:
    """Cut the rows of a slab so that each piece is a fraction of a second's work."""
    stretch = slice(rows.start, rows.stop)
    pixels = columns["height"][stretch].astype(np.int64) * columns["width"][stretch]
    start, total = rows.start, 0
    for row, count in zip(rows, pixels.tolist(), strict=True):
        if row > start and (row - start >= _SPAN_ROWS or total + count > _SPAN_PIXELS):
            yield range(start, row)
            start, total = row, 0
        total += count
    yield range(start, rows.stop)


def _segment_of(segments: Iterable[Segment], position: int) -> tuple[Segment, int]:
    """Return the segment in which a byte of the payload lies, and its offset in the file."""
    for segment in segments:
        if position < segment.length:
            return segment, segment.offset + position
        position -= segment.length
    raise AssertionError("a slab outside the payload")


# The frame's figures -----------------------------------------------------------------------------


def _libraries() -> dict[str, str]:
    """Return the versions on which pixels depend."""
    versions = {"pillow": PIL.__version__}
    for part in ("libjpeg_turbo", "zlib", "webp", "libtiff", "avif"):
        version = features.version(part)
        if version:
            versions[part] = str(version)
    return versions


def _content(planned: Plan, frames: dict[str, ArrayFrame]) -> str:
    """Return what identifies the contents in any format: recipe, classes, and every array.

    Pixels are in it by their checksums.
    """
    digest = hashlib.sha256(planned.recipe.fingerprint.encode())
    for name in planned.classes:
        digest.update(name.encode("utf-8", "surrogateescape") + b"\0")
    for name in sorted(frames):
        digest.update(f"{name} {frames[name].dtype} {frames[name].shape} ".encode())
        digest.update((frames[name].sha256 or "").encode())
    return digest.hexdigest()


def _files(
    path: Path, frames: dict[str, ArrayFrame], records: NDArray[np.int64], item: int
) -> dict[str, FileFrame]:
    """Return each file's length and the digest of its bytes that belong to no record."""
    names = sorted({segment.file for one in frames.values() for segment in one.segments})
    files = {}
    for name in names:
        file = path / name
        length = file.stat().st_size
        taken = _records_in(name, frames["pixels"], records, item)
        with opened(file, os.O_RDONLY) as descriptor:
            files[name] = FileFrame(length, _rest_digest(descriptor, length, taken))
    return files


def _records_in(
    file: str, pixels: ArrayFrame, records: NDArray[np.int64], item: int
) -> Iterator[tuple[int, int]]:
    """Yield start and end in bytes of the records that lie in *file*, in order."""
    starts = records[:, OFFSET] * item
    ends = starts + np.prod(records[:, HEIGHT:], axis=1) * item
    base = 0
    for segment in pixels.segments:
        if segment.file == file:
            first, last = np.searchsorted(starts, [base, base + segment.length])
            shift = segment.offset - base
            for row in range(int(first), int(last)):
                yield int(starts[row]) + shift, int(ends[row]) + shift
        base += segment.length


def _rest_digest(descriptor: int, length: int, taken: Iterable[tuple[int, int]]) -> str:
    digest = hashlib.sha256()
    position = 0
    for start, end in taken:
        _read_into(digest.update, descriptor, position, start)
        position = end
    _read_into(digest.update, descriptor, position, length)
    return digest.hexdigest()


def _read_into(update: Callable[[bytes], object], descriptor: int, start: int, end: int) -> None:
    while start < end:
        os.lseek(descriptor, start, os.SEEK_SET)
        piece = os.read(descriptor, min(end - start, 1 << 20))
        if not piece:
            raise OSError("a file of the cache ended early")
        update(piece)
        start += len(piece)
