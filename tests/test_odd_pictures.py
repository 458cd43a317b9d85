"""Nothing hangs, nothing crashes: what can be opened is in, and everything else is named."""

from __future__ import annotations

import contextlib
import io
import os
import random
import socket
import struct
import subprocess
import sys
import zlib
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

import mmcache
from mmcache.images import check_pixels, decode_flagged, read_header, unreadable
from mmcache.recipe import Recipe
from mmcache.records import FLAGS
from mmcache.testing import odd_pictures, paint, paint_folder
from mmcache.testing.oddities import png
from mmcache.testing.reference import reference

# Pillow warns of odd metadata, which here would become failures that are none.
pytestmark = pytest.mark.filterwarnings("ignore")

ODD = {odd.name: odd.data for odd in odd_pictures()}
WHOLE = Recipe(size=65_535, icc="ignore")
MOST_PIXELS = 1_000_000
CURIOUS = ("cmyk", "ycck", "ink", "key")  # Pillow alone gets colours of some of these wrong


def looked_at(data, recipe=WHOLE):
    """Return the record, or why there is none."""
    file = io.BytesIO(data)
    try:
        header = read_header(file, recipe.frame)
        check_pixels(header.size, MOST_PIXELS)
        record, _ = decode_flagged(
            file, recipe, expected=header.size, orientation=header.orientation
        )
    except Exception as error:  # noqa: BLE001  # as workers do
        return unreadable(error)
    assert record.shape == (*recipe.place(header.size).size, recipe.channels)
    return record


def by_hand(data):
    with contextlib.suppress(Exception):
        return reference(data)
    return None


def agrees(data, *, colours=True):
    """Check that what Pillow opens is in, as it is, and that all else is named."""
    got, expected = looked_at(data), by_hand(data)
    if isinstance(got, str):
        assert got.isprintable()
        excused = "limit" in got or "its header says" in got
        assert expected is None or excused, (got, expected.size)
    elif expected is not None:
        size = mmcache.Size(expected.height, expected.width)
        assert got.shape[:2] == WHOLE.place(size).size
        if colours:
            assert abs(got.mean((0, 1)) - np.asarray(expected).mean((0, 1))).max() <= 4


# Damage ------------------------------------------------------------------------------------------


@pytest.mark.slow
@pytest.mark.parametrize("name", sorted(ODD))
def test_a_picture_cut_anywhere_is_in_as_pillow_has_it_or_named(name):
    data = ODD[name]
    # Every byte of small files and of headers; of the rest so many that it ends.
    ends = range(len(data)) if len(data) < 3_000 else [*range(600), *range(600, len(data), 97)]
    for end in ends:
        agrees(data[:end], colours=not any(word in name for word in CURIOUS))


@pytest.mark.slow
@pytest.mark.parametrize("name", sorted(ODD))
def test_a_picture_with_a_flipped_bit_is_in_as_pillow_has_it_or_named(name):
    chance = random.Random(name)  # no secret
    data = ODD[name]
    for number in range(150):
        flipped = bytearray(data)
        end = len(data) if number % 2 else min(400, len(data))
        flipped[chance.randrange(end)] ^= 1 << chance.randrange(8)
        agrees(bytes(flipped), colours=not any(word in name for word in CURIOUS))


@settings(max_examples=300)
@given(
    st.binary(max_size=200),
    st.sampled_from(sorted(ODD)),
    st.integers(0, 400),
    st.integers(0, 60),
)
def test_bytes_put_into_a_header_never_do_worse_than_a_failure(junk, name, at, length):
    data = ODD[name]
    agrees(data[:at] + junk + data[at + length :], colours=False)


@settings(max_examples=300)
@given(st.binary(max_size=300))
def test_bytes_that_are_no_picture_are_named(junk):
    for beginning in (b"", b"\xff\xd8\xff", b"\x89PNG\r\n\x1a\n", b"II*\0", b"GIF89a", b"8BPS"):
        agrees(beginning + junk, colours=False)


