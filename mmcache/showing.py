"""A cache as a picture to look at: chosen, sorted and grouped pictures on a contact sheet."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, cast

import numpy as np
from PIL import Image

from mmcache.cache import cache_at
from mmcache.errors import SelectionError, SettingError
from mmcache.facts import counted
from mmcache.records import printable
from mmcache.settings import whole_number
from mmcache.sheet import Section, captions_of, evenly, sections_sheet
from mmcache.statistics import stats
from mmcache.terminals import BLOCKS, in_blocks, inline

if TYPE_CHECKING:
    import os
    from collections.abc import Iterator

    from numpy.typing import ArrayLike, NDArray

    from mmcache.cache import Cache
    from mmcache.progress import Progress

__all__ = ["SORTS", "Sheet", "show"]

SORTS = ("aspect", "size", "brightness")
"""What pictures can be sorted by, beside numbers of one's own."""

_LONGEST = 65_000  # pixels of a sheet's edge: JPEG ends at 65,535


class Sheet(Image.Image):
    """A picture of Pillow's that stays small in a notebook: a JPEG there, and no PNG.

    Attributes
    ----------
    sections : list of Section
        What is drawn.
    masks : bool
        Whether it is masks.
    """

    sections: list[Section]
    masks: bool

    def _repr_png_(self) -> None:
        """Leave PNG out: it is ten times as large."""

    @property
    def pictures(self) -> int:
        """How many pictures are drawn."""
        return sum(len(one.captions) for one in self.sections)

    def for_terminal(self, way: str, columns: int, lines: int) -> str:
        """Return it for a terminal that draws in this *way*, as :mod:`mmcache.terminals` tells."""
        if way in BLOCKS:
            size = {"columns": columns, "lines": lines}
            return in_blocks(self.sections, way, masks=self.masks, **size)
        return inline(self, way, columns)


