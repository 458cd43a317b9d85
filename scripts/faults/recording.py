"""Every call by which a program and its children change files, as ``strace`` saw it.

Also what libraries write without Python, as HDF5 does. Each call has two moments, at which it
began and at which it had ended; moments are lines of the record.
"""

from __future__ import annotations

import os
import re
import shutil
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

__all__ = ["Call", "File", "calls_in", "recorder"]

_WRITES = ("write", "pwrite64", "writev", "pwritev", "pwritev2")
_CALLS = (
    *("open", "creat", "openat", "mkdir", "mkdirat", "rmdir", "unlink", "unlinkat"),
    *("rename", "renameat", "renameat2", "link", "linkat", "symlink", "symlinkat"),
    *("truncate", "ftruncate", "fallocate", *_WRITES, "copy_file_range", "sendfile", "splice"),
    *("fsync", "fdatasync", "sync", "syncfs"),
)
_LONGEST = 1 << 26  # bytes of one write
_OPTIONS = ("-f", "-y", "-xx", "-s", str(_LONGEST), "--seccomp-bpf", "-e", "signal=none")

_LINE = re.compile(r"(\d+) +(?:<\.\.\. \w+ resumed>|(\w+)\()(.*)\n")
_BEGUN = " <unfinished ...>"
_ENDED = re.compile(r"(.*)\) += (-?\d+)")
_HEX = r"((?:\\x[0-9a-f]{2})*)"
_WORD = re.compile(rf'(AT_FDCWD|\d+)<{_HEX}>(\(deleted\))?|"{_HEX}"(\.\.\.)?|([^,\s]+)')


class File(NamedTuple):
    """An open file or folder: its descriptor, and its path when the call began."""

    descriptor: str
    path: str


class Call(NamedTuple):
    """What was called, what with, what it returned (-1 for an error), and its two moments.

    ``paths`` are absolute where the caller or its descriptors made them so.
    """

    name: str
    files: list[File]
    paths: list[str]
    data: bytes
    numbers: list[int]
    flags: str
    result: int
    begun: int
    ended: int


def recorder(log: Path) -> list[str]:
    """Return the words before a command that let strace note its calls in *log*."""
    if shutil.which("strace") is None:
        raise SystemExit("strace records what a build does to the disk, and is missing: install it")
    which = ",".join(f"?{call}" for call in _CALLS)  # not every machine has all of them
    return ["strace", *_OPTIONS, "-e", f"trace={which}", "-o", str(log)]


def calls_in(log: Path) -> Iterator[Call]:
    """Yield the calls of a record in the order in which they ended."""
    begun: dict[str, tuple[str, str, int]] = {}
    with log.open(encoding="ascii") as lines:
        for moment, line in enumerate(lines):
            if (match := _LINE.fullmatch(line)) is None:
                continue  # a process began or ended
            process, name, rest = match.groups()
            before, since = "", moment
            if name is None:
                name, before, since = begun.pop(process)
            if rest.endswith(_BEGUN):
                begun[process] = name, rest.removesuffix(_BEGUN), moment
            elif ended := _ENDED.match(before + rest):
                yield _call(name, ended[1], int(ended[2]), since, moment)


def _call(name: str, text: str, result: int, begun: int, ended: int) -> Call:
    files, paths, data, numbers, flags = [], [], b"", [], []
    for descriptor, path, gone, string, cut, plain in _WORD.findall(text):
        if cut:
            raise ValueError(f"a write of more than {_LONGEST} bytes")
        if descriptor:
            files.append(File(descriptor, "" if gone else os.fsdecode(_bytes(path))))
        elif plain:
            word = plain.strip("[]")
            numbers.append(int(word)) if word.isdigit() else flags.append(word)
        elif name in _WRITES:
            data = _bytes(string)
        else:
            base = files.pop().path if files else ""
            paths.append(os.path.join(base, os.fsdecode(_bytes(string))))  # noqa: PTH118  # text
    return Call(name, files, paths, data[: max(0, result)], numbers, "|".join(flags), result, begun,
                ended)  # fmt: skip


def _bytes(text: str) -> bytes:
    return bytes.fromhex(text.replace("\\x", ""))
