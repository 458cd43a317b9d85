"""Pictures of every size, resized once into a memory-mapped cache, sliced from disk for training.

>>> import mmcache
>>> cache = mmcache.build("photos/", "photos.mmc", size=256)  # doctest: +SKIP
>>> cache[17].shape  # doctest: +SKIP
(192, 256, 3)
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from mmcache.batches import Batch
    from mmcache.browsing import browse
    from mmcache.bucketing import Buckets, buckets
    from mmcache.cache import Cache
    from mmcache.cache import open_cache as open  # noqa: A004  # mmcache.open is its name
    from mmcache.comparing import Comparison, compare
    from mmcache.copying import convert, export
    from mmcache.errors import (
        BusyError,
        CacheNotFoundError,
        DamagedCacheError,
        DestinationError,
        DifferentCacheError,
        MissingLibraryError,
        MmcacheError,
        NoSpaceError,
        PictureError,
        PicturesSkippedWarning,
        RowError,
        SelectionError,
        SettingError,
        ShapesDifferError,
        SmallBucketWarning,
        SourceError,
        SourceNotFoundError,
        TooManyFailuresError,
        TooManyFilesError,
        UnknownKeyError,
        WorkerError,
    )
    from mmcache.explaining import Explanation, explain
    from mmcache.geometry import Placement, Size
    from mmcache.images import apply
    from mmcache.ingest import build, discard, plan
    from mmcache.integrity import Report, repair, verify
    from mmcache.loading import Loader
    from mmcache.planning import Plan
    from mmcache.recipe import Recipe
    from mmcache.reporting import report
    from mmcache.showing import show
    from mmcache.sources import Folder, Paths, Source
    from mmcache.splitting import split
    from mmcache.statistics import Stats, stats
    from mmcache.twins import Duplicates, duplicates

__all__ = [
    "Batch",
    "Buckets",
    "BusyError",
    "Cache",
    "CacheNotFoundError",
    "Comparison",
    "DamagedCacheError",
    "DestinationError",
    "DifferentCacheError",
    "Duplicates",
    "Explanation",
    "Folder",
    "Loader",
    "MissingLibraryError",
    "MmcacheError",
    "NoSpaceError",
    "Paths",
    "PictureError",
    "PicturesSkippedWarning",
    "Placement",
    "Plan",
    "Recipe",
    "Report",
    "RowError",
    "SelectionError",
    "SettingError",
    "ShapesDifferError",
    "Size",
    "SmallBucketWarning",
    "Source",
    "SourceError",
    "SourceNotFoundError",
    "Stats",
    "TooManyFailuresError",
    "TooManyFilesError",
    "UnknownKeyError",
    "WorkerError",
    "apply",
    "browse",
    "buckets",
    "build",
    "compare",
    "convert",
    "discard",
    "duplicates",
    "explain",
    "export",
    "open",
    "plan",
    "repair",
    "report",
    "show",
    "split",
    "stats",
    "verify",
]

__version__ = "0.1.0"

# Loaded by name when asked for, so that `import mmcache` costs nothing.
_ELSEWHERE = {
    "Batch": "batches",
    "Buckets": "bucketing",
    "Cache": "cache",
    "Comparison": "comparing",
    "Duplicates": "twins",
    "Explanation": "explaining",
    "Folder": "sources",
    "Loader": "loading",
    "Paths": "sources",
    "Placement": "geometry",
    "Plan": "planning",
    "Recipe": "recipe",
    "Report": "integrity",
    "Size": "geometry",
    "Source": "sources",
    "Stats": "statistics",
    "apply": "images",
    "browse": "browsing",
    "buckets": "bucketing",
    "build": "ingest",
    "compare": "comparing",
    "convert": "copying",
    "discard": "ingest",
    "duplicates": "twins",
    "explain": "explaining",
    "export": "copying",
    "open": "cache",
    "plan": "ingest",
    "repair": "integrity",
    "report": "reporting",
    "show": "showing",
    "split": "splitting",
    "stats": "statistics",
    "verify": "integrity",
}


# Rooms of other libraries, which they import: what is asked for needs no import of its own.
_ROOMS = frozenset({"dask", "grain", "keras", "tensorflow", "testing", "torch", "xarray"})


def __getattr__(name: str) -> Any:
    if name in _ROOMS:
        return importlib.import_module(f"mmcache.{name}")
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    module = importlib.import_module(f"mmcache.{_ELSEWHERE.get(name, 'errors')}")
    # The function is named so that inside its module `open` is still Python's.
    value = getattr(module, "open_cache" if name == "open" else name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*__all__, *(name for name in globals() if name.startswith("__"))})
