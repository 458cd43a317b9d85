"""Who takes part: each keeps the same pictures in its own way, and gives batches of them.

A peer is written as its own documentation would have it, or faster where we knew how: buffers are
reused, nothing is compressed, pixels are never encoded. Libraries are imported where they are used,
since each lives in an environment of its own.
"""

from __future__ import annotations

import io
import itertools
import os
import shutil
import sys
import types
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from contest.pictures import BATCH, Pictures, shuffled_rows

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

    from numpy.typing import NDArray

__all__ = ["PEERS", "NotOfferedError", "Peer"]

READERS = 32  # threads of the direct reads
CROP = 224  # pixels, the edge of random resized crops
SHARD = 64  # pictures in a shard that is written by hand
CHUNK_BYTES = 1 << 26  # of the formats that keep pictures in chunks of their own


class NotOfferedError(Exception):
    """This peer has no way to do what was asked."""


class Peer:
    """Pictures kept in one way. Only :meth:`write`, :meth:`open` and :meth:`view` must be given.

    Attributes
    ----------
    where : Path
        Its own folder, or file.
    pictures : Pictures
        What it is to keep: not read any more once it is written, except for their shapes.
    """

    title: ClassVar[str] = ""
    modules: ClassVar[tuple[str, ...]] = ()  # that it imports
    packages: ClassVar[tuple[str, ...]] = ()  # that bring them
    environment: ClassVar[str] = "peers"  # in which they are installed
    exact: ClassVar[bool] = True  # whether it gives the very pixels that it was given
    kept: ClassVar[str] = ""  # the peer whose files it reads, where they are not its own

    def __init__(self, where: Path, pictures: Pictures, photos: Path) -> None:
        self.where, self.pictures, self.photos = where, pictures, photos
        self.shape = pictures.shape
        self._ways: dict[Any, Any] = {}

    # What a peer gives -----------------------------------------------------------------------

    def write(self, pictures: Pictures, labels: NDArray[np.int64]) -> None:
        """Keep *pictures*."""
        raise NotImplementedError

    def open(self) -> None:
        """Make ready to read."""

    def view(self, row: int) -> NDArray[np.uint8]:
        """Return a picture as it costs least, in memory of its own or not."""
        raise NotOfferedError(f"{self.title} has no access by row")

    def single(self, row: int) -> NDArray[np.uint8]:
        """Return a picture in memory of its own."""
        return np.array(self.view(row))

    def batches(self, rows: Sequence[int]) -> Iterator[Any]:
        """Yield batches: one array where shapes agree, else a list, in memory of their own."""
        if self.shape is None:
            for part in _parts(rows):
                yield [np.array(self.view(row)) for row in part]
            return
        out = np.empty((BATCH, *self.shape), np.uint8)
        for part in _parts(rows):
            for place, row in enumerate(part):
                out[place] = self.view(row)
            yield out[: len(part)]

    def check(self) -> None:
        """Compare some pictures with what was to be kept."""
        for row in {0, len(self.pictures) // 2, len(self.pictures) - 1} if self.exact else ():
            assert np.array_equal(self.single(row), self.pictures[row]), f"picture {row} differs"

    # What follows from it --------------------------------------------------------------------

    def random(self, seed: int, passes: int) -> Iterator[Any]:
        """Yield all pictures *passes* times, each time in another order."""
        return self.batches(shuffled_rows(len(self.pictures), passes, seed))

    def epoch(self, seed: int, passes: int) -> Iterator[Any]:  # noqa: ARG002  # as the others
        """Yield all pictures *passes* times, in the order in which they lie."""
        return self.batches(list(range(len(self.pictures))) * passes)

    def padded(self, seed: int, passes: int) -> Iterator[Any]:
        """Yield batches in random order, each padded with zeros to its largest picture."""
        spare = np.empty(0, np.uint8)
        for part in _parts(shuffled_rows(len(self.pictures), passes, seed)):
            views = [self.view(row) for row in part]
            edges = np.array([view.shape for view in views]).max(axis=0)
            length = len(part) * int(np.prod(edges))
            if len(spare) < length:
                spare = np.empty(length, np.uint8)
            out = spare[:length].reshape(len(part), *edges)
            for place, view in enumerate(views):
                height, width = view.shape[:2]
                out[place, :height, :width] = view
                out[place, height:] = 0
                out[place, :height, width:] = 0
            yield out

    def views(self, seed: int, passes: int) -> Iterator[Any]:
        """Yield lists of views that touch no pixel."""
        for part in _parts(shuffled_rows(len(self.pictures), passes, seed)):
            yield [self.view(row) for row in part]

    def crops(self, seed: int, passes: int) -> Iterator[Any]:  # noqa: ARG002
        """Yield random resized crops, as torchvision draws them."""
        raise NotOfferedError(f"{self.title} has no random resized crops")

    def loader(self, seed: int, passes: int, workers: int) -> Iterator[Any]:
        """Yield batches of a torch DataLoader: a picture a call, and its own collate."""
        if workers not in self._ways:
            self._ways[workers] = _DataLoaders(_Samples(self), workers)
        return iter(self._ways[workers].epoch(shuffled_rows(len(self.pictures), passes, seed)))

    def files(self) -> list[Path]:
        """Return the files that its pixels lie in."""
        if self.where.is_file():
            return [self.where]
        return [path for path in self.where.rglob("*") if path.is_file()]


def _parts(rows: Sequence[int]) -> Iterator[Sequence[int]]:
    return (rows[start : start + BATCH] for start in range(0, len(rows), BATCH))


class _Samples:
    """A map-style dataset as everybody writes it."""

    def __init__(self, peer: Peer) -> None:
        self.peer = peer

    def __len__(self) -> int:
        return len(self.peer.pictures)

    def __getitem__(self, row: int) -> Any:
        import torch  # noqa: PLC0415

        return torch.from_numpy(self.peer.single(row)), int(self.peer.pictures.labels[row])


class _DataLoaders:
    """A DataLoader whose workers stay, and whose order is another in each epoch."""

    def __init__(self, dataset: Any, workers: int) -> None:
        import torch.utils.data  # noqa: PLC0415

        self.rows: list[int] = []
        self.loader: Any = torch.utils.data.DataLoader(
            dataset,
            batch_size=BATCH,
            sampler=self,  # type: ignore[arg-type]
            num_workers=workers,
            persistent_workers=workers > 0,
        )

    def __iter__(self) -> Iterator[int]:
        return iter(self.rows)

    def __len__(self) -> int:
        return len(self.rows)

    def epoch(self, rows: list[int]) -> Any:
        self.rows = rows
        return (images for images, _ in self.loader)


# The limits --------------------------------------------------------------------------------------


class MemoryCopy(Peer):
    """The same bytes from one place in memory to another, and nothing else."""

    title = "a memory copy, 1 thread"
    exact = False
    threads: ClassVar[int] = 1

    def write(self, pictures: Pictures, labels: NDArray[np.int64]) -> None:
        """Keep nothing: the pictures are copied to memory when they are opened."""

    def open(self) -> None:
        self.source = np.array(self.pictures.flat)
        ends = [0, *itertools.accumulate(map(self.pictures.nbytes, range(len(self.pictures))))]
        self.ends = ends
        self.pool = ThreadPoolExecutor(self.threads)

    def batches(self, rows: Sequence[int]) -> Iterator[Any]:
        """Copy as many bytes as the pictures have, one stretch a batch and thread."""
        count = len(self.pictures)
        longest = max(map(self.pictures.nbytes, range(count)))
        out = np.empty(BATCH * longest, np.uint8)
        first = 0
        for part in _parts(rows):
            length = sum(map(self.pictures.nbytes, part))
            if first + length > len(self.source):
                first = 0
            self._copy(out[:length], self.source[first : first + length])
            first += length
            yield range(len(part))  # so many pictures

    def padded(self, seed: int, passes: int) -> Iterator[Any]:
        """Copy the bytes without their padding."""
        return self.random(seed, passes)

    def _copy(self, out: NDArray[np.uint8], source: NDArray[np.uint8]) -> None:
        if self.threads == 1:
            np.copyto(out, source)
            return
        edges = np.linspace(0, len(out), self.threads + 1).astype(int).tolist()
        parts = [slice(*pair) for pair in itertools.pairwise(edges)]
        list(self.pool.map(lambda part: np.copyto(out[part], source[part]), parts))

    def files(self) -> list[Path]:
        return []


class MemoryCopyByTwo(MemoryCopy):
    """The same by two threads."""

    title = "a memory copy, 2 threads"
    threads = 2


class MemoryCopyByPicture(MemoryCopy):
    """The same in pieces as long as the pictures, which the processor's caches like better."""

    title = "a memory copy, picture by picture"

    def batches(self, rows: Sequence[int]) -> Iterator[Any]:
        """Copy a stretch a picture, from wherever it lies."""
        starts, ends = self.ends[:-1], self.ends[1:]
        longest = max(map(self.pictures.nbytes, range(len(self.pictures))))
        out = np.empty(BATCH * longest, np.uint8).data
        source = self.source.data
        for part in _parts(rows):
            place = 0
            for row in part:
                length = ends[row] - starts[row]
                out[place : place + length] = source[starts[row] : ends[row]]
                place += length
            yield range(len(part))


class DirectReads(Peer):
    """The same records of the same file by ``preadv`` of many threads: what the disk can give."""

    title = f"preadv, {READERS} threads"
    exact = False

    def write(self, pictures: Pictures, labels: NDArray[np.int64]) -> None:
        """Keep nothing: the file of the pictures is what it reads."""

    def files(self) -> list[Path]:
        return [self.pictures.path]

    def open(self) -> None:
        self.file = os.open(self.pictures.path, os.O_RDONLY)
        os.posix_fadvise(self.file, 0, 0, os.POSIX_FADV_RANDOM)
        self.pool = ThreadPoolExecutor(READERS)

    def batches(self, rows: Sequence[int]) -> Iterator[Any]:
        """Read into one buffer, a record a task."""
        sizes = [self.pictures.nbytes(row) for row in range(len(self.pictures))]
        out = np.empty(BATCH * max(sizes), np.uint8)
        start, offsets = self.pictures.start, self.pictures.offsets

        def read(place: int, row: int) -> None:
            os.preadv(self.file, [out[place : place + sizes[row]]], start + offsets[row])

        for part in _parts(rows):
            places = itertools.accumulate((sizes[row] for row in part[:-1]), initial=0)
            list(self.pool.map(read, places, part))
            yield range(len(part))


# mmcache -----------------------------------------------------------------------------------------


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
        for part in _parts(rows):
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
        for part in _parts(rows):
            images = self.cache.batch(part).images
            # A list is of views, and all the others give memory of their own.
            yield [np.array(one) for one in images] if isinstance(images, list) else images

    def padded(self, seed: int, passes: int) -> Iterator[Any]:
        for part in _parts(shuffled_rows(len(self.pictures), passes, seed)):
            yield self.cache.batch(part, pad="batch").images

    def views(self, seed: int, passes: int) -> Iterator[Any]:
        for part in _parts(shuffled_rows(len(self.pictures), passes, seed)):
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

    title = "mmcache.torch.Dataset"
    modules = ("mmcache", "torch")

    def loader(self, seed: int, passes: int, workers: int) -> Iterator[Any]:
        if workers not in self._ways:
            from mmcache.torch import Dataset  # noqa: PLC0415

            self._ways[workers] = _DataLoaders(Dataset(self.cache), workers)
        return iter(self._ways[workers].epoch(shuffled_rows(len(self.pictures), passes, seed)))


# By hand -----------------------------------------------------------------------------------------


class MemmapLoop(Peer):
    """``np.memmap`` and a loop."""

    title = "np.memmap, a loop"

    def write(self, pictures: Pictures, labels: NDArray[np.int64]) -> None:
        self.where.mkdir()
        np.save(self.where / "labels.npy", labels)
        with (self.where / "pixels.bin").open("wb") as file:
            for picture in pictures:
                file.write(picture)

    def open(self) -> None:
        path = self.where / "pixels.bin"
        if self.shape is not None:
            self.mapped = np.memmap(path, np.uint8, "r", shape=(len(self.pictures), *self.shape))
            return
        self.mapped = np.memmap(path, np.uint8, "r")
        sizes = map(self.pictures.nbytes, range(len(self.pictures)))
        self.starts = list(itertools.accumulate(sizes, initial=0))

    def view(self, row: int) -> NDArray[np.uint8]:
        if self.shape is not None:
            return self.mapped[row]
        flat = self.mapped[self.starts[row] : self.starts[row + 1]]
        return flat.reshape(self.pictures.shapes[row])


class MemmapTake(MemmapLoop):
    """``np.take`` into a buffer: the fastest that numpy has."""

    title = "np.memmap, np.take into a buffer"
    kept = "MemmapLoop"

    def batches(self, rows: Sequence[int]) -> Iterator[Any]:
        if self.shape is None:
            raise NotOfferedError("np.take needs pictures of one shape")
        out = np.empty((BATCH, *self.shape), np.uint8)
        plain = self.mapped.view(np.ndarray)
        for part in _parts(rows):
            yield np.take(plain, part, axis=0, out=out[: len(part)], mode="clip")


class _H5py(Peer):
    modules = ("h5py",)
    packages = ("h5py",)
    chunked: ClassVar[bool]

    def write(self, pictures: Pictures, labels: NDArray[np.int64]) -> None:
        import h5py  # noqa: PLC0415

        self.where.mkdir()
        with h5py.File(self.where / "pictures.h5", "w") as file:
            file["labels"] = labels
            if self.shape is None:
                images = file.create_dataset("images", len(pictures), h5py.vlen_dtype(np.uint8))
                for row, picture in enumerate(pictures):
                    images[row] = picture.reshape(-1)
                return
            chunks = (1, *self.shape) if self.chunked else None
            images = file.create_dataset(
                "images", (len(pictures), *self.shape), np.uint8, chunks=chunks
            )
            for row, picture in enumerate(pictures):
                images[row] = picture

    def open(self) -> None:
        import h5py  # noqa: PLC0415

        self.images = h5py.File(self.where / "pictures.h5")["images"]

    def view(self, row: int) -> NDArray[np.uint8]:
        picture: NDArray[np.uint8] = self.images[row]
        return picture if self.shape else picture.reshape(self.pictures.shapes[row])

    def single(self, row: int) -> NDArray[np.uint8]:
        return self.view(row)

    def batches(self, rows: Sequence[int]) -> Iterator[Any]:
        if self.shape is None:
            yield from super().batches(rows)
            return
        out = np.empty((BATCH, *self.shape), np.uint8)
        for part in _parts(rows):
            for place, row in enumerate(part):
                self.images.read_direct(out, np.s_[row], np.s_[place])
            yield out[: len(part)]


class H5pyChunks(_H5py):
    """h5py by hand, a chunk a picture (shapes that differ: a vlen dataset)."""

    title = "h5py, a chunk a picture"
    chunked = True


class H5pyContiguous(_H5py):
    """h5py by hand, contiguous."""

    title = "h5py, contiguous"
    chunked = False

    def write(self, pictures: Pictures, labels: NDArray[np.int64]) -> None:
        if self.shape is None:
            raise NotOfferedError("pictures that differ in shape are a vlen dataset")
        super().write(pictures, labels)


class ZarrChunks(Peer):
    """zarr by hand, a chunk a picture, not compressed."""

    title = "zarr, a chunk a picture"
    modules = ("zarr",)
    packages = ("zarr",)
    shard: ClassVar[int | None] = None

    def write(self, pictures: Pictures, labels: NDArray[np.int64]) -> None:
        import zarr  # noqa: PLC0415

        if self.shape is None:
            raise NotOfferedError("zarr has no arrays of pictures that differ in shape")
        group = zarr.open_group(self.where, mode="w")
        group["labels"] = labels
        images: Any = group.create_array(
            "images",
            shape=(len(pictures), *self.shape),
            dtype="uint8",
            chunks=(1, *self.shape),
            shards=(self.shard, *self.shape) if self.shard else None,
            compressors=None,
        )
        for start in range(0, len(pictures), SHARD):
            part = [pictures[row] for row in range(start, min(start + SHARD, len(pictures)))]
            images[start : start + len(part)] = np.stack(part)

    def open(self) -> None:
        import zarr  # noqa: PLC0415

        self.images: Any = zarr.open_group(self.where, mode="r")["images"]

    def view(self, row: int) -> NDArray[np.uint8]:
        return np.asarray(self.images[row])

    def single(self, row: int) -> NDArray[np.uint8]:
        return self.view(row)

    def batches(self, rows: Sequence[int]) -> Iterator[Any]:
        for part in _parts(rows):
            yield self.images.oindex[np.array(part)]


class ZarrShards(ZarrChunks):
    """zarr by hand, in shards."""

    title = f"zarr, shards of {SHARD} pictures"
    shard = SHARD


class Lmdb(Peer):
    """A key-value store whose values are the pixels."""

    title = "LMDB"
    modules = ("lmdb",)
    packages = ("lmdb",)

    def write(self, pictures: Pictures, labels: NDArray[np.int64]) -> None:
        import lmdb  # noqa: PLC0415

        room = 2 * pictures.flat.nbytes + (1 << 24)
        with lmdb.open(str(self.where), map_size=room) as base, base.begin(write=True) as change:
            for row, picture in enumerate(pictures):
                change.put(b"%08d" % row, picture.tobytes())
            change.put(b"labels", labels.tobytes())

    def open(self) -> None:
        import lmdb  # noqa: PLC0415

        base = lmdb.open(str(self.where), readonly=True, lock=False)
        self.base, self.reading = base, base.begin(buffers=True)

    def view(self, row: int) -> NDArray[np.uint8]:
        pixels = np.frombuffer(self.reading.get(b"%08d" % row), np.uint8)
        return pixels.reshape(self.pictures.shapes[row])


# Other people's formats --------------------------------------------------------------------------


class MmapNinja(Peer):
    """mmap.ninja: an array, or a flat run with an index."""

    title = "mmap.ninja"
    modules = ("mmap_ninja",)
    packages = ("mmap-ninja",)

    def write(self, pictures: Pictures, labels: NDArray[np.int64]) -> None:
        import mmap_ninja  # noqa: PLC0415

        if self.shape is None:
            mmap_ninja.RaggedMmap.from_generator(self.where, iter(pictures), batch_size=BATCH)
        else:
            whole = pictures.flat.reshape(len(pictures), *self.shape)
            mmap_ninja.np_from_ndarray(self.where, whole)

    def open(self) -> None:
        import mmap_ninja  # noqa: PLC0415

        known = self.shape is None
        how = mmap_ninja.RaggedMmap if known else mmap_ninja.np_open_existing
        self.mapped = how(self.where)

    def view(self, row: int) -> NDArray[np.uint8]:
        picture: NDArray[np.uint8] = self.mapped[row]
        return picture

    def batches(self, rows: Sequence[int]) -> Iterator[Any]:
        for part in _parts(rows):
            if self.shape is None:
                yield [np.array(one) for one in self.mapped[np.array(part)]]
            else:
                yield self.mapped[part]


class PillowCrops(MemmapLoop):
    """Random resized crops of mapped pictures by Pillow, one after the other."""

    title = "Pillow, by hand"
    modules = ("PIL",)
    kept = "MemmapLoop"

    def crops(self, seed: int, passes: int) -> Iterator[Any]:
        from PIL import Image  # noqa: PLC0415

        random = np.random.default_rng(seed)
        out = np.empty((BATCH, CROP, CROP, 3), np.uint8)
        for part in _parts(shuffled_rows(len(self.pictures), passes, seed)):
            for place, row in enumerate(part):
                view = self.view(row)
                left, top, width, height = _window(*view.shape[:2], random)
                # The crop first: `box` alone would have Pillow look at all of the picture.
                cut = Image.fromarray(np.array(view[top : top + height, left : left + width]))
                out[place] = cut.resize((CROP, CROP), Image.Resampling.BILINEAR)
            yield out[: len(part)]


def _window(height: int, width: int, random: Any) -> tuple[int, int, int, int]:
    """Return left, top, width and height of a window, drawn as torchvision's are."""
    for _ in range(10):
        area = height * width * random.uniform(0.08, 1.0)
        ratio = np.exp(random.uniform(np.log(3 / 4), np.log(4 / 3)))
        wide, high = round(np.sqrt(area * ratio)), round(np.sqrt(area / ratio))
        if 0 < wide <= width and 0 < high <= height:
            return random.integers(width - wide + 1), random.integers(height - high + 1), wide, high
    edge = min(height, width)
    return (width - edge) // 2, (height - edge) // 2, edge, edge


class Ffcv(Peer):
    """FFCV: raw pixels, its compiled loader."""

    title = "FFCV"
    modules = ("ffcv", "PIL", "torch")
    packages = ("torch==2.13.0", "ffcv", "pillow")
    environment = "peers-ffcv"
    workers: ClassVar[int] = 1

    def write(self, pictures: Pictures, labels: NDArray[np.int64]) -> None:
        from ffcv.fields import IntField, RGBImageField  # noqa: PLC0415
        from ffcv.writer import DatasetWriter  # noqa: PLC0415

        self.where.mkdir()
        pairs = _Pairs(pictures, labels)
        fields = {"image": RGBImageField(write_mode="raw"), "label": IntField()}
        writer = DatasetWriter(str(self.where / "pictures.beton"), fields, num_workers=1)
        writer.from_indexed_dataset(pairs)

    def check(self) -> None:
        if self.shape is not None:
            first = np.asarray(next(iter(self.epoch(0, 1)))[0])
            assert np.array_equal(first, self.pictures[0]), "picture 0 differs"

    def _epoch(self, order: str, passes: int, decoder: type | None = None) -> Iterator[Any]:
        """Yield an epoch of a loader that is kept: it is compiled when it is first used."""
        from ffcv.fields.decoders import IntDecoder, SimpleRGBImageDecoder  # noqa: PLC0415
        from ffcv.loader import Loader, OrderOption  # noqa: PLC0415

        if self.shape is None and decoder is None:
            raise NotOfferedError("FFCV crops to one shape, and gives no batches of many")
        if (order, passes, decoder) not in self._ways:
            image = decoder((CROP, CROP)) if decoder else SimpleRGBImageDecoder()
            loader: Any = Loader(
                str(self.where / "pictures.beton"),
                batch_size=BATCH,
                num_workers=self.workers,
                order=OrderOption[order],
                indices=list(range(len(self.pictures))) * passes,
                seed=0,
                drop_last=False,
                pipelines={"image": [image], "label": [IntDecoder()]},
            )
            self._ways[order, passes, decoder] = loader
        return (images for images, _ in self._ways[order, passes, decoder])

    def random(self, seed: int, passes: int) -> Iterator[Any]:  # noqa: ARG002  # it counts epochs
        return self._epoch("RANDOM", passes)

    def epoch(self, seed: int, passes: int) -> Iterator[Any]:  # noqa: ARG002
        return self._epoch("SEQUENTIAL", passes)

    def padded(self, seed: int, passes: int) -> Iterator[Any]:  # noqa: ARG002
        raise NotOfferedError("FFCV has no padding")

    def crops(self, seed: int, passes: int) -> Iterator[Any]:  # noqa: ARG002
        from ffcv.fields.decoders import RandomResizedCropRGBImageDecoder  # noqa: PLC0415

        return self._epoch("RANDOM", passes, RandomResizedCropRGBImageDecoder)

    def loader(self, seed: int, passes: int, workers: int) -> Iterator[Any]:
        if workers:
            raise NotOfferedError("FFCV has threads and no workers")
        return self.random(seed, passes)


class FfcvTwo(Ffcv):
    """The same with two threads."""

    title = "FFCV, 2 threads"
    kept = "Ffcv"
    workers = 2


class _Pairs:
    def __init__(self, pictures: Pictures, labels: NDArray[np.int64]) -> None:
        self.pictures, self.labels = pictures, labels

    def __len__(self) -> int:
        return len(self.pictures)

    def __getitem__(self, row: int) -> tuple[NDArray[np.uint8], int]:
        return np.ascontiguousarray(self.pictures[row]), int(self.labels[row])


class Streaming(Peer):
    """MosaicML streaming: MDS shards."""

    title = "MosaicML streaming"
    modules = ("streaming", "torch")
    packages = ("torch==2.13.0", "mosaicml-streaming")
    environment = "peers-streaming"

    @staticmethod
    def _import() -> Any:
        # Its pictures' half needs torchvision, which must fit the torch beside it to the version.
        sys.modules.setdefault("streaming.vision", types.ModuleType("streaming.vision"))
        import streaming  # noqa: PLC0415

        return streaming

    def write(self, pictures: Pictures, labels: NDArray[np.int64]) -> None:
        streaming = self._import()
        columns = {"image": "ndarray:uint8", "label": "int"}
        with streaming.MDSWriter(out=str(self.where), columns=columns) as writer:
            for picture, label in zip(pictures, labels.tolist(), strict=True):
                writer.write({"image": picture, "label": label})

    def open(self) -> None:
        streaming = self._import()
        streaming.base.util.clean_stale_shared_memory()
        self.data = streaming.StreamingDataset(
            local=str(self.where), batch_size=BATCH, shuffle=False
        )

    def view(self, row: int) -> NDArray[np.uint8]:
        picture: NDArray[np.uint8] = self.data[row]["image"]
        return picture

    def loader(self, seed: int, passes: int, workers: int) -> Iterator[Any]:
        import torch.utils.data  # noqa: PLC0415

        if workers not in self._ways:
            data = self._import().StreamingDataset(
                local=str(self.where), batch_size=BATCH, shuffle=True, shuffle_seed=seed
            )
            self._ways[workers] = torch.utils.data.DataLoader(
                data, batch_size=BATCH, num_workers=workers, persistent_workers=workers > 0
            )
        loader: Any = self._ways[workers]
        return (batch["image"] for _ in range(passes) for batch in loader)


class LitData(Peer):
    """LitData: chunks, read by row."""

    title = "LitData"
    modules = ("litdata", "torch")
    packages = ("torch==2.13.0", "litdata")

    def write(self, pictures: Pictures, labels: NDArray[np.int64]) -> None:
        # Not litdata.optimize, which starts processes and cleans up <tmp>/data when it is done.
        from litdata.streaming import Cache  # noqa: PLC0415

        self.where.mkdir()
        cache = Cache(str(self.where), chunk_bytes=CHUNK_BYTES)
        for row, (picture, label) in enumerate(zip(pictures, labels.tolist(), strict=True)):
            cache[row] = {"image": np.ascontiguousarray(picture), "label": label}
        cache.done()
        cache.merge()

    def open(self) -> None:
        from litdata import StreamingDataset  # noqa: PLC0415

        self.data = StreamingDataset(str(self.where), shuffle=False)

    def view(self, row: int) -> NDArray[np.uint8]:
        picture: NDArray[np.uint8] = self.data[row]["image"]
        return picture

    def _own(self, seed: int, passes: int, *, shuffle: bool) -> Iterator[Any]:
        """Go through it in its own order: by row it reads a chunk anew for every picture."""
        from litdata import StreamingDataset  # noqa: PLC0415

        out = None if self.shape is None else np.empty((BATCH, *self.shape), np.uint8)
        for number in range(passes):
            data = StreamingDataset(str(self.where), shuffle=shuffle, seed=seed * passes + number)
            samples = iter(data)
            while part := [one["image"] for one in itertools.islice(samples, BATCH)]:
                yield part if out is None else np.stack(part, out=out[: len(part)])

    def random(self, seed: int, passes: int) -> Iterator[Any]:
        return self._own(seed, passes, shuffle=True)

    def epoch(self, seed: int, passes: int) -> Iterator[Any]:
        return self._own(seed, passes, shuffle=False)

    def loader(self, seed: int, passes: int, workers: int) -> Iterator[Any]:
        from litdata import StreamingDataLoader, StreamingDataset  # noqa: PLC0415

        if workers not in self._ways:
            data = StreamingDataset(str(self.where), shuffle=True, seed=seed)
            self._ways[workers] = StreamingDataLoader(
                data, batch_size=BATCH, num_workers=workers, persistent_workers=workers > 0
            )
        loader = self._ways[workers]
        return (batch["image"] for _ in range(passes) for batch in loader)


class HuggingFace(Peer):
    """HF datasets: Arrow files, mapped. Pixels are one binary value a picture."""

    title = "HF datasets"
    modules = ("datasets",)
    packages = ("datasets",)

    def write(self, pictures: Pictures, labels: NDArray[np.int64]) -> None:
        import datasets  # noqa: PLC0415

        features = datasets.Features(
            {"image": datasets.Value("large_binary"), "label": datasets.Value("int64")}
        )
        spare = self.where.with_name(self.where.name + "-spare")
        made = datasets.Dataset.from_generator(
            lambda: (
                {"image": picture.tobytes(), "label": label}
                for picture, label in zip(pictures, labels.tolist(), strict=True)
            ),
            features=features,
            cache_dir=str(spare),
            fingerprint=self.where.name,  # else it pickles the generator and all that it holds
        )
        made.save_to_disk(str(self.where))
        shutil.rmtree(spare)

    def open(self) -> None:
        import datasets  # noqa: PLC0415

        self.data = datasets.load_from_disk(str(self.where)).with_format("arrow")

    def _taken(self, rows: Any) -> list[NDArray[np.uint8]]:
        column = self.data[rows].column("image")
        return [np.frombuffer(one.as_buffer(), np.uint8) for one in column]

    def view(self, row: int) -> NDArray[np.uint8]:
        return self._taken([row])[0].reshape(self.pictures.shapes[row])

    def batches(self, rows: Sequence[int]) -> Iterator[Any]:
        shape = self.shape
        out = None if shape is None else np.empty((BATCH, *shape), np.uint8)
        for part in _parts(rows):
            flat = self._taken(part)
            if out is None:
                shapes = self.pictures.shapes
                yield [np.array(one).reshape(shapes[row]) for one, row in zip(flat, part, strict=True)]
                continue
            for place, one in enumerate(flat):
                out[place].reshape(-1)[:] = one
            yield out[: len(part)]


class WebDataset(Peer):
    """WebDataset: tar files, read from front to back, shuffled in a buffer."""

    title = "WebDataset (shuffled in a buffer)"
    modules = ("webdataset",)
    packages = ("torch==2.13.0", "webdataset")

    def write(self, pictures: Pictures, labels: NDArray[np.int64]) -> None:
        import webdataset  # noqa: PLC0415

        self.where.mkdir()
        with webdataset.TarWriter(str(self.where / "pictures.tar")) as tar:
            for row, picture in enumerate(pictures):
                image = io.BytesIO()
                np.save(image, picture)
                label = str(labels[row]).encode()
                key = {"__key__": f"{row:08d}"}
                tar.write(key | {"image.npy": image.getvalue(), "label.cls": label})

    def check(self) -> None:
        for row, (image, _) in zip(range(3), self._samples(1, 0, 0), strict=False):
            assert np.array_equal(image, self.pictures[row]), f"picture {row} differs"

    def _samples(self, passes: int, buffer: int, seed: int) -> Iterator[Any]:
        import webdataset  # noqa: PLC0415

        tar = str(self.where / "pictures.tar")
        data = webdataset.WebDataset(tar, shardshuffle=False, seed=seed)
        if buffer:
            data = data.shuffle(buffer, initial=buffer // 2)
        every = data.decode().to_tuple("image.npy", "label.cls").repeat(passes)
        return itertools.islice(iter(every), passes * len(self.pictures))

    def _batched(self, samples: Iterator[Any]) -> Iterator[Any]:
        out = None if self.shape is None else np.empty((BATCH, *self.shape), np.uint8)
        while part := [image for image, _ in itertools.islice(samples, BATCH)]:
            if out is None:
                yield part
                continue
            np.stack(part, out=out[: len(part)])
            yield out[: len(part)]

    def random(self, seed: int, passes: int) -> Iterator[Any]:
        return self._batched(self._samples(passes, 2 * BATCH, seed))

    def epoch(self, seed: int, passes: int) -> Iterator[Any]:
        return self._batched(self._samples(passes, 0, seed))

    def padded(self, seed: int, passes: int) -> Iterator[Any]:  # noqa: ARG002
        raise NotOfferedError("WebDataset has no access by row")

    def loader(self, seed: int, passes: int, workers: int) -> Iterator[Any]:  # noqa: ARG002
        raise NotOfferedError("one tar file has no two workers")


class Jpeg(Peer):
    """No cache: each picture is decoded and resized by Pillow each time."""

    title = "decoding JPEG each time, Pillow"
    modules = ("PIL",)
    packages = ("pillow",)
    exact = False

    def write(self, pictures: Pictures, labels: NDArray[np.int64]) -> None:
        """Keep nothing: the photos are there."""

    def open(self) -> None:
        self.paths = self.files()

    def files(self) -> list[Path]:
        # Pictures that fail to decode are not among the rows; a photo more or less is no matter.
        return sorted(path for path in self.photos.rglob("*") if path.is_file())

    def view(self, row: int) -> NDArray[np.uint8]:
        from PIL import Image, ImageOps  # noqa: PLC0415

        with Image.open(self.paths[row % len(self.paths)]) as image:
            upright = ImageOps.exif_transpose(image).convert("RGB")
            if self.shape is None:
                upright.thumbnail((256, 256), Image.Resampling.BICUBIC)
                return np.asarray(upright)
            width, height = self.shape[1], self.shape[0]
            return np.asarray(ImageOps.fit(upright, (width, height), Image.Resampling.BICUBIC))


PEERS: dict[str, type[Peer]] = {
    one.__name__: one
    for one in (
        MemoryCopy, MemoryCopyByTwo, MemoryCopyByPicture, DirectReads,
        MmcacheBatchOut, MmcacheBatchOutOne, MmcacheBatchOutTwo, MmcacheBatch,
        MmcacheHdf5, MmcacheZarr, MmcacheLoader, MmcacheLoaderHdf5, MmcacheLoaderZarr, MmcacheLoaderBlocks,
        MmcacheSamples, MmcacheDataset,
        MemmapLoop, MemmapTake, H5pyChunks, H5pyContiguous, ZarrChunks, ZarrShards, Lmdb,
        MmapNinja, PillowCrops, Ffcv, FfcvTwo, Streaming, LitData, HuggingFace, WebDataset, Jpeg,
    )
}  # fmt: skip
"""All of them by the name of their class."""
