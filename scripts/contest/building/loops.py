"""What people write by hand: a loop over files that opens, resizes, and keeps somewhere."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

import numpy as np

from contest.building.writer import Writer, by_pillow, fitted

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from numpy.typing import NDArray

__all__ = ["H5py", "OpenCv", "OpenCvArea", "PillowLoop", "Zarr"]


class PillowLoop(Writer):
    """The loop of any tutorial: every other contender is compared with it."""

    title = "loop with Pillow, `np.save`"
    modules = ("PIL",)
    packages = ("pillow",)

    def build(self, paths: list[Path], size: int) -> None:
        self.where.mkdir()
        for number, path in enumerate(paths):
            np.save(self.where / f"{number:06}.npy", np.asarray(by_pillow(path, size)))

    def kept(self, count: int) -> Iterator[NDArray[np.uint8]]:
        return map(np.load, sorted(self.where.iterdir()))


class OpenCv(PillowLoop):
    """The same with OpenCV, whose resize is linear where nothing is said, and does not smooth."""

    title = "loop with OpenCV, `np.save`"
    modules = ("cv2",)
    packages = ("opencv-python-headless",)
    filtered: ClassVar[str] = "INTER_LINEAR"

    def prepare(self) -> None:
        import cv2  # noqa: PLC0415

        cv2.setNumThreads(1)  # a core each, as the others

    def build(self, paths: list[Path], size: int) -> None:
        import cv2  # noqa: PLC0415

        how = getattr(cv2, self.filtered)
        self.where.mkdir()
        for number, path in enumerate(paths):
            picture = cv2.imread(str(path))
            edges = fitted(picture.shape[1], picture.shape[0], size)
            resized = cv2.resize(picture, edges, interpolation=how)
            np.save(self.where / f"{number:06}.npy", cv2.cvtColor(resized, cv2.COLOR_BGR2RGB))


class OpenCvArea(OpenCv):
    """The same by the mean of an area, which is what OpenCV's manual tells for shrinking."""

    title = "loop with OpenCV, INTER_AREA, `np.save`"
    filtered = "INTER_AREA"


class H5py(Writer):
    """h5py by hand: a dataset of rows of any length, and one of their shapes."""

    title = "loop with Pillow, h5py"
    modules = ("h5py", "PIL")
    packages = ("h5py", "pillow")

    def build(self, paths: list[Path], size: int) -> None:
        import h5py  # noqa: PLC0415

        self.where.mkdir()
        with h5py.File(self.where / "pictures.h5", "w") as file:
            images = file.create_dataset("images", len(paths), h5py.vlen_dtype(np.uint8))
            shapes = file.create_dataset("shapes", (len(paths), 3), np.int64)
            for row, path in enumerate(paths):
                picture = np.asarray(by_pillow(path, size))
                images[row], shapes[row] = picture.reshape(-1), picture.shape

    def kept(self, count: int) -> Iterator[NDArray[np.uint8]]:
        import h5py  # noqa: PLC0415

        with h5py.File(self.where / "pictures.h5") as file:
            for flat, shape in zip(file["images"], file["shapes"], strict=True):
                yield flat.reshape(shape)


class Zarr(Writer):
    """zarr by hand: an array a picture, compressed with zstd as it does when nothing is said."""

    title = "loop with Pillow, zarr"
    modules = ("zarr", "PIL")
    packages = ("zarr", "pillow")

    def build(self, paths: list[Path], size: int) -> None:
        import zarr  # noqa: PLC0415

        group = zarr.open_group(self.where, mode="w")
        for row, path in enumerate(paths):
            picture = np.asarray(by_pillow(path, size))
            group.create_array(f"{row:06}", data=picture, chunks=picture.shape)

    def kept(self, count: int) -> Iterator[NDArray[np.uint8]]:
        import zarr  # noqa: PLC0415

        group = zarr.open_group(self.where, mode="r")
        return (np.asarray(group[f"{row:06}"]) for row in range(count))
