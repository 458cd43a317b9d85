"""A painted folder and two caches of it, built once: no test may change them."""

import importlib.util
import os
import tempfile

import pytest
from hypothesis import settings

import mmcache
from mmcache import filling, layout, progress
from mmcache.testing import paint_folder

# Keras looks at these when it is imported: which backend, and where its settings are written.
BACKENDS = [name for name in ("torch", "tensorflow", "jax") if importlib.util.find_spec(name)]
os.environ.setdefault("KERAS_BACKEND", (BACKENDS or ["torch"])[0])
os.environ.setdefault("KERAS_HOME", f"{tempfile.gettempdir()}/mmcache-tests-keras")

# A machine that is busy is not a wrong answer.
settings.register_profile("mmcache", deadline=None)
settings.load_profile("mmcache")


@pytest.fixture(scope="session", autouse=True)
def temporary_folder(tmp_path_factory):
    """A temporary folder of the tests' own: what is remembered in it begins with them."""
    folder = tmp_path_factory.mktemp("temporary")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(tempfile, "tempdir", str(folder))
        patch.setenv("TMPDIR", str(folder))
        yield folder


@pytest.fixture(scope="session", autouse=True)
def told_of_every_step():
    """Progress is told of whatever is done: tests wait for that, and not for a clock."""
    with pytest.MonkeyPatch.context() as patch:
        for name in ("_OFTEN", "_SHARE", "_SOON"):
            patch.setattr(progress, name, 0)
        yield


@pytest.fixture(scope="session")
def painted(tmp_path_factory):
    """A folder of 24 pictures in three class folders: every aspect, JPEG and PNG, every turn."""
    return paint_folder(tmp_path_factory.mktemp("painted") / "photos", 24, longest=200)


@pytest.fixture(scope="session")
def partly_broken(tmp_path_factory):
    """A folder of 30 pictures, of one more that is none, and of one that leaves a hole."""
    folder = paint_folder(tmp_path_factory.mktemp("partly_broken") / "photos", 30, longest=160)
    (folder / "circles" / "broken.jpg").write_bytes(b"\xff\xd8\xff\xe0 no picture")
    whole = (folder / "circles" / "00000.jpg").read_bytes()
    (folder / "circles" / "00000a.jpg").write_bytes(whole[: len(whole) * 3 // 4])
    return folder


@pytest.fixture(scope="session")
def ragged(painted, tmp_path_factory):
    """Its cache in which every picture has a shape of its own."""
    path = tmp_path_factory.mktemp("ragged") / "photos.mmc"
    return mmcache.build(painted, path, size=64, progress=False)


@pytest.fixture(scope="session")
def uniform(painted, tmp_path_factory):
    """Its cache in which every picture is 48 x 48."""
    path = tmp_path_factory.mktemp("uniform") / "photos.mmc"
    return mmcache.build(painted, path, size=48, resize="crop", progress=False)


@pytest.fixture
def noted_at_once(monkeypatch):
    """Let caches of a few pictures have several slabs, and note what is done at once."""
    monkeypatch.setattr(layout, "SLAB", 1 << 18)
    monkeypatch.setattr(filling, "_CHECKPOINT", 1)
