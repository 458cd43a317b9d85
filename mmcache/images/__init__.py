"""The door from encoded bytes to pixels: Pillow, and nothing of files or caches."""

from mmcache.images.decoding import (
    Decoded,
    apply,
    check_pixels,
    decode,
    decode_flagged,
)
from mmcache.images.headers import COEFFICIENT_BYTES, Header, read_header, scaled_by
from mmcache.images.memory import decode_bytes, returned_memory
from mmcache.images.reasons import ChangedError, RefusedError, unreadable

__all__ = [
    "COEFFICIENT_BYTES",
    "ChangedError",
    "Decoded",
    "Header",
    "RefusedError",
    "apply",
    "check_pixels",
    "decode",
    "decode_bytes",
    "decode_flagged",
    "read_header",
    "returned_memory",
    "scaled_by",
    "unreadable",
]
