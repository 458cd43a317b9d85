"""A cache for PyTorch: a ``Dataset`` for its ``DataLoader``, and a loader that is faster than both.

>>> for images, labels in mmcache.torch.Loader(cache, 256, shuffle=True):  # doctest: +SKIP
...     train(images, labels)

Images are channels first, ``(n, C, H, W)``, over memory in which channels are last: what torch
calls ``channels_last``. They are uint8 as they are in the cache, or uint16 where the recipe's mode
is of 16 bits: ``.float()`` and :class:`Normalize` take both, and torch has few other operations for
uint16.

No tensor lies over a mapped file: the first operation in place on such a one would end the process.
Every tensor has memory of its own, which may be written to.
"""

from __future__ import annotations

from mmcache.errors import MissingLibraryError

try:
    import torch  # noqa: F401  # the modules below need it, and say less well what is missing
except ImportError as error:
    raise MissingLibraryError(
        "mmcache.torch needs PyTorch, pip install torch, or the build for your machine that"
        f" pytorch.org names: {error}"
    ) from error

from mmcache.torch.datasets import Dataset, collate
from mmcache.torch.loaders import Loader, dataloader
from mmcache.torch.normalizing import Normalize
from mmcache.torch.samplers import BatchSampler

__all__ = ["BatchSampler", "Dataset", "Loader", "Normalize", "collate", "dataloader"]
