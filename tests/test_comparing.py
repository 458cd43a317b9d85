"""Compare: what changed since a cache was built, against dicts of what was there and what is."""

from __future__ import annotations

import io
import json
import os
import random
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image, features

import mmcache
from mmcache.cli import main
from mmcache.comparing import differences
from mmcache.libraries import libraries
from mmcache.records import Failures, Strings, printable, to_bytes, to_str
from mmcache.sources import Encoded, Listing
from mmcache.testing import paint, paint_folder, painted_sizes, save


def bitmap(edge, grey):
    """Encode a picture so that all of one edge have the same length."""
    file = io.BytesIO()
    Image.new("L", (edge, edge), grey).save(file, "BMP")
    return file.getvalue()


SMALL = [bitmap(4, grey) for grey in range(4)]
LARGE = [bitmap(9, grey) for grey in range(3)]
NONE = [b"no picture", b"no picture either", b"no PICTURE"]

# Names to (bytes, time, class), as the cache was built from them, in this order.
BEFORE = {
    b"b.bmp": (SMALL[0], 1, "cats"),
    b"a.bmp": (SMALL[1], 2, "dogs"),
    b"caf\xe9.bmp": (SMALL[1], 3, None),
    b"c/d.bmp": (LARGE[0], 4, "dogs"),
    b"c/e.bmp": (LARGE[1], 5, "cats"),
    b"failed.bmp": (NONE[0], 6, None),
    b"z\n.bmp": (SMALL[2], 7, "cats"),
    b"y.bmp": (SMALL[0], 8, "cats"),
    b"wrong.bmp": (NONE[1], 9, "dogs"),
}
FAILED = {key for key, (data, *_) in BEFORE.items() if data in NONE}
ROWS = [key for key in BEFORE if key not in FAILED]


class InMemory:
    """Pictures in a dict; it notes which of them are opened."""

    def __init__(self, pictures):
        self.pictures = pictures
        self.opened = []

    def listing(self):
        classes = sorted({name for *_, name in self.pictures.values() if name is not None})
        labels = [
            -1 if name is None else classes.index(name) for *_, name in self.pictures.values()
        ]
        return Listing(
            keys=Strings.of(self.pictures),
            labels=np.array(labels, np.int64) if classes else None,
            classes=tuple(classes),
            failures=Failures.of([]),
            left_out=0,
        )

    def open(self, key):
        self.opened.append(key)
        data, time, _ = self.pictures[key]
        return Encoded(io.BytesIO(data), len(data), time)

    def stat(self, key):
        data, time, _ = self.pictures[key]
        return len(data), time

    def describe(self):
        return None


@pytest.fixture(scope="module")
def cache(tmp_path_factory):
    path = tmp_path_factory.mktemp("compared") / "photos.mmc"
    with pytest.warns(mmcache.PicturesSkippedWarning):
        return mmcache.build(InMemory(BEFORE), path, size=8)


def moves(after):
    """Pair what is gone with what is new by content, the first with the first."""
    left = [key for key in ROWS if key not in after]
    pairs = []
    for key, (data, *_) in after.items():
        old = next((old for old in left if BEFORE[old][0] == data), None)
        if key not in BEFORE and old is not None:
            left.remove(old)
            pairs.append((old, key))
    return pairs


def read(after):
    """Name what has to be read: what sizes and times leave in doubt."""
    gone = {len(BEFORE[key][0]) for key in ROWS if key not in after}
    for key, (data, time, _) in after.items():
        if key in ROWS:
            was, then, _ = BEFORE[key]
            if len(was) == len(data) and then != time:
                yield key
        elif key not in FAILED and len(data) in gone:
            yield key


