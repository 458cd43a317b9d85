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
    """Return the upright size and the orientation of an open JPEG XL picture."""
    file.seek(0)
    start = file.read(_BYTES)
    if not start.startswith(_CODESTREAM):
        start = next(_codestreams(file), b"")
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
    return upright, orientation


def _edge(bits: _Bits, *, small: int) -> int:
    if small:
        return 8 * (1 + bits.take(5))
    return 1 + bits.take(_WIDTHS[bits.take(2)])


def _codestreams(file: BinaryIO) -> Iterator[bytes]:
    """Yield how the codestream in a container begins."""
    file.seek(0)
    while len(head := file.read(8)) == 8:  # noqa: PLR2004  # a length and a name
        length, name = struct.unpack(">I4s", head)
        read = 8
        if length == 1:
            length = int.from_bytes(file.read(8), "big")
            read = 16
        if name == b"jxlp":
            file.seek(4, 1)  # its number among the parts
        if name in (b"jxlc", b"jxlp"):
            yield file.read(_BYTES)
            return
        if length < read:  # to the end of the file, or nonsense
            return
        file.seek(length - read, 1)


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
