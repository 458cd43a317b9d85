"""Pictures of every kind that there is: each format, depth, layout and trap, small and painted."""

from __future__ import annotations

import functools
import importlib.util
import io
import struct
import zlib
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from PIL import Image, ImageChops
from PIL.ExifTags import Base

from mmcache.geometry import Size
from mmcache.testing.painting import paint

if TYPE_CHECKING:
    from collections.abc import Iterator

    from numpy.typing import NDArray

__all__ = ["Odd", "icc_profile", "ink_profile", "odd_pictures"]

_SIZE = Size(37, 50)
_ADOBE_RGB = ((0.60974, 0.31111, 0.01947), (0.20528, 0.62567, 0.06087), (0.14919, 0.06322, 0.74457))
_WHITE = (0.9642, 1.0, 0.8249)  # D50, in which profiles are told
_CLEAR = 7  # the number that is clear in pictures with one clear colour


class Odd(NamedTuple):
    """A file's name and bytes."""

    name: str
    data: bytes


@functools.cache
def odd_pictures() -> tuple[Odd, ...]:
    """Return a picture of every kind that can be made here; a plugin's, where it is installed."""
    makers = (
        _jpegs, _pngs, _gifs, _webps, _tiffs, _bitmaps, _netpbm, _others, _turned, _plugins,
    )  # fmt: skip
    made = tuple(odd for maker in makers for odd in maker())
    assert len({odd.name for odd in made}) == len(made)
    return made


def _painted(mode: str = "RGB", seed: int = 3, size: Size = _SIZE) -> Image.Image:
    image = paint(size, seed, "L" if mode == "LA" else "RGB")
    if mode in ("LA", "RGBA"):
        ramp = np.tile(np.linspace(0, 255, size.width).astype(np.uint8), (size.height, 1))
        image.putalpha(Image.fromarray(ramp))
        return image
    return image if mode == "RGB" else image.convert(mode)


def _wide(dtype: str = "<u2") -> NDArray[Any]:
    """Return grey values over the whole range of 16 bits."""
    values = np.asarray(_painted("L")).astype(np.int64) * 257
    values += np.arange(values.size).reshape(values.shape) % 200
    wide: NDArray[Any] = np.clip(values, 0, 65_535).astype(dtype)
    return wide


def _saved(image: Image.Image, form: str, **options: Any) -> bytes:
    file = io.BytesIO()
    image.save(file, form, **options)
    return file.getvalue()


def _exif(orientation: int) -> Image.Exif:
    exif = Image.Exif()
    exif[Base.Orientation] = orientation
    return exif


# Formats -----------------------------------------------------------------------------------------


def _jpegs() -> Iterator[Odd]:
    colour = _painted()
    yield Odd("colour.jpg", _saved(colour, "JPEG", quality=90))
    yield Odd("grey.jpg", _saved(_painted("L"), "JPEG"))
    yield Odd("progressive.jpg", _saved(colour, "JPEG", progressive=True))
    yield Odd("444.jpg", _saved(colour, "JPEG", subsampling=0))
    yield Odd("422.jpg", _saved(colour, "JPEG", subsampling=1))
    yield Odd("restarts.jpg", _saved(colour, "JPEG", restart_marker_blocks=1))
    yield Odd("adobe-rgb.jpg", _saved(colour, "JPEG", icc_profile=icc_profile()))
    yield Odd("grey-profile.jpg", _saved(_painted("L"), "JPEG", icc_profile=icc_profile("GRAY")))
    yield Odd("wrong-profile.jpg", _saved(colour, "JPEG", icc_profile=icc_profile("GRAY")))
    yield Odd("junk-profile.jpg", _saved(colour, "JPEG", icc_profile=b"no profile at all" * 9))
    ink = _saved(_painted("CMYK"), "JPEG", quality=95)
    yield Odd("cmyk-adobe.jpg", ink)
    plain = _saved(ImageChops.invert(_painted("CMYK")), "JPEG", quality=95)
    yield Odd("cmyk-plain.jpg", without_adobe(plain))
    yield Odd("ycck.jpg", _ycck())
    yield Odd("cmyk-profile.jpg", _saved(_painted("CMYK"), "JPEG", icc_profile=ink_profile()))
    several = io.BytesIO()
    colour.save(several, "MPO", save_all=True, append_images=[_painted(seed=4)])
    yield Odd("two.mpo", several.getvalue())
    yield Odd("comment.jpg", _saved(colour, "JPEG", comment=b"\xff\xd9 not the end"))
    yield Odd("png-in-name-only.jpg", _saved(colour, "PNG"))
    yield Odd("UPPER.JPG", _saved(colour, "JPEG"))


