"""What of an unfinished payload is on disk: a line for each step, under a checksum of its own.

A line is written when what it tells of is on disk. What a power cut leaves of the last one is no
line, and what follows it is nothing.
"""

from __future__ import annotations

import json
import os
from typing import TYPE_CHECKING, Any

import google_crc32c

from mmcache.stores.payload import opened, synced_directory, write_at

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

__all__ = ["Journal"]


class Journal:
    """The lines of one unfinished build: the first says what it is, the others what is done.

    Attributes
    ----------
    facts : dict
        The first line; empty where there is none yet.
    steps : list of dict
        The other lines, as they were when it was read.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        lines, self._end = _read(path)
        self.facts: dict[str, Any] = lines[0] if lines else {}
        self.steps = lines[1:]

    def begin(self, facts: dict[str, Any]) -> None:
        """Write the first line, in place of all that was there."""
        self.facts, self.steps, self._end = facts, [], 0
        self._write([facts])
        synced_directory(self._path.parent)

    def add(self, steps: Iterable[dict[str, Any]]) -> None:
        """Write lines of what is on disk."""
        self._write(steps)

    def _write(self, lines: Iterable[dict[str, Any]]) -> None:
        text = b"".join(_line(one) for one in lines)
        with opened(self._path, os.O_RDWR | os.O_CREAT) as descriptor:
            os.ftruncate(descriptor, self._end)  # half a line of a builder that was killed
            write_at(descriptor, text, self._end)
            os.fsync(descriptor)
        self._end += len(text)


def _line(plain: dict[str, Any]) -> bytes:
    text = json.dumps(plain, separators=(",", ":")).encode()
    return b"%08x %s\n" % (google_crc32c.value(text), text)


def _read(path: Path) -> tuple[list[dict[str, Any]], int]:
    """Return the whole lines of a journal, and where they end."""
    lines: list[dict[str, Any]] = []
    end = 0
    try:
        with path.open("rb") as file:
            for line in file:
                crc, _, text = line.rstrip(b"\n").partition(b" ")
                if crc != b"%08x" % google_crc32c.value(text) or not line.endswith(b"\n"):
                    break
                lines.append(json.loads(text))
                end += len(line)
    except FileNotFoundError:
        pass
    return lines, end
