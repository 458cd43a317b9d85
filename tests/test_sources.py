"""Folders and lists of paths: which pictures are there, under which names, in which order."""

from __future__ import annotations

import errno
import os
import socket
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from interrupting import interrupted_at_each_step

import mmcache
from mmcache.sources import SOURCES, Folder, Paths, Source, from_json, source_of
from mmcache.sources.files import open_regular
from mmcache.testing import SourceContract, paint_folder

PICTURES = (".jpg", ".jpeg", ".png", ".gif", ".bmp", ".webp", ".tif", ".tiff", ".ppm")


class TestFolder(SourceContract):
    @pytest.fixture
    def source(self, tmp_path):
        return Folder(paint_folder(tmp_path / "pictures", 5, longest=40))


class TestFolderThatFollowsLinks(SourceContract):
    @pytest.fixture
    def source(self, tmp_path):
        painted = paint_folder(tmp_path / "painted", 4, longest=40)
        (tmp_path / "pictures").mkdir()
        (tmp_path / "pictures" / "there").symlink_to(painted)
        return Folder(tmp_path / "pictures", follow_links=True)


class TestPaths(SourceContract):
    @pytest.fixture
    def source(self, tmp_path):
        folder = paint_folder(tmp_path / "pictures", 5, longest=40)
        return Paths(sorted(folder.rglob("*.*"), reverse=True))


def raw_keys(source: Source) -> list[bytes]:
    keys = source.listing().keys
    return [keys.raw(row) for row in range(len(keys))]


def walked(root: Path) -> list[bytes]:
    """What the order of keys is measured by: os.walk, sorted as bytes."""
    start = os.fsencode(root)
    found = []
    for folder, below, files in os.walk(start):
        below[:] = [name for name in below if not name.startswith(b".")]
        found += [
            (folder + b"/" + name).removeprefix(start + b"/")
            for name in files
            if not name.startswith(b".")
        ]
    return sorted(key for key in found if os.fsdecode(key).lower().endswith(PICTURES))


# Names that sort differently as parts, as whole paths, as text and as bytes.
NAMES = st.sampled_from(
    [
        *("a", "a.jpg", "a-b", "a-b.jpg", "a b.PNG", "a0.jpg", "a\n.jpg", "-a.jpg", "--help"),
        *(".a.jpg", ".hidden", "é.jpg", "e\u0301.JpG", "\U0001f600.png", "\uffee.jpg"),
        *("b.jpg", "b.txt", "c", "\udcff.jpg", "\udc80", "x.jpg"),
    ]
)
TREES = st.lists(st.lists(NAMES, min_size=1, max_size=4), max_size=12)


def planted(root: Path, tree: list[list[str]]) -> None:
    """Make a file of each list of parts, where no file or folder is in its way."""
    for parts in tree:
        place = root.joinpath(*parts)
        if any(above.is_file() for above in (place, *place.parents)) or place.is_dir():
            continue
        place.parent.mkdir(parents=True, exist_ok=True)
        place.touch()


@settings(max_examples=150, deadline=None, suppress_health_check=list(HealthCheck))
@given(tree=TREES)
def test_keys_are_the_paths_of_a_walk_in_byte_order(tmp_path_factory, tree):
    root = tmp_path_factory.mktemp("tree")
    planted(root, tree)
    assert raw_keys(Folder(root)) == walked(root)


def image_folder(root: Path) -> tuple[list[str], dict[str, int]]:
    """torchvision's ImageFolder: its find_classes and make_dataset, in our words.

    Source: torchvision/datasets/folder.py.
    """
    classes = sorted(entry.name for entry in os.scandir(root) if entry.is_dir())
    labels = {}
    for number, name in enumerate(classes):
        for folder, _, files in sorted(os.walk(root / name, followlinks=True)):
            for file in sorted(files):
                path = Path(folder, file)
                if file.lower().endswith(PICTURES):
                    labels[path.relative_to(root).as_posix()] = number
    return classes, labels


@settings(max_examples=60, deadline=None, suppress_health_check=list(HealthCheck))
@given(tree=st.lists(st.lists(NAMES.filter(lambda n: n[0] != "." and n.isascii()), min_size=2)))
def test_labels_follow_the_rule_of_torchvisions_image_folder(tmp_path_factory, tree):
    root = tmp_path_factory.mktemp("classes")
    planted(root, tree)
    classes, labels = image_folder(root)
    listing = Folder(root).listing()
    if not labels:
        assert listing.labels is None
        assert listing.classes == ()
        return
    assert list(listing.classes) == classes
    assert dict(zip(listing.keys, listing.labels.tolist(), strict=True)) == labels


