"""A decoded picture brought to a size: by Pillow, or by what the recipe names in its place.

cykooz-resizer is given whole pictures alone, and what it made is cut: told to take a part, it reads
beyond its memory (version 4.0.1, when enlarging). Pillow does what is neither plain colour nor
grey, what has a part of a pixel at its edge when it is decoded smaller, and what is cut by much.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from PIL import Image

from mmcache.images.colours import STRIP, Kind, strips
from mmcache.resampling import cykooz_options, cykooz_resizer, resampled_packed

if TYPE_CHECKING:
    from typing import Any

    from numpy.typing import NDArray

    from mmcache.geometry import Size
    from mmcache.recipe import Recipe

__all__ = ["Part", "is_fast", "packed_part", "resized"]

_FILTERS = {
    "nearest": Image.Resampling.NEAREST,
    "box": Image.Resampling.BOX,
    "bilinear": Image.Resampling.BILINEAR,
    "hamming": Image.Resampling.HAMMING,
    "bicubic": Image.Resampling.BICUBIC,
    "lanczos": Image.Resampling.LANCZOS,
}

# Filters that average must not see the colour under what is clear.
_PREMULTIPLIED = {"LA": "La", "RGBA": "RGBa"}

_PLAIN = ("RGB", "L")
_WASTE = 4  # times as many pixels as are kept: more are not made to be cut away


class Part(NamedTuple):
    """What is kept of a picture, as it is stored: scaled to a size, and cut to another.

    ``source`` is its stored size, decoded at one ``shrunk``-th; ``top`` and ``left`` count pixels
    of the scaled picture.
    """

    source: Size
    shrunk: int
    scaled: Size
    top: int
    left: int
    size: Size

    @property
    def box(self) -> tuple[float, float, float, float]:
        """The same in pixels of the decoded picture: left, top, right and bottom, for Pillow."""
        right, bottom = self.left + self.size.width, self.top + self.size.height
        return (
            self.left * self.source.width / self.scaled.width / self.shrunk,
            self.top * self.source.height / self.scaled.height / self.shrunk,
            right * self.source.width / self.scaled.width / self.shrunk,
            bottom * self.source.height / self.scaled.height / self.shrunk,
        )


def is_fast(part: Part, recipe: Recipe) -> bool:
    """Tell whether cykooz-resizer is to resample such a part, if its pixels are plain."""
    kept, made = (size.height * size.width for size in (part.size, part.scaled))
    whole = not (part.source.height % part.shrunk or part.source.width % part.shrunk)
    return recipe.resampler == "cykooz" and whole and made <= _WASTE * kept


def packed_part(pixels: NDArray[Any], part: Part, recipe: Recipe) -> NDArray[Any]:
    """Resample decoded pixels, ``(height, width, channels)``, where :func:`is_fast` says so."""
    scaled = resampled_packed(pixels, part.scaled, recipe.resample)
    if part.scaled == part.size:
        return scaled
    below, right = part.top + part.size.height, part.left + part.size.width
    return scaled[part.top : below, part.left : right].copy()


def resized(image: Image.Image, kind: Kind, part: Part, recipe: Recipe) -> Image.Image:
    """Convert a decoded picture to its *kind*, and resample the *part* that is kept.

    Filters work on rows first and on columns then. So a large picture is converted and made
    narrower in strips, and its pixels are those of the whole at once, without its memory.
    """
    resample, size, box = _FILTERS[recipe.resample], part.size, part.box
    averaged = resample != Image.Resampling.NEAREST
    between = _PREMULTIPLIED.get(kind.mode, kind.mode) if averaged else kind.mode
    copied = not kind.as_it_is or between != kind.mode
    if not copied or image.width * image.height <= STRIP:
        ready = kind.convert(image)
        if ready.mode in _PLAIN and is_fast(part, recipe):
            return _by_cykooz(ready, part, recipe)
        return ready.resize((size.width, size.height), resample, box)
    left, top, right, bottom = box
    narrow = Image.new(between, (size.width, image.height))
    for above, strip in strips(image):
        ready = kind.convert(strip)
        if ready.mode != between:
            ready = ready.convert(between)
        within = (left, 0, right, strip.height)
        narrow.paste(ready.resize((size.width, strip.height), resample, within), (0, above))
    valid = narrow.resize((size.width, size.height), resample, (0, top, size.width, bottom))
    return valid if valid.mode == kind.mode else valid.convert(kind.mode)


def _by_cykooz(image: Image.Image, part: Part, recipe: Recipe) -> Image.Image:
    """Resample in the memory that Pillow holds, on either side."""
    scaled = Image.new(image.mode, (part.scaled.width, part.scaled.height), None)
    resizer = cykooz_resizer(scaled.width * image.height)
    resizer.resize_pil(image, scaled, cykooz_options(recipe.resample))
    if part.scaled == part.size:
        return scaled
    below, right = part.top + part.size.height, part.left + part.size.width
    return scaled.crop((part.left, part.top, right, below))
