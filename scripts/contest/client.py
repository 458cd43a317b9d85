"""Starting contenders and asking them; whatever goes wrong with one is a line in the report."""

from __future__ import annotations

import contextlib
import json
import os
import select
import signal
import subprocess
import tempfile
import time
from pathlib import Path
from typing import Any

__all__ = ["Contender", "FailedError"]

LINE = 200  # letters of an error in the report
SHORT = Path("/tmp")  # noqa: S108  # a folder of our own is made in it
SCRIPTS = Path(__file__).resolve().parent.parent


class FailedError(Exception):
    """A contender did not answer, or answered with an error: one line says which."""


class Contender:
    """A peer in a process of its own."""

    def __init__(
        self, name: str, python: Path, *paths: Path, serves: str = "contest.server"
    ) -> None:
        """Start it: *serves* is the module that answers, and is told *name* and *paths*."""
        self.name = name
        # Of its own, since LitData and others clean up in it, and short: torch puts sockets there.
        self._spare = tempfile.TemporaryDirectory(
            prefix="mmcache-", dir=SHORT if SHORT.is_dir() else None, ignore_cleanup_errors=True
        )
        spare = self._spare.name
        self._errors = tempfile.TemporaryFile("w+")  # noqa: SIM115  # as long as the process
        self.started = time.monotonic()
        self._process = subprocess.Popen(
            [python, "-m", serves, name, *paths],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._errors,
            env=os.environ
            | {
                "PYTHONPATH": f"{SCRIPTS.parent}{os.pathsep}{SCRIPTS}",
                "TMPDIR": spare,
                "HOME": spare,
                "HF_HOME": spare,
                "HF_HUB_OFFLINE": "1",
                "OMP_WAIT_POLICY": "PASSIVE",  # torch's threads: a waiting one takes no core
                "PYTHONDONTWRITEBYTECODE": "1",
            },
            start_new_session=True,
        )

    def ask(self, do: str, timeout: float = 60.0, **request: Any) -> dict[str, Any]:
        """Ask and return the answer; :class:`FailedError` where there is none in *timeout* s."""
        line = json.dumps({"do": do} | request) + "\n"
        try:
            self._process.stdin.write(line.encode())  # type: ignore[union-attr]
            self._process.stdin.flush()  # type: ignore[union-attr]
        except OSError:
            raise FailedError(self._ending()) from None
        answer: dict[str, Any] = json.loads(self._line(timeout))
        for kind in ("error", "not_offered"):
            if kind in answer:
                raise FailedError(_one_line(answer[kind]))
        return answer

    def _line(self, timeout: float) -> bytes:
        output = self._process.stdout
        assert output is not None
        end = time.monotonic() + timeout
        line = b""
        while not line.endswith(b"\n"):
            ready, _, _ = select.select([output], [], [], max(0.0, end - time.monotonic()))
            if not ready:
                self.close(now=True)
                raise FailedError(f"no answer within {timeout:.0f} s")
            part = os.read(output.fileno(), 1 << 16)
            if not part:
                raise FailedError(self._ending())
            line += part
        return line

    def _ending(self) -> str:
        status = self._process.wait()
        self._errors.seek(0)
        said = [line for line in self._errors.read().splitlines() if line.strip()]
        how = f"signal {-status}" if status < 0 else f"exit status {status}"
        return _one_line(f"the process ended with {how}: {said[-1] if said else 'no word'}")

    @property
    def pid(self) -> int:
        """The number of its process."""
        return self._process.pid

    @property
    def ended(self) -> bool:
        """Whether its process is no more."""
        return self._process.poll() is not None

    def close(self, *, now: bool = False) -> None:
        """End the process and all that it started."""
        if self._errors.closed:
            return
        with contextlib.suppress(OSError):
            self._process.stdin.close()  # type: ignore[union-attr]
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._process.wait(0 if now else 3)
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self._process.pid, signal.SIGKILL)  # its group: it leads a session
        self._process.wait()
        self._process.stdout.close()  # type: ignore[union-attr]
        self._errors.close()
        self._spare.cleanup()


def _one_line(text: str) -> str:
    line = " ".join(text.split())
    return line if len(line) <= LINE else line[: LINE - 1] + "…"
