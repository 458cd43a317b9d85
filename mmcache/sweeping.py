"""Every record once: read in the order of the file, by all cores, in memory that stays flat.

What is done with records is up to whoever asks. They are read past the mapping, which would fill
the process with its pages, and the system is asked for the next ones beforehand.
"""

from __future__ import annotations

import os
import threading
from contextlib import closing
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Generic, TypeVar

import numpy as np

from mmcache.errors import SelectionError
from mmcache.memory import free_memory, machine_memory
from mmcache.paging import Pages
from mmcache.workers import executor_of, results, worker_count

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from numpy.typing import NDArray

    from mmcache.cache import Cache
    from mmcache.gathering import Located
    from mmcache.progress import Shown

__all__ = ["pictures_of", "swept"]

Result = TypeVar("Result")

_SPAN = 1 << 16  # rows whose places are looked up at once
_PART_BYTES = 4 << 20  # that a worker reads at once, unless one record is larger
_PART_ROWS = 1 << 10


@dataclass(frozen=True)
class _Part:
    """Some records: ``places`` in the cache that was asked for, int64 (n,), and where they lie."""

    places: NDArray[np.int64]
    located: Located


def swept(
    cache: Cache,
    function: Callable[[Located], Result],
    *,
    workers: int | None,
    show: Shown,
) -> Iterator[tuple[NDArray[np.int64], Result]]:
    """Yield places, int64 (n,), and what *function* makes of the records there, as they complete.

    *function* is called by threads, with records that are its own until it returns. Together the
    places are all of the cache's, each once.

    Raises
    ------
    SelectionError
        (a ``TypeError``) where there is no picture.
    SettingError
        (a ``ValueError``) where *workers* is no number of workers.
    DamagedCacheError
        (a ``ValueError``) where a row's place in the file makes no sense, or the file is cut.
    """
    count = worker_count(workers)
    if not len(cache):
        raise SelectionError("there is no picture in this cache, of which nothing can be told")
    reader = _Reader(cache, function)
    done = 0
    show.to(0, len(cache))
    with (
        executor_of("threads", count) as executor,
        closing(results(executor, reader, reader.parts(), count)) as finished,
    ):
        for places, result in finished:
            yield places, result
            done += len(places)
            show.to(done, len(cache))


def pictures_of(located: Located, *, padding: bool = False) -> Iterator[NDArray[Any]]:
    """Yield each record as a view ``(height, width, channels)``, without padding by default."""
    if located.valid is None or padding:
        yield from located.views()
        return
    for view, (top, left, height, width) in zip(
        located.views(), located.valid.tolist(), strict=True
    ):
        yield view[top : top + height, left : left + width]


class _Reader(Generic[Result]):
    """Cuts a cache into parts, and does with each what is asked for."""

    def __init__(self, cache: Cache, function: Callable[[Located], Result]) -> None:
        self._cache = cache
        self._function = function
        self._pages = Pages(cache.files)
        self._own = threading.local()
        rows = cache.files.frame.arrays["records"].shape[0]
        total = cache.files.frame.counts["pixel_bytes"] * len(cache) / max(1, rows)
        # What does not fit into memory would only push out what others have there.
        self._forgets = total > min(free_memory(), machine_memory()) / 2

    def parts(self) -> Iterator[_Part]:
        """Yield the parts in the order of the file, the system asked for each."""
        rows = self._cache.rows
        order = None if isinstance(rows, range) else np.argsort(rows, kind="stable")
        for start in range(0, len(rows), _SPAN):
            stop = min(start + _SPAN, len(rows))
            places = np.arange(start, stop) if order is None else order[start:stop]
            located = self._cache.located(places)
            for piece in _pieces(located.lengths * located.dtype.itemsize):
                part = _Part(places[piece], located.part(piece))
                self._pages.want(part.located)
                yield part

    def __call__(self, part: _Part) -> tuple[NDArray[np.int64], Result]:
        located = part.located
        if hasattr(os, "preadv"):
            located = self._pages.read(located, self._room(int(located.lengths.sum())))
        result = self._function(located)
        if self._forgets:
            self._pages.done_with(part.located)
        return part.places, result

    def _room(self, elements: int) -> NDArray[Any]:
        """Return a flat buffer of this thread's own, which it uses again and again."""
        room: NDArray[Any] | None = getattr(self._own, "room", None)
        if room is None or room.size < elements:
            self._own.room = room = np.empty(elements, self._cache.recipe.dtype)
        return room


def _pieces(nbytes: NDArray[np.int64]) -> Iterator[slice]:
    """Yield slices of records that have about as many bytes each."""
    ends = np.cumsum(nbytes)
    start = 0
    while start < len(ends):
        before = int(ends[start - 1]) if start else 0
        fit = int(np.searchsorted(ends, before + _PART_BYTES, side="right"))
        stop = min(max(start + 1, fit), start + _PART_ROWS, len(ends))
        yield slice(start, stop)
        start = stop