def check(cache, after):
    """Compare as mmcache does and as dicts do."""
    source = InMemory(after)
    told = mmcache.compare(cache, source)
    both = [key for key in after if key in ROWS]
    moved = moves(after)
    olds, news = [old for old, _ in moved], [new for _, new in moved]
    changed = [key for key in both if after[key][0] != BEFORE[key][0]]
    expected = {
        "added": [key for key in after if key not in BEFORE and key not in news],
        "changed": changed,
        "moved_from": olds,
        "moved_to": news,
        "removed": [key for key in ROWS if key not in after and key not in olds],
        "relabelled": [key for key in both if after[key][2] != BEFORE[key][2]],
        "failed": [key for key in after if key in FAILED],
        "retry": [
            key for key in after if key in FAILED and len(after[key][0]) != len(BEFORE[key][0])
        ],
    }
    for name, keys in expected.items():
        assert getattr(told, name) == [to_str(key) for key in keys], name
    assert told.moved == [(to_str(old), to_str(new)) for old, new in moved]
    assert told.touched == sum(
        after[key][0] == BEFORE[key][0] and after[key][1] != BEFORE[key][1] for key in both
    )
    assert told.reordered == (both != [key for key in ROWS if key in after])
    content = {key: ROWS.index(key) for key in both if key not in changed}
    content |= {new: ROWS.index(old) for old, new in moved}
    assert told.rows.tolist() == [content.get(key, -1) for key in after]
    assert sorted(source.opened) == sorted(read(after))
    assert told.same == (
        not told.reordered and not any(expected[name] for name in expected if name != "failed")
    )
    shown(told)
    return told


def shown(told):
    """Look that it prints, and that JSON comes back as it went."""
    assert json.loads(json.dumps(told.to_json(), allow_nan=False).encode("utf-8")) == told.to_json()
    for text in (repr(told), told._repr_html_()):
        text.encode("utf-8")
        assert (told.summary() or " holds what is in ") in text


@st.composite
def later(draw):
    """Draw what becomes of the pictures: kept, touched, changed, renamed, removed, new, reordered.

    A file whose content changes gets another time; where it does not, nobody could tell.
    """
    after = {}
    fresh = iter(range(1_000, 2_000))
    for key, (data, time, name) in BEFORE.items():
        fate = draw(
            st.sampled_from(
                ["kept", "kept", "touched", "changed", "renamed", "removed", "relabelled"]
            )
        )
        if fate == "removed":
            continue
        if fate == "renamed":
            key = draw(st.sampled_from([key[:-4] + b".png", b"new/" + key, b"\xff" + key]))  # noqa: PLW2901
        if fate == "changed":
            data, time = draw(st.sampled_from(SMALL + LARGE + NONE)), next(fresh)  # noqa: PLW2901
        if fate == "touched":
            time = next(fresh)  # noqa: PLW2901
        if fate == "relabelled":
            name = draw(st.sampled_from(["cats", "dogs", "birds", None]))  # noqa: PLW2901
        after[key] = (data, time, name)
    for number in range(draw(st.integers(0, 4))):
        after[b"added-%d" % number] = (draw(st.sampled_from(SMALL + LARGE + NONE)), 1, "ants")
    if draw(st.booleans()):
        after = {key: after[key] for key in draw(st.permutations(list(after)))}
    return after


@given(after=later())
def test_it_tells_what_two_dicts_tell_and_reads_no_file_that_it_need_not(cache, after):
    check(cache, after)


def test_what_is_unchanged_is_the_same_and_nothing_is_read(cache):
    told = check(cache, BEFORE)
    assert told.same
    assert told.summary() == ""
    assert len(told.failed) == 2
    assert "photos.mmc holds what is in " in repr(told)


def test_a_time_alone_is_no_change(cache):
    after = {key: (data, time + 100, name) for key, (data, time, name) in BEFORE.items()}
    told = check(cache, after)
    assert told.same
    assert told.touched == len(ROWS)


def test_copies_of_one_content_are_moved_each_once(cache):
    after = dict(BEFORE)
    data, time, name = after.pop(b"b.bmp")
    del after[b"y.bmp"]  # of the same content
    after |= dict.fromkeys((b"1", b"2", b"3"), (data, time, name))
    told = check(cache, after)
    assert told.moved == [("b.bmp", "1"), ("y.bmp", "2")]
    assert told.added == ["3"]
    assert told.summary() == "1 added, 2 moved"


def test_two_files_that_took_each_others_names_are_changed(cache):
    after = dict(BEFORE)
    after[b"a.bmp"], after[b"b.bmp"] = (
        (data, time + 100, name) for data, time, name in (after[b"b.bmp"], after[b"a.bmp"])
    )
    assert check(cache, after).changed == ["b.bmp", "a.bmp"]


def test_an_empty_source_has_lost_everything(cache):
    told = check(cache, {})
    assert told.removed == cache.keys
    assert told.summary() == f"{len(ROWS)} removed"


