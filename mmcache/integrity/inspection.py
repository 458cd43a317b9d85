"""What all steps of one verification share."""

from __future__ import annotations

from contextlib import closing
from typing import TYPE_CHECKING, NamedTuple, TypeVar

from mmcache.workers import results

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator
    from concurrent.futures import Executor

    import numpy as np
    from numpy.typing import NDArray

    from mmcache.integrity.report import Findings
    from mmcache.progress import Shown
    from mmcache.recipe import Recipe
    from mmcache.stores.frame import Frame
    from mmcache.stores.stored import Stored

__all__ = ["Inspection", "Means"]

Task = TypeVar("Task")
Result = TypeVar("Result")


class Means(NamedTuple):
    """Who reads, and whom it is shown to."""

    executor: Executor
    workers: int
    show: Shown


class Inspection:
    """One verification under way: each step adds to what is found, and to what is relied on.

    Attributes
    ----------
    recipe : Recipe or None
        None where the frame's cannot be read.
    broken : set of str
        Files that are not there as plain files of their length.
    whole : set of str
        Arrays, pixels aside, whose bytes are as they were written.
    """

    def __init__(
        self, stored: Stored, recipe: Recipe | None, findings: Findings, by: Means
    ) -> None:
        self.stored = stored
        self.recipe = recipe
        self.findings = findings
        self.show = by.show
        self.broken: set[str] = set()
        self.whole: set[str] = set()
        self._by = by

    @property
    def frame(self) -> Frame:
        """What the cache says that it is."""
        return self.stored.frame

    def each(self, function: Callable[[Task], Result], tasks: Iterable[Task]) -> Iterator[Result]:
        """Yield what comes of each task, as they complete."""
        executor, workers, _ = self._by
        with closing(results(executor, function, tasks, workers)) as done:
            yield from done

    def add(self, array: str, what: str = "", rows: NDArray[np.int64] | None = None) -> None:
        """Note what is wrong with the file of an array."""
        self.findings.add(self.stored.file_with(array), what, rows)

    def has(self, array: str, dtype: str, *shape: int) -> bool:
        """Tell whether the frame has an array as a cache has it; opening tells where it has not."""
        one = self.frame.arrays.get(array)
        return (
            one is not None
            and (one.dtype, one.shape) == (dtype, shape)
            and (len(one.segments) == 1 or (not one.segments and 0 in shape))
        )

    def relies_on(self, array: str, dtype: str, *shape: int) -> bool:
        """Tell whether an array is as a cache has it, and as it was written."""
        return array in self.whole and self.has(array, dtype, *shape)

    def relies_on_bytes(self, array: str) -> bool:
        """Tell the same of an array of bytes, of whatever length."""
        one = self.frame.arrays.get(array)
        return one is not None and len(one.shape) == 1 and self.relies_on(array, "|u1", *one.shape)
