"""Headers of a whole source, read by whoever is at hand: numbers and names, never pictures."""

from __future__ import annotations

from concurrent.futures import Executor, ThreadPoolExecutor
from contextlib import closing
from dataclasses import dataclass
from functools import lru_cache
from itertools import islice
from time import perf_counter, thread_time, time_ns
from typing import TYPE_CHECKING, Any, NamedTuple, Self

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
from mmcache.remembering import known_headers, packed, unpacked
from mmcache.signatures import FORMATS
from mmcache.sources import Folder, Paths, Source, from_json
from mmcache.workers import Span, executor_of, in_time, results

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Iterator

    from numpy.typing import NDArray

    from mmcache.limits import Limits
    from mmcache.recipe import Recipe
    from mmcache.records import RawFailure, Strings
    from mmcache.remembering import KnownHeaders
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

_SPAN = 256  # headers that one worker reads at a time,
_PIECE = 64  # or that are read before it is looked whether threads are worth having,
_LEFT = 8  # and pieces that each of them has before it is looked again
_WAITING = 1e-4  # seconds for a header: less than a disk takes, more than another program's turn
_SETTLED = 2_000_000_000  # ns, which no clock of a file system is coarser than
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

_NOTHING = (0,) * len(SURVEYED)  # columns of a picture that cannot be read


@dataclass(frozen=True, kw_only=True)
class _Span(Span):
    """Some keys whose headers one worker reads; a source that cannot be described goes as it is.

    ``known`` has the headers that are remembered, packed; a worker believes those whose files are
    still the same.
    """

    source: dict[str, Any] | Source
    recipe: Recipe
    limits: Limits
    sizes: list[tuple[int, int]] | None
    known: list[bytes] | None

    def rest(self, outcome: _Headers) -> list[Self]:
        """Return what *outcome* leaves to be done of these pictures."""
        return self.after(len(outcome.rows))


class _Failed(NamedTuple):
    """A picture by its place in a span, why it cannot be read, and its file's size if known."""

    place: int
    reason: str
    file_size: int | None


class _Headers(NamedTuple):
    """The columns of a span's pictures, those that failed, and headers to be remembered by key."""

    start: int
    rows: NDArray[np.int64]
    failures: list[_Failed]
    new: list[tuple[bytes, bytes]]


class _Seen(NamedTuple):
    """A header, and its file's size in bytes and time in ns."""

    header: Header
    size: int
    mtime_ns: int


def _read_headers(span: _Span) -> _Headers:
    """Read headers of a span, as many as take long enough: columns, or why there are none."""
    source = from_json(span.source) if isinstance(span.source, dict) else span.source
    rows, failures = [], []
    new: list[tuple[bytes, bytes]] = []
    for place in in_time(len(span.keys)):
        key = span.keys[place]
        try:
            check_given_up(span)
            seen = _known(source, span, place) or _read(source, key, span.recipe.frame, new)
            rows.append(_header_row(seen, span, place))
        except Exception as error:  # noqa: BLE001  # whatever a broken file makes Pillow raise
            rows.append(_NOTHING)
            failures.append(_Failed(place, unreadable(error), _size_of(source, key)))
    return _Headers(span.start, np.array(rows, np.int64), failures, new)


def _known(source: Source, span: _Span, place: int) -> _Seen | None:
    """Return the header that is remembered of a picture whose file is still the same."""
    if not span.known or not span.known[place] or not isinstance(source, Folder | Paths):
        return None
    try:
        mark = source.mark(span.keys[place])
    except OSError:
        return None
    header = unpacked(span.keys[place], span.known[place], mark)
    return None if header is None else _Seen(header, mark[0], mark[1])


def _read(source: Source, key: bytes, frame: int, new: list[tuple[bytes, bytes]]) -> _Seen:
    """Read a header, and add it to those that are *new* where it can be remembered."""
    began = time_ns()
    with source.open(key) as encoded:
        header = read_header(encoded.file, frame)
    mark = encoded.mark
    # What changed just now may change again, and have the same time.
    if mark is not None and min(abs(began - mark[1]), began - mark[2]) > _SETTLED:
        new.append((key, packed(key, mark, header)))
    return _Seen(header, encoded.size, encoded.mtime_ns)


