#!/usr/bin/env python3
"""How fast a folder of photos becomes a cache, for mmcache and for its peers, and how good it is.

Each contender runs in a process of its own, and they take turns. Everything of a build counts.
``--peers`` makes environments for the peers below .venv and installs them there, once.
"""

from __future__ import annotations

import sys
import time
from typing import TYPE_CHECKING

from bench_pixels import referred
from contest.asking import asked, parser_of
from contest.building.filters import filtered
from contest.building.findings import panels, promised, winners
from contest.building.pieces import Inside
from contest.building.race import BASE, Builders, Race, results
from contest.building.sets import camera_photos, repeated, web_photos
from contest.building.writers import WRITERS
from contest.chart import drawn
from contest.page import put_into
from contest.quality import psnr
from measuring import table, workplace

import mmcache

if TYPE_CHECKING:
    import argparse
    from collections.abc import Iterable
    from pathlib import Path

    from contest.building.sets import PhotoSet

SOME = (
    "MmcacheFast", "MmcacheFastTwo", "MmcachePillow", BASE, "OpenCv", "OpenCvArea", "Ffcv",
    "Img2dataset", "Decoding", "ScaledDecoding", "EntropyDecoding",
)  # fmt: skip
"""Those who build to other sizes too, and from photos without grain."""
FEW = ("MmcacheFast", "MmcachePillow", BASE, "OpenCvArea", "ScaledDecoding", "EntropyDecoding")
"""Those who build from the largest photos."""
MEGAPIXELS = 12, 48

PARTS = {
    "web": "Photos of the web are small: the time goes into decoding all of their pixels, and into"
    " bringing them to size.",
    "camera": "Of a large photo nearly all the time is decoding, and little of that is needed: the"
    " JPEG decoder can leave out what a small picture does not show. How much that spares depends"
    " on the grain, since every bit of the file has to be read in any case; so there are two kinds:"
    " web photos enlarged, which are smooth, and the same with grain, as cameras add it.",
    "filters": "The same web photos, decoded in full beforehand: the time is that of resizing"
    " alone. PSNR and SSIM are against Lanczos in floats. So that no filter is punished for not"
    " being Lanczos, *there and back* enlarges each small picture to its first size, by bicubic in"
    " floats, and compares with the photo itself: it tells how much of the photo is still there.",
    "inside": "The bare loop reads each file, decodes and resizes it with the very function that"
    " the build uses, and throws the pixels away. A build does that and everything else: it lists"
    " the folder, reads the headers, allocates, writes, sums, flushes to disk and publishes.",
    "floor": "Every photo of the folder as the cache has it, against `Image.open`,"
    " `ImageOps.exif_transpose`, `convert` and `resize` by Pillow: in full, with the same filter.",
}
COLUMNS = (
    "*Times the Pillow loop* is how many times as fast a contender is, the median of the rounds:"
    " by the clock, and by the processor time of it and its workers, which is what counts for a"
    " core and is disturbed less. mmcache waits until its cache is on disk and has summed every"
    " byte; the others do neither. PSNR and SSIM compare what was kept with an exact Lanczos of the"
    " full photo, for half of the pictures and for the worst one. *Private MB* is the most memory"
    " that it and its workers had for themselves, libraries counted; where a table is of a further"
    " size, of processes that have built before."
)


class Report:
    """What was found: printed as it comes, and kept for the page."""

    def __init__(self) -> None:
        self.parts: list[str] = []
        self.races: dict[str, Race] = {}

    def tell(self, title: str, *texts: str) -> None:
        """Print a section."""
        given = (text.strip() for text in texts if text.strip())
        self.parts.append("\n\n".join([f"### {title}", *given]) + "\n")
        print(self.parts[-1], flush=True)


def main(arguments: list[str] | None = None) -> int:
    """Print the tables, and draw them where that is asked."""
    options = options_of(arguments)
    started = time.monotonic()
    report = Report()
    with workplace(options) as (photos, work):
        web = web_photos(photos, work / "web", options.web)
        left_out = contests(web, work, options, report)
        if "filters" in options.only:
            made = filtered(web, options.size, options.sample)
            report.tell(f"Filters: to {options.size}", PARTS["filters"], made)
        inside = None
        if "inside" in options.only:
            inside = looked_inside(web, work / "inside", options, report)
        floor = None
        if "floor" in options.only:
            floor = nearest(photos, work / "floor.mmc", options.size, report)
        rows = promised(report.races, inside, floor)
        report.tell("Asked for, and measured", table(("promise", "asked for", "measured"), rows))
        if left_out:
            report.tell("Who is not in a table, and why", table(("who", "why"), left_out.items()))
    print(f"All of it took {time.monotonic() - started:.0f} seconds.")
    if options.plot:
        options.plot.write_text(drawn(list(panels(report.races))))
    if options.into:
        put_into(options.into, "bench_build.py", "\n".join(report.parts))
    return 0


