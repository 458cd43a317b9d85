"""Sizes in, sizes out: where each pixel of a picture will land. No files, integers only.

Every size is ``(height, width)``; a placement is made from Python's own integers, which do not
overflow. Points and boxes, which lie between pixels, are the only floats.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, NamedTuple, get_args

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from numpy.typing import ArrayLike, NDArray

__all__ = [
    "LARGEST_EDGE",
    "RESIZES",
    "Offset",
    "Placement",
    "Resize",
    "Size",
    "closest",
    "place",
    "scaled_size",
    "snug_shapes",
]

Resize = Literal["contain", "cover", "crop", "pad", "stretch", "bucket"]
RESIZES: tuple[Resize, ...] = get_args(Resize)

LARGEST_EDGE = 65_535
"""Of a record, in pixels: what most codecs can hold, and far beyond what a record is for."""


class Size(NamedTuple):
    """A picture's height and width in pixels."""

    height: int
    width: int


class Offset(NamedTuple):
    """A distance from the top and left edges in pixels."""

    top: int
    left: int


def scaled_size(source: Size, box: Size, resize: Resize, *, upscale: bool = False) -> Size:
    """Return the size that the whole of *source* is resampled to, before any crop or padding.

    The aspect ratio is kept to within half a pixel on the rounded edge, and an edge never vanishes;
    only ``"stretch"`` distorts.

    >>> scaled_size(Size(480, 640), Size(240, 240), "contain")
    Size(height=180, width=240)
    >>> scaled_size(Size(480, 640), Size(240, 240), "cover")
    Size(height=240, width=320)
    >>> scaled_size(Size(10_000, 1), Size(256, 256), "contain")
    Size(height=256, width=1)
    """
    if resize == "stretch":
        return box
    inside = resize in ("contain", "pad")
    if inside and not upscale and source.height <= box.height and source.width <= box.width:
        return source
    # The edge that meets the box first when growing (inside), or last (covering).
    height_decides = source.height * box.width > source.width * box.height
    if height_decides == inside:
        return Size(box.height, _scaled(source.width, box.height, source.height))
    return Size(_scaled(source.height, box.width, source.width), box.width)


