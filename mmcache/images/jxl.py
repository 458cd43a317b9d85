"""The size of a JPEG XL picture, from its first bits: its plugin would decode all of it to tell.

See ISO/IEC 18181-1, annex D (size header, image metadata), and 18181-2 (boxes).
"""

from __future__ import annotations

import struct
from typing import TYPE_CHECKING, BinaryIO

from mmcache.geometry import Size
from mmcache.images.reasons import DamagedError

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = ["jxl_size"]

_CODESTREAM = b"\xff\x0a"
_BYTES = 32  # of the codestream: more than its size header has
_RATIOS = {1: (1, 1), 2: (12, 10), 3: (4, 3), 4: (3, 2), 5: (16, 9), 6: (5, 4), 7: (2, 1)}
_WIDTHS = (9, 13, 18, 30)  # in bits, of a size that is no multiple of 8
_FIRST_TURNED = 5


def jxl_size(file: BinaryIO) -> tuple[Size, int]:
    """Return the upright size of an open JPEG XL picture, and how its pixels have to be turned.

    The decoder turns a picture upright itself, unless the file holds a JPEG, which it gives back.
    """
    file.seek(0)
    start = file.read(_BYTES)
    holds_jpeg = False
    if not start.startswith(_CODESTREAM):
        start, holds_jpeg = _in_container(file)
    if not start.startswith(_CODESTREAM):
        raise DamagedError("its JXL header is damaged")
    bits = _Bits(start[2:])
    small = bits.take(1)
    height = _edge(bits, small=small)
    ratio = bits.take(3)
    if ratio:
        numerator, denominator = _RATIOS[ratio]
        width = height * numerator // denominator
    else:
        width = _edge(bits, small=small)
    orientation = 1
    if not bits.take(1) and bits.take(1):  # not all by default, and extra fields
        orientation = 1 + bits.take(3)
    stored = Size(height, width)
    upright = Size(width, height) if orientation >= _FIRST_TURNED else stored
    return upright, orientation if holds_jpeg else 1


def _edge(bits: _Bits, *, small: int) -> int:
    if small:
        return 8 * (1 + bits.take(5))
    return 1 + bits.take(_WIDTHS[bits.take(2)])


def _in_container(file: BinaryIO) -> tuple[bytes, bool]:
    """Return how the codestream in a container begins, and whether what it holds is a JPEG."""
    start, holds_jpeg = b"", False
    for name, place in _boxes(file):
        holds_jpeg |= name == b"jbrd"
        if name in (b"jxlc", b"jxlp") and not start:
            file.seek(place + (4 if name == b"jxlp" else 0))  # behind its number among the parts
            start = file.read(_BYTES)
    return start, holds_jpeg


def _boxes(file: BinaryIO) -> Iterator[tuple[bytes, int]]:
    """Yield the name of each box, and where its contents begin."""
    place = 0
    while True:
        file.seek(place)
        head = file.read(16)
        if len(head) < 8:  # noqa: PLR2004  # a length and a name
            return
        length, name = struct.unpack(">I4s", head[:8])
        if length == 1:  # it is a longer one
            length, skip = int.from_bytes(head[8:], "big"), 16
        else:
            skip = 8
        yield name, place + skip
        if length < skip:  # to the end of the file, or nonsense
            return
        place += length


class _Bits:
    """Bits of bytes, the lowest first."""

    def __init__(self, data: bytes) -> None:
        self._number = int.from_bytes(data, "little")
        self._left = 8 * len(data)

    def take(self, count: int) -> int:
        if count > self._left:
            raise DamagedError("its JXL header is damaged")
        value = self._number & ((1 << count) - 1)
        self._number >>= count
        self._left -= count
        return value
