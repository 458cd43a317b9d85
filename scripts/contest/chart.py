"""Bars, as an SVG written by hand."""

from __future__ import annotations

from html import escape
from typing import NamedTuple

__all__ = ["Panel", "drawn"]

WIDTH, LABEL, BAR, GAP = 860, 330, 14, 6  # pixels
OURS, THEIRS, LIMIT = "#1f6f5c", "#9aa5ad", "#d9a441"
STYLE = "font-family:system-ui,sans-serif;font-size:12px"


class Panel(NamedTuple):
    """One set of bars: their names and lengths, longest first."""

    title: str
    unit: str
    bars: list[tuple[str, float]]


def drawn(panels: list[Panel]) -> str:
    """Return an SVG with one panel below the other."""
    parts, top = [], 0
    for panel in panels:
        lines, height = _panel(panel, top)
        parts += lines
        top += height
    background = f'<rect width="{WIDTH}" height="{top}" fill="#ffffff"/>'
    head = f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {top}" style="{STYLE}">'
    return "\n".join([head, background, *parts, "</svg>", ""])


def _panel(panel: Panel, top: int) -> tuple[list[str], int]:
    title = f"{panel.title}, {panel.unit}"
    lines = [f'<text x="10" y="{top + 22}" font-weight="bold">{escape(title)}</text>']
    longest = max((value for _, value in panel.bars), default=0) or 1
    place = top + 34
    for name, value in panel.bars:
        length = max(1.0, (WIDTH - LABEL - 90) * value / longest)
        base = place + BAR - 3
        label = escape(name.replace("`", ""))
        lines += [
            f'<text x="{LABEL - 8}" y="{base}" text-anchor="end">{label}</text>',
            _bar(place, length, _colour(name)),
            f'<text x="{LABEL + length + 6:.1f}" y="{base}">{_figure(value)}</text>',
        ]
        place += BAR + GAP
    return lines, place - top + 10


def _bar(top: int, length: float, colour: str) -> str:
    return f'<rect x="{LABEL}" y="{top}" width="{length:.1f}" height="{BAR}" fill="{colour}"/>'


def _colour(name: str) -> str:
    if name.startswith("mmcache"):
        return OURS
    return LIMIT if name.startswith(("a memory copy", "preadv", "limit")) else THEIRS


def _figure(value: float) -> str:
    return f"{value:,.0f}" if value >= 100 else f"{value:.2g}"  # noqa: PLR2004  # three digits
