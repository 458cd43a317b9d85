"""Other people's libraries, as their own documentation has them used.

Where a library leaves resizing to its user, Pillow does it as in the loop of a tutorial.
"""

from __future__ import annotations

import functools
import io
import sys
import types
from typing import TYPE_CHECKING, Any

import numpy as np

from contest.building.writer import Writer, by_pillow, shrunk

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from numpy.typing import NDArray

__all__ = [
    "Ffcv",
    "HuggingFaceBytes",
    "HuggingFaceImage",
    "Img2dataset",
    "LitData",
    "MmapNinja",
    "Streaming",
]

BATCH = 256  # pictures that mmap.ninja takes at once
CHUNK_BYTES = 1 << 26  # of LitData


def _pixels(path: Path, size: int) -> NDArray[np.uint8]:
    return np.asarray(by_pillow(path, size))


class MmapNinja(Writer):
    """mmap.ninja: a flat run with an index."""

    title = "mmap.ninja"
    modules = ("mmap_ninja", "PIL")
    packages = ("mmap-ninja", "pillow")

    def build(self, paths: list[Path], size: int) -> None:
        import mmap_ninja  # noqa: PLC0415

        pictures = (_pixels(path, size) for path in paths)
        mmap_ninja.RaggedMmap.from_generator(self.where, pictures, batch_size=BATCH)

    def kept(self, count: int) -> Iterator[NDArray[np.uint8]]:
        import mmap_ninja  # noqa: PLC0415

        mapped = mmap_ninja.RaggedMmap(self.where)
        return (mapped[row] for row in range(count))


class Ffcv(Writer):
    """FFCV's writer, which resizes by itself: OpenCV's area filter."""

    title = "FFCV's DatasetWriter"
    modules = ("ffcv", "PIL", "torch")
    packages = ("torch==2.13.0", "ffcv", "pillow")
    environment = "peers-ffcv"  # the one for training reads, as building it takes long

    def build(self, paths: list[Path], size: int) -> None:
        from ffcv.fields import IntField, RGBImageField  # noqa: PLC0415
        from ffcv.writer import DatasetWriter  # noqa: PLC0415

        self.where.mkdir()
        fields = {
            "image": RGBImageField(write_mode="raw", max_resolution=size),
            "label": IntField(),
        }
        writer = DatasetWriter(str(self.where / "pictures.beton"), fields, num_workers=1)
        writer.from_indexed_dataset(_Opened(paths))

    def kept(self, count: int) -> Iterator[NDArray[np.uint8]]:
        from ffcv.reader import Reader  # noqa: PLC0415

        file = self.where / "pictures.beton"
        whole = np.fromfile(file, np.uint8)
        for told in Reader(str(file)).metadata["f0"]:
            height, width, start = int(told["height"]), int(told["width"]), int(told["data_ptr"])
            yield whole[start : start + height * width * 3].reshape(height, width, 3)


class _Opened:
    """A data set as torchvision's ImageFolder is one: Pillow's images, and labels."""

    def __init__(self, paths: list[Path]) -> None:
        self.paths = paths

    def __len__(self) -> int:
        return len(self.paths)

    def __getitem__(self, row: int) -> tuple[Any, int]:
        from PIL import Image  # noqa: PLC0415

        with Image.open(self.paths[row]) as image:
            return image.convert("RGB"), row


class Streaming(Writer):
    """MosaicML streaming: MDS shards."""

    title = "MosaicML streaming's MDSWriter"
    modules = ("streaming", "torch", "PIL")
    packages = ("torch==2.13.0", "mosaicml-streaming")
    environment = "peers-streaming"

    def prepare(self) -> None:
        # Its pictures' half needs torchvision, which must fit the torch beside it to the version.
        sys.modules.setdefault("streaming.vision", types.ModuleType("streaming.vision"))

    def build(self, paths: list[Path], size: int) -> None:
        from streaming import MDSWriter  # noqa: PLC0415

        with MDSWriter(out=str(self.where), columns={"image": "ndarray:uint8"}) as writer:
            for path in paths:
                writer.write({"image": _pixels(path, size)})

    def kept(self, count: int) -> Iterator[NDArray[np.uint8]]:
        from streaming import StreamingDataset  # noqa: PLC0415
        from streaming.base.util import clean_stale_shared_memory  # noqa: PLC0415

        clean_stale_shared_memory()
        data = StreamingDataset(local=str(self.where), batch_size=1, shuffle=False)
        return (data[row]["image"] for row in range(count))


