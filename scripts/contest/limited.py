"""A process under a memory limit of its own: a control group below the one that we are in.

Nothing is changed in the groups that are there; the new one is removed when its process has ended.
"""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import NamedTuple

__all__ = ["NoLimitError", "Ran", "run_limited"]

ROOT = Path("/sys/fs/cgroup")
LIMIT = 300  # seconds


class NoLimitError(Exception):
    """No memory limit can be set here; the sentence says why."""


class Ran(NamedTuple):
    """How a process ended, and the most memory that its group had, file pages counted."""

    status: int
    said: str
    peak: int
    seconds: float


def run_limited(command: list[str], limit: int, env: dict[str, str]) -> Ran:
    """Run *command* with at most *limit* bytes of memory, the file pages that it touches counted.

    Raises
    ------
    NoLimitError
        Where this system or this user has no way.
    """
    with _group(limit) as (group, peak):
        enter = (
            f"import os, sys; open({str(group / 'cgroup.procs')!r}, 'w').write(str(os.getpid()))"
        )
        enter += "; os.execv(sys.argv[1], sys.argv[1:])"
        started = time.perf_counter()
        run = subprocess.run(
            [sys.executable, "-c", enter, *command],
            env=env, capture_output=True, text=True, timeout=LIMIT, check=False,
        )  # fmt: skip
        took = time.perf_counter() - started
        said = (run.stdout if run.returncode == 0 else run.stderr).strip()
        return Ran(run.returncode, said.splitlines()[-1] if said else "", peak(), took)


@contextlib.contextmanager
def _group(limit: int):  # type: ignore[no-untyped-def]  # noqa: ANN202
    """Give a new group and what tells its peak."""
    parent, limit_name, peak_name = _parent()
    group = parent / f"mmcache-bench-{os.getpid()}"
    try:
        group.mkdir()
    except OSError as error:
        raise NoLimitError(f"no group can be made in {parent}: {error.strerror}") from error
    try:
        try:
            (group / limit_name).write_text(str(limit))
        except OSError as error:
            raise NoLimitError(f"{limit_name} cannot be set: {error.strerror}") from error
        yield group, lambda: int((group / peak_name).read_text())
    finally:
        _removed(group)


def _parent() -> tuple[Path, str, str]:
    """Return our own group, and what the files for limit and peak are called in it."""
    try:
        lines = Path("/proc/self/cgroup").read_text().splitlines()
    except OSError as error:
        raise NoLimitError("this system has no control groups") from error
    groups = {kinds: path for _, kinds, path in (line.split(":", 2) for line in lines)}
    for kinds, path in groups.items():
        if "memory" in kinds.split(","):
            parent = ROOT / "memory" / path.lstrip("/")
            return parent, "memory.limit_in_bytes", "memory.max_usage_in_bytes"
    parent = ROOT / groups.get("", "/").lstrip("/")
    handed_down = parent / "cgroup.subtree_control"
    if not handed_down.exists() or "memory" not in handed_down.read_text():
        raise NoLimitError("our control group does not hand memory limits down")
    return parent, "memory.max", "memory.peak"


def _removed(group: Path) -> None:
    for _ in range(50):
        try:
            group.rmdir()
        except OSError:  # its last process is still ending
            time.sleep(0.1)
        else:
            return
