"""How pixels are stored, and what they mean: from any mode to one whose values may be averaged.

A picture is resampled in its own kind (grey, colour, ink, with alpha or without), then brought to
sRGB where an ICC profile tells its colours, then to the recipe's mode.
"""

from __future__ import annotations

import functools
import io
import math
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from PIL import Image, ImageCms

from mmcache.images.reasons import RefusedError
from mmcache.records import FLAGS

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from numpy.typing import NDArray

    from mmcache.recipe import Recipe

__all__ = ["STRIP", "Kind", "colour_of", "in_mode", "kind_of", "strips", "to_srgb", "with_true_key"]

STRIP = 1 << 20
"""Pixels that are converted at a time: a picture of any size needs no converted copy of its own."""

_SIXTEEN = 65_535
_USUAL = ((0, 1), (0, 255), (0, _SIXTEEN))  # what floats that mean pixels lie between
_SPACES = {"RGB": "RGB ", "L": "GRAY", "CMYK": "CMYK"}
_NEAR = 1  # of 255: a profile that changes no colour by more is sRGB under another name


class Kind(NamedTuple):
    """How a picture is resampled: the mode that its strips are converted to, how, and flags."""

    mode: str
    convert: Callable[[Image.Image], Image.Image]
    flags: int = 0

    @property
    def as_it_is(self) -> bool:
        """Whether converting changes nothing, and copies nothing."""
        return self.convert is _same