def _scaled(edge: int, numerator: int, denominator: int) -> int:
    """Return ``edge * numerator / denominator``, rounded half up, and at least 1."""
    return max(1, (2 * edge * numerator + denominator) // (2 * denominator))


@dataclass(frozen=True, slots=True)
class Placement:
    """Where a picture lands in its record.

    The whole of the upright ``source`` is brought to ``scaled``; from that the part of size
    ``valid`` that begins at ``crop`` is kept, and lies in the record, which has size ``size``, at
    ``padding``. What is not valid is background.
    """

    source: Size
    scaled: Size
    crop: Offset
    valid: Size
    padding: Offset
    size: Size

    def points_to_cached(self, points: ArrayLike) -> NDArray[np.float64]:
        """Map points ``(..., 2)`` as ``(y, x)`` in source pixels to record pixels.

        Coordinates count from the upper left corner of the upper left pixel: that pixel's centre
        is ``(0.5, 0.5)``. Points that were cut away land outside the record.

        >>> placement = place(Size(480, 640), Size(240, 240), "pad")
        >>> placement.points_to_cached([[0, 0], [480, 640]]).tolist()
        [[30.0, 0.0], [210.0, 240.0]]
        """
        shift = np.subtract(self.padding, self.crop)
        return np.asarray(points, np.float64) * self.scaled / self.source + shift

    def points_to_source(self, points: ArrayLike) -> NDArray[np.float64]:
        """Map points ``(..., 2)`` as ``(y, x)`` in record pixels back to source pixels."""
        shift = np.subtract(self.crop, self.padding)
        return (np.asarray(points, np.float64) + shift) * self.source / self.scaled

    def boxes_to_cached(self, boxes: ArrayLike) -> NDArray[np.float64]:
        """Map boxes ``(..., 4)`` as ``(top, left, bottom, right)`` to record pixels.

        Boxes are not clipped: one that was cut away in part reaches beyond the record.
        """
        corners = np.asarray(boxes, np.float64)
        return self.points_to_cached(_corners(corners)).reshape(corners.shape)

    def boxes_to_source(self, boxes: ArrayLike) -> NDArray[np.float64]:
        """Map boxes ``(..., 4)`` as ``(top, left, bottom, right)`` back to source pixels."""
        corners = np.asarray(boxes, np.float64)
        return self.points_to_source(_corners(corners)).reshape(corners.shape)


def _corners(boxes: NDArray[np.float64]) -> NDArray[np.float64]:
    return boxes.reshape(*boxes.shape[:-1], 2, 2)


def place(
    source: Size,
    box: Size,
    resize: Resize = "contain",
    *,
    upscale: bool = False,
    multiple_of: int = 1,
) -> Placement:
    """Return where a picture of size *source* lands.

    Parameters
    ----------
    source : Size
        The picture's upright size, each edge at least 1.
    box : Size
        The recipe's size, each edge at least 1.
    resize : {"contain", "cover", "crop", "pad", "stretch", "bucket"}
        ``contain`` fits inside the box, ``cover`` fills it and cuts nothing, ``crop`` covers it
        and cuts to exactly the box, ``pad`` contains and fills up to exactly the box, ``stretch``
        takes the box's size and is the only one that distorts. ``bucket`` is ``crop`` to the box
        that :func:`closest` has chosen.
    upscale : bool
        Whether ``contain`` and ``pad`` enlarge what is smaller than the box.
    multiple_of : int
        Each edge of the record is filled up with background to a multiple of this.

    Examples
    --------
    >>> place(Size(375, 500), Size(224, 224), "crop")  # doctest: +NORMALIZE_WHITESPACE
    Placement(source=Size(height=375, width=500), scaled=Size(height=224, width=299),
              crop=Offset(top=0, left=37), valid=Size(height=224, width=224),
              padding=Offset(top=0, left=0), size=Size(height=224, width=224))
    """
    scaled = scaled_size(source, box, resize, upscale=upscale)
    valid = box if resize in ("crop", "bucket") else scaled
    filled = box if resize == "pad" else valid
    size = Size(_filled_up(filled.height, multiple_of), _filled_up(filled.width, multiple_of))
    return Placement(
        source=source,
        scaled=scaled,
        crop=_centred(valid, scaled),
        valid=valid,
        padding=_centred(valid, size),
        size=size,
    )


def _filled_up(edge: int, multiple: int) -> int:
    return -(-edge // multiple) * multiple


def _centred(inner: Size, outer: Size) -> Offset:
    return Offset((outer.height - inner.height) // 2, (outer.width - inner.width) // 2)


# Shapes for many ---------------------------------------------------------------------------------


def snug_shapes(box: Size, multiple_of: int = 1) -> Iterator[Size]:
    """Yield the largest shapes of at most as many pixels as *box* has, from wide to tall.

    Edges are multiples of *multiple_of*, and neither edge of any could be a multiple longer.

    >>> [tuple(shape) for shape in snug_shapes(Size(64, 64), 32)]
    [(32, 128), (64, 64), (128, 32)]
    """
    longest = LARGEST_EDGE // multiple_of
    pixels = box.height * box.width // multiple_of**2
    height = 1
    while height <= min(pixels, longest):
        width = min(pixels // height, longest)
        height = min(pixels // width, longest)  # the tallest that is as wide
        yield Size(height * multiple_of, width * multiple_of)
        height += 1


def closest(source: Size, shapes: Sequence[Size]) -> Size:
    """Return the one of *shapes* to which the least of *source* is cut, when it covers it.

    The part that is cut counts, and not the pixels. Of several to which equally much is cut it is
    the one of the most pixels, and of those the first.

    >>> closest(Size(480, 640), [Size(192, 340), Size(224, 292), Size(256, 256)])
    Size(height=224, width=292)
    """
    best, kept, whole = shapes[0], 0, 1
    for shape in shapes:
        # Of the source that part is kept which the smaller of these is of the larger.
        part, of = sorted((source.width * shape.height, source.height * shape.width))
        more = part * whole - kept * of
        if more > 0 or (more == 0 and shape.height * shape.width > best.height * best.width):
            best, kept, whole = shape, part, of
    return best