def test_a_picture_beside_the_class_folders_has_no_class(tmp_path):
    for name in ("cats/1.jpg", "dogs/2.jpg", "none.jpg"):
        planted(tmp_path, [name.split("/")])
    listing = Folder(tmp_path).listing()
    assert listing.classes == ("cats", "dogs")
    assert dict(zip(listing.keys, listing.labels, strict=True)) == {
        "cats/1.jpg": 0,
        "dogs/2.jpg": 1,
        "none.jpg": -1,
    }


def test_a_folder_without_subfolders_has_no_labels(tmp_path):
    planted(tmp_path, [["a.jpg"], ["b.jpg"]])
    assert Folder(tmp_path).listing().labels is None


def test_a_folder_that_is_called_like_a_picture_is_a_folder(tmp_path):
    planted(tmp_path, [["x.jpg", "inside.png"]])
    assert raw_keys(Folder(tmp_path)) == [b"x.jpg/inside.png"]
    assert not Folder(tmp_path).listing().failures


def test_other_files_are_counted_and_left_out(tmp_path):
    planted(tmp_path, [["a.jpg"], ["notes.txt"], ["Makefile"], ["in", "labels.csv"], [".hidden"]])
    assert Folder(tmp_path).listing().left_out == 3


@pytest.mark.parametrize("name", [b"a\xe9.jpg", b"\xff\xfe.PNG", b"-rf.jpg", b"a\nb.jpg", b" .jpg"])
def test_names_of_any_bytes_open_under_their_keys(tmp_path, name):
    place = os.fsencode(tmp_path) + b"/" + name
    with open(place, "wb") as file:  # noqa: PTH123  # pathlib has no bytes
        file.write(b"some bytes")
    source = Folder(tmp_path)
    assert raw_keys(source) == [name]
    assert list(source.listing().keys) == [os.fsdecode(name)]
    for reader in (source, from_json(source.describe())):
        with reader.open(name) as encoded:
            assert encoded.file.read() == b"some bytes"


def test_a_folder_of_any_bytes_is_described_and_made_again(tmp_path):
    root = os.fsencode(tmp_path) + b"/caf\xe9"
    os.mkdir(root)  # noqa: PTH102  # pathlib has no bytes
    source = Folder(root)
    assert from_json(source.describe()).root == source.root
    assert "\\xe9" in str(source)


def test_very_deep_folders_are_walked(tmp_path):
    depth = 1_100
    keys = b"d/" * depth + b"a.jpg"
    here = os.open(tmp_path, os.O_RDONLY)
    try:
        for _ in range(depth):
            os.mkdir("d", dir_fd=here)
            deeper = os.open("d", os.O_RDONLY, dir_fd=here)
            os.close(here)
            here = deeper
        os.close(os.open("a.jpg", os.O_CREAT | os.O_WRONLY, dir_fd=here))
    finally:
        os.close(here)
    try:
        assert raw_keys(Folder(tmp_path)) == [keys]
    finally:  # pytest's own way to remove folders is recursive
        subprocess.run(["rm", "-r", tmp_path / "d"], check=True)


