"""What the pixels of a cache are like: exact means, deviations, histograms; bright and flat ones.

Everything is counted in whole numbers first, so that no order of adding and no number of threads
changes a result.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from fractions import Fraction
from functools import partial
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from mmcache.cache import Cache, cache_at
from mmcache.facts import Facts, counted
from mmcache.progress import Progress, progress_of
from mmcache.sweeping import pictures_of, swept

if TYPE_CHECKING:
    import os

    from numpy.typing import NDArray

    from mmcache.gathering import Located
    from mmcache.recipe import Recipe

__all__ = ["Stats", "Tally", "measured", "stats"]

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
        Of each picture, how far its pixels are from its own mean colour: the root of the mean of
        the variances of the same channels, from 0 (one colour, whichever) to 0.5.
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

    @property
    def code(self) -> str:
        """The call that normalises by these figures, as one would write it."""
        mean, std = (", ".join(f"{one:.4f}" for one in many) for many in (self.mean, self.std))
        comma = "," if len(self.mean) == 1 else ""
        return f"Normalize(mean=({mean}{comma}), std=({std}{comma}))"

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
    SettingError
        (a ``ValueError``) where *workers* is no number of workers.
    DamagedCacheError
        (a ``ValueError``) where a row's place in the file makes no sense, or the file is cut.
    """
    seen = cache_at(cache)
    tally = Tally(seen.recipe, len(seen))
    look = partial(measured, padding=padding)
    with progress_of(progress, "measuring") as show:
        for places, found in swept(seen, look, workers=workers, show=show):
            tally.add(places, found)
    return tally.stats()


class Measured(NamedTuple):
    """What some records are: ``histogram`` of all of them, int64 (C, 256) or (C, 65536).

    ``pixels`` int64 (n,), and ``sums`` and ``squares`` of their numbers, uint64 (n, C), are of
    each.
    """

    histogram: NDArray[np.int64]
    pixels: NDArray[np.int64]
    sums: NDArray[np.uint64]
    squares: NDArray[np.uint64]


def measured(located: Located, *, padding: bool = False) -> Measured:
    """Return what these records are, of which there is one at least."""
    pictures = list(pictures_of(located, padding=padding))
    count = _count_16_bits if located.dtype == np.uint16 else _count_8_bits
    pixels = np.array([picture.shape[0] * picture.shape[1] for picture in pictures], np.int64)
    histogram, sums, squares = count(pictures)
    return Measured(histogram, pixels, sums, squares)


_Counted = tuple["NDArray[np.int64]", "NDArray[np.uint64]", "NDArray[np.uint64]"]
"""Of :class:`Measured`: ``histogram``, ``sums`` and ``squares``."""


def _count_8_bits(pictures: list[NDArray[Any]]) -> _Counted:
    # Imported here so that importing this module does not load Pillow, which counts without
    # Python's lock, and several times as fast as bincount.
    from PIL import Image  # noqa: PLC0415

    listed = [
        Image.fromarray(one if one.shape[2] > 1 else one[..., 0]).histogram() for one in pictures
    ]
    counts = np.array(listed, np.uint64).reshape(len(listed), -1, 256)
    levels = np.arange(256, dtype=np.uint64)
    total: NDArray[np.int64] = counts.sum(axis=0).astype(np.int64)
    return total, counts @ levels, counts @ levels**2


def _count_16_bits(pictures: list[NDArray[Any]]) -> _Counted:
    """Count where there is one channel: the only recipes of 16 bits are grey."""
    total = np.zeros(1 << 16, np.int64)
    moments = np.empty((2, len(pictures), 1), np.uint64)
    for place, picture in enumerate(pictures):
        total += np.bincount(picture.reshape(-1), minlength=1 << 16)
        numbers = picture.reshape(-1).astype(np.uint64)
        # A record has less than 2**32 pixels: nothing overflows.
        moments[:, place, 0] = numbers.sum(), numbers @ numbers
    return total[None], moments[0], moments[1]


class Tally:
    """Adds up what parts of *pictures* pictures are."""

    def __init__(self, recipe: Recipe, pictures: int) -> None:
        self._recipe = recipe
        self._colours = slice(0, recipe.channels - (recipe.mode == "RGBA"))
        self._histogram = np.zeros((recipe.channels, recipe.brightest + 1), np.int64)
        self._brightness = np.empty(pictures, np.float32)
        self._contrast = np.empty(pictures, np.float32)

    def add(self, places: NDArray[np.int64], found: Measured) -> None:
        """Add what was found of the pictures at *places*."""
        self._histogram += found.histogram
        pixels, white = found.pixels[:, None], self._recipe.brightest
        sums, squares = found.sums[:, self._colours], found.squares[:, self._colours]
        means = sums / pixels
        variances = np.maximum(0, squares / pixels - means**2)
        # One colour has none, whatever rounding says. (Integers wrap round; equal stays equal.)
        variances[squares * pixels.astype(np.uint64) == sums**2] = 0
        self._brightness[places] = means.mean(axis=1) / white
        self._contrast[places] = np.sqrt(variances.mean(axis=1)) / white

    def stats(self) -> Stats:
        """Return the figures."""
        for array in (self._histogram, self._brightness, self._contrast):
            array.flags.writeable = False
        return _summed(self._histogram, self._brightness, self._contrast, self._recipe)


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
