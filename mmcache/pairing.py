"""Pictures that go with those of a cache: where they come from, and the recipe that places them."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING

import numpy as np

from mmcache.cache import Cache, open_cache
from mmcache.errors import SettingError
from mmcache.recipe import Recipe
from mmcache.sources import Partners, Source

if TYPE_CHECKING:
    import os

__all__ = ["going_with"]

_GEOMETRY = ("size", "resize", "upscale", "multiple_of", "buckets")


def going_with(
    source: Source, recipe: Recipe, like: Cache | str | os.PathLike[str]
) -> tuple[Partners, Recipe]:
    """Return the partners of *like*'s pictures in *source*, and the recipe that places them.

    Raises
    ------
    SettingError
        Where *recipe* asks for a geometry that is neither the usual one nor that of *like*.
    CacheNotFoundError
        Where *like* is a path at which there is no cache.
    """
    cache = like if isinstance(like, Cache) else open_cache(like)
    usual = Recipe()
    for name in _GEOMETRY:
        asked, has = getattr(recipe, name), getattr(cache.recipe, name)
        agrees = [has, getattr(usual, name)]
        if name == "buckets":  # a count agrees with as many shapes, and is not asked for by itself
            agrees += [len(cache.recipe.shapes), dataclasses.replace(recipe, buckets=None).buckets]
        if asked not in agrees:
            raise SettingError(
                f"{name}={asked!r} was asked for, and the pictures of {cache.path}, which these go"
                f" with, have {name}={has!r}: leave it out"
            )
    placed = {name: getattr(cache.recipe, name) for name in _GEOMETRY}
    columns = cache.columns
    partners = Partners(
        source,
        cache.keys,
        np.column_stack([columns["height"], columns["width"]]),
        cache.labels,
        cache.classes,
    )
    return partners, dataclasses.replace(recipe, **placed)
