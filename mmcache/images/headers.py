"""What a picture's first bytes tell, without decoding a pixel."""

from __future__ import annotations

import os
import struct
from functools import lru_cache
from typing import TYPE_CHECKING, Any, BinaryIO, NamedTuple

from mmcache.geometry import Size
from mmcache.images.jxl import jxl_size
from mmcache.images.opening import open_image, orientation_of, sniffed, turned

if TYPE_CHECKING:
    from collections.abc import Iterator

    from PIL import Image

__all__ = ["COEFFICIENT_BYTES", "HEADROOM", "JPEGS", "Header", "read_header", "scaled_by"]

HEADROOM = 3
"""A JPEG is decoded at 1/2, 1/4 or 1/8 only while that leaves this many times the target's pixels
along each edge. At 3 times none of a thousand photos, brought to 256, 120 and 80 pixels, fell under
41.9 dB against the full decode with the same filter; at 2 times some fell to 35.5."""

JPEGS = ("JPEG", "MPO")
"""Formats that can be decoded at a reduced size."""

COEFFICIENT_BYTES = 2
"""Of each sample, as a JPEG's decoder holds it."""

_EIGHTHS = (8, 4, 2)

_BEGINNING = 8192  # bytes of a file in which most JPEGs have their header
_SEGMENT = struct.Struct(">HH")  # a marker, and the length of all that follows it
_FRAME = struct.Struct(">BHHB")  # bits of a sample, height, width, components
_SOS = 0xFFDA  # the start of a scan
_PROGRESSIVE = 0xFFC2
_FRAMES = (0xFFC0, 0xFFC1, _PROGRESSIVE)  # baseline, extended, progressive: Huffman-coded
_MODES = {1: "L", 3: "RGB", 4: "CMYK"}
_MOST_COMPONENTS = 4


class Header(NamedTuple):
    """A picture as its first bytes describe it.

    ``height`` and ``width`` are those of the upright picture, after EXIF ``orientation`` (1 to 8).
    ``format`` and ``mode`` are Pillow's words; a JPEG XL does not tell its mode. ``progressive``
    tells whether a JPEG comes in several scans, and ``samples`` how many samples a pixel of it has
    on average: 1.5 where colour is halved in both directions.
    """

    format: str
    mode: str
    height: int
    width: int
    orientation: int
    progressive: bool
    samples: float = 3

    @property
    def size(self) -> Size:
        """The upright size."""
        return Size(self.height, self.width)

    @property
    def coefficient_bytes(self) -> int:
        """The bytes that a JPEG in several scans takes before it gives a pixel."""
        samples = round(self.height * self.width * self.samples) if self.progressive else 0
        return samples * COEFFICIENT_BYTES


def read_header(file: BinaryIO, frame: int = 0) -> Header:
    """Read the header of an open picture, or raise why that is impossible.

    *frame* is the one of an animation that is meant, as in :class:`mmcache.Recipe`.
    """
    file.seek(0)
    if (plain := plain_jpeg(file.read(_BEGINNING))) is not None:
        return plain
    if sniffed(file) == "JXL":
        (height, width), orientation = jxl_size(file)
        return Header("JXL", "", height, width, orientation, progressive=False)
    with open_image(file, frame) as image:
        orientation = orientation_of(image)
        height, width = turned(Size(image.height, image.width), orientation)
        jpeg = image.format in JPEGS
        return Header(
            format=str(image.format),
            mode=image.mode,
            height=height,
            width=width,
            orientation=orientation,
            progressive=jpeg and _in_several_scans(image),
            samples=_samples(tuple(layer[1:3] for layer in _layers(image))) if jpeg else 3,
        )


def _layers(image: Image.Image) -> list[tuple[int, int, int, int]]:
    """Return what a JPEG says of each component: name, two sampling factors, table."""
    return image.layer  # type: ignore[attr-defined, no-any-return]


def _in_several_scans(image: Image.Image) -> bool:
    """Tell whether the decoder must hold all coefficients of a JPEG before it gives a pixel."""
    if image.info.get("progressive"):
        return True
    if image.format != "JPEG" or not image.tile:  # type: ignore[attr-defined]
        return False
    components = len(_layers(image))
    if components > _MOST_COMPONENTS:
        return True
    # A baseline JPEG may have a scan for each component. The file is right behind the head of its
    # first scan, which tells of how many it is.
    file: Any = image.fp  # type: ignore[attr-defined]
    length = 6 + 2 * components
    file.seek(-2 - length, os.SEEK_CUR)
    return bool(file.read(5) != struct.pack(">HHB", _SOS, length, components))


