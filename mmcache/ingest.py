"""Build: a source in, a published cache out. Every picture is decoded once, beside the destination.

What is here decides whether to build at all; the plan says what, and filling does it.
"""

from __future__ import annotations

import contextlib
import os
import warnings
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, get_args

from mmcache.cache import Cache, open_cache
from mmcache.comparing import differences, recipe_differences
from mmcache.donors import donor_of
from mmcache.errors import (
    BusyError,
    DestinationError,
    DifferentCacheError,
    PictureError,
    PicturesSkippedWarning,
    SettingError,
)
from mmcache.facts import counted
from mmcache.filling import Filling, OnError, nothing_readable
from mmcache.limits import MAX_PIXELS, Limits, limits_of
from mmcache.pairing import going_with
from mmcache.planning import Plan, make_plan
from mmcache.progress import Progress, progress_of
from mmcache.recipe import Icc, Mode, Recipe, Resample, Resampler, Truncated
from mmcache.records import printable
from mmcache.resampling import check_resampler, settled_resampler
from mmcache.room import room_for
from mmcache.sources import Folder, Listing, Partners, Source, source_of
from mmcache.stores import store_for
from mmcache.stores.payload import free_bytes
from mmcache.stores.publishing import Work, destination_of, refuse_foreign, unfinished_at
from mmcache.tasks import Trial, can_be_read
from mmcache.workers import checked_executor, executor_of, results, worker_count

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from concurrent.futures import Executor

    from mmcache.geometry import Resize
    from mmcache.progress import Shown

__all__ = ["Exist", "build", "discard", "plan"]

Exist = Literal["resume", "update", "overwrite", "error"]


def plan(
    source: Any,
    path: str | os.PathLike[str] | None = None,
    *,
    size: int | tuple[int, int] = 256,
    resize: Resize = "contain",
    resample: Resample = "bicubic",
    resampler: Resampler = "auto",
    mode: Mode = "RGB",
    background: tuple[int, ...] | str | int = 0,
    upscale: bool | None = None,
    multiple_of: int = 1,
    icc: Icc = "srgb",
    value_range: tuple[float, float] | None = None,
    frame: int = 0,
    truncated: Truncated = "fail",
    buckets: int | Sequence[tuple[int, int]] | None = None,
    like: Cache | str | os.PathLike[str] | None = None,
    max_pixels: int = MAX_PIXELS,
    max_memory: int | str | None = None,
    max_failures: int | None = None,
    workers: int | None = None,
    executor: str | Executor = "threads",
    progress: bool | Progress = True,
) -> Plan:
    """Tell what :func:`build` would do, reading headers alone: rows, bytes, shapes, what will fail.

    Parameters
    ----------
    source, size, resize, resample, resampler, mode, background, upscale, multiple_of, icc, \
    value_range, frame, truncated, buckets, like, max_pixels, max_memory, max_failures
        As for :func:`build`.
    path : path, optional
        Where the cache would be built: the free space there becomes part of the plan.
    workers, executor, progress
        As for :func:`build`.

    Returns
    -------
    Plan
        Pure data; prints well, in notebooks too.
    """
    recipe = Recipe(
        size=size, resize=resize, resample=resample, resampler=resampler, mode=mode,
        background=background, upscale=upscale, multiple_of=multiple_of, icc=icc,
        value_range=value_range, frame=frame, truncated=truncated, buckets=buckets,
    )  # fmt: skip
    limits = limits_of(max_pixels, max_memory, max_failures)
    checked_executor(executor)
    where = None if path is None else destination_of(path)
    free = None if where is None else free_bytes(where.parent)
    found = source_of(source)
    if like is not None:
        found, recipe = going_with(found, recipe, like)
    if where is not None:
        _check_apart(found, where)
    recipe = settled_resampler(recipe)
    with progress_of(progress, "reading headers") as show:
        return make_plan(
            found, recipe, limits, workers=workers, executor=executor, progress=show.to, free=free
        )


