"""Regular files, opened so that nothing can block: what folders and lists of paths share."""

from __future__ import annotations

import errno
import os
import stat

from mmcache.signatures import EVIDENT, PREFIX, format_of
from mmcache.sources.contract import Encoded, Mark

__all__ = [
    "EXTENSIONS",
    "RAW_EXTENSIONS",
    "is_a_picture",
    "looks_like_a_picture",
    "mark_of",
    "open_regular",
    "stat_regular",
]

EXTENSIONS = frozenset(
    b".jpg .jpeg .jpe .jfif .png .apng .webp .gif .bmp .dib .tif .tiff .ppm .pgm .pbm .pnm"
    b" .pfm .jp2 .j2k .j2c .jpc .jpf .jpx .avif .avifs .heic .heif .hif .jxl .ico .qoi .mpo .psd"
    b" .tga .pcx .sgi .bw .rgb .rgba".split()
)
"""Endings of files that are meant as pictures, in any case."""

RAW_EXTENSIONS = frozenset(
    b".3fr .arw .cr2 .dcr .dng .erf .fff .iiq .k25 .kdc .mef .mos .mrw .nef .nrw .orf .pef .raw"
    b" .rw2 .rwl .sr2 .srf .srw .x3f".split()
)
"""Endings of cameras' raw files: many are TIFF, whose picture is a thumbnail."""

_BUFFER = 8192  # bytes; where it is not said, Python asks the system what kind of file it is
_FLAGS = (
    os.O_RDONLY
    | getattr(os, "O_BINARY", 0)
    | getattr(os, "O_CLOEXEC", 0)
    | getattr(os, "O_NOCTTY", 0)
    | getattr(os, "O_NONBLOCK", 0)  # opening a FIFO would wait for its writer
)


def looks_like_a_picture(name: bytes) -> bool:
    """Tell whether a file's ending is one of :data:`EXTENSIONS`."""
    return os.path.splitext(name)[1].lower() in EXTENSIONS


def is_a_picture(path: bytes) -> bool:
    """Tell whether a regular file is meant as a picture, or is one whatever it is called."""
    ending = os.path.splitext(path)[1].lower()
    if ending in EXTENSIONS or ending in RAW_EXTENSIONS:
        return ending in EXTENSIONS
    try:
        descriptor = os.open(path, _FLAGS)
    except OSError:
        return False
    try:
        return format_of(os.read(descriptor, PREFIX)) in EVIDENT
    except OSError:
        return False
    finally:
        os.close(descriptor)


def stat_regular(path: bytes) -> os.stat_result:
    """Return a regular file's status; :class:`OSError` for anything else."""
    try:
        status = os.stat(path)
    except ValueError as error:  # there is a NUL in it
        raise OSError(errno.EINVAL, "no file can have this name") from error
    return _regular(status)


def mark_of(status: os.stat_result) -> Mark:
    """Return a file's mark: whoever changes the file, or what one may do with it, changes that."""
    number = status.st_ino & 0x7FFF_FFFF_FFFF_FFFF  # Windows has longer ones
    return status.st_size, status.st_mtime_ns, status.st_ctime_ns, number


def open_regular(path: bytes) -> Encoded:
    """Open a regular file; anything else is an :class:`OSError`, before it is opened."""
    stat_regular(path)
    # The object has the descriptor from the first: an interruption finds nothing to close twice.
    file = open(path, "rb", _BUFFER, opener=lambda *_: os.open(path, _FLAGS))  # noqa: SIM115  # handed on
    try:
        status = _regular(os.fstat(file.fileno()))
    except BaseException:
        file.close()
        raise
    return Encoded(file, status.st_size, status.st_mtime_ns, mark_of(status))


def _regular(status: os.stat_result) -> os.stat_result:
    if not stat.S_ISREG(status.st_mode):
        raise OSError(errno.EINVAL, "not a regular file")
    return status
