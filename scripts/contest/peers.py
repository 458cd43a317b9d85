"""All contenders by the name of their class."""

from __future__ import annotations

from typing import TYPE_CHECKING

from contest import bounds, by_hand, formats, ours

if TYPE_CHECKING:
    from contest.peer import Peer

__all__ = ["PEERS"]

PEERS: dict[str, type[Peer]] = {
    name: getattr(room, name) for room in (bounds, ours, by_hand, formats) for name in room.__all__
}
"""Those who may take part: the limits, mmcache, what is written by hand, and other formats."""
