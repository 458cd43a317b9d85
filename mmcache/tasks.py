"""What workers are handed, numbers and names, and what they do with it: no pixel passes between."""

from __future__ import annotations

import errno
import io
import os
from dataclasses import dataclass
from pathlib import Path
from time import perf_counter
from typing import TYPE_CHECKING, Any, BinaryIO, NamedTuple, Self

import google_crc32c

from mmcache.geometry import Size
from mmcache.images import decode, decode_flagged, read_header, returned_memory, unreadable
from mmcache.resampling import check_resampler
from mmcache.sources import from_json, is_in_memory
from mmcache.steps import Step, step_of
from mmcache.stores.digests import crc32c_of
from mmcache.stores.payload import FULL, copied, opened, pieces_of, reading, write_at
from mmcache.survey import check_given_up, memory_needed
from mmcache.workers import Span, in_time

if TYPE_CHECKING:
    from mmcache.limits import Limits
    from mmcache.recipe import Recipe
    from mmcache.sources import Source

__all__ = [
    "DECODED",
    "FAILED",
    "NOT_THE_FILE",
    "Copies",
    "Gift",
    "Pictures",
    "Pixels",
    "Records",
    "Trial",
    "can_be_read",
    "check_records",
    "copy_records",
    "make_records",
]

DECODED, FAILED = -1, -2
"""What stands for a donor's number where there is none."""

NOT_THE_FILE = "is not the file that the cache was built from"
_CHANGED = "changed while the cache was being built"

_LOOKED_AT = 8  # one of so many pictures: whether its file is in memory
_PREAD = getattr(os, "pread", None)  # Windows has none
_LARGE = 64 << 20  # bytes of memory for one picture, after which what is free is given back


class Gift(NamedTuple):
    """A record that a picture can have, if its file has this CRC-32C.

    ``giver`` is the donor's number; the record lies in ``file`` from byte ``start`` on.
    """

    content_hash: int
    giver: int
    file: str
    start: int
    checksum: int
    flags: int


@dataclass(frozen=True, kw_only=True)
class Pictures(Span):
    """Pictures of one slab, and where their records go.

    ``sizes`` are those that the headers told; ``places`` are offsets in bytes in ``file``, and
    ``lengths`` are the records' own. ``stats`` are the files' sizes and times as they were; where
    ``contents`` tells their CRC-32C, that decides and not the time. ``memory`` is what the largest
    of the pictures needs to be decoded, in bytes.
    """

    source: dict[str, Any] | Source
    recipe: Recipe
    file: str
    sizes: list[tuple[int, int]]
    orientations: list[int]
    stats: list[tuple[int, int]]
    contents: list[int]
    gifts: list[list[Gift]]
    places: list[int]
    lengths: list[int]
    memory: int

    def rest(self, outcome: Pixels) -> list[Self]:
        """Return what *outcome* leaves to be done of these pictures."""
        return self.after(len(outcome.givers))

    def interrupted(self, outcome: Pixels) -> bool:
        """Tell whether it was Ctrl-C that ended *outcome*."""
        return outcome.interrupted


class Pixels(NamedTuple):
    """What came of :class:`Pictures`: records, and failures by their index with the reason.

    ``givers`` are the donors' numbers, or ``DECODED`` or ``FAILED``; ``waited`` is about how many
    seconds it took to read files that were not in memory. Of pictures that take long it is only of
    the first few; *interrupted* tells that it was Ctrl-C that came after them.
    """

    start: int
    nbytes: int
    checksums: list[int]
    hashes: list[int]
    flags: list[int]
    givers: list[int]
    failures: list[tuple[int, str]]
    waited: float = 0
    interrupted: bool = False

    def first(self, count: int, lengths: list[int]) -> Pixels:
        """Return the same of the first *count* pictures, whose records have these *lengths*."""
        there = zip(lengths, self.givers[:count], strict=False)
        return Pixels(
            self.start,
            sum(length for length, giver in there if giver != FAILED),
            self.checksums[:count],
            self.hashes[:count],
            self.flags[:count],
            self.givers[:count],
            [(index, reason) for index, reason in self.failures if index < count],
        )

    def step(self) -> Step | None:
        """Return what a journal tells of it: the rows that are there, if any."""
        if FAILED not in self.givers:
            return step_of(
                range(self.start, self.start + len(self.givers)),
                checksums=self.checksums, hashes=self.hashes, flags=self.flags,
            )  # fmt: skip
        there = [index for index, giver in enumerate(self.givers) if giver != FAILED]
        if not there:
            return None
        return step_of(
            (self.start + index for index in there),
            checksums=(self.checksums[index] for index in there),
            hashes=(self.hashes[index] for index in there),
            flags=(self.flags[index] for index in there),
        )


