"""The cache: pictures as slices of mapped files. Opening and slicing never decode."""

from __future__ import annotations

import math
import os
import struct
from pathlib import Path
from time import monotonic
from typing import TYPE_CHECKING, Any, overload

import numpy as np

from mmcache.batches import Batch, Rows, chosen, position
from mmcache.chances import check_seed, entropy, uniform
from mmcache.errors import (
    CacheNotFoundError,
    DamagedCacheError,
    DifferentCacheError,
    RowError,
    SelectionError,
    SettingError,
    ShapesDifferError,
    UnknownKeyError,
)
from mmcache.facts import Facts, counted, human_bytes
from mmcache.gathering import Located, gather
from mmcache.geometry import Placement, Size
from mmcache.layout import CHUNK, SLAB, elements
from mmcache.memory import MemoryReport, free_memory, process_memory
from mmcache.recipe import Recipe
from mmcache.records import (
    COLUMNS,
    HEIGHT,
    LATER_COLUMNS,
    OFFSET,
    Failures,
    Strings,
    find,
    printable,
    to_bytes,
)
from mmcache.shaping import Shaping
from mmcache.stores.frame import read_frame
from mmcache.stores.mapping import Mapping

if TYPE_CHECKING:
    from collections.abc import Iterator

    from numpy.typing import ArrayLike, NDArray

    from mmcache.gathering import Buffer
    from mmcache.recipe import Resample, Resampler
    from mmcache.shaping import Crop, Pad, Position
    from mmcache.stores.frame import Frame

__all__ = ["Cache", "open_cache"]

_ROW_BYTES = 32
# Unsigned, so that a damaged negative number is a huge one, which no slice reaches.
_row = struct.Struct("<3Q").unpack_from

_EDGE = 1 << 24  # pixels, far beyond any record's edge

# Asking the system for a file's size costs more than making a view. A file cannot be cut and its
# view be touched in less time than this, but by the race that remains in any case.
_LOOK_AGAIN = 10e-6  # seconds

# How long the repr may look for what is in memory of its files: a person does not notice.
_LOOK_FOR = 5e-3  # seconds

# A new generation may take the place between the frame and the files: a mixture is no cache.
_LOOKS = 100


