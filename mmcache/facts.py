"""Figures for people: labelled facts and bars, as text for a terminal and HTML for a notebook."""

from __future__ import annotations

from dataclasses import dataclass, field
from html import escape
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

__all__ = ["MOST_LINES", "Facts", "counted", "html_table", "human_bytes"]

_BAR = 40  # characters of the longest bar
MOST_LINES = 10
"""How many things are named one by one."""


def counted(count: int, one: str, many: str = "") -> str:
    """Return a number and its noun.

    >>> counted(1, "picture"), counted(2000, "class", "classes")
    ('1 picture', '2,000 classes')
    """
    return f"{count:,} {one if count == 1 else many or one + 's'}"


def human_bytes(count: int) -> str:
    """Return a number of bytes for people.

    >>> human_bytes(187_300_000_000)
    '187.3 GB'
    """
    value = float(count)
    for unit in ("bytes", "kB", "MB", "GB"):
        if value < 1000:  # noqa: PLR2004  # the step between units
            return f"{value:.1f} {unit}" if unit != "bytes" else f"{count} bytes"
        value /= 1000
    return f"{value:.1f} TB"


@dataclass
class Facts:
    """What something is, ready to be shown.

    Attributes
    ----------
    title : str
    rows : list of (label, value)
    bars : dict
        Of titles to counts by label; one of no labels is left out.
    lines : list of str
        What is worth naming one by one, or as many of the first as are shown: ten.
    count : int, optional
        How many lines there are in all, where ``lines`` has the first of them.
    more : str
        Where the rest of the lines is to be found.
    brief : list of str
        What one line tells in a notebook; the rows are then to be unfolded.
    """

    title: str
    rows: list[tuple[str, str]] = field(default_factory=list)
    bars: dict[str, dict[str, int]] = field(default_factory=dict)
    lines: list[str] = field(default_factory=list)
    count: int | None = None
    more: str = ""
    brief: list[str] = field(default_factory=list)

    def to_text(self) -> str:
        """Return plain text, a line a fact."""
        width = max((len(label) for label, _ in self.rows), default=0)
        text = [self.title, *(f"  {label:<{width}}  {value}" for label, value in self.rows)]
        for title, counts in self.bars.items():
            if counts:
                text += [f"  {title}", *_text_bars(counts)]
        return "\n".join([*text, *(f"  {line}" for line in self._named())])

    def to_html(self, below: str = "") -> str:
        """Return HTML that reads in light and dark themes, everything escaped.

        *below* is HTML that stands below the first line.
        """
        first = " · ".join([f"<b>{escape(self.title)}</b>", *map(escape, self.brief)])
        table = html_table((), self.rows) if self.rows else ""
        if self.brief and table:
            table = f"<details><summary>more</summary>{table}</details>"
        bars = "".join(
            f"<div>{escape(title)}</div><table>{_html_bars(counts)}</table>"
            for title, counts in self.bars.items()
            if counts
        )
        named = "".join(f"<li>{escape(line)}</li>" for line in self._named())
        listed = f"<ul>{named}</ul>" if named else ""
        shown = f"<div>{below}</div>" if below else ""
        return f"<div><div>{first}</div>{shown}{table}{bars}{listed}</div>"

    def _named(self) -> list[str]:
        rest = (self.count or len(self.lines)) - MOST_LINES
        return self.lines[:MOST_LINES] + ([f"... and {rest:,} more{self.more}"] if rest > 0 else [])


def html_table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """Return a table, everything escaped; the first of each row is its name."""
    top = "".join(f'<th style="text-align:left">{escape(one)}</th>' for one in head)
    lines = [f"<tr>{top}</tr>"] if head else []
    for first, *rest in rows:
        cells = "".join(f'<td style="text-align:left">{escape(one)}</td>' for one in rest)
        lines.append(f'<tr><th style="text-align:left">{escape(first)}</th>{cells}</tr>')
    return f"<table>{''.join(lines)}</table>"


def _text_bars(counts: dict[str, int]) -> list[str]:
    most = max(counts.values())
    width = max(len(label) for label in counts)
    return [
        f"    {label:>{width}}  {_blocks(count, most)} {count:,}" for label, count in counts.items()
    ]


def _blocks(count: int, most: int) -> str:
    """Return a bar; one picture is seen beside a million, and none is none."""
    return "█" * max(min(count, 1), round(_BAR * count / most))


def _html_bars(counts: dict[str, int]) -> str:
    most = max(counts.values())
    return "".join(
        f'<tr><td style="text-align:right">{escape(label)}</td><td style="text-align:left">'
        f'<span style="display:inline-block;height:0.8em;background:#5b8def;'
        f'width:{max(min(count, 1), round(240 * count / most))}px"></span> {count:,}</td></tr>'
        for label, count in counts.items()
    )
