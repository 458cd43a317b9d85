"""Who does the work: one word, ``concurrent.futures.Executor``, and three of our own."""

from __future__ import annotations

import contextlib
import os
from collections import deque
from concurrent.futures import Executor, Future, ThreadPoolExecutor, wait
from itertools import islice
from queue import SimpleQueue
from typing import TYPE_CHECKING, Any, Generic, TypeVar

from mmcache.errors import SettingError, WorkerError
from mmcache.workers.processes import ProcessExecutor
from mmcache.workers.spans import Span, in_time

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Iterable, Iterator, Sequence

__all__ = [
    "EXECUTORS",
    "ProcessExecutor",
    "SerialExecutor",
    "Span",
    "executor_of",
    "in_time",
    "is_ours",
    "results",
    "under_way",
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


def is_ours(executor: Executor) -> bool:
    """Tell whether what *executor* does is surely done on this machine."""
    return isinstance(executor, (SerialExecutor, ThreadPoolExecutor, ProcessExecutor))


def _weightless(_: Any) -> int:
    return 0


def results(
    executor: Executor,
    function: Callable[[Task], Result],
    tasks: Iterable[Task],
    workers: int,
    *,
    before: Iterable[Task] = (),
    weigh: Callable[[Task], int] = _weightless,
    most: int = 0,
) -> Generator[Result]:
    """Yield ``function(task)`` for each task as they complete, with few of them under way.

    However many tasks there are, only a window of them exists at a time. Those of *before* come
    first. What *weigh* says of those under way never adds up to more than *most*, unless one alone
    weighs more: heavy ones wait for each other. While one of *before* waits, *tasks* go on, and
    leave it the room that it waits for. A :class:`Span` that ended its worker is tried again, in
    the end in pieces; of one of which a part is done, the rest comes next. After Ctrl-C what is
    under way is still done and yielded, and nothing new is begun.
    """
    lines = [_Line(before, weigh), _Line(tasks, weigh)]
    window = 2 * workers + 1
    pending: dict[Future[Result], tuple[Task, _Line[Task]]] = {}
    # Each says itself when it is done: to ask them all takes longer the more there are.
    done: SimpleQueue[Future[Result]] = SimpleQueue()
    try:
        while pending or any(line.more for line in lines):
            while len(pending) < window and (line := _next_of(lines, most)) is not None:
                task = line.taken()
                future = executor.submit(function, task)
                if future.done():  # a serial executor: nothing to gain by a window
                    line.done_with(task)
                    yield from _outcome(future, task, line)
                else:
                    pending[future] = task, line
                    future.add_done_callback(done.put)
            if pending:
                future = done.get()
                task, line = pending.pop(future)
                line.done_with(task)
                yield from _outcome(future, task, line)
    except KeyboardInterrupt:
        for future in _ended(pending):
            if not future.cancelled() and future.exception() is None:
                yield future.result()
        raise
    finally:
        _ended(pending)


def under_way(outcomes: Generator[Result], interruption: KeyboardInterrupt) -> Generator[Result]:
    """Yield what :func:`results` still has when Ctrl-C came while an outcome was looked at.

    Nothing, where it came to *outcomes* itself, which then has yielded all.
    """
    with contextlib.suppress(KeyboardInterrupt):
        yield outcomes.throw(interruption)
        yield from outcomes


def _ended(pending: Iterable[Future[Result]]) -> Iterable[Future[Result]]:
    """Cancel what has not begun, and wait for the rest."""
    for future in pending:
        future.cancel()
    wait(pending)
    return pending


class _Line(Generic[Task]):
    """Tasks to come, of which the first is known, and the weight of those that are under way.

    Those to be done again come before others.
    """

    def __init__(self, tasks: Iterable[Task], weigh: Callable[[Task], int]) -> None:
        self._tasks = iter(tasks)
        self._weigh = weigh
        self._known = deque(islice(self._tasks, 1))
        self.weight = 0

    @property
    def more(self) -> bool:
        return bool(self._known)

    @property
    def next_weight(self) -> int:
        """The weight of the first; 0 where there is none."""
        return self._weigh(self._known[0]) if self._known else 0

    def taken(self) -> Task:
        task = self._known.popleft()
        if not self._known:
            self._known.extend(islice(self._tasks, 1))
        self.weight += self._weigh(task)
        return task

    def done_with(self, task: Task) -> None:
        self.weight -= self._weigh(task)

    def add(self, tasks: Iterable[Task]) -> None:
        self._known.extendleft(tasks)


def _next_of(lines: Sequence[_Line[Task]], most: int) -> _Line[Task] | None:
    """Return the line whose first task is to be begun now; None where none is, or each must wait.

    What lies behind a task that waits may pass it as long as both would fit together: so it only
    waits for those before it, and never for what passes.
    """
    first, second = lines
    under_way = first.weight + second.weight
    if first.more and (not under_way or under_way + first.next_weight <= most):
        return first
    room = most - max(first.weight, first.next_weight)
    if second.more and (not under_way or second.weight + second.next_weight <= room):
        return second
    return None


def _outcome(future: Future[Result], task: Task, coming: _Line[Task]) -> Generator[Result]:
    """Yield what came of a task, or put what is to be done instead among those to come."""
    try:
        outcome = future.result()
    except WorkerError as error:
        if not isinstance(task, Span):
            raise
        coming.add(task.again(error))
        return
    if isinstance(task, Span):
        coming.add(task.rest(outcome))
    yield outcome
    if isinstance(task, Span) and task.interrupted(outcome):
        raise KeyboardInterrupt
