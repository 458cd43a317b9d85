"""From a cache to another format, or out of the cache: nothing is decoded."""

from __future__ import annotations

import os
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from itertools import accumulate
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO, Literal

import numpy as np

from mmcache.cache import Cache, cache_at, open_cache
from mmcache.errors import (
    DamagedCacheError,
    DestinationError,
    SelectionError,
    SettingError,
    SourceError,
)
from mmcache.framing import Payload, index_arrays, write_index
from mmcache.layout import CHUNK, laid_out, lengths_within, lie_apart
from mmcache.progress import Progress, progress_of
from mmcache.records import OFFSET, Failures, key_order, printable
from mmcache.room import check_room, room_for
from mmcache.stores import ENDINGS, store_for
from mmcache.stores.frame import Segment, file_of
from mmcache.stores.payload import copied, opened, write_at
from mmcache.stores.publishing import Work, destination_of, refuse_foreign
from mmcache.thumbnails import as_image
from mmcache.workers import results, worker_count

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from numpy.typing import NDArray

    from mmcache.progress import Shown
    from mmcache.stores.contract import Store

__all__ = ["COMPRESSIONS", "convert", "export"]

COMPRESSIONS = ("zstd", "gzip", "blosc")
_KINDS = {"png": ".png", "jpeg": ".jpg", "zarr": ".zarr"}
_PIECE = 32 << 20  # bytes copied at a time
_SHARD = 64  # chunks that an exported array keeps in one file
_BEST = 100  # of JPEG's quality


def convert(
    cache: Cache | str | os.PathLike[str],
    path: str | os.PathLike[str],
    *,
    store: str | None = None,
    exist: Literal["error", "overwrite"] = "error",
    progress: bool | Progress = True,
) -> Cache:
    """Write *cache* to *path* in another format, or a selection of it in any; nothing is decoded.

    The result is what building it directly would have given, byte for byte. Where the file system
    can, it shares the blocks of the payload with the original.

    Parameters
    ----------
    cache : Cache or path
        A narrower cache is written as the selection that it is, in its order, without failures.
    path : path
        Its ending chooses the format: ``.mmc``, ``.h5`` or ``.hdf5``, ``.zarr``.
    store : {"npy", "hdf5", "zarr"}, optional
        The format, whatever the ending of *path*.
    exist : {"error", "overwrite"}
        What to do where a cache is at *path*.
    progress : bool or callable
        As for :func:`mmcache.build`.

    Returns
    -------
    Cache
        The new one, open.

    Raises
    ------
    SelectionError
        (a ``TypeError``) where a picture is selected twice: keys are unique in a cache.
    SettingError, DestinationError, NoSpaceError, BusyError
        As for :func:`mmcache.build`.
    """
    if exist not in ("error", "overwrite"):
        raise SettingError(f"exist={exist!r} is not one of error, overwrite")
    form = store_for(path, store)
    original = cache_at(cache)
    where = destination_of(path)
    _check_free(where, exist)
    if not len(original):
        raise SelectionError("no picture is selected, and a cache has at least one")
    _check_records(original)
    needed = original.nbytes
    check_room(needed, where)
    with (
        room_for(needed, where),
        Work(where) as work,
        progress_of(progress, "converting") as show,
    ):
        show.to(0, len(original))
        _check_free(where, exist)  # once more: another may have finished before the lock was free
        copy = _copy_whole if original.is_whole else _copy_rows
        copy(original, form, work.content, show)
        work.publish()
    return open_cache(where)


def _check_free(where: Path, exist: str) -> None:
    if not os.path.lexists(where):
        return
    refuse_foreign(where)
    if exist == "error":
        raise DestinationError(
            f'{where} exists: convert to another path, or pass exist="overwrite"'
        )


