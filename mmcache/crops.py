"""Which window of each picture a crop takes: whole batches at once, numbers only, no files.

A window is ``(top, left, height, width)`` in pixels of the picture, int64. Whatever is random comes
in as *draws*, numbers from 0 up to (not including) 1: the same draws give the same windows.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from mmcache.geometry import Size

__all__ = ["DRAWS_AT_RANDOM", "DRAWS_RESIZED", "at_random", "centred", "random_resized"]

_TRIES = 10
DRAWS_AT_RANDOM = 2
"""Draws that :func:`at_random` takes a picture."""
DRAWS_RESIZED = DRAWS_AT_RANDOM + 2 * _TRIES
"""Draws that :func:`random_resized` takes a picture."""


def centred(heights: NDArray[np.int64], widths: NDArray[np.int64], size: Size) -> NDArray[np.int64]:
    """Return the windows of *size* in the middle of pictures: int64 (n, 4).

    An edge that is shorter than what is wanted is kept whole. What cannot be halved leaves the
    smaller part above and to the left.

    >>> from mmcache import Size
    >>> centred(np.array([10, 3]), np.array([21, 3]), Size(4, 4)).tolist()
    [[3, 8, 4, 4], [0, 0, 3, 3]]
    """
    kept = _inside(heights, widths, size)
    return _windows((heights - kept[0]) // 2, (widths - kept[1]) // 2, *kept)


def at_random(
    heights: NDArray[np.int64],
    widths: NDArray[np.int64],
    size: Size,
    draws: NDArray[np.float64],
) -> NDArray[np.int64]:
    """Return windows of *size* anywhere in pictures, each place as likely as another.

    An edge that is shorter than what is wanted is kept whole.

    Parameters
    ----------
    heights, widths : int64 (n,)
        The pictures' edges, from 1 up.
    size : Size
        The height and width that are wanted.
    draws : float64 (n, 2)
        For each picture, where it lies vertically, and horizontally.
    """
    return _placed(heights, widths, *_inside(heights, widths, size), draws)


def random_resized(
    heights: NDArray[np.int64],
    widths: NDArray[np.int64],
    scale: tuple[float, float],
    ratio: tuple[float, float],
    draws: NDArray[np.float64],
) -> NDArray[np.int64]:
    """Return windows of a random size, shape and place, as torchvision's RandomResizedCrop does.

    The window's area is a share of the picture's, uniform in *scale*; its width divided by its
    height is drawn between the ends of *ratio*, uniformly in its logarithm; both edges are rounded,
    half to even. Ten such windows are tried, and the first that fits in the picture is placed in
    it, each place as likely as another. Where none fits, it is the middle of the picture, as large
    as *ratio* allows.

    This is the rule of torchvision's ``RandomResizedCrop.get_params``, and windows are distributed
    as its are, but that they always have a pixel, where its last resort may have none. The place
    is drawn once, and not anew for each try: they are independent.

    Parameters
    ----------
    heights, widths : int64 (n,)
        The pictures' edges, from 1 up.
    scale : (float, float)
        The smallest and the largest share of the area, above 0.
    ratio : (float, float)
        The smallest and the largest ``width / height``, above 0.
    draws : float64 (n, DRAWS_RESIZED)
        For each picture: its place, vertically and horizontally; then for each try the area and
        the ratio.
    """
    place, tries = draws[:, :DRAWS_AT_RANDOM], draws[:, DRAWS_AT_RANDOM:DRAWS_RESIZED]
    tall, wide = heights[:, None], widths[:, None]
    areas = _between(scale[0], scale[1], tries[:, 0::2]) * (tall * wide)
    ratios = np.exp(_between(np.log(ratio[0]), np.log(ratio[1]), tries[:, 1::2]))
    tried_wide = np.rint(np.sqrt(areas * ratios))
    tried_tall = np.rint(np.sqrt(areas / ratios))
    fits = (tried_tall > 0) & (tried_tall <= tall) & (tried_wide > 0) & (tried_wide <= wide)
    first = np.arange(len(heights)), fits.argmax(axis=1)
    drawn = _placed(
        heights,
        widths,
        # What is tried may be beyond int64; what fits is not.
        np.where(fits[first], tried_tall[first], 1).astype(np.int64),
        np.where(fits[first], tried_wide[first], 1).astype(np.int64),
        place,
    )
    return np.where(fits.any(axis=1)[:, None], drawn, _last_resort(heights, widths, ratio))


def _last_resort(
    heights: NDArray[np.int64], widths: NDArray[np.int64], ratio: tuple[float, float]
) -> NDArray[np.int64]:
    """Return the largest windows in the middle whose shapes are not beyond *ratio*."""
    low, high = min(ratio), max(ratio)
    shapes = widths / heights
    kept_tall = np.where(shapes < low, np.maximum(np.rint(widths / low), 1), heights)
    kept_wide = np.where(shapes > high, np.maximum(np.rint(heights * high), 1), widths)
    kept = kept_tall.astype(np.int64), kept_wide.astype(np.int64)
    return _windows((heights - kept[0]) // 2, (widths - kept[1]) // 2, *kept)


def _between(low: float, high: float, draws: NDArray[np.float64]) -> NDArray[np.float64]:
    return low + (high - low) * draws


def _inside(
    heights: NDArray[np.int64], widths: NDArray[np.int64], size: Size
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    return np.minimum(heights, size[0]), np.minimum(widths, size[1])


def _placed(
    heights: NDArray[np.int64],
    widths: NDArray[np.int64],
    kept_tall: NDArray[np.int64],
    kept_wide: NDArray[np.int64],
    draws: NDArray[np.float64],
) -> NDArray[np.int64]:
    """Return windows that lie where *draws* say, of all places where they are inside."""
    # A draw is below 1, and so is what it is of n places below n, in floats too.
    tops = (draws[:, 0] * (heights - kept_tall + 1)).astype(np.int64)
    lefts = (draws[:, 1] * (widths - kept_wide + 1)).astype(np.int64)
    return _windows(tops, lefts, kept_tall, kept_wide)


def _windows(*columns: NDArray[np.int64]) -> NDArray[np.int64]:
    return np.stack(columns, axis=1).astype(np.int64, copy=False)
