#!/usr/bin/env python3
"""Make the golden caches: small ones of every format, kept under tests/golden to open for ever.

They hold painted pictures. Two runs with the same libraries write the same bytes. Caches that are
there stay as they are, and new ones go beside them: `ragged` and `uniform` have neither the columns
`format` and `mode` nor the sizes of failures, which came later.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import shutil
import sys
import tempfile
import warnings
from pathlib import Path
from typing import Any
from unittest import mock

import mmcache
import mmcache.layout
import mmcache.stores.zarr
from mmcache.testing import paint_folder

GOLDEN = Path(__file__).resolve().parent.parent / "tests" / "golden"
ENDINGS = ("mmc", "h5", "zarr")
COUNT = 6  # pictures that can be read
LONGEST = 60  # pixels of a painted edge
SLAB = 2 << 10  # bytes: so little that a few pictures fill several slabs and shards
CHUNK = 1 << 10
MODIFIED_NS = 1_700_000_000_123_456_789  # of every picture's file


def main(arguments: list[str] | None = None) -> int:
    """Write the caches and what they hold into *arguments*' folder, or tests/golden."""
    chosen = sys.argv[1:] if arguments is None else arguments
    target = Path(chosen[0] if chosen else GOLDEN).resolve()
    if target.exists():
        if not (target / "expected.json").exists():
            sys.exit(f"{target} is there and holds no golden caches: name another folder")
        shutil.rmtree(target)
    target.mkdir(parents=True)
    with tempfile.TemporaryDirectory() as folder, contextlib.chdir(folder):
        photos = painted(Path("photos"))
        # One has labels, and keys in order; the other has neither.
        caches = {
            "ragged": built(photos, target / "ragged", size=24),
            "uniform": built(listed(photos), target / "uniform", size=24, resize="crop"),
            "wide": built(photos, target / "wide", size=24, resize="crop", mode="I;16"),
        }
    expected = {name: told(cache) for name, cache in caches.items()}
    (target / "expected.json").write_text(json.dumps(expected, indent=1) + "\n", encoding="utf-8")
    files = [file for file in target.rglob("*") if file.is_file()]
    print(f"{sum(file.stat().st_size for file in files):,} bytes in {len(files)} files: {target}")
    return 0


def painted(photos: Path) -> Path:
    """Paint the pictures, and two files that cannot be read: at their header, and later."""
    paint_folder(photos, COUNT, longest=LONGEST)
    (photos / "waves" / "00005.jpg").rename(photos / "waves" / "wäves.jpg")
    whole = (photos / "circles" / "00000.jpg").read_bytes()
    (photos / "circles" / "cut.jpg").write_bytes(whole[: len(whole) * 2 // 3])
    (photos / "stripes" / "text.png").write_text("no picture", encoding="utf-8")
    for file in photos.rglob("*.*"):
        os.utime(file, ns=(MODIFIED_NS, MODIFIED_NS))
    return photos


def listed(photos: Path) -> list[Path]:
    """Return the pictures as a list that is not in the order of its keys."""
    return sorted(photos.rglob("*.*"), reverse=True)


def built(source: Path | list[Path], path: Path, **recipe: Any) -> mmcache.Cache:
    """Build a cache in every format, and return one of them."""
    with (
        mock.patch.object(mmcache.layout, "SLAB", SLAB),
        mock.patch.object(mmcache.layout, "CHUNK", CHUNK),
        mock.patch.object(mmcache.stores.zarr, "CHUNK", CHUNK),
        mock.patch.object(mmcache.stores.zarr, "SHARD", 1),
        warnings.catch_warnings(),
    ):
        warnings.simplefilter("ignore", mmcache.PicturesSkippedWarning)
        for ending in ENDINGS:
            one = path.with_suffix(f".{ending}")
            cache = mmcache.build(source, one, progress=False, **recipe)
    return cache


def told(cache: mmcache.Cache) -> dict[str, Any]:
    """Return what a cache holds, for a test to compare with."""
    return {
        "fingerprint": cache.fingerprint,
        "recipe": cache.recipe.to_json(),
        "classes": list(cache.classes),
        "labels": None if cache.labels is None else cache.labels.tolist(),
        "keys": list(cache.keys),
        "shapes": cache.shapes.tolist(),
        "sha256": [hashlib.sha256(picture.tobytes()).hexdigest() for picture in cache],
        "failures": [[one.key, one.stage, one.reason] for one in cache.failures],
    }


if __name__ == "__main__":
    sys.exit(main())
