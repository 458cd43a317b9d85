#!/usr/bin/env python3
"""What it costs to take every kind of picture: time beside the bare steps, and memory as told.

The bare steps are what an ordinary RGB JPEG needs and nothing else: open, orientation, scaled
decode, resize. Memory is private memory, looked at from outside of a process that decodes.
"""

from __future__ import annotations

import functools
import io
import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from measuring import median, options_of, ratio, table, take_turns, workplace
from PIL import Image
from PIL.ExifTags import Base

import mmcache
from mmcache.images import decode, decode_bytes, read_header, scaled_by
from mmcache.testing import icc_profile, paint

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from numpy.typing import NDArray

LOOK = 0.0005  # seconds between two looks at a process
WEB = mmcache.Size(375, 500)  # of a picture of each kind, for its time
GROUP = 200  # pictures that are decoded in turns: shorter than a machine's moods

# Settings that Pillow saves a picture of each kind with.
KINDS: dict[str, tuple[str, str, dict[str, Any]]] = {
    "JPEG": ("RGB", "jpg", {"quality": 90}),
    "JPEG, grey": ("L", "jpg", {"quality": 90}),
    "JPEG, progressive": ("RGB", "jpg", {"quality": 90, "progressive": True}),
    "JPEG, ink": ("CMYK", "jpg", {"quality": 90}),
    "JPEG, Adobe RGB": ("RGB", "jpg", {"quality": 90, "icc_profile": icc_profile()}),
    "PNG": ("RGB", "png", {"compress_level": 1}),
    "PNG, alpha": ("RGBA", "png", {"compress_level": 1}),
    "PNG, palette": ("P", "png", {"compress_level": 1}),
    "PNG, palette with alpha": ("P", "png", {"compress_level": 1, "transparency": 7}),
    "PNG, 16 bits": ("I;16", "png", {"compress_level": 1}),
    "TIFF": ("RGB", "tif", {}),
    "TIFF, one strip": ("RGB", "tif", {"compression": "tiff_lzw", "strip_size": 1 << 30}),
    "TIFF, floats": ("F", "tif", {}),
    "WebP": ("RGB", "webp", {"method": 0}),
    "AVIF": ("RGB", "avif", {"speed": 10}),
    "JPEG 2000": ("RGB", "jp2", {}),
    "GIF": ("P", "gif", {}),
    "BMP": ("RGB", "bmp", {}),
    "TGA": ("RGBA", "tga", {}),
}


def main(arguments: list[str] | None = None) -> int:
    """Print the tables."""
    options = options_of(__doc__, arguments, size=256, rounds=7, edge=4_000)
    with workplace(options) as (photos, work):
        recipe = mmcache.Recipe(size=options.size)
        plain, profiled = parted(photos)
        print(f"## The common path: {len(plain):,} plain RGB JPEGs to {options.size}\n")
        print(common_path(plain, recipe, options.rounds), end="\n\n")
        print(f"## Colour profiles: {len(profiled):,} of {len(plain) + len(profiled):,} have one\n")
        if profiled:
            print(profiles(profiled, options.size, options.rounds), end="\n\n")
        print(f"## A picture of each kind, {WEB.height} x {WEB.width} to {options.size}\n")
        print(kinds(work, recipe, options.rounds), end="\n\n")
        print(f"## Memory to decode {options.edge:,} x {options.edge:,} to {options.size}\n")
        print(memory(work, options.edge, recipe))
    return 0


def parted(photos: Path) -> tuple[list[bytes], list[bytes]]:
    """Return the RGB JPEGs without and with a colour profile."""
    plain, profiled = [], []
    for key in mmcache.Folder(photos).listing().keys:
        data = (photos / key).read_bytes()
        with Image.open(io.BytesIO(data)) as image:
            if (image.format, image.mode) == ("JPEG", "RGB"):
                (profiled if image.info.get("icc_profile") else plain).append(data)
    return plain, profiled


