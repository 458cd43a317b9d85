"""Train and validation: a cache divided by its keys, so that it stays divided when it grows."""

from __future__ import annotations

import functools
import hashlib
import math
from collections.abc import Callable, Iterable, Sequence
from fractions import Fraction
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from mmcache.chances import check_seed
from mmcache.errors import SettingError
from mmcache.facts import counted
from mmcache.records import to_bytes

if TYPE_CHECKING:
    from numpy.typing import ArrayLike, NDArray

    from mmcache.cache import Cache

__all__ = ["split"]

_HASH_BYTES = 8
_HASHES = 1 << 64  # that there are
_SLACK = Fraction(1, 10**9)  # three times 1/3 is not quite 1


def split(
    cache: Cache,
    fractions: float | Sequence[float],
    *,
    seed: int = 0,
    by: Literal["label"] | ArrayLike | None = "label",
    together: ArrayLike | Callable[[str], object] | None = None,
) -> tuple[Cache, ...]:
    """Divide a cache into narrower ones, as train and validation; nothing is read or copied.

    ``train, validation = mmcache.split(cache, 0.9)``. Which side a picture is on follows from the
    hash of its key and the seed, not from its row: the same keys are divided alike in whatever
    order they are, in a cache that was moved, converted or built anew.

    Parameters
    ----------
    cache : Cache
        What to divide; each part keeps its order.
    fractions : float or sequence of float
        A number means a part of that size and the rest. Several, as ``(0.8, 0.1, 0.1)``, mean as
        many parts; where they add up to less than 1, some pictures are in none.
    seed : int
        Another seed, another division.
    by : "label", array (N,) or None
        Within each class, the pictures stand in the order of their hashes and are cut where the
        fractions say: so each class is divided exactly, to within one picture, and a picture that
        comes to a class moves at most one other across each border. Pictures without a label are
        a class of their own, and a cache without classes is one class. An array, of integers or
        strings, has the groups that take the place of the classes. ``None``: each picture by its
        own hash alone. It never changes sides, whatever comes or goes, and the shares are right on
        average. That suits classes of a few pictures too, which whole pictures cannot divide.
    together : array (N,) or callable, optional
        Groups that must not be torn apart, as all pictures of a patient or of a video: integers or
        strings, or a function that returns the group of a key, as
        ``lambda key: key.split("_")[0]``. What is hashed is then the group's name; a group goes
        where the picture in its middle goes, so a border is off by at most half of the group that
        lies on it. A group of several classes counts as the one that most of its pictures are of.

    Returns
    -------
    tuple of Cache
        One for each part. A picture that a cache holds twice is on one side with itself.

    Raises
    ------
    SettingError
        (a ``ValueError``) where fractions make no sense, groups are not one for each picture, or a
        part would be empty.
    """
    borders = _borders(fractions)
    units = _hashes(_names(cache, together), check_seed("seed", seed))
    if by is None:
        sides = _sides_by_hash(units, borders)
    else:
        sides = _sides_by_rank(units, _strata(cache, by), borders)
    parts = tuple(cache[np.flatnonzero(sides == part)] for part in range(len(borders)))
    _refuse_empty(parts, len(cache), fractions, by)
    return parts


def _borders(fractions: Any) -> list[Fraction]:
    """Return where each part ends, from 0 to 1."""
    lone = not isinstance(fractions, Iterable)
    try:
        # As they are written, so that 0.9 of 10 pictures is 9 and 0.57 of 50 is 28.5, which
        # binary numbers would miss by a little.
        shares = [Fraction(repr(float(one))) for one in ([fractions] if lone else fractions)]
    except (TypeError, ValueError) as error:
        raise SettingError(f"fractions={fractions!r}: say 0.9, or as (0.8, 0.1, 0.1)") from error
    borders = [sum(shares[: end + 1], Fraction()) for end in range(len(shares))]
    if not shares or min(shares) <= 0 or borders[-1] > 1 + _SLACK:
        raise SettingError(
            f"fractions={fractions!r} are no shares of a whole: each is more than 0, and together"
            " they are at most 1"
        )
    if lone:
        borders.append(Fraction(1))
    if abs(borders[-1] - 1) <= _SLACK:
        borders[-1] = Fraction(1)
    return borders


# What is hashed -----------------------------------------------------------------------------------


def _names(cache: Cache, together: Any) -> Iterable[bytes | memoryview]:
    """Return the name of each picture's unit: its key, or its group."""
    if together is None:
        return cache.keys.views()
    if callable(together):
        return (_name(together(key), key) for key in cache.keys)
    return map(to_bytes, map(str, _groups("together", together, len(cache))))


