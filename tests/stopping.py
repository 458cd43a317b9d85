"""Builds that end early, and what they leave."""

from __future__ import annotations

import hashlib

import pytest

import mmcache
from mmcache import tasks
from mmcache.stores.frame import is_cache
from mmcache.stores.publishing import work_path

STORES = {"npy": "out.mmc", "hdf5": "out.h5", "zarr": "out.zarr"}


def names(folder):
    return sorted(path.name for path in folder.iterdir())


def bytes_of(path):
    """Return a digest of every file of a cache, by name."""
    files = [path] if path.is_file() else [one for one in path.rglob("*") if one.is_file()]
    return {
        one.relative_to(path).as_posix(): hashlib.sha256(one.read_bytes()).hexdigest()
        for one in files
    }


def decoded(monkeypatch):
    """Return a list that grows with each picture that is decoded."""
    told = []
    decode = tasks.decode_flagged

    def noting(*args, **kwargs):
        told.append(1)
        return decode(*args, **kwargs)

    monkeypatch.setattr(tasks, "decode_flagged", noting)
    return told


class Stop(Exception):  # noqa: N818  # no error of anybody
    """What ends a build from within."""


def unfinished(photos, out, **settings):
    """Leave a build in which twenty pictures and more are done."""
    calls = []

    def stop(done, total):
        calls.append(done)
        # Headers are told of first, from 256 on; then the pictures, from 0 on.
        if 0 in calls and 20 <= done < total:
            raise Stop

    with pytest.raises(Stop):
        mmcache.build(photos, out, **({"size": 96, "executor": "serial"} | settings), progress=stop)
    assert not is_cache(work_path(out) / "begun/new")


def stopped(photos, out, after, **settings):
    """Leave a build that is interrupted when *after* more pictures were decoded."""
    decode, count = tasks.decode_flagged, []

    def counting(*args, **kwargs):
        count.append(1)
        if len(count) > after:
            raise KeyboardInterrupt
        return decode(*args, **kwargs)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(tasks, "decode_flagged", counting)
        with pytest.raises(KeyboardInterrupt):
            mmcache.build(photos, out, **({"size": 96, "executor": "serial"} | settings))
