"""resize="bucket": every picture is cut to the closest of a few shapes, which a plan chooses."""

from __future__ import annotations

import json
import re
import shutil
from dataclasses import replace

import numpy as np
import pytest
from stopping import STORES, bytes_of, decoded, names, stopped, unfinished

import mmcache
from mmcache.cli import main
from mmcache.geometry import Size, closest
from mmcache.planning import Plan
from mmcache.stores.publishing import work_path
from mmcache.testing import paint_folder

BUCKETS = {"size": 96, "resize": "bucket", "buckets": 4, "multiple_of": 8}


@pytest.fixture(scope="module")
def photos(tmp_path_factory):
    return paint_folder(tmp_path_factory.mktemp("source") / "photos", 60, longest=220)


def build(folder, out, **settings):
    return mmcache.build(folder, out, **(BUCKETS | {"progress": False} | settings))


def flat_pictures(folder):
    """Add forty pictures of an aspect that is not there yet."""
    for number in range(40):
        mmcache.testing.paint(Size(20, 120), number).save(folder / f"flat{number}.png")


def test_pictures_of_one_bucket_stack_and_nothing_is_padded(photos, tmp_path):
    cache = build(photos, tmp_path / "a.mmc")
    shapes = cache.recipe.shapes
    assert len(shapes) == 4
    assert all(h * w <= 96 * 96 and h % 8 == w % 8 == 0 for h, w in shapes)
    heights, widths = cache.columns["height"], cache.columns["width"]
    for row in range(len(cache)):
        source = Size(int(heights[row]), int(widths[row]))
        assert cache[row].shape[:2] == closest(source, shapes)
        placement = cache.placement(row)
        assert placement.valid == placement.size == cache[row].shape[:2]
        assert min(placement.padding) == max(placement.padding) == 0
    assert {tuple(shape[:2]) for shape in cache.shapes.tolist()} <= set(shapes)
    for shape in shapes:
        rows = np.flatnonzero((cache.shapes[:, :2] == shape).all(axis=1))
        assert np.asarray(cache.batch(rows)).shape[1:3] in (shape, (0, 0))


def test_a_record_is_the_crop_to_its_shape_and_apply_gives_the_same(photos, tmp_path):
    cache = build(photos, tmp_path / "a.mmc")
    for row in (0, 1, 7, 30):
        file = photos / cache.keys[row]
        assert np.array_equal(mmcache.apply(file, cache.recipe), cache[row])
        cropped = replace(
            cache.recipe, size=cache[row].shape[:2], resize="crop", buckets=None, multiple_of=1
        )
        assert np.array_equal(mmcache.apply(file, cropped), cache[row])


@pytest.mark.parametrize("executor", ["serial", "processes"])
def test_whoever_reads_headers_and_decodes_the_bytes_are_the_same(photos, tmp_path, executor):
    one = build(photos, tmp_path / "a.mmc")
    other = build(photos, tmp_path / "b.mmc", executor=executor)
    assert bytes_of(other.path) == bytes_of(one.path)


def test_a_recipe_that_is_not_settled_cannot_be_applied(photos):
    with pytest.raises(mmcache.SettingError, match="not chosen yet"):
        mmcache.apply(next(photos.rglob("*.jpg")), mmcache.Recipe(**BUCKETS))


def test_more_shapes_cut_less(photos):
    parts = []
    for count in (1, 2, 4, 8, 16):
        plan = mmcache.plan(photos, size=96, resize="bucket", buckets=count)
        told = plan.buckets()
        assert len(told) == count
        assert sum(number for *_, number, _ in told) == len(plan)
        parts.append(sum(number * cut for *_, number, cut in told) / len(plan))
    assert parts == sorted(parts, reverse=True)
    assert parts[-1] < parts[0] / 4


def test_a_plan_tells_what_is_cut(photos):
    plan = mmcache.plan(photos, **BUCKETS)
    for height, width, count, cut in plan.buckets():
        rows = np.flatnonzero((plan.shapes[:, :2] == (height, width)).all(axis=1))
        assert count == len(rows)
        placed = [
            plan.recipe.place(Size(int(plan.columns["height"][r]), int(plan.columns["width"][r])))
            for r in rows
        ]
        parts = [1 - np.prod(one.valid) / np.prod(one.scaled) for one in placed]
        assert cut == pytest.approx(np.mean(parts) if parts else 0)
        assert f"{height} x {width}" in repr(plan)
        assert f"{cut:.1%} cut away" in repr(plan)
    assert json.loads(json.dumps(plan.to_json()))["buckets"][0]["height"] == plan.buckets()[0][0]
    assert mmcache.plan(photos).buckets() == []


