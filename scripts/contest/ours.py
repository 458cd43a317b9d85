"""mmcache's own ways, in its three formats."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from contest.entrant import NotOfferedError
from contest.peer import Peer, TorchLoader, parts
from contest.pictures import BATCH, CROP, shuffled_rows

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

    from numpy.typing import NDArray

    from contest.pictures import Pictures

__all__ = [
    "Mmcache",
    "MmcacheBatch",
    "MmcacheBatchOut",
    "MmcacheBatchOutOne",
    "MmcacheBatchOutTwo",
    "MmcacheDataset",
    "MmcacheHdf5",
    "MmcacheLoader",
    "MmcacheLoaderBlocks",
    "MmcacheLoaderHdf5",
    "MmcacheLoaderZarr",
    "MmcacheSamples",
    "MmcacheZarr",
]


class Mmcache(Peer):
    """A cache in one of its formats."""

    modules = ("mmcache",)
    ending: ClassVar[str] = ".mmc"

    def write(self, pictures: Pictures, labels: NDArray[np.int64]) -> None:
        """Write the cache in its format, out of the cache that the pictures are from."""
        import mmcache  # noqa: PLC0415

        if not self.cache_path().exists():
            mmcache.convert(pictures.path.parent, self.cache_path(), progress=False)

    def cache_path(self) -> Path:
        """Return the cache in this peer's format, beside the one that the pictures are from."""
        return self.pictures.path.parent.with_suffix(self.ending)

    def open(self) -> None:
        import mmcache  # noqa: PLC0415

        self.cache = mmcache.open(self.cache_path())

    def files(self) -> list[Path]:
        path = self.cache_path()
        return [path] if path.is_file() else [one for one in path.rglob("*") if one.is_file()]

    def view(self, row: int) -> NDArray[np.uint8]:
        return self.cache[row]

    def repeated(self, passes: int) -> Any:
        """Return a cache that has all rows *passes* times, for an epoch that lasts."""
        return self.cache if passes == 1 else self.cache[list(range(len(self.cache))) * passes]


class MmcacheBatchOut(Mmcache):
    """``cache.batch(rows, out=buffer)``."""

    title = "mmcache, `cache.batch(rows, out=)`"
    threads: ClassVar[int | None] = None

    def _gathered(self, rows: Sequence[int], **settings: Any) -> Iterator[Any]:
        out = np.empty(BATCH * int(np.prod(np.array(self.pictures.shapes).max(axis=0))), np.uint8)
        for part in parts(rows):
            yield self.cache.batch(part, out=out, threads=self.threads, **settings).images

    def batches(self, rows: Sequence[int]) -> Iterator[Any]:
        return self._gathered(rows)

    def padded(self, seed: int, passes: int) -> Iterator[Any]:
        return self._gathered(shuffled_rows(len(self.pictures), passes, seed), pad="batch")

    def crops(self, seed: int, passes: int) -> Iterator[Any]:
        rows = shuffled_rows(len(self.pictures), passes, seed)
        return self._gathered(rows, crop="random_resized", size=CROP, seed=seed)


class MmcacheBatchOutOne(MmcacheBatchOut):
    """The same by one thread."""

    title = "mmcache, `cache.batch(rows, out=, threads=1)`"
    threads = 1


class MmcacheBatchOutTwo(MmcacheBatchOut):
    """The same by two threads."""

    title = "mmcache, `cache.batch(rows, out=, threads=2)`"
    threads = 2


class MmcacheBatch(Mmcache):
    """``cache.batch(rows)``, an array of its own each time."""

    title = "mmcache, `cache.batch(rows)`"

    def batches(self, rows: Sequence[int]) -> Iterator[Any]:
        for part in parts(rows):
            images = self.cache.batch(part).images
            # A list is of views, and all the others give memory of their own.
            yield [np.array(one) for one in images] if isinstance(images, list) else images

    def padded(self, seed: int, passes: int) -> Iterator[Any]:
        for part in parts(shuffled_rows(len(self.pictures), passes, seed)):
            yield self.cache.batch(part, pad="batch").images

    def views(self, seed: int, passes: int) -> Iterator[Any]:
        for part in parts(shuffled_rows(len(self.pictures), passes, seed)):
            yield self.cache.batch(part).images


class MmcacheLoader(Mmcache):
    """``mmcache.Loader``: batches are gathered by threads while the last one is used."""

    title = "mmcache.Loader"

    def _epoch(self, epoch: int, passes: int, **settings: Any) -> Iterator[Any]:
        """Yield an epoch of a loader that is kept, as training does."""
        import mmcache  # noqa: PLC0415

        way = (passes, *settings.items())
        if way not in self._ways:
            self._ways[way] = mmcache.Loader(self.repeated(passes), BATCH, **settings)
        self._ways[way].set_epoch(epoch)
        return (batch.images for batch in self._ways[way])

    def random(self, seed: int, passes: int) -> Iterator[Any]:
        return self._epoch(seed, passes, shuffle=True)

    def epoch(self, seed: int, passes: int) -> Iterator[Any]:
        return self._epoch(seed, passes)

    def padded(self, seed: int, passes: int) -> Iterator[Any]:
        return self._epoch(seed, passes, shuffle=True, pad="batch")

    def crops(self, seed: int, passes: int) -> Iterator[Any]:
        return self._epoch(seed, passes, shuffle=True, crop="random_resized", size=CROP)

    def loader(self, seed: int, passes: int, workers: int) -> Iterator[Any]:
        if workers:
            raise NotOfferedError("mmcache.Loader has threads and no workers")
        return self.random(seed, passes)


class MmcacheLoaderHdf5(MmcacheLoader):
    """The same from HDF5."""

    title = "mmcache.Loader, HDF5"
    ending = ".h5"


class MmcacheLoaderZarr(MmcacheLoader):
    """The same from Zarr."""

    title = "mmcache.Loader, Zarr"
    ending = ".zarr"


class MmcacheLoaderBlocks(MmcacheLoader):
    """The same, shuffled within blocks."""

    title = 'mmcache.Loader, `shuffle="blocks"`'

    def random(self, seed: int, passes: int) -> Iterator[Any]:
        return self._epoch(seed, passes, shuffle="blocks")


class MmcacheHdf5(MmcacheBatchOut):
    """``cache.batch(rows, out=)`` from HDF5."""

    title = "mmcache, `cache.batch(rows, out=)`, HDF5"
    ending = ".h5"


class MmcacheZarr(MmcacheBatchOut):
    """``cache.batch(rows, out=)`` from Zarr."""

    title = "mmcache, `cache.batch(rows, out=)`, Zarr"
    ending = ".zarr"


class MmcacheSamples(Mmcache):
    """A Dataset of one's own over a cache, as one would write it by hand."""

    title = "mmcache, `cache[i]` and default collate"
    modules = ("mmcache", "torch")


class MmcacheDataset(Mmcache):
    """``mmcache.torch.Dataset``, which gathers a whole batch in one call."""

    title = "mmcache.torch.Dataset and its collate"
    modules = ("mmcache", "torch")

    def loader(self, seed: int, passes: int, workers: int) -> Iterator[Any]:
        if workers not in self._ways:
            from mmcache.torch import Dataset, collate  # noqa: PLC0415

            self._ways[workers] = TorchLoader(Dataset(self.cache), workers, collate)
        return iter(self._ways[workers].epoch(shuffled_rows(len(self.pictures), passes, seed)))