class Cache:
    """Pictures in a file: a picture is a read-only view of it, and nothing is copied.

    Made by :func:`mmcache.open` and :func:`mmcache.build`. ``cache[17]``, ``cache[-1]`` and
    ``cache["cats/001.jpg"]`` are pictures, ``(height, width, channels)`` arrays; ``cache[10:20]``,
    ``cache[[3, 1, 2]]``, ``cache[mask]`` and ``cache[["a.jpg", "b.jpg"]]`` are narrower caches over
    the same files, which can be indexed again.

    A cache may be used from many threads, after ``fork``, and pickled: what is sent is its path and
    fingerprint. See also :func:`mmcache.show` for a contact sheet, :func:`mmcache.apply` for the
    same pixels at inference, :func:`mmcache.verify` for whether every byte is as it was written,
    and :func:`mmcache.compare` for what changed in the folder since.

    Attributes
    ----------
    path : pathlib.Path
        Where the files are.
    recipe : Recipe
        How the pictures were brought to size.
    classes : tuple of str
        Names that labels are positions in.
    fingerprint : str
        Identifies the contents: equal for equal contents.
    """

    __slots__ = (
        "__weakref__",
        "_channels",
        "_due",
        "_dues",
        "_edges",
        "_files",
        "_flat",
        "_flats",
        "_order",
        "_picked",
        "_records",
        "_rows",
        "_sorted",
        "classes",
        "fingerprint",
        "path",
        "recipe",
    )  # fmt: skip

    def __init__(self, files: Mapping, rows: Rows | None = None) -> None:
        frame = files.frame
        self._files = files
        self._flats = files.segments("pixels")
        self._flat = self._flats[0] if len(self._flats) == 1 else None
        self._dues = [0.0] * len(self._flats)
        self._rows = range(frame.arrays["records"].shape[0]) if rows is None else rows
        # Rows that follow one another need no look into a list of rows: they are their own records.
        records = files.array("records")
        self._picked: range | memoryview | None = None
        if not isinstance(self._rows, range):
            self._picked = self._rows.data  # which gives Python's own integers, the faster ones
        elif self._rows.step != 1:
            self._picked = self._rows
        else:
            records = records[self._rows.start : self._rows.stop]
        self._records = records.reshape(-1).view(np.uint8).data
        self._order = files.array("key_order") if "key_order" in files else None
        self._sorted: tuple[NDArray[np.int64], NDArray[np.int64]] | None = None
        self._due = 0.0
        self.path = files.path
        self.recipe = Recipe.from_json(frame.recipe)
        self.classes = frame.classes
        self.fingerprint = frame.content
        self._channels = self.recipe.channels
        # The height and width of every record; None where pictures differ.
        self._edges = self.recipe.shape[:2] if self.recipe.shape else None

    # What it holds ---------------------------------------------------------------------------

    def __len__(self) -> int:
        return len(self._rows)

    @overload
    def __getitem__(self, index: int | str | bytes) -> NDArray[Any]: ...
    @overload
    def __getitem__(self, index: slice | list[int] | list[str] | NDArray[Any]) -> Cache: ...
    def __getitem__(self, index: Any) -> NDArray[Any] | Cache:
        """Return the picture at a row or of a key, or a narrower cache.

        Raises
        ------
        RowError
            (an ``IndexError``) where a row is not there.
        UnknownKeyError
            (a ``KeyError``) where a key is not there.
        DamagedCacheError
            (a ``ValueError``) where the row's place in the file makes no sense, or the file is cut.
        """
        if type(index) is not int:
            return self._any(index)
        # This is the path that training takes: no call that could be spared.
        if monotonic() > self._due:
            self._look()
        try:
            # Counted from the end where it is negative, and refused outside, as a list's index is.
            row = index if self._picked is None else self._picked[index]
            offset, height, width = _row(self._records, row * _ROW_BYTES)
        except (IndexError, OverflowError, struct.error):
            raise RowError(f"row {index} was asked for, and there are {len(self)}") from None
        try:
            flat = self._flat
            if flat is None:
                flat, offset = self._in_segment(offset)
            channels = self._channels
            end = offset + height * width * channels
            if end > offset and (self._edges is None or self._edges == (height, width)):
                picture: NDArray[Any] = flat[offset:end].reshape(height, width, channels)
                return picture
        except DamagedCacheError:
            raise
        except (IndexError, ValueError, OverflowError):
            pass
        raise self._damaged(index)

    def _damaged(self, row: int) -> DamagedCacheError:
        return DamagedCacheError(
            f"the index of {self.path} is damaged at row {row}: it points outside the pixels, or"
            " has a shape that the recipe does not make"
        )

    def _in_segment(self, offset: int) -> tuple[NDArray[Any], int]:
        """Return the segment in which an element of the payload lies, and its place there."""
        # All segments but the last are equally long. Each is a file that may be cut.
        number, place = divmod(offset, len(self._flats[0]))
        if monotonic() > self._dues[number]:
            self._files.check_segment("pixels", number)
            self._dues[number] = monotonic() + _LOOK_AGAIN
        return self._flats[number], place

    def _look(self) -> None:
        self._files.check("records")
        if self._flat is not None:
            self._files.check("pixels")
        self._due = monotonic() + _LOOK_AGAIN

    def _any(self, index: Any) -> NDArray[Any] | Cache:
        if isinstance(index, (str, bytes)):
            return self[self.row_of(index)]
        if isinstance(index, slice):
            return Cache(self._files, self._rows[index])
        if isinstance(index, tuple):
            raise SelectionError(
                "a tuple is no index: say cache[[1, 2]] for pictures 1 and 2, and"
                " cache[1][:, 2] for pixels of picture 1"
            )
        if hasattr(index, "__index__") and not isinstance(index, (bool, np.bool_, np.ndarray)):
            return self[int(index.__index__())]
        return Cache(self._files, _taken(self._rows, self._chosen(index)))

    def _chosen(self, index: Any) -> Rows:
        """Return the places that a list of keys, a list of rows or a mask means."""
        listed = isinstance(index, (list, tuple, Strings)) and len(index)
        if not listed or not isinstance(index[0], (str, bytes)):
            return chosen(index, len(self))
        if not all(isinstance(key, (str, bytes)) for key in index):
            raise SelectionError("a list of keys was given, and not all of it are keys")
        return np.array([self.row_of(key) for key in index], np.int64)

    def __iter__(self) -> Iterator[NDArray[Any]]:
        return (self[place] for place in range(len(self)))

    def __contains__(self, key: object) -> bool:
        return isinstance(key, (str, bytes)) and self._find(to_bytes(key)) is not None

    def row_of(self, key: str | bytes) -> int:
        """Return the row of a key, or raise :class:`UnknownKeyError`."""
        place = self._find(to_bytes(key))
        if place is None:
            raise UnknownKeyError(
                f"{printable(key)} is not among the {counted(len(self), 'picture')} here:"
                " keys are paths below the folder, as in cache.keys"
            )
        return place

    def _find(self, key: bytes) -> int | None:
        """Return the place of *key* among these rows."""
        keys = self._all_keys()
        try:
            row = find(keys, self._order, key)
        except DamagedCacheError as error:
            raise DamagedCacheError(f"the index of {self.path} is damaged: {error}") from error
        if row is None:
            return None
        if isinstance(self._rows, range):
            return self._rows.index(row) if row in self._rows else None
        if self._sorted is None:
            order = np.argsort(self._rows, kind="stable")
            self._sorted = self._rows[order], order
        rows, order = self._sorted
        place = int(np.searchsorted(rows, row))
        return int(order[place]) if place < len(rows) and rows[place] == row else None

    def _all_keys(self) -> Strings:
        return Strings(self._files.array("keys"), self._files.array("key_offsets"))

    def _column(self, name: str) -> NDArray[Any]:
        """Return an array of the cache at these rows: a view where they lie evenly."""
        column = self._files.array(name)
        if isinstance(self._rows, range):
            return column[_as_slice(self._rows)]
        taken = column[self._rows]
        taken.flags.writeable = False
        return taken

    @property
    def keys(self) -> Strings:
        """The names of the pictures: a sequence of ``str``, in the order of the rows."""
        return self._all_keys().take(self._rows)

    @property
    def labels(self) -> NDArray[np.int64] | None:
        """Positions in ``classes``, -1 for none: int64 ``(N,)``; None without classes."""
        return self._column("labels") if "labels" in self._files else None

    @property
    def shapes(self) -> NDArray[np.int64]:
        """Height, width and channels of each picture: int64 ``(N, 3)``."""
        return self._column("records")[:, HEIGHT:]

    @property
    def columns(self) -> dict[str, NDArray[Any]]:
        """What the pictures were made from: ``(N,)`` arrays by name.

        Upright ``height`` and ``width`` of the source in pixels, EXIF ``orientation`` as stored,
        ``file_size`` in bytes, ``mtime_ns``, ``content_hash`` (CRC-32C of the file), ``flags``
        (bits of :data:`mmcache.records.FLAGS`), ``format`` and ``mode`` (positions in
        :data:`mmcache.signatures.FORMATS` and :data:`mmcache.records.SOURCE_MODES`).
        :func:`mmcache.explain` puts them into words.
        """
        return {name: self._source_column(name) for name in COLUMNS}

    def _source_column(self, name: str) -> NDArray[Any]:
        if name in LATER_COLUMNS and name not in self._files:
            return np.zeros(len(self), COLUMNS[name])
        return self._column(name)

    @property
    def failures(self) -> Failures:
        """The pictures of the source that could not be read.

        Each has ``key``, ``stage`` (``"list"``, ``"header"``, ``"decode"`` or ``"write"``),
        ``reason``, and ``file_size`` in bytes, None where it is not known.
        """
        files = self._files
        return Failures(
            Strings(files.array("failure_keys"), files.array("failure_key_offsets")),
            files.array("failure_stages"),
            Strings(files.array("failure_reasons"), files.array("failure_reason_offsets")),
            files.array("failure_sizes") if "failure_sizes" in files else None,
        )

    @property
    def nbytes(self) -> int:
        """The bytes of these pictures' pixels."""
        if self.is_whole:
            return self._files.frame.counts["pixel_bytes"]
        step = 1 << 16  # rows at a time, so that memory stays flat
        elements = sum(
            int(self[start : start + step].shapes.prod(axis=1).sum())
            for start in range(0, len(self), step)
        )
        return elements * self.recipe.dtype.itemsize

    @property
    def checksums(self) -> NDArray[np.uint32]:
        """CRC-32C of each picture's bytes: uint32 ``(N,)``."""
        return self._column("checksums")

    @property
    def files(self) -> Mapping:
        """The mapped files and their frame, for what works on a cache as a whole."""
        return self._files

    @property
    def rows(self) -> Rows:
        """Which rows of the cache at ``path`` these are: a range, or int64 (n,)."""
        return self._rows

    @property
    def is_whole(self) -> bool:
        """Whether these are all pictures of the cache at ``path``, in their order."""
        whole = range(self._files.frame.arrays["records"].shape[0])
        return isinstance(self._rows, range) and self._rows == whole

    def placement(self, index: int | str | bytes) -> Placement:
        """Return where picture *index* landed: it maps points and boxes there and back."""
        named = isinstance(index, (str, bytes))
        place = self.row_of(index) if named else position(index, len(self))  # type: ignore[arg-type]
        row = self._rows[place]
        height, width = (int(self._files.array(name)[row]) for name in ("height", "width"))
        return self._placed(height, width)

    def _placed(self, height: int, width: int) -> Placement:
        """Return where a source of this size landed."""
        if height < 1 or width < 1:
            raise DamagedCacheError(
                f"the columns of {self.path} are damaged: a picture of {height} x {width}"
            )
        return self.recipe.place(Size(height, width))

    # Many at once ----------------------------------------------------------------------------

    def batch(
        self,
        rows: ArrayLike | slice,
        *,
        out: NDArray[Any] | None = None,
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
        seed: int | None = None,
        threads: int | None = None,
    ) -> Batch:
        """Gather pictures, in any order, into a :class:`~mmcache.batches.Batch`.

        ``images`` is one array ``(n, height, width, channels)``, a writable copy, where shapes
        agree, or *pad* or *crop* makes them agree; else a list of read-only views.

        Parameters
        ----------
        rows : list of rows or keys, array, mask or slice
            Rows may come more than once.
        out : array, optional
            What to write into: contiguous, of the records' dtype, with at least as many elements as
            the batch. ``images`` is its beginning, or a list of its parts where shapes differ.
            Using one buffer again and again is much faster than allocating.
        pad : "batch", int or (int, int), optional
            Fill each picture up to the largest height and width of the batch, or to these.
        crop : int, (int, int) or "random_resized", optional
            Cut each picture to this height and width; one that is smaller stays whole, and *pad*
            must fill it up. ``"random_resized"``: a window of random area and aspect, brought to
            *size* in one antialiased resize.
        position : {"center", "random"}
            Of the crop.
        flip : bool or float
            Mirror pictures, right for left, with this probability (True: one half).
        size : int or (int, int), optional
            Height and width of what ``crop="random_resized"`` gives.
        scale, ratio : (float, float)
            Of random resized crops: the window's share of the picture's area, and its width over
            height, drawn as torchvision's ``RandomResizedCrop`` draws them.
        resample : str
            The filter of random resized crops.
        resampler : {"auto", "pillow", "cykooz"}
            Who resamples them: the fastest that is installed, or one by name, where pixels must be
            the same on every machine (see :mod:`mmcache.resampling`).
        centering : (float, float)
            Where pictures lie in their padding, vertical and horizontal: 0 is top or left.
        background : int or (int, ...), optional
            What padding is filled with, a number or one a channel (default: the recipe's).
        mask : bool
            Whether to make ``mask``, which tells pictures from padding.
        seed : int, optional
            The same seed makes the same random crops and flips; by default each call differs.
        threads : int, optional
            How many share the work (default: one for copying, one a core for resampling).

        Raises
        ------
        RowError, UnknownKeyError
            (an ``IndexError``, a ``KeyError``) where a row or key is not there.
        SettingError
            (a ``ValueError``) where a setting makes no sense, or *out* does not fit.
        ShapesDifferError
            (a ``ValueError``) where a picture is too large for *pad* or too small for *crop*.
        DamagedCacheError
            (a ``ValueError``) where a row's place in the file makes no sense, or the file is cut.
        """
        shaping = Shaping(
            pad=pad, crop=crop, position=position, flip=flip, size=size, scale=scale, ratio=ratio,
            resample=resample, resampler=resampler, centering=centering, background=background,
            mask=mask,
        )  # fmt: skip
        if isinstance(rows, slice):
            rows = np.arange(len(self), dtype=np.int64)[rows]
        places = np.asarray(self._chosen(rows), np.int64)
        given = entropy() if seed is None else check_seed("seed", seed)
        draws = uniform(0, len(places), shaping.draws, given)
        located = self.located(places)
        return self.gathered(places, shaping, draws, located, out=out, threads=threads)

    def gathered(
        self,
        places: NDArray[np.int64],
        shaping: Shaping,
        draws: NDArray[np.float64],
        located: Located,
        *,
        out: Buffer | None = None,
        threads: int | None = None,
    ) -> Batch:
        """Gather the pictures at *places*, none of them negative, as :func:`mmcache.Loader` does.

        *draws* are the random numbers of each, float64 (n, shaping.draws); *located* is where they
        lie, in the files or copied from there; *out* may be a callable that gives a flat array for
        a number of elements.
        """
        if located.segments is self._flats and len(located):
            numbers = located.numbers
            for number in [0] if numbers is None else np.unique(numbers).tolist():
                self._files.check_segment("pixels", number)
        colour = shaping.colour(self.recipe)
        gathered = gather(located, shaping, draws, colour, out=out, threads=threads)
        labels = None
        if "labels" in self._files:
            labels = self._files.array("labels")[_taken(self._rows, places)]
        return Batch(
            images=gathered.images,
            labels=labels,
            rows=places,
            sizes=gathered.sizes,
            keys=self.keys.take(places),
            origins=gathered.origins,
            mask=gathered.mask,
            windows=gathered.windows,
            flipped=gathered.flipped,
            classes=self.classes,
        )

    def located(self, places: NDArray[np.int64]) -> Located:
        """Return where the pictures at *places* lie, each of them checked.

        :class:`DamagedCacheError` where one is not inside the pixels.
        """
        rows = _taken(self._rows, places)
        records = self._files.array("records")[rows]
        starts, heights, widths, channels = records.T
        longest = len(self._flats[0]) if self._flats else 0
        numbers: NDArray[np.int64] | None = None
        if self._flat is None:
            numbers, starts = np.divmod(starts, longest)
        inside = (channels == self._channels) & (heights > 0) & (widths > 0)
        if self._edges is not None:
            inside &= (heights == self._edges[0]) & (widths == self._edges[1])
        # No damage makes these overflow into something that looks right.
        lengths = np.minimum(heights, _EDGE) * np.minimum(widths, _EDGE) * self._channels
        inside &= (heights <= _EDGE) & (widths <= _EDGE) & (starts >= 0)
        if numbers is None:
            inside &= starts <= longest - lengths
        else:
            last = len(self._flats) - 1
            inside &= (numbers >= 0) & (numbers <= last)
            ends = np.where(numbers == last, len(self._flats[last]), longest)
            inside &= starts <= ends - lengths
        if not inside.all():
            raise self._damaged(int(places[int(np.argmin(inside))]))
        valid = self._valid_boxes(rows)
        edges = None if self._edges is None else Size(*self._edges)
        return Located(self._flats, numbers, starts, heights, widths, self._channels, edges, valid)

    def _valid_boxes(self, rows: NDArray[np.int64]) -> NDArray[np.int64] | None:
        """Return top, left, height and width of what is no padding: int64 (n, 4); None for all."""
        if self.recipe.resize != "pad" and self.recipe.multiple_of == 1:
            return None
        sizes = np.stack([self._files.array(name)[rows] for name in ("height", "width")], axis=1)
        different, which = np.unique(sizes, axis=0, return_inverse=True)
        placed = [self._placed(*source) for source in different.tolist()]
        boxes = np.array([(*one.padding, *one.valid) for one in placed], np.int64).reshape(-1, 4)
        valid: NDArray[np.int64] = boxes[which.reshape(-1)]
        return valid

    def __array__(
        self, dtype: np.dtype[Any] | None = None, *, copy: bool | None = None
    ) -> NDArray[Any]:
        """Return ``(N, H, W, C)``: a view where rows lie evenly in one file, else a copy."""
        shape = self._common_shape()
        view = self._even_view(shape)
        if view is not None and not copy and dtype in (None, view.dtype):
            return view
        if copy is False:
            raise ShapesDifferError(
                "these pictures do not lie evenly in one file, or another dtype was asked for: one"
                " array of them is a copy"
            )
        needed = len(self) * math.prod(shape) * np.dtype(dtype or self.recipe.dtype).itemsize
        free = free_memory()
        try:
            if needed > free:
                raise MemoryError  # noqa: TRY301  # before the system ends the process for it
            whole = np.empty((len(self), *shape), dtype or self.recipe.dtype)
        except MemoryError as error:
            raise ShapesDifferError(
                f"one array of these {len(self):,} pictures would be a copy of"
                f" {human_bytes(needed)}, more than this process may have ({human_bytes(free)} are"
                " free on the machine): slice the cache and take a part at a time"
            ) from error
        for place, picture in enumerate(self):
            whole[place] = picture
        return whole

    def _common_shape(self) -> tuple[int, int, int]:
        if not len(self):
            return self.recipe.shape or (0, 0, self._channels)
        shapes = self.shapes
        first = shapes[0]
        part = 1 << 16  # rows at a time, so that memory stays flat
        for start in range(0, len(shapes), part):
            differ = (shapes[start : start + part] != first).any(axis=1)
            if not differ.any():
                continue
            other = shapes[start + int(np.argmax(differ))]
            two = f"{tuple(first.tolist())} and {tuple(other.tolist())}"
            if self.recipe.shape is not None:
                raise DamagedCacheError(
                    f"the index of {self.path} is damaged: its recipe makes one shape, and {two}"
                    " are among those of its pictures"
                )
            raise ShapesDifferError(
                f"the pictures differ in shape, {two} among them, and one array was asked for: use"
                " cache.batch(rows), or build with resize='crop' or 'pad'"
            )
        shape = self[0].shape  # which looks whether it can be true
        return shape[0], shape[1], shape[2]

    def _even_view(self, shape: tuple[int, int, int]) -> NDArray[Any] | None:
        """Return one view of all these pictures, where their distance in the file is constant."""
        if not len(self) or len(self._flats) != 1:
            return None
        self._look()
        offsets = self._column("records")[:, OFFSET]
        length = math.prod(shape)
        first = int(offsets[0])
        step = int(offsets[1]) - first if len(self) > 1 else length
        # Python's integers: no damage makes them overflow into something that looks right.
        last = first + step * (len(self) - 1)
        (flat,) = self._flats
        if min(first, last) < 0 or max(first, last) + length > len(flat):
            return None
        if not _evenly(offsets, step):
            return None
        item = flat.itemsize
        _, width, channels = shape
        strides = (step * item, width * channels * item, channels * item, item)
        view: NDArray[Any] = np.lib.stride_tricks.as_strided(
            flat[first:], (len(self), *shape), strides, writeable=False
        )
        return view

    # How it travels and shows itself ---------------------------------------------------------

    def __reduce__(self) -> tuple[Any, ...]:
        rows = None if self.is_whole else self._rows
        return _open_again, (str(self.path), self.fingerprint, rows)

    def facts(self) -> Facts:
        """Return the figures that the repr and ``mmcache info`` show."""
        rows = [
            ("pixels", human_bytes(self.nbytes)),
            ("recipe", str(self.recipe)),
            ("format", self._files.frame.store),
            ("path", printable(os.fsencode(self.path))),
        ]
        brief = [rows[0][1], rows[1][1]]
        if len(self):
            shapes = _shown_shapes(self.shapes[:: max(1, len(self) // 10_000)])
            rows.insert(1, ("shapes", shapes))
            brief.insert(1, shapes)
        if failed := len(self.failures):
            rows.append(("failures", f"{failed:,}, named in cache.failures"))
            brief.append(counted(failed, "failure"))
        rows += self._memory().rows()
        return Facts(title=f"Cache of {self._counted()}", rows=rows, brief=brief)

    def _counted(self) -> str:
        """Return how many pictures these are, and of how many classes."""
        pictures, classes = counted(len(self), "picture"), len(self.classes)
        if not classes:
            return pictures
        there = classes if self.is_whole else _classes_of(self.labels, classes)
        of = "" if there == classes else f"{there:,} of "
        return f"{pictures} in {of}{counted(classes, 'class', 'classes')}"

    def to_json(self) -> dict[str, Any]:
        """Return what ``mmcache info --json`` prints."""
        return {
            "path": printable(os.fsencode(self.path)),
            "format": self._files.frame.store,
            "pictures": len(self),
            "bytes": self.nbytes,
            "recipe": self.recipe.to_json(),
            "classes": [printable(name) for name in self.classes],
            "failures": len(self.failures),
            "libraries": self._files.frame.libraries,
            "fingerprint": self.fingerprint,
            "memory": self._memory().to_json() | {"resident": self._files.resident()},
        }

    def _memory(self) -> MemoryReport:
        """Return whose the memory is that this cache takes."""
        own = [self._rows, *(self._sorted or ())]
        return MemoryReport(
            own=sum(array.nbytes for array in own if isinstance(array, np.ndarray)),
            files=self._files.nbytes,
            looked=self._files.looked(_LOOK_FOR),
            lasting=self._files.in_memory_alone(),
            process=process_memory(),
        )

    def __repr__(self) -> str:
        return self.facts().to_text()

    def _repr_html_(self) -> str:
        # Drawing needs Pillow, which opening and slicing do not.
        from mmcache.sheet import OVERVIEW, captions_of, evenly, overview  # noqa: PLC0415

        few = self[evenly(len(self), OVERVIEW)]
        captions = captions_of(few.keys, few.labels, self.classes)
        return self.facts().to_html(overview(few, captions, masks=self.recipe.mode == "P"))


def _classes_of(labels: NDArray[np.int64] | None, classes: int) -> int:
    """Count the classes that are among *labels*."""
    there = np.zeros(classes, bool)
    if labels is not None:
        there[labels[(labels >= 0) & (labels < classes)]] = True
    return int(there.sum())


def _shown_shapes(shapes: NDArray[np.int64]) -> str:
    """Return the shape of all, or between what heights and widths they lie."""
    low, high = shapes.min(axis=0).tolist(), shapes.max(axis=0).tolist()
    if low == high:
        return " x ".join(str(edge) for edge in low)
    return (
        f"heights {low[0]} to {high[0]}, widths {low[1]} to {high[1]}, {counted(low[2], 'channel')}"
    )


def _taken(rows: Rows, places: Rows) -> NDArray[np.int64]:
    """Return the rows at *places*."""
    if isinstance(rows, range):
        return rows.start + np.asarray(places) * rows.step
    taken: NDArray[np.int64] = rows[np.asarray(places)]
    return taken


def _as_slice(rows: range) -> slice:
    """Return the slice of an array that has the elements of *rows*."""
    if not len(rows):
        return slice(0, 0)
    # A range that counts down to row 0 stops at -1, which a slice takes for the last row.
    return slice(rows.start, rows.stop if rows.stop >= 0 else None, rows.step)


def _evenly(offsets: NDArray[np.int64], step: int) -> bool:
    """Tell whether each offset is *step* from the one before, in memory that stays flat."""
    part = 1 << 16
    return all(
        bool((np.diff(offsets[start : start + part + 1]) == step).all())
        for start in range(0, len(offsets), part)
    )


def _open_again(path: str, fingerprint: str, rows: Rows | None) -> Cache:
    """Unpickle a cache; :class:`DifferentCacheError` where another generation stands there now."""
    cache = open_cache(path)
    if cache.fingerprint != fingerprint:
        raise DifferentCacheError(
            f"{path} was built anew since this cache was pickled: open it again with"
            f" mmcache.open({path!r})"
        )
    return cache if rows is None else Cache(cache._files, rows)  # noqa: SLF001  # its own class


def open_cache(path: str | os.PathLike[str]) -> Cache:
    """Open the cache at *path*; nothing is created, and nothing is read but the frame.

    It costs the same for ten pictures and for ten million.

    Raises
    ------
    CacheNotFoundError
        (a ``FileNotFoundError``) where nothing is there.
    DamagedCacheError
        (a ``ValueError``) where what is there is no cache, or is not whole.
    """
    where = Path(path).absolute()
    for _ in range(_LOOKS):
        before = _identity(where)
        try:
            cache = _opened(where)
        except (DamagedCacheError, CacheNotFoundError):
            if _identity(where) == before:
                raise
            continue
        if _identity(where) == before:
            return cache
    raise DamagedCacheError(f"{where} changes all the time while it is being opened")


def cache_at(cache: Cache | str | os.PathLike[str]) -> Cache:
    """Return *cache*, opened where it is a path."""
    return cache if isinstance(cache, Cache) else open_cache(cache)


def _identity(path: Path) -> tuple[int, ...] | None:
    """Return what tells a generation from the one that takes its place; None for nothing."""
    try:
        status = path.stat()
    except OSError:
        return None
    return status.st_dev, status.st_ino, status.st_mtime_ns


def _opened(where: Path) -> Cache:
    frame = read_frame(where)
    try:
        recipe = Recipe.from_json(frame.recipe)
    except SettingError as error:
        raise DamagedCacheError(f"the recipe of {where} cannot be read: {error}") from error
    _check_arrays(where, frame, recipe)
    return Cache(Mapping(where, frame))


def _check_arrays(where: Path, frame: Frame, recipe: Recipe) -> None:
    """Check that every array has the dtype, the shape and the place that a cache's arrays have."""
    rows, failures = (frame.counts.get(name, 0) for name in ("rows", "failures"))
    # None stands for any length.
    needed: dict[str, tuple[str, tuple[int | None, ...]]] = {
        "records": ("<i8", (rows, 4)),
        "checksums": ("<u4", (rows,)),
        "keys": ("|u1", (None,)),
        "key_offsets": ("<i8", (rows + 1,)),
        **{
            name: (dtype.str, (rows,))
            for name, dtype in COLUMNS.items()
            if name in frame.arrays or name not in LATER_COLUMNS
        },
        "failure_keys": ("|u1", (None,)),
        "failure_key_offsets": ("<i8", (failures + 1,)),
        "failure_stages": ("|u1", (failures,)),
        "failure_reasons": ("|u1", (None,)),
        "failure_reason_offsets": ("<i8", (failures + 1,)),
    }
    optional = {
        name: ("<i8", (length,))
        for name, length in (("key_order", rows), ("labels", rows), ("failure_sizes", failures))
        if name in frame.arrays
    }
    if rows < 1 or "pixel_bytes" not in frame.counts or "pixels" not in frame.arrays:
        raise DamagedCacheError(f"the frame of {where} lacks its pixels or its counts")
    for name, (dtype, shape) in (needed | optional).items():
        one = frame.arrays.get(name)
        if (
            one is None
            or one.dtype != dtype
            or len(one.shape) != len(shape)
            or any(want not in (None, edge) for want, edge in zip(shape, one.shape, strict=True))
            or len(one.segments) > 1
        ):
            raise DamagedCacheError(f"the frame of {where} has no {name} as a cache has it")
    for name in frame.arrays.keys() - needed.keys() - optional.keys() - {"pixels"}:
        # A newer mmcache's, which is copied as it is.
        one = frame.arrays[name]
        if len(one.shape) != 1 or len(one.segments) > 1:
            raise DamagedCacheError(f"the frame of {where} has {name} as no cache has an array")
    _check_pixels(where, frame, recipe)


def _check_pixels(where: Path, frame: Frame, recipe: Recipe) -> None:
    pixels = frame.arrays["pixels"]
    item = recipe.dtype.itemsize
    lengths = [segment.length for segment in pixels.segments]
    row = elements(recipe.shape or ())
    longest = max(SLAB, sum(lengths)) + max(CHUNK, row * item)
    if (
        pixels.dtype != recipe.dtype.str
        or not pixels.shape
        or pixels.shape[1:] != (recipe.shape or ())
        or not 0 < frame.slab * item <= longest
        or frame.slab % row
        or any(length % item or not length for length in lengths)
        or any(length != lengths[0] for length in lengths[:-1])
    ):
        raise DamagedCacheError(f"the frame of {where} has no pixels as a cache has them")