edges = st.integers(1, 2**32 - 1)


@settings(max_examples=100)
@given(edges, edges, st.sampled_from([1, 2, 4, 8, 16]), st.sampled_from([0, 2, 3, 4, 6]))
def test_a_png_header_that_lies_is_a_failure(height, width, depth, kind):
    honest = png(np.zeros((2, 3), np.uint8), 8, 0)
    header = struct.pack(">IIBBBBB", width, height, depth, kind, 0, 0, 0)
    chunk = b"IHDR" + header
    lies = honest[:12] + chunk + struct.pack(">I", zlib.crc32(chunk)) + honest[33:]
    agrees(lies, colours=False)


def test_a_bomb_of_text_and_one_of_pixels_are_named():
    assert looked_at(ODD["text-bomb.png"]) == (
        "it holds more text or metadata than is safe to unpack"
    )
    flat = zlib.compress(bytes(20_000 * 2_501), 9)
    header = struct.pack(">IIBBBBB", 20_000, 20_000, 1, 0, 0, 0, 0)
    parts = (b"IHDR", header), (b"IDAT", flat), (b"IEND", b"")
    bomb = b"\x89PNG\r\n\x1a\n" + b"".join(
        struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))
        for name, data in parts
    )
    assert "more than the limit of 1 million" in looked_at(bomb)


# Pixels that end early ---------------------------------------------------------------------------

KEPT = [
    "colour.jpg", "progressive.jpg", "444.jpg", "colour-interlaced.png", "alpha.png", "grey16.png",
    "rgb.bmp", "rgb.tif", "colour.ppm", "rgb.tga", "packed.tga", "rgb.pcx", "colour.psd", "rgb.qoi",
    "turned6.tif", "turned6.jpg", "turned6.png", "palette8.png",
]  # fmt: skip


