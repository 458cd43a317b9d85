"""What the pixels of a cache are like: exact means, deviations, histograms; bright and flat ones.

Everything is counted in whole numbers first, so that no order of adding and no number of threads
changes a result.
"""

from __future__ import annotations

import math
from contextlib import closing
from dataclasses import dataclass
from fractions import Fraction
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from mmcache.cache import Cache, open_cache
from mmcache.errors import SelectionError
from mmcache.facts import Facts, counted
from mmcache.progress import Progress, progress_of
from mmcache.workers import executor_of, results, worker_count

if TYPE_CHECKING:
    import os
    from collections.abc import Iterator

    from numpy.typing import NDArray

    from mmcache.recipe import Recipe

__all__ = ["Stats", "stats"]

_AT_ONCE = 64  # pictures that one thread looks at
_CHANNELS = {
    "RGB": ("red", "green", "blue"),
    "RGBA": ("red", "green", "blue", "alpha"),
    "L": ("grey",),
    "I;16": ("grey",),
    "P": ("number",),
}
_BARS = 8  # of the brightness, when it is printed


@dataclass(frozen=True, eq=False)
class Stats:
    """What the pixels of some pictures are like; prints well, in notebooks too.

    Numbers from 0 to 1 are parts of white: of 255, or of 65535 where records are ``uint16``.

    Attributes
    ----------
    mean, std : tuple of float
        Of each channel over all pixels, from 0 to 1, as ``mmcache.torch.Normalize`` and
        torchvision's ``Normalize`` take them. The deviation is the population's (``ddof=0``).
    minimum, maximum : tuple of int
        Of each channel, as stored.
    histogram : int64 (C, 256) or (C, 65536)
        How many pixels of each channel have each number.
    brightness : float32 (n,)
        Of each picture, the mean of all its channels but alpha, from 0 to 1.
    contrast : float32 (n,)
        Of each picture, the standard deviation of the same numbers, from 0 (flat) to 0.5.
    pictures, pixels : int
        How many were looked at.
    channels : tuple of str
        What the channels are called.
    """

    mean: tuple[float, ...]
    std: tuple[float, ...]
    minimum: tuple[int, ...]
    maximum: tuple[int, ...]
    histogram: NDArray[np.int64]
    brightness: NDArray[np.float32]
    contrast: NDArray[np.float32]
    pictures: int
    pixels: int
    channels: tuple[str, ...]

    def to_json(self) -> dict[str, Any]:
        """Return the figures as JSON; of single pictures there are none."""
        return {
            "pictures": self.pictures,
            "pixels": self.pixels,
            "channels": list(self.channels),
            "mean": list(self.mean),
            "std": list(self.std),
            "minimum": list(self.minimum),
            "maximum": list(self.maximum),
            "histogram": self.histogram.tolist(),
        }

    def facts(self) -> Facts:
        """Return the figures as they are printed."""
        counts, edges = np.histogram(self.brightness, _BARS, (0, 1))
        return Facts(
            title=f"{counted(self.pixels, 'pixel')} of {counted(self.pictures, 'picture')}",
            rows=[
                ("channels", ", ".join(self.channels)),
                ("mean", _numbers(self.mean)),
                ("std", _numbers(self.std)),
                ("from", ", ".join(map(str, self.minimum))),
                ("to", ", ".join(map(str, self.maximum))),
            ],
            bars={
                "pictures by brightness": {
                    f"{low:.3f} to {high:.3f}": int(count)
                    for low, high, count in zip(edges, edges[1:], counts, strict=False)
                }
            },
        )

    def __repr__(self) -> str:
        return self.facts().to_text()

    def _repr_html_(self) -> str:
        return self.facts().to_html()


def _numbers(values: tuple[float, ...]) -> str:
    return ", ".join(f"{value:.4f}" for value in values)


