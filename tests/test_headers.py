"""A plain JPEG's header, read without Pillow: what is told is what Pillow tells, or nothing."""

from __future__ import annotations

import io
import struct

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from PIL import Image

from mmcache.geometry import Size
from mmcache.images import headers, read_header
from mmcache.images.headers import plain_jpeg
from mmcache.testing import paint

SIZE = Size(40, 56)


def encoded(mode="RGB", **options):
    """Return a painted JPEG."""
    file = io.BytesIO()
    paint(SIZE).convert(mode).save(file, "JPEG", **options)
    return file.getvalue()


def exif(orientation):
    tags = Image.Exif()
    tags[0x0112] = orientation
    return tags


PLAIN = {
    "baseline": encoded(),
    "grey": encoded("L"),
    "ink": encoded("CMYK"),
    "progressive": encoded(progressive=True),
    "420": encoded(subsampling="4:2:0"),
    "444": encoded(subsampling="4:4:4"),
    "profile": encoded(icc_profile=bytes(3_000)),
    "comment": encoded(comment=b"painted"),
    "optimized": encoded(optimize=True, quality=30),
    "restarts": encoded(restart_marker_rows=1),
}
OTHER = {
    "exif": encoded(exif=exif(6)),
    "xmp": encoded(xmp=b'<x tiff:Orientation="8"/>'),
    "long profile": encoded(icc_profile=bytes(20_000)),
    "png": b"\x89PNG\r\n\x1a\n",
    "nothing": b"",
}


def by_pillow(data):
    """Return what Pillow tells; None where it refuses."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(headers, "plain_jpeg", lambda _: None)
        try:
            return read_header(io.BytesIO(data))
        except (OSError, ValueError):
            return None


@pytest.mark.parametrize("name", PLAIN)
def test_a_plain_jpeg_has_the_header_that_pillow_tells(name):
    assert plain_jpeg(PLAIN[name]) == by_pillow(PLAIN[name])
    assert read_header(io.BytesIO(PLAIN[name])).size == SIZE


@pytest.mark.parametrize("name", OTHER)
def test_what_is_not_plain_is_left_to_pillow(name):
    assert plain_jpeg(OTHER[name][:8192]) is None


def test_a_turned_jpeg_is_upright():
    assert read_header(io.BytesIO(OTHER["exif"])).size == SIZE[::-1]
    assert read_header(io.BytesIO(OTHER["xmp"])).size == SIZE[::-1]


@given(
    name=st.sampled_from(sorted(PLAIN)),
    changes=st.lists(st.tuples(st.integers(0, 700), st.integers(0, 255)), max_size=4),
    end=st.none() | st.integers(0, 700),
)
@example(name="baseline", changes=[], end=None)
def test_a_changed_jpeg_has_the_header_that_pillow_tells_or_none(name, changes, end):
    data = bytearray(PLAIN[name])
    for place, value in changes:
        data[place % len(data)] = value
    told = plain_jpeg(bytes(data[:end]))
    assert told is None or told == by_pillow(bytes(data[:end]))


@given(
    name=st.sampled_from(sorted(PLAIN)),
    segment=st.sampled_from(range(0xFFC0, 0x10000)),
    content=st.sampled_from(
        [b"JFIF\0", b"Exif\0\0", b"MPF\0", b"FPXR\0", b"Adobe", b"ICC_PROFILE\0", b"", b"\1"]
    ),
    length=st.integers(0, 70),
    claimed=st.none() | st.integers(0, 80),
)
def test_a_segment_more_is_what_pillow_takes_it_for(name, segment, content, length, claimed):
    content = (content + bytes(length))[: max(length, len(content))]
    head = struct.pack(">HH", segment, len(content) + 2 if claimed is None else claimed)
    data = PLAIN[name][:2] + head + content + PLAIN[name][2:]
    told = plain_jpeg(data)
    assert told is None or told == by_pillow(data)


REFUSED = {
    "tables that end early": (0xFFDB, bytes(64)),
    "tables of 16 bits that end early": (0xFFDB, b"\x10" + bytes(64)),
    "a JFIF without a version": (0xFFE0, b"JFIF\0"),
    "a profile without a number": (0xFFE2, b"ICC_PROFILE\0"),
    "an Adobe without a version": (0xFFEE, b"Adobe"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_pillow_refuses_is_not_taken_for_plain(name):
    marker, content = REFUSED[name]
    segment = struct.pack(">HH", marker, len(content) + 2) + content
    data = PLAIN["baseline"][:2] + segment + PLAIN["baseline"][2:]
    assert by_pillow(data) is None
    assert plain_jpeg(data) is None


def test_the_head_of_a_scan_that_is_not_as_long_as_it_should_be_is_left_to_pillow():
    data = PLAIN["baseline"].replace(b"\xff\xda\0\x0c", b"\xff\xda\0\x0e")
    assert plain_jpeg(data) is None


# How many scans ----------------------------------------------------------------------------------


def segments(jpeg):
    """Yield the markers of a JPEG's segments with all their bytes, and its scan with its data."""
    place = 2
    while jpeg[place + 1] != 0xDA:
        end = place + 2 + int.from_bytes(jpeg[place + 2 : place + 4], "big")
        yield jpeg[place + 1], jpeg[place:end]
        place = end
    yield 0xDA, jpeg[place:-2]


def in_three_scans():
    """Return a baseline JPEG with a scan for each component: each is that of a grey one."""
    greys = [dict(segments(encoded_grey(layer))) for layer in paint(SIZE).convert("YCbCr").split()]
    frame = struct.pack(">HHBHHB", 0xFFC0, 17, 8, SIZE.height, SIZE.width, 3)
    frame += b"".join(bytes([name, 0x11, 0]) for name in (1, 2, 3))
    scans = (
        grey[0xDA][:5] + bytes([number]) + grey[0xDA][6:] for number, grey in enumerate(greys, 1)
    )
    tables = b"".join(one for _, one in segments(encoded("L")) if one[1] == 0xC4)
    return b"\xff\xd8" + greys[0][0xDB] + frame + tables + b"".join(scans) + b"\xff\xd9"


def encoded_grey(layer):
    file = io.BytesIO()
    layer.save(file, "JPEG")
    return file.getvalue()


def test_a_jpeg_with_a_scan_for_each_component_is_held_whole():
    data = in_three_scans()
    with Image.open(io.BytesIO(data)) as image:
        assert image.convert("RGB").size == SIZE[::-1]  # it is one
    for header in (plain_jpeg(data), by_pillow(data)):
        assert header.progressive
        assert header.coefficient_bytes == 2 * 3 * SIZE.height * SIZE.width


@pytest.mark.parametrize("first", range(4))
def test_what_a_scan_holds_says_nothing_of_their_number(first):
    """Its third byte is taken for nothing: it was once, for a number of components."""
    for name in ("baseline", "grey", "ink"):
        data = bytearray(PLAIN[name])
        head = data.index(b"\xff\xda")
        begins = head + 2 + int.from_bytes(data[head + 2 : head + 4], "big")
        data[begins : begins + 3] = bytes([first] * 3)
        assert not plain_jpeg(bytes(data)).progressive
        assert not by_pillow(bytes(data)).progressive
