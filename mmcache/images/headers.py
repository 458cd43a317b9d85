"""What a picture's first bytes tell, without decoding a pixel."""

from __future__ import annotations

import struct
from typing import TYPE_CHECKING, BinaryIO, NamedTuple

from PIL import Image, UnidentifiedImageError
from PIL.ExifTags import Base

from mmcache.geometry import Size

if TYPE_CHECKING:
    from mmcache.geometry import Placement

__all__ = [
    "FORMATS",
    "HEADROOM",
    "Header",
    "decode_bytes",
    "open_image",
    "orientation_of",
    "read_header",
    "scaled_by",
    "turned",
    "unreadable",
]

FORMATS = (
    "JPEG", "PNG", "WEBP", "GIF", "BMP", "DIB", "TIFF", "PPM", "JPEG2000", "AVIF", "ICO",
    "QOI",
)  # fmt: skip
"""Formats that are opened, told by content: none starts another program or reads another file.
An MPO is opened as a JPEG; Pillow has no opener of that name."""

HEADROOM = 3
"""A JPEG is decoded at 1/2, 1/4 or 1/8 only while that leaves this many times the target's pixels
along each edge. At 3 times none of a thousand photos, brought to 256, 120 and 80 pixels, fell under
41.9 dB against the full decode with the same filter; at 2 times some fell to 35.5."""

_CHANNEL_BYTES = {"1": 1, "L": 1, "P": 1, "LA": 4, "PA": 4, "I;16": 2, "I;16B": 2, "I;16L": 2}
_COEFFICIENT_BYTES = 2  # of a progressive JPEG, which holds all of them, whatever the scale
_EIGHTHS = (8, 4, 2)


class Header(NamedTuple):
    """A picture as its first bytes describe it.

    ``height`` and ``width`` are those of the upright picture, after EXIF ``orientation`` (1 to 8).
    ``format`` and ``mode`` are Pillow's words.
    """

    format: str
    mode: str
    height: int
    width: int
    orientation: int
    progressive: bool

    @property
    def size(self) -> Size:
        """The upright size."""
        return Size(self.height, self.width)


def read_header(file: BinaryIO) -> Header:
    """Read the header of an open picture; an exception of Pillow's where that is impossible."""
    with open_image(file) as image:
        orientation = orientation_of(image)
        size = Size(image.height, image.width)
        height, width = turned(size, orientation)
        return Header(
            format=str(image.format),
            mode=image.mode,
            height=height,
            width=width,
            orientation=orientation,
            progressive=bool(image.info.get("progressive")),
        )


def open_image(file: BinaryIO) -> Image.Image:
    """Open a picture of one of :data:`FORMATS`, told by its content."""
    return Image.open(file, formats=FORMATS)


def orientation_of(image: Image.Image) -> int:
    """Return the EXIF orientation of an open picture: 1 to 8, and 1 for anything else."""
    if image.format == "TIFF":
        return 1  # Pillow turns a TIFF upright itself, its size when it opens it
    if image.format == "PNG" and "exif" not in image.info and not _has_late_metadata(image):
        # Pillow would decode the whole PNG to look for EXIF behind its pixels.
        orientation = Image.Image.getexif(image).get(Base.Orientation, 1)
    else:
        orientation = image.getexif().get(Base.Orientation, 1)
    return orientation if orientation in range(1, 9) else 1


def _has_late_metadata(image: Image.Image) -> bool:
    """Tell whether a PNG has EXIF or text behind its pixels, reading chunk heads alone."""
    file = getattr(image, "fp", None)
    if file is None:
        return False
    place = file.tell()
    try:
        file.seek(8)
        behind = False
        while len(head := file.read(8)) == 8:  # noqa: PLR2004  # a length and a name
            length, name = struct.unpack(">I4s", head)
            if behind and name in (b"eXIf", b"iTXt", b"zTXt", b"tEXt"):
                return True
            behind |= name == b"IDAT"
            file.seek(length + 4, 1)
        return False
    finally:
        file.seek(place)


def turned(size: Size, orientation: int) -> Size:
    """Return a stored size upright, or an upright size as stored: 5 to 8 lie on their side."""
    return Size(size.width, size.height) if orientation >= 5 else size  # noqa: PLR2004


def scaled_by(source: Size, scaled: Size) -> int:
    """Return how many times smaller a JPEG may be decoded: 1, 2, 4 or 8."""
    room = min(
        source.height // (HEADROOM * scaled.height), source.width // (HEADROOM * scaled.width)
    )
    return next((eighth for eighth in _EIGHTHS if room >= eighth), 1)


def decode_bytes(header: Header, placement: Placement, file_size: int, *, scale: bool) -> int:
    """Return about how many bytes of memory decoding a picture needs.

    Counted are the file, the decoded pixels and a converted copy, every coefficient of a
    progressive JPEG, and the record; *scale* tells whether the recipe allows a scaled decode.
    """
    pixels = header.height * header.width
    jpeg = header.format in ("JPEG", "MPO")
    decoded = pixels // scaled_by(header.size, placement.scaled) ** 2 if jpeg and scale else pixels
    plain = header.mode in ("RGB", "L")
    per_pixel = _CHANNEL_BYTES.get(header.mode, 4) + (0 if plain else 4)
    coefficients = pixels * 3 * _COEFFICIENT_BYTES if header.progressive else 0
    record = placement.size.height * placement.size.width * 8
    return file_size + decoded * per_pixel + coefficients + record


def unreadable(error: Exception) -> str:
    """Return why a picture cannot be read, in words for people."""
    if isinstance(error, UnidentifiedImageError):
        return "not a picture of a format that is read here"
    if isinstance(error, Image.DecompressionBombError):
        return "more pixels than Pillow decodes safely"
    if isinstance(error, OSError) and error.strerror:
        return error.strerror
    said = str(error)
    if "truncated" in said:
        return "the file ends before its picture does"
    return f"cannot be decoded: {said}" if said else f"cannot be decoded: {type(error).__name__}"
