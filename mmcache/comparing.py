"""Compare: how the pictures of a source differ now from those that a cache was built from.

Sizes and times tell most of it. A file is read only where they leave a doubt: one of the same size
and another time may be unchanged, and a new one as large as one that is gone may be the same.
"""

from __future__ import annotations

import dataclasses
import os
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import google_crc32c
import numpy as np

from mmcache.cache import Cache, cache_at
from mmcache.errors import SelectionError
from mmcache.facts import Facts, counted
from mmcache.libraries import libraries
from mmcache.pairing import going_with
from mmcache.progress import Progress, progress_of
from mmcache.recipe import Recipe
from mmcache.records import STAGES, Lookup, Strings, find, printable
from mmcache.sources import source_of

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray

    from mmcache.sources import Listing, Source

__all__ = ["Comparison", "compare", "differences", "recipe_differences"]

_PIECE = 1 << 20  # bytes of a file that are read at once
_OFTEN = 64  # pictures between two looks at the progress
_MOST_NAMED = 10  # as many lines as are shown

# What a picture of the source is to the cache.
_ADDED, _SAME, _TOUCHED, _CHANGED, _FAILED, _RETRY = range(6)


@dataclass(frozen=True, eq=False)
class Comparison:
    """How a source differs from what a cache was built from; it prints well, in notebooks too.

    Attributes
    ----------
    path : pathlib.Path
        Of the cache.
    source : str
        Printable: the folder, or what else the source calls itself.
    rows : int64 (n,)
        For each picture of the source, in its order, the row of the cache that was made of the same
        content, be it under another key; -1 where there is none.
    added : Strings
        Keys of the source that are neither in the cache nor among its failures.
    changed : Strings
        Keys whose file has another content now, or cannot be read any more.
    moved_from, moved_to : Strings
        Old and new keys of pictures whose content is the same. These are neither added nor removed.
    removed : Strings
        Keys of the cache that are not in the source.
    relabelled : Strings
        Keys whose class has another name now.
    reordered : bool
        Whether the pictures that both have come in another order now.
    touched : int
        How many files have another time and the same content: they did not change.
    failed : Strings
        Keys that are among the cache's failures, and still in the source.
    retry : Strings
        Those of *failed* whose file has another size now, or is there at last: they may have been
        mended.
    recipe : dict
        Of settings to what they were and what is asked for, where the two differ.
    libraries : dict
        Of libraries to their version then and now, where the two differ; None where there is none.
        Pixels built anew may differ in the last bit.
    """

    path: Path
    source: str
    rows: NDArray[np.int64]
    added: Strings
    changed: Strings
    moved_from: Strings
    moved_to: Strings
    removed: Strings
    relabelled: Strings
    reordered: bool
    touched: int
    failed: Strings
    retry: Strings
    recipe: dict[str, tuple[Any, Any]] = field(default_factory=dict)
    libraries: dict[str, tuple[str | None, str | None]] = field(default_factory=dict)

    @property
    def same(self) -> bool:
        """Whether no picture differs: a build from the source would give the same rows."""
        return not self.summary()

    @property
    def moved(self) -> list[tuple[str, str]]:
        """Pairs of the old and the new key, in the order of the source."""
        return list(zip(self.moved_from, self.moved_to, strict=True))

    def summary(self) -> str:
        """Return how many pictures differ and how, as ``2 added, 1 changed``; empty for none."""
        words = [f"{len(keys):,} {word}" for word, keys in self._kinds().items() if len(keys)]
        return ", ".join([*words, *(["in another order"] if self.reordered else [])])

    def _kinds(self) -> dict[str, Strings]:
        """Return what makes a difference, in words."""
        return {
            "added": self.added,
            "changed": self.changed,
            "moved": self.moved_to,
            "removed": self.removed,
            "relabelled": self.relabelled,
            "to retry": self.retry,
        }

    def to_json(self) -> dict[str, Any]:
        """Return it as plain data, valid as JSON whatever bytes a name has."""
        names = ("added", "changed", "removed", "relabelled", "failed", "retry")
        return {
            "path": printable(os.fsencode(self.path)),
            "source": self.source,
            "same": self.same,
            **{name: _plain(getattr(self, name)) for name in names},
            "moved": [
                {"from": old, "to": new}
                for old, new in zip(_plain(self.moved_from), _plain(self.moved_to), strict=True)
            ],
            "reordered": self.reordered,
            "touched": self.touched,
            "recipe": {
                name: {"was": _as_list(was), "asked": _as_list(asked)}
                for name, (was, asked) in self.recipe.items()
            },
            "libraries": {
                name: {"was": was, "now": now} for name, (was, now) in self.libraries.items()
            },
        }

    def _facts(self) -> Facts:
        path = printable(os.fsencode(self.path))
        one, other = printable(os.fsencode(self.path.name)), _short(self.source)
        summary = self.summary()
        rows = [("cache", path), ("source", self.source)]
        if self.touched:
            rows.append(
                ("touched", f"{counted(self.touched, 'file')} of another time and the same content")
            )
        if failed := len(self.failed):
            rows.append(("failed", f"{counted(failed, 'picture')} could not be read"))
        if self.recipe:
            rows.append(("recipe", "; ".join(_setting(*one) for one in self.recipe.items())))
        if self.libraries:
            rows.append(("libraries", "; ".join(_library(*one) for one in self.libraries.items())))
        return Facts(
            f"{one} and {other}: {summary}" if summary else f"{one} holds what is in {other}",
            rows,
            lines=self._lines(),
        )

    def _lines(self) -> list[str]:
        """Name a few of each kind, so that many of one do not hide another."""
        kinds = {word: keys for word, keys in self._kinds().items() if len(keys)}
        total = sum(len(keys) for keys in kinds.values())
        each = total if total <= _MOST_NAMED else (_MOST_NAMED - 1) // len(kinds)
        lines = []
        for word, keys in kinds.items():
            for place in range(min(each, len(keys))):
                key = printable(keys.raw(place))
                old = f"{printable(self.moved_from.raw(place))} to " if word == "moved" else ""
                lines.append(f"{word}: {old}{key}")
        rest = total - len(lines)
        return lines + ([f"... and {rest:,} more"] if rest else [])

    def __repr__(self) -> str:
        return self._facts().to_text()

    def _repr_html_(self) -> str:
        return self._facts().to_html()


