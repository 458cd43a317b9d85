"""Other people's formats, as their own documentation has them used, or faster where we knew how.

Pixels are kept as they are, not encoded anew. Each library is imported where it is used.
"""

from __future__ import annotations

import io
import itertools
import shutil
import sys
import types
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from contest.entrant import NotOfferedError
from contest.peer import Peer, parts
from contest.pictures import BATCH, CROP

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from numpy.typing import NDArray

    from contest.pictures import Pictures

__all__ = [
    "Ffcv",
    "FfcvTwo",
    "HuggingFace",
    "LitData",
    "MmapNinja",
    "Streaming",
    "WebDataset",
]

CHUNK_BYTES = 1 << 26  # of the formats that keep pictures in chunks of their own


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
        for part in parts(rows):
            if self.shape is None:
                yield [np.array(one) for one in self.mapped[np.array(part)]]
            else:
                yield self.mapped[part]


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

    def random(self, seed: int, passes: int) -> Iterator[Any]:  # it counts epochs
        return self._epoch("RANDOM", passes)

    def epoch(self, seed: int, passes: int) -> Iterator[Any]:
        return self._epoch("SEQUENTIAL", passes)

    def padded(self, seed: int, passes: int) -> Iterator[Any]:
        raise NotOfferedError("FFCV has no padding")

    def crops(self, seed: int, passes: int) -> Iterator[Any]:
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
        for part in parts(rows):
            flat = self._taken(part)
            if out is None:
                shapes = self.pictures.shapes
                yield [
                    np.array(one).reshape(shapes[row]) for one, row in zip(flat, part, strict=True)
                ]
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

    def padded(self, seed: int, passes: int) -> Iterator[Any]:
        raise NotOfferedError("WebDataset has no access by row")

    def loader(self, seed: int, passes: int, workers: int) -> Iterator[Any]:
        raise NotOfferedError("one tar file has no two workers")
