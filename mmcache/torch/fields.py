"""What an item and a batch have: images, labels and what else is asked for, as tensors."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal, TypedDict, get_args

import torch

from mmcache.errors import SettingError
from mmcache.torch.tensors import channels_first, over, together

if TYPE_CHECKING:
    from mmcache.batches import Batch
    from mmcache.cache import Cache
    from mmcache.recipe import Resample, Resampler
    from mmcache.shaping import Crop, Pad, Position

__all__ = ["Field", "Fields", "ShapingSettings", "check_fields", "item_of", "tensors", "values_of"]

Field = Literal["image", "label", "row", "key", "size", "origin", "mask", "window", "flipped"]
Fields = Field | tuple[Field, ...]
"""One name for the thing itself, or several for a tuple."""


class ShapingSettings(TypedDict, total=False):
    """The settings of :meth:`mmcache.Cache.batch` that say how pictures become a batch."""

    pad: Pad
    crop: Crop
    position: Position
    flip: bool | float
    size: int | tuple[int, int] | None
    scale: tuple[float, float]
    ratio: tuple[float, float]
    resample: Resample
    resampler: Resampler
    centering: tuple[float, float]
    background: int | tuple[int, ...] | None


def check_fields(
    fields: Fields | list[Field] | None, cache: Cache, *, cropped: bool = False
) -> Fields:
    """Return what is asked for; None is image and label, or the image alone without labels."""
    labelled = cache.files.frame.arrays.keys() >= {"labels"}
    if fields is None:
        return ("image", "label") if labelled else "image"
    names = (fields,) if isinstance(fields, str) else tuple(fields)
    known = get_args(Field)
    for name in names:
        if name not in known:
            raise SettingError(
                f"fields={fields!r} has {name!r}, which is not of {', '.join(known)}"
            )
    if "label" in names and not labelled:
        raise SettingError(f"fields={fields!r} was asked for, and {cache.path} has no labels")
    if "window" in names and not cropped:
        raise SettingError(f"fields={fields!r} was asked for, and without crop there is no window")
    return fields if isinstance(fields, str) else names


def values_of(fields: Fields) -> tuple[Field, ...]:
    """Return the names as a tuple."""
    return (fields,) if isinstance(fields, str) else fields


def tensors(batch: Batch, fields: Fields) -> list[Any]:
    """Return these fields of a batch, in memory that nothing else uses."""
    return [_tensor(batch, name) for name in values_of(fields)]


def _tensor(batch: Batch, name: Field) -> Any:
    if name == "image":
        images = batch.images
        return together(images) if isinstance(images, list) else channels_first(over(images))
    if name == "key":
        return list(batch.keys)
    value = getattr(batch, name if name in {"mask", "flipped"} else f"{name}s")
    if value is None:  # flipped, where none is
        return torch.zeros(len(batch), dtype=torch.bool)
    # Copies, which are small: what lies there may be somebody else's, as an epoch's order is.
    return over(value) if name == "mask" else torch.tensor(value)


def item_of(values: list[Any], fields: Fields, place: int) -> Any:
    """Return what one picture of a batch has, as torch's own collate takes it."""
    item = tuple(
        _plain(value[place], name) for value, name in zip(values, values_of(fields), strict=True)
    )
    return item[0] if isinstance(fields, str) else item


def _plain(value: Any, name: Field) -> Any:
    """Return a number as Python's own, as torch's datasets do."""
    if name in {"label", "row", "flipped"} and isinstance(value, torch.Tensor):
        return value.item()
    return value