def test_what_is_no_regular_file_is_named_and_never_opened(tmp_path):
    # In a process of its own, since what fails here hangs.
    os.mkfifo(tmp_path / "fifo.jpg")
    os.mkfifo(tmp_path / "other")
    (tmp_path / "to-fifo.jpg").symlink_to(tmp_path / "fifo.jpg")
    (tmp_path / "to-device.jpg").symlink_to("/dev/zero")
    paint_folder(tmp_path, 2, longest=40, classes=False)
    with socket.socket(socket.AF_UNIX) as listening:
        here = Path.cwd()
        os.chdir(tmp_path)  # a socket's path is short
        try:
            listening.bind("socket.jpg")
        finally:
            os.chdir(here)
        script = """
import sys, warnings, mmcache
warnings.simplefilter("ignore")
folder, out = sys.argv[1:]
names = ["fifo.jpg", "socket.jpg", "to-fifo.jpg", "to-device.jpg"]
named = lambda failures: sorted(f.key.rpartition("/")[2] for f in failures)
print(named(mmcache.Folder(folder).listing().failures))
print(named(mmcache.plan(folder).failures))
cache = mmcache.build(folder, out + "/of-folder.mmc")
print(named(cache.failures), len(cache))
paths = [f"{folder}/{name}" for name in names + ["00000.jpg", "other"]]
cache = mmcache.build(paths, out + "/of-paths.mmc", executor="processes", workers=2)
print(named(cache.failures), len(cache))
for name in names:
    try:
        mmcache.apply(f"{folder}/{name}", cache.recipe)
    except mmcache.PictureError:
        print("refused")
"""
        # /dev/zero never ends: apply would read it for ever, so that it is left out there.
        script = script.replace("for name in names:", "for name in names[:3]:")
        (tmp_path / "out").mkdir()
        (tmp_path / "in").mkdir()
        for entry in list(tmp_path.iterdir()):
            if entry.name not in ("in", "out"):
                entry.rename(tmp_path / "in" / entry.name)
        (tmp_path / "in" / "to-fifo.jpg").unlink()
        (tmp_path / "in" / "to-fifo.jpg").symlink_to("fifo.jpg")
        done = subprocess.run(
            [sys.executable, "-c", script, tmp_path / "in", tmp_path / "out"],
            capture_output=True,
            text=True,
            timeout=60,
            check=True,
        )
    names = ["fifo.jpg", "socket.jpg", "to-device.jpg", "to-fifo.jpg"]
    assert done.stdout.splitlines() == [
        str(names),
        str(names),
        f"{names} 2",
        f"{sorted([*names, 'other'])} 1",
        *["refused"] * 3,
    ]


@pytest.fixture
def linked(tmp_path):
    """A folder with every kind of link."""
    root = tmp_path / "root"
    planted(root, [["real.jpg"], ["deep", "b.jpg"]])
    planted(tmp_path, [["outside", "c.jpg"], ["root-like", "d.jpg"]])
    for name, target in {
        "inside.jpg": "real.jpg",
        "deep/up.jpg": "../real.jpg",
        "out.jpg": "../outside/c.jpg",
        "out-like.jpg": "../root-like/d.jpg",
        "folder": "../outside",
        "loop": ".",
        "deep/loop": "..",
        "deep/self.jpg": "self.jpg",
        "dangling.jpg": "nowhere.jpg",
        "dangling.txt": "nowhere.txt",
        "text.jpg.txt": "real.jpg",
    }.items():
        (root / name).symlink_to(target)
    return root


def test_links_inside_the_folder_are_followed_and_others_named(linked):
    listing = Folder(linked).listing()
    assert list(listing.keys) == ["deep/b.jpg", "deep/up.jpg", "inside.jpg", "real.jpg"]
    reasons = {failure.key: failure.reason for failure in listing.failures}
    assert set(reasons) == {
        *("out.jpg", "out-like.jpg", "folder", "loop", "deep/loop", "deep/self.jpg"),
        "dangling.jpg",
    }
    assert "leads out" in reasons["out.jpg"]
    assert "leads out" in reasons["out-like.jpg"]
    assert "leads nowhere" in reasons["dangling.jpg"]
    assert {failure.stage for failure in listing.failures} == {"list"}
    assert listing.left_out == 2


def test_links_out_of_the_folder_are_followed_when_asked(linked):
    listing = Folder(linked, follow_links=True).listing()
    assert {"out.jpg", "out-like.jpg", "folder/c.jpg"} <= set(listing.keys)
    reasons = {failure.key: failure.reason for failure in listing.failures}
    assert set(reasons) == {"loop", "deep/loop", "deep/self.jpg", "dangling.jpg"}
    assert "loop" in reasons["loop"]


def test_a_source_behind_a_link_is_that_folder(linked, tmp_path):
    (tmp_path / "way").symlink_to(linked)
    assert raw_keys(Folder(tmp_path / "way")) == raw_keys(Folder(linked))


@pytest.mark.skipif(os.geteuid() == 0, reason="root may list everything")
def test_a_folder_that_may_not_be_listed_is_named(tmp_path):
    planted(tmp_path, [["shut", "a.jpg"], ["b.jpg"]])
    (tmp_path / "shut").chmod(0)
    try:
        listing = Folder(tmp_path).listing()
    finally:
        (tmp_path / "shut").chmod(0o700)
    assert list(listing.keys) == ["b.jpg"]
    assert [failure.key for failure in listing.failures] == ["shut"]


# Lists of paths --------------------------------------------------------------------------------


