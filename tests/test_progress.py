"""What progress shows where: to a callable, on a terminal, and nowhere else."""

from __future__ import annotations

import codecs
import contextlib
import fcntl
import io
import os
import pty
import re
import select
import shutil
import struct
import subprocess
import sys
import termios
import threading

import pytest
from stopping import decoded

import mmcache
from mmcache import filling, progress, tasks
from mmcache.progress import progress_of
from mmcache.stores.publishing import work_path
from mmcache.workers import spans

# A callable ----------------------------------------------------------------------------------


@pytest.fixture
def clock(monkeypatch):
    """Seconds that go by when a test says so, with the intervals that users have."""
    now = [100.0]
    monkeypatch.setattr(progress, "monotonic", lambda: now[0])
    for name, value in (("_OFTEN", 0.1), ("_SHARE", 9), ("_SOON", 0.5)):
        monkeypatch.setattr(progress, name, value)
    return now


def test_a_callable_is_told_of_none_done_at_first_and_of_all_once_when_the_work_has_ended():
    calls = []
    with progress_of(lambda *call: calls.append(call), "building") as show:
        show.to(0, 5)
        show.to(3, 5)
        show.to(5, 5)
        assert calls == [(0, 5), (3, 5)]
    assert calls == [(0, 5), (3, 5), (5, 5)]


def test_steps_that_prepare_tell_that_none_is_done(clock):
    calls = []
    with progress_of(lambda *call: calls.append(call), "reading", prepares=True) as show:
        for done in range(0, 101, 10):
            show.to(done, 100)
            clock[0] += 0.05
        show.begins("building")
        show.to(20, 98)
    assert set(calls) == {(0, 100), (20, 98), (98, 98)}
    assert calls.count((0, 100)) == 6


def test_a_callable_is_not_called_more_than_ten_times_a_second(clock):
    calls = []
    with progress_of(lambda *call: calls.append(call), "building") as show:
        for done in range(10_000):
            show.to(done, 10_000)
            clock[0] += 0.001
    assert 90 <= len(calls) <= 102


def test_a_slow_callable_takes_a_tenth_of_the_time(clock):
    calls = []

    def slow(*call):
        clock[0] += 2
        calls.append(call)

    with progress_of(slow, "building") as show:
        for done in range(10_000):
            show.to(done, 10_000)
            clock[0] += 0.01
    assert len(calls) == 1 + 6  # in the hundred seconds, and the last


def test_work_that_is_broken_off_is_not_told_to_have_ended():
    calls = []
    with (
        contextlib.suppress(KeyboardInterrupt),
        progress_of(lambda *call: calls.append(call), "building") as show,
    ):
        show.to(0, 5)
        raise KeyboardInterrupt
    assert calls == [(0, 5)]


def verbs(photos, cache, out, how):
    """Return everything that takes a while, ready to be called."""
    return {
        "plan": lambda: mmcache.plan(photos, progress=how),
        "build": lambda: mmcache.build(photos, out / "a.mmc", size=64, progress=how),
        "build again": lambda: mmcache.build(photos, cache.path, size=64, progress=how),
        "verify": lambda: mmcache.verify(cache, progress=how),
        "repair": lambda: mmcache.repair(cache, photos, progress=how),
        "compare": lambda: mmcache.compare(cache, photos, progress=how),
        "convert": lambda: mmcache.convert(cache, out / "a.h5", progress=how),
        "convert a part": lambda: mmcache.convert(cache[::-1], out / "a.h5", progress=how),
        "export": lambda: mmcache.export(cache, out / "a", progress=how),
        "export zarr": lambda: mmcache.export(cache, out / "a.zarr", progress=how),
        "stats": lambda: mmcache.stats(cache, progress=how),
        "report": lambda: mmcache.report(cache, out / "a.html", progress=how),
        "duplicates": lambda: mmcache.duplicates(cache, progress=how),
    }


VERBS = list(verbs(None, None, None, None))


