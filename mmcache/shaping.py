"""How pictures of several shapes become a batch: settings, and what each is cut and filled to.

No files and no pixels: sizes and settings in, windows and places out.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, get_args

import numpy as np

from mmcache.crops import (
    DRAWS_AT_RANDOM,
    DRAWS_RESIZED,
    at_random,
    centred,
    random_resized,
)
from mmcache.errors import SettingError, ShapesDifferError
from mmcache.geometry import LARGEST_EDGE, Size
from mmcache.recipe import RESAMPLERS, RESAMPLES, Recipe, Resample, Resampler

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["Crop", "Pad", "Position", "Shaping"]

Pad = Literal["batch"] | int | tuple[int, int] | None
Crop = Literal["random_resized"] | int | tuple[int, int] | None
Position = Literal["center", "random"]
POSITIONS: tuple[Position, ...] = get_args(Position)

_FLIP = 1  # numbers drawn for a flip


@dataclass(frozen=True, kw_only=True)
class Shaping:
    """Settings of a batch: see :meth:`mmcache.Cache.batch`, which explains each.

    Raises
    ------
    SettingError
        (a ``ValueError``) where a setting makes no sense, or two do not go together.
    """

    pad: Any = None
    crop: Any = None
    position: Position = "center"
    flip: bool | float = False
    size: Any = None
    scale: tuple[float, float] = (0.08, 1.0)
    ratio: tuple[float, float] = (3 / 4, 4 / 3)
    resample: Resample = "bilinear"
    resampler: Resampler = "auto"
    centering: tuple[float, float] = (0.5, 0.5)
    background: tuple[int, ...] | int | None = None
    mask: bool = False

    def __post_init__(self) -> None:
        # A frozen dataclass has no other door than this one.
        settle = object.__setattr__
        if self.pad is not None and self.pad != "batch":
            settle(self, "pad", _size("pad", self.pad, ' or "batch"'))
        if self.crop is not None and self.crop != "random_resized":
            settle(self, "crop", _size("crop", self.crop, ' or "random_resized"'))
        if self.size is not None:
            settle(self, "size", _size("size", self.size))
        settle(self, "flip", _probability(self.flip))
        settle(self, "scale", _interval("scale", self.scale, 1.0))
        settle(self, "ratio", _interval("ratio", self.ratio, math.inf))
        settle(self, "centering", _centering(self.centering))
        if self.position not in POSITIONS:
            raise SettingError(f"position={self.position!r} is neither center nor random")
        if self.resample not in RESAMPLES:
            raise SettingError(f"resample={self.resample!r} is not one of {', '.join(RESAMPLES)}")
        if self.resampler not in RESAMPLERS:
            names = ", ".join(RESAMPLERS)
            raise SettingError(f"resampler={self.resampler!r} is not one of {names}")
        self._check_together()

    def _check_together(self) -> None:
        resized = self.crop == "random_resized"
        if resized and self.size is None:
            raise SettingError('crop="random_resized" needs the size of what comes out: size=224')
        if resized and self.pad is not None:
            raise SettingError(
                'crop="random_resized" brings every picture to size, and leaves nothing to pad'
            )
        if self.size is not None and not resized:
            raise SettingError('size goes with crop="random_resized"; a plain crop is crop=(h, w)')
        if self.position == "random" and (resized or self.crop is None):
            raise SettingError('position="random" goes with crop=(height, width)')

    @property
    def draws(self) -> int:
        """How many random numbers a picture needs."""
        if self.crop == "random_resized":
            return _FLIP + DRAWS_RESIZED
        if self.position == "random":
            return _FLIP + DRAWS_AT_RANDOM
        return _FLIP if self.flip else 0

    @property
    def resized(self) -> Size | None:
        """The size that every window is resampled to; None where windows stay as they are."""
        return self.size if self.crop == "random_resized" else None

    def windows(
        self, heights: NDArray[np.int64], widths: NDArray[np.int64], draws: NDArray[np.float64]
    ) -> NDArray[np.int64] | None:
        """Return top, left, height and width of what is taken: int64 (n, 4); None for all of it.

        Parameters
        ----------
        heights, widths : int64 (n,)
            Of the records, in pixels.
        draws : float64 (n, self.draws)
            Random numbers from 0 up to 1.
        """
        if self.crop is None:
            return None
        if self.crop == "random_resized":
            return random_resized(heights, widths, self.scale, self.ratio, draws[:, _FLIP:])
        if self.position == "random":
            return at_random(heights, widths, self.crop, draws[:, _FLIP:])
        return centred(heights, widths, self.crop)

    def flipped(self, draws: NDArray[np.float64]) -> NDArray[np.bool_] | None:
        """Return which pictures are mirrored: bool (n,); None where none may be."""
        return draws[:, 0] < self.flip if self.flip else None

    def room(self, heights: NDArray[np.int64], widths: NDArray[np.int64]) -> Size | None:
        """Return the size of the one array that these windows go into; None where they differ.

        Raises
        ------
        ShapesDifferError
            Where a window is larger than what it is to be padded to, or smaller than the crop with
            nothing to pad it.
        """
        if not len(heights):
            fixed = self.pad if self.pad not in (None, "batch") else self.crop
            return fixed or Size(0, 0)
        largest = Size(int(heights.max()), int(widths.max()))
        smallest = Size(int(heights.min()), int(widths.min()))
        if self.pad == "batch":
            return largest
        if self.pad is not None:
            if largest.height > self.pad.height or largest.width > self.pad.width:
                raise ShapesDifferError(
                    f"pad={tuple(self.pad)} was asked for, and a picture here is"
                    f" {largest.height} pixels high or {largest.width} wide: pad to more, or pass"
                    f" crop={tuple(self.pad)} too, which cuts what is larger"
                )
            return Size(*self.pad)
        if self.crop not in (None, "random_resized") and smallest != Size(*self.crop):
            raise ShapesDifferError(
                f"crop={tuple(self.crop)} was asked for, and a picture here is only"
                f" {smallest.height} pixels high or {smallest.width} wide: pass"
                f" pad={tuple(self.crop)} too, which fills it up, or crop less"
            )
        return largest if largest == smallest else None

    def places(
        self, heights: NDArray[np.int64], widths: NDArray[np.int64], room: Size
    ) -> NDArray[np.int64]:
        """Return where the windows' upper left corners lie in *room*: int64 (n, 2)."""
        free = np.stack([room.height - heights, room.width - widths], axis=1)
        # Half of an odd rest is rounded down, as a recipe's padding is.
        places: NDArray[np.int64] = np.floor(free * np.array(self.centering)).astype(np.int64)
        return places

    def colour(self, recipe: Recipe) -> tuple[int, ...]:
        """Return what padding is filled with in pictures of *recipe*, a number a channel.

        :class:`SettingError` where these settings do not go with it.
        """
        if recipe.mode == "P" and self.resized is not None and self.resample != "nearest":
            raise SettingError(
                'these pictures have mode="P", whose numbers a filter would mix: pass'
                ' resample="nearest"'
            )
        if self.background is None:
            return recipe.background  # type: ignore[return-value]  # settled to one form
        channels, brightest = recipe.channels, recipe.brightest
        given: Any = self.background
        values = (given,) * channels if isinstance(given, (int, np.integer)) else tuple(given)
        if len(values) != channels or not all(
            isinstance(v, (int, np.integer)) and 0 <= v <= brightest for v in values
        ):
            raise SettingError(
                f"background={given!r} is neither a number from 0 to {brightest} nor {channels} of"
                " them, one a channel"
            )
        return tuple(int(value) for value in values)


