"""What people write by hand: numpy, h5py, zarr and LMDB, or no cache at all.

Each is as fast as we know how to write it: buffers are reused, and nothing is compressed.
"""

from __future__ import annotations

import itertools
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from contest.entrant import NotOfferedError
from contest.peer import Peer, parts
from contest.pictures import BATCH, CROP, shuffled_rows

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

    from numpy.typing import NDArray

    from contest.pictures import Pictures

__all__ = [
    "H5pyChunks",
    "H5pyContiguous",
    "Jpeg",
    "Lmdb",
    "MemmapLoop",
    "MemmapOfCache",
    "MemmapTake",
    "PillowCrops",
    "ZarrChunks",
    "ZarrShards",
]

SHARD = 64  # pictures in a shard that is written by hand


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


class MemmapOfCache(MemmapLoop):
    """The same over the very file of a cache of one shape."""

    title = "np.memmap, a loop over the cache's file"

    def write(self, pictures: Pictures, labels: NDArray[np.int64]) -> None:
        """Keep nothing: the file of the pictures is what it reads."""

    def files(self) -> list[Path]:
        return [self.pictures.path]

    def open(self) -> None:
        if self.shape is None:
            raise NotOfferedError("this one is for pictures of one shape")
        path, start = self.pictures.path, self.pictures.start
        shape = (len(self.pictures), *self.shape)
        self.mapped = np.memmap(path, np.uint8, "r", offset=start, shape=shape)


class MemmapTake(MemmapLoop):
    """``np.take`` into a buffer: the fastest that numpy has."""

    title = "np.memmap, np.take into a buffer"
    kept = "MemmapLoop"

    def batches(self, rows: Sequence[int]) -> Iterator[Any]:
        if self.shape is None:
            raise NotOfferedError("np.take needs pictures of one shape")
        out = np.empty((BATCH, *self.shape), np.uint8)
        plain = self.mapped.view(np.ndarray)
        for part in parts(rows):
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
        for part in parts(rows):
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
        for part in parts(rows):
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


class PillowCrops(MemmapLoop):
    """Random resized crops of mapped pictures by Pillow, one after the other."""

    title = "Pillow, by hand"
    modules = ("PIL",)
    kept = "MemmapLoop"

    def crops(self, seed: int, passes: int) -> Iterator[Any]:
        from PIL import Image  # noqa: PLC0415

        random = np.random.default_rng(seed)
        out = np.empty((BATCH, CROP, CROP, 3), np.uint8)
        for part in parts(shuffled_rows(len(self.pictures), passes, seed)):
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
