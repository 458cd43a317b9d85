"""Whether a cache is whole: every byte is read, and compared with what its frame tells."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from mmcache.cache import Cache, open_cache
from mmcache.errors import (
    CacheNotFoundError,
    DamagedCacheError,
    DifferentCacheError,
    SettingError,
    TooManyFilesError,
)
from mmcache.integrity.files import check_arrays, check_files, check_rests, overlapping
from mmcache.integrity.index import check_index, keys_of
from mmcache.integrity.inspection import Inspection, Means
from mmcache.integrity.pictures import check_pictures
from mmcache.integrity.report import Findings, Report
from mmcache.progress import Progress, progress_of
from mmcache.recipe import Recipe
from mmcache.records import Strings
from mmcache.stores.bare import LIBRARIES
from mmcache.stores.frame import FRAME_FILE, GROUP_FILE, PAGE, read_frame, signpost
from mmcache.stores.payload import opened
from mmcache.stores.stored import Stored
from mmcache.workers import executor_of, worker_count

if TYPE_CHECKING:
    from mmcache.progress import Shown
    from mmcache.stores.frame import Frame

__all__ = ["verified", "verify"]

_LIMIT = 120  # seconds that a library may take to read the arrays

_CHILD = (
    "import json, sys; sys.path[:] = json.load(sys.stdin);"
    " from mmcache.stores.bare import main; main(sys.argv[1])"
)

_HDF5 = b"\x89HDF\r\n\x1a\n"  # what HDF5 data begin with


def verify(
    cache: Cache | str | os.PathLike[str],
    *,
    workers: int | None = None,
    progress: bool | Progress = True,
) -> Report:
    """Read every byte of a cache, and tell what is not as it was written.

    Each file must be there, a plain one of its length with the bytes that were written, and none
    beside them; every record is compared with its checksum, and the index must make sense. Where
    all is so, bare numpy, h5py or zarr must see the same arrays. Nothing is changed, and nothing is
    mapped: a file that is cut meanwhile is a finding. Memory does not grow with the cache.

    Parameters
    ----------
    cache : Cache or path
        What is at a path need not open any more. Of a narrower cache the whole is verified.
    workers : int, optional
        Threads that read; by default one a core.
    progress : bool or callable
        As for :func:`mmcache.build`.

    Returns
    -------
    Report
        ``report.ok`` tells whether the cache is whole, ``report.damaged`` what is wrong with which
        file, ``report.keys`` and ``report.rows`` which records are damaged; :func:`repair` makes
        these anew.

    Raises
    ------
    CacheNotFoundError
        (a ``FileNotFoundError``) where nothing is there.
    DamagedCacheError
        (a ``ValueError``) where what is there does not look as if it ever was a cache.
    DifferentCacheError
        (a ``ValueError``) where by now another cache stands at the path of an open one.
    """
    with progress_of(progress, "verifying") as show:
        return verified(cache, workers, show)


def verified(cache: Cache | str | os.PathLike[str], workers: int | None, show: Shown) -> Report:
    """Verify, as a step of whatever is shown; see :func:`verify`."""
    count = worker_count(workers)
    where = cache.path if isinstance(cache, Cache) else Path(cache).absolute()
    findings = Findings()
    try:
        frame = read_frame(where)
    except CacheNotFoundError:
        raise
    except (DamagedCacheError, OSError) as error:
        file = _former_frame(where)
        if file is None:
            raise
        findings.add(file, str(error))
        return Report(where, 0, 0, 0, tuple(findings.damaged(lambda _: Strings.of([]))))
    if isinstance(cache, Cache) and cache.fingerprint != frame.content:
        raise DifferentCacheError(
            f"{where} was built anew since this cache was opened: open it again, or verify the path"
        )
    stored = Stored(where, frame)
    show.to(0, frame.counts.get("rows", 0))
    with executor_of("threads", count) as executor:
        it = Inspection(stored, _recipe_of(frame), findings, Means(executor, count, show))
        _inspect(it)
    return Report(
        path=where,
        pictures=frame.counts.get("rows", 0),
        files=len(frame.files) + (not frame.trailing),
        nbytes=sum(one.length for one in frame.files.values()) + stored.frame_bytes,
        damaged=tuple(findings.damaged(lambda rows: keys_of(stored, rows))),
        fingerprint=frame.content,
        whole=frozenset(it.whole),
    )


def _former_frame(where: Path) -> str | None:
    """Return the file that a cache's frame was in; None where it seems that there never was one.

    A frame may be damaged in any way, and be gone: what stands beside it tells, too.
    """
    if where.is_dir():
        if os.path.lexists(where / FRAME_FILE) or (where / "checksums.npy").exists():
            return FRAME_FILE
        return GROUP_FILE if (where / "checksums").is_dir() else None
    try:
        with opened(where, os.O_RDONLY | getattr(os, "O_NONBLOCK", 0)) as descriptor:
            front = os.read(descriptor, PAGE + len(_HDF5))
    except OSError:
        return None
    # HDF5 data that begin behind a whole page are ours, or hardly anyone else's.
    ours = front.startswith(signpost(0).partition(b"0\n")[0]) or front[PAGE:] == _HDF5
    return where.name if ours else None


def _recipe_of(frame: Frame) -> Recipe | None:
    try:
        return Recipe.from_json(frame.recipe)
    except SettingError:  # which opening tells
        return None


def _inspect(it: Inspection) -> None:
    """Take all steps, of which each trusts what those before have found to be whole."""
    check_files(it)
    if (file := overlapping(it)) is not None:
        what = f"tells that two arrays lie in the same bytes of {it.stored.shown(file)}"
        it.findings.add(it.stored.frame_file, what)
        return
    check_arrays(it)
    spans = check_pictures(it)
    check_rests(it, spans)
    check_index(it)
    # What others make of it is of interest only where all is well.
    for check in (_check_opening, _check_bare):
        if not it.findings:
            check(it)


def _check_opening(it: Inspection) -> None:
    try:
        open_cache(it.stored.path)
    except TooManyFilesError:
        raise
    except (ValueError, OSError) as error:
        it.findings.add(it.stored.frame_file, f"it does not open: {error}")


def _check_bare(it: Inspection) -> None:
    """Ask the format's library, in a process of its own, whether it sees the same arrays."""
    library = LIBRARIES.get(it.frame.store)
    if library is None:
        it.findings.add(it.stored.frame_file, f"tells of a format {it.frame.store}, which none is")
        return
    try:
        ran = subprocess.run(  # noqa: S603  # this very interpreter
            [sys.executable, "-P", "-c", _CHILD, it.stored.path],
            input=json.dumps([os.fspath(one) for one in sys.path]).encode(),
            capture_output=True,
            timeout=_LIMIT,
            check=False,
        )
    except subprocess.TimeoutExpired:
        what = f"{library} did not end reading it within {_LIMIT} seconds"
        it.findings.add(it.stored.frame_file, what)
        return
    try:
        for name, what in json.loads(ran.stdout):
            it.findings.add(it.stored.shown(name), what)
    except ValueError:  # it ended without an answer
        what = f"{library} could not read it: {_end_of(ran)}"
        it.findings.add(it.stored.frame_file, what)


def _end_of(ran: subprocess.CompletedProcess[bytes]) -> str:
    if ran.returncode < 0:
        return signal.strsignal(-ran.returncode) or f"signal {-ran.returncode}"
    said = ran.stderr.decode("utf-8", "backslashreplace").strip().splitlines()
    return said[-1] if said else f"exit status {ran.returncode}"