@pytest.mark.parametrize("name", KEPT)
def test_a_picture_that_ends_early_is_a_failure_or_kept_and_flagged(name):
    whole = looked_at(ODD[name])
    cut = ODD[name][: len(ODD[name]) * 3 // 4]
    if name == "turned6.tif":  # Pillow writes its directory behind the pixels
        pytest.skip("its directory is cut off")
    if name.endswith(".tga"):
        cut = ODD[name][: len(ODD[name]) // 2] + ODD[name][-26:]  # the footer tells what it is
    assert looked_at(cut) == "the file ends before its picture does"
    record, flags = decode_flagged(io.BytesIO(cut), Recipe(size=65_535, truncated="keep"))
    assert flags == FLAGS["truncated"]
    assert record.shape == whole.shape
    # Something of the picture is there, and where it is, it is right.
    far = abs(record.astype(int) - whole).max(axis=2)
    assert (far <= 40).mean() > 0.3
    assert (far > 40).any()


def test_a_whole_picture_is_not_flagged_where_truncated_ones_are_kept():
    for name in KEPT:
        _, flags = decode_flagged(io.BytesIO(ODD[name]), Recipe(truncated="keep"))
        assert flags == 0, name


def test_the_switch_of_pillow_that_keeps_truncated_pictures_changes_nothing(monkeypatch):
    monkeypatch.setattr("PIL.ImageFile.LOAD_TRUNCATED_IMAGES", True)
    for name in KEPT[:8]:
        cut = ODD[name][: len(ODD[name]) * 3 // 4]
        assert looked_at(cut) == "the file ends before its picture does"
    from PIL import ImageFile  # noqa: PLC0415  # as it is now

    assert ImageFile.LOAD_TRUNCATED_IMAGES is True


def test_kept_pictures_are_flagged_in_the_cache_and_explained(tmp_path):
    folder = paint_folder(tmp_path / "in", 4, longest=90)
    cut = next(folder.rglob("*.jpg"))
    os.truncate(cut, cut.stat().st_size * 2 // 3)
    key = str(cut.relative_to(folder))
    cache = mmcache.build(folder, tmp_path / "kept.mmc", truncated="keep")
    assert [bool(flag) for flag in cache.columns["flags"]] == [one == key for one in cache.keys]
    assert mmcache.explain(cache, key).notes == ("truncated",)
    assert "end early" in repr(mmcache.explain(cache, key))
    assert np.array_equal(mmcache.apply(cut, cache.recipe), cache[key])
    failed = mmcache.build(folder, tmp_path / "failed.mmc")
    assert [failure.key for failure in failed.failures] == [key]


# Frames ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "name", ["animated.gif", "animated.png", "animated.webp", "pages.tif", "two.mpo"]
)
def test_the_frame_that_is_asked_for_is_taken_or_the_last(name):
    image = Image.open(io.BytesIO(ODD[name]))
    for frame in (0, 1, 2, 7):
        image.seek(min(frame, image.n_frames - 1))
        expected = np.asarray(image.convert("RGB")).astype(int)
        got = looked_at(ODD[name], Recipe(size=65_535, frame=frame))
        assert abs(got - expected).max() <= 2


def test_a_still_picture_has_one_frame():
    for name in ("colour.jpg", "alpha.png", "rgb.bmp", "colour.psd", "rgb.jp2"):
        first, fifth = (looked_at(ODD[name], Recipe(frame=frame)) for frame in (0, 5))
        assert np.array_equal(first, fifth)


# The worst folder in the world -------------------------------------------------------------------


def worst_folder(root):
    """Fill a folder with every picture, every trap and every name; return what must be in."""
    good = {}
    for odd in odd_pictures():
        path = root / "odd" / odd.name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(odd.data)
        if odd.name != "text-bomb.png":
            good[f"odd/{odd.name}".encode()] = odd.data
    names = [
        b"with space.jpg", b"new\nline.jpg", b"-dash.jpg", b"tab\t.jpg", b"caf\xc3\xa9.jpg",
        b"caf\xe9.jpg", b"\xff\xfe.jpg", "東京.jpg".encode(), "🙂.jpg".encode(), b"UPPER.JPG",
        b"quote'\".jpg", b"back\\slash.jpg", b"%s{}.jpg", b"<b>.jpg", b"a" * 251 + b".jpg",
        b"no ending", b"notes.txt", b"photo.jpg.part", b"photo.dat",
    ]  # fmt: skip
    picture = ODD["colour.jpg"]
    for name in names:
        path = root / "names" / os.fsdecode(name)
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(picture)
        good[b"names/" + name] = picture
    bad = root / "bad"
    bad.mkdir()
    (bad / "empty.jpg").touch()
    (bad / "text.jpg").write_text("no picture", encoding="utf-8")
    (bad / "page.png").write_text("<html>404</html>", encoding="utf-8")
    (bad / "half.jpg").write_bytes(picture[: len(picture) // 2])
    (bad / "half.png").write_bytes(ODD["alpha.png"][:400])
    (bad / "zeros.png").write_bytes(bytes(5_000))
    (bad / "folder.jpg").mkdir()
    (bad / "folder.jpg" / "inside.jpg").write_bytes(picture)
    good[b"bad/folder.jpg/inside.jpg"] = picture
    file = io.BytesIO()
    paint(mmcache.Size(20, 20)).save(file, "EPS")
    (bad / "ghost.jpg").write_bytes(file.getvalue())
    os.mkfifo(bad / "pipe.jpg")
    with socket.socket(socket.AF_UNIX) as server:
        here = Path.cwd()
        os.chdir(bad)  # a socket's path is short
        server.bind("socket.jpg")
        os.chdir(here)
    (bad / "device.jpg").symlink_to("/dev/zero")
    (bad / "nowhere.jpg").symlink_to("nowhere")
    (bad / "itself.jpg").symlink_to("itself.jpg")
    (bad / "out.jpg").symlink_to(__file__)
    (bad / "up").symlink_to("..")
    (bad / "inside.jpg").symlink_to("folder.jpg/inside.jpg")
    good[b"bad/inside.jpg"] = picture
    failing = {
        b"odd/text-bomb.png", *(b"bad/" + name for name in (
            b"empty.jpg", b"text.jpg", b"page.png", b"half.jpg", b"half.png", b"zeros.png",
            b"ghost.jpg", b"pipe.jpg", b"socket.jpg", b"device.jpg", b"nowhere.jpg", b"itself.jpg",
            b"out.jpg", b"up",
        )),
    }  # fmt: skip
    others = root / "others"
    others.mkdir()
    (others / "labels.json").write_text("{}", encoding="utf-8")
    (others / "photo.nef").write_bytes(ODD["rgb.tif"])  # a camera's raw file is no picture yet
    (others / "program").write_bytes(b"\x7fELF" + bytes(100))
    return good, failing


@pytest.mark.parametrize("executor", ["threads", "processes"])
def test_the_worst_folder_in_the_world_is_built_and_every_failure_is_named(tmp_path, executor):
    good, failing = worst_folder(tmp_path / "in")
    with pytest.warns(mmcache.PicturesSkippedWarning):
        cache = mmcache.build(
            tmp_path / "in", tmp_path / "out.mmc", size=65_535, icc="ignore", executor=executor
        )
    keys = {cache.keys.raw(row): row for row in range(len(cache))}
    failed = {key: reason for key, _, reason, _ in cache.failures.raw()}
    assert set(keys) == set(good)
    assert set(failed) == failing
    assert all(reason.isprintable() for reason in failed.values())
    for key, row in keys.items():
        expected = reference(good[key])
        assert cache[row].shape == (expected.height, expected.width, 3)
        if not any(word.encode() in key for word in CURIOUS):
            far = abs(cache[row].mean((0, 1)) - np.asarray(expected).mean((0, 1))).max()
            assert far <= 2, key
    assert {stage for _, stage, _, _ in cache.failures.raw()} == {"list", "header", "decode"}
    sizes = {key: size for key, _, _, size in cache.failures.raw()}
    assert sizes[b"bad/half.jpg"] == (tmp_path / "in" / "bad" / "half.jpg").stat().st_size


def test_files_that_may_not_be_read_are_named(tmp_path):
    folder = paint_folder(tmp_path / "in", 4, longest=60)
    secret = next(folder.rglob("*.jpg"))
    secret.chmod(0)
    tmp_path.chmod(0o777)
    code = (
        "import os, sys, warnings, mmcache; warnings.simplefilter('ignore');"
        # So that all is imported that may not be read later.
        f"mmcache.build({str(folder)!r}, {str(tmp_path / 'first.mmc')!r}, progress=False);"
        "os.setgid(65534); os.setuid(65534);"
        f"cache = mmcache.build({str(folder)!r}, {str(tmp_path / 'out.mmc')!r}, progress=False);"
        "print(len(cache), *cache.failures)"
    )
    for parent in [tmp_path, *tmp_path.parents]:
        if parent.stat().st_uid == os.getuid() and parent != Path("/"):
            parent.chmod(parent.stat().st_mode | 0o005)
    if os.getuid():
        code = code.replace("os.setgid(65534); os.setuid(65534);", "")
    ran = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=False
    )
    assert ran.returncode == 0, ran.stderr
    assert ran.stdout.startswith("3 ")
    assert secret.name in ran.stdout
    assert "Permission denied" in ran.stdout
    assert "header" in ran.stdout


def test_a_plugin_that_is_missing_is_named_with_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "pillow_heif", None)
    heic = b"\0\0\0\x18ftypheic\0\0\0\0mif1heic" + bytes(40)
    assert looked_at(heic) == 'HEIF is read with a plugin: pip install "mmcache[formats]"'
