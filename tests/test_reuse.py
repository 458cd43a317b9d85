"""Nothing is decoded twice: what there is of the same recipe is taken, checked, and copied."""

from __future__ import annotations

import os
import shutil

import numpy as np
import pytest
from PIL import Image
from stopping import STORES, bytes_of, decoded, names, stopped, unfinished

import mmcache
from mmcache import donors, filling, layout
from mmcache.stores.publishing import work_path
from mmcache.testing import paint_folder

EDGE = 96


@pytest.fixture(autouse=True)
def small_slabs(monkeypatch):
    """Let caches of a few pictures have several slabs, and note what is done at once."""
    monkeypatch.setattr(layout, "SLAB", 1 << 18)
    monkeypatch.setattr(filling, "_CHECKPOINT", 1)


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


def _nothing_of(cache):
    files = cache.files
    arrays = {name: files.array(name) for name in donors.ARRAYS}
    return donors.donor_with(cache.path, files.frame, arrays, np.zeros(len(cache), bool))


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
