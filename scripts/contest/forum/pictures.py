"""The folder that everybody goes through, and what its pictures ought to look like."""

from __future__ import annotations

import io
import shutil
from typing import TYPE_CHECKING, Any

import numpy as np
from PIL import Image, ImageCms, ImageOps

from contest.quality import psnr
from mmcache import Folder, Size
from mmcache.testing import paint, save

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray

__all__ = ["FLOOR", "NONE", "ODD", "filled", "is_right"]

FLOOR = 35.0  # dB of PSNR below which a picture is not the one that was asked for
ODD = ("strip.png", "portrait.jpg", "grey.jpg", "clear.png", "deep.png", "cut.jpg", "text.jpg")
"""One picture of each kind that a real folder has."""
NONE = ("cut.jpg", "text.jpg")
"""Those that no right picture can be made of."""
WIDEST = 5000  # pixels of the strip, which is one pixel tall
EDGES = Size(300, 400)
LEVELS = 257  # of 16 bits, for one of 8
Filter = Image.Resampling
SMOOTHING = (Filter.BICUBIC, Filter.LANCZOS, Filter.BILINEAR, Filter.BOX)
"""Pillow's filters that take every pixel into account; its NEAREST does not."""


def filled(folder: Path, photos: Path, most: int) -> Path:
    """Copy at most *most* of *photos*, evenly spread, and add the odd ones."""
    folder.mkdir()
    keys = list(Folder(photos).listing().keys)
    for number, key in enumerate(keys[:: max(1, -(-len(keys) // most))]):
        path = photos / key
        shutil.copyfile(path, folder / f"{number:05}{path.suffix}")
    add_odd(folder)
    return folder


def add_odd(folder: Path) -> None:
    """Paint :data:`ODD`."""
    paint(Size(1, WIDEST), 1).save(folder / "strip.png")
    save(paint(EDGES, 2), folder / "portrait.jpg", 6, quality=95)  # EXIF: turn it to the right
    paint(EDGES, 3, "L").save(folder / "grey.jpg", quality=95)
    clear = np.array(paint(EDGES, 4).convert("RGBA"))
    clear[:, : EDGES.width // 2] = 255, 0, 0, 0  # red, and nobody can see it
    Image.fromarray(clear).save(folder / "clear.png")
    deep = np.array(paint(EDGES, 5, "L"), np.uint16) * LEVELS
    Image.fromarray(deep).save(folder / "deep.png")
    file = io.BytesIO()
    paint(EDGES, 6).save(file, "JPEG", quality=95)
    (folder / "cut.jpg").write_bytes(file.getvalue()[: file.tell() // 2])
    (folder / "text.jpg").write_text("This is no picture.\n")


def is_right(path: Path, picture: NDArray[Any], size: int) -> bool:
    """Tell whether *picture* is that of the file, as a careful person would have made it.

    It is upright, RGB in uint8, and fits a box of *size* with the aspect kept to within a pixel;
    what is smaller than the box may stay so. And it is like what a filter of Pillow's that smooths
    makes of the whole: whichever is nearest, so that nobody is punished for a filter of their own.
    """
    if path.name in NONE or picture.dtype != np.uint8 or picture.shape[2:] != (3,):
        return False
    return any(
        _fits(picture.shape, whole.shape, size)
        and any(psnr(picture, _resized(whole, picture.shape, by)) >= FLOOR for by in SMOOTHING)
        for whole in _wholes(path)
    )


def _resized(
    whole: NDArray[np.uint8], shape: tuple[int, ...], by: Image.Resampling
) -> NDArray[np.uint8]:
    return np.asarray(Image.fromarray(whole).resize((shape[1], shape[0]), by))


def _fits(shape: tuple[int, ...], whole: tuple[int, ...], size: int) -> bool:
    ratio = size / max(whole[:2])
    return any(
        all(abs(edge - max(1.0, full * scale)) < 1 for edge, full in zip(shape, whole[:2]))  # noqa: B905  # without the channels
        for scale in {ratio, min(ratio, 1.0)}
    )


def _wholes(path: Path) -> list[NDArray[np.uint8]]:
    """Return the whole picture, once for each way in which its colours may be understood.

    What is clear may lie over black or over white, and an ICC profile may be heeded or not.
    """
    with Image.open(path) as image:
        upright = ImageOps.exif_transpose(image)
    if upright.mode.startswith("I;16"):
        grey = np.asarray(upright) / LEVELS
        return [np.repeat(np.uint8(grey.round())[..., None], 3, axis=2)]
    if upright.mode == "RGBA":
        over = (Image.new("RGBA", upright.size, ground) for ground in ("black", "white"))
        return [np.asarray(Image.alpha_composite(one, upright).convert("RGB")) for one in over]
    plain = upright.convert("RGB")
    return [np.asarray(one) for one in (plain, *_in_srgb(upright, plain))]


def _in_srgb(image: Image.Image, plain: Image.Image) -> list[Image.Image]:
    profile = image.info.get("icc_profile")
    if not profile or image.mode != "RGB":
        return []
    try:
        srgb = ImageCms.createProfile("sRGB")
        return [ImageCms.profileToProfile(plain, io.BytesIO(profile), srgb)]
    except (ImageCms.PyCMSError, OSError):  # a profile of no use
        return []
