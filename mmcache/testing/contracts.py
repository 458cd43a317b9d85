"""What every source and store must do, as test classes to inherit from."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import numpy as np
from PIL import Image

from mmcache.sources import from_json

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray

    from mmcache.sources import Source
    from mmcache.stores.contract import Store

__all__ = ["SourceContract", "StoreContract"]


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
