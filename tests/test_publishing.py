"""A path is a whole cache or it is no cache."""

from __future__ import annotations

import errno
import fcntl
import os
import subprocess
import sys
import threading

import pytest
from interrupting import interrupted_at_each_step

import mmcache
from mmcache.errors import BusyError
from mmcache.stores import publishing
from mmcache.stores.locking import Lock
from mmcache.stores.publishing import Work, work_path


def names(folder):
    """Return what is in a folder, hidden things too."""
    return sorted(path.name for path in folder.iterdir())


def filled(work, text):
    work.content.mkdir()
    (work.content / "file").write_text(text)


@pytest.fixture(params=["at once", "in two steps"])
def exchange(request, monkeypatch):
    """Both ways in which two generations change places."""
    if request.param == "in two steps":

        def unknown(*_):
            raise OSError(errno.ENOSYS, "no renameat2")

        monkeypatch.setattr(publishing, "_exchange_at_once", unknown)
    return request.param


def test_what_is_published_stands_at_the_destination_alone(tmp_path):
    with Work(tmp_path / "out.mmc") as work:
        filled(work, "new")
        assert not (tmp_path / "out.mmc").exists()
        work.publish()
        assert (tmp_path / "out.mmc" / "file").read_text() == "new"
    assert names(tmp_path) == ["out.mmc"]


def test_a_new_generation_takes_the_place_of_the_old_one(tmp_path, exchange):
    old = tmp_path / "out.mmc"
    old.mkdir()
    (old / "file").write_text("old")
    with (old / "file").open() as reader:
        with Work(old) as work:
            filled(work, "new")
            work.publish()
        assert reader.read() == "old"
    assert (old / "file").read_text() == "new"
    assert names(tmp_path) == ["out.mmc"], exchange


def test_there_is_always_a_whole_generation_where_the_system_can_exchange(tmp_path):
    place = tmp_path / "out.mmc"
    place.mkdir()
    (place / "file").write_text("0")
    missed, seen, done = [], set(), threading.Event()

    def look():
        while not done.is_set():
            try:
                seen.add((place / "file").read_text())
            except FileNotFoundError:
                missed.append(1)

    thread = threading.Thread(target=look)
    thread.start()
    for number in range(1, 150):
        with Work(place) as work:
            filled(work, str(number))
            work.publish()
    done.set()
    thread.join()
    assert not missed
    assert len(seen) > 1


def test_a_file_is_published_as_a_folder_is(tmp_path, exchange):
    place = tmp_path / "out.h5"
    for text in ("one", "two"):
        with Work(place) as work:
            work.content.write_text(text)
            work.publish()
        assert place.read_text() == text
    assert names(tmp_path) == ["out.h5"], exchange


def test_what_failed_leaves_nothing(tmp_path):
    work = Work(tmp_path / "out.mmc")
    with pytest.raises(KeyError), work:
        raise filled(work, "half") or KeyError
    assert names(tmp_path) == []


@pytest.mark.parametrize("function", [Work._recover, Work._read])
def test_an_interruption_before_the_work_has_begun_leaves_nothing(tmp_path, function):
    def begin():
        with Work(tmp_path / "out.mmc"):
            pass

    for step in interrupted_at_each_step(function, begin):
        assert names(tmp_path) == [], f"after an interruption at step {step}"


def test_an_interruption_before_the_work_has_begun_leaves_what_an_exchange_put_aside(tmp_path):
    place = tmp_path / "out.mmc"
    aside = work_path(place) / "old"

    def begin():
        with Work(place):
            pass

    for step in interrupted_at_each_step(Work._recover, begin):
        found = [one for one in (place, aside) if one.exists()]
        if step > 1:
            assert [one.read_text() for one in found] == ["the only one"]
        for one in found:
            one.unlink()
        work_path(place).mkdir(exist_ok=True)
        aside.write_text("the only one")


def test_an_old_generation_stays_when_the_exchange_fails(tmp_path, monkeypatch):
    place = tmp_path / "out.mmc"
    place.mkdir()
    (place / "file").write_text("old")

    def refuse(*_):
        raise OSError(errno.EACCES, "refused")

    monkeypatch.setattr(publishing, "_exchange_at_once", refuse)
    with Work(place) as work:
        pass  # nothing to publish: the content is missing
    with pytest.raises(OSError, match=r"new|refused"), Work(place) as work:
        work.publish()
    assert (place / "file").read_text() == "old"
    assert names(tmp_path) == ["out.mmc"]


