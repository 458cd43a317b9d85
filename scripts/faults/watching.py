"""Children that are watched: one that dies or hangs over its work is replaced, and the work blamed.

What a child does is a function of this script's, given paths and plain data; what it found wrong
comes back as sentences.
"""

from __future__ import annotations

import multiprocessing
import os
import queue
import signal
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any, NamedTuple, Self, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator
    from multiprocessing.connection import Connection
    from pathlib import Path

__all__ = ["Answer", "Child", "Children"]

Task = TypeVar("Task")

# A child begins anew: nothing of its parent's memory, threads or open files is in it.
_PROCESSES = multiprocessing.get_context("spawn")


class Answer(NamedTuple):
    """What came of a task: whether mmcache refused it when it was opened, and what was bad."""

    refused: bool
    bad: list[str]


class Child:
    """A process that answers one task after the other, and has a folder of its own."""

    def __init__(self, work: Callable[..., Answer], folder: Path, limit: float) -> None:
        folder.mkdir()
        self.folder = folder
        self._work, self._limit = work, limit
        self._start()

    def _start(self) -> None:
        self._pipe, its = _PROCESSES.Pipe()
        self._process = _PROCESSES.Process(target=_serve, args=(self._work, its), daemon=True)
        self._process.start()
        its.close()  # or its end would be told of to nobody

    def ask(self, *task: Any) -> Answer:
        """Return what the child says, or how it ended."""
        self._pipe.send(task)
        try:
            if self._pipe.poll(self._limit):
                answer: Answer = self._pipe.recv()
                return answer
            how = f"hung for {self._limit} seconds"
        except (EOFError, ConnectionError):
            self._process.join()
            how = f"ended by {_ending(self._process.exitcode or 0)}"
        self.close()
        self._start()
        return Answer(refused=False, bad=[how])

    def close(self) -> None:
        """End the process."""
        self._process.kill()
        self._process.join()
        self._pipe.close()


def _serve(work: Callable[..., Answer], pipe: Connection) -> None:
    while True:
        try:
            task = pipe.recv()
        except (EOFError, ConnectionError):  # whoever asked has ended
            return
        pipe.send(work(*task))


def _ending(status: int) -> str:
    return signal.Signals(-status).name if status < 0 else f"exit status {status}"


class Children:
    """As many of them as there are cores, each with a task at a time."""

    def __init__(self, work: Callable[..., Answer], folder: Path, limit: float) -> None:
        count = os.cpu_count() or 1
        self._all = [Child(work, folder / f"child-{number}", limit) for number in range(count)]

    def answers(
        self, ask: Callable[[Child, Task], Answer], tasks: Iterable[Task]
    ) -> Iterator[tuple[Task, Answer]]:
        """Yield each task with what came of asking a child."""
        idle: queue.SimpleQueue[Child] = queue.SimpleQueue()
        for child in self._all:
            idle.put(child)

        def answered(task: Task) -> tuple[Task, Answer]:
            child = idle.get()
            try:
                return task, ask(child, task)
            finally:
                idle.put(child)

        with ThreadPoolExecutor(len(self._all)) as pool:
            yield from pool.map(answered, tasks)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        for child in self._all:
            child.close()