def without_adobe(jpeg: bytes) -> bytes:
    """Return a JPEG without its Adobe marker: ink is then stored as it is, not inverted."""
    start = jpeg.index(b"\xff\xee")
    return jpeg[:start] + jpeg[start + 2 + struct.unpack(">H", jpeg[start + 2 : start + 4])[0] :]


def _ycck() -> bytes:
    """Return ink as luma, two chromas and black, marked so by Adobe's transform 2."""
    ink = np.asarray(_painted("CMYK"))
    chroma = np.asarray(Image.fromarray(ink[..., :3]).convert("YCbCr"))
    stored = np.dstack([255 - chroma, ink[..., 3]])  # Pillow inverts what it writes
    image = Image.frombytes("CMYK", (_SIZE.width, _SIZE.height), stored.tobytes())
    jpeg = _saved(image, "JPEG", quality=95, subsampling=0)
    transform = jpeg.index(b"Adobe") + 11
    return jpeg[:transform] + b"\x02" + jpeg[transform + 1 :]


def _chunk(name: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))


def png(
    samples: NDArray[Any], depth: int, kind: int, *chunks: bytes, interlaced: bool = False
) -> bytes:
    """Return a PNG written by hand; see the PNG specification (ISO/IEC 15948).

    Parameters
    ----------
    samples : (height, width) or (height, width, channels) array
    depth : int
        Bits of a sample: 1, 2, 4, 8 or 16.
    kind : int
        Colour type: 0 grey, 2 colour, 3 palette, 4 grey with alpha, 6 colour with alpha.
    *chunks : bytes
        Chunks between the header and the pixels.
    interlaced : bool
        Whether rows come in Adam7's seven passes.
    """
    height, width = samples.shape[:2]
    flat = samples.reshape(height, width, -1)
    passes = [(0, 0, 1, 1)]
    if interlaced:
        passes = [
            (0, 0, 8, 8), (0, 4, 8, 8), (4, 0, 8, 4), (0, 2, 4, 4), (2, 0, 4, 2), (0, 1, 2, 2),
            (1, 0, 2, 1),
        ]  # fmt: skip
    raw = b"".join(
        b"\0" + _packed(row, depth)
        for top, left, down, across in passes
        for row in flat[top::down, left::across]
        if row.size
    )
    header = struct.pack(">IIBBBBB", width, height, depth, kind, 0, 0, interlaced)
    return (
        b"\x89PNG\r\n\x1a\n"
        + _chunk(b"IHDR", header)
        + b"".join(chunks)
        + _chunk(b"IDAT", zlib.compress(raw))
        + _chunk(b"IEND", b"")
    )


def _packed(row: NDArray[Any], depth: int) -> bytes:
    if depth == 16:  # noqa: PLR2004  # bits
        return row.astype(">u2").tobytes()
    bits = np.unpackbits(row.astype(np.uint8).reshape(-1, 1), axis=1)[:, 8 - depth :]
    return np.packbits(bits.reshape(-1)).tobytes()


