"""Near duplicates of a cache: which pictures look alike, and which of them could go."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from mmcache.cache import Cache, cache_at
from mmcache.errors import SettingError
from mmcache.facts import MOST_LINES, Facts, counted
from mmcache.likeness import difference_hashes, near_duplicates
from mmcache.progress import Progress, progress_of
from mmcache.records import printable
from mmcache.settings import whole_number
from mmcache.sheet import captions_of, overview
from mmcache.sweeping import pictures_of, swept

if TYPE_CHECKING:
    import os
    from collections.abc import Iterator

    from numpy.typing import NDArray

    from mmcache.gathering import Located

__all__ = ["Duplicates", "duplicates", "grouped", "hashed"]

_FARTHEST = 16  # bits: what differs in more is no more alike than any two pictures
_NAMED = 3
_GROUPS_DRAWN, _DRAWN = 6, 8


@dataclass(frozen=True, eq=False, repr=False)
class Duplicates:
    """Pictures that look alike, in groups; it prints well, in notebooks too.

    ``len`` is the number of groups, and ``cache[duplicates.groups[0]]`` are the pictures of the
    largest.

    Attributes
    ----------
    cache : Cache
        That was looked at.
    groups : list of int64 arrays
        The rows in ``cache`` of each group: the largest group first, and in each that picture first
        whose source has the most pixels.
    distance : int
        In how many of 64 bits two hashes may differ.
    hashes : uint64 (n,)
        Of all pictures of the cache, see :mod:`mmcache.likeness`.
    """

    cache: Cache
    groups: list[NDArray[np.int64]]
    distance: int
    hashes: NDArray[np.uint64]

    def __len__(self) -> int:
        return len(self.groups)

    @property
    def extra(self) -> NDArray[np.int64]:
        """All rows of groups but the first of each, ascending: int64 ``(m,)``.

        ``cache[np.delete(np.arange(len(cache)), duplicates.extra)]`` has one of each group.
        """
        return np.sort(np.concatenate([np.empty(0, np.int64), *(one[1:] for one in self.groups)]))

    def to_json(self) -> dict[str, Any]:
        """Return the groups as plain data, with rows and keys."""
        keys = self.cache.keys
        return {
            "distance": self.distance,
            "pictures": len(self.cache),
            "groups": [
                {"rows": rows, "keys": [printable(keys.raw(row)) for row in rows]}
                for rows in (group.tolist() for group in self.groups)
            ],
        }

    def _facts(self) -> Facts:
        pictures = sum(len(group) for group in self.groups)
        what = f"{counted(pictures, 'picture')} of {len(self.cache):,} in"
        return Facts(
            f"Near duplicates: {what} {counted(len(self), 'group')}",
            [("distance", f"{self.distance} of 64 bits"), ("extra", f"{len(self.extra):,}")],
            lines=list(self._lines()),
            count=len(self),
            more=" in groups",
        )

    def _lines(self) -> Iterator[str]:
        keys = self.cache.keys
        for group in self.groups[:MOST_LINES]:
            names = ", ".join(printable(keys.raw(row)) for row in group[:_NAMED].tolist())
            yield names + (f", and {len(group) - _NAMED:,} more" if len(group) > _NAMED else "")

    def __repr__(self) -> str:
        return self._facts().to_text()

    def _repr_html_(self) -> str:
        drawn = "".join(self._drawn(group) for group in self.groups[:_GROUPS_DRAWN])
        return self._facts().to_html() + drawn

    def _drawn(self, group: NDArray[np.int64]) -> str:
        few = self.cache[group[:_DRAWN]]
        return f"<div>{overview(few, captions_of(few.keys), masks=few.recipe.mode == 'P')}</div>"


def duplicates(
    cache: Cache | str | os.PathLike[str],
    *,
    distance: int = 4,
    workers: int | None = None,
    progress: bool | Progress = True,
) -> Duplicates:
    """Return the pictures of *cache* that look alike: copies, other sizes, other compression.

    Each picture has a hash of 64 bits (see :mod:`mmcache.likeness`), and two whose hashes differ in
    at most *distance* bits are in one group. It is a hint, and no proof: look at the groups before
    anything is thrown away. Mirrored, turned and cut pictures are not found. One without detail, of
    which the hash tells nothing, is in a group with those alone that are the same pixel by pixel.

    Parameters
    ----------
    cache : Cache or path
        Or a narrower one: rows are then its own.
    distance : int
        From 0, the same hash, to 16. Few pictures that differ are within 4 of each other, and many
        within 10.
    workers : int, optional
        Threads that read; by default one a core.
    progress : bool or callable
        As for :func:`mmcache.build`.

    Returns
    -------
    Duplicates
        ``groups`` are the rows of each group, and ``extra`` those that could go.

    Raises
    ------
    SettingError
        (a ``ValueError``) where a setting makes no sense.
    SelectionError
        (a ``TypeError``) where there is no picture.
    DamagedCacheError
        (a ``ValueError``) where a row's place in the file makes no sense, or the file is cut.
    """
    if whole_number("distance", distance, 0) > _FARTHEST:
        raise SettingError(
            f"distance={distance} was asked for, and hashes of 64 bits that differ in more than"
            f" {_FARTHEST} tell of no likeness: say less"
        )
    pictures = cache_at(cache)
    hashes = np.empty(len(pictures), np.uint64)
    with progress_of(progress, "hashing") as show:
        for places, found in swept(pictures, hashed, workers=workers, show=show):
            hashes[places] = found
    return grouped(pictures, hashes, distance)


def hashed(located: Located) -> NDArray[np.uint64]:
    """Return the hashes of these records, padding left out: uint64 (n,)."""
    return difference_hashes(pictures_of(located))


def grouped(cache: Cache, hashes: NDArray[np.uint64], distance: int) -> Duplicates:
    """Return which pictures of *cache* these hashes say to look alike."""
    pixels = cache.columns["height"].astype(np.int64) * cache.columns["width"]
    groups = [
        group[np.argsort(-pixels[group], kind="stable")]
        for group in near_duplicates(hashes, distance, same=_sames(cache))
    ]
    hashes.flags.writeable = False
    return Duplicates(cache, groups, distance, hashes)


def _sames(cache: Cache) -> NDArray[np.int64]:
    """Return numbers that are equal where shape and checksum are: int64 (n,)."""
    shapes = cache.shapes
    # Edges are below 2**16, and a checksum below 2**32.
    told = (shapes[:, 0] << 48) | (shapes[:, 1] << 32) | cache.checksums
    numbers: NDArray[np.int64] = np.unique(told, return_inverse=True)[1].reshape(-1)
    return numbers
