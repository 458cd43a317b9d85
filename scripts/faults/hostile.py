#!/usr/bin/env python3
"""Caches made by an attacker, who seals them as their builder would: no digest tells.

Whoever opens one and uses all of it meets an error of mmcache's or a valid answer, in bounded time
and memory: no signal, no hang, no code that runs, and nothing read that lies outside of the cache.
"""

from __future__ import annotations

import contextlib
import ctypes
import functools
import os
import random
import resource
import shutil
import sys
import warnings
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from attacks import attacks_of
from forging import CANARY, SECRET, Forgery
from trying import NAMES, header, options_of, row, small_caches, workplace
from using import complaint, complaints
from watching import Answer, Child, Children

import mmcache

if TYPE_CHECKING:
    from argparse import Namespace
    from collections.abc import Callable, Iterator

LIMIT = 20  # seconds for a try
MEMORY = 600 << 20  # bytes that a child may have
IN_ACCESS, IN_OPEN = 1, 32  # of Linux's inotify
_TOLD = {
    Path("/proc", name)
    for name in ("meminfo", *(f"self/{one}" for one in ("mountinfo", "smaps", "status")))
}
"""What tells how much memory there is, and whose it is: a cache's repr and report ask there."""


def main(arguments: list[str] | None = None) -> int:
    """Print a table; exit status 1 where an attacker got anything but a refusal or an answer."""
    options = options_of(__doc__, arguments, tries=1000, more={"pictures": 12, "every": 10})
    warnings.simplefilter("ignore", mmcache.PicturesSkippedWarning)
    bad = 0
    header("attack", "format", "tries", "refused when opened", "bad")
    with workplace(options.pictures) as (photos, work):
        for store in NAMES:
            goods = [cache.path for cache in small_caches(photos, work / store, store)]
            (work / f"{store}-hostile").mkdir()
            with Children(used, work / f"{store}-hostile", LIMIT) as children:
                bad += attacked(store, goods, photos, children, options)
    return 1 if bad else 0


class Try(NamedTuple):
    """One attack on a copy of one good cache; the number decides by what chance."""

    number: int
    attack: str
    store: str
    good: Path
    photos: Path
    options: Namespace

    @property
    def copy(self) -> str:
        """What it is converted to; empty where all that is slow is left out."""
        turn, rest = divmod(self.number, self.options.every)
        return "" if rest else [*NAMES.values()][turn % len(NAMES)]