def bare(data: bytes, recipe: mmcache.Recipe) -> NDArray[Any]:
    """Take an upright RGB JPEG to its record, with no thought of any other picture."""
    with Image.open(io.BytesIO(data), formats=("JPEG",)) as image:
        image.getexif().get(Base.Orientation, 1)
        size = mmcache.Size(image.height, image.width)
        placement = recipe.place(size)
        shrunk = scaled_by(size, placement.scaled)
        if shrunk > 1:
            image.draft(None, (size.width // shrunk, size.height // shrunk))
        box = (0, 0, size.width / shrunk, size.height / shrunk)
        small = image.resize(placement.scaled[::-1], Image.Resampling.BICUBIC, box)
        return np.frombuffer(small.tobytes(), np.uint8).reshape(small.height, small.width, 3)


def common_path(plain: list[bytes], recipe: mmcache.Recipe, rounds: int) -> str:
    """Return what decoding takes, times the bare steps."""
    ways: dict[str, Callable[[bytes], object]] = {
        "the bare steps": lambda data: bare(data, recipe),
        "mmcache's decode step": lambda data: decode(io.BytesIO(data), recipe),
    }
    return timed(ways, plain, rounds)


def profiles(profiled: list[bytes], size: int, rounds: int) -> str:
    """Return what bringing profiles to sRGB takes, times leaving them."""
    ways: dict[str, Callable[[bytes], object]] = {
        f'icc="{icc}"': functools.partial(decoded, mmcache.Recipe(size=size, icc=icc))
        for icc in ("ignore", "srgb")
    }
    return timed(ways, profiled, rounds)


def decoded(recipe: mmcache.Recipe, data: bytes) -> NDArray[Any]:
    """Decode a picture."""
    return decode(io.BytesIO(data), recipe)


def timed(ways: dict[str, Callable[[bytes], object]], pictures: list[bytes], rounds: int) -> str:
    """Return what each way takes a picture, and how many times the first."""
    groups = [pictures[at : at + GROUP] for at in range(0, len(pictures), GROUP)]
    taken: dict[str, list[float]] = {name: [] for name in ways}
    for group in groups:
        contenders = {name: functools.partial(through, way, group) for name, way in ways.items()}
        for name, rounds_of in take_turns(contenders, rounds).items():
            taken[name] += [one.processor / len(group) for one in rounds_of]
    first = next(iter(taken.values()))
    return table(
        ("way", "processor ms a picture", "times the first"),
        (
            (name, f"{median(each) * 1e3:.2f}", f"{ratio(each, first):.3f}")
            for name, each in taken.items()
        ),
    )


def through(way: Callable[[bytes], object], pictures: list[bytes]) -> None:
    """Take every picture one way."""
    for data in pictures:
        way(data)


def saved(folder: Path, size: mmcache.Size) -> Iterator[tuple[str, Path]]:
    """Save a picture of each kind that Pillow writes here."""
    grey = paint(size, mode="L")
    colour = paint(size)
    wide = Image.fromarray(np.asarray(grey).astype(np.uint16) * 257)
    special = {
        "I;16": wide,
        "F": Image.fromarray(np.asarray(grey).astype(np.float32)),
        "RGBA": Image.merge("RGBA", [*colour.split(), grey]),
        "L": grey,
    }
    folder.mkdir(exist_ok=True)
    for number, (name, (mode, ending, options)) in enumerate(KINDS.items()):
        path = folder / f"{number}.{ending}"
        special.get(mode, colour if mode == "RGB" else colour.convert(mode)).save(path, **options)
        yield name, path


def kinds(work: Path, recipe: mmcache.Recipe, rounds: int) -> str:
    """Return what a picture of each kind takes, times a JPEG."""
    pictures = {name: path.read_bytes() for name, path in saved(work / "web", WEB)}
    contenders = {
        name: functools.partial(through, functools.partial(decoded, recipe), [data] * 20)
        for name, data in pictures.items()
    }
    taken = {
        name: [one.processor / 20 for one in each]
        for name, each in take_turns(contenders, rounds).items()
    }
    return table(
        ("kind", "processor ms", "times a JPEG"),
        (
            (name, f"{median(each) * 1e3:.2f}", f"{ratio(each, taken['JPEG']):.2f}")
            for name, each in taken.items()
        ),
    )


def memory(work: Path, edge: int, recipe: mmcache.Recipe) -> str:
    """Return the memory that each kind takes, and what its header told."""
    rows = []
    for name, path in saved(work / "large", mmcache.Size(edge, edge)):
        with path.open("rb") as file:
            header = read_header(file)
        told = decode_bytes(header, recipe, path.stat().st_size)
        took = max(1, watched(path, recipe.box.height))
        path.unlink()
        pixels = f"{took / edge**2:.1f}"
        rows.append((name, f"{took / 1e6:.0f}", pixels, f"{told / 1e6:.0f}", f"{told / took:.2f}"))
    return table(("kind", "MB", "bytes a pixel", "told, MB", "told / taken"), rows)


CHILD = """
import io, sys, mmcache.images, mmcache.recipe
with open(sys.argv[1], "rb") as file:
    mmcache.images.read_header(file)
print(flush=True)
sys.stdin.readline()
with open(sys.argv[1], "rb") as file:
    data = file.read()
mmcache.images.decode(io.BytesIO(data), mmcache.recipe.Recipe(size=int(sys.argv[2])))
print(flush=True)
sys.stdin.readline()
"""


def watched(path: Path, size: int) -> int:
    """Decode in a process of its own, and return the private memory that it took, in bytes."""
    command = [sys.executable, "-c", CHILD, str(path), str(size)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as child:
        assert child.stdin is not None
        assert child.stdout is not None
        child.stdout.readline()
        before = most = private(child.pid)
        child.stdin.write(b"\n")
        child.stdin.flush()
        asked = bytearray()
        while not asked:
            most = max(most, private(child.pid))
            time.sleep(LOOK)
            asked += ready(child.stdout)
        child.stdin.write(b"\n")
        child.stdin.flush()
    return most - before


def ready(stream: Any) -> bytes:
    """Return a line if there is one."""
    import select  # noqa: PLC0415  # not on every system, and memory is told on Linux alone

    return stream.readline() if select.select([stream], [], [], 0)[0] else b""


def private(pid: int) -> int:
    """Return the private memory of a process in bytes, as Linux tells it."""
    status = Path(f"/proc/{pid}/status").read_text(encoding="ascii")
    return int(status.partition("RssAnon:")[2].split()[0]) * 1024


if __name__ == "__main__":
    sys.exit(main())
