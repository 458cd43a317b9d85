"""The snippets of the page docs/forum-answer.md, each as a way through a folder of pictures.

A snippet that stops at the first file that it cannot read would have nothing to be measured. So
each goes on, as if the person had left that file, or that batch, out. Nothing here imports mmcache
but mmcache's own way, since OpenCV's environment does not have it.
"""

from __future__ import annotations

import itertools
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from contest.entrant import Entrant

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from numpy.typing import NDArray

__all__ = ["WAYS", "Came", "Way"]

BATCH = 32

Came = tuple[str, "NDArray[Any] | Exception | None"]
"""A file's name, and its picture, or the error that it raised, or None: left out without a word."""


class Way(Entrant):
    """A way through a folder: :meth:`epoch` yields something for every file, once."""

    environment: ClassVar[str] = "forum"

    def __init__(self, folder: Path, work: Path, size: int) -> None:
        self.paths = sorted(folder.iterdir())
        self.folder, self.work, self.size = folder, work, size

    def first(self) -> Iterator[Came]:
        """Go through all pictures for the first time; what has to be built is built."""
        return self.epoch()

    def epoch(self) -> Iterator[Came]:
        """Go through all pictures once more."""
        raise NotImplementedError


class OpenCv(Way):
    """A generator that reads, resizes to a fixed width and height, and leaves out what is None."""

    title = "1. OpenCV generator"
    modules = ("cv2",)
    packages = ("opencv-python-headless", "numpy")

    def epoch(self) -> Iterator[Came]:
        import cv2  # noqa: PLC0415

        for path in self.paths:
            image = cv2.imread(str(path))
            if image is None:
                yield path.name, None
            else:
                yield path.name, cv2.resize(image, (self.size, self.size))


class OpenCvMended(OpenCv):
    """The same: the aspect kept, no edge of 0, smoothed, red before blue, None an error."""

    title = "1. mended by hand"

    def epoch(self) -> Iterator[Came]:
        import cv2  # noqa: PLC0415

        for path in self.paths:
            image = cv2.imread(str(path))
            if image is None:
                yield path.name, ValueError("OpenCV cannot read it")
                continue
            height, width = image.shape[:2]
            edges = _fitted(width, height, self.size)
            small = cv2.resize(image, edges, interpolation=cv2.INTER_AREA)
            yield path.name, cv2.cvtColor(small, cv2.COLOR_BGR2RGB)


class Pillow(Way):
    """Batches: open, resize by a ratio, append, `np.array` of all of them."""

    title = "2. Pillow batches"
    modules = ("PIL",)

    def epoch(self) -> Iterator[Came]:
        from PIL import Image  # noqa: PLC0415

        for paths in _batches(self.paths):
            batch: Any = []
            try:
                for path in paths:
                    with Image.open(path) as image:
                        ratio = self.size / max(image.size)
                        edges = int(image.width * ratio), int(image.height * ratio)
                        batch.append(np.array(image.resize(edges)))
                batch = np.array(batch)
            except Exception as error:  # noqa: BLE001  # whatever it is, the batch is lost
                batch = [error] * len(paths)
            yield from zip((path.name for path in paths), batch, strict=True)


class PillowMended(Pillow):
    """The same: upright, in three channels, no edge of 0, a list, each picture's error its own."""

    title = "2. mended by hand"

    def epoch(self) -> Iterator[Came]:
        for paths in _batches(self.paths):
            batch = [(path.name, self._picture(path)) for path in paths]
            yield from batch

    def _picture(self, path: Path) -> NDArray[np.uint8] | Exception:
        from PIL import Image, ImageOps  # noqa: PLC0415

        try:
            with Image.open(path) as image:
                upright = ImageOps.exif_transpose(image).convert("RGB")
            return np.array(upright.resize(_fitted(*upright.size, self.size)))
        except Exception as error:  # noqa: BLE001  # Pillow's plugins raise all kinds
            return error


class Memmap(Way):
    """`np.memmap` on the picture's file itself."""

    title = "3. `np.memmap` on the file"

    def epoch(self) -> Iterator[Came]:
        for path in self.paths:
            try:
                image = np.memmap(path, dtype="uint8", mode="r", shape=(self.size, self.size, 3))
            except ValueError as error:
                yield path.name, error
            else:
                yield path.name, np.array(image)  # a mapping that nobody looks at costs nothing


class Mmcache(Way):
    """One build, and a loader."""

    title = "mmcache"
    modules = ("mmcache",)

    def first(self) -> Iterator[Came]:
        import warnings  # noqa: PLC0415

        from measuring import first_time  # noqa: PLC0415  # it imports mmcache

        import mmcache  # noqa: PLC0415

        with warnings.catch_warnings(), first_time():
            warnings.simplefilter("ignore", mmcache.PicturesSkippedWarning)
            cache = mmcache.build(
                self.folder,
                self.work / "photos.mmc",
                size=self.size,
                exist="overwrite",
                progress=False,
            )
        self.failures = cache.failures
        self.loader = mmcache.Loader(cache, BATCH, shuffle=True, seed=1)
        return self.epoch()

    def epoch(self) -> Iterator[Came]:
        for batch in self.loader:
            yield from zip(batch.keys, batch.images, strict=True)
        for failure in self.failures:
            yield failure.key, ValueError(failure.reason)


WAYS: dict[str, type[Way]] = {
    kind.__name__: kind for kind in (OpenCv, OpenCvMended, Pillow, PillowMended, Memmap, Mmcache)
}
"""All ways by the name of their class."""


def _batches(paths: list[Path]) -> Iterator[list[Path]]:
    left = iter(paths)
    while some := list(itertools.islice(left, BATCH)):
        yield some


def _fitted(width: int, height: int, size: int) -> tuple[int, int]:
    """Return width and height in a box of *size* pixels, the aspect kept, no edge of 0."""
    ratio = size / max(width, height)
    return max(1, round(width * ratio)), max(1, round(height * ratio))
