"""The last thing written: the arrays round the payload, their digests, and the frame."""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from mmcache.records import COLUMNS, HEIGHT
from mmcache.stores.digests import content_digest, file_frames
from mmcache.stores.frame import ArrayFrame, Frame

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

    from numpy.typing import NDArray

    from mmcache.recipe import Recipe
    from mmcache.records import Failures, Strings
    from mmcache.stores.contract import Store
    from mmcache.stores.frame import Segment

__all__ = ["Payload", "index_arrays", "write_index"]


class Payload(NamedTuple):
    """What was filled: the recipe, the shape of ``pixels``, a slab's elements, where it lies."""

    recipe: Recipe
    shape: tuple[int, ...]
    slab: int
    segments: list[Segment]


def index_arrays(
    *,
    records: NDArray[np.int64],
    checksums: NDArray[np.uint32],
    keys: Strings,
    key_order: NDArray[np.int64] | None,
    labels: NDArray[np.int64] | None,
    columns: dict[str, NDArray[Any]],
    failures: Failures,
) -> dict[str, NDArray[Any]]:
    """Return every array of a cache but ``pixels``, in the order and dtypes that a cache has."""
    packed, failed, reasons = keys.packed(), failures.keys.packed(), failures.reasons.packed()
    arrays: dict[str, NDArray[Any] | None] = {
        "records": records,
        "checksums": checksums,
        "keys": packed.blob,
        "key_offsets": packed.offsets,
        "key_order": key_order,
        "labels": labels,
        **{name: columns[name].astype(dtype, copy=False) for name, dtype in COLUMNS.items()},
        "failure_keys": failed.blob,
        "failure_key_offsets": failed.offsets,
        "failure_stages": failures.stages,
        "failure_reasons": reasons.blob,
        "failure_reason_offsets": reasons.offsets,
        "failure_sizes": failures.sizes,
    }
    return {
        name: np.ascontiguousarray(one, one.dtype.newbyteorder("<"))
        for name, one in arrays.items()
        if one is not None
    }


def write_index(
    store: Store,
    path: Path,
    payload: Payload,
    arrays: dict[str, NDArray[Any]],
    *,
    classes: Iterable[str],
    libraries: dict[str, str],
) -> None:
    """Write every array but ``pixels`` and, when all is on disk, the frame."""
    recipe = payload.recipe
    segments = store.write_arrays(path, arrays)
    frames = {
        name: ArrayFrame(
            dtype=array.dtype.str,
            shape=array.shape,
            segments=tuple(segments[name]),
            sha256=hashlib.sha256(array.data).hexdigest(),
        )
        for name, array in arrays.items()
    }
    frames["pixels"] = ArrayFrame(recipe.dtype.str, payload.shape, tuple(payload.segments))
    records = arrays["records"]
    elements = int(np.prod(records[:, HEIGHT:], axis=1).sum())
    names = tuple(classes)
    frame = Frame(
        store=store.name,
        recipe=recipe.to_json(),
        libraries=libraries,
        counts={
            "rows": len(records),
            "failures": len(arrays["failure_stages"]),
            "pixel_bytes": elements * recipe.dtype.itemsize,
        },
        classes=names,
        slab=payload.slab,
        arrays=frames,
        files=file_frames(path, frames, records),
        content=content_digest(recipe.fingerprint, names, frames),
    )
    store.write_frame(path, frame)
