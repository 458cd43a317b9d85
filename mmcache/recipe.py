"""The recipe: every setting that can change a pixel, and nothing else."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import math
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal, get_args

import numpy as np

from mmcache.errors import SettingError
from mmcache.geometry import (
    LARGEST_EDGE,
    RESIZES,
    Placement,
    Resize,
    Size,
    closest,
    place,
    snug_shapes,
)

if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = [
    "CHOICES",
    "ICC",
    "MODES",
    "RESAMPLERS",
    "RESAMPLES",
    "TRUNCATED",
    "Icc",
    "Mode",
    "Recipe",
    "Resample",
    "Resampler",
    "Truncated",
]

Mode = Literal["RGB", "L", "RGBA", "I;16", "P"]
Resample = Literal["nearest", "box", "bilinear", "hamming", "bicubic", "lanczos"]
Resampler = Literal["auto", "pillow", "cykooz"]
Icc = Literal["srgb", "ignore"]
Truncated = Literal["fail", "keep"]
MODES: tuple[Mode, ...] = get_args(Mode)
RESAMPLES: tuple[Resample, ...] = get_args(Resample)
RESAMPLERS: dict[Resampler, tuple[Resample, ...]] = {
    "auto": RESAMPLES,
    "pillow": RESAMPLES,
    # Hamming is missing there; nearest and box take other pixels where two are equally near.
    "cykooz": ("bilinear", "bicubic", "lanczos"),
}
"""Who can resample, and by which filters."""
ICC: tuple[Icc, ...] = get_args(Icc)
TRUNCATED: tuple[Truncated, ...] = get_args(Truncated)

_CHANNELS = {"RGB": 3, "L": 1, "RGBA": 4, "I;16": 1, "P": 1}
_BUCKETS = 8  # where it is not said
_MOST_BUCKETS = 256  # far more than batches are made of
_LATER: dict[str, Any] = {
    "icc": "ignore", "value_range": None, "frame": 0, "truncated": "fail", "buckets": None,
    "resampler": "pillow",
}  # fmt: skip
"""Settings that the first recipes did not have, and what those did: JSON does not mention them
then, so that what was written before reads as what it was, and has the fingerprint that it had."""


def _setting(default: Any, explanation: str) -> Any:
    return field(default=default, metadata={"help": explanation})


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """How a picture becomes a record: frozen, comparable, and never in a wrong state.

    Settings are brought to one form when they come in (``size=256`` becomes ``(256, 256)``,
    ``background="white"`` becomes ``(255, 255, 255)``), so that recipes which make the same
    pixels are equal.

    Raises
    ------
    SettingError
        (a ``ValueError``) where a setting makes no sense.

    Examples
    --------
    >>> Recipe(size=224, resize="pad", background="white").background
    (255, 255, 255)
    """

    size: Size | tuple[int, int] | int = _setting(
        256, "the box that pictures are brought to: one edge, or height and width"
    )
    resize: Resize = _setting(
        "contain",
        "contain: fit inside the box; cover: fill it, nothing is cut; crop: cover, then cut to"
        " exactly the box; pad: contain, then fill up to exactly the box; stretch: distort;"
        " bucket: crop to the closest of a few shapes that have at most the box's pixels",
    )
    resample: Resample = _setting("bicubic", "the filter that resizes, antialiased but for nearest")
    mode: Mode = _setting(
        "RGB",
        "the channels of every record; I;16 is grey of 16 bits, and P keeps the numbers of a mask"
        " or palette as they are",
    )
    background: tuple[int, ...] | str | int = _setting(
        0, "colour of padding and under transparency: a name, #rrggbb, or a number per channel"
    )
    upscale: bool | None = _setting(
        None, "whether contain and pad enlarge what is smaller than the box (default: they do not)"
    )
    multiple_of: int = _setting(
        1,
        "fill each edge of a record up to a multiple of this, with background; for bucket, make"
        " the edges of its shapes multiples of this",
    )
    icc: Icc = _setting(
        "srgb", "srgb: bring colours of an embedded ICC profile to sRGB; ignore: leave them"
    )
    value_range: tuple[float, float] | None = _setting(
        None,
        "the numbers that become black and white in pixels of 16 bits, 32 bits and floats (default:"
        " the whole range of 16 bits; for the others the usual range that holds them)",
    )
    frame: int = _setting(
        0, "which frame of an animation, or page; the last of a picture that has fewer"
    )
    truncated: Truncated = _setting(
        "fail", "what a picture is whose pixels end early: fail, or keep what is there, flagged"
    )
    buckets: int | Sequence[tuple[int, int]] | None = _setting(
        None,
        "of bucket alone: how many shapes a plan is to choose, so that the least is cut away"
        " (8 where it is not said), or the shapes themselves as (height, width) pairs",
    )
    resampler: Resampler = _setting(
        "pillow",
        "who resizes: pillow; cykooz, which is three times as fast (bilinear, bicubic and lanczos,"
        " needs mmcache[fast]); auto: the fastest that is installed where a cache is begun",
    )

    def __post_init__(self) -> None:
        # A frozen dataclass has no other door than this one.
        settle = object.__setattr__
        settle(self, "size", _size(self.size))
        for name, allowed in CHOICES.items():
            _one_of(name, getattr(self, name), allowed)
        if self.mode == "P" and self.resample != "nearest":
            raise SettingError(
                'mode="P" keeps numbers as they are, which a filter would mix: pass'
                ' resample="nearest"'
            )
        if self.resample not in RESAMPLERS[self.resampler]:
            raise SettingError(
                f'resampler="{self.resampler}" has the filters'
                f" {', '.join(RESAMPLERS[self.resampler])}, and not {self.resample}: pass one of"
                ' those, or resampler="pillow"'
            )
        settle(self, "value_range", _value_range(self.value_range))
        settle(self, "frame", _frame(self.frame))
        settle(self, "upscale", _upscale(self.upscale, self.resize))
        settle(self, "multiple_of", _edge("multiple_of", self.multiple_of))
        settle(self, "background", _background(self.background, self.mode))
        settle(self, "buckets", _buckets(self))

    @property
    def box(self) -> Size:
        """The box as ``(height, width)``."""
        return Size(*self.size)  # type: ignore[misc]

    @property
    def channels(self) -> int:
        """Channels of every record."""
        return _CHANNELS[self.mode]

    @property
    def dtype(self) -> np.dtype[Any]:
        """Type of every record's elements, little-endian."""
        return np.dtype("<u2" if self.mode == "I;16" else "u1")

    @property
    def brightest(self) -> int:
        """The number that is white."""
        return int(np.iinfo(self.dtype).max)

    @property
    def shape(self) -> tuple[int, int, int] | None:
        """The ``(height, width, channels)`` of every record; None where pictures differ."""
        if self.resize in ("contain", "cover"):
            return None
        if self.resize == "bucket" and (not self.has_shapes or len(self.shapes) > 1):
            return None
        return (*self.place(self.box).size, self.channels)

    @property
    def has_shapes(self) -> bool:
        """Whether it can place pictures: ``buckets`` is a count until a plan has chosen shapes."""
        return not isinstance(self.buckets, int)

    def check_shapes(self) -> None:
        """Raise :class:`SettingError` where it cannot place pictures."""
        if not self.has_shapes:
            raise SettingError(
                f"buckets={self.buckets} asks for shapes that are not chosen yet: take the recipe"
                " of a plan or of a cache, which has them"
            )

    @property
    def shapes(self) -> tuple[Size, ...]:
        """The shapes of ``resize="bucket"``, once they are settled; else none."""
        return self.buckets if isinstance(self.buckets, tuple) else ()

    def settled_as(self, other: Recipe) -> Recipe:
        """Return *other*, if that is what became of this recipe; else this one.

        So it is where this one leaves open who resamples, or asks for as many shapes as *other*
        has, and they are equal otherwise.
        """
        has = dataclasses.replace(
            other,
            buckets=self.buckets if self.buckets == len(other.shapes) else other.buckets,
            resampler="auto" if self.resampler == "auto" else other.resampler,
        )
        return other if has == self else self

    def place(self, source: Size) -> Placement:
        """Return where an upright picture of size *source* lands.

        Of ``resize="bucket"`` it is the shape to which the smallest part of it is cut; where that
        is equally much, the one of the most pixels, and of those the first in ``buckets``.

        Raises
        ------
        SettingError
            Where the shapes of ``resize="bucket"`` are not settled.
        """
        self.check_shapes()
        return place(
            source,
            closest(source, self.shapes) if self.shapes else self.box,
            self.resize,
            upscale=bool(self.upscale),
            multiple_of=self.multiple_of,
        )

    def to_json(self) -> dict[str, Any]:
        """Return plain data that :meth:`from_json` makes the same recipe of."""
        plain = {name: _plain(value) for name, value in dataclasses.asdict(self).items()}
        for name, before in _LATER.items():
            if plain[name] == before:
                del plain[name]
        return plain

    @classmethod
    def from_json(cls, plain: dict[str, Any]) -> Recipe:
        """Return the recipe that :meth:`to_json` described, or raise :class:`SettingError`."""
        if not isinstance(plain, dict):
            raise SettingError(f"a recipe is a dict of settings, and not {plain!r}")
        known = {one.name for one in dataclasses.fields(cls)}
        if unknown := sorted(set(plain) - known):
            raise SettingError(
                f"the recipe has settings that this mmcache does not know: {', '.join(unknown)};"
                " a newer mmcache wrote it: upgrade to read it"
            )
        made: dict[str, Any] = {
            name: tuple(v) if isinstance(v, list) else v for name, v in plain.items()
        }
        return cls(**(_LATER | made))

    def __str__(self) -> str:
        height, width = self.box
        filtered: str = self.resample
        if self.resampler == "cykooz":
            filtered += " by cykooz-resizer"
        parts = [f"{self.resize} {height} x {width}", filtered, self.mode]
        if self.resize == "bucket":
            count = len(self.shapes) or self.buckets
            parts[0] += f" in {count} {'shape' if count == 1 else 'shapes'}"
        if self.upscale:
            parts.append("upscale")
        if self.multiple_of > 1:
            parts.append(f"multiples of {self.multiple_of}")
        if any(self.background):  # type: ignore[arg-type]
            parts.append(f"background {self.background}")
        if self.value_range is not None:
            low, high = self.value_range
            parts.append(f"values from {low:g} to {high:g}")
        if self.frame:
            parts.append(f"frame {self.frame}")
        if self.icc == "ignore":
            parts.append("no ICC profiles")
        if self.truncated == "keep":
            parts.append("truncated ones kept")
        return ", ".join(parts)

    @property
    def fingerprint(self) -> str:
        """SHA-256 of the settings, hexadecimal: equal where recipes are equal."""
        text = json.dumps(self.to_json(), sort_keys=True, separators=(",", ":"))
        return hashlib.sha256(text.encode()).hexdigest()


