"""A cache as a Dataset of xarray: pixels with the names of their axes, keys, classes and columns.

>>> dataset = mmcache.xarray.dataset(cache)  # doctest: +SKIP
>>> dataset.pixels.groupby("class").mean(...)  # doctest: +SKIP
"""

from __future__ import annotations

import functools
import importlib.util
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from mmcache.errors import MissingLibraryError
from mmcache.records import printable
from mmcache.stack import Stack

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from xarray import Dataset

    from mmcache.cache import Cache

__all__ = ["dataset"]

AXES = ("row", "y", "x", "channel")


def dataset(
    cache: Cache,
    chunks: int | Literal["auto"] | None = "auto",
    *,
    pad: int | tuple[int, int] | None = None,
    crop: int | tuple[int, int] | None = None,
    centering: tuple[float, float] = (0.5, 0.5),
    background: int | tuple[int, ...] | None = None,
) -> Dataset:
    """Return the cache as an :class:`xarray.Dataset`; no pixel is read.

    ``pixels`` has the axes ``row``, ``y``, ``x`` and ``channel``. On ``row`` there are coordinates:
    ``key``; ``label`` and ``class``, its name (empty for none), where the cache has classes; and
    the columns of :attr:`mmcache.Cache.columns`, as the ``height`` and ``width`` of the source.
    ``dataset.set_index(row="key").sel(row="cats/001.jpg")`` finds a picture by its key.

    Parameters
    ----------
    cache : Cache
        Pictures of one shape, unless *pad* or *crop* gives them one.
    chunks : int, "auto" or None
        Pictures in a block of the Dask array that ``pixels`` is. ``"auto"``: as Dask would have it,
        or none where Dask is not installed. ``None``: no Dask; pixels are read when they are used.
    pad, crop, centering, background
        As of :meth:`mmcache.Cache.batch`.

    Raises
    ------
    MissingLibraryError
        (an ``ImportError``) where xarray is not installed, or Dask, and *chunks* is a number.
    ShapesDifferError
        (a ``ValueError``) where the pictures differ in shape, or do not fit into *pad*.
    SettingError
        (a ``ValueError``) where a setting makes no sense.
    """
    try:
        import xarray  # noqa: PLC0415  # where it is used, for those who have it
    except ImportError as error:
        raise MissingLibraryError(
            f'mmcache.xarray needs xarray, pip install "mmcache[xarray]": {error}'
        ) from error
    stack = Stack(cache, pad=pad, crop=crop, centering=centering, background=background)
    rows: dict[str, Any] = {"key": _lazy(_Names(cache, "key"))}
    if cache.labels is not None:
        rows |= {"label": cache.labels, "class": _lazy(_Names(cache, "class"))}
    made: Any = xarray.Dataset(
        {"pixels": (AXES, _lazy(stack))},
        {name: ("row", values) for name, values in (rows | cache.columns).items()},
        {
            "path": printable(str(cache.path)),
            "fingerprint": cache.fingerprint,
            "recipe": str(cache.recipe),
        },
    )
    if chunks is None or (chunks == "auto" and importlib.util.find_spec("dask") is None):
        return made
    return _in_blocks(made, chunks)


def _in_blocks(made: Any, chunks: int | str) -> Any:
    """Return the dataset with its pixels as a Dask array."""
    if importlib.util.find_spec("dask") is None:
        raise MissingLibraryError(
            f"chunks={chunks!r} needs Dask, which is not installed: pip install"
            ' "mmcache[dask]", or pass chunks=None'
        )
    blocks = {"row": chunks} | dict.fromkeys(AXES[1:], -1)
    return made.assign(pixels=made.pixels.variable.chunk(blocks))


@dataclass(frozen=True)
class _Names:
    """The keys or the classes of a cache as an array ``(N,)`` of ``str``, made where it is read."""

    cache: Cache
    which: Literal["key", "class"]

    @property
    def shape(self) -> tuple[int]:
        return (len(self.cache),)

    dtype = np.dtype(object)

    def __getitem__(self, key: tuple[Any]) -> NDArray[Any]:
        places = np.arange(len(self.cache))[key]
        part = self.cache[places.reshape(-1)]
        names = np.empty(places.size, object)
        names[:] = list(part.keys) if self.which == "key" else _classes(part)
        return names.reshape(places.shape)


def _classes(part: Cache) -> NDArray[Any]:
    names = np.array([*part.classes, ""], object)
    labels = np.asarray(part.labels)
    known = (labels >= 0) & (labels < len(part.classes))
    return names[np.where(known, labels, len(part.classes))]


def _lazy(source: Stack | _Names) -> Any:
    """Return an array of xarray that reads *source* where it is asked for."""
    from xarray.core import indexing  # noqa: PLC0415  # as its guide to backends has it

    # Who writes to it writes to a copy in memory, never to a file.
    return indexing.CopyOnWriteArray(indexing.LazilyIndexedArray(_backend(source)))


def _backend(source: Stack | _Names) -> Any:
    return _backend_class()(source)


@functools.cache
def _backend_class() -> Any:
    """Make the class of xarray that asks *source*: here, since its base is xarray's."""
    from xarray.backends import BackendArray  # noqa: PLC0415
    from xarray.core import indexing  # noqa: PLC0415

    class Backend(BackendArray):  # type: ignore[misc]  # xarray's types are not looked at
        def __init__(self, source: Stack | _Names) -> None:
            self.source, self.shape, self.dtype = source, source.shape, source.dtype

        def __getitem__(self, key: Any) -> Any:
            outer = indexing.IndexingSupport.OUTER
            if isinstance(key, (indexing.BasicIndexer, indexing.OuterIndexer)):
                return self.source[key.tuple]
            # Points, which are read as the rows and columns that they lie in.
            return indexing.explicit_indexing_adapter(
                key, self.shape, outer, self.source.__getitem__
            )

        def __reduce__(self) -> tuple[Any, ...]:
            return _backend, (self.source,)

    return Backend
