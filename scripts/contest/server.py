"""A contender's process: one peer, told over a pipe what to do, answers with what it took.

``python -m contest.server NAME WHERE PICTURES PHOTOS``.
"""

from __future__ import annotations

import contextlib
import ctypes
import gc
import importlib
import os
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

from contest.peers import PEERS
from contest.pictures import Pictures
from contest.process import answer_requests, memory_of, processor_times

if TYPE_CHECKING:
    from collections.abc import Iterator

    from contest.peer import Peer

STARTED = time.monotonic()
MADV_DONTNEED = 4  # of Linux


def main(arguments: list[str]) -> None:
    """Answer requests until there are no more."""
    name, *paths = arguments
    answer_requests(Answering(PEERS[name], *map(Path, paths)))


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
        return dict(memory_of(os.getpid()))


if __name__ == "__main__":
    main(sys.argv[1:])
    os._exit(0)  # some peers leave threads that never end
