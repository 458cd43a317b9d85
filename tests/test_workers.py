"""Who does the work: our executors, and what happens when a worker does not."""

from __future__ import annotations

import math
import os
import pickle
import signal
import subprocess
import sys
import threading
import time
from concurrent.futures import Executor, ThreadPoolExecutor
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

import mmcache
from mmcache.testing import paint_folder
from mmcache.workers import (
    EXECUTORS,
    ProcessExecutor,
    SerialExecutor,
    Span,
    executor_of,
    processes,
    results,
    worker_count,
)


def names(folder):
    """Return what is in a folder, hidden things too."""
    return sorted(path.name for path in folder.iterdir())


@pytest.fixture(name="processes")
def two_processes():
    with ProcessExecutor(2) as pool:
        yield pool


@pytest.fixture(scope="module")
def photos(tmp_path_factory):
    return paint_folder(tmp_path_factory.mktemp("source") / "photos", 26, longest=120)


@pytest.mark.parametrize("name", EXECUTORS)
def test_every_executor_gives_what_the_function_returns(name):
    with executor_of(name, 2) as pool:
        assert isinstance(pool, Executor)
        assert sorted(results(pool, math.factorial, iter(range(40)), 2)) == sorted(
            map(math.factorial, range(40))
        )
        assert list(pool.map(math.sqrt, range(9))) == list(map(math.sqrt, range(9)))


@pytest.mark.parametrize("name", EXECUTORS)
def test_exceptions_travel(name):
    with executor_of(name, 1) as pool:
        with pytest.raises(ValueError, match=r"math domain|nonnegative"):
            pool.submit(math.sqrt, -1).result()
        with pytest.raises(FileNotFoundError):
            pool.submit(os.stat, "/no such file").result()
        assert pool.submit(math.sqrt, 4).result() == 2  # and the worker goes on


def test_a_picture_error_travels_with_its_values(processes):
    error = mmcache.PictureError("a.jpg", "decode", "why")
    with pytest.raises(mmcache.PictureError) as caught:
        processes.submit(exec, "raise error", {"error": error}).result()
    assert (caught.value.key, caught.value.stage, caught.value.reason) == ("a.jpg", "decode", "why")


def test_an_exception_that_does_not_pickle_is_told_in_words(processes):
    code = (
        "class Odd(Exception):\n"
        "    def __init__(self, one, two): super().__init__(f'{one} and {two}')\n"
        "raise Odd(1, 2)"
    )
    with pytest.raises(mmcache.WorkerError, match="Odd: 1 and 2"):
        processes.submit(exec, code, {}).result()
    assert processes.submit(math.sqrt, 4).result() == 2


def test_a_result_that_does_not_pickle_is_an_error_and_not_a_hang(processes):
    with pytest.raises((TypeError, mmcache.WorkerError)):
        processes.submit(open, os.devnull).result(timeout=20)
    assert processes.submit(math.sqrt, 4).result(timeout=20) == 2


def test_a_function_that_a_worker_does_not_have_is_an_error(processes, monkeypatch):
    # As for a function of a notebook's own: pickled by a name that is not there.
    monkeypatch.setattr(sys.modules["math"], "ours", lambda: 1, raising=False)
    sys.modules["math"].ours.__module__ = "math"
    sys.modules["math"].ours.__qualname__ = "ours"
    with pytest.raises(AttributeError, match="ours"):
        processes.submit(sys.modules["math"].ours).result(timeout=20)
    assert processes.submit(math.sqrt, 4).result(timeout=20) == 2


def test_an_answer_that_cannot_be_read_here_is_an_error_and_not_a_hang(processes):
    # A class that the worker can import and this process cannot.
    code = (
        "import sys, types\n"
        "module = types.ModuleType('only_there')\n"
        "class Odd(Exception): pass\n"
        "Odd.__module__, Odd.__qualname__, module.Odd = 'only_there', 'Odd', Odd\n"
        "sys.modules['only_there'] = module\n"
        "raise Odd('told there')"
    )
    with pytest.raises(Exception, match="only_there"):
        processes.submit(exec, code, {}).result(timeout=20)
    assert processes.submit(math.sqrt, 4).result(timeout=20) == 2


@pytest.mark.parametrize("name", ["SIGKILL", "SIGSEGV", "SIGTERM"])
def test_a_killed_worker_is_a_worker_error_that_names_the_signal(name):
    with ProcessExecutor(1) as pool:
        pid = pool.submit(os.getpid).result()
        call = pool.submit(time.sleep, 60)
        time.sleep(0.1)
        os.kill(pid, signal.Signals[name])
        with pytest.raises(mmcache.WorkerError, match=name):
            call.result(timeout=20)
        assert pool.submit(math.sqrt, 4).result(timeout=20) == 2  # another took its place
        assert pool.submit(os.getpid).result(timeout=20) != pid