def _size(name: str, value: object, other: str = "") -> Size:
    edges = (value, value) if isinstance(value, (int, np.integer)) else value
    if (
        not isinstance(edges, (tuple, list))
        or len(edges) != len(Size._fields)
        or not all(
            isinstance(edge, (int, np.integer))
            and not isinstance(edge, bool)
            and 1 <= edge <= LARGEST_EDGE
            for edge in edges
        )
    ):
        raise SettingError(f"{name}={value!r} is neither an edge nor a (height, width) pair{other}")
    return Size(*(int(edge) for edge in edges))


def _probability(value: object) -> float:
    if isinstance(value, (bool, np.bool_)):
        return 0.5 if value else 0.0
    if not isinstance(value, (int, float, np.number)) or not 0 <= value <= 1:
        raise SettingError(f"flip={value!r} is neither True, False nor a probability from 0 to 1")
    return float(value)


def _interval(name: str, value: object, most: float) -> tuple[float, float]:
    if (
        not isinstance(value, (tuple, list))
        or len(value) != 2  # noqa: PLR2004  # its ends
        or not all(isinstance(v, (int, float, np.number)) for v in value)
        or not 0 < value[0] <= value[1] <= most
        or value[1] == math.inf
    ):
        limit = "" if most == math.inf else f", at most {most:g}"
        raise SettingError(f"{name}={value!r} is no pair (low, high) above 0{limit}")
    return float(value[0]), float(value[1])


def _centering(value: object) -> tuple[float, float]:
    if (
        not isinstance(value, (tuple, list))
        or len(value) != 2  # noqa: PLR2004  # vertical, horizontal
        or not all(isinstance(v, (int, float, np.number)) and 0 <= v <= 1 for v in value)
    ):
        raise SettingError(
            f"centering={value!r} is no pair (vertical, horizontal) of numbers from 0 to 1"
        )
    return float(value[0]), float(value[1])