@lru_cache(maxsize=64)
def _samples(factors: tuple[tuple[int, int], ...]) -> float:
    """Return the samples of a pixel, on average, of components with those sampling factors."""
    if not factors:
        return 3
    most = max(h for h, _ in factors) * max(v for _, v in factors)
    return float(sum(h * v for h, v in factors) / max(most, 1))


# Without Pillow ----------------------------------------------------------------------------------


def plain_jpeg(beginning: bytes) -> Header | None:
    """Return the header of a JPEG as most are, in a quarter of the time that Pillow takes.

    None of all others, and of all in which anything is unusual: Pillow decides what that means.
    So the answer is Pillow's, or there is none. See ITU-T T.81, annex B.
    """
    kind, frame = 0, b""
    for marker, content in _segments(beginning):
        if marker in _FRAMES and not frame:
            kind, frame = marker, content
        elif marker == _SOS:
            return _framed(kind, frame, content)
        elif not (is_usual := _USUAL.get(marker)) or not is_usual(content):
            return None
    return None


def _segments(beginning: bytes) -> Iterator[tuple[int, bytes]]:
    """Yield the marker and the content of a JPEG's segments, as far as they are whole."""
    place = 2 if beginning.startswith(b"\xff\xd8\xff") else len(beginning)
    while place + 4 <= len(beginning):
        marker, length = _SEGMENT.unpack_from(beginning, place)
        start, place = place + 4, place + 2 + length
        if length < 3 or place > len(beginning):  # noqa: PLR2004  # its own two bytes, and some
            return
        yield marker, beginning[start:place]


def _framed(kind: int, frame: bytes, scan: bytes) -> Header | None:
    """Return the header that a frame and the head of a first scan tell, if they agree."""
    bits, height, width, components = _FRAME.unpack_from(frame.ljust(_FRAME.size, b"\0"))
    if (
        bits != 8  # noqa: PLR2004  # a sample
        or components not in _MODES
        or len(frame) != _FRAME.size + 3 * components
        or len(scan) != 4 + 2 * scan[0]
        or not height * width
    ):
        return None
    factors = frame[_FRAME.size + 1 :: 3]
    return Header(
        "JPEG",
        _MODES[components],
        height,
        width,
        orientation=1,
        progressive=kind == _PROGRESSIVE or scan[0] != components,
        samples=_samples(tuple((both >> 4, both & 15) for both in factors)),
    )


def _is_any(_: bytes) -> bool:
    return True


def _are_tables(segment: bytes) -> bool:
    """Tell whether they are whole quantization tables of 8 bits."""
    return len(segment) % 65 == 0 and not any(number >> 4 for number in segment[::65])


def _is_jfif(segment: bytes) -> bool:
    return segment.startswith(b"JFIF\0") and len(segment) >= 14  # noqa: PLR2004  # its fields


def _is_profile(segment: bytes) -> bool:
    return segment.startswith(b"ICC_PROFILE\0") and len(segment) >= 14  # noqa: PLR2004  # its head


def _is_adobe(segment: bytes) -> bool:
    return segment.startswith(b"Adobe") and len(segment) >= 12  # noqa: PLR2004  # its fields


_USUAL = {
    0xFFC4: _is_any,  # Huffman tables
    0xFFDB: _are_tables,
    0xFFDD: _is_any,  # the restart interval
    0xFFE0: _is_jfif,
    0xFFE2: _is_profile,
    0xFFEE: _is_adobe,
    0xFFFE: _is_any,  # a comment
}
"""Segments that say nothing of what a header has, if they are as they should be."""


# Decoded smaller ---------------------------------------------------------------------------------


def scaled_by(source: Size, scaled: Size) -> int:
    """Return how many times smaller a JPEG may be decoded: 1, 2, 4 or 8."""
    room = min(
        source.height // (HEADROOM * scaled.height), source.width // (HEADROOM * scaled.width)
    )
    return next((eighth for eighth in _EIGHTHS if room >= eighth), 1)