def _pngs() -> Iterator[Odd]:
    grey, colour, wide = np.asarray(_painted("L")), np.asarray(_painted()), _wide()
    for depth in (1, 2, 4, 8):
        stored = grey >> (8 - depth)
        key = _chunk(b"tRNS", struct.pack(">H", int(stored[5, 5])))
        yield Odd(f"grey{depth}.png", png(stored, depth, 0))
        yield Odd(f"grey{depth}-key.png", png(stored, depth, 0, key))
        yield Odd(f"grey{depth}-interlaced.png", png(stored, depth, 0, interlaced=True))
        palette = np.asarray(_painted().resize((1 << depth, 1))).tobytes()
        entries = _chunk(b"PLTE", palette)
        clear = _chunk(b"tRNS", bytes([255, 0]))
        half = _chunk(b"tRNS", bytes(range(1 << depth)) if depth > 1 else b"\x40\xff")
        yield Odd(f"palette{depth}.png", png(stored, depth, 3, entries))
        yield Odd(f"palette{depth}-key.png", png(stored, depth, 3, entries, clear))
        yield Odd(f"palette{depth}-alpha.png", png(stored, depth, 3, entries, half))
    yield Odd("palette-missing.png", png(grey, 8, 3))
    key = _chunk(b"tRNS", struct.pack(">H", int(wide[5, 5])))
    yield Odd("grey16.png", png(wide, 16, 0))
    yield Odd("grey16-key.png", png(wide, 16, 0, key))
    yield Odd("colour16.png", png(np.dstack([wide] * 3), 16, 2))
    key = _chunk(b"tRNS", struct.pack(">3H", *[int(wide[5, 5])] * 3))
    yield Odd("colour16-key.png", png(np.dstack([wide] * 3), 16, 2, key))
    yield Odd("colour16-alpha.png", png(np.dstack([wide] * 4), 16, 6))
    key = _chunk(b"tRNS", struct.pack(">3H", *colour[5, 5].tolist()))
    yield Odd("colour-key.png", png(colour, 8, 2, key))
    yield Odd("colour-interlaced.png", png(colour, 8, 2, interlaced=True))
    yield Odd("alpha.png", _saved(_painted("RGBA"), "PNG"))
    yield Odd("grey-alpha.png", _saved(_painted("LA"), "PNG"))
    yield Odd("alpha-profile.png", _saved(_painted("RGBA"), "PNG", icc_profile=icc_profile()))
    yield Odd("animated.png", _animated("PNG"))
    text = _chunk(b"zTXt", b"bomb\0\0" + zlib.compress(bytes(4 << 20)))
    yield Odd("text-bomb.png", png(grey, 8, 0, text))


def _animated(form: str, **options: Any) -> bytes:
    frames = [_painted(seed=seed) for seed in (4, 5)]
    return _saved(_painted(), form, save_all=True, append_images=frames, **options)


def _gifs() -> Iterator[Odd]:
    yield Odd("colour.gif", _saved(_painted().quantize(64), "GIF"))
    yield Odd("grey.gif", _saved(_painted("L"), "GIF", interlace=True))
    yield Odd("clear.gif", _saved(_painted().quantize(64), "GIF", transparency=_CLEAR))
    yield Odd("animated.gif", _animated("GIF", duration=50))


def _webps() -> Iterator[Odd]:
    yield Odd("colour.webp", _saved(_painted(), "WEBP"))
    yield Odd("lossless.webp", _saved(_painted(), "WEBP", lossless=True))
    yield Odd("alpha.webp", _saved(_painted("RGBA"), "WEBP", lossless=True))
    yield Odd("animated.webp", _animated("WEBP"))
    yield Odd("profile.webp", _saved(_painted(), "WEBP", icc_profile=icc_profile()))


def _tiffs() -> Iterator[Odd]:
    for mode in ("1", "L", "LA", "P", "RGB", "RGBA", "CMYK", "LAB", "YCbCr"):
        yield Odd(f"{mode.lower()}.tif", _saved(_painted(mode), "TIFF"))
    for compression in ("tiff_lzw", "tiff_adobe_deflate", "jpeg", "packbits"):
        yield Odd(f"{compression}.tif", _saved(_painted(), "TIFF", compression=compression))
    yield Odd("group4.tif", _saved(_painted("1"), "TIFF", compression="group4"))
    yield Odd("grey16.tif", _saved(Image.fromarray(_wide()), "TIFF"))
    yield Odd("grey16-big-endian.tif", _saved(Image.fromarray(_wide(">u2")), "TIFF"))
    for name, values in numbers().items():
        yield Odd(f"{name}.tif", _saved(Image.fromarray(values), "TIFF"))
    yield Odd("cmyk-profile.tif", _saved(_painted("CMYK"), "TIFF", icc_profile=ink_profile()))
    yield Odd("big.tif", _saved(_painted(), "TIFF", big_tiff=True))
    yield Odd("pages.tif", _animated("TIFF"))


def numbers() -> dict[str, NDArray[Any]]:
    """Return grey pictures whose numbers are no bytes, by name."""
    share = np.asarray(_painted("L")) / np.float32(255)
    whole = _wide("<i4")
    return {
        "float-to-1": share,
        "float-to-255": share * np.float32(255),
        "float-to-65535": share * np.float32(65_535),
        "float-any": share * np.float32(9_000) - np.float32(3_000),
        "float-nan": np.where(share > 0.7, np.float32(np.nan), share),  # noqa: PLR2004  # the light
        "float-flat": np.full_like(share, 70_000),
        "int32-to-65535": whole,
        "int32-any": whole * 1_000 - 5_000_000,
    }


