"""How near pixels come to what they stand for: PSNR, SSIM, and an exact Lanczos to compare with."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Iterator

    from numpy.typing import NDArray

__all__ = ["lanczos", "psnr", "ssim"]

BLOCK, STEP = 8, 4  # of what SSIM compares, in pixels
STABLE = (0.01 * 255) ** 2, (0.03 * 255) ** 2  # the constants of Wang et al., 2004
LOBES = 3  # of the Lanczos kernel, on each side
AT_ONCE = 16  # rows of the result that are made together


def psnr(one: NDArray[Any], other: NDArray[Any]) -> float:
    """Return the peak signal-to-noise ratio in dB; infinite where the pictures are equal."""
    error = float(np.mean((one.astype(np.float64) - other) ** 2))
    return 10 * float(np.log10(255**2 / error)) if error else float("inf")


def ssim(one: NDArray[np.float64], other: NDArray[np.float64]) -> float:
    """Return the mean structural similarity of two grey pictures, over blocks of 8 x 8 pixels."""
    a, b = (
        np.lib.stride_tricks.sliding_window_view(grey, (BLOCK, BLOCK))[::STEP, ::STEP]
        for grey in (one, other)
    )
    over = (2, 3)
    mean_a, mean_b = a.mean(over), b.mean(over)
    covariance = (a * b).mean(over) - mean_a * mean_b
    light = (2 * mean_a * mean_b + STABLE[0]) / (mean_a**2 + mean_b**2 + STABLE[0])
    contrast = (2 * covariance + STABLE[1]) / (a.var(over) + b.var(over) + STABLE[1])
    return float((light * contrast).mean())


# The reference -----------------------------------------------------------------------------------


def lanczos(picture: NDArray[np.uint8], size: tuple[int, int]) -> NDArray[np.float64]:
    """Resize ``(height, width, channels)`` to *size*, ``(height, width)``, in floats of 64 bits.

    Lanczos with three lobes, widened when shrinking so that every pixel counts, on Pillow's grid;
    each edge's weights add up to 1, and only the result is clipped to 0 to 255.
    """
    height, width, channels = picture.shape
    tall = _along_rows(picture.reshape(height, width * channels), size[0])
    sides = tall.reshape(size[0], width, channels).transpose(1, 0, 2)
    wide = _along_rows(sides.reshape(width, -1), size[1])
    return np.clip(wide.reshape(size[1], size[0], channels).transpose(1, 0, 2), 0, 255)


def _along_rows(rows: NDArray[Any], count: int) -> NDArray[np.float64]:
    """Return *count* rows made of ``(rows, columns)``; few of them at once are turned to floats."""
    out = np.empty((count, rows.shape[1]))
    for first, start, weights in _weights(len(rows), count):
        part = rows[start : start + weights.shape[1]].astype(np.float64)
        np.matmul(weights, part, out=out[first : first + len(weights)])
    return out


def _weights(inside: int, outside: int) -> Iterator[tuple[int, int, NDArray[np.float64]]]:
    """Yield the first row of some, the first row that they are made of, and their weights."""
    scale = inside / outside
    wider = max(scale, 1.0)
    for first in range(0, outside, AT_ONCE):
        centres = (np.arange(first, min(first + AT_ONCE, outside)) + 0.5) * scale
        start = max(0, int(centres[0] - LOBES * wider))
        end = min(inside, int(np.ceil(centres[-1] + LOBES * wider)))
        away = (np.arange(start, end) + 0.5 - centres[:, None]) / wider
        weights = np.where(np.abs(away) < LOBES, np.sinc(away) * np.sinc(away / LOBES), 0.0)
        yield first, start, weights / weights.sum(axis=1, keepdims=True)
