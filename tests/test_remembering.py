"""Headers that are remembered: what is planned with them is what would be planned without."""

from __future__ import annotations

import contextlib
import math
import os
import random
import shutil
import signal
import sqlite3
import subprocess
import sys
import tempfile
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import mmcache
from mmcache import remembering, survey
from mmcache.errors import PicturesSkippedWarning
from mmcache.images import Header
from mmcache.remembering import KnownHeaders, packed, unpacked
from mmcache.testing import paint_folder

COUNT = 26
MARK = (1_000, 5, 7, 11)
HEADER = Header("JPEG", "RGB", 30, 40, 6, progressive=True, samples=1.5)


@pytest.fixture(autouse=True)
def temporary(tmp_path, monkeypatch):
    """A temporary folder of its own, in which the smallest source is remembered, and at once."""
    folder = tmp_path / "tmp"
    folder.mkdir(mode=0o700)
    monkeypatch.setattr(tempfile, "tempdir", str(folder))
    monkeypatch.setattr(remembering, "_FEWEST", 1)
    monkeypatch.setattr(survey, "_SETTLED", -math.inf)
    return folder


@pytest.fixture
def photos(tmp_path):
    """A folder of its own: pictures of two formats, one that is none, and one that is cut."""
    return broken(paint_folder(tmp_path / "photos", COUNT - 2, longest=60))


