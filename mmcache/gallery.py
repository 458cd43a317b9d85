"""What one who browses a cache asks for: which rows, thumbnails of rows, the facts of one.

Knows no notebook and no web page: :mod:`mmcache.widget` and :mod:`mmcache.serving` bring its
answers to the same front end. Of ten million rows, the filters and the selection are a bit a row.
"""

from __future__ import annotations

import io
import threading
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from PIL import Image

from mmcache.errors import DamagedCacheError, MmcacheError, RowError, SettingError
from mmcache.explaining import explain
from mmcache.facts import counted
from mmcache.geometry import Size, scaled_size
from mmcache.marks import Marks
from mmcache.records import HEIGHT, WIDTH, printable, to_bytes
from mmcache.sheet import as_image

if TYPE_CHECKING:
    from collections.abc import Iterable

    from numpy.typing import NDArray

    from mmcache.batches import Rows
    from mmcache.cache import Cache
    from mmcache.records import Strings

__all__ = ["EDGES", "Filter", "Gallery", "Sprite", "holding"]

EDGES = range(16, 513)
"""A thumbnail's longest edge in pixels."""

_MOST_CELLS = 256  # thumbnails of one message
_MOST_NAMES = 20_000  # classes that a list offers
_MOST_SHAPES = 24
_MOST_COPIED = 100_000  # rows whose keys are given as text
_MOST_RUNS = 100_000  # parts of a list of rows
_MOST_FAILURES = 200  # of one message
_LONGEST_TEXT = 1000  # bytes of a key that are searched for
_LARGEST = 4096  # pixels: the longest edge of one picture that is shown
_LOSSLESS = 1 << 20  # pixels of a picture up to which it is shown as PNG
_KEPT = 4  # filters whose marks are kept
_SPAN = 1 << 14  # keys that are searched at once: what they take stays close to the processor
_SAMPLED = 64  # stretches of records that are looked at for the common shapes
_ALIGNED = 16  # pixels of a JPEG that are coded together, so that no thumbnail bleeds into another
_PAPER = (238, 238, 238)
_CHECKS = (232, 252)  # greys of what lies under a transparent picture
_CHECK = 8  # pixels


class Filter(NamedTuple):
    """Which pictures are wanted; by default all.

    Attributes
    ----------
    label : int or None
        A position in ``classes``, or -1 for those without a label.
    text : str
        What their keys hold; of ASCII letters, large and small are the same.
    shape : (int, int) or None
        Height and width of their records.
    """

    label: int | None = None
    text: str = ""
    shape: tuple[int, int] | None = None


class Sprite(NamedTuple):
    """Several thumbnails in one picture.

    Attributes
    ----------
    jpeg : bytes
    boxes : list of (left, top, width, height)
        Where each lies, in pixels.
    """

    jpeg: bytes
    boxes: list[tuple[int, int, int, int]]


