"""Arrays as tensors: over memory that may be written to, and never over a mapped file."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

__all__ = ["Apart", "channels_first", "over", "page_locked", "shared", "split", "together"]


def over(array: NDArray[Any]) -> torch.Tensor:
    """Return a tensor over the memory of *array*, or over a copy where that is read-only.

    Where the memory is a tensor's, as that of :func:`page_locked` and :func:`shared` is, a view of
    that tensor is returned, so that torch knows what kind of memory it is.
    """
    if not array.flags.writeable:
        array = array.copy()
    owner: Any = array
    while isinstance(owner, np.ndarray):
        owner = owner.base
    if not array.size or not isinstance(owner, torch.Tensor):
        return torch.from_numpy(array)
    start = (array.ctypes.data - owner.data_ptr()) // array.itemsize
    strides = [stride // array.itemsize for stride in array.strides]
    return owner.as_strided(array.shape, strides, owner.storage_offset() + start)


def channels_first(images: torch.Tensor) -> torch.Tensor:
    """Return images ``(..., H, W, C)`` as ``(..., C, H, W)``; nothing is moved."""
    return images.movedim(-1, -3)


# Buffers -----------------------------------------------------------------------------------------


def page_locked(elements: int, dtype: np.dtype[Any]) -> NDArray[Any]:
    """Return a flat array in page-locked memory, which a GPU reads by itself.

    It is of torch's own allocator, which waits for copies that are under way before it gives memory
    out again: Python may have let go of it long before.
    """
    flat: NDArray[Any] = torch.empty(elements, dtype=_like(dtype), pin_memory=True).numpy()
    return flat


def shared(elements: int, dtype: np.dtype[Any]) -> NDArray[Any]:
    """Return a flat array in memory that is sent to another process without a copy."""
    # As torch's own default_collate does it; what is public copies into shared memory.
    storage = torch.UntypedStorage._new_shared(elements * dtype.itemsize)  # noqa: SLF001
    tensor = torch.empty(0, dtype=_like(dtype)).set_(storage, 0, (elements,))
    flat: NDArray[Any] = tensor.numpy()
    return flat


def _like(dtype: np.dtype[Any]) -> torch.dtype:
    return torch.from_numpy(np.empty(0, dtype)).dtype


# Pictures of several shapes ----------------------------------------------------------------------


class Apart(list[Any]):
    """Images ``(C, H, W)`` of several shapes, a list of tensors that lie in one.

    To another process, and to a device, they go as that one.
    """

    def __init__(self, flat: torch.Tensor, shapes: Sequence[tuple[int, ...]]) -> None:
        super().__init__(split(flat, shapes))
        self.flat = flat
        self.shapes = shapes

    def __reduce__(self) -> tuple[Any, ...]:
        return split, (self.flat, self.shapes)

    def to(self, device: Any, *, non_blocking: bool = False) -> list[torch.Tensor]:
        """Return them on a device."""
        return split(self.flat.to(device, non_blocking=non_blocking), self.shapes)


def together(images: list[NDArray[Any]]) -> list[torch.Tensor]:
    """Return arrays ``(H, W, C)`` that lie one after the other in a buffer as tensors."""
    if not images:
        return []
    buffer = images[0].base
    if buffer is None or not images[0].flags.writeable:  # views of the cache
        return [channels_first(over(image)) for image in images]
    start = (images[0].ctypes.data - buffer.ctypes.data) // buffer.itemsize
    shapes = [image.shape for image in images]
    return Apart(over(buffer[start : start + sum(map(math.prod, shapes))]), shapes)


def split(flat: torch.Tensor, shapes: Sequence[tuple[int, ...]]) -> list[torch.Tensor]:
    """Return the images ``(C, H, W)`` that lie in *flat*, whose shapes there are ``(H, W, C)``."""
    parts = flat.split([math.prod(shape) for shape in shapes])
    return [channels_first(part.view(shape)) for part, shape in zip(parts, shapes, strict=True)]
