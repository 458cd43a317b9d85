"""Headers in, a plan out: which rows, which shapes, which offsets, how many bytes.

The plan decides everything that filling needs; it is pure data and never touches a pixel.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
from dataclasses import dataclass
from operator import itemgetter
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple
from zipfile import BadZipFile

import numpy as np

from mmcache.aspects import chosen_shapes
from mmcache.errors import SettingError, SourceError
from mmcache.facts import MOST_LINES, Facts, counted, human_bytes
from mmcache.geometry import Size, snug_shapes
from mmcache.layout import elements, laid_out
from mmcache.recipe import Recipe
from mmcache.records import (
    COLUMNS,
    HEIGHT,
    OFFSET,
    WIDTH,
    Failures,
    Strings,
    key_order,
    printable,
)
from mmcache.survey import SURVEYED, check_failures, count_memory, survey
from mmcache.workers import worker_count

if TYPE_CHECKING:
    import os
    from collections.abc import Callable, Iterator
    from concurrent.futures import Executor

    from numpy.typing import NDArray

    from mmcache.limits import Limits
    from mmcache.sources import Source

__all__ = ["Plan", "Slab", "make_plan"]


class Slab(NamedTuple):
    """A stretch of the payload: its number, and the rows that lie in it."""

    number: int
    rows: range


@dataclass(frozen=True, eq=False)
class Plan:
    """What a build will do: pure data, printable, comparable, and the same after a round trip.

    Attributes
    ----------
    recipe : Recipe
    source : dict or None
        The source as JSON; None where it cannot be described.
    keys : Strings
        Of the pictures whose headers could be read, in the order of the rows.
    key_order : int64 (N,) or None
        Rows in the byte order of their keys; None where they are in that order already.
    labels : int64 (N,) or None
    classes : tuple of str
    columns : dict of (N,) arrays
        Upright ``height`` and ``width`` in pixels, ``orientation``, ``file_size`` in bytes,
        ``mtime_ns``, and ``decode_bytes``, the memory that decoding will need.
    records : int64 (N, 4)
        Offset in elements, height, width and channels of each record.
    slab : int
        A slab's length in elements.
    pixels : tuple of int
        The shape of ``pixels``.
    failures : Failures
        What cannot be read, and why.
    left_out : int
        Files in the source that are not meant as pictures.
    free : int or None
        Bytes that were free where the cache is to be built; None where no path was given.
    names : Strings or None
        What the source calls the pictures, where that is not their keys.
    """

    recipe: Recipe
    source: dict[str, Any] | None
    keys: Strings
    key_order: NDArray[np.int64] | None
    labels: NDArray[np.int64] | None
    classes: tuple[str, ...]
    columns: dict[str, NDArray[Any]]
    records: NDArray[np.int64]
    slab: int
    pixels: tuple[int, ...]
    failures: Failures
    left_out: int
    free: int | None = None
    names: Strings | None = None

    def __len__(self) -> int:
        return len(self.records)

    @property
    def called(self) -> Strings:
        """What the source calls the pictures: ``names``, or their keys."""
        return self.keys if self.names is None else self.names

    @property
    def shapes(self) -> NDArray[np.int64]:
        """Height, width and channels of each record: int64 ``(N, 3)``."""
        return self.records[:, HEIGHT:]

    @property
    def array_bytes(self) -> dict[str, int]:
        """The exact bytes of each array of the cache, if no picture fails after planning."""
        rows, keys = len(self), len(self.keys.packed().blob)
        failed = len(self.failures)
        sizes = {
            "pixels": elements(self.pixels) * self.recipe.dtype.itemsize,
            "records": 32 * rows,
            "checksums": 4 * rows,
            "keys": keys,
            "key_offsets": 8 * (rows + 1),
            **{name: dtype.itemsize * rows for name, dtype in COLUMNS.items()},
            "failure_keys": len(self.failures.keys.blob),
            "failure_key_offsets": 8 * (failed + 1),
            "failure_stages": failed,
            "failure_reasons": len(self.failures.reasons.blob),
            "failure_reason_offsets": 8 * (failed + 1),
            "failure_sizes": 8 * failed,
        }
        if self.key_order is not None:
            sizes["key_order"] = 8 * rows
        if self.labels is not None:
            sizes["labels"] = 8 * rows
        return sizes

    @property
    def nbytes(self) -> int:
        """The bytes of all arrays together; files add a page each."""
        return sum(self.array_bytes.values())

    @property
    def largest_decode(self) -> int:
        """The most memory in bytes that decoding one picture will need, about."""
        return int(self.columns["decode_bytes"].max(initial=0))

    @property
    def digest(self) -> str:
        """SHA-256, hexadecimal: equal where each record is made of the same file, and lies there.

        Failures are not in it: what could not be read may be readable now.
        """
        keys = self.keys.packed()
        digest = hashlib.sha256(self.recipe.fingerprint.encode())
        digest.update(f"{self.slab} {self.pixels}".encode())
        for array in (
            keys.blob, keys.offsets, self.records,
            *(self.columns[name] for name in ("orientation", "file_size", "mtime_ns")),
        ):  # fmt: skip
            digest.update(np.ascontiguousarray(array).data)
        return digest.hexdigest()

    @property
    def slabs(self) -> Iterator[Slab]:
        """The slabs, in order."""
        numbers = self.records[:, OFFSET] // self.slab
        starts = np.flatnonzero(np.diff(numbers, prepend=-1))
        for start, end in zip(starts, [*starts[1:], len(numbers)], strict=True):
            yield Slab(int(numbers[start]), range(int(start), int(end)))

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write the plan to one file, which :meth:`load` reads: a ``.npz`` without pickles."""
        facts = {
            "mmcache_plan": 1,
            "recipe": self.recipe.to_json(),
            "source": self.source,
            "classes": list(self.classes),
            "slab": self.slab,
            "pixels": list(self.pixels),
            "left_out": self.left_out,
            "free": self.free,
        }
        keys = self.keys.packed()
        failures = self.failures
        arrays = {f"column_{name}": column for name, column in self.columns.items()} | {
            "facts": np.frombuffer(json.dumps(facts).encode(), np.uint8),
            "keys": keys.blob,
            "key_offsets": keys.offsets,
            "records": self.records,
            "failure_keys": failures.keys.blob,
            "failure_key_offsets": failures.keys.offsets,
            "failure_stages": failures.stages,
            "failure_reasons": failures.reasons.blob,
            "failure_reason_offsets": failures.reasons.offsets,
            "failure_sizes": failures.sizes,
        }
        if self.names is not None:
            names = self.names.packed()
            arrays |= {"names": names.blob, "name_offsets": names.offsets}
        optional = {"labels": self.labels, "key_order": self.key_order}
        arrays |= {name: array for name, array in optional.items() if array is not None}
        with Path(path).open("wb") as file:  # np.savez would add an ending to a bare path
            np.savez(file, allow_pickle=False, **arrays)

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> Plan:
        """Read a plan that :meth:`save` wrote; :class:`SettingError` for any other file."""
        try:
            with Path(path).open("rb") as file, np.load(file, allow_pickle=False) as stored:
                arrays = dict(stored)
            facts = json.loads(arrays["facts"].tobytes())
            return cls(
                recipe=Recipe.from_json(facts["recipe"]),
                source=facts["source"],
                keys=Strings(arrays["keys"], arrays["key_offsets"]),
                key_order=arrays.get("key_order"),
                labels=arrays.get("labels"),
                classes=tuple(facts["classes"]),
                columns={name: arrays[f"column_{name}"] for name in SURVEYED},
                records=arrays["records"],
                slab=facts["slab"],
                pixels=tuple(facts["pixels"]),
                failures=Failures(
                    Strings(arrays["failure_keys"], arrays["failure_key_offsets"]),
                    arrays["failure_stages"],
                    Strings(arrays["failure_reasons"], arrays["failure_reason_offsets"]),
                    arrays["failure_sizes"],
                ),
                left_out=facts["left_out"],
                free=facts["free"],
                names=(
                    Strings(arrays["names"], arrays["name_offsets"]) if "names" in arrays else None
                ),
            )
        except (ValueError, KeyError, TypeError, EOFError, BadZipFile) as error:
            raise SettingError(f"{path} is no plan that mmcache saved") from error

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Plan):
            return NotImplemented
        return (
            (self.recipe, self.source, self.classes, self.slab, self.pixels, self.left_out)
            == (other.recipe, other.source, other.classes, other.slab, other.pixels, other.left_out)
            and self.keys == other.keys
            and self.names == other.names
            and self.failures == other.failures
            and np.array_equal(self.records, other.records)
            and _same(self.labels, other.labels)
            and _same(self.key_order, other.key_order)
            and all(np.array_equal(self.columns[name], other.columns[name]) for name in SURVEYED)
        )

    __hash__ = None  # type: ignore[assignment]  # arrays have none

    def to_json(self) -> dict[str, Any]:
        """Return the plan's figures as JSON: counts, bytes, histograms, failures."""
        return {
            "pictures": len(self),
            "failures": self.failures.to_json(),
            "left_out": self.left_out,
            "classes": [printable(name) for name in self.classes],
            "recipe": self.recipe.to_json(),
            "bytes": self.nbytes,
            "free": self.free,
            "array_bytes": self.array_bytes,
            "pixels": list(self.pixels),
            "largest_decode": self.largest_decode,
            "shapes": [
                {"height": height, "width": width, "count": count}
                for height, width, count in self.common_shapes(None)
            ],
            "aspects": [
                {"aspect": label, "count": count} for label, count in self.aspects().items()
            ],
            "buckets": [
                {"height": height, "width": width, "count": count, "cut": cut}
                for height, width, count, cut in self.buckets()
            ],
        }

    def common_shapes(self, most: int | None = 8) -> list[tuple[int, int, int]]:
        """Return ``(height, width, count)`` of the records' shapes, the most frequent first."""
        shapes, counts = np.unique(self._record_sizes(), return_counts=True)
        order = np.argsort(-counts, kind="stable")[:most]
        return [
            (size >> 32, size & 0xFFFF_FFFF, count)
            for size, count in zip(shapes[order].tolist(), counts[order].tolist(), strict=True)
        ]

    def _record_sizes(self) -> NDArray[np.int64]:
        """Return height and width of each record in one number, by which they sort fast."""
        sizes: NDArray[np.int64] = (self.records[:, HEIGHT] << 32) | self.records[:, WIDTH]
        return sizes

    def aspects(self) -> dict[str, int]:
        """Count the sources by width over height."""
        ratio = self.columns["width"] / np.maximum(self.columns["height"], 1)
        counts, _ = np.histogram(ratio, [0, *_ASPECT_EDGES, np.inf])
        return dict(zip(_ASPECT_LABELS, counts.tolist(), strict=True))

    def buckets(self) -> list[tuple[int, int, int, float]]:
        """Return ``(height, width, count, cut)`` for each shape of ``resize="bucket"``.

        *cut* is which part of its pictures is cut away, from 0 to 1, as a mean; 0 where there are
        none. A plan of another recipe has no such shapes.
        """
        if not self.recipe.shapes:
            return []
        sizes, cut, told = self._record_sizes(), self._cut(), []
        for shape in self.recipe.shapes:
            there = sizes == (shape.height << 32 | shape.width)
            count = int(np.count_nonzero(there))
            told.append((*shape, count, float(cut[there].sum()) / max(count, 1)))
        return told

    def _cut(self) -> NDArray[np.float64]:
        """Return which part of each picture is cut to its shape, as :mod:`mmcache.geometry` does.

        A million sizes at once: one after the other they take seconds.
        """
        height, width = (self.columns[name].astype(np.int64) for name in ("height", "width"))
        to_height, to_width = self.records[:, HEIGHT], self.records[:, WIDTH]
        wide = height * to_width <= width * to_height  # the height meets the shape last
        # What the other edge becomes, rounded half up.
        scaled = np.where(
            wide,
            (2 * width * to_height + height) // (2 * height),
            (2 * height * to_width + width) // (2 * width),
        )
        kept: NDArray[np.float64] = np.where(wide, to_width, to_height) / scaled
        return 1 - kept

    def __repr__(self) -> str:
        return self._shown().to_text()

    def _repr_html_(self) -> str:
        return self._shown().to_html()

    def _shown(self) -> Facts:
        title = counted(len(self), "picture")
        if self.classes:
            title += f" in {counted(len(self.classes), 'class', 'classes')}"
        rows = [
            ("bytes", human_bytes(self.nbytes)),
            ("of which pixels", human_bytes(self.array_bytes["pixels"])),
            ("recipe", str(self.recipe)),
            ("largest decode", f"{human_bytes(self.largest_decode)} of memory a worker"),
        ]
        if self.free is not None:
            rows.insert(2, ("free there", human_bytes(self.free)))
        if self.left_out:
            rows.append(("left out", counted(self.left_out, "file") + " of other kinds"))
        if self.failures:
            rows.append(("unreadable", f"{len(self.failures):,}"))
        if self.recipe.shapes:
            rows += _cut_away(self.buckets())
        shapes = {f"{height} x {width}": count for height, width, count in self.common_shapes()}
        if rest := len(self) - sum(shapes.values()):
            shapes["other"] = rest
        return Facts(
            title=f"Plan of {title}",
            rows=rows,
            brief=[f"{human_bytes(self.nbytes)} in all", str(self.recipe)],
            bars={
                "records, height x width": shapes,
                "pictures, width / height": {
                    label: count for label, count in self.aspects().items() if count
                },
            },
            lines=[f"{printable(f.key)}: {f.reason}" for f in self.failures[:MOST_LINES]],
            count=len(self.failures),
            more=" in plan.failures",
        )


