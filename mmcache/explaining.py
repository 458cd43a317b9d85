"""One record's story: what it was made from, and what was done to it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from mmcache.batches import position
from mmcache.errors import DamagedCacheError, UnknownKeyError
from mmcache.facts import Facts, human_bytes
from mmcache.geometry import Size
from mmcache.images import scaled_by
from mmcache.images.headers import JPEGS
from mmcache.records import FLAGS, SOURCE_MODES, printable, to_bytes
from mmcache.signatures import FORMATS

if TYPE_CHECKING:
    from collections.abc import Iterator

    from mmcache.cache import Cache
    from mmcache.geometry import Placement
    from mmcache.recipe import Recipe

__all__ = ["Explanation", "explain"]

_TURNS = {
    1: "stored upright",
    2: "mirrored",
    3: "turned by 180 degrees",
    4: "mirrored top to bottom",
    5: "mirrored, and turned by 90 degrees",
    6: "turned by 90 degrees, clockwise",
    7: "mirrored, and turned by 270 degrees",
    8: "turned by 270 degrees, clockwise",
}
_NOTES = {
    "truncated": "its pixels end early, and what is there was kept",
    "stretched": "its numbers have no known range: its smallest became black, its largest white",
    "clipped": "numbers outside the range were brought to its ends",
    "profile": "its colour profile is of no use, and was ignored",
}
_SIDEWAYS = 5  # the first orientation that swaps height and width


@dataclass(frozen=True)
class Explanation:
    """What a record was made from, and how; it prints well, in notebooks too.

    Attributes
    ----------
    key : str
    row : int
        In the cache that was asked.
    format, mode : str
        Of the file, in Pillow's words; empty where the cache does not tell.
    file_size : int
        Bytes.
    orientation : int
        EXIF orientation as stored, 1 to 8.
    decoded : Size
        What the decoder gave, as it is stored: smaller than the picture where a JPEG was decoded at
        1/2, 1/4 or 1/8.
    placement : Placement
        Upright source size, scaled size, crop, valid size, padding and record size.
    notes : tuple of str
        What is worth knowing beside: names of :data:`mmcache.records.FLAGS`.
    steps : tuple of str
        What was done, in words.
    """

    key: str
    row: int
    format: str
    mode: str
    file_size: int
    orientation: int
    decoded: Size
    placement: Placement
    notes: tuple[str, ...]
    steps: tuple[str, ...]

    def to_json(self) -> dict[str, Any]:
        """Return it as plain data, valid as JSON whatever bytes the key has."""
        placement = self.placement
        return {
            "key": printable(self.key),
            "row": self.row,
            "format": self.format,
            "mode": self.mode,
            "file_size": self.file_size,
            "orientation": self.orientation,
            "source": list(placement.source),
            "decoded": list(self.decoded),
            "scaled": list(placement.scaled),
            "crop": list(placement.crop),
            "valid": list(placement.valid),
            "padding": list(placement.padding),
            "size": list(placement.size),
            "notes": list(self.notes),
            "steps": list(self.steps),
        }

    def facts(self) -> Facts:
        """Return what is shown of it."""
        kind = " ".join(word for word in (self.format, self.mode) if word) or "not told"
        rows = [
            ("row", f"{self.row:,}"),
            ("file", f"{kind}, {human_bytes(self.file_size)}"),
            ("picture", _edges(self.placement.source)),
            *(("" if number else "then", step) for number, step in enumerate(self.steps)),
            *(("note", _NOTES[note]) for note in self.notes),
            ("record", _edges(self.placement.size)),
        ]
        return Facts(printable(self.key), rows)

    def __repr__(self) -> str:
        return self.facts().to_text()

    def _repr_html_(self) -> str:
        return self.facts().to_html()


def explain(cache: Cache, row: int | str | bytes) -> Explanation:
    """Tell the story of one record: file, orientation, sizes, scaling, padding, and what to note.

    Everything is told from the cache; the file need not be there any more.

    Parameters
    ----------
    cache : Cache
    row : int, str or bytes
        A row of *cache*, or a key.

    Returns
    -------
    Explanation

    Raises
    ------
    RowError, UnknownKeyError
        (an ``IndexError``, a ``KeyError``) where the record is not there. For a picture that could
        not be read, the error says why.
    """
    if isinstance(row, (str, bytes)):
        _check_key(cache, row)
        place = cache.row_of(row)
    else:
        place = position(row, len(cache))
    part = cache[[place]]
    told = {name: int(column[0]) for name, column in part.columns.items()}
    placement = part.placement(0)
    form, mode = _named(told["format"], FORMATS), _named(told["mode"], SOURCE_MODES)
    sideways = told["orientation"] >= _SIDEWAYS
    scaled, stored = (
        Size(*reversed(size)) if sideways else size for size in (placement.scaled, placement.source)
    )
    shrunk = 1
    if form in JPEGS and cache.recipe.resample != "nearest":
        shrunk = scaled_by(stored, scaled)
    decoded = Size(-(-stored.height // shrunk), -(-stored.width // shrunk))
    return Explanation(
        key=part.keys[0],
        row=place,
        format=form,
        mode=mode,
        file_size=told["file_size"],
        orientation=told["orientation"],
        decoded=decoded,
        placement=placement,
        notes=tuple(name for name, bit in FLAGS.items() if told["flags"] & bit),
        steps=(
            "decoded in full" if shrunk == 1 else f"decoded at 1/{shrunk}, as {_edges(decoded)}",
            _TURNS.get(told["orientation"], "turned as nobody knows"),
            *_steps(cache.recipe, placement, mode),
        ),
    )


def _check_key(cache: Cache, key: str | bytes) -> None:
    if key in cache:
        return
    for failed, stage, reason, _ in cache.failures.raw():
        if failed == to_bytes(key):
            raise UnknownKeyError(f"{printable(key)} is not in the cache: {reason} ({stage})")


def _named(number: int, names: tuple[str, ...]) -> str:
    if number >= len(names):
        raise DamagedCacheError(
            f"the columns are damaged, or of a newer mmcache: there is no kind {number}"
        )
    return names[number]


def _steps(recipe: Recipe, placement: Placement, mode: str) -> Iterator[str]:
    if placement.scaled == placement.source:
        yield "kept at its size"
    else:
        yield f"resampled to {_edges(placement.scaled)}, {recipe.resample}"
    if placement.valid != placement.scaled:
        top, left = placement.crop
        yield f"cut to {_edges(placement.valid)} from {top} below and {left} right"
    if mode and mode != recipe.mode:
        yield f"brought from {mode} to {recipe.mode}"
    if placement.size != placement.valid:
        top, left = placement.padding
        below = placement.size.height - placement.valid.height - top
        right = placement.size.width - placement.valid.width - left
        yield f"filled up by {top} above, {below} below, {left} left, {right} right"


def _edges(size: Size) -> str:
    return f"{size.height} x {size.width}"
