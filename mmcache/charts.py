"""Figures as SVG within a page: bars and curves, in the colours of the page. Arrays in, text out.

Nothing is drawn by a script, and everything said in words is escaped.
"""

from __future__ import annotations

from html import escape
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import ArrayLike, NDArray

__all__ = ["bars", "curves", "histogram"]

_WIDTH, _HEIGHT = 360, 120  # of the plot, in units of the figure
_ABOVE, _BELOW = 14, 18  # room for what is said above and below


def histogram(
    counts: ArrayLike, ticks: Sequence[tuple[float, str]], *, title: str, told: Sequence[str] = ()
) -> str:
    """Return bars side by side.

    Parameters
    ----------
    counts : (n,) int
    ticks : sequence of (float, str)
        What is said below, and where: 0 is the left end and n the right one.
    title : str
    told : sequence of str
        What each bar shows when a mouse rests on it; by default its count.
    """
    heights = np.asarray(counts, np.int64)
    most = max(1, int(heights.max()))
    step = _WIDTH / len(heights)
    drawn = []
    for place, count in enumerate(heights.tolist()):
        if not count:
            continue
        tall = max(1.0, _HEIGHT * count / most)  # one picture is seen beside a million
        said = f"{told[place]}: {count:,}" if told else f"{count:,}"
        drawn.append(
            f'<rect x="{place * step:.1f}" y="{_ABOVE + _HEIGHT - tall:.1f}"'
            f' width="{max(1.0, step - 1):.1f}" height="{tall:.1f}">'
            f"<title>{escape(said)}</title></rect>"
        )
    body = f'<g class="bars">{"".join(drawn)}</g>'
    return _figure(body, [(at * step, text) for at, text in ticks], title, f"at most {most:,}")


def curves(
    counts: NDArray[np.int64],
    classes: Sequence[str],
    ticks: Sequence[tuple[float, str]],
    *,
    title: str,
) -> str:
    """Return an area for each row of *counts*, int (k, n), drawn by the style of its class.

    The ends, which may be as high as white paper makes them, do not press down the rest.
    """
    inner = counts[:, 1:-1] if counts.shape[1] > 2 else counts  # noqa: PLR2004  # without ends
    most = max(1, int(inner.max()))
    step = _WIDTH / (counts.shape[1] - 1)
    body = ""
    for row, kind in zip(counts.tolist(), classes, strict=True):
        points = " ".join(
            f"{place * step:.1f},{_ABOVE + _HEIGHT * (1 - min(1.0, count / most)):.1f}"
            for place, count in enumerate(row)
        )
        low = _ABOVE + _HEIGHT
        body += f'<polygon class="curve {escape(kind)}" points="0,{low} {points} {_WIDTH},{low}"/>'
    return _figure(body, [(at * step, text) for at, text in ticks], title, "")


def _figure(body: str, ticks: Sequence[tuple[float, str]], title: str, note: str) -> str:
    low = _ABOVE + _HEIGHT
    said = "".join(
        f'<text x="{at:.1f}" y="{low + 14}" text-anchor="{_anchor(at)}">{escape(text)}</text>'
        for at, text in ticks
    )
    if note:
        said += f'<text x="{_WIDTH}" y="10" text-anchor="end">{escape(note)}</text>'
    return (
        f'<figure class="chart"><figcaption>{escape(title)}</figcaption>'
        f'<svg viewBox="0 0 {_WIDTH} {low + _BELOW}" role="img" aria-label="{escape(title)}">'
        f'{body}<line x1="0" x2="{_WIDTH}" y1="{low}" y2="{low}"/>{said}</svg></figure>'
    )


def _anchor(at: float) -> str:
    """Return how a text at this place stays within the figure."""
    return "start" if at < 1 else "end" if at > _WIDTH - 1 else "middle"


def bars(counts: Sequence[tuple[str, int]]) -> str:
    """Return a table of names, bars and counts, all of one scale."""
    most = max((count for _, count in counts), default=1) or 1
    rows = "".join(
        f"<tr><th>{escape(name)}</th><td><span class=bar"
        f' style="width:{100 * count / most:.1f}%"></span></td><td class=number>{count:,}</td></tr>'
        for name, count in counts
    )
    return f'<table class="counts">{rows}</table>'