def make_records(pictures: Pictures) -> Pixels:
    """Do the work, or enough of it, and leave no more memory taken than before."""
    check_resampler(pictures.recipe.resampler)  # a worker may be on another machine
    made = _made(pictures)
    if pictures.memory > _LARGE:
        returned_memory()
    return made


def _made(pictures: Pictures) -> Pixels:
    """Bring the pictures, one at a time, each straight to its place."""
    source = from_json(pictures.source) if isinstance(pictures.source, dict) else pictures.source
    count = len(pictures.keys)
    made = Pixels(pictures.start, 0, [0] * count, [0] * count, [0] * count, [FAILED] * count, [])
    done, waited, interrupted = 0, 0.0, False
    try:
        with opened(pictures.file, os.O_RDWR) as descriptor:
            for index in in_time(count):
                waited += _make(pictures, index, source, descriptor, made)
                done = index + 1
    except KeyboardInterrupt:
        if not done:
            raise
        interrupted = True
    made = made.first(done, pictures.lengths)
    return made._replace(waited=waited, interrupted=interrupted)


def _make(pictures: Pictures, index: int, source: Source, descriptor: int, made: Pixels) -> float:
    """Make one record, note in *made* what came of it, and return what :func:`_encoded` does."""
    waited = 0.0
    try:
        check_given_up(pictures)
        encoded, waited = _encoded(source, pictures, index)
        content = google_crc32c.value(encoded)
        _check_content(pictures, index, content)
        record, checksum, flags, giver = _given(pictures, index, content) or _decoded(
            pictures, index, encoded
        )
    except Exception as error:  # noqa: BLE001  # whatever a broken file makes Pillow raise
        made.failures.append((index, unreadable(error)))
        # Of a builder that was killed a part of it may be here.
        write_at(descriptor, bytes(pictures.lengths[index]), pictures.places[index])
        return waited
    write_at(descriptor, record, pictures.places[index])
    made.checksums[index], made.hashes[index] = checksum, content
    made.flags[index], made.givers[index] = flags, giver
    return waited


def _encoded(source: Source, pictures: Pictures, index: int) -> tuple[bytes, float]:
    """Return a picture's file, and how many seconds were waited for it, if it was looked at.

    It then stands for those that follow. None was waited for what was in memory.
    """
    size, mtime_ns = pictures.stats[index]
    with source.open(pictures.keys[index]) as encoded:
        if encoded.size != size or (encoded.mtime_ns != mtime_ns and not pictures.contents):
            raise OSError(errno.ESTALE, _CHANGED)
        waits = index % _LOOKED_AT == 0 and not is_in_memory(encoded.file, size)
        begun = perf_counter()
        data = _all_of(encoded.file, size)
        seconds = perf_counter() - begun
    if len(data) != size:
        raise OSError(errno.ESTALE, _CHANGED)
    alike = min(_LOOKED_AT, len(pictures.keys) - index)
    return data, seconds * alike if waits else 0.0


def _all_of(file: BinaryIO, size: int) -> bytes:
    """Read a file that should have *size* bytes, by one call of the system if it is a plain one.

    Each call lets go of Python's lock, and where many threads want it takes long to come back.
    """
    if isinstance(file, io.BufferedReader) and isinstance(file.raw, io.FileIO) and _PREAD:
        data: bytes = _PREAD(file.fileno(), size + 1, 0)
        if len(data) == size:
            return data
    return file.read()


