"""What the benchmarks share: pictures, a place to work, rounds that take turns, Markdown tables."""

from __future__ import annotations

import argparse
import contextlib
import gc
import resource
import statistics
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from mmcache.testing import paint_folder

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence

__all__ = [
    "Spent",
    "first_time",
    "median",
    "options_of",
    "processor_time",
    "ratio",
    "spent",
    "table",
    "take_turns",
    "workplace",
]

median = statistics.median


class Spent(NamedTuple):
    """What a piece of work took, in seconds: by the clock on the wall, and of the processor."""

    clock: float
    processor: float


def processor_time() -> float:
    """Return the processor seconds of this process, its threads, and its ended children."""
    both = (resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))
    return sum(used.ru_utime + used.ru_stime for used in both)


def spent(work: Callable[[], object]) -> Spent:
    """Do *work* and return what it took."""
    gc.collect()
    clock, processor = time.perf_counter(), processor_time()
    work()
    return Spent(time.perf_counter() - clock, processor_time() - processor)


@contextlib.contextmanager
def first_time() -> Iterator[None]:
    """Let mmcache remember no headers from an earlier build: the temporary folder is a new one."""
    before = tempfile.tempdir
    with tempfile.TemporaryDirectory(prefix="mmcache-bench-") as new:
        tempfile.tempdir = new
        try:
            yield
        finally:
            tempfile.tempdir = before


def take_turns(
    contenders: dict[str, Callable[[], object]],
    rounds: int,
    after: Callable[[], object] = lambda: None,
) -> dict[str, list[Spent]]:
    """Let each contender work once a round, and *after* it clean up without being timed.

    Whatever else the machine does then disturbs all of them alike. Every second round runs
    backwards, so that nobody always comes first.
    """
    taken: dict[str, list[Spent]] = {name: [] for name in contenders}
    for number in range(rounds):
        for name in list(contenders)[:: -1 if number % 2 else 1]:
            taken[name].append(spent(contenders[name]))
            after()
    return taken


def ratio(one: Iterable[float], other: Iterable[float]) -> float:
    """Return the median of the ratios *one* / *other*, taken round by round."""
    return median(a / b for a, b in zip(one, other, strict=True))


def table(head: Sequence[str], rows: Iterable[Sequence[object]]) -> str:
    """Return a Markdown table, its columns even; all but the first are right-aligned."""
    lines = [[str(cell) for cell in line] for line in [head, *rows]]
    widths = [max(3, *(len(line[column]) for line in lines)) for column in range(len(head))]
    first, *others = widths
    rule = ["-" * first, *("-" * (width - 1) + ":" for width in others)]
    return "\n".join(
        "| "
        + " | ".join(
            cell.rjust(width) if column else cell.ljust(width)
            for column, (cell, width) in enumerate(zip(line, widths, strict=True))
        )
        + " |"
        for line in [lines[0], rule, *lines[1:]]
    )


def options_of(
    description: str, arguments: list[str] | None, **defaults: int
) -> argparse.Namespace:
    """Read the command line: ``--photos``, and a number for each of *defaults*."""
    parser = argparse.ArgumentParser(description=description.partition("\n")[0])
    parser.add_argument(
        "--photos", type=Path, metavar="FOLDER", help="pictures to measure with (default: painted)"
    )
    parser.add_argument(
        "--painted", type=int, default=200, help="how many to paint where no folder is given"
    )
    for name, default in defaults.items():
        parser.add_argument(
            f"--{name.replace('_', '-')}", type=int, default=default, help=f"(default: {default})"
        )
    return parser.parse_args(arguments)


@contextlib.contextmanager
def workplace(options: argparse.Namespace) -> Iterator[tuple[Path, Path]]:
    """Give the folder of pictures, and an empty one to work in that is removed at the end."""
    with tempfile.TemporaryDirectory(prefix="mmcache-bench-") as name:
        work = Path(name) / "work"
        work.mkdir()
        photos = options.photos or paint_folder(Path(name) / "painted", options.painted)
        yield photos.resolve(), work
