"""What a build may take and put up with: pixels of a picture, memory of the whole, failures."""

from __future__ import annotations

import re
from dataclasses import dataclass

import numpy as np

from mmcache.errors import SettingError
from mmcache.facts import human_bytes
from mmcache.memory import machine_memory

__all__ = ["MAX_PIXELS", "Limits", "limits_of"]

MAX_PIXELS = 500_000_000
"""The most pixels that a picture may have, unless another limit is asked for: a satellite scene of
20,000 x 20,000 has 400 million."""

MAX_MEMORY = 4_000_000_000
"""Bytes that a build takes at most by default, or half of the memory that there is, if less."""

OWN_MEMORY = 128_000_000
"""Bytes of it that are not for decoding: Python, libraries, the plan's beginnings."""

_LEAST_MEMORY = 2 * OWN_MEMORY
_UNITS = {"": 1, "k": 1_000, "m": 1_000**2, "g": 1_000**3, "t": 1_000**4}
_BINARY = {"ki": 1 << 10, "mi": 1 << 20, "gi": 1 << 30, "ti": 1 << 40}
_BYTES = re.compile(r"\s*(\d+(?:\.\d+)?)\s*([kmgt]?i?)b?(?:ytes)?\s*", re.IGNORECASE)


@dataclass(frozen=True)
class Limits:
    """Limits of one build.

    Attributes
    ----------
    pixels : int
        Of a picture, as it is stored.
    memory : int
        Bytes of private memory that the build takes in all.
    failures : int or None
        Pictures that may fail before the build gives up; None for any number.
    """

    pixels: int
    memory: int
    failures: int | None

    @property
    def decoding(self) -> int:
        """Bytes that all decodes together may take at any time."""
        return self.memory - OWN_MEMORY


def limits_of(
    max_pixels: int = MAX_PIXELS,
    max_memory: int | str | None = None,
    max_failures: int | None = None,
) -> Limits:
    """Return the limits that are meant, or raise :class:`SettingError`.

    >>> limits_of(max_memory="1.5 GB").memory
    1500000000
    """
    if not _is_whole(max_pixels) or max_pixels < 1:
        raise SettingError(f"max_pixels={max_pixels!r} is not a whole number from 1 up")
    if max_failures is not None and (not _is_whole(max_failures) or max_failures < 0):
        raise SettingError(f"max_failures={max_failures!r} is not a whole number from 0 up")
    memory = _default_memory() if max_memory is None else _bytes(max_memory)
    if memory < _LEAST_MEMORY:
        raise SettingError(
            f"max_memory={max_memory!r} is less than the {human_bytes(_LEAST_MEMORY)} that a build"
            " needs at least"
        )
    return Limits(int(max_pixels), memory, max_failures)


def _is_whole(value: object) -> bool:
    return isinstance(value, (int, np.integer)) and not isinstance(value, bool)


def _bytes(value: int | str) -> int:
    """Read ``1500000000``, ``"1.5 GB"`` or ``"2GiB"``."""
    if _is_whole(value):
        return int(value)
    match = _BYTES.fullmatch(value) if isinstance(value, str) else None
    if match is None or (unit := match[2].lower()) == "i":
        raise SettingError(
            f"max_memory={value!r} is neither a number of bytes nor a size as '1.5 GB'"
        )
    return int(float(match[1]) * (_UNITS | _BINARY)[unit])


def _default_memory() -> int:
    return max(_LEAST_MEMORY, min(MAX_MEMORY, machine_memory() // 2))
