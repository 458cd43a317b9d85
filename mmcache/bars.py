"""Bars, and where one can be drawn: a terminal, a Jupyter kernel, marimo. Elsewhere there is none.

tqdm draws the first two: in a kernel as a widget where ipywidgets are installed, else as text.
"""

from __future__ import annotations

import contextlib
import sys
import warnings
from time import monotonic
from typing import Any, Protocol

__all__ = ["Bar", "bar", "can_be_drawn", "said"]

_WIDE = "{desc}: {percentage:3.0f}%|{bar}| {counted} [{elapsed}<{remaining}, {speed}]"
_NARROW = "{desc}: {percentage:3.0f}%|{bar}| {counted} {clock}"
_ENOUGH = 72  # columns for the wide one


class Bar(Protocol):
    """One line that shows how far a step is; the next step may take its place."""

    def begins(self, what: str, done: int, total: int) -> None:
        """Show a step of which *done* of *total* pictures were done before."""

    def moves(self, done: int, total: int, nbytes: int) -> None:
        """Show that *done* are done by now, and *nbytes* bytes were written or read."""

    def ends(self, *, stays: bool) -> None:
        """Draw no more; what is drawn stays, or goes."""


def can_be_drawn() -> bool:
    """Tell whether somebody looks on: there is a notebook, or standard error is a terminal."""
    return _in_marimo() or _in_kernel() or _on_terminal()


def bar(what: str, done: int, total: int) -> Bar:
    """Draw a bar where :func:`can_be_drawn` says that it can be."""
    return _Marimo(what, done, total) if _in_marimo() else _Tqdm(what, done, total)


def said(line: str) -> None:
    """Print a line beside a bar: to standard error on a terminal, as part of a cell's output."""
    if _in_marimo():
        print(line)  # noqa: T201  # the cell's output
    else:
        _tqdm().write(line, file=_file())


def _in_marimo() -> bool:
    """Tell whether this thread runs a cell of marimo, which has a kernel of its own."""
    marimo = sys.modules.get("marimo")
    return marimo is not None and bool(marimo.running_in_notebook())


def _in_kernel() -> bool:
    """Tell whether a Jupyter kernel shows what is printed, though there is no terminal."""
    ipython = sys.modules.get("IPython")
    shell = ipython.get_ipython() if ipython is not None else None
    return hasattr(shell, "kernel")


def _on_terminal() -> bool:
    try:
        return sys.stderr is not None and sys.stderr.isatty()
    except ValueError:  # it was closed
        return False


def _file() -> Any:
    # A notebook shows standard error as if something were wrong.
    return sys.stdout if _in_kernel() else sys.stderr


def _rate(told: dict[str, Any]) -> float:
    """Return pictures a second: of late, or on the whole; not counted is what was there before."""
    recent: float = told["rate"] or 0.0
    elapsed = told["elapsed"]
    return recent or ((told["n"] - told["initial"]) / elapsed if elapsed else 0.0)


def _speed(rate: float, nbytes: int, elapsed: float) -> str:
    """Say how fast it goes.

    >>> _speed(1234.5, 20_000_000, 2.0), _speed(0.25, 0, 8.0)
    ('1,234 pictures/s, 10 MB/s', '0.2 pictures/s')
    """
    written = f", {_few_digits(nbytes / 1e6 / elapsed)} MB/s" if nbytes and elapsed else ""
    return f"{_few_digits(rate) if rate else '?'} pictures/s{written}"


def _few_digits(number: float) -> str:
    return f"{number:,.0f}" if number >= 10 else f"{number:.1f}"  # noqa: PLR2004  # has two digits


def _tqdm() -> Any:
    # Imported here so that importing mmcache does not load tqdm.
    if "tqdm.auto" in sys.modules:
        from tqdm.auto import tqdm  # noqa: PLC0415
    else:
        with warnings.catch_warnings():  # it warns where a kernel has no ipywidgets
            warnings.simplefilter("ignore")
            from tqdm.auto import tqdm  # noqa: PLC0415
    return tqdm


