"""How long work shows that it goes on: a bar, a callable, or nothing.

Work has steps, as reading headers and decoding; only the last of them, which makes what was asked
for, counts. Those before it *prepare*: a bar shows them where they take a while, and a callable
hears of none done yet.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from time import monotonic
from typing import TYPE_CHECKING

from mmcache.bars import bar, can_be_drawn, said

if TYPE_CHECKING:
    from mmcache.bars import Bar

__all__ = ["Progress", "Shown", "progress_of"]

Progress = Callable[[int, int], None]
"""Called with how many pictures are done and how many there are in all.

It is called by the thread that asked for the work, and by no other: first with 0 done, then with
more and more of them, at most ten times a second, and seldom enough that it takes no more than a
tenth of the time, however slow it is. When the work has ended well, and only then, it is called
with all of them done, once. How many there are in all may become less, when it turns out that some
cannot be read. What it raises ends the work as Ctrl-C does, and a build goes on by the same call.
"""

_OFTEN = 0.1  # seconds between two looks
_SHARE = 9  # times as long as a call took, until the next
_SOON = 0.5  # seconds of preparing before a bar is drawn


class Shown:
    """Tells a bar or a callable how far the work is; made by :func:`progress_of`. This one: none.

    ``show.begins("building")``, then ``show.to(0, total)`` as soon as the total is known, then
    ``show.to(done, total)`` as often as one likes.
    """

    def begins(self, what: str, *, prepares: bool = False) -> None:
        """Begin the next step: *what* is being done, as "reading headers"."""

    def to(self, done: int, total: int, nbytes: int = 0) -> None:
        """Show that *done* of *total* are done, and *nbytes* bytes of pixels written or read."""

    def say(self, what: str) -> None:
        """Show a line beside a bar; nothing where there is none."""

    def ends(self, *, well: bool) -> None:
        """Show that the work is over; *well* if it was not broken off."""


class _Told(Shown):
    """Tells a callable."""

    def __init__(self, call: Progress) -> None:
        self._call = call
        self._prepares = False
        self._done = 0
        self._total: int | None = None
        self._due: float | None = None  # None: a step begins, of which it is to be told at once

    def begins(self, what: str, *, prepares: bool = False) -> None:  # noqa: ARG002  # for bars
        self._prepares, self._due = prepares, None

    def to(self, done: int, total: int, nbytes: int = 0) -> None:  # noqa: ARG002  # for bars
        began = monotonic()
        self._total = total
        if self._due is not None and began < self._due:
            return
        if not self._prepares:
            if done >= total:
                return  # which is told when all has ended
            self._done = max(self._done, done)
        self._call(self._done, total)
        now = monotonic()
        self._due = now + max(_OFTEN, _SHARE * (now - began))

    def ends(self, *, well: bool) -> None:
        if well and self._total is not None:
            self._call(self._total, self._total)


class _Drawn(Shown):
    """Draws a bar, whose place all steps share: what is left of the work is one line."""

    def __init__(self) -> None:
        self._bar: Bar | None = None
        self.begins("")

    def begins(self, what: str, *, prepares: bool = False) -> None:
        self._what, self._prepares = what, prepares
        self._fresh = True
        self._due = monotonic() + (_SOON if prepares and self._bar is None else 0)

    def to(self, done: int, total: int, nbytes: int = 0) -> None:
        now = monotonic()
        if not total or (now < self._due and (self._prepares or done < total)):
            return
        self._due = now + _OFTEN
        if self._bar is None:
            self._bar = bar(self._what, done, total)
        elif self._fresh:
            self._bar.begins(self._what, done, total)
        else:
            self._bar.moves(done, total, nbytes)
        self._fresh = False

    def say(self, what: str) -> None:
        said(what)

    def ends(self, *, well: bool) -> None:
        if self._bar is not None:
            self._bar.ends(stays=not (well and self._prepares))


@contextlib.contextmanager
def progress_of(progress: bool | Progress, what: str, *, prepares: bool = False) -> Iterator[Shown]:
    """Give something to report to: for True a bar, where there is a terminal or a notebook.

    The work's first step is *what*; the work is what is done within the ``with`` block.
    """
    if callable(progress):
        shown: Shown = _Told(progress)
    else:
        shown = _Drawn() if progress and can_be_drawn() else Shown()
    shown.begins(what, prepares=prepares)
    try:
        yield shown
    except BaseException:
        shown.ends(well=False)
        raise
    shown.ends(well=True)
