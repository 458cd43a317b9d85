"""Which part of a picture a crop takes. Whole batches at a time."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray


def centred(
    heights: NDArray[np.int64], widths: NDArray[np.int64], size: tuple[int, int]
) -> NDArray[np.int64]:
    h = np.minimum(heights, size[0])
    w = np.minimum(widths, size[1])
    return np.stack([(heights - h) // 2, (widths - w) // 2, h, w], axis=1)


def at_random(
    heights: NDArray[np.int64],
    widths: NDArray[np.int64],
    size: tuple[int, int],
    draws: NDArray[np.float64],
) -> NDArray[np.int64]:
    h = np.minimum(heights, size[0])
    w = np.minimum(widths, size[1])
    top = (draws[:, 0] * (heights - h + 1)).astype(np.int64)
    left = (draws[:, 1] * (widths - w + 1)).astype(np.int64)
    return np.stack([top, left, h, w], axis=1)


def random_resized(
    heights: NDArray[np.int64],
    widths: NDArray[np.int64],
    scale: tuple[float, float],
    ratio: tuple[float, float],
    draws: NDArray[np.float64],
) -> NDArray[np.int64]:
    h, w = np.maximum(1, heights // 2), np.maximum(1, widths // 2)
    return np.stack([heights - h, widths - w, h, w], axis=1)
