"""A contender's process: one peer, told over a pipe what to do, answers with what it took.

``python -m contest.server NAME WHERE PICTURES PHOTOS`` reads a line of JSON a request and writes
one as an answer. What libraries print goes to standard error.
"""

from __future__ import annotations

import contextlib
import ctypes
import gc
import importlib
import json
import os
import resource
import sys
import time
import traceback
from pathlib import Path
from typing import TYPE_CHECKING, Any

from contest.peer import NotOfferedError
from contest.peers import PEERS
from contest.pictures import Pictures

if TYPE_CHECKING:
    from collections.abc import Iterator

    from contest.peer import Peer

STARTED = time.monotonic()
MADV_DONTNEED = 4  # of Linux
HEAP = 30 << 20  # bytes: glibc looks at blocks of up to 32 MiB
TICK = 1 / os.sysconf("SC_CLK_TCK")  # seconds


def main(arguments: list[str]) -> None:
    """Answer requests until there are no more."""
    name, *paths = arguments
    # The C library keeps freed memory once it has seen blocks as large as this one, as it soon does
    # in training. Else chance decides whether a picture's memory is faulted in anew each time.
    bytearray(HEAP)
    answers = os.fdopen(os.dup(1), "w", buffering=1)
    os.dup2(2, 1)
    answering = Answering(PEERS[name], *map(Path, paths))
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


class Answering:
    """What can be asked."""

    def __init__(self, kind: type[Peer], where: Path, pictures: Path, photos: Path) -> None:
        self.kind, self.where, self.photos = kind, where, photos
        self.pictures = Pictures(pictures)
        self.peer = kind(where, self.pictures, photos)
        self.imported = STARTED

    def imports(self) -> dict[str, Any]:
        """Import what the peer needs."""
        for module in self.kind.modules:
            if module == "streaming":
                self.peer._import()  # type: ignore[attr-defined]  # noqa: SLF001
            importlib.import_module(module)
        self.imported = time.monotonic()
        return {"imported": self.imported}

    def write(self) -> dict[str, Any]:
        """Keep the pictures."""
        clock = time.perf_counter()
        self.peer.write(self.pictures, self.pictures.labels)
        return {"clock": time.perf_counter() - clock}

    def open(self) -> dict[str, Any]:
        """Make ready."""
        self.imports()
        self.peer.open()
        return self.files()

    def files(self) -> dict[str, Any]:
        """Name the files that the peer's pixels lie in."""
        return {"files": [str(path.resolve()) for path in self.peer.files()]}

    def let_go(self, files: list[str]) -> dict[str, Any]:
        """Let go of the pages of *files* that are mapped: they are read anew when they are used."""
        madvise = ctypes.CDLL(None).madvise
        named = set(files)
        for line in Path("/proc/self/maps").read_text().splitlines():
            place, *_, name = line.split(maxsplit=5)
            if name in named:
                start, end = (int(edge, 16) for edge in place.split("-"))
                madvise(ctypes.c_void_p(start), ctypes.c_size_t(end - start), MADV_DONTNEED)
        return {}

    def check(self) -> dict[str, Any]:
        """Compare some pictures with what was to be kept."""
        self.peer.check()
        return {}

    def epoch(
        self,
        what: str,
        seed: int,
        passes: int,
        most: float,
        *,
        few: int | None = None,
        weigh: bool = False,
        **more: int,
    ) -> dict[str, Any]:
        """Go through the pictures, or through as many as *most* seconds allow, or *few*.

        Where it is to *weigh* too, the memory is that at the end, while the last batch is held.
        """
        gc.collect()
        before, clock = processor_times(), time.perf_counter()
        batches = getattr(self.peer, what)(seed, passes, **more)
        pictures = 0
        for batch in batches:
            pictures += len(batch)
            if time.perf_counter() - clock > most or (few and pictures >= few):
                break
        took = time.perf_counter() - clock
        processor = processor_times() - before
        told = {"memory": self.memory()} if weigh else {}
        with contextlib.suppress(AttributeError):
            batches.close()
        if not pictures:
            raise AssertionError("no picture came")
        return {"clock": took, "processor": processor, "pictures": pictures} | told

    def first(self, seed: int) -> dict[str, Any]:
        """Tell when the first batch was there."""
        self.peer.open()
        batches: Iterator[Any] = self.peer.random(seed, 1)
        next(batches)
        return {"started": STARTED, "imported": self.imported, "first": time.monotonic()}

    def singles(self, rows: list[int], most: float) -> dict[str, Any]:
        """Read pictures one by one, each into memory of its own."""
        single = self.peer.single
        before, clock = processor_times(), time.perf_counter()
        done = 0
        for row in rows:
            single(row)
            done += 1
            if not done % 16 and time.perf_counter() - clock > most:
                break
        took = time.perf_counter() - clock
        return {"clock": took, "processor": processor_times() - before, "pictures": done}

    def memory(self) -> dict[str, Any]:
        """Return the bytes of this process and of those it started, each page counted once."""
        total = dict.fromkeys(("Pss_Anon", "Pss_File", "Pss_Shmem"), 0)
        for process in [os.getpid(), *descendants()]:
            with contextlib.suppress(OSError):
                for line in Path(f"/proc/{process}/smaps_rollup").read_text().splitlines():
                    name, _, value = line.partition(":")
                    if name in total:
                        total[name] += int(value.split()[0]) * 1024
        return total


def processor_times() -> float:
    """Return the processor seconds of this process, its threads, and its children so far."""
    both = (resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))
    own = sum(used.ru_utime + used.ru_stime for used in both)
    return own + sum(_ticks(process) * TICK for process in descendants())


def _ticks(process: int) -> int:
    try:
        fields = Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()
    except OSError:  # it has ended, and is counted among the ended ones
        return 0
    return int(fields[11]) + int(fields[12])


def descendants() -> list[int]:
    """Return the processes that this one started, and those that they started."""
    found = [os.getpid()]
    for process in found:
        for thread in Path(f"/proc/{process}/task").glob("*/children"):
            with contextlib.suppress(OSError):
                found += map(int, thread.read_text().split())
    return found[1:]


if __name__ == "__main__":
    main(sys.argv[1:])
    os._exit(0)  # some peers leave threads that never end
