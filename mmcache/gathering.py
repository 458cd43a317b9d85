"""Records into a batch: copied from mapped files, cut, mirrored, padded, or resampled.

What is copied is copied once, into a buffer that may be used again. numpy releases Python's lock
while it copies, so that batches are gathered beside a training loop, and by several threads.
"""

from __future__ import annotations

import math
import os
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from functools import partial
from itertools import pairwise
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from mmcache.errors import SettingError
from mmcache.geometry import Size
from mmcache.resampling import resized
from mmcache.workers import worker_count

if TYPE_CHECKING:
    from collections.abc import Iterator

    from numpy.typing import NDArray

    from mmcache.shaping import Shaping

__all__ = ["Buffer", "Gathered", "Located", "gather"]


Buffer = np.ndarray[Any, Any] | Callable[[int], np.ndarray[Any, Any]]
"""What a batch is written into: an array, or what gives a flat one for a number of elements."""


@dataclass(frozen=True)
class Located:
    """Where records lie: checked, so that every one is inside its segment.

    Attributes
    ----------
    segments : list of flat arrays
        The mapped pixels.
    numbers : int64 (n,) or None
        The segment of each record; None where there is only one.
    starts, heights, widths : int64 (n,)
        The first element in the segment; the edges in pixels.
    channels : int
    edges : Size or None
        Height and width that all records have; None where they may differ.
    valid : int64 (n, 4) or None
        Top, left, height and width of what is no padding of the recipe's; None where all is valid.
    """

    segments: list[NDArray[Any]]
    numbers: NDArray[np.int64] | None
    starts: NDArray[np.int64]
    heights: NDArray[np.int64]
    widths: NDArray[np.int64]
    channels: int
    edges: Size | None
    valid: NDArray[np.int64] | None

    def __len__(self) -> int:
        return len(self.starts)

    @property
    def dtype(self) -> np.dtype[Any]:
        """Of the pixels."""
        return self.segments[0].dtype

    @property
    def lengths(self) -> NDArray[np.int64]:
        """Elements of each record: int64 (n,)."""
        return self.heights * self.widths * self.channels

    def part(self, rows: slice) -> Located:
        """Return the same of some of the records."""
        return replace(
            self,
            numbers=None if self.numbers is None else self.numbers[rows],
            starts=self.starts[rows],
            heights=self.heights[rows],
            widths=self.widths[rows],
            valid=None if self.valid is None else self.valid[rows],
        )

    def flat(self) -> Iterator[NDArray[Any]]:
        """Yield each record as a flat view."""
        starts = self.starts.tolist()
        ends = (self.starts + self.lengths).tolist()
        if self.numbers is None:
            (segment,) = self.segments
            return (segment[start:end] for start, end in zip(starts, ends, strict=True))
        return (
            self.segments[number][start:end]
            for number, start, end in zip(self.numbers.tolist(), starts, ends, strict=True)
        )

    def views(self) -> Iterator[NDArray[Any]]:
        """Yield each record as a view ``(height, width, channels)``."""
        edges = zip(self.heights.tolist(), self.widths.tolist(), strict=True)
        for flat, (height, width) in zip(self.flat(), edges, strict=True):
            yield flat.reshape(height, width, self.channels)


class Gathered(NamedTuple):
    """Pixels of a batch, and where in them the pictures are.

    ``images`` is one array or a list; ``sizes`` and ``origins`` are int64 (n, 2), the valid part's
    height and width, top and left; ``mask`` bool (n, H, W) or None; ``windows`` int64 (n, 4) or
    None; ``flipped`` bool (n,) or None.
    """

    images: NDArray[Any] | list[NDArray[Any]]
    sizes: NDArray[np.int64]
    origins: NDArray[np.int64]
    mask: NDArray[np.bool_] | None
    windows: NDArray[np.int64] | None
    flipped: NDArray[np.bool_] | None


class _Cut(NamedTuple):
    """What is taken of the records: windows, their sizes, and which are mirrored."""

    windows: NDArray[np.int64] | None
    heights: NDArray[np.int64]
    widths: NDArray[np.int64]
    flipped: NDArray[np.bool_] | None


