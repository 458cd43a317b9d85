"""Nothing is decoded twice: what there is of the same recipe is taken, checked, and copied."""

from __future__ import annotations

import contextlib
import os
import random
import shutil
import subprocess
import sys

import numpy as np
import pytest
from PIL import Image
from stopping import STORES, bytes_of, decoded, names, stopped, unfinished

import mmcache
from mmcache import donors, filling, ingest, layout, libraries, room
from mmcache.stores.publishing import work_path
from mmcache.testing import paint_folder

EDGE = 96


pytestmark = pytest.mark.usefixtures("noted_at_once")


@pytest.fixture
def folder(tmp_path):
    return paint_folder(tmp_path / "in", 60, longest=220)


def pictures_in(folder):
    return sorted(path for path in folder.rglob("*") if path.is_file())


def painted(path, seed):
    """Write a picture that no other is like."""
    noise = np.random.default_rng(seed).integers(0, 256, (90, 70 + seed % 50, 3), np.uint8)
    Image.fromarray(noise).save(path, quality=90)


def built(folder, out, **settings):
    return mmcache.build(folder, out, **({"size": EDGE, "executor": "serial"} | settings))


def changed(folder):
    """Add, change, move, touch and remove some pictures; return how many have no record yet."""
    files = pictures_in(folder)
    painted(folder / "aaa.jpg", 1)
    painted(folder / "zzz.jpg", 2)
    painted(files[10], 3)
    files[20].unlink()
    files[30].rename(folder / "moved.jpg")
    os.utime(files[40])
    shutil.copy(files[50], folder / "copied.jpg")
    return 3


@pytest.mark.parametrize("resize", ["contain", "crop"])
@pytest.mark.parametrize("store", STORES)
def test_an_update_decodes_what_is_new_and_copies_the_rest(
    folder, tmp_path, monkeypatch, store, resize
):
    out = tmp_path / STORES[store]
    old = built(folder, out, resize=resize)
    pictures = [picture.copy() for picture in old]
    new = changed(folder)
    told = decoded(monkeypatch)
    cache = built(folder, out, resize=resize, exist="update", executor="threads", workers=2)
    assert len(told) == new
    anew = built(folder, tmp_path / f"anew-{STORES[store]}", resize=resize)
    assert bytes_of(cache.path) == bytes_of(anew.path)
    assert all((one == other).all() for one, other in zip(old, pictures, strict=True))
    assert not work_path(out).exists()


@pytest.mark.parametrize("store", STORES)
def test_processes_copy_as_threads_do(folder, tmp_path, store):
    out = tmp_path / STORES[store]
    built(folder, out)
    changed(folder)
    cache = built(folder, out, exist="update", executor="processes", workers=2)
    anew = built(folder, tmp_path / f"anew-{STORES[store]}")
    assert bytes_of(cache.path) == bytes_of(anew.path)


@pytest.mark.parametrize("store", STORES)
def test_a_source_that_changed_under_an_unfinished_build_costs_the_changes_alone(
    folder, tmp_path, monkeypatch, store
):
    out = tmp_path / STORES[store]
    told = decoded(monkeypatch)
    unfinished(folder, out)
    done = len(told)
    assert 20 <= done < 60
    files = pictures_in(folder)
    painted(folder / "aaa.jpg", 1)  # all others move by a row
    painted(files[1], 2)
    cache = built(folder, out)
    assert len(cache) == 61
    assert len(told) == 61 + 1  # the changed one twice
    assert bytes_of(out) == bytes_of(built(folder, tmp_path / f"anew-{STORES[store]}").path)
    assert not work_path(out).exists()


def test_an_unfinished_build_is_of_use_in_another_format(folder, tmp_path, monkeypatch):
    out = tmp_path / "out.mmc"
    told = decoded(monkeypatch)
    unfinished(folder, out)
    cache = built(folder, out, store="zarr")
    assert len(told) == 60
    assert bytes_of(out) == bytes_of(built(folder, tmp_path / "anew.zarr").path)
    assert cache.to_json()["format"] == "zarr"


def test_a_source_that_changes_again_and_again_loses_nothing(folder, tmp_path, monkeypatch):
    out = tmp_path / "out.mmc"
    stopped(folder, out, 24)
    painted(folder / "aaa.jpg", 1)
    stopped(folder, out, 16)
    assert names(work_path(out)) == ["begun", "earlier", "lock"]
    painted(folder / "aab.jpg", 2)
    stopped(folder, out, 8)
    told = decoded(monkeypatch)
    assert len(built(folder, out)) == 62
    # Of each that stopped, the span under way is lost: eight pictures at most.
    assert 62 - 24 - 16 - 8 <= len(told) <= 62 - 16 - 8 - 0
    assert bytes_of(out) == bytes_of(built(folder, tmp_path / "anew.mmc").path)
    assert names(tmp_path) == ["anew.mmc", "in", "out.mmc"]


