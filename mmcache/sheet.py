"""Thumbnails into one picture: a contact sheet of true aspects."""

from __future__ import annotations

import base64
import io
from bisect import bisect_right
from typing import TYPE_CHECKING, Any

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from mmcache.geometry import Size, scaled_size

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from numpy.typing import NDArray

__all__ = ["as_html", "as_image", "contact_sheet"]

_GAP = 8
_LINE = 14
_PAPER, _INK = (255, 255, 255), (40, 40, 40)


def as_image(pixels: NDArray[Any]) -> Image.Image:
    """Return a record as a picture of Pillow's."""
    plain = pixels[:, :, 0] if pixels.shape[2] == 1 else pixels
    return Image.fromarray(plain)


def contact_sheet(
    pictures: Iterable[NDArray[Any]],
    captions: Sequence[str],
    *,
    columns: int = 8,
    edge: int = 128,
) -> Image.Image:
    """Draw *pictures* side by side, none distorted, each over its caption.

    Parameters
    ----------
    pictures : iterable of (height, width, channels) arrays
        One is looked at at a time.
    captions : sequence of str
        As many; a line break begins a second line, and what is too long is cut in the middle.
    columns : int
        Thumbnails in a row.
    edge : int
        The longest edge of a thumbnail in pixels.
    """
    columns = max(1, min(columns, len(captions)))
    lines = max((caption.count("\n") + 1 for caption in captions), default=1)
    cell = Size(edge + lines * _LINE + _GAP, edge + _GAP)
    rows = -(-len(captions) // columns)
    sheet = Image.new("RGB", (columns * cell.width + _GAP, rows * cell.height + _GAP), _PAPER)
    draw = ImageDraw.Draw(sheet)
    font = ImageFont.load_default(size=11)
    for place, (pixels, caption) in enumerate(zip(pictures, captions, strict=True)):
        row, column = divmod(place, columns)
        left, top = column * cell.width + _GAP, row * cell.height + _GAP
        thumbnail = _thumbnail(pixels, edge)
        sheet.paste(
            thumbnail,
            (left + (edge - thumbnail.width) // 2, top + (edge - thumbnail.height) // 2),
            thumbnail.getchannel("A") if thumbnail.mode == "RGBA" else None,
        )
        for number, line in enumerate(caption.split("\n")):
            place_of_line = (left, top + edge + 2 + number * _LINE)
            draw.text(place_of_line, _fitted(line, edge, font), _INK, font)
    return sheet


def _thumbnail(pixels: NDArray[Any], edge: int) -> Image.Image:
    if pixels.dtype == np.uint16:
        pixels = (pixels >> 8).astype(np.uint8)
    image = as_image(pixels)
    size = scaled_size(Size(image.height, image.width), Size(edge, edge), "contain")
    return image.resize((size.width, size.height), Image.Resampling.BILINEAR, reducing_gap=2.0)


def _fitted(line: str, width: int, font: Any) -> str:
    """Return *line*, its middle cut out where it is wider than *width* pixels."""
    if len(line) <= width and font.getlength(line) <= width:
        return line
    # More characters are wider, so that bisection finds how many fit; some of both ends stay.
    most = range(2, min(len(line), width))
    fits = bisect_right(most, width, key=lambda kept: font.getlength(_cut(line, kept)))
    return _cut(line, 1 + max(1, fits))


def _cut(line: str, kept: int) -> str:
    head = kept // 3
    return f"{line[:head]}…{line[len(line) - (kept - head) :]}"


def as_html(sheet: Image.Image) -> str:
    """Return the sheet as one self-contained ``<img>``."""
    encoded = io.BytesIO()
    sheet.save(encoded, "JPEG", quality=80)
    data = base64.b64encode(encoded.getvalue()).decode()
    return f'<img alt="contact sheet" src="data:image/jpeg;base64,{data}">'
