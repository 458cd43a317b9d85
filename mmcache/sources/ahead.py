"""Files asked for ahead: on a slow disk a worker need not wait for the pictures that come next.

The system reads what it is told of while the workers decode. To tell it, each file is opened once
more, so that it is done only while workers say that they waited: never where files are in memory,
or on a fast disk. A source whose pictures are no files is read as ever; more workers help there.
"""

from __future__ import annotations

import contextlib
import os
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, BinaryIO, Self

if TYPE_CHECKING:
    from collections.abc import Iterable

    from mmcache.sources.contract import Source

__all__ = ["Ahead", "is_in_memory"]

_WORTH = 0.0002  # seconds of waiting a picture, from which on it is worth it
_GOES_ON = 256  # spans for which it then goes on, though nobody waits any more
_ASKING = 4  # threads: opening a file may take its time too
_AT_ONCE = 256 << 10  # bytes; of a longer part the system may read the beginning alone
# Linux has these; elsewhere nobody is told anything.
_WANTED = getattr(os, "POSIX_FADV_WILLNEED", None)
_NO_WAIT = getattr(os, "RWF_NOWAIT", None)


def is_in_memory(file: BinaryIO, size: int) -> bool:
    """Tell whether an open file of *size* bytes can be read without waiting, as far as is known.

    The last byte decides: reading the header has brought the first ones to memory.
    """
    if _NO_WAIT is None:
        return False
    try:
        os.preadv(file.fileno(), [bytearray(1)], max(size - 1, 0), _NO_WAIT)
    except (OSError, AttributeError):  # it would wait, cannot tell, or is no file
        return False
    return True


class Ahead:
    """Has the system read files of *source* that are wanted soon, while they are waited for.

    Parameters
    ----------
    source : Source
    helps : bool
        Whether what this machine has in memory is any help: not to workers on another one.
    """

    def __init__(self, source: Source, *, helps: bool = True) -> None:
        self._source = source
        self._helps = helps and _WANTED is not None
        self._spans_left = 0
        self._pool = ThreadPoolExecutor(_ASKING, thread_name_prefix="mmcache-ahead")

    def waited(self, seconds: float, pictures: int) -> None:
        """Say how long a worker has waited for the files of so many pictures."""
        if self._helps and seconds > _WORTH * pictures:
            self._spans_left = _GOES_ON

    def want(self, keys: Iterable[bytes]) -> None:
        """Say which pictures are wanted soon; returns at once."""
        if self._spans_left:
            self._spans_left -= 1
            self._pool.submit(self._ask, keys)

    def _ask(self, keys: Iterable[bytes]) -> None:
        for key in keys:
            # Whatever is wrong with a file, who reads it will say.
            with contextlib.suppress(Exception), self._source.open(key) as encoded:
                descriptor = encoded.file.fileno()
                for place in range(0, encoded.size, _AT_ONCE):
                    os.posix_fadvise(descriptor, place, _AT_ONCE, _WANTED or 0)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._pool.shutdown(cancel_futures=True)
