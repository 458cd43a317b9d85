"""What a reader should take from the contests: who won, what was promised, what is drawn."""

from __future__ import annotations

from typing import TYPE_CHECKING

from measuring import median

from contest.building.race import BASE, EQUAL, Race, core_rate
from contest.building.writers import WRITERS
from contest.chart import Panel

if TYPE_CHECKING:
    from collections.abc import Iterator

    from contest.building.pieces import Inside

__all__ = ["panels", "promised", "winners"]

Row = tuple[str, str, str]
FAST, PLAIN = "MmcacheFast", "MmcachePillow"
MISSING = "not measured"
BARE = "build, 2 threads"
EVEN = 1.005  # times as fast, what is not told from equal


def winners(race: Race) -> str:
    """Return a sentence about those that were faster than mmcache, and how good they are."""
    ours = next((name for name in (FAST, PLAIN) if race.turns.get(name)), None)
    if ours is None:
        return ""
    faster = [
        (times, name)
        for name in race.turns
        if WRITERS[name].kind == "peer"
        and (times := race.times(name, ours, "core_rate") or 0) > EVEN
    ]
    title, seen = WRITERS[ours].title, race.seen[ours]
    if not faster:
        return f"Nobody who keeps pictures took less processor time than {title}."
    each = "; ".join(
        f"{WRITERS[name].title}, {times:.2f} times as fast, with {_quality(race, name)}"
        for times, name in sorted(faster, reverse=True)
    )
    own = f"{median(seen.decibels):.1f} dB ({min(seen.decibels):.1f} at the worst)"
    return f"Less processor time than {title} ({own}) took: {each}."


def _quality(race: Race, name: str) -> str:
    seen = race.seen[name]
    return f"{median(seen.decibels):.1f} dB ({min(seen.decibels):.1f} at the worst)"


def panels(races: dict[str, Race]) -> Iterator[Panel]:
    """Yield the bars of each contest in which all took part: pictures a second of one core."""
    for race in races.values():
        bars = [
            (_bar(name), core_rate(turns))
            for name, turns in race.turns.items()
            if turns and WRITERS[name].cores == 1
        ]
        bars.sort(key=lambda bar: -bar[1])
        title = f"{race.photos.kind} to {race.size}"
        yield Panel(title, "pictures/s a core", bars)


def _bar(name: str) -> str:
    return WRITERS[name].title.replace(", `np.save`", "")


# Promises ----------------------------------------------------------------------------------------


def promised(races: dict[str, Race], inside: Inside | None, floor: float | None) -> Iterator[Row]:
    """Yield what was asked for, by how much, and what was measured."""
    if web := races.get("web"):
        yield from _of_web(web)
    for key in ("smooth", "grainy"):
        if race := races.get(key):
            yield from _of_camera(race)
    if inside and BARE in inside.bare:
        clock, processor = inside.bare[BARE]
        told = f"{clock:.2f}; {processor:.2f}"
        yield "a build by two threads, of the bare two-thread loop's speed: clock; processor", \
            "at least 0.95", told  # fmt: skip
    if inside:
        for name, share in inside.outside.items():
            what = f"a core's time outside of decoding and resizing, {name}"
            yield what, "at most 10%", f"{share:.1%}"
    if floor is not None:
        what = "the worst photo against Pillow's full decode with the same filter"
        yield what, "at least 40 dB", f"{floor:.1f} dB"


def _of_web(race: Race) -> Iterator[Row]:
    where = f"{race.photos.kind} to {race.size}"
    for name, least in ((FAST, (1.6, 1.5)), (PLAIN, (1.0, 1.0))):
        for rate, called, asked in zip(
            ("core_rate", "rate"), ("processor time", "the clock"), least, strict=True
        ):
            what = f"{where}: {WRITERS[name].title}, times the Pillow loop, by {called}"
            yield what, f"at least {asked}", _times(race.times(name, BASE, rate))
    peers = race.equals()
    best = f" ({WRITERS[peers[0]].title})" if peers else ""
    what = (
        f"{where}: {WRITERS[FAST].title}, times the fastest peer whose PSNR is at most {EQUAL:g} dB"
        f" below the Pillow loop's{best}, by processor time"
    )
    yield what, "at least 1.4", _times(race.times(FAST, peers[0], "core_rate") if peers else None)


def _of_camera(race: Race) -> Iterator[Row]:
    where = f"{race.photos.kind} to {race.size}"
    for name in (FAST, PLAIN):
        title = WRITERS[name].title
        share = race.times(name, "ScaledDecoding", "core_rate")
        yield f"{where}: {title}, of scaled decoding alone", "at least 0.85", _times(share)
        times = race.times(name, BASE, "core_rate")
        asked = "about 9" if "smooth" in where else "about 3"
        yield f"{where}: {title}, times the Pillow loop", asked, _times(times)


def _times(value: float | None) -> str:
    return MISSING if value is None else f"{value:.2f}"
