"""The formats, written by mmcache and read back by numpy, h5py and zarr alone."""

from __future__ import annotations

import errno
import importlib
import io
import os
import time
from pathlib import Path

import h5py
import numpy as np
import pytest
import zarr
from hypothesis import given
from hypothesis import strategies as st

import mmcache
from mmcache import stores
from mmcache.stores import ENDINGS, STORES, store_for
from mmcache.stores.contract import Store
from mmcache.stores.frame import PAGE
from mmcache.stores.hdf5 import Hdf5Store
from mmcache.stores.npy import NpyStore, npy_header
from mmcache.stores.payload import (
    Flusher,
    allocated,
    copied,
    opened,
    taken_bytes,
    write_at,
    written,
)
from mmcache.stores.zarr import ZarrStore
from mmcache.testing import StoreContract, paint_folder


def names(folder):
    """Return what is in a folder, hidden things too."""
    return sorted(path.name for path in folder.iterdir())


class TestNpyStore(StoreContract):
    store = NpyStore()
    ending = ".mmc"

    @staticmethod
    def read(path, name):
        return np.load(path / f"{name}.npy", allow_pickle=False)


class TestHdf5Store(StoreContract):
    store = Hdf5Store()
    ending = ".h5"

    @staticmethod
    def read(path, name):
        with h5py.File(path) as file:
            return file[name][()]


class TestZarrStore(StoreContract):
    store = ZarrStore()
    ending = ".zarr"

    @staticmethod
    def read(path, name):
        return zarr.open_array(path / name, mode="r")[...]


def test_every_store_is_registered_and_has_an_ending():
    made = {
        thing
        for file in Path(stores.__file__).parent.glob("*.py")
        for thing in vars(importlib.import_module(f"mmcache.stores.{file.stem}")).values()
        if isinstance(thing, type) and thing.__name__.endswith("Store") and thing is not Store
        if thing.__module__.startswith("mmcache.")
    }
    assert made == {type(store_for("", name)) for name in STORES}
    for name, registered in STORES.items():
        store = store_for("", name)
        assert (store.name, store.title) == (name, registered.title)
    assert set(ENDINGS.values()) == set(STORES)


@pytest.mark.parametrize(
    ("path", "name"),
    [
        ("a.mmc", "npy"),
        ("A.MMC", "npy"),
        ("in/.x/a.b.mmc", "npy"),
        ("a.h5", "hdf5"),
        ("a.HDF5", "hdf5"),
        ("a.mmc.zarr/", "zarr"),
    ],
)
def test_a_paths_ending_chooses_the_format(path, name):
    assert store_for(path).name == name


@pytest.mark.parametrize("path", ["a", "a.xyz", ".mmc", "mmc", "a.mmc.bak", ""])
def test_an_unknown_ending_is_a_setting_error_that_tells_the_known_ones(path):
    with pytest.raises(mmcache.SettingError, match=r"end the path in one of \.mmc"):
        store_for(path)
    assert store_for(path, "npy").name == "npy"


def test_an_unknown_format_is_a_setting_error():
    with pytest.raises(mmcache.SettingError, match="store='tar' is not one of npy"):
        store_for("a.mmc", "tar")


# Headers ---------------------------------------------------------------------------------------

DTYPES = st.sampled_from(["|u1", "<u2", "<u4", "<i4", "<i8"])
SHAPES = st.lists(st.integers(0, 2**62), max_size=32).map(tuple)


@given(dtype=DTYPES, shape=SHAPES)
def test_a_header_is_one_page_that_numpy_reads(dtype, shape):
    header = npy_header(np.dtype(dtype), shape)
    assert len(header) == PAGE
    file = io.BytesIO(header)
    assert np.lib.format.read_magic(file) == (1, 0)
    assert np.lib.format.read_array_header_1_0(file) == (shape, False, np.dtype(dtype))
    assert file.tell() == PAGE


@given(dtype=DTYPES, shape=st.lists(st.integers(0, 5), max_size=4).map(tuple))
def test_numpy_loads_what_stands_behind_a_header(dtype, shape):
    array = np.arange(np.prod(shape, dtype=int)).astype(dtype).reshape(shape)
    file = io.BytesIO(npy_header(array.dtype, array.shape) + array.tobytes())
    loaded = np.load(file, allow_pickle=False)
    assert loaded.dtype == array.dtype
    assert np.array_equal(loaded, array)


# Bytes onto the disk ---------------------------------------------------------------------------


def test_large_writes_are_whole_however_little_the_system_takes(tmp_path, monkeypatch):
    data = np.random.default_rng(5).integers(0, 256, 300_000, np.uint8).reshape(100, 1_000, 3)
    pwrite = os.pwrite
    monkeypatch.setattr(os, "pwrite", lambda fd, part, place: pwrite(fd, part[:7_777], place))
    with opened(tmp_path / "file", os.O_RDWR | os.O_CREAT) as descriptor:
        write_at(descriptor, data, 1_234)
    assert (tmp_path / "file").read_bytes() == bytes(1_234) + data.tobytes()


def test_a_write_is_cut_into_what_systems_take(tmp_path, monkeypatch):
    monkeypatch.setattr("mmcache.stores.payload._CHUNK", 1_000)
    sizes = []
    pwrite = os.pwrite
    monkeypatch.setattr(
        os, "pwrite", lambda fd, part, place: sizes.append(len(part)) or pwrite(fd, part, place)
    )
    with opened(tmp_path / "file", os.O_RDWR | os.O_CREAT) as descriptor:
        write_at(descriptor, bytes(2_500), 0)
    assert sizes == [1_000, 1_000, 500]