def gather(
    located: Located,
    shaping: Shaping,
    draws: NDArray[np.float64],
    colour: tuple[int, ...],
    *,
    out: Buffer | None = None,
    threads: int | None = None,
) -> Gathered:
    """Copy records into a batch.

    Parameters
    ----------
    located : Located
    shaping : Shaping
    draws : float64 (n, shaping.draws)
    colour : tuple of int
        Of padding, a number a channel.
    out : array, or callable, optional
        A contiguous array to write into, of the records' dtype and at least as many elements as
        are needed; or what gives one for a number of elements. Where it is None, one array is
        allocated where shapes agree, and nothing is copied where they differ.
    threads : int, optional
        How many share the work; by default as many as help.
    """
    windows = shaping.windows(located.heights, located.widths, draws)
    heights, widths = (
        (located.heights, located.widths) if windows is None else (windows[:, 2], windows[:, 3])
    )
    flipped = shaping.flipped(draws)
    cut = _Cut(windows, heights, widths, flipped)
    size = shaping.resized
    room = size or shaping.room(heights, widths)
    if not len(located) and located.edges is not None and shaping.crop is shaping.pad is None:
        room = located.edges
    if room is None:
        images: NDArray[Any] | list[NDArray[Any]] = _apart(located, cut, out)
        places = np.zeros((len(located), 2), np.int64)
    else:
        images = _buffer(out, (len(located), *room, located.channels), located.dtype)
        if size is not None:
            places = np.zeros((len(located), 2), np.int64)
            _in_parts(
                len(located),
                threads or worker_count(None),
                _Resampled(located, cut, images, shaping),
            )
        else:
            places = shaping.places(heights, widths, room)
            work = _work(located, cut, images, places, colour)
            _in_parts(len(located), threads or 1, work)
    sizes, origins = _valid(located, cut, places, size)
    mask = _mask(images, sizes, origins) if shaping.mask else None
    return Gathered(images, sizes, origins, mask, windows, flipped)


# Where to --------------------------------------------------------------------------------------


def _buffer(
    out: Buffer | None,
    shape: tuple[int, ...],
    dtype: np.dtype[Any],
) -> NDArray[Any]:
    """Return an array of this shape: new, or the beginning of *out*."""
    if out is None:
        return np.empty(shape, dtype)
    needed = math.prod(shape)
    flat = out(needed) if callable(out) else _checked(out, needed, dtype)
    return flat[:needed].reshape(shape)


def _checked(out: NDArray[Any], needed: int, dtype: np.dtype[Any]) -> NDArray[Any]:
    """Return *out* flat; :class:`SettingError` where a batch cannot be written into it."""
    found = getattr(out, "dtype", type(out).__name__)
    if found != dtype:
        raise SettingError(f"out is {found}, and these pictures need a numpy array of {dtype}")
    if not out.flags.c_contiguous or not out.flags.writeable:
        raise SettingError("out is not contiguous, or not writable: pass an array of its own")
    if out.size < needed:
        raise SettingError(
            f"out has {out.size:,} elements, and these {needed:,} need more: allocate it larger, or"
            " ask for fewer rows"
        )
    return out.reshape(-1)


# Copying ---------------------------------------------------------------------------------------


def _apart(located: Located, cut: _Cut, out: Buffer | None) -> list[NDArray[Any]]:
    """Return pictures of several shapes: views of the cache, or copies one after the other."""
    if out is None or not len(located):
        return list(_windowed(located, cut))
    lengths = cut.heights * cut.widths * located.channels
    ends = np.cumsum(lengths)
    arena = _buffer(out, (int(ends[-1]),), located.dtype)
    copies = []
    starts = (ends - lengths).tolist()
    shapes = zip(cut.heights.tolist(), cut.widths.tolist(), strict=True)
    whole = cut.windows is None and cut.flipped is None
    pictures = located.flat() if whole else _windowed(located, cut)
    for picture, start, end, shape in zip(pictures, starts, ends.tolist(), shapes, strict=True):
        copy = arena[start:end]
        if whole:  # as one stretch, which is quicker than as lines of pixels
            copy[:] = picture
        copies.append(copy.reshape(*shape, located.channels))
        if not whole:
            copies[-1][...] = picture
    return copies


def _windowed(located: Located, cut: _Cut) -> Iterator[NDArray[Any]]:
    """Yield what is taken of each record, as a view."""
    views = located.views()
    if cut.windows is not None:
        views = (
            view[top : top + height, left : left + width]
            for view, (top, left, height, width) in zip(views, cut.windows.tolist(), strict=True)
        )
    if cut.flipped is not None:
        views = (
            view[:, ::-1] if mirrored else view
            for view, mirrored in zip(views, cut.flipped.tolist(), strict=True)
        )
    return views


