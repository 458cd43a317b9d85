"""Messages of the front end and their answers: looked at, answered, whoever brings them.

:mod:`mmcache.widget` and :mod:`mmcache.serving` carry them; ``front/browse.js`` asks.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from mmcache.errors import MmcacheError, RowError, SettingError
from mmcache.facts import counted
from mmcache.gallery import EDGES, Filter
from mmcache.records import printable, to_bytes

if TYPE_CHECKING:
    from mmcache.gallery import Gallery

__all__ = ["Answer", "Answers"]

_MOST = 256  # rows, failures or ranges of one message
_LONGEST_TEXT = 1000  # bytes that keys are searched for
_LARGEST = 1 << 53  # the largest whole number of JavaScript

Answer = tuple[dict[str, Any], bytes]
"""Plain data, and bytes that go with it."""


class Answers:
    """Answers messages about *gallery*; from many threads, if need be.

    A message is plain data with a member ``ask``. Where it has a ``filter``, with members of
    :class:`~mmcache.gallery.Filter`, its positions count the pictures that are wanted:

    | ask | with | is answered by |
    |---|---|---|
    | outline | | what there is to choose from |
    | filter | filter | ``count``; it is the current filter from then on |
    | cells | filter, start, stop, edge | ``cells``, and their thumbnails as one JPEG |
    | details | filter, position | the facts of one picture, its media type ``type``, and it |
    | find | filter, place | ``position`` of a row, or of the next one; whether it is ``exact`` |
    | select | filter, ranges, how | nothing; see :meth:`~mmcache.gallery.Gallery.select` |
    | marked | filter, start, stop | ``marked``: which are selected |
    | copy | as | the selection as text: ``"rows"`` or ``"keys"`` |
    | failures | filter, start, stop | ``count``, and ``failures``: key, stage, reason |

    Every answer tells the ``selection``: how often it was changed, and how many it has.
    """

    def __init__(self, gallery: Gallery) -> None:
        self._gallery = gallery

    def answer(self, message: Any) -> Answer:
        """Answer one message of the front end: plain data, and bytes that go with it.

        Whatever comes is answered: what makes no sense by ``{"error": sentence}``.
        """
        try:
            told, data = self._answered(message)
        except MmcacheError as error:
            return {"error": printable(str(error))}, b""
        except Exception as error:  # noqa: BLE001  # a person at a browser sees no traceback
            why = f"that could not be answered: {type(error).__name__}: {error}"
            return {"error": printable(why)}, b""
        return told | {"selection": self._gallery.selection}, data

    def _answered(self, message: Any) -> Answer:
        if not isinstance(message, dict):
            raise SettingError("a message is an object with what it asks")
        asked = _Message(message)
        answers = {
            "outline": self._tell_outline,
            "filter": self._tell_filter,
            "cells": self._tell_cells,
            "details": self._tell_details,
            "find": self._tell_find,
            "select": self._tell_select,
            "marked": self._tell_marked,
            "copy": self._tell_copy,
            "failures": self._tell_failures,
        }
        kind = message.get("ask")
        if not isinstance(kind, str) or kind not in answers:
            raise SettingError(f"there is no answer to {str(kind)[:40]!r}")
        return answers[kind](asked)

    def _tell_outline(self, _: _Message) -> Answer:
        return self._gallery.outline(), b""

    def _tell_filter(self, asked: _Message) -> Answer:
        wanted = asked.filter()
        count = self._gallery.count(wanted)
        self._gallery.current = wanted
        return {"count": count}, b""

    def _tell_cells(self, asked: _Message) -> Answer:
        start, stop = asked.stretch(_MOST)
        places = self._gallery.places(asked.filter(), start, stop)
        cells, jpeg = self._gallery.cells(places, asked.whole("edge", EDGES.start, EDGES.stop - 1))
        return {"cells": cells}, jpeg

    def _tell_details(self, asked: _Message) -> Answer:
        number = asked.whole("position")
        places = self._gallery.places(asked.filter(), number, number + 1)
        if not len(places):
            raise RowError(f"there is no picture number {number} among those shown")
        place = int(places[0])
        kind, data = self._gallery.picture(place)
        return self._gallery.details(place) | {"type": kind}, data

    def _tell_find(self, asked: _Message) -> Answer:
        """Tell at which position among the wanted ones a row is, or the next one after it."""
        place, marks = asked.whole("place"), self._gallery.marks(asked.filter())
        if place >= len(self._gallery.cache):
            raise RowError(
                f"row {place:,} was asked for, and there are {len(self._gallery.cache):,}"
            )
        position = place if marks is None else marks.below(place)
        return {"position": position, "exact": marks is None or place in marks}, b""

    def _tell_select(self, asked: _Message) -> Answer:
        how = asked.said.get("how")
        if how not in ("add", "drop", "only"):
            raise SettingError("a selection adds, drops, or is the only one")
        self._gallery.select(asked.filter(), asked.ranges(), how)
        return {}, b""

    def _tell_marked(self, asked: _Message) -> Answer:
        places = self._gallery.places(asked.filter(), *asked.stretch(_MOST))
        return {"marked": self._gallery.marked(places).tolist()}, b""

    def _tell_copy(self, asked: _Message) -> Answer:
        keys = asked.said.get("as") == "keys"
        return {}, (
            self._gallery.selected_keys() if keys else self._gallery.selected_rows()
        ).encode()

    def _tell_failures(self, asked: _Message) -> Answer:
        start, stop = asked.stretch(_MOST)
        text = asked.filter().text
        return {
            "count": self._gallery.count_failures(text),
            "failures": self._gallery.failures(text, start, stop),
        }, b""


class _Message:
    """A message that may come from anybody: each value is looked at before it is used."""

    def __init__(self, said: dict[str, Any]) -> None:
        self.said = said

    def whole(self, name: str, least: int = 0, most: int = _LARGEST) -> int:
        """Return a whole number."""
        return _whole(name, self.said.get(name), least, most)

    def stretch(self, most: int) -> tuple[int, int]:
        """Return *start* and *stop*, so many apart at most."""
        start, stop = self.whole("start"), self.whole("stop")
        if not 0 <= stop - start <= most:
            raise SettingError(f"{counted(most, 'row')} can be asked for at once, from low to high")
        return start, stop

    def ranges(self) -> list[tuple[int, int]]:
        """Return some (start, stop)."""
        given = self.said.get("ranges")
        if not isinstance(given, list) or len(given) > _MOST:
            raise SettingError(f"ranges are a list of {_MOST} at most")
        return [_two("ranges", one) for one in given]

    def filter(self) -> Filter:
        """Return which pictures are wanted."""
        given = self.said.get("filter") or {}
        if not isinstance(given, dict):
            raise SettingError("a filter is an object of label, text and shape")
        label, text, shape = (given.get(name) for name in Filter._fields)
        if not isinstance(text or "", str) or len(to_bytes(text or "")) > _LONGEST_TEXT:
            raise SettingError(f"text is text, of {_LONGEST_TEXT} bytes at most")
        return Filter(
            None if label is None else _whole("label", label, -1, _LARGEST),
            text or "",
            None if shape is None else _two("shape", shape),
        )


def _whole(name: str, value: Any, least: int, most: int) -> int:
    if not isinstance(value, int) or isinstance(value, bool) or not least <= value <= most:
        raise SettingError(f"{name} is no whole number from {least} to {most}")
    return value


def _two(name: str, value: Any) -> tuple[int, int]:
    if not isinstance(value, list) or len(value) != 2:  # noqa: PLR2004  # two
        raise SettingError(f"{name} is two whole numbers")
    return _whole(name, value[0], 0, _LARGEST), _whole(name, value[1], 0, _LARGEST)