def stats(
    cache: Cache | str | os.PathLike[str],
    *,
    padding: bool = False,
    workers: int | None = None,
    progress: bool | Progress = True,
) -> Stats:
    """Look at every pixel of a cache once, and tell what they are like.

    ``mmcache.torch.Normalize(stats.mean, stats.std)`` brings pictures to a mean of 0 and a
    deviation of 1. Some pictures of many are mostly enough: ``mmcache.stats(cache[::100])``.
    ``cache[np.argsort(stats.brightness)[:24]]`` are the darkest.

    Parameters
    ----------
    cache : Cache or path
        Whole or narrower; memory does not grow with it, but for 8 bytes a picture.
    padding : bool
        Whether what ``resize="pad"`` and ``multiple_of`` filled up counts as well.
    workers : int, optional
        Threads; by default one a core.
    progress : bool or callable
        As for :func:`mmcache.build`.

    Returns
    -------
    Stats
        Exact: means and deviations are made of whole numbers, and rounded once.

    Raises
    ------
    SelectionError
        (a ``TypeError``) where there is no picture.
    """
    seen = cache if isinstance(cache, Cache) else open_cache(cache)
    if not len(seen):
        raise SelectionError("there is no picture in this cache, of which nothing can be told")
    recipe = seen.recipe
    histogram = np.zeros((recipe.channels, recipe.brightest + 1), np.int64)
    brightness = np.zeros(len(seen), np.float32)
    contrast = np.zeros(len(seen), np.float32)
    number = worker_count(workers)
    tasks = (_Some(seen, start, padding) for start in range(0, len(seen), _AT_ONCE))
    done = 0
    with (
        progress_of(progress, "pictures") as show,
        executor_of("threads", number) as pool,
        closing(results(pool, _counted, tasks, number)) as parts,
    ):
        for part in parts:
            here = slice(part.start, part.start + len(part.brightness))
            histogram += part.histogram
            brightness[here], contrast[here] = part.brightness, part.contrast
            done += len(part.brightness)
            show.to(done, len(seen))
    return _summed(histogram, brightness, contrast, recipe)


class _Some(NamedTuple):
    """Some pictures of a cache, from *start* on."""

    cache: Cache
    start: int
    padding: bool


class _Counts(NamedTuple):
    start: int
    histogram: NDArray[np.int64]
    brightness: list[float]
    contrast: list[float]


def _counted(some: _Some) -> _Counts:
    recipe = some.cache.recipe
    colours = recipe.channels - (recipe.mode == "RGBA")
    levels = np.arange(recipe.brightest + 1, dtype=np.float64)
    whole = np.zeros((recipe.channels, recipe.brightest + 1), np.int64)
    brightness, contrast = [], []
    for picture in _pictures(some):
        counts = _histogram(picture, recipe)
        whole += counts
        colour = counts[:colours].sum(axis=0)
        # Sums of whole numbers below 2**53, which a float holds.
        pixels = int(colour.sum())
        mean = float(colour @ levels) / pixels
        brightness.append(mean / recipe.brightest)
        contrast.append(math.sqrt(float(colour @ (levels - mean) ** 2) / pixels) / recipe.brightest)
    return _Counts(some.start, whole, brightness, contrast)


def _pictures(some: _Some) -> Iterator[NDArray[Any]]:
    """Yield each record, or that part of it which is no padding."""
    cache = some.cache
    batch = cache.batch(range(some.start, min(some.start + _AT_ONCE, len(cache))), threads=1)
    if some.padding:
        yield from batch.images
        return
    for record, (top, left), (height, width) in zip(
        batch.images, batch.origins.tolist(), batch.sizes.tolist(), strict=True
    ):
        yield record[top : top + height, left : left + width]


def _histogram(picture: NDArray[Any], recipe: Recipe) -> NDArray[np.int64]:
    """Count the numbers of each channel: int64 (C, 256 or 65536)."""
    if picture.dtype == np.uint8 and recipe.mode in ("RGB", "RGBA", "L"):
        # Imported here so that importing this module does not load Pillow, which counts without
        # Python's lock, and several times as fast as bincount.
        from PIL import Image  # noqa: PLC0415

        image = Image.fromarray(picture if recipe.channels > 1 else picture[..., 0])
        return np.array(image.histogram(), np.int64).reshape(recipe.channels, -1)
    levels = recipe.brightest + 1
    return np.stack([
        np.bincount(picture[..., channel].reshape(-1), minlength=levels)
        for channel in range(recipe.channels)
    ])  # fmt: skip


def _summed(
    histogram: NDArray[np.int64],
    brightness: NDArray[np.float32],
    contrast: NDArray[np.float32],
    recipe: Recipe,
) -> Stats:
    spread = [_spread(counts.tolist(), recipe.brightest) for counts in histogram]
    there = [np.flatnonzero(counts) for counts in histogram]
    return Stats(
        mean=tuple(mean for mean, _ in spread),
        std=tuple(std for _, std in spread),
        minimum=tuple(int(levels[0]) for levels in there),
        maximum=tuple(int(levels[-1]) for levels in there),
        histogram=histogram,
        brightness=brightness,
        contrast=contrast,
        pictures=len(brightness),
        pixels=int(histogram[0].sum()),
        channels=_CHANNELS[recipe.mode],
    )


def _spread(counts: list[int], white: int) -> tuple[float, float]:
    """Return mean and standard deviation of numbers, by how often each occurs."""
    pixels = sum(counts)
    first = sum(level * count for level, count in enumerate(counts))
    second = sum(level * level * count for level, count in enumerate(counts))
    mean = Fraction(first, pixels)
    variance = Fraction(second, pixels) - mean * mean
    return float(mean / white), math.sqrt(variance / (white * white))
