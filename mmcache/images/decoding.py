"""Encoded bytes in, a record's pixels out."""

from __future__ import annotations

import io
import os
import re
from typing import TYPE_CHECKING, Any, BinaryIO, NamedTuple

import numpy as np
from PIL import Image
from PIL.JpegImagePlugin import JpegImageFile

from mmcache.errors import PictureError, SettingError
from mmcache.geometry import Size
from mmcache.images.colours import colour_of, in_mode, kind_of, to_srgb, with_true_key
from mmcache.images.headers import read_header, scaled_by
from mmcache.images.opening import load, open_image, orientation_of, turned
from mmcache.images.reasons import ChangedError, RefusedError, TruncatedError, unreadable
from mmcache.images.resizing import Part, is_fast, packed_part, resized
from mmcache.images.turbo import decoded_packed
from mmcache.limits import MAX_PIXELS
from mmcache.records import FLAGS, printable
from mmcache.resampling import check_resampler, settled_resampler

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from mmcache.geometry import Placement
    from mmcache.recipe import Recipe

__all__ = ["Decoded", "apply", "check_pixels", "decode", "decode_flagged"]

# Turning a stored picture upright, by EXIF orientation.
_UPRIGHT = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
# Which of them swap left and right, and top and bottom, of the stored picture.
_MIRRORED = {2, 3, 7, 8}
_FLIPPED = {3, 4, 6, 7}

_END_OF_JPEG = b"\xff\xd9"
_SEGMENT = re.compile(rb"\xff[\xc4\xda\xdb\xdd\xfe]")  # tables, scans and comments
_LONGEST_SEGMENT = 65_535 + 2  # bytes


class Decoded(NamedTuple):
    """A record, and bits of :data:`mmcache.records.FLAGS`."""

    record: NDArray[Any]
    flags: int


def decode(
    file: BinaryIO, recipe: Recipe, *, expected: Size | None = None, orientation: int | None = None
) -> NDArray[Any]:
    """Return a picture's record: ``(height, width, channels)``, of the recipe's dtype, read-only.

    Parameters
    ----------
    file : binary stream
        The encoded picture, seekable.
    recipe : Recipe
        How it is brought to size.
    expected : Size, optional
        The upright size that was planned for; any other is :class:`ChangedError`.
    orientation : int, optional
        The EXIF orientation that the header told; read from the picture where it is not given.
    """
    return decode_flagged(file, recipe, expected=expected, orientation=orientation).record


def decode_flagged(
    file: BinaryIO, recipe: Recipe, *, expected: Size | None = None, orientation: int | None = None
) -> Decoded:
    """Return what :func:`decode` returns, and what is worth knowing of it."""
    with open_image(file, recipe.frame) as image:
        try:
            return _decoded(image, recipe, expected, orientation)
        except TruncatedError:
            if recipe.truncated != "keep" or image.format not in ("JPEG", "MPO"):
                raise
    # Given its end, a JPEG's decoder makes the most of what precedes, as viewers do.
    file.seek(0)
    with open_image(io.BytesIO(_ended(file.read())), recipe.frame) as image:
        record, flags = _decoded(image, recipe, expected, orientation)
    return Decoded(record, flags | FLAGS["truncated"])


def _ended(jpeg: bytes) -> bytes:
    """Return a JPEG that was cut with an end: behind the last segment that is whole."""
    tail = max(0, len(jpeg) - _LONGEST_SEGMENT)
    for marker in _SEGMENT.finditer(jpeg, tail):
        length = int.from_bytes(jpeg[marker.end() : marker.end() + 2], "big")
        if marker.end() + max(length, 2) > len(jpeg):
            return jpeg[: marker.start()] + _END_OF_JPEG
    return jpeg + _END_OF_JPEG


def _decoded(
    image: Image.Image, recipe: Recipe, expected: Size | None, orientation: int | None
) -> Decoded:
    if orientation is None:
        orientation = orientation_of(image)
    stored = Size(image.height, image.width)
    upright = turned(stored, orientation)
    if expected is not None and upright != expected:
        raise ChangedError(
            f"it is {upright.height} x {upright.width} now, and was"
            f" {expected.height} x {expected.width} when the cache was planned"
        )
    placement = recipe.place(upright)
    part = _kept(placement, stored, orientation)
    part = part._replace(shrunk=_draft(image, part.scaled, recipe))
    flags = 0
    packed = decoded_packed(image) if part.shrunk == 1 and is_fast(part, recipe) else None
    if packed is not None:
        record = packed_part(packed, part, recipe)
        if _is_done(image, placement, recipe, orientation):
            return Decoded(record, flags)
        valid = Image.fromarray(record if image.mode == "RGB" else record[..., 0])
    else:
        truncated = load(with_true_key(image), keep=recipe.truncated == "keep")
        kind = kind_of(image, recipe)
        flags = kind.flags | (FLAGS["truncated"] if truncated else 0)
        valid = resized(image, kind, part, recipe)
    if orientation in _UPRIGHT:
        valid = valid.transpose(_UPRIGHT[orientation])
    if recipe.icc == "srgb" and recipe.mode != "P" and image.mode != "LAB":
        valid, unused = to_srgb(valid, image.info.get("icc_profile"))
        flags |= unused
    record = _array(_padded(in_mode(valid, recipe), placement, recipe), recipe)
    return Decoded(record, flags)


def _is_done(image: Image.Image, placement: Placement, recipe: Recipe, orientation: int) -> bool:
    """Tell whether resampled pixels of a picture are its record as they are."""
    return (
        image.mode == recipe.mode
        and placement.size == placement.valid
        and orientation not in _UPRIGHT
        and not _has_colours(image, recipe)
    )


