"""How a builder ended that was stopped by a signal, and what is wrong with that."""

from __future__ import annotations

import signal
from typing import TYPE_CHECKING, NamedTuple

import mmcache

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = ["STATUS", "Ended", "wrong_with"]

STATUS = {signal.SIGINT: 130, signal.SIGTERM: 143}
"""What a command that was stopped exits with, by the signal."""

_SOON = 10.0  # seconds
_RESUME = "run the same command to resume"


class Ended(NamedTuple):
    """How a builder ended, and what it left."""

    status: int
    said: str
    took: float
    before: str | None
    there: str | None
    kept: bool
    running: list[int]


def wrong_with(ended: Ended, by: signal.Signals, expected: str, *, script: bool) -> Iterator[str]:
    """Yield all that is wrong with how a builder ended and what it left.

    It was stopped *by* a signal, and has the *expected* bytes when it is whole.
    """
    status, lines = ended.status, ended.said.splitlines()
    if ended.took > _SOON:
        yield f"it took {ended.took:.1f} s"
    if ended.running:
        yield f"processes {ended.running} are left"
    if ended.there not in (ended.before, expected):
        yield "what stands at the destination is not whole"
    # At the exit of a script, what libraries say is their own affair.
    loud = mmcache.__path__[0] in ended.said if script else bool(lines)
    if status == 0 and (loud or ended.there != expected or ended.kept):
        yield f"it ended as if nothing had been, and said {lines}"
    if status == -by and ended.kept and _RESUME not in ended.said:
        yield f"it was stopped by a bare signal, kept something, and said {lines}"
    outside = _is_before(lines) and not ended.kept
    if status not in (0, -by, STATUS[by]) and not outside:
        yield f"it ended with exit status {status}, and said {lines}"
    if "Traceback" in ended.said and not script and not outside:
        yield f"it said {lines}"
    elif status == STATUS[by] and not script:
        yield from _untrue(ended, lines)


def _is_before(lines: list[str]) -> bool:
    """Tell whether what Python said is of an interruption before mmcache has begun."""
    inside = [line for line in lines if f'File "{mmcache.__path__[0]}' in line]
    begins = ("__init__.py", "__main__.py")
    if "KeyboardInterrupt" not in lines or any(line.startswith("mmcache:") for line in lines):
        return False
    return all(line.split('"')[1].endswith(begins) for line in inside)


def _untrue(ended: Ended, lines: list[str]) -> Iterator[str]:
    """Yield what a command that was stopped should not have said."""
    if len(lines) != 1 or not lines[0].startswith("mmcache: interrupted"):
        yield f"it said {lines}"
    elif ended.kept != (_RESUME in lines[0]):
        yield f"{'something' if ended.kept else 'nothing'} is kept, and it said {lines}"
