"""Decoding that takes time and no core: what many cores would do, seen on a machine of two.

Worker processes import this too, and so it is a module of its own.
"""

from __future__ import annotations

import io
import time
from concurrent.futures import Executor
from typing import TYPE_CHECKING, Any, BinaryIO

import numpy as np
from PIL import Image

from mmcache import Recipe, apply, tasks
from mmcache.images.decoding import Decoded
from mmcache.images.opening import open_image
from mmcache.resampling import settled_resampler

if TYPE_CHECKING:
    from collections.abc import Callable
    from concurrent.futures import Future

    from mmcache.geometry import Size

__all__ = ["Sleeping", "asleep", "decoded_asleep"]

_COPIED = 6 << 20  # bytes of decoded pixels; of larger pictures none are copied
_noise = np.random.default_rng(0).integers(0, 256, _COPIED, dtype=np.uint8)


class Sleeping(Executor):
    """Has *inner* do everything but decode, which it sleeps for: *seconds* a picture.

    Workers that are *idle* do not even read and write, so that what is left is the coordinator's.
    """

    def __init__(self, inner: Executor, seconds: float, *, idle: bool = False) -> None:
        self.inner = inner
        self._how = _slept if idle else _stubbed, seconds

    def submit(self, fn: Callable[..., Any], /, *args: Any, **_: Any) -> Future[Any]:
        """Send it on to who sleeps; see :class:`concurrent.futures.Executor`."""
        how, seconds = self._how
        return self.inner.submit(how, seconds, fn, *args)


def asleep(seconds: float) -> None:
    """Sleep in a worker, once it has imported all that it needs."""
    file = io.BytesIO()
    Image.new("RGB", (64, 64)).save(file, "jpeg")
    apply(file.getvalue(), settled_resampler(Recipe(size=16)))
    time.sleep(seconds)


def _stubbed(seconds: float, fn: Callable[[Any], Any], task: Any) -> Any:
    def decode_flagged(
        file: BinaryIO, recipe: Recipe, *, expected: Size, orientation: int
    ) -> Decoded:
        assert orientation
        time.sleep(seconds)
        return decoded_asleep(file, recipe, expected)

    tasks.decode_flagged = decode_flagged
    return fn(task)


def decoded_asleep(file: BinaryIO, recipe: Recipe, size: Size) -> Decoded:
    """Do of decoding what holds Python's lock: look at the header, and copy the pixels twice."""
    open_image(file)
    pixels = _noise[: min(size.height * size.width * 3, _COPIED)]
    bytes(memoryview(pixels.tobytes()))
    shape = (*recipe.place(size).size, recipe.channels)
    return Decoded(_noise[: np.prod(shape)].reshape(shape), 0)


def _slept(seconds: float, fn: Callable[[Any], Any], task: Any) -> Any:
    if fn is not tasks.make_records:
        return fn(task)
    count = len(task.keys)
    time.sleep(seconds * count)
    some = [1 << 31] * count
    decoded = [tasks.DECODED] * count
    return tasks.Pixels(task.start, sum(task.lengths), some, some, [0] * count, decoded, [])
