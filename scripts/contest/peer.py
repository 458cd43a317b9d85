"""What every contender is: pictures kept in one way, and batches of them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from contest.entrant import Entrant, NotOfferedError
from contest.pictures import BATCH, shuffled_rows

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

    from numpy.typing import NDArray

    from contest.pictures import Pictures

__all__ = ["Peer", "TorchLoader", "parts"]


class Peer(Entrant):
    """Pictures kept in one way. Only :meth:`write`, :meth:`open` and :meth:`view` must be given.

    Attributes
    ----------
    where : Path
        Its own folder, or file.
    pictures : Pictures
        What it is to keep: not read any more once it is written, except for their shapes.
    """

    exact: ClassVar[bool] = True  # whether it gives the very pixels that it was given
    kept: ClassVar[str] = ""  # the peer whose files it reads, where they are not its own

    def __init__(self, where: Path, pictures: Pictures, photos: Path) -> None:
        self.where, self.pictures, self.photos = where, pictures, photos
        self.shape = pictures.shape
        self._ways: dict[Any, Any] = {}

    # What a peer gives -----------------------------------------------------------------------

    def write(self, pictures: Pictures, labels: NDArray[np.int64]) -> None:
        """Keep *pictures*."""
        raise NotImplementedError

    def open(self) -> None:
        """Make ready to read."""

    def view(self, row: int) -> NDArray[np.uint8]:
        """Return a picture as it costs least, in memory of its own or not."""
        raise NotOfferedError(f"{self.title} has no access by row")

    def single(self, row: int) -> NDArray[np.uint8]:
        """Return a picture in memory of its own."""
        return np.array(self.view(row))

    def batches(self, rows: Sequence[int]) -> Iterator[Any]:
        """Yield batches: one array where shapes agree, else a list, in memory of their own."""
        if self.shape is None:
            for part in parts(rows):
                yield [np.array(self.view(row)) for row in part]
            return
        out = np.empty((BATCH, *self.shape), np.uint8)
        for part in parts(rows):
            for place, row in enumerate(part):
                out[place] = self.view(row)
            yield out[: len(part)]

    def check(self) -> None:
        """Compare some pictures with what was to be kept."""
        for row in {0, len(self.pictures) // 2, len(self.pictures) - 1} if self.exact else ():
            assert np.array_equal(self.single(row), self.pictures[row]), f"picture {row} differs"

    # What follows from it --------------------------------------------------------------------

    def random(self, seed: int, passes: int) -> Iterator[Any]:
        """Yield all pictures *passes* times, each time in another order."""
        return self.batches(shuffled_rows(len(self.pictures), passes, seed))

    def epoch(self, seed: int, passes: int) -> Iterator[Any]:  # as the others
        """Yield all pictures *passes* times, in the order in which they lie."""
        return self.batches(list(range(len(self.pictures))) * passes)

    def padded(self, seed: int, passes: int) -> Iterator[Any]:
        """Yield batches in random order, each padded with zeros to its largest picture."""
        spare = np.empty(0, np.uint8)
        for part in parts(shuffled_rows(len(self.pictures), passes, seed)):
            views = [self.view(row) for row in part]
            edges = np.array([view.shape for view in views]).max(axis=0)
            length = len(part) * int(np.prod(edges))
            if len(spare) < length:
                spare = np.empty(length, np.uint8)
            out = spare[:length].reshape(len(part), *edges)
            for place, view in enumerate(views):
                height, width = view.shape[:2]
                out[place, :height, :width] = view
                out[place, height:] = 0
                out[place, :height, width:] = 0
            yield out

    def views(self, seed: int, passes: int) -> Iterator[Any]:
        """Yield lists of views that touch no pixel."""
        for part in parts(shuffled_rows(len(self.pictures), passes, seed)):
            yield [self.view(row) for row in part]

    def crops(self, seed: int, passes: int) -> Iterator[Any]:
        """Yield random resized crops, as torchvision draws them."""
        raise NotOfferedError(f"{self.title} has no random resized crops")

    def loader(self, seed: int, passes: int, workers: int) -> Iterator[Any]:
        """Yield batches of a torch DataLoader: a picture a call, and its own collate."""
        if workers not in self._ways:
            self._ways[workers] = TorchLoader(_Samples(self), workers)
        return iter(self._ways[workers].epoch(shuffled_rows(len(self.pictures), passes, seed)))

    def files(self) -> list[Path]:
        """Return the files that its pixels lie in."""
        if self.where.is_file():
            return [self.where]
        return [path for path in self.where.rglob("*") if path.is_file()]


def parts(rows: Sequence[int]) -> Iterator[Sequence[int]]:
    """Yield the rows of each batch."""
    return (rows[start : start + BATCH] for start in range(0, len(rows), BATCH))


class _Samples:
    """A map-style dataset as everybody writes it."""

    def __init__(self, peer: Peer) -> None:
        self.peer = peer

    def __len__(self) -> int:
        return len(self.peer.pictures)

    def __getitem__(self, row: int) -> Any:
        import torch  # noqa: PLC0415

        return torch.from_numpy(self.peer.single(row)), int(self.peer.pictures.labels[row])


class TorchLoader:
    """A DataLoader whose workers stay, and whose order is another in each epoch."""

    def __init__(self, dataset: Any, workers: int, collate: Any = None) -> None:
        import torch.utils.data  # noqa: PLC0415

        self.rows: list[int] = []
        self.loader: Any = torch.utils.data.DataLoader(
            dataset,
            batch_size=BATCH,
            sampler=self,  # type: ignore[arg-type]
            collate_fn=collate,
            num_workers=workers,
            persistent_workers=workers > 0,
        )

    def __iter__(self) -> Iterator[int]:
        return iter(self.rows)

    def __len__(self) -> int:
        return len(self.rows)

    def epoch(self, rows: list[int]) -> Any:
        self.rows = rows
        # A pair, or the images alone where a dataset has no labels.
        return (one[0] if isinstance(one, (list, tuple)) else one for one in self.loader)
