"""A decoded picture brought to a size: by Pillow, or by what the recipe names in its place."""

from __future__ import annotations

from typing import TYPE_CHECKING

from PIL import Image

from mmcache.images.colours import STRIP, Kind, strips
from mmcache.resampling import cykooz_options, cykooz_resizer

if TYPE_CHECKING:
    from mmcache.geometry import Size
    from mmcache.recipe import Recipe

__all__ = ["Box", "resized"]

Box = tuple[float, float, float, float]
"""Left, top, right and bottom in pixels of the stored picture."""

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
"""What cykooz-resizer is given; ink, alpha, numbers and what is made narrower in strips are not."""


def resized(image: Image.Image, kind: Kind, size: Size, recipe: Recipe, box: Box) -> Image.Image:
    """Convert a decoded picture to its *kind*, and resample the part in *box* to *size*.

    Filters work on rows first and on columns then. So a large picture is converted and made
    narrower in strips, and its pixels are those of the whole at once, without its memory.
    """
    resample = _FILTERS[recipe.resample]
    averaged = resample != Image.Resampling.NEAREST
    between = _PREMULTIPLIED.get(kind.mode, kind.mode) if averaged else kind.mode
    copied = not kind.as_it_is or between != kind.mode
    if not copied or image.width * image.height <= STRIP:
        ready = kind.convert(image)
        if recipe.resampler == "cykooz" and ready.mode in _PLAIN:
            return _by_cykooz(ready, size, recipe, box)
        return ready.resize((size.width, size.height), resample, box)
    left, top, right, bottom = box
    narrow = Image.new(between, (size.width, image.height))
    for above, strip in strips(image):
        ready = kind.convert(strip)
        if ready.mode != between:
            ready = ready.convert(between)
        part = (left, 0, right, strip.height)
        narrow.paste(ready.resize((size.width, strip.height), resample, part), (0, above))
    valid = narrow.resize((size.width, size.height), resample, (0, top, size.width, bottom))
    return valid if valid.mode == kind.mode else valid.convert(kind.mode)


def _by_cykooz(image: Image.Image, size: Size, recipe: Recipe, box: Box) -> Image.Image:
    """Resample in the memory that Pillow holds, on either side."""
    made = Image.new(image.mode, (size.width, size.height), None)
    cykooz_resizer().resize_pil(image, made, cykooz_options(recipe.resample, box))
    return made
