"""A cache as a map-style ``Dataset``, which gathers a whole batch at once."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import fields as fields_of
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch.utils.data import default_collate, get_worker_info

from mmcache.batches import chosen
from mmcache.chances import uniform
from mmcache.loading import Ring
from mmcache.shaping import Shaping
from mmcache.torch.fields import check_fields, item_of, tensors, values_of
from mmcache.torch.samplers import PlannedRows
from mmcache.torch.tensors import channels_first, shared

if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Unpack

    from numpy.typing import NDArray

    from mmcache.batches import Batch
    from mmcache.cache import Cache
    from mmcache.torch.fields import Fields, ShapingSettings

__all__ = ["Dataset", "collate", "drawn_seed"]

_BUFFERS = 4  # batches of one process that are in use at the same time, as a rule


class Dataset(torch.utils.data.Dataset):  # type: ignore[misc]  # it may be missing
    """The pictures of a cache as tensors, for torch's ``DataLoader``.

    ``dataset[17]`` is ``(image, label)``: a tensor ``(C, H, W)`` and an ``int``; or the image alone
    where the cache has no labels. With ``collate_fn=mmcache.torch.collate`` a batch is gathered at
    once, in a worker process straight into the memory that is sent, and is ``(images, labels)``: a
    tensor ``(n, C, H, W)``, or a list of tensors where shapes differ, and int64 ``(n,)``. torch's
    own collate gives the same with one more copy, where shapes agree.

    :func:`mmcache.torch.dataloader` puts this together. What is pickled for a worker is the path
    and fingerprint of the cache, and the rows of a narrower one.

    Parameters
    ----------
    cache : Cache
        Or a narrower one.
    transform, target_transform : callable, optional
        Called on each image, a tensor ``(C, H, W)``, and on each label, an ``int``.
    batch_transform : callable, optional
        Called on the images of a batch, ``(n, C, H, W)``, or a list; of one for ``dataset[17]``.
        What it draws at random, it draws once a batch.
    fields : str or tuple of str, optional
        What an item has: ``"image"``, ``"label"``, ``"row"``, ``"key"``, and as in
        :class:`mmcache.Batch` ``"size"``, ``"origin"``, ``"mask"``, ``"window"`` and ``"flipped"``.
        One name gives the thing itself, several a tuple.
    **shaping
        ``pad``, ``crop``, ``position``, ``flip``, ``size``, ``scale``, ``ratio``, ``resample``,
        ``centering``, ``background``, as for :meth:`mmcache.Cache.batch`. Random crops and flips
        follow ``torch.manual_seed``; with rows of :class:`mmcache.torch.BatchSampler`, its seed
        and epoch.

    Raises
    ------
    SettingError
        (a ``ValueError``) where a setting makes no sense, or a field is not there.
    """

    def __init__(
        self,
        cache: Cache,
        *,
        transform: Callable[[torch.Tensor], Any] | None = None,
        target_transform: Callable[[int], Any] | None = None,
        batch_transform: Callable[[Any], Any] | None = None,
        fields: Fields | None = None,
        **shaping: Unpack[ShapingSettings],
    ) -> None:
        self.cache = cache
        self.transform = transform
        self.target_transform = target_transform
        self.batch_transform = batch_transform
        self.fields = check_fields(fields, cache, cropped=shaping.get("crop") is not None)
        self._shaping = Shaping(**shaping, mask="mask" in values_of(self.fields))
        # Where batches of this process go. A worker's go into new memory, which is sent away.
        self._ring = Ring(cache.recipe.dtype, _BUFFERS)
        self._shaping.colour(cache.recipe)

    def __len__(self) -> int:
        return len(self.cache)

    def __getitem__(self, row: int) -> Any:
        """Return what the picture at a row has, in memory of its own.

        Raises
        ------
        RowError
            (an ``IndexError``) where the row is not there.
        """
        return self.__getitems__([row])[0]

    def __getitems__(self, rows: Sequence[int]) -> Fetched:
        """Return the items at *rows*, as a sequence that gathers them at once when it is used."""
        return Fetched(self, rows)

    def __repr__(self) -> str:
        told = {one.name: getattr(self._shaping, one.name) for one in fields_of(Shaping)}
        usual = Shaping(mask=self._shaping.mask)
        settings = "".join(
            f", {name}={value!r}" for name, value in told.items() if value != getattr(usual, name)
        )
        return f"Dataset of {len(self):,} pictures, fields={self.fields!r}{settings}"

    def _gathered(self, rows: Sequence[int], room: Callable[[int], NDArray[Any]]) -> Batch:
        """Gather a batch into what *room* gives."""
        places = np.asarray(chosen(np.asarray(rows), len(self)), np.int64)
        shaping = self._shaping
        if isinstance(rows, PlannedRows):
            if rows.edges is not None:
                crop = rows.edges if shaping.crop is None else shaping.crop
                shaping = replace(shaping, pad=rows.edges, crop=crop)
            draws = rows.draws(shaping.draws)
        else:
            draws = uniform(0, len(places), shaping.draws, drawn_seed() if shaping.draws else 0)
        # Workers are as many as there is to gain from.
        threads = None if get_worker_info() is None else 1
        located = self.cache.located(places)
        return self.cache.gathered(places, shaping, draws, located, out=room, threads=threads)


class Fetched(Sequence[Any]):
    """Some items of a :class:`Dataset`, gathered at once when they are first looked at.

    Only then is it known whether they are taken one by one, as torch's collate does, or as a whole.
    """

    def __init__(self, dataset: Dataset, rows: Sequence[int]) -> None:
        self._dataset = dataset
        self._rows = rows
        self._values: list[Any] | None = None

    def __len__(self) -> int:
        return len(self._rows)

    def __getitem__(self, place: Any) -> Any:
        if self._values is None:
            room = partial(np.empty, dtype=self._dataset.cache.recipe.dtype)
            self._values = self._gathered(room)
        return item_of(self._values, self._dataset.fields, range(len(self))[place])

    def whole(self) -> Any:
        """Return the batch, in a worker over memory that is sent without a copy."""
        dataset, fields = self._dataset, values_of(self._dataset.fields)
        changed = dataset.transform is not None or dataset.batch_transform is not None
        sent = get_worker_info() is not None and not changed
        dtype = dataset.cache.recipe.dtype
        values = self._gathered(partial(shared, dtype=dtype) if sent else dataset._ring.room)  # noqa: SLF001  # its own
        for place, name in enumerate(fields):
            if name in {"image", "label"} and isinstance(values[place], _Each):
                values[place] = _stacked(values[place])
        return values[0] if isinstance(dataset.fields, str) else tuple(values)

    def _gathered(self, room: Callable[[int], NDArray[Any]]) -> list[Any]:
        """Return the fields of the batch after the transforms."""
        dataset = self._dataset
        values = tensors(dataset._gathered(self._rows, room), dataset.fields)  # noqa: SLF001
        for place, name in enumerate(values_of(dataset.fields)):
            if name == "image" and dataset.batch_transform is not None:
                values[place] = dataset.batch_transform(values[place])
            if name == "image" and dataset.transform is not None:
                values[place] = _Each(map(dataset.transform, values[place]))
            if name == "label" and dataset.target_transform is not None:
                values[place] = _Each(map(dataset.target_transform, values[place].tolist()))
        return values


class _Each(list[Any]):
    """What a transform gave for each picture."""


def collate(items: Sequence[Any]) -> Any:
    """Make a batch of items of a :class:`Dataset`, for ``DataLoader(collate_fn=...)``.

    What one dataset gathered is handed over as it lies; other items, as those of a
    ``ConcatDataset``, are put together as torch's ``default_collate`` does, into a tuple, and
    images whose shapes differ into a list.
    """
    if isinstance(items, Fetched):
        return items.whole()
    if isinstance(items[0], tuple):
        return tuple(_stacked(list(values)) for values in zip(*items, strict=True))
    return _stacked(list(items))


def _stacked(values: list[Any]) -> Any:
    """Return one tensor of all, or a list of tensors whose shapes differ."""
    if isinstance(values[0], str):
        return values
    if not all(isinstance(value, torch.Tensor) for value in values):
        return default_collate(values)
    if len({value.shape for value in values}) > 1:
        return values
    if values[0].ndim == 3 and values[0].movedim(0, -1).is_contiguous():  # noqa: PLR2004  # C, H, W
        # Channels stay last in memory, which spares turning every picture over.
        return channels_first(default_collate([value.movedim(0, -1) for value in values]))
    return default_collate(values)


def drawn_seed() -> int:
    """Return a seed drawn as torch draws: another one each time, the same after manual_seed."""
    return int(torch.randint(2**63 - 1, ()))
