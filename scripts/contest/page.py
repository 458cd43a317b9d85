"""Pages of the docs whose tables a script writes, between two marks."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path

__all__ = ["put_into"]

END = "<!-- end of them -->"


def put_into(page: Path, script: str, text: str) -> None:
    """Put *text* between the marks of *page* that say that the tables of *script* belong there."""
    begin = f"<!-- tables of {script} -->"
    before, found, rest = page.read_text().partition(begin)
    _, end, after = rest.partition(END)
    if not (found and end):
        sys.exit(f"{page} has no lines {begin} and {END}: put them where the tables shall stand")
    page.write_text(f"{before}{begin}\n\n{text}\n{END}{after}")
