"""The command line that contests share."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable

__all__ = ["asked", "parser_of"]


def parser_of(description: str | None, parts: Iterable[str]) -> argparse.ArgumentParser:
    """Return a parser of what can be asked of any contest that has these *parts*."""
    parser = argparse.ArgumentParser(description=(description or "").partition("\n")[0])
    add = parser.add_argument
    add("--photos", type=Path, metavar="FOLDER", help="pictures to measure with (default: painted)")
    add("--painted", type=int, default=200, help="how many to paint where no folder is given")
    add("--peers", action="store_true", help="install the peers below .venv, once")
    add("--only", default=",".join(parts), help="parts, with commas between (default: all)")
    add("--who", default="", help="parts of contenders' names, with commas between (default: all)")
    add("--plot", type=Path, metavar="FILE", help="draw bars into an SVG")
    add("--into", type=Path, metavar="FILE", help="put the tables between the marks of a page")
    return parser


def asked(
    parser: argparse.ArgumentParser, arguments: list[str] | None, parts: Iterable[str]
) -> argparse.Namespace:
    """Read the command line; ``only`` is a list then, of *parts* alone."""
    options = parser.parse_args(arguments)
    options.only = [part for part in options.only.split(",") if part]
    if unknown := set(options.only) - set(parts):
        parser.error(f"no such part: {', '.join(sorted(unknown))}; there are {', '.join(parts)}")
    return options