def test_ctrl_c_does_not_reach_a_worker_that_is_still_being_started(capfd):
    with processes._started(None) as worker:
        for _ in range(100):
            worker.send_signal(signal.SIGINT)
            time.sleep(0.001)
        assert pickle.load(worker.stdout) == "begun"
    assert worker.returncode == 0
    assert capfd.readouterr().err == ""
    assert signal.SIGINT not in signal.pthread_sigmask(signal.SIG_BLOCK, [])


@pytest.mark.parametrize("told", [b"", pickle.dumps(sys.path)[:-9]], ids=["nothing", "a part"])
def test_a_worker_whose_coordinator_ends_before_it_begins_ends_too_in_silence(told):
    ran = subprocess.run(
        [sys.executable, "-c", processes._START], input=told, capture_output=True, check=False
    )
    assert (ran.returncode, ran.stdout, ran.stderr) == (0, b"", b"")


def test_workers_that_cannot_begin_are_an_error_and_no_fault_of_a_picture(
    photos, tmp_path, monkeypatch
):
    monkeypatch.setattr(processes, "_START", "import sys; sys.exit(3)")
    with pytest.raises(mmcache.WorkerError, match="could not begin: it ended with exit status 3"):
        mmcache.build(photos, tmp_path / "out.mmc", executor="processes", workers=2)
    assert names(tmp_path) == []


def test_a_worker_that_exits_is_a_worker_error_that_names_the_status(processes):
    with pytest.raises(mmcache.WorkerError, match="exit status 7"):
        processes.submit(os._exit, 7).result(timeout=20)


def test_what_workers_print_does_not_get_among_the_answers(processes, capfd):
    for code in ("print('hello', flush=True)", "import os; os.write(1, b'raw')"):
        assert processes.submit(exec, code, {}).result(timeout=20) is None
    assert processes.submit(os.system, "echo from a child").result(timeout=20) == 0
    assert capfd.readouterr().out == ""


def test_a_shut_executor_takes_nothing_and_its_workers_end():
    pool = ProcessExecutor(2)
    pids = {pool.submit(os.getpid).result() for _ in range(4)}
    waiting = [pool.submit(time.sleep, 0.05) for _ in range(20)]
    pool.shutdown(cancel_futures=True)
    pool.shutdown()
    assert any(call.cancelled() for call in waiting)
    with pytest.raises(RuntimeError):
        pool.submit(math.sqrt, 4)
    assert gone(pids)


def gone(pids, seconds=10.0):
    """Tell whether all processes end within some seconds."""
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        if not any(Path(f"/proc/{pid}").exists() and alive(pid) for pid in pids):
            return True
        time.sleep(0.02)
    return False


