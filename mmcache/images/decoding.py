"""Encoded bytes in, a record's pixels out."""

from __future__ import annotations

import io
import os
from typing import TYPE_CHECKING, Any, BinaryIO

import numpy as np
from PIL import Image
from PIL.JpegImagePlugin import JpegImageFile

from mmcache.errors import PictureError, SettingError
from mmcache.geometry import Size
from mmcache.images.headers import (
    open_image,
    orientation_of,
    scaled_by,
    turned,
    unreadable,
)
from mmcache.records import printable

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from mmcache.geometry import Placement
    from mmcache.recipe import Recipe

__all__ = ["ChangedError", "apply", "decode"]

_FILTERS = {
    "nearest": Image.Resampling.NEAREST,
    "box": Image.Resampling.BOX,
    "bilinear": Image.Resampling.BILINEAR,
    "hamming": Image.Resampling.HAMMING,
    "bicubic": Image.Resampling.BICUBIC,
    "lanczos": Image.Resampling.LANCZOS,
}

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


class ChangedError(ValueError):
    """A picture that is not what its header said when the cache was planned."""


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
    with open_image(file) as image:
        return _record(image, recipe, expected, orientation)


def _record(
    image: Image.Image, recipe: Recipe, expected: Size | None, orientation: int | None
) -> NDArray[Any]:
    if orientation is None:
        orientation = orientation_of(image)
    stored = Size(image.height, image.width)
    upright = turned(stored, orientation)
    if expected is not None and upright != expected:
        raise ChangedError(f"its size is {upright}, and {expected} was planned")
    placement = recipe.place(upright)
    shrunk = _draft(image, turned(placement.scaled, orientation), recipe)
    ready = _resizable(image)
    box = _stored_box(placement, stored, orientation)
    target = turned(placement.valid, orientation)
    valid = ready.resize(
        (target.width, target.height),
        _FILTERS[recipe.resample],
        box=tuple(edge / shrunk for edge in box),  # type: ignore[arg-type]
    )
    if orientation in _UPRIGHT:
        valid = valid.transpose(_UPRIGHT[orientation])
    return _array(_padded(_in_mode(valid, recipe), placement, recipe), recipe)


def _draft(image: Image.Image, target: Size, recipe: Recipe) -> int:
    """Tell a JPEG to decode itself smaller where that costs no quality; return how much."""
    if not isinstance(image, JpegImageFile) or recipe.resample == "nearest":
        return 1
    source = Size(image.height, image.width)
    shrunk = scaled_by(source, target)
    if shrunk > 1 and image.draft(None, (source.width // shrunk, source.height // shrunk)) is None:
        return 1
    return shrunk


def _stored_box(
    placement: Placement, stored: Size, orientation: int
) -> tuple[float, float, float, float]:
    """Return the part of the stored picture that is kept, as Pillow's left, top, right, bottom."""
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
    return (
        left * stored.width / scaled.width,
        top * stored.height / scaled.height,
        (left + valid.width) * stored.width / scaled.width,
        (top + valid.height) * stored.height / scaled.height,
    )


def _resizable(image: Image.Image) -> Image.Image:
    """Return the picture in a mode whose values may be averaged: L, LA, RGB or RGBA."""
    mode = image.mode
    if mode in ("RGB", "L") and "transparency" not in image.info:
        return image
    if mode in ("LA", "RGBA"):
        return image
    if mode.startswith("I;16"):
        return _sixteen_to_eight(image)
    if mode in ("I", "F"):
        raise ValueError(f"pixels of type {mode} have no range that is known to be black to white")
    if image.has_transparency_data:
        return image.convert("RGBA")
    return image.convert("L" if mode == "1" else "RGB")


def _sixteen_to_eight(image: Image.Image) -> Image.Image:
    """Bring 0 to 65535 to 0 to 255, rounded: Pillow's own conversion clips at 255."""
    wide = np.asarray(image).astype(np.uint32)
    return Image.fromarray(((wide * 255 + 32_767) // 65_535).astype(np.uint8))


def _in_mode(image: Image.Image, recipe: Recipe) -> Image.Image:
    """Bring a resized picture to the recipe's mode, laying transparency over its background."""
    if image.mode == recipe.mode:
        return image
    if recipe.mode != "RGBA" and image.mode in ("LA", "RGBA"):
        opaque = Image.new(recipe.mode, image.size, _colour(recipe))
        opaque.paste(image.convert(recipe.mode), mask=image.getchannel("A"))
        return opaque
    return image.convert(recipe.mode)


def _padded(image: Image.Image, placement: Placement, recipe: Recipe) -> Image.Image:
    if placement.size == placement.valid:
        return image
    whole = Image.new(recipe.mode, (placement.size.width, placement.size.height), _colour(recipe))
    whole.paste(image, (placement.padding.left, placement.padding.top))
    return whole


def _colour(recipe: Recipe) -> Any:
    """Return the background as Pillow wants it: a number where there is one channel."""
    colour = recipe.background
    return colour[0] if isinstance(colour, tuple) and len(colour) == 1 else colour


def _array(image: Image.Image, recipe: Recipe) -> NDArray[Any]:
    shape = (image.height, image.width, recipe.channels)
    return np.frombuffer(image.tobytes(), recipe.dtype).reshape(shape)


def apply(picture: str | bytes | os.PathLike[str] | Image.Image, recipe: Recipe) -> NDArray[Any]:
    """Return the pixels that a cache of *recipe* would hold for *picture*.

    What a model was trained on is what it should see at inference.

    Parameters
    ----------
    picture : path, bytes or PIL.Image.Image
        A file's path, an encoded picture's bytes, or a picture that Pillow has opened. The last is
        decoded in full, where a build may decode a large JPEG at reduced size.
    recipe : Recipe
        ``cache.recipe``.

    Returns
    -------
    (height, width, channels) array
        Of the recipe's dtype; a copy of its own, that may be written to.

    Raises
    ------
    PictureError
        (an ``OSError``) where the picture cannot be read.
    SettingError
        (a ``ValueError``) where *picture* is none of these.
    """
    if not isinstance(picture, (str, bytes, os.PathLike, Image.Image)):
        raise SettingError(
            f"{type(picture).__name__} is no picture: give a path, a file's bytes or a PIL image"
        )
    try:
        if isinstance(picture, Image.Image):
            return _record(picture.copy(), recipe, None, orientation_of(picture)).copy()
        if isinstance(picture, bytes):
            return decode(io.BytesIO(picture), recipe).copy()
        with open(picture, "rb", opener=_at_once) as file:  # paths of any kind
            return decode(file, recipe).copy()
    except Exception as error:
        name = (
            "the picture"
            if isinstance(picture, (bytes, Image.Image))
            else printable(os.fsencode(picture))
        )
        raise PictureError(name, "decode", unreadable(error)) from error


def _at_once(path: str, flags: int) -> int:
    """Open a file without waiting: a FIFO would wait for its writer."""
    return os.open(path, flags | getattr(os, "O_NONBLOCK", 0))
