"""Bombs and monsters: what a build may take, and that it takes no more."""

from __future__ import annotations

import json
import os
import pickle
import subprocess
import sys
import threading
import time
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import mmcache
from mmcache import limits, survey
from mmcache.images import decode_bytes, read_header
from mmcache.limits import Limits, limits_of
from mmcache.recipe import Recipe
from mmcache.testing import paint, paint_folder
from mmcache.workers import executor_of, results

# Settings ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("said", "meant"),
    [
        ("1.5 GB", 1_500_000_000), ("1500MB", 1_500_000_000), ("2GiB", 2 << 30),
        ("512 mib", 512 << 20), ("1e9", None), (3_000_000_000, 3_000_000_000),
        (np.int64(10**9), 10**9), ("300000 kB", 3 * 10**8), ("400000000", 4 * 10**8),
        ("0.001 TB", 10**9), ("", None), ("lots", None), ("-1 GB", None), (1.5, None),
        (True, None), (0, None), ("100 MB", None), (-5, None), ([], None), ("5 i", None),
    ],
)  # fmt: skip
def test_memory_is_said_in_bytes_or_as_people_do(said, meant):
    if meant is None:
        with pytest.raises(mmcache.SettingError, match="max_memory="):
            limits_of(max_memory=said)
    else:
        assert limits_of(max_memory=said).memory == meant


def test_without_a_word_a_build_takes_4_gb_or_half_of_what_there_is(monkeypatch):
    for there, meant in ((64 * 10**9, 4 * 10**9), (6 * 10**9, 3 * 10**9), (10**8, 256 * 10**6)):
        monkeypatch.setattr(limits, "machine_memory", lambda there=there: there)
        assert limits_of().memory == meant


@pytest.mark.parametrize("nonsense", [0, -1, 1.5, "9", None, True])
def test_nonsense_is_refused(nonsense):
    with pytest.raises(mmcache.SettingError, match="max_pixels="):
        limits_of(max_pixels=nonsense)
    if nonsense not in (None, 0):
        with pytest.raises(mmcache.SettingError, match="max_failures="):
            limits_of(max_failures=nonsense)


# Pixels ------------------------------------------------------------------------------------------


def test_a_picture_of_more_pixels_than_the_limit_is_named(tmp_path):
    folder = tmp_path / "in"
    folder.mkdir()
    for name, edge in (("small", 100), ("large", 101)):
        paint(mmcache.Size(100, edge)).save(folder / f"{name}.png")
    with pytest.warns(mmcache.PicturesSkippedWarning):
        cache = mmcache.build(folder, tmp_path / "out.mmc", max_pixels=10_000)
    assert list(cache.keys) == ["small.png"]
    (failure,) = cache.failures
    assert (failure.key, failure.stage) == ("large.png", "header")
    assert "100 x 101" in failure.reason
    assert "max_pixels= raises it" in failure.reason
    assert failure.file_size == (folder / "large.png").stat().st_size
    raised = mmcache.build(folder, tmp_path / "out.mmc", max_pixels=10_100, exist="update")
    assert len(raised) == 2


def test_a_bomb_is_not_decoded_to_see_whether_it_is_mended(tmp_path, monkeypatch):
    folder = paint_folder(tmp_path / "in", 3, longest=90)
    Image.new("1", (3_000, 3_000)).save(folder / "bomb.png")
    limit = {"max_pixels": 1_000_000}
    with pytest.warns(mmcache.PicturesSkippedWarning):
        cache = mmcache.build(folder, tmp_path / "out.mmc", **limit)
    decoded = []
    monkeypatch.setattr("mmcache.tasks.decode", lambda *_: decoded.append(1))
    same = mmcache.build(folder, tmp_path / "out.mmc", exist="update", **limit)
    assert same.fingerprint == cache.fingerprint
    assert not decoded


def test_pillows_own_limit_is_of_no_account(tmp_path, monkeypatch):
    monkeypatch.setattr("PIL.Image.MAX_IMAGE_PIXELS", 10)
    folder = paint_folder(tmp_path / "in", 8, longest=90)
    assert len(mmcache.build(folder, tmp_path / "out.mmc")) == 8


# Failures ----------------------------------------------------------------------------------------