def build(
    source: Any,
    path: str | os.PathLike[str],
    *,
    size: int | tuple[int, int] = 256,
    resize: Resize = "contain",
    resample: Resample = "bicubic",
    resampler: Resampler = "auto",
    mode: Mode = "RGB",
    background: tuple[int, ...] | str | int = 0,
    upscale: bool | None = None,
    multiple_of: int = 1,
    icc: Icc = "srgb",
    value_range: tuple[float, float] | None = None,
    frame: int = 0,
    truncated: Truncated = "fail",
    buckets: int | Sequence[tuple[int, int]] | None = None,
    like: Cache | str | os.PathLike[str] | None = None,
    max_pixels: int = MAX_PIXELS,
    max_memory: int | str | None = None,
    max_failures: int | None = None,
    store: str | None = None,
    workers: int | None = None,
    executor: str | Executor = "threads",
    on_error: OnError = "skip",
    exist: Exist = "resume",
    progress: bool | Progress = True,
) -> Cache:
    """Read every picture of *source* once, bring it to size, and write it into a cache at *path*.

    The exact size is known from the headers and its room is allocated before a picture is decoded;
    the cache appears at *path* when it is complete and on disk, or not at all. A build that was
    interrupted or killed is gone on with by the same call: what it brought to disk is checked and
    not decoded again, and if pictures were added or changed meanwhile, what is still of use is
    copied. :func:`discard` removes it instead.

    Parameters
    ----------
    source : path, list of paths, or Source
        A folder, searched with its subfolders; or pictures by their paths.
    path : path
        Where to build; its ending chooses the format (``.mmc``: a directory of ``.npy`` files).
    size : int or (int, int)
        The box in pixels: one edge, or height and width.
    resize : {"contain", "cover", "crop", "pad", "stretch", "bucket"}
        ``contain`` fits inside the box, ``cover`` fills it and cuts nothing, ``crop`` covers it and
        cuts to exactly the box, ``pad`` contains and fills up to exactly the box, ``stretch`` is
        the only one that distorts. ``bucket`` crops to the closest of a few shapes that have at
        most as many pixels as the box: pictures of one shape make a batch without padding.
    resample : {"bicubic", "lanczos", "bilinear", "hamming", "box", "nearest"}
        The filter, as Pillow has them.
    resampler : {"auto", "pillow", "cykooz"}
        Who resizes. ``cykooz`` is cykooz-resizer, of ``mmcache[fast]``, for bilinear, bicubic and
        lanczos: three times as fast, and within a few of 255 of what Pillow makes. ``auto`` takes
        it for a new cache where it is installed; a cache that is there, or begun, keeps what its
        recipe names.
    mode : {"RGB", "L", "RGBA", "I;16", "P"}
        The channels of every record. ``I;16`` is grey of 16 bits, and records are uint16. ``P``
        keeps the numbers of a mask or a palette as they are, and goes with ``resample="nearest"``.
    background : colour, optional
        Of padding and under transparency: a name, ``#rrggbb``, or a number per channel.
    upscale : bool, optional
        Whether ``contain`` and ``pad`` enlarge what is smaller than the box (default: no).
    multiple_of : int
        Each edge of a record is filled up with background to a multiple of this. The edges of the
        shapes of ``resize="bucket"`` are multiples of it, and nothing is filled up.
    icc : {"srgb", "ignore"}
        Whether the colours of an embedded ICC profile are brought to sRGB.
    value_range : (float, float), optional
        The numbers that become black and white in pixels of 16 bits, 32 bits and floats. By
        default 0 and 65535 for 16 bits; for the others the usual range that holds them all, or
        else, flagged, the smallest and largest of the picture.
    frame : int
        Which frame of an animation, or page, from 0; the last of a picture that has fewer.
    truncated : {"fail", "keep"}
        A picture whose pixels end early is a failure, or is kept and flagged.
    buckets : int or sequence of (int, int), optional
        Of ``resize="bucket"`` alone: how many shapes are chosen from the pictures' aspects, so that
        the least is cut away (default: 8); or the shapes themselves, as height and width. Those
        that were chosen are in ``cache.recipe``; a build that goes on, and one that updates, keeps
        them.
    like : Cache or path, optional
        Pictures that these go with, as masks do: each is brought to size by the placement of the
        picture of the same key, or of the same key but for its ending, and rows and keys are those
        of *like*. ``size``, ``resize``, ``upscale``, ``multiple_of`` and ``buckets`` are then those
        of *like*. A picture with no partner, or whose partner has another size, is named as a
        failure.
    max_pixels : int
        The most pixels that a picture may have; one with more is named as a failure.
    max_memory : int or str, optional
        Bytes, or as ``"1.5 GB"``: the most private memory that the build takes. Large pictures wait
        for each other; one that would not fit alone is named as a failure. By default 4 GB, or half
        of the machine's memory, if less.
    max_failures : int, optional
        End the build when more pictures than this cannot be read; by default none is too many.
    store : {"npy"}, optional
        The format, whatever the ending of *path*.
    workers : int, optional
        By default one a core.
    executor : {"threads", "processes", "serial"} or concurrent.futures.Executor
        Who decodes. The bytes are the same whoever does.
    on_error : {"skip", "raise"}
        A picture that cannot be read is named in ``cache.failures``, or ends the build.
    exist : {"resume", "update", "overwrite", "error"}
        What to do where a cache is at *path*: open it if it is of this recipe and the source is
        unchanged, and otherwise say what differs; build a new generation if pictures were added,
        changed, moved, removed or mended, which copies the records of all others; build it from
        nothing; or refuse. The old cache stays whole until the new one is.
    progress : bool or callable
        A bar on a terminal or in a notebook, and nothing elsewhere; or ``progress(done, total)``,
        called with numbers of pictures by the thread that called this: with 0 while headers are
        read, at most ten times a second while pictures are decoded, and with ``done == total``
        once the cache is there. What it raises ends the build as Ctrl-C does.

    Returns
    -------
    Cache
        Open, to be indexed.

    Raises
    ------
    SettingError
        (a ``ValueError``) where a setting makes no sense.
    SourceNotFoundError, SourceError
        (a ``FileNotFoundError``, a ``ValueError``) where there is nothing to build from.
    DestinationError
        (a ``FileExistsError``) where something else stands at *path*.
    DifferentCacheError
        (a ``ValueError``) where the cache at *path* is of another recipe or another source.
    NoSpaceError
        (an ``OSError``) where there is no room.
    BusyError
        (an ``OSError``) where another process is building at *path*.
    PictureError
        (an ``OSError``) for the first picture that cannot be read, with ``on_error="raise"``.
    TooManyFailuresError
        (an ``OSError``) where more pictures cannot be read than *max_failures*.
    """
    recipe = Recipe(
        size=size, resize=resize, resample=resample, resampler=resampler, mode=mode,
        background=background, upscale=upscale, multiple_of=multiple_of, icc=icc,
        value_range=value_range, frame=frame, truncated=truncated, buckets=buckets,
    )  # fmt: skip
    limits = limits_of(max_pixels, max_memory, max_failures)
    for name, value, known in (("on_error", on_error, OnError), ("exist", exist, Exist)):
        if value not in get_args(known):
            raise SettingError(f"{name}={value!r} is not one of {', '.join(get_args(known))}")
    number = worker_count(workers)
    checked_executor(executor)
    form = store_for(path, store)
    found = source_of(source)
    if found.describe() is None and executor == "processes":
        raise SettingError(
            f"{found!r} cannot be described, so that other processes cannot read it:"
            ' pass executor="threads"'
        )
    if like is not None:
        found, recipe = going_with(found, recipe, like)
    where = destination_of(path)
    _check_apart(found, where)

    with progress_of(progress, "reading headers", prepares=True) as show:

        def mended(cache: Cache, listing: Listing) -> bool:
            with executor_of(executor, number) as pool:
                return _mended(cache, found, listing, limits, pool, show=show)

        if (standing := _standing(where, exist, recipe, found, mended, show=show)) is not None:
            _sweep(where)
            return standing
        with room_for(None, where), Work(where, goes_on=True) as work:
            # Another builder may have finished while this one waited for nothing but the lock.
            standing = _standing(where, exist, recipe, found, lambda *_: True, show=show)
            if standing is not None:
                return standing
            donors = []
            if exist == "update" and where.exists():
                donors = [donor_of(where)]
                recipe = recipe.settled_as(open_cache(where).recipe)
            recipe = settled_resampler(_gone_on_with(work, recipe, exist))
            check_resampler(recipe.resampler)
            pool_of = executor_of(executor, number, inherited=work.lock.descriptor)
            with pool_of as pool:
                show.begins("reading headers", prepares=True)
                planned = make_plan(
                    found, recipe, limits, workers=number, executor=pool, progress=show.to
                )
                _refuse_hopeless(planned, found, on_error)
                filling = Filling(
                    planned, found, form, work, on_error=on_error, limits=limits, donors=donors
                )
                filling.prepare()
                with room_for(filling.needed, where):
                    filling.fill(pool, number, show, "building")
            with room_for(filling.needed, where):
                filling.finish()
            work.publish()
    cache = open_cache(where)
    if failed := len(cache.failures):
        warnings.warn(
            f"{counted(failed, 'picture')} of {len(cache) + failed:,} could not be read:"
            " cache.failures names them",
            PicturesSkippedWarning,
            stacklevel=2,
        )
    return cache