def _plain(keys: Strings) -> list[str]:
    return [printable(keys.raw(place)) for place in range(len(keys))]


def _as_list(value: Any) -> Any:
    return [_as_list(one) for one in value] if isinstance(value, tuple) else value


def _as_tuple(value: Any) -> Any:
    return tuple(_as_tuple(one) for one in value) if isinstance(value, tuple) else value


def _short(source: str) -> str:
    """Return a folder's name without where it lies; what is no path stays as it is."""
    path = Path(source)
    return path.name if path.is_absolute() and path.name else source


def _setting(name: str, values: tuple[Any, Any]) -> str:
    was, asked = (_as_tuple(one) for one in values)
    return f"{name}={was!r} then, {asked!r} asked for"


def _library(name: str, versions: tuple[str | None, str | None]) -> str:
    was, now = (version or "none" for version in versions)
    return f"{name} {was} then, {now} now"


def compare(
    cache: Cache | str | os.PathLike[str],
    source: Any,
    *,
    like: Cache | str | os.PathLike[str] | None = None,
    recipe: Recipe | None = None,
    progress: bool | Progress = True,
) -> Comparison:
    """Tell how *source* differs now from what *cache* was built from; nothing is decoded.

    A file whose size and time are as they were is taken for unchanged. One of the same size and
    another time is read, and so is a new one that is as large as one that is gone: their CRC-32C
    tells whether the content is the same.

    Parameters
    ----------
    cache : Cache or path
        The whole cache.
    source : path, list of paths, or Source
        As for :func:`mmcache.build`.
    like : Cache or path, optional
        Pictures that those of *cache* go with, if it was built so.
    recipe : Recipe, optional
        What a build would be asked for: ``comparison.recipe`` tells what the cache has instead.
        With *like*, its geometry is that of *like*, as in a build.
    progress : bool or callable
        As for :func:`mmcache.build`.

    Returns
    -------
    Comparison

    Raises
    ------
    SelectionError
        (a ``TypeError``) where *cache* is a part of one: what it lacks says nothing of the source.
    SourceNotFoundError, SourceError, SettingError
        As for :func:`mmcache.build`. A source in which there are no pictures is no error here.
    """
    whole = cache_at(cache)
    if not whole.is_whole:
        raise SelectionError(
            f"{counted(len(whole), 'picture')} of those in {whole.path} were selected, and a cache"
            f' is compared as a whole: pass mmcache.open("{whole.path}")'
        )
    found = source_of(source)
    if like is not None:
        found, placed = going_with(found, recipe or Recipe(), like)
        recipe = None if recipe is None else placed
    with progress_of(progress, "comparing") as show:
        told = differences(whole, found, found.listing(), progress=show.to)
    return dataclasses.replace(
        told,
        recipe={} if recipe is None else recipe_differences(whole.recipe, recipe),
        libraries=_different(whole.files.frame.libraries, libraries(whole.recipe)),
    )