def test_a_plan_is_what_is_built_and_survives_a_file(photos, tmp_path):
    plan = mmcache.plan(photos, **BUCKETS)
    plan.save(tmp_path / "plan")
    assert Plan.load(tmp_path / "plan") == plan
    cache = build(photos, tmp_path / "a.mmc")
    assert cache.recipe == plan.recipe
    assert np.array_equal(cache.shapes, plan.shapes)
    # Settled beforehand, a plan is the same, its memory too.
    again = mmcache.plan(photos, **(BUCKETS | {"buckets": plan.recipe.buckets}))
    assert again == plan


def test_progressive_pictures_need_the_same_memory_whether_shapes_are_settled_or_not(tmp_path):
    (tmp_path / "in").mkdir()
    for number, mode in enumerate(("RGB", "L")):
        image = mmcache.testing.paint(Size(301, 203 + 31 * number), number, mode)
        image.save(tmp_path / "in" / f"{number}.jpg", progressive=True)
        image.save(tmp_path / "in" / f"{number}.webp")
    plan = mmcache.plan(tmp_path / "in", **BUCKETS)
    again = mmcache.plan(tmp_path / "in", **(BUCKETS | {"buckets": plan.recipe.buckets}))
    assert plan.columns["decode_bytes"].tolist() == again.columns["decode_bytes"].tolist()
    assert min(plan.columns["decode_bytes"]) > 1 << 20


def test_what_cannot_be_read_or_is_too_large_is_named_and_has_no_say(photos, tmp_path):
    folder = tmp_path / "in"
    shutil.copytree(photos, folder)
    before = mmcache.plan(folder, **BUCKETS)
    (folder / "waves" / "broken.jpg").write_bytes(b"\xff\xd8\xff nothing")
    for number in range(30):
        mmcache.testing.paint(Size(90, 2_000)).save(folder / f"huge{number:02}.png")
    plan = mmcache.plan(folder, **BUCKETS, max_pixels=100_000)
    assert [failure.key for failure in plan.failures] == [
        *(f"huge{number:02}.png" for number in range(30)), "waves/broken.jpg",
    ]  # fmt: skip
    assert plan.recipe == before.recipe
    assert mmcache.plan(folder, **BUCKETS).recipe != before.recipe
    with pytest.raises(mmcache.TooManyFailuresError):
        mmcache.plan(folder, **BUCKETS, max_pixels=100_000, max_failures=1)


def test_a_picture_that_needs_too_much_memory_is_refused_when_shapes_are_known(tmp_path):
    folder = paint_folder(tmp_path / "in", 4, longest=100)
    mmcache.testing.paint(Size(8_000, 5_000)).resize((8_000, 5_000)).save(
        folder / "large.png", compress_level=0
    )
    plan = mmcache.plan(folder, **BUCKETS, max_memory="256MB")
    (failure,) = plan.failures
    assert failure.key == "large.png"
    assert "max_memory" in failure.reason
    assert len(plan) == 4


# The same call again -----------------------------------------------------------------------------


@pytest.mark.parametrize("store", STORES)
def test_the_same_call_opens_what_is_there(photos, tmp_path, monkeypatch, store):
    first = build(photos, tmp_path / STORES[store])
    told = decoded(monkeypatch)
    assert build(photos, first.path).fingerprint == first.fingerprint
    assert build(photos, first.path, exist="update").fingerprint == first.fingerprint
    shapes = first.recipe.buckets
    assert build(photos, first.path, buckets=shapes).fingerprint == first.fingerprint
    assert told == []


def test_another_count_is_a_difference_that_is_named(photos, tmp_path):
    first = build(photos, tmp_path / "a.mmc")
    with pytest.raises(mmcache.DifferentCacheError, match=r"buckets=4, .* buckets=6\."):
        build(photos, first.path, buckets=6)
    with pytest.raises(mmcache.DifferentCacheError, match=r"with size=.*for size=") as caught:
        build(photos, first.path, size=80)
    assert "buckets" not in str(caught.value)
    other = [(96, 96), (48, 48), (48, 56), (56, 48)]
    with pytest.raises(mmcache.DifferentCacheError, match=r"buckets=\(\(.*\(96, 96\)\)"):
        build(photos, first.path, buckets=other)
    with pytest.raises(mmcache.DifferentCacheError, match="resize='bucket'") as caught:
        mmcache.build(photos, first.path, size=96, multiple_of=8)
    assert "buckets" not in str(caught.value)