def test_what_was_taken_once_is_not_taken_again_after_a_kill(folder, tmp_path, monkeypatch):
    out = tmp_path / "out.mmc"
    built(folder, out)
    for number in range(20):
        painted(folder / f"new-{number:02}.jpg", number)
    stopped(folder, out, 10, exist="update")
    told = decoded(monkeypatch)
    monkeypatch.setattr("mmcache.ingest.donor_of", _nothing_of)
    built(folder, out, exist="update")
    assert len(told) <= 20 - 8
    assert bytes_of(out) == bytes_of(built(folder, tmp_path / "anew.mmc").path)


def _nothing_of(path):
    files = mmcache.open(path).files
    arrays = {name: files.array(name) for name in donors.ARRAYS}
    return donors.donor_with(path, files.frame, arrays, np.zeros(len(arrays["records"]), bool))


@pytest.mark.parametrize("store", STORES)
def test_what_is_taken_is_checked_and_not_believed(folder, tmp_path, monkeypatch, store):
    out = tmp_path / STORES[store]
    cache = built(folder, out)
    (segment, *_) = cache.files.frame.arrays["pixels"].segments
    file = out if out.is_file() else out / segment.file
    with file.open("r+b") as stream:
        for row in (3, 17, 18):
            stream.seek(segment.offset + int(cache.files.array("records")[row, 0]) + 5)
            byte = stream.read(1)
            stream.seek(-1, 1)
            stream.write(bytes([byte[0] ^ 255]))
    painted(folder / "zzz.jpg", 1)
    told = decoded(monkeypatch)
    built(folder, out, exist="update")
    assert len(told) == 1 + 3
    assert bytes_of(out) == bytes_of(built(folder, tmp_path / f"anew-{STORES[store]}").path)


