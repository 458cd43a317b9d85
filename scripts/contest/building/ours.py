"""mmcache's builds: by threads, by processes, and by whoever resizes."""

from __future__ import annotations

import importlib.util
import inspect
from typing import TYPE_CHECKING, Any, ClassVar

from contest.building.writer import Writer
from contest.entrant import NotOfferedError

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from numpy.typing import NDArray

__all__ = [
    "MmcacheFast",
    "MmcacheFastProcesses",
    "MmcacheFastTwo",
    "MmcachePillow",
    "MmcachePillowTwo",
]


class _Build(Writer):
    modules = ("mmcache",)
    kind: ClassVar[str] = "ours"
    executor: ClassVar[str] = "threads"
    resampler: ClassVar[str]
    module: ClassVar[str] = "PIL"  # that resizes

    def prepare(self) -> None:
        """See that mmcache can be told who resizes, and that it is there."""
        import mmcache  # noqa: PLC0415

        self.settings: dict[str, Any] = {}
        if "resampler" in inspect.signature(mmcache.build).parameters:
            self.settings = {"resampler": self.resampler}
        elif self.resampler != "pillow":
            raise NotOfferedError("this mmcache resizes by Pillow alone")
        if importlib.util.find_spec(self.module) is None:
            raise NotOfferedError(f"{self.module} is not installed here")

    def build(self, paths: list[Path], size: int) -> None:
        from measuring import first_time  # noqa: PLC0415  # it imports mmcache

        import mmcache  # noqa: PLC0415

        with first_time():
            mmcache.build(
                paths[0].parent,
                self._cache(),
                size=size,
                icc="ignore",  # as the others do: they would be a few levels apart
                executor=self.executor,
                workers=self.cores,
                progress=False,
                **self.settings,
            )

    def _cache(self) -> Path:
        return self.where.with_suffix(".mmc")

    def kept(self, count: int) -> Iterator[NDArray[Any]]:
        import mmcache  # noqa: PLC0415

        return iter(mmcache.open(self._cache()))


class MmcachePillow(_Build):
    """One thread, without the extra."""

    title = "mmcache, Pillow alone"
    resampler = "pillow"


class MmcachePillowTwo(MmcachePillow):
    """Two threads, without the extra."""

    title = "mmcache, Pillow alone, 2 threads"
    cores = 2


class MmcacheFast(_Build):
    """One thread with the extra ``fast``."""

    title = "mmcache[fast]"
    resampler = "cykooz"
    module = "cykooz_resizer"


class MmcacheFastTwo(MmcacheFast):
    """Two threads with the extra ``fast``."""

    title = "mmcache[fast], 2 threads"
    cores = 2


class MmcacheFastProcesses(MmcacheFastTwo):
    """Two processes with the extra ``fast``."""

    title = "mmcache[fast], 2 processes"
    executor = "processes"