def _work(
    located: Located,
    cut: _Cut,
    images: NDArray[Any],
    places: NDArray[np.int64],
    colour: tuple[int, ...],
) -> Callable[[slice], None]:
    """Return the quickest way to do what is asked for."""
    whole = cut.windows is None and (cut.flipped is None or not cut.flipped.any())
    full = bool((cut.heights == images.shape[1]).all() and (cut.widths == images.shape[2]).all())
    if whole and full:
        return _Alike(located, images)
    return _Placed(located, cut, images, places, colour)


class _Alike:
    """Copies whole records of one shape."""

    def __init__(self, located: Located, images: NDArray[Any]) -> None:
        self.located = located
        self.rows = images.reshape(len(images), math.prod(images.shape[1:]))
        self.table, self.places = _as_table(located, self.rows.shape[1])

    def __call__(self, part: slice) -> None:
        rows = self.rows[part]
        if self.table is not None:
            # One call without Python's lock; "clip" writes into `out` directly, and the rows were
            # looked at before.
            np.take(self.table, self.places[part], axis=0, out=rows, mode="clip")
            return
        for row, flat in zip(rows, self.located.part(part).flat(), strict=True):
            row[:] = flat


def _as_table(located: Located, length: int) -> tuple[NDArray[Any] | None, NDArray[np.int64]]:
    """Return the pixels as rows of *length*, and which rows the records are, if they are rows."""
    places, rest = np.divmod(located.starts, max(1, length))
    if located.numbers is not None or not length or rest.any():
        return None, places
    (segment,) = located.segments
    return segment[: len(segment) // length * length].reshape(-1, length), places


class _Placed:
    """Copies a window of each record to its place, and fills what is round it."""

    def __init__(
        self,
        located: Located,
        cut: _Cut,
        images: NDArray[Any],
        places: NDArray[np.int64],
        colour: tuple[int, ...],
    ) -> None:
        self.located = located
        self.cut = cut
        self.images = images
        self.places = places
        channels = images.shape[3]
        # Rows of elements: the copy's inner loop is then as long as it can be.
        self.lines = images.reshape(*images.shape[:2], images.shape[2] * images.shape[3])
        self.fill: Any = np.tile(np.array(colour, images.dtype), images.shape[2])
        if len(set(colour)) == 1:
            self.fill = colour[0]  # which numpy fills with faster than with a line
        self.channels = channels

    def __call__(self, part: slice) -> None:
        cut = self.cut
        count = len(self.images[part])
        windows = [None] * count if cut.windows is None else cut.windows[part].tolist()
        mirrored = [False] * count if cut.flipped is None else cut.flipped[part].tolist()
        located = self.located.part(part)
        edges = zip(located.heights.tolist(), located.widths.tolist(), strict=True)
        for lines, flat, (height, width), place, window, mirror in zip(
            self.lines[part], located.flat(), edges, self.places[part].tolist(), windows, mirrored,
            strict=True,
        ):  # fmt: skip
            if window is None and not mirror and width == self.images.shape[2]:
                self._stretch(flat, lines.reshape(-1), place[0])
                continue
            source = flat.reshape(height, width * self.channels)
            if window is not None:
                top, left, height, width = window  # noqa: PLW2901  # of the window from here on
                start = left * self.channels
                source = source[top : top + height, start : start + width * self.channels]
            self._copied(source, lines, place, (height, width), mirror=mirror)

    def _stretch(self, flat: NDArray[Any], target: NDArray[Any], top: int) -> None:
        """Copy a picture as wide as the batch, which lies there in one stretch."""
        start = top * self.lines.shape[2]
        end = start + len(flat)
        target[start:end] = flat
        for rest in (target[:start], target[end:]):
            if isinstance(self.fill, int):
                rest[:] = self.fill
            else:
                rest.reshape(-1, len(self.fill))[:] = self.fill

    def _copied(
        self,
        source: NDArray[Any],
        lines: NDArray[Any],
        place: list[int],
        size: tuple[int, int],
        *,
        mirror: bool,
    ) -> None:
        top, left = place
        height, width = size
        start, end = left * self.channels, (left + width) * self.channels
        bottom = top + height
        target = lines[top:bottom, start:end]
        if mirror:
            _mirrored(source, target, width, self.channels)
        else:
            target[...] = source
        fill = self.fill
        if top:
            lines[:top] = fill
        if bottom < len(lines):
            lines[bottom:] = fill
        whole = isinstance(fill, int)
        if start:
            lines[top:bottom, :start] = fill if whole else fill[:start]
        if end < lines.shape[1]:
            lines[top:bottom, end:] = fill if whole else fill[end:]


def _mirrored(source: NDArray[Any], target: NDArray[Any], width: int, channels: int) -> None:
    """Copy lines of pixels from right to left."""
    # A channel at a time, numpy's innermost loop is along the line: four times as fast as pixel by
    # pixel.
    shape = (len(source), width, channels)
    pixels = np.lib.stride_tricks.as_strided(
        source, shape, (source.strides[0], channels * source.itemsize, source.itemsize),
        writeable=False,
    )  # fmt: skip
    mirror = np.lib.stride_tricks.as_strided(
        target, shape, (target.strides[0], channels * target.itemsize, target.itemsize)
    )
    for channel in range(channels):
        mirror[:, :, channel] = pixels[:, ::-1, channel]


class _Resampled:
    """Resamples a window of each record to the size of the batch."""

    def __init__(self, located: Located, cut: _Cut, images: NDArray[Any], shaping: Shaping) -> None:
        self.located = located
        self.cut = cut
        self.images = images
        self.resized = partial(resized, resample=shaping.resample, resampler=shaping.resampler)

    def __call__(self, part: slice) -> None:
        images = self.images[part]
        size = Size(*images.shape[1:3])
        windows = [] if self.cut.windows is None else self.cut.windows[part].tolist()
        flipped = self.cut.flipped
        mirrored = [False] * len(images) if flipped is None else flipped[part].tolist()
        views = self.located.part(part).views()
        for image, view, window, mirror in zip(images, views, windows, mirrored, strict=True):
            self.resized(view, window, size, out=image, mirror=mirror)


# Sharing the work --------------------------------------------------------------------------------


_pools: dict[int, ThreadPoolExecutor] = {}
_pools_lock = threading.Lock()


def _after_fork() -> None:
    """Forget threads that a new process does not have, and a lock that one of them may hold."""
    global _pools_lock  # noqa: PLW0603  # a lock that nobody can release any more
    _pools.clear()
    _pools_lock = threading.Lock()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)