CHOICES: dict[str, tuple[str, ...]] = {
    "resize": RESIZES,
    "resample": RESAMPLES,
    "resampler": tuple(RESAMPLERS),
    "mode": MODES,
    "icc": ICC,
    "truncated": TRUNCATED,
}
"""What each setting that is a word may be."""


def _one_of(name: str, value: object, allowed: tuple[str, ...]) -> None:
    if value not in allowed:
        raise SettingError(f"{name}={value!r} is not one of {', '.join(allowed)}")


def _edge(name: str, value: object) -> int:
    if isinstance(value, bool) or not isinstance(value, (int, np.integer)):
        raise SettingError(f"{name}={value!r} is not a whole number of pixels")
    if not 1 <= value <= LARGEST_EDGE:
        raise SettingError(f"{name}={value!r} is not between 1 and {LARGEST_EDGE} pixels")
    return int(value)


def _size(value: object) -> Size:
    if isinstance(value, (tuple, list)):
        if len(value) != len(Size._fields):
            raise SettingError(f"size={value!r} is neither one edge nor a (height, width) pair")
        return Size(*(_edge("size", edge) for edge in value))
    edge = _edge("size", value)
    return Size(edge, edge)


def _upscale(value: object, resize: str) -> bool | None:
    if value not in (None, True, False):
        raise SettingError(f"upscale={value!r} is none of True, False and None")
    if resize in ("contain", "pad"):
        return bool(value)
    if value is False:
        raise SettingError(
            f'upscale=False goes with "contain" and "pad"; "{resize}" always reaches the box'
        )
    return None


