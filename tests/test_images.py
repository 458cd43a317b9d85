"""From encoded bytes to a record, measured by Pillow's own full decode and resize."""

from __future__ import annotations

import io
import itertools
import math
import os
import struct
import zlib

import numpy as np
import pytest
from PIL import Image, ImageOps
from PIL.ExifTags import Base

import mmcache
from mmcache.geometry import RESIZES, Size
from mmcache.images import Header, decode, decode_bytes, read_header
from mmcache.images.headers import HEADROOM, scaled_by
from mmcache.recipe import RESAMPLES, Recipe
from mmcache.signatures import FORMATS
from mmcache.testing import paint, paint_folder, painted_sizes

ORIENTATIONS = range(1, 9)
TURNED_BY_FORMAT = ("JPEG", "PNG", "WEBP", "TIFF", "AVIF")


def encoded(image: Image.Image, form: str, orientation: int = 1, **options) -> bytes:
    """Encode a picture, with an EXIF orientation where it is not 1."""
    exif = Image.Exif()
    exif[Base.Orientation] = orientation
    file = io.BytesIO()
    image.save(file, form, **({"exif": exif} if orientation != 1 else {}), **options)
    return file.getvalue()


def chunk(name: bytes, data: bytes) -> bytes:
    """Return a chunk of a PNG; see the PNG specification, section 5.3."""
    return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))


def png_with_late_exif(image: Image.Image, orientation: int) -> bytes:
    """Return a PNG whose eXIf chunk stands behind its pixels, as the specification allows."""
    exif = Image.Exif()
    exif[Base.Orientation] = orientation
    plain = encoded(image, "PNG", compress_level=1)
    return plain[:-12] + chunk(b"eXIf", exif.tobytes()[6:]) + plain[-12:]


def opened(data: bytes) -> Image.Image:
    """Open a picture with Pillow, upright."""
    image = Image.open(io.BytesIO(data))
    image.load()
    return ImageOps.exif_transpose(image)


def record_of(image: Image.Image, recipe: Recipe) -> np.ndarray:
    """Bring an upright picture to its record in the plainest way: all of it, then cut and pad."""
    placement = recipe.place(Size(image.height, image.width))
    scaled = image.resize(
        placement.scaled[::-1], getattr(Image.Resampling, recipe.resample.upper())
    )
    top, left = placement.crop
    valid = scaled.crop((left, top, left + placement.valid.width, top + placement.valid.height))
    colour = recipe.background if len(recipe.background) > 1 else recipe.background[0]
    whole = Image.new(recipe.mode, placement.size[::-1], colour)
    whole.paste(valid, placement.padding[::-1])
    return np.asarray(whole).reshape(*placement.size, recipe.channels)


def psnr(one: np.ndarray, other: np.ndarray) -> float:
    """Return the peak signal-to-noise ratio of 8-bit pixels in dB."""
    assert one.shape == other.shape
    error = np.mean((one.astype(float) - other) ** 2)
    return math.inf if error == 0 else 10 * math.log10(255**2 / error)


# Headers ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("form", TURNED_BY_FORMAT)
@pytest.mark.parametrize("orientation", ORIENTATIONS)
def test_a_header_tells_the_upright_size(form, orientation):
    data = encoded(paint(Size(30, 47), orientation), form, orientation)
    header = read_header(io.BytesIO(data))
    upright = opened(data)
    assert header.size == (upright.height, upright.width)
    assert header.format == form


@pytest.mark.parametrize("orientation", ORIENTATIONS)
def test_exif_behind_the_pixels_of_a_png_counts(orientation):
    data = png_with_late_exif(paint(Size(30, 47)), orientation)
    upright = opened(data)
    assert upright.size == ((47, 30) if orientation < 5 else (30, 47))  # the oracle sees it too
    assert read_header(io.BytesIO(data)).size == upright.size[::-1]
    assert np.array_equal(decode(io.BytesIO(data), Recipe()), np.asarray(upright))


def test_a_png_whose_metadata_lies_is_read_all_the_same():
    data = encoded(paint(Size(30, 47)), "PNG")
    broken = data[:-12] + struct.pack(">I", 0xFFFF_FFFF) + b"junk" + data[-12:]
    assert read_header(io.BytesIO(broken)).size == (30, 47)


@pytest.mark.parametrize("orientation", [0, 9, 65_535])
def test_an_orientation_that_is_none_is_upright(orientation):
    data = encoded(paint(Size(30, 47)), "JPEG", orientation)
    header = read_header(io.BytesIO(data))
    assert (header.orientation, header.size) == (1, (30, 47))


