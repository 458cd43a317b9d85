"""Thumbnails into one picture: a contact sheet of true aspects."""

from __future__ import annotations

import base64
import io
from html import escape
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from PIL import Image, ImageDraw, features

from mmcache.errors import MmcacheError
from mmcache.geometry import Size
from mmcache.lettering import fitted, font_for
from mmcache.records import printable
from mmcache.thumbnails import thumbnail

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from numpy.typing import NDArray

    from mmcache.records import Strings

__all__ = [
    "OVERVIEW",
    "Section",
    "as_html",
    "captions_of",
    "contact_sheet",
    "evenly",
    "overview",
    "sections_sheet",
]

_GAP = 8
_LINE = 14  # pixels of a line of text
_LETTERS, _HEADING = 11, 14  # pixels that letters are high
_HEAD = _HEADING + _GAP  # pixels of a heading's line
_PAPER, _INK = (255, 255, 255), (40, 40, 40)
_CLEAR = (255, 255, 255, 0)
_GREY = (118, 118, 118, 255)  # as far from white as from black: its contrast to each is 4.5
_MOST_BYTES = 140_000  # of a picture within a page: base64 makes 187 kB of them
_QUALITIES = (80, 60, 40, 20, 5)


class Section(NamedTuple):
    """Pictures that stand together on a sheet.

    Attributes
    ----------
    heading : str
        The line above them, if it is not empty.
    pictures : iterable of (height, width, channels) arrays
        One is looked at at a time.
    captions : sequence of str
        As many; a line break begins a second line, and what is too long is cut in the middle.
    """

    heading: str
    pictures: Iterable[NDArray[Any]]
    captions: Sequence[str]


def contact_sheet(
    pictures: Iterable[NDArray[Any]], captions: Sequence[str], **how: Any
) -> Image.Image:
    """Draw *pictures* as :func:`sections_sheet` does, without a heading."""
    return sections_sheet([Section("", pictures, captions)], **how)


def sections_sheet(
    sections: Sequence[Section],
    *,
    columns: int = 8,
    edge: int = 128,
    masks: bool = False,
    clear: bool = False,
) -> Image.Image:
    """Draw pictures side by side, none distorted or enlarged, each over its caption.

    Parameters
    ----------
    sections : sequence of Section
        One below the other.
    columns : int
        Thumbnails in a row.
    edge : int
        The longest edge of a thumbnail in pixels.
    masks : bool
        Whether the pictures are masks, whose numbers become colours.
    clear : bool
        Whether the paper is transparent, and the ink a grey that reads on light and on dark; else
        the paper is white.
    """
    page = _Page(sections, columns, edge, clear=clear)
    for section in sections:
        page.head(section.heading)
        for pixels, caption in zip(section.pictures, section.captions, strict=True):
            page.add(thumbnail(pixels, edge, masks=masks), caption)
        page.end()
    return page.image


