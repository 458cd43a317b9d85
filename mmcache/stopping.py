"""Ctrl-C and SIGTERM: how a command is stopped."""

from __future__ import annotations

import os
import signal
import threading
from time import monotonic
from typing import TYPE_CHECKING, Any, Self

if TYPE_CHECKING:
    from types import FrameType

__all__ = ["Stopping"]

_AT_ONCE = 1.0  # seconds


class Stopping:
    """While the ``with`` block runs, the first Ctrl-C or SIGTERM is a :class:`KeyboardInterrupt`.

    What follows it finds all being tidied up. Within a second it means the same, and changes
    nothing: many who pass signals on send them twice. Later, somebody does not want to wait, and
    the process ends at once, which is to a build as ``kill -9`` is. A signal that the process was
    started to ignore, as by ``nohup``, is ignored.

    Attributes
    ----------
    by : int or None
        The signal that came first.
    """

    def __init__(self) -> None:
        self.by: int | None = None
        self._at = 0.0
        self._before: dict[int, Any] = {}

    def __enter__(self) -> Self:
        if threading.current_thread() is threading.main_thread():
            for number in (signal.SIGINT, signal.SIGTERM):
                if signal.getsignal(number) != signal.SIG_IGN:
                    self._before[number] = signal.signal(number, self._stop)
        return self

    def __exit__(self, *_: object) -> None:
        for number, handler in self._before.items():
            signal.signal(number, signal.SIG_DFL if handler is None else handler)

    def _stop(self, number: int, _: FrameType | None) -> None:
        if self.by is None:
            self.by, self._at = number, monotonic()
            raise KeyboardInterrupt
        if monotonic() - self._at > _AT_ONCE:
            os.write(2, b"mmcache: ended at once; run the same command to resume\n")
            os._exit(self.status)

    @property
    def status(self) -> int:
        """The exit status of a command that was stopped, as shells count: 130 or 143."""
        return 128 + (self.by or signal.SIGINT)
