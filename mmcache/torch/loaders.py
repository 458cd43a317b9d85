"""Batches as tensors: from threads of this process, or from torch's worker processes."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch

from mmcache import loading
from mmcache.torch.datasets import Dataset, collate, drawn_seed
from mmcache.torch.fields import ShapingSettings, check_fields, tensors, values_of
from mmcache.torch.samplers import BatchSampler
from mmcache.torch.tensors import page_locked

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from typing import Unpack

    from mmcache.batches import Batch
    from mmcache.bucketing import Buckets
    from mmcache.cache import Cache
    from mmcache.orders import Remainder, Shuffle
    from mmcache.torch.fields import Fields

__all__ = ["Loader", "dataloader"]


class OrderSettings(ShapingSettings, total=False):
    """The settings of :class:`mmcache.Loader` that say what comes when, and how it is gathered."""

    shuffle: Shuffle
    seed: int
    drop_last: bool
    prefetch: int
    threads: int | None
    rank: int
    world_size: int
    remainder: Remainder | None
    buckets: Buckets | None
    block: int | None
    mixed: int


class Loader:
    """The batches of a :class:`mmcache.Loader` as tensors, without another copy.

    ``for images, labels in loader`` is an epoch: ``(n, C, H, W)``, or a list of ``(C, H, W)`` where
    shapes differ, and int64 ``(n,)``; the images alone where the cache has no labels. Threads of
    this process gather the next batches meanwhile: nothing is sent between processes.

    A batch that you keep stays what it was, and may be written to.

    Parameters
    ----------
    cache, batch_size
        As for :class:`mmcache.Loader`.
    device : torch.device or str, optional
        Where to move each batch; the copy is under way when the batch is handed out.
    pin_memory : bool, optional
        Whether to gather into page-locked memory, from which a GPU copies by itself. By default
        where there is a CUDA device, and *device* is not another one; True is the same.
    fields : str or tuple of str, optional
        What a batch has: see :class:`mmcache.torch.Dataset`.
    batch_transform : callable, optional
        Called on the images of each batch, on the device: :class:`mmcache.torch.Normalize`, for
        instance.
    **settings
        The others of :class:`mmcache.Loader`; a mask comes with ``"mask"`` in *fields*.

    Raises
    ------
    SettingError
        (a ``ValueError``) where a setting makes no sense, or a field is not there.
    """

    def __init__(
        self,
        cache: Cache,
        batch_size: int,
        *,
        device: torch.device | str | None = None,
        pin_memory: bool | None = None,
        fields: Fields | None = None,
        batch_transform: Callable[[Any], Any] | None = None,
        **settings: Unpack[OrderSettings],
    ) -> None:
        self.device = None if device is None else torch.device(device)
        self.fields = check_fields(fields, cache, cropped=settings.get("crop") is not None)
        self.batch_transform = batch_transform
        self.is_pinned = _can_pin(self.device) if pin_memory in {None, True} else False
        self._loader = loading.Loader(
            cache,
            batch_size,
            allocate=page_locked if self.is_pinned else None,
            mask="mask" in values_of(self.fields),
            **settings,
        )

    def __iter__(self) -> Iterator[Any]:
        """Begin the next epoch, or go on where a loaded state says."""
        # Not a generator, which would hold on to a batch while the next one is gathered.
        return map(self._handed_out, iter(self._loader))

    def _handed_out(self, batch: Batch) -> Any:
        values = [self._moved(value) for value in tensors(batch, self.fields)]
        if self.batch_transform is not None and "image" in values_of(self.fields):
            place = values_of(self.fields).index("image")
            values[place] = self.batch_transform(values[place])
        return values[0] if isinstance(self.fields, str) else tuple(values)

    def _moved(self, value: Any) -> Any:
        if self.device is None or not hasattr(value, "to"):  # keys
            return value
        return value.to(self.device, non_blocking=True)

    def __len__(self) -> int:
        """Return the batches of an epoch of this rank."""
        return len(self._loader)

    def __repr__(self) -> str:
        return f"{self._loader!r}, as tensors{'' if self.device is None else f' on {self.device}'}"

    @property
    def cache(self) -> Cache:
        """The cache that batches are of."""
        return self._loader.cache

    @property
    def epoch(self) -> int:
        """The epoch that is under way, or comes first."""
        return self._loader.epoch

    @property
    def quality(self) -> float:
        """How well batches are mixed, from 0 to 1: see :attr:`mmcache.Loader.quality`."""
        return self._loader.quality

    def set_epoch(self, epoch: int) -> None:
        """Make *epoch* the next one to be iterated over."""
        self._loader.set_epoch(epoch)

    def state_dict(self) -> dict[str, Any]:
        """Return where the loader is, as plain data: the batch that was given out last is done."""
        return self._loader.state_dict()

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on where :meth:`state_dict` was called: the next batch begins with the next row."""
        self._loader.load_state_dict(state)


