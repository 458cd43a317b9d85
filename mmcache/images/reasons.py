"""Why a picture cannot be read, in words for people."""

from __future__ import annotations

from PIL import Image, UnidentifiedImageError

__all__ = [
    "ChangedError",
    "DamagedError",
    "MissingPluginError",
    "RefusedError",
    "TruncatedError",
    "UnknownFormatError",
    "unreadable",
]


class UnknownFormatError(ValueError):
    """Content that is of none of the formats that are opened."""

    def __str__(self) -> str:
        return "not a picture of a format that is read here"


class MissingPluginError(ValueError):
    """A format for which a plugin must be installed, with its name."""

    def __str__(self) -> str:
        return f'{self.args[0]} is read with a plugin: pip install "mmcache[formats]"'


class TruncatedError(ValueError):
    """Pixels that end early."""

    def __str__(self) -> str:
        return "the file ends before its picture does"


class DamagedError(ValueError):
    """A picture that is not what its header says; the message is the reason."""


class ChangedError(ValueError):
    """A picture that is not what its header said when the cache was planned."""


class RefusedError(ValueError):
    """A picture that may be whole, and is not what was asked for; the message is the reason."""


_OURS = (
    UnknownFormatError, MissingPluginError, TruncatedError, DamagedError, ChangedError,
    RefusedError,
)  # fmt: skip

_MEANINGS: tuple[tuple[tuple[type[BaseException], ...], str], ...] = (
    ((UnidentifiedImageError,), str(UnknownFormatError())),
    (
        (Image.DecompressionBombError, Image.DecompressionBombWarning),
        "more pixels than Pillow decodes safely in this format",
    ),
    ((MemoryError,), "decoding it needs more memory than there is"),
)

# What libraries say, and what it means; the first that is found in what was said.
_TRANSLATED = {
    "truncated": "the file ends before its picture does",
    "not enough image data": "the file ends before its picture does",
    "broken data stream": "its data is damaged",
    "decoder error": "its data is damaged",
    "unrecognized data stream": "its data is damaged",
    "broken png": "its data is damaged",
    "decompressed data too large": "it holds more text or metadata than is safe to unpack",
    "too much memory used in text chunks": "it holds more text or metadata than is safe to unpack",
}


def unreadable(error: BaseException) -> str:
    """Return why a picture cannot be read, in one line."""
    if isinstance(error, _OURS):
        return str(error)
    for kinds, meaning in _MEANINGS:
        if isinstance(error, kinds):
            return meaning
    if isinstance(error, OSError) and error.strerror:
        return error.strerror
    said = " ".join(str(error).split())
    for words, meaning in _TRANSLATED.items():
        if words in said.lower():
            return meaning
    return f"cannot be decoded: {said or type(error).__name__}"