@pytest.mark.parametrize("store", STORES)
@pytest.mark.usefixtures("noted_at_once")
def test_an_interrupted_build_is_gone_on_with_to_the_same_bytes(
    photos, tmp_path, monkeypatch, store
):
    anew = build(photos, tmp_path / f"anew-{STORES[store]}")
    out = tmp_path / STORES[store]
    told = decoded(monkeypatch)
    unfinished(photos, out, **BUCKETS)
    assert 20 <= len(told) < 60
    cache = build(photos, out, executor="threads", workers=2)
    assert len(told) == 60
    assert bytes_of(cache.path) == bytes_of(anew.path)
    assert names(tmp_path) == sorted([anew.path.name, out.name])


@pytest.mark.usefixtures("noted_at_once")
def test_shapes_stay_when_pictures_come_while_a_build_is_interrupted(tmp_path, monkeypatch):
    folder = paint_folder(tmp_path / "in", 60, longest=220)
    shapes = mmcache.plan(folder, **BUCKETS).recipe.buckets
    out = tmp_path / "out.mmc"
    unfinished(folder, out, **BUCKETS)
    flat_pictures(folder)
    told = decoded(monkeypatch)
    cache = build(folder, out)
    assert cache.recipe.buckets == shapes
    assert len(told) < 100 - 15
    fresh = build(folder, tmp_path / "fresh.mmc")
    assert fresh.recipe.buckets != shapes  # so that it matters
    settled = build(folder, tmp_path / "settled.mmc", buckets=shapes)
    assert bytes_of(cache.path) == bytes_of(settled.path)


@pytest.mark.usefixtures("noted_at_once")
def test_unfinished_work_of_another_count_is_refused_or_thrown_away_when_asked(photos, tmp_path):
    out = tmp_path / "out.mmc"
    stopped(photos, out, 30, **BUCKETS)
    with pytest.raises(mmcache.DifferentCacheError, match=r"buckets=4, .* buckets=5\."):
        build(photos, out, buckets=5)
    assert work_path(out).exists()
    cache = build(photos, out, buckets=5, exist="overwrite")
    assert len(cache.recipe.shapes) == 5
    assert names(tmp_path) == ["out.mmc"]


@pytest.mark.usefixtures("noted_at_once")
def test_an_overwriting_build_that_was_interrupted_goes_on(photos, tmp_path, monkeypatch):
    out = build(photos, tmp_path / "out.mmc", buckets=2).path
    stopped(photos, out, 30, **BUCKETS, exist="overwrite")
    told = decoded(monkeypatch)
    cache = build(photos, out, exist="overwrite")
    assert len(told) <= 40
    assert bytes_of(out) == bytes_of(build(photos, tmp_path / "anew.mmc").path)
    assert len(cache.recipe.shapes) == 4


def test_an_update_keeps_the_shapes_and_copies_records(tmp_path, monkeypatch):
    folder = paint_folder(tmp_path / "in", 30, longest=220)
    first = build(folder, tmp_path / "a.mmc")
    shapes = first.recipe.buckets
    flat_pictures(folder)
    assert mmcache.plan(folder, **BUCKETS).recipe.buckets != shapes
    with pytest.raises(mmcache.DifferentCacheError, match="40 added"):
        build(folder, first.path)
    told = decoded(monkeypatch)
    cache = build(folder, first.path, exist="update")
    assert len(told) == 40
    assert len(cache) == 70
    assert cache.recipe.buckets == shapes
    settled = build(folder, tmp_path / "settled.mmc", buckets=shapes)
    assert bytes_of(cache.path) == bytes_of(settled.path)
    anew = build(folder, first.path, exist="overwrite")
    assert anew.recipe.buckets == mmcache.plan(folder, **BUCKETS).recipe.buckets


@pytest.mark.usefixtures("noted_at_once")
def test_an_update_that_was_interrupted_goes_on(tmp_path, monkeypatch):
    folder = paint_folder(tmp_path / "in", 30, longest=220)
    first = build(folder, tmp_path / "a.mmc")
    flat_pictures(folder)
    stopped(folder, first.path, 30, **BUCKETS, exist="update")
    told = decoded(monkeypatch)
    cache = build(folder, first.path, exist="update")
    assert len(told) <= 20
    settled = build(folder, tmp_path / "settled.mmc", buckets=first.recipe.buckets)
    assert bytes_of(cache.path) == bytes_of(settled.path)


# What else a cache can ---------------------------------------------------------------------------


def test_one_bucket_is_one_shape(photos, tmp_path):
    cache = build(photos, tmp_path / "a.mmc", buckets=1)
    (shape,) = cache.recipe.shapes
    assert np.asarray(cache).shape == (60, *shape, 3)
    assert cache.recipe.shape == (*shape, 3)