def test_another_order_is_a_difference(cache):
    told = check(cache, {key: BEFORE[key] for key in sorted(BEFORE)})
    assert told.reordered
    assert told.summary() == "in another order"
    assert not told.same


def test_another_class_is_a_difference_and_another_number_is_none(cache):
    told = check(cache, BEFORE | {b"b.bmp": (*BEFORE[b"b.bmp"][:2], "dogs")})
    assert told.summary() == "1 relabelled"
    # Ants come first, so that each class has another number.
    told = check(cache, BEFORE | {b"zz": (NONE[2], 1, "ants")})
    assert told.summary() == "1 added"
    told = check(cache, {key: (*one[:2], None) for key, one in BEFORE.items()})
    assert len(told.relabelled) == sum(BEFORE[key][2] is not None for key in ROWS)


def test_a_failure_of_another_size_may_be_mended(cache):
    told = check(cache, BEFORE | {b"failed.bmp": (SMALL[3], 6, None)})
    assert told.retry == ["failed.bmp"]
    assert told.failed == ["failed.bmp", "wrong.bmp"]
    assert told.summary() == "1 to retry"
    assert not told.same
    gone = {key: one for key, one in BEFORE.items() if key != b"failed.bmp"}
    assert check(cache, gone).same


def test_many_of_one_kind_do_not_hide_another(cache):
    after = BEFORE | {b"new-%03d" % number: (NONE[0], 1, None) for number in range(500)}
    del after[b"z\n.bmp"]
    told = check(cache, after)
    lines = repr(told).splitlines()
    assert lines[0].endswith(": 500 added, 1 removed")
    assert "  added: new-000" in lines
    assert r"  removed: z\n.bmp" in lines
    assert lines[-1] == "  ... and 496 more"
    assert len(lines) < 20


# Folders, as they are on disk ---------------------------------------------------------------------


@pytest.fixture
def standing(tmp_path):
    """A folder with classes, a broken file and a name that is not UTF-8, and its cache."""
    folder = paint_folder(tmp_path / "photos", 24, longest=40)
    (folder / "waves" / "broken.jpg").write_text("no picture")
    first = os.fsencode(next((folder / "circles").iterdir()))
    shutil.copy(first, os.path.dirname(first) + b"/caf\xe9.jpg")  # noqa: PTH120  # bytes
    with pytest.warns(mmcache.PicturesSkippedWarning):
        mmcache.build(folder, tmp_path / "photos.mmc", size=20)
    return folder


def contents(folder):
    return {
        os.fsencode(path.relative_to(folder)): path.read_bytes()
        for path in sorted(folder.rglob("*"), key=os.fsencode)
        if path.is_file()
    }


def happen(folder, random):
    """Let something happen to a picture of the folder."""
    path = random.choice([path for path in sorted(folder.rglob("*.*")) if path.is_file()])
    times = path.stat()
    match random.choice(["touch", "same size", "grow", "remove", "move", "rename", "copy"]):
        case "touch":
            os.utime(path, ns=(1, random.randrange(1 << 60)))
        case "same size":
            data = bytearray(path.read_bytes())
            data[-1] ^= 1
            path.write_bytes(data)
            os.utime(path, ns=(1, times.st_mtime_ns + 1 + random.randrange(1 << 30)))
        case "grow":
            path.write_bytes(path.read_bytes() + b"more")
        case "remove":
            path.unlink()
        case "move":
            path.rename(folder / random.choice(["circles", "waves", "."]) / f"to-{path.name}")
        case "rename":
            path.rename(path.with_suffix(random.choice([".png", ".tif", ".JPG"])))
        case "copy":
            shutil.copy(path, path.with_name(f"copy-of-{path.name}"))


