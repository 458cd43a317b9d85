"""What a source of pictures promises."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, BinaryIO, Protocol, Self, runtime_checkable

if TYPE_CHECKING:
    from types import TracebackType

    import numpy as np
    from numpy.typing import NDArray

    from mmcache.records import Failures, Strings

__all__ = ["Encoded", "Listing", "Mark", "Source"]

Mark = tuple[int, int, int, int]
"""What a file has as long as nobody touched it: its size in bytes, when its content and when
anything of it was changed in ns since 1970, and its number in the file system."""


@dataclass(frozen=True, eq=False)
class Listing:
    """What a source holds, before any picture is opened.

    Attributes
    ----------
    keys : Strings
        Names, unique, in the order of the rows.
    labels : int64 (N,) or None
        Positions in ``classes``, -1 for a picture of no class; None where there are no classes.
    classes : tuple of str
        Names of the classes.
    failures : Failures
        What should be there and cannot be reached, all in the stage ``"list"``.
    left_out : int
        Other files that were seen and are not meant as pictures.
    names : Strings, optional
        What the source calls the pictures, where that is not their keys: what ``open`` and ``stat``
        are asked for.
    sizes : int32 (N, 2), optional
        The upright height and width that each picture must have.
    """

    keys: Strings
    labels: NDArray[np.int64] | None
    classes: tuple[str, ...]
    failures: Failures
    left_out: int
    names: Strings | None = None
    sizes: NDArray[np.int32] | None = None

    @property
    def called(self) -> Strings:
        """What the source calls the pictures: ``names``, or their keys."""
        return self.keys if self.names is None else self.names


@dataclass(frozen=True)
class Encoded:
    """An open picture file: a seekable stream of its bytes, its size, and its time in ns.

    A source that can be described may tell the file's mark as well.
    """

    file: BinaryIO
    size: int
    mtime_ns: int
    mark: Mark | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.file.close()


@runtime_checkable
class Source(Protocol):
    """An ordered, finite sequence of pictures.

    ``listing`` may be called more than once and gives the same answer while nothing changed.
    ``open`` and ``stat`` are called from many threads at once. A source is not pickled: workers in
    other processes make their own from what ``describe`` says, and a source that says None is read
    in this process alone.
    """

    def listing(self) -> Listing:
        """Return what is there, in the order that rows will have."""
        ...

    def open(self, key: bytes) -> Encoded:
        """Open the picture *key*; :class:`OSError` where it cannot be read. Never blocks."""
        ...

    def stat(self, key: bytes) -> tuple[int, int]:
        """Return the picture's size in bytes and its time in ns; :class:`OSError` likewise."""
        ...

    def describe(self) -> dict[str, Any] | None:
        """Return JSON that :func:`mmcache.sources.from_json` makes this source of, or None."""
        ...
