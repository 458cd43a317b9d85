"""Worker processes of our own, which need no ``__main__`` guard and work from a notebook.

A worker is ``python -c`` with two pipes: it reads pickled calls from one and answers on the other.
Both are pickled twice, as bytes, so that one that cannot be read can be passed over.
What the pipes carry comes from this very process and goes back to it.
"""

from __future__ import annotations

import contextlib
import os
import pickle
import queue
import signal
import subprocess
import sys
import threading
from concurrent.futures import Executor, Future
from typing import TYPE_CHECKING, Any, BinaryIO, TypeVar

from mmcache.errors import WorkerError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

__all__ = ["ProcessExecutor", "serve"]

Result = TypeVar("Result")

_STARTS = 3  # of a worker, before it is no accident that none begins
_START = """
import pickle, sys
try:
    sys.path[:] = pickle.load(sys.stdin.buffer)
except (EOFError, pickle.UnpicklingError):
    sys.exit()  # who started it has ended already
from mmcache.workers.processes import serve
serve()
"""


class ProcessExecutor(Executor):
    """An executor over *workers* processes, each fed by a thread.

    Functions are sent by name and must be importable. A worker that dies fails the call that it
    was at with :class:`WorkerError`, and another takes its place. All workers end when this process
    does, however it ends.
    """

    def __init__(self, workers: int, *, inherited: int | None = None) -> None:
        self._calls: queue.SimpleQueue[tuple[Future[Any], bytes] | None] = queue.SimpleQueue()
        self._threads = [
            threading.Thread(target=self._feed, args=(worker,), daemon=True)
            for worker in [_Worker(inherited) for _ in range(workers)]
        ]
        self._closed = False
        for thread in self._threads:
            thread.start()

    def submit(self, fn: Callable[..., Result], /, *args: Any, **kwargs: Any) -> Future[Result]:
        """Send a call to the next free worker; see :class:`concurrent.futures.Executor`."""
        if self._closed:
            raise RuntimeError("the executor was shut down")
        future: Future[Result] = Future()
        self._calls.put((future, pickle.dumps((fn, args, kwargs))))
        return future

    def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:
        """End the workers when their calls are done; see :class:`concurrent.futures.Executor`."""
        if self._closed:
            return
        self._closed = True
        if cancel_futures:
            with contextlib.suppress(queue.Empty):
                while (call := self._calls.get_nowait()) is not None:
                    call[0].cancel()
        for _ in self._threads:
            self._calls.put(None)
        if wait:
            for thread in self._threads:
                thread.join()

    def _feed(self, worker: _Worker) -> None:
        while (call := self._calls.get()) is not None:
            future, message = call
            if not future.set_running_or_notify_cancel():
                continue
            for _ in range(_STARTS):
                if worker.begun():
                    break
                worker = worker.replaced()
            if not worker.answered(future, message):
                worker = worker.replaced()
        worker.end()


def _started(inherited: int | None) -> subprocess.Popen[bytes]:
    with _without_ctrl_c():
        process = subprocess.Popen(  # noqa: S603  # this very interpreter
            [sys.executable, "-c", _START],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            # Windows hands on no descriptors.
            pass_fds=() if inherited is None or os.name != "posix" else (inherited,),
        )
    assert process.stdin is not None  # noqa: S101  # asked for above
    with contextlib.suppress(OSError):  # one that died at once is found when its word is missing
        pickle.dump(sys.path, process.stdin)
        process.stdin.flush()
    return process


@contextlib.contextmanager
def _without_ctrl_c() -> Iterator[None]:
    """Start processes that Ctrl-C does not reach, though it is sent to the whole group.

    When to stop is the coordinator's affair, even while a worker has not begun. What a thread
    blocks stays blocked in the processes that it starts; here it comes when the block ends.
    """
    if not hasattr(signal, "pthread_sigmask"):
        yield
        return
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


