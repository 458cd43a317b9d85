#!/usr/bin/env python3
"""How near the cached pixels come to Pillow's full decode and resize, and what shortcuts cost.

The reference is always ``Image.open``, ``ImageOps.exif_transpose``, ``convert("RGB")`` and
``resize`` by the same filter to the same size. Distances are PSNR in dB: higher is nearer.
"""

from __future__ import annotations

import contextlib
import dataclasses
import importlib.util
import io
import sys
import time
from typing import TYPE_CHECKING, Any

import numpy as np
from contest.building.sets import as_from_a_camera
from contest.quality import psnr
from measuring import median, options_of, table, workplace
from PIL import Image, ImageOps

import mmcache
from mmcache.images import decode, headers, read_header

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from numpy.typing import NDArray

FLOOR = 40  # dB; what every picture must reach
NEVER = 1 << 30  # a headroom that no picture has
HEADROOMS = (1.5, 2, 3, 4, NEVER)
GAPS = (1.5, 2.0, 3.0)
# Sizes that leave pictures of 500 pixels, halved, just over 2 and 3 times as large as wanted.
TIGHT = (120, 80)
CAMERA = mmcache.Size(3000, 4000)  # 12 MP
FAST = importlib.util.find_spec("cykooz_resizer") is not None


def main(arguments: list[str] | None = None) -> int:
    """Print the tables."""
    options = options_of(__doc__, arguments, size=256, camera=8, sample=1000)
    with workplace(options) as (photos, work):
        # Profiles would change colours on one side alone: bench_pictures.py is about them.
        resamplers = ["pillow", *["cykooz"] * FAST]
        caches = [
            mmcache.build(
                photos, work / f"{who}.mmc", size=options.size, resampler=who, icc="ignore",
                progress=False,
            )
            for who in resamplers
        ]  # fmt: skip
        cache = caches[0]
        print(f"## The cache against Pillow: {len(cache):,} pictures to {options.size}\n")
        references = [
            referred(photos / key, cache[row].shape) for row, key in enumerate(cache.keys)
        ]
        distances = [list(map(psnr, one, references)) for one in caches]
        print(table(("", *(f"resampler={who}, dB" for who in resamplers)), [
            ("minimum", *(f"{min(each):.1f}" for each in distances)),
            ("median", *(f"{median(each):.1f}" for each in distances)),
            (f"pictures under {FLOOR} dB", *(sum(dB < FLOOR for dB in some) for some in distances)),
            ("pictures that are equal", *(each.count(np.inf) for each in distances)),
        ]), end="\n\n")  # fmt: skip
        for who, each in zip(resamplers, distances, strict=True):
            print(f"The farthest by {who} is {cache.keys[int(np.argmin(each))]}.\n")
        pictures = [(photos / key).read_bytes() for key in cache.keys]
        sample = pictures[:: max(1, len(pictures) // options.sample)]
        camera = [
            as_from_a_camera(one, seed, CAMERA) for seed, one in enumerate(sample[: options.camera])
        ]
        for title, some, size in (
            (f"{len(pictures):,} pictures to {options.size}", pictures, options.size),
            *((f"{len(sample):,} pictures to {size}", sample, size) for size in TIGHT),
            (f"{len(camera)} grainy camera pictures of 12 MP to {options.size}", camera,
             options.size),
        ):  # fmt: skip
            if some:
                print(f"## What shortcuts cost: {title}\n")
                print(shortcuts(some, mmcache.Recipe(size=size, icc="ignore")), end="\n\n")
    return 0


def referred(picture: Any, shape: tuple[int, ...]) -> NDArray[Any]:
    """Return what Pillow makes of a picture, with no shortcut: ``(height, width, 3)``."""
    with Image.open(picture) as image:
        upright = ImageOps.exif_transpose(image).convert("RGB")
        return np.asarray(upright.resize((shape[1], shape[0]), Image.Resampling.BICUBIC))


# Shortcuts ---------------------------------------------------------------------------------------


def shortcuts(pictures: list[bytes], recipe: mmcache.Recipe) -> str:
    """Decode each picture in every way, one way after the other, and compare."""
    ways: dict[str, Callable[[bytes], NDArray[Any]]] = {}
    for headroom in HEADROOMS:
        ways[_named(headroom)] = lambda one, headroom=headroom: _scaled(one, recipe, headroom)
    for gap in GAPS:
        ways[f"full decode, reducing_gap={gap}"] = lambda one, gap=gap: _reduced(one, recipe, gap)
    if FAST:
        fast = dataclasses.replace(recipe, resampler="cykooz")
        for headroom in (_USED, NEVER):
            name = f"the same{' in full' * (headroom == NEVER)}, by cykooz-resizer"
            ways[name] = lambda one, headroom=headroom: _scaled(one, fast, headroom)
    distances: dict[str, list[float]] = {name: [] for name in ways}
    seconds: dict[str, list[float]] = {name: [] for name in ways}
    smaller = dict.fromkeys(ways, 0)
    for picture in pictures:
        header = read_header(io.BytesIO(picture))
        placement = recipe.place(header.size)
        reference = referred(io.BytesIO(picture), placement.size)
        for name, way in ways.items():
            started = time.thread_time()
            pixels = way(picture)
            seconds[name].append(time.thread_time() - started)
            distances[name].append(psnr(pixels, reference))
        for headroom in HEADROOMS:
            with _headroom(headroom):
                smaller[_named(headroom)] += headers.scaled_by(header.size, placement.scaled) > 1
    slowest = sum(seconds[_named(NEVER)])
    return table(
        ("way", "decoded smaller", "minimum dB", "median dB", f"under {FLOOR} dB",
         "processor ms", "faster"),
        (
            (
                name,
                smaller[name] if name.startswith(_HEADROOM) else "",
                f"{min(distances[name]):.1f}",
                f"{median(distances[name]):.1f}",
                sum(one < FLOOR for one in distances[name]),
                f"{median(seconds[name]) * 1e3:.2f}",
                f"{slowest / sum(seconds[name]):.2f} x",
            )
            for name in ways
        ),
    )  # fmt: skip


_HEADROOM = "scaled decode to at least"
_USED = headers.HEADROOM


def _named(headroom: float) -> str:
    if headroom == NEVER:
        return "full decode"
    used = " (what mmcache does)" if headroom == _USED else ""
    return f"{_HEADROOM} {headroom:g} times{used}"


@contextlib.contextmanager
def _headroom(value: float) -> Iterator[None]:
    headers.HEADROOM = value  # type: ignore[assignment]
    try:
        yield
    finally:
        headers.HEADROOM = _USED


def _scaled(picture: bytes, recipe: mmcache.Recipe, headroom: float) -> NDArray[Any]:
    with _headroom(headroom):
        return decode(io.BytesIO(picture), recipe)


def _reduced(picture: bytes, recipe: mmcache.Recipe, gap: float) -> NDArray[Any]:
    """Let Pillow shrink by whole numbers first, as its ``thumbnail`` does."""
    with Image.open(io.BytesIO(picture)) as image:
        upright = ImageOps.exif_transpose(image).convert("RGB")
    height, width = recipe.place(mmcache.Size(upright.height, upright.width)).size
    return np.asarray(upright.resize((width, height), Image.Resampling.BICUBIC, reducing_gap=gap))


if __name__ == "__main__":
    sys.exit(main())
