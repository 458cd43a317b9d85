"""A span of pictures: what a worker is handed, and what is done when it ends the worker."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Self

if TYPE_CHECKING:
    from mmcache.errors import WorkerError

__all__ = ["Span"]


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