def alive(pid):
    """Tell whether a process runs: one that nobody has waited for yet does not."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except (FileNotFoundError, ProcessLookupError):
        return False


def test_workers_end_when_their_coordinator_is_killed():
    script = (
        "import os, time\n"
        "from mmcache.workers import ProcessExecutor, processes\n"
        "start, pids = processes._started, []\n"
        "def started(inherited):\n"
        "    process = start(inherited)\n"
        "    pids.append(process.pid)\n"
        "    return process\n"
        "processes._started = started\n"
        "pool = ProcessExecutor(3)\n"
        "print(*pids, flush=True)\n"
        "[pool.submit(time.sleep, 100) for _ in range(6)]\n"
        "time.sleep(100)\n"
    )
    parent = subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE, text=True)
    with parent:
        pids = [int(pid) for pid in parent.stdout.readline().split()]
        time.sleep(0.5)
        assert len(pids) == 3
        assert all(alive(pid) for pid in pids)
        parent.kill()
    assert gone(pids)


def test_a_worker_that_is_killed_in_a_build_is_replaced_and_nothing_is_lost(
    photos, tmp_path, monkeypatch
):
    expected = mmcache.build(photos, tmp_path / "calm.mmc", size=40)
    started = []
    start = processes._started
    monkeypatch.setattr(processes, "_started", lambda fd: started.append(start(fd)) or started[-1])

    def kill(done, total):
        # None is given up that is killed before it begins.
        if 0 < done < total and len(started) < 6:
            started[-1].kill()

    cache = mmcache.build(
        photos, tmp_path / "out.mmc", size=40, executor="processes", workers=2, progress=kill
    )
    assert len(started) > 2
    assert cache.fingerprint == expected.fingerprint
    assert not cache.failures


class Deadly(mmcache.Folder):
    """A folder of which some pictures end the process that opens them, if it is a worker."""

    def describe(self):
        return super().describe() | {"kind": "deadly"}


DEADLY = {
    "header": (
        "import mmcache.survey as room; plain = room._read;"
        " room._read = lambda source, key, *rest:"
        " os._exit(9) if key in {deadly} else plain(source, key, *rest);"
    ),
    "decode": (
        "import mmcache.tasks as room; plain = room._encoded;"
        " room._encoded = lambda source, span, index:"
        " os._exit(9) if span.keys[index] in {deadly} else plain(source, span, index);"
    ),
}
"""What makes some pictures end every worker that comes to them, as a decoder that crashes would."""


@pytest.mark.parametrize("stage", DEADLY)
def test_a_picture_that_ends_its_worker_is_a_failure_and_the_others_are_in(
    photos, tmp_path, monkeypatch, stage
):
    keys = mmcache.plan(photos).keys
    deadly = {keys.raw(row) for row in (3, 4, 17)}
    begin, serve = processes._START.split("from mmcache")
    dying = f"{begin}import os; {DEADLY[stage].format(deadly=deadly)}\nfrom mmcache{serve}"
    monkeypatch.setattr(processes, "_START", dying)
    with pytest.warns(mmcache.PicturesSkippedWarning):
        cache = mmcache.build(
            photos, tmp_path / "out.mmc", size=40, executor="processes", workers=2
        )
    assert {failure.key.encode() for failure in cache.failures} == deadly
    assert {failure.stage for failure in cache.failures} == {stage}
    assert {failure.reason for failure in cache.failures} == {
        "it ends the process that reads it, with exit status 9"
    }
    assert list(cache.keys) == [key for key in keys if key.encode() not in deadly]


@given(st.sets(st.integers(0, 40)), st.integers(1, 41))
def test_whatever_pictures_end_their_worker_each_other_one_is_done_once(deadly, count):
    deadly = {key for key in deadly if key < count}

    def do(span):
        if span.given_up:
            assert len(span.keys) == 1
            return [(span.start, span.verdict)]
        if deadly & set(span.keys):
            raise mmcache.WorkerError("a worker process ended", "by a test")
        return [(span.start + place, "") for place in range(len(span.keys))]

    spans = [
        Span(start=start, keys=list(range(start, min(start + 8, count))))
        for start in range(0, count, 8)
    ]
    done = [one for outcome in results(SerialExecutor(), do, spans, 2) for one in outcome]
    verdict = "it ends the process that reads it, by a test"
    assert sorted(done) == [(key, verdict if key in deadly else "") for key in range(count)]


@pytest.mark.parametrize("workers", [1, 2, 5])
def test_only_a_window_of_tasks_exists_at_a_time(workers):
    taken = done = most = 0

    def tasks():
        nonlocal taken, most
        for number in range(200):
            taken += 1
            most = max(most, taken - done)
            yield number

    with ThreadPoolExecutor(workers) as pool:
        for _ in results(pool, str, tasks(), workers):
            done += 1
    assert (taken, done) == (200, 200)
    assert most <= 2 * (2 * workers + 1)


def test_an_error_ends_the_work_and_the_rest_is_not_done():
    done = []

    def work(number):
        if number == 5:
            raise KeyError(number)
        done.append(number)

    with ThreadPoolExecutor(2) as pool, pytest.raises(KeyError):
        list(results(pool, work, range(10_000), 2))
    assert len(done) < 100


def test_a_serial_executor_works_in_this_thread_when_asked():
    done = []
    assert SerialExecutor().submit(done.append, 1).done()
    assert done == [1]


@pytest.mark.parametrize("workers", [0, -1, 1.5, "2", True])
def test_a_nonsense_number_of_workers_is_a_setting_error(workers):
    with pytest.raises(mmcache.SettingError, match="workers"):
        worker_count(workers)


def test_by_default_there_is_a_worker_a_core():
    assert worker_count(None) == len(os.sched_getaffinity(0))


@pytest.mark.parametrize("executor", ["fibers", None, 3, ThreadPoolExecutor, []])
def test_a_nonsense_executor_is_a_setting_error(executor, tmp_path):
    with pytest.raises(mmcache.SettingError, match="executor"):
        mmcache.build(tmp_path, tmp_path / "out.mmc", executor=executor)


@pytest.mark.parametrize("executor", ["threads", "processes"])
def test_after_ctrl_c_what_is_under_way_is_done_and_nothing_else_is_begun(executor):
    """So that at least what each worker was at is not done again."""
    seen = []

    def interrupting():
        for number in range(100):
            if number == 4:  # while the first are waited for
                threading.Timer(0.3, os.kill, [os.getpid(), signal.SIGINT]).start()
            yield 0.6

    with executor_of(executor, 2) as pool, pytest.raises(KeyboardInterrupt):
        seen.extend(results(pool, time.sleep, interrupting(), 2))
    assert len(seen) == 2
