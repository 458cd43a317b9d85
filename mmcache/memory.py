"""Memory, told honestly: what a process holds itself, and what are only pages of files.

The first kind stays until it is freed. The second is the system's: it keeps pages of files because
they may be wanted again, and drops them when memory is wanted for something else. Tools add the two
up, so that a cache that is being read looks like a leak.
"""

from __future__ import annotations

import functools
import math
import mmap
import os
import re
import sys
from pathlib import Path
from time import perf_counter
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from mmcache.facts import human_bytes

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from numpy.typing import NDArray

__all__ = [
    "Looked",
    "MemoryReport",
    "ProcessMemory",
    "free_memory",
    "is_memory_alone",
    "machine_memory",
    "pages_of",
    "process_memory",
    "resident_bytes",
    "scattered",
]

_STATUS = Path("/proc/self/status")
_SMAPS = Path("/proc/self/smaps")
_MEMINFO = Path("/proc/meminfo")
_MOUNTS = Path("/proc/self/mountinfo")
_CGROUPS = ("/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory/memory.limit_in_bytes")
_AREA = re.compile("([0-9a-f]+)-([0-9a-f]+) ")  # where one begins and ends, at the front of a line
_UNKNOWN = 1 << 62  # bytes; of what the system does not tell, there is no end
_NOT_READ = (OSError, ValueError, KeyError, IndexError)  # no such file, or it says something else

_CACHESTAT = 451  # the system call of Linux 6.5 and later; its number is the same on all machines
# How much is looked at before the clock is: a look costs what is in memory, not what is in the
# file, and mincore 15 ms for each GB that is not.
_STAT_PIECE = 8 << 30
_CORE_PIECE = 4 << 20


# Of the machine and of this process ---------------------------------------------------------------


