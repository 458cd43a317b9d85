"""The building benchmark is fair: an exact reference, the same sizes, and shares that add up."""

import importlib
import os
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import mmcache
from mmcache.testing import paint_folder

SCRIPTS = Path(__file__).resolve().parent.parent / "scripts"
ROOMS = ("building.findings", "building.pieces", "building.race", "building.sets", "page",
         "quality", "turns")  # fmt: skip
SIZE = 64


@pytest.fixture(scope="module")
def contest():
    """The package beside the scripts, which is not installed."""
    sys.path.insert(0, str(SCRIPTS))
    try:
        for room in ROOMS:
            importlib.import_module(f"contest.{room}")
    finally:
        sys.path.remove(str(SCRIPTS))
    return sys.modules["contest"]


@pytest.fixture(scope="module")
def web(contest, tmp_path_factory):
    place = tmp_path_factory.mktemp("sets")
    return contest.building.sets.web_photos(paint_folder(place / "all", 24), place / "web", 8)


# The reference -----------------------------------------------------------------------------------


def one_pixel_after_the_other(line, count):
    """Return what Lanczos makes of one line, as its formula is written down."""
    scale, out = len(line) / count, []
    wider = max(scale, 1)
    for place in range(count):
        away = (np.arange(len(line)) + 0.5 - (place + 0.5) * scale) / wider
        weights = [np.sinc(one) * np.sinc(one / 3) if abs(one) < 3 else 0 for one in away]
        out.append(np.dot(weights, line) / sum(weights))
    return np.clip(out, 0, 255)


@pytest.mark.parametrize("count", [1, 7, 29, 64, 90])
def test_the_reference_is_what_the_formula_says(contest, count):
    line = np.random.default_rng(count).integers(0, 256, 64).astype(np.uint8)
    wide = np.broadcast_to(line[None, :, None], (5, 64, 3)).copy()
    made = contest.quality.lanczos(wide, (5, count))
    assert np.allclose(made, one_pixel_after_the_other(line, count)[None, :, None], atol=1e-9)
    tall = contest.quality.lanczos(wide.transpose(1, 0, 2), (count, 5))
    assert np.allclose(tall, made.transpose(1, 0, 2), atol=1e-9)


@pytest.mark.parametrize("size", [(48, 61), (100, 64), (300, 300)])
def test_pillow_comes_as_near_to_the_reference_as_rounding_lets_it(contest, web, size):
    for path in web.paths:
        with Image.open(path) as opened:
            image = opened.convert("RGB")
        exact = contest.quality.lanczos(np.asarray(image), size)
        made = np.asarray(image.resize(size[::-1], Image.Resampling.LANCZOS))
        near = np.abs(made - exact)
        # Pillow clips between its passes as well, where colours are at their ends.
        assert np.median(near) <= 0.5
        assert contest.quality.psnr(made, exact) > 50


def test_equal_pictures_are_infinitely_near_and_a_level_is_48_decibels(contest):
    grey = np.random.default_rng(0).integers(1, 255, (20, 30)).astype(np.uint8)
    assert contest.quality.psnr(grey, grey) == np.inf
    assert contest.quality.psnr(grey + 1, grey) == pytest.approx(48.13, abs=0.01)
    assert contest.quality.ssim(grey.astype(float), grey.astype(float)) == pytest.approx(1)


# Photos ------------------------------------------------------------------------------------------


def test_only_upright_jpegs_take_part(contest, web, tmp_path):
    painted = paint_folder(tmp_path / "all", 24)
    plain = 0
    for path in painted.rglob("*.jpg"):
        with Image.open(path) as image:
            plain += image.getexif().get(0x0112, 1) == 1
    every = contest.building.sets.web_photos(painted, tmp_path / "web", 100)
    assert len(every.paths) == plain
    assert len(web.paths) <= 8


def test_grain_makes_files_larger_and_leaves_their_edges(contest, web, tmp_path):
    smooth, grainy = contest.building.sets.camera_photos(web, tmp_path, 0.48, 2)
    assert [len(smooth.paths), len(grainy.paths)] == [2, 2]
    assert (smooth.height, smooth.width) == (grainy.height, grainy.width) == (600, 800)
    assert grainy.megabytes > 2 * smooth.megabytes


# Contenders --------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["PillowLoop", "H5py", "Zarr", "MmcachePillow"])
def test_contenders_keep_every_photo_as_the_loop_of_a_tutorial_has_it(contest, web, name, tmp_path):
    writer = contest.building.race.WRITERS[name](tmp_path / "kept")
    writer.prepare()
    writer.build(web.paths, SIZE)
    kept = list(writer.kept(len(web.paths)))
    assert len(kept) == len(web.paths)
    for picture, path in zip(kept, web.paths, strict=True):
        loop = np.asarray(sys.modules["contest.building.writer"].by_pillow(path, SIZE))
        assert picture.shape == loop.shape
        # mmcache may decode at a reduced size
        assert contest.quality.psnr(picture, loop) > 40


