"""Cells that take long, in a real Jupyter kernel: what they show meanwhile, and Ctrl-C."""

from __future__ import annotations

import json
import os
import queue
import sys
import tempfile

import pytest
import zmq
from browsers import chromium, needs, page_of, server
from jupyter_client import KernelManager

import mmcache
from mmcache.testing import paint_folder

pytestmark = pytest.mark.slow

COUNT = 24

# What every process begins with: each picture waits to be let go, and leaves a mark when decoded.
GATED = """
import os
from mmcache import progress, tasks
from mmcache.workers import spans
progress._OFTEN, progress._SOON, spans.PATIENCE = 0, 1e9, -1
decode = tasks.decode_flagged
gate = os.open(os.environ["GATE"], os.O_RDWR)
marks = os.open(os.environ["MARKS"], os.O_WRONLY | os.O_CREAT | os.O_APPEND)
def waiting(*args, **kwargs):
    os.read(gate, 1)
    decoded = decode(*args, **kwargs)
    os.write(marks, b".")
    return decoded
tasks.decode_flagged = waiting
"""


class Gate:
    """What pictures wait at, in every process that has ``environment``."""

    def __init__(self, folder):
        folder.mkdir()
        (folder / "sitecustomize.py").write_text(GATED)
        os.mkfifo(folder / "gate")
        self._gate = os.open(folder / "gate", os.O_RDWR)
        self._marks = folder / "marks"
        self._marks.touch()
        self.environment = {
            "PYTHONPATH": os.pathsep.join([str(folder), *sys.path]),
            "GATE": str(folder / "gate"),
            "MARKS": str(self._marks),
            "TQDM_MININTERVAL": "0",
        }

    def let_go(self, pictures):
        os.write(self._gate, b"." * pictures)

    @property
    def decoded(self):
        return self._marks.stat().st_size

    def close(self):
        os.close(self._gate)


class Kernel(Gate):
    """A kernel whose working directory has a folder of pictures, each of which is let go."""

    def __init__(self, folder):
        super().__init__(folder / "begun")
        # By sockets in a folder, whose names are short: two tests may find the same port free.
        self._sockets = tempfile.TemporaryDirectory(dir="/tmp")
        ip = f"{self._sockets.name}/k"
        self._manager = KernelManager(kernel_name="python3", transport="ipc", ip=ip)
        ours = self.environment | {"IPYTHONDIR": str(folder / "ipython")}
        self._manager.start_kernel(cwd=folder, env=os.environ | ours)
        self._client = self._manager.client()
        self._client.start_channels()
        self._client.wait_for_ready(60)
        self.said = ""

    def close(self):
        self.let_go(1000)
        self._client.stop_channels()
        self._manager.shutdown_kernel(now=True)
        self._sockets.cleanup()
        super().close()

    def begin(self, cell):
        """Run a cell, whose messages are kept as they come."""
        self.said = ""
        self._asked = self._client.execute(cell)

    def until(self, what):
        """Wait until the cell has said something, while it runs."""
        while what not in self.said:
            if self._hear(self._client.get_iopub_msg(timeout=120)):
                break
        assert what in self.said

    def _hear(self, message):
        """Keep what is said, and tell whether the cell has ended."""
        # tqdm fills a widget with spaces as wide as a digit.
        said = json.dumps(message["content"], ensure_ascii=False).replace("\u2007", " ")
        self.said += f"{message['msg_type']}: {said}\n"
        return (
            message["content"].get("execution_state") == "idle"
            and message["parent_header"].get("msg_id") == self._asked
        )

    def ended(self, *, letting_go=False):
        """Wait for the cell to end, and return what it raised, or None.

        Pictures that are under way are let go one by one, where nothing happens without.
        """
        while True:
            try:
                if self._hear(self._client.get_iopub_msg(timeout=0.3 if letting_go else 120)):
                    break
            except queue.Empty:
                if not letting_go:
                    raise
                self.let_go(1)
        while True:
            reply = self._client.get_shell_msg(timeout=120)
            if reply["parent_header"].get("msg_id") == self._asked:
                return reply["content"].get("ename")

    def run(self, cell):
        """Run a cell that raises nothing, and return what it said."""
        self.begin(cell)
        assert self.ended() is None, self.said
        return self.said

    def interrupt(self):
        self._manager.interrupt_kernel()

    def beats(self):
        """Tell whether the kernel's heart answers."""
        with zmq.Context() as context, context.socket(zmq.REQ) as heart:
            heart.linger = 0
            heart.connect(f"ipc://{self._manager.ip}-{self._manager.hb_port}")
            heart.send(b"ping")
            return bool(heart.poll(60_000)) and heart.recv() == b"ping"


