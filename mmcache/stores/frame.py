"""The frame: one JSON document that says what a cache is and where its bytes lie.

Reading it needs no format's library; what it says is checked before it is believed.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import os
import re
import stat
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from mmcache.errors import CacheNotFoundError, DamagedCacheError
from mmcache.stores.payload import refuse_too_many

if TYPE_CHECKING:
    from collections.abc import Iterable

__all__ = [
    "FRAME_FILE",
    "GROUP_FILE",
    "PAGE",
    "VERSION",
    "ArrayFrame",
    "FileFrame",
    "Frame",
    "Segment",
    "file_of",
    "in_group",
    "is_cache",
    "lies_inside",
    "read_frame",
    "segment_at",
    "signpost",
]

VERSION = 1
FRAME_FILE = "mmcache.json"
GROUP_FILE = "zarr.json"
PAGE = 4096
"""Where data begin in a file, in bytes: on a page, so that payloads can share blocks."""

_SIGNPOST = b"mmcache 1: one cache in one HDF5 file, whose frame begins at byte "
_DIGITS = 19  # of any offset
_END = b"\n}"  # of a JSON object, indented
_LARGEST = 32 << 20  # bytes; a million class names
_LONGEST = 1 << 20  # characters of a name: it is shown, and takes many times its length then
_MOST = 2_000_000  # values, likewise: millions of empty lists would take a hundred times their text
_NAME = re.compile("[a-z][a-z_]{0,63}")  # of an array
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
    trailing: int = 0  # bytes of the frame itself, where it follows the data in their one file

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
            plain = _loaded(document)
            if plain.get("format") != "mmcache":
                raise DamagedCacheError(f"{where} is no frame of mmcache")  # noqa: TRY301
            if plain["version"] != VERSION:
                raise DamagedCacheError(  # noqa: TRY301
                    f"{where} has format version {plain['version']}, and this mmcache reads"
                    f" version {VERSION}: upgrade mmcache to open it"
                )
            if not _is_sealed(document):
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
    body = json.dumps(plain, indent=1).encode().removesuffix(_END)
    return body + _seal(body)


def _seal(body: bytes) -> bytes:
    """Return what follows a document's other entries: their digest, which is its last."""
    digest = hashlib.sha256(body + _END).hexdigest()
    return b',\n "sha256": "%s"' % digest.encode() + _END + b"\n"


def _is_sealed(document: bytes) -> bool:
    length = len(_seal(b""))
    return document[-length:] == _seal(document[:-length])


def _loaded(document: bytes) -> Any:
    """Parse JSON of ours, in memory that is a few times its length."""
    values = sum(map(document.count, (b",", b"[", b"{")))
    if values > _MOST or not document.isascii():
        raise ValueError(values)
    return json.loads(document)


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
    words = (frame.store, frame.content, *frame.classes, *frame.arrays, *frame.files)
    libraries = (*frame.libraries, *frame.libraries.values())
    if not all(type(word) is str and len(word) <= _LONGEST for word in words + libraries):
        raise ValueError("words")
    if len(json.dumps(frame.recipe)) > _LONGEST:
        raise ValueError("recipe")
    for name in frame.classes:
        name.encode("utf-8", "surrogateescape")  # raises ValueError for what is no name
    for count in (*frame.counts.values(), frame.slab):
        _whole(count)
    _check_files(frame)
    _check_arrays(frame)


def _check_files(frame: Frame) -> None:
    for name, one in frame.files.items():
        parts = name.split("/")
        if any(part in ("", ".", "..") or "\\" in part or "\0" in part for part in parts):
            raise ValueError(name)
        os.fsencode(name)  # raises ValueError for what no file can be called
        if not _whole(one.length):
            raise ValueError(name)


def _check_arrays(frame: Frame) -> None:
    for name, array in frame.arrays.items():
        # A copy has files of these names.
        if not _NAME.fullmatch(name):
            raise ValueError(name)
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


def file_of(path: Path, name: str) -> Path:
    """Return where file *name* of the cache at *path* is: a cache of one file is that file."""
    # What people name may be a link, to a directory or to a file; what is in a cache is none.
    return path / name if path.is_dir() else Path(os.path.realpath(path))


def lies_inside(path: Path, file: Path) -> bool:
    """Tell whether the folder of *file* is in the cache at *path*, and behind no link out of it."""
    # Unlike pathlib's resolve, realpath puts up with loops of links.
    return Path(os.path.realpath(file.parent)).is_relative_to(os.path.realpath(path))


