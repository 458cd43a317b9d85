"""Headers of a whole source, read by whoever is at hand: numbers and names, never pictures."""

from __future__ import annotations

from concurrent.futures import Executor, ThreadPoolExecutor
from contextlib import closing
from dataclasses import dataclass
from time import perf_counter, thread_time
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from mmcache.facts import human_bytes
from mmcache.images import decode_bytes, read_header, unreadable
from mmcache.sources import Source, from_json
from mmcache.workers import SerialExecutor, executor_of, results

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Iterator

    from numpy.typing import NDArray

    from mmcache.recipe import Recipe
    from mmcache.records import Strings

__all__ = ["SURVEYED", "survey"]

LARGEST_RECORD = 1 << 31
"""Bytes; a record beyond this is no training picture but a mistake, as of covering 65500 x 1."""

_SPAN = 256  # headers that one worker reads at a time
_WAITING = 3  # times as long as the work: the rest is waiting
SURVEYED = {
    "height": np.dtype("<i4"),
    "width": np.dtype("<i4"),
    "orientation": np.dtype("u1"),
    "file_size": np.dtype("<i8"),
    "mtime_ns": np.dtype("<i8"),
    "decode_bytes": np.dtype("<i8"),
}
"""What is known of each picture from its header: upright size in pixels, EXIF orientation, the
file's size in bytes and its time in ns, and the bytes of memory that decoding will need."""


@dataclass(frozen=True)
class _Span:
    """Some keys whose headers one worker reads; a source that cannot be described goes as it is."""

    start: int
    source: dict[str, Any] | Source
    recipe: Recipe
    keys: list[bytes]


class _Headers(NamedTuple):
    start: int
    rows: NDArray[np.int64]
    failures: list[tuple[int, str]]


def _read_headers(span: _Span) -> _Headers:
    """Read the headers of a span: the columns of each picture, or why there are none."""
    source = from_json(span.source) if isinstance(span.source, dict) else span.source
    rows = np.zeros((len(span.keys), len(SURVEYED)), np.int64)
    failures = []
    for index, key in enumerate(span.keys):
        try:
            rows[index] = _header_row(source, key, span.recipe)
        except Exception as error:  # noqa: BLE001  # whatever a broken file makes Pillow raise
            failures.append((index, unreadable(error)))
    return _Headers(span.start, rows, failures)


def _header_row(source: Source, key: bytes, recipe: Recipe) -> tuple[int, ...]:
    with source.open(key) as encoded:
        header = read_header(encoded.file)
    placement = recipe.place(header.size)
    height, width = placement.size
    if height * width * recipe.channels * recipe.dtype.itemsize > LARGEST_RECORD:
        raise ValueError(
            f"{header.height} x {header.width} would become a record of {height} x {width},"
            f" more than {human_bytes(LARGEST_RECORD)}"
        )
    needed = decode_bytes(header, placement, encoded.size, scale=recipe.resample != "nearest")
    return (
        header.height, header.width, header.orientation, encoded.size, encoded.mtime_ns, needed
    )  # fmt: skip


def survey(
    source: Source,
    keys: Strings,
    recipe: Recipe,
    *,
    workers: int,
    executor: str | Executor,
    progress: Callable[[int, int], None] | None,
) -> tuple[dict[str, NDArray[Any]], dict[int, str]]:
    """Read all headers: the columns of :data:`SURVEYED`, and what failed, by row."""
    columns = {name: np.zeros(len(keys), dtype) for name, dtype in SURVEYED.items()}
    failed: dict[int, str] = {}
    done = 0
    with (
        executor_of(executor, workers) as pool,
        closing(_surveyed(pool, _spans(source, keys, recipe), workers)) as spans,
    ):
        for headers in spans:
            stretch = slice(headers.start, headers.start + len(headers.rows))
            for column, values in zip(columns.values(), headers.rows.T, strict=True):
                column[stretch] = values
            failed.update((headers.start + index, reason) for index, reason in headers.failures)
            done += len(headers.rows)
            if progress is not None:
                progress(done, len(keys))
    return columns, failed


def _surveyed(pool: Executor, spans: Iterator[_Span], workers: int) -> Generator[_Headers]:
    """Yield the headers of each span, read by *pool* where that is faster."""
    first = next(spans, None)
    if first is None:
        return
    clock, work = perf_counter(), thread_time()
    headers = _read_headers(first)
    clock, work = perf_counter() - clock, thread_time() - work
    yield headers
    # A header in memory is Python's own work, at whose lock threads would only take turns, each
    # slower than one alone. They are worth having where the disk is what one waits for.
    if isinstance(pool, ThreadPoolExecutor) and clock < _WAITING * work:
        pool = SerialExecutor()
    yield from results(pool, _read_headers, spans, workers)


def _spans(source: Source, keys: Strings, recipe: Recipe) -> Iterator[_Span]:
    described = source.describe() or source
    for start in range(0, len(keys), _SPAN):
        stretch = range(start, min(start + _SPAN, len(keys)))
        yield _Span(start, described, recipe, [keys.raw(row) for row in stretch])