# The contests ------------------------------------------------------------------------------------


def contests(
    web: PhotoSet, work: Path, options: argparse.Namespace, report: Report
) -> dict[str, str]:
    """Hold the contests; return why somebody is not in a table."""
    (work / "builders").mkdir()
    builders = Builders(work / "builders", options)
    if "web" in options.only:
        text = f"{PARTS['web']}\n\n{COLUMNS}"
        race(builders, report, web, WRITERS, key="web", text=text)
        for size in options.sizes:
            if size < max(web.height, web.width):
                race(builders, report, web, SOME, size=size)
        builders.dismiss()
    if "camera" in options.only:
        text = PARTS["camera"]
        for megapixels, count in zip(MEGAPIXELS, (options.camera, options.large), strict=True):
            for photos in camera_photos(web, work, megapixels, count) if count else ():
                large = megapixels > min(MEGAPIXELS)
                grainy = "grainy" in photos.kind
                who = FEW if large else WRITERS if grainy else SOME
                key = None if large else "grainy" if grainy else "smooth"
                many = repeated(photos, options.names)
                race(builders, report, many, who, key=key, text=text)
                for size in options.sizes[-1:] if large else options.sizes:
                    race(builders, report, photos, FEW if large else SOME, size=size)
                builders.dismiss()
                text = ""
    builders.dismiss()
    return builders.left_out


def race(
    builders: Builders,
    report: Report,
    photos: PhotoSet,
    names: Iterable[str],
    *,
    key: str | None = None,
    text: str = "",
    size: int | None = None,
) -> None:
    """Hold one contest and tell of it; it is kept under *key*, if there is one.

    Those to another *size* than the one that counts have half of the rounds and of the time.
    """
    box = size or builders.options.size
    rounds = builders.options.rounds if size is None else (builders.options.rounds + 1) // 2
    held = builders.race(f"{photos.kind} to {box}", photos, box, names, rounds)
    if not any(held.turns.values()):
        return
    if key:
        report.races[key] = held
    title = f"{photos.kind[0].upper()}{photos.kind[1:]} to {box}"
    report.tell(title, text, f"{photos.told}.", results(held), winners(held))


# From inside -------------------------------------------------------------------------------------


def looked_inside(web: PhotoSet, work: Path, options: argparse.Namespace, report: Report) -> Inside:
    """Compare builds with bare loops, and look where they spend their time."""
    work.mkdir()
    inside = Inside(web, work, options.size, options.rounds)
    report.tell("Beside a bare loop", PARTS["inside"], inside.compared())
    told = "The same builds with and without checksums, flushes, `fsync` and the journal."
    report.tell("What being careful costs", told, inside.careless())
    told = "Processor time of all threads, by what it was spent on, in microseconds a picture."
    report.tell("Where a build spends its time", told, inside.shares())
    return inside


def nearest(photos: Path, path: Path, size: int, report: Report) -> float:
    """Tell how near the cache of all photos is to Pillow's full decode; return the least PSNR."""
    # Profiles would change colours on one side alone: bench_pictures.py is about them.
    cache = mmcache.build(photos, path, size=size, icc="ignore", progress=False)
    decibels = sorted(
        psnr(cache[row], referred(photos / key, cache[row].shape))
        for row, key in enumerate(cache.keys)
    )
    head = ("photos", "PSNR of the worst", "of half at least", "under 40 dB")
    line = (f"{len(cache):,}", f"{decibels[0]:.1f}", f"{decibels[len(cache) // 2]:.1f}",
            sum(one < 40 for one in decibels))  # noqa: PLR2004  # fmt: skip
    report.tell(f"Against Pillow's full decode: to {size}", PARTS["floor"], table(head, [line]))
    return decibels[0]


# The script --------------------------------------------------------------------------------------


def options_of(arguments: list[str] | None) -> argparse.Namespace:
    """Read the command line."""
    parser = parser_of(__doc__, PARTS)
    add = parser.add_argument
    add("--size", type=int, default=256, help="box that everybody builds to")
    add("--sizes", default="224,512,1024", help="boxes that some build to as well")
    add("--web", type=int, default=500, help="photos of the web")
    add("--camera", type=int, default=8, help=f"photos of {MEGAPIXELS[0]} megapixels of each kind")
    add("--large", type=int, default=3, help=f"photos of {MEGAPIXELS[1]} megapixels of each kind")
    add("--names", type=int, default=3, help="of each of these, in the contests to --size")
    add("--sample", type=int, default=100, help="pictures that PSNR and SSIM are of")
    add("--rounds", type=int, default=5, help="of each contest, if time allows")
    add("--seconds", type=float, default=30, help="after which a contest has no further round")
    options = asked(parser, arguments, PARTS)
    options.sizes = [int(size) for size in options.sizes.split(",") if size]
    return options


if __name__ == "__main__":
    sys.exit(main())
