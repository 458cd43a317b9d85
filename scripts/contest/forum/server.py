"""A snippet's process: told over a pipe to go through the folder, it answers with what it took.

``python -m contest.forum.server NAME FOLDER WORK SIZE``.
"""

from __future__ import annotations

import gc
import importlib
import os
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np

from contest.forum.snippets import WAYS
from contest.process import answer_requests, processor_times


class Answering:
    """What can be asked."""

    def __init__(self, name: str, folder: Path, work: Path, size: int) -> None:
        work.mkdir()
        self.way = WAYS[name](folder, work, size)

    def imports(self) -> dict[str, Any]:
        """Import what the way needs."""
        for module in self.way.modules:
            importlib.import_module(module)
        return {}

    def go(self, what: str) -> dict[str, Any]:
        """Go through all pictures, "first" or for another "epoch", and tell what it took."""
        gc.collect()
        before, clock = processor_times(), time.perf_counter()
        pictures = sum(isinstance(came, np.ndarray) for _, came in getattr(self.way, what)())
        took = time.perf_counter() - clock
        return {"clock": took, "processor": processor_times() - before, "pictures": pictures}

    def keep(self, folder: str) -> dict[str, Any]:
        """Save each picture that comes, and tell what came of the other files."""
        fates = {}
        for name, came in self.way.epoch():
            fates[name] = "lost" if came is None else f"error: {came}"
            if isinstance(came, np.ndarray):
                fates[name] = "picture"
                np.save(Path(folder) / f"{name}.npy", came)
        return {"fates": fates}


def main(arguments: list[str]) -> None:
    """Answer requests until there are no more."""
    name, folder, work, size = arguments
    answer_requests(Answering(name, Path(folder), Path(work), int(size)))


if __name__ == "__main__":
    main(sys.argv[1:])
    os._exit(0)  # the loader's thread may still be reading ahead
