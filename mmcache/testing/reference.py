"""What a careful person would get from a picture by hand: Pillow alone, everything in full."""

from __future__ import annotations

import contextlib
import io
from typing import TYPE_CHECKING, Any

import numpy as np
from PIL import Image, ImageOps

from mmcache.signatures import FORMATS, TGA_FOOTER

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["reference"]


def reference(data: bytes, background: tuple[int, int, int] = (0, 0, 0)) -> Image.Image:
    """Decode a picture in full, upright, in RGB over *background*; Pillow raises where it fails.

    Profiles are not applied. Numbers of 16 bits, of 32 bits, and floats are scaled as
    :class:`mmcache.Recipe` says.
    """
    with contextlib.suppress(ImportError):
        import pillow_heif  # noqa: PLC0415  # an extra

        pillow_heif.register_heif_opener()
    with contextlib.suppress(ImportError):
        import pillow_jxl  # noqa: F401, PLC0415  # the same
    Image.init()
    # Pillow takes anything for a TGA that its header does not rule out.
    tga = data.endswith(TGA_FOOTER)
    known = [name for name in FORMATS if name in Image.OPEN and (tga or name != "TGA")]
    with Image.open(io.BytesIO(data), formats=known) as image:
        image.load()
        upright = image if image.format == "JXL" else ImageOps.exif_transpose(image)
    if upright.mode in ("I", "F") or upright.mode.startswith("I;16"):
        return Image.fromarray(_bytes_of(np.asarray(upright))).convert("RGB")
    if upright.mode == "LAB":
        return upright.convert("RGB")
    if upright.has_transparency_data or upright.mode in ("La", "RGBa"):
        below = Image.new("RGBA", upright.size, background)
        return Image.alpha_composite(below, upright.convert("RGBA")).convert("RGB")
    return upright.convert("RGB")


def _bytes_of(values: NDArray[Any]) -> NDArray[np.uint8]:
    """Scale numbers to 8 bits in the plainest way."""
    numbers = values.astype(np.float64)
    good = numbers[np.isfinite(numbers)]
    least, most = (good.min(), good.max()) if good.size else (0.0, 1.0)
    usual = (1.0, 255.0, 65_535.0) if values.dtype.kind == "f" else (65_535.0,)
    low, high = next(((0.0, end) for end in usual if least >= 0 and most <= end), (least, most))
    numbers = np.nan_to_num(numbers, nan=low, posinf=high, neginf=low)
    share = (numbers - low) / (high - low if high > low else 1)
    rounded: NDArray[np.uint8] = np.floor(share * 255 + 0.5).astype(np.uint8)
    return rounded