@pytest.fixture
def folder(tmp_path):
    paint_folder(tmp_path / "photos", COUNT, longest=200)
    return tmp_path


@pytest.fixture
def kernel(folder):
    kernel = Kernel(folder)
    yield kernel
    kernel.close()


LEFT = """
import os, threading
from pathlib import Path
children = "".join(one.read_text() for one in Path("/proc/self/task").glob("*/children"))
threads = [one.name for one in threading.enumerate() if one.name.startswith("mmcache")]
print(f"left {children.split()} {threads}")  # one piece: two may come in two messages
"""


@pytest.mark.parametrize("executor", ["serial", "threads", "processes"])
def test_a_cell_that_is_interrupted_goes_on_where_it_was(kernel, folder, executor):
    build = (
        "import mmcache\n"
        f"cache = mmcache.build('photos', 'a.mmc', size=64, workers=2, executor='{executor}')"
    )
    kernel.begin(build)
    kernel.until(" 0/24")
    kernel.let_go(5)
    kernel.until(" 5/24")
    kernel.interrupt()
    assert kernel.ended(letting_go=executor != "serial") == "KeyboardInterrupt"
    assert "what is done is kept, and the same call goes on with it" in kernel.said
    assert kernel.said.count("\nerror: ") == kernel.said.count("Traceback (most") == 1
    assert "\nstream: " not in kernel.said
    assert "left [] []" in kernel.run(LEFT)
    done = kernel.decoded
    assert 5 <= done < COUNT
    kernel.let_go(COUNT)
    said = kernel.run(build)
    assert f"{done} of 24 pictures are there from before" in said
    assert f" {done}/24" in said
    assert " 24/24" in said
    assert kernel.decoded == COUNT  # nothing twice
    assert len(mmcache.open(folder / "a.mmc")) == COUNT


# Where it is that each waits, once it has told of itself, until the interruption has come.
SLOW = """
import signal, threading
from concurrent.futures import ThreadPoolExecutor
import mmcache
from mmcache import copying, sources

come, begun = threading.Event(), threading.Event()

def comes(*_):
    come.set()
    raise KeyboardInterrupt

def slow(function):
    def slowly(*args, **kwargs):
        if begun.is_set():
            come.wait(60)
        return function(*args, **kwargs)
    return slowly

begin = ThreadPoolExecutor.submit
ThreadPoolExecutor.submit = lambda pool, fn, /, *args: begin(pool, slow(fn), *args)
sources.Folder.stat, sources.Folder.open = slow(sources.Folder.stat), slow(sources.Folder.open)
copying.write_at = slow(copying.write_at)

def told(done, total):
    begun.set()
    print(f"told of {done}")
"""

READY = "come.clear(); begun.clear(); signal.signal(signal.SIGINT, comes)"
CALLS = [
    "plan('photos', progress=told)",
    "verify('a.mmc', progress=told)",
    "stats('a.mmc', progress=told)",
    "duplicates('a.mmc', progress=told)",
    "report('a.mmc', 'a.html', progress=told)",
    "compare('a.mmc', 'photos', progress=told)",
    "convert(cache[::-1], 'b.h5', progress=told)",
    "export('a.mmc', 'b', progress=told)",
]


