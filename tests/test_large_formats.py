"""300 GB in each format: opened with the usual limit of open files, and read without a scan.

The payload is a file of holes, framed by the stores themselves; only the index is really there.
"""

import json
import os
import shutil
import subprocess
import sys

import numpy as np
import pytest

import mmcache
from mmcache.layout import laid_out
from mmcache.records import COLUMNS, HEIGHT
from mmcache.stores import store_for
from mmcache.stores.frame import ArrayFrame, FileFrame, Frame, file_of
from mmcache.testing import paint_folder

pytestmark = pytest.mark.skipif(
    sys.platform != "linux", reason="limits and memory are told as by Linux"
)

TOTAL = 300 * 10**9  # bytes of pixels
EDGE = 1000
DESCRIPTORS = 1024  # open files that a process may have, where nobody asked for more
MEMORY = 2 << 20  # bytes of its own that opening and reading may take
ON_DISK = 100 << 20  # bytes: the index, and what describes it

READ = """
import json, os, resource, sys, time
import mmcache, mmcache.cache

def anonymous():
    with open("/proc/self/smaps_rollup") as file:
        return sum(int(line.split()[1]) << 10 for line in file if line.startswith("Anonymous:"))

path, limit = sys.argv[1], int(sys.argv[2])
resource.setrlimit(resource.RLIMIT_NOFILE, (limit, limit))
before, started = anonymous(), time.process_time()
cache = mmcache.open(path)
rows = [0, len(cache) // 2, len(cache) - 1]
read = [[list(cache[row].shape), int(cache[row].max()), cache.keys[row]] for row in rows]
print(json.dumps({
    "rows": len(cache), "bytes": cache.nbytes, "read": read,
    "seconds": time.process_time() - started, "memory": anonymous() - before,
    "descriptors": len(os.listdir("/proc/self/fd")),
}))
"""


def recipe_of(kind):
    return mmcache.Recipe(size=EDGE, resize="crop" if kind == "uniform" else "contain")


def shapes_of(kind):
    if kind == "uniform":
        return np.tile(np.array([EDGE, EDGE, 3]), (TOTAL // (EDGE * EDGE * 3), 1))
    widths = np.random.default_rng(1).integers(EDGE // 2, EDGE + 1, TOTAL // (EDGE * EDGE * 3))
    widths = np.concatenate([widths] * 2)[: int(TOTAL / (widths.mean() * EDGE * 3))]
    return np.stack([np.full_like(widths, EDGE), widths, np.full_like(widths, 3)], axis=1)


def index_of(records):
    rows = len(records)
    keys = b"".join(b"%07d.jpg" % row for row in range(rows))
    nothing = np.empty(0, np.uint8)
    return {
        "records": records.astype("<i8"),
        "checksums": np.zeros(rows, "<u4"),
        "keys": np.frombuffer(keys, np.uint8),
        "key_offsets": np.arange(rows + 1, dtype="<i8") * 11,
        **{name: np.ones(rows, dtype) for name, dtype in COLUMNS.items()},
        "failure_keys": nothing,
        "failure_key_offsets": np.zeros(1, "<i8"),
        "failure_stages": nothing,
        "failure_reasons": nothing,
        "failure_reason_offsets": np.zeros(1, "<i8"),
    }


def generated(path, kind):
    """Write a cache whose index is whole and whose pixels are holes; return its layout."""
    recipe, store = recipe_of(kind), store_for(path)
    laid = laid_out(shapes_of(kind), recipe)
    pixels = store.allocate(path, recipe.dtype, laid.shape, laid.slab)
    arrays = index_of(laid.records)
    segments = store.write_arrays(path, arrays)
    frames = {
        name: ArrayFrame(array.dtype.str, array.shape, tuple(segments[name]), "")
        for name, array in arrays.items()
    }
    frames["pixels"] = ArrayFrame(recipe.dtype.str, laid.shape, tuple(pixels))
    counts = {
        "rows": len(laid.records),
        "failures": 0,
        "pixel_bytes": int(laid.records[:, HEIGHT:].prod(axis=1).sum()),
    }
    files = {one.file for frame in frames.values() for one in frame.segments}
    lengths = {name: file_of(path, name).stat().st_size for name in files}
    frame = Frame(
        store=store.name,
        recipe=recipe.to_json(),
        libraries={},
        counts=counts,
        classes=(),
        slab=laid.slab,
        arrays=frames,
        # Opening looks at lengths; the digests are for `verify`, which this cache never meets.
        files={name: FileFrame(length, "") for name, length in lengths.items()},
        content="generated",
    )
    store.write_frame(path, frame)
    return laid


def blocks(path):
    """Return the bytes that a cache really has on disk."""
    files = [path, *path.rglob("*")] if path.is_dir() else [path]
    return sum(file.lstat().st_blocks for file in files) * 512


@pytest.fixture(scope="module")
def holes(tmp_path_factory):
    """A place where files may have holes, however large they are."""
    place = tmp_path_factory.mktemp("large")
    probe = place / "probe"
    try:
        with probe.open("wb") as file:
            file.truncate(2 * TOTAL)
        if blocks(probe) > 1 << 20:
            pytest.skip("this file system fills holes")
    except OSError as error:
        pytest.skip(f"this file system has no files of {2 * TOTAL:,} bytes: {error}")
    finally:
        probe.unlink(missing_ok=True)
    yield place
    shutil.rmtree(place)


@pytest.mark.parametrize("kind", ["ragged", "uniform"])
@pytest.mark.parametrize("ending", ["mmc", "h5", "zarr"])
def test_300_gb_open_within_1024_files_and_their_first_middle_and_last_picture_are_read(
    holes, monkeypatch, ending, kind
):
    # Allocation, but for the blocks: the file has its length already.
    monkeypatch.setattr(os, "posix_fallocate", lambda *_: None)
    path = holes / f"{kind}.{ending}"
    laid = generated(path, kind)
    assert blocks(path) < ON_DISK

    ran = subprocess.run(
        [sys.executable, "-W", "error", "-c", READ, path, str(DESCRIPTORS)],
        capture_output=True, text=True, timeout=120, check=False,
    )  # fmt: skip
    assert ran.returncode == 0, ran.stderr
    told = json.loads(ran.stdout)

    assert 0.99 * TOTAL < told["bytes"] == laid.records[:, HEIGHT:].prod(axis=1).sum()
    rows = told["rows"]
    for row, (shape, brightest, key) in zip([0, rows // 2, rows - 1], told["read"], strict=True):
        assert shape == laid.records[row, HEIGHT:].tolist()
        assert brightest == 0
        assert key == f"{row:07}.jpg"
    assert told["memory"] < MEMORY
    assert told["seconds"] < 5  # nothing is scanned: it is a hundredth of that
    assert told["descriptors"] < DESCRIPTORS / 2  # room for another one, and for a person's own


def test_too_many_open_files_are_not_taken_for_damage(tmp_path):
    cache = mmcache.build(paint_folder(tmp_path / "in", 2), tmp_path / "a.mmc", progress=False)
    asked = (
        "import resource, sys, mmcache; mmcache.open(sys.argv[1]);"
        " resource.setrlimit(resource.RLIMIT_NOFILE, (12, 12)); mmcache.open(sys.argv[1])"
    )
    ran = subprocess.run(
        [sys.executable, "-c", asked, cache.path], capture_output=True, text=True, check=False
    )
    assert "TooManyFilesError" in ran.stderr
    assert "ulimit -n" in ran.stderr