def test_every_format_that_is_opened_is_one_that_pillow_or_a_plugin_can_open():
    Image.init()
    assert set(FORMATS) - set(Image.OPEN) <= {"", "MPO", "HEIF", "JXL"}


@pytest.mark.parametrize("form", ["GIF", "BMP", "PPM", "JPEG2000", "AVIF", "ICO", "QOI", "TGA"])
def test_pictures_of_every_format_decode_as_pillow_does(form):
    data = encoded(paint(Size(32, 32)), form)
    assert np.array_equal(
        decode(io.BytesIO(data), Recipe()), np.asarray(opened(data).convert("RGB"))
    )


def test_the_first_picture_of_an_mpo_is_taken():
    file = io.BytesIO()
    paint(Size(40, 30)).save(file, "MPO", save_all=True, append_images=[paint(Size(40, 30), 1)])
    assert read_header(file).format == "MPO"
    assert np.array_equal(decode(file, Recipe()), np.asarray(opened(file.getvalue())))


@pytest.mark.parametrize(
    "size",
    [(1, 1), (8, 8), (24, 256), (256, 24), (7, 9), (512, 300), (513, 514), (300, 8_200), (8_193, 5),
     (100, 120), (90, 120), (80, 120), (90, 160), (96, 120), (50, 100)],
)  # fmt: skip
def test_the_size_of_a_jpeg_xl_is_told_without_its_decoder(size):
    pytest.importorskip("pillow_jxl", reason='pip install "mmcache[formats]"')
    for container in (False, True):
        file = io.BytesIO()
        Image.new("L", size[::-1], 99).save(file, "JXL", effort=1, use_container=container)
        assert read_header(file).size == size
        assert decode(file, Recipe(size=9_000)).shape == (*size, 3)


@pytest.mark.parametrize("orientation", ORIENTATIONS)
def test_a_jpeg_that_became_a_jpeg_xl_stands_as_it_stood(tmp_path, orientation):
    pytest.importorskip("pillow_jxl", reason='pip install "mmcache[formats]"')
    data = encoded(paint(Size(40, 70), orientation), "JPEG", orientation)
    (tmp_path / "a.jpg").write_bytes(data)
    file = io.BytesIO()
    with Image.open(tmp_path / "a.jpg") as image:
        image.save(file, "JXL", lossless_jpeg=True)
    header = read_header(file)
    assert header.size == read_header(io.BytesIO(data)).size
    got = decode(file, Recipe(), expected=header.size, orientation=header.orientation)
    assert np.array_equal(got, decode(io.BytesIO(data), Recipe()))
    assert np.array_equal(got, decode(file, Recipe()))
    # Without what makes a JPEG of it again, the decoder turns it upright.
    pixels = io.BytesIO(file.getvalue().replace(b"jbrd", b"skip"))
    assert read_header(pixels).size == header.size
    turned = decode(pixels, Recipe(), expected=header.size, orientation=1)
    assert psnr(turned, got) >= 35


def test_postscript_is_not_opened():
    file = io.BytesIO()
    paint(Size(20, 20)).save(file, "EPS")
    with pytest.raises(mmcache.PictureError, match="not a picture of a format that is read here"):
        mmcache.apply(file.getvalue(), Recipe())


def test_progressive_files_are_known_as_such():
    plain, progressive = (
        read_header(io.BytesIO(encoded(paint(Size(64, 64)), "JPEG", progressive=is_so)))
        for is_so in (False, True)
    )
    assert (plain.progressive, progressive.progressive) == (False, True)


# Decoding --------------------------------------------------------------------------------------


def test_jpegs_of_every_size_come_within_45_db_of_the_full_decode():
    worst = math.inf
    for number, size in enumerate(painted_sizes(24, longest=1_600)):
        data = encoded(paint(size, number), "JPEG", quality=90)
        recipe = Recipe(size=(96, 64)[number % 2])
        worst = min(worst, psnr(decode(io.BytesIO(data), recipe), record_of(opened(data), recipe)))
    assert worst >= 45


@pytest.mark.parametrize("resample", RESAMPLES)
@pytest.mark.parametrize("resize", sorted(set(RESIZES) - {"crop", "bucket"}))
def test_pixels_are_exactly_pillows_where_nothing_is_cut_or_scaled_by_the_decoder(resize, resample):
    recipe = Recipe(
        size=(61, 83), resize=resize, resample=resample, background="teal", multiple_of=8
    )
    for number, size in enumerate(painted_sizes(6, longest=150)):
        for form in ("PNG", "JPEG"):
            data = encoded(paint(size, number), form)
            assert np.array_equal(decode(io.BytesIO(data), recipe), record_of(opened(data), recipe))


