"""A cache as one array that is read where it is asked for: what lazy arrays are made over."""

from __future__ import annotations

import pickle
from typing import TYPE_CHECKING, Any

import numpy as np

from mmcache.errors import SettingError, ShapesDifferError
from mmcache.shaping import Shaping
from mmcache.stacking import stacked_edges

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from mmcache.cache import Cache

__all__ = ["Stack"]


class Stack:
    """The pictures of a cache as one array ``(N, height, width, channels)``, of which none is read.

    It is pickled as the cache is: by path, fingerprint and rows, never pixels. What it gives is the
    same whenever it is asked, so random crops and flips are none of its settings.

    Parameters
    ----------
    cache : Cache
    pad, crop, centering, background
        As of :meth:`mmcache.Cache.batch`: what makes shapes agree that differ.

    Attributes
    ----------
    shape : tuple of int
    dtype : numpy.dtype

    Raises
    ------
    SettingError
        (a ``ValueError``) where a setting makes no sense.
    ShapesDifferError
        (a ``ValueError``) where the pictures have no common shape.
    """

    def __init__(
        self,
        cache: Cache,
        *,
        pad: Any = None,
        crop: Any = None,
        centering: tuple[float, float] = (0.5, 0.5),
        background: Any = None,
    ) -> None:
        for name, value in (("pad", pad), ("crop", crop)):
            if isinstance(value, str):
                raise SettingError(
                    f"{name}={value!r} gives every batch another shape or content, and one array"
                    f" has one: say {name}=(height, width)"
                )
        self._cache = cache
        self._how = {"pad": pad, "crop": crop, "centering": centering, "background": background}
        height, width = _edges(cache, Shaping(**self._how))
        self.shape = len(cache), height, width, cache.recipe.channels
        self.dtype: np.dtype[Any] = cache.recipe.dtype
        self.ndim = len(self.shape)

    def __getitem__(self, key: tuple[Any, ...]) -> NDArray[Any]:
        """Return a part of the array: each axis has an integer, a slice or an array of its own.

        As xarray's ``isel`` has it, and not as NumPy: two arrays choose rows and columns. What is
        one even stretch of the file is a read-only view of it.
        """
        rows, *others = key
        lone = [axis for axis, one in enumerate(key) if _is_number(one)]
        part: NDArray[Any] = self._read(_kept(rows, len(self._cache)))
        for axis, one in enumerate(others, 1):
            part = part[(slice(None),) * axis + (_kept(one, self.shape[axis]),)]
        return part.squeeze(axis=tuple(lone))

    def _read(self, rows: slice | NDArray[Any]) -> NDArray[Any]:
        part = self._cache[rows]
        if self._how["pad"] is self._how["crop"] is None:
            try:
                return np.asarray(part, copy=False)
            except ShapesDifferError:  # they do not lie evenly
                pass
        return np.asarray(part.batch(slice(None), **self._how))

    def __dask_tokenize__(self) -> bytes:
        # The name of a lazy array: the same for the same pictures, and nothing is read for it.
        return pickle.dumps((self._cache, self._how))


def _is_number(one: Any) -> bool:
    return isinstance(one, (int, np.integer))


def _kept(one: Any, length: int) -> Any:
    """Return an index that keeps its axis: a number becomes a slice of one."""
    if not _is_number(one):
        return one
    place = range(length)[one]  # counted from the end, or refused, as a list does it
    return slice(place, place + 1)


def _edges(cache: Cache, shaping: Shaping) -> tuple[int, int]:
    if shaping.pad is shaping.crop is None and not len(cache):
        return (cache.recipe.shape or (0, 0))[:2]
    try:
        height, width = stacked_edges(cache, shaping)
    except ShapesDifferError as error:
        if shaping.pad is not None or shaping.crop is not None:
            raise
        raise ShapesDifferError(
            "these pictures differ in shape, and one array was asked for: pass pad=(height, width)"
            " or crop=(height, width), or both"
        ) from error
    return height or 0, width or 0  # None is of batches that differ, which need pad="batch"
