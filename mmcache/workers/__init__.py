"""Who does the work: one word, ``concurrent.futures.Executor``, and three of our own."""

from __future__ import annotations

import contextlib
import os
from collections import deque
from concurrent.futures import FIRST_COMPLETED, Executor, Future, ThreadPoolExecutor, wait
from itertools import islice
from typing import TYPE_CHECKING, Any, Generic, TypeVar

from mmcache.errors import SettingError, WorkerError
from mmcache.workers.processes import ProcessExecutor
from mmcache.workers.spans import Span

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Iterable, Iterator

__all__ = [
    "EXECUTORS",
    "ProcessExecutor",
    "SerialExecutor",
    "Span",
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
def executor_of(
    executor: str | Executor, workers: int, *, inherited: int | None = None
) -> Iterator[Executor]:
    """Give the executor that is meant; one of ours ends with the ``with`` block.

    Processes of ours hold the descriptor *inherited* as long as they live.
    """
    checked_executor(executor)
    if isinstance(executor, Executor):
        yield executor
        return
    if executor == "serial":
        yield SerialExecutor()
        return
    ours: Executor = (
        ProcessExecutor(workers, inherited=inherited)
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
    each other. A :class:`Span` that ended its worker is tried again, in the end in pieces. After
    Ctrl-C what is under way is still done and yielded, and nothing new is begun.
    """
    coming = _Tasks(tasks)
    window = 2 * workers + 1
    pending: dict[Future[Result], tuple[Task, int]] = {}
    try:
        while coming.more or pending:
            while coming.more and len(pending) < window:
                weight = weigh(coming.first)
                if pending and sum(weight for _, weight in pending.values()) + weight > most:
                    break
                task = coming.taken()
                future = executor.submit(function, task)
                if future.done():  # a serial executor: nothing to gain by a window
                    yield from _outcome(future, task, coming)
                else:
                    pending[future] = task, weight
            done, _ = wait(pending, return_when=FIRST_COMPLETED)
            for future in done:
                task, _ = pending.pop(future)
                yield from _outcome(future, task, coming)
    except KeyboardInterrupt:
        for future in _ended(pending):
            if not future.cancelled() and future.exception() is None:
                yield future.result()
        raise
    finally:
        _ended(pending)


def _ended(pending: Iterable[Future[Result]]) -> Iterable[Future[Result]]:
    """Cancel what has not begun, and wait for the rest."""
    for future in pending:
        future.cancel()
    wait(pending)
    return pending


class _Tasks(Generic[Task]):
    """Tasks to come, of which the first is known; those to be done again come before others."""

    def __init__(self, tasks: Iterable[Task]) -> None:
        self._tasks = iter(tasks)
        self._known = deque(islice(self._tasks, 1))

    @property
    def more(self) -> bool:
        return bool(self._known)

    @property
    def first(self) -> Task:
        return self._known[0]

    def taken(self) -> Task:
        task = self._known.popleft()
        if not self._known:
            self._known.extend(islice(self._tasks, 1))
        return task

    def add(self, tasks: Iterable[Task]) -> None:
        self._known.extendleft(tasks)


def _outcome(future: Future[Result], task: Task, coming: _Tasks[Task]) -> Generator[Result]:
    """Yield what came of a task, or put what is to be done instead among those to come."""
    try:
        outcome = future.result()
    except WorkerError as error:
        if not isinstance(task, Span):
            raise
        coming.add(task.again(error))
        return
    yield outcome
