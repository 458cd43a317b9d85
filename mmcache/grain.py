"""A cache as a source of Grain's: pictures one at a time, for its pipelines.

>>> source = mmcache.grain.DataSource(cache, pad=(256, 256))  # doctest: +SKIP
>>> grain.MapDataset.source(source).shuffle(seed=1).batch(64)  # doctest: +SKIP

Grain asks for the methods of its ``RandomAccessDataSource`` and for no class, so that nothing of
Grain's is needed here.
"""

from __future__ import annotations

import functools
from typing import TYPE_CHECKING, Any

import numpy as np

from mmcache.batches import position
from mmcache.errors import SettingError
from mmcache.loading import rows_digest
from mmcache.shaping import Shaping

if TYPE_CHECKING:
    from typing import SupportsIndex

    from mmcache.cache import Cache

__all__ = ["DataSource"]


class DataSource:
    """Pictures of a cache by row: each is a dictionary of arrays that may be written to.

    ``image`` is ``(height, width, channels)``, ``label`` int64 (only where the cache has labels)
    and ``row`` int64, the position in the cache; with *pad* also ``size``, int64 ``(2,)``, the
    valid height and width, and with *mask* ``mask``, bool ``(height, width)``.

    It may be read from many threads, and be pickled for Grain's worker processes: what is sent is
    the cache's path and fingerprint.

    Parameters
    ----------
    cache : Cache
        Or a narrower one.
    **shaping
        ``pad`` and ``crop`` to fixed sizes, ``centering``, ``background`` and ``mask``, as for
        :meth:`mmcache.Cache.batch`. A source gives the same for a row whenever it is asked, so that
        random crops and flips belong into ``MapDataset.random_map``.

    Raises
    ------
    SettingError
        (a ``ValueError``) where a setting makes no sense, is random, or needs a whole batch.
    """

    def __init__(self, cache: Cache, **shaping: Any) -> None:
        self.cache = cache
        self._settings = shaping
        self._shaping = Shaping(**shaping)
        if self._shaping.draws:
            raise SettingError(
                "a random crop or flip was asked for, and Grain wants a source to give the same"
                " picture each time: pass it to MapDataset.random_map"
            )
        if self._shaping.pad == "batch":
            raise SettingError(
                'pad="batch" was asked for, and a source gives one picture at a time: pass'
                " pad=(height, width)"
            )
        self._as_it_is = self._shaping == Shaping()
        self._labels = cache.labels

    def __len__(self) -> int:
        return len(self.cache)

    def __getitem__(self, index: SupportsIndex) -> dict[str, Any]:
        """Return the picture at a row; :class:`RowError` (an ``IndexError``) outside."""
        row = position(index, len(self))
        record: dict[str, Any] = {"row": np.int64(row)}
        if self._labels is not None:
            record["label"] = self._labels[row]
        if self._as_it_is:
            return record | {"image": np.array(self.cache[row])}
        return record | self._shaped(row)

    def _shaped(self, row: int) -> dict[str, Any]:
        """Return picture *row* cut and padded, and what tells it from its padding."""
        place = np.array([row], np.int64)
        located = self.cache.located(place)
        batch = self.cache.gathered(place, self._shaping, np.empty((1, 0)), located)
        shaped: dict[str, Any] = {"image": batch.images[0]}
        if self._shaping.pad is not None:
            shaped["size"] = batch.sizes[0]
        if batch.mask is not None:
            shaped["mask"] = batch.mask[0]
        return shaped

    def __reduce__(self) -> tuple[Any, ...]:
        # Made anew where it arrives, so that no labels travel.
        return functools.partial(DataSource, self.cache, **self._settings), ()

    def __repr__(self) -> str:
        # Grain compares it to tell whether a checkpoint is of this source.
        return f"DataSource({self.cache.fingerprint}, {rows_digest(self.cache)}, {self._shaping})"