_ASPECT_EDGES = (0.25, 0.5, 0.7, 0.9, 1.1, 1.45, 2, 4)
_ASPECT_LABELS = (
    "below 1:4", "1:4 to 1:2", "1:2 to 7:10", "7:10 to 9:10", "about square", "11:10 to 1.45",
    "1.45 to 2:1", "2:1 to 4:1", "4:1 and more",
)  # fmt: skip


def _cut_away(buckets: list[tuple[int, int, int, float]]) -> Iterator[tuple[str, str]]:
    """Yield what is cut away of all pictures, and of those of each shape."""
    total = sum(count for *_, count, _ in buckets)
    whole = sum(count * cut for *_, count, cut in buckets) / max(total, 1)
    yield "cut away", f"{whole:.1%} of the pictures"
    for height, width, count, cut in buckets:
        yield f"{height} x {width}", f"{counted(count, 'picture')}, {cut:.1%} cut away"


def _same(one: NDArray[Any] | None, other: NDArray[Any] | None) -> bool:
    if one is None or other is None:
        return one is other
    return np.array_equal(one, other)


def make_plan(
    source: Source,
    recipe: Recipe,
    limits: Limits,
    *,
    workers: int | None = None,
    executor: str | Executor = "threads",
    progress: Callable[[int, int], None] | None = None,
    free: int | None = None,
) -> Plan:
    """Read every header of *source* and decide where each record will lie.

    Parameters
    ----------
    source : Source
    recipe : Recipe
        The plan's own has the shapes of ``resize="bucket"``, where this one has their count.
    limits : Limits
    workers : int, optional
        By default one a core.
    executor : str or concurrent.futures.Executor
    progress : callable, optional
        Called with the number of headers read and of all pictures.
    free : int, optional
        Bytes free where the cache is to be built; noted in the plan.

    Raises
    ------
    SourceError
        Where *source* has no picture. One in which none can be read is a plan of failures.
    TooManyFailuresError
        Where more pictures cannot be read than *limits* allow.
    """
    listing = source.listing()
    if not len(listing.keys) and not len(listing.failures):
        raise SourceError(
            f"there are no pictures in {source} ({counted(listing.left_out, 'other file')} there):"
            " files with endings like .jpg and .png were looked for, in subfolders too"
        )
    check_failures(list(listing.failures.raw()), limits)
    columns, failed = survey(
        source,
        listing,
        recipe,
        limits,
        workers=worker_count(workers),
        executor=executor,
        progress=progress,
    )
    if not recipe.has_shapes:
        recipe = _settled(recipe, columns)
        failed |= count_memory(listing.keys, columns, recipe, limits)
        check_failures([*listing.failures.raw(), *failed.values()], limits)
    failures = sorted([*listing.failures.raw(), *failed.values()], key=itemgetter(0, 1, 2))
    keys, labels, names = listing.keys, listing.labels, listing.names
    if failed:
        kept = np.setdiff1d(np.arange(len(keys)), np.fromiter(failed, np.int64))
        keys = keys.take(kept).packed()
        labels = None if labels is None else labels[kept]
        names = None if names is None else names.take(kept).packed()
        for name in columns:
            columns[name] = columns[name][kept]
    layout = laid_out(_shapes(columns, recipe), recipe)
    return Plan(
        recipe=recipe,
        source=source.describe(),
        keys=keys,
        key_order=key_order(keys),
        labels=labels,
        classes=listing.classes,
        columns=columns,
        records=layout.records,
        slab=layout.slab,
        pixels=layout.shape,
        failures=Failures.of(failures),
        left_out=listing.left_out,
        free=free,
        names=names,
    )


