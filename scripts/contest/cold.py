"""Making files cold, and seeing that they are."""

from __future__ import annotations

import ctypes
import os
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

__all__ = ["drop", "resident"]

PAGE = os.sysconf("SC_PAGE_SIZE")


def drop(files: Iterable[Path]) -> None:
    """Bring *files* to disk and have the system let go of their pages.

    Pages that a process has touched through a mapping stay while it lives.
    """
    for path in files:
        file = os.open(path, os.O_RDONLY)
        try:
            os.fdatasync(file)
            os.posix_fadvise(file, 0, 0, os.POSIX_FADV_DONTNEED)
        finally:
            os.close(file)


def resident(files: Iterable[Path]) -> float:
    """Return which part of *files* is in memory, 0 to 1."""
    pages = there = 0
    for path in files:
        length = path.stat().st_size
        if not length:
            continue
        mapped = np.memmap(path, np.uint8, "r")
        seen = np.zeros(-(-length // PAGE), np.uint8)
        address = ctypes.c_void_p(mapped.ctypes.data)
        libc = ctypes.CDLL(None, use_errno=True)
        if libc.mincore(address, ctypes.c_size_t(length), ctypes.c_void_p(seen.ctypes.data)):
            raise OSError(ctypes.get_errno(), "mincore", str(path))
        pages += len(seen)
        there += int((seen & 1).sum())
    return there / pages if pages else 0.0
