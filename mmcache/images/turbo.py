"""Plain JPEGs decoded by simplejpeg, where that is installed: the same pixels, sooner.

They come packed, as cykooz-resizer takes them, where Pillow's have four bytes a pixel. Whatever is
not plain (ink, several pictures in a file, damage, more pixels than :data:`MOST`) is Pillow's.
"""

from __future__ import annotations

import functools
import io
from typing import TYPE_CHECKING, Any

from PIL.JpegImagePlugin import JpegImageFile

if TYPE_CHECKING:
    from types import ModuleType

    from numpy.typing import NDArray
    from PIL import Image

__all__ = ["MOST", "decoded_packed"]

MOST = 1 << 21
"""Pixels; of larger ones the fresh memory that they take costs more than is gained."""

_COLOURS = {"RGB": "RGB", "L": "GRAY"}


def decoded_packed(image: Image.Image) -> NDArray[Any] | None:
    """Return the pixels of an open JPEG that is not decoded yet; None where Pillow is to do it.

    They are a ``(height, width, channels)`` array of ``uint8``. Both libraries are libjpeg-turbo,
    and give equal pixels; a file of which it has anything to complain is not decoded here, so that
    what Pillow makes of it, or says of it, is what is made and said everywhere.
    """
    library = _simplejpeg()
    if (
        library is None
        or type(image) is not JpegImageFile
        or image.mode not in _COLOURS
        or image.width * image.height > MOST
        or not image.tile
    ):
        return None
    try:
        pixels: NDArray[Any] = library.decode_jpeg(_encoded(image), _COLOURS[image.mode])
    except ValueError:
        return None
    return pixels if pixels.shape[:2] == (image.height, image.width) else None


def _encoded(image: JpegImageFile) -> bytes:
    file: Any = image.fp
    if isinstance(file, io.BytesIO):
        return file.getvalue()  # which copies nothing
    place = file.tell()
    file.seek(0)
    encoded: bytes = file.read()
    file.seek(place)
    return encoded


@functools.cache
def _simplejpeg() -> ModuleType | None:
    try:
        import simplejpeg  # noqa: PLC0415  # an extra
    except ImportError:
        return None
    module: ModuleType = simplejpeg
    return module
