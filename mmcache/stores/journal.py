"""What of an unfinished payload is on disk: a line for each step, under a checksum of its own.

A line is written when what it tells of is on disk. What a power cut leaves of the last one is no
line, and what follows it is nothing.
"""

from __future__ import annotations

import json
import os
from itertools import islice
from typing import TYPE_CHECKING, Any

import google_crc32c

from mmcache.stores.payload import opened, synced_directory, write_at

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from pathlib import Path

__all__ = ["Journal"]

_CHECKSUM = 9  # characters before what a line says


class Journal:
    """The lines of one unfinished build: the first says what it is, the others what is done.

    Iterating reads these others, the steps, one at a time, however many there are.

    Attributes
    ----------
    facts : dict
        The first line; empty where there is none yet.
    has_steps : bool
        Whether anything is done.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._end = 0
        self.facts: dict[str, Any] = {}
        self.has_steps = False
        for text in self._lines():
            if self._end:
                self.has_steps = True
            else:
                self.facts = json.loads(text)
            self._end += len(_line(text))

    def __iter__(self) -> Iterator[dict[str, Any]]:
        return (json.loads(text) for text in islice(self._lines(), 1, None))

    def _lines(self) -> Iterator[bytes]:
        """Yield what the whole lines say, up to the first that is none."""
        try:
            with self._path.open("rb") as file:
                for line in file:
                    text = line[_CHECKSUM:-1]
                    if line != _line(text):
                        return
                    yield text
        except FileNotFoundError:
            return

    def begin(self, facts: dict[str, Any]) -> None:
        """Write the first line, in place of all that was there."""
        self.facts, self.has_steps, self._end = facts, False, 0
        self._write([facts])
        synced_directory(self._path.parent)

    def add(self, steps: Iterable[dict[str, Any]]) -> None:
        """Write lines of what is on disk."""
        self._write(steps)
        self.has_steps = True

    def remove(self) -> None:
        """Forget all that was told."""
        self._path.unlink(missing_ok=True)
        self.facts, self.has_steps, self._end = {}, False, 0

    def _write(self, lines: Iterable[dict[str, Any]]) -> None:
        told = b"".join(_line(json.dumps(one, separators=(",", ":")).encode()) for one in lines)
        with opened(self._path, os.O_RDWR | os.O_CREAT) as descriptor:
            os.ftruncate(descriptor, self._end)  # half a line of a builder that was killed
            write_at(descriptor, told, self._end)
            os.fsync(descriptor)
        self._end += len(told)


def _line(text: bytes) -> bytes:
    return b"%08x %s\n" % (google_crc32c.value(text), text)
