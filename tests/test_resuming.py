"""A build that ended early is gone on with: nothing lost, nothing wrong, nothing decoded twice."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time

import pytest
from stopping import STORES, bytes_of, decoded, names, unfinished

import mmcache
from mmcache import tasks
from mmcache.stores.journal import Journal
from mmcache.stores.locking import Lock
from mmcache.stores.publishing import Work, work_path
from mmcache.testing import paint_folder


@pytest.fixture(scope="module")
def photos(tmp_path_factory):
    return paint_folder(tmp_path_factory.mktemp("source") / "photos", 60, longest=220)


pytestmark = pytest.mark.usefixtures("noted_at_once")


@pytest.mark.parametrize("store", STORES)
@pytest.mark.parametrize("resize", ["contain", "crop"])
def test_the_same_call_goes_on_and_gives_the_same_bytes(
    photos, tmp_path, monkeypatch, store, resize
):
    anew = mmcache.build(photos, tmp_path / f"anew-{STORES[store]}", size=96, resize=resize)
    out = tmp_path / STORES[store]
    told = decoded(monkeypatch)
    unfinished(photos, out, resize=resize)
    assert 20 <= len(told) < 60
    assert not out.exists()
    cache = mmcache.build(photos, out, size=96, resize=resize, executor="threads", workers=2)
    assert len(told) == 60  # nothing twice
    assert bytes_of(cache.path) == bytes_of(anew.path)
    assert names(tmp_path) == sorted([anew.path.name, out.name])


KILLED = """
import sys, mmcache
from mmcache import filling, layout
layout.SLAB, filling._CHECKPOINT = 1 << 18, 1
mmcache.build(sys.argv[1], sys.argv[2], size=96, executor=sys.argv[3], workers=2, progress=False)
"""


@pytest.mark.parametrize("executor", ["threads", "processes"])
@pytest.mark.parametrize("store", STORES)
def test_a_build_killed_at_any_time_is_gone_on_with(photos, tmp_path, store, executor):
    anew = mmcache.build(photos, tmp_path / f"anew-{STORES[store]}", size=96)
    expected = bytes_of(anew.path)
    out = tmp_path / STORES[store]
    command = [sys.executable, "-c", KILLED, photos, out, executor]
    begun = time.monotonic()
    subprocess.run(command, check=True, timeout=60)
    took = time.monotonic() - begun
    assert bytes_of(out) == expected
    for part in (0.5, 0.7, 0.8, 0.9, 0.95):
        subprocess.run(["rm", "-rf", out], check=True)
        with subprocess.Popen(command) as process:
            time.sleep(took * part)
            process.kill()
        if out.exists():  # whole, or not there
            assert bytes_of(out) == expected
        mmcache.build(photos, out, size=96)
        assert bytes_of(out) == expected
        assert names(tmp_path) == sorted([anew.path.name, out.name])


@pytest.mark.parametrize("store", STORES)
def test_what_is_taken_over_is_checked_and_not_believed(photos, tmp_path, store):
    anew = mmcache.build(photos, tmp_path / f"anew-{STORES[store]}", size=96)
    out = tmp_path / STORES[store]
    unfinished(photos, out)
    content = work_path(out) / "begun/new"
    frame = anew.files.frame
    (segment, *_) = frame.arrays["pixels"].segments
    file = content if content.is_file() else content / segment.file
    data = bytearray(file.read_bytes())
    for place in range(0, 200_000, 50_000):
        data[segment.offset + place] ^= 1
    file.write_bytes(bytes(data))
    # Written in place: the same file, of the same number.
    cache = mmcache.build(photos, out, size=96)
    assert bytes_of(cache.path) == bytes_of(anew.path)


def test_another_recipe_is_refused_and_both_ways_out_are_told(photos, tmp_path):
    out = tmp_path / "out.mmc"
    unfinished(photos, out)
    with pytest.raises(mmcache.DifferentCacheError, match=r"size=.96, 96.*size=.97, 97") as caught:
        mmcache.build(photos, out, size=97)
    assert "mmcache.discard(" in str(caught.value)
    assert 'exist="overwrite"' in str(caught.value)
    other = mmcache.build(photos, tmp_path / "other.mmc", size=20)
    with pytest.raises(mmcache.DestinationError, match="unfinished"):
        mmcache.convert(other, out)
    assert len(mmcache.build(photos, out, size=97, exist="overwrite")) == 60
    assert names(tmp_path) == ["other.mmc", "out.mmc"]


def test_discard_removes_unfinished_work_and_nothing_else(photos, tmp_path):
    out = tmp_path / "out.mmc"
    assert mmcache.discard(out) is False
    cache = mmcache.build(photos, out, size=20)
    unfinished(photos, out, exist="overwrite")
    assert names(tmp_path) == [work_path(out).name, "out.mmc"]
    assert mmcache.discard(out) is True
    assert mmcache.discard(out) is False
    assert names(tmp_path) == ["out.mmc"]
    assert mmcache.open(out).fingerprint == cache.fingerprint
    with Work(out), pytest.raises(mmcache.BusyError, match=f"process {os.getpid()}"):
        mmcache.discard(out)


def test_a_source_that_changed_meanwhile_is_built_as_it_is_now(tmp_path):
    folder = paint_folder(tmp_path / "in", 60, longest=220)
    out = tmp_path / "out.mmc"
    unfinished(folder, out)
    (folder / "aaa.jpg").write_bytes(next(folder.rglob("*.jpg")).read_bytes())
    cache = mmcache.build(folder, out, size=96)
    assert bytes_of(out) == bytes_of(mmcache.build(folder, tmp_path / "anew.mmc", size=96).path)
    assert len(cache) == 61


def test_a_picture_that_fails_now_leaves_no_trace_of_what_was_written_before(tmp_path, monkeypatch):
    folder = paint_folder(tmp_path / "in", 60, longest=220)
    out = tmp_path / "out.mmc"
    unfinished(folder, out)
    key = mmcache.plan(folder).keys.raw(5)
    journal = work_path(out) / "begun/journal"
    lines = journal.read_bytes().splitlines(keepends=True)
    journal.write_bytes(lines[0] + lines[-1])  # of rows 0 to 7 it is not told that they are there
    encoded = tasks._encoded

    def failing(source, span, index):
        if span.keys[index] == key:
            raise OSError(5, "gone")
        return encoded(source, span, index)

    monkeypatch.setattr(tasks, "_encoded", failing)
    with pytest.warns(mmcache.PicturesSkippedWarning):
        cache = mmcache.build(folder, out, size=96)
    with pytest.warns(mmcache.PicturesSkippedWarning):
        anew = mmcache.build(folder, tmp_path / "anew.mmc", size=96)
    assert len(cache) == 59
    assert bytes_of(out) == bytes_of(anew.path)


def dying(script, *arguments):
    """Run a script of which the process is killed."""
    ran = subprocess.run([sys.executable, "-c", script, *arguments], check=False, timeout=60)
    assert ran.returncode == -signal.SIGKILL


def test_after_an_exchange_the_old_generation_is_not_taken_for_unfinished_work(photos, tmp_path):
    out = tmp_path / "out.mmc"
    old = mmcache.build(photos, out, size=20)
    pictures = [picture.copy() for picture in old]
    script = (
        "import os, sys, mmcache\n"
        "from mmcache.stores import publishing\n"
        "exchange = publishing._exchange\n"
        "def die(*paths):\n"
        "    exchange(*paths)\n"
        "    os.kill(os.getpid(), 9)\n"
        "publishing._exchange = die\n"
        "mmcache.build(sys.argv[1], sys.argv[2], size=20, exist='overwrite', progress=False)\n"
    )
    dying(script, photos, out)
    assert names(tmp_path) == [work_path(out).name, "out.mmc"]
    mmcache.build(photos, out, size=20)  # it is there: what is left is removed
    assert names(tmp_path) == ["out.mmc"]
    assert all((one == other).all() for one, other in zip(old, pictures, strict=True))


def test_an_exchange_in_two_steps_that_was_killed_between_them_is_put_back(photos, tmp_path):
    out = tmp_path / "out.mmc"
    old = mmcache.build(photos, out, size=20)
    script = (
        "import os, sys, mmcache\n"
        "from mmcache.stores import publishing\n"
        "def unknown(*_): raise OSError(38, 'no renameat2')\n"
        "publishing._exchange_at_once = unknown\n"
        "rename, times = publishing.Path.rename, []\n"
        "def die(self, target):\n"
        "    if times: os.kill(os.getpid(), 9)\n"
        "    times.append(1)\n"
        "    return rename(self, target)\n"
        "publishing.Path.rename = die\n"
        "mmcache.build(sys.argv[1], sys.argv[2], size=20, exist='overwrite', progress=False)\n"
    )
    dying(script, photos, out)
    assert not out.exists()
    cache = mmcache.build(photos, out, size=20)
    assert cache.fingerprint == old.fingerprint
    assert names(tmp_path) == ["out.mmc"]


def test_nobody_begins_while_a_worker_of_a_killed_builder_may_still_write(tmp_path):
    """The workers hold the lock too; who comes waits for them, a little."""
    script = (
        "import os, subprocess, sys, pathlib\n"
        "from mmcache.stores.publishing import Work\n"
        "with Work(pathlib.Path(sys.argv[1])) as work:\n"
        "    os.set_inheritable(work.lock.descriptor, True)\n"
        "    subprocess.Popen(['sleep', '1'], pass_fds=[work.lock.descriptor], stdout=2)\n"
        "    print('begun', flush=True)\n"
        "    os.kill(os.getpid(), 9)\n"
    )
    out = tmp_path / "out.mmc"
    begun = time.monotonic()
    subprocess.run(
        [sys.executable, "-c", script, out], check=False, timeout=60, stdout=subprocess.DEVNULL
    )
    with Work(out):
        assert time.monotonic() - begun > 0.9


def test_a_journal_ends_at_its_first_line_that_is_not_whole(tmp_path):
    path = tmp_path / "journal"
    journal = Journal(path)
    journal.begin({"what": "test"})
    for number in range(5):
        journal.add([{"rows": [number]}])
    whole = path.read_bytes()
    lines = whole.splitlines(keepends=True)
    for length in range(len(whole) + 1):
        path.write_bytes(whole[:length])
        read = Journal(path)
        there = whole[:length].count(b"\n")
        assert read.has_steps == (there > 1)
        assert list(read) == [{"rows": [n]} for n in range(max(there - 1, 0))]
        if there:
            read.add([{"rows": [99]}])
            assert path.read_bytes().startswith(b"".join(lines[:there]))
            assert list(Journal(path))[-1] == {"rows": [99]}
    for place in range(len(whole)):
        path.write_bytes(whole[:place] + bytes([whole[place] ^ 1]) + whole[place + 1 :])
        assert all(step in [json.loads(line[9:]) for line in lines] for step in Journal(path))


def test_a_lock_tells_who_has_it_and_is_free_when_its_holder_ends(tmp_path):
    lock, other = Lock(tmp_path / "lock"), Lock(tmp_path / "lock")
    assert lock.acquire()
    assert other.holder() == os.getpid()
    assert not other.acquire()
    lock.release()
    assert other.acquire()
    other.release()
