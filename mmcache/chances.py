"""Random numbers that are the same for the same seed, on every machine and with every numpy.

Generators' methods (``permutation``, ``integers``) may change between versions of numpy; the raw
stream of a bit generator is promised not to. Everything random here is made from that.
"""

from __future__ import annotations

import secrets
from typing import TYPE_CHECKING

import numpy as np

from mmcache.errors import SettingError

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["check_seed", "entropy", "permuted", "uniform"]

_MOST = 1 << 64
_WORDS = 4  # that Philox gives for one step of its counter


def check_seed(name: str, value: object) -> int:
    """Return a seed or an epoch, a whole number below 2^64; :class:`SettingError` otherwise."""
    whole = isinstance(value, (int, np.integer)) and not isinstance(value, bool)
    if not whole or not 0 <= int(value) < _MOST:  # type: ignore[call-overload]
        raise SettingError(f"{name}={value!r} is no whole number from 0 up")
    return int(value)  # type: ignore[call-overload,no-any-return]


def entropy() -> int:
    """Return a seed that nobody chose."""
    return secrets.randbits(63)


def _stream(seed: int, epoch: int, purpose: int) -> np.random.Philox:
    """Return the bits that belong to a seed, an epoch and a purpose; 0 is the order's."""
    # As a list, numpy would take large seeds for floats.
    key, counter = (np.array(words, np.uint64) for words in ([seed, epoch], [0, 0, 0, purpose]))
    return np.random.Philox(key=key, counter=counter)


def permuted(length: int, seed: int, epoch: int = 0, purpose: int = 0) -> NDArray[np.int64]:
    """Return the numbers below *length* in the order of this seed and epoch: int64 (length,)."""
    raw = _stream(seed, epoch, purpose).random_raw(length)
    # Stable, so that two equal numbers, one in 2^64, make no difference between machines.
    return np.argsort(raw, kind="stable").astype(np.int64, copy=False)


def uniform(
    first: int, count: int, each: int, seed: int, *, epoch: int = 0, purpose: int = 1
) -> NDArray[np.float64]:
    """Return *each* numbers from 0 up to 1 for the places *first* to ``first + count - 1``.

    A place has the same numbers whatever is asked for beside it: float64 (count, each).
    """
    if not each:
        return np.empty((count, 0))
    steps = -(-each // _WORDS)
    bits = _stream(seed, epoch, purpose)
    bits.advance(first * steps)
    raw = bits.random_raw(count * steps * _WORDS).reshape(count, steps * _WORDS)[:, :each]
    drawn: NDArray[np.float64] = (raw >> np.uint64(11)).astype(np.float64) * 2.0**-53
    return drawn
