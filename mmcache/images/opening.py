"""The door itself: which plugin of Pillow's reads a picture, and on which terms.

Formats are told by content and come from :data:`mmcache.signatures.FORMATS`. ``Image.open`` is not
used: its limits are settings of the whole process, which belong to the program around.
"""

from __future__ import annotations

import contextlib
import importlib
import os
import struct
import threading
from typing import TYPE_CHECKING, Any, BinaryIO

from PIL import Image, ImageFile
from PIL.ExifTags import Base

from mmcache.geometry import Size
from mmcache.images.reasons import (
    DamagedError,
    MissingPluginError,
    TruncatedError,
    UnknownFormatError,
)
from mmcache.signatures import PREFIX, TGA_FOOTER, format_of

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = ["load", "open_image", "orientation_of", "sniffed", "turned"]

_PLUGINS = {
    "JPEG": "PIL.JpegImagePlugin",
    "PNG": "PIL.PngImagePlugin",
    "WEBP": "PIL.WebPImagePlugin",
    "GIF": "PIL.GifImagePlugin",
    "BMP": "PIL.BmpImagePlugin",
    "DIB": "PIL.BmpImagePlugin",
    "TIFF": "PIL.TiffImagePlugin",
    "PPM": "PIL.PpmImagePlugin",
    "JPEG2000": "PIL.Jpeg2KImagePlugin",
    "AVIF": "PIL.AvifImagePlugin",
    "QOI": "PIL.QoiImagePlugin",
    "PSD": "PIL.PsdImagePlugin",
    "TGA": "PIL.TgaImagePlugin",
    "PCX": "PIL.PcxImagePlugin",
    "SGI": "PIL.SgiImagePlugin",
    "JXL": "pillow_jxl",
}
_ANIMATED = ("GIF", "WEBP", "PNG", "TIFF", "MPO", "AVIF", "HEIF")
_FOOTER = 18  # bytes
_LARGEST_EXIF = 1 << 20  # bytes
_XMP = b"XML:com.adobe.xmp"

# What a plugin raises where a header makes no sense; Image.open takes it for another format then.
_NONSENSE = (
    SyntaxError, IndexError, KeyError, TypeError, AttributeError, EOFError, struct.error,
    OverflowError, ZeroDivisionError,
)  # fmt: skip


def sniffed(file: BinaryIO) -> str:
    """Return the format of an open file, or raise :class:`UnknownFormatError`."""
    file.seek(0)
    name = format_of(file.read(PREFIX))
    if name is None and file.seek(0, os.SEEK_END) >= _FOOTER:
        file.seek(-_FOOTER, os.SEEK_END)
        name = "TGA" if file.read(_FOOTER) == TGA_FOOTER else None
    if name is None:
        raise UnknownFormatError
    return name


def open_image(file: BinaryIO, frame: int = 0) -> Image.Image:
    """Open a picture without decoding it.

    Parameters
    ----------
    file : binary stream
        Seekable; read from its beginning.
    frame : int
        Which frame of an animation, or page of several; the last, where there are fewer.
    """
    name = sniffed(file)
    file.seek(0)
    try:
        with _strict:
            image = _opened(name, file)
            if frame and image.format in _ANIMATED:
                image.seek(min(frame, getattr(image, "n_frames", 1) - 1))
    except _NONSENSE as error:
        raise DamagedError(f"its {name} header is damaged") from error
    return image


def _opened(name: str, file: BinaryIO) -> Image.Image:
    if name == "HEIF":
        return _plugin("pillow_heif", name).HeifImageFile(file, "")  # type: ignore[no-any-return]
    if name == "ICO":
        return _largest_icon(file)
    if name not in Image.OPEN:
        _plugin(_PLUGINS[name], name)
    factory, _ = Image.OPEN[name]
    try:
        return factory(file, "")
    except BaseException as error:
        if type(error).__name__ == "PanicException":  # of a plugin written in Rust
            raise DamagedError(f"its {name} data is damaged") from error
        raise


def _plugin(module: str, name: str) -> Any:
    try:
        return importlib.import_module(module)
    except ImportError as error:
        raise MissingPluginError(name) from error


def _largest_icon(file: BinaryIO) -> Image.Image:
    """Open the largest picture of an ICO; IcoImageFile would decode it, and believe its entry."""
    plugin = _plugin("PIL.IcoImagePlugin", "ICO")
    icons = plugin.IcoFile(file)
    image: Image.Image = icons.getimage(icons.entry[0].dim)
    image.format = "ICO"
    return image


