#!/usr/bin/env python3
"""How much memory planning and building take, and how it grows with the number of pictures.

A few small pictures are linked many times under other names, so that numbers grow and files do
not. Each build is a process of its own, which is watched from here.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import time
from pathlib import Path
from typing import NamedTuple

from measuring import median, options_of, table, workplace
from PIL import Image

import mmcache

CLASSES = 100
EDGE = 96  # of the small pictures, in pixels
SIZE = 32  # of the records
WATCH = 0.004  # seconds between two looks

CHILD = """
import sys
import mmcache
what, folder, path, size, workers, executor = sys.argv[1:]
settings = dict(size=int(size), workers=int(workers), executor=executor, progress=False)
if what == "plan":
    plan = mmcache.plan(folder, **settings)
elif what == "build":
    cache = mmcache.build(folder, path, **settings)
"""


class Peaks(NamedTuple):
    """The most that a process ever had, in bytes, and the seconds it took."""

    private: int
    mapped: int
    resident: int
    seconds: float


def main(arguments: list[str] | None = None) -> int:
    """Print the tables."""
    options = options_of(__doc__, arguments, few=1000, many=50_000, files=300, rounds=3, workers=2)
    with workplace(options) as (photos, work):
        small = small_pictures(photos, work / "small", options.files)
        folders = {
            count: linked(small, work / f"{count}", count) for count in (options.few, options.many)
        }
        keys = {count: key_bytes(folder) for count, folder in folders.items()}
        peaks = measured(folders, work / "out.mmc", options)
        print(f"## Memory, {options.workers} threads: median of {options.rounds} runs\n")
        print(
            table(
                ("run", "private, peak MB", "file pages, peak MB", "resident, peak MB", "seconds"),
                (
                    (name, *(f"{value / 1e6:.2f}" for value in peak[:3]), f"{peak.seconds:.1f}")
                    for name, peak in peaks.items()
                ),
            ),
            end="\n\n",
        )
        print("## How private memory grows with the number of pictures\n")
        print(growth(peaks, keys, options.few, options.many))
    return 0


def small_pictures(photos: Path, folder: Path, most: int) -> list[Path]:
    """Make small pictures of the first of *photos*."""
    folder.mkdir()
    for number, key in enumerate(mmcache.Folder(photos).listing().keys[:most]):
        with Image.open(photos / key) as image:
            image.thumbnail((EDGE, EDGE))
            image.convert("RGB").save(folder / f"{number}.jpg", quality=85)
    return sorted(folder.iterdir())


def linked(files: list[Path], folder: Path, count: int) -> Path:
    """Link *files* under *count* names in class folders."""
    for number in range(CLASSES):
        (folder / f"class-{number:03}").mkdir(parents=True)
    for number in range(count):
        name = folder / f"class-{number % CLASSES:03}" / f"picture-{number:08}.jpg"
        os.link(files[number % len(files)], name)
    return folder


def key_bytes(folder: Path) -> int:
    """Return the bytes of all keys."""
    return len(mmcache.Folder(folder).listing().keys.packed().blob)


def measured(folders: dict[int, Path], out: Path, options: object) -> dict[str, Peaks]:
    """Run everything in turns and return the medians by name."""
    runs: dict[str, list[str | Path]] = {"import alone": ["nothing", out]}
    for what in ("plan", "build"):
        for count, folder in folders.items():
            runs[f"{what} {count:,}"] = [what, folder]
    seen: dict[str, list[Peaks]] = {name: [] for name in runs}
    for _ in range(options.rounds):
        for name, (what, folder) in runs.items():
            command = [what, folder, out, str(SIZE), str(options.workers), "threads"]
            seen[name].append(watched([sys.executable, "-c", CHILD, *command]))
            shutil.rmtree(out, ignore_errors=True)
    return {name: Peaks(*map(median, zip(*each, strict=True))) for name, each in seen.items()}


def watched(command: list[str | Path]) -> Peaks:
    """Run *command* and return its peaks: what Linux says of it, looked at again and again."""
    started = time.perf_counter()
    child = subprocess.Popen(command)
    status = Path(f"/proc/{child.pid}/status")
    private = mapped = resident = 0
    while child.poll() is None:
        lines = dict(line.split(":", 1) for line in _lines(status))
        private = max(private, _bytes(lines, "RssAnon"))
        mapped = max(mapped, _bytes(lines, "RssFile"))
        resident = max(resident, _bytes(lines, "VmHWM"))  # the peak since the process began
        time.sleep(WATCH)
    if child.returncode:
        raise subprocess.CalledProcessError(child.returncode, command)
    return Peaks(private, mapped, resident, time.perf_counter() - started)


def _lines(status: Path) -> list[str]:
    try:
        return status.read_text().splitlines()
    except ProcessLookupError:  # it ended between two looks
        return []


def _bytes(lines: dict[str, str], name: str) -> int:
    """Return a figure in bytes; a process that has just ended has none."""
    return int(lines.get(name, "0 kB").split()[0]) * 1024


def growth(peaks: dict[str, Peaks], keys: dict[int, int], few: int, many: int) -> str:
    """Return what each further picture costs, and what of that is not its key."""
    rows = []
    for what in ("plan", "build"):
        grown = peaks[f"{what} {many:,}"].private - peaks[f"{what} {few:,}"].private
        each, key = grown / (many - few), (keys[many] - keys[few]) / (many - few)
        rows.append((what, f"{each:.0f}", f"{key:.0f}", f"{each - key:.0f}"))
    return table(("", "bytes a picture", "of which its key", "the rest"), rows)


if __name__ == "__main__":
    sys.exit(main())
