"""Figures of shapes: rectangles within each other, and where the corners of pictures lie."""

from __future__ import annotations

import colorsys
from typing import TYPE_CHECKING

import numpy as np
from PIL import Image, ImageDraw, ImageFont

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from numpy.typing import NDArray

__all__ = ["nested"]

_FINE = 2  # drawn so many times larger, and made smaller: Pillow draws no smooth lines
_MARGIN, _LINE, _LEGEND = 44, 18, 300
_LARGEST, _RIMMED, _SMALLEST = 11, 4, 1.8  # radii of bubbles
_LABELS = 6  # that have room at an axis
_PAPER, _INK, _PALE = (255, 255, 255), (40, 40, 40), (225, 225, 225)


def nested(
    seen: NDArray[np.int64],
    shapes: NDArray[np.int64],
    told: Sequence[str],
    *,
    title: str,
    edge: int,
) -> Image.Image:
    """Draw *shapes* as rectangles that share a corner, and where the corners of pictures lie.

    Parameters
    ----------
    seen : int64 (m, 4)
        Height, width, how many pictures have these, and the number of their shape.
    shapes : int64 (k, 2)
        Heights and widths.
    told : sequence of str
        What the legend says of each.
    title : str
    edge : int
        The longer side of the plot in pixels.
    """
    height, width = (int(max(seen[:, axis].max(), shapes[:, axis].max())) for axis in (0, 1))
    scale = edge / max(height, width)
    lines = len(shapes) + 1
    size = (
        round(width * scale) + 2 * _MARGIN + _LEGEND,
        max(round(height * scale) + 2 * _MARGIN, (lines + 2) * _LINE + _MARGIN),
    )
    sheet = Image.new("RGB", (size[0] * _FINE, size[1] * _FINE), _PAPER)
    pen = _Pen(sheet, scale)
    pen.axes(height, width)
    colours = list(_colours(len(shapes)))
    # The large ones first, so that they do not hide the small ones.
    for number in np.argsort(-shapes.prod(axis=1), kind="stable").tolist():
        pen.rectangle(shapes[number], colours[number])
    pen.bubbles(seen, colours)
    pen.legend(width, title, shapes, told, colours)
    return sheet.reduce(_FINE)


def _colours(count: int) -> Iterator[tuple[int, int, int]]:
    """Yield colours of which neighbours differ the most."""
    for number in range(count):
        hue = number * 0.381966  # the golden section: no two come near each other soon
        red, green, blue = colorsys.hls_to_rgb(hue % 1, 0.36 + 0.14 * (number % 3), 0.75)
        yield round(red * 255), round(green * 255), round(blue * 255)


class _Pen:
    """Draws at places in pixels of pictures, which *scale* brings to those of the sheet."""

    def __init__(self, sheet: Image.Image, scale: float) -> None:
        self._draw = ImageDraw.Draw(sheet, "RGBA")
        self._scale = scale * _FINE
        self._origin = _MARGIN * _FINE
        self._font = ImageFont.load_default(size=11 * _FINE)

    def _at(self, edge: float) -> float:
        return self._origin + edge * self._scale

    def _text(self, left: float, top: float, text: str, anchor: str) -> None:
        self._draw.text((left, top), text, _INK, self._font, anchor)

    def axes(self, height: int, width: int) -> None:
        """Draw where round numbers of pixels are: widths above, heights at the left."""
        bottom, right, gap = self._at(height), self._at(width), 6 * _FINE
        for edge in range(0, max(height, width) + 1, _round_step(max(height, width))):
            place = self._at(edge)
            if edge <= width:
                self._draw.line((place, self._origin, place, bottom), _PALE, _FINE)
                self._text(place, self._origin - gap, str(edge), "mb")
            if edge <= height:
                self._draw.line((self._origin, place, right, place), _PALE, _FINE)
                self._text(self._origin - gap, place, str(edge), "rm")
        self._text(right, self._origin - 18 * _FINE, "width", "rb")
        self._text(self._origin, bottom + gap, "height", "mt")

    def rectangle(self, shape: NDArray[np.int64], colour: tuple[int, int, int]) -> None:
        """Draw one of this height and width from the origin."""
        height, width = shape.tolist()
        box = (self._origin, self._origin, self._at(width), self._at(height))
        self._draw.rectangle(box, (*colour, 12), colour, 2 * _FINE)

    def bubbles(self, seen: NDArray[np.int64], colours: list[tuple[int, int, int]]) -> None:
        """Draw one where pictures have their lower right corner, its area by their number."""
        places = np.rint(seen[:, :2] * self._scale / _FINE).astype(np.int64)
        different, which = np.unique(
            np.column_stack([places, seen[:, 3]]), axis=0, return_inverse=True
        )
        rows = np.bincount(which.reshape(-1), seen[:, 2])
        radii = np.maximum(_SMALLEST, _LARGEST * np.sqrt(rows / rows.max())) * _FINE
        for one in np.argsort(-radii, kind="stable").tolist():
            down, right, number = different[one].tolist()
            centre = (self._origin + right * _FINE, self._origin + down * _FINE)
            colour = (*colours[number], 200)
            rim = _PAPER if radii[one] > _RIMMED * _FINE else None
            self._draw.circle(centre, float(radii[one]), colour, rim, _FINE)

    def legend(
        self,
        width: int,
        title: str,
        shapes: NDArray[np.int64],
        told: Sequence[str],
        colours: list[tuple[int, int, int]],
    ) -> None:
        """Draw a line for each shape, beside a plot that is *width* pixels of pictures wide."""
        left, top = self._at(width) + 24 * _FINE, self._origin
        self._text(left, top - 12 * _FINE, title, "lm")
        for number, ((height, wide), text) in enumerate(zip(shapes.tolist(), told, strict=True), 1):
            line = top + number * _LINE * _FINE - 4 * _FINE
            self._draw.circle((left + 5 * _FINE, line), 5 * _FINE, colours[number - 1])
            self._text(left + 16 * _FINE, line, f"{height} x {wide}: {text}", "lm")


def _round_step(longest: int) -> int:
    """Return a round number of which there are about five in *longest*."""
    power = 1
    while longest > _LABELS * 10 * power:
        power *= 10
    return next(step * power for step in (1, 2, 5, 10) if longest <= _LABELS * step * power)
