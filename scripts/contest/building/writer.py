"""What every contender of building is: it brings photos to size and keeps them in its own way.

Nothing here imports mmcache, since the peers' environments do not have it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar

from contest.entrant import Entrant

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    import numpy as np
    from numpy.typing import NDArray

__all__ = ["Writer", "by_pillow", "fitted", "shrunk"]


class Writer(Entrant):
    """One that turns a folder of photos into a cache. All methods but :meth:`build` may be left.

    Attributes
    ----------
    where : Path
        The folder that it may make and fill; it is not there when :meth:`build` is called.
    """

    environment: ClassVar[str] = "writers"
    kind: ClassVar[str] = "peer"  # or "ours", or "limit" for what throws the pixels away
    cores: ClassVar[int] = 1  # that it keeps busy

    def __init__(self, where: Path) -> None:
        self.where = where

    def prepare(self) -> None:
        """Import what has to be patched first, or see that it can take part at all."""

    def build(self, paths: list[Path], size: int) -> None:
        """Bring the photos into a box of *size* pixels and keep them; files lie in one folder."""
        raise NotImplementedError

    def kept(self, count: int) -> Iterator[NDArray[np.uint8]]:
        """Yield the *count* pictures that are in :attr:`where`, ``(height, width, 3)`` each."""
        return iter(())


def fitted(width: int, height: int, size: int) -> tuple[int, int]:
    """Return width and height within a box of *size* pixels; nothing is enlarged."""
    shrink = min(size / width, size / height, 1.0)
    return max(1, round(width * shrink)), max(1, round(height * shrink))


def by_pillow(path: Any, size: int) -> Any:
    """Do what a page of any tutorial does, and return Pillow's image."""
    from PIL import Image  # noqa: PLC0415  # in every environment that has it

    with Image.open(path) as image:
        return shrunk(image, size)


def shrunk(image: Any, size: int) -> Any:
    """Return Pillow's image in three channels and within a box, by Pillow's bicubic filter."""
    from PIL import Image  # noqa: PLC0415  # in every environment that has it

    return image.convert("RGB").resize(fitted(*image.size, size), Image.Resampling.BICUBIC)