def _in_parts(count: int, threads: int, work: Callable[[slice], None]) -> None:
    """Do *work* for all rows, shared by *threads*."""
    if threads <= 1 or count <= 1:
        work(slice(0, count))
        return
    edges = [count * number // threads for number in range(threads + 1)]
    parts = [slice(start, end) for start, end in pairwise(edges) if start < end]
    futures = [_pool(threads).submit(work, part) for part in parts[1:]]
    work(parts[0])
    for future in futures:
        future.result()


def _pool(threads: int) -> ThreadPoolExecutor:
    """Return threads that stay for the next batch."""
    with _pools_lock:
        if threads not in _pools:
            _pools[threads] = ThreadPoolExecutor(threads, "mmcache-gather")
        return _pools[threads]


# What of it is picture ---------------------------------------------------------------------------


def _valid(
    located: Located, cut: _Cut, places: NDArray[np.int64], size: Size | None
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Return sizes and origins of the valid parts in the batch: int64 (n, 2) each."""
    window = np.stack([cut.heights, cut.widths], axis=1)
    if located.valid is None:
        low, high = np.zeros_like(window), window
    else:
        corner = 0 if cut.windows is None else cut.windows[:, :2]
        low = np.clip(located.valid[:, :2] - corner, 0, window)
        high = np.clip(located.valid[:, :2] + located.valid[:, 2:] - corner, 0, window)
    if cut.flipped is not None:
        mirrored = cut.flipped[:, None] & np.array([False, True])
        low, high = (
            np.where(mirrored, window - high, low),
            np.where(mirrored, window - low, high),
        )
    if size is not None:
        # What a resampled picture's edge lies in is counted as picture.
        low = low * size // window
        high = -(-high * size // window)
    return high - low, low + places


def _mask(
    images: NDArray[Any] | list[NDArray[Any]],
    sizes: NDArray[np.int64],
    origins: NDArray[np.int64],
) -> NDArray[np.bool_]:
    """Return where the pictures are: bool (n, H, W)."""
    if isinstance(images, list):
        raise SettingError(
            'mask=True was asked for, and these pictures differ in shape: pass pad="batch" too'
        )
    inside = []
    for axis in (0, 1):
        along = np.arange(images.shape[1 + axis])
        low = origins[:, axis, None]
        inside.append((along >= low) & (along < low + sizes[:, axis, None]))
    mask: NDArray[np.bool_] = inside[0][:, :, None] & inside[1][:, None, :]
    return mask
