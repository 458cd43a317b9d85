"""What settings may be: the check that many rooms make."""

from __future__ import annotations

import operator

from mmcache.errors import SettingError

__all__ = ["whole_number"]


def whole_number(name: str, value: object, least: int) -> int:
    """Return a setting that counts something, or raise :class:`SettingError`.

    >>> whole_number("batch_size", 64, 1)
    64
    """
    try:
        number = operator.index(value)  # type: ignore[arg-type]  # what is none is refused
    except TypeError:
        number = least - 1
    if isinstance(value, bool) or number < least:
        raise SettingError(f"{name}={value!r} is no whole number from {least} up")
    return number
