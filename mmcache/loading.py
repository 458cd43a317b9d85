"""The loader: batches of a cache, gathered ahead by threads while the last one is trained on."""

from __future__ import annotations

import sys
import threading
from collections import deque
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import replace
from itertools import islice
from typing import TYPE_CHECKING, Any, NamedTuple, get_args

import google_crc32c
import numpy as np

from mmcache.chances import check_seed, uniform
from mmcache.errors import DifferentCacheError, SettingError
from mmcache.memory import free_memory, machine_memory
from mmcache.orders import MIXED, Order, Remainder, Shuffle, mixture, share
from mmcache.paging import Pages
from mmcache.settings import whole_number
from mmcache.shaping import Shaping
from mmcache.stacking import stacked_edges
from mmcache.workers import worker_count

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from numpy.typing import NDArray

    from mmcache.batches import Batch
    from mmcache.bucketing import Buckets
    from mmcache.cache import Cache
    from mmcache.gathering import Located
    from mmcache.recipe import Resample, Resampler
    from mmcache.shaping import Crop, Pad, Position
    from mmcache.stacking import Edges

__all__ = ["Loader", "Ring", "rows_digest"]

_AHEAD = 2  # batches that the system is asked to read before they are gathered
_COLD = 16  # batches that are asked for without a look, after one was not in memory
_BLOCK_BYTES = 2 << 20  # of a block of neighbours, so that a disk reads some at a stretch


class _Step(NamedTuple):
    """One batch to come.

    ``places`` are its rows in the cache, ``first`` is where it begins in the epoch, which its
    random numbers belong to, and ``wanted`` are the rows that should be read before it comes.
    """

    places: NDArray[np.int64]
    first: int
    shaping: Shaping
    wanted: NDArray[np.int64]


