"""Larger sheets: chosen, sorted and grouped pictures, in files and in terminals."""

import base64
import fcntl
import io
import os
import re
import struct
import subprocess
import sys
import termios

import numpy as np
import pytest
from IPython.core.formatters import DisplayFormatter
from PIL import Image

import mmcache
from mmcache.sheet import captions_of, evenly
from mmcache.terminals import blocks, inline, way_to_draw


def test_show_draws_the_pictures_of_the_cache(uniform):
    sheet = np.asarray(mmcache.show(uniform[4:5], edge=48)).astype(int)
    picture = uniform[4]
    top, left = 8, 8
    assert np.array_equal(sheet[top : top + 48, left : left + 48], picture)


def test_show_names_the_class_on_a_second_line(uniform, painted, tmp_path):
    alone = mmcache.build(painted / "waves", tmp_path / "w.mmc", size=48, progress=False)
    labelled, bare = mmcache.show(uniform[:4]), mmcache.show(alone[:4])
    assert labelled.height > bare.height
    assert labelled.width == bare.width


def captions(sheet):
    """Return what is written below the pictures of a sheet, in order."""
    return [caption for section in sheet.sections for caption in section.captions]


def captioned(cache, rows):
    return captions_of(cache.keys.take(rows), cache.labels[rows], cache.classes)


def figures(cache):
    """Return what pictures are sorted by, by a naive loop."""
    height, width = (cache.columns[name].astype(float) for name in ("height", "width"))
    return {
        "aspect": [w / h for h, w in zip(height, width, strict=True)],
        "size": [h * w for h, w in zip(height, width, strict=True)],
        "brightness": [picture.mean() for picture in cache],
    }


@pytest.mark.parametrize("sort", ["aspect", "size", "brightness"])
@pytest.mark.parametrize("reverse", [False, True])
def test_a_sheet_is_sorted(ragged, sort, reverse):
    told = figures(ragged)[sort]
    rows = sorted(range(len(ragged)), key=told.__getitem__)
    shown = captions(mmcache.show(ragged, sort=sort, reverse=reverse, progress=False))
    values = dict(zip(captioned(ragged, range(len(ragged))), told, strict=True))
    assert sorted(shown) == sorted(values)
    got = [values[caption] for caption in shown]
    assert got == pytest.approx([told[row] for row in (rows[::-1] if reverse else rows)], rel=1e-5)


def test_a_sheet_is_sorted_by_numbers_of_ones_own(uniform):
    losses = np.random.default_rng(1).random(len(uniform))
    sheet = mmcache.show(uniform, sort=losses, reverse=True, most=5, columns=5)
    order = np.argsort(-losses)[evenly(len(uniform), 5)]
    assert captions(sheet) == captioned(uniform, order)
    first = np.asarray(sheet)[8 + 40 : 8 + 88, 8 + 40 : 8 + 88]  # 48 pixels in a cell of 128
    assert np.array_equal(first, uniform[order[0]])


def test_a_sheet_is_grouped_by_label(uniform):
    sheet = mmcache.show(uniform, by="label", columns=4)
    for number, section in enumerate(sheet.sections):
        rows = np.flatnonzero(uniform.labels == number)
        assert section.heading == f"{uniform.classes[number]} · {len(rows)} pictures"
        assert section.captions == captioned(uniform, rows)
    assert len(sheet.sections) == len(uniform.classes)
    plain = mmcache.show(uniform, columns=4)
    assert sheet.height > plain.height
    assert np.asarray(sheet)[:24].min() < 90  # a heading is written there
    assert np.asarray(plain)[:8].min() == 255


def test_groups_share_the_sheet_and_keep_their_order(uniform):
    losses = np.arange(len(uniform))[::-1]
    sheet = mmcache.show(uniform, by=np.arange(24) % 2 == 0, sort=losses, most=8, columns=4)
    assert [len(section.captions) for section in sheet.sections] == [4, 4]
    odd = np.arange(1, 24, 2)[::-1]
    assert sheet.sections[0].heading == "False · 12 pictures"
    assert sheet.sections[0].captions == captioned(uniform, odd[evenly(12, 4)])


def test_more_groups_than_rows_are_counted(uniform):
    sheet = mmcache.show(uniform, by=np.arange(24), most=16, columns=8)
    assert [section.heading for section in sheet.sections] == [
        "0 · 1 picture", "23 · 1 picture", "22 more groups are not drawn",
    ]  # fmt: skip
    assert sheet.pictures == 2


@pytest.mark.parametrize(
    ("how", "said"),
    [
        ({"columns": 0}, "columns=0"),
        ({"edge": 0}, "edge=0"),
        ({"most": -1}, "most=-1"),
        ({"sort": "colour"}, "'aspect', 'size', 'brightness'"),
        ({"sort": [1, 2]}, "shape \\(2,\\)"),
        ({"by": "colour"}, '"label"'),
        ({"by": np.zeros((24, 2))}, "one value for each of the 24 pictures"),
        ({"edge": 70_000}, "ask for fewer"),
    ],
)
def test_nonsense_is_refused_in_a_sentence(uniform, how, said):
    with pytest.raises(mmcache.SettingError, match=said):
        mmcache.show(uniform, **how)


