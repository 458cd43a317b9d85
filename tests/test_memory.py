"""A cache several times larger than the memory that may be had: built, read, and not copied.

``RLIMIT_DATA`` bounds private memory; mapped files are no part of it, as they are none of what a
full machine would have to keep.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys

import pytest

from mmcache.geometry import Size
from mmcache.testing import paint

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="RLIMIT_DATA is Linux's")

MORE = 150 << 20  # bytes over what the interpreter has after its imports
EDGE = 1_024
COUNT = 220  # of 3 MiB each: 660 MiB

START = f"""
import json, resource, sys
import numpy as np
import mmcache, mmcache.ingest, mmcache.showing
from concurrent.futures import ThreadPoolExecutor
def private():
    with open("/proc/self/status") as status:
        return int(next(line for line in status if line.startswith("VmData")).split()[1]) << 10
limit = private() + {MORE}
resource.setrlimit(resource.RLIMIT_DATA, (limit, limit))
try:
    np.ones({2 * MORE}, np.uint8)
except MemoryError:
    pass
else:
    sys.exit("the limit does not bite")
"""

BUILD = """
cache = mmcache.build(sys.argv[1], sys.argv[2], size=1024, resize=sys.argv[3],
                      executor=sys.argv[4], workers=2, progress=False)
print(json.dumps({"rows": len(cache), "bytes": cache.nbytes}))
"""

READ = """
cache = mmcache.open(sys.argv[1])
total = sum(int(picture.sum(dtype=np.int64)) for picture in cache)
shuffled = cache[np.random.default_rng(1).permutation(len(cache))]
again = sum(int(shuffled.batch(range(row, row + 4)).images.sum(dtype=np.int64))
            for row in range(0, len(shuffled), 4))
few = np.asarray(cache[:10])
assert few.base is not None and not few.flags.writeable
try:
    np.asarray(shuffled)
except (mmcache.ShapesDifferError, MemoryError) as error:
    refused = str(error)
print(json.dumps({"total": total, "again": again, "shape": few.shape, "refused": refused}))
"""


def run(script, *arguments):
    """Run a script with little memory; return what it prints."""
    ran = subprocess.run(
        [sys.executable, "-W", "error", "-c", START + script, *arguments],
        capture_output=True, text=True, timeout=250, check=False,
    )  # fmt: skip
    assert ran.returncode == 0, ran.stderr
    return json.loads(ran.stdout)


@pytest.fixture(scope="module")
def many(tmp_path_factory):
    """Two pictures under very many names, in a format that is read at once."""
    folder = tmp_path_factory.mktemp("many")
    for number in range(2):
        paint(Size(EDGE, EDGE), number).save(folder / f"{number}.bmp")
    for number in range(2, COUNT):
        os.link(folder / f"{number % 2}.bmp", folder / f"{number}.bmp")
    return folder


@pytest.mark.slow
@pytest.mark.parametrize(
    ("resize", "executor"), [("contain", "threads"), ("crop", "processes"), ("crop", "serial")]
)
def test_a_cache_four_times_the_memory_is_built_and_read(many, tmp_path, resize, executor):
    path = tmp_path / "out.mmc"
    try:
        built = run(BUILD, many, path, resize, executor)
        assert built == {"rows": COUNT, "bytes": COUNT * EDGE * EDGE * 3}
        assert built["bytes"] > 4 * MORE
        read = run(READ, path)
        assert read["total"] == read["again"] > 0
        assert read["shape"] == [10, EDGE, EDGE, 3]
        assert read["refused"]
    finally:
        subprocess.run(["rm", "-r", path], check=False)


PLAN = """
import tracemalloc
tracemalloc.start()
planned = mmcache.plan(sys.argv[1], executor="serial", progress=False)
held, most = tracemalloc.get_traced_memory()
print(json.dumps({"rows": len(planned), "held": held, "most": most}))
"""


def test_a_plan_needs_150_bytes_and_its_key_for_each_picture(tmp_path):
    needed = {}
    for count in (1_000, 5_000):
        folder = tmp_path / str(count)
        folder.mkdir()
        paint(Size(8, 8)).save(folder / f"{0:09}.bmp")
        for number in range(1, count):
            os.link(folder / f"{0:09}.bmp", folder / f"{number:09}.bmp")
        told = run(PLAN, folder)
        assert told["rows"] == count
        needed[count] = told["held"]
    assert (needed[5_000] - needed[1_000]) / 4_000 <= 150 + len("000000000.bmp")