@pytest.mark.parametrize("verb", VERBS)
def test_every_verb_tells_of_none_first_and_of_all_last_from_the_thread_that_called_it(
    painted, ragged, tmp_path, verb
):
    calls, threads = [], set()

    def told(done, total):
        calls.append((done, total))
        threads.add(threading.current_thread())

    verbs(painted, ragged, tmp_path, told)[verb]()
    assert calls[0] == (0, 24)
    assert calls[-1] == (24, 24)
    assert calls.count((24, 24)) == 1
    assert calls == sorted(calls)
    assert threads == {threading.current_thread()}


@pytest.mark.parametrize("verb", VERBS)
def test_every_verb_draws_one_line_on_a_terminal(painted, ragged, tmp_path, monkeypatch, verb):
    terminal = Terminal()
    monkeypatch.setattr(sys, "stderr", terminal)
    verbs(painted, ragged, tmp_path, how=True)[verb]()
    lines = terminal.lines()
    if verb in ("build again", "repair"):  # there was nothing to do
        assert "".join(lines).strip() == ""
    else:
        assert len(lines) == 1
        assert "100%" in lines[0]
        assert "24/24" in lines[0]


class Terminal(io.StringIO):
    """What keeps all that is written to it, and says that somebody looks on."""

    def isatty(self):
        return True

    def lines(self):
        """Return what a terminal would show: of each line what was written over the rest."""
        shown = [line.rstrip("\r").rpartition("\r")[2] for line in self.getvalue().split("\n")]
        return [line for line in shown if line.strip()]


def test_a_repair_goes_through_its_steps_in_one_line(painted, tmp_path, monkeypatch):
    cache = mmcache.build(painted, tmp_path / "a.mmc", size=64, progress=False)
    with (cache.path / "pixels.npy").open("r+b") as file:
        file.seek(6_000)
        file.write(b"damage")
    terminal, calls = Terminal(), []
    monkeypatch.setattr(sys, "stderr", terminal)
    copy = tmp_path / "b.mmc"
    shutil.copytree(cache.path, copy)
    mmcache.repair(cache.path, painted)
    *said, bar = terminal.lines()
    assert bar.startswith("repairing: 100%")
    assert "verifying" in terminal.getvalue()
    assert all("are taken from" in line for line in said)
    mmcache.repair(copy, painted, progress=lambda *call: calls.append(call))
    assert calls == sorted(calls)
    assert calls.count((24, 24)) == 1


@pytest.mark.parametrize("executor", ["serial", "threads", "processes"])
@pytest.mark.usefixtures("noted_at_once")
def test_what_a_callable_raises_ends_the_build_and_the_same_call_goes_on(
    painted, tmp_path, monkeypatch, executor
):
    class Enough(Exception):  # noqa: N818  # no error of anybody
        pass

    def stop(done, total):
        if 8 <= done < total:
            raise Enough

    monkeypatch.setattr(spans, "PATIENCE", 0)  # every picture by itself
    out, workers = tmp_path / "a.mmc", 2
    settings = {"size": 64, "executor": executor, "workers": workers}
    with pytest.raises(Enough):
        mmcache.build(painted, out, **settings, progress=stop)
    assert not out.exists()
    assert work_path(out).exists()
    told, calls = decoded(monkeypatch), []
    settings["executor"] = "serial" if executor == "processes" else executor
    again = mmcache.build(painted, out, **settings, progress=lambda *call: calls.append(call))
    assert len(told) <= 24 - 8
    assert min(done for done, _ in calls if done) >= 8
    assert again.fingerprint == mmcache.build(painted, tmp_path / "b.mmc", size=64).fingerprint


# Slow pictures -------------------------------------------------------------------------------


