"""The command line, as a person or a program starts it."""

from __future__ import annotations

import dataclasses
import fcntl
import json
import os
import pty
import re
import signal
import struct
import subprocess
import sys
import termios
import time

import numpy as np
import pytest
from PIL import Image

import mmcache
from mmcache.planning import Plan
from mmcache.recipe import Recipe
from mmcache.stores.publishing import Work, work_path
from mmcache.testing import paint_folder


def names(folder):
    """Return what is in a folder, hidden things too."""
    return sorted(path.name for path in folder.iterdir())


def command(*arguments, cwd=None, **environment):
    """Run ``python -m mmcache``."""
    return subprocess.run(
        [sys.executable, "-W", "error", "-m", "mmcache", *arguments],
        capture_output=True,
        text=True,
        errors="surrogateescape",
        cwd=cwd,
        timeout=120,
        check=False,
        env=os.environ | environment,
    )


def done(*arguments, **how):
    """Run it and look that it succeeded; return what it printed."""
    ran = command(*arguments, **how)
    assert (ran.returncode, ran.stderr) == (0, ""), ran.stderr
    return ran.stdout


def refused(status, *arguments, **how):
    """Run it and look that it failed in a sentence; return the sentence."""
    ran = command(*arguments, **how)
    assert ran.returncode == status, (ran.returncode, ran.stderr)
    assert "Traceback" not in ran.stderr
    assert ran.stdout == ""
    return ran.stderr


@pytest.fixture
def mixed(tmp_path):
    """A folder with a broken file and with a name that is not UTF-8."""
    folder = paint_folder(tmp_path / "in", 6, longest=80)
    (folder / "broken.jpg").touch()
    (folder / "waves" / "notes.txt").touch()
    odd = os.fsencode(folder) + b"/caf\xe9\n<b>.png"
    os.rename(os.fsencode(folder / "stripes" / "00004.jpg"), odd)  # noqa: PTH104  # bytes
    return folder


def test_plan_build_info_and_show_follow_each_other(painted, tmp_path):
    out, sheet = tmp_path / "out.mmc", tmp_path / "sheet.png"
    assert "24 pictures in 3 classes" in done("plan", painted, out, "--size", "64")
    assert "Cache of 24 pictures" in done("build", painted, out, "--size", "64")
    assert "Cache of 24 pictures" in done("info", out)
    assert "24 of 24 pictures" in done("show", out, "--out", sheet)
    with Image.open(sheet) as image:
        image.load()
        assert min(image.size) > 100
    assert names(tmp_path) == ["out.mmc", "sheet.png"]


def test_settings_mean_what_they_mean_in_python(painted, tmp_path):
    done(
        *("build", painted, tmp_path / "out.mmc", "--size", "40x56", "--resize", "pad"),
        *("--resample", "lanczos", "--resampler", "pillow", "--mode", "RGBA", "--upscale"),
        *("--background", "1,2,3,4"),
        *("--multiple-of", "9", "--workers", "2", "--executor", "processes", "--quiet"),
        *("--icc", "ignore", "--value-range", "0,4095", "--frame", "1", "--truncated", "keep"),
        *("--max-pixels", "1000000", "--max-memory", "2GB", "--max-failures", "0"),
        *("--on-error", "raise", "--exist", "error", "--store", "npy"),
    )
    cache = mmcache.open(tmp_path / "out.mmc")
    settings = {
        "size": (40, 56), "resize": "pad", "resample": "lanczos", "mode": "RGBA",
        "resampler": "pillow", "background": (1, 2, 3, 4), "upscale": True, "multiple_of": 9,
        "icc": "ignore", "value_range": (0, 4095), "frame": 1, "truncated": "keep",
    }  # fmt: skip
    assert cache.recipe == Recipe(**settings)
    others = {"buckets"}  # which goes with another resize: see test_bucket_builds.py
    assert {field.name for field in dataclasses.fields(Recipe)} == set(settings) | others
    mine = mmcache.build(painted, tmp_path / "mine.mmc", **settings)
    assert mine.fingerprint == cache.fingerprint


def test_defaults_are_those_of_python(painted, tmp_path):
    done("build", painted, tmp_path / "out.mmc")
    here = mmcache.build(painted, tmp_path / "here.mmc").recipe
    assert mmcache.open(tmp_path / "out.mmc").recipe == here
    assert here == Recipe(resampler=here.resampler)


@pytest.mark.parametrize("name", ["plan", "build"])
def test_help_lists_every_setting_with_its_default(name):
    text = " ".join(done(name, "--help", COLUMNS="400").split())
    for setting in dataclasses.fields(Recipe):
        explained = setting.metadata["help"]
        if setting.default is not None:
            default = "auto" if setting.name == "resampler" else setting.default
            explained += f" (default: {default})"
        assert re.search(
            rf"--{setting.name.replace('_', '-')} [^-]*{re.escape(explained)}", text
        ) or (setting.name == "upscale" and explained in text)


