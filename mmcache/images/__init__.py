"""The door from encoded bytes to pixels: Pillow, and nothing of files or caches."""

from mmcache.images.decoding import ChangedError, apply, decode
from mmcache.images.headers import Header, decode_bytes, read_header, unreadable

__all__ = ["ChangedError", "Header", "apply", "decode", "decode_bytes", "read_header", "unreadable"]