def test_whatever_takes_long_can_be_interrupted_and_leaves_nothing(kernel, folder):
    mmcache.build(folder / "photos", folder / "a.mmc", size=64)
    for file in (folder / "photos").rglob("*.*"):
        os.utime(file, (1, 1))  # so that a comparison reads it
    kernel.run(SLOW)
    kernel.run("cache = mmcache.open('a.mmc')")
    before = sorted(folder.iterdir())
    for call in CALLS:
        kernel.begin(
            f"come.clear(); begun.clear(); signal.signal(signal.SIGINT, comes); mmcache.{call}"
        )
        kernel.until("told of 0")
        kernel.interrupt()
        assert kernel.ended() == "KeyboardInterrupt", call
        assert kernel.said.count("\nerror: ") == 1
        assert "told of 24" not in kernel.said
        assert "left [] []" in kernel.run(LEFT)
        assert sorted(folder.iterdir()) == before, call


def test_a_cell_shows_what_is_done_while_it_runs_and_the_kernel_lives(kernel):
    kernel.begin("import mmcache; cache = mmcache.build('photos', 'a.mmc', size=64)")
    kernel.until(" 0/24")
    for done in range(1, COUNT + 1):  # each is seen before the next is let go
        assert kernel.beats()
        kernel.let_go(1)
        kernel.until(f" {done}/24")
    assert kernel.ended() is None
    assert kernel.said.count("\ndisplay_data: ") == 1
    assert "Warning" not in kernel.said


THREAD = """
import mmcache, threading
how = {"executor": EXECUTOR}
work = threading.Thread(target=mmcache.build, args=("photos", "a.mmc"), kwargs=how)
work.start()
"""

ASYNCIO = """
import asyncio, mmcache
work = asyncio.create_task(asyncio.to_thread(mmcache.build, "photos", "a.mmc", executor=EXECUTOR))
await asyncio.sleep(0)
"""

BACKGROUND = {"thread": (THREAD, "work.join()"), "asyncio": (ASYNCIO, "await work")}


@pytest.mark.parametrize("executor", ["threads", "processes"])
@pytest.mark.parametrize("way", BACKGROUND)
def test_other_cells_run_while_a_build_is_in_the_background(kernel, folder, way, executor):
    begin, end = BACKGROUND[way]
    kernel.run(f"EXECUTOR = {executor!r}{begin}")
    kernel.let_go(3)
    assert "'42'" in kernel.run("str(6 * 7)")
    kernel.begin("import time; print('as' + 'leep')\nwhile True: time.sleep(0.01)")
    kernel.until("asleep")
    kernel.interrupt()  # which is this cell's, and not the build's
    assert kernel.ended() == "KeyboardInterrupt"
    kernel.let_go(COUNT - 3)
    kernel.run(end)
    assert len(mmcache.open(folder / "a.mmc")) == COUNT
    assert "left [] []" in kernel.run(LEFT)


def test_without_widgets_a_bar_is_text_and_nothing_warns(kernel):
    kernel.run("import sys; sys.modules['ipywidgets'] = None")
    kernel.let_go(COUNT)
    said = kernel.run("import mmcache; cache = mmcache.build('photos', 'a.mmc', size=64)")
    assert "24/24 [" in said
    assert '"stdout"' in said
    assert '"stderr"' not in said
    assert "Warning" not in said
    assert "display_data" not in said


MARIMO = """
import marimo
app = marimo.App()

@app.cell
def _():
    import mmcache
    cache = mmcache.build("photos", "a.mmc", size=64)
    return (cache,)

@app.cell
def _(cache):
    f"{len(cache)} there"
    return
"""


@needs("marimo", "playwright")
def test_marimo_draws_its_own_bar(folder, monkeypatch):
    (folder / "n.py").write_text(MARIMO)
    gate = Gate(folder / "begun")
    for name, value in gate.environment.items():
        monkeypatch.setenv(name, value)
    run = "marimo -q run n.py --headless --no-token --host 127.0.0.1 -p {port}"
    with (
        chromium() as browser,
        server(folder, *run.split()) as port,
        page_of(browser) as page,
    ):
        page.goto(f"http://127.0.0.1:{port}/")
        page.get_by_text("0 / 24").wait_for()
        page.get_by_text("building", exact=True).wait_for()
        assert page.get_by_text("headers").count() == 0
        gate.let_go(COUNT)
        page.get_by_text("24 there").wait_for()
        page.get_by_text("24 / 24").wait_for()
        page.get_by_text("pictures/s").wait_for()
    gate.close()
