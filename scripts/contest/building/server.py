"""A contender's process: one writer, told over a pipe what to build, answers with what it took.

``python -m contest.building.server NAME WHERE``.
"""

from __future__ import annotations

import gc
import importlib
import itertools
import os
import shutil
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np

from contest.building.writers import WRITERS
from contest.process import answer_requests, memory_of, processor_times

BLOCK = 512  # bytes, what the system counts a file's room in


class Answering:
    """What can be asked."""

    def __init__(self, name: str, where: Path) -> None:
        self.place = where
        where.mkdir(parents=True, exist_ok=True)  # it was here before, for other photos
        self.number = itertools.count()
        self.writer = WRITERS[name](where / "none")

    def imports(self) -> dict[str, Any]:
        """Import what the writer needs; return the memory that this process has then."""
        self.writer.prepare()
        for module in self.writer.modules:
            importlib.import_module(module)
        return dict(memory_of(os.getpid()))

    def build(self, folder: str, size: int) -> dict[str, Any]:
        """Build from the files of *folder*, and tell what it took in seconds."""
        paths = sorted(Path(folder).iterdir())
        self.writer.where = self.place / f"{next(self.number)}"
        gc.collect()
        before, clock = processor_times(), time.perf_counter()
        self.writer.build(paths, size)
        took = time.perf_counter() - clock
        return {"clock": took, "processor": processor_times() - before, "pictures": len(paths)}

    def room(self) -> dict[str, Any]:
        """Return the bytes that the last build takes on disk."""
        os.sync()  # files have no room before
        return {"bytes": sum(path.stat().st_blocks * BLOCK for path in self.place.rglob("*"))}

    def keep(self, file: str, count: int, step: int) -> dict[str, Any]:
        """Save every *step*-th of the *count* pictures that the last build kept, to compare."""
        kept = itertools.islice(self.writer.kept(count), 0, None, step)
        np.savez(file, *kept)
        return {}

    def clear(self) -> dict[str, Any]:
        """Remove what was built."""
        for path in self.place.iterdir():
            shutil.rmtree(path)
        os.sync()  # nobody writes what another left
        return {}


def main(arguments: list[str]) -> None:
    """Answer requests until there are no more."""
    name, where = arguments
    answer_requests(Answering(name, Path(where)))


if __name__ == "__main__":
    main(sys.argv[1:])
    os._exit(0)  # some peers leave threads that never end
