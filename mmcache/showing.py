"""A cache as a picture to look at."""

from __future__ import annotations

from typing import TYPE_CHECKING

from mmcache.records import printable
from mmcache.sheet import contact_sheet

if TYPE_CHECKING:
    from PIL import Image

    from mmcache.cache import Cache

__all__ = ["show"]


def show(cache: Cache, *, columns: int = 8, edge: int = 128, most: int = 96) -> Image.Image:
    """Return a contact sheet: thumbnails at true aspect with their keys and labels.

    Parameters
    ----------
    cache : Cache
        Narrow it to what is to be seen: ``mmcache.show(cache[100:124])``.
    columns : int
        Thumbnails in a row.
    edge : int
        The longest edge of a thumbnail in pixels.
    most : int
        How many are drawn at most: of more, as many evenly chosen ones.

    Returns
    -------
    PIL.Image.Image
        ``.save("sheet.png")`` keeps it; a notebook shows it.
    """
    step = max(1, -(-len(cache) // most))
    few = cache[::step]
    captions = [printable(key).rpartition("/")[2] for key in few.keys]
    if few.labels is not None:
        names = dict(enumerate(printable(name) for name in few.classes))
        captions = [
            f"{caption}\n{names.get(label, '-')}"
            for caption, label in zip(captions, few.labels.tolist(), strict=True)
        ]
    return contact_sheet(few, captions, columns=columns, edge=edge)