def _check_content(pictures: Pictures, index: int, content: int) -> None:
    if pictures.contents and pictures.contents[index] != content:
        raise OSError(errno.ESTALE, NOT_THE_FILE)


def _given(pictures: Pictures, index: int, content: int) -> tuple[bytes, int, int, int] | None:
    """Return a record that was made of the very same file, whole, if there is one."""
    for gift in pictures.gifts[index] if pictures.gifts else ():
        if gift.content_hash != content:
            continue
        try:
            with reading(Path(gift.file)) as descriptor:
                record = b"".join(
                    pieces_of(descriptor, gift.start, gift.start + pictures.lengths[index])
                )
        except OSError:
            continue
        if google_crc32c.value(record) == gift.checksum:
            return record, gift.checksum, gift.flags, gift.giver
    return None


def _decoded(pictures: Pictures, index: int, encoded: bytes) -> tuple[Any, int, int, int]:
    record, flags = decode_flagged(
        io.BytesIO(encoded),
        pictures.recipe,
        expected=Size(*pictures.sizes[index]),
        orientation=pictures.orientations[index],
    )
    return record, google_crc32c.value(record), flags, DECODED


@dataclass(frozen=True, kw_only=True)
class Trial(Span):
    """Pictures of which to see whether they can be read, each alone."""

    source: dict[str, Any] | Source
    recipe: Recipe
    limits: Limits


def can_be_read(trial: Trial) -> bool:
    """Tell whether any of the pictures can be read, within the limits."""
    check_resampler(trial.recipe.resampler)
    source = from_json(trial.source) if isinstance(trial.source, dict) else trial.source
    return any(_can_be_read(source, trial, key) for key in trial.keys)


def _can_be_read(source: Source, trial: Trial, key: bytes) -> bool:
    try:
        check_given_up(trial)
        with source.open(key) as encoded:
            header = read_header(encoded.file, trial.recipe.frame)
            memory_needed(header, encoded.size, trial.recipe, trial.limits)
            decode(encoded.file, trial.recipe)
    except Exception:  # noqa: BLE001  # whatever a broken file makes Pillow raise
        return False
    return True


# Records that are there already -------------------------------------------------------------------


class Records(NamedTuple):
    """Records that are said to be in *file*, with where each lies in bytes."""

    file: str
    rows: list[int]
    places: list[int]
    lengths: list[int]
    checksums: list[int]


class Copies(NamedTuple):
    """Records that lie in *giver*, a file, from byte *start* on as they are to lie elsewhere."""

    giver: str
    start: int
    records: Records


def check_records(records: Records) -> tuple[int, list[int]]:
    """Return how many *records* these are, and the rows of those that :func:`_bad_rows` finds."""
    return len(records.rows), _bad_rows(records)


def _bad_rows(records: Records) -> list[int]:
    """Return the rows of *records* whose bytes are not as their checksums say."""
    bad = []
    with opened(records.file, os.O_RDONLY) as descriptor:
        for row, place, length, checksum in zip(
            records.rows, records.places, records.lengths, records.checksums, strict=True
        ):
            if crc32c_of(descriptor, place, place + length) != checksum:
                bad.append(row)
    return bad


def copy_records(copies: Copies) -> tuple[Copies, list[int]]:
    """Copy records, and return them with the rows that are not what their checksums say."""
    records = copies.records
    try:
        with reading(Path(copies.giver)) as here, opened(records.file, os.O_RDWR) as there:
            if not _copied(here, copies.start, there, records.places[0], sum(records.lengths)):
                for place, length in zip(records.places, records.lengths, strict=True):
                    start = copies.start + place - records.places[0]
                    _copied(here, start, there, place, length)
    except OSError as error:
        if error.errno in FULL:
            raise
        return copies, records.rows  # no such file any more
    return copies, _bad_rows(records)


def _copied(here: int, start: int, there: int, place: int, length: int) -> bool:
    """Copy a stretch and tell whether all of it could be read."""
    try:
        copied(here, start, there, place, length)
    except OSError as error:
        if error.errno in FULL:
            raise
        return False
    return True