def test_it_converts_verifies_compares_and_exports(photos, tmp_path):
    cache = build(photos, tmp_path / "a.mmc")
    other = mmcache.convert(cache, tmp_path / "b.zarr", progress=False)
    assert other.fingerprint == cache.fingerprint
    assert other.recipe == cache.recipe
    assert bytes_of(other.path) == bytes_of(build(photos, tmp_path / "c.zarr").path)
    assert mmcache.verify(other, progress=False).ok
    asked = mmcache.Recipe(**BUCKETS, resampler="auto")
    assert mmcache.compare(cache, photos, recipe=asked, progress=False).recipe == {}
    told = mmcache.compare(cache, photos, recipe=replace(asked, buckets=3), progress=False)
    assert told.recipe == {"buckets": (4, 3)}
    assert "buckets=4 then, 3 asked for" in repr(told)
    shapes = cache.recipe.buckets
    fewer = mmcache.Recipe(**(BUCKETS | {"buckets": shapes[:2]}))
    told = mmcache.compare(cache, photos, recipe=fewer, progress=False)
    assert json.loads(json.dumps(told.to_json()))["recipe"]["buckets"]["asked"] == [
        list(one) for one in shapes[:2]
    ]
    assert f"{tuple(map(tuple, shapes[:2]))} asked for" in repr(told)
    assert mmcache.export(cache[:3], tmp_path / "out", progress=False).is_dir()
    assert "in 4 shapes" in repr(cache)
    assert mmcache.explain(cache, 3).placement == cache.placement(3)


@pytest.mark.parametrize("part", ["pixels", "records"])
def test_a_repair_makes_it_what_it_was(photos, tmp_path, part):
    cache = build(photos, tmp_path / "a.mmc")
    before = bytes_of(cache.path)
    file = cache.path / f"{part}.npy"
    data = bytearray(file.read_bytes())
    data[5_000] ^= 255
    file.write_bytes(data)
    assert not mmcache.verify(cache.path, progress=False).ok
    mmcache.repair(cache.path, photos, progress=False)
    assert bytes_of(cache.path) == before


def test_masks_land_where_their_pictures_do(photos, tmp_path):
    cache = build(photos, tmp_path / "a.mmc")
    masks = {"mode": "P", "resample": "nearest", "like": cache, "progress": False}
    folder = tmp_path / "masks"
    for key, height, width in zip(
        cache.keys, cache.columns["height"], cache.columns["width"], strict=True
    ):
        file = (folder / key).with_suffix(".png")
        file.parent.mkdir(parents=True, exist_ok=True)
        mmcache.testing.paint(Size(int(height), int(width)), 0, "L").save(file)
    made = mmcache.build(folder, tmp_path / "m.mmc", **masks)
    assert np.array_equal(made.shapes[:, :2], cache.shapes[:, :2])
    assert [made.placement(row) for row in range(60)] == [cache.placement(r) for r in range(60)]
    for asked in ({"resize": "bucket"}, {"resize": "bucket", "buckets": 4}):
        again = mmcache.build(folder, tmp_path / "m.mmc", **masks, **asked)
        assert again.fingerprint == made.fingerprint
    with pytest.raises(mmcache.SettingError, match=r"buckets=5 .*leave it out"):
        mmcache.build(folder, tmp_path / "m.mmc", **masks, resize="bucket", buckets=5)


def test_the_command_line_builds_buckets(photos, tmp_path, capsys):
    out = tmp_path / "a.mmc"
    common = ["build", str(photos), str(out), "--size", "96", "--resize", "bucket", "--quiet"]
    assert main([*common, "--buckets", "3", "--multiple-of", "8"]) == 0
    cache = mmcache.open(out)
    assert len(cache.recipe.shapes) == 3
    shapes = ",".join(f"{height}x{width}" for height, width in cache.recipe.shapes)
    assert main([*common, "--buckets", shapes, "--multiple-of", "8"]) == 0
    assert main([*common, "--buckets", "2", "--multiple-of", "8"]) == 1
    assert re.search(r"buckets=3, .* buckets=2\.", capsys.readouterr().err)
    assert main(["plan", str(photos), "--resize", "bucket", "--quiet"]) == 0
    assert capsys.readouterr().out.count("cut away") == 9
    assert main([*common, "--buckets", "96"]) == 1
    for nonsense in ("0", "8,9", "8x9x3"):
        assert main([*common[:2], str(tmp_path / "b.mmc"), *common[3:], "--buckets", nonsense]) == 2
    with pytest.raises(SystemExit):
        main([*common, "--buckets", "many"])
