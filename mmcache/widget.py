"""The gallery as a widget of notebooks: JupyterLab, Notebook, VS Code, marimo.

Made by :func:`mmcache.browse`. The front end asks by messages, and gets thumbnails of what is in
view; no trait grows with the cache.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from mmcache.answering import Answers
from mmcache.errors import MissingLibraryError, SettingError
from mmcache.facts import counted
from mmcache.front import front_file
from mmcache.gallery import EDGES, Gallery
from mmcache.records import printable
from mmcache.settings import whole_number

try:
    import anywidget
    import traitlets
except ImportError as error:
    raise MissingLibraryError(
        f'mmcache.widget needs anywidget, pip install "mmcache[notebook]": {error}'
    ) from error

if TYPE_CHECKING:
    from mmcache.cache import Cache

__all__ = ["Widget"]

_HEIGHTS = range(200, 5001)


class Widget(anywidget.AnyWidget):  # type: ignore[misc]  # it may not be installed
    """A cache to scroll through, filter and select from, in the output of a cell.

    Shown twice, it is two views with one selection. It is made by :func:`mmcache.browse`, whose
    parameters and errors are its own.

    Attributes
    ----------
    cache : Cache
        What is browsed.
    """

    _esm = front_file("browse.js").decode()
    _css = front_file("browse.css").decode()
    edge = traitlets.Int(read_only=True).tag(sync=True)
    height = traitlets.Int(read_only=True).tag(sync=True)

    def __init__(self, cache: Cache, *, edge: int = 128, height: int = 600) -> None:
        for name, value, values in (("edge", edge, EDGES), ("height", height, _HEIGHTS)):
            if whole_number(name, value, values.start) > values[-1]:
                raise SettingError(f"{name}={value} is too many pixels: {values[-1]} are the most")
        self.cache = cache
        self._gallery = Gallery(cache)
        self._answers = Answers(self._gallery)
        self.set_trait("edge", int(edge))
        self.set_trait("height", int(height))
        super().__init__()
        self.on_msg(self._hear)

    @property
    def selected(self) -> Cache:
        """What is selected, in the order of the cache: a narrower cache, perhaps an empty one."""
        return self._gallery.narrowed(self._gallery.selected)

    @property
    def filtered(self) -> Cache:
        """The pictures that the filters leave, in the view that was filtered last."""
        return self._gallery.narrowed(self._gallery.filtered(*self._gallery.current))

    def _hear(self, _: Widget, content: Any, __: Any) -> None:
        """Answer a message of a view; its ``id`` tells the view which answer is its own."""
        if not isinstance(content, dict) or not isinstance(content.get("id"), str):
            return
        told, data = self._answers.answer(content.get("message"))
        self.send({"id": content["id"], "json": told}, [data])

    def __repr__(self) -> str:
        name = printable(self.cache.path.name)
        return (
            f"Browser of {counted(len(self.cache), 'picture')} in {name}: it lives in a running"
            " notebook. A sheet of pictures that stays is mmcache.show(cache)"
        )