@pytest.mark.parametrize("executor", ["serial", "threads"])
def test_pictures_that_take_long_come_back_one_at_a_time(
    painted, ragged, tmp_path, monkeypatch, executor
):
    monkeypatch.setattr(spans, "PATIENCE", -1)
    calls = []
    cache = mmcache.build(
        painted,
        tmp_path / "a.mmc",
        size=64,
        executor=executor,
        progress=lambda *call: calls.append(call),
    )
    assert [done for done, _ in calls if done] == list(range(1, 25))
    assert cache.fingerprint == ragged.fingerprint


@pytest.mark.filterwarnings("ignore::mmcache.PicturesSkippedWarning")
def test_a_failure_among_slow_pictures_keeps_its_name(partly_broken, tmp_path, monkeypatch):
    calm = mmcache.build(partly_broken, tmp_path / "a.mmc", size=64)
    monkeypatch.setattr(spans, "PATIENCE", -1)
    slow = mmcache.build(partly_broken, tmp_path / "b.mmc", size=64)
    assert slow.failures == calm.failures
    assert slow.fingerprint == calm.fingerprint


def test_ctrl_c_within_a_span_keeps_what_is_done_of_it(painted, tmp_path, monkeypatch):
    told, came = decoded(monkeypatch), []
    decode = tasks.decode_flagged

    def interrupted(*args, **kwargs):
        if len(told) == 5 and not came:
            came.append(True)
            raise KeyboardInterrupt
        return decode(*args, **kwargs)

    with monkeypatch.context() as patch:
        patch.setattr(tasks, "decode_flagged", interrupted)
        patch.setattr(spans, "PATIENCE", 1e9)
        with pytest.raises(KeyboardInterrupt):
            mmcache.build(painted, tmp_path / "a.mmc", size=64, executor="serial")
    calls = []
    mmcache.build(
        painted, tmp_path / "a.mmc", size=64, progress=lambda *so_far: calls.append(so_far)
    )
    assert (5, 24) in calls
    assert len(told) == 24


@pytest.mark.parametrize("executor", ["threads", "processes"])
@pytest.mark.usefixtures("noted_at_once")
def test_ctrl_c_while_a_bar_is_drawn_keeps_what_is_under_way(
    painted, tmp_path, monkeypatch, executor
):
    settings = {"size": 64, "executor": executor, "workers": 2}

    def stop(done, _):
        if done == 3:
            raise KeyboardInterrupt

    made, keeps = [], []
    with monkeypatch.context() as patch:
        patch.setattr(spans, "PATIENCE", -1)
        patch.setattr(filling, "_SPAN_ROWS", 1)
        step = tasks.Pixels.step
        patch.setattr(tasks.Pixels, "step", lambda one: made.extend(one.givers) or step(one))
        with pytest.raises(KeyboardInterrupt):
            mmcache.build(painted, tmp_path / "a.mmc", **settings, progress=stop)
    mmcache.build(
        painted, tmp_path / "a.mmc", **settings, progress=lambda done, _: keeps.append(done)
    )
    assert len(made) > 3
    assert len(made) in keeps
    assert not {*range(1, len(made))} & {*keeps}


# Where nobody looks on -----------------------------------------------------------------------


def ran(painted, out, *options, **how):
    return subprocess.run(
        [sys.executable, "-m", "mmcache", "build", painted, out, "--size", "64", *options],
        env=os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)},
        timeout=120,
        check=False,
        **how,
    )


def test_nothing_is_written_where_standard_error_is_no_terminal(painted, tmp_path):
    with (tmp_path / "log").open("wb") as log:
        told = ran(painted, tmp_path / "a.mmc", stdout=subprocess.PIPE, stderr=log)
    assert told.returncode == 0
    assert (tmp_path / "log").read_bytes() == b""
    assert b"24 pictures" in told.stdout
    piped = ran(painted, tmp_path / "b.mmc", capture_output=True)
    assert (piped.returncode, piped.stderr) == (0, b"")