def test_written_replaces_what_was_there(tmp_path):
    (tmp_path / "file").write_bytes(bytes(100))
    written(tmp_path / "file", [b"head", np.empty(0, np.int64), np.arange(2, dtype="<u2")])
    assert (tmp_path / "file").read_bytes() == b"head\x00\x00\x01\x00"


def test_allocating_keeps_what_lies_behind_the_header(tmp_path):
    allocated(tmp_path / "file", b"head", 9_000)
    with (tmp_path / "file").open("r+b") as file:
        file.seek(8_000)
        file.write(b"pixels")
    allocated(tmp_path / "file", b"HEAD", 9_000)
    content = (tmp_path / "file").read_bytes()
    assert (content[:4], content[8_000:8_006], len(content)) == (b"HEAD", b"pixels", 9_000)


def test_a_full_disk_is_found_by_allocating(tmp_path, monkeypatch):
    def full(*_):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "posix_fallocate", full)
    with pytest.raises(OSError, match=os.strerror(errno.ENOSPC)):
        allocated(tmp_path / "file", b"head", 9_000)


@pytest.mark.parametrize("limit", [4096, 8192, 100_000], ids=["created", "written", "closed"])
def test_what_the_system_refuses_to_hdf5_is_its_own_error(tmp_path, limit):
    resource = pytest.importorskip("resource")
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (limit, before[1]))
    try:
        with pytest.raises(OSError, match=os.strerror(errno.EFBIG)) as caught:
            Hdf5Store().allocate(tmp_path / "out", np.dtype("u1"), (500_000,), 500_000)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert caught.value.errno == errno.EFBIG


# The flusher -----------------------------------------------------------------------------------


def test_a_flusher_syncs_every_file_after_the_last_write(tmp_path, monkeypatch):
    for name in ("one", "two"):
        (tmp_path / name).touch()
    seen = []
    monkeypatch.setattr(
        os, "fdatasync", lambda fd: seen.append((os.fstat(fd).st_ino, os.fstat(fd).st_size))
    )
    with Flusher([tmp_path / "one", tmp_path / "two"]) as flusher:
        flusher.flush()
        until = time.monotonic() + 10
        while len(seen) < 2 and time.monotonic() < until:
            time.sleep(0.001)
        (tmp_path / "two").write_bytes(b"last")
    inodes = {name: (tmp_path / name).stat().st_ino for name in ("one", "two")}
    assert seen[-2:] == [(inodes["one"], 0), (inodes["two"], 4)]


def test_a_flusher_raises_what_went_wrong(tmp_path, monkeypatch):
    (tmp_path / "file").touch()
    calls = []

    def broken_once(_):
        calls.append(1)
        if len(calls) == 1:
            raise OSError(errno.EIO, "the disk is broken")

    monkeypatch.setattr(os, "fdatasync", broken_once)
    with pytest.raises(OSError, match="the disk is broken"), Flusher([tmp_path / "file"]) as one:
        one.flush()
    assert len(calls) >= 1


def test_a_flusher_does_not_hide_what_went_wrong_before(tmp_path):
    with pytest.raises(KeyError, match="first"), Flusher([tmp_path / "missing"]):
        raise KeyError("first")
    with pytest.raises(FileNotFoundError), Flusher([tmp_path / "missing"]):
        pass


def test_a_build_on_a_disk_that_fails_to_flush_publishes_nothing(painted, tmp_path, monkeypatch):
    def broken(_):
        raise OSError(errno.EIO, "the disk is broken")

    monkeypatch.setattr(os, "fdatasync", broken)
    with pytest.raises(OSError, match="the disk is broken"):
        mmcache.build(painted, tmp_path / "out.mmc", size=16)
    assert names(tmp_path) == []


# Room ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("store", ["npy", "hdf5", "zarr"])
@pytest.mark.parametrize(
    "settings", [{}, {"resize": "crop"}, {"resize": "crop", "mode": "L", "size": 28}]
)
def test_what_a_cache_takes_on_disk_is_known_before_it_is_there(tmp_path, store, settings):
    folder = paint_folder(tmp_path / "in", 60, longest=220)
    settings = {"size": 96} | settings
    planned = mmcache.plan(folder, **settings)
    cache = mmcache.build(folder, tmp_path / "out", store=store, **settings)
    told = store_for("out", store).disk_bytes(
        planned.array_bytes, planned.recipe.dtype, planned.pixels, planned.slab
    )
    # Besides there is the frame, and the folder itself.
    assert told - 120_000 < taken_bytes(cache.path) < told + 40_000


@given(
    start=st.integers(0, 20_000),
    to=st.integers(0, 20_000) | st.integers(0, 4).map(lambda pages: pages * PAGE),
    length=st.integers(0, 60_000),
)
def test_a_stretch_is_copied_wherever_it_lies(tmp_path_factory, start, to, length):
    folder = tmp_path_factory.getbasetemp()
    data = np.random.default_rng(length).integers(0, 256, start + length, np.uint8).tobytes()
    (folder / "here").write_bytes(data)
    (folder / "there").write_bytes(b"x" * (to + length + 10))
    with (
        opened(folder / "here", os.O_RDONLY) as here,
        opened(folder / "there", os.O_RDWR) as there,
    ):
        copied(here, start, there, to, length)
    assert (folder / "there").read_bytes() == b"x" * to + data[start:] + b"x" * 10
