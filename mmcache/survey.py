"""Headers of a whole source, read by whoever is at hand: numbers and names, never pictures."""

from __future__ import annotations

from concurrent.futures import Executor, ThreadPoolExecutor
from contextlib import closing
from dataclasses import dataclass
from time import perf_counter, thread_time
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from mmcache.errors import TooManyFailuresError
from mmcache.facts import counted, human_bytes
from mmcache.images import (
    COEFFICIENT_BYTES,
    Header,
    RefusedError,
    check_pixels,
    decode_bytes,
    read_header,
    unreadable,
)
from mmcache.records import SOURCE_MODES, Failures
from mmcache.signatures import FORMATS
from mmcache.sources import Source, from_json
from mmcache.workers import SerialExecutor, Span, executor_of, results

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Iterator

    from numpy.typing import NDArray

    from mmcache.limits import Limits
    from mmcache.recipe import Recipe
    from mmcache.records import RawFailure, Strings
    from mmcache.sources import Listing

__all__ = [
    "SURVEYED",
    "check_failures",
    "check_given_up",
    "count_memory",
    "memory_needed",
    "survey",
]

LARGEST_RECORD = 1 << 31
"""Bytes; a record beyond this is no training picture but a mistake, as of covering 65500 x 1."""

_SPAN = 256  # headers that one worker reads at a time
_WAITING = 3  # times as long as the work: the rest is waiting
SURVEYED: dict[str, np.dtype[Any]] = {
    "height": np.dtype("<i4"),
    "width": np.dtype("<i4"),
    "orientation": np.dtype("u1"),
    "file_size": np.dtype("<i8"),
    "mtime_ns": np.dtype("<i8"),
    "format": np.dtype("u1"),
    "mode": np.dtype("u1"),
    "decode_bytes": np.dtype("<i8"),
}
"""What is known of each picture from its header: upright size in pixels, EXIF orientation, the
file's size in bytes and its time in ns, format and mode by their positions in
:data:`mmcache.signatures.FORMATS` and :data:`mmcache.records.SOURCE_MODES`, and the bytes of memory
that decoding will need."""


@dataclass(frozen=True, kw_only=True)
class _Span(Span):
    """Some keys whose headers one worker reads; a source that cannot be described goes as it is."""

    source: dict[str, Any] | Source
    recipe: Recipe
    limits: Limits
    sizes: list[tuple[int, int]] | None


class _Failed(NamedTuple):
    """A picture by its place in a span, why it cannot be read, and its file's size if known."""

    place: int
    reason: str
    file_size: int | None


class _Headers(NamedTuple):
    start: int
    rows: NDArray[np.int64]
    failures: list[_Failed]


def _read_headers(span: _Span) -> _Headers:
    """Read the headers of a span: the columns of each picture, or why there are none."""
    source = from_json(span.source) if isinstance(span.source, dict) else span.source
    rows = np.zeros((len(span.keys), len(SURVEYED)), np.int64)
    failures = []
    for index, key in enumerate(span.keys):
        try:
            check_given_up(span)
            rows[index] = _header_row(
                source, key, span, None if span.sizes is None else span.sizes[index]
            )
        except Exception as error:  # noqa: BLE001  # whatever a broken file makes Pillow raise
            failures.append(_Failed(index, unreadable(error), _size_of(source, key)))
    return _Headers(span.start, rows, failures)


def _header_row(
    source: Source, key: bytes, span: _Span, partner: tuple[int, int] | None
) -> tuple[int, ...]:
    with source.open(key) as encoded:
        header = read_header(encoded.file, span.recipe.frame)
    if partner is not None and header.size != partner:
        raise RefusedError(
            f"it is {header.height} x {header.width}, and the picture that it goes with is"
            f" {partner[0]} x {partner[1]}"
        )
    if span.recipe.has_shapes:
        needed = memory_needed(header, encoded.size, span.recipe, span.limits)
    else:
        check_pixels(header.size, span.limits.pixels)
        needed = header.coefficient_bytes  # which columns do not tell
    return (
        header.height, header.width, header.orientation, encoded.size, encoded.mtime_ns,
        _position(header.format, FORMATS), _position(header.mode, SOURCE_MODES), needed,
    )  # fmt: skip


def memory_needed(header: Header, file_size: int, recipe: Recipe, limits: Limits) -> int:
    """Return the bytes that decoding a picture takes.

    Raises
    ------
    RefusedError
        Where that, or the picture, or its record is more than *limits* allow.
    """
    check_pixels(header.size, limits.pixels)
    height, width = recipe.place(header.size).size
    if height * width * recipe.channels * recipe.dtype.itemsize > LARGEST_RECORD:
        raise RefusedError(
            f"{header.height} x {header.width} would become a record of {height} x {width},"
            f" more than {human_bytes(LARGEST_RECORD)}"
        )
    needed = decode_bytes(header, recipe, file_size)
    if needed > limits.decoding:
        raise RefusedError(
            f"decoding {header.height} x {header.width} needs about {human_bytes(needed)} of"
            f" memory, and the build has {human_bytes(limits.decoding)} for it; max_memory="
            " raises that"
        )
    return needed


