"""The front end of browsing: one module and one style sheet, which need no build and no network."""

from __future__ import annotations

from importlib import resources

__all__ = ["front_file"]


def front_file(name: str) -> bytes:
    """Return a file of the front end: ``browse.js``, ``browse.css``, ``page.html``, ``page.js``."""
    return resources.files(__name__).joinpath(name).read_bytes()