def _bitmaps() -> Iterator[Odd]:
    for mode in ("1", "L", "P", "RGB", "RGBA"):
        yield Odd(f"{mode.lower()}.bmp", _saved(_painted(mode), "BMP"))
    yield Odd("rle.bmp", _run_lengths())
    yield Odd("colour.dib", _saved(_painted(), "DIB"))
    for form in ("bmp", "png"):
        icon = _painted("RGBA", size=Size(32, 32))
        yield Odd(
            f"{form}.ico", _saved(icon, "ICO", bitmap_format=form, sizes=[(16, 16), (32, 32)])
        )
    inner = _saved(_painted("RGBA", size=Size(64, 48)), "PNG")
    entry = struct.pack("<BBBBHHII", 16, 16, 0, 0, 1, 32, len(inner), 22)
    yield Odd("lies.ico", struct.pack("<HHH", 0, 1, 1) + entry + inner)


def _run_lengths() -> bytes:
    """Return a BMP of 8 bits whose rows are runs of one number; Microsoft's BI_RLE8."""
    height, width = 6, 9
    rows = b"".join(bytes([width, 20 * row, 0, 0]) for row in range(height)) + b"\0\1"
    palette = b"".join(bytes([grey, grey, 255 - grey, 0]) for grey in range(256))
    start = 14 + 40 + len(palette)
    header = struct.pack("<IiiHHIIiiII", 40, width, height, 1, 8, 1, len(rows), 0, 0, 256, 0)
    return b"BM" + struct.pack("<IHHI", start + len(rows), 0, 0, start) + header + palette + rows


def _netpbm() -> Iterator[Odd]:
    grey, colour = np.asarray(_painted("L")), np.asarray(_painted())
    height, width = grey.shape
    size = b"%d %d\n" % (width, height)
    yield Odd("bits.pbm", _saved(_painted("1"), "PPM"))
    yield Odd("grey.pgm", _saved(_painted("L"), "PPM"))
    yield Odd("colour.ppm", _saved(_painted(), "PPM"))
    for name, magic, values in (("bits", 1, grey >> 7), ("grey", 2, grey), ("colour", 3, colour)):
        depth = b"" if magic == 1 else b"255\n"
        text = " ".join(map(str, values.reshape(-1).tolist())).encode()
        yield Odd(f"{name}-text.pnm", b"P%d\n# of text\n" % magic + size + depth + text + b"\n")
    yield Odd("grey16.pgm", b"P5\n" + size + b"65535\n" + _wide(">u2").tobytes())
    yield Odd("grey12.pgm", b"P5\n" + size + b"4095\n" + (_wide() >> 4).astype(">u2").tobytes())
    yield Odd("float.pfm", b"Pf\n" + size + b"-1.0\n" + numbers()["float-to-1"][::-1].tobytes())


def _others() -> Iterator[Odd]:
    for mode in ("L", "RGB", "RGBA"):
        yield Odd(f"{mode.lower()}.jp2", _saved(_painted(mode), "JPEG2000"))
        yield Odd(f"{mode.lower()}.tga", _saved(_painted(mode), "TGA"))
        yield Odd(f"{mode.lower()}.sgi", _saved(_painted(mode), "SGI"))
    yield Odd("grey16.jp2", _saved(Image.fromarray(_wide()), "JPEG2000"))
    yield Odd("stream.j2k", _saved(_painted(), "JPEG2000", no_jp2=True))
    yield Odd("packed.tga", _saved(_painted(), "TGA", compression="tga_rle"))
    for mode in ("1", "L", "P", "RGB"):
        yield Odd(f"{mode.lower()}.pcx", _saved(_painted(mode), "PCX"))
    for mode in ("RGB", "RGBA"):
        yield Odd(f"{mode.lower()}.qoi", _saved(_painted(mode), "QOI"))
        yield Odd(f"{mode.lower()}.avif", _saved(_painted(mode), "AVIF"))
    for name, kind, values in (
        ("grey", 1, np.asarray(_painted("L"))[..., np.newaxis]),
        ("colour", 3, np.asarray(_painted())),
        ("ink", 4, 255 - np.asarray(_painted("CMYK"))),
    ):
        yield Odd(f"{name}.psd", _photoshop(values, kind))


def _photoshop(values: NDArray[Any], kind: int) -> bytes:
    """Return a PSD without layers, its planes as they are; see Adobe's specification."""
    height, width, channels = values.shape
    header = b"8BPS" + struct.pack(">H6xHIIHH", 1, channels, height, width, 8, kind)
    return header + bytes(12) + b"\0\0" + values.transpose(2, 0, 1).tobytes()