def test_without_labels_there_are_no_groups_of_them(painted, tmp_path):
    alone = mmcache.build(painted / "waves", tmp_path / "w.mmc", size=48, progress=False)
    with pytest.raises(mmcache.MmcacheError, match="have no labels"):
        mmcache.show(alone, by="label")


def test_an_empty_sheet_is_a_picture(uniform):
    for how in ({}, {"sort": "brightness"}, {"by": "label"}):
        sheet = mmcache.show(uniform[:0], **how)
        assert min(sheet.size) > 0
        assert sheet.pictures == 0


def test_a_notebook_keeps_a_sheet_as_jpeg_and_files_are_what_their_ending_says(uniform, tmp_path):
    sheet = mmcache.show(uniform)
    data, _ = DisplayFormatter().format(sheet)
    assert "image/jpeg" in data
    assert "image/png" not in data
    for ending, form in (("png", "PNG"), ("jpg", "JPEG"), ("webp", "WEBP")):
        sheet.save(tmp_path / f"sheet.{ending}")
        with Image.open(tmp_path / f"sheet.{ending}") as again:
            assert (again.format, again.size) == (form, sheet.size)


def test_show_of_many_takes_evenly_chosen_ones(uniform):
    many = uniform[np.zeros(1000, int)]
    assert mmcache.show(many, most=10).size == mmcache.show(uniform[:10]).size
    assert mmcache.show(many).size == mmcache.show(many[:96]).size


# In a terminal -----------------------------------------------------------------------------------

COLOURFUL = {"TERM": "xterm-256color", "COLORTERM": "truecolor"}


@pytest.mark.parametrize(
    ("environ", "encoding", "way"),
    [
        (COLOURFUL, "utf-8", "colours"),
        ({"TERM": "xterm-256color"}, "utf-8", "palette"),
        ({"TERM": "xterm-kitty"}, "utf-8", "kitty"),
        ({"TERM": "xterm-ghostty"}, "utf-8", "kitty"),
        ({"TERM": "xterm-256color", "TERM_PROGRAM": "iTerm.app"}, "utf-8", "iterm"),
        ({"TERM": "xterm-256color", "TERM_PROGRAM": "WezTerm"}, "utf-8", "iterm"),
        ({"TERM": "tmux-256color", "TMUX": "1", "TERM_PROGRAM": "WezTerm"}, "utf-8", "palette"),
        ({"TERM": "xterm"}, "utf-8", None),
        ({}, "utf-8", None),
        ({"WT_SESSION": "1"}, "utf-8", "colours"),
        (COLOURFUL, "ascii", None),
        (COLOURFUL, None, None),
        ({"TERM": "dumb", "COLORTERM": "truecolor"}, "utf-8", None),
        (COLOURFUL | {"NO_COLOR": "1"}, "utf-8", None),
    ],
)
def test_what_a_terminal_can_draw(environ, encoding, way):
    assert way_to_draw(environ, encoding) == way


def screen_of(text, columns=100, lines=60):
    """Return what a terminal shows of a text."""
    pyte = pytest.importorskip("pyte", reason="pip install pyte: a terminal that can be looked at")
    screen = pyte.Screen(columns, lines)
    pyte.Stream(screen).feed(text.replace("\n", "\r\n"))
    return screen


def colour(name):
    return [int(name[place : place + 2], 16) for place in (0, 2, 4)]