@pytest.mark.parametrize("store", STORES)
def test_a_cache_that_is_cut_while_it_gives_is_no_matter(folder, tmp_path, monkeypatch, store):
    out = tmp_path / STORES[store]
    cache = built(folder, out)
    (segment, *_) = cache.files.frame.arrays["pixels"].segments
    file = out if out.is_file() else out / segment.file
    make_plan = ingest.make_plan

    def cutting(*args, **kwargs):
        os.truncate(file, segment.offset + segment.length // 2)
        return make_plan(*args, **kwargs)

    painted(folder / "zzz.jpg", 1)
    monkeypatch.setattr(ingest, "make_plan", cutting)
    told = decoded(monkeypatch)
    built(folder, out, exist="update")
    assert 10 < len(told) < 55
    assert bytes_of(out) == bytes_of(built(folder, tmp_path / f"anew-{STORES[store]}").path)


@pytest.mark.parametrize("seed", range(12))
def test_whatever_happens_a_build_gives_what_the_folder_holds(folder, tmp_path, seed):
    chance = random.Random(seed)
    store = chance.choice(list(STORES))
    out = tmp_path / STORES[store]
    built(folder, out)
    for number in range(4):
        for _ in range(chance.randint(1, 12)):
            whatever(folder, chance, number)
        if chance.random() < 0.6:
            ended(folder, out, chance.randint(0, 12))
    cache = built(folder, out, exist="update", executor="threads", workers=chance.randint(1, 3))
    assert bytes_of(out) == bytes_of(built(folder, tmp_path / f"anew-{STORES[store]}").path)
    assert len(cache) == len(pictures_in(folder))
    assert not work_path(out).exists()


def ended(folder, out, after):
    """Update a cache, and stop when *after* pictures were decoded, if there are as many."""
    with contextlib.suppress(pytest.fail.Exception):
        stopped(folder, out, after, exist="update")


def whatever(folder, chance, number):
    """Do something to a folder that people do."""
    some = chance.choice(pictures_in(folder))
    what = chance.choice(["add", "copy", "change", "move", "swap", "touch", "remove"])
    new = folder / f"{what}-{number}-{chance.randint(0, 1 << 30)}.jpg"
    if what == "add":
        painted(new, chance.randint(0, 1 << 30))
    elif what == "copy":
        shutil.copy2(some, new)
    elif what == "change":
        painted(some, chance.randint(0, 1 << 30))
    elif what == "move":
        some.rename(new)
    elif what == "swap":
        other = chance.choice(pictures_in(folder))
        some.rename(new)
        if other != some:
            other.rename(some)
            new.rename(other)
    elif what == "touch":
        os.utime(some)
    else:
        some.unlink()


def test_copies_alone_are_no_work_for_a_decoder(folder, tmp_path, monkeypatch):
    out = tmp_path / "out.mmc"
    built(folder, out)
    for path in pictures_in(folder)[::2]:
        path.rename(folder / f"moved-{path.name}")
    for path in pictures_in(folder)[::3]:
        os.utime(path)
    pictures_in(folder)[5].unlink()
    told = decoded(monkeypatch)
    built(folder, out, exist="update")
    assert not told
    assert bytes_of(out) == bytes_of(built(folder, tmp_path / "anew.mmc").path)


def test_overwrite_takes_nothing_from_what_stood_there(folder, tmp_path, monkeypatch):
    out = tmp_path / "out.mmc"
    built(folder, out)
    told = decoded(monkeypatch)
    built(folder, out, exist="overwrite")
    assert len(told) == 60
    painted(folder / "aaa.jpg", 1)
    for number in range(10):
        painted(folder / f"zz-{number}.jpg", number)
    stopped(folder, out, 8, exist="update")  # which has copied sixty
    told.clear()
    built(folder, out, exist="overwrite")
    assert len(told) == 71
    told.clear()
    stopped(folder, out, 24, exist="overwrite")
    built(folder, out, exist="overwrite")
    assert 71 <= len(told) <= 71 + 7  # an unfinished build from nothing is gone on with


def test_other_libraries_are_noted_beside_those_of_what_was_taken(folder, tmp_path, monkeypatch):
    out = tmp_path / "out.mmc"
    own = filling.libraries(mmcache.plan(folder, progress=False).recipe)
    monkeypatch.setattr(filling, "libraries", lambda _: own | {"pillow": "1.0"})
    built(folder, out)
    monkeypatch.undo()
    monkeypatch.setattr(layout, "SLAB", 1 << 18)
    picture = pictures_in(folder)[0]
    os.rename(picture, folder / "moved.jpg")  # noqa: PTH104
    cache = built(folder, out, exist="update")
    assert cache.files.frame.libraries == own | {"pillow": "1.0"}  # nothing was decoded
    painted(folder / "new.jpg", 1)
    cache = built(folder, out, exist="update")
    both = f"1.0, {own['pillow']}"
    assert cache.files.frame.libraries == own | {"pillow": both}
    told = mmcache.compare(cache, folder, progress=False)
    assert told.libraries == {"pillow": (both, own["pillow"])}
    assert built(folder, out, exist="overwrite").files.frame.libraries == own


def test_an_unfinished_build_of_other_libraries_is_gone_on_with_and_both_are_noted(
    folder, tmp_path, monkeypatch
):
    out = tmp_path / "out.mmc"
    own = filling.libraries(mmcache.plan(folder, progress=False).recipe)
    with monkeypatch.context() as patch:
        patch.setattr(filling, "libraries", lambda _: own | {"pillow": "1.0"})
        stopped(folder, out, 30)
    told = decoded(monkeypatch)
    cache = built(folder, out)
    assert len(told) < 40
    assert cache.files.frame.libraries == own | {"pillow": f"1.0, {own['pillow']}"}


def test_unfinished_work_makes_room_where_there_is_none_for_both(folder, tmp_path, monkeypatch):
    out = tmp_path / "out.mmc"
    stopped(folder, out, 30)
    painted(folder / "aaa.jpg", 1)
    needed = mmcache.plan(folder, size=EDGE, progress=False).nbytes + 1_000_000

    def free(_):
        return needed if not (work_path(out) / "earlier").exists() else 1_000

    monkeypatch.setattr(room, "free_bytes", free)
    told = decoded(monkeypatch)
    assert len(built(folder, out)) == 61
    assert len(told) == 61
    monkeypatch.setattr(room, "free_bytes", lambda _: 1_000)
    with pytest.raises(mmcache.NoSpaceError):
        built(folder, out, exist="overwrite")
    assert names(tmp_path) == ["in", "out.mmc"]


@pytest.mark.parametrize("settings", [{"on_error": "raise"}, {"max_failures": 0}])
def test_a_build_that_a_picture_ended_goes_on_when_it_is_mended(
    folder, tmp_path, monkeypatch, settings
):
    out = tmp_path / "out.mmc"
    picture = pictures_in(folder)[30]
    painted(picture, 1)
    whole = picture.read_bytes()
    picture.write_bytes(whole[: len(whole) // 2])
    told = decoded(monkeypatch)
    with pytest.raises(mmcache.PictureError if "on_error" in settings else OSError):
        built(folder, out, **settings)
    done = len(told)
    assert done >= 30
    picture.write_bytes(whole)
    built(folder, out, **settings)
    assert len(told) <= 61 + 8
    assert bytes_of(out) == bytes_of(built(folder, tmp_path / "anew.mmc").path)


def test_what_is_taken_is_told(folder, tmp_path, monkeypatch):
    out = tmp_path / "out.mmc"
    built(folder, out)
    changed(folder)
    lines = []
    monkeypatch.setattr("mmcache.progress.Shown.say", lambda _, line: lines.append(line))
    built(folder, out, exist="update", progress=False)
    assert lines == ["59 of 62 pictures are taken from out.mmc"]


def test_masks_are_updated_by_their_own_names(tmp_path, monkeypatch):
    folder = paint_folder(tmp_path / "in", 12, longest=120, classes=False)
    like = built(folder, tmp_path / "out.mmc")
    masks = tmp_path / "masks"
    masks.mkdir()
    columns = like.columns
    for key, height, width in zip(like.keys, columns["height"], columns["width"], strict=True):
        mask = np.random.default_rng(int(key[:5])).integers(0, 9, (height, width), np.uint8)
        Image.fromarray(mask).save((masks / key).with_suffix(".png"))
    settings = {"like": like, "mode": "L", "resample": "nearest", "exist": "update"}
    mmcache.build(masks, tmp_path / "masks.mmc", **settings)
    mask = min(masks.iterdir())
    height, width = int(columns["height"][0]), int(columns["width"][0])
    Image.new("L", (width, height), 7).save(mask)
    told = decoded(monkeypatch)
    cache = mmcache.build(masks, tmp_path / "masks.mmc", **settings)
    assert len(told) == 1
    assert (cache[0] == 7).all()
    anew = mmcache.build(masks, tmp_path / "anew.mmc", **settings)
    assert bytes_of(cache.path) == bytes_of(anew.path)


def test_files_of_one_size_that_moved_are_found_as_long_as_they_are_few(tmp_path, monkeypatch):
    """Of many, some are decoded again: what is alike in size alone is not all looked at."""
    folder = tmp_path / "in"
    folder.mkdir()
    for number in range(20):
        noise = np.random.default_rng(number).integers(0, 256, (20, 20, 3), np.uint8)
        Image.fromarray(noise).save(folder / f"{number:02}.bmp")
    out = tmp_path / "out.mmc"
    built(folder, out)
    for path in sorted(folder.iterdir()):
        path.rename(folder / f"x{path.name}")
    told = decoded(monkeypatch)
    built(folder, out, exist="update")
    assert len(told) == 20 - donors._ALIKE
    assert bytes_of(out) == bytes_of(built(folder, tmp_path / "anew.mmc").path)


def test_a_file_that_may_not_be_so_large_is_said_with_the_limit(folder, tmp_path):
    script = (
        "import resource, sys, mmcache\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (200_000, resource.RLIM_INFINITY))\n"
        "from mmcache.cli import main\n"
        "sys.exit(main(['build', sys.argv[1], sys.argv[2], '--size', '96', '--quiet']))\n"
    )
    for name in STORES.values():
        ran = subprocess.run(
            [sys.executable, "-c", script, folder, tmp_path / name],
            capture_output=True, text=True, check=False, timeout=60,
        )  # fmt: skip
        assert ran.returncode == 1
        (line,) = ran.stderr.splitlines()
        assert "may make no file larger than 200.0 kB, its limit: raise that with ulimit -f" in line
        assert not (tmp_path / name).exists()
        cache = built(folder, tmp_path / name)
        assert bytes_of(cache.path) == bytes_of(built(folder, tmp_path / f"anew-{name}").path)


def test_what_many_made_is_named_once_each():
    one, two = {"pillow": "12.0.0", "zlib": "1.3"}, {"pillow": "12.1.0", "avif": "1.1"}
    both = libraries.merged([one, two])
    assert both == {"avif": "1.1", "pillow": "12.0.0, 12.1.0", "zlib": "1.3"}
    assert libraries.merged([both, one, two]) == both
    assert libraries.merged([one]) == one