@pytest.mark.parametrize("seed", range(8))
def test_whatever_happens_to_a_folder_is_told(standing, tmp_path, seed):
    before = contents(standing)
    cache = mmcache.open(tmp_path / "photos.mmc")
    rows = [to_bytes(key) for key in cache.keys]
    failed = {to_bytes(failure.key) for failure in cache.failures}
    chance = random.Random(seed)
    for _ in range(seed * 3):
        happen(standing, chance)
    after = contents(standing)
    told = mmcache.compare(tmp_path / "photos.mmc", standing)
    assert {to_bytes(key) for key in told.changed} == {
        key for key in rows if key in after and after[key] != before[key]
    }
    gone = sorted(before[key] for key in rows if key not in after)
    new = sorted(data for key, data in after.items() if key not in before)
    for data in set(gone) | set(new):
        pairs = min(gone.count(data), new.count(data))
        assert sum(after[to_bytes(key)] == data for key in told.moved_to) == pairs
        assert sum(before[to_bytes(key)] == data for key in told.moved_from) == pairs
        assert sum(after[to_bytes(key)] == data for key in told.added) == new.count(data) - pairs
        assert sum(before[to_bytes(key)] == data for key in told.removed) == (
            gone.count(data) - pairs
        )
    assert all(after[to_bytes(new)] == before[to_bytes(old)] for old, new in told.moved)
    assert {to_bytes(key) for key in told.failed} == failed & set(after)
    assert told.same == (
        {key: data for key, data in before.items() if key not in failed or key in after} == after
    )
    assert not told.reordered
    assert not told.relabelled
    shown(told)


def test_a_file_that_cannot_be_read_any_more_is_changed(standing, tmp_path):
    cache = mmcache.open(tmp_path / "photos.mmc")
    listing = mmcache.Folder(standing).listing()
    for number, path in enumerate(standing / key for key in cache.keys[:3]):
        path.unlink()
        if number == 0:
            path.mkdir()
    # As it was listed a moment ago.
    told = differences(cache, mmcache.Folder(standing), listing)
    assert told.changed == list(cache.keys[:3])
    assert told.rows.tolist() == [-1, -1, -1, *range(3, len(cache)), -1][: len(told.rows)]


def test_a_file_that_is_touched_and_cannot_be_opened_is_changed(cache):
    class Shut(InMemory):
        def open(self, key):
            raise PermissionError(13, "not yours", key)

    after = BEFORE | {b"b.bmp": (SMALL[0], 100, "cats")}
    after[b"moved"] = after.pop(b"z\n.bmp")
    told = mmcache.compare(cache, Shut(after))
    assert told.summary() == "1 added, 1 changed, 1 removed"


def test_a_large_file_is_read_in_pieces(cache, monkeypatch):
    monkeypatch.setattr("mmcache.comparing._PIECE", 7)
    check(cache, {key: (data, time + 1, name) for key, (data, time, name) in BEFORE.items()})


def test_a_list_of_paths_is_compared_as_it_was_given(standing, tmp_path):
    paths = [standing / key for key in mmcache.open(tmp_path / "photos.mmc").keys]
    cache = mmcache.build(paths[:6], tmp_path / "few.mmc", size=20)
    assert mmcache.compare(cache, paths[:6]).same
    assert mmcache.compare(cache, [*paths[:6], "no\0path"]).summary() == "1 added"
    assert mmcache.compare(cache, paths[5:0:-1]).summary() == "1 removed, in another order"
    assert mmcache.compare(cache, [*paths[:5], "no\0path"]).summary() == "1 added, 1 removed"
    told = mmcache.compare(cache, paths[:8])
    assert told.added == [str(path) for path in paths[6:8]]
    assert "the list of 8 paths" in repr(told).splitlines()[0]


def test_what_could_not_be_reached_and_now_can_is_new(tmp_path):
    folder = paint_folder(tmp_path / "in", 3, longest=30, classes=False)
    (folder / "link.jpg").symlink_to(tmp_path / "elsewhere.jpg")
    with pytest.warns(mmcache.PicturesSkippedWarning):
        cache = mmcache.build(folder, tmp_path / "out.mmc", size=20)
    told = mmcache.compare(cache, folder)
    assert told.same
    assert not told.failed
    (folder / "link.jpg").unlink()
    save(paint(mmcache.Size(20, 20)), folder / "link.jpg")
    assert mmcache.compare(cache, folder).added == ["link.jpg"]


def test_a_file_that_is_there_at_last_may_be_read(standing, tmp_path):
    late = tmp_path / "late.jpg"
    paths = [next((standing / "waves").glob("0*")), late]
    with pytest.warns(mmcache.PicturesSkippedWarning):
        cache = mmcache.build(paths, tmp_path / "out.mmc", size=20)
    told = mmcache.compare(cache, paths)
    assert told.same
    assert told.failed == [str(late)]
    shutil.copy(paths[0], late)
    assert mmcache.compare(cache, paths).retry == [str(late)]