def recipe_differences(was: Recipe, asked: Recipe) -> dict[str, tuple[Any, Any]]:
    """Return the settings in which two recipes differ, each with both values."""
    names = [setting.name for setting in dataclasses.fields(Recipe)]
    old, new = ({name: getattr(one, name) for name in names} for one in (was, asked))
    for one, other in ((old, new), (new, old)):
        # A count agrees with as many shapes: they are what becomes of it.
        if isinstance(one["buckets"], int) and isinstance(other["buckets"], tuple):
            other["buckets"] = len(other["buckets"])
        if one["resampler"] == "auto":  # whoever did it
            other["resampler"] = "auto"
    if was.resize != asked.resize:  # which says enough: to one of them there is no such setting
        old["buckets"] = new["buckets"] = None
    return _different(old, new)


def _different(old: dict[str, Any], new: dict[str, Any]) -> dict[str, tuple[Any, Any]]:
    return {
        name: (old.get(name), new.get(name))
        for name in {**old, **new}
        if old.get(name) != new.get(name)
    }


# Picture by picture -------------------------------------------------------------------------------


def differences(
    cache: Cache,
    source: Source,
    listing: Listing,
    *,
    progress: Progress | None = None,
) -> Comparison:
    """Compare the pictures of a *listing* of *source* with those that *cache* was built from.

    Parameters
    ----------
    cache : Cache
        A whole one.
    source : Source
        Asked for sizes and times, and opened where these leave a doubt.
    listing : Listing
        What is in it now.
    progress : callable, optional
        Called now and then with how many pictures were looked at, and how many are to be.
    """
    show = progress or _nothing
    names = listing.called
    past = _Past(cache, source)
    rows, states = _looked_at(past, listing.keys, names, show)
    common = rows[rows >= 0]
    gone = np.setdiff1d(np.arange(len(cache)), common)
    added = np.flatnonzero(states == _ADDED)
    old, new = _moves(past, names, gone, added, show)
    relabelled = _relabelled(cache, listing, rows)
    changed, failed, retry = (
        np.flatnonzero(np.isin(states, some))
        for some in ((_CHANGED,), (_FAILED, _RETRY), (_RETRY,))
    )
    rows[changed] = -1
    rows[new] = old
    there = listing.keys
    return Comparison(
        path=cache.path,
        source=printable(str(source)),
        rows=rows,
        added=_at(there, np.setdiff1d(added, new)),
        changed=_at(there, changed),
        moved_from=_at(cache.keys, old),
        moved_to=_at(there, new),
        removed=_at(cache.keys, np.setdiff1d(gone, old)),
        relabelled=_at(there, relabelled),
        reordered=bool((np.diff(common) < 0).any()),
        touched=int(np.count_nonzero(states == _TOUCHED)),
        failed=_at(there, failed),
        retry=_at(there, retry),
    )


def _nothing(done: int, total: int) -> None:
    """Show no progress."""


def _at(keys: Strings, places: NDArray[np.int64]) -> Strings:
    """Return some names, which hold on to no others."""
    return keys.take(places).packed()


class _Past:
    """What a cache was built from: it tells what a picture of the source is to the cache."""

    def __init__(self, cache: Cache, source: Source) -> None:
        self.source = source
        self.lookup = Lookup(
            cache.keys, cache.files.array("key_order") if "key_order" in cache.files else None
        )
        columns = cache.columns
        self._sizes, self._times = columns["file_size"], columns["mtime_ns"]
        self._hashes = columns["content_hash"]
        self._failures = cache.failures
        # The first caches do not tell. In others, a file of no size was not to be reached.
        self._sizes_told = "failure_sizes" in cache.files

    def contents_of(self, rows: NDArray[np.int64]) -> NDArray[np.int64]:
        """Return size and hash of the files of some rows: int64 ``(n, 2)``."""
        return np.column_stack([self._sizes[rows], self._hashes[rows].astype(np.int64)])

    def state_of(self, row: int, name: bytes) -> int:
        """Tell whether the file of a row is the same; it is read where only its time differs."""
        now = _size_and_time(self.source, name)
        if now is None or now[0] != self._sizes[row]:
            return _CHANGED
        if now[1] == self._times[row]:
            return _SAME
        return _TOUCHED if _content(self.source, name) == self._hashes[row] else _CHANGED

    def state_without_row(self, key: bytes, name: bytes) -> int:
        """Tell whether a picture that is in no row is new, or failed as it did before."""
        failures = self._failures
        place = find(failures.keys, None, key)
        # What could not be reached, and can be now, is new.
        if place is None or failures.stages[place] == STAGES.index("list"):
            return _ADDED
        now = _size_and_time(self.source, name)
        same = now is None or now[0] == failures.sizes[place]
        return _FAILED if same or not self._sizes_told else _RETRY