def attacked(
    store: str, goods: list[Path], photos: Path, children: Children, options: Namespace
) -> int:
    """Print a line an attack on caches of one format, and return how much was bad."""
    attacks = attacks_of(store)
    each = max(1, options.tries // len(attacks))
    all_bad = 0
    for attack in attacks:
        tries = [
            Try(number, attack, store, goods[number % len(goods)], photos, options)
            for number in range(each)
        ]
        refused = bad = 0
        for one, answer in children.answers(asked, tries):
            refused += answer.refused
            bad += bool(answer.bad)
            for sentence in answer.bad:
                print(f"{store}, {attack}, try {one.number}: {sentence}", file=sys.stderr)
        row(attack, store, each, refused, bad)
        all_bad += bad
    return all_bad


def asked(child: Child, one: Try) -> Answer:
    """Let a copy of a cache be attacked, and ask the child what becomes of whoever uses it."""
    chance = random.Random(f"{one.options.seed} {one.number} {one.attack}")  # noqa: S311  # no secret
    shutil.rmtree(child.folder)
    outside = child.folder / "outside"
    outside.mkdir(parents=True)
    path = child.folder / one.good.name
    (shutil.copytree if one.good.is_dir() else shutil.copyfile)(one.good, path)
    forgery = Forgery(path, outside)
    what = attacks_of(one.store)[one.attack](forgery, chance)
    if not forgery.sealed_already:
        forgery.seal()
    with watched(outside) as touched:
        answer = child.ask(path, one.photos, one.copy)
        bad = [*answer.bad, *(["what lies outside was opened"] if touched() else [])]
    if (child.folder / CANARY).exists():
        bad.append("code of the attacker's has run")
    return Answer(answer.refused, [f"{what}: {sentence}" for sentence in bad])


@contextlib.contextmanager
def watched(folder: Path) -> Iterator[Callable[[], bool]]:
    """Give what tells whether any process has opened or read something in a folder since."""
    system = ctypes.CDLL(None, use_errno=True)
    descriptor = system.inotify_init1(os.O_NONBLOCK)
    if system.inotify_add_watch(descriptor, os.fsencode(folder), IN_OPEN | IN_ACCESS) < 0:
        raise OSError(ctypes.get_errno(), "nothing could be watched")

    def touched() -> bool:
        with contextlib.suppress(BlockingIOError):
            return bool(os.read(descriptor, 1 << 16))
        return False

    try:
        yield touched
    finally:
        os.close(descriptor)


# In the child -------------------------------------------------------------------------------------

opened: list[tuple[str, int]] = []
"""Paths that Python has opened in this process, and with which flags."""


@functools.cache
def limited() -> None:
    """Have this process note what it opens, and have it do with little memory."""
    resource.setrlimit(resource.RLIMIT_DATA, (MEMORY, MEMORY))
    warnings.simplefilter("ignore")
    sys.addaudithook(_note)


def _note(event: str, arguments: tuple[Any, ...]) -> None:
    if event == "open" and isinstance(arguments[0], (str, bytes)):
        opened.append((os.fsdecode(arguments[0]), arguments[2]))


def used(path: Path, photos: Path, copy: str) -> Answer:
    """Use a cache, and tell what was bad."""
    limited()
    opened.clear()
    refused, bad = complaints(path, SECRET)
    if copy:
        bad += slow_complaints(path, photos, copy)
    strays = {name for name, flags in opened if is_stray(name, flags, path, photos)}
    return Answer(refused, [*bad, *(f"{name} was opened" for name in sorted(strays))])


def slow_complaints(path: Path, photos: Path, copy: str) -> list[str]:
    """Return what is wrong with what takes longer than to open a cache and use it."""
    made = path.parent / "made"
    made.mkdir()
    slow: dict[str, Callable[[], object]] = {
        "verify": lambda: repr(mmcache.verify(path, workers=1, progress=False)),
        "compare": lambda: repr(mmcache.compare(path, photos, progress=False)),
        f"to {copy}": partial(converted, path, made / copy, 1),
        f"backwards to {copy}": partial(converted, path, made / f"back-{copy}", -1),
    }
    told = [complaint(name, use) for name, use in slow.items()]
    strays = {one.name for one in made.iterdir()} - {copy, f"back-{copy}"}
    return [one for one in told if one] + [f"{name} was written" for name in sorted(strays)]


def converted(path: Path, to: Path, step: int) -> None:
    """Convert every picture of a cache, in this order or backwards."""
    mmcache.convert(mmcache.open(path)[::step], to, progress=False)


def is_stray(name: str, flags: int, path: Path, photos: Path) -> bool:
    """Tell whether a file that was opened is neither of the cache nor of Python's own."""
    if os.sep not in name:  # below a folder that was opened
        return False
    # Not resolved: a link is to be seen as one.
    place, cache = Path(os.path.abspath(name)), Path(os.path.realpath(path))  # noqa: PTH100
    if place == path or place.is_relative_to(path):
        behind = not Path(os.path.realpath(place.parent)).is_relative_to(cache.parent)
        leads = not Path(os.path.realpath(place)).is_relative_to(cache)
        return behind or (leads and not flags & os.O_NOFOLLOW)
    own = [sys.prefix, sys.base_prefix, Path(mmcache.__file__).parent, photos, path.parent / "made"]
    return not (any(place.is_relative_to(one) for one in own) or place in _TOLD)


if __name__ == "__main__":
    sys.exit(main())
