"""Which rows come in which batch: the orders of :class:`mmcache.Loader`, for a ``DataLoader``."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch

from mmcache.chances import check_seed, uniform
from mmcache.loading import Loader
from mmcache.orders import MIXED

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    import numpy as np
    from numpy.typing import NDArray

    from mmcache.bucketing import Buckets
    from mmcache.cache import Cache
    from mmcache.geometry import Size
    from mmcache.orders import Remainder, Shuffle

__all__ = ["BatchSampler", "PlannedRows"]


class PlannedRows(list[int]):
    """The rows of a batch, and where in which epoch they come, which random numbers belong to.

    So a worker draws what any other would, however many there are.
    """

    def __init__(
        self, rows: Sequence[int], *, first: int, seed: int, epoch: int, edges: Size | None
    ) -> None:
        super().__init__(rows)
        self.first = first
        self.seed = seed
        self.epoch = epoch
        self.edges = edges

    def draws(self, each: int) -> NDArray[np.float64]:
        """Return *each* random numbers a row: float64 (n, each)."""
        return uniform(self.first, len(self), each, self.seed, epoch=self.epoch)


class BatchSampler(torch.utils.data.Sampler):  # type: ignore[misc]  # it may be missing
    """Batches of rows in the order of :class:`mmcache.Loader`: a ``DataLoader``'s batch_sampler.

    Each iteration is an epoch, one further than the one before. A :class:`mmcache.torch.Dataset`
    crops and flips these rows as the loader of the same seed does, whatever the number of workers.
    ``StatefulDataLoader`` of torchdata resumes it in the middle of an epoch.

    Parameters
    ----------
    cache, batch_size, shuffle, seed, drop_last, rank, world_size, remainder, buckets, block, mixed
        As for :class:`mmcache.Loader`.

    Attributes
    ----------
    epoch : int
        The epoch that is under way, or comes first.

    Raises
    ------
    SettingError
        (a ``ValueError``) where a setting makes no sense.
    """

    def __init__(
        self,
        cache: Cache,
        batch_size: int,
        *,
        shuffle: Shuffle = False,
        seed: int = 0,
        drop_last: bool = False,
        rank: int = 0,
        world_size: int = 1,
        remainder: Remainder | None = None,
        buckets: Buckets | None = None,
        block: int | None = None,
        mixed: int = MIXED,
    ) -> None:
        self._loader = Loader(
            cache, batch_size, shuffle=shuffle, seed=seed, drop_last=drop_last, prefetch=0,
            rank=rank, world_size=world_size, remainder=remainder, buckets=buckets, block=block,
            mixed=mixed,
        )  # fmt: skip
        self._seed = seed
        self.epoch = 0
        self._position = 0
        self._begun = False

    def __len__(self) -> int:
        return len(self._loader)

    def __iter__(self) -> Iterator[PlannedRows]:
        # A generator, which begins when it is first asked: a DataLoader makes some that it drops.
        if self._begun:
            self.epoch, self._position = self.epoch + 1, 0
        self._begun = True
        epoch = self.epoch
        for step in self._loader.steps(epoch, self._position):
            if self.epoch == epoch:
                self._position += len(step.places)
            yield PlannedRows(
                step.places.tolist(), first=step.first, seed=self._seed, epoch=epoch,
                edges=step.shaping.pad,
            )  # fmt: skip

    def set_epoch(self, epoch: int) -> None:
        """Make *epoch* the next one to be iterated over."""
        self.epoch, self._position = check_seed("epoch", epoch), 0
        self._begun = False

    def state_dict(self) -> dict[str, Any]:
        """Return where the sampler is, as plain data: the batch that it gave last is done."""
        return {**self._loader.state_dict(), "epoch": self.epoch, "position": self._position}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on where :meth:`state_dict` was called.

        Raises
        ------
        DifferentCacheError
            (a ``ValueError``) where the state is of another cache, or of another order.
        """
        self._loader.load_state_dict(state)
        here = self._loader.state_dict()
        self.epoch, self._position, self._begun = here["epoch"], here["position"], False