def test_where_no_sizes_of_failures_are_told_none_is_another(cache, monkeypatch):
    there = type(cache.files).__contains__
    monkeypatch.setattr(
        type(cache.files),
        "__contains__",
        lambda files, name: name != "failure_sizes" and there(files, name),
    )
    told = mmcache.compare(cache, InMemory(BEFORE | {b"failed.bmp": (SMALL[3], 6, None)}))
    assert told.same
    assert len(told.failed) == 2


def test_the_source_of_a_copy_in_another_format_is_compared_too(standing, tmp_path):
    copy = mmcache.convert(tmp_path / "photos.mmc", tmp_path / "copy.h5")
    assert mmcache.compare(copy, standing).same
    tenth = mmcache.convert(mmcache.open(copy.path)[::10], tmp_path / "tenth.zarr")
    # Its failures are not those of the pictures that it has.
    told = mmcache.compare(tenth, standing)
    assert len(told.added) == len(copy) - len(tenth) + len(copy.failures)
    assert told.summary() == f"{len(told.added)} added"


def test_a_cache_of_the_first_version_is_compared():
    golden = mmcache.open(Path(__file__).parent / "golden" / "ragged.mmc")
    told = mmcache.compare(golden, InMemory({}))
    assert told.removed == golden.keys
    shown(told)


# Partners -----------------------------------------------------------------------------------------


@pytest.fixture
def pairs(tmp_path):
    for number, size in enumerate(painted_sizes(6, longest=60)):
        for folder, ending in (("pictures", "jpg"), ("masks", "png")):
            (tmp_path / folder).mkdir(exist_ok=True)
            save(paint(size, number), tmp_path / folder / f"{number}.{ending}")
    pictures = mmcache.build(tmp_path / "pictures", tmp_path / "pictures.mmc", size=30)
    mmcache.build(tmp_path / "masks", tmp_path / "masks.mmc", like=pictures)
    return tmp_path


def test_partners_are_compared_under_the_keys_that_they_go_by(pairs):
    like, masks = pairs / "pictures.mmc", pairs / "masks"
    assert mmcache.compare(pairs / "masks.mmc", masks, like=like).same
    (masks / "0.png").rename(masks / "0.PNG")
    os.utime(masks / "1.png", ns=(1, 1))
    (masks / "2.png").write_bytes((masks / "3.png").read_bytes())
    (masks / "4.png").unlink()
    told = mmcache.compare(pairs / "masks.mmc", masks, like=mmcache.open(like))
    assert told.summary() == "1 changed, 1 removed"
    assert (told.changed, told.removed, told.touched) == (["2.jpg"], ["4.jpg"], 1)
    assert "masks.mmc and masks: " in repr(told)


def test_without_what_they_go_with_partners_have_other_names(pairs):
    told = mmcache.compare(pairs / "masks.mmc", pairs / "masks")
    assert told.moved == [(f"{number}.jpg", f"{number}.png") for number in range(6)]


def test_partners_of_other_pictures_are_in_their_order(pairs):
    some = mmcache.open(pairs / "pictures.mmc")[[3, 1, 2]]
    told = mmcache.compare(pairs / "masks.mmc", pairs / "masks", like=some)
    assert told.summary() == "3 removed, in another order"


# Recipe and libraries -----------------------------------------------------------------------------


def test_a_recipe_that_is_asked_for_is_compared_setting_by_setting(cache, pairs):
    source = InMemory(BEFORE)
    assert mmcache.compare(cache, source, recipe=cache.recipe).recipe == {}
    asked = replace(cache.recipe, size=(9, 7), resample="box", resampler="auto")
    told = mmcache.compare(cache, source, recipe=asked)
    assert told.recipe == {"size": ((8, 8), (9, 7)), "resample": ("bicubic", "box")}
    assert told.same  # of pictures alone
    assert "size=(8, 8) then, (9, 7) asked for" in repr(told)
    assert told.to_json()["recipe"]["size"] == {"was": [8, 8], "asked": [9, 7]}
    shown(told)
    partners = {
        "like": pairs / "pictures.mmc",
        "recipe": mmcache.Recipe(resample="box", resampler="auto"),
    }
    told = mmcache.compare(pairs / "masks.mmc", pairs / "masks", **partners)
    assert told.recipe == {"resample": ("bicubic", "box")}  # and the size is that of the pictures
    with pytest.raises(mmcache.SettingError, match="leave it out"):
        mmcache.compare(
            pairs / "masks.mmc", pairs / "masks", **partners | {"recipe": mmcache.Recipe(size=9)}
        )