def _plain(value: Any) -> Any:
    """Return tuples, and those in them, as lists."""
    return [_plain(one) for one in value] if isinstance(value, tuple) else value


def _buckets(recipe: Recipe) -> int | tuple[Size, ...] | None:
    """Return how many shapes, at most as many as there can be; or the shapes, each once, in order.

    Of what makes the same pixels one form is made: a tuple from flat to high ones.
    """
    value: Any = recipe.buckets
    if recipe.resize != "bucket":
        if value is not None:
            raise SettingError(
                f'buckets={value!r} goes with resize="bucket", and "{recipe.resize}" was asked for'
            )
        return None
    possible = sum(1 for _ in snug_shapes(recipe.box, recipe.multiple_of))
    if not possible:
        raise SettingError(
            f"multiple_of={recipe.multiple_of} leaves no shape of at most"
            f" size={tuple(recipe.box)}, {recipe.box.height * recipe.box.width:,} pixels"
        )
    if value is None:
        return min(_BUCKETS, possible)
    if isinstance(value, (tuple, list)) and value:
        if len(value) > _MOST_BUCKETS:
            raise SettingError(f"buckets has {len(value):,} shapes, more than {_MOST_BUCKETS}")
        return tuple(sorted({_bucket(one, recipe) for one in value}))
    if isinstance(value, bool) or not isinstance(value, (int, np.integer)) or value < 1:
        raise SettingError(
            f"buckets={value!r} is neither a number of shapes from 1 up nor (height, width) pairs"
        )
    return min(int(value), possible, _MOST_BUCKETS)


