"""Photos to build from: some of a folder's, and others as large as a camera's, made from those."""

from __future__ import annotations

import io
import os
import shutil
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from PIL import Image

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

__all__ = ["PhotoSet", "as_from_a_camera", "camera_photos", "repeated", "web_photos"]

ORIENTATION = 0x0112  # EXIF's number for it
GRAIN = 6  # standard deviation, of 255
QUALITY = 90  # of the JPEG files that are made


class PhotoSet(NamedTuple):
    """A folder of JPEG files, what they are, and how large half of them are at most."""

    kind: str
    folder: Path
    height: float
    width: float
    megabytes: float
    names: int = 1
    """How many names each file has."""

    @property
    def told(self) -> str:
        """How many there are and how large, for a title's sentence."""
        size = f"half of them at most {self.height:.0f} x {self.width:.0f}"
        files = f"{len(self.paths) // self.names:,} JPEG files"
        named = f", each under {self.names} names" if self.names > 1 else ""
        return f"{files}{named}, {size}; {self.megabytes:.2f} MB each"

    @property
    def paths(self) -> list[Path]:
        """The files, in the order of their names."""
        return sorted(self.folder.iterdir())


def web_photos(photos: Path, folder: Path, most: int) -> PhotoSet:
    """Copy at most *most* of *photos*, evenly spread.

    They are JPEG files that lie upright and have one colour channel or three: others are turned
    wrong or come out in wrong colours in the loops of tutorials, and could not be compared.
    """
    found = [path for path in sorted(photos.rglob("*")) if path.is_file() and _is_plain(path)]
    folder.mkdir()
    for number, path in enumerate(found[:: max(1, -(-len(found) // most))]):
        shutil.copyfile(path, folder / f"{number:05}.jpg")
    return _described("web photos", folder)


def _is_plain(path: Path) -> bool:
    try:
        with Image.open(path) as image:
            upright = image.getexif().get(ORIENTATION, 1) == 1
            return upright and image.format == "JPEG" and image.mode in ("RGB", "L")
    except OSError:
        return False


def camera_photos(web: PhotoSet, folder: Path, megapixels: float, count: int) -> list[PhotoSet]:
    """Enlarge *count* of *web* to *megapixels*, without grain and with it."""
    edges = round((megapixels * 1e6 * 3 / 4) ** 0.5), round((megapixels * 1e6 * 4 / 3) ** 0.5)
    paths = web.paths[:: max(1, len(web.paths) // count)][:count]
    made = []
    for kind, grain in (("smooth", 0), ("grainy", GRAIN)):
        place = folder / f"{megapixels:g}-{kind}"
        place.mkdir()
        for number, path in enumerate(paths):
            large = as_from_a_camera(path.read_bytes(), number, edges, grain)
            (place / f"{number:05}.jpg").write_bytes(large)
        made.append(_described(f"{kind} photos of {megapixels:g} MP", place))
    return made


def as_from_a_camera(
    encoded: bytes, seed: int, edges: tuple[int, int], grain: float = GRAIN
) -> bytes:
    """Enlarge a picture to *edges*, height and width, and add grain.

    Grain is what makes a camera's JPEG large and slow: without it an enlarged picture is smooth.
    """
    with Image.open(io.BytesIO(encoded)) as image:
        size = (edges[1], edges[0])
        large = image.convert("RGB").resize(size, Image.Resampling.LANCZOS)
    if grain:
        noise = np.random.default_rng(seed).standard_normal((*edges, 1), np.float32) * grain
        grainy = np.clip(np.asarray(large, np.float32) + noise, 0, 255).astype(np.uint8)
        large = Image.fromarray(grainy)
    file = io.BytesIO()
    large.save(file, "JPEG", quality=QUALITY)
    return file.getvalue()


def repeated(photos: PhotoSet, names: int) -> PhotoSet:
    """Give each file *names* names, so that a build of few large photos is a long one.

    What a build costs once would else be shared by a handful of photos.
    """
    folder = photos.folder.with_name(f"{photos.folder.name}-{names}")
    folder.mkdir()
    for number in range(names):
        for path in photos.paths:
            os.link(path, folder / f"{number}-{path.name}")
    return photos._replace(folder=folder, names=names)


def _described(kind: str, folder: Path) -> PhotoSet:
    paths = sorted(folder.iterdir())
    megabytes = sum(path.stat().st_size for path in paths) / len(paths) / 1e6
    height, width = np.median(np.array(list(_sizes(paths))), axis=0).tolist()
    return PhotoSet(kind, folder, height, width, megabytes)


def _sizes(paths: list[Path]) -> Iterator[tuple[int, int]]:
    for path in paths:
        with Image.open(path) as image:
            yield image.height, image.width