def broken(folder):
    (folder / "circles" / "none.jpg").write_bytes(b"\xff\xd8\xff\xe0 no picture")
    whole = (folder / "circles" / "00000.jpg").read_bytes()
    (folder / "circles" / "cut.jpg").write_bytes(whole[: len(whole) * 3 // 4])
    return folder


@pytest.fixture
def read(monkeypatch):
    """Every header that is read, as it was told."""
    told = []
    read_header = survey.read_header

    def reading(file, frame=0):
        told.append(frame)
        return read_header(file, frame)

    monkeypatch.setattr(survey, "read_header", reading)
    return told


def without(source, **options):
    """Plan as if nothing were remembered."""
    before, remembering._FEWEST = remembering._FEWEST, sys.maxsize
    try:
        return mmcache.plan(source, executor="serial", progress=False, **options)
    finally:
        remembering._FEWEST = before


def remembered(temporary):
    """Return the SQLite files that there are."""
    return sorted(temporary.glob(".mmcache-headers-*/*.sqlite3"))


def rows_of(temporary):
    (file,) = remembered(temporary)
    connection = sqlite3.connect(file)
    try:
        return dict(connection.execute("SELECT key, header FROM headers"))
    finally:
        connection.close()


# What is known is not read again -----------------------------------------------------------------


@pytest.mark.parametrize("executor", ["serial", "threads", "processes"])
def test_a_second_plan_reads_no_header(photos, executor, temporary, monkeypatch):
    (photos / "circles" / "none.jpg").unlink()
    if executor == "processes":
        time.sleep(2.1)  # for other processes have settings of their own
    first = mmcache.plan(photos, executor=executor, workers=2, progress=False)
    smaller = without(photos, size=20, resize="crop")
    assert len(rows_of(temporary)) == len(first) == COUNT - 1
    monkeypatch.setattr(survey, "read_header", None)
    assert mmcache.plan(photos, progress=False) == first
    assert mmcache.plan(photos, size=20, resize="crop", progress=False) == smaller


def test_only_what_changed_is_read_again(photos, read):
    mmcache.plan(photos, progress=False)
    assert len(read) == COUNT
    time.sleep(0.02)  # longer than a tick of a file system's clock
    os.utime(photos / "waves" / "00002.jpg", ns=(5, 5))
    (photos / "stripes" / "00001.jpg").unlink()
    (photos / "stripes" / "new.png").write_bytes((photos / "waves" / "00011.png").read_bytes())
    read.clear()
    planned = mmcache.plan(photos, progress=False)
    assert len(read) == 3  # touched, new, and the one that is no picture
    assert planned == without(photos)


def test_a_build_and_its_plan_know_the_same(photos, read, tmp_path):
    with pytest.warns(PicturesSkippedWarning):
        cache = mmcache.build(photos, tmp_path / "one.mmc", size=20, progress=False)
    read.clear()
    with pytest.warns(PicturesSkippedWarning):
        again = mmcache.build(photos, tmp_path / "two.mmc", size=20, progress=False)
    assert len(read) == 2  # what is no picture, and what failed while it was decoded
    assert again.fingerprint == cache.fingerprint


def test_lists_of_paths_in_any_order_are_remembered(photos, read):
    paths = sorted(photos.rglob("0*"))
    mmcache.plan(paths, progress=False)
    read.clear()
    random.Random(3).shuffle(paths)
    assert mmcache.plan(paths[:-3], progress=False) == without(paths[:-3])
    assert len(read) == len(paths) - 3  # those of the plan without


def test_another_frame_is_another_header(photos, read):
    for _ in range(2):
        mmcache.plan(photos, frame=1, progress=False)
        mmcache.plan(photos, progress=False)
    assert [read.count(frame) for frame in (0, 1)] == [COUNT + 1] * 2


def test_another_pillow_reads_for_itself(photos, read, monkeypatch):
    mmcache.plan(photos, progress=False)
    monkeypatch.setattr(remembering.PIL, "__version__", "0.1")
    read.clear()
    mmcache.plan(photos, progress=False)
    assert len(read) == COUNT


def test_masks_and_pictures_are_each_remembered(photos, tmp_path, read):
    with pytest.warns(PicturesSkippedWarning):
        cache = mmcache.build(photos, tmp_path / "one.mmc", size=20, progress=False)
    masks = paint_folder(tmp_path / "masks", COUNT - 2, longest=60)
    (masks / "circles" / "00000.jpg").write_bytes((photos / "waves" / "00002.jpg").read_bytes())
    settings_ = {"like": cache, "mode": "L", "resample": "nearest", "progress": False}
    first = mmcache.plan(masks, **settings_)
    read.clear()
    assert mmcache.plan(masks, **settings_) == first
    assert not read
    assert "and the picture that it goes with" in first.failures[0].reason


def other_bytes(file, number):
    """Put another picture there that is as large and as old."""
    status = file.stat()
    data = (file.parent.parent / "waves" / f"{(2, 5, 8)[number % 3]:05}.jpg").read_bytes()
    file.write_bytes((data + bytes(status.st_size))[: status.st_size])
    os.utime(file, ns=(status.st_atime_ns, status.st_mtime_ns))


CHANGES = {
    "touch": lambda file, number: os.utime(file, ns=(number, number)),
    "remove": lambda file, _: file.unlink(),
    "rename": lambda file, number: file.rename(file.with_name(f"renamed{number}{file.suffix}")),
    "copy": lambda file, number: file.with_name(f"c{number}.png").write_bytes(file.read_bytes()),
    "cut": lambda file, number: os.truncate(file, number * 10),
    "other": other_bytes,
    "exchange": lambda file, _: file.replace(
        next(one for one in file.parent.iterdir() if one != file)
    ),
    "folder": lambda file, _: (file.unlink(), file.mkdir()),
    "link": lambda file, _: (file.rename(file.parent / "x"), file.symlink_to("x")),
}


@settings(max_examples=25)
@given(
    changes=st.lists(
        st.tuples(st.sampled_from(sorted(CHANGES)), st.integers(0, 30), st.integers(0, 99)),
        max_size=6,
    ),
    size=st.sampled_from([16, 256]),
)
def test_a_plan_with_memory_is_a_plan_without(tmp_path_factory, changes, size):
    place = tmp_path_factory.mktemp("changing")
    photos = broken(paint_folder(place / "photos", 14, longest=40))
    mmcache.plan(photos, executor="serial", progress=False)
    time.sleep(0.02)
    for change, which, number in changes:
        files = sorted(one for one in photos.rglob("*") if one.is_file())
        with contextlib.suppress(OSError, StopIteration):  # not every change can be made
            CHANGES[change](files[which % len(files)], number)
    for _ in range(2):
        planned = mmcache.plan(photos, size=size, executor="serial", progress=False)
        assert planned == without(photos, size=size)


def test_what_changed_just_now_is_not_remembered(photos, temporary, monkeypatch, read):
    monkeypatch.setattr(survey, "_SETTLED", 2_000_000_000)
    mmcache.plan(photos, progress=False)
    mmcache.plan(photos, progress=False)
    assert len(read) == 2 * COUNT
    time.sleep(2.1)
    mmcache.plan(photos, progress=False)
    assert len(rows_of(temporary)) == COUNT - 1


@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() == 0, reason="root may read all")
def test_a_picture_that_may_not_be_read_any_more_is_a_failure(photos):
    mmcache.plan(photos, progress=False)
    time.sleep(0.02)
    (photos / "waves" / "00002.jpg").chmod(0)
    assert mmcache.plan(photos, progress=False) == without(photos)


def test_a_picture_that_fails_while_it_is_decoded_is_forgotten(photos, tmp_path, temporary):
    mmcache.plan(photos, progress=False)
    assert b"circles/cut.jpg" in rows_of(temporary)
    with pytest.warns(PicturesSkippedWarning):
        mmcache.build(photos, tmp_path / "out.mmc", size=20, progress=False)
    rows = rows_of(temporary)
    assert b"circles/cut.jpg" not in rows
    assert len(rows) == COUNT - 2


def test_a_header_that_was_wrong_is_read_again_after_the_build(photos, tmp_path, temporary):
    mmcache.plan(photos, progress=False)
    (file,) = remembered(temporary)
    key = b"waves/00002.jpg"
    mark = mmcache.Folder(photos).mark(key)
    header = unpacked(key, rows_of(temporary)[key], mark)
    known = KnownHeaders(file)
    known.note([(key, packed(key, mark, header._replace(width=header.width + 1)))])
    known.close()
    with pytest.warns(PicturesSkippedWarning):
        cache = mmcache.build(photos, tmp_path / "out.mmc", size=20, progress=False)
    assert "when the cache was planned" in " ".join(one.reason for one in cache.failures)
    assert mmcache.plan(photos, size=20, progress=False) == without(photos, size=20)


# Killed, interrupted, at once ---------------------------------------------------------------------

PLANNING = """
import os, signal, sys, tempfile
import mmcache
from mmcache import remembering, survey
remembering._FEWEST, remembering._OFTEN, survey._SPAN, survey._SETTLED = 1, 0, 4, -10**18
read_header, left = survey.read_header, int(sys.argv[2])
def reading(file, frame=0):
    global left
    left -= 1
    if not left:
        os.kill(os.getpid(), signal.SIGKILL)
    return read_header(file, frame)
survey.read_header = reading
for _ in range(int(sys.argv[3])):
    print(mmcache.plan(sys.argv[1], executor="serial", progress=False).digest)
"""


def planning(photos, temporary, kill_at=0, times=1):
    return subprocess.Popen(
        [sys.executable, "-c", PLANNING, photos, str(kill_at), str(times)],
        env=os.environ | {"TMPDIR": str(temporary)},
        stdout=subprocess.PIPE,
        text=True,
    )


@pytest.mark.parametrize("at", [2, 12, 24])
def test_a_header_pass_that_was_killed_goes_on_where_it_was(photos, temporary, read, at):
    killed = planning(photos, temporary, at)
    assert killed.wait(60) == -signal.SIGKILL
    killed.communicate()
    planned = mmcache.plan(photos, progress=False)
    assert len(read) <= COUNT - (at - 1) // 4 * 4 + 1  # a span of four was under way
    assert planned == without(photos)


def test_an_interrupted_header_pass_goes_on_where_it_was(photos, read, monkeypatch):
    monkeypatch.setattr(survey, "_SPAN", 4)

    def interrupt(done, _):
        if done > COUNT // 2:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        mmcache.plan(photos, executor="serial", progress=interrupt)
    first = len(read)
    planned = mmcache.plan(photos, progress=False)
    assert first < COUNT
    assert len(read) <= COUNT + 1
    assert planned == without(photos)


def test_processes_that_plan_at_once_plan_the_same(photos, temporary):
    others = [planning(photos, temporary, times=12) for _ in range(3)]
    said = [other.communicate(timeout=100)[0].split() for other in others]
    assert [len(digests) for digests in said] == [12] * 3
    assert {digest for digests in said for digest in digests} == {without(photos).digest}
    assert len(rows_of(temporary)) == COUNT - 1


def test_while_another_process_writes_a_plan_goes_without(photos, temporary, read, monkeypatch):
    monkeypatch.setattr(remembering, "_WAIT", 0.01)
    mmcache.plan(photos, progress=False)
    other = sqlite3.connect(remembered(temporary)[0], isolation_level=None)
    other.execute("BEGIN EXCLUSIVE")
    read.clear()
    assert mmcache.plan(photos, progress=False) == without(photos)
    assert len(read) == 2 * COUNT
    other.close()
    assert len(rows_of(temporary)) == COUNT - 1


@pytest.mark.parametrize("what", ["file", "folder"])
def test_the_memory_may_be_deleted_during_a_plan(photos, temporary, what, monkeypatch):
    for name, value in (("_OFTEN", 0), ("_ROWS", 1)):
        monkeypatch.setattr(remembering, name, value)
    monkeypatch.setattr(survey, "_SPAN", 4)

    def delete(*_):
        for file in remembered(temporary):
            file.unlink()
            if what == "folder":
                shutil.rmtree(file.parent)

    assert mmcache.plan(photos, progress=delete) == without(photos)
    assert mmcache.plan(photos, progress=False) == without(photos)


# Damaged, hostile, in the way ---------------------------------------------------------------------


def damaged(data, chance):
    """Return bytes of which some are flipped, zeroed, moved or missing."""
    data = bytearray(data)
    kind = chance.randrange(4)
    if kind == 0:
        return bytes(data[: chance.randrange(len(data))])
    for _ in range(chance.choice([1, 1, 3, 40])):
        place = chance.randrange(len(data))
        if kind == 1:
            data[place] ^= 1 << chance.randrange(8)
        elif kind == 2:
            data[place : place + 64] = bytes(len(data[place : place + 64]))
        else:
            data[place : place + 8], data[:8] = data[:8], data[place : place + 8]
    return bytes(data)


@pytest.mark.parametrize("seed", range(6))
def test_a_damaged_memory_is_as_if_there_were_none(photos, temporary, seed):
    expected = without(photos)
    mmcache.plan(photos, progress=False)
    (file,) = remembered(temporary)
    whole = file.read_bytes()
    chance = random.Random(seed)
    for _ in range(20):
        file.write_bytes(damaged(whole, chance))
        for _ in range(2):
            assert mmcache.plan(photos, executor="serial", progress=False) == expected


def test_a_damaged_memory_is_begun_anew(photos, temporary, read):
    mmcache.plan(photos, progress=False)
    remembered(temporary)[0].write_bytes(b"no database" * 1000)
    mmcache.plan(photos, progress=False)
    read.clear()
    mmcache.plan(photos, progress=False)
    assert len(read) == 1


def test_a_header_is_remembered_as_it_is():
    for header in (HEADER, HEADER._replace(format="JXL", mode="", progressive=False, samples=3)):
        assert unpacked(b"a.jpg", packed(b"a.jpg", MARK, header), MARK) == header
    assert packed(b"a.jpg", MARK, HEADER._replace(mode="unheard of")) == b""
    assert packed(b"a.jpg", MARK, HEADER._replace(width=1 << 40)) == b""


@given(st.integers(0, 59), st.integers(1, 255))
def test_one_wrong_byte_is_seen(place, difference):
    data = bytearray(packed(b"a.jpg", MARK, HEADER))
    data[place % len(data)] ^= difference
    assert unpacked(b"a.jpg", bytes(data), MARK) is None


@pytest.mark.parametrize("which", range(4))
def test_another_file_or_key_is_not_known(which):
    data = packed(b"a.jpg", MARK, HEADER)
    assert unpacked(b"b.jpg", data, MARK) is None
    mark = list(MARK)
    mark[which] += 1
    assert unpacked(b"a.jpg", data, tuple(mark)) is None


NONSENSE = {
    "height": [0, -1], "width": [0, -5], "samples": [math.nan, math.inf, -1.0],
    "orientation": [0, 9, 255],
}  # fmt: skip


@pytest.mark.parametrize("name", NONSENSE)
def test_numbers_that_no_header_has_are_not_believed_with_a_right_checksum(name):
    for value in NONSENSE[name]:
        assert unpacked(b"a", packed(b"a", MARK, HEADER._replace(**{name: value})), MARK) is None


def test_kinds_that_no_header_has_are_not_believed(monkeypatch):
    for name in ("FORMATS", "SOURCE_MODES"):
        monkeypatch.setattr(remembering, name, ("", "JPEG", "RGB", "more"))
        field = {"FORMATS": "format", "SOURCE_MODES": "mode"}[name]
        data = packed(b"a", MARK, HEADER._replace(**{field: "more"}))
        monkeypatch.setattr(remembering, name, ("", "JPEG", "RGB"))
        assert data
        assert unpacked(b"a", data, MARK) is None


HOSTILE = {
    "text": "CREATE TABLE headers (key BLOB PRIMARY KEY, header BLOB NOT NULL) WITHOUT ROWID;"
    "INSERT INTO headers VALUES ('waves/00002.jpg', 'text'), (CAST('waves/00005.jpg' AS BLOB), 7),"
    " (CAST('waves/00008.jpg' AS BLOB), zeroblob(60))",
    "a view": "CREATE VIEW headers AS WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM"
    " n) SELECT CAST(i AS BLOB) AS key, zeroblob(60) AS header FROM n",
    "a trigger": "CREATE TABLE headers (key BLOB PRIMARY KEY, header BLOB NOT NULL) WITHOUT ROWID;"
    "CREATE TRIGGER t BEFORE INSERT ON headers BEGIN DELETE FROM headers; END",
    "another table": "CREATE TABLE other (x)",
}


@pytest.mark.parametrize("script", HOSTILE.values(), ids=HOSTILE)
def test_a_hostile_memory_is_as_if_there_were_none(photos, temporary, script):
    mmcache.plan(photos, progress=False)
    (file,) = remembered(temporary)
    file.unlink()
    connection = sqlite3.connect(file)
    connection.executescript(script)
    connection.close()
    for _ in range(2):
        assert mmcache.plan(photos, progress=False) == without(photos)
    assert len(rows_of(temporary)) >= COUNT - 1


needs_users = pytest.mark.skipif(not hasattr(os, "geteuid"), reason="there are no users")


@needs_users
@pytest.mark.parametrize(
    "way", ["another's", "open to others", "a link", "a file", "on loose soil"]
)
def test_a_folder_that_others_may_write_to_is_not_used(photos, temporary, way, monkeypatch):
    folder = temporary / f".mmcache-headers-{os.geteuid()}"
    elsewhere = temporary / "elsewhere"
    elsewhere.mkdir(mode=0o700)
    if way == "another's":
        somebody = os.geteuid() + 1
        monkeypatch.setattr(os, "geteuid", lambda: somebody)
        folder.with_name(f".mmcache-headers-{somebody}").mkdir(mode=0o700)
    elif way == "open to others":
        folder.mkdir()
        folder.chmod(0o770)
    elif way == "a link":
        folder.symlink_to(elsewhere)
    elif way == "a file":
        folder.touch()
    else:
        temporary.chmod(0o777)
    before = sorted(temporary.rglob("*"))
    for _ in range(2):
        assert mmcache.plan(photos, progress=False) == without(photos)
    made = set(temporary.rglob("*")) - set(before)
    assert not [one for one in made if one.suffix == ".sqlite3"]


@needs_users
def test_a_sticky_temporary_folder_of_all_users_is_used(photos, temporary):
    temporary.chmod(0o1777)
    mmcache.plan(photos, progress=False)
    assert len(rows_of(temporary)) == COUNT - 1
    assert remembered(temporary)[0].parent.stat().st_mode & 0o777 == 0o700


@pytest.mark.parametrize("place", ["nowhere", "photos/circles/00000.jpg"])
def test_without_a_temporary_folder_a_plan_goes_without(photos, tmp_path, place, monkeypatch):
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / place))
    assert mmcache.plan(photos, progress=False) == without(photos)


