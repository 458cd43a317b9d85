"""Buckets: a few shapes for pictures of many, so that batches are padded, or cut, the least."""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, get_args

import numpy as np

from mmcache.batches import chosen
from mmcache.chances import check_seed, permuted
from mmcache.errors import SettingError, ShapesDifferError, SmallBucketWarning
from mmcache.facts import Facts, counted
from mmcache.geometry import Size
from mmcache.ladders import Rule, ladder, wasted
from mmcache.settings import whole_number

if TYPE_CHECKING:
    from collections.abc import Iterator

    from numpy.typing import ArrayLike, NDArray
    from PIL import Image

    from mmcache.cache import Cache

__all__ = ["BucketSampler", "Buckets", "Fit", "buckets"]

Fit = Literal["pad", "crop"]

_COUNT = 8  # buckets, where it is not said
_SHUFFLED = 2  # what chances are for: the order of batches, when that of their rows is drawn
_HEIGHT, _WIDTH, _ROWS, _BUCKET = range(4)  # columns of `seen`


@dataclass(frozen=True, eq=False)
class Buckets:
    """Which rows of a cache share a shape in batches; it prints well, in notebooks too.

    Made by :func:`mmcache.buckets`. Rows are positions in the cache that it was made of.

    Attributes
    ----------
    shapes : int64 (k, 2)
        Height and width of each bucket, which all its batches have.
    which : int64 (N,)
        The bucket of each row.
    counts : int64 (k,)
        How many rows each bucket has, at least one.
    padded, cut : int64 (k,)
        How many pixels each bucket adds to its pictures, and cuts away of them, in an epoch.
    batch_size : int
        Rows of a batch; the last of a bucket may have fewer.
    naive_waste : float
        The part of all pixels that would be padding if rows were shuffled without buckets and each
        batch padded to its own highest and widest picture (and to the multiple that was asked for):
        counted on one epoch.
    seen : int64 (m, 4)
        Different shapes of records: height, width, how many rows have it, and their bucket.
    """

    shapes: NDArray[np.int64]
    which: NDArray[np.int64]
    counts: NDArray[np.int64]
    padded: NDArray[np.int64]
    cut: NDArray[np.int64]
    batch_size: int
    naive_waste: float
    seen: NDArray[np.int64]

    def __len__(self) -> int:
        return len(self.shapes)

    @property
    def waste(self) -> float:
        """The part of all pixels that are padded or cut: of those of batches and those cut away."""
        return float((self.padded + self.cut).sum() / self._touched.sum())

    @property
    def bucket_waste(self) -> NDArray[np.float64]:
        """The same for each bucket: float64 ``(k,)``."""
        return (self.padded + self.cut) / self._touched

    @property
    def _touched(self) -> NDArray[np.int64]:
        """The pixels of each bucket's pictures in their shape, and those that are cut away."""
        touched: NDArray[np.int64] = self.shapes.prod(axis=1) * self.counts + self.cut
        return touched

    @property
    def small(self) -> NDArray[np.int64]:
        """The buckets with fewer rows than a batch: int64 ``(s,)``."""
        return np.flatnonzero(self.counts < self.batch_size)

    def shape_of(self, rows: ArrayLike) -> Size:
        """Return the height and width of the bucket in which all of *rows* are.

        ``cache.batch(rows, pad=shape, crop=shape)`` is then the batch.

        Raises
        ------
        ShapesDifferError
            (a ``ValueError``) where they are in several buckets, or there are none.
        RowError, SelectionError
            (an ``IndexError``, a ``TypeError``) where *rows* are no rows.
        """
        among = np.unique(self.which[np.asarray(chosen(rows, len(self.which)))])
        if len(among) != 1:
            raise ShapesDifferError(
                f"these rows are in {counted(len(among), 'bucket')}, and the shape of one was asked"
                " for: take rows as buckets.batches() gives them"
            )
        height, width = self.shapes[among[0]].tolist()
        return Size(height, width)

    def batches(
        self, *, shuffle: bool = False, seed: int = 0, epoch: int = 0, drop_last: bool = False
    ) -> list[NDArray[np.int64]]:
        """Divide all rows into batches, each of rows of one bucket.

        Parameters
        ----------
        shuffle : bool
            Whether rows are shuffled within their buckets, and batches among each other; else
            rows come in their order, and batches in the order of their first rows.
        seed, epoch : int
            The order is the same for the same two, on every machine.
        drop_last : bool
            Whether rows that do not fill a batch are left out: in each bucket, fewer than a batch
            of them. Otherwise every row comes exactly once, and a bucket's last batch has fewer.

        Returns
        -------
        list of int64 (n,)
            As many arrays as there are batches.

        Warns
        -----
        SmallBucketWarning
            Where *drop_last* leaves out a bucket as a whole.
        """
        if drop_last:
            self._warn_of_small()
        return self._batches(
            check_seed("seed", seed), check_seed("epoch", epoch),
            shuffle=shuffle, drop_last=drop_last,
        )  # fmt: skip

    def _batches(
        self, seed: int, epoch: int, *, shuffle: bool, drop_last: bool
    ) -> list[NDArray[np.int64]]:
        ordered = permuted(len(self.which), seed, epoch) if shuffle else np.arange(len(self.which))
        # A number of few bits is sorted by counting, in linear time.
        numbers = self.which[ordered].astype(np.min_scalar_type(len(self)))
        rows = ordered[np.argsort(numbers, kind="stable")]
        starts, ends = self._stretches(drop_last=drop_last)
        if shuffle:
            order = permuted(len(starts), seed, epoch, purpose=_SHUFFLED)
        else:
            order = np.argsort(rows[starts])
        return [
            rows[start:end]
            for start, end in zip(starts[order].tolist(), ends[order].tolist(), strict=True)
        ]

    def _stretches(self, *, drop_last: bool) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Return where batches begin and end among rows that are sorted by bucket."""
        bucket_ends = np.cumsum(self.counts)
        number = self._batch_counts(drop_last=drop_last)
        bucket = np.repeat(np.arange(len(self)), number)
        within = np.arange(number.sum()) - np.repeat(np.cumsum(number) - number, number)
        starts = (bucket_ends - self.counts)[bucket] + within * self.batch_size
        return starts, np.minimum(starts + self.batch_size, bucket_ends[bucket])

    def _batch_counts(self, *, drop_last: bool) -> NDArray[np.int64]:
        """Return how many batches each bucket has."""
        return (self.counts if drop_last else self.counts + self.batch_size - 1) // self.batch_size

    def _warn_of_small(self, stacklevel: int = 3) -> None:
        """Warn of buckets that dropping leaves out as a whole, whoever is so far up the stack."""
        if len(small := self.small):
            warnings.warn(
                f"{counted(len(small), 'bucket')} of {len(self)} never fill a batch of"
                f" {self.batch_size:,}, and drop_last=True leaves out all"
                f" {counted(int(self.counts[small].sum()), 'row')} of"
                f" {len(self.which):,} that they have: ask for fewer buckets, or a smaller batch",
                SmallBucketWarning,
                stacklevel=stacklevel,
            )

    def sampler(
        self,
        *,
        shuffle: bool = True,
        seed: int = 0,
        drop_last: bool = False,
        rank: int = 0,
        world_size: int = 1,
    ) -> BucketSampler:
        """Return what torch's ``DataLoader`` takes as ``batch_sampler=``: see there.

        Parameters
        ----------
        shuffle, seed, drop_last
            As for :meth:`batches`.
        rank, world_size : int
            Which of how many processes this one is, from 0 on.
        """
        return BucketSampler(
            self, shuffle=shuffle, seed=seed, drop_last=drop_last, rank=rank, world_size=world_size
        )

    def draw(self, *, edge: int = 480) -> Image.Image:
        """Draw the shapes of the records as bubbles, and the buckets as rectangles.

        All have their upper left corner at the origin, so that a bubble is where its pictures'
        lower right corner is, and the larger, the more pictures. Between it and the corner of the
        rectangle of its colour lies what is padded; what is cut lies beyond the rectangle.

        Parameters
        ----------
        edge : int
            The longer side of the plot in pixels; a legend is drawn beside it.
        """
        from mmcache.diagrams import nested  # noqa: PLC0415  # Pillow, which the rest needs not

        return nested(
            self.seen,
            self.shapes,
            [self._told(number) for number in range(len(self))],
            title=self._title(),
            edge=edge,
        )

    def to_json(self) -> dict[str, Any]:
        """Return the figures as plain data, valid as JSON."""
        return {
            "rows": len(self.which),
            "batch_size": self.batch_size,
            "waste": self.waste,
            "naive_waste": self.naive_waste,
            "buckets": [
                {
                    "height": height, "width": width, "rows": rows, "padded": padded, "cut": cut,
                    "waste": waste,
                }
                for (height, width), rows, padded, cut, waste in zip(
                    *(one.tolist() for one in (self.shapes, self.counts, self.padded, self.cut)),
                    self.bucket_waste.tolist(),
                    strict=True,
                )
            ],
        }  # fmt: skip

    def _title(self) -> str:
        return (
            f"{counted(len(self), 'bucket')} of {counted(len(self.which), 'row')},"
            f" for batches of {self.batch_size:,}"
        )

    def _told(self, number: int) -> str:
        """Return in a line what a bucket has and wastes."""
        rows = int(self.counts[number])
        return f"{counted(rows, 'row')}, {self.bucket_waste[number]:.1%} waste" + (
            ", less than a batch" if rows < self.batch_size else ""
        )

    def _facts(self) -> Facts:
        touched = int(self._touched.sum())
        padded, cut = (one.sum() / touched for one in (self.padded, self.cut))
        rows = [
            ("waste", f"{self.waste:.1%} of the pixels: {padded:.1%} padded, {cut:.1%} cut away"),
            ("naive padding", f"{self.naive_waste:.1%}, with every shuffled batch to its largest"),
        ]
        rows += [
            (f"{height} x {width}", self._told(number))
            for number, (height, width) in enumerate(self.shapes.tolist())
        ]
        if len(small := self.small):
            few = int(self.counts[small].sum())
            those = f"{counted(len(small), 'bucket')} with {counted(few, 'row')}"
            rows.append(("small", f"{those} never fill a batch of {self.batch_size:,}"))
        return Facts(self._title(), rows)

    def __repr__(self) -> str:
        return self._facts().to_text()

    def _repr_html_(self) -> str:
        return self._facts().to_html()


class BucketSampler:
    """Batches of rows, each of one bucket: torch's ``DataLoader`` takes it as ``batch_sampler=``.

    Each iteration is an epoch of its own order, one further than the one before; ``epoch`` is that
    of the next, and :meth:`set_epoch` sets it. Batches are lists of Python's integers.

    Ranks take turns: rank 0 has the first batch of the epoch's order, rank 1 the second, and so
    on, so that all have equally many. Where batches do not divide evenly, the first of the order
    come once more at its end; with ``drop_last=True`` the last ones are left out instead.

    Parameters
    ----------
    buckets : Buckets
    shuffle, seed, drop_last, rank, world_size
        As for :meth:`Buckets.sampler`.
    """

    def __init__(
        self,
        buckets: Buckets,
        *,
        shuffle: bool = True,
        seed: int = 0,
        drop_last: bool = False,
        rank: int = 0,
        world_size: int = 1,
    ) -> None:
        self.buckets = buckets
        self.epoch = 0
        self._shuffle = shuffle
        self._seed = check_seed("seed", seed)
        self._drop_last = drop_last
        if drop_last:
            buckets._warn_of_small(stacklevel=4)  # noqa: SLF001  # its own
        self._world_size = whole_number("world_size", world_size, 1)
        self._rank = whole_number("rank", rank, 0)
        if self._rank >= self._world_size:
            raise SettingError(
                f"rank={rank} was asked for, and world_size={world_size}: ranks count from 0"
            )

    def __len__(self) -> int:
        total = int(self.buckets._batch_counts(drop_last=self._drop_last).sum())  # noqa: SLF001  # its own
        return (total if self._drop_last else total + self._world_size - 1) // self._world_size

    def set_epoch(self, epoch: int) -> None:
        """Let the next iteration be that of *epoch*."""
        self.epoch = check_seed("epoch", epoch)

    def __iter__(self) -> Iterator[list[int]]:
        # Not before the first batch is asked for: a DataLoader with workers asks twice for an
        # iterator, and uses the second.
        epoch, self.epoch = self.epoch, self.epoch + 1
        batches = self.buckets._batches(  # noqa: SLF001  # its own
            self._seed, epoch, shuffle=self._shuffle, drop_last=self._drop_last
        )
        for turn in range(len(self)):
            yield batches[(turn * self._world_size + self._rank) % len(batches)].tolist()


def buckets(
    cache: Cache,
    batch_size: int,
    *,
    count: int | None = None,
    multiple_of: int = 1,
    max_pixels: int | None = None,
    fit: Fit = "pad",
) -> Buckets:
    """Choose shapes for batches from those of a cache's records, so that few pixels are wasted.

    Pictures of similar shape come into one bucket, and every batch is made of one bucket's. The
    shapes are found by dynamic programming over the shapes of the records: see
    :mod:`mmcache.ladders`.

    Parameters
    ----------
    cache : Cache
        It may be a part of one, as ``cache[rows]``.
    batch_size : int
        Rows of a batch.
    count : int, optional
        The most buckets (default: 8, or as many as a cache of ``resize="bucket"`` has). More waste
        less, and have fewer rows each.
    multiple_of : int
        The edges of each shape are multiples of this.
    max_pixels : int, optional
        The most pixels, height x width, that a shape may have. A bucket whose largest pictures have
        more is cut to as many.
    fit : {"pad", "crop"}
        Each shape holds its pictures, unless *max_pixels* forbids; or it is one to which the fewest
        pixels are padded and cut away, both counted alike.

    Returns
    -------
    Buckets
        Prints well, draws itself, and gives batches: ``buckets.batches(...)``, and
        ``buckets.sampler(...)`` for torch's ``DataLoader``.

    Raises
    ------
    SettingError
        (a ``ValueError``) where a setting makes no sense, or *cache* is empty.

    Examples
    --------
    >>> buckets = mmcache.buckets(cache, 64, count=6, multiple_of=32)  # doctest: +SKIP
    >>> for rows in buckets.batches(shuffle=True, epoch=3):  # doctest: +SKIP
    ...     shape = buckets.shape_of(rows)
    ...     batch = cache.batch(rows, pad=shape, crop=shape)
    """
    batch_size = whole_number("batch_size", batch_size, 1)
    count = (
        max(_COUNT, len(cache.recipe.shapes)) if count is None else whole_number("count", count, 1)
    )
    multiple_of = whole_number("multiple_of", multiple_of, 1)
    if max_pixels is not None:
        max_pixels = whole_number("max_pixels", max_pixels, multiple_of**2)
    if fit not in get_args(Fit):
        raise SettingError(f"fit={fit!r} is not one of {', '.join(get_args(Fit))}")
    if not len(cache):
        raise SettingError("no picture is selected, so that there is nothing to put into buckets")
    edges = cache.shapes[:, :2]
    packed, place, rows = np.unique(
        (edges[:, 0] << 32) | edges[:, 1], return_inverse=True, return_counts=True
    )
    sizes = np.column_stack([packed >> 32, packed & 0xFFFF_FFFF])
    rule = Rule(multiple_of=multiple_of, max_pixels=max_pixels, crops=fit == "crop")
    shapes, which = ladder(sizes, rows, count, rule)
    padded, cut = wasted(sizes, shapes[which])
    return Buckets(
        shapes=shapes,
        which=which[place.reshape(-1)],
        counts=_summed(rows, which, len(shapes)),
        padded=_summed(padded * rows, which, len(shapes)),
        cut=_summed(cut * rows, which, len(shapes)),
        batch_size=batch_size,
        naive_waste=_naive_waste(edges, batch_size, rule),
        seen=np.column_stack([sizes, rows, which]),
    )


def _summed(values: NDArray[np.int64], which: NDArray[np.int64], length: int) -> NDArray[np.int64]:
    sums = np.zeros(length, np.int64)
    np.add.at(sums, which, values)
    return sums


def _naive_waste(edges: NDArray[np.int64], batch_size: int, rule: Rule) -> float:
    """Return which part of the pixels is padding without buckets, in the epoch 0 of seed 0."""
    order = permuted(len(edges), 0)
    starts = np.arange(0, len(edges), batch_size)
    largest = rule.holding(np.maximum.reduceat(edges[order], starts))
    rows = np.diff([*starts, len(edges)])
    return 1 - float(edges.prod(axis=1).sum() / (largest.prod(axis=1) * rows).sum())