def discard(path: str | os.PathLike[str]) -> bool:
    """Remove what an unfinished build of the cache at *path* has left beside it.

    A cache that stands at *path* is left as it is.

    Returns
    -------
    bool
        Whether there was anything to remove.

    Raises
    ------
    BusyError
        (an ``OSError``) where a process is building there now.
    """
    where = destination_of(path)
    if not unfinished_at(where):
        return False
    with Work(where, goes_on=True) as work:
        return work.has_unfinished


# Before a byte is written ------------------------------------------------------------------------


def _gone_on_with(work: Work, recipe: Recipe, exist: Exist) -> Recipe:
    """Return *recipe* as what was begun with it has settled it.

    Refused is to go on with, or to throw away, what was begun with another recipe.
    """
    for left in (work.begun, work.earlier):
        if not left.is_of_use:
            continue
        facts = left.journal.facts.get("recipe") or {}
        settled = recipe.settled_as(Recipe.from_json(facts))
        same = settled.to_json() == facts
        # From nothing: what has records of an older generation is no beginning either.
        if exist == "overwrite" and (not same or any(step.get("older") for step in left.journal)):
            left.clear()
            continue
        if not same:
            raise _begun_otherwise(work.destination, Recipe.from_json(facts), recipe)
        recipe = settled
    return recipe


