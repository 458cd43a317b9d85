"""A real browser for tests: Debian's chromium through playwright, which downloads nothing."""

import contextlib
import importlib.util
import os
import shutil
import socket
import subprocess
import sys
import time
from pathlib import Path
from urllib.parse import urlsplit

import pytest

CHROMIUM = shutil.which("chromium")
FLAGS = [
    "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run",
    "--disable-background-networking", "--disable-component-update", "--disable-sync",
]  # fmt: skip
ROOT = Path(__file__).parent.parent


def needs(*libraries):
    """Skip where there is no browser, or not all of these can be imported."""
    missing = [name for name in libraries if importlib.util.find_spec(name) is None]
    if CHROMIUM is None:
        missing.append("chromium")
    return pytest.mark.skipif(bool(missing), reason=f"not installed here: {', '.join(missing)}")


@contextlib.contextmanager
def chromium():
    """Give a browser."""
    from playwright.sync_api import sync_playwright  # noqa: PLC0415  # it need not be there

    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=FLAGS)
        yield browser
        browser.close()


@contextlib.contextmanager
def page_of(browser, height=760):
    """Give a fresh page; at its end nothing has gone wrong, and no other machine was asked."""
    context = browser.new_context(viewport={"width": 1100, "height": height})
    context.grant_permissions(["clipboard-read", "clipboard-write"])
    page = context.new_page()
    page.set_default_timeout(20_000)
    hosts, errors = set(), []
    page.on("request", lambda sent: hosts.add(urlsplit(sent.url).hostname))
    page.on("pageerror", lambda error: errors.append(str(error)))
    page.on("dialog", lambda dialog: (errors.append(dialog.message), dialog.dismiss()))
    yield page
    context.close()
    assert errors == []
    assert hosts - {None} == {"127.0.0.1"}  # what the page made itself has no host


def until(page, expression):
    """Wait until an expression of JavaScript is true; its rules forbid the page to."""
    for _ in range(400):
        if page.evaluate(expression):
            return
        page.wait_for_timeout(50)
    raise AssertionError(expression)


@contextlib.contextmanager
def server(folder, *command):
    """Run a notebook's server, ``{port}`` in its command being one that is free; give the port."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    homes = ("HOME", "IPYTHONDIR", "JUPYTER_CONFIG_DIR", "JUPYTER_DATA_DIR", "XDG_CONFIG_HOME")
    path = os.pathsep.join(filter(None, [str(ROOT), os.environ.get("PYTHONPATH")]))
    with (folder / "server.log").open("w") as log:
        process = subprocess.Popen(
            [sys.executable, "-m", *(word.replace("{port}", str(port)) for word in command)],
            cwd=folder,
            env=os.environ | {name: str(folder / "home") for name in homes} | {"PYTHONPATH": path},
            stdout=log,
            stderr=subprocess.STDOUT,
        )
    try:
        for _ in range(600):
            assert process.poll() is None, (folder / "server.log").read_text()
            with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), 1):
                break
            time.sleep(0.1)
        yield port
    finally:
        process.terminate()
        process.wait(30)


def private(pid):
    """Return the private memory of a process in MB."""
    rollup = Path(f"/proc/{pid}/smaps_rollup").read_text()
    return sum(int(line.split()[1]) for line in rollup.splitlines() if "Anonymous:" in line) / 1024
