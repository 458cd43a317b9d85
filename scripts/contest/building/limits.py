"""What a build cannot be faster than: decoding alone, and the part of it that nothing can spare."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

from contest.building.writer import Writer, fitted

if TYPE_CHECKING:
    from pathlib import Path

__all__ = ["Decoding", "EntropyDecoding", "ScaledDecoding"]

HEADROOM = 3  # how many times the target a scaled decode must leave along each edge


class Decoding(Writer):
    """Pillow's decoder at full size."""

    title = "limit: decoding in full (Pillow)"
    modules = ("PIL",)
    kind: ClassVar[str] = "limit"

    def build(self, paths: list[Path], size: int) -> None:
        from PIL import Image  # noqa: PLC0415

        for path in paths:
            with Image.open(path) as image:
                image.load()


class ScaledDecoding(Writer):
    """Pillow's decoder at 1/2, 1/4 or 1/8, where that leaves three times the target."""

    title = "limit: scaled decoding (Pillow, `draft`)"
    modules = ("PIL",)
    kind: ClassVar[str] = "limit"

    def build(self, paths: list[Path], size: int) -> None:
        from PIL import Image  # noqa: PLC0415

        for path in paths:
            with Image.open(path) as image:
                width, height = fitted(*image.size, size)
                image.draft(None, (HEADROOM * width, HEADROOM * height))
                image.load()


class EntropyDecoding(Writer):
    """The Huffman codes of a JPEG, of which only the blocks' means are turned to pixels."""

    title = "limit: entropy decoding (simplejpeg, grey, 1/8)"
    modules = ("simplejpeg",)
    packages = ("simplejpeg",)
    kind: ClassVar[str] = "limit"

    def build(self, paths: list[Path], size: int) -> None:
        import simplejpeg  # noqa: PLC0415

        for path in paths:
            simplejpeg.decode_jpeg(path.read_bytes(), "GRAY", min_height=1, min_width=1)
