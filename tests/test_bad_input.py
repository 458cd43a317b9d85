"""What bad input gets: one sentence, the right exit status, and nothing written anywhere."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys

import pytest

import mmcache
from mmcache import filling
from mmcache.testing import paint_folder


def names(folder):
    """Return what is in a folder, hidden things too."""
    return sorted(path.name for path in folder.iterdir())


def tree(root):
    """Return all that is under a folder: names, kinds, sizes, contents of links and of files."""
    found = {}
    for path in sorted(root.rglob("*")):
        status = path.lstat()
        content = None
        if path.is_symlink():
            content = path.readlink()
        elif path.is_file():
            content = path.read_bytes()
        found[path] = (status.st_mode, status.st_size, status.st_ino, content)
    return found


@pytest.fixture
def place(tmp_path):
    """A folder with sources and destinations of every bad kind."""
    paint_folder(tmp_path / "photos", 6, longest=60)
    paint_folder(tmp_path / "around.mmc" / "photos", 2, longest=60)
    (tmp_path / "empty").mkdir()
    (tmp_path / "hidden" / ".in").mkdir(parents=True)
    (tmp_path / "hidden" / ".in" / "a.jpg").touch()
    (tmp_path / "others").mkdir()
    (tmp_path / "others" / "notes.txt").write_text("no picture")
    (tmp_path / "broken").mkdir()
    (tmp_path / "broken" / "a.jpg").write_text("no picture")
    (tmp_path / "broken" / "b.png").touch()
    paint_folder(tmp_path / "cut", 3, longest=60)
    for path in (tmp_path / "cut").rglob("0*"):
        os.truncate(path, path.stat().st_size // 2)
    (tmp_path / "file.mmc").write_text("mine")
    (tmp_path / "empty.mmc").mkdir()
    (tmp_path / "things.mmc").mkdir()
    (tmp_path / "things.mmc" / "mmcache.json").write_text("{}")
    (tmp_path / "things.mmc" / "mine").write_text("mine")
    (tmp_path / "dangling.mmc").symlink_to("nowhere/at/all.mmc")
    os.mkfifo(tmp_path / "fifo.mmc")
    return tmp_path


# Source, destination, exit status, error, a part of the sentence.
CASES = {
    "an empty folder": ("empty", "out.mmc", 1, mmcache.SourceError, "no pictures in"),
    "hidden pictures": ("hidden", "out.mmc", 1, mmcache.SourceError, "no pictures in"),
    "other files": ("others", "out.mmc", 1, mmcache.SourceError, "1 other file"),
    "unreadable files": ("broken", "out.mmc", 1, mmcache.SourceError, "none of 2 pictures"),
    "cut files": ("cut", "out.mmc", 1, mmcache.SourceError, "none of 3 pictures"),
    "no source": ("missing", "out.mmc", 1, mmcache.SourceNotFoundError, "there is no folder"),
    "a file": ("broken/a.jpg", "out.mmc", 1, mmcache.SourceError, "is a file"),
    "no ending": ("photos", "out", 2, mmcache.SettingError, "no format for"),
    "an unknown ending": ("photos", "out.xyz", 2, mmcache.SettingError, "end the path in"),
    "inside": ("photos", "photos/out.mmc", 1, mmcache.DestinationError, "is inside"),
    "deep inside": ("photos", "photos/waves/o.mmc", 1, mmcache.DestinationError, "is inside"),
    "around": ("around.mmc/photos", "around.mmc", 1, mmcache.DestinationError, "contains"),
    "the same": ("around.mmc", "around.mmc", 1, mmcache.DestinationError, "is inside"),
    "a file there": ("photos", "file.mmc", 1, mmcache.DestinationError, "is no cache"),
    "a folder there": ("photos", "empty.mmc", 1, mmcache.DestinationError, "is no cache"),
    "things there": ("photos", "things.mmc", 1, mmcache.DestinationError, "is no cache"),
    "a fifo there": ("photos", "fifo.mmc", 1, mmcache.DestinationError, "is no cache"),
    "no parent": ("photos", "no/out.mmc", 1, mmcache.DestinationError, "there is no folder"),
    "a file as parent": ("photos", "file.mmc/out.mmc", 1, mmcache.DestinationError, "no folder"),
    "a link to nowhere": ("photos", "dangling.mmc", 1, mmcache.DestinationError, "no folder"),
}


@pytest.mark.parametrize("exist", ["resume", "overwrite", "update"])
@pytest.mark.parametrize("case", CASES.values(), ids=CASES)
def test_bad_paths_are_refused_and_nothing_is_touched(place, monkeypatch, case, exist):
    source, path, _, error, sentence = case
    monkeypatch.chdir(place)
    before = tree(place)
    with pytest.raises(error) as caught:
        mmcache.build(source, path, size=20, exist=exist)
    assert sentence in str(caught.value)
    assert "\n" not in str(caught.value)
    assert tree(place) == before


@pytest.mark.parametrize("case", CASES.values(), ids=CASES)
def test_the_command_line_says_it_in_one_line(place, case):
    source, path, status, _, sentence = case
    before = tree(place)
    ran = subprocess.run(
        [sys.executable, "-m", "mmcache", "build", source, path],
        cwd=place, capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip
    assert (ran.returncode, ran.stdout) == (status, "")
    assert ran.stderr.startswith("mmcache: error: ")
    assert sentence in ran.stderr
    assert ran.stderr.count("\n") == 1
    assert tree(place) == before


NONSENSE = {
    "size": [0, -1, 1.5, "256", None, True, (1,), (1, 2, 3), (0, 5), (5, -5), 65_536, 10**30, []],
    "resize": ["squash", None, 3, ""],
    "resample": ["cubic", None, 1],
    "mode": ["BGR", "rgb", None],
    "background": [-1, 256, "no colour", (1, 2), (1, 2, 3, 4), (1, 2, 256), 1.5, None, True],
    "upscale": ["yes", 2],
    "multiple_of": [0, -8, 1.5, "8", None, True],
    "store": ["tar", 5],
    "workers": [0, -1, 1.5, "2", True],
    "executor": ["fibers", None, 3],
    "on_error": ["ignore", None],
    "exist": ["append", None, True],
}


@pytest.mark.parametrize(
    ("name", "value"), [(name, value) for name, values in NONSENSE.items() for value in values]
)
def test_nonsense_settings_are_refused_and_nothing_is_touched(place, name, value):
    before = tree(place)
    with pytest.raises(mmcache.SettingError) as caught:
        mmcache.build(place / "photos", place / "out.mmc", **{name: value})
    assert name in str(caught.value)
    assert "\n" not in str(caught.value)
    assert tree(place) == before


@pytest.mark.parametrize(
    "arguments",
    [
        ("--size", "0"), ("--size", "-5"), ("--size", "1x2x3"), ("--size", "99999"),
        ("--background", "no colour"), ("--background", "1,2"), ("--background", "256"),
        ("--multiple-of", "0"), ("--workers", "0"), ("--store", "tar"),
        ("--resize", "crop", "--no-upscale"),
    ],
)  # fmt: skip
def test_nonsense_on_the_command_line_is_exit_status_2(place, arguments):
    before = tree(place)
    ran = subprocess.run(
        [sys.executable, "-m", "mmcache", "build", "photos", "out.mmc", *arguments],
        cwd=place, capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip
    assert (ran.returncode, ran.stdout) == (2, ""), ran.stderr
    assert "mmcache" in ran.stderr
    assert "error: " in ran.stderr
    assert "Traceback" not in ran.stderr
    assert tree(place) == before


def test_a_plan_is_refused_as_its_build_is(place, monkeypatch):
    monkeypatch.chdir(place)
    for source in ("empty", "missing", "broken/a.jpg"):
        with pytest.raises(mmcache.MmcacheError):
            mmcache.plan(source)
    planned = mmcache.plan("broken")  # a plan may tell what a build would refuse
    assert (len(planned), len(planned.failures)) == (0, 2)
    assert "0 pictures" in repr(planned)
    assert "a.jpg" in planned._repr_html_()
    assert planned.nbytes == sum(planned.array_bytes.values())


def test_an_empty_list_of_paths_is_refused(tmp_path):
    with pytest.raises(mmcache.SourceError, match="no pictures"):
        mmcache.build([], tmp_path / "out.mmc")
    assert names(tmp_path) == []


# Room ------------------------------------------------------------------------------------------


def test_a_cache_that_is_larger_than_the_free_space_is_refused_before_it_begins(place, monkeypatch):
    before = tree(place)
    planned = mmcache.plan(place / "photos")
    usage = shutil.disk_usage(place)._replace(free=planned.nbytes - 1)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage)
    monkeypatch.setattr(filling.Filling, "fill", None)
    with pytest.raises(mmcache.NoSpaceError, match=f"are free on {place}") as caught:
        mmcache.build(place / "photos", place / "out.mmc")
    # What stands round the arrays in their files is needed, too.
    assert planned.nbytes < caught.value.needed < planned.nbytes + 1_000_000
    assert caught.value.free == planned.nbytes - 1
    assert tree(place) == before


@pytest.fixture
def small_disk(tmp_path):
    """A disk of 1 MiB: a tmpfs, for which one must be root."""
    disk = tmp_path / "disk"
    disk.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", disk]
    if subprocess.run(mount, capture_output=True, check=False).returncode:
        pytest.skip("no disk can be mounted here")
    yield disk
    subprocess.run(["umount", disk], check=True)


def test_a_small_disk_is_refused_with_both_numbers(small_disk, tmp_path):
    folder = paint_folder(tmp_path / "in", 20, longest=300)
    with pytest.raises(mmcache.NoSpaceError, match=rf"needs .* MB and .* free on {small_disk}"):
        mmcache.build(folder, small_disk / "out.mmc")
    assert names(small_disk) == []


@pytest.mark.parametrize("count", [19, 20, 21, 22])
def test_a_disk_that_is_full_while_it_is_written_to_is_the_same_error(
    small_disk, tmp_path, count, monkeypatch
):
    # Records of 48 kB: the payload fits or just does not, and the small arrays do not.
    folder = paint_folder(tmp_path / "in", count, longest=60)
    monkeypatch.setattr(filling, "check_room", lambda *_: None)
    with pytest.raises(mmcache.NoSpaceError, match="needs") as caught:
        mmcache.build(folder, small_disk / "out.mmc", size=128, resize="pad", upscale=True)
    assert ".mmcache-" not in str(caught.value)
    assert not (small_disk / "out.mmc").exists()
    # The same call goes on when there is room.
    larger = ["mount", "-o", "remount,size=8m", small_disk]
    subprocess.run(larger, capture_output=True, check=True)
    mmcache.build(folder, small_disk / "out.mmc", size=128, resize="pad", upscale=True)
    assert names(small_disk) == ["out.mmc"]


def test_the_command_line_says_that_there_is_no_room(small_disk, tmp_path):
    folder = paint_folder(tmp_path / "in", 20, longest=300)
    ran = subprocess.run(
        [sys.executable, "-m", "mmcache", "build", folder, small_disk / "out.mmc"],
        capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip
    assert (ran.returncode, ran.stderr.count("\n")) == (1, 1)
    assert "are free on" in ran.stderr
