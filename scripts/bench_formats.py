#!/usr/bin/env python3
"""How the three formats compare, with each other and with HDF5 and Zarr as written by hand.

By hand means a plain loop, a picture at a time, with what h5py and zarr do when nothing is said.
"""

from __future__ import annotations

import contextlib
import functools
import io
import itertools
import os
import random
import shutil
import sys
from typing import TYPE_CHECKING, Any

import h5py
import numpy as np
import zarr
from measuring import Spent, median, options_of, ratio, table, take_turns, workplace

import mmcache
from mmcache import layout
from mmcache.images import decode
from mmcache.stores import zarr as zarr_store

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from numpy.typing import NDArray

ENDING_OF = {"npy": ".mmc", "hdf5": ".h5", "zarr": ".zarr"}
SHARD = 64  # pictures in a shard that is written by hand
SMALL_SLAB = 1 << 20  # bytes: for as many shards as a large cache has

Read = dict[str, "Callable[[int], object]"]
"""What reads the picture at a row, by the way it does it."""


def main(arguments: list[str] | None = None) -> int:
    """Print the tables."""
    options = options_of(
        __doc__, arguments,
        rounds=7, hand_rounds=3, read_rounds=25, size=256, reads=20_000, hand_reads=200,
    )  # fmt: skip
    with workplace(options) as (photos, work):
        count = len(mmcache.Folder(photos).listing().keys)
        print(f"## Building {count:,} pictures to {options.size}, 2 threads\n")
        print(builds(photos, work, options.size, options.rounds), end="\n\n")
        for title, recipe in (
            ("shapes that differ", mmcache.Recipe(size=options.size)),
            ("one shape", mmcache.Recipe(size=options.size, resize="crop")),
        ):
            caches = in_each_format(photos, work, recipe)
            print(f"## Reading, {title}\n")
            print(reads(caches, options.reads, options.read_rounds), end="\n\n")
            if recipe.shape is not None:
                print(f"## Many at once, {title}\n")
                print(many(caches, options.read_rounds), end="\n\n")
            print(f"## Writing by hand, {title}, 1 thread\n")
            hands = by_hand(recipe)
            print(written(photos, work, recipe, hands, options.hand_rounds), end="\n\n")
            print(f"## Reading what was written by hand, {title}\n")
            ways = {name: hand(photos, work / f"read-{n}") for n, (name, hand) in
                    enumerate(hands.items())}  # fmt: skip
            print(read_back(caches, ways, options.hand_reads, options.read_rounds), end="\n\n")
            del caches, ways
            _emptied(work)
    return 0


def _build(photos: Path, path: Path, recipe: mmcache.Recipe, **settings: Any) -> mmcache.Cache:
    how = {"size": recipe.size, "resize": recipe.resize, "progress": False}
    return mmcache.build(photos, path, **how | settings)


def _emptied(work: Path) -> None:
    for path in work.iterdir():
        shutil.rmtree(path) if path.is_dir() else path.unlink()
    os.sync()  # nobody writes what another left


# With each other ---------------------------------------------------------------------------------


def builds(photos: Path, work: Path, size: int, rounds: int) -> str:
    """Build the same pictures in each format, in turns."""
    names = itertools.count()
    recipe = mmcache.Recipe(size=size)

    def build(store: str) -> None:
        _build(photos, work / f"{next(names)}{ENDING_OF[store]}", recipe, workers=2)

    for store in ENDING_OF:  # every file is read and every library imported once
        build(store)
    _emptied(work)
    taken = take_turns(
        {store: functools.partial(build, store) for store in ENDING_OF},
        rounds,
        after=lambda: _emptied(work),
    )
    return _beside_npy("format", taken, len(mmcache.Folder(photos).listing().keys), "ms")


def in_each_format(photos: Path, work: Path, recipe: mmcache.Recipe) -> dict[str, mmcache.Cache]:
    """Build a cache in each format, and Zarr in one shard, in some and in many."""
    caches = {
        store: _build(photos, work / f"cache{ENDING_OF[store]}", recipe)
        for store in ("npy", "hdf5")
    }
    for name, slab, shard in (
        ("one", layout.SLAB, zarr_store.SHARD),
        ("some", layout.SLAB, 1),
        ("many", SMALL_SLAB, 1),
    ):
        with _shards_of(slab, shard):
            cache = _build(photos, work / f"{name}.zarr", recipe)
        shards = sum(file.is_file() for file in (cache.path / "pixels" / "c").rglob("*"))
        caches[f"zarr, {name} ({shards} shard{'s' * (shards > 1)})"] = cache
    for cache in caches.values():
        for picture in cache:
            picture.sum()  # warm: every page is mapped
    return caches


