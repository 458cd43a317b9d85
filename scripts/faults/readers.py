#!/usr/bin/env python3
"""What happens under a reader that has a cache open: files are cut, it is rebuilt, it is deleted.

A file that was cut is refused by every access that needs it, and all else is as it was. A reader of
a cache that was rebuilt or deleted goes on with the old one, exactly; who opens the path meanwhile
sees one whole generation, and a pickled cache of the old one is refused.
"""

from __future__ import annotations

import contextlib
import os
import pickle
import random
import shutil
import signal
import sys
import time
from collections import Counter
from typing import TYPE_CHECKING, Any

from reading import NEEDS, Reader, watched
from trying import NAMES, bytes_of, header, options_of, row, started, workplace

import mmcache
from mmcache.stores.frame import file_of

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from mmcache.stores.frame import ArrayFrame

OTHER = 64  # the pictures' size in another generation
SHARE = 0.1  # of readers that nobody keeps apart from the cut, how many it may end


def main(arguments: list[str] | None = None) -> int:
    """Print a table; exit status 1 where anything was wrong, lost or not refused."""
    options = options_of(__doc__, arguments, tries=20)
    bad = 0
    header("under the reader", "format", "tries", "refused", "as it was", "died", "bad")
    with workplace(options.pictures) as (photos, work):
        for store, name in NAMES.items():
            chance = random.Random(options.seed)  # noqa: S311  # no secret
            trial = Trial(photos, work / store, name, chance)
            faults = (trial.cut, trial.cut_at_any_time, trial.overwritten, trial.updated)
            for fault in (*faults, trial.deleted):
                bad += trial.row(fault, store, options.tries)
    return 1 if bad else 0


