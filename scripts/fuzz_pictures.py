#!/usr/bin/env python3
"""Give the header and decode steps what no camera wrote, for as long as you like.

    python scripts/fuzz_pictures.py                       an hour, with what it finds in fuzz-found/
    python scripts/fuzz_pictures.py -max_total_time=60    what follows goes to libFuzzer

Coverage-guided by atheris (`pip install atheris`), from a picture of every kind in mmcache.testing.
Found is: a signal, a hang, more memory than allowed, anything raised that is no failure of one
picture; a record of another shape than its header promised; and a picture that Pillow opens in full
and mmcache does not, or with another size or mean colour.
"""

from __future__ import annotations

import hashlib
import io
import re
import sys
import warnings
from pathlib import Path
from typing import TYPE_CHECKING

import atheris

with atheris.instrument_imports(include=["PIL", "mmcache.images", "mmcache.signatures"]):
    import numpy as np

    from mmcache.images import check_pixels, decode_flagged, read_header
    from mmcache.images.reasons import unreadable
    from mmcache.recipe import Recipe
    from mmcache.testing import odd_pictures
    from mmcache.testing.reference import reference

if TYPE_CHECKING:
    from PIL import Image

MOST_PIXELS = 1_000_000  # of a picture here: a fuzzer wants many, not large ones
WHOLE = Recipe(size=65_535, icc="ignore")
RECIPES = [
    WHOLE,
    Recipe(size=16, resize="crop"),
    Recipe(size=(9, 20), resize="pad", mode="RGBA", truncated="keep"),
    Recipe(size=12, mode="L", truncated="keep", frame=1),
    Recipe(size=30, mode="I;16", resize="stretch"),
    Recipe(size=30, mode="P", resample="nearest", frame=2),
]
FAR = 4  # of 255: how far mean colours may be apart
LIMITS = ["-timeout=60", "-rss_limit_mb=3000", "-max_len=65536", "-max_total_time=3600"]


FOUND = Path("fuzz-found")
seen: set[str] = set()


def look_at(data: bytes) -> None:
    """Look at one input; what is found is kept and told, each kind once, and the run goes on."""
    try:
        decode_as_told(data)
    except AssertionError as error:
        kind = re.sub(r"\d+", "N", str(error))
        if kind not in seen:
            seen.add(kind)
            file = FOUND / f"found-{hashlib.sha256(data).hexdigest()[:12]}"
            file.write_bytes(data)
            print(f"FOUND {file}: {error}", flush=True)


def decode_as_told(data: bytes) -> None:
    """Decode the rest of *data* as its first byte says."""
    if not data:
        return
    recipe, encoded = RECIPES[data[0] % len(RECIPES)], data[1:]
    try:
        header = read_header(io.BytesIO(encoded), recipe.frame)
        check_pixels(header.size, MOST_PIXELS)
        record, _ = decode_flagged(
            io.BytesIO(encoded), recipe, expected=header.size, orientation=header.orientation
        )
    except Exception as error:  # noqa: BLE001  # any failure of one picture is an answer
        said = unreadable(error)
        assert said.isprintable(), repr(said)  # it is no test
        if recipe is WHOLE and "limit" not in said and "its header says" not in said:
            opened = full(encoded)
            assert opened is None, f"Pillow opens it {opened.size}: {said}"
        return
    expected = (*recipe.place(header.size).size, recipe.channels)
    assert record.shape == expected, (record.shape, expected)
    assert record.dtype == recipe.dtype
    if recipe is WHOLE and (opened := full(encoded)) is not None:
        assert opened.size == header.size[::-1], (opened.size, header)
        if not curious(encoded, header.mode):
            far = abs(np.asarray(opened).mean((0, 1)) - record.mean((0, 1))).max()
            assert far <= FAR, f"mean colours are {far} apart"


def full(encoded: bytes) -> Image.Image | None:
    """Return what Pillow makes of all of a picture; None where it makes nothing of it."""
    try:
        return reference(encoded)
    except Exception:  # noqa: BLE001  # whatever it raises
        return None


def curious(encoded: bytes, mode: str) -> bool:
    """Tell whether Pillow alone is known to get these colours wrong: see docs/pictures.md."""
    return mode == "CMYK" or b"tRNS" in encoded


def main() -> None:
    """Write the seeds, and let the fuzzer run."""
    warnings.simplefilter("ignore")
    seeds = FOUND / "corpus"
    seeds.mkdir(parents=True, exist_ok=True)
    for odd in odd_pictures():
        for number in range(len(RECIPES)):
            (seeds / f"{number}-{odd.name}").write_bytes(bytes([number]) + odd.data)
    atheris.Setup(
        [sys.argv[0], *LIMITS, f"-artifact_prefix={FOUND}/", *sys.argv[1:], str(seeds)], look_at
    )
    atheris.Fuzz()


if __name__ == "__main__":
    main()
