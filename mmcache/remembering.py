"""Headers that were read before, remembered in the system's temporary folder from plan to plan.

A convenience that can be deleted at any time: whatever is wrong with it, it is as if there were
none. What it says of a picture is believed only while the file is the very same and the checksum
is right, so that it can be missing and never wrong.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import math
import os
import shutil
import stat
import struct
import tempfile
import zlib
from functools import lru_cache
from importlib import metadata
from pathlib import Path
from time import monotonic, time
from typing import TYPE_CHECKING, Any

import PIL

from mmcache.images import Header
from mmcache.records import SOURCE_MODES
from mmcache.signatures import FORMATS

if TYPE_CHECKING:
    import sqlite3
    from collections.abc import Iterable, Iterator

    from mmcache.sources import Mark, Source

__all__ = ["KnownHeaders", "forget_headers", "known_headers", "packed", "unpacked"]

_FEWEST = 256  # pictures: of fewer, the headers are read about as fast as they are looked up
_DAYS = 30  # after which a source that nobody planned is forgotten
_MOST = 2_000_000_000  # bytes of all sources together, at about 100 a picture
_OF_FREE = 4  # one grows by at most a part of so many of the room that is there
_PAGE = 4096  # bytes, SQLite's
_WAIT = 0.2  # seconds for another process that is writing
_ROWS = 4096  # that are held in memory before they are written,
_OFTEN = 1.0  # or seconds

_TABLE = "CREATE TABLE headers (key BLOB PRIMARY KEY, header BLOB NOT NULL) WITHOUT ROWID"
_VERSION = 1  # of the table, and of what a header is
_PLUGINS = ("pillow-heif", "pillow-jxl-plugin")
_USUAL = ("/tmp", "/var/tmp", "/usr/tmp")  # noqa: S108  # where a temporary folder may well be

# A file's mark; height, width, samples a pixel, orientation, format, mode, progressive; a CRC-32.
_PACKED = struct.Struct("<4q2id4B")
_SUM = struct.Struct("<I")
_LENGTH = _PACKED.size + _SUM.size


# One header --------------------------------------------------------------------------------------


def packed(key: bytes, mark: Mark, header: Header) -> bytes:
    """Return a header as it is remembered; empty where there are no numbers for it."""
    try:
        kinds = FORMATS.index(header.format), SOURCE_MODES.index(header.mode)
        data = _PACKED.pack(
            *mark, header.height, header.width, header.samples, header.orientation, *kinds,
            header.progressive,
        )  # fmt: skip
    except (ValueError, struct.error):
        return b""
    return data + _SUM.pack(zlib.crc32(data, zlib.crc32(key)))


def unpacked(key: bytes, data: bytes, mark: Mark) -> Header | None:
    """Return what *data* tells of the picture *key*, if it is whole and the file has that *mark*.

    Numbers that no header has are not believed, whatever their checksum says.
    """
    if len(data) != _LENGTH:
        return None
    *known, height, width, samples, orientation, form, mode, progressive = _PACKED.unpack_from(data)
    checksum = zlib.crc32(data[: _PACKED.size], zlib.crc32(key))
    if tuple(known) != mark or _SUM.unpack_from(data, _PACKED.size) != (checksum,):
        return None
    if not (
        height > 0
        and width > 0
        and 0 <= samples < math.inf
        and 1 <= orientation <= 8  # noqa: PLR2004  # EXIF's
        and form < len(FORMATS)
        and mode < len(SOURCE_MODES)
        and progressive <= 1
    ):
        return None
    return Header(
        FORMATS[form], SOURCE_MODES[mode], height, width, orientation, progressive == 1, samples
    )


# The headers of a source -------------------------------------------------------------------------


@contextlib.contextmanager
def known_headers(source: Source, frame: int, pictures: int) -> Iterator[KnownHeaders]:
    """Give what is remembered of *source*, of which nothing is for few pictures.

    Parameters
    ----------
    source : Source
        One that cannot be described is read by no other plan, and nothing of it is remembered.
    frame : int
        The one of an animation whose header is meant.
    pictures : int
        How many there are.
    """
    known = KnownHeaders(_file_of(source, frame) if pictures >= _FEWEST else None)
    try:
        yield known
    finally:
        known.close()


def forget_headers(source: Source, frame: int, keys: Iterable[bytes]) -> None:
    """Remember nothing of some pictures any more, so that the next plan reads their headers."""
    file = _file_of(source, frame)
    if file is not None and file.exists():
        known = KnownHeaders(file)
        known.forget(keys)
        known.close()


class KnownHeaders:
    """The remembered headers of one source, looked up for a span of keys at a time.

    Where its file fails, nothing is known any more and nothing is noted, and nobody is told.

    Parameters
    ----------
    file : path or None
        An SQLite file, made where there is none.
    """

    def __init__(self, file: Path | None) -> None:
        self._file = file
        self._connection: sqlite3.Connection | None = None
        self._new: dict[bytes, bytes] = {}
        self._written = monotonic()
        # Once more for a file that was bad, and was removed.
        for _ in range(2 if file is not None else 0):
            if self._connection is None:
                with self._forgiving():
                    self._connection = _connected(file)  # type: ignore[arg-type]  # seen above

    def of(self, keys: list[bytes]) -> list[bytes]:
        """Return what is remembered of each key, empty where nothing is; no list without any."""
        found: dict[Any, Any] = {}
        if self._connection is not None:
            asked = f"SELECT key, header FROM headers WHERE key IN ({','.join('?' * len(keys))})"  # noqa: S608  # question marks
            with self._forgiving():
                found = dict(self._connection.execute(asked, keys))
        rows = [found.get(key, b"") for key in keys] if found else []
        return [row if isinstance(row, bytes) else b"" for row in rows]

    def note(self, headers: Iterable[tuple[bytes, bytes]]) -> None:
        """Remember packed headers by their keys; they are written now and then."""
        if self._connection is None:
            return
        self._new.update(headers)
        if len(self._new) >= _ROWS or monotonic() - self._written > _OFTEN:
            self._write()

    def forget(self, keys: Iterable[bytes]) -> None:
        """Remember nothing of some pictures any more."""
        if self._connection is not None:
            with self._forgiving():
                rows = [(key,) for key in keys]
                self._connection.executemany("DELETE FROM headers WHERE key = ?", rows)
                self._connection.commit()

    def close(self) -> None:
        """Write what was noted, and let go of the file."""
        self._write()
        self._let_go()

    def _write(self) -> None:
        if self._connection is not None and self._new:
            with self._forgiving():
                self._connection.executemany(
                    "INSERT OR REPLACE INTO headers VALUES (?, ?)", self._new.items()
                )
                self._connection.commit()
        self._new.clear()
        self._written = monotonic()

    def _let_go(self) -> None:
        if self._connection is not None:
            with contextlib.suppress(Exception):
                self._connection.close()
        self._connection = None

    @contextlib.contextmanager
    def _forgiving(self) -> Iterator[None]:
        """Go without where something fails, and remove the file where it is bad."""
        try:
            yield
        except Exception as error:  # noqa: BLE001  # nobody is to lose a build by a convenience
            self._let_go()
            if _is_bad(error):
                _remove(self._file)  # type: ignore[arg-type]  # without one, nothing is tried


# The file ----------------------------------------------------------------------------------------


class _OtherTableError(Exception):
    """An SQLite file that nobody here has made."""


def _connected(file: Path) -> sqlite3.Connection:
    """Open an SQLite file that has the table of headers, and nothing that could run by itself."""
    import sqlite3  # noqa: PLC0415  # Python may have been built without it

    free = shutil.disk_usage(file.parent).free
    most = min(_MOST - _sweep(file), _bytes_of(file) + free // _OF_FREE)
    connection = sqlite3.connect(file, timeout=_WAIT)
    try:
        connection.execute("PRAGMA trusted_schema = OFF")
        connection.execute("PRAGMA synchronous = OFF")  # after a power cut it may be bad, and goes
        connection.execute(f"PRAGMA max_page_count = {max(most // _PAGE, 1)}")
        if not (there := connection.execute("SELECT sql FROM sqlite_master").fetchall()):
            connection.execute(_TABLE)
            connection.commit()
        elif there != [(_TABLE,)]:
            raise _OtherTableError  # noqa: TRY301  # the connection is closed here for any error
    except BaseException:
        connection.close()
        raise
    with contextlib.suppress(OSError):
        os.utime(file)  # it is in use
    return connection


def _is_bad(error: Exception) -> bool:
    bad = ("SQLITE_CORRUPT", "SQLITE_NOTADB", "SQLITE_FORMAT", "SQLITE_MISMATCH")
    name = str(getattr(error, "sqlite_errorname", ""))
    return isinstance(error, _OtherTableError) or name.startswith(bad)


def _remove(file: Path) -> None:
    for one in (file, file.with_name(file.name + "-journal")):
        with contextlib.suppress(OSError):
            one.unlink()


def _sweep(file: Path) -> int:
    """Remove what was not used for long, and of too much what was not for longest.

    *file* itself goes where it has reached the end: it is full of pictures that are there no more.

    Returns
    -------
    int
        The bytes of the others.
    """
    there = []
    for one in file.parent.glob("*.sqlite3"):
        with contextlib.suppress(OSError):  # another process may have removed it
            there.append((one == file, one.stat().st_mtime, one.stat().st_size, one))
    total = sum(size for _, _, size, _ in there)
    for is_mine, used, size, one in sorted(there):
        most = _MOST - _PAGE if is_mine else _MOST // 2
        if used < time() - _DAYS * 86_400 or total > most:
            _remove(one)
            total -= size
    return total - _bytes_of(file)


def _bytes_of(file: Path) -> int:
    try:
        return file.stat().st_size
    except OSError:
        return 0


def _file_of(source: Source, frame: int) -> Path | None:
    """Return where the headers of a source are remembered; None where they cannot be.

    What reads them is part of the name: another Pillow may see another picture.
    """
    described = source.describe()
    try:
        folder = None if described is None else _folder()
    except OSError:
        return None
    if folder is None:
        return None
    known_as = [_VERSION, described, frame, PIL.__version__, *map(_version, _PLUGINS)]
    digest = hashlib.sha256(json.dumps(known_as, sort_keys=True).encode()).hexdigest()
    return folder / f"{digest[:32]}.sqlite3"


@lru_cache
def _version(plugin: str) -> str | None:
    try:
        return metadata.version(plugin)
    except metadata.PackageNotFoundError:
        return None


def _folder() -> Path | None:
    """Return this user's folder, which nobody else can write to or exchange; None without one.

    Its name begins with a dot: in a source that is the temporary folder itself, it is left out.
    """
    temporary = Path(tempfile.gettempdir())
    usual = {os.environ.get(name) for name in ("TMPDIR", "TEMP", "TMP")} | set(_USUAL)
    if temporary == Path.cwd() and str(temporary) not in usual:
        return None  # Python's last resort, and somebody's folder
    user = os.geteuid() if hasattr(os, "geteuid") else None
    folder = temporary / f".mmcache-headers{'' if user is None else f'-{user}'}"
    with contextlib.suppress(FileExistsError):
        folder.mkdir(mode=0o700)
    status, above = folder.lstat(), temporary.stat()
    if not stat.S_ISDIR(status.st_mode):
        return None
    if user is None:
        return folder
    is_mine = status.st_uid == user and not status.st_mode & 0o077
    is_firm = above.st_uid in (0, user) and (
        not above.st_mode & 0o022 or bool(above.st_mode & stat.S_ISVTX)
    )
    return folder if is_mine and is_firm else None