def show(
    cache: Cache | str | os.PathLike[str],
    *,
    columns: int = 8,
    edge: int = 128,
    most: int = 96,
    sort: str | ArrayLike | None = None,
    reverse: bool = False,
    by: str | ArrayLike | None = None,
    progress: bool | Progress = True,
) -> Sheet:
    """Return a contact sheet: thumbnails at true aspect with their keys and labels.

    Parameters
    ----------
    cache : Cache or path
        Narrow it to what is to be seen: ``mmcache.show(cache[100:124])``.
    columns : int
        Thumbnails in a row.
    edge : int
        The longest edge of a thumbnail in pixels.
    most : int
        How many are drawn at most: of more, as many evenly chosen ones, the first and the last
        among them.
    sort : str or (N,) array, optional
        ``"aspect"`` (width over height: tall ones first), ``"size"`` (pixels of what a picture was
        made from), ``"brightness"`` (its mean, dark ones first; all pixels are looked at), or a
        number for each picture, as a model's loss. By default the cache's own order.
    reverse : bool
        Sort the other way round.
    by : str or (N,) array, optional
        Group the pictures, each group under a heading: ``"label"``, or a value for each picture,
        as the class that a model predicted. Groups share *most* fairly.
    progress : bool or callable
        As for :func:`mmcache.build`, while brightness is measured.

    Returns
    -------
    PIL.Image.Image
        ``.save("sheet.png")`` keeps it; a notebook shows it.

    Raises
    ------
    SettingError
        (a ``ValueError``) where a setting makes no sense.
    SelectionError
        (a ``TypeError``) where pictures are to be grouped by labels, and have none.
    """
    for name, value in (("columns", columns), ("edge", edge), ("most", most)):
        whole_number(name, value, 1)
    pictures = cache_at(cache)
    order = _sorted_by(pictures, sort, reverse=reverse, progress=progress)
    sections = list(_sections(pictures, order, by, most, columns))
    rows = sum(-(-len(one.captions) // columns) for one in sections)
    if max(rows, columns) * edge > _LONGEST:
        raise SettingError(
            f"a sheet of {rows:,} rows and {columns:,} columns of {edge} pixels was asked for, and"
            f" pictures end at {_LONGEST:,} pixels: ask for fewer (most={most}) or smaller ones"
        )
    masks = pictures.recipe.mode == "P"
    return _sheet(
        sections_sheet(sections, columns=columns, edge=edge, masks=masks), sections, masks
    )


def _sheet(drawn: Image.Image, sections: list[Section], masks: bool) -> Sheet:
    """Make a picture a sheet: Pillow has no other way to make one of a class of one's own."""
    drawn.__class__ = Sheet
    sheet = cast("Sheet", drawn)
    sheet.sections, sheet.masks = sections, masks
    return sheet


def _sorted_by(
    cache: Cache, sort: str | ArrayLike | None, *, reverse: bool, progress: bool | Progress
) -> NDArray[np.int64]:
    """Return the positions of all pictures in the order that is asked for."""
    if sort is None:
        order = np.arange(len(cache))
    else:
        order = np.argsort(_numbers(cache, sort, progress), kind="stable")
    return order[::-1] if reverse else order


def _numbers(cache: Cache, sort: str | ArrayLike, progress: bool | Progress) -> NDArray[Any]:
    """Return what each picture is sorted by."""
    if not isinstance(sort, str):
        return _one_each("sort", sort, len(cache))
    if sort == "brightness":
        return stats(cache, progress=progress).brightness if len(cache) else np.empty(0)
    height, width = (cache.columns[name].astype(np.float64) for name in ("height", "width"))
    if sort == "aspect":
        return width / np.maximum(height, 1)
    if sort == "size":
        return height * width
    raise SettingError(
        f"sort={sort!r} was asked for, and pictures are sorted by {', '.join(map(repr, SORTS))},"
        " or a number for each"
    )


def _one_each(name: str, values: ArrayLike, count: int) -> NDArray[Any]:
    array = np.asarray(values)
    if array.shape != (count,):
        raise SettingError(
            f"{name}= was given an array of shape {array.shape}, and has to tell one value for each"
            f" of the {counted(count, 'picture')}"
        )
    return array


def _sections(
    cache: Cache, order: NDArray[np.int64], by: str | ArrayLike | None, most: int, columns: int
) -> Iterator[Section]:
    """Yield what stands together."""
    if by is None:
        yield _section(cache, order, most)
        return
    names, groups = _groups(cache, by)
    # Each group gets whole rows, at least one: where groups are many, some are left out and said.
    few = evenly(len(names), max(1, most // columns))
    of_each = max(columns, most // max(1, len(few)) // columns * columns)
    for number in few.tolist():
        rows = order[groups[order] == number]
        heading = f"{names[number]} · {counted(len(rows), 'picture')}"
        yield _section(cache, rows, min(of_each, most), heading)
    if len(few) < len(names):
        yield Section(f"{len(names) - len(few):,} more groups are not drawn", (), ())


def _groups(cache: Cache, by: str | ArrayLike) -> tuple[list[str], NDArray[np.int64]]:
    """Return the names of the groups, and the number of each picture's."""
    if not isinstance(by, str):
        values, groups = np.unique(_one_each("by", by, len(cache)), return_inverse=True)
        return [printable(str(value)) for value in values.tolist()], groups
    if by != "label":
        raise SettingError(
            f'by={by!r} was asked for, and pictures are grouped by "label", or a value for each'
        )
    if cache.labels is None:
        raise SelectionError(
            f'by="label" was asked for, and the pictures of {cache.path} have no labels: give a'
            " value for each picture"
        )
    values, groups = np.unique(cache.labels, return_inverse=True)
    named = dict(enumerate(map(printable, cache.classes)))
    return [named.get(value, "no label") for value in values.tolist()], groups


def _section(cache: Cache, rows: NDArray[np.int64], most: int, heading: str = "") -> Section:
    few = cache[rows[evenly(len(rows), most)]]
    return Section(heading, few, captions_of(few.keys, few.labels, few.classes))
