"""What mmcache is tested with, for those who write a source or a store of their own.

``SourceContract`` and ``StoreContract`` are test classes to inherit from. The picture factory
paints pictures of every kind, so that no test needs anybody's photos.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import numpy as np
from PIL import Image
from PIL.ExifTags import Base

from mmcache.geometry import Size
from mmcache.sources import from_json

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from numpy.typing import NDArray

    from mmcache.sources import Source
    from mmcache.stores.contract import Store

__all__ = ["SourceContract", "StoreContract", "paint", "paint_folder", "painted_sizes", "save"]

CLASSES = ("circles", "stripes", "waves")


def paint(size: Size, seed: int = 0, mode: str = "RGB") -> Image.Image:
    """Paint a picture: smooth waves, hard edges, a little grain; the same for the same seed."""
    random = np.random.default_rng(seed)
    y, x = np.mgrid[0 : size.height, 0 : size.width].astype(np.float32)
    y, x = y / max(size), x / max(size)
    layers = []
    for _ in range(3):
        fy, fx, phase = random.uniform(2, 14), random.uniform(2, 14), random.uniform(0, 6)
        layers.append(127 + 90 * np.sin(fy * y + fx * x + phase))
    pixels = np.stack(layers, axis=-1)
    middle = random.uniform(0.2, 0.8, 2) * (size.height / max(size), size.width / max(size))
    disc = (y - middle[0]) ** 2 + (x - middle[1]) ** 2 < random.uniform(0.01, 0.05)
    pixels[disc] = random.uniform(0, 255, 3)
    pixels += random.normal(0, 4, pixels.shape)
    image = Image.fromarray(np.clip(pixels, 0, 255).astype(np.uint8))
    return image if mode == "RGB" else image.convert(mode)


def save(image: Image.Image, path: Path, orientation: int = 1, **options: Any) -> None:
    """Save *image*, with an EXIF orientation where it is not 1."""
    if orientation != 1:
        exif = Image.Exif()
        exif[Base.Orientation] = orientation
        options["exif"] = exif
    image.save(path, **options)


def painted_sizes(count: int, seed: int = 0, longest: int = 640) -> Iterator[Size]:
    """Yield sizes with aspects from 1:4 to 6:1, the extremes first."""
    random = np.random.default_rng(seed)
    for number in range(count):
        aspect = (0.25, 6.0)[number] if number < 2 else float(np.exp(random.normal(0.2, 0.45)))  # noqa: PLR2004
        aspect = min(max(aspect, 0.25), 6.0)
        edge = int(random.integers(longest // 3, longest + 1))
        yield Size(round(edge / max(aspect, 1)), round(edge * min(aspect, 1)))


def paint_folder(
    folder: Path, count: int = 24, *, seed: int = 0, longest: int = 640, classes: bool = True
) -> Path:
    """Paint *count* pictures into *folder*: JPEG and PNG, all EXIF orientations, class folders.

    Returns
    -------
    pathlib.Path
        *folder*.
    """
    for number, size in enumerate(painted_sizes(count, seed, longest)):
        place = folder / CLASSES[number % len(CLASSES)] if classes else folder
        place.mkdir(parents=True, exist_ok=True)
        orientation = 1 + number // 2 % 8 if number % 2 else 1
        image = paint(size, seed * 100_003 + number, "L" if number % 11 == 10 else "RGB")  # noqa: PLR2004
        if number % 4 == 3:  # noqa: PLR2004
            save(image, place / f"{number:05}.png", orientation, compress_level=1)
        else:
            save(image, place / f"{number:05}.jpg", orientation, quality=90)
    return folder


class SourceContract:
    """What every source must do: inherit, and give the fixture ``source``.

    It must hold at least two pictures that Pillow can open.
    """

    def test_the_listing_is_the_same_twice(self, source: Source) -> None:
        first, second = source.listing(), source.listing()
        assert first.keys == second.keys
        assert first.classes == second.classes
        assert first.failures == second.failures

    def test_keys_are_unique(self, source: Source) -> None:
        keys = source.listing().keys
        assert len(keys) > 1
        assert len(set(keys)) == len(keys)

    def test_labels_are_positions_in_classes(self, source: Source) -> None:
        listing = source.listing()
        if listing.labels is None:
            assert not listing.classes
        else:
            assert len(listing.labels) == len(listing.keys)
            assert set(listing.labels.tolist()) <= {-1, *range(len(listing.classes))}

    def test_every_key_opens_as_a_picture_of_the_size_it_says(self, source: Source) -> None:
        keys = source.listing().keys
        for row in range(len(keys)):
            with source.open(keys.raw(row)) as encoded:
                assert len(encoded.file.read()) == encoded.size
                assert source.stat(keys.raw(row)) == (encoded.size, encoded.mtime_ns)
                encoded.file.seek(0)
                with Image.open(encoded.file) as image:
                    image.load()

    def test_a_key_that_is_not_there_is_an_os_error(self, source: Source) -> None:
        for ask in (source.open, source.stat):
            try:
                ask(b"no such picture.jpg")
            except OSError:
                continue
            raise AssertionError("a missing picture was opened")

    def test_a_described_source_reads_the_same_bytes_elsewhere(self, source: Source) -> None:
        described = source.describe()
        if described is None:
            return
        elsewhere = from_json(json.loads(json.dumps(described)))
        key = source.listing().keys.raw(0)
        with source.open(key) as here, elsewhere.open(key) as there:
            assert here.file.read() == there.file.read()


class StoreContract:
    """What every store must do: inherit, and give ``store``, ``ending`` and ``read``.

    ``read(path, name)`` reads an array back by another route than mmcache: bare numpy, h5py, zarr.
    """

    store: Store
    ending: str

    @staticmethod
    def read(path: Path, name: str) -> NDArray[Any]:
        """Read array *name* of the cache at *path* without mmcache."""
        raise NotImplementedError

    def test_what_is_written_at_the_segments_is_read_back_by_another_route(
        self, tmp_path: Path
    ) -> None:
        path = tmp_path / f"cache{self.ending}"
        shape = (5, 8, 8, 3)
        slab = 2 * 8 * 8 * 3
        pixels = np.random.default_rng(1).integers(0, 256, shape, np.uint8)
        segments = self.store.allocate(path, pixels.dtype, shape, slab)
        self._fill(path, segments, pixels)
        assert np.array_equal(self.read(path, "pixels"), pixels)

    def test_small_arrays_of_every_dtype_come_back(self, tmp_path: Path) -> None:
        path = tmp_path / f"cache{self.ending}"
        self.store.allocate(path, np.dtype("u1"), (100,), 64)
        arrays: dict[str, NDArray[Any]] = {
            "records": np.arange(12, dtype="<i8").reshape(3, 4),
            "checksums": np.arange(3, dtype="<u4"),
            "height": np.arange(3, dtype="<i4"),
            "keys": np.frombuffer(b"abc", np.uint8),
            "failure_keys": np.empty(0, np.uint8),
        }
        segments = self.store.write_arrays(path, arrays)
        for name, array in arrays.items():
            assert self.read(path, name).dtype == array.dtype
            assert np.array_equal(self.read(path, name), array)
            assert sum(segment.length for segment in segments[name]) == array.nbytes

    def test_room_is_really_allocated(self, tmp_path: Path) -> None:
        path = tmp_path / f"cache{self.ending}"
        length = 3 << 20
        segments = self.store.allocate(path, np.dtype("u1"), (length,), 1 << 20)
        files = {path / s.file if path.is_dir() else path for s in segments}
        if hasattr(next(iter(files)).stat(), "st_blocks"):
            assert sum(file.stat().st_blocks * 512 for file in files) >= length

    def test_allocating_again_keeps_the_payload(self, tmp_path: Path) -> None:
        path = tmp_path / f"cache{self.ending}"
        pixels = np.arange(200, dtype=np.uint8)
        self._fill(path, self.store.allocate(path, pixels.dtype, (200,), 64), pixels)
        again = self.store.allocate(path, pixels.dtype, (200,), 64)
        assert np.array_equal(self.read(path, "pixels"), pixels)
        assert again == self.store.allocate(path, pixels.dtype, (200,), 64)

    def test_the_same_arguments_give_the_same_bytes(self, tmp_path: Path) -> None:
        contents = []
        for name in ("one", "two"):
            path = tmp_path / f"{name}{self.ending}"
            self.store.allocate(path, np.dtype("u1"), (300,), 64)
            self.store.write_arrays(path, {"checksums": np.arange(4, dtype="<u4")})
            files = sorted(path.rglob("*")) if path.is_dir() else [path]
            contents.append([file.read_bytes() for file in files if file.is_file()])
        assert contents[0] == contents[1]

    @staticmethod
    def _fill(path: Path, segments: list[Any], pixels: NDArray[Any]) -> None:
        flat = pixels.tobytes()
        position = 0
        for segment in segments:
            file = path / segment.file if path.is_dir() else path
            with file.open("r+b") as stream:
                stream.seek(segment.offset)
                stream.write(flat[position : position + segment.length])
            position += segment.length
        assert position == len(flat)