class Loader:
    """Batches of a cache, epoch by epoch; the next ones are gathered while one is being used.

    Each ``for batch in loader`` is an epoch: the first is epoch 0, or the one of :meth:`set_epoch`,
    and each further one is the next, also where the one before was left early. Orders, crops and
    flips depend on seed and epoch alone, not on threads, timing or the version of numpy.

    Buffers are used again when nobody refers to them: a batch that you keep, or any view of it,
    stays what it was.

    Parameters
    ----------
    cache : Cache
        Or a narrower one.
    batch_size : int
        Pictures of a batch; the last one may have fewer.
    shuffle : bool or "blocks"
        ``True``: every row is equally likely at every place. ``"blocks"``: blocks of neighbouring
        rows are shuffled and *mixed* with each other, so that a slow disk reads in long stretches;
        :attr:`quality` tells what it costs.
    seed : int
        From 0 up.
    drop_last : bool
        Whether to leave out a last batch that is not full.
    prefetch : int
        How many batches are gathered ahead, at least one a thread; 0 gathers each when it is asked
        for, in this thread.
    threads : int, optional
        How many batches are gathered at once. By default one, which is as fast as memory; with
        ``crop="random_resized"`` one a core.
    rank, world_size : int
        This process's number and how many there are: each gets rows of its own.
    remainder : {"drop", "keep"}, optional
        What becomes of the rows that cannot be shared evenly by all ranks: ``"drop"`` leaves out
        the last of the epoch's order, fewer than *world_size*, so that all ranks have equally many;
        ``"keep"`` gives some ranks one more, so that every row is read. By default ``"drop"`` where
        rows are shuffled, ``"keep"`` where they are not.
    buckets : Buckets, optional
        Of :func:`mmcache.buckets`: every batch is of one bucket, padded to its shape. Where there
        are ranks, whole batches are shared.
    block, mixed : int, optional
        Rows of a block (default: about 2 MB), and how many blocks are mixed.
    allocate : callable, optional
        Gives a flat writable array for a number of elements and a dtype, a new one for each batch;
        by default a ring of buffers is used again and again.
    pad, crop, position, flip, size, scale, ratio, resample, resampler, centering, background, mask
        As for :meth:`mmcache.Cache.batch`.

    Attributes
    ----------
    epoch : int
        The epoch that is under way, or comes first.

    Raises
    ------
    SettingError
        (a ``ValueError``) where a setting makes no sense.

    Examples
    --------
    >>> loader = mmcache.Loader(cache, 64, shuffle=True, seed=1)  # doctest: +SKIP
    >>> for batch in loader:  # doctest: +SKIP
    ...     train(batch.images, batch.labels)
    """

    def __init__(
        self,
        cache: Cache,
        batch_size: int,
        *,
        shuffle: Shuffle = False,
        seed: int = 0,
        drop_last: bool = False,
        prefetch: int = 2,
        threads: int | None = None,
        rank: int = 0,
        world_size: int = 1,
        remainder: Remainder | None = None,
        buckets: Buckets | None = None,
        block: int | None = None,
        mixed: int = MIXED,
        allocate: Callable[[int, np.dtype[Any]], NDArray[Any]] | None = None,
        pad: Pad = None,
        crop: Crop = None,
        position: Position = "center",
        flip: bool | float = False,
        size: int | tuple[int, int] | None = None,
        scale: tuple[float, float] = (0.08, 1.0),
        ratio: tuple[float, float] = (3 / 4, 4 / 3),
        resample: Resample = "bilinear",
        resampler: Resampler = "auto",
        centering: tuple[float, float] = (0.5, 0.5),
        background: int | tuple[int, ...] | None = None,
        mask: bool = False,
    ) -> None:
        self.cache = cache
        self.batch_size = whole_number("batch_size", batch_size, 1)
        self._shaping = Shaping(
            pad=pad, crop=crop, position=position, flip=flip, size=size, scale=scale, ratio=ratio,
            resample=resample, resampler=resampler, centering=centering, background=background,
            mask=mask,
        )  # fmt: skip
        self._shaping.colour(cache.recipe)
        self._drop_last = bool(drop_last)
        self._prefetch = whole_number("prefetch", prefetch, 0)
        many = worker_count(None) if self._shaping.resized else 1
        self._threads = many if threads is None else whole_number("threads", threads, 1)
        if self._prefetch:  # each thread gathers a batch of its own
            self._prefetch = max(self._prefetch, self._threads)
        self._order = Order(
            length=len(cache),
            shuffle=shuffle,
            seed=check_seed("seed", seed),
            block=_block(cache) if block is None else block,
            mixed=mixed,
        )
        self._rank, self._world_size = _ranks(rank, world_size)
        self._remainder = _remainder(remainder, shuffle)
        self._buckets = _fitting(buckets, cache, self.batch_size, self._shaping, shuffle)
        dtype = cache.recipe.dtype
        self._room: Callable[[int], NDArray[Any]] = (
            Ring(dtype, self._prefetch + 2).room
            if allocate is None
            else lambda elements: allocate(elements, dtype)
        )
        self.epoch = 0
        self._begun = False  # whether an iteration of `epoch` was begun
        self._position = 0  # rows of it that were given out, or are to be skipped
        self._resumed = False

    # What it gives -------------------------------------------------------------------------------

    def __iter__(self) -> Iterator[Batch]:
        """Begin the next epoch, or go on where a loaded state says."""
        if self._begun and not self._resumed:
            self.epoch += 1
            self._position = 0
        self._begun, self._resumed = True, False
        return _Epoch(self, self.epoch, self._position)

    def __len__(self) -> int:
        """Return the batches of an epoch of this rank."""
        if self._buckets is not None:
            return len(self._bucket_batches(self.epoch))
        rows = len(share(len(self.cache), self._rank, self._world_size, self._remainder))
        return rows // self.batch_size if self._drop_last else -(-rows // self.batch_size)

    def set_epoch(self, epoch: int) -> None:
        """Make *epoch* the next one to be iterated over."""
        self.epoch = check_seed("epoch", epoch)
        self._begun, self._resumed, self._position = False, False, 0

    @property
    def shaping(self) -> Shaping:
        """How pictures are cut and filled."""
        return self._shaping

    @property
    def edges(self) -> Edges:
        """Height and width of every batch; None where batches may differ.

        :class:`ShapesDifferError` (a ``ValueError``) where some batch is not one array.
        """
        if self._buckets is not None:
            return None, None
        return stacked_edges(self.cache, self._shaping)

    @property
    def quality(self) -> float:
        """How well batches are mixed, from 0 to 1: see :func:`mmcache.orders.mixture`.

        1 is a full shuffle. A batch of 256 with a quality of 0.25 is as mixed as 64 rows that were
        drawn at random from the whole cache.
        """
        steps = (step.places for step in self.steps(self.epoch, 0))
        return mixture(steps, len(self.cache))

    def __repr__(self) -> str:
        ranks = f", rank {self._rank} of {self._world_size}" if self._world_size > 1 else ""
        return (
            f"Loader of {len(self.cache):,} pictures in {len(self):,} batches of"
            f" {self.batch_size}, shuffle={self._order.shuffle!r}, seed={self._order.seed},"
            f" epoch {self.epoch}{ranks}"
        )

    # Where it is ---------------------------------------------------------------------------------

    def state_dict(self) -> dict[str, Any]:
        """Return where the loader is, as plain data: the batch that was given out last is done."""
        return {"epoch": self.epoch, "position": self._position, **self._identity()}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on where :meth:`state_dict` was called: the next batch begins with the next row.

        Raises
        ------
        DifferentCacheError
            (a ``ValueError``) where the state is of another cache, or of another order.
        """
        if not {"epoch", "position"} <= set(state):
            raise SettingError("this is no state of a loader: pass what state_dict() returned")
        for name, mine in self._identity().items():
            if state.get(name) != mine:
                raise DifferentCacheError(
                    f"the state is of a loader with {name}={state.get(name)!r}, and this one has"
                    f" {mine!r}: make the loader as it was, over the same cache"
                )
        self.epoch = check_seed("epoch", state["epoch"])
        self._position = whole_number("position", state["position"], 0)
        self._begun = self._resumed = True
        if next(self.steps(self.epoch, self._position), None) is None:  # at its end
            self.epoch, self._position = self.epoch + 1, 0

    def _identity(self) -> dict[str, Any]:
        """Return what must be the same for a position to mean the same rows."""
        order = self._order
        identity = {
            "fingerprint": self.cache.fingerprint,
            "rows": rows_digest(self.cache),
            "shuffle": order.shuffle,
            "seed": order.seed,
            "rank": self._rank,
            "world_size": self._world_size,
            "remainder": self._remainder,
        }
        if order.shuffle == "blocks":
            identity |= {"block": order.block, "mixed": order.mixed}
        if self._buckets is not None:
            identity |= {
                "batch_size": self.batch_size,
                "drop_last": self._drop_last,
                "buckets": np.asarray(self._buckets.shapes).tolist(),
            }
        return identity

    def given_out(self, epoch: int, position: int) -> None:
        """Note how far the latest iteration is; called by it."""
        if epoch == self.epoch:
            self._position = position

    # What comes when -----------------------------------------------------------------------------

    def steps(self, epoch: int, position: int) -> Iterator[_Step]:
        """Yield what the batches of an epoch will be, from a number of rows on; nothing is read.

        Samplers for other libraries are made of it.
        """
        if self._buckets is not None:
            yield from self._bucket_steps(epoch, position)
            return
        mine = share(len(self.cache), self._rank, self._world_size, self._remainder)
        if position > len(mine):
            raise SettingError(
                f"position={position} was asked for, and an epoch has {len(mine)} rows here"
            )
        rows = self._order.rows(epoch)
        ahead = _Groups(self._order, epoch, rows) if self._order.shuffle == "blocks" else None
        for first in range(mine.start + position, mine.stop, self.batch_size):
            places = np.asarray(rows[first : min(first + self.batch_size, mine.stop)], np.int64)
            if self._drop_last and len(places) < self.batch_size:
                return
            wanted = places if ahead is None else ahead.wanted(first + len(places))
            yield _Step(places, first, self._shaping, wanted)

    def _bucket_batches(self, epoch: int) -> list[tuple[int, NDArray[np.int64]]]:
        """Return this rank's batches of one bucket each, and where each begins in the epoch."""
        assert self._buckets is not None  # noqa: S101  # for the type checker
        order = self._order
        batches = self._buckets.batches(
            shuffle=bool(order.shuffle), seed=order.seed, epoch=epoch, drop_last=self._drop_last
        )
        firsts = np.cumsum([0, *(len(rows) for rows in batches)]).tolist()
        mine = share(len(batches), self._rank, self._world_size, self._remainder)
        return [(firsts[number], batches[number]) for number in mine]

    def _bucket_steps(self, epoch: int, position: int) -> Iterator[_Step]:
        assert self._buckets is not None  # noqa: S101  # for the type checker
        done = 0
        for first, rows in self._bucket_batches(epoch):
            done += len(rows)
            if done <= position:
                continue
            shape = tuple(int(edge) for edge in self._buckets.shape_of(rows))
            crop = shape if self._shaping.crop is None else self._shaping.crop
            yield _Step(rows, first, replace(self._shaping, pad=shape, crop=crop), rows)

    def _gathered(self, step: _Step, epoch: int, located: Located) -> Batch:
        """Gather a batch; its pictures have the same random numbers whatever comes beside them."""
        shaping, seed = step.shaping, self._order.seed
        draws = uniform(step.first, len(step.places), shaping.draws, seed, epoch=epoch)
        return self.cache.gathered(step.places, shaping, draws, located, out=self._room, threads=1)


