"""Pictures in a terminal: as it draws them itself where it can, else as coloured half blocks.

What is asked for is decided by the environment alone: asking a terminal and waiting for its answer
hangs where there is none.
"""

from __future__ import annotations

import base64
import io
import unicodedata
from itertools import islice
from typing import TYPE_CHECKING, Any

import numpy as np

from mmcache.sheet import evenly
from mmcache.thumbnails import thumbnail

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence

    from numpy.typing import NDArray
    from PIL import Image

    from mmcache.sheet import Section

__all__ = ["BLOCKS", "blocks", "in_blocks", "inline", "way_to_draw"]

BLOCKS = ("colours", "palette")
"""Ways to draw of a terminal that knows no pictures: any colour, or 256 of them."""

_WIDE = 24  # columns of a thumbnail, about
_GAP = 2  # columns between thumbnails
_MOST_GROUPS = 8
_CHUNK = 4096  # characters of a kitty message
_CUBE = np.array([0, 95, 135, 175, 215, 255])  # lights of the 6 x 6 x 6 colours that xterm has
_RESET = "\x1b[0m"


def way_to_draw(environ: Mapping[str, str], encoding: str | None) -> str | None:
    """Return how the terminal that *environ* tells of draws a picture, or None.

    ``"kitty"`` and ``"iterm"`` are protocols for pictures (of kitty, Ghostty, WezTerm, iTerm2),
    ``"colours"`` and ``"palette"`` draw blocks of 24 bits and of 256 colours.

    >>> way_to_draw({"TERM": "xterm-256color", "COLORTERM": "truecolor"}, "utf-8")
    'colours'
    """
    term, program = environ.get("TERM", ""), environ.get("TERM_PROGRAM", "")
    if environ.get("NO_COLOR") or term == "dumb":
        return None
    nested = term.startswith(("screen", "tmux")) or "TMUX" in environ  # which pass none on
    if not nested and (term in {"xterm-kitty", "xterm-ghostty"} or program == "ghostty"):
        return "kitty"
    if not nested and program in {"iTerm.app", "WezTerm"}:
        return "iterm"
    try:
        "▀…".encode(encoding or "ascii")
    except (UnicodeEncodeError, LookupError):
        return None
    if environ.get("COLORTERM") in {"truecolor", "24bit"} or "WT_SESSION" in environ:
        return "colours"
    return "palette" if "256color" in term else None


# Terminals that know pictures --------------------------------------------------------------------


def inline(picture: Image.Image, way: str, columns: int) -> str:
    """Return a picture, *columns* wide, as kitty or iTerm2 is told it.

    Sources: the kitty graphics protocol; iTerm2's inline images protocol.
    """
    encoded = io.BytesIO()
    picture.save(encoded, "PNG", compress_level=1)
    data = base64.b64encode(encoded.getvalue()).decode()
    if way == "iterm":
        size = len(encoded.getvalue())
        return f"\x1b]1337;File=inline=1;size={size};width={columns}:{data}\a\n"
    parts = [data[start : start + _CHUNK] for start in range(0, len(data), _CHUNK)]
    last = len(parts) - 1
    return (
        "".join(
            f"\x1b_G{f'a=T,f=100,c={columns},' if not number else ''}m={int(number < last)};{part}"
            "\x1b\\"
            for number, part in enumerate(parts)
        )
        + "\n"
    )


# Half blocks -------------------------------------------------------------------------------------


def in_blocks(
    sections: Sequence[Section], way: str, *, columns: int, lines: int, masks: bool = False
) -> str:
    """Return a small sheet of blocks: as many thumbnails of each section as fit, over captions.

    Parameters
    ----------
    sections : sequence of Section
        Whose pictures can be indexed.
    way : {"colours", "palette"}
    columns, lines : int
        Of the terminal.
    masks : bool
        Whether the pictures are masks, whose numbers become colours.
    """
    across = max(1, columns // (_WIDE + _GAP))
    edge = max(1, columns // across - _GAP)
    grouped = any(one.heading for one in sections)
    down = 1 if grouped else max(1, (lines - 2) // (edge // 2 + 3))
    text: list[str] = []
    for section in islice(sections, _MOST_GROUPS):
        few = evenly(len(section.captions), across * down).tolist()
        if section.heading:
            text.append(section.heading[:columns])
        for start in range(0, len(few), across):
            row = few[start : start + across]
            cells = [_cell(section, one, edge, way, masks=masks) for one in row]
            text += _beside(cells, edge)
    return "".join(f"{line}\n" for line in text)


def _cell(section: Section, place: int, edge: int, way: str, *, masks: bool) -> list[str]:
    """Return the lines of a thumbnail and its caption, *edge* columns wide."""
    pictures: Any = section.pictures
    drawn = thumbnail(pictures[place], edge, masks=masks).convert("RGB")
    room = edge - drawn.width
    left, right = " " * (room // 2), " " * (room - room // 2)
    lines = [f"{left}{line}{right}" for line in blocks(np.asarray(drawn), way)]
    return lines + [_padded(line, edge) for line in section.captions[place].split("\n")]


def _beside(cells: Sequence[list[str]], edge: int) -> Iterator[str]:
    """Yield the lines of cells side by side, their captions at one height."""
    high = max(map(len, cells))
    filled = [[" " * edge] * (high - len(cell)) + cell for cell in cells]
    for parts in zip(*filled, strict=True):
        yield (" " * _GAP).join(parts).rstrip()


def blocks(pixels: NDArray[np.uint8], way: str) -> list[str]:
    """Return a line for every two rows of *pixels*, uint8 (height, width, 3).

    A block's upper half has the colour of its letters, and its lower half that of its background.
    Below the last of an odd number of rows nothing is drawn.
    """
    told = _codes(pixels, way)
    return [
        _line(told[top], told[top + 1] if top + 1 < len(told) else None)
        for top in range(0, len(told), 2)
    ]


def _line(upper: Sequence[str], lower: Sequence[str] | None) -> str:
    if lower is None:
        return "".join(f"\x1b[38;{one}m▀" for one in upper) + _RESET
    pairs = zip(upper, lower, strict=True)
    return "".join(f"\x1b[38;{one};48;{other}m▀" for one, other in pairs) + _RESET


def _codes(pixels: NDArray[np.uint8], way: str) -> list[list[str]]:
    """Return what the terminal calls the colour of each pixel."""
    if way == "colours":
        return [[f"2;{red};{green};{blue}" for red, green, blue in row] for row in pixels.tolist()]
    nearest = np.abs(pixels[..., None].astype(np.int64) - _CUBE).argmin(axis=-1)
    numbers = 16 + nearest @ np.array([36, 6, 1])
    return [[f"5;{number}" for number in row] for row in numbers.tolist()]


def _padded(text: str, width: int) -> str:
    """Return *text* filled up to *width* columns, or its middle cut out where it is wider."""
    kept = len(text)
    shown = text
    while _columns(shown) > width and kept:
        kept -= 1
        head = kept // 3
        shown = f"{text[:head]}…{text[len(text) - (kept - head) :]}"
    return shown + " " * (width - _columns(shown))


def _columns(text: Iterable[str]) -> int:
    """Return how many columns letters take: those of East Asia two, and what combines none."""
    return sum(
        0 if unicodedata.combining(letter) else 1 + (unicodedata.east_asian_width(letter) in "WF")
        for letter in text
    )
