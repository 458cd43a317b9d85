"""Letters in pictures: a font that has them, and lines cut to a width."""

from __future__ import annotations

from bisect import bisect_right
from functools import cache
from typing import TYPE_CHECKING, Any

from PIL import ImageFont

if TYPE_CHECKING:
    from collections.abc import Iterable

__all__ = ["fitted", "font_for"]

_FONTS = (
    "DejaVuSans.ttf",
    "NotoSans-Regular.ttf",
    "NotoSansCJK-Regular.ttc",
    "wqy-zenhei.ttc",
    "Arial Unicode.ttf",
    "PingFang.ttc",
    "arial.ttf",
    "msyh.ttc",
    "malgun.ttf",
)
"""Of Linux, macOS and Windows, asked for where Pillow's own font lacks a letter."""

_NO_LETTER = "\U0010ffff"  # no font has it: each shows the box of what it lacks
_MOST_LETTERS = 500  # that are looked for


def font_for(texts: Iterable[str], size: int) -> Any:
    """Return the font, *size* pixels high, that lacks the fewest letters of *texts*.

    It is Pillow's own where that has them all, which has few but those of English. Others are
    searched for in the system's folders.
    """
    own = ImageFont.load_default(size=size)
    strange = sorted({letter for text in texts if not text.isascii() for letter in text})
    if not isinstance(own, ImageFont.FreeTypeFont) or not _lacking(own, strange):
        return own
    others = (font for name in _FONTS if (font := _font(name, size)) is not None)
    return min([own, *others], key=lambda font: _lacking(font, strange))


def _lacking(font: ImageFont.FreeTypeFont, letters: list[str]) -> int:
    """Count the letters that a font has no shape for."""
    box = bytes(font.getmask(_NO_LETTER))
    return sum(bytes(font.getmask(letter)) == box for letter in letters[:_MOST_LETTERS])


@cache
def _font(name: str, size: int) -> ImageFont.FreeTypeFont | None:
    try:
        return ImageFont.truetype(name, size)
    except OSError:
        return None


def fitted(line: str, width: int, font: Any) -> str:
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
