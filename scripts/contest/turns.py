"""Rounds in which everybody takes a turn, so that what disturbs the machine disturbs all alike."""

from __future__ import annotations

import statistics
import time
from typing import TYPE_CHECKING, Any, NamedTuple, TypeVar

from contest.client import FailedError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

__all__ = ["Turn", "by_rounds", "take_rounds"]

SLOW_ROUNDS = 2

Entry = TypeVar("Entry")


class Turn(NamedTuple):
    """What one turn took, in seconds, and for how many pictures."""

    clock: float
    processor: float
    pictures: int

    @property
    def rate(self) -> float:
        """Pictures a second."""
        return self.pictures / self.clock

    @property
    def core_rate(self) -> float:
        """Pictures a second of processor time: what one core would do."""
        return self.pictures / max(self.processor, 1e-9)


def take_rounds(
    those: Iterable[Entry],
    turn: Callable[[Entry, int], dict[str, Any]],
    failed: Callable[[Entry, FailedError], object],
    *,
    rounds: int,
    seconds: float,
    slow: float = float("inf"),
) -> dict[Entry, list[Turn]]:
    """Let all take turns, after one that is not counted, for some rounds or until time is up.

    Those whose turn takes longer than *slow* seconds take part in two rounds only. Who fails is
    told to *failed*, and is left out.
    """
    turns: dict[Entry, list[Turn]] = {entry: [] for entry in those}
    tired: set[Entry] = set()
    end = float("inf")
    for number in range(rounds + 1):
        for entry in list(turns)[:: 1 if number % 2 else -1]:
            if entry in tired and number > SLOW_ROUNDS:
                continue
            try:
                answer = turn(entry, number)
            except FailedError as error:
                failed(entry, error)
                del turns[entry]
                continue
            taken = Turn(answer["clock"], answer["processor"], answer["pictures"])
            if taken.clock > slow:
                tired.add(entry)
            if number:
                turns[entry].append(taken)
        if number == 0:
            end = time.monotonic() + seconds
        elif time.monotonic() > end:
            break
    return turns


def by_rounds(one: list[Turn], other: list[Turn], rate: str = "rate") -> float:
    """Return how many times as fast *one* is as *other*: the median of the rounds of both.

    *rate* is "rate", by the clock, or "core_rate", by processor time.
    """
    pairs = zip(one, other, strict=False)
    return statistics.median(getattr(a, rate) / getattr(b, rate) for a, b in pairs)
