"""How long work shows that it goes on: a bar, a callable, or nothing."""

from __future__ import annotations

import contextlib
import sys
import warnings
from collections.abc import Callable, Iterator
from typing import Any

__all__ = ["Progress", "Shown", "progress_of"]

Progress = Callable[[int, int], None]
"""Called now and then with how much is done and how much there is in all."""


class Shown:
    """Tells a bar or a callable how far the work is; made by :func:`progress_of`."""

    def __init__(self, call: Progress | None = None) -> None:
        self._call = call

    def to(self, done: int, total: int, nbytes: int = 0) -> None:  # noqa: ARG002  # for bars
        """Show that *done* of *total* are done, and *nbytes* bytes of pixels written."""
        if self._call is not None:
            self._call(done, total)

    def say(self, what: str) -> None:
        """Show a line beside a bar; nothing where there is none."""


class _Bar(Shown):
    def __init__(self, bar: Any) -> None:
        super().__init__()
        self._bar = bar

    def to(self, done: int, total: int, nbytes: int = 0) -> None:
        if self._bar.total != total:
            self._bar.reset(total)
        if nbytes and (elapsed := self._bar.format_dict["elapsed"]):
            self._bar.set_postfix_str(f"{nbytes / 1e6 / elapsed:.0f} MB/s", refresh=False)
        self._bar.update(done - self._bar.n)

    def say(self, what: str) -> None:
        if not self._bar.disable:
            self._bar.write(what, file=sys.stderr)


@contextlib.contextmanager
def progress_of(progress: bool | Progress, what: str) -> Iterator[Shown]:
    """Give something to report to: for True a bar, where there is a terminal or a notebook."""
    if callable(progress):
        yield Shown(progress)
    elif not progress:
        yield Shown()
    else:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # tqdm.auto's, where a notebook has no widgets
            from tqdm.auto import tqdm  # noqa: PLC0415  # slow to import and seldom needed

            # disable=None: no bar where there is no terminal.
            disable = False if _in_notebook() else None
            bar = tqdm(desc=what, unit=f" {what}", disable=disable, total=None)
        with bar:
            yield _Bar(bar)


def _in_notebook() -> bool:
    """Tell whether a kernel shows what is printed, though there is no terminal."""
    ipython = sys.modules.get("IPython")
    shell = ipython.get_ipython() if ipython is not None else None
    return hasattr(shell, "kernel")
