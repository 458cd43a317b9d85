"""Who does the work: one word, ``concurrent.futures.Executor``, and three of our own."""

from __future__ import annotations

import contextlib
import os
from concurrent.futures import FIRST_COMPLETED, Executor, Future, ThreadPoolExecutor, wait
from typing import TYPE_CHECKING, Any, TypeVar

from mmcache.errors import SettingError
from mmcache.workers.processes import ProcessExecutor

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Iterable, Iterator

__all__ = [
    "EXECUTORS",
    "ProcessExecutor",
    "SerialExecutor",
    "executor_of",
    "results",
    "worker_count",
]

EXECUTORS = ("serial", "threads", "processes")

Task = TypeVar("Task")
Result = TypeVar("Result")


class SerialExecutor(Executor):
    """Does each thing when it is submitted, in this thread."""

    def submit(self, fn: Callable[..., Result], /, *args: Any, **kwargs: Any) -> Future[Result]:
        """Call *fn* and return its outcome; see :class:`concurrent.futures.Executor`."""
        future: Future[Result] = Future()
        try:
            future.set_result(fn(*args, **kwargs))
        except Exception as error:  # noqa: BLE001  # a future carries whatever was raised
            future.set_exception(error)
        return future


def worker_count(workers: int | None) -> int:
    """Return how many workers are meant; by default, as many as there are cores to use."""
    if workers is None:
        usable = getattr(os, "sched_getaffinity", None)
        return len(usable(0)) if usable else os.cpu_count() or 1
    if type(workers) is not int or workers < 1:
        raise SettingError(f"workers={workers!r} is not a whole number from 1 up")
    return workers


def checked_executor(executor: Any) -> None:
    """Raise :class:`SettingError` where *executor* is neither a name of ours nor an executor."""
    if executor not in EXECUTORS and not isinstance(executor, Executor):
        raise SettingError(
            f"executor={executor!r} is neither one of {', '.join(EXECUTORS)}"
            " nor a concurrent.futures.Executor"
        )


@contextlib.contextmanager
def executor_of(executor: str | Executor, workers: int) -> Iterator[Executor]:
    """Give the executor that is meant; one of ours ends with the ``with`` block."""
    checked_executor(executor)
    if isinstance(executor, Executor):
        yield executor
        return
    if executor == "serial":
        yield SerialExecutor()
        return
    ours: Executor = (
        ProcessExecutor(workers)
        if executor == "processes"
        else ThreadPoolExecutor(workers, thread_name_prefix="mmcache")
    )
    try:
        yield ours
    finally:
        ours.shutdown(wait=True, cancel_futures=True)


def _weightless(_: Any) -> int:
    return 0


def results(
    executor: Executor,
    function: Callable[[Task], Result],
    tasks: Iterable[Task],
    workers: int,
    *,
    weigh: Callable[[Task], int] = _weightless,
    most: int = 0,
) -> Generator[Result]:
    """Yield ``function(task)`` for each task as they complete, with few of them under way.

    However many tasks there are, only a window of them exists at a time. What *weigh* says of those
    under way never adds up to more than *most*, unless one alone weighs more: heavy ones wait for
    each other.
    """
    waiting = iter(tasks)
    window = 2 * workers + 1
    pending: dict[Future[Result], int] = {}
    task = next(waiting, None)
    try:
        while task is not None or pending:
            while task is not None and len(pending) < window:
                weight = weigh(task)
                if pending and sum(pending.values()) + weight > most:
                    break
                future = executor.submit(function, task)
                task = next(waiting, None)
                if future.done():  # a serial executor: nothing to gain by a window
                    yield future.result()
                else:
                    pending[future] = weight
            done, _ = wait(pending, return_when=FIRST_COMPLETED)
            for future in done:
                del pending[future]
                yield future.result()
    finally:
        for future in pending:
            future.cancel()
        wait(pending)