@pytest.mark.parametrize("height", [1, 2, 7, 12])
@pytest.mark.parametrize(("way", "farthest"), [("colours", 0), ("palette", 48)])
def test_blocks_have_the_colours_of_the_pixels(height, way, farthest):
    pixels = np.random.default_rng(height).integers(0, 256, (height, 9, 3), np.uint8)
    screen = screen_of("\n".join(blocks(pixels, way)))
    for top in range(height):
        for left in range(9):
            cell = screen.buffer[top // 2][left]
            assert cell.data == "▀"
            drawn = colour(cell.bg if top % 2 else cell.fg)
            assert np.abs(np.subtract(drawn, pixels[top, left].astype(int))).max() <= farthest
    if height % 2:
        assert screen.buffer[height // 2][0].bg == "default"
    assert screen.buffer[0][9].bg == "default"  # the colours end with the line


def test_terminals_that_know_pictures_get_the_sheet_itself(uniform):
    sheet = mmcache.show(uniform)
    told = sheet.for_terminal("kitty", 90, 40)
    parts = re.findall("\x1b_G([^;]*);([^\x1b]*)\x1b\\\\", told)
    assert "".join(f"\x1b_G{keys};{data}\x1b\\" for keys, data in parts) + "\n" == told
    assert parts[0][0] == "a=T,f=100,c=90,m=1"
    assert {keys for keys, _ in parts[1:]} == {"m=1", "m=0"}
    assert parts[-1][0] == "m=0"
    assert max(len(data) for _, data in parts) <= 4096
    (data,) = re.findall(
        r"\x1b]1337;File=inline=1;size=\d+;width=90:(.*)\a", inline(sheet, "iterm", 90)
    )
    for one in ("".join(data for _, data in parts), data):
        with Image.open(io.BytesIO(base64.b64decode(one))) as image:
            assert np.array_equal(np.asarray(image), np.asarray(sheet))


@pytest.mark.parametrize("columns", [1, 20, 40, 80, 200])
@pytest.mark.parametrize("by", [None, "label"])
def test_the_small_sheet_fits_the_terminal(ragged, columns, by):
    text = mmcache.show(ragged, by=by).for_terminal("colours", columns, 40)
    plain = re.sub(r"\x1b\[[^m]*m", "", text)
    assert max(map(len, plain.splitlines())) <= columns
    if columns >= 20:
        assert "▀" in plain
        assert ragged.classes[0] in plain
    if by and columns >= 40:
        assert all(f"{name} · " in plain for name in ragged.classes)


def test_wide_letters_take_two_columns(painted, tmp_path):
    folder = tmp_path / "photos"
    folder.mkdir()
    for number, name in enumerate(["猫" * 30, "e\u0301" * 9, "plain"]):
        picture = next((painted / "waves").iterdir())
        (folder / f"{name}{number}.jpg").write_bytes(picture.read_bytes())
    cache = mmcache.build(folder, tmp_path / "wide.mmc", size=32, progress=False)
    screen = screen_of(mmcache.show(cache).for_terminal("colours", 100, 30))
    # In the order of their bytes; three cells of 31 columns and a gap of two.
    written = ["".join(line[column].data for column in range(100)) for line in lines_of(screen)]
    line = next(number for number, text in enumerate(written) if "plain2" in text)
    assert text_at(screen, line, 33) == "plain2.jpg"
    assert text_at(screen, line, 0).endswith("1.jpg")
    assert text_at(screen, line, 66).startswith("猫猫")
    assert text_at(screen, line, 66).endswith("猫0.jpg")


def lines_of(screen):
    return [screen.buffer[number] for number in range(screen.lines)]


def text_at(screen, line, column):
    """Return what stands in a cell; behind a letter of two columns, one is empty."""
    return "".join(screen.buffer[line][place].data for place in range(column, column + 31)).strip()


def in_a_terminal(*command, columns=90, lines=40, **environ):
    """Run a command whose streams are a terminal; return its status and what it printed."""
    ours, its = os.openpty()
    fcntl.ioctl(its, termios.TIOCSWINSZ, struct.pack("HHHH", lines, columns, 0, 0))
    told = {name: os.environ[name] for name in os.environ.keys() - {"NO_COLOR", "COLUMNS", "LINES"}}
    ran = subprocess.Popen(
        [sys.executable, "-m", "mmcache", *map(str, command)],
        stdin=its, stdout=its, stderr=its, env=told | {"PYTHONUTF8": "1"} | environ,
    )  # fmt: skip
    os.close(its)
    printed = b""
    while True:
        try:
            part = os.read(ours, 65536)
        except OSError:  # the terminal has nobody left who writes
            break
        if not part:
            break
        printed += part
    os.close(ours)
    return ran.wait(), printed.decode()


def test_the_command_draws_where_a_terminal_can(ragged, tmp_path):
    out = tmp_path / "sheet.png"
    status, printed = in_a_terminal("show", ragged.path, "--out", out, **COLOURFUL)
    assert status == 0
    assert "▀" in printed
    assert printed.endswith(f"24 of 24 pictures in {out}\r\n")
    with Image.open(out) as image:
        assert np.array_equal(np.asarray(image), np.asarray(mmcache.show(ragged)))
    for quiet, environ in ((["--quiet"], COLOURFUL), ([], {"TERM": "dumb"})):
        status, printed = in_a_terminal("show", ragged.path, "--out", out, *quiet, **environ)
        assert (status, "▀" in printed) == (0, False)


def test_the_command_sorts_and_groups(ragged, tmp_path):
    out = tmp_path / "sheet.png"
    command = [sys.executable, "-m", "mmcache", "show", ragged.path, "--out", out]
    options = [
        "--by",
        "label",
        "--sort",
        "brightness",
        "--reverse",
        "--most",
        "12",
        "--columns",
        "4",
    ]
    ran = subprocess.run([*command, *options], capture_output=True, text=True, check=True)
    assert ran.stderr == ""
    assert "▀" not in ran.stdout
    sheet = mmcache.show(ragged, by="label", sort="brightness", reverse=True, most=12, columns=4)
    assert ran.stdout == f"{sheet.pictures} of 24 pictures in {out}\n"
    with Image.open(out) as image:
        assert np.array_equal(np.asarray(image), np.asarray(sheet))


def test_a_path_is_shown_too(uniform):
    assert np.array_equal(np.asarray(mmcache.show(uniform.path)), np.asarray(mmcache.show(uniform)))