def test_other_libraries_are_named(cache, monkeypatch):
    now = libraries(cache.recipe)
    assert now == cache.files.frame.libraries
    assert now["webp"] == features.version("webp")
    assert mmcache.compare(cache, InMemory(BEFORE)).libraries == {}
    other = {name: version for name, version in now.items() if name != "zlib"}
    other |= {"pillow": "99", "crayons": "64"}
    monkeypatch.setattr("mmcache.comparing.libraries", lambda _: other)
    told = mmcache.compare(cache, InMemory(BEFORE))
    assert told.libraries == {
        "pillow": (now["pillow"], "99"), "zlib": (now["zlib"], None), "crayons": (None, "64"),
    }  # fmt: skip
    assert f"zlib {now['zlib']} then, none now" in repr(told)
    assert told.same
    shown(told)


# What is asked wrongly ----------------------------------------------------------------------------


def test_a_part_of_a_cache_is_refused(cache):
    assert mmcache.compare(cache[:], InMemory(BEFORE)).same
    for part in (cache[:3], cache[::-1], cache[[0, 1]]):
        with pytest.raises(mmcache.SelectionError, match=rf"{len(part)} pictures .* as a whole"):
            mmcache.compare(part, InMemory(BEFORE))


def test_a_path_that_is_mistyped_is_said(cache, tmp_path):
    with pytest.raises(mmcache.SourceNotFoundError, match="there is no folder"):
        mmcache.compare(cache, tmp_path / "fotos")
    with pytest.raises(mmcache.CacheNotFoundError):
        mmcache.compare(tmp_path / "fotos.mmc", tmp_path)
    with pytest.raises(mmcache.CacheNotFoundError):
        mmcache.compare(cache, tmp_path, like=tmp_path / "fotos.mmc")
    with pytest.raises(mmcache.SettingError, match="neither a folder"):
        mmcache.compare(cache, 7)


def test_progress_goes_on_while_files_are_read(cache):
    after = dict(BEFORE)
    after[b"moved"] = after.pop(b"b.bmp")
    calls = []
    mmcache.compare(
        cache, InMemory(after), progress=lambda done, total: calls.append((done, total))
    )
    assert calls == sorted(calls)
    assert calls[0][0] == 0
    assert calls[-1] == (len(after) + 1, len(after) + 1)
    assert {total for _, total in calls} == {len(after), len(after) + 1}


# On the command line ------------------------------------------------------------------------------


def test_the_command_exits_as_diff_does(standing, tmp_path, capsys):
    asked = ["compare", str(tmp_path / "photos.mmc"), str(standing), "--quiet"]
    assert main(asked) == 0
    assert capsys.readouterr().out.startswith("photos.mmc holds what is in photos\n")
    odd = next(
        os.fsencode(path) for path in (standing / "circles").iterdir() if "\udce9" in path.name
    )
    os.rename(odd, odd + b"\n.jpg")  # noqa: PTH104  # bytes
    assert main(asked) == 1
    said = capsys.readouterr()
    assert said.out.startswith("photos.mmc and photos: 1 moved\n")
    assert r"  moved: circles/caf\xe9.jpg to circles/caf\xe9.jpg\n.jpg" in said.out
    assert said.err == ""
    assert main([*asked, "--json"]) == 1
    told = mmcache.compare(tmp_path / "photos.mmc", standing).to_json()
    assert json.loads(capsys.readouterr().out) == told
    assert told["moved"][0]["from"] == printable(b"circles/caf\xe9.jpg")
    assert main(["compare", str(tmp_path / "photos.mmc"), str(tmp_path / "fotos")]) == 1
    assert "there is no folder" in capsys.readouterr().err


def test_the_command_compares_partners(pairs, capsys):
    asked = ["compare", str(pairs / "masks.mmc"), str(pairs / "masks"), "--quiet"]
    assert main([*asked, "--like", str(pairs / "pictures.mmc")]) == 0
    assert main(asked) == 1
    assert "6 moved" in capsys.readouterr().out