class Trial:
    """One format: a cache, its next generations, and readers of copies of it."""

    def __init__(self, photos: Path, folder: Path, name: str, chance: random.Random) -> None:
        self.photos, self.out, self.chance = photos, folder / "at" / name, chance
        self.added = photos / "added.jpg"
        self.old, self.other, self.more = (
            folder / kind / name for kind in ("old", "other", "more")
        )
        for path in (self.out, self.old, self.other, self.more):
            path.parent.mkdir(parents=True)
        self.build(self.old)
        self.build(self.other, size=OTHER)
        with self.picture_more():
            self.build(self.more)

    def build(self, path: Path, **how: Any) -> None:
        """Build a cache of many small slabs at *path*."""
        status = started(self.photos, path, self.chance, **how).wait()
        assert status == 0, f"a build ended with {status}"

    @contextlib.contextmanager
    def picture_more(self) -> Iterator[None]:
        """Have one more picture in the folder, always the same."""
        shutil.copy2(min(self.photos.rglob("*.jpg")), self.added)
        try:
            yield
        finally:
            self.added.unlink()

    # What is done under a reader: each yields what is wrong then ---------------------------------

    def cut(self, reader: Reader, counts: Counter[str]) -> Iterator[str]:
        """Cut a file, while the reader reads nothing and holds no view."""
        files = [self.out] if self.out.is_file() else sorted(self.out.rglob("*"))
        file = self.chance.choice([one for one in files if one.is_file()])
        length = self.chance.randrange(file.stat().st_size)
        arrays = mmcache.open(self.out).files.frame.arrays
        lacking = {name for name, one in arrays.items() if is_cut(one, self.out, file, length)}
        os.truncate(file, length)
        told = reader.asked("look")
        counts.update(told.values())
        needs = {name: {name} for name in arrays} | NEEDS
        for name, outcome in told.items():
            wanted = "refused" if needs.get(name, set()) & lacking else "same"
            if outcome != wanted and (name in needs or outcome not in ("same", "refused")):
                yield f"{name}: {outcome}, when {file.name} was cut to {length}"
        yield from not_raised(mmcache.DamagedCacheError, mmcache.open, self.out)

    def cut_at_any_time(self, reader: Reader, counts: Counter[str]) -> Iterator[str]:
        """Cut a file of pixels, while the reader copies pictures out of it and works with them."""
        segments = mmcache.open(self.out).files.frame.arrays["pixels"].segments
        file = file_of(self.out, self.chance.choice(segments).file)
        reader.tell("use")
        time.sleep(self.chance.uniform(0, 0.1))
        os.truncate(file, self.chance.randrange(file.stat().st_size))
        time.sleep(0.1)
        told = reader.asked("stop")
        counts.update(told.values())
        if told == {"use": "other data"}:
            yield "it read other data"
        elif "ended" in told.values() and (status := reader.process.wait()) != -signal.SIGBUS:
            yield f"the reader ended with {status}"

    def overwritten(self, reader: Reader, counts: Counter[str]) -> Iterator[str]:
        """Build the cache anew, of another size."""
        yield from self.rebuilt(reader, counts, self.other, size=OTHER, exist="overwrite")

    def updated(self, reader: Reader, counts: Counter[str]) -> Iterator[str]:
        """Update the cache when there is a picture more."""
        with self.picture_more():
            yield from self.rebuilt(reader, counts, self.more, exist="update")

    def rebuilt(self, reader: Reader, counts: Counter[str], new: Path, **how: Any) -> Iterator[str]:
        """Build the next generation while the reader reads, and another opens the path anew."""
        pickled = pickle.dumps(mmcache.open(self.out))
        reader.tell("read")
        known = [mmcache.open(path).fingerprint for path in (self.old, new)]
        with watched(self.out, known, "never") as seen:
            self.build(self.out, **how)
        yield from seen
        yield from goes_on(reader, counts)
        yield from not_raised(mmcache.DifferentCacheError, pickle.loads, pickled)
        if bytes_of(self.out) != bytes_of(new):
            yield "the new generation is not as one that nobody read"

    def deleted(self, reader: Reader, counts: Counter[str]) -> Iterator[str]:
        """Remove the cache."""
        pickled = pickle.dumps(mmcache.open(self.out))
        reader.tell("read")
        time.sleep(self.chance.uniform(0, 0.1))
        remove(self.out)
        yield from goes_on(reader, counts)
        yield from not_raised(mmcache.CacheNotFoundError, pickle.loads, pickled)

    def row(self, fault: Callable[..., Iterator[str]], store: str, tries: int) -> int:
        """Print what came of *tries* readers, and return how often it was bad."""
        counts: Counter[str] = Counter()
        bad = 0
        for number in range(tries):
            remove(self.out)
            copy = shutil.copytree if self.old.is_dir() else shutil.copy
            copy(self.old, self.out)
            with Reader(self.out) as reader:
                wrong = list(fault(reader, counts))
            bad += bool(wrong)
            for what in wrong:
                print(f"{fault.__name__}, {store}, try {number}: {what}", file=sys.stderr)
        if counts["ended"] > max(1, SHARE * tries):
            print(f"{fault.__name__}, {store}: {counts['ended']} readers ended", file=sys.stderr)
            bad += 1
        name = fault.__name__.replace("_", " ")
        row(name, store, tries, *(counts[kind] for kind in ("refused", "same", "ended")), bad)
        return bad


def is_cut(array: ArrayFrame, path: Path, file: Path, length: int) -> bool:
    """Tell whether *array* of the cache at *path* lacks something when *file* has this length."""
    return any(
        file_of(path, one.file) == file and one.offset + one.length > length
        for one in array.segments
    )


def goes_on(reader: Reader, counts: Counter[str]) -> Iterator[str]:
    """Yield what the reader has seen otherwise than at first, and sees so now."""
    for told in (reader.asked("look"), reader.asked("stop")):
        counts.update(told.values())
        yield from (f"{name}: {what}" for name, what in told.items() if what != "same")


def not_raised(error: type[Exception], call: Callable[..., object], *words: Any) -> Iterator[str]:
    """Yield a complaint where *call* does not raise *error*."""
    try:
        call(*words)
    except error:
        return
    yield f"there was no {error.__name__}"


def remove(path: Path) -> None:
    """Remove a cache, if there is one."""
    if path.is_dir():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


if __name__ == "__main__":
    sys.exit(main())