def _name(group: object, key: str) -> bytes:
    if isinstance(group, (str, bytes)):
        return to_bytes(group)
    if isinstance(group, (int, np.integer)) and not isinstance(group, bool):
        return str(int(group)).encode()
    raise SettingError(
        f"together gave {group!r} for {key!r}, and the name of a group is text or a whole number"
    )


def _groups(name: str, groups: Any, rows: int) -> NDArray[Any]:
    """Return an array of integers or text, one for each row."""
    try:
        array = np.asarray(groups)
    except ValueError as error:  # a ragged list
        raise SettingError(f"{name} is no array of groups, one for each picture") from error
    if array.shape != (rows,) or (rows and array.dtype.kind not in "iuUT"):
        raise SettingError(
            f"{name} has shape {array.shape} and dtype {array.dtype}: it needs an integer or a"
            f" string for each of the {counted(rows, 'picture')}"
        )
    return array


def _hashes(names: Iterable[bytes | memoryview], seed: int) -> NDArray[np.uint64]:
    """Return the hash of each name: uint64, the same on every machine."""
    hashed = functools.partial(
        hashlib.blake2b, digest_size=_HASH_BYTES, salt=seed.to_bytes(8, "little")
    )
    digests = bytearray()
    for name in names:
        digests += hashed(name).digest()
    return np.frombuffer(digests, "<u8").astype(np.uint64, copy=False)


# Who goes where -----------------------------------------------------------------------------------


def _sides_by_hash(hashes: NDArray[np.uint64], borders: list[Fraction]) -> NDArray[np.intp]:
    """Return the part of each picture, by its own hash alone; the number of parts for none."""
    inner = [end for border in borders if (end := round(border * _HASHES)) < _HASHES]
    return np.searchsorted(np.array(inner, np.uint64), hashes, side="right")


def _strata(cache: Cache, by: Any) -> NDArray[Any]:
    """Return for each picture what it is to be divided with."""
    if isinstance(by, str):
        if by != "label":
            raise SettingError(f"by={by!r}: say 'label', None, or an array of groups")
        labels = cache.labels
        return np.zeros(len(cache), np.int64) if labels is None else labels
    return _groups("by", by, len(cache))


def _sides_by_rank(
    hashes: NDArray[np.uint64], strata: NDArray[Any], borders: list[Fraction]
) -> NDArray[np.intp]:
    """Return the part of each picture; the number of parts for none.

    Pictures of one hash are a unit. In each stratum the units lie one after the other in the order
    of their hashes, each as long as it has pictures, and go where their middles are.
    """
    different, stratum_of = np.unique(strata, return_inverse=True)
    units, unit_of, sizes = np.unique(hashes, return_inverse=True, return_counts=True)
    stratum = _prevailing(unit_of, stratum_of, len(units), len(different))
    lengths = np.bincount(stratum, sizes, len(different)).astype(np.int64)
    begins = np.cumsum(lengths) - lengths
    order = np.argsort(stratum, kind="stable")  # in which all of them lie on one line
    twice_middle = np.empty(len(units), np.int64)
    twice_middle[order] = 2 * (np.cumsum(sizes[order]) - begins[stratum[order]]) - sizes[order]
    side = np.zeros(len(units), np.intp)
    for border in borders:
        side += twice_middle >= _twice(border, lengths)[stratum]
    return side[unit_of]


def _prevailing(
    unit_of: NDArray[np.intp], stratum_of: NDArray[np.intp], units: int, strata: int
) -> NDArray[np.intp]:
    """Return the stratum that most pictures of each unit are of; of equals, the first."""
    pairs, counts = np.unique(unit_of * strata + stratum_of, return_counts=True)
    found = np.empty(units, np.intp)
    # Of each unit's strata, the one that is written last stays: the most frequent, then the first.
    best = np.lexsort((-pairs, counts))
    found[pairs[best] // strata] = pairs[best] % strata
    return found


def _twice(border: Fraction, lengths: NDArray[np.int64]) -> NDArray[np.int64]:
    """Return twice *border* of each length, rounded up, exactly; there are few lengths."""
    different, inverse = np.unique(lengths, return_inverse=True)
    ends = np.array([math.ceil(2 * border * length) for length in different.tolist()], np.int64)
    return ends[inverse]


def _refuse_empty(parts: tuple[Cache, ...], pictures: int, fractions: object, by: object) -> None:
    for number, part in enumerate(parts):
        if not len(part):
            raise SettingError(
                f"part {number + 1} of fractions={fractions!r} would be empty, of"
                f" {counted(pictures, 'picture')}: take larger fractions, or "
                + ("another seed" if by is None else "by=None, which divides the smallest classes")
            )