class _Groups:
    """Tells which blocks are wanted next: those of the group after the one that is begun."""

    def __init__(self, order: Order, epoch: int, rows: Any) -> None:
        self._rows = rows
        self._ends = order.group_ends(epoch)
        self._told = 0  # groups whose rows were wanted already

    def wanted(self, stop: int) -> NDArray[np.int64]:
        """Return what is to be read when rows up to *stop* come: int64 (n,)."""
        # One group beyond that in which they lie, so that a disk never waits for a group's end.
        groups = min(len(self._ends), int(np.searchsorted(self._ends, stop)) + 2)
        if groups <= self._told:
            return np.empty(0, np.int64)
        start = 0 if not self._told else int(self._ends[self._told - 1])
        self._told = groups
        wanted: NDArray[np.int64] = self._rows[start : int(self._ends[groups - 1])]
        return wanted


class _Epoch:
    """One iteration: gathers ahead, gives out in order, and tells the loader how far it is."""

    def __init__(self, loader: Loader, epoch: int, position: int) -> None:
        self._loader = loader
        self._epoch = epoch
        self._position = position
        self._steps = loader.steps(epoch, position)
        self._upcoming: deque[_Step] = deque()
        self._gathering: deque[Future[Batch]] = deque()
        self._prefetch = loader._prefetch  # noqa: SLF001
        self._gather = _Gather(loader, epoch)
        threads = loader._threads  # noqa: SLF001
        self._pool = ThreadPoolExecutor(threads, "mmcache-load") if self._prefetch else None

    def __iter__(self) -> _Epoch:
        return self

    def __next__(self) -> Batch:
        while len(self._gathering) < max(1, self._prefetch) and self._begin_next():
            pass
        if not self._gathering:
            self.close()
            raise StopIteration
        try:
            batch = self._gathering.popleft().result()
        except BaseException:
            self.close()
            raise
        if self._prefetch:  # so that as many are gathered while this one is being used
            self._begin_next()
        self._position += len(batch)
        self._loader.given_out(self._epoch, self._position)
        return batch

    def _begin_next(self) -> bool:
        """Have the next batch gathered; False where there is none."""
        # Each is asked for from the disk once, some batches before it is gathered.
        coming = list(islice(self._steps, max(0, 1 + _AHEAD - len(self._upcoming))))
        self._upcoming.extend(coming)
        if not self._upcoming:
            return False
        step = self._upcoming.popleft()
        if self._pool is not None:
            self._gathering.append(self._pool.submit(self._gather, step, coming))
        else:
            done: Future[Batch] = Future()
            done.set_result(self._gather(step, coming))
            self._gathering.append(done)
        return True

    def close(self) -> None:
        """End the threads; what was gathered and not given out is forgotten."""
        if self._pool is not None:
            self._pool.shutdown(wait=False, cancel_futures=True)
        self._gathering.clear()
        self._upcoming.clear()
        self._steps = iter(())

    def __del__(self) -> None:
        self.close()