def test_nothing_is_missed_where_there_is_no_standard_error_at_all(painted, tmp_path):
    command = [sys.executable, "-m", "mmcache", "build", painted, tmp_path / "a.mmc", "--size=64"]
    subprocess.run(
        ["sh", "-c", '"$@" 2>&-', "sh", *command],
        env=os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)},
        timeout=120,
        check=True,
    )
    assert mmcache.verify(tmp_path / "a.mmc").ok


def test_a_closed_standard_error_is_no_terminal(painted, tmp_path, monkeypatch):
    with open(os.devnull, "w") as closed:  # noqa: PTH123  # not a path of anybody's
        pass
    monkeypatch.setattr(sys, "stderr", closed)
    mmcache.build(painted, tmp_path / "a.mmc", size=64)


# On a terminal -------------------------------------------------------------------------------

# What every process begins with: each picture then waits to be let go, and is shown at once.
GATED = """
import os
if os.isatty(0):  # Ctrl-C comes from the terminal
    import fcntl, termios
    os.setsid()
    fcntl.ioctl(0, termios.TIOCSCTTY, 0)
from mmcache import progress, tasks
from mmcache.workers import spans
progress._OFTEN, progress._SOON, spans.PATIENCE = 0, 1e9, -1
decode, gate = tasks.decode_flagged, os.open(os.environ["GATE"], os.O_RDWR)
def waiting(*args, **kwargs):
    os.read(gate, 1)
    return decode(*args, **kwargs)
tasks.decode_flagged = waiting
"""


@pytest.fixture
def on_terminal(tmp_path):
    """Start commands on terminals of so many columns."""
    begun = tmp_path / "begun"
    begun.mkdir()
    (begun / "sitecustomize.py").write_text(GATED)
    started = []

    def start(columns, *arguments):
        gate = begun / f"gate{len(started)}"
        os.mkfifo(gate)
        started.append(OnTerminal(columns, gate, *arguments))
        return started[-1]

    yield start
    for one in started:
        one.close()


class OnTerminal:
    """A command on a terminal, of which each picture waits to be let go."""

    def __init__(self, columns, gate, *arguments):
        self._gate = os.open(gate, os.O_RDWR)
        self._end, theirs = pty.openpty()
        fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 24, columns, 0, 0))
        self._process = subprocess.Popen(
            [sys.executable, "-m", "mmcache", *map(str, arguments)],
            env={key: value for key, value in os.environ.items() if key not in ("COLUMNS", "LINES")}
            | {
                "PYTHONPATH": os.pathsep.join([str(gate.parent), *sys.path]),
                "GATE": str(gate),
                "TQDM_MININTERVAL": "0",
                "PYTHONUTF8": "1",
            },
            stdin=theirs, stdout=theirs, stderr=theirs,
        )  # fmt: skip
        os.close(theirs)
        self._letters = codecs.getincrementaldecoder("utf-8")()
        self.said = ""

    def let_go(self, pictures):
        os.write(self._gate, b"." * pictures)

    def until(self, pattern):
        """Read until something is said; all of it where the command ends before."""
        while not re.search(pattern, self.said):
            try:
                if not self._heard():
                    break
            except OSError:  # the other end is closed
                break
        assert re.search(pattern, self.said), self.said

    def _heard(self):
        """Read what is said next, and tell whether there was anything."""
        more = os.read(self._end, 1 << 16)
        self.said += self._letters.decode(more)
        return bool(more)

    def ctrl_c(self):
        os.write(self._end, b"\x03")

    def finished(self, *, letting_go=False):
        """Return the lines as a terminal would show them, and the exit status.

        Pictures that are under way are let go one by one, where nothing happens without.
        """
        with contextlib.suppress(OSError):  # the other end is closed
            while True:
                if letting_go and not select.select([self._end], [], [], 0.3)[0]:
                    self.let_go(1)
                    continue
                if not self._heard():
                    break
        status = self._process.wait(60)
        lines = self.said.replace("\r\n", "\n").split("\n")
        return [line.rstrip("\r").rpartition("\r")[2] for line in lines], status

    def close(self):
        if self._process.poll() is None:
            self._process.kill()
            self._process.wait()
        os.close(self._end)
        os.close(self._gate)


