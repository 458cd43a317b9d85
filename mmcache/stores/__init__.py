"""The door to the disk: frames round the payload."""

from __future__ import annotations

import importlib
import os
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from mmcache.errors import SettingError

if TYPE_CHECKING:
    from mmcache.stores.contract import Store

__all__ = ["ENDINGS", "STORES", "Made", "store_for"]


class Made(NamedTuple):
    """Where a format is implemented, and what people call it."""

    module: str
    name: str
    title: str


STORES = {
    "npy": Made("mmcache.stores.npy", "NpyStore", "npy directory"),
    "hdf5": Made("mmcache.stores.hdf5", "Hdf5Store", "HDF5 file"),
    "zarr": Made("mmcache.stores.zarr", "ZarrStore", "Zarr group"),
}
"""Every format, by the name that ``store=`` takes; imported when it is used."""

ENDINGS = {".mmc": "npy", ".h5": "hdf5", ".hdf5": "hdf5", ".zarr": "zarr"}
"""Which format a path's ending chooses."""


def store_for(path: str | os.PathLike[str], name: str | None = None) -> Store:
    """Return the format that *name* says, or else that the ending of *path* chooses.

    Raises
    ------
    SettingError
        Where neither names a format.
    """
    if name is None:
        ending = Path(path).suffix.lower()
        if ending not in ENDINGS:
            known = ", ".join(f"{end} ({STORES[name].title})" for end, name in ENDINGS.items())
            raise SettingError(
                f'no format for "{os.fspath(path)}": end the path in one of {known}, or pass store='
            )
        name = ENDINGS[ending]
    if name not in STORES:
        raise SettingError(f"store={name!r} is not one of {', '.join(STORES)}")
    made = STORES[name]
    store: Store = getattr(importlib.import_module(made.module), made.name)()
    return store