class _Page:
    """A sheet that is filled from top to bottom."""

    def __init__(
        self, sections: Sequence[Section], columns: int, edge: int, *, clear: bool
    ) -> None:
        captions = [caption for section in sections for caption in section.captions]
        lines = max((caption.count("\n") + 1 for caption in captions), default=1)
        most = max((len(section.captions) for section in sections), default=0)
        self.columns, self.edge = max(1, min(columns, most)), edge
        self.cell = Size(edge + lines * _LINE + _GAP, edge + _GAP)
        self.ink = _GREY if clear else _INK
        self.font = font_for(captions, _LETTERS)
        headings = [section.heading for section in sections]
        self.large = font_for(headings, _HEADING)
        rows = sum(-(-len(section.captions) // self.columns) for section in sections)
        height = rows * self.cell.height + _GAP + _HEAD * sum(map(bool, headings))
        size = (self.columns * self.cell.width + _GAP, height)
        self.image = Image.new("RGBA", size, _CLEAR) if clear else Image.new("RGB", size, _PAPER)
        self.draw = ImageDraw.Draw(self.image)
        self.top, self.column = _GAP, 0

    def head(self, heading: str) -> None:
        """Write a heading, if there is one."""
        if heading:
            line = fitted(heading, self.image.width - 2 * _GAP, self.large)
            self.draw.text((_GAP, self.top), line, self.ink, self.large)
            self.top += _HEAD

    def add(self, picture: Image.Image, caption: str) -> None:
        """Draw the next picture of the row, or the first of the next one."""
        if self.column == self.columns:
            self.end()
        left = _GAP + self.column * self.cell.width
        self.image.paste(
            picture,
            (left + (self.edge - picture.width) // 2, self.top + (self.edge - picture.height) // 2),
        )
        for number, line in enumerate(caption.split("\n")):
            place = (left, self.top + self.edge + 2 + number * _LINE)
            self.draw.text(place, fitted(line, self.edge, self.font), self.ink, self.font)
        self.column += 1

    def end(self) -> None:
        """End a row, if one has begun."""
        if self.column:
            self.top, self.column = self.top + self.cell.height, 0


# What is drawn, and what is written below it ---------------------------------------------------


def evenly(count: int, most: int) -> NDArray[np.int64]:
    """Return at most *most* positions of *count*, evenly chosen, the first and the last among them.

    >>> evenly(3, 8).tolist(), evenly(101, 5).tolist()
    ([0, 1, 2], [0, 25, 50, 75, 100])
    """
    few = min(count, most)
    if few <= 1:
        return np.arange(few)
    return np.arange(few) * (count - 1) // (few - 1)


def captions_of(
    keys: Strings, labels: NDArray[np.int64] | None = None, classes: Sequence[str] = ()
) -> list[str]:
    """Return the file's name of each key, and its label on a second line where there are labels."""
    captions = [printable(key).rpartition("/")[2] for key in keys]
    if labels is None:
        return captions
    named = dict(enumerate(map(printable, classes)))
    return [
        f"{caption}\n{named.get(label, str(label) if label >= 0 else '-')}"
        for caption, label in zip(captions, np.asarray(labels).tolist(), strict=True)
    ]


# Within a page of HTML -------------------------------------------------------------


OVERVIEW = 24
"""How many pictures an overview has."""


def overview(
    pictures: Iterable[NDArray[Any]], captions: Sequence[str], *, masks: bool = False
) -> str:
    """Return a small sheet for a notebook, dark or light, as an ``<img>``; "" without pictures.

    Where a picture cannot be read any more, as that of a file that was cut, a sentence says so.
    """
    if not captions:
        return ""
    try:
        sheet = contact_sheet(pictures, captions, edge=96, masks=masks, clear=True)
    except MmcacheError as error:
        return escape(f"no picture: {error}")
    return as_html(sheet, "; ".join(caption.replace("\n", ", ") for caption in captions))


def as_html(sheet: Image.Image, alt: str = "contact sheet") -> str:
    """Return the sheet as one self-contained ``<img>`` of less than 200 kB, if it has 2 megapixels.

    A clear sheet stays one, as WebP; another is a JPEG.

    Parameters
    ----------
    sheet : PIL.Image.Image
    alt : str
        What it shows, for who cannot see it.
    """
    form = "WEBP" if sheet.mode == "RGBA" and features.check("webp") else "JPEG"
    if sheet.mode == "RGBA" and form == "JPEG":  # a Pillow without WebP
        paper = Image.new("RGB", sheet.size, _PAPER)
        paper.paste(sheet, (0, 0), sheet)
        sheet = paper
    data = base64.b64encode(_small(sheet, form)).decode()
    return (
        f'<img alt="{escape(alt)}" style="max-width:100%"'
        f' src="data:image/{form.lower()};base64,{data}">'
    )


def _small(sheet: Image.Image, form: str) -> bytes:
    """Return the sheet encoded, as well as the room allows."""
    how = {"method": 2} if form == "WEBP" else {}
    for quality in _QUALITIES:
        encoded = io.BytesIO()
        sheet.save(encoded, form, quality=quality, **how)
        if encoded.tell() <= _MOST_BYTES:
            break
    return encoded.getvalue()
