"""Records for the eye: many thumbnails in one JPEG, and one picture at its own size.

Sixteen bits become eight, the numbers of a mask become colours, and what is transparent lies over
checks.
"""

from __future__ import annotations

import io
import math
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from PIL import Image

from mmcache.geometry import Size, scaled_size

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

__all__ = ["Sprite", "as_image", "encoded", "for_eyes", "sprite", "thumbnail"]

_ALIGNED = 16  # pixels of a JPEG that are coded together, so that no thumbnail bleeds into another
_PAPER = (238, 238, 238)
_CHECKS = (232, 252)  # greys of what lies under a transparent picture
_CHECK = 8  # pixels
_LARGEST = 4096  # pixels: the longest edge of one picture that is shown
_LOSSLESS = 1 << 20  # pixels of a picture up to which it is shown as PNG


def as_image(pixels: NDArray[Any]) -> Image.Image:
    """Return a record as a picture of Pillow's."""
    plain = pixels[:, :, 0] if pixels.shape[2] == 1 else pixels
    return Image.fromarray(plain)


class Sprite(NamedTuple):
    """Several thumbnails in one picture.

    Attributes
    ----------
    jpeg : bytes
    boxes : list of (left, top, width, height)
        Where each lies, in pixels.
    """

    jpeg: bytes
    boxes: list[tuple[int, int, int, int]]


def sprite(pictures: Sequence[NDArray[Any]], edge: int, *, masks: bool = False) -> Sprite:
    """Draw thumbnails side by side.

    Each keeps its aspect, and none is enlarged.

    Parameters
    ----------
    pictures : sequence of (height, width, channels) arrays
    edge : int
        The longest edge of a thumbnail in pixels.
    masks : bool
        Whether numbers are of a mask and no brightness.
    """
    cell = -(-edge // _ALIGNED) * _ALIGNED
    columns = max(1, math.isqrt(max(0, len(pictures) - 1)) + 1)
    rows = max(1, -(-len(pictures) // columns))
    paper = Image.new("RGB", (columns * cell, rows * cell), _PAPER)
    boxes = []
    for number, pixels in enumerate(pictures):
        top, left = (part * cell for part in divmod(number, columns))
        drawn = thumbnail(pixels, edge, masks=masks)
        paper.paste(drawn, (left, top))
        boxes.append((left, top, *drawn.size))
    return Sprite(_encoded(paper, "JPEG", quality=82), boxes)


def thumbnail(pixels: NDArray[Any], edge: int, *, masks: bool = False) -> Image.Image:
    """Return a record as an opaque picture, at most *edge* pixels long; none is enlarged."""
    height, width, _ = pixels.shape
    size = scaled_size(Size(height, width), Size(edge, edge), "contain")
    # Of large records most pixels are never touched: of each edge, four that make one are enough.
    sparse = max(1, min(height // size.height, width // size.width) // 4)
    image = for_eyes(pixels[::sparse, ::sparse], masks=masks)
    smaller = min(image.height // size.height, image.width // size.width)
    if smaller > 1:
        image = image.reduce(smaller)
    if image.size != (size.width, size.height):
        image = image.resize((size.width, size.height), Image.Resampling.BILINEAR)
    return image


def for_eyes(pixels: NDArray[Any], *, masks: bool = False) -> Image.Image:
    """Return a record as an opaque picture of eight bits."""
    if pixels.dtype == np.uint16:
        pixels = (pixels >> 8).astype(np.uint8)
    if masks:
        return Image.fromarray(_COLOURS[pixels[:, :, 0]])
    image = as_image(np.ascontiguousarray(pixels))
    if image.mode != "RGBA":
        return image
    checks = _checks(image.height, image.width)
    checks.paste(image, (0, 0), image)
    return checks


def encoded(pixels: NDArray[Any], *, masks: bool = False) -> tuple[str, bytes]:
    """Return one picture at its own size, as its media type and a PNG, or a JPEG if it is large.

    Of one with an edge longer than 4,096 pixels, every second pixel, or third, and so on.
    """
    sparse = -(-max(pixels.shape[:2]) // _LARGEST)
    image = for_eyes(pixels[::sparse, ::sparse], masks=masks)
    if image.height * image.width <= _LOSSLESS:
        return "image/png", _encoded(image, "PNG", compress_level=1)
    return "image/jpeg", _encoded(image, "JPEG", quality=92)


def _encoded(image: Image.Image, form: str, **how: int) -> bytes:
    data = io.BytesIO()
    image.save(data, form, **how)
    return data.getvalue()


def _checks(height: int, width: int) -> Image.Image:
    rows, columns = (np.arange(edge) // _CHECK for edge in (height, width))
    greys = np.array(_CHECKS, np.uint8)[(rows[:, None] + columns) % 2]
    return Image.fromarray(greys).convert("RGB")


def _colours() -> NDArray[np.uint8]:
    """Return a colour for each number of a mask, far from that of the next: uint8 (256, 3)."""
    numbers = np.arange(256)
    hues = (numbers * 0.618034 * 256).astype(np.int64).astype(np.uint8)
    lights = np.array([230, 190, 255, 150], np.uint8)[numbers % 4]
    colours = np.stack([hues, np.full(256, 170, np.uint8), lights], axis=1)
    # Number 0 is what most masks have around their objects.
    colours[0] = 0
    image = Image.fromarray(colours[None], "HSV").convert("RGB")
    return np.asarray(image, np.uint8).reshape(256, 3)


_COLOURS = _colours()