def test_the_working_directory_as_pythons_last_resort_is_left_alone(photos, tmp_path, monkeypatch):
    (tmp_path / "work").mkdir()
    monkeypatch.chdir(tmp_path / "work")
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "work"))
    mmcache.plan(photos, progress=False)
    assert not list((tmp_path / "work").iterdir())
    monkeypatch.setenv("TMPDIR", str(tmp_path / "work"))  # it was asked for
    mmcache.plan(photos, progress=False)
    assert remembered(tmp_path / "work")


def test_a_python_without_sqlite_goes_without(photos, monkeypatch):
    monkeypatch.setitem(sys.modules, "sqlite3", None)
    assert mmcache.plan(photos, progress=False) == without(photos)


def test_a_full_disk_is_no_error(photos, temporary, monkeypatch):
    monkeypatch.setattr(remembering, "_MOST", 3 * 4096)
    many = paint_folder(photos / "many", 300, longest=12)
    for _ in range(2):
        assert mmcache.plan(many, progress=False) == without(many)
    assert remembered(temporary)[0].stat().st_size <= 3 * 4096


def test_the_temporary_folder_as_a_source_is_not_changed_by_its_memory(temporary):
    paint_folder(temporary / "waves", 5, longest=30, classes=False)
    first = mmcache.plan(temporary, progress=False)
    again = mmcache.plan(temporary, progress=False)
    assert remembered(temporary)
    assert first == again
    assert (again.classes, again.left_out) == (("waves",), 0)


