"""A span of pictures: what a worker is handed, and what is done when it ends the worker."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from time import monotonic
from typing import TYPE_CHECKING, Any, Self

if TYPE_CHECKING:
    from collections.abc import Iterator

    from mmcache.errors import WorkerError

__all__ = ["Span", "in_time"]

PATIENCE = 0.25  # seconds after which a worker comes back with what it has of a span


def in_time(count: int) -> Iterator[int]:
    """Yield the numbers below *count* until that took long enough, and 0 in any case.

    So slow pictures come back few at a time: a bar moves, and whoever interrupts does not wait for
    a whole span.
    """
    end = monotonic() + PATIENCE
    for number in range(count):
        if number and monotonic() > end:
            return
        yield number


@dataclass(frozen=True, kw_only=True)
class Span:
    """Some pictures by their names: numbers and names, never pixels.

    Every field that is a list has an item for each of them.

    Attributes
    ----------
    start : int
        The row of the first.
    keys : list of bytes
        What the source calls them.
    lost : str
        How the worker process ended that had them last; empty for none.
    given_up : bool
        Whether this one picture is not to be tried any more.
    """

    start: int
    keys: list[bytes]
    lost: str = ""
    given_up: bool = False

    def again(self, error: WorkerError) -> list[Self]:
        """Return what is to be done after these pictures ended a worker, as *error* says.

        Once may have been an accident. After the second time each half is tried alone, and so on
        down to the picture that does it.
        """
        if not error.how or self.given_up:
            raise error  # no worker came so far as to look at them, or it was told not to
        if not self.lost:
            return [dataclasses.replace(self, lost=error.how)]
        if len(self.keys) == 1:
            return [dataclasses.replace(self, lost=error.how, given_up=True)]
        middle = len(self.keys) // 2
        return [self._part(0, middle), self._part(middle, len(self.keys))]

    def rest(self, outcome: Any) -> list[Self]:  # noqa: ARG002  # for those that come in parts
        """Return what *outcome* leaves to be done of these pictures."""
        return []

    def interrupted(self, outcome: Any) -> bool:  # noqa: ARG002  # likewise
        """Tell whether it was Ctrl-C that ended *outcome*, which is to be raised again."""
        return False

    def after(self, done: int) -> list[Self]:
        """Return these pictures without the first *done*: one span, or none."""
        return [] if done == len(self.keys) else [self._part(done, len(self.keys))]

    def _part(self, first: int, stop: int) -> Self:
        values = {one.name: getattr(self, one.name) for one in dataclasses.fields(self)}
        lists: dict[str, Any] = {
            name: value[first:stop] for name, value in values.items() if isinstance(value, list)
        }
        return dataclasses.replace(self, start=self.start + first, **lists)

    @property
    def verdict(self) -> str:
        """Why it was given up."""
        return f"it ends the process that reads it, {self.lost}"
