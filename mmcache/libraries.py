"""The libraries on which pixels depend, and their versions here."""

from __future__ import annotations

__all__ = ["libraries"]


def libraries() -> dict[str, str]:
    """Return the versions on which pixels depend, by name: Pillow's, and those of its decoders."""
    # Imported here so that importing this module does not load Pillow.
    import PIL  # noqa: PLC0415
    from PIL import features  # noqa: PLC0415

    versions = {"pillow": PIL.__version__}
    for part in ("libjpeg_turbo", "zlib", "webp", "libtiff", "avif"):
        version = features.version(part)
        if version:
            versions[part] = str(version)
    return versions
