"""Steps: what is done of a payload, row by row, as a journal tells it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Iterable

    from numpy.typing import NDArray

__all__ = ["Done", "Step", "made_by", "rows_of", "step_of"]

Step = dict[str, Any]
"""What is done: ``rows`` with their ``checksums``, ``hashes`` and ``flags``; or who did it:
``libraries``, and whether they did it in an ``older`` generation."""


def step_of(rows: Iterable[int], **known: Iterable[int]) -> Step:
    """Return the step in which *rows* come to be there."""
    return {"rows": list(rows), **{name: list(values) for name, values in known.items()}}


def made_by(libraries: dict[str, str], *, older: bool = False) -> Step:
    """Return the step from which on records may be of these libraries' making."""
    return {"libraries": libraries, "older": older}


def rows_of(steps: Iterable[Step]) -> int:
    """Return how many rows *steps* tell of."""
    return sum(len(step.get("rows", ())) for step in steps)


class Done:
    """Which of a payload's rows are there, and what is known of each.

    Attributes
    ----------
    there : bool (N,)
    checksums, hashes : uint32 (N,)
        CRC-32C of the record and of the file that it was made of; 0 where it is not there.
    flags : uint8 (N,)
    libraries : list of dict
        Of library to version, for each who made some of them.
    older : bool
        Whether some were taken from an older generation.
    """

    def __init__(self, rows: int, steps: Iterable[Step] = ()) -> None:
        self.there = np.zeros(rows, bool)
        self.checksums = np.zeros(rows, np.uint32)
        self.hashes = np.zeros(rows, np.uint32)
        self.flags = np.zeros(rows, np.uint8)
        self.libraries: list[dict[str, str]] = []
        self.older = False
        for step in steps:
            self.add(step)

    @property
    def count(self) -> int:
        """How many rows are there."""
        return int(np.count_nonzero(self.there))

    def add(self, step: Step) -> None:
        """Let it be so."""
        if "rows" not in step:
            self.libraries.append(step["libraries"])
            self.older |= step["older"]
            return
        rows = np.array(step["rows"], np.int64)
        self.there[rows] = True
        columns: dict[str, NDArray[Any]] = {
            "checksums": self.checksums, "hashes": self.hashes, "flags": self.flags
        }  # fmt: skip
        for name, column in columns.items():
            column[rows] = step[name]

    def remove(self, rows: list[int]) -> None:
        """Let *rows* not be there: what they are said to be is not what is on disk."""
        for column in (self.there, self.checksums, self.hashes, self.flags):
            column[rows] = 0