def test_a_list_of_paths_keeps_its_order(tmp_path):
    folder = paint_folder(tmp_path / "in", 6, longest=40, classes=False)
    paths = list(np.random.default_rng(3).permutation(sorted(map(str, folder.iterdir()))))
    cache = mmcache.build(paths, tmp_path / "out.mmc")
    assert list(cache.keys) == paths
    stored = np.load(tmp_path / "out.mmc" / "key_order.npy")
    assert [paths[row] for row in stored] == sorted(paths, key=os.fsencode)
    for row, path in enumerate(paths):
        assert np.array_equal(cache[path], cache[row])
        assert np.array_equal(cache[path], mmcache.apply(path, cache.recipe))


def test_paths_may_be_strings_bytes_and_path_objects(tmp_path):
    folder = paint_folder(tmp_path / "in", 3, longest=40, classes=False)
    one, two, three = sorted(folder.iterdir())
    source = source_of([one, str(two), os.fsencode(three)])
    assert raw_keys(source) == [os.fsencode(path) for path in (one, two, three)]


def test_relative_paths_are_those_of_the_working_directory(tmp_path, monkeypatch):
    folder = paint_folder(tmp_path / "in", 2, longest=40, classes=False)
    monkeypatch.chdir(folder)
    names = sorted(path.name for path in folder.iterdir())
    source = Paths(names)
    monkeypatch.chdir(tmp_path)
    assert raw_keys(source) == [os.fsencode(name) for name in names]
    with from_json(source.describe()).open(os.fsencode(names[0])) as encoded:
        assert encoded.file.read() == (folder / names[0]).read_bytes()


def test_a_path_that_is_there_twice_is_one_sentence(tmp_path):
    folder = paint_folder(tmp_path / "in", 2, longest=40, classes=False)
    path = str(next(folder.iterdir()))
    with pytest.raises(mmcache.SourceError, match=r"00.*twice"):
        mmcache.build([path, path], tmp_path / "out.mmc")
    assert not (tmp_path / "out.mmc").exists()


def test_paths_that_cannot_be_read_are_failures(tmp_path):
    folder = paint_folder(tmp_path / "in", 1, longest=40, classes=False)
    good = str(next(folder.iterdir()))
    planned = mmcache.plan([good, str(tmp_path), str(tmp_path / "missing.jpg")])
    assert list(planned.keys) == [good]
    assert {failure.key: failure.reason for failure in planned.failures} == {
        str(tmp_path): "not a regular file",
        str(tmp_path / "missing.jpg"): os.strerror(errno.ENOENT),
    }


# What a source is made of ----------------------------------------------------------------------


@pytest.mark.parametrize("nonsense", [5, None, [5], [None], 3.5, [b"a.jpg", 3]])
def test_what_is_no_source_is_a_setting_error(nonsense):
    with pytest.raises(mmcache.SettingError):
        source_of(nonsense)


def test_a_source_of_ones_own_is_taken_as_it_is(tmp_path):
    source = Folder(paint_folder(tmp_path, 2, longest=40))
    assert source_of(source) is source


def test_every_source_that_can_be_described_is_registered(tmp_path):
    for kind, maker in SOURCES.items():
        made = maker(tmp_path) if kind == "folder" else maker([])
        assert made.describe()["kind"] == kind
        assert type(from_json(made.describe())) is maker
    concrete = {
        thing
        for module in (sys.modules[f"mmcache.sources.{name}"] for name in ("folder", "paths"))
        for thing in vars(module).values()
        if isinstance(thing, type) and "describe" in vars(thing)
    }
    assert concrete == set(SOURCES.values())


def test_a_path_that_no_file_can_have_is_a_failure_and_the_others_are_in(tmp_path):
    paths = sorted(paint_folder(tmp_path / "in", 3, longest=60).rglob("*.*g"))
    with pytest.warns(mmcache.PicturesSkippedWarning):
        cache = mmcache.build([*paths, "no\0path.jpg"], tmp_path / "out.mmc", size=20)
    assert len(cache) == 3
    assert list(cache.failures) == [("no\0path.jpg", "header", "no file can have this name", None)]


@pytest.mark.skipif(not Path("/proc/self/fd").is_dir(), reason="only Linux tells what is open")
def test_an_interruption_while_a_picture_is_opened_is_no_other_error(tmp_path):
    # It was once closed twice: the build then went on without that picture.
    (tmp_path / "a.jpg").write_bytes(b"anything")

    def open_and_close():
        open_regular(os.fsencode(tmp_path / "a.jpg")).file.close()

    def count_open():
        return len(list(Path("/proc/self/fd").iterdir()))

    before, steps = count_open(), 0
    for _ in interrupted_at_each_step(open_regular, open_and_close):
        assert count_open() == before
        steps += 1
    assert steps > 10