class LitData(Writer):
    """LitData's optimize with one worker, which is a process."""

    title = "LitData's optimize"
    modules = ("litdata", "torch", "PIL")
    packages = ("torch==2.13.0", "litdata")

    def build(self, paths: list[Path], size: int) -> None:
        import litdata  # noqa: PLC0415

        litdata.optimize(
            fn=functools.partial(_sample, size=size),
            inputs=[str(path) for path in paths],
            output_dir=str(self.where),
            chunk_bytes=CHUNK_BYTES,
            num_workers=1,
            start_method="fork",  # else the worker imports torch again, which is not counted here
            reorder_files=False,
            verbose=False,
        )

    def kept(self, count: int) -> Iterator[NDArray[np.uint8]]:
        from litdata import StreamingDataset  # noqa: PLC0415

        data = StreamingDataset(str(self.where), shuffle=False)
        return (np.asarray(data[row]["image"]) for row in range(count))


def _sample(path: str, size: int) -> dict[str, Any]:
    return {"image": np.asarray(by_pillow(path, size))}


class HuggingFaceImage(Writer):
    """HF datasets: a map from images to images, which it keeps as PNG."""

    title = "HF datasets, map to images (PNG)"
    modules = ("datasets", "PIL")
    packages = ("datasets", "pillow")

    def build(self, paths: list[Path], size: int) -> None:
        import datasets  # noqa: PLC0415

        def resized(sample: dict[str, Any]) -> dict[str, Any]:
            return {"image": shrunk(sample["image"], size)}

        named = datasets.Dataset.from_dict({"image": [str(path) for path in paths]})
        features = datasets.Features({"image": datasets.Image()})
        self._map(named.cast_column("image", datasets.Image()), resized, features)

    def prepare(self) -> None:
        import datasets  # noqa: PLC0415

        datasets.disable_progress_bars()

    def _map(self, named: Any, function: Any, features: Any) -> None:
        self.where.mkdir()
        named.map(
            function,
            features=features,
            remove_columns=[name for name in named.column_names if name not in features],
            load_from_cache_file=False,
            cache_file_name=str(self.where / "pictures.arrow"),
            new_fingerprint=self.where.name,  # else it pickles the function and hashes it
        )

    def kept(self, count: int) -> Iterator[NDArray[np.uint8]]:
        return (np.asarray(one["image"].convert("RGB")) for one in self._read())

    def _read(self) -> Any:
        import datasets  # noqa: PLC0415

        return datasets.Dataset.from_file(str(self.where / "pictures.arrow"))


class HuggingFaceBytes(HuggingFaceImage):
    """HF datasets: a map from paths to raw pixels, the fastest way that we know of."""

    title = "HF datasets, map to bytes"

    def build(self, paths: list[Path], size: int) -> None:
        import datasets  # noqa: PLC0415

        def resized(sample: dict[str, Any]) -> dict[str, Any]:
            pixels = _pixels(sample["path"], size)
            return {"pixels": pixels.tobytes(), "shape": pixels.shape}

        named = datasets.Dataset.from_dict({"path": [str(path) for path in paths]})
        kinds = {
            "pixels": datasets.Value("large_binary"),
            "shape": datasets.Sequence(datasets.Value("int64")),
        }
        self._map(named, resized, datasets.Features(kinds))

    def kept(self, count: int) -> Iterator[NDArray[np.uint8]]:
        for one in self._read():
            yield np.frombuffer(one["pixels"], np.uint8).reshape(one["shape"])


class Img2dataset(Writer):
    """img2dataset's Resizer, without its download: OpenCV's area filter, kept as JPEG files."""

    title = "img2dataset's Resizer (JPEG)"
    modules = ("img2dataset", "cv2")
    packages = ("img2dataset",)
    environment = "writers-img2dataset"

    def build(self, paths: list[Path], size: int) -> None:
        from img2dataset.resizer import Resizer  # noqa: PLC0415

        resize = Resizer(size, "keep_ratio_largest", resize_only_if_bigger=True)
        self.where.mkdir()
        for number, path in enumerate(paths):
            encoded, *_, error = resize(io.BytesIO(path.read_bytes()))
            if error:
                raise RuntimeError(error)
            (self.where / f"{number:06}.jpg").write_bytes(encoded)

    def kept(self, count: int) -> Iterator[NDArray[np.uint8]]:
        import cv2  # noqa: PLC0415

        for path in sorted(self.where.iterdir()):
            yield cv2.cvtColor(cv2.imread(str(path)), cv2.COLOR_BGR2RGB)
