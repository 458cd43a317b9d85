"""The documentation is true: its code runs, its names are there, its files exist."""

import argparse
import doctest
import hashlib
import importlib
import importlib.util
import json
import os
import re
import shlex
import signal
import subprocess
import sys
import time
import warnings
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from rooms import modules

import mmcache
from mmcache.cli import main, parser
from mmcache.testing import SourceContract, paint, painted_sizes, save

ROOT = Path(__file__).parent.parent
DEMO = ROOT / "scripts" / "demo"
PAGES = ["README.md", "CHANGELOG.md", *(f"docs/{page.name}" for page in ROOT.glob("docs/*.md"))]
BLOCK = re.compile(
    r"^(?:<!-- (?P<mark>[^\n]*) -->\n)?```(?P<kind>\w+)\n(?P<code>.*?)^```$",
    re.MULTILINE | re.DOTALL,
)
MOST_NOT_RUN = 1
FORMATS = {"mmc": "numpy", "h5": "h5py", "zarr": "zarr"}


def blocks(page, kind):
    """Yield line number, mark and code of the blocks of one *kind* on a page."""
    text = (ROOT / page).read_text(encoding="utf-8")
    for block in BLOCK.finditer(text):
        if block["kind"] == kind:
            yield text.count("\n", 0, block.start("code")) + 1, block["mark"] or "", block["code"]


PAGES_WITH_CODE = [page for page in sorted(PAGES) if any(blocks(page, "python"))]