def count_memory(
    keys: Strings, columns: dict[str, NDArray[Any]], recipe: Recipe, limits: Limits
) -> dict[int, RawFailure]:
    """Count what memory pictures need whose recipe was not settled when they were surveyed.

    ``decode_bytes`` has their coefficients until then, and the whole afterwards. Returned is what
    is refused now, by row. Rows without a height have failed before.
    """
    names = ("height", "width", "orientation", "file_size", "format", "mode", "decode_bytes")
    rows = np.flatnonzero(columns["height"])
    refused: dict[int, RawFailure] = {}
    for row, height, width, orientation, file_size, form, mode, coefficients in zip(
        rows.tolist(), *(columns[name][rows].tolist() for name in names), strict=True
    ):
        samples = coefficients / (COEFFICIENT_BYTES * height * width)
        header = Header(
            FORMATS[form], SOURCE_MODES[mode], height, width, orientation, samples > 0, samples
        )
        try:
            columns["decode_bytes"][row] = memory_needed(header, file_size, recipe, limits)
        except RefusedError as error:
            refused[row] = (keys.raw(row), "header", unreadable(error), file_size)
    return refused


def check_given_up(span: Span) -> None:
    """Raise :class:`RefusedError` for a picture that ended every worker that came to it."""
    if span.given_up:
        raise RefusedError(span.verdict)


def _position(name: str, known: tuple[str, ...]) -> int:
    return known.index(name) if name in known else 0


def _size_of(source: Source, key: bytes) -> int | None:
    try:
        return source.stat(key)[0]
    except OSError:
        return None


def check_failures(failures: list[RawFailure], limits: Limits) -> None:
    """Raise :class:`TooManyFailuresError` where more pictures failed than may."""
    if limits.failures is not None and len(failures) > limits.failures:
        raise TooManyFailuresError(
            f"{counted(len(failures), 'picture')} cannot be read, and"
            f" max_failures={limits.failures} was asked for: {Failures.of(failures).named()}",
            Failures.of(failures),
        )


def survey(
    source: Source,
    listing: Listing,
    recipe: Recipe,
    limits: Limits,
    *,
    workers: int,
    executor: str | Executor,
    progress: Callable[[int, int], None] | None,
) -> tuple[dict[str, NDArray[Any]], dict[int, RawFailure]]:
    """Read all headers: the columns of :data:`SURVEYED`, and what failed, by row."""
    keys = listing.keys
    columns = {name: np.zeros(len(keys), dtype) for name, dtype in SURVEYED.items()}
    failed: dict[int, RawFailure] = {}
    unlisted = list(listing.failures.raw()) if limits.failures is not None else []
    done = 0
    with (
        executor_of(executor, workers) as pool,
        closing(_surveyed(pool, _spans(source, listing, recipe, limits), workers)) as spans,
    ):
        for headers in spans:
            stretch = slice(headers.start, headers.start + len(headers.rows))
            for column, values in zip(columns.values(), headers.rows.T, strict=True):
                column[stretch] = values
            for place, reason, size in headers.failures:
                row = headers.start + place
                failed[row] = (keys.raw(row), "header", reason, size)
            if limits.failures is not None:
                check_failures([*unlisted, *failed.values()], limits)
            done += len(headers.rows)
            if progress is not None:
                progress(done, len(keys))
    return columns, failed


def _surveyed(pool: Executor, spans: Iterator[_Span], workers: int) -> Generator[_Headers]:
    """Yield the headers of each span, read by *pool* where that is faster."""
    if isinstance(pool, ThreadPoolExecutor) and (first := next(spans, None)) is not None:
        clock, work = perf_counter(), thread_time()
        headers = _read_headers(first)
        clock, work = perf_counter() - clock, thread_time() - work
        yield headers
        # A header in memory is Python's own work, at whose lock threads would only take turns, each
        # slower than one alone. They are worth having where the disk is what one waits for.
        if clock < _WAITING * work:
            pool = SerialExecutor()
    yield from results(pool, _read_headers, spans, workers)


def _spans(source: Source, listing: Listing, recipe: Recipe, limits: Limits) -> Iterator[_Span]:
    described = source.describe() or source
    names = listing.keys if listing.names is None else listing.names
    for start in range(0, len(names), _SPAN):
        stretch = range(start, min(start + _SPAN, len(names)))
        yield _Span(
            start=start,
            source=described,
            recipe=recipe,
            limits=limits,
            keys=[names.raw(row) for row in stretch],
            sizes=(
                None
                if listing.sizes is None
                else [tuple(size) for size in listing.sizes[stretch].tolist()]
            ),
        )