def _line_of_tqdm() -> Any:
    """Return tqdm's bar, text or widget, with words of ours."""

    class Line(_tqdm()):  # type: ignore[misc]  # tqdm has no types
        monitor_interval = 0  # it is drawn when there is news; a thread of tqdm's would outlive it
        nbytes = 0

        @property
        def format_dict(self) -> dict[str, Any]:
            told: dict[str, Any] = super().format_dict
            done, total, elapsed, columns = (
                told[name] for name in ("n", "total", "elapsed", "ncols")
            )
            rate = _rate(told)
            left = f"<{self.format_interval((total - done) / rate)}" if rate else "<?"
            return told | {
                "bar_format": _NARROW if columns and columns < _ENOUGH else _WIDE,
                "counted": f"{done:,}/{total:,}",
                "clock": left if done < total else f"in {self.format_interval(elapsed)}",
                "speed": _speed(rate, self.nbytes, elapsed),
            }

        def refresh(self, nolock: bool = False, lock_args: Any = None) -> Any:
            # tqdm's own would keep the lock where Ctrl-C comes while it draws.
            with contextlib.nullcontext() if nolock else self.get_lock():
                return super().refresh(nolock=True, lock_args=lock_args)

    return Line


class _Tqdm:
    """A bar of tqdm's."""

    def __init__(self, what: str, done: int, total: int) -> None:
        kind = _line_of_tqdm()
        widget = "tqdm_notebook" in [one.__name__ for one in kind.__mro__]
        self._line = kind(
            desc=what,
            total=total,
            initial=done,
            miniters=1,
            smoothing=0.1,  # of the last ten or so
            file=_file(),
            dynamic_ncols=not _in_kernel(),
            **({"display": False} if widget else {}),
        )
        self._shown = _displayed(self._line.container) if widget else None

    def begins(self, what: str, done: int, total: int) -> None:
        line = self._line
        line.desc, line.nbytes, line.initial = what, 0, 0
        line.reset(total)
        line.initial = line.n = line.last_print_n = done
        line.refresh()

    def moves(self, done: int, total: int, nbytes: int) -> None:
        line = self._line
        if line.total != total:  # without its beginning anew
            line.total = total
            if hasattr(line, "container"):
                line.container.children[1].max = total
        line.nbytes = nbytes
        line.update(done - line.n)

    def ends(self, *, stays: bool) -> None:
        line = self._line
        line.leave = stays
        line.close()
        if self._shown is not None:
            # A saved notebook keeps no widget, but the text beside it: how it stood when it ended.
            left = stays or line.n < line.total
            self._shown.update(line.container if left else {"text/plain": ""}, raw=not left)


def _displayed(widget: Any) -> Any:
    """Display a widget, and return what its display can be changed by."""
    from IPython import display  # noqa: PLC0415  # whoever asks for it runs in a kernel

    shown: Any = display.display
    return shown(widget, display_id=True)


class _Marimo:
    """A bar of marimo's own."""

    def __init__(self, what: str, done: int, total: int) -> None:
        self._drawn = self._of(what, done, total)

    def begins(self, what: str, done: int, total: int) -> None:
        self._drawn.clear()
        self._drawn.close()
        self._drawn = self._of(what, done, total)

    def moves(self, done: int, total: int, nbytes: int) -> None:
        self._drawn.total = total
        elapsed = monotonic() - self._since
        rate = (done - self._initial) / elapsed if elapsed else 0.0
        left = f", {(total - done) / rate:,.0f} s left" if rate and done < total else ""
        self._drawn.update(
            increment=done - self._drawn.current,
            subtitle=f"{_speed(rate, nbytes, elapsed)}{left}",
        )

    def ends(self, *, stays: bool) -> None:
        if not stays:
            self._drawn.clear()
        self._drawn.close()

    def _of(self, what: str, done: int, total: int) -> Any:
        import marimo  # noqa: PLC0415  # it runs this very cell

        self._since, self._initial = monotonic(), done
        # It counts, and below its title is room for what it would not say as the others do.
        shown: Any = marimo.status.progress_bar(
            total=total, title=what, show_rate=False, show_eta=False
        )
        drawn = shown.__enter__()
        if done:
            drawn.update(increment=done)
        return drawn