def segment_at(segments: Iterable[Segment], position: int) -> tuple[Segment, int]:
    """Return the segment in which a byte of an array lies, and its offset in the file."""
    for segment in segments:
        if position < segment.length:
            return segment, segment.offset + position
        position -= segment.length
    raise IndexError(f"byte {position} is behind the last segment")


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
        Where what is there is no cache, or not a whole one, or cannot be read.
    TooManyFilesError
        Where this process may open no more.
    """
    try:
        if path.exists():
            return _read_inside(path) if path.is_dir() else _read_behind(path)
    except OSError as error:
        refuse_too_many(error, path)
        raise DamagedCacheError(f"{path} cannot be read: {error.strerror}") from error
    raise CacheNotFoundError(
        f"there is no cache at {path}: build one with mmcache.build(folder, {str(path)!r})"
    )


def _read_inside(path: Path) -> Frame:
    """Read the frame in a directory."""
    file = next((path / name for name in (FRAME_FILE, GROUP_FILE) if (path / name).exists()), None)
    if file is None:
        raise DamagedCacheError(f"{path} is no cache of mmcache: it has no {FRAME_FILE}")
    status = file.lstat()
    if not stat.S_ISREG(status.st_mode) or status.st_size > _LARGEST:
        raise DamagedCacheError(f"{file} is no frame: not a plain file of a frame's size")
    document = file.read_bytes()
    return Frame.from_bytes(
        _out_of_group(document, file) if file.name == GROUP_FILE else document, file
    )


# Where a frame lies that has no file of its own ---------------------------------------------------

_GROUP = b"""{
 "zarr_format": 3,
 "node_type": "group",
 "attributes": {
  "mmcache": """
_END_OF_GROUP = b"\n }\n}\n"


def in_group(document: bytes) -> bytes:
    """Return the metadata of a Zarr group that has a frame among its attributes."""
    # No string of JSON has a line's end in it, so that lines can be indented further.
    return _GROUP + document.rstrip().replace(b"\n", b"\n  ") + _END_OF_GROUP


def _out_of_group(metadata: bytes, where: Path) -> bytes:
    """Return the frame among a Zarr group's attributes."""
    if not metadata.startswith(_GROUP):
        raise DamagedCacheError(f"{where} is no cache of mmcache: it holds no frame")
    inner = metadata.removeprefix(_GROUP).removesuffix(_END_OF_GROUP)
    document = inner.replace(b"\n  ", b"\n") + b"\n"
    if in_group(document) != metadata:
        raise DamagedCacheError(
            f"{where} is not as it was written: it holds other things than its frame"
        )
    return document


def signpost(offset: int) -> bytes:
    """Return the page before a single file's data that tells where its frame begins."""
    return b"%s%d\n" % (_SIGNPOST, offset) + bytes(PAGE - len(b"%s%d\n" % (_SIGNPOST, offset)))


def _read_behind(path: Path) -> Frame:
    """Read the frame behind the data of a single file; its first page tells where."""
    with open(path, "rb", opener=_at_once) as file:  # Path.open takes no opener
        if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
            raise DamagedCacheError(f"{path} is no cache of mmcache: it is no plain file")
        page = file.read(PAGE)
        digits = page.removeprefix(_SIGNPOST).partition(b"\n")[0]
        if page.startswith(b"mmcache ") and not page.startswith(b"mmcache %d:" % VERSION):
            raise DamagedCacheError(
                f"{path} has another format version than {VERSION}, which this mmcache reads:"
                " upgrade mmcache to open it"
            )
        if not page.startswith(_SIGNPOST) or not digits.isdigit() or len(digits) > _DIGITS:
            raise DamagedCacheError(f"{path} is no cache of mmcache: it does not begin as one")
        offset = int(digits)
        if page != signpost(offset):
            raise DamagedCacheError(f"{path} is damaged: its first page is not as it was written")
        file.seek(offset)
        document = file.read(_LARGEST)
    frame = Frame.from_bytes(document, path)
    if [one.length for one in frame.files.values()] != [offset]:
        raise DamagedCacheError(f"{path} is damaged: its frame is not where it was written")
    return dataclasses.replace(frame, trailing=len(document))


def _at_once(path: str, flags: int) -> int:
    """Open a file without waiting: a FIFO would wait for its writer."""
    return os.open(path, flags | getattr(os, "O_NONBLOCK", 0))
