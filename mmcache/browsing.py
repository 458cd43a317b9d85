"""The call that browses a cache in a notebook: what that needs is imported when it is called."""

from __future__ import annotations

from typing import TYPE_CHECKING

from mmcache.cache import cache_at

if TYPE_CHECKING:
    import os

    from mmcache.cache import Cache
    from mmcache.widget import Widget

__all__ = ["browse"]


def browse(cache: Cache | str | os.PathLike[str], *, edge: int = 128, height: int = 600) -> Widget:
    """Return a widget that scrolls through a cache, in JupyterLab, Notebook, VS Code and marimo.

    Only the thumbnails in view are read and sent, so that ten million rows open as fast as ten. It
    filters by label, by text of the key and by shape, lists failures, enlarges what is clicked with
    the facts of that record, and lets pictures be selected: ``widget.selected`` is a narrower
    cache of them, and ``widget.filtered`` of what the filters leave. On the command line it is
    ``mmcache browse``.

    >>> widget = mmcache.browse(cache)  # doctest: +SKIP
    >>> widget.selected.keys  # doctest: +SKIP

    Parameters
    ----------
    cache : Cache or path
        Or a narrower cache.
    edge : int
        The longest edge of a thumbnail in pixels, from 16 to 512.
    height : int
        The widget's height in pixels, from 200 to 5000.

    Returns
    -------
    mmcache.widget.Widget

    Raises
    ------
    MissingLibraryError
        (an ``ImportError``) without anywidget: ``pip install "mmcache[notebook]"`` brings it.
    SettingError
        (a ``ValueError``) where a setting makes no sense.
    """
    from mmcache.widget import Widget  # noqa: PLC0415  # anywidget is slow to import

    return Widget(cache_at(cache), edge=edge, height=height)