@pytest.mark.parametrize("resize", RESIZES)
@pytest.mark.parametrize("form", ["JPEG", "PNG", "TIFF"])
def test_every_orientation_lands_where_the_upright_picture_would(form, resize):
    # Odd and even sizes, so that a crop's margins are unequal.
    sizes = (Size(119, 200), Size(201, 88), Size(64, 65))
    boxes = ((41, 30), (30, 41), (35, 35))
    for orientation, size, box in itertools.product(ORIENTATIONS, sizes, boxes):
        buckets = ((30, 39), (39, 30)) if resize == "bucket" else None
        recipe = Recipe(
            size=box, resize=resize, background=(9, 99, 199), multiple_of=3, buckets=buckets
        )
        data = encoded(paint(size, orientation), form, orientation)
        assert psnr(decode(io.BytesIO(data), recipe), record_of(opened(data), recipe)) >= 48


@pytest.mark.parametrize("orientation", ORIENTATIONS)
def test_a_large_jpeg_is_turned_and_cut_as_a_small_one(orientation):
    recipe = Recipe(size=(31, 50), resize="crop")
    data = encoded(paint(Size(603, 801), orientation), "JPEG", orientation, quality=92)
    assert scaled_by(Size(603, 801), Size(50, 66)) > 1
    assert psnr(decode(io.BytesIO(data), recipe), record_of(opened(data), recipe)) >= 45


def test_the_decoder_scales_only_while_three_times_the_target_is_left():
    for height, width, edge in itertools.product(range(3, 400, 7), range(3, 400, 11), (1, 5, 16)):
        source, target = Size(height, width), Size(edge, edge + 2)
        by = scaled_by(source, target)
        assert by in (1, 2, 4, 8)
        if by > 1:
            assert height // by >= HEADROOM * target.height
            assert width // by >= HEADROOM * target.width
        if by < 8:
            assert (height // (2 * by) < HEADROOM * edge) or (
                width // (2 * by) < HEADROOM * (edge + 2)
            )


def test_nearest_takes_pixels_that_are_there(tmp_path):
    image = paint(Size(400, 640))
    image.save(tmp_path / "large.jpg", quality=90)
    pixels = mmcache.apply(tmp_path / "large.jpg", Recipe(size=20, resample="nearest"))
    with Image.open(tmp_path / "large.jpg") as full:
        colours = set(map(tuple, np.asarray(full).reshape(-1, 3).tolist()))
    assert set(map(tuple, pixels.reshape(-1, 3).tolist())) <= colours


# Modes -----------------------------------------------------------------------------------------


def transparent(size: Size, mode: str) -> Image.Image:
    """Paint a picture that is clear on its left and opaque on its right."""
    image = paint(size, 5, "L" if mode == "LA" else "RGB")
    ramp = np.tile(np.linspace(0, 255, size.width).astype(np.uint8), (size.height, 1))
    image.putalpha(Image.fromarray(ramp))
    return image


def over(image: Image.Image, colour: tuple[int, ...]) -> Image.Image:
    """Lay a picture over a colour."""
    below = Image.new("RGBA", image.size, colour)
    return Image.alpha_composite(below, image.convert("RGBA")).convert("RGB")


@pytest.mark.parametrize(
    ("mode", "form", "options"),
    [("RGBA", "PNG", {}), ("LA", "PNG", {}), ("RGBA", "WEBP", {"lossless": True})],
)
def test_transparency_is_laid_over_the_background(mode, form, options):
    data = encoded(transparent(Size(120, 150), mode), form, **options)
    recipe = Recipe(size=50, background=(250, 20, 130))
    expected = record_of(over(opened(data), (250, 20, 130, 255)), recipe)
    assert psnr(decode(io.BytesIO(data), recipe), expected) >= 45
    same_size = Recipe(background=(250, 20, 130))
    expected = np.asarray(over(opened(data), (250, 20, 130, 255))).astype(int)
    assert abs(decode(io.BytesIO(data), same_size) - expected).max() <= 1


def test_what_is_clear_lends_no_colour_to_its_neighbours():
    pixels = np.zeros((40, 40, 4), np.uint8)
    pixels[:, :20] = 0, 255, 0, 0  # clear, and green underneath
    pixels[:, 20:] = 255, 0, 0, 255
    data = encoded(Image.fromarray(pixels), "PNG")
    small = decode(io.BytesIO(data), Recipe(size=7, background="black"))
    assert small[..., 1].max() == 0
    kept = decode(io.BytesIO(data), Recipe(size=7, mode="RGBA"))
    assert kept[..., 1].max() == 0