@pytest.fixture
def photos(tmp_path, monkeypatch):
    """Stand in a folder that has all the files that the examples name."""
    folder = tmp_path / "photos"
    for number, size in enumerate(painted_sizes(30, longest=300)):
        place = folder / ("cats", "dogs", "horses")[number // 2 % 3]
        place.mkdir(parents=True, exist_ok=True)
        save(paint(size, number), place / f"{number:03}.jpg", 1 + number % 8)
        # What goes with it, as large as the picture is when it stands upright.
        mask = tmp_path / "masks" / place.name / f"{number:03}.png"
        mask.parent.mkdir(parents=True, exist_ok=True)
        upright = size[::-1] if number % 8 < 4 else size  # Pillow's order: width, height
        paint(mmcache.Size(*upright[::-1]), number, "L").save(mask)
    whole = (folder / "dogs" / "002.jpg").read_bytes()
    (folder / "dogs" / "broken.jpg").write_bytes(whole[: len(whole) // 2])
    (folder / "notes.txt").write_text("no picture")
    save(paint(mmcache.Size(200, 300), 99), tmp_path / "new.jpg")
    monkeypatch.chdir(tmp_path)
    return folder


@pytest.mark.usefixtures("photos")
@pytest.mark.parametrize("page", PAGES_WITH_CODE)
def test_the_code_of_every_page_runs_from_top_to_bottom(page):
    if page == "docs/format.md":
        for ending in FORMATS:
            build_quietly(ending)
    names = {"__name__": "page"}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", mmcache.PicturesSkippedWarning)
        warnings.simplefilter("ignore", DeprecationWarning)  # of fork, in a DataLoader's workers
        for line, mark, code in blocks(page, "python"):
            if is_run(mark):
                # Filled up with empty lines, so that a traceback names the line of the page.
                exec(compile("\n" * (line - 1) + code, ROOT / page, "exec"), names)


def is_run(mark):
    """Tell whether a block is run here, by the comment before it."""
    match mark.split():
        case []:
            return True
        case ["needs", library]:
            return importlib.util.find_spec(library) is not None
        case ["not", *_]:
            return False
        case _:
            raise AssertionError(f"what does the comment {mark!r} before a block mean?")


def build_quietly(ending="mmc"):
    with pytest.warns(mmcache.PicturesSkippedWarning):
        return mmcache.build("photos", f"photos.{ending}", progress=False)


class TestTheTutorialsOwnSource(SourceContract):
    @pytest.fixture
    def source(self, photos):
        code = (code for _, _, code in blocks("docs/tutorial.md", "python"))
        names = {"mmcache": mmcache, "Path": Path, "photos": photos}
        exec(next(one for one in code if "class InMemory" in one), names)
        assert len(names["pair"]) == 2
        return names["source"]


@pytest.mark.usefixtures("photos")
@pytest.mark.parametrize(("ending", "library"), FORMATS.items())
def test_bare_libraries_read_with_the_formats_snippets_what_mmcache_reads(ending, library):
    cache = build_quietly(ending)
    (code,) = (
        code
        for _, mark, code in blocks("docs/format.md", "python")
        if not mark and f"import {library}" in code
    )
    assert len(code.splitlines()) <= 5
    assert "mmcache" not in code
    names = {}
    exec(code, names)
    assert np.array_equal(names["picture"], cache[17])


@pytest.mark.usefixtures("photos")
def test_the_formats_page_names_every_array_and_every_member_of_the_frame():
    cache = build_quietly()
    # In this order the keys need an index, which a folder's do not.
    listed = mmcache.build(["photos/dogs/002.jpg", "photos/cats/000.jpg"], "few.mmc")
    frames = [json.loads((one.path / "mmcache.json").read_text()) for one in (cache, listed)]
    page = (ROOT / "docs/format.md").read_text(encoding="utf-8")
    arrays, members = (
        [
            name
            for names in re.findall(r"^\| `(\w+)`(?:, `(\w+)`)? \|", part, re.MULTILINE)
            for name in names
            if name
        ]
        for part in page.split("**The frame**")
    )
    assert set(arrays) == {name for frame in frames for name in frame["arrays"]}
    assert members == list(frames[0])


@pytest.mark.usefixtures("photos")
@pytest.mark.parametrize("ending", FORMATS)
def test_the_formats_page_tells_where_each_frame_lies(ending):
    path = build_quietly(ending).path
    if ending == "mmc":
        frame = json.loads((path / "mmcache.json").read_bytes())
    elif ending == "zarr":
        frame = json.loads((path / "zarr.json").read_bytes())["attributes"]["mmcache"]
    else:
        whole = path.read_bytes()
        line, _, zeros = whole[:4096].partition(b"\n")
        page = (ROOT / "docs/format.md").read_text(encoding="utf-8")
        assert f"`{line.decode().rpartition(' ')[0]} N`" in page
        assert not any(zeros)
        frame = json.loads(whole[int(line.rpartition(b" ")[2]) :])
    sealed = frame.pop("sha256")
    assert sealed == hashlib.sha256(json.dumps(frame, indent=1).encode()).hexdigest()
    assert frame["format"] == "mmcache"


def test_blocks_that_are_not_run_are_rare():
    marks = [mark for page in PAGES for _, mark, _ in blocks(page, "python")]
    assert sum(mark.startswith("not ") for mark in marks) <= MOST_NOT_RUN


@pytest.mark.usefixtures("photos")
@pytest.mark.parametrize("page", ["README.md", "docs/command-line.md"])
def test_every_command_shown_works(page, capsys):
    shown = "".join(code for _, _, code in blocks(page, "console"))
    lines = re.findall(r"^\$ mmcache (.*)$", shown, re.MULTILINE)
    assert len(lines) > 1
    for line in lines:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", mmcache.PicturesSkippedWarning)
            assert main(shlex.split(line)) == 0, capsys.readouterr().err


@pytest.mark.parametrize("page", PAGES)
def test_every_file_that_a_page_links_to_exists(page):
    text = (ROOT / page).read_text(encoding="utf-8")
    targets = re.findall(r"\]\(([^)#\s]+)[^)]*\)", text)
    here = (ROOT / page).parent
    assert not [
        target for target in targets if "://" not in target and not (here / target).exists()
    ]


def test_the_readme_reaches_running_code_within_15_lines():
    line, mark, code = next(blocks("README.md", "python"))
    assert line <= 15
    assert not mark
    assert "mmcache.build(" in code


def test_the_contact_sheet_is_a_small_picture():
    sheet = ROOT / "docs" / "contact-sheet.jpg"
    assert sheet.stat().st_size < 150_000
    assert "docs/contact-sheet.jpg" in (ROOT / "README.md").read_text(encoding="utf-8")
    with Image.open(sheet) as image:
        image.load()


def test_the_changelog_tells_of_this_version():
    assert f"## {mmcache.__version__}\n" in (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")


def test_the_reference_has_every_public_name_and_no_other():
    page = (ROOT / "docs/reference.md").read_text(encoding="utf-8")
    told = re.findall(r"^\.\. auto\w+:: mmcache\.(\w+)(?:\(\))?$", page, re.MULTILINE)
    assert sorted(told) == sorted(mmcache.__all__)


def test_every_public_name_is_explained():
    assert not [name for name in mmcache.__all__ if not getattr(mmcache, name).__doc__]


def commands():
    (chosen,) = (
        action for action in parser()._actions if isinstance(action, argparse._SubParsersAction)
    )
    return chosen.choices


def told_words(name):
    """Return what stands in backticks in a command's section, and in those that it points to."""
    page = (ROOT / "docs/command-line.md").read_text(encoding="utf-8")
    plain = re.sub(r"^```.*?^```$", "", page, flags=re.MULTILINE | re.DOTALL)
    introduction, *others = plain.split("\n## ")
    sections = {title: text for title, _, text in (one.partition("\n") for one in others)}
    text = sections[name]
    for title in ("The recipe", "Limits", "Work"):
        if f"(#{title.lower().replace(' ', '-')})" in text:
            text += sections[title]
    told = re.findall(r"`([^`]+)`", introduction + text)
    return {word for one in told for word in one.split()}


@pytest.mark.parametrize("name", commands())
def test_every_option_and_every_choice_of_a_command_is_documented(name):
    known = {
        str(word)
        for command in (parser(), commands()[name])
        for action in command._actions
        if not isinstance(action, argparse._SubParsersAction)
        for word in [*action.option_strings, *(action.choices or ())]
    }
    assert known <= told_words(name)
    assert {word for word in told_words(name) if word.startswith("--")} <= known


@pytest.mark.parametrize("name", ["mmcache", *modules()])
def test_the_examples_in_the_docstrings_are_true(name):
    if name == "mmcache.__main__":
        pytest.skip("it is the command line itself")
    assert doctest.testmod(importlib.import_module(name)).failed == 0


# The demo -----------------------------------------------------------------------------------------


def start_demo(folder, *arguments):
    """Start the demo's inside in this environment."""
    return subprocess.Popen(
        [sys.executable, DEMO, *arguments],
        cwd=folder,
        env=os.environ | {"MMCACHE_DEMO_HERE": "1"},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        encoding="utf-8",
    )


def run_demo(folder, *arguments):
    with start_demo(folder, *arguments) as process:
        said, complained = process.communicate(timeout=120)
    return process.returncode, said, complained


def test_the_demo_paints_builds_times_and_draws_and_does_it_again(tmp_path):
    for _ in range(2):
        status, said, complained = run_demo(tmp_path, "--count", "12", "--size", "64")
        assert status == 0, complained
        assert "times as fast" in said
        with Image.open(tmp_path / "mmcache-demo" / "contact-sheet.jpg") as sheet:
            assert min(sheet.size) > 128
    assert len(mmcache.open(tmp_path / "mmcache-demo" / "pictures.mmc")) == 12
    assert [path.name for path in tmp_path.iterdir()] == ["mmcache-demo"]


@pytest.mark.usefixtures("photos")
def test_the_demo_takes_a_folder_and_names_what_it_cannot_read(tmp_path):
    status, said, complained = run_demo(tmp_path, "photos", "--out", "there")
    assert status == 0, complained
    assert "dogs/broken.jpg" in said
    assert len(mmcache.open(tmp_path / "there" / "pictures.mmc")) == 30


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["nowhere"], "there is no folder nowhere"),
        (["empty"], "there are no pictures in"),
        (["empty", "--out", "empty/within"], "would be inside empty"),
        (["--size", "0"], "size=0 is not"),
        (["--count", "0"], "at least one picture"),
    ],
)
def test_the_demo_says_in_one_sentence_what_is_wrong(tmp_path, arguments, sentence):
    (tmp_path / "empty").mkdir()
    status, _, complained = run_demo(tmp_path, "--count", "1", *arguments)
    assert status == 1
    assert complained.startswith("demo: ")
    assert complained.count("\n") == 1
    assert sentence in complained


@pytest.mark.skipif(os.name != "posix", reason="Ctrl-C is another thing there")
@pytest.mark.parametrize("awaited", ["Painting", "The plan"])
def test_ctrl_c_ends_the_demo_in_one_sentence_and_it_can_begin_anew(tmp_path, awaited):
    with start_demo(tmp_path, "--count", "200") as process:
        while awaited not in (line := process.stdout.readline()):
            assert line or process.poll() is None
        time.sleep(0.05)
        process.send_signal(signal.SIGINT)
        _, complained = process.communicate(timeout=60)
    assert process.returncode == 130
    assert complained.startswith("demo: interrupted")
    assert complained.count("\n") == 1
    status, _, complained = run_demo(tmp_path, "--count", "3")
    assert status == 0, complained