def _begun_otherwise(where: Path, begun: Recipe, recipe: Recipe) -> DifferentCacheError:
    differ = recipe_differences(begun, recipe)
    return DifferentCacheError(
        f"an unfinished build of {where} has {_named(differ, 0)}, and you asked for"
        f" {_named(differ, 1)}.\n"
        "    Finish it with its own settings, or remove it with"
        f' mmcache.discard("{where}"), or pass exist="overwrite".'
    )


def _check_apart(source: Source, where: Path) -> None:
    """Refuse a cache inside its own source, which the next build would find there."""
    if isinstance(source, Partners):
        source = source.source
    if not isinstance(source, Folder):
        return
    folder = Path(os.fsdecode(os.path.realpath(source.root)))
    if where == folder or folder in where.parents:
        raise DestinationError(
            f"{where} is inside the folder of pictures {folder}: build the cache beside it"
        )
    if where in folder.parents:
        raise DestinationError(
            f"{where} contains the folder of pictures {folder}: build the cache beside it"
        )


def _standing(
    where: Path,
    exist: Exist,
    recipe: Recipe,
    source: Source,
    mended: Callable[[Cache, Listing], bool],
    *,
    show: Shown,
) -> Cache | None:
    """Return the cache at the destination where it is what was asked for.

    With ``exist="update"``, *mended* is asked whether a picture that failed can be read now.
    """
    if not os.path.lexists(where):
        return None
    refuse_foreign(where)
    if exist == "error":
        raise DestinationError(f'{where} exists, and exist="error" was asked for')
    if exist == "overwrite":
        return None
    cache = open_cache(where)
    _check_same_recipe(cache, recipe)
    show.begins("comparing", prepares=True)
    listing = source.listing()
    difference = differences(cache, source, listing, progress=show.to).summary()
    if exist == "update":
        return None if difference or mended(cache, listing) else cache
    if not difference:
        return cache
    raise DifferentCacheError(
        f"{where} was built from other pictures than are in {source} now: {difference}.\n"
        f'    Open it as it is with mmcache.open("{where}"), or pass exist="update".'
    )


def _sweep(where: Path) -> None:
    """Remove what a builder left that was killed when its cache was in place already."""
    if unfinished_at(where):
        with contextlib.suppress(BusyError, DestinationError), Work(where):
            pass


def _check_same_recipe(cache: Cache, recipe: Recipe) -> None:
    if differ := recipe_differences(cache.recipe, recipe):
        raise DifferentCacheError(
            f"{cache.path} was built with {_named(differ, 0)}, and you asked for"
            f" {_named(differ, 1)}.\n"
            f'    Open it as it is with mmcache.open("{cache.path}"), or build to another'
            ' path, or pass exist="overwrite".'
        )


def _named(differ: dict[str, tuple[Any, Any]], which: int) -> str:
    return ", ".join(f"{name}={_shown(values[which])}" for name, values in differ.items())


def _shown(value: Any) -> str:
    if isinstance(value, tuple):
        return repr(tuple(tuple(one) if isinstance(one, tuple) else one for one in value))
    return repr(value)


def _mended(
    cache: Cache, source: Source, listing: Listing, limits: Limits, pool: Executor, *, show: Shown
) -> bool:
    """Tell whether a picture that failed can be read now, within *limits*."""
    failed = {key for key, *_ in cache.failures.raw()}
    keys, names = listing.keys, listing.called
    trials = (
        Trial(
            start=place,
            keys=[names.raw(place)],
            source=source.describe() or source,
            recipe=cache.recipe,
            limits=limits,
        )
        for place in range(len(keys) if failed else 0)
        if keys.raw(place) in failed
    )
    # One after another: what each needs is not known.
    with closing(results(pool, can_be_read, trials, 1, weigh=lambda _: 1)) as tried:
        show.begins("trying again", prepares=True)
        for done, is_fine in enumerate(tried, 1):
            show.to(done, len(failed))
            if is_fine:
                return True
    return False


def _refuse_hopeless(planned: Plan, source: Source, on_error: OnError) -> None:
    failures = planned.failures
    if failures and on_error == "raise":
        first = failures[0]
        raise PictureError(printable(first.key), first.stage, first.reason)
    if not len(planned):
        raise nothing_readable(source, failures)