def _settled(recipe: Recipe, columns: dict[str, NDArray[Any]]) -> Recipe:
    """Return a recipe with the shapes to which the least is cut of the pictures that can be read.

    Those without a height cannot.
    """
    sizes, counts = _sizes(columns)
    there = sizes[:, 0] > 0
    possible = tuple(snug_shapes(recipe.box, recipe.multiple_of))
    asked = int(recipe.buckets)  # type: ignore[arg-type]  # shapes would be settled
    chosen = chosen_shapes(sizes[there], counts[there], possible, asked)
    return dataclasses.replace(recipe, buckets=chosen)


def _sizes(columns: dict[str, NDArray[Any]]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Return the different sizes of the sources, int64 ``(m, 2)``, and how many have each."""
    packed = (columns["height"].astype(np.int64) << 32) | columns["width"]
    different, counts = np.unique(packed, return_counts=True)
    return np.column_stack([different >> 32, different & 0xFFFF_FFFF]), counts


def _shapes(columns: dict[str, NDArray[Any]], recipe: Recipe) -> NDArray[np.int64]:
    """Return the ``(N, 3)`` shapes of the records; pictures of one size are placed once."""
    shapes = np.empty((len(columns["height"]), 3), np.int64)
    shapes[:, 2] = recipe.channels
    sizes = (columns["height"].astype(np.int64) << 32) | columns["width"]
    different, which = np.unique(sizes, return_inverse=True)
    placed = [
        recipe.place(Size(packed >> 32, packed & 0xFFFF_FFFF)).size for packed in different.tolist()
    ]
    shapes[:, :2] = np.array(placed, np.int64).reshape(-1, 2)[which]
    return shapes
