"""What a file's first bytes say: which format a picture is of, whatever the file is called."""

from __future__ import annotations

import struct

__all__ = ["EVIDENT", "FORMATS", "PREFIX", "TGA_FOOTER", "format_of"]

FORMATS = (
    "", "JPEG", "MPO", "PNG", "WEBP", "GIF", "BMP", "DIB", "TIFF", "PPM", "JPEG2000", "AVIF",
    "HEIF", "JXL", "ICO", "QOI", "PSD", "TGA", "PCX", "SGI",
)  # fmt: skip
"""The formats that are opened, by Pillow's names; none starts another program or reads another
file. A cache stores positions in this tuple, so that it only grows; the first stands for unknown.
An MPO begins as a JPEG does."""

PREFIX = 64
"""Bytes that are enough to tell."""

TGA_FOOTER = b"TRUEVISION-XFILE.\0"
"""How a TGA ends, which has nothing to know it by where it begins."""

EVIDENT = frozenset(
    "JPEG PNG WEBP GIF BMP TIFF JPEG2000 AVIF HEIF JXL QOI PSD".split()  # noqa: SIM905  # reads
)
"""Formats whose first bytes are hardly met by chance, so that a file of any name may be one."""

_BEGINNINGS = {
    b"\xff\xd8\xff": "JPEG",
    b"\x89PNG\r\n\x1a\n": "PNG",
    b"GIF87a": "GIF",
    b"GIF89a": "GIF",
    b"II*\0": "TIFF",
    b"MM\0*": "TIFF",
    b"II+\0": "TIFF",
    b"MM\0+": "TIFF",
    b"MM*\0": "TIFF",
    b"II\0*": "TIFF",
    b"\xff\x4f\xff\x51": "JPEG2000",
    b"\0\0\0\x0cjP  \r\n\x87\n": "JPEG2000",
    b"\0\0\0\x0cJXL \r\n\x87\n": "JXL",
    b"\xff\x0a": "JXL",
    b"qoif": "QOI",
    b"8BPS": "PSD",
    b"\0\0\1\0": "ICO",
    b"\x01\xda": "SGI",
}
_WEBP_KINDS = (b"VP8 ", b"VP8L", b"VP8X")
_BMP_HEADERS = (12, 40, 52, 56, 64, 108, 124)  # lengths in bytes
_PCX_VERSIONS = (b"\0", b"\2", b"\3", b"\5")
_PPM_KINDS = (b"1", b"2", b"3", b"4", b"5", b"6", b"f")
_AVIF_BRANDS = {b"avif", b"avis"}
_HEIF_BRANDS = {b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx", b"mif1", b"msf1"}


def format_of(prefix: bytes) -> str | None:
    r"""Return the format of a picture that begins with *prefix*; None where it is of none.

    >>> format_of(b"\xff\xd8\xff\xe0...")
    'JPEG'
    """
    for beginning, name in _BEGINNINGS.items():
        if prefix.startswith(beginning):
            return name
    if prefix[4:8] == b"ftyp":
        return _by_brands(prefix)
    matching = {
        "WEBP": prefix[:4] == b"RIFF" and prefix[8:12] == b"WEBP" and prefix[12:16] in _WEBP_KINDS,
        "PPM": prefix[:1] == b"P" and prefix[1:2] in _PPM_KINDS and prefix[2:3].isspace(),
        "PCX": prefix[:1] == b"\n" and prefix[1:2] in _PCX_VERSIONS,
        "BMP": prefix[:2] == b"BM" and _number(prefix[14:18]) in _BMP_HEADERS,
        "DIB": _number(prefix[:4]) in _BMP_HEADERS,
    }
    return next((name for name, matches in matching.items() if matches), None)


def _number(four: bytes) -> int:
    return struct.unpack("<I", four.ljust(4, b"\0"))[0]  # type: ignore[no-any-return]


def _by_brands(prefix: bytes) -> str | None:
    """Tell AVIF from HEIF by their brands; see ISO/IEC 14496-12, section 4.3."""
    end = min(struct.unpack(">I", prefix[:4])[0], len(prefix))
    brands = {prefix[8:12], *(prefix[at : at + 4] for at in range(16, end, 4))}
    if brands & _AVIF_BRANDS:
        return "AVIF"
    return "HEIF" if brands & _HEIF_BRANDS else None