def free_memory() -> int:
    """Return the bytes that may still be had, file pages that the system would drop included."""
    try:
        told = _MEMINFO.read_text("ascii").split("MemAvailable:")[1]
        return int(told.split()[0]) * 1024
    except _NOT_READ:
        pass
    try:
        return os.sysconf("SC_AVPHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    except (AttributeError, ValueError, OSError):
        return _UNKNOWN


def machine_memory() -> int:
    """Return the memory of this machine, or what this process is granted of it, if less."""
    try:
        there = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    except (AttributeError, ValueError, OSError):
        there = _UNKNOWN
    for group in _CGROUPS:
        try:
            there = min(there, int(Path(group).read_text("ascii")))
        except (OSError, ValueError):  # no such group, or no limit in it
            continue
    return there


class ProcessMemory(NamedTuple):
    """The resident memory of this process in bytes, by whose it is.

    Attributes
    ----------
    private : int
        What it allocated: stays until it is freed.
    files : int
        Pages of files that it has mapped, of libraries too: the system drops them when it must.
    shared : int
        Memory that it shares with other processes, as the workers of a DataLoader do; a file on a
        file system that is memory alone counts here.
    """

    private: int
    files: int
    shared: int


def process_memory() -> ProcessMemory | None:
    """Return what this process has in memory; None where the system does not tell."""
    try:
        lines = _STATUS.read_text("utf-8", "replace").splitlines()
        told = dict(line.split(":", 1) for line in lines if ":" in line)
        return ProcessMemory(
            *(int(told[name].split()[0]) * 1024 for name in ("RssAnon", "RssFile", "RssShmem"))
        )
    except _NOT_READ:
        return None


# Of mapped files ----------------------------------------------------------------------------------


class Looked(NamedTuple):
    """How many bytes were looked at, and how many are in memory of all, if the rest is alike."""

    at: int
    cached: int


def pages_of(
    mapped: mmap.mmap, descriptor: int | None, deadline: float, *, mine: bool
) -> Looked | None:
    """Look how much of a mapped file is in memory, whichever process has read it.

    Parameters
    ----------
    mapped : mmap.mmap
        The mapping, of which nothing is touched.
    descriptor : int or None
        The same file, if it still has a name.
    deadline : float
        Of :func:`time.perf_counter`: from then on no more is looked at. What was looked at until
        then is scattered evenly over the file.
    mine : bool
        Whether the file belongs to who runs this process. Of the files of others, ``mincore`` says
        that all is in memory.

    Returns
    -------
    Looked or None
        None where this system has no way to tell.
    """
    length = len(mapped)
    if descriptor is not None:
        try:
            return _looked(functools.partial(_cachestat, descriptor), length, _STAT_PIECE, deadline)
        except OSError:  # an older kernel, another system, or not allowed
            pass
    if not mine:
        return None
    try:
        return _looked(functools.partial(_mincore, mapped), length, _CORE_PIECE, deadline)
    except OSError:
        return None


def _looked(cached: Callable[[int, int], int], length: int, piece: int, deadline: float) -> Looked:
    """Add up what *cached* finds from one place for so many bytes, until the time is over."""
    at = found = 0
    for number in scattered(-(-length // piece)):
        if at and perf_counter() > deadline:
            break
        start = number * piece
        size = min(piece, length - start)
        found += min(size, cached(start, size))
        at += size
    return Looked(at, found * length // max(1, at))


def scattered(count: int) -> Iterator[int]:
    """Yield the numbers below *count* once each, so that the first few lie all over.

    >>> list(scattered(8))
    [0, 5, 2, 7, 4, 1, 6, 3]
    """
    stride = max(1, round(count * (math.sqrt(5) - 1) / 2))  # the golden section spreads best
    while math.gcd(stride, count) > 1:
        stride += 1
    return (number * stride % count for number in range(count))


def _cachestat(descriptor: int, start: int, size: int) -> int:
    """Return how many bytes of a part of a file are in the system's page cache (Linux 6.5)."""
    import ctypes  # noqa: PLC0415  # for those who ask alone

    if sys.platform != "linux":
        raise OSError("there is no such call here")
    part = (ctypes.c_uint64 * 2)(start, size)
    told = (ctypes.c_uint64 * 5)()  # of which the first is what is cached
    call = _libc().syscall
    call.restype = ctypes.c_long
    number, flags = ctypes.c_long(_CACHESTAT), ctypes.c_uint(0)
    if call(number, ctypes.c_int(descriptor), ctypes.byref(part), ctypes.byref(told), flags):
        raise OSError(ctypes.get_errno(), "cachestat")
    return int(told[0]) * mmap.PAGESIZE


def _mincore(mapped: mmap.mmap, start: int, size: int) -> int:
    """Return how many bytes of a part of a mapping are in memory, whoever brought them there."""
    import ctypes  # noqa: PLC0415  # for those who ask alone

    call = getattr(_libc(), "mincore", None)
    if call is None:
        raise OSError("there is no such call here")
    pages = np.empty(-(-size // mmap.PAGESIZE), np.uint8)
    where = ctypes.c_void_p(_address(mapped) + start)
    if call(where, ctypes.c_size_t(size), pages.ctypes.data_as(ctypes.c_void_p)):
        raise OSError(ctypes.get_errno(), "mincore")
    return int(np.count_nonzero(pages & 1)) * mmap.PAGESIZE


@functools.cache
def _libc() -> Any:
    import ctypes  # noqa: PLC0415  # for those who ask alone

    try:
        return ctypes.CDLL(None, use_errno=True)
    except TypeError as error:  # Windows, where there is no such library
        raise OSError("there is no libc here") from error


def _address(mapped: mmap.mmap) -> int:
    return int(np.frombuffer(mapped, np.uint8, 1).ctypes.data)


def resident_bytes(maps: Iterable[mmap.mmap]) -> int | None:
    """Return how many bytes of these mappings this process has touched and still has in memory.

    They are found by their addresses, since their files may be gone. It costs what the whole
    process has mapped: 10 ms and more. None where the system does not tell.
    """
    extents = sorted((start := _address(one), start + len(one)) for one in maps)
    starts, ends = (np.array([one[side] for one in extents], np.int64) for side in (0, 1))
    try:
        return sum(
            min(resident, _shared(starts, ends, low, high)) for low, high, resident in _areas()
        )
    except _NOT_READ:
        return None


def _areas() -> Iterator[tuple[int, int, int]]:
    """Yield where each area of this process's memory begins and ends, and its resident bytes."""
    low = high = 0
    for line in _SMAPS.read_text("utf-8", "replace").splitlines():
        if line.startswith("Rss:"):
            yield low, high, int(line.split()[1]) * 1024
        elif area := _AREA.match(line):
            low, high = int(area[1], 16), int(area[2], 16)


def _shared(starts: NDArray[np.int64], ends: NDArray[np.int64], low: int, high: int) -> int:
    """Return how many of the addresses from *low* to *high* lie in the extents."""
    if not len(starts) or low >= 1 << 63:  # where the kernel's own begin
        return 0
    inside = np.minimum(ends, high) - np.maximum(starts, low)
    return int(inside[inside > 0].sum())


def is_memory_alone(device: int) -> bool:
    """Tell whether a file system, by its ``st_dev``, has no other place than memory."""
    try:
        lines = _MOUNTS.read_text("utf-8", "replace").splitlines()
    except OSError:
        return False
    number = f"{os.major(device)}:{os.minor(device)}"
    kinds = (
        line.partition(" - ")[2].split(" ")[0] for line in lines if number in line.split()[2:3]
    )
    return next(kinds, "") in {"tmpfs", "ramfs"}


# In words -----------------------------------------------------------------------------------------


class MemoryReport(NamedTuple):
    """What a cache and the process that has it open take, in bytes.

    Attributes
    ----------
    own : int
        Private memory of the cache itself: the rows of a narrower one, and what it needs to look up
        keys in it.
    files : int
        Bytes of the mapped files.
    looked : Looked or None
        How much of these is in memory; None where the system does not tell.
    lasting : bool
        Whether the files lie on a file system that is memory alone: these pages stay.
    process : ProcessMemory or None
        All that this process has.
    """

    own: int
    files: int
    looked: Looked | None
    lasting: bool
    process: ProcessMemory | None

    @property
    def exact(self) -> bool:
        """Whether all was looked at."""
        return self.looked is not None and self.looked.at == self.files

    def rows(self) -> list[tuple[str, str]]:
        """Return facts for people, by their labels."""
        own = f"{human_bytes(self.own)} of its own; "
        if self.looked is None:
            shown = own + "how much of its files is in memory, this system does not tell"
        else:
            about = "" if self.exact else "about "
            shown = (
                f"{own}{about}{human_bytes(self.looked.cached)} of its files are in memory, "
                + (
                    "where they lie and stay"
                    if self.lasting
                    else "which the system takes back when it needs room"
                )
            )
        return [("memory", shown), *self._process_rows()]

    def _process_rows(self) -> list[tuple[str, str]]:
        if self.process is None:
            return []
        private, files, shared = map(human_bytes, self.process)
        shown = f"{private} private; {files} are pages of files, which are the system's"
        return [("process", shown + (f"; {shared} shared" if self.process.shared else ""))]

    def to_json(self) -> dict[str, Any]:
        """Return plain data: bytes; null for what the system does not tell."""
        return {
            "own": self.own,
            "files": self.files,
            "cached": None if self.looked is None else self.looked.cached,
            "exact": self.exact,
            "process": None if self.process is None else self.process._asdict(),
        }