def _can_pin(device: torch.device | None) -> bool:
    return torch.cuda.is_available() and (device is None or device.type == "cuda")


class DatasetSettings(ShapingSettings, total=False):
    """The settings of :class:`mmcache.torch.Dataset`."""

    transform: Callable[[torch.Tensor], Any] | None
    target_transform: Callable[[int], Any] | None
    batch_transform: Callable[[Any], Any] | None
    fields: Fields | None


class WorkerSettings(DatasetSettings, total=False):
    """Those, and the ones of torch's ``DataLoader`` that concern its workers."""

    num_workers: int
    pin_memory: bool
    persistent_workers: bool
    prefetch_factor: int | None
    multiprocessing_context: Any
    timeout: float
    worker_init_fn: Callable[[int], None] | None


def dataloader(
    cache: Cache,
    batch_size: int,
    *,
    shuffle: Shuffle = False,
    seed: int | None = None,
    drop_last: bool = False,
    rank: int = 0,
    world_size: int = 1,
    remainder: Remainder | None = None,
    buckets: Buckets | None = None,
    kind: type[torch.utils.data.DataLoader] = torch.utils.data.DataLoader,
    **settings: Unpack[WorkerSettings],
) -> torch.utils.data.DataLoader:
    """Return torch's ``DataLoader`` over a cache, set up so that a batch is gathered at once.

    It is for transforms in Python that need processes of their own; without such,
    :class:`mmcache.torch.Loader` is several times as fast. For the same seed both give the same
    batches, crops and flips, whatever the number of workers.

    Parameters
    ----------
    cache, batch_size, shuffle, drop_last, rank, world_size, remainder, buckets
        As for :class:`mmcache.Loader`. ``loader.batch_sampler.set_epoch`` chooses the epoch.
    seed : int, optional
        Of the order, and of random crops and flips; by default drawn from torch's generator, so
        that ``torch.manual_seed`` makes it the same again.
    kind : type
        torch's ``DataLoader``, or one with its arguments: torchdata's ``StatefulDataLoader``
        resumes in the middle of an epoch.
    **settings
        Of :class:`mmcache.torch.Dataset`, and ``num_workers``, ``pin_memory`` (by default where
        there is a CUDA device), ``persistent_workers`` (by default where there are workers),
        ``prefetch_factor``, ``multiprocessing_context``, ``timeout`` and ``worker_init_fn`` of
        torch's.

    Raises
    ------
    SettingError
        (a ``ValueError``) where a setting makes no sense.
    """
    ours = {name: settings.pop(name) for name in _DATASET if name in settings}  # type: ignore[misc]
    settings.setdefault("pin_memory", _can_pin(None))
    settings.setdefault("persistent_workers", settings.get("num_workers", 0) > 0)
    sampler = BatchSampler(
        cache, batch_size, shuffle=shuffle, seed=drawn_seed() if seed is None else seed,
        drop_last=drop_last, rank=rank, world_size=world_size, remainder=remainder, buckets=buckets,
    )  # fmt: skip
    return kind(Dataset(cache, **ours), batch_sampler=sampler, collate_fn=collate, **settings)


_DATASET = tuple(DatasetSettings.__annotations__)