def _bucket(value: object, recipe: Recipe) -> Size:
    if not isinstance(value, (tuple, list)) or len(value) != len(Size._fields):
        raise SettingError(f"buckets has {value!r}, which is no (height, width) pair")
    shape = Size(*(_edge("buckets", edge) for edge in value))
    if shape.height * shape.width > recipe.box.height * recipe.box.width:
        raise SettingError(
            f"buckets has {tuple(shape)}, which has more pixels than size={tuple(recipe.box)}:"
            " raise size"
        )
    if shape.height % recipe.multiple_of or shape.width % recipe.multiple_of:
        raise SettingError(
            f"buckets has {tuple(shape)}, and multiple_of={recipe.multiple_of} was asked for, of"
            " which its edges are no multiples"
        )
    return shape


def _value_range(value: object) -> tuple[float, float] | None:
    if value is None:
        return None
    if (
        not isinstance(value, (tuple, list))
        or len(value) != 2  # noqa: PLR2004  # its ends
        or any(isinstance(v, bool) or not isinstance(v, (int, float, np.number)) for v in value)
        or not -math.inf < value[0] < value[1] < math.inf
    ):
        raise SettingError(
            f"value_range={value!r} is no pair of numbers (low, high), which become black and white"
        )
    try:
        return float(value[0]), float(value[1])
    except OverflowError as error:  # a whole number that no float can be
        raise SettingError("value_range has a number beyond those of floats") from error


def _frame(value: object) -> int:
    if isinstance(value, bool) or not isinstance(value, (int, np.integer)) or value < 0:
        raise SettingError(f"frame={value!r} is no number of a frame, from 0 up")
    return int(value)


def _background(value: object, mode: Mode) -> tuple[int, ...]:
    channels = _CHANNELS[mode]
    brightest = 65_535 if mode == "I;16" else 255
    if isinstance(value, str):
        # Pillow takes rgb(300, 0, 0) as it stands: the numbers are looked at below.
        value = _named_colour(value, mode)
    if isinstance(value, (int, np.integer)) and not isinstance(value, bool):
        # One number is that grey; and where there is alpha, black means nothing at all.
        grey = int(value)
        value = (grey,) * channels if mode != "RGBA" or not grey else (grey, grey, grey, 255)
    if (
        not isinstance(value, (tuple, list))
        or len(value) != channels
        or not all(
            isinstance(v, (int, np.integer)) and not isinstance(v, bool) and 0 <= v <= brightest
            for v in value
        )
    ):
        raise SettingError(
            f"background={value!r} is neither a colour's name nor {channels} numbers from 0 to"
            f" {brightest}, as mode {mode} needs"
        )
    return tuple(int(v) for v in value)


def _named_colour(name: str, mode: Mode) -> tuple[int, ...]:
    if mode == "P":
        raise SettingError(
            f'background={name!r} is a colour, and mode="P" has numbers: say which is background'
        )
    # Imported here because names are rare and opening a cache must not load Pillow.
    from PIL import ImageColor  # noqa: PLC0415

    try:
        colour = ImageColor.getcolor(name, "L" if mode == "I;16" else mode)
    except ValueError as error:
        raise SettingError(
            f"background={name!r} is no colour that Pillow knows: say a name like white,"
            " #rrggbb, or a number per channel"
        ) from error
    if mode == "I;16":
        return (int(colour) * 257,)  # type: ignore[arg-type]  # 255 becomes 65535
    return colour if isinstance(colour, tuple) else (colour,)
