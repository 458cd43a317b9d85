"""The door from encoded bytes to pixels: Pillow, and nothing of files or caches."""

from mmcache.images.decoding import Changed, apply, decode
from mmcache.images.headers import Header, decode_bytes, read_header, unreadable

__all__ = ["Changed", "Header", "apply", "decode", "decode_bytes", "read_header", "unreadable"]