# It stays small -----------------------------------------------------------------------------------


def test_of_few_pictures_nothing_is_remembered(photos, temporary, monkeypatch):
    monkeypatch.setattr(remembering, "_FEWEST", COUNT + 1)
    mmcache.plan(photos, progress=False)
    assert not list(temporary.iterdir())


def test_of_a_source_that_only_this_process_has_nothing_is_remembered(photos, temporary):
    class Mine(mmcache.Folder):
        def describe(self):
            return None

    mmcache.plan(Mine(photos), progress=False)
    assert not list(temporary.iterdir())


def test_a_source_that_was_not_planned_for_a_month_is_forgotten(photos, tmp_path, temporary):
    other = paint_folder(tmp_path / "other", 4, longest=30)
    mmcache.plan(photos, progress=False)
    (first,) = remembered(temporary)
    os.utime(first, (time.time() - 29 * 86_400,) * 2)
    mmcache.plan(other, progress=False)
    assert len(remembered(temporary)) == 2
    os.utime(first, (time.time() - 31 * 86_400,) * 2)
    mmcache.plan(other, progress=False)
    assert first not in remembered(temporary)
    assert len(remembered(temporary)) == 1


def test_of_too_much_the_oldest_goes_first(tmp_path, temporary, monkeypatch):
    sources = [paint_folder(tmp_path / name, 4, longest=30) for name in "abcd"]
    kept = []
    for number, source in enumerate(sources):
        mmcache.plan(source, progress=False)
        (new,) = set(remembered(temporary)) - set(kept)
        kept.append(new)
        os.utime(new, (time.time() - 1000 + number,) * 2)
    size = kept[0].stat().st_size
    monkeypatch.setattr(remembering, "_MOST", 6 * size)
    mmcache.plan(sources[3], progress=False)
    assert remembered(temporary) == sorted(kept[1:])
    monkeypatch.setattr(remembering, "_MOST", 3 * size)
    mmcache.plan(sources[3], progress=False)
    assert remembered(temporary) == [kept[3]]