class Gallery:
    """A cache to be looked at, with what was selected of it; it may be asked from many threads.

    A *place* is a position in *cache*, which may be a narrower one. Nothing grows with the number
    of rows but the marks of the last filters and of the selection, which are a bit a row.

    Parameters
    ----------
    cache : Cache
    """

    def __init__(self, cache: Cache) -> None:
        self.cache = cache
        self.current = Filter()
        self._selected: Marks | None = None
        self._changes = 0
        self._marks: dict[tuple[Filter, bool], Marks] = {}
        self._lock = threading.Lock()

    # Which rows ------------------------------------------------------------------------------

    def filtered(
        self, label: int | None = None, text: str = "", shape: tuple[int, int] | None = None
    ) -> Rows:
        """Return the places of the pictures that are wanted: a range, or int64 (n,).

        See :class:`Filter`. :class:`SettingError` where there are no labels, and one is wanted.
        """
        marks = self.marks(Filter(label, text, shape))
        return range(len(self.cache)) if marks is None else marks.rows()

    def marks(self, wanted: Filter) -> Marks | None:
        """Mark the places of the pictures that are wanted; None for all of them."""
        if wanted == Filter():
            return None
        return self._kept(wanted, failures=False)

    def failed(self, text: str = "") -> Marks | None:
        """Mark the failures whose keys hold *text*; None for all of them."""
        return self._kept(Filter(text=text), failures=True) if text else None

    def _kept(self, wanted: Filter, *, failures: bool) -> Marks:
        with self._lock:
            if (found := self._marks.get((wanted, failures))) is not None:
                return found
            if failures:
                keys = self.cache.failures.keys
                found = _marks_of_text(keys, wanted.text)
            else:
                found = self._found(wanted)
            while len(self._marks) >= _KEPT:
                del self._marks[next(iter(self._marks))]
            self._marks[wanted, failures] = found
            return found

    def _found(self, wanted: Filter) -> Marks:
        found = [] if not wanted.text else [_marks_of_text(self.cache.keys, wanted.text)]
        if wanted.label is not None:
            found.append(self._of_label(wanted.label))
        if wanted.shape is not None:
            found.append(self._of_shape(*wanted.shape))
        first, *others = found
        for other in others:
            first &= other
        return first

    def _of_label(self, label: int) -> Marks:
        if "labels" not in self.cache.files:
            raise SettingError(f"label {label} was asked for, and {self.cache.path} has no labels")
        labels, rows = self.cache.files.array("labels"), self.cache.rows
        return Marks.where(len(rows), lambda a, b: labels[_at(rows, a, b)] == label)

    def _of_shape(self, height: int, width: int) -> Marks:
        records, rows = self.cache.files.array("records"), self.cache.rows

        def alike(start: int, stop: int) -> NDArray[np.bool_]:
            part = records[_at(rows, start, stop)]
            same: NDArray[np.bool_] = (part[:, HEIGHT] == height) & (part[:, WIDTH] == width)
            return same

        return Marks.where(len(rows), alike)

    def places(self, wanted: Filter, start: int, stop: int) -> NDArray[np.int64]:
        """Return the places of the wanted pictures number *start* to *stop*: int64 (n,)."""
        marks = self.marks(wanted)
        if marks is None:
            return np.arange(start, min(stop, len(self.cache)), dtype=np.int64)
        return marks.numbers(start, stop)

    def count(self, wanted: Filter) -> int:
        """Return how many pictures are wanted."""
        marks = self.marks(wanted)
        return len(self.cache) if marks is None else len(marks)

    def common_shapes(self) -> list[tuple[int, int]]:
        """Return heights and widths of records, the commonest first, of a sample of them."""
        if not len(self.cache):
            return []
        length = max(1, len(self.cache) // _SAMPLED)
        starts = range(0, len(self.cache), length)
        # Stretches of rows, for rows here and there would touch every page of the index.
        parts = [self.cache[start : start + min(length, 1024)].shapes for start in starts]
        edges = np.concatenate(parts)[:, :2]
        shapes, counts = np.unique(edges, axis=0, return_counts=True)
        order = np.argsort(-counts, kind="stable")[:_MOST_SHAPES]
        return [(height, width) for height, width in shapes[order].tolist()]

    # What is selected ------------------------------------------------------------------------

    @property
    def selected(self) -> Rows:
        """The places that are selected, in order: a range, or int64 (n,)."""
        return range(0) if self._selected is None else self._selected.rows()

    def select(self, wanted: Filter, ranges: Iterable[tuple[int, int]], how: str = "add") -> None:
        """Select pictures, or no longer.

        Parameters
        ----------
        wanted : Filter
        ranges : list of (start, stop)
            Of the wanted pictures: numbers 3 to 7, say, of those.
        how : {"add", "drop", "only"}
            Select them, too; no longer; or them alone.
        """
        marks, length = self.marks(wanted), len(self.cache)
        meant = Marks.none(length)
        for start, stop in ranges:
            if marks is None:
                meant |= Marks.between(length, start, stop)
            elif start < min(stop, len(marks)):
                stop = min(stop, len(marks))
                first = int(marks.numbers(start, start + 1)[0])
                last = int(marks.numbers(stop - 1, stop)[0])
                meant |= Marks.between(length, first, last + 1) & marks
        with self._lock:
            before = self._selected or Marks.none(length)
            after = {"add": before | meant, "drop": before - meant, "only": meant}[how]
            self._selected = after if len(after) else None
            self._changes += 1

    def selected_rows(self) -> str:
        """Return the selected places as a list that Python reads: ``[3, 5, *range(8, 100)]``."""
        runs = [] if self._selected is None else self._runs(self._selected)
        parts = [
            f"*range({start}, {stop})" if stop - start > 3 else ", ".join(map(str, range(start, stop)))  # noqa: E501, PLR2004
            for start, stop in runs
        ]
        return f"[{', '.join(parts)}]"

    def _runs(self, marks: Marks) -> list[tuple[int, int]]:
        rows = marks.rows()
        if isinstance(rows, range):
            return [(rows.start, rows.stop)]
        runs = marks.runs(_MOST_RUNS + 1)
        if len(runs) > _MOST_RUNS:
            raise SettingError(
                f"a list of these {len(marks):,} rows is too long to be copied: in a notebook,"
                " widget.selected is a cache of them"
            )
        return runs

    def selected_keys(self) -> str:
        """Return the keys of what is selected, a line each; what does not print is escaped."""
        count = 0 if self._selected is None else len(self._selected)
        if count > _MOST_COPIED:
            raise SettingError(
                f"{count:,} keys are too many to be copied: of {_MOST_COPIED:,} at most, or copy"
                " the rows"
            )
        keys = self.cache[np.asarray(self.selected, np.int64)].keys
        return "\n".join(printable(keys.raw(place)) for place in range(len(keys)))

    # How they look ---------------------------------------------------------------------------

    def sprite(self, places: NDArray[np.int64] | list[int], edge: int) -> Sprite:
        """Draw the pictures at *places* as thumbnails, side by side in one JPEG.

        Each keeps its aspect and none is enlarged; one that is transparent lies over checks. *edge*
        is the longest edge of a thumbnail in pixels.
        """
        cell = -(-edge // _ALIGNED) * _ALIGNED
        columns = max(1, int(np.ceil(np.sqrt(len(places)))))
        rows = max(1, -(-len(places) // columns))
        paper = Image.new("RGB", (columns * cell, rows * cell), _PAPER)
        boxes = []
        for number, place in enumerate(places):
            top, left = (part * cell for part in divmod(number, columns))
            thumbnail = self._thumbnail(int(place), edge)
            paper.paste(thumbnail, (left, top))
            boxes.append((left, top, *thumbnail.size))
        return Sprite(_encoded(paper, "JPEG", quality=82), boxes)

    def _thumbnail(self, place: int, edge: int) -> Image.Image:
        pixels = self.cache[place]
        height, width, _ = pixels.shape
        size = scaled_size(Size(height, width), Size(edge, edge), "contain")
        # Of large records most pixels are never touched: four of each edge's make one are enough.
        sparse = max(1, min(height // size.height, width // size.width) // 4)
        image = self._opaque(pixels[::sparse, ::sparse])
        smaller = min(image.height // size.height, image.width // size.width)
        if smaller > 1:
            image = image.reduce(smaller)
        if image.size != (size.width, size.height):
            image = image.resize((size.width, size.height), Image.Resampling.BILINEAR)
        return image

    def _opaque(self, pixels: NDArray[Any]) -> Image.Image:
        """Return a record for the eye: of eight bits, numbers as colours, checks underneath."""
        if pixels.dtype == np.uint16:
            pixels = (pixels >> 8).astype(np.uint8)
        if self.cache.recipe.mode == "P":
            return Image.fromarray(_COLOURS[pixels[:, :, 0]])
        image = as_image(np.ascontiguousarray(pixels))
        if image.mode != "RGBA":
            return image
        checks = _checks(image.height, image.width)
        checks.paste(image, (0, 0), image)
        return checks

    def picture(self, place: int) -> tuple[str, bytes]:
        """Return one picture at its own size, as its media type and a PNG or JPEG.

        Of an edge longer than 4,096 pixels, only every second one, or third one, and so on.
        """
        pixels = self.cache[place]
        sparse = -(-max(pixels.shape[:2]) // _LARGEST)
        image = self._opaque(pixels[::sparse, ::sparse])
        if image.height * image.width <= _LOSSLESS:
            return "image/png", _encoded(image, "PNG", compress_level=1)
        return "image/jpeg", _encoded(image, "JPEG", quality=92)

    # What they are ---------------------------------------------------------------------------

    def outline(self) -> dict[str, Any]:
        """Return what there is to choose from, as plain data."""
        cache = self.cache
        labelled = "labels" in cache.files
        return {
            "title": printable(cache.path.name),
            "total": len(cache),
            "labelled": labelled,
            "classes": [printable(name) for name in cache.classes[:_MOST_NAMES]],
            "shapes": self.common_shapes(),
            "failures": len(cache.failures),
        }

    def cells(self, places: NDArray[np.int64], edge: int) -> tuple[list[dict[str, Any]], bytes]:
        """Return what a grid shows of the pictures at *places*, and their sprite."""
        part = self.cache[places]
        labels = part.labels
        sprite = self.sprite(places, edge)
        marked = np.zeros(len(places), bool)
        if self._selected is not None:
            marked = self._selected.has(places)
        cells = [
            {
                "place": place,
                "key": printable(part.keys.raw(number)),
                "label": None if labels is None else int(labels[number]),
                "box": sprite.boxes[number],
                "selected": bool(marked[number]),
            }
            for number, place in enumerate(places.tolist())
        ]
        return cells, sprite.jpeg

    def details(self, place: int) -> dict[str, Any]:
        """Return the facts of one picture, as plain data: lines of (what, value)."""
        rows = self.cache.rows
        if not 0 <= place < len(rows):
            raise RowError(f"row {place} was asked for, and there are {len(rows)}")
        part = self.cache[[place]]
        labels = part.labels
        facts = explain(self.cache, place).facts()
        told = [(what, value) for what, value in facts.rows if what != "row"]
        told.insert(0, ("row", f"{place:,}"))
        if rows[place] != place:
            told.insert(1, ("row of the file", f"{rows[place]:,}"))
        if labels is not None:
            told.insert(1, ("label", self._named(int(labels[0]))))
        return {
            "place": place,
            "key": facts.title,
            "label": None if labels is None else int(labels[0]),
            "facts": told,
            "selected": self._selected is not None and place in self._selected,
        }

    def _named(self, label: int) -> str:
        known = 0 <= label < len(self.cache.classes)
        return f"{printable(self.cache.classes[label])} ({label})" if known else "none"

    def failures(self, text: str, start: int, stop: int) -> list[tuple[str, str, str]]:
        """Return key, stage and reason of failures, number *start* to *stop* of those wanted."""
        failures, marks = self.cache.failures, self.failed(text)
        if marks is None:
            numbers = list(range(start, min(stop, len(failures))))
        else:
            numbers = marks.numbers(start, stop).tolist()
        return [
            (printable(failures.keys.raw(number)), one.stage, printable(one.reason))
            for number in numbers
            for one in [failures[number]]
        ]

    # What a front end says and hears -----------------------------------------------------------

    def answer(self, message: Any) -> tuple[dict[str, Any], bytes]:
        """Answer one message of the front end: plain data, and bytes that go with it.

        Whatever comes is answered: what makes no sense by ``{"error": sentence}``.
        """
        try:
            told, data = self._answered(message)
        except MmcacheError as error:
            return {"error": str(error)}, b""
        except Exception as error:  # noqa: BLE001  # a person at a browser sees no traceback
            return {"error": f"that could not be answered: {type(error).__name__}: {error}"}, b""
        count = 0 if self._selected is None else len(self._selected)
        return told | {"selection": [self._changes, count]}, data

    def _answered(self, message: Any) -> tuple[dict[str, Any], bytes]:
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
            "copy": self._tell_copy,
            "failures": self._tell_failures,
        }
        kind = message.get("ask")
        if not isinstance(kind, str) or kind not in answers:
            raise SettingError(f"there is no answer to {str(kind)[:40]!r}")
        return answers[kind](asked)

    def _tell_outline(self, _: _Message) -> tuple[dict[str, Any], bytes]:
        return self.outline(), b""

    def _tell_filter(self, asked: _Message) -> tuple[dict[str, Any], bytes]:
        wanted = asked.filter()
        count = self.count(wanted)
        self.current = wanted
        return {"count": count}, b""

    def _tell_cells(self, asked: _Message) -> tuple[dict[str, Any], bytes]:
        start, stop = asked.stretch(_MOST_CELLS)
        places = self.places(asked.filter(), start, stop)
        cells, jpeg = self.cells(places, asked.whole("edge", EDGES.start, EDGES.stop - 1))
        return {"cells": cells}, jpeg

    def _tell_details(self, asked: _Message) -> tuple[dict[str, Any], bytes]:
        number = asked.whole("position")
        places = self.places(asked.filter(), number, number + 1)
        if not len(places):
            raise RowError(f"there is no picture number {number} among those shown")
        place = int(places[0])
        kind, data = self.picture(place)
        return self.details(place) | {"type": kind}, data

    def _tell_find(self, asked: _Message) -> tuple[dict[str, Any], bytes]:
        """Tell at which position among the wanted ones a row is, or the next one after it."""
        place, marks = asked.whole("place"), self.marks(asked.filter())
        if place >= len(self.cache):
            raise RowError(f"row {place:,} was asked for, and there are {len(self.cache):,}")
        position = place if marks is None else marks.below(place)
        return {"position": position, "exact": marks is None or place in marks}, b""

    def _tell_select(self, asked: _Message) -> tuple[dict[str, Any], bytes]:
        how = asked.said.get("how")
        if how not in ("add", "drop", "only"):
            raise SettingError("a selection adds, drops, or is the only one")
        self.select(asked.filter(), asked.ranges(), how)
        return {}, b""

    def _tell_copy(self, asked: _Message) -> tuple[dict[str, Any], bytes]:
        keys = asked.said.get("as") == "keys"
        return {}, (self.selected_keys() if keys else self.selected_rows()).encode()

    def _tell_failures(self, asked: _Message) -> tuple[dict[str, Any], bytes]:
        start, stop = asked.stretch(_MOST_FAILURES)
        text = asked.filter().text
        marks = self.failed(text)
        count = len(self.cache.failures) if marks is None else len(marks)
        return {"count": count, "failures": self.failures(text, start, stop)}, b""


class _Message:
    """A message that may come from anybody: each value is looked at before it is used."""

    def __init__(self, said: dict[str, Any]) -> None:
        self.said = said

    def whole(self, name: str, least: int = 0, most: int = 1 << 53) -> int:
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
        if not isinstance(given, list) or len(given) > _MOST_CELLS:
            raise SettingError(f"ranges are a list of {_MOST_CELLS} at most")
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
            None if label is None else _whole("label", label, -1, 1 << 53),
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
    return _whole(name, value[0], 0, 1 << 53), _whole(name, value[1], 0, 1 << 53)


# Names -------------------------------------------------------------------------------------------


def _at(rows: Rows, start: int, stop: int) -> slice | NDArray[np.int64]:
    """Return rows *start* to *stop* of *rows* as an index, a slice where they lie evenly."""
    part = rows[start:stop]
    if isinstance(part, range) and part.step == 1:
        return slice(part.start, part.stop)
    return np.asarray(part, np.int64)


def _marks_of_text(keys: Strings, text: str) -> Marks:
    """Mark the places of *keys* that hold *text*."""
    wanted, rows = to_bytes(text), keys.rows
    if isinstance(rows, range) and rows.step == 1:
        return Marks.where(
            len(rows), lambda a, b: holding(keys, rows.start + a, rows.start + b, wanted)
        )
    if not len(rows):
        return Marks.none(0)
    # Search all between the lowest and the highest, a bit a key, and look there for each.
    low, high = min(rows), max(rows) + 1
    found = Marks.where(
        int(high - low), lambda a, b: holding(keys, int(low) + a, int(low) + b, wanted)
    )
    return Marks.where(
        len(rows), lambda a, b: found.has(np.asarray(rows[a:b], np.int64) - np.int64(low))
    )


def holding(keys: Strings, start: int, stop: int, text: bytes) -> NDArray[np.bool_]:
    """Tell which of the names number *start* to *stop* of the blob hold *text*: bool (n,).

    ASCII letters are alike, large and small. The blob is searched as it lies, a piece at a time,
    and no name becomes an object.
    """
    parts = [
        _piece_holding(keys.blob, keys.offsets[first : min(first + _SPAN, stop) + 1], text.lower())
        for first in range(start, stop, _SPAN)
    ]
    return np.concatenate(parts) if parts else np.zeros(0, bool)


def _piece_holding(
    blob: NDArray[np.uint8], offsets: NDArray[np.int64], text: bytes
) -> NDArray[np.bool_]:
    ends = offsets[1:]
    if offsets[0] < 0 or offsets[-1] > len(blob) or (ends < offsets[:-1]).any():
        raise DamagedCacheError("the index is damaged: its offsets of names do not divide them")
    held = np.zeros(len(ends), bool)
    piece = blob[offsets[0] : offsets[-1]]
    if text.upper() != text:
        piece = piece | (((piece - ord("A")) < 26).view(np.uint8) << 5)  # noqa: PLR2004  # letters
    if text not in memoryview(piece).tobytes():
        return held
    found = np.flatnonzero(_beginnings(piece, text)) + offsets[0]
    which = np.searchsorted(ends, found, side="right")
    # What begins in one name and ends in the next is in neither.
    held[which[found + len(text) <= ends[which]]] = True
    return held


def _beginnings(piece: NDArray[np.uint8], text: bytes) -> NDArray[np.bool_]:
    """Tell at which bytes of *piece* the *text* begins: bool (bytes - len(text) + 1,)."""
    places = len(piece) - len(text) + 1
    begins = piece[:places] == text[0]
    for number, letter in enumerate(text[1:], 1):
        begins &= piece[number : number + places] == letter
    return begins


# Pixels ------------------------------------------------------------------------------------------


def _encoded(image: Image.Image, form: str, **how: int) -> bytes:
    data = io.BytesIO()
    image.save(data, form, **how)
    return data.getvalue()


def _checks(height: int, width: int) -> Image.Image:
    rows, columns = (np.arange(edge) // _CHECK for edge in (height, width))
    greys = np.array(_CHECKS, np.uint8)[(rows[:, None] + columns) % 2]
    return Image.fromarray(greys).convert("RGB")


def _colours() -> NDArray[np.uint8]:
    """Return a colour for each number of a mask, far from that of the next: uint8 (256, 3)."""
    numbers = np.arange(256)
    hues = (numbers * 0.618034 * 256).astype(np.uint8)
    lights = np.array([230, 190, 255, 150], np.uint8)[numbers % 4]
    colours = np.stack([hues, np.full(256, 170, np.uint8), lights], axis=1)
    colours[0] = 0  # the background of most masks
    return np.asarray(Image.fromarray(colours[None], "HSV").convert("RGB"))[0]


_COLOURS = _colours()
