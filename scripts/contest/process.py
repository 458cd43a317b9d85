"""A contender's own process: it answers requests, and knows what it and its children take."""

from __future__ import annotations

import contextlib
import json
import os
import resource
import sys
import traceback
from pathlib import Path
from typing import Any

from contest.entrant import NotOfferedError

__all__ = ["answer_requests", "descendants", "memory_of", "processor_times"]

HEAP = 30 << 20  # bytes: glibc looks at blocks of up to 32 MiB
TICK = 1 / os.sysconf("SC_CLK_TCK")  # seconds


def answer_requests(answering: Any) -> None:
    """Read a line of JSON a request, call what it names, and write a line of JSON as an answer.

    What libraries print goes to standard error.
    """
    # The C library keeps freed memory once it has seen blocks as large as this one, as it soon does
    # at work. Else chance decides whether a picture's memory is faulted in anew each time.
    bytearray(HEAP)
    answers = os.fdopen(os.dup(1), "w", buffering=1)
    os.dup2(2, 1)
    for line in sys.stdin:
        request = json.loads(line)
        try:
            answer = getattr(answering, request.pop("do"))(**request)
        except NotOfferedError as error:
            answer = {"not_offered": str(error)}
        except BaseException as error:  # noqa: BLE001  # whatever a peer does is its answer
            traceback.print_exc()
            answer = {"error": f"{type(error).__name__}: {error}"}
        answers.write(json.dumps(answer) + "\n")


def processor_times() -> float:
    """Return the processor seconds of this process, its threads, and its children so far."""
    both = (resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))
    own = sum(used.ru_utime + used.ru_stime for used in both)
    return own + sum(_ticks(process) * TICK for process in descendants(os.getpid()))


def _ticks(process: int) -> int:
    try:
        fields = Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()
    except OSError:  # it has ended, and is counted among the ended ones
        return 0
    return int(fields[11]) + int(fields[12])


def descendants(process: int) -> list[int]:
    """Return the processes that *process* started, and those that they started."""
    found = [process]
    for one in found:
        for thread in Path(f"/proc/{one}/task").glob("*/children"):
            with contextlib.suppress(OSError):
                found += map(int, thread.read_text().split())
    return found[1:]


def memory_of(process: int) -> dict[str, int]:
    """Return the bytes of *process* and of those it started, each page counted once."""
    total = dict.fromkeys(("Pss_Anon", "Pss_File", "Pss_Shmem"), 0)
    for one in [process, *descendants(process)]:
        with contextlib.suppress(OSError):
            for line in Path(f"/proc/{one}/smaps_rollup").read_text().splitlines():
                name, _, value = line.partition(":")
                if name in total:
                    total[name] += int(value.split()[0]) * 1024
    return total