def _draft(image: Image.Image, target: Size, recipe: Recipe) -> int:
    """Tell a JPEG to decode less of itself where that costs no quality; return how much smaller.

    For grey its brightness is enough, which is stored apart from its colours.
    """
    if not isinstance(image, JpegImageFile) or recipe.resample == "nearest":
        return 1
    source = Size(image.height, image.width)
    shrunk = scaled_by(source, target)
    grey = image.mode == "RGB" and recipe.mode == "L" and not _has_colours(image, recipe)
    if not grey and shrunk == 1:
        return 1
    size = source.width // shrunk, source.height // shrunk
    return 1 if image.draft("L" if grey else None, size) is None else shrunk


def _has_colours(image: Image.Image, recipe: Recipe) -> bool:
    """Tell whether a profile says what the colours mean, and is listened to."""
    return recipe.icc == "srgb" and bool(image.info.get("icc_profile"))


def _kept(placement: Placement, stored: Size, orientation: int) -> Part:
    """Return what is kept of a stored picture, which is to be decoded in full."""
    valid, scaled, crop = (
        turned(Size(*size), orientation)
        for size in (placement.valid, placement.scaled, placement.crop)
    )
    top, left = crop
    # The crop is counted from the upright picture's corner, which may lie at another one here.
    if orientation in _MIRRORED:
        left = scaled.width - valid.width - left
    if orientation in _FLIPPED:
        top = scaled.height - valid.height - top
    return Part(stored, 1, scaled, top, left, valid)


def _padded(image: Image.Image, placement: Placement, recipe: Recipe) -> Image.Image:
    if placement.size == placement.valid:
        return image
    mode = "L" if recipe.mode == "P" else recipe.mode
    whole = Image.new(mode, (placement.size.width, placement.size.height), colour_of(recipe))
    whole.paste(image, (placement.padding.left, placement.padding.top))
    return whole


def _array(image: Image.Image, recipe: Recipe) -> NDArray[Any]:
    shape = (image.height, image.width, recipe.channels)
    return np.frombuffer(image.tobytes(), recipe.dtype).reshape(shape)


def check_pixels(size: Size, most: int) -> None:
    """Raise :class:`RefusedError` where a picture of *size* has more than *most* pixels."""
    if size.height * size.width > most:
        raise RefusedError(
            f"{size.height} x {size.width} is {size.height * size.width / 1e6:,.0f} million pixels,"
            f" more than the limit of {most / 1e6:,.0f} million; max_pixels= raises it"
        )


def apply(
    picture: str | bytes | os.PathLike[str] | Image.Image,
    recipe: Recipe,
    *,
    max_pixels: int = MAX_PIXELS,
) -> NDArray[Any]:
    """Return the pixels that a cache of *recipe* would hold for *picture*.

    What a model was trained on is what it should see at inference.

    Parameters
    ----------
    picture : path, bytes or PIL.Image.Image
        A file's path, an encoded picture's bytes, or a picture that Pillow has opened. One that is
        opened and not loaded yet is read from its file; one that is loaded was decoded in full,
        where a build may decode a large JPEG at reduced size.
    recipe : Recipe
        ``cache.recipe``.
    max_pixels : int
        The most pixels that the picture may have.

    Returns
    -------
    (height, width, channels) array
        Of the recipe's dtype; a copy of its own, that may be written to.

    Raises
    ------
    PictureError
        (an ``OSError``) where the picture cannot be read.
    SettingError
        (a ``ValueError``) where *picture* is none of these, the shapes of *recipe* are not chosen
        yet, or what resampled the cache's pictures is not installed.
    """
    if not isinstance(picture, (str, bytes, os.PathLike, Image.Image)):
        raise SettingError(
            f"{type(picture).__name__} is no picture: give a path, a file's bytes or a PIL image"
        )
    recipe.check_shapes()
    recipe = settled_resampler(recipe)
    check_resampler(recipe.resampler)
    try:
        if isinstance(picture, Image.Image):
            return _applied(picture, recipe, max_pixels).copy()
        if isinstance(picture, bytes):
            return _from_stream(io.BytesIO(picture), recipe, max_pixels).copy()
        with open(picture, "rb", opener=_at_once) as file:  # paths of any kind
            return _from_stream(file, recipe, max_pixels).copy()
    except Exception as error:
        name = (
            "the picture"
            if isinstance(picture, (bytes, Image.Image))
            else printable(os.fsencode(picture))
        )
        raise PictureError(name, "decode", unreadable(error)) from error


def _from_stream(file: BinaryIO, recipe: Recipe, max_pixels: int) -> NDArray[Any]:
    header = read_header(file, recipe.frame)
    check_pixels(header.size, max_pixels)
    return decode(file, recipe, expected=header.size, orientation=header.orientation)


def _applied(image: Image.Image, recipe: Recipe, max_pixels: int) -> NDArray[Any]:
    file = getattr(image, "fp", None)
    untouched = file is not None and getattr(image, "tile", None) and image.tell() == 0
    if untouched and file.seekable():  # type: ignore[union-attr]
        place = file.tell()  # type: ignore[union-attr]
        try:
            file.seek(0)  # type: ignore[union-attr]
            return _from_stream(io.BytesIO(file.read()), recipe, max_pixels)  # type: ignore[union-attr]
        finally:
            file.seek(place)  # type: ignore[union-attr]
    check_pixels(Size(image.height, image.width), max_pixels)
    return _decoded(_copy(image), recipe, None, orientation_of(image)).record


def _copy(image: Image.Image) -> Image.Image:
    """Return a copy that knows which format it was of, as `Image.copy` does not."""
    copied = image.copy()
    copied.format = image.format
    return copied


def _at_once(path: str, flags: int) -> int:
    """Open a file without waiting: a FIFO would wait for its writer."""
    return os.open(path, flags | getattr(os, "O_NONBLOCK", 0))
