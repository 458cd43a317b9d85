"""The door to the disk: frames round the payload."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

from mmcache.errors import SettingError
from mmcache.stores.npy import NpyStore

if TYPE_CHECKING:
    from mmcache.stores.contract import Store

__all__ = ["ENDINGS", "STORES", "store_for"]

STORES: dict[str, type[NpyStore]] = {"npy": NpyStore}
"""Every format, by the name that ``store=`` takes."""

ENDINGS = {".mmc": "npy"}
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
            known = " or ".join(f"{end} ({STORES[name].title})" for end, name in ENDINGS.items())
            raise SettingError(
                f'no format for "{os.fspath(path)}": end the path in {known}, or pass store='
            )
        name = ENDINGS[ending]
    if name not in STORES:
        raise SettingError(f"store={name!r} is not one of {', '.join(STORES)}")
    return STORES[name]()
