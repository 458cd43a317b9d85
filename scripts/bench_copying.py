#!/usr/bin/env python3
"""How fast a cache is converted beside a plain copy of its files; what exports cost and weigh."""

from __future__ import annotations

import shutil
import sys
from typing import TYPE_CHECKING

from measuring import median, options_of, ratio, table, take_turns, workplace

import mmcache
from mmcache.stores.payload import synced

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

WAYS = (("mmc", "h5"), ("mmc", "zarr"), ("h5", "mmc"), ("zarr", "mmc"))
EXPORTS = {
    "png": {"format": "png"},
    "jpeg, quality 95": {"format": "jpeg", "quality": 95},
    "jpeg, quality 85": {"format": "jpeg", "quality": 85},
    "zarr, zstd": {"format": "zarr", "compression": "zstd"},
    "zarr, gzip": {"format": "zarr", "compression": "gzip"},
    "zarr, blosc": {"format": "zarr", "compression": "blosc"},
}


def main(arguments: list[str] | None = None) -> int:
    """Print the tables."""
    options = options_of(__doc__, arguments, rounds=5, size=256)
    with workplace(options) as (photos, work):
        caches = {
            ending: mmcache.build(
                photos, work / f"cache.{ending}", size=options.size, progress=False
            )
            for ending in ("mmc", "h5", "zarr")
        }
        print(
            f"## Converting {len(caches['mmc']):,} pictures, {caches['mmc'].nbytes / 1e6:.0f} MB\n"
        )
        print(converted(caches, work / "copies", options.rounds))
        print("\n## Exporting the same\n")
        print(exported(caches["mmc"], work / "exports"))
    return 0


def converted(caches: dict[str, mmcache.Cache], work: Path, rounds: int) -> str:
    """Return the table of conversions, a plain copy of the same cache's files beside them."""
    work.mkdir()

    def copy() -> None:
        shutil.copytree(caches["mmc"].path, work / "plain.mmc")

    def flushed() -> None:
        copy()
        synced(work / "plain.mmc")

    contenders: dict[str, Callable[[], object]] = {
        "plain copy of the npy files": copy,
        "the same, brought to disk": flushed,
    }
    for here, there in WAYS:
        contenders[f"{here} to {there}"] = lambda here=here, there=there: mmcache.convert(
            caches[here], work / f"{here}-{there}.{there}", progress=False
        )

    def clean() -> None:
        shutil.rmtree(work)
        work.mkdir()

    taken = take_turns(contenders, rounds, after=clean)
    plain = taken["the same, brought to disk"]
    head = ("way", "ms", "times a copy on disk, clock", "of it, processor")
    return table(
        head,
        [
            (
                name,
                f"{1000 * median(one.clock for one in spent):.0f}",
                f"{ratio((a.clock for a in spent), (b.clock for b in plain)):.2f}",
                f"{ratio((a.processor for a in spent), (b.processor for b in plain)):.2f}",
            )
            for name, spent in taken.items()
        ],
    )


def exported(cache: mmcache.Cache, work: Path) -> str:
    """Return the table of exports: what they take, and what they weigh of the cache."""
    work.mkdir()
    rows = []
    for number, (name, settings) in enumerate(EXPORTS.items()):
        path = work / f"{number}{'.zarr' if settings['format'] == 'zarr' else ''}"
        (spent,) = take_turns(
            {name: lambda path=path, settings=settings: mmcache.export(
                cache, path, progress=False, **settings
            )},
            1,
        )[name]  # fmt: skip
        weight = sum(file.stat().st_size for file in path.rglob("*") if file.is_file())
        rows.append(
            (
                name,
                f"{weight / 1e6:.1f}",
                f"{weight / cache.nbytes:.2f}",
                f"{len(cache) / spent.clock:.0f}",
                f"{1000 * spent.processor / len(cache):.2f}",
            )
        )
    return table(("export", "MB", "of the cache", "pictures/s", "processor ms a picture"), rows)


if __name__ == "__main__":
    sys.exit(main())
