"""The pixels that every contender writes and is measured with: a cache of npy, read by numpy alone.

Nothing here imports mmcache, since the peers' environments do not have it.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray

__all__ = ["BATCH", "CROP", "Pictures", "shuffled_rows"]

BATCH = 256  # pictures
CROP = 224  # pixels, the edge of random resized crops


class Pictures(Sequence["NDArray[np.uint8]"]):
    """The pictures of a cache as views: ``pictures[i]`` is ``(height, width, channels)`` uint8.

    Attributes
    ----------
    shape : tuple of int, or None
        The shape of every picture; None where they differ.
    labels : int64 (N,)
        Made up: the row by ten, since the photos may have none.
    """

    def __init__(self, cache: Path) -> None:
        self.path = cache / "pixels.npy"
        records = np.load(cache / "records.npy")
        self.offsets: list[int] = records[:, 0].tolist()
        self.shapes: list[tuple[int, int, int]] = [tuple(one) for one in records[:, 1:].tolist()]
        mapped = np.load(self.path, mmap_mode="r")
        self.start = mapped.offset  # of the first pixel in the file, in bytes
        self.flat: NDArray[np.uint8] = mapped.view(np.ndarray).reshape(-1)
        self.shape = self.shapes[0] if len(set(self.shapes)) == 1 else None
        self.labels = np.arange(len(self), dtype=np.int64) // 10

    def __len__(self) -> int:
        return len(self.offsets)

    def __getitem__(self, row: Any) -> Any:
        height, width, channels = self.shapes[row]
        start = self.offsets[row]
        return self.flat[start : start + height * width * channels].reshape(height, width, channels)

    def nbytes(self, row: int) -> int:
        """Return the bytes of one picture."""
        height, width, channels = self.shapes[row]
        return height * width * channels


def shuffled_rows(count: int, passes: int, seed: int) -> list[int]:
    """Return all rows *passes* times, each time in another order."""
    random = np.random.default_rng(seed)
    rows: list[int] = np.concatenate([random.permutation(count) for _ in range(passes)]).tolist()
    return rows
