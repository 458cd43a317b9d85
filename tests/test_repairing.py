"""A damaged cache is made whole from its pictures, and nothing else is decoded or changed."""

from __future__ import annotations

import os
import shutil

import numpy as np
import pytest
from PIL import Image
from stopping import STORES, bytes_of, decoded, names, stopped

import mmcache
from mmcache import tasks
from mmcache.cli import main
from mmcache.testing import paint_folder

pytestmark = pytest.mark.usefixtures("noted_at_once")


@pytest.fixture(scope="module")
def photos(tmp_path_factory):
    folder = paint_folder(tmp_path_factory.mktemp("source") / "photos", 40, longest=220)
    (folder / "no-picture.jpg").write_bytes(b"no picture")
    return folder


@pytest.fixture(params=STORES)
def cache(request, photos, tmp_path):
    with pytest.warns(mmcache.PicturesSkippedWarning):
        return mmcache.build(photos, tmp_path / STORES[request.param], size=96)


def files_of(path):
    return [path] if path.is_file() else sorted(one for one in path.rglob("*") if one.is_file())


def flipped(file, place):
    """Flip a bit of a file, in place."""
    with file.open("r+b") as stream:
        stream.seek(place)
        byte = stream.read(1)[0]
        stream.seek(place)
        stream.write(bytes([byte ^ 4]))


def place_of(cache, row):
    """Return the file of a record, and where it begins there."""
    offset = int(cache.files.array("records")[row, 0]) * cache.recipe.dtype.itemsize
    for segment in cache.files.frame.arrays["pixels"].segments:
        if offset < segment.length:
            path = cache.path
            return path / segment.file if path.is_dir() else path, segment.offset + offset
        offset -= segment.length
    raise AssertionError


def test_damaged_records_alone_are_decoded_again(cache, photos, tmp_path, monkeypatch):
    expected = bytes_of(cache.path)
    keys = [cache.keys[row] for row in (3, 17, 39)]
    pictures = [picture.copy() for picture in cache]
    for row in (3, 17, 39):
        file, place = place_of(cache, row)
        flipped(file, place + 10)
    assert set(mmcache.verify(cache.path, progress=False).keys) == set(keys)
    opened, source = [], mmcache.Folder(photos)
    open_one = mmcache.Folder.open
    monkeypatch.setattr(
        mmcache.Folder, "open", lambda self, key: (opened.append(key), open_one(self, key))[1]
    )
    told = decoded(monkeypatch)
    mended = mmcache.repair(cache.path, source, progress=False)
    assert len(told) == 3
    assert {os.fsdecode(key) for key in opened} == set(keys)
    assert bytes_of(cache.path) == expected
    assert all((one == other).all() for one, other in zip(mended, pictures, strict=True))
    assert names(tmp_path) == [cache.path.name]


def test_whatever_byte_is_damaged_the_cache_becomes_what_it_was(cache, photos, tmp_path):
    """But for the frame, with which the recipe is lost."""
    path, expected = cache.path, bytes_of(cache.path)
    del cache
    for name in [file.relative_to(path) for file in files_of(path)]:
        if name.name in ("mmcache.json", "zarr.json") and len(name.parts) == 1:
            continue
        for part in (0.01, 0.5, 0.9):
            file = path / name if path.is_dir() else path
            flipped(file, int(file.stat().st_size * part))
            assert not mmcache.verify(path, progress=False).ok
            mmcache.repair(path, photos, progress=False)
            assert bytes_of(path) == expected
    assert names(tmp_path) == [path.name]


def test_files_that_are_gone_cut_or_strange_are_no_matter(photos, tmp_path):
    with pytest.warns(mmcache.PicturesSkippedWarning):
        path = mmcache.build(photos, tmp_path / "out.zarr", size=96).path
    expected = bytes_of(path)
    (pixels,) = (path / "pixels/c").iterdir()
    with pixels.open("r+b") as file:
        file.truncate(300_000)
    (checksums,) = (one for one in (path / "checksums/c").rglob("*") if one.is_file())
    checksums.unlink()
    checksums.symlink_to("/etc/passwd")
    (path / "notes.txt").write_text("mine")
    (path / "labels/zarr.json").unlink()
    with pytest.raises(mmcache.DamagedCacheError):
        mmcache.open(path)
    assert len(mmcache.repair(path, photos, progress=False)) == 40
    assert bytes_of(path) == expected


