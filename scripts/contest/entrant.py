"""What is known of everybody who takes part, before anything is imported."""

from __future__ import annotations

from typing import ClassVar

__all__ = ["Entrant", "NotOfferedError"]


class NotOfferedError(Exception):
    """A contender has no way to do what was asked."""


class Entrant:
    """A contender's name, and what it needs to be installed."""

    title: ClassVar[str] = ""
    modules: ClassVar[tuple[str, ...]] = ()  # that it imports
    packages: ClassVar[tuple[str, ...]] = ()  # that bring them
    environment: ClassVar[str] = "peers"  # in which they are installed
