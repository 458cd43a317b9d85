"""Painted pictures: of any size, the same for the same seed, so that no test needs photos."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from PIL import Image
from PIL.ExifTags import Base

from mmcache.geometry import Size

if TYPE_CHECKING:
    import os
    from collections.abc import Iterator

__all__ = ["CLASSES", "paint", "paint_folder", "painted_sizes", "save"]

CLASSES = ("circles", "stripes", "waves")


def paint(size: Size, seed: int = 0, mode: str = "RGB") -> Image.Image:
    """Paint a picture: smooth waves, hard edges, a little grain; the same for the same seed."""
    random = np.random.default_rng(seed)
    y, x = np.mgrid[0 : size.height, 0 : size.width].astype(np.float32)
    y, x = y / max(size), x / max(size)
    layers = []
    for _ in range(3):
        fy, fx, phase = random.uniform(2, 14), random.uniform(2, 14), random.uniform(0, 6)
        layers.append(127 + 90 * np.sin(fy * y + fx * x + phase))
    pixels = np.stack(layers, axis=-1)
    middle = random.uniform(0.2, 0.8, 2) * (size.height / max(size), size.width / max(size))
    disc = (y - middle[0]) ** 2 + (x - middle[1]) ** 2 < random.uniform(0.01, 0.05)
    pixels[disc] = random.uniform(0, 255, 3)
    pixels += random.normal(0, 4, pixels.shape)
    image = Image.fromarray(np.clip(pixels, 0, 255).astype(np.uint8))
    return image if mode == "RGB" else image.convert(mode)


def save(image: Image.Image, path: Path, orientation: int = 1, **options: Any) -> None:
    """Save *image*, with an EXIF orientation where it is not 1."""
    if orientation != 1:
        exif = Image.Exif()
        exif[Base.Orientation] = orientation
        options["exif"] = exif
    image.save(path, **options)


def painted_sizes(count: int, seed: int = 0, longest: int = 640) -> Iterator[Size]:
    """Yield sizes with aspects from 1:4 to 6:1, the extremes first."""
    random = np.random.default_rng(seed)
    for number in range(count):
        aspect = (0.25, 6.0)[number] if number < 2 else float(np.exp(random.normal(0.2, 0.45)))  # noqa: PLR2004
        aspect = min(max(aspect, 0.25), 6.0)
        edge = int(random.integers(longest // 3, longest + 1))
        yield Size(round(edge / max(aspect, 1)), round(edge * min(aspect, 1)))


def paint_folder(
    folder: str | os.PathLike[str],
    count: int = 24,
    *,
    seed: int = 0,
    longest: int = 640,
    classes: bool = True,
) -> Path:
    """Paint *count* pictures into *folder*: JPEG and PNG, all EXIF orientations, class folders.

    Returns
    -------
    pathlib.Path
        *folder*.
    """
    whole = Path(folder)
    for number, size in enumerate(painted_sizes(count, seed, longest)):
        place = whole / CLASSES[number % len(CLASSES)] if classes else whole
        place.mkdir(parents=True, exist_ok=True)
        orientation = 1 + number // 2 % 8 if number % 2 else 1
        image = paint(size, seed * 100_003 + number, "L" if number % 11 == 10 else "RGB")  # noqa: PLR2004
        if number % 4 == 3:  # noqa: PLR2004
            save(image, place / f"{number:05}.png", orientation, compress_level=1)
        else:
            save(image, place / f"{number:05}.jpg", orientation, quality=90)
    return whole