# Threads are used where one waits -----------------------------------------------------------------


class Slow:
    """A source some of whose files come from a slow disk."""

    def __init__(self, folder, cold):
        self.within, self.cold, self.seen = mmcache.Folder(folder), cold, {}
        self.inside, self.most = 0, 0

    def __getattr__(self, name):
        return getattr(self.within, name)

    def describe(self):
        return None

    def listing(self):
        return self.within.listing()

    def stat(self, key):
        return self.within.stat(key)

    def open(self, key):
        self.seen[key] = threading.current_thread()
        self.inside += 1
        self.most = max(self.most, self.inside)
        if self.cold(key):
            time.sleep(0.01)
        self.inside -= 1
        return self.within.open(key)


@pytest.fixture
def many(tmp_path, monkeypatch):
    """A folder of 120 pictures, looked at in spans of four."""
    for name, value in (("_PIECE", 4), ("_LEFT", 2)):
        monkeypatch.setattr(survey, name, value)
    return paint_folder(tmp_path / "many", 120, longest=12, classes=False)


def test_headers_in_memory_are_read_by_one_thread(many, monkeypatch):
    monkeypatch.setattr(survey, "_WAITING", 1.0)  # a machine may be busy
    source = Slow(many, lambda _: False)
    mmcache.plan(source, workers=4, progress=False)
    assert set(source.seen.values()) == {threading.current_thread()}