def _check_records(cache: Cache) -> None:
    """Raise :class:`DamagedCacheError` where records make no sense, before a byte is copied."""
    frame = cache.files.frame
    total = (
        sum(one.length for one in frame.arrays["pixels"].segments) // cache.recipe.dtype.itemsize
    )
    channels = cache.recipe.channels
    if cache.is_whole:
        fine = lie_apart(cache.files.array("records"), total, channels)
    else:  # each row is looked at when it is copied
        fine = bool((lengths_within(cache.shapes, total, channels) > 0).all())
    if not fine:
        raise DamagedCacheError(
            f"the index of {cache.path} is damaged: its records overlap, or lie outside the pixels;"
            " mmcache.verify names them"
        )


def _copy_whole(cache: Cache, form: Store, content: Path, show: Shown) -> None:
    """Copy the payload as one run of bytes, and all arrays as they are."""
    frame = cache.files.frame
    pixels = frame.arrays["pixels"]
    segments = form.allocate(content, np.dtype(pixels.dtype), pixels.shape, frame.slab)
    total = sum(segment.length for segment in segments)
    done = 0
    for here, there, length in _pieces(pixels.segments, segments):
        with (
            cache.files.reopened(here.file) as source,
            opened(file_of(content, there.file), os.O_RDWR) as target,
        ):
            if source is None:
                write_at(target, cache.files.view(here, length), there.offset)
            else:
                copied(source, here.offset, target, there.offset, length)
        done += length
        show.to(len(cache) * done // total, len(cache), done)
    arrays = {name: cache.files.array(name) for name in frame.arrays if name != "pixels"}
    write_index(
        form,
        content,
        Payload(cache.recipe, pixels.shape, frame.slab, segments),
        arrays,
        classes=frame.classes,
        libraries=frame.libraries,
    )


def _pieces(
    source: Iterable[Segment], target: Iterable[Segment]
) -> Iterator[tuple[Segment, Segment, int]]:
    """Pair stretches of two cuts of the same array, none longer than a piece."""
    ahead = [list(reversed(list(source))), list(reversed(list(target)))]
    while all(ahead):
        here, there = (segments.pop() for segments in ahead)
        length = min(here.length, there.length, _PIECE)
        yield here, there, length
        for segments, one in zip(ahead, (here, there), strict=True):
            if one.length > length:
                rest = Segment(one.file, one.offset + length, one.length - length)
                segments.append(rest)


def _copy_rows(cache: Cache, form: Store, content: Path, show: Shown) -> None:
    """Write a selection: its own layout, each record from its view."""
    try:
        order = key_order(cache.keys)
    except SourceError as error:
        raise SelectionError(
            f"{error}; a picture was selected twice, and a cache has each once"
        ) from error
    recipe = cache.recipe
    layout = laid_out(cache.shapes, recipe)
    segments = form.allocate(content, recipe.dtype, layout.shape, layout.slab)
    offsets = layout.records[:, OFFSET] * recipe.dtype.itemsize
    done = 0
    for segment, rows in _rows_by_segment(segments, offsets):
        with opened(file_of(content, segment.file), os.O_RDWR) as descriptor:
            for row in rows:
                picture = cache[row]
                write_at(descriptor, picture, segment.offset + int(offsets[row]) - done)
                if not row % 256:
                    show.to(row, len(cache), int(offsets[row]))
        done += segment.length
    show.to(len(cache), len(cache), done)
    arrays = index_arrays(
        records=layout.records,
        checksums=cache.checksums,
        keys=cache.keys,
        key_order=order,
        labels=cache.labels,
        columns=cache.columns,
        failures=Failures.of([]),
    )
    write_index(
        form,
        content,
        Payload(recipe, layout.shape, layout.slab, segments),
        arrays,
        classes=cache.classes,
        libraries=cache.files.frame.libraries,
    )


def _rows_by_segment(
    segments: list[Segment], offsets: NDArray[np.int64]
) -> Iterator[tuple[Segment, range]]:
    """Yield each segment with the rows whose records lie in it; no record lies in two."""
    ends = list(accumulate(segment.length for segment in segments))
    rows = [0, *np.searchsorted(offsets, ends).tolist()]
    for segment, first, last in zip(segments, rows, rows[1:], strict=False):
        yield segment, range(first, last)


# Out of the cache --------------------------------------------------------------------------------


def export(
    cache: Cache | str | os.PathLike[str],
    path: str | os.PathLike[str],
    *,
    format: Literal["png", "jpeg", "zarr"] | None = None,  # noqa: A002  # the field's word for it
    quality: int = 95,
    compression: Literal["zstd", "gzip", "blosc"] = "zstd",
    workers: int | None = None,
    progress: bool | Progress = True,
) -> Path:
    """Write the pictures of *cache* to a folder of image files, or to a compressed Zarr group.

    An export is not a cache: it is smaller, for sharing or looking at, and is not mapped.

    Parameters
    ----------
    cache : Cache or path
        A narrower cache exports its pictures alone.
    path : path
        Must not exist; for ``"zarr"`` it ends in ``.zarr``.
    format : {"png", "jpeg", "zarr"}, optional
        ``png`` (the default) keeps every pixel, ``jpeg`` does not. Names and class folders are
        restored, with the ending of the format. ``zarr`` is what a path ending in ``.zarr`` means.
    quality : int
        Of JPEG, 1 to 100.
    compression : {"zstd", "gzip", "blosc"}
        Of Zarr: ``pixels`` (``(N, H, W, C)`` where shapes agree, else flat), beside ``records``
        (offset in ``pixels``, height, width, channels), ``keys``, ``key_offsets`` and ``labels``.
    workers : int, optional
        Threads that encode; by default one a core.
    progress : bool or callable
        As for :func:`mmcache.build`.

    Returns
    -------
    pathlib.Path
        Where the export is.

    Raises
    ------
    SettingError
        (a ``ValueError``) where a setting makes no sense.
    DestinationError
        (a ``FileExistsError``) where something stands at *path*.
    """
    kind = format or ("zarr" if Path(path).suffix.lower() == ".zarr" else "png")
    pictures = cache_at(cache)
    _check_export(kind, Path(path), quality, compression, pictures)
    where = destination_of(path)
    if os.path.lexists(where):
        raise DestinationError(f"{where} exists, and an export overwrites nothing: say a new path")
    with Work(where) as work, progress_of(progress, "exporting") as show:
        show.to(0, len(pictures))
        work.content.mkdir()
        if kind == "zarr":
            _export_zarr(pictures, work.content, compression, show)
        else:
            _export_images(
                pictures,
                work.content,
                _KINDS[kind],
                {"quality": quality} if kind == "jpeg" else {},
                workers=worker_count(workers),
                show=show,
            )
        work.publish()
    return where


def _check_export(kind: str, path: Path, quality: int, compression: str, cache: Cache) -> None:
    if kind not in _KINDS:
        raise SettingError(f"format={kind!r} is not one of {', '.join(_KINDS)}")
    ending = path.suffix.lower()
    if kind == "zarr" and ending != ".zarr":
        raise SettingError(f"{path} does not end in .zarr, as an export of format zarr does")
    if kind != "zarr" and ending in ENDINGS:
        raise SettingError(
            f"{path} ends as a cache does, and would be a folder of {kind} files: say another"
            " name, or mmcache.convert for a cache"
        )
    if compression not in COMPRESSIONS:
        raise SettingError(f"compression={compression!r} is not one of {', '.join(COMPRESSIONS)}")
    if type(quality) is not int or not 1 <= quality <= _BEST:
        raise SettingError(f"quality={quality!r} is not a whole number from 1 to {_BEST}")
    if kind == "jpeg" and cache.recipe.mode == "RGBA":
        raise SettingError('JPEG holds no transparency, and these pictures do: say format="png"')
    if kind == "jpeg" and cache.recipe.mode in ("I;16", "P"):
        raise SettingError(
            f"JPEG would change the numbers of pictures of mode {cache.recipe.mode}: say"
            ' format="png"'
        )
    if not len(cache):
        raise SettingError("no picture is selected, so that there is nothing to export")


def _export_images(
    cache: Cache, folder: Path, ending: str, options: dict[str, int], *, workers: int, show: Shown
) -> None:
    keys = cache.keys

    def encode(row: int) -> None:
        with _new_file(folder, keys.raw(row), ending) as file:
            as_image(cache[row]).save(file, "JPEG" if options else "PNG", **options)

    with (
        ThreadPoolExecutor(workers, thread_name_prefix="mmcache") as pool,
        closing(results(pool, encode, range(len(cache)), workers)) as encoded,
    ):
        for done, _ in enumerate(encoded, 1):
            show.to(done, len(cache))


def _new_file(folder: Path, key: bytes, ending: str) -> BinaryIO:
    """Open a new file for a picture: in its class folder, never outside of *folder*."""
    parts = [part for part in key.split(b"/") if part not in (b"", b".", b"..")]
    name = parts.pop() if parts else b"picture"
    place = os.path.join(os.fsencode(folder), *parts)  # noqa: PTH118  # names are bytes here
    os.makedirs(place, exist_ok=True)  # noqa: PTH103
    stem = os.path.splitext(name)[0]  # noqa: PTH122
    # Two pictures may differ in their endings alone: the second then keeps its own, too.
    for number in range(1 << 20):
        free = (stem, name, name + b"-%d" % number)[min(number, 2)] + os.fsencode(ending)
        try:
            return open(os.path.join(place, free), "xb")  # noqa: PTH118, PTH123
        except FileExistsError:
            continue
    raise DestinationError(f"{printable(key)} has more namesakes than an export can keep")


def _export_zarr(cache: Cache, folder: Path, compression: str, show: Shown) -> None:
    import zarr  # noqa: PLC0415  # slow to import, and needed here alone
    from zarr.codecs import BloscCodec, GzipCodec, ZstdCodec  # noqa: PLC0415

    codec = {"zstd": ZstdCodec, "gzip": GzipCodec, "blosc": BloscCodec}[compression]()
    shapes = cache.shapes
    lengths = np.prod(shapes, axis=1)
    alike = bool((shapes == shapes[0]).all())
    group = zarr.create_group(folder, zarr_format=3)
    records = np.column_stack([np.cumsum(lengths) - lengths, shapes])
    keys = cache.keys.packed()
    small = {"records": records, "keys": keys.blob, "key_offsets": keys.offsets}
    if cache.labels is not None:
        small["labels"] = np.asarray(cache.labels)
        group.attrs["classes"] = [printable(name) for name in cache.classes]
    for name, array in small.items():
        group.create_array(name, data=np.ascontiguousarray(array), compressors=codec)
    rest = tuple(shapes[0].tolist()) if alike else ()
    chunk = 1 if alike else CHUNK // cache.recipe.dtype.itemsize
    pixels = group.create_array(
        "pixels",
        shape=(len(cache), *rest) if alike else (int(lengths.sum()),),
        chunks=(chunk, *rest),
        shards=(chunk * _SHARD, *rest),
        dtype=cache.recipe.dtype,
        compressors=codec,
    )
    start = 0
    for row, shard in _shards(cache, chunk * _SHARD, alike=alike):
        pixels[start : start + len(shard)] = shard
        start += len(shard)
        show.to(row, len(cache))


def _shards(cache: Cache, length: int, *, alike: bool) -> Iterator[tuple[int, NDArray[Any]]]:
    """Yield as many pictures, or elements of them, as one shard takes, with the rows so far."""
    if alike:
        for start in range(0, len(cache), length):
            part = cache[start : start + length]
            yield start + len(part), np.stack(list(part))
        return
    waiting: list[NDArray[Any]] = []
    room = length
    for row, picture in enumerate(cache, 1):
        rest = picture.reshape(-1)
        while len(rest) >= room:
            yield row, np.concatenate([*waiting, rest[:room]])
            rest, waiting, room = rest[room:], [], length
        waiting.append(rest)
        room -= len(rest)
    if room < length:
        yield len(cache), np.concatenate(waiting)