def test_a_palette_with_transparency_is_laid_over_the_background():
    indices = (np.arange(30 * 40) % 4).astype(np.uint8).reshape(30, 40)
    image = Image.fromarray(indices).convert("P")
    image.putdata(indices.ravel().tolist())
    image.putpalette([255, 0, 0, 0, 255, 0, 0, 0, 255, 90, 90, 90])
    for clear in (2, b"\xff\x80\x00\xff"):
        data = encoded(image, "PNG", transparency=clear)
        expected = np.asarray(over(opened(data), (1, 2, 3, 255))).astype(int)
        got = decode(io.BytesIO(data), Recipe(background=(1, 2, 3)))
        assert abs(got - expected).max() <= 1
        assert (got[0, 2] == (1, 2, 3)).all()


@pytest.mark.parametrize("mode", ["L", "1", "P", "CMYK", "YCbCr", "LAB", "I;16"])
@pytest.mark.parametrize("target", ["RGB", "L", "RGBA"])
def test_every_mode_becomes_the_recipes(mode, target):
    image = paint(Size(60, 90), 2)
    if mode == "I;16":
        wide = (np.asarray(image.convert("L")).astype(np.uint16) * 257).astype("<u2")
        data = encoded(Image.fromarray(wide), "PNG")
        plain = Image.fromarray((wide / 257).round().astype(np.uint8))
    else:
        form = {"CMYK": "JPEG", "YCbCr": "TIFF", "LAB": "TIFF"}.get(mode, "PNG")
        data = encoded(image.convert("P", colors=30) if mode == "P" else image.convert(mode), form)
        plain = opened(data)
    if mode not in ("L", "I;16"):
        plain = plain.convert("L" if mode == "1" else "RGB")
    assert read_header(io.BytesIO(data)).mode in (mode, "RGB")
    got = decode(io.BytesIO(data), Recipe(size=31, mode=target))
    assert got.shape == (21, 31, {"RGB": 3, "L": 1, "RGBA": 4}[target])
    assert psnr(got, record_of(plain.convert(target), Recipe(size=31, mode=target))) >= 48


@pytest.mark.parametrize("byteorder", ["<", ">"])
def test_sixteen_bit_grey_is_scaled_and_not_clipped(byteorder):
    wide = np.linspace(0, 65_535, 100 * 80).reshape(100, 80).astype("<u2")
    image = Image.fromarray(wide)
    data = encoded(image, "PNG" if byteorder == ">" else "TIFF")  # a PNG is big-endian
    got = decode(io.BytesIO(data), Recipe(mode="L"))[..., 0]
    assert np.array_equal(got, np.rint(wide / 257).astype(np.uint8))


def test_padding_is_the_background_in_every_mode():
    data = encoded(paint(Size(20, 40)), "PNG")
    for mode, colour in (("RGB", (1, 2, 3)), ("L", (7,)), ("RGBA", (1, 2, 3, 4))):
        got = decode(io.BytesIO(data), Recipe(size=40, resize="pad", mode=mode, background=colour))
        assert (got[:10] == colour).all()
        assert (got[30:] == colour).all()


def test_a_record_is_read_only_and_of_the_recipes_dtype():
    record = decode(io.BytesIO(encoded(paint(Size(9, 9)), "PNG")), Recipe())
    assert record.dtype == Recipe().dtype
    assert not record.flags.writeable


# What decoding needs ---------------------------------------------------------------------------


def test_a_progressive_jpeg_is_known_to_need_its_coefficients():
    size = Size(4_000, 6_000)
    plain = Header("JPEG", "RGB", *size, orientation=1, progressive=False)
    needs = decode_bytes(plain, Recipe(), 1_000)
    assert needs < size.height * size.width  # scaled in the decoder
    full = decode_bytes(plain, Recipe(resample="nearest"), 1_000)
    assert full >= 3 * size.height * size.width
    progressive = plain._replace(progressive=True)
    for samples in (1, 1.5, 3):
        held = decode_bytes(progressive._replace(samples=samples), Recipe(), 1_000) - needs
        assert held == 2 * samples * size.height * size.width


# Apply -----------------------------------------------------------------------------------------