class _Worker:
    """One worker process, and what it was told and has answered."""

    def __init__(self, inherited: int | None) -> None:
        self._inherited = inherited
        self._process = _started(inherited)
        assert self._process.stdin is not None  # noqa: S101  # both are asked for below
        assert self._process.stdout is not None  # noqa: S101
        self._calls, self._answers = self._process.stdin, self._process.stdout
        self._begun = False

    def begun(self) -> bool:
        """Wait for the worker's word that it began; tell whether it came."""
        if not self._begun:
            with contextlib.suppress(OSError, EOFError, pickle.UnpicklingError):
                pickle.load(self._answers)  # noqa: S301  # from our own worker
                self._begun = True
        return self._begun

    def answered(self, future: Future[Any], message: bytes) -> bool:
        """Send a call and wait for its answer; tell whether the worker still lives."""
        if not self.begun():
            future.set_exception(WorkerError(f"a worker could not begin: it ended {self._how()}"))
            return False
        try:
            pickle.dump(message, self._calls)
            self._calls.flush()
            answer = pickle.load(self._answers)  # noqa: S301  # from our own worker
        except (OSError, EOFError, pickle.UnpicklingError):
            how = self._how()
            future.set_exception(WorkerError(f"a worker process ended {how}", how))
            return False
        _settled(future, answer)
        return True

    def _how(self) -> str:
        status = self._process.wait()
        if status == -signal.SIGKILL:
            return "by signal SIGKILL; out of memory, perhaps"
        if status < 0:
            return f"by signal {signal.Signals(-status).name}"
        return f"with exit status {status}"

    def replaced(self) -> _Worker:
        """End this one, and return another in its place."""
        self.end()
        return _Worker(self._inherited)

    def end(self) -> None:
        """Close the pipes, at which the worker ends, and wait for it."""
        # What a dead worker did not read can no longer be flushed to it.
        with contextlib.suppress(BrokenPipeError), self._process:
            pass


def _settled(future: Future[Any], answer: bytes) -> None:
    try:
        done, outcome = pickle.loads(answer)  # noqa: S301  # from our own worker
    except Exception as error:  # noqa: BLE001  # of a class that only the worker has
        future.set_exception(WorkerError(f"a worker's answer cannot be read here: {error}"))
        return
    if done:
        future.set_result(outcome)
    else:
        future.set_exception(outcome)


def serve() -> None:
    """Do what the pipe says until it ends: the whole life of a worker process."""
    # Where it could not be blocked from the first.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    answers = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)  # what a library prints must not get among the answers
    _tell(answers, "begun")
    calls: queue.SimpleQueue[Any] = queue.SimpleQueue()
    threading.Thread(target=_listen, args=(sys.stdin.buffer, calls), daemon=True).start()
    while True:
        function, args, kwargs = calls.get()
        try:
            answer = pickle.dumps((True, function(*args, **kwargs)))
        except Exception as error:  # noqa: BLE001  # the future carries it
            answer = _failed(error)
        _tell(answers, answer)


def _tell(stream: BinaryIO, what: Any) -> None:
    try:
        pickle.dump(what, stream)
        stream.flush()
    except BrokenPipeError:
        os._exit(0)  # the coordinator has ended, and nobody is there to hear it


def _listen(stream: BinaryIO, calls: queue.SimpleQueue[Any]) -> None:
    """Pass on each call; when the pipe ends so does the coordinator, and with it this process."""
    while True:
        try:
            message = pickle.load(stream)  # noqa: S301  # from the process that started this one
            calls.put(pickle.loads(message))  # noqa: S301  # the same
        except EOFError:
            os._exit(0)
        except Exception as error:  # noqa: BLE001  # a function that cannot be imported here
            calls.put((_again, (error,), {}))


def _again(error: Exception) -> None:
    raise error


def _failed(error: Exception) -> bytes:
    try:
        answer = pickle.dumps((False, error))
        pickle.loads(answer)  # noqa: S301  # whether it survives the way
    except Exception:  # noqa: BLE001  # an exception that does not pickle
        return pickle.dumps((False, WorkerError(f"{type(error).__name__}: {error}")))
    return answer
