"""A cache as bare numpy, h5py or zarr sees it.

One flipped bit can make libhdf5 loop or crash: this is run in a process of its own, as
``main(path)``, whose answer is JSON on standard output.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from mmcache.stores.frame import PAGE, file_of, read_frame
from mmcache.stores.payload import opened, pieces_of

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from mmcache.stores.frame import ArrayFrame, Segment

__all__ = ["LIBRARIES", "differences", "main"]

LIBRARIES = {"npy": "numpy", "hdf5": "h5py", "zarr": "zarr"}
"""Which library reads a format."""

_SAMPLES = 16  # stretches of the payload that are compared
_PIECE = 1 << 20  # bytes compared at a time
_PLAIN = "not as plain bytes where the frame says"


def main(path: str) -> None:
    """Print the differences as JSON: pairs of a file's name and what is wrong there."""
    json.dump(differences(Path(path)), sys.stdout)


def differences(path: Path) -> list[tuple[str, str]]:
    """Return where a library sees other arrays than the frame tells of: file, and what it sees."""
    frame = read_frame(path)
    library = LIBRARIES[frame.store]
    found = []
    with _LOOKS[frame.store](path) as look:
        for name, one in frame.arrays.items():
            try:
                seen = _difference(path, name, one, look(name, one))
            except Exception as error:  # noqa: BLE001  # whatever a library makes of damage
                seen = f"cannot be read: {type(error).__name__}: {error}"
            if seen:
                file = one.segments[0].file if one.segments else name
                found.append((file, f"{library} sees {name} otherwise: {seen}"))
    return found


def _difference(path: Path, name: str, one: ArrayFrame, array: Any) -> str | None:
    if array.dtype != np.dtype(one.dtype) or tuple(array.shape) != one.shape:
        return f"as {array.dtype} {tuple(array.shape)}"
    same = _same_samples(path, one, array) if name == "pixels" else _sha256(array) == one.sha256
    return None if same else "its elements differ"


def _sha256(array: Any) -> str:
    digest = hashlib.sha256()
    # A chunk is always read whole.
    step = max(_rows_of_piece(array), (getattr(array, "chunks", None) or (1,))[0])
    for start in range(0, array.shape[0], step):
        digest.update(np.ascontiguousarray(array[start : start + step]).data)
    return digest.hexdigest()


def _rows_of_piece(array: Any) -> int:
    width: int = int(np.prod(array.shape[1:], dtype=object)) * array.dtype.itemsize
    return max(1, _PIECE // max(1, width))


def _same_samples(path: Path, one: ArrayFrame, array: Any) -> bool:
    """Tell whether the first rows, the last and some between are the bytes in the files."""
    step = min(_rows_of_piece(array), (getattr(array, "chunks", None) or (array.shape[0],))[0])
    blocks = -(-array.shape[0] // step)
    width = sum(segment.length for segment in one.segments) // array.shape[0]
    for block in np.unique(np.linspace(0, blocks - 1, _SAMPLES).astype(int)).tolist():
        start, stop = block * step, min((block + 1) * step, array.shape[0])
        there = b"".join(_payload(path, one.segments, start * width, stop * width))
        if np.ascontiguousarray(array[start:stop]).tobytes() != there:
            return False
    return True


def _payload(path: Path, segments: tuple[Segment, ...], start: int, end: int) -> Iterator[bytes]:
    """Yield bytes of an array, from whatever files they lie in."""
    for segment in segments:
        low, high = max(start, 0), min(end, segment.length)
        if low < high:
            with opened(file_of(path, segment.file), os.O_RDONLY) as descriptor:
                yield from pieces_of(descriptor, segment.offset + low, segment.offset + high)
        start, end = start - segment.length, end - segment.length


# Each library's own way to an array ---------------------------------------------------------------

_Look = contextlib.AbstractContextManager["Callable[[str, ArrayFrame], Any]"]


@contextlib.contextmanager
def _by_numpy(path: Path) -> Iterator[Callable[[str, ArrayFrame], Any]]:
    def look(name: str, one: ArrayFrame) -> Any:
        file = path / f"{name}.npy"
        if [segment.file for segment in one.segments] != [file.name]:
            raise ValueError(f"the frame has it not in {file.name}")
        # numpy cannot map an array that has no elements.
        array = np.load(file, mmap_mode="r" if 0 not in one.shape else None, allow_pickle=False)
        if not array.flags.c_contiguous or getattr(array, "offset", PAGE) != one.segments[0].offset:
            raise ValueError(_PLAIN)
        return array

    yield look


@contextlib.contextmanager
def _by_h5py(path: Path) -> Iterator[Callable[[str, ArrayFrame], Any]]:
    import h5py  # noqa: PLC0415  # slow to import

    with h5py.File(path, "r") as file:

        def look(name: str, one: ArrayFrame) -> Any:
            # A link or an external file would lead out of the cache.
            if not isinstance(file.get(name, getlink=True), h5py.HardLink):
                raise ValueError("there is no dataset of that name")  # noqa: TRY004
            dataset = file[name]
            how = dataset.id.get_create_plist()
            if how.get_layout() != h5py.h5d.CONTIGUOUS or how.get_external_count():
                raise ValueError(_PLAIN)
            if 0 not in one.shape and dataset.id.get_offset() != one.segments[0].offset:
                raise ValueError(_PLAIN)
            return dataset

        yield look


@contextlib.contextmanager
def _by_zarr(path: Path) -> Iterator[Callable[[str, ArrayFrame], Any]]:
    import zarr  # noqa: PLC0415  # slow to import

    group = zarr.open_group(path, mode="r")

    def look(name: str, _: ArrayFrame) -> Any:
        array = group[name]
        if not isinstance(array, zarr.Array) or array.compressors or array.filters:
            raise ValueError(_PLAIN)
        return array

    yield look


_LOOKS: dict[str, Callable[[Path], _Look]] = {
    "npy": _by_numpy,
    "hdf5": _by_h5py,
    "zarr": _by_zarr,
}
