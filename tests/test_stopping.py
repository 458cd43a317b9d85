"""Ctrl-C and SIGTERM, wherever a command is."""

from __future__ import annotations

import os
import signal
import subprocess
import sys

import pytest

import mmcache
from mmcache.cli import main
from mmcache.stopping import Stopping


@pytest.mark.parametrize(("number", "status"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_signal_is_raised_once_and_one_that_comes_with_it_changes_nothing(number, status):
    before = signal.getsignal(number)
    with Stopping() as stopping:
        with pytest.raises(KeyboardInterrupt):
            signal.raise_signal(number)
        signal.raise_signal(signal.SIGINT)
        signal.raise_signal(signal.SIGTERM)
        assert (stopping.by, stopping.status) == (number, status)
    assert signal.getsignal(number) is before


def test_somebody_who_does_not_want_to_wait_ends_the_process_by_a_later_signal(monkeypatch, capfd):
    ended = []
    monkeypatch.setattr(os, "_exit", ended.append)
    with Stopping() as stopping:
        with pytest.raises(KeyboardInterrupt):
            signal.raise_signal(signal.SIGTERM)
        stopping._at -= 2
        signal.raise_signal(signal.SIGINT)
    assert ended == [143]
    assert capfd.readouterr().err == "mmcache: ended at once; run the same command to resume\n"


def test_what_a_process_was_started_to_ignore_is_ignored():
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        with Stopping() as stopping:
            signal.raise_signal(signal.SIGINT)
            assert stopping.by is None
    finally:
        signal.signal(signal.SIGINT, before)


@pytest.mark.parametrize("becomes", [ImportError("numpy"), mmcache.SettingError("no"), None])
def test_an_interruption_that_became_another_error_is_still_one(monkeypatch, capsys, becomes):
    def build(*_, **__):
        try:
            signal.raise_signal(signal.SIGINT)
        except KeyboardInterrupt:
            raise becomes or KeyboardInterrupt from None

    monkeypatch.setattr(mmcache, "build", build)
    assert main(["build", "photos", "out.mmc"]) == 130
    assert capsys.readouterr().err == "mmcache: interrupted; nothing unfinished is left\n"


def test_what_a_library_had_under_way_when_it_was_interrupted_is_not_told(monkeypatch, capsys):
    async def library():
        pass

    def build(*_, **__):
        never_awaited = library()
        signal.raise_signal(signal.SIGINT)
        return never_awaited

    monkeypatch.setattr(mmcache, "build", build)
    assert main(["build", "photos", "out.mmc"]) == 130
    assert capsys.readouterr().err == "mmcache: interrupted; nothing unfinished is left\n"


def test_a_command_that_is_interrupted_while_it_tells_what_it_built_does_not_deny_it(
    painted, tmp_path, monkeypatch, capsys
):
    def interrupted(_):
        signal.raise_signal(signal.SIGINT)

    monkeypatch.setattr(mmcache.Cache, "__repr__", interrupted)
    assert main(["build", str(painted), str(tmp_path / "out.mmc")]) == 130
    assert capsys.readouterr().err == "mmcache: interrupted; nothing unfinished is left\n"
    assert mmcache.verify(tmp_path / "out.mmc").ok


@pytest.mark.parametrize("module", ["numpy", "argparse"])
def test_ctrl_c_while_modules_are_imported_is_no_traceback(tmp_path, module):
    (tmp_path / f"{module}.py").write_text("import os\nos.kill(os.getpid(), 2)\n")
    ran = subprocess.run(
        [sys.executable, "-m", "mmcache", "--version"],
        env=os.environ | {"PYTHONPATH": os.pathsep.join([str(tmp_path), *sys.path])},
        capture_output=True,
        check=False,
    )
    assert (ran.returncode, ran.stderr) == (-signal.SIGINT, b"")