def strips(image: Image.Image) -> Iterator[tuple[int, Image.Image]]:
    """Yield a picture from top to bottom in strips of about :data:`STRIP` pixels, with their tops.

    One that is no larger is its own strip, and nothing is copied.
    """
    if image.width * image.height <= STRIP:
        yield 0, image
        return
    rows = max(1, STRIP // image.width)
    for top in range(0, image.height, rows):
        yield top, image.crop((0, top, image.width, min(top + rows, image.height)))


def with_true_key(image: Image.Image) -> Image.Image:
    """Mend the colour that a PNG declares to be clear, before it is decoded.

    Pillow brings samples of 2, 4 and 16 bits to 8, and leaves that colour as it was stored.
    """
    key = image.info.get("transparency")
    tiles = getattr(image, "tile", None)
    if key is None or not tiles or image.format != "PNG":
        return image
    raw = tiles[0][3]
    if raw == "1" and isinstance(key, int):
        image.info["transparency"] = 255 if key else 0
    elif raw in ("L;2", "L;4") and isinstance(key, int):
        image.info["transparency"] = key * (85 if raw == "L;2" else 17) & 255
    elif raw == "RGB;16B" and isinstance(key, tuple):
        image.info["transparency"] = tuple(sample >> 8 for sample in key)
    return image


def kind_of(image: Image.Image, recipe: Recipe) -> Kind:
    """Return how a decoded picture is resampled for *recipe*."""
    mode = image.mode
    if recipe.mode == "P":
        return Kind("L", _numbers)
    if mode in ("I", "F") or mode.startswith("I;16"):
        return _of_numbers(image, recipe)
    if mode == "CMYK":
        return _of_ink(image, recipe)
    clear = "transparency" in image.info
    if mode in ("LA", "RGBA") or (mode in ("RGB", "L") and not clear):
        return Kind(mode, _same)
    if mode in ("1", "L", "La"):
        return _converted("LA" if clear or mode == "La" else "L")
    return _converted("RGBA" if mode == "RGBa" or _has_alpha(image) else "RGB")


def _has_alpha(image: Image.Image) -> bool:
    if image.mode == "P" and image.palette is None:  # a PNG that lacks it, and then is grey
        return "transparency" in image.info
    return image.has_transparency_data


def _same(strip: Image.Image) -> Image.Image:
    return strip


def _converted(mode: str) -> Kind:
    return Kind(mode, lambda strip: strip.convert(mode))


# Numbers that are no bytes -----------------------------------------------------------------------


def _numbers(strip: Image.Image) -> Image.Image:
    """Return what is stored as it is: palette indices, grey values, or 0 and 1."""
    if strip.mode not in ("1", "L", "P", "PA", "I") and not strip.mode.startswith("I;16"):
        raise RefusedError(
            f"pixels of mode {strip.mode} are colours, and no numbers as mode P keeps"
        )
    plain = strip.getchannel(0) if strip.mode == "PA" else strip
    stored = np.asarray(plain)
    if stored.dtype.itemsize > 1 and stored.size and not 0 <= stored.min() <= stored.max() <= 255:  # noqa: PLR2004
        raise RefusedError(
            f"its numbers reach from {stored.min()} to {stored.max()}, and mode P holds 0 to 255:"
            ' mode="I;16" holds 0 to 65535'
        )
    return Image.fromarray(stored.astype(np.uint8))


def _of_numbers(image: Image.Image, recipe: Recipe) -> Kind:
    low, high, flags = _range_of(image, recipe)
    clear = image.info.get("transparency") if image.mode.startswith("I;16") else None
    wide = recipe.mode == "I;16"

    def convert(strip: Image.Image) -> Image.Image:
        stored = np.asarray(strip)
        scaled = _scaled(stored, low, high, recipe.brightest if wide else 255)
        if clear is None:
            return Image.fromarray(scaled)
        if wide:
            # Laying over one colour and averaging may change places.
            scaled[stored == clear] = colour_of(recipe)
            return Image.fromarray(scaled)
        alpha = np.where(stored == clear, 0, 255).astype(np.uint8)
        return Image.fromarray(np.dstack([scaled, alpha]))

    return Kind("I;16" if wide else "L" if clear is None else "LA", convert, flags)


def _scaled(stored: NDArray[Any], low: float, high: float, most: int) -> NDArray[Any]:
    """Bring *low* to 0 and *high* to *most*, rounded; what lies outside to the nearer end."""
    to: type[np.unsignedinteger[Any]] = np.uint8 if most == 255 else np.uint16  # noqa: PLR2004
    if (low, high) == (0, most):
        return stored.astype(to, copy=True)
    if stored.dtype.kind == "u":
        # Few numbers, many pixels: each number is scaled once.
        table = _rounded(np.arange(_SIXTEEN + 1, dtype=np.float64), low, high, most).astype(to)
        scaled: NDArray[Any] = table[stored]
        return scaled
    return _rounded(stored.astype(np.float64), low, high, most).astype(to)


def _rounded(values: NDArray[np.float64], low: float, high: float, most: int) -> NDArray[Any]:
    """Scale *values* in place."""
    with np.errstate(all="ignore"):
        values -= low
        values *= most / (high - low)
    np.nan_to_num(values, copy=False, nan=0, posinf=most, neginf=0)
    np.clip(values, 0, most, out=values)
    values += 0.5
    return np.floor(values, out=values)


def _range_of(image: Image.Image, recipe: Recipe) -> tuple[float, float, int]:
    """Return the numbers that become black and white, and flags.

    Those of 16 bits have their whole range, and so have whole numbers of 32 bits that fit it.
    Floats take the smallest usual range that holds them; others reach from the smallest to the
    largest of the picture itself.
    """
    given = recipe.value_range
    if image.mode.startswith("I;16") and given is None:
        return 0, _SIXTEEN, 0
    least, most, finite = _extremes(image)
    odd = 0 if finite else FLAGS["clipped"]
    if given is not None:
        outside = least < given[0] or most > given[1]
        return (*given, FLAGS["clipped"] if outside else odd)
    usual = _USUAL if image.mode == "F" else _USUAL[-1:]
    for low, high in usual:
        if low <= least and most <= high:
            return low, high, odd
    return least, most if most > least else least + 1, odd | FLAGS["stretched"]


def _extremes(image: Image.Image) -> tuple[float, float, bool]:
    """Return the smallest and the largest finite number, and whether all are finite."""
    least, most, finite = math.inf, -math.inf, True
    for _, strip in strips(image):
        stored = np.asarray(strip)
        if stored.dtype.kind == "f":
            good = np.isfinite(stored)
            finite &= bool(good.all())
            stored = stored[good]
        if stored.size:
            least, most = min(least, float(stored.min())), max(most, float(stored.max()))
    return (least, most, finite) if least <= most else (0, 1, finite)


# Colours that a profile tells --------------------------------------------------------------------


def _of_ink(image: Image.Image, recipe: Recipe) -> Kind:
    """Return how ink is resampled: as ink where a profile tells its colours, else as colour."""
    inverted = image.format == "JPEG" and "adobe" not in image.info
    profile = image.info.get("icc_profile")
    told = recipe.icc == "srgb" and profile and isinstance(_transform(profile, "CMYK"), _Told)

    def convert(strip: Image.Image) -> Image.Image:
        # Adobe stores ink inverted, and Pillow takes every JPEG for Adobe's.
        ink = strip.point(lambda value: 255 - value) if inverted else strip
        return ink if told else ink.convert("RGB")

    return Kind("CMYK" if told else "RGB", convert)


class _Told(NamedTuple):
    transform: Any


_USELESS, _IDENTITY = "useless", "identity"


@functools.lru_cache(maxsize=32)
def _transform(profile: bytes, mode: str) -> _Told | str:
    """Return what brings *mode* with this profile to sRGB; or that it is useless, or no change."""
    try:
        opened = ImageCms.ImageCmsProfile(io.BytesIO(profile))
        if opened.profile.xcolor_space != _SPACES[mode]:
            return _USELESS
        srgb = ImageCms.createProfile("sRGB")
        transform = ImageCms.buildTransform(opened, srgb, mode, "RGB")
    except (ImageCms.PyCMSError, OSError, ValueError, TypeError):
        return _USELESS
    if mode != "CMYK":
        sample = _sample(mode)
        change = np.asarray(ImageCms.applyTransform(sample, transform)).astype(int)
        if abs(change - np.asarray(sample.convert("RGB"))).max() <= _NEAR:
            return _IDENTITY
    return _Told(transform)


def _sample(mode: str) -> Image.Image:
    """Return a picture of colours from everywhere in the cube, or of all greys."""
    if mode == "L":
        return Image.fromarray(np.arange(256, dtype=np.uint8)[np.newaxis])
    steps = np.linspace(0, 255, 9).astype(np.uint8)
    return Image.fromarray(np.stack(np.meshgrid(steps, steps, steps), axis=-1).reshape(27, 27, 3))


def to_srgb(image: Image.Image, profile: bytes | None) -> tuple[Image.Image, int]:
    """Bring a picture's colours to sRGB, its alpha kept; the second is flags."""
    if not profile:
        return image, 0
    mode = image.mode.removesuffix("A")
    if mode not in _SPACES:
        return image, 0
    found = _transform(profile, mode)
    if not isinstance(found, _Told):
        return image, FLAGS["profile"] if found == _USELESS else 0
    if mode == image.mode:
        return _applied(image, found), 0
    coloured = _applied(image.convert(mode), found)
    coloured.putalpha(image.getchannel("A"))
    return coloured, 0


def _applied(image: Image.Image, told: _Told) -> Image.Image:
    coloured = ImageCms.applyTransform(image, told.transform)
    assert coloured is not None  # noqa: S101  # it is not done in place
    return coloured


# The recipe's mode -------------------------------------------------------------------------------


def in_mode(image: Image.Image, recipe: Recipe) -> Image.Image:
    """Bring a resampled picture to the recipe's mode, laying transparency over its background."""
    if recipe.mode in ("P", image.mode):
        return image
    if recipe.mode == "I;16":
        return _widened(image, colour_of(recipe))
    if recipe.mode != "RGBA" and image.mode in ("LA", "RGBA"):
        opaque = Image.new(recipe.mode, image.size, colour_of(recipe))
        opaque.paste(image.convert(recipe.mode), mask=image.getchannel("A"))
        return opaque
    return image.convert(recipe.mode)


def _widened(image: Image.Image, background: int) -> Image.Image:
    """Bring grey or colour of 8 bits to grey of 16, white becoming white."""
    if image.mode in ("LA", "RGBA"):
        alpha = np.asarray(image.getchannel("A")).astype(np.uint32)
        grey = np.asarray(image.convert("LA").getchannel("L")).astype(np.uint32) * 257
        wide = (grey * alpha + background * (255 - alpha) + 127) // 255
    else:
        wide = np.asarray(image.convert("L")).astype(np.uint32) * 257
    return Image.fromarray(wide.astype(np.uint16))


def colour_of(recipe: Recipe) -> Any:
    """Return the background as Pillow wants it: a number where there is one channel."""
    colour = recipe.background
    return colour[0] if isinstance(colour, tuple) and len(colour) == 1 else colour