class _Gather:
    """What a thread does for a batch: have the system read what comes next, and gather this one.

    It knows nothing of the iteration, so that one which is dropped early ends its threads.
    """

    def __init__(self, loader: Loader, epoch: int) -> None:
        self._loader = loader
        self._epoch = epoch
        self._cache = cache = loader.cache
        self._pages = Pages(cache.files)
        frame = cache.files.frame
        part = len(cache) / frame.arrays["records"].shape[0]
        # What does not fit into memory is read past the mapping, which would fill up with it.
        memory = min(free_memory(), machine_memory()) / 2
        self._streams = frame.counts["pixel_bytes"] * part > memory
        order = loader._order  # noqa: SLF001
        group = order.block * order.mixed * part * frame.counts["pixel_bytes"] / max(1, len(cache))
        self._in_groups = order.shuffle == "blocks" and group < memory / 4
        self._scratch = Ring(cache.recipe.dtype, loader._threads)  # noqa: SLF001
        rows = cache.rows
        one_by_one = isinstance(rows, range) and rows.step == 1
        self._in_order = one_by_one and not order.shuffle and loader._buckets is None  # noqa: SLF001
        self._cold = 0  # batches that are not looked at any more before they are asked for

    def __call__(self, step: _Step, coming: list[_Step]) -> Batch:
        for one in coming:
            rows = one.wanted if self._in_groups else one.places
            self._ask_for(self._cache.located(rows))
        located = self._cache.located(step.places)
        if not self._streams:
            return self._loader._gathered(step, self._epoch, located)  # noqa: SLF001
        read = self._pages.read(located, self._scratch.room(int(located.lengths.sum())))
        batch = self._loader._gathered(step, self._epoch, read)  # noqa: SLF001
        self._pages.done_with(located)
        return batch

    def _ask_for(self, located: Located) -> None:
        """Have the system read what comes, unless it is in memory."""
        if self._in_order and not self._streams:
            return  # what a mapping is read through in order, the system reads ahead by itself
        if self._streams or self._cold or not self._pages.are_there(located):
            self._pages.want(located)
            # A look at a few may miss what is missing, once something is.
            self._cold = self._cold - 1 if self._cold else _COLD