def test_a_whole_cache_is_opened_as_it_is(cache, photos, monkeypatch):
    monkeypatch.setattr(tasks, "decode_flagged", None)
    inode = cache.path.stat().st_ino
    assert mmcache.repair(cache, photos, progress=False).fingerprint == cache.fingerprint
    assert cache.path.stat().st_ino == inode


def damage(cache, *rows):
    for row in rows:
        file, place = place_of(cache, row)
        flipped(file, place + 10)
    return [cache.keys[row] for row in rows]


def test_pictures_that_are_not_as_they_were_are_named_and_nothing_is_changed(
    cache, photos, tmp_path
):
    source = tmp_path / "in"
    shutil.copytree(photos, source)
    first, second, third, fourth = damage(cache, 1, 5, 9, 13)
    damaged = bytes_of(cache.path)
    (source / first).unlink()
    (source / second).write_bytes(b"shorter")
    data = bytearray((source / third).read_bytes())
    data[-20] ^= 1
    (source / third).write_bytes(data)
    with pytest.raises(mmcache.SourceError) as caught:
        mmcache.repair(cache.path, source, progress=False)
    assert "2 damaged pictures" in str(caught.value)
    assert f"{first}: No such file or directory" in str(caught.value)
    assert f"{second}: is not the file that the cache was built from" in str(caught.value)
    for key in (first, second):
        shutil.copy2(photos / key, source / key)
    with pytest.raises(mmcache.SourceError, match=f"1 damaged picture of .*{third}: "):
        mmcache.repair(cache.path, source, progress=False)
    assert bytes_of(cache.path) == damaged
    (source / first).unlink()  # it was made already, and is kept
    os.utime(source / fourth)  # another time, and the same content
    with pytest.warns(mmcache.PicturesSkippedWarning, match="1 picture could not be made again"):
        mended = mmcache.repair(cache.path, source, on_error="skip", progress=False)
    assert {failure.key for failure in mended.failures} == {"no-picture.jpg", third}
    assert {first, second, fourth} <= set(mended.keys)
    assert mmcache.verify(mended, progress=False).ok
    assert names(tmp_path) == sorted(["in", cache.path.name])


def test_an_index_that_is_damaged_needs_the_source_as_it_was(photos, tmp_path):
    source = tmp_path / "in"
    shutil.copytree(photos, source)
    with pytest.warns(mmcache.PicturesSkippedWarning):
        path = mmcache.build(source, tmp_path / "out.mmc", size=96).path
    expected = bytes_of(path)
    flipped(path / "height.npy", 4_100)
    damaged = bytes_of(path)
    Image.fromarray(np.zeros((50, 50, 3), np.uint8)).save(source / "new.jpg")
    with pytest.raises(mmcache.SourceError, match="holds other pictures by now"):
        mmcache.repair(path, source, progress=False)
    (source / "new.jpg").unlink()
    picture = min(source.rglob("0*"))
    Image.fromarray(np.zeros((50, 50, 3), np.uint8)).save(picture, "JPEG")
    with pytest.raises(mmcache.SourceError, match="holds other pictures by now"):
        mmcache.repair(path, source, progress=False)
    assert bytes_of(path) == damaged
    assert names(tmp_path) == ["in", "out.mmc"]
    shutil.copy2(photos / picture.relative_to(source), picture)
    mmcache.repair(path, source, progress=False)
    assert bytes_of(path) == expected