def _turned() -> Iterator[Odd]:
    for orientation in range(2, 9):
        exif = _exif(orientation)
        image = _painted(seed=orientation)
        for ending, form in (("jpg", "JPEG"), ("png", "PNG"), ("webp", "WEBP"), ("tif", "TIFF")):
            yield Odd(f"turned{orientation}.{ending}", _saved(image, form, exif=exif))
    plain = _saved(_painted(), "PNG")
    late = _chunk(b"eXIf", _exif(6).tobytes()[6:])
    yield Odd("turned-late.png", plain[:-12] + late + plain[-12:])
    text = _chunk(b"tEXt", b"date\0today")
    yield Odd("text-late.png", plain[:-12] + text + plain[-12:])


def _plugins() -> Iterator[Odd]:
    if importlib.util.find_spec("pillow_heif"):
        import pillow_heif  # noqa: PLC0415  # an extra

        for name, mode in (("colour", "RGB"), ("alpha", "RGBA")):
            file = io.BytesIO()
            pillow_heif.from_pillow(_painted(mode)).save(file, quality=90)
            yield Odd(f"{name}.heic", file.getvalue())
    if importlib.util.find_spec("pillow_jxl"):
        import pillow_jxl  # noqa: F401, PLC0415  # the same

        for mode in ("L", "RGB", "RGBA"):
            yield Odd(f"{mode.lower()}.jxl", _saved(_painted(mode), "JXL", lossless=True))


# Profiles ----------------------------------------------------------------------------------------


def icc_profile(space: str = "RGB ", gamma: float = 2.2) -> bytes:
    """Return a small ICC profile, version 2: colour as of Adobe RGB, or grey.

    See the specification ICC.1:2001-04. *space* is ``"RGB "`` or ``"GRAY"``.
    """
    curve = b"curv" + struct.pack(">4xIH", 1, round(gamma * 256)) + b"\0\0"
    tags = {b"wtpt": _xyz(_WHITE)}
    if space == "GRAY":
        tags[b"kTRC"] = curve
    else:
        for name, primary in zip((b"r", b"g", b"b"), _ADOBE_RGB, strict=True):
            tags[name + b"XYZ"] = _xyz(primary)
            tags[name + b"TRC"] = curve
    return _profile(space, b"XYZ ", b"mntr", tags)


def ink_profile() -> bytes:
    """Return an ICC profile of ink: a table of the sixteen corners of CMYK, in Lab."""
    corners = []
    for cyan, magenta, yellow, black in np.ndindex(2, 2, 2, 2):
        # Duller than what arithmetic would make of them, as ink on paper is.
        light = (1 - black) * (100 - 35 * cyan - 40 * magenta - 8 * yellow) + 8
        corners.append((light, 40 * (magenta - cyan), 40 * (yellow - 0.5 * (cyan + magenta))))
    lab = np.array(corners)
    coded = np.column_stack([lab[:, 0] * 2.55, lab[:, 1] + 128, lab[:, 2] + 128])
    straight = bytes(range(256))
    unity = struct.pack(">9i", *(65_536 * (at % 4 == 0) for at in range(9)))
    table = b"mft1" + struct.pack(">4xBBBx", 4, 3, 2) + unity + straight * 4
    table += np.clip(coded, 0, 255).astype(np.uint8).tobytes() + straight * 3
    return _profile("CMYK", b"Lab ", b"prtr", {b"wtpt": _xyz(_WHITE), b"A2B0": table})


def _xyz(values: tuple[float, float, float]) -> bytes:
    return b"XYZ " + struct.pack(">4x3i", *(round(value * 65_536) for value in values))


def _profile(space: str, connection: bytes, kind: bytes, tags: dict[bytes, bytes]) -> bytes:
    text = b"mmcache test\0"
    tags[b"desc"] = b"desc" + struct.pack(">4xI", len(text)) + text + bytes(78)
    tags[b"cprt"] = b"text" + bytes(4) + b"public domain\0"
    start = 128 + 4 + 12 * len(tags)
    table, data = struct.pack(">I", len(tags)), b""
    for name, value in tags.items():
        table += name + struct.pack(">II", start + len(data), len(value))
        data += value + bytes(-len(value) % 4)
    header = (
        struct.pack(">I4xI", start + len(data), 0x02400000) + kind + space.encode() + connection
    )
    header += bytes(12) + b"acsp" + bytes(28) + struct.pack(">3i", 63_190, 65_536, 54_061)
    return header.ljust(128, b"\0") + table + data