@pytest.fixture
def broken(tmp_path):
    """Eight pictures, of which two cannot be listed, three not opened, and three not decoded."""
    folder = paint_folder(tmp_path / "in", 8, longest=90, classes=False)
    for number in range(3):
        (folder / f"text{number}.jpg").write_text("no picture")
        whole = (folder / "00000.jpg").read_bytes()
        (folder / f"cut{number}.jpg").write_bytes(whole[: len(whole) // 2])
    for number in range(2):
        (folder / f"nowhere{number}.jpg").symlink_to("nowhere")
    return folder


@pytest.mark.parametrize("executor", ["serial", "threads", "processes"])
@pytest.mark.parametrize("most", [0, 1, 2, 4, 5, 7])
def test_a_hopeless_build_ends_early(broken, tmp_path, most, executor):
    with pytest.raises(mmcache.TooManyFailuresError) as caught:
        mmcache.build(broken, tmp_path / "out.mmc", max_failures=most, executor=executor)
    assert len(caught.value.failures) > most
    assert f"max_failures={most} was asked for" in str(caught.value)
    assert caught.value.failures[0].key in str(caught.value)
    assert "\n" not in str(caught.value)
    mmcache.discard(tmp_path / "out.mmc")  # what was done by then is kept
    assert [path.name for path in tmp_path.iterdir()] == ["in"]
    again = pickle.loads(pickle.dumps(caught.value))
    assert list(again.failures) == list(caught.value.failures)


def test_as_many_failures_as_are_allowed_are_no_error(broken, tmp_path):
    with pytest.warns(mmcache.PicturesSkippedWarning):
        cache = mmcache.build(broken, tmp_path / "out.mmc", max_failures=8)
    assert len(cache.failures) == 8


def test_a_hopeless_folder_is_left_before_all_of_it_was_opened(tmp_path, monkeypatch):
    folder = tmp_path / "in"
    folder.mkdir()
    for number in range(1_000):
        (folder / f"{number}.jpg").touch()
    opened = []
    monkeypatch.setattr(survey, "read_header", lambda *_: opened.append(1) or 1 / 0)
    with pytest.raises(mmcache.TooManyFailuresError):
        mmcache.plan(folder, max_failures=5, executor="serial")
    assert len(opened) <= 256


# Memory ------------------------------------------------------------------------------------------


def test_a_picture_that_needs_more_memory_than_the_build_has_is_named(tmp_path):
    folder = tmp_path / "in"
    folder.mkdir()
    paint(mmcache.Size(60, 80)).save(folder / "small.png")
    Image.new("RGB", (6_000, 6_000)).save(folder / "large.png", compress_level=1)
    with pytest.warns(mmcache.PicturesSkippedWarning):
        cache = mmcache.build(folder, tmp_path / "out.mmc", max_memory="256 MB")
    (failure,) = cache.failures
    assert failure.key == "large.png"
    assert "needs about 15" in failure.reason
    assert "max_memory= raises that" in failure.reason
    assert len(mmcache.build(folder, tmp_path / "two.mmc", max_memory="300 MB")) == 2


@pytest.mark.parametrize("executor", ["serial", "threads"])
def test_what_is_heavy_waits_and_what_is_light_does_not(executor):
    weights = [9, 1, 1, 9, 9, 1, 12, 1, 1, 1, 9]
    lock, now, most, order = threading.Lock(), [0], [0], []

    def work(weight):
        with lock:
            now[0] += weight
            most[0] = max(most[0], now[0])
        time.sleep(0.01)
        with lock:
            now[0] -= weight
            order.append(weight)
        return weight

    with executor_of(executor, 4) as pool:
        done = list(results(pool, work, weights, 4, weigh=lambda weight: weight, most=10))
    assert sorted(done) == sorted(weights)
    assert most[0] <= 12  # the one that weighs more than all may goes alone


@pytest.mark.parametrize("width", [1, 3, 7])
def test_without_weights_everybody_works(width):
    barrier = threading.Barrier(width, timeout=10)
    with executor_of("threads", width) as pool:
        assert (
            len(list(results(pool, lambda _: barrier.wait(), range(width * 5), width))) == width * 5
        )


WATCHED = """
import io, sys
from mmcache.images import decode_flagged, read_header
from mmcache.recipe import Recipe
path, recipe = sys.argv[1], Recipe(**eval(sys.argv[2]))
with open(path, "rb") as file:
    header = read_header(file, recipe.frame)
print(flush=True)
sys.stdin.readline()
with open(path, "rb") as file:
    data = file.read()
decode_flagged(io.BytesIO(data), recipe, expected=header.size, orientation=header.orientation)
print(flush=True)
sys.stdin.readline()
"""


def private(pid):
    status = Path(f"/proc/{pid}/status").read_text(encoding="ascii")
    return int(status.partition("RssAnon:")[2].split()[0]) * 1024


def watched(path, recipe):
    """Decode in a process of its own and return the private memory that it took, in bytes."""
    process = subprocess.Popen(
        [sys.executable, "-W", "ignore", "-c", WATCHED, path, repr(recipe)],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, env=os.environ | {"MALLOC_ARENA_MAX": "1"},
    )  # fmt: skip
    with process:
        process.stdout.readline()
        before = most = private(process.pid)
        process.stdin.write(b"\n")
        process.stdin.flush()
        reader = threading.Thread(target=process.stdout.readline)
        reader.start()
        while reader.is_alive():
            most = max(most, private(process.pid))
            time.sleep(0.0005)
        process.stdin.write(b"\n")
        process.stdin.flush()
    return most - before


MONSTERS = {
    "rgb.png": ("RGB", {}), "palette.png": ("P", {}), "alpha.png": ("RGBA", {}),
    "grey16.png": ("I;16", {}), "float.tif": ("F", {}), "colour.jpg": ("RGB", {}),
    "progressive.jpg": ("RGB", {"progressive": True}), "ink.jpg": ("CMYK", {"progressive": True}),
    "colour.webp": ("RGB", {"method": 0}), "colour.jp2": ("RGB", {}), "grey.jp2": ("L", {}),
    "colour.avif": ("RGB", {"speed": 10}), "strip.tif": ("RGB", {"compression": "tiff_lzw",
    "strip_size": 1 << 30}), "rgba.tga": ("RGBA", {}), "colour.sgi": ("RGB", {}),
}  # fmt: skip


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="memory is told in /proc")
@pytest.mark.parametrize("name", MONSTERS)
def test_decoding_takes_no_more_memory_than_its_header_told(tmp_path, name):
    mode, options = MONSTERS[name]
    grey = paint(mmcache.Size(2_500, 3_000), mode="L")
    image = {
        "I;16": lambda: Image.fromarray(np.asarray(grey).astype(np.uint16) * 257),
        "F": lambda: Image.fromarray(np.asarray(grey).astype(np.float32)),
        "RGBA": lambda: Image.merge("RGBA", [grey] * 4),
    }.get(mode, lambda: grey.convert("RGB").convert(mode))()
    image.save(tmp_path / name, **options)
    settings = {"size": 200}
    with (tmp_path / name).open("rb") as file:
        header = read_header(file)
    told = decode_bytes(header, Recipe(**settings), (tmp_path / name).stat().st_size)
    took = watched(tmp_path / name, settings)
    assert took <= told + (4 << 20)
    assert told <= 3 * took + (24 << 20)  # and it is no wild guess


BUILD = """
import json, sys, warnings, mmcache
warnings.simplefilter("ignore")
settings = json.loads(sys.argv[3])
cache = mmcache.build(sys.argv[1], sys.argv[2], workers=2, progress=False, **settings)
peak = int(open("/proc/self/status").read().partition("VmHWM:")[2].split()[0]) * 1024
print(json.dumps([len(cache), [f.key for f in cache.failures], peak]))
"""


def peak_of_build(folder, path, **settings):
    """Build in a process of its own: pictures, failures, and the most resident memory in bytes."""
    ran = subprocess.run(
        [sys.executable, "-c", BUILD, folder, path, json.dumps(settings)],
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    return json.loads(ran.stdout)


@pytest.fixture
def giants(tmp_path):
    """Four pictures of 13,000 x 13,000, of several modes, among small ones."""
    folder = paint_folder(tmp_path / "in", 40, longest=300, classes=False)
    edge = 13_000
    row = np.tile(np.arange(edge, dtype=np.uint32) >> 6, (edge, 1)).astype(np.uint8)
    grey = Image.fromarray(row)
    for number in range(2):
        Image.merge("RGB", [grey] * 3).save(folder / f"0001{number}-giant.png", compress_level=1)
    grey.putpalette(bytes(range(256)) * 3)
    grey.save(folder / "00020-giant.png", transparency=7, compress_level=1)
    rgba = Image.merge("RGBA", [Image.fromarray(row)] * 4)
    rgba.save(folder / "00030-giant.png", compress_level=1)
    return folder


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="memory is told in /proc")
def test_giants_wait_for_each_other_and_stay_within_the_limit(giants, tmp_path):
    # Less than two of them would take: 676 MB each, and their files.
    count, failed, peak = peak_of_build(giants, tmp_path / "out.mmc", max_memory="1.2 GB")
    assert (count, failed) == (44, [])
    assert 676_000_000 < peak < 1_200_000_000


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="memory is told in /proc")
def test_a_scene_of_20000_by_20000_is_read_by_default(tmp_path):
    folder = tmp_path / "in"
    folder.mkdir()
    edge = 20_000
    row = (np.arange(edge) * 255 // edge).astype(np.uint8)
    Image.fromarray(np.tile(row, (edge, 1))).save(folder / "scene.jpg", quality=80)
    count, failed, peak = peak_of_build(folder, tmp_path / "out.mmc")
    assert (count, failed) == (1, [])
    assert peak < 300_000_000  # it is decoded at an eighth
    scene = mmcache.open(tmp_path / "out.mmc")[0][128, :, 0].astype(int)
    assert abs(scene - np.arange(256) * 255 / 256).max() <= 3


def test_limits_are_plain_and_travel():
    assert pickle.loads(pickle.dumps(Limits(1, 2, None))) == Limits(1, 2, None)
