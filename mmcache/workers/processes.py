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
    from collections.abc import Callable

__all__ = ["ProcessExecutor", "serve"]

Result = TypeVar("Result")

_START = (
    "import pickle, sys; sys.path[:] = pickle.load(sys.stdin.buffer);"
    " from mmcache.workers.processes import serve; serve()"
)


class ProcessExecutor(Executor):
    """An executor over *workers* processes, each fed by a thread.

    Functions are sent by name and must be importable. A worker that dies fails the call that it
    was at with :class:`WorkerError`. All workers end when this process does, however it ends.
    """

    def __init__(self, workers: int) -> None:
        self._calls: queue.SimpleQueue[tuple[Future[Any], bytes] | None] = queue.SimpleQueue()
        self._processes = [_started() for _ in range(workers)]
        self._threads = [
            threading.Thread(target=self._feed, args=(process,), daemon=True)
            for process in self._processes
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

    def _feed(self, process: subprocess.Popen[bytes]) -> None:
        # What a dead worker did not read can no longer be flushed to it.
        with contextlib.suppress(BrokenPipeError), process:
            while (call := self._calls.get()) is not None:
                future, message = call
                if future.set_running_or_notify_cancel():
                    _answered(process, future, message)


def _started() -> subprocess.Popen[bytes]:
    process = subprocess.Popen(  # noqa: S603  # this very interpreter
        [sys.executable, "-c", _START], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    )
    assert process.stdin is not None  # noqa: S101  # asked for above
    with contextlib.suppress(OSError):  # a worker that died at once is found at its first call
        pickle.dump(sys.path, process.stdin)
        process.stdin.flush()
    return process


def _answered(process: subprocess.Popen[bytes], future: Future[Any], message: bytes) -> None:
    assert process.stdin is not None and process.stdout is not None  # noqa: S101, PT018
    try:
        pickle.dump(message, process.stdin)
        process.stdin.flush()
        answer = pickle.load(process.stdout)  # noqa: S301  # our own worker's answer
    except (OSError, EOFError, pickle.UnpicklingError):
        future.set_exception(WorkerError(f"a worker process ended {_how(process)}"))
        return
    try:
        done, outcome = pickle.loads(answer)  # noqa: S301  # the same
    except Exception as error:  # noqa: BLE001  # of a class that only the worker has
        future.set_exception(WorkerError(f"a worker's answer cannot be read here: {error}"))
        return
    if done:
        future.set_result(outcome)
    else:
        future.set_exception(outcome)


def _how(process: subprocess.Popen[bytes]) -> str:
    status = process.wait()
    if status < 0:
        return f"by signal {signal.Signals(-status).name}; out of memory, perhaps"
    return f"with exit status {status}"


def serve() -> None:
    """Do what the pipe says until it ends: the whole life of a worker process."""
    # Ctrl-C is sent to the whole group; when to stop is the coordinator's affair.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    answers = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)  # what a library prints must not get among the answers
    calls: queue.SimpleQueue[Any] = queue.SimpleQueue()
    threading.Thread(target=_listen, args=(sys.stdin.buffer, calls), daemon=True).start()
    while True:
        function, args, kwargs = calls.get()
        try:
            answer = pickle.dumps((True, function(*args, **kwargs)))
        except Exception as error:  # noqa: BLE001  # the future carries it
            answer = _failed(error)
        pickle.dump(answer, answers)
        answers.flush()


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