def test_apply_gives_the_records_of_the_cache(tmp_path):
    folder = paint_folder(tmp_path / "in", 17, longest=300)
    paint(Size(900, 1_200), 3).save(folder / "large.jpg", quality=88)
    cache = mmcache.build(folder, tmp_path / "out.mmc", size=(50, 61), resize="crop")
    for key, record in zip(cache.keys, cache, strict=True):
        path = folder / key
        for given in (path, str(path), os.fsencode(path)):
            if not isinstance(given, bytes):
                assert np.array_equal(mmcache.apply(given, cache.recipe), record)
        assert np.array_equal(mmcache.apply(path.read_bytes(), cache.recipe), record)


def test_apply_takes_a_picture_that_pillow_opened_and_leaves_it_as_it_was():
    data = encoded(paint(Size(90, 130), 4), "JPEG", 6)
    recipe = Recipe(size=40)
    with Image.open(io.BytesIO(data)) as image:
        got = mmcache.apply(image, recipe)
        assert (image.size, image.getexif()[Base.Orientation]) == ((130, 90), 6)
    assert psnr(got, record_of(opened(data), recipe)) >= 48
    assert np.array_equal(
        mmcache.apply(paint(Size(9, 9)).convert("CMYK"), recipe),
        record_of(paint(Size(9, 9)).convert("CMYK").convert("RGB"), recipe),
    )


def test_what_apply_returns_may_be_written_to():
    pixels = mmcache.apply(encoded(paint(Size(9, 9)), "PNG"), Recipe())
    pixels[:] = 0


@pytest.mark.parametrize(
    "what", [b"", b"not a picture", b"\xff\xd8\xff\xe0", "missing.jpg", "a\nfolder"]
)
def test_apply_on_what_is_no_picture_is_a_picture_error(what, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "a\nfolder").mkdir()
    with pytest.raises(mmcache.PictureError) as caught:
        mmcache.apply(what, Recipe())
    assert caught.value.reason
    assert "\n" not in str(caught.value)


# Files that are not what they say --------------------------------------------------------------


@pytest.mark.parametrize("form", ["JPEG", "PNG", "WEBP", "GIF", "BMP", "TIFF", "AVIF", "QOI"])
@pytest.mark.filterwarnings("ignore")  # of Pillow, about what it skips
def test_a_file_cut_anywhere_is_a_picture_error_with_a_reason(form):
    data = encoded(paint(Size(40, 53)), form)
    for end in range(0, len(data) - 12, 50):
        try:
            mmcache.apply(data[:end], Recipe(size=20))
        except mmcache.PictureError as error:
            assert error.reason  # noqa: PT017  # some cuts lose nothing but padding
        else:
            whole = mmcache.apply(data, Recipe(size=20))
            assert form in ("GIF", "QOI", "TIFF", "WEBP", "AVIF", "BMP"), end
            assert np.array_equal(mmcache.apply(data[:end], Recipe(size=20)), whole), (form, end)


@pytest.mark.filterwarnings("ignore")
def test_flipped_bytes_never_raise_anything_but_a_picture_error():
    random = np.random.default_rng(7)
    for form in ("JPEG", "PNG", "TIFF", "GIF", "WEBP"):
        data = encoded(paint(Size(40, 53)), form, 6 if form != "GIF" else 1)
        for _ in range(60):
            broken = bytearray(data)
            for place in random.integers(0, len(data), 5):
                broken[place] = random.integers(0, 256)
            try:
                pixels = mmcache.apply(bytes(broken), Recipe(size=(20, 31), resize="crop"))
            except mmcache.PictureError as error:
                assert error.reason  # noqa: PT017  # either way is right
            else:
                assert pixels.shape == (20, 31, 3)


def test_a_size_that_is_not_what_was_planned_is_refused():
    data = encoded(paint(Size(40, 53)), "JPEG")
    with pytest.raises(ValueError, match="planned"):
        decode(io.BytesIO(data), Recipe(), expected=Size(53, 40))


def test_a_bomb_is_refused_before_it_is_decoded():
    size = struct.pack(">IIBBBBB", 60_000, 60_000, 8, 2, 0, 0, 0)
    bomb = b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", size) + chunk(b"IDAT", b"") + chunk(b"IEND", b"")
    with pytest.raises(mmcache.PictureError, match="3,600 million pixels, more than the limit"):
        mmcache.apply(bomb, Recipe())
    # What is allowed is looked at, and found to have no pixels.
    with pytest.raises(mmcache.PictureError, match="ends before its picture does"):
        mmcache.apply(bomb, Recipe(), max_pixels=60_000**2)
