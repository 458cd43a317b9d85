"""All contenders of building by the name of their class."""

from __future__ import annotations

from typing import TYPE_CHECKING

from contest.building import formats, limits, loops, ours

if TYPE_CHECKING:
    from contest.building.writer import Writer

__all__ = ["WRITERS"]

WRITERS: dict[str, type[Writer]] = {
    name: getattr(room, name) for room in (ours, loops, formats, limits) for name in room.__all__
}
"""mmcache, loops written by hand, other people's libraries, and the limits."""
