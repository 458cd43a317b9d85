"""What one who browses a cache asks for: which rows, thumbnails of rows, the facts of one.

Knows no notebook and no web page. Filters and selections are a bit a row, and found in under 0.3 s
among ten million.
"""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from mmcache.errors import DamagedCacheError, SettingError
from mmcache.explaining import explain
from mmcache.marks import Marks
from mmcache.records import HEIGHT, WIDTH, printable, to_bytes
from mmcache.searching import holding
from mmcache.thumbnails import encoded, sprite

if TYPE_CHECKING:
    from collections.abc import Iterable

    from numpy.typing import NDArray

    from mmcache.batches import Rows
    from mmcache.cache import Cache

__all__ = ["EDGES", "Filter", "Gallery"]

EDGES = range(16, 513)
"""A thumbnail's longest edge in pixels."""

_MOST_NAMES = 20_000  # classes that a list offers
_MOST_SHAPES = 24
_MOST_COPIED = 100_000  # keys, or parts of a list of rows, that are given as text
_KEPT = 4  # filters whose marks are kept
_SAMPLED = 64  # stretches of records that are looked at for the common shapes
_STRETCH = 1024  # records of such a stretch
_RUN = 4  # rows that follow one another from which on they are named as a range


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
                found = holding(self.cache.failures.keys, to_bytes(wanted.text))
            else:
                found = self._found(wanted)
            while len(self._marks) >= _KEPT:
                del self._marks[next(iter(self._marks))]
            self._marks[wanted, failures] = found
            return found

    def _found(self, wanted: Filter) -> Marks:
        found = []
        if wanted.text:
            found.append(holding(self.cache.keys, to_bytes(wanted.text)))
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
        parts = [self.cache[start : start + min(length, _STRETCH)].shapes for start in starts]
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
        length = len(self.cache)
        meant = Marks.none(length)
        for start, stop in ranges:
            meant |= self._part(wanted, start, stop)
        with self._lock:
            before = self._selected or Marks.none(length)
            after = {"add": before | meant, "drop": before - meant, "only": meant}[how]
            self._selected = after if len(after) else None
            self._changes += 1

    def _part(self, wanted: Filter, start: int, stop: int) -> Marks:
        """Mark the wanted pictures number *start* to *stop*."""
        marks, length = self.marks(wanted), len(self.cache)
        if marks is None:
            return Marks.between(length, start, stop)
        stop = min(stop, len(marks))
        if start >= stop:
            return Marks.none(length)
        (first,), (last,) = marks.numbers(start, start + 1), marks.numbers(stop - 1, stop)
        return Marks.between(length, int(first), int(last) + 1) & marks

    @property
    def selection(self) -> tuple[int, int]:
        """How often the selection was changed, and how many pictures are selected."""
        selected = self._selected
        return self._changes, 0 if selected is None else len(selected)

    def marked(self, places: NDArray[np.int64]) -> NDArray[np.bool_]:
        """Tell which of *places* are selected: bool (n,)."""
        selected = self._selected
        return np.zeros(len(places), bool) if selected is None else selected.has(places)

    def selected_rows(self) -> str:
        """Return the selected places as a list that Python reads: ``[3, 5, *range(8, 100)]``."""
        selected = self._selected
        runs = [] if selected is None else selected.runs(_MOST_COPIED + 1)
        if len(runs) > _MOST_COPIED:
            raise SettingError(
                f"a list of {self.selection[1]:,} rows as scattered as these is too long to be"
                " copied: in a notebook, widget.selected is a cache of them"
            )
        parts = [
            f"*range({start}, {stop})"
            if stop - start >= _RUN
            else ", ".join(map(str, range(start, stop)))
            for start, stop in runs
        ]
        return f"[{', '.join(parts)}]"

    def selected_keys(self) -> str:
        """Return the keys of what is selected, a line each; what does not print is escaped."""
        if (count := self.selection[1]) > _MOST_COPIED:
            raise SettingError(
                f"{count:,} keys are too many to be copied, {_MOST_COPIED:,} are the most: copy the"
                " rows"
            )
        keys = self.narrowed(self.selected).keys
        return "\n".join(printable(keys.raw(place)) for place in range(len(keys)))

    def narrowed(self, places: Rows) -> Cache:
        """Return the pictures at *places* as a cache of their own."""
        if isinstance(places, range):
            return self.cache[places.start : places.stop]
        return self.cache[places]

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
        """Return what a grid shows of the pictures at *places*, and their thumbnails as one JPEG.

        A cell's ``box`` is where its thumbnail lies: left, top, width and height in pixels, with
        longest edge *edge*. A damaged picture has an ``error`` instead.
        """
        part = self.cache[places]
        keys, labels, marked = part.keys, part.labels, self.marked(places)
        pictures, errors = [], {}
        for number in range(len(part)):
            try:
                pictures.append(part[number])
            except DamagedCacheError as error:
                errors[number] = str(error)
        drawn = sprite(pictures, edge, masks=part.recipe.mode == "P")
        boxes = iter(drawn.boxes)
        cells = [
            {
                "place": place,
                "key": printable(keys.raw(number)),
                "label": None if labels is None else int(labels[number]),
                "selected": bool(marked[number]),
                **({"error": errors[number]} if number in errors else {"box": next(boxes)}),
            }
            for number, place in enumerate(places.tolist())
        ]
        return cells, drawn.jpeg

    def picture(self, place: int) -> tuple[str, bytes]:
        """Return one picture at its own size: its media type, and a PNG or JPEG."""
        return encoded(self.cache[place], masks=self.cache.recipe.mode == "P")

    def details(self, place: int) -> dict[str, Any]:
        """Return the facts of one picture, as plain data: lines of (what, value)."""
        explained = explain(self.cache, place)
        row, labels = self.cache.rows[place], self.cache[[place]].labels
        told = [("row", f"{place:,}")]
        if row != place:
            told.append(("in the file", f"row {row:,}"))
        if labels is not None:
            told.append(("label", self._named(int(labels[0]))))
        return {
            "key": printable(explained.key),
            "facts": told + [fact for fact in explained.facts().rows if fact[0] != "row"],
            "selected": bool(self.marked(np.array([place], np.int64))[0]),
        }

    def _named(self, label: int) -> str:
        known = 0 <= label < len(self.cache.classes)
        return f"{printable(self.cache.classes[label])} ({label})" if known else "none"

    def failures(self, text: str, start: int, stop: int) -> list[tuple[str, str, str]]:
        """Return key, stage and reason of failures, number *start* to *stop* of those wanted."""
        failures, marks = self.cache.failures, self.failed(text)
        numbers = range(len(failures))[start:stop]
        return [
            (printable(failures.keys.raw(number)), failures[number].stage,
             printable(failures[number].reason))
            for number in (numbers if marks is None else marks.numbers(start, stop).tolist())
        ]  # fmt: skip

    def count_failures(self, text: str) -> int:
        """Return how many failures have keys that hold *text*."""
        marks = self.failed(text)
        return len(self.cache.failures) if marks is None else len(marks)


def _at(rows: Rows, start: int, stop: int) -> slice | NDArray[np.int64]:
    """Return rows *start* to *stop* of *rows* as an index, a slice where they lie evenly."""
    part = rows[start:stop]
    if isinstance(part, range) and part.step == 1:
        return slice(part.start, part.stop)
    return np.asarray(part, np.int64)
