"""A cache for Keras: batches of channels-last images and labels, for ``model.fit``.

>>> model.fit(mmcache.keras.Dataset(cache, 64), shuffle=False)  # doctest: +SKIP

Keras needs a backend, which ``KERAS_BACKEND`` chooses: torch, jax or tensorflow.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from mmcache.chances import check_seed, uniform
from mmcache.errors import MissingLibraryError, RowError
from mmcache.orders import Order
from mmcache.settings import whole_number
from mmcache.shaping import Shaping
from mmcache.stacking import stacked_edges

try:
    import keras
except ImportError as error:
    raise MissingLibraryError(
        f'mmcache.keras needs Keras 3, pip install "mmcache[keras]", and a backend of it, of which'
        f" KERAS_BACKEND tells the name: {error}"
    ) from error

if TYPE_CHECKING:
    from collections.abc import Callable

    from mmcache.batches import Batch, Rows
    from mmcache.cache import Cache

__all__ = ["Dataset"]


class Dataset(keras.utils.PyDataset):  # type: ignore[misc]  # Keras tells no types
    """Batches of a cache for ``fit``, ``evaluate`` and ``predict``.

    ``dataset[number]`` is ``(images, labels)``: a ``(n, height, width, channels)`` array of its own
    and int64 ``(n,)``; or the images alone, where the cache has no labels. Every row comes once an
    epoch; the last batch may have fewer. What comes when depends on seed and epoch alone, and is
    what :class:`mmcache.Loader` gives for them.

    Pass ``shuffle=False`` to ``fit``, which else shuffles the finished batches by a random number
    of its own, so that no second run sees them in the same order.

    Parameters
    ----------
    cache : Cache
        Or a narrower one.
    batch_size : int
        Pictures of a batch.
    shuffle : bool
        Whether every epoch has an order of its own. Pass False for ``predict`` and ``evaluate``.
    seed : int
        From 0 up; of the order, and of random crops and flips.
    transform : callable, optional
        Is given the :class:`~mmcache.batches.Batch` and returns what Keras is to get: ``inputs``,
        ``(inputs, targets)`` or ``(inputs, targets, sample_weights)``.
    threads : int, optional
        How many share the work on a batch, as for :meth:`mmcache.Cache.batch`.
    workers, use_multiprocessing, max_queue_size
        Of ``keras.utils.PyDataset``. One worker is as exact as said above, and enough: it copies as
        fast as memory, and *threads* share what is resampled. With more, Keras (3.15) begins its
        first epoch with batches that its workers had ready when it looked at the first to build the
        model, and each epoch ends so much earlier.
    **shaping
        ``pad``, ``crop``, ``position``, ``flip``, ``size``, ``scale``, ``ratio``, ``resample``,
        ``resampler``, ``centering``, ``background`` and ``mask``, as for
        :meth:`mmcache.Cache.batch`.

    Attributes
    ----------
    epoch : int
        Which order comes now: 0 at first, and one more whenever Keras ends an epoch, which it may
        also do before the first one.

    Raises
    ------
    ShapesDifferError
        (a ``ValueError``) where pictures differ in shape, and neither *pad* nor *crop* makes them
        agree.
    SettingError
        (a ``ValueError``) where a setting makes no sense.
    """

    def __init__(
        self,
        cache: Cache,
        batch_size: int,
        *,
        shuffle: bool = True,
        seed: int = 0,
        transform: Callable[[Batch], Any] | None = None,
        threads: int | None = None,
        workers: int = 1,
        use_multiprocessing: bool = False,
        max_queue_size: int = 10,
        **shaping: Any,
    ) -> None:
        super().__init__(
            workers=workers,
            use_multiprocessing=use_multiprocessing,
            max_queue_size=max_queue_size,
        )
        self.cache = cache
        self.batch_size = whole_number("batch_size", batch_size, 1)
        self._order = Order(length=len(cache), shuffle=bool(shuffle), seed=seed)
        self._transform = transform
        self._threads = threads
        self._shaping = Shaping(**shaping)
        stacked_edges(cache, self._shaping)
        self.set_epoch(0)

    def __len__(self) -> int:
        """Return the batches of an epoch."""
        return (len(self.cache) + self.batch_size - 1) // self.batch_size

    def __getitem__(self, number: int) -> Any:
        """Return batch *number* of this epoch."""
        if not 0 <= number < len(self):
            raise RowError(f"batch {number} was asked for, and there are {len(self)}")
        epoch, rows = self._now  # at once, for threads of Keras ask while an epoch ends
        first = number * self.batch_size
        places = np.asarray(rows[first : first + self.batch_size], np.int64)
        # As the loader draws them: of a place in an epoch, whatever comes beside it.
        draws = uniform(first, len(places), self._shaping.draws, self._order.seed, epoch=epoch)
        located = self.cache.located(places)
        batch = self.cache.gathered(places, self._shaping, draws, located, threads=self._threads)
        if self._transform is not None:
            return self._transform(batch)
        return batch.images if batch.labels is None else (batch.images, batch.labels)

    @property
    def epoch(self) -> int:
        """Which order comes now."""
        return self._now[0]

    def set_epoch(self, epoch: int) -> None:
        """Make the order of *epoch* the one that comes now."""
        epoch = check_seed("epoch", epoch)
        self._now: tuple[int, Rows] = epoch, self._order.rows(epoch)

    def on_epoch_end(self) -> None:
        """Go on to the order of the next epoch; called by Keras."""
        # Not at an epoch's beginning: by then, the workers of Keras are at work.
        self.set_epoch(self.epoch + 1)

    def __getstate__(self) -> dict[str, Any]:
        # An order is made anew where it arrives, in less time than it would travel.
        return self.__dict__ | {"_now": self.epoch}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        self.set_epoch(state["_now"])
