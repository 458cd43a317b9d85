"""A Zarr v3 group: ``pixels`` in shards of uncompressed chunks, the other arrays a chunk each.

zarr itself writes what describes an array; where the chunks lie in a shard is known before there is
a payload, so that shards are framed when they are created and then filled as any other file.
"""

from __future__ import annotations

import math
import os
from typing import TYPE_CHECKING, Any

import google_crc32c
import numpy as np
import zarr
from zarr.storage import MemoryStore

from mmcache.layout import CHUNK, elements
from mmcache.records import COLUMNS
from mmcache.stores.frame import GROUP_FILE, PAGE, Segment, in_group
from mmcache.stores.payload import allocated, in_blocks, opened, synced, write_at, written

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from numpy.typing import NDArray

    from mmcache.stores.frame import Frame

__all__ = ["MOST_SHARDS", "SHARD", "ZarrStore"]

MOST_SHARDS = 256
"""Each is a file, and a mapped file holds a descriptor."""

SHARD = 1 << 30
"""Bytes of a shard, unless that would be too many shards: a payload in one file is the fastest to
read from. The index of a shard, which a plain client reads first, has 16 bytes a chunk: 130 kB
where shapes differ, and up to 1 MB for small pictures of one shape, each of which is a chunk; more
only where a slab has more than 65,536 of them, of 500 bytes and less."""

_OF_ROWS = {"records", "checksums", "key_order", "labels", *COLUMNS}
_MOST_CHUNKS = 1 << 16  # of a shard, if one slab has not more: tiny pictures are a chunk each
_ENTRY, _CRC = 16, 4  # bytes in a shard's index: a chunk's, and behind all of them
_ROUND = 4 * PAGE  # an array's zarr.json, and its folders
_MISSING = 2**64 - 1  # offset and length of a chunk that a shard does not have


class ZarrStore:
    """A directory that is a Zarr v3 group."""

    name = "zarr"
    title = "Zarr group"

    def disk_bytes(
        self, sizes: Mapping[str, int], dtype: np.dtype[Any], shape: tuple[int, ...], slab: int
    ) -> int:
        """Return what it takes on disk; see :class:`mmcache.stores.contract.Store`."""
        chunk, shard = _cut(dtype, shape, slab)
        shards = -(-shape[0] // shard)
        index = in_blocks(_ENTRY * shard // chunk + _CRC)
        last = chunk * elements(shape[1:]) * dtype.itemsize  # a chunk that is filled up
        described = len(sizes) * _ROUND
        return described + shards * index + last + sum(in_blocks(size) for size in sizes.values())

    def allocate(
        self, path: Path, dtype: np.dtype[Any], shape: tuple[int, ...], slab: int
    ) -> list[Segment]:
        """Create the shards; see :class:`mmcache.stores.contract.Store`."""
        rest = shape[1:]  # a picture's own axes, where the recipe fixes them
        row = elements(rest)
        chunk, shard = _cut(dtype, shape, slab)
        _describe(path / "pixels", dtype, shape, (chunk, *rest), (shard, *rest))
        segments = []
        for number, start in enumerate(range(0, shape[0], shard)):
            rows = min(shard, shape[0] - start)
            name = "/".join(["pixels", "c", str(number), *("0" for _ in rest)])
            bytes_of = row * dtype.itemsize
            _frame_shard(path / name, chunk * bytes_of, -(-rows // chunk), shard // chunk)
            segments.append(Segment(name, 0, rows * bytes_of))
        return segments

    def write_arrays(
        self, path: Path, arrays: Mapping[str, NDArray[Any]]
    ) -> dict[str, list[Segment]]:
        """Write an array in one chunk; see :class:`mmcache.stores.contract.Store`."""
        segments: dict[str, list[Segment]] = {}
        for name, array in arrays.items():
            whole = tuple(max(1, edge) for edge in array.shape)
            _describe(path / name, array.dtype, array.shape, whole, None)
            segments[name] = []
            if array.size:
                file = "/".join([name, "c", *("0" for _ in array.shape)])
                (path / file).parent.mkdir(parents=True, exist_ok=True)
                written(path / file, [array])
                segments[name] = [Segment(file, 0, array.nbytes)]
        return segments

    def write_frame(self, path: Path, frame: Frame) -> None:
        """Write the group's attributes; see :class:`mmcache.stores.contract.Store`."""
        synced(path)
        written(path / GROUP_FILE, [in_group(frame.to_bytes())])
        synced(path / GROUP_FILE)


def _cut(dtype: np.dtype[Any], shape: tuple[int, ...], slab: int) -> tuple[int, int]:
    """Return of how many rows a chunk is, and a shard."""
    rest = shape[1:]
    # One picture where all are alike; else short enough to read one without its neighbours.
    chunk = 1 if rest else math.gcd(slab, CHUNK // dtype.itemsize)
    slab_rows = slab // elements(rest)
    usual = min(SHARD // (slab * dtype.itemsize), _MOST_CHUNKS * chunk // slab_rows)
    slabs = max(-(-shape[0] // (slab_rows * MOST_SHARDS)), usual, 1)
    return chunk, slab_rows * slabs


def _describe(
    path: Path,
    dtype: np.dtype[Any],
    shape: tuple[int, ...],
    chunks: tuple[int, ...],
    shards: tuple[int, ...] | None,
) -> None:
    """Write what describes an array, as zarr would."""
    described: dict[str, Any] = {}
    zarr.create_array(
        store=MemoryStore(described),
        shape=shape,
        chunks=chunks,
        shards=shards,
        dtype=dtype,
        compressors=None,
        filters=None,
        fill_value=0,
        dimension_names=_dimensions(path.name, len(shape)),
        zarr_format=3,
    )
    path.mkdir(parents=True, exist_ok=True)
    written(path / "zarr.json", [described["zarr.json"].to_bytes()])


def _dimensions(name: str, count: int) -> tuple[str, ...]:
    """Name an array's axes, as xarray asks: arrays that share a name share a length."""
    if name == "pixels":
        return ("slot", "y", "x", "channel") if count > 1 else ("element",)
    first = "row" if name in _OF_ROWS else f"{name}_index"
    return (first, *(f"{name}_field" for _ in range(count - 1)))


def _frame_shard(file: Path, chunk: int, used: int, chunks: int) -> None:
    """Allocate a shard of *used* chunks of *chunk* bytes, followed by the index of all *chunks*.

    Source: the Zarr v3 ``sharding_indexed`` codec with its index at the end: offset and length of
    each chunk as little-endian uint64, then their CRC-32C.
    """
    index = np.full((chunks, 2), _MISSING, "<u8")
    index[:used, 0] = np.arange(used) * chunk
    index[:used, 1] = chunk
    entries = index.tobytes()
    tail = entries + google_crc32c.value(entries).to_bytes(4, "little")
    file.parent.mkdir(parents=True, exist_ok=True)
    allocated(file, b"", used * chunk + len(tail))
    with opened(file, os.O_RDWR) as descriptor:
        write_at(descriptor, tail, used * chunk)
