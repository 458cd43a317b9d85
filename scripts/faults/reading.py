"""Readers in processes of their own, which tell what they see of a cache meanwhile."""

from __future__ import annotations

import ast
import contextlib
import subprocess
import sys
from typing import TYPE_CHECKING, Self

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from pathlib import Path

__all__ = ["NEEDS", "Reader", "watched"]

_PICTURE, _KEY = {"pixels", "records"}, {"keys", "key_offsets"}

NEEDS = {
    "cache[row]": _PICTURE,
    "iteration": _PICTURE,
    "slice": _PICTURE,
    "cache[key]": {*_PICTURE, *_KEY, "key_order"},
    "batch": {*_PICTURE, *_KEY, "labels"},
}
"""Which arrays, every byte of them, a :class:`Reader` needs for what it does."""

# A reader that does what it is told: "look" at everything once, "read" until it is told otherwise,
# or "use" pictures as a training does, each copied and then worked with.
_READER = """
import random, select, sys, time
import mmcache
cache = mmcache.open(sys.argv[1])
rows, keys, part = range(len(cache)), list(cache.keys), cache[1::2]
def joined(pictures):
    return b"".join(picture.tobytes() for picture in pictures)
def array(name):
    return lambda: cache.files.array(name).tobytes()
accesses = {
    "cache[row]": lambda: joined(cache[row] for row in rows),
    "cache[key]": lambda: joined(cache[key] for key in keys),
    "iteration": lambda: joined(cache),
    "part": lambda: joined(part),
    "slice": lambda: joined(cache[::-1]),
    "batch": lambda: joined(cache.batch(rows).images),
    "keys": lambda: repr(list(cache.keys)),
    "columns": lambda: joined(cache.columns.values()),
    "failures": lambda: repr(list(cache.failures)),
    **{name: array(name) for name in cache.files.frame.arrays if name != "pixels"},
}
before = {name: access() for name, access in accesses.items()}
def outcome(name):
    try:
        return "same" if accesses[name]() == before[name] else "other data"
    except mmcache.DamagedCacheError:
        return "refused"
def used():
    while not select.select([sys.stdin], [], [], 0)[0]:
        try:
            cache[random.choice(rows)].tobytes()
        except mmcache.DamagedCacheError:
            return "refused"
        time.sleep(0.001)
    return "same"
print("begun", flush=True)
command = sys.stdin.readline()
while command:
    outcomes = {}
    if command == "look\\n":
        outcomes = {name: outcome(name) for name in accesses}
    elif command == "use\\n":
        outcomes["use"] = used()
    while command == "read\\n" and not select.select([sys.stdin], [], [], 0)[0]:
        name = random.choice(list(accesses))
        if outcomes.get(name) in (None, "same"):
            outcomes[name] = outcome(name)
    if outcomes:
        print(repr(outcomes), flush=True)
    command = sys.stdin.readline()
"""

# A reader that opens a path anew until its input ends, and says what it should not have seen.
_WATCHER = """
import random, select, sys
import google_crc32c
import mmcache
path, absent, *known = sys.argv[1:]
print("begun", flush=True)
while not select.select([sys.stdin], [], [], random.uniform(0, 0.005))[0]:
    try:
        cache = mmcache.open(path)
    except mmcache.CacheNotFoundError:
        if absent != "may be absent":
            print("no cache")
        continue
    if cache.fingerprint not in known:
        print("a cache that nobody built")
    if [google_crc32c.value(picture) for picture in cache] != cache.checksums.tolist():
        print("pixels of another cache")
    absent = "has been there"
"""


class Reader:
    """A process that has a cache open, and tells what it reads."""

    def __init__(self, path: Path) -> None:
        pipe = subprocess.PIPE
        words = [sys.executable, "-c", _READER, str(path)]
        self.process = subprocess.Popen(words, stdin=pipe, stdout=pipe, text=True)
        self.line()

    def line(self) -> str:
        """Return the next line that it says; nothing from one that has ended."""
        assert self.process.stdout is not None
        return self.process.stdout.readline()

    def tell(self, command: str) -> None:
        """Let it begin with something."""
        assert self.process.stdin is not None
        with contextlib.suppress(BrokenPipeError):
            self.process.stdin.write(command + "\n")
            self.process.stdin.flush()

    def asked(self, command: str) -> dict[str, str]:
        """Tell it to do something else, and return what came of each access until then."""
        self.tell(command)
        told: dict[str, str] = ast.literal_eval(self.line() or "{'everything': 'ended'}")
        return told

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        with contextlib.suppress(BrokenPipeError):
            self.process.communicate()


@contextlib.contextmanager
def watched(path: Path, fingerprints: Iterable[str], absent: str) -> Iterator[list[str]]:
    """Have a reader open *path* all the time; the list tells at last what it should not have seen.

    It should see whole caches of these *fingerprints* alone, and one at any time unless *absent* is
    ``"may be absent"``: then there may be none before the first.
    """
    words = [sys.executable, "-c", _WATCHER, str(path), absent, *fingerprints]
    pipe = subprocess.PIPE
    reader = subprocess.Popen(words, stdin=pipe, stdout=pipe, stderr=pipe, text=True)
    assert reader.stdout is not None
    reader.stdout.readline()
    seen: list[str] = []
    try:
        yield seen
    finally:
        told, complained = reader.communicate()
        seen += [f"a reader saw {one}" for one in sorted(set(told.splitlines()))]
        seen += [f"a reader ended so: {complained}"] if complained else []
