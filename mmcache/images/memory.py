"""How much memory decoding a picture needs, told from its header; and giving it back.

The figures were measured on pictures of 16 megapixels, from outside of the process: see
``scripts/bench_pictures.py``.
"""

from __future__ import annotations

import ctypes
import sys
from typing import TYPE_CHECKING

from mmcache.images.colours import STRIP
from mmcache.images.headers import JPEGS, scaled_by
from mmcache.images.turbo import MOST

if TYPE_CHECKING:
    from mmcache.images.headers import Header
    from mmcache.recipe import Recipe

__all__ = ["decode_bytes", "returned_memory"]

# Bytes of a decoded pixel as Pillow holds it; 4 where it is not said.
_HELD = {"1": 1, "L": 1, "P": 1, "I;16": 2, "I;16B": 2, "I;16L": 2, "I;16N": 2}

# Bytes of a pixel that a format's decoder holds besides, until it is done.
_BESIDES = {
    "WEBP": 13,  # two canvases, and the bytes that Pillow takes
    "AVIF": 10,  # planes of up to 12 bits, and RGB
    "HEIF": 10,
    "JXL": 16,
    "TIFF": 4,  # all may be in one strip
    "QOI": 8,
    "PPM": 4,
    "SGI": 3,
    "ICO": 8,
}
_JPEG2000_SAMPLE = 6
_PACKED = 6  # bytes of a pixel of a JPEG that is decoded packed, and handed on as bytes
_CHANNELS = {"L": 1, "I;16": 1, "LA": 2, "RGB": 3}
_FRAMES_BESIDES = 12  # bytes of a pixel: the frames before are laid over each other

_NUMBERS = ("", "I", "F", "I;16", "I;16B", "I;16L", "I;16N")
_CONVERTED = 14  # bytes of a pixel of a strip, beside the picture
_SCALED = 30
_BLOCK = 1 << 20  # bytes, in which memory is taken


def decode_bytes(header: Header, recipe: Recipe, file_size: int) -> int:
    """Return about how many bytes of memory it takes to bring a picture to its record.

    Counted are the file, the decoded pixels, what the decoder holds beside them, every coefficient
    of a JPEG in several scans, strips that are converted, a picture made narrower, and the record.
    """
    pixels = header.height * header.width
    placement = recipe.place(header.size)
    decoded = pixels
    if header.format in JPEGS and recipe.resample != "nearest":
        decoded //= scaled_by(header.size, placement.scaled) ** 2
    per_strip = _SCALED if header.mode in _NUMBERS else _CONVERTED
    strip = 0 if header.mode in ("RGB", "L") else min(decoded, STRIP) * per_strip
    # It is made narrower first, as it is stored: upright, or lying on its side.
    narrow = 4 * max(placement.scaled.width * header.height, placement.scaled.height * header.width)
    record = placement.size.height * placement.size.width * 8
    if recipe.resampler == "cykooz":  # which makes what is cut away too
        record += placement.scaled.height * placement.scaled.width * 4 + _BLOCK
    return (
        file_size
        + decoded * (_HELD.get(header.mode, 4) + _besides(header, recipe, decoded))
        + header.coefficient_bytes
        + strip
        + narrow
        + record
        + _BLOCK
    )


def _besides(header: Header, recipe: Recipe, pixels: int) -> int:
    besides = _BESIDES.get(header.format, 0)
    if header.format == "JPEG" and recipe.resampler == "cykooz" and pixels <= MOST:
        besides += _PACKED
    if header.format == "JPEG2000":
        besides = _JPEG2000_SAMPLE * _CHANNELS.get(header.mode, 4)
    if recipe.frame and header.format in ("GIF", "PNG"):
        besides += _FRAMES_BESIDES
    return besides


def returned_memory() -> None:
    """Give back to the system what freed pictures leave in the allocator, where it can be asked.

    GNU's keeps an arena a thread. Pillow's blocks of 16 MB lie in them, and stay after the picture
    is gone: of two giants that never were there together, both would count.
    """
    libc = ctypes.CDLL(None) if sys.platform == "linux" else None
    if libc is not None and hasattr(libc, "malloc_trim"):
        libc.malloc_trim(ctypes.c_size_t(0))