def test_contenders_are_told_of_without_importing_what_their_environments_lack():
    look = "import sys, contest.building.server; print({'PIL', 'mmcache'} & sys.modules.keys())"
    run = subprocess.run(
        [sys.executable, "-c", look],
        env=os.environ | {"PYTHONPATH": f"{SCRIPTS.parent}{os.pathsep}{SCRIPTS}"},
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    assert run.stdout == "set()\n"


@pytest.mark.parametrize("name", ["Decoding", "ScaledDecoding"])
def test_limits_keep_nothing(contest, web, name, tmp_path):
    writer = contest.building.race.WRITERS[name](tmp_path / "kept")
    writer.build(web.paths, SIZE)
    assert list(tmp_path.iterdir()) == []


# Rounds ------------------------------------------------------------------------------------------


def test_who_fails_is_told_and_left_out_and_who_is_slow_takes_two_rounds(contest):
    calls, told = [], []

    def turn(name, number):
        calls.append((number, name))
        if name == "bad" and number == 1:
            raise contest.client.FailedError("no")
        return {"clock": 2.0 if name == "slow" else 1.0, "processor": 1.0, "pictures": 4}

    turns = contest.turns.take_rounds(
        ["good", "bad", "slow"],
        turn,
        lambda *both: told.append(both),
        rounds=4,
        seconds=9,
        slow=1.5,
    )
    assert [name for name, _ in told] == ["bad"]
    assert {name: len(each) for name, each in turns.items()} == {"good": 4, "slow": 2}
    assert [name for number, name in calls if number == 0] == ["slow", "bad", "good"]
    assert [name for number, name in calls if number == 1] == ["good", "bad", "slow"]
    assert contest.turns.by_rounds(turns["good"], turns["slow"]) == 2


def race_of(contest, web, **contenders):
    """Return a contest whose contenders took so many ms a picture and kept so many decibels."""
    race = contest.building.race
    turns = {
        name: [contest.turns.Turn(ms / 1e3, ms / 1e3, 1)] * 3
        for name, (ms, _) in contenders.items()
    }
    seen = {
        name: race.Seen(0, 0, [db, db + 1, db + 2], [1.0]) for name, (_, db) in contenders.items()
    }
    return race.Race("web", web, SIZE, turns, seen)


def test_the_peer_to_beat_is_the_fastest_of_those_that_are_as_good(contest, web):
    race = race_of(
        contest, web, MmcacheFast=(2.0, 48), PillowLoop=(4.0, 48), OpenCv=(1.0, 30),
        Streaming=(3.0, 47.5),
    )  # fmt: skip
    assert race.equals() == ["Streaming", "PillowLoop"]
    rows = {row[0]: row[2] for row in contest.building.findings.promised({"web": race}, None, None)}
    assert {"2.00", "1.50", "not measured"} == set(rows.values())
    assert "OpenCV, `np.save`, 2.00 times as fast, with 31.0 dB (30.0 at the worst)" in (
        contest.building.findings.winners(race)
    )


# From inside -------------------------------------------------------------------------------------


def test_what_a_piece_calls_of_the_others_is_not_its_own(contest):
    class Owner:
        @staticmethod
        def outer():
            time.sleep(0.02)
            Owner.inner()
            Owner.inner()

        @staticmethod
        def inner():
            time.sleep(0.05)

    pieces = contest.building.pieces
    before = Owner.__dict__["outer"], Owner.__dict__["inner"]
    with pieces.watched(
        (pieces.Piece(Owner, "outer", "outer"), pieces.Piece(Owner, "inner", "inner"))
    ) as taken:
        Owner.outer()
    assert taken.calls == 3
    assert taken.pieces["inner"].clock >= 0.1
    assert 0.02 <= taken.pieces["outer"].clock < 0.1
    assert [Owner.outer, Owner.inner] == [one.__func__ for one in before]


def test_shares_of_a_build_add_up_and_mmcache_is_left_as_it_was(contest, web, tmp_path):
    kept = mmcache.tasks.decode_flagged
    inside = contest.building.pieces.Inside(web, tmp_path, SIZE, 1)
    taken = inside._watched_builds("threads")
    whole = taken.pop("in all")[0]
    assert sum(one[0] for one in taken.values()) == pytest.approx(whole)
    assert taken["decode and resize"][0] > 0
    assert mmcache.tasks.decode_flagged is kept
    assert list(tmp_path.iterdir()) == []


# The page ----------------------------------------------------------------------------------------


def test_tables_go_between_their_own_marks(contest, tmp_path):
    page = tmp_path / "page.md"
    end = contest.page.END
    marks = [f"<!-- tables of {name} -->\nold\n{end}\n" for name in ("a.py", "b.py")]
    page.write_text("first\n" + "between\n".join(marks) + "last\n")
    contest.page.put_into(page, "a.py", "new\n")
    assert page.read_text() == (
        f"first\n<!-- tables of a.py -->\n\nnew\n\n{end}\nbetween\n{marks[1]}last\n"
    )
    with pytest.raises(SystemExit, match=r"has no lines <!-- tables of c.py -->"):
        contest.page.put_into(page, "c.py", "")