def _header_row(seen: _Seen, span: _Span, place: int) -> tuple[int, ...]:
    header, file_size, mtime_ns = seen
    partner = None if span.sizes is None else span.sizes[place]
    if partner is not None and header.size != partner:
        raise RefusedError(
            f"it is {header.height} x {header.width}, and the picture that it goes with is"
            f" {partner[0]} x {partner[1]}"
        )
    if span.recipe.has_shapes:
        needed = memory_needed(header, file_size, span.recipe, span.limits)
    else:
        check_pixels(header.size, span.limits.pixels)
        needed = header.coefficient_bytes  # which columns do not tell
    return (
        header.height, header.width, header.orientation, file_size, mtime_ns,
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
    needed = file_size + _pixel_memory(header, recipe)
    if needed > limits.decoding:
        raise RefusedError(
            f"decoding {header.height} x {header.width} needs about {human_bytes(needed)} of"
            f" memory, and the build has {human_bytes(limits.decoding)} for it; max_memory="
            " raises that"
        )
    return needed


@lru_cache(maxsize=1024)  # many pictures have the size of another
def _pixel_memory(header: Header, recipe: Recipe) -> int:
    """Return the bytes that decoding a picture takes beside its file; :class:`RefusedError`."""
    height, width = recipe.place(header.size).size
    if height * width * recipe.channels * recipe.dtype.itemsize > LARGEST_RECORD:
        raise RefusedError(
            f"{header.height} x {header.width} would become a record of {height} x {width},"
            f" more than {human_bytes(LARGEST_RECORD)}"
        )
    return decode_bytes(header, recipe, 0)


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
    if progress is not None:
        progress(0, len(keys))
    with (
        known_headers(source, recipe.frame, len(keys)) as known,
        executor_of(executor, workers) as pool,
        closing(
            _surveyed(
                pool, _spans(source, listing, recipe, limits, known=known, pool=pool), workers
            )
        ) as spans,
    ):
        for headers in spans:
            stretch = slice(headers.start, headers.start + len(headers.rows))
            for column, values in zip(columns.values(), headers.rows.T, strict=True):
                column[stretch] = values
            for place, reason, size in headers.failures:
                row = headers.start + place
                failed[row] = (keys.raw(row), "header", reason, size)
            known.note(headers.new)
            if limits.failures is not None:
                check_failures([*unlisted, *failed.values()], limits)
            done += len(headers.rows)
            if progress is not None:
                progress(done, len(keys))
    return columns, failed


def _surveyed(pool: Executor, spans: Iterator[_Span], workers: int) -> Generator[_Headers]:
    """Yield the headers of each span, read by *pool* where that is faster.

    A header in memory is Python's own work, at whose lock threads would only take turns, each
    slower than one alone. They are worth having where the disk is what one waits for. So this
    thread reads until it has waited, leaves some spans to the others, and tries again: twice as
    many every time that it has to wait again.
    """
    if not isinstance(pool, ThreadPoolExecutor):
        yield from results(pool, _read_headers, spans, workers)
        return
    others = 0
    for span in spans:
        clock, work = perf_counter(), thread_time()
        headers = _read_headers(span)
        waited = perf_counter() - clock - (thread_time() - work) > _WAITING * len(headers.rows)
        yield headers
        yield from results(pool, _read_headers, span.rest(headers), workers)
        others = max(2 * others, _LEFT * workers) if waited else 0
        yield from results(pool, _read_headers, islice(spans, others), workers)


def _spans(
    source: Source,
    listing: Listing,
    recipe: Recipe,
    limits: Limits,
    *,
    known: KnownHeaders,
    pool: Executor,
) -> Iterator[_Span]:
    length = min(_PIECE, _SPAN) if isinstance(pool, ThreadPoolExecutor) else _SPAN
    described = source.describe() or source
    names = listing.called
    for start in range(0, len(names), length):
        stretch = range(start, min(start + length, len(names)))
        keys = [names.raw(row) for row in stretch]
        yield _Span(
            start=start,
            source=described,
            recipe=recipe,
            limits=limits,
            keys=keys,
            known=known.of(keys) or None,
            sizes=(
                None
                if listing.sizes is None
                else [tuple(size) for size in listing.sizes[stretch].tolist()]
            ),
        )
