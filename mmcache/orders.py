"""Orders of epochs: which rows come when, and which of them are whose."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from mmcache.chances import check_seed, permuted
from mmcache.errors import SettingError
from mmcache.settings import whole_number

if TYPE_CHECKING:
    from collections.abc import Iterable

    from numpy.typing import NDArray

    from mmcache.batches import Rows

__all__ = ["Order", "Remainder", "Shuffle", "mixture", "share"]

Shuffle = bool | Literal["blocks"]
Remainder = Literal["drop", "keep"]

_BLOCKS, _WITHIN = 2, 3  # what random numbers are for; see chances
MIXED = 64  # blocks that are mixed with each other by default


@dataclass(frozen=True, kw_only=True)
class Order:
    """Orders of *length* rows, one for each epoch: the same for the same seed.

    Attributes
    ----------
    length : int
    shuffle : bool or "blocks"
        In order; in an order in which every row is equally likely at every place; or by blocks of
        *block* neighbouring rows: the blocks are shuffled, and *mixed* of them at a time are
        mixed row by row, so that a disk reads block after block.
    seed : int
    block : int
        Rows of a block.
    mixed : int
        Blocks that are mixed with each other.
    """

    length: int
    shuffle: Shuffle = False
    seed: int = 0
    block: int = 1
    mixed: int = MIXED

    def __post_init__(self) -> None:
        if self.shuffle not in (False, True, "blocks"):
            raise SettingError(f'shuffle={self.shuffle!r} is none of True, False and "blocks"')
        check_seed("seed", self.seed)
        for name in ("block", "mixed"):
            whole_number(name, getattr(self, name), 1)

    def rows(self, epoch: int) -> Rows:
        """Return the rows in the order of this epoch: a range, or int64 (length,)."""
        if self.shuffle is False:
            return range(self.length)
        if self.shuffle is True:
            return permuted(self.length, self.seed, epoch)
        group = self._groups(epoch)
        within = permuted(self.length, self.seed, epoch, _WITHIN)
        # Stable: rows of a group stay in their random order.
        order: NDArray[np.int64] = within[np.argsort(group[within], kind="stable")]
        return order

    def group_ends(self, epoch: int) -> NDArray[np.int64]:
        """Return where in the epoch each group of mixed blocks ends: int64 (groups,)."""
        ends: NDArray[np.int64] = np.cumsum(np.bincount(self._groups(epoch)))
        return ends

    def _groups(self, epoch: int) -> NDArray[np.int64]:
        """Return the group that each row is mixed in: int64 (length,)."""
        blocks = -(-self.length // self.block)
        group = np.empty(blocks, np.int64)
        group[permuted(blocks, self.seed, epoch, _BLOCKS)] = np.arange(blocks) // self.mixed
        return np.repeat(group, self.block)[: self.length]


def share(count: int, rank: int, world_size: int, remainder: Remainder) -> range:
    """Return the places in an epoch, from 0 to ``count - 1``, that are those of *rank*.

    Ranks follow one another and do not overlap. With ``"drop"``, all have equally many, and the
    last ``count % world_size`` places are nobody's; with ``"keep"``, every place is somebody's, and
    some ranks have one more than others.
    """
    if remainder == "drop":
        each = count // world_size
        return range(rank * each, (rank + 1) * each)
    return range(rank * count // world_size, (rank + 1) * count // world_size)


def mixture(batches: Iterable[NDArray[Any]], length: int) -> float:
    """Return how well batches are mixed, from 0 to 1.

    A batch drawn at random from all rows has a mean row that varies from batch to batch with the
    variance of a single row divided by the batch's size. A batch of neighbours varies more: as much
    as one of fewer rows that were drawn at random. What is returned is the ratio of these two
    sizes: 1 as well mixed as a full shuffle, 1/n for n rows that all come from one place.
    """
    means, sizes = [], []
    for rows in batches:
        means.append(float(np.mean(rows)))
        sizes.append(len(rows))
    if len(means) < 2 or length < 2:  # noqa: PLR2004  # nothing varies
        return 1.0
    single = (length * length - 1) / 12
    seen = float(np.mean((np.array(means) - (length - 1) / 2) ** 2))
    expected = float(np.mean(single / np.array(sizes)))
    return min(1.0, expected / max(seen, 1e-12))
