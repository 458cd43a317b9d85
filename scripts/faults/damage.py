#!/usr/bin/env python3
"""Finished caches that are damaged: a bit, a page, a length, a whole file.

After each: verify names the file, and for pixels exactly the pictures that were hit; and whoever
opens the cache and uses all of it meets an error of mmcache's or arrays of the right shape, never a
signal, a hang or anything else. At last, caches that nothing was done to: none is called damaged.
"""

from __future__ import annotations

import random
import sys
import warnings
from functools import partial
from typing import TYPE_CHECKING, Any, NamedTuple

from damaging import BITS, FAULTS, Good
from trying import (
    NAMES,
    Backwards,
    evenly,
    header,
    is_whole,
    options_of,
    row,
    small_caches,
    workplace,
)
from using import complaint, complaints
from watching import Answer, Child, Children

import mmcache
from mmcache.geometry import RESIZES
from mmcache.recipe import MODES, RESAMPLES

if TYPE_CHECKING:
    from argparse import Namespace
    from collections.abc import Iterable
    from pathlib import Path

    from damaging import Place

LIMIT = 60  # seconds for a try


def main(arguments: list[str] | None = None) -> int:
    """Print a table; exit status 1 where damage was not named, or did worse than to be refused."""
    more = {"bits": 500, "good": 20, "pictures": 12}
    options = options_of(__doc__, arguments, tries=2000, more=more)
    warnings.simplefilter("ignore", mmcache.PicturesSkippedWarning)
    bad = 0
    header("fault", "format", "possible", "tries", "refused when opened", "bad")
    with workplace(options.pictures) as (photos, work):
        for store in NAMES:
            goods = [Good(cache) for cache in small_caches(photos, work / store, store)]
            bad += damaged(goods, work / f"{store}-damaged", options)
        bad += undamaged(photos, work / "good", options)
    return 1 if bad else 0


# Caches that are damaged --------------------------------------------------------------------------


class Try(NamedTuple):
    """One fault at one place of one cache; the number decides by what chance."""

    number: int
    good: Good
    fault: str
    place: Place

    def __str__(self) -> str:
        name, number = self.place
        return f"try {self.number} of {self.good.path.name}: {self.fault}, {name!r} {number}"


def damaged(goods: list[Good], folder: Path, options: Namespace) -> int:
    """Print a line a fault for caches of one format, and return how much was bad."""
    folder.mkdir()
    all_bad = 0
    with Children(judged, folder, LIMIT) as children:
        for name, fault in FAULTS.items():
            possible = [(good, place) for good in goods for place in fault.places(good)]
            chosen = evenly(possible, options.bits if name == BITS else options.tries)
            tries = [Try(number, good, name, at) for number, (good, at) in enumerate(chosen)]
            ask = partial(asked, seed=options.seed)
            refused, bad = told(children.answers(ask, tries))
            row(name, goods[0].store, len(possible), len(tries), refused, bad)
            all_bad += bad
    return all_bad


def asked(child: Child, one: Try, seed: int) -> Answer:
    """Damage a copy of a cache, and ask the child what becomes of that."""
    path = child.folder / one.good.path.name
    one.good.restored(path)
    chance = random.Random(f"{seed} {one.number} {one.fault}")  # noqa: S311  # no secret
    files = FAULTS[one.fault].do(path, one.place, chance)
    known = one.fault == BITS or all(one.good.tells_of_none(name) for name in files)
    return child.ask(path, files, one.good.hit(path) if known else None)


def judged(path: Path, files: tuple[str, ...], keys: set[str] | None) -> Answer:
    """Verify a damaged cache, which is to name *files* and *keys*, and use it."""
    verdict = complaint("verify", lambda: named(path, files, keys))
    refused, bad = complaints(path)
    return Answer(refused, [one for one in (verdict, *bad) if one])


def named(path: Path, files: tuple[str, ...], keys: set[str] | None) -> None:
    """Assert that verify names what was hit, and it alone where that is known."""
    try:
        report = mmcache.verify(path, workers=1, progress=False)
    except mmcache.MmcacheError as error:
        said = str(error)
        assert str(path) in said, said
        return
    there = {one.file for one in report.damaged}
    assert there >= set(files), f"it names {sorted(there)}, and not all of {files}"
    found = sorted(report.keys)
    assert keys is None or found == sorted(keys), f"it names {found}, and not {sorted(keys)}"


def told(answers: Iterable[tuple[Try, Answer]]) -> tuple[int, int]:
    """Tell what was bad, and return how many tries were refused at opening, and how many bad."""
    refused = bad = 0
    for one, answer in answers:
        refused += answer.refused
        bad += bool(answer.bad)
        for sentence in answer.bad:
            print(f"{one}: {sentence}", file=sys.stderr, flush=True)
    return refused, bad


# Caches that nothing was done to ------------------------------------------------------------------


def undamaged(photos: Path, folder: Path, options: Namespace) -> int:
    """Print a line a format for caches of any recipe, and return how many were called damaged."""
    chance = random.Random(options.seed)  # noqa: S311  # no secret
    folder.mkdir()
    counts = dict.fromkeys(NAMES, (0, 0))
    for number in range(options.good):
        store = list(NAMES)[number % len(NAMES)]
        recipe = any_recipe(chance)
        source = chance.choice([photos, Backwards(photos), sorted(photos.rglob("*.*g"))])
        path = folder / f"{number}-{NAMES[store]}"
        mmcache.build(source, path, **recipe, progress=False)
        tries, bad = counts[store]
        counts[store] = tries + 1, bad + (not is_whole(path))
        if not is_whole(path):
            print(f"good {number}, {recipe}: {mmcache.verify(path)}", file=sys.stderr)
    for store, (tries, bad) in counts.items():
        row("none", store, tries, tries, 0, bad)
    return sum(bad for _, bad in counts.values())


def any_recipe(chance: random.Random) -> dict[str, Any]:
    """Return settings of a build by chance."""
    mode = chance.choice(MODES)
    return {
        "mode": mode,
        "resize": chance.choice(RESIZES),
        "size": (chance.randint(1, 150), chance.randint(1, 150)),
        "multiple_of": chance.choice([1, 8]),
        "resample": "nearest" if mode == "P" else chance.choice(RESAMPLES),
    }


if __name__ == "__main__":
    sys.exit(main())