@contextlib.contextmanager
def _shards_of(slab: int, shard: int) -> Iterator[None]:
    """Have slabs of at least *slab* bytes, and shards of at least *shard*."""
    usual = layout.SLAB, zarr_store.SHARD
    layout.SLAB, zarr_store.SHARD = slab, shard
    try:
        yield
    finally:
        layout.SLAB, zarr_store.SHARD = usual


def reads(caches: dict[str, mmcache.Cache], count: int, rounds: int) -> str:
    """Read pictures at the same random rows, at once and with a pause between them."""
    length = len(caches["npy"])
    rows = random.Random(1).choices(range(length), k=count)  # noqa: S311  # not for secrets

    def fast(cache: mmcache.Cache) -> None:
        for row in rows:
            cache[row]

    taken = take_turns(
        {name: functools.partial(fast, cache) for name, cache in caches.items()}, rounds
    )
    copied = take_turns(
        {name: functools.partial(_copied, cache, rows[: count // 20]) for name, cache in
         caches.items()}, rounds,
    )  # fmt: skip
    return "\n\n".join(
        [
            _beside_npy("`cache[i]`", taken, count, "us"),
            _beside_npy("`cache[i].copy()`", copied, count // 20, "us"),
        ]
    )


def _copied(cache: mmcache.Cache, rows: list[int]) -> None:
    for row in rows:
        cache[row].copy()


def many(caches: dict[str, mmcache.Cache], rounds: int) -> str:
    """Gather random batches and whole arrays of pictures of one shape."""
    length = len(caches["npy"])
    size = min(256, length)
    rows = random.Random(2).sample(range(length), size)  # noqa: S311
    batches = take_turns(
        {name: functools.partial(cache.batch, rows) for name, cache in caches.items()}, rounds
    )
    arrays = take_turns(
        {name: functools.partial(np.asarray, cache) for name, cache in caches.items()},
        rounds,
    )
    return "\n\n".join(
        [
            _beside_npy(f"`cache.batch` of {size}", batches, 1, "us"),
            _beside_npy("`np.asarray(cache)`", arrays, 1, "us"),
        ]
    )


def _beside_npy(title: str, taken: dict[str, list[Spent]], count: int, unit: str) -> str:
    """Return a table of what one of *count* takes in each format, and times npy."""
    scale = {"ms": 1e3, "us": 1e6}[unit] / count
    rows = []
    for name, each in taken.items():
        (clock, processor), (npy_clock, npy_processor) = (
            list(zip(*one, strict=True)) for one in (each, taken["npy"])
        )
        rows.append(
            (
                name,
                f"{median(clock) * scale:.2f}",
                f"{median(processor) * scale:.2f}",
                f"{ratio(clock, npy_clock):.2f}",
                f"{ratio(processor, npy_processor):.2f}",
                f"{min(clock) / min(npy_clock):.2f}",
            )
        )
    heads = (f"{unit}, clock", f"{unit}, processor", "times npy, clock", "processor", "fastest")
    return table((title, *heads), rows)


# By hand -----------------------------------------------------------------------------------------


def by_hand(recipe: mmcache.Recipe) -> dict[str, Any]:
    """Return what people write who have no mmcache, by a name.

    Each takes a folder and a path, writes the pictures, and returns what reads the one at a row.
    """
    if recipe.shape is None:
        return {"h5py, a vlen dataset": functools.partial(_h5py_vlen, recipe)}
    return {
        "h5py, a chunked dataset": functools.partial(_h5py_chunked, recipe),
        "zarr, a picture a chunk": functools.partial(_zarr, recipe, None),
        f"zarr, shards of {SHARD} pictures": functools.partial(_zarr, recipe, SHARD),
    }


def _pictures(photos: Path, recipe: mmcache.Recipe) -> Iterator[NDArray[Any]]:
    """Decode and resize one after the other, with the very function that a build uses."""
    for key in mmcache.Folder(photos).listing().keys:
        yield decode(io.BytesIO((photos / key).read_bytes()), recipe)


def _count(photos: Path) -> int:
    return len(mmcache.Folder(photos).listing().keys)


def _h5py_vlen(recipe: mmcache.Recipe, photos: Path, path: Path) -> Callable[[int], NDArray[Any]]:
    count = _count(photos)
    with h5py.File(path, "w") as file:
        images = file.create_dataset("images", (count,), h5py.vlen_dtype(np.uint8))
        shapes = file.create_dataset("shapes", (count, 3), np.int64)
        for row, picture in enumerate(_pictures(photos, recipe)):
            images[row] = picture.reshape(-1)
            shapes[row] = picture.shape
    opened = h5py.File(path)
    images, shapes = opened["images"], opened["shapes"][:]
    return lambda row: images[row].reshape(shapes[row])


def _h5py_chunked(
    recipe: mmcache.Recipe, photos: Path, path: Path
) -> Callable[[int], NDArray[Any]]:
    shape = (_count(photos), *recipe.shape)
    with h5py.File(path, "w") as file:
        images = file.create_dataset("images", shape, np.uint8, chunks=(1, *recipe.shape))
        for row, picture in enumerate(_pictures(photos, recipe)):
            images[row] = picture
    images = h5py.File(path)["images"]
    return lambda row: images[row]


def _zarr(
    recipe: mmcache.Recipe, shard: int | None, photos: Path, path: Path
) -> Callable[[int], NDArray[Any]]:
    images = zarr.create_array(
        store=path,
        shape=(_count(photos), *recipe.shape),
        chunks=(1, *recipe.shape),
        shards=None if shard is None else (shard, *recipe.shape),
        dtype=np.uint8,
    )
    for row, picture in enumerate(_pictures(photos, recipe)):
        images[row] = picture
    images = zarr.open_array(path, mode="r")
    return lambda row: images[row]


def written(
    photos: Path, work: Path, recipe: mmcache.Recipe, hands: dict[str, Any], rounds: int
) -> str:
    """Time a serial build in each format, beside loops that write by hand."""
    names = itertools.count()
    place = work / "written"
    place.mkdir()

    def build(store: str) -> None:
        path = place / f"{next(names)}{ENDING_OF[store]}"
        _build(photos, path, recipe, executor="serial")

    taken = take_turns(
        {"decode and resize alone": lambda: [None for _ in _pictures(photos, recipe)]}
        | {store: functools.partial(build, store) for store in ENDING_OF}
        | {name: lambda hand=hand: hand(photos, place / f"{next(names)}") for name, hand in
           hands.items()},
        rounds,
        after=lambda: _emptied(place),
    )  # fmt: skip
    place.rmdir()
    count = _count(photos)
    bare = [one.clock for one in taken["decode and resize alone"]]
    rows = []
    for name, each in taken.items():
        clock = [one.clock for one in each]
        beyond = median(mine - theirs for mine, theirs in zip(clock, bare, strict=True))
        against = ratio(clock, [one.clock for one in taken["npy"]])
        rows.append(
            (
                name,
                f"{median(clock) / count * 1e3:.2f}",
                f"{beyond / count * 1e3:.2f}",
                f"{against:.2f}",
            )
        )
    return table(("way", "ms a picture", "beyond decoding", "times npy"), rows)


def read_back(caches: dict[str, mmcache.Cache], ways: Read, count: int, rounds: int) -> str:
    """Read single pictures at random rows, each into an array of its own."""
    rows = random.Random(3).choices(range(len(caches["npy"])), k=count)  # noqa: S311

    def read(way: Callable[[int], object]) -> None:
        for row in rows:
            way(row)

    cache = caches["npy"]
    contenders: Read = {
        "`cache[i].copy()`": lambda row: cache[row].copy(),
        "`cache[i]`": lambda row: cache[row],
    }
    taken = take_turns(
        {name: functools.partial(read, way) for name, way in (contenders | ways).items()},
        max(1, rounds // 5),
    )
    base = [one.clock for one in taken["`cache[i].copy()`"]]
    return table(
        ("a random picture by", "us", "times `cache[i].copy()`"),
        (
            (
                name,
                f"{median(one.clock for one in each) / count * 1e6:.1f}",
                f"{ratio([one.clock for one in each], base):.2f}",
            )
            for name, each in taken.items()
        ),
    )


if __name__ == "__main__":
    sys.exit(main())
