"""What each filter costs and keeps, so that the default can be chosen by looking."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from measuring import median, table
from PIL import Image

from contest.building.writer import fitted
from contest.quality import lanczos, psnr, ssim
from mmcache.errors import SettingError
from mmcache.resampling import resampler_for, resized

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from contest.building.sets import PhotoSet

__all__ = ["filtered"]

PILLOW = ("nearest", "box", "bilinear", "hamming", "bicubic", "lanczos")
CYKOOZ = ("bilinear", "bicubic", "lanczos")


class Kept(NamedTuple):
    """What one filter made of one photo."""

    seconds: float
    decibels: float
    similar: float
    returned: float
    """PSNR of the photo that a viewer would enlarge from it, in grey, against the photo itself."""


def filtered(photos: PhotoSet, size: int, most: int) -> str:
    """Return a table of all filters over at most *most* of *photos*, decoded in full."""
    ways = _ways()
    kept: dict[str, list[Kept]] = {name: [] for name in ways}
    paths = photos.paths
    for path in paths[:: max(1, len(paths) // most)]:
        with Image.open(path) as opened:
            image = opened.convert("RGB")
        edges = fitted(*image.size, size)
        reference = lanczos(np.asarray(image), (edges[1], edges[0]))
        for name, way in ways.items():
            kept[name].append(_kept(way, image, reference))
    base = sum(one.seconds for one in kept["Pillow, bicubic"])
    rows = []
    for name, each in kept.items():
        seconds, decibels, similar, returned = zip(*each, strict=True)
        rows.append(
            (
                name,
                f"{median(seconds) * 1e3:.2f}",
                f"{base / sum(seconds):.2f}",
                f"{median(decibels):.1f}; {min(decibels):.1f}",
                f"{median(similar):.4f}; {min(similar):.4f}",
                f"{median(returned):.2f}; {min(returned):.1f}",
            )
        )
    head = ("filter", "ms of a core a picture", "times Pillow's bicubic", "PSNR, dB: half; worst",
            "SSIM: half; worst", "there and back, dB: half; worst")  # fmt: skip
    return table(head, rows)


def _ways() -> dict[str, Any]:
    ways = {f"Pillow, {name}": _by_pillow(name) for name in PILLOW}
    try:
        resampler_for("cykooz", "bicubic")
    except SettingError:  # it is not installed
        return ways
    return ways | {f"cykooz-resizer, {name}": _by_cykooz(name) for name in CYKOOZ}


def _by_pillow(name: str) -> Any:
    how = Image.Resampling[name.upper()]
    return lambda image, edges: np.asarray(image.resize(edges, how))


def _by_cykooz(name: Any) -> Any:
    def way(image: Any, edges: tuple[int, int]) -> NDArray[Any]:
        whole = np.asarray(image)
        window = (0, 0, *whole.shape[:2])
        return resized(whole, window, (edges[1], edges[0]), name, resampler="cykooz")

    return way


def _kept(way: Any, image: Any, reference: NDArray[np.float64]) -> Kept:
    edges = (reference.shape[1], reference.shape[0])
    started = time.thread_time()
    made = way(image, edges)
    seconds = time.thread_time() - started
    grey = made.mean(axis=2)
    enlarged = Image.fromarray(grey.astype(np.float32)).resize(image.size, Image.Resampling.BICUBIC)
    back = np.clip(np.asarray(enlarged), 0, 255)
    return Kept(
        seconds,
        psnr(made, reference),
        ssim(grey, reference.mean(axis=2)),
        psnr(back, np.asarray(image).mean(axis=2)),
    )