# Loading -----------------------------------------------------------------------------------------


class _Strict:
    """While anybody is inside, Pillow raises what is wrong, whatever the program around has set.

    ``ImageFile.LOAD_TRUNCATED_IMAGES`` is one switch for the whole process: with it, half a picture
    is taken for a whole one.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._inside = 0
        self._was: Any = False

    def __enter__(self) -> None:
        with self._lock:
            if not self._inside:
                self._was = ImageFile.LOAD_TRUNCATED_IMAGES
                ImageFile.LOAD_TRUNCATED_IMAGES = False
            self._inside += 1

    def __exit__(self, *_: object) -> None:
        with self._lock:
            self._inside -= 1
            if not self._inside:
                ImageFile.LOAD_TRUNCATED_IMAGES = self._was


_strict = _Strict()


def load(image: Image.Image, *, keep: bool = False) -> bool:
    """Decode an open picture, and tell whether its pixels end early.

    Raises
    ------
    TruncatedError
        Where they do and *keep* is False, or where nothing can be made of the part that is there.
    DamagedError
        Where decoding gives another size than the header told.
    """
    size = image.size
    truncated = False
    with _strict:
        try:
            image.load()
        except (OSError, ValueError, SyntaxError) as error:
            if not _ends_early(error):
                raise
            if not keep or not _keep_part(image):
                raise TruncatedError from error
            truncated = True
    if image.size != size:
        raise DamagedError(
            f"its header says {_shown(size)}, and its pixels are {_shown(image.size)}"
        )
    return truncated


def _ends_early(error: Exception) -> bool:
    said = str(error).lower()
    return "truncated" in said or "not enough image data" in said


def _keep_part(image: Image.Image) -> bool:
    """Take what was decoded before the pixels ended for the whole; the rest is black."""
    # The rows that were read are in the picture already; without tiles there is nothing to load.
    if getattr(image, "_im", None) is None or image.format in ("JPEG", "MPO"):
        return False  # of a JPEG more can be had: see decoding
    image.tile = []  # type: ignore[attr-defined]
    with contextlib.suppress(Exception):
        image.load_end()  # type: ignore[attr-defined]  # which turns a TIFF upright
    return True


def _shown(size: tuple[int, int]) -> str:
    return f"{size[1]} x {size[0]}"


# Which way up ------------------------------------------------------------------------------------


def orientation_of(image: Image.Image) -> int:
    """Return the EXIF orientation of an open picture: 1 to 8, and 1 for anything else."""
    if image.format in ("TIFF", "HEIF"):
        return 1  # their plugins turn a picture upright themselves
    if image.format == "JXL" and not getattr(image, "jpeg", False):
        return 1  # so does libjxl, unless the file holds a JPEG; see ISO/IEC 18181-2, section 9.4
    if image.format == "PNG" and "exif" not in image.info:
        exif = _png_exif(image)
    else:
        exif = image.getexif()
    orientation = exif.get(Base.Orientation, 1)
    return orientation if orientation in range(1, 9) else 1


def _png_exif(image: Image.Image) -> Image.Exif:
    """Return the EXIF of a PNG that has none before its pixels.

    It may stand behind them, where Pillow would decode them all to look for it.
    """
    file = getattr(image, "fp", None)
    if file is not None:
        place = file.tell()
        try:
            for name, length in _late_chunks(file):
                if name == b"eXIf":
                    exif = Image.Exif()
                    exif.load(b"Exif\0\0" + file.read(min(length, _LARGEST_EXIF)))
                    return exif
                if name == b"iTXt" and file.read(len(_XMP)) == _XMP:
                    file.seek(place)
                    return image.getexif()
        finally:
            file.seek(place)
    return Image.Image.getexif(image)


def _late_chunks(file: BinaryIO) -> Iterator[tuple[bytes, int]]:
    """Yield name and length of a PNG's chunks behind its pixels, the file being at their data."""
    place = 8
    behind = False
    while True:
        file.seek(place)
        head = file.read(8)
        if len(head) < 8:  # noqa: PLR2004  # a length and a name
            return
        length, name = struct.unpack(">I4s", head)
        if behind and name != b"IDAT":
            yield name, length
        behind |= name == b"IDAT"
        place += length + 12


def turned(size: Size, orientation: int) -> Size:
    """Return a stored size upright, or an upright size as stored: 5 to 8 lie on their side."""
    return Size(size.width, size.height) if orientation >= 5 else size  # noqa: PLR2004