def _looked_at(
    past: _Past, keys: Strings, names: Strings, show: Callable[[int, int], None]
) -> tuple[NDArray[np.int64], NDArray[np.uint8]]:
    """Return for each picture of the source the row of the same key, or -1, and what it is."""
    rows = np.full(len(keys), -1, np.int64)
    states = np.zeros(len(keys), np.uint8)
    for place in range(len(keys)):
        key, name = keys.raw(place), names.raw(place)
        row = past.lookup.row_of(key)
        if row is None:
            states[place] = past.state_without_row(key, name)
        else:
            rows[place] = row
            states[place] = past.state_of(row, name)
        if place % _OFTEN == 0:
            show(place, len(keys))
    show(len(keys), len(keys))
    return rows, states


def _size_and_time(source: Source, name: bytes) -> tuple[int, int] | None:
    """Return a file's size and time; None where they cannot be told."""
    try:
        return source.stat(name)
    except OSError:
        return None


def _content(source: Source, name: bytes) -> int | None:
    """Return CRC-32C of a file's bytes; None where it cannot be read."""
    crc: int = google_crc32c.value(b"")
    try:
        with source.open(name) as encoded:
            while piece := encoded.file.read(_PIECE):
                crc = google_crc32c.extend(crc, piece)
    except OSError:
        return None
    return crc


def _moves(
    past: _Past,
    names: Strings,
    gone: NDArray[np.int64],
    added: NDArray[np.int64],
    show: Callable[[int, int], None],
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Return rows that are gone and places that are new, in pairs of the same content."""
    old = past.contents_of(gone)
    new = _contents_at(past.source, names, added, old[:, 0], show)
    ones, others = _pairs(old, new)
    order = np.argsort(others)
    return gone[ones[order]], added[others[order]]


def _contents_at(
    source: Source,
    names: Strings,
    places: NDArray[np.int64],
    sizes: NDArray[np.int64],
    show: Callable[[int, int], None],
) -> NDArray[np.int64]:
    """Return size and hash of the files at *places*; -1 as hash of those of none of *sizes*."""
    contents = np.full((len(places), 2), -1, np.int64)
    if not len(sizes):
        return contents
    for number, place in enumerate(places.tolist()):
        now = _size_and_time(source, names.raw(place))
        contents[number, 0] = -1 if now is None else now[0]
    alike = np.flatnonzero(np.isin(contents[:, 0], sizes))
    for done, number in enumerate(alike.tolist(), 1):
        content = _content(source, names.raw(int(places[number])))
        contents[number, 1] = -1 if content is None else content
        show(len(names) + done, len(names) + len(alike))
    return contents


def _pairs(
    one: NDArray[np.int64], other: NDArray[np.int64]
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Return where rows of two ``(n, 2)`` arrays are equal: the first with the first, and so on."""
    _, numbers = np.unique(np.concatenate([one, other]), axis=0, return_inverse=True)
    numbers = numbers.reshape(-1)
    total = len(numbers)
    _, ones, others = np.intersect1d(
        _told_once(numbers[: len(one)], total),
        _told_once(numbers[len(one) :], total),
        assume_unique=True,
        return_indices=True,
    )
    return ones, others


def _told_once(numbers: NDArray[np.int64], total: int) -> NDArray[np.int64]:
    """Return *numbers* made unique: each with how many of it came before."""
    order = np.argsort(numbers, kind="stable")
    ordered = numbers[order]
    before = np.empty(len(numbers), np.int64)
    before[order] = np.arange(len(numbers)) - np.searchsorted(ordered, ordered)
    told: NDArray[np.int64] = numbers * total + before
    return told


def _relabelled(cache: Cache, listing: Listing, rows: NDArray[np.int64]) -> NDArray[np.int64]:
    """Return the places of pictures whose class is called otherwise than in their row."""
    places = np.flatnonzero(rows >= 0)
    known = {name: number for number, name in enumerate(cache.classes)}
    # The last stands for -1: no class then, and none now. -2 is a class that the cache has not.
    numbers = np.array([*(known.get(name, -2) for name in listing.classes), -1], np.int64)
    none = np.full(len(places), -1, np.int64)
    was = none if cache.labels is None else cache.labels[rows[places]]
    now = none if listing.labels is None else numbers[listing.labels[places]]
    told: NDArray[np.int64] = places[was != now]
    return told
