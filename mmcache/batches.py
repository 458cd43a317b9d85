"""Index arithmetic: which rows an index means, and what a batch of them is.

Python's own lists are the rule: slices, negative numbers and out-of-range errors behave as theirs.
"""

from __future__ import annotations

import operator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from mmcache.errors import RowError, SelectionError, ShapesDifferError
from mmcache.facts import Facts, counted, human_bytes

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from numpy.typing import NDArray

    from mmcache.records import Strings

__all__ = ["Batch", "Rows", "chosen", "position"]

Rows = range | np.ndarray[Any, np.dtype[np.int64]]
"""Which rows a cache has: a range where rows lie evenly, else an int64 array."""


def position(index: Any, length: int) -> int:
    """Return *index*, a row, as a position from 0 to ``length - 1``."""
    try:
        row = operator.index(index)
    except TypeError as error:
        raise SelectionError(f"{type(index).__name__} is no row: say a number or a key") from error
    place = row + length if row < 0 else row
    if not 0 <= place < length:
        raise RowError(f"row {index} was asked for, and there are {length}")
    return place


def chosen(index: Any, length: int) -> Rows:
    """Return the positions that a list, array or mask *index* means, none of them negative.

    Raises
    ------
    RowError
        (an ``IndexError``) where a position is not there, or a mask has another length.
    SelectionError
        (a ``TypeError``) where *index* is something else.
    """
    try:
        wanted = np.asarray(index)
    except ValueError as error:  # a ragged list
        raise SelectionError(_not_an_index(index)) from error
    if wanted.ndim == 1 and not len(wanted) and wanted.dtype.kind != "b":
        return np.empty(0, np.int64)
    if wanted.ndim != 1 or wanted.dtype.kind not in "iub":
        raise SelectionError(_not_an_index(index))
    if wanted.dtype.kind == "b":
        if len(wanted) != length:
            raise RowError(f"a mask of {len(wanted)} was given, and there are {length} rows")
        return np.flatnonzero(wanted).astype(np.int64, copy=False)
    if wanted.dtype.kind == "u" and int(wanted.max()) >= length:
        raise RowError(f"row {wanted.max()} was asked for, and there are {length}")
    rows = wanted.astype(np.int64)
    rows[rows < 0] += length
    outside = (rows < 0) | (rows >= length)
    if outside.any():
        raise RowError(f"row {wanted[outside][0]} was asked for, and there are {length}")
    return rows


def _not_an_index(index: Any) -> str:
    return (
        f"{type(index).__name__} is no index: say a row, a slice, a list of rows, a mask or a key"
    )


@dataclass(frozen=True, eq=False, repr=False)
class Batch:
    """Some pictures of a cache, gathered; ``np.asarray(batch)`` is its images.

    Attributes
    ----------
    images : (n, height, width, channels) array, or list of n arrays
        One array, a copy of its own that may be written to, where shapes agree; else a list of
        read-only views of the cache, or of copies in the buffer that was given.
    labels : int64 (n,) or None
        None where the source has none.
    rows : int64 (n,)
        The positions in the cache that made the batch.
    sizes : int64 (n, 2)
        Valid height and width of each picture in ``images``, padding not counted.
    keys : sequence of str
        Their names.
    origins : int64 (n, 2)
        Top and left of the valid part of each in ``images``.
    mask : bool (n, height, width) or None
        Where pictures are and no padding; on request.
    windows : int64 (n, 4) or None
        Top, left, height and width of what a crop took of each record.
    flipped : bool (n,) or None
        Which pictures are mirrored, right for left.
    classes : sequence of str
        The names of the labels.
    """

    images: NDArray[Any] | list[NDArray[Any]]
    labels: NDArray[np.int64] | None
    rows: NDArray[np.int64]
    sizes: NDArray[np.int64]
    keys: Strings
    origins: NDArray[np.int64]
    mask: NDArray[np.bool_] | None = None
    windows: NDArray[np.int64] | None = None
    flipped: NDArray[np.bool_] | None = None
    classes: Sequence[str] = ()

    def __len__(self) -> int:
        return len(self.rows)

    def __iter__(self) -> Iterator[NDArray[Any]]:
        return iter(self.images)

    def __array__(
        self, dtype: np.dtype[Any] | None = None, *, copy: bool | None = None
    ) -> NDArray[Any]:
        if isinstance(self.images, list):
            raise ShapesDifferError(
                "the pictures of this batch differ in shape, and one array was asked for: use"
                ' batch.images, a list, or cache.batch(rows, pad="batch")'
            )
        return np.array(self.images, dtype, copy=copy)

    def _facts(self) -> Facts:
        nbytes = sum(picture.nbytes for picture in self.images)
        rows = [("images", self._images()), ("bytes", human_bytes(nbytes))]
        if self.labels is not None:
            rows.append(("labels", counted(len(np.unique(self.labels)), "different one")))
        told = {"mask": self.mask, "windows": self.windows, "flipped": self.flipped}
        if there := [name for name, array in told.items() if array is not None]:
            rows.append(("beside", ", ".join(there)))
        title = f"Batch of {counted(len(self), 'picture')}"
        return Facts(title, rows, brief=[value for _, value in rows[:2]])

    def _images(self) -> str:
        """Return of what shape and dtype the images are."""
        if not isinstance(self.images, list):
            return f"{self.images.dtype} {' x '.join(map(str, self.images.shape))}"
        shapes = {picture.shape for picture in self.images}
        return f"a list of arrays of {counted(len(shapes), 'shape')}"

    def __repr__(self) -> str:
        return self._facts().to_text()

    def _repr_html_(self) -> str:
        # Drawing needs Pillow, which slicing does not.
        from mmcache.sheet import OVERVIEW, captions_of, evenly, overview  # noqa: PLC0415

        few = evenly(len(self), OVERVIEW)
        labels = None if self.labels is None else self.labels[few]
        captions = captions_of(self.keys.take(few), labels, self.classes)
        return self._facts().to_html(overview((self.images[one] for one in few), captions))
