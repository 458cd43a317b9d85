"""Formats told by content."""

import io

import pytest
from PIL import Image

from mmcache.images.opening import sniffed
from mmcache.signatures import EVIDENT, FORMATS, PREFIX, format_of
from mmcache.testing import odd_pictures

ENDINGS = {
    "jpg": "JPEG", "mpo": "JPEG", "png": "PNG", "gif": "GIF", "webp": "WEBP", "tif": "TIFF",
    "bmp": "BMP", "dib": "DIB", "ico": "ICO", "pbm": "PPM", "pgm": "PPM", "ppm": "PPM",
    "pnm": "PPM", "pfm": "PPM", "jp2": "JPEG2000", "j2k": "JPEG2000", "tga": "TGA", "sgi": "SGI",
    "pcx": "PCX", "qoi": "QOI", "avif": "AVIF", "psd": "PSD", "heic": "HEIF", "jxl": "JXL",
}  # fmt: skip


@pytest.mark.parametrize("odd", odd_pictures(), ids=lambda odd: odd.name)
def test_every_kind_of_picture_is_known_by_its_content(odd):
    expected = ENDINGS[odd.name.rpartition(".")[2].lower()]
    if odd.name == "png-in-name-only.jpg":
        expected = "PNG"
    assert sniffed(io.BytesIO(odd.data)) == expected
    if expected in EVIDENT:
        assert format_of(odd.data[:PREFIX]) == expected


def test_every_kind_that_is_told_is_in_the_list_that_caches_store():
    assert set(ENDINGS.values()) | {"", "MPO"} == set(FORMATS)
    assert len(set(FORMATS)) == len(FORMATS) < 256


@pytest.mark.parametrize(
    "form", ["EPS", "PDF", "XBM", "ICNS", "DDS", "MSP", "PALM", "SPIDER", "BLP"]
)
def test_what_is_not_on_the_list_is_of_no_format(form):
    Image.init()
    file = io.BytesIO()
    mode = {"XBM": "1", "MSP": "1", "PALM": "P", "SPIDER": "F", "BLP": "P"}.get(form, "RGB")
    try:
        Image.new(mode, (16, 16)).save(file, form)
    except (KeyError, OSError):
        pytest.skip(f"Pillow writes no {form} here")
    assert format_of(file.getvalue()[:PREFIX]) is None


@pytest.mark.parametrize(
    "text", [b"", b"B", b"BM", b"BMW is a car", b"GIF", b"P5", b"P6pixels", b"RIFF....WAVEfmt ",
             b"\0\0\0\x18ftypisom\0\0\0\0isommp42", b"II", b"8B", b"%PDF-1.7", b"<svg>", b"{}"],
)  # fmt: skip
def test_what_only_looks_alike_is_of_no_format(text):
    assert format_of(text) is None