class Ring:
    """Buffers that are used again as soon as nobody refers to them.

    Everything that can reach a buffer refers to it: views of numpy, tensors made from them,
    memoryviews. What nobody but the ring refers to, nobody can come to refer to.
    """

    def __init__(self, dtype: np.dtype[Any], most: int) -> None:
        self._dtype = dtype
        self._most = most
        self._buffers: deque[NDArray[Any]] = deque()
        self._lock = threading.Lock()

    def __reduce__(self) -> tuple[Any, ...]:
        return Ring, (self._dtype, self._most)  # another process has buffers of its own

    def room(self, elements: int) -> NDArray[Any]:
        """Return a flat buffer of at least so many elements."""
        with self._lock:
            for place in range(len(self._buffers)):
                if _referrers(self._buffers, place) > _ONLY_RING:
                    continue
                if self._buffers[place].size < elements:
                    del self._buffers[place]
                    break
                return self._buffers[place]
            # A little more, so that the next batch of other shapes fits as well.
            made = np.empty(elements + elements // 8, self._dtype)
            self._buffers.append(made)
            if len(self._buffers) > self._most:
                self._buffers.popleft()  # somebody keeps it: it is theirs
            return made


def _referrers(buffers: deque[NDArray[Any]], place: int) -> int:
    return sys.getrefcount(buffers[place])


_ONLY_RING = _referrers(deque([np.empty(0)]), 0)
"""What Python counts where only the ring refers to a buffer: its versions count differently."""


# Settings ----------------------------------------------------------------------------------------


def _ranks(rank: object, world_size: object) -> tuple[int, int]:
    size = whole_number("world_size", world_size, 1)
    number = whole_number("rank", rank, 0)
    if number >= size:
        raise SettingError(
            f"rank={rank} was asked for, and world_size={size}: ranks count from 0 to {size - 1}"
        )
    return number, size


def _remainder(remainder: Remainder | None, shuffle: Shuffle) -> Remainder:
    if remainder is None:
        return "drop" if shuffle else "keep"
    if remainder not in get_args(Remainder):
        raise SettingError(f"remainder={remainder!r} is neither drop nor keep")
    return remainder


def _fitting(
    buckets: Buckets | None, cache: Cache, batch_size: int, shaping: Shaping, shuffle: Shuffle
) -> Buckets | None:
    """Return *buckets*, or raise :class:`SettingError` where they do not go with the rest."""
    if buckets is None:
        return None
    if len(buckets.which) != len(cache) or buckets.batch_size != batch_size:
        raise SettingError(
            f"buckets were made for {len(buckets.which):,} pictures in batches of"
            f" {buckets.batch_size}, and this loader has {len(cache):,} in batches of"
            f" {batch_size}: make them with mmcache.buckets(cache, {batch_size})"
        )
    if shuffle == "blocks" or shaping.pad is not None or shaping.resized is not None:
        raise SettingError(
            "buckets pad each batch to the shape of its bucket, and do not go with"
            ' shuffle="blocks", pad, or crop="random_resized"'
        )
    return buckets


def _block(cache: Cache) -> int:
    """Return the rows that make about 2 MB."""
    frame = cache.files.frame
    each = frame.counts["pixel_bytes"] / frame.arrays["records"].shape[0]
    return max(1, round(_BLOCK_BYTES / max(1.0, each)))


def rows_digest(cache: Cache) -> str:
    """Return what tells one selection of rows from another."""
    rows = cache.rows
    if isinstance(rows, range):
        return f"{rows.start}:{rows.stop}:{rows.step}"
    return f"{len(rows)}:{google_crc32c.value(np.ascontiguousarray(rows).tobytes()):08x}"