def test_a_slow_disk_is_waited_for_by_all_threads(many):
    source = Slow(many, lambda _: True)
    planned = mmcache.plan(source, workers=4, progress=False)
    assert source.most == 4
    others = [thread for thread in source.seen.values() if thread != threading.current_thread()]
    assert len(others) >= 100
    assert planned.records.tolist() == without(many).records.tolist()


def test_a_disk_that_becomes_slow_is_waited_for_by_all_threads_from_then_on(many):
    source = Slow(many, lambda key: key >= b"00060")
    planned = mmcache.plan(source, workers=4, progress=False)
    others = [key for key, one in source.seen.items() if one != threading.current_thread()]
    assert len([key for key in others if key >= b"00060"]) >= 40
    assert source.most == 4
    assert planned.records.tolist() == without(many).records.tolist()


def test_a_disk_that_becomes_fast_is_read_by_one_thread_from_then_on(many, monkeypatch):
    monkeypatch.setattr(survey, "_WAITING", 2e-3)
    source = Slow(many, lambda key: key < b"00010")
    mmcache.plan(source, workers=2, progress=False)
    mine = [key for key, one in source.seen.items() if one == threading.current_thread()]
    assert {key for key in source.seen if key >= b"00100"} <= set(mine)


def test_an_executor_of_processes_has_whole_spans(many):
    with ThreadPoolExecutor(2) as pool:
        assert mmcache.plan(many, executor=pool) == without(many)
    assert mmcache.plan(many, executor="processes", workers=2) == without(many)