@pytest.mark.parametrize("columns", [40, 80, 200])
def test_a_bar_fits_the_terminal_and_leaves_one_line(painted, tmp_path, on_terminal, columns):
    on = on_terminal(columns, "build", painted, tmp_path / "a.mmc", "--size", "64")
    on.until(" 0/24")
    on.let_go(24)
    lines, status = on.finished()
    assert status == 0
    bars = [line for line in lines if "24/24" in line]
    assert len(bars) == 1
    assert bars[0].startswith("building: 100%|")
    assert "█" in bars[0]
    assert all(len(line) <= columns for line in re.split("[\r\n]+", on.said) if "/24" in line)
    assert re.search(r"pictures/s, .* MB/s\]$" if columns >= 80 else r" in \d\d:\d\d$", bars[0])
    assert not [line for line in lines if "headers" in line]


def test_a_bar_moves_while_pictures_come_and_says_how_fast(painted, tmp_path, on_terminal):
    on = on_terminal(80, "build", painted, tmp_path / "a.mmc", "--workers", "1")
    on.until(" 0/24")
    for done in range(1, 25):  # each is seen before the next is let go
        on.let_go(1)
        on.until(f" {done}/24")
    lines, status = on.finished()
    assert status == 0
    assert re.search(r"24/24 \[\d\d:\d\d<00:00, [\d.,]+ pictures/s, [\d.,]+ MB/s\]", "".join(lines))


def test_a_bar_is_drawn_ten_times_a_second_and_at_the_end(clock, monkeypatch):
    moves = []

    class Noting:
        def __init__(self, *begun):
            moves.append(begun)

        def moves(self, done, total, nbytes):
            moves.append((done, total, nbytes))

        def ends(self, *, stays):
            moves.append(stays)

    monkeypatch.setattr(progress, "bar", Noting)
    monkeypatch.setattr(progress, "can_be_drawn", lambda: True)
    with progress_of(progress=True, what="building") as show:
        for done in range(10_001):
            show.to(done, 10_000, 5 * done)
            clock[0] += 0.001
    assert 90 <= len(moves) <= 104
    assert moves[0] == ("building", 0, 10_000)
    assert moves[-2:] == [(10_000, 10_000, 50_000), True]


def test_a_step_that_prepares_is_drawn_when_it_takes_a_while_and_does_not_stay(clock, monkeypatch):
    terminal = Terminal()
    monkeypatch.setattr(sys, "stderr", terminal)
    with progress_of(progress=True, what="comparing", prepares=True) as show:
        show.to(0, 100)
        clock[0] += 0.4
        show.to(50, 100)
        assert terminal.getvalue() == ""
        clock[0] += 0.2
        show.to(60, 100)
        assert "comparing:  60%" in terminal.getvalue()
    assert terminal.lines() == []


@pytest.mark.parametrize("executor", ["serial", "threads", "processes"])
def test_ctrl_c_leaves_lines_to_read_and_the_same_command_goes_on(
    painted, tmp_path, on_terminal, executor
):
    command = ("build", painted, tmp_path / "a.mmc", "--executor", executor, "--workers", "1")
    on = on_terminal(80, *command)
    on.until(" 0/24")
    on.let_go(3)
    on.until(" 3/24")
    on.ctrl_c()
    lines, status = on.finished(letting_go=executor != "serial")
    assert status == 130
    *_, bar, last, end = lines
    assert "Traceback" not in "".join(lines)
    assert re.match(r"building: +\d+%\|.* \d+/24 \[", bar)
    assert last == "mmcache: interrupted; run the same command to resume"
    assert end == ""
    on = on_terminal(80, *command)
    on.let_go(24)
    lines, status = on.finished()
    assert status == 0
    assert any(re.search(r"\d+ of 24 pictures are there from before", line) for line in lines)
    assert sum(line.startswith("building: 100%") for line in lines) == 1