def test_json_figures_are_those_of_the_plan_and_the_cache(mixed, tmp_path):
    figures = json.loads(done("plan", mixed, "--json", "--size", "30"))
    assert figures == json.loads(json.dumps(mmcache.plan(mixed, size=30).to_json()))
    with pytest.warns(mmcache.PicturesSkippedWarning):
        cache = mmcache.build(mixed, tmp_path / "out.mmc", size=30)
    told, known = json.loads(done("info", tmp_path / "out.mmc", "--json")), cache.to_json()
    assert told.pop("memory").keys() == known.pop("memory").keys()  # of another process
    assert told == known


@pytest.mark.parametrize("locale", ["C", "C.UTF-8"])
def test_names_of_any_bytes_can_be_printed(mixed, tmp_path, locale):
    odd = os.fsencode(tmp_path) + b"/\xe9\n"
    os.mkdir(odd)  # noqa: PTH102  # pathlib has no bytes
    out, sheet = odd + b"/out.mmc", odd + b"/sheet.png"
    how = {"LC_ALL": locale, "PYTHONCOERCECLOCALE": "0", "PYTHONUTF8": "0"}
    (mixed / os.fsdecode(b"bad\xff\n.jpg")).touch()
    assert r"bad\xff\n.jpg" in done("plan", mixed, **how)
    json.loads(done("plan", mixed, "--json", **how))
    ran = command("build", mixed, out, **how)
    assert ran.returncode in (0, 1), ran.stderr  # -W error makes an error of the warning
    done("info", out, **how)
    json.loads(done("info", out, "--json", **how))
    done("show", out, "--out", sheet, **how)
    with Image.open(os.fsdecode(sheet)) as image:
        image.load()


def test_a_plan_can_be_kept(painted, tmp_path):
    done("plan", painted, "--save", tmp_path / "kept.plan", "--size", "50")
    assert Plan.load(tmp_path / "kept.plan") == mmcache.plan(painted, size=50)
    assert names(tmp_path) == ["kept.plan"]


def test_skipped_pictures_are_told_and_the_exit_status_is_0(mixed, tmp_path):
    ran = subprocess.run(
        [sys.executable, "-m", "mmcache", "build", mixed, tmp_path / "out.mmc"],
        capture_output=True, text=True, check=True, timeout=60,
    )  # fmt: skip
    assert "failures" in ran.stdout
    assert "1 " in ran.stdout + ran.stderr
    assert "Traceback" not in ran.stderr


@pytest.mark.parametrize(
    ("rows", "count"), [("0", 1), ("-1", 1), ("2:5", 3), ("::10", 3), ("-3:", 3), (":", 24)]
)
def test_show_takes_rows_as_python_does(ragged, tmp_path, rows, count):
    told = done("show", "--out", tmp_path / "sheet.jpg", ragged.path, "--", rows)
    assert told.startswith(f"{count} of {count} pictures in")
    drawn = mmcache.show(ragged[range(24)[int(rows)] :][:1] if ":" not in rows else ragged[:count])
    with Image.open(tmp_path / "sheet.jpg") as image:
        assert image.size == drawn.size


@pytest.mark.parametrize(
    "arguments",
    [
        ("--out", "sheet.xyz"), ("--out", "sheet"), ("--columns", "0"), ("--edge", "0"),
        ("x",), ("1:2:3:4",), ("100",), ("90:",), ("::0",), ("--out", "no/such/folder.png"),
    ],
)  # fmt: skip
def test_show_refuses_nonsense_in_a_sentence(ragged, tmp_path, arguments):
    ran = command("show", ragged.path, *arguments, cwd=tmp_path)
    assert ran.returncode in (1, 2)
    assert ran.stderr.startswith("mmcache: error: ")
    assert ran.stderr.count("\n") == 1
    assert names(tmp_path) == []


@pytest.mark.parametrize(
    "arguments",
    [
        (), ("nonsense",), ("build",), ("build", "in"), ("plan",), ("info",), ("show",),
        ("build", "in", "out.mmc", "--size", "big"), ("build", "in", "out.mmc", "--size", "1x"),
        ("build", "in", "out.mmc", "--resize", "squash"), ("plan", "in", "--nonsense"),
        ("build", "in", "out.mmc", "--executor", "dask"), ("plan", "in", "--workers", "two"),
    ],
)  # fmt: skip
def test_wrong_usage_is_exit_status_2(painted, tmp_path, arguments):
    arguments = [painted if one == "in" else one for one in arguments]
    told = refused(2, *arguments, cwd=tmp_path)
    assert "usage: mmcache" in told
    assert names(tmp_path) == []


