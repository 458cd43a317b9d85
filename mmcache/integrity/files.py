"""Files: all there and no other, and what belongs to no record as it was written."""

from __future__ import annotations

from collections import defaultdict
from itertools import chain, pairwise
from typing import TYPE_CHECKING

from mmcache.errors import DamagedCacheError
from mmcache.stores.digests import records_in, rest_digest

if TYPE_CHECKING:
    from collections.abc import Iterator

    from mmcache.integrity.inspection import Inspection

__all__ = ["check_arrays", "check_files", "check_rests", "overlapping"]

_ROWS = 4096  # records read at a time

Spans = dict[int, tuple[int, int]]
"""By segment of pixels: the first and the last row whose records lie in it."""


def check_files(it: Inspection) -> None:
    """Look for every file, and for others."""
    for name in it.frame.files:
        if problem := it.stored.problem(name):
            it.findings.add(it.stored.shown(name), problem)
            it.broken.add(name)
    for name in it.stored.strangers():
        it.findings.add(name, "does not belong to the cache")


def overlapping(it: Inspection) -> str | None:
    """Return a file of which two arrays share bytes: a small one could then be read for ever."""
    taken = defaultdict(list)
    for one in it.frame.arrays.values():
        for file, offset, length in one.segments:
            if length:
                taken[file].append((offset, offset + length))
    for file, stretches in taken.items():
        if any(end > start for (_, end), (start, _) in pairwise(sorted(stretches))):
            return file
    return None


def check_arrays(it: Inspection) -> None:
    """Compare every array but pixels with its digest."""
    names = [name for name in it.frame.arrays if name != "pixels"]
    for name, digest in it.each(lambda name: (name, _digest(it, name)), names):
        if digest is not None and digest == it.frame.arrays[name].sha256:
            it.whole.add(name)
        elif {segment.file for segment in it.frame.arrays[name].segments} & it.broken:
            it.add(name)  # why is told already
        else:
            it.add(name, f"{name} is not as it was written")


def _digest(it: Inspection, array: str) -> str | None:
    try:
        return it.stored.digest(array)
    except DamagedCacheError:
        return None


def check_rests(it: Inspection, spans: Spans | None) -> None:
    """Compare the bytes of each file that belong to no record.

    *spans* is None where records are damaged, so that it is not known which bytes are theirs.
    """
    # Where an array is damaged, it is no news that its file has changed.
    told = it.broken | {
        segment.file
        for name, one in it.frame.arrays.items()
        if name not in it.whole and name != "pixels"
        for segment in one.segments
    }
    pixels = it.frame.arrays.get("pixels")
    payload = {segment.file for segment in pixels.segments} if pixels else set()
    names = [
        name
        for name in it.frame.files
        if name not in told and (spans is not None or name not in payload)
    ]
    for name, digest in it.each(lambda name: (name, _rest(it, name, spans or {})), names):
        if digest is None or digest != it.frame.files[name].sha256:
            some = "bytes that belong to no record are not as they were written"
            what = some if name in payload else "is not as it was written"
            it.findings.add(it.stored.shown(name), what)


def _rest(it: Inspection, name: str, spans: Spans) -> str | None:
    """Return the digest of a file's bytes that belong to no record; None where some lack."""
    try:
        with it.stored.opened(name) as descriptor:
            taken = chain.from_iterable(_taken(it, name, spans))
            return rest_digest(descriptor, it.frame.files[name].length, taken)
    except (DamagedCacheError, OSError):
        return None


def _taken(it: Inspection, file: str, spans: Spans) -> Iterator[Iterator[tuple[int, int]]]:
    """Yield where the records in a file lie, for some rows at a time."""
    if not spans:
        return
    pixels = it.frame.arrays["pixels"]
    here = [
        spans[number]
        for number, segment in enumerate(pixels.segments)
        if segment.file == file and number in spans
    ]
    if not here:
        return
    first, end = min(span[0] for span in here), max(span[1] for span in here) + 1
    with it.stored.column("records") as records:
        for start in range(first, end, _ROWS):
            yield records_in(file, pixels, records.read(start, min(start + _ROWS, end)))