def test_a_second_builder_is_told_at_once_and_disturbs_nothing(tmp_path):
    place = tmp_path / "out.mmc"
    script = (
        "import sys, pathlib\n"
        "from mmcache.stores.publishing import Work\n"
        "from mmcache.errors import BusyError\n"
        "try:\n    Work(pathlib.Path(sys.argv[1])).__enter__()\n"
        "except BusyError as error:\n    print(error)\n"
    )
    with Work(place) as work:
        filled(work, "first")
        with pytest.raises(BusyError), Work(place):
            pass
        told = subprocess.run(
            [sys.executable, "-c", script, place],
            capture_output=True, text=True, check=True, timeout=60,
        )  # fmt: skip
        assert f"is being built by process {os.getpid()}" in told.stdout
        work.publish()
    assert (place / "file").read_text() == "first"
    with Work(place):
        pass  # the right ends with its holder


def test_many_builders_at_once_are_one_after_the_other(tmp_path):
    place = tmp_path / "out.mmc"
    inside, most, busy, won = [], [], [], []

    def build(number):
        for _ in range(30):
            try:
                with Work(place) as work:
                    inside.append(number)
                    most.append(len(inside))
                    filled(work, str(number))
                    work.publish()
                    inside.remove(number)
                    won.append(number)
            except BusyError:
                busy.append(number)

    threads = [threading.Thread(target=build, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert set(most) == {1}
    assert len(won) + len(busy) == 120
    assert names(tmp_path) == ["out.mmc"]


@pytest.mark.parametrize("error", [FileNotFoundError, FileExistsError])
def test_a_working_folder_that_vanishes_is_made_again_but_not_for_ever(
    tmp_path, monkeypatch, error
):
    # Another builder that ends removes the folder which this one has just found there.
    acquire, calls = publishing.Lock.acquire, []

    def vanishing(lock, *args, **kwargs):
        calls.append(lock)
        if len(calls) == 1:
            raise error
        return acquire(lock, *args, **kwargs)

    monkeypatch.setattr(publishing.Lock, "acquire", vanishing)
    with Work(tmp_path / "out.mmc") as work:
        assert work.folder.is_dir()
    assert names(tmp_path) == []
    monkeypatch.setattr(publishing.Lock, "acquire", lambda *_: calls.clear() or vanishing(None))
    with pytest.raises(BusyError), Work(tmp_path / "out.mmc"):
        pass


def test_the_working_folder_has_a_short_name_however_long_the_destinations_is(painted, tmp_path):
    long = tmp_path / ("x" * 251 + ".mmc")
    assert len(work_path(long).name) < 30
    assert work_path(long).parent == tmp_path
    assert work_path(long) != work_path(tmp_path / "y.mmc")
    assert len(mmcache.build(painted, long, size=16)) == 24


def test_a_destination_behind_a_link_is_built_where_the_link_leads(painted, tmp_path):
    (tmp_path / "disk").mkdir()
    (tmp_path / "out.mmc").symlink_to(tmp_path / "disk" / "real.mmc")
    mmcache.build(painted, tmp_path / "out.mmc", size=16)
    mmcache.build(painted, tmp_path / "out.mmc", size=17, exist="overwrite")
    assert (tmp_path / "out.mmc").is_symlink()
    assert names(tmp_path / "disk") == ["real.mmc"]
    assert mmcache.open(tmp_path / "out.mmc").recipe.box == (17, 17)


def test_a_lock_that_was_being_taken_when_an_interruption_came_can_be_taken(tmp_path):
    def take():
        Lock(tmp_path / "lock").acquire()

    for step in interrupted_at_each_step(Lock._taken, take):
        lock = Lock(tmp_path / "lock")
        assert lock.acquire(), f"after an interruption at step {step}"
        lock.release()


def test_who_has_only_just_taken_the_lock_is_waited_for_until_he_tells_who_he_is(tmp_path):
    path = tmp_path / "lock"
    with path.open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        telling = threading.Timer(0.2, path.write_text, [f"{os.getpid()}\n"])
        telling.start()
        lock = Lock(path)
        assert not lock.acquire()
        assert lock.holder() == os.getpid()
        telling.join()
