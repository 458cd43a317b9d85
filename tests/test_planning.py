"""The plan: which rows, which shapes, which offsets, how many bytes, from headers alone."""

from __future__ import annotations

import json
import os
import shutil
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from PIL import Image, ImageOps

import mmcache
from mmcache import layout, survey
from mmcache.geometry import Size
from mmcache.layout import laid_out
from mmcache.planning import Plan
from mmcache.recipe import Recipe
from mmcache.testing import paint, paint_folder, save

SMALL = 4 << 10  # bytes of a slab in these tests, and half of that of a chunk


@pytest.fixture
def small_slabs(monkeypatch):
    """Slabs of a few kB, so that few pictures fill many."""
    monkeypatch.setattr(layout, "SLAB", SMALL)
    monkeypatch.setattr(layout, "CHUNK", SMALL // 2)


@pytest.fixture
def folder(tmp_path):
    """Twenty pictures in classes, one broken file, one of no picture, one of another kind."""
    folder = paint_folder(tmp_path / "in", 20, longest=200)
    (folder / "waves" / "broken.jpg").write_bytes(b"\xff\xd8\xff nothing")
    (folder / "waves" / "empty.png").touch()
    (folder / "notes.txt").write_text("no picture")
    return folder


def upright_sizes(folder, keys):
    """Ask Pillow, the slow way."""
    for key in keys:
        with Image.open(folder / key) as image:
            upright = ImageOps.exif_transpose(image)
            yield Size(upright.height, upright.width)


# Layout ----------------------------------------------------------------------------------------

EDGES = st.integers(1, 70)
SHAPES = st.lists(st.tuples(EDGES, EDGES), min_size=1, max_size=60)


@settings(max_examples=150, deadline=None, suppress_health_check=list(HealthCheck))
@given(sizes=SHAPES, mode=st.sampled_from(["RGB", "L", "RGBA"]))
@example(sizes=[(64, 63), (1, 64), (1, 1)], mode="L")  # exactly a slab, and one more
@example(sizes=[(64, 63), (1, 65)], mode="L")  # one element too many
@pytest.mark.usefixtures("small_slabs")
def test_no_record_overlaps_another_or_crosses_a_slabs_end(sizes, mode):
    recipe = Recipe(mode=mode)
    shapes = np.array([(*size, recipe.channels) for size in sizes], np.int64)
    records, slab, (length,) = laid_out(shapes, recipe)
    starts = records[:, 0]
    ends = starts + np.prod(shapes, axis=1)
    assert np.array_equal(records[:, 1:], shapes)
    assert starts[0] == 0
    assert (starts[1:] >= ends[:-1]).all()
    assert (starts // slab == (ends - 1) // slab).all()
    assert length == ends[-1]
    assert slab >= max(SMALL, *(ends - starts).tolist())
    assert slab % (SMALL // 2) == 0
    # A gap is only where the next record would not have fitted.
    gaps = np.flatnonzero(starts[1:] != ends[:-1])
    for row in gaps.tolist():
        next_length = ends[row + 1] - starts[row + 1]
        assert ends[row] % slab + next_length > slab or ends[row] % slab == 0
        assert starts[row + 1] % slab == 0


@settings(max_examples=60, deadline=None, suppress_health_check=list(HealthCheck))
@given(
    rows=st.integers(1, 300),
    box=st.tuples(EDGES, EDGES),
    resize=st.sampled_from(["crop", "pad", "stretch"]),
    multiple_of=st.integers(1, 9),
)
@pytest.mark.usefixtures("small_slabs")
def test_records_of_one_shape_follow_each_other_without_gaps(rows, box, resize, multiple_of):
    recipe = Recipe(size=box, resize=resize, multiple_of=multiple_of)
    shape = recipe.shape
    length = int(np.prod(shape))
    records, slab, pixels = laid_out(np.tile(np.array(shape, np.int64), (rows, 1)), recipe)
    assert pixels == (rows, *shape)
    assert records[:, 0].tolist() == [row * length for row in range(rows)]
    assert slab % length == 0
    assert slab >= SMALL
    assert slab - length < SMALL


@settings(max_examples=60, deadline=None, suppress_health_check=list(HealthCheck))
@given(sizes=SHAPES)
@pytest.mark.usefixtures("small_slabs")
def test_slabs_hold_every_row_once_and_in_order(sizes):
    recipe = Recipe()
    records, slab, pixels = laid_out(np.array([(*size, 3) for size in sizes], np.int64), recipe)
    nothing = mmcache.plan.__module__  # any text: a plan is data, and only its layout counts here
    planned = Plan(
        recipe=recipe, source={"kind": nothing}, keys=None, key_order=None, labels=None,
        classes=(), columns={}, records=records, slab=slab, pixels=pixels, failures=None,
        left_out=0,
    )  # fmt: skip
    slabs = list(planned.slabs)
    assert [row for one in slabs for row in one.rows] == list(range(len(sizes)))
    for one in slabs:
        inside = records[one.rows.start : one.rows.stop, 0]
        assert set(inside // slab) == {one.number}


def test_a_slab_is_32_mib_or_its_largest_record():
    small = laid_out(np.array([(9, 9, 3)], np.int64), Recipe())
    assert small.slab == 32 << 20
    large = laid_out(np.array([(4_000, 4_000, 3), (9, 9, 3)], np.int64), Recipe())
    assert large.slab >= 48_000_000
    assert large.slab % (128 << 10) == 0


# What a plan says ------------------------------------------------------------------------------


def test_rows_and_shapes_are_those_of_the_upright_pictures(folder):
    planned = mmcache.plan(folder, size=64)
    assert len(planned) == 20
    assert list(planned.keys) == sorted(
        path.relative_to(folder).as_posix() for path in folder.rglob("0*")
    )
    expected = list(upright_sizes(folder, planned.keys))
    assert list(zip(planned.columns["height"], planned.columns["width"], strict=True)) == expected
    assert [Size(*shape[:2]) for shape in planned.shapes.tolist()] == [
        planned.recipe.place(size).size for size in expected
    ]
    for row, key in enumerate(planned.keys):
        status = (folder / key).stat()
        assert planned.columns["file_size"][row] == status.st_size
        assert planned.columns["mtime_ns"][row] == status.st_mtime_ns


@pytest.mark.parametrize("resize", ["contain", "crop"])
@pytest.mark.parametrize("whole", [True, False])
@pytest.mark.usefixtures("small_slabs")
def test_a_build_writes_exactly_the_bytes_that_were_planned(folder, tmp_path, resize, whole):
    source = folder if whole else sorted(folder.rglob("0*"), reverse=True)
    planned = mmcache.plan(source, size=40, resize=resize)
    if whole:
        with pytest.warns(mmcache.PicturesSkippedWarning):
            mmcache.build(source, tmp_path / "out.mmc", size=40, resize=resize)
    else:
        mmcache.build(source, tmp_path / "out.mmc", size=40, resize=resize)
    stored = {path.stem: np.load(path) for path in (tmp_path / "out.mmc").glob("*.npy")}
    assert {name: array.nbytes for name, array in stored.items()} == planned.array_bytes
    assert planned.nbytes == sum(array.nbytes for array in stored.values())
    assert np.array_equal(stored["records"], planned.records)
    assert stored["pixels"].shape == planned.pixels


def test_what_cannot_be_read_is_named_with_its_reason(folder):
    planned = mmcache.plan(folder)
    assert [failure.key for failure in planned.failures] == ["waves/broken.jpg", "waves/empty.png"]
    assert all(failure.stage == "header" and failure.reason for failure in planned.failures)
    assert "waves/broken.jpg" in repr(planned)
    assert planned.left_out == 1


def test_planning_reads_headers_alone(tmp_path):
    whole, cut = (paint_folder(tmp_path / name, 8, longest=300) for name in ("whole", "cut"))
    for path in cut.rglob("0*"):
        kept = 1_000 if path.suffix == ".jpg" else 100  # all tables of a JPEG lie before
        size = path.stat().st_size
        os.truncate(path, kept)
        assert size > 2 * kept
    one, other = mmcache.plan(whole, size=50), mmcache.plan(cut, size=50)
    assert not other.failures
    assert np.array_equal(one.records, other.records)
    with pytest.raises(mmcache.SourceError, match="none of 8 pictures"):
        mmcache.build(cut, tmp_path / "out.mmc", size=50)


def test_histograms_count_every_picture_once(folder):
    planned = mmcache.plan(folder, size=64)
    assert sum(planned.aspects().values()) == len(planned)
    assert sum(count for *_, count in planned.common_shapes(None)) == len(planned)
    counts = [count for *_, count in planned.common_shapes(None)]
    assert counts == sorted(counts, reverse=True)
    shapes = [tuple(shape[:2]) for shape in planned.shapes.tolist()]
    assert {(h, w): count for h, w, count in planned.common_shapes(None)} == {
        shape: shapes.count(shape) for shape in shapes
    }


def test_the_largest_decode_is_that_of_the_largest_picture(tmp_path):
    paint_folder(tmp_path / "in", 6, longest=100)
    before = mmcache.plan(tmp_path / "in").largest_decode
    save(paint(Size(800, 900)), tmp_path / "in" / "large.png", compress_level=1)
    after = mmcache.plan(tmp_path / "in").largest_decode
    assert before < 800 * 900 * 4 <= after < 800 * 900 * 40


def test_free_space_is_that_of_the_destination(folder, tmp_path):
    assert mmcache.plan(folder).free is None
    free = mmcache.plan(folder, tmp_path / "out.mmc").free
    assert free == pytest.approx(shutil.disk_usage(tmp_path).free, rel=0.05)
    assert not (tmp_path / "out.mmc").exists()


def test_a_plan_survives_a_file(folder, tmp_path):
    for name, source in {"folder": folder, "paths": sorted(folder.rglob("*.*"))[::-1]}.items():
        planned = mmcache.plan(source, size=(30, 40), resize="pad", background="navy")
        planned.save(tmp_path / name)
        read = Plan.load(tmp_path / name)
        assert read == planned
        assert repr(read) == repr(planned)
        assert read.array_bytes == planned.array_bytes
        assert list(read.slabs) == list(planned.slabs)


def test_plans_of_different_things_differ(folder):
    planned = mmcache.plan(folder, size=64)
    assert planned == mmcache.plan(folder, size=64)
    assert planned != mmcache.plan(folder, size=65)
    assert planned != "a plan"
    (folder / "waves" / "broken.jpg").unlink()
    assert planned != mmcache.plan(folder, size=64)


@pytest.mark.parametrize("content", [b"", b"text", b"PK\x03\x04 cut", None])
def test_what_is_no_plan_is_a_setting_error(folder, tmp_path, content):
    file = tmp_path / "plan"
    if content is None:  # a plan cut in the middle
        mmcache.plan(folder).save(file)
        content = file.read_bytes()[:-700]
    file.write_bytes(content)
    with pytest.raises(mmcache.SettingError, match="no plan"):
        Plan.load(file)


def test_an_array_is_no_plan(tmp_path):
    np.save(tmp_path / "array.npy", np.arange(9))
    np.savez(tmp_path / "arrays.npz", a=np.arange(9))
    for name in ("array.npy", "arrays.npz"):
        with pytest.raises(mmcache.SettingError, match="no plan"):
            Plan.load(tmp_path / name)
    with pytest.raises(FileNotFoundError):
        Plan.load(tmp_path / "missing")


def test_figures_are_json(folder):
    planned = mmcache.plan(folder, size=64)
    figures = json.loads(json.dumps(planned.to_json()))
    assert figures["pictures"] == 20
    assert figures["bytes"] == planned.nbytes == sum(figures["array_bytes"].values())
    assert Recipe.from_json(figures["recipe"]) == planned.recipe
    assert len(figures["failures"]) == 2


def test_a_plan_shows_itself_as_text_and_as_escaped_html(tmp_path):
    folder = paint_folder(tmp_path / "in", 4, longest=60)
    (folder / "<script>alert(1)&.jpg").touch()
    (folder / "new\nline.jpg").touch()
    planned = mmcache.plan(folder)
    text, html = repr(planned), planned._repr_html_()
    assert text.startswith("Plan of 4 pictures in 3 classes")
    assert r"new\nline.jpg" in text
    assert "<script>" not in html
    assert "&lt;script&gt;alert(1)&amp;.jpg" in html
    assert "4 pictures in 3 classes" in html


def test_many_failures_are_counted_and_a_few_named(tmp_path):
    folder = paint_folder(tmp_path / "in", 2, longest=60)
    for number in range(30):
        (folder / f"bad-{number:02}.jpg").touch()
    text = repr(mmcache.plan(folder))
    assert "bad-09" in text
    assert "bad-10" not in text
    assert "20 more in plan.failures" in text


def test_a_record_beyond_any_use_is_a_failure_and_not_an_allocation(tmp_path):
    folder = paint_folder(tmp_path / "in", 2, longest=60)
    Image.new("L", (65_000, 1)).save(folder / "line.png")
    planned = mmcache.plan(folder, size=256, resize="cover")
    assert [failure.key for failure in planned.failures] == ["line.png"]
    assert "would become a record" in planned.failures[0].reason


@pytest.mark.parametrize("executor", ["serial", "threads", "processes"])
@pytest.mark.parametrize("workers", [1, 3])
def test_whoever_reads_the_headers_the_plan_is_the_same(folder, executor, workers, monkeypatch):
    monkeypatch.setattr(survey, "_SPAN", 3)
    assert mmcache.plan(folder, executor=executor, workers=workers) == mmcache.plan(folder)


def test_an_executor_of_ones_own_is_used_and_left_open(folder):
    with ThreadPoolExecutor(2) as pool:
        assert mmcache.plan(folder, executor=pool) == mmcache.plan(folder)
        assert pool.submit(int, "7").result() == 7


def test_progress_is_told_up_to_the_last_header(folder, monkeypatch):
    monkeypatch.setattr(survey, "_SPAN", 4)
    told = []
    mmcache.plan(folder, workers=1, progress=lambda done, total: told.append((done, total)))
    assert told[-1] == (22, 22)
    assert [done for done, _ in told] == sorted(done for done, _ in told)
    assert len(told) >= 6