def test_what_is_no_cache_is_exit_status_1_in_one_line(tmp_path):
    (tmp_path / "file.mmc").touch()
    (tmp_path / "folder.mmc").mkdir()
    for name in ("file.mmc", "folder.mmc", "missing.mmc"):
        for verb in ("info", "show"):
            told = refused(1, verb, tmp_path / name, cwd=tmp_path)
            assert told.startswith("mmcache: error: ")
            assert name in told
            assert told.count("\n") == 1
    assert names(tmp_path) == ["file.mmc", "folder.mmc"]


def test_the_version_is_the_packages():
    assert done("--version").strip() == f"mmcache {mmcache.__version__}"


def test_a_reader_that_has_seen_enough_is_no_traceback(painted):
    ran = subprocess.run(
        f"{sys.executable} -m mmcache plan {painted} --json | head -n 1",
        shell=True, capture_output=True, text=True, timeout=60, check=True,
    )  # fmt: skip
    assert ran.stdout == "{\n"
    assert ran.stderr == ""


@pytest.mark.parametrize(("name", "status"), [("SIGINT", 130), ("SIGTERM", 143)])
@pytest.mark.parametrize("executor", ["threads", "processes"])
def test_a_build_that_is_interrupted_is_gone_on_with_by_the_same_command(
    tmp_path, executor, name, status
):
    folder = paint_folder(tmp_path / "in", 12, longest=900)
    for number in range(60):
        for path in sorted(folder.rglob("0*.jpg"))[:9]:
            os.link(path, path.with_name(f"more-{number:03}-{path.name}"))
    out = tmp_path / "out.mmc"
    command = [sys.executable, "-m", "mmcache", "build", folder, out, "--executor", executor]
    process = subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True
    )
    journal = work_path(out) / "begun/journal"
    until = time.monotonic() + 60
    while time.monotonic() < until and not (journal.exists() and journal.stat().st_size > 2_000):
        time.sleep(0.01)
    if name == "SIGINT":
        os.killpg(process.pid, signal.SIGINT)  # as a terminal does: to all of the group
    else:
        process.terminate()
    told, complained = process.communicate(timeout=60)
    assert process.returncode == status, complained
    assert told == ""
    assert complained == "mmcache: interrupted; run the same command to resume\n"
    assert names(tmp_path) == [work_path(out).name, "in"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=True)
    assert done.stderr == ""
    assert names(tmp_path) == ["in", "out.mmc"]
    anew = mmcache.build(folder, tmp_path / "anew.mmc")
    assert mmcache.open(out).fingerprint == anew.fingerprint


def test_discard_says_whether_there_was_anything_unfinished(tmp_path):
    out = tmp_path / "out.mmc"
    assert done("discard", out) == f"there is no unfinished build of {out}\n"
    with Work(out) as work:
        work.content.mkdir()
        work.begun.begin({})
        work.begun.journal.add([{"rows": [0]}])
        work.lock.release()  # as a builder that is killed does
        assert done("discard", out) == f"removed the unfinished build of {out}\n"
    assert names(tmp_path) == []


def test_a_terminal_sees_a_bar(painted, tmp_path):
    ours, theirs = pty.openpty()
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 24, 100, 0, 0))
    process = subprocess.Popen(
        [sys.executable, "-W", "error", "-m", "mmcache", "build", painted, tmp_path / "out.mmc"],
        stdout=subprocess.PIPE, stderr=theirs,
    )  # fmt: skip
    os.close(theirs)
    seen = b""
    try:
        while part := os.read(ours, 4_096):
            seen += part
    except OSError:  # the other end was closed
        pass
    os.close(ours)
    assert b"Cache of 24" in process.communicate(timeout=60)[0]
    assert process.returncode == 0
    assert b"24/24" in seen
    assert b"Traceback" not in seen


def test_quiet_shows_no_bar(painted, tmp_path):
    ours, theirs = pty.openpty()
    subprocess.run(
        [sys.executable, "-m", "mmcache", "build", painted, tmp_path / "out.mmc", "--quiet"],
        stdout=subprocess.PIPE, stderr=theirs, timeout=60, check=True,
    )  # fmt: skip
    os.set_blocking(ours, False)
    os.close(theirs)
    try:
        seen = os.read(ours, 4_096)
    except OSError:
        seen = b""
    os.close(ours)
    assert seen == b""


def test_a_build_from_the_command_line_is_one_from_python(painted, tmp_path):
    done("build", painted, tmp_path / "theirs.mmc", "--size", "33", "--executor", "serial")
    mine = mmcache.build(painted, tmp_path / "mine.mmc", size=33)
    theirs = mmcache.open(tmp_path / "theirs.mmc")
    assert all(np.array_equal(a, b) for a, b in zip(mine, theirs, strict=True))
    assert mine.fingerprint == theirs.fingerprint
