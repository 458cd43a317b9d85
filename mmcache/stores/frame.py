"""The frame: one JSON document that says what a cache is and where its bytes lie.

Reading it needs no format's library; what it says is checked before it is believed.
"""

from __future__ import annotations

import hashlib
import json
import stat
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from mmcache.errors import CacheNotFoundError, DamagedCacheError

if TYPE_CHECKING:
    from pathlib import Path

__all__ = [
    "FRAME_FILE",
    "VERSION",
    "ArrayFrame",
    "FileFrame",
    "Frame",
    "Segment",
    "is_cache",
    "read_frame",
]

VERSION = 1
FRAME_FILE = "mmcache.json"
_LARGEST = 64 << 20  # bytes; a million class names and more
_DTYPES = ("|u1", "<u2", "<u4", "<i4", "<i8")


class Segment(NamedTuple):
    """A stretch of an array in a file.

    Attributes
    ----------
    file : str
        Relative to the cache, ``/`` between parts.
    offset, length : int
        Bytes.
    """

    file: str
    offset: int
    length: int


@dataclass(frozen=True)
class ArrayFrame:
    """One array: its dtype, its shape, and its segments in order."""

    dtype: str
    shape: tuple[int, ...]
    segments: tuple[Segment, ...]
    sha256: str | None = None  # of its elements' bytes; none for pixels, which have checksums


@dataclass(frozen=True)
class FileFrame:
    """One file: its length in bytes, and the SHA-256 of its bytes that belong to no record."""

    length: int
    sha256: str


@dataclass(frozen=True)
class Frame:
    """What a cache is; ``content`` identifies it: equal for equal contents in any format."""

    store: str
    recipe: dict[str, Any]
    libraries: dict[str, str]
    counts: dict[str, int]
    classes: tuple[str, ...]
    slab: int
    arrays: dict[str, ArrayFrame]
    files: dict[str, FileFrame]
    content: str = field(default="")

    def to_bytes(self) -> bytes:
        """Return the document: canonical JSON, which ends in the digest of all that precedes."""
        return _sealed(
            {
                "format": "mmcache",
                "version": VERSION,
                "store": self.store,
                "content": self.content,
                "recipe": self.recipe,
                "libraries": self.libraries,
                "counts": self.counts,
                "classes": list(self.classes),
                "slab": self.slab,
                "arrays": {name: _array_to_json(one) for name, one in self.arrays.items()},
                "files": {name: vars(one) for name, one in self.files.items()},
            }
        )

    @classmethod
    def from_bytes(cls, document: bytes, where: Path) -> Frame:
        """Read the document back; :class:`DamagedCacheError` for anything but what was written."""
        try:
            plain = json.loads(document)
            if plain.get("format") != "mmcache":
                raise DamagedCacheError(f"{where} is no frame of mmcache")  # noqa: TRY301
            if plain["version"] != VERSION:
                raise DamagedCacheError(  # noqa: TRY301
                    f"{where} has format version {plain['version']}, and this mmcache reads"
                    f" version {VERSION}: upgrade mmcache to open it"
                )
            plain.pop("sha256")
            if _sealed(plain) != document:
                raise DamagedCacheError(  # noqa: TRY301
                    f"{where} is not as it was written: its bytes and their digest disagree"
                )
            arrays = {name: _array_from_json(one) for name, one in plain["arrays"].items()}
            files = {name: FileFrame(**one) for name, one in plain["files"].items()}
            frame = cls(
                store=plain["store"],
                recipe=plain["recipe"],
                libraries=plain["libraries"],
                counts=plain["counts"],
                classes=tuple(plain["classes"]),
                slab=plain["slab"],
                arrays=arrays,
                files=files,
                content=plain["content"],
            )
            _check(frame)
        except DamagedCacheError:
            raise
        except (ValueError, TypeError, KeyError, AttributeError, RecursionError) as error:
            raise DamagedCacheError(f"{where} is damaged: it does not read as a frame") from error
        return frame


def _sealed(plain: dict[str, Any]) -> bytes:
    body = json.dumps(plain, indent=1)
    digest = hashlib.sha256(body.encode()).hexdigest()
    return json.dumps(plain | {"sha256": digest}, indent=1).encode() + b"\n"


def _array_to_json(one: ArrayFrame) -> dict[str, Any]:
    plain: dict[str, Any] = {
        "dtype": one.dtype,
        "shape": list(one.shape),
        "segments": [list(segment) for segment in one.segments],
    }
    return plain if one.sha256 is None else plain | {"sha256": one.sha256}


def _array_from_json(plain: dict[str, Any]) -> ArrayFrame:
    return ArrayFrame(
        dtype=plain["dtype"],
        shape=tuple(plain["shape"]),
        segments=tuple(Segment(*segment) for segment in plain["segments"]),
        sha256=plain.get("sha256"),
    )


def _check(frame: Frame) -> None:
    """Check that all is of the right kind, in its place, and nothing outside of the cache."""
    if not all(type(name) is str for name in (frame.store, frame.content, *frame.classes)):
        raise ValueError(frame.classes)
    for count in (*frame.counts.values(), frame.slab):
        _whole(count)
    _check_files(frame)
    _check_arrays(frame)


def _check_files(frame: Frame) -> None:
    for name, one in frame.files.items():
        parts = name.split("/")
        if any(part in ("", ".", "..") or "\\" in part or "\0" in part for part in parts):
            raise ValueError(name)
        if not _whole(one.length):
            raise ValueError(name)


def _check_arrays(frame: Frame) -> None:
    for array in frame.arrays.values():
        if array.dtype not in _DTYPES:
            raise ValueError(array.dtype)
        elements = 1
        for edge in array.shape:
            elements *= _whole(edge)
        room = 0
        for segment in array.segments:
            file = frame.files[segment.file]
            if _whole(segment.offset) + _whole(segment.length) > file.length:
                raise ValueError(segment)
            room += segment.length
        if room != elements * np.dtype(array.dtype).itemsize:
            raise ValueError(array)


def _whole(number: object) -> int:
    if type(number) is not int or number < 0:
        raise ValueError(number)
    return number


def is_cache(path: Path) -> bool:
    """Tell whether a whole cache stands at *path*, as far as its frame tells."""
    try:
        read_frame(path)
    except (CacheNotFoundError, DamagedCacheError):
        return False
    return True


def read_frame(path: Path) -> Frame:
    """Read the frame of the cache at *path*, creating nothing.

    Raises
    ------
    CacheNotFoundError
        Where nothing is there.
    DamagedCacheError
        Where what is there is no cache, or not a whole one.
    """
    if not path.exists():
        raise CacheNotFoundError(
            f"there is no cache at {path}: build one with mmcache.build(folder, {str(path)!r})"
        )
    file = path / FRAME_FILE
    if not path.is_dir() or not file.exists():
        raise DamagedCacheError(f"{path} is no cache of mmcache: it has no {FRAME_FILE}")
    status = file.lstat()
    if not stat.S_ISREG(status.st_mode) or status.st_size > _LARGEST:
        raise DamagedCacheError(f"{file} is no frame: not a plain file of a frame's size")
    return Frame.from_bytes(file.read_bytes(), file)
