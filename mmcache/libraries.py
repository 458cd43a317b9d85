"""The libraries on which pixels depend, and their versions here."""

from __future__ import annotations

import contextlib
import functools
from importlib import metadata
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable

    from mmcache.recipe import Recipe

__all__ = ["libraries", "merged"]


# What has a hand in pixels where a recipe's resampler is cykooz, if it is installed.
_FAST = ("cykooz-resizer", "simplejpeg")


def libraries(recipe: Recipe) -> dict[str, str]:
    """Return the versions on which the pixels of *recipe* depend here, by name.

    They are Pillow's, those of its decoders, and those of what takes its place.
    """
    # Imported here so that importing this module does not load Pillow.
    import PIL  # noqa: PLC0415
    from PIL import features  # noqa: PLC0415

    versions = {"pillow": PIL.__version__}
    for part in ("libjpeg_turbo", "zlib", "webp", "libtiff", "avif"):
        version = features.version(part)
        if version:
            versions[part] = str(version)
    if recipe.resampler == "cykooz":
        versions |= _fast_versions()
    return versions


@functools.cache
def _fast_versions() -> dict[str, str]:
    versions = {}
    for part in _FAST:
        with contextlib.suppress(metadata.PackageNotFoundError):
            versions[part] = metadata.version(part)
    return versions


def merged(makers: Iterable[dict[str, str]]) -> dict[str, str]:
    """Return the versions of several makers as one: where they differ, all of them.

    >>> merged([{"pillow": "12.0.0"}, {"pillow": "12.1.0", "avif": "1.3.0"}])
    {'avif': '1.3.0', 'pillow': '12.0.0, 12.1.0'}
    """
    versions: dict[str, set[str]] = {}
    for maker in makers:
        for name, told in maker.items():
            versions.setdefault(name, set()).update(told.split(", "))
    return {name: ", ".join(sorted(told)) for name, told in sorted(versions.items())}