def test_a_repair_that_was_interrupted_goes_on(photos, tmp_path, monkeypatch):
    with pytest.warns(mmcache.PicturesSkippedWarning):
        cache = mmcache.build(photos, tmp_path / "out.mmc", size=96)
    expected = bytes_of(cache.path)
    damage(cache, *range(40))
    told = decoded(monkeypatch)
    plain = tasks.decode_flagged

    def stopping(*args, **kwargs):
        if len(told) >= 24:
            raise KeyboardInterrupt
        return plain(*args, **kwargs)

    with monkeypatch.context() as patch:
        patch.setattr(tasks, "decode_flagged", stopping)
        with pytest.raises(KeyboardInterrupt):
            mmcache.repair(cache.path, photos, executor="serial", progress=False)
    mmcache.repair(cache.path, photos, executor="serial", progress=False)
    assert 40 <= len(told) <= 48
    assert bytes_of(cache.path) == expected


def test_another_builds_unfinished_work_is_not_thrown_away(photos, tmp_path):
    with pytest.warns(mmcache.PicturesSkippedWarning):
        cache = mmcache.build(photos, tmp_path / "out.mmc", size=96)
    damage(cache, 2)
    folder = paint_folder(tmp_path / "in", 30, longest=200)
    stopped(folder, cache.path, 16, exist="overwrite")
    with pytest.raises(mmcache.DestinationError, match="unfinished"):
        mmcache.repair(cache.path, photos, progress=False)
    mmcache.discard(cache.path)
    assert mmcache.repair(cache.path, photos, progress=False).fingerprint == cache.fingerprint


def test_what_is_lost_with_the_frame_is_said(cache, photos):
    frame = cache.files.frame
    if cache.path.is_file():
        flipped(cache.path, cache.path.stat().st_size - 100)
    else:
        flipped(next(cache.path.glob("*.json")), 100)
    with pytest.raises(mmcache.DamagedCacheError, match="move it away"):
        mmcache.repair(cache.path, photos, progress=False)
    assert frame.content


def test_a_report_of_another_cache_is_refused(photos, tmp_path):
    with pytest.warns(mmcache.PicturesSkippedWarning):
        cache = mmcache.build(photos, tmp_path / "out.mmc", size=96)
    damage(cache, 2)
    report = mmcache.verify(cache, progress=False)
    with pytest.warns(mmcache.PicturesSkippedWarning):
        mmcache.build(photos, tmp_path / "out.mmc", size=64, exist="overwrite")
    with pytest.raises(mmcache.DifferentCacheError, match="since the report was made"):
        mmcache.repair(tmp_path / "out.mmc", photos, report=report, progress=False)


def test_masks_are_repaired_by_their_own_names(tmp_path):
    folder = paint_folder(tmp_path / "in", 12, longest=120, classes=False)
    masks = tmp_path / "masks"
    masks.mkdir()
    for path in folder.iterdir():
        with Image.open(path) as image:
            size = mmcache.plan([path], progress=False).columns
            edges = int(size["width"][0]), int(size["height"][0])
            assert image.size
        Image.new("L", edges, 7).save(masks / f"{path.stem}.png")
    like = mmcache.build(folder, tmp_path / "out.mmc", size=64)
    cache = mmcache.build(masks, tmp_path / "masks.mmc", like=like, mode="L", resample="nearest")
    expected = bytes_of(cache.path)
    damage(cache, 2, 3)
    mmcache.repair(cache.path, masks, like=like, progress=False)
    assert bytes_of(cache.path) == expected


def test_the_command_repairs_what_it_finds(cache, photos, capsys):
    expected = bytes_of(cache.path)
    keys = damage(cache, 4)
    path = str(cache.path)
    assert main(["verify", path, "--quiet"]) == 1
    assert keys[0] in capsys.readouterr().out
    assert main(["verify", path, "--quiet", "--repair", str(photos / "mistyped")]) == 1
    assert "mistyped" in capsys.readouterr().err
    assert main(["verify", path, "--quiet", "--repair", str(photos)]) == 0
    assert f"{path} is whole again" in capsys.readouterr().err
    assert bytes_of(cache.path) == expected
    assert main(["verify", path, "--quiet", "--repair", str(photos)]) == 0
