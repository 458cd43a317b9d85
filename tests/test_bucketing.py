"""Batches of one shape each: every row once, the same again for the same seed, nothing hidden."""

from __future__ import annotations

import json
import pickle
import subprocess
import sys
import warnings

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

import mmcache
from mmcache.chances import permuted
from mmcache.geometry import Size
from mmcache.testing import paint_folder

BATCH = 4


@pytest.fixture(scope="module")
def cache(tmp_path_factory):
    folder = tmp_path_factory.mktemp("bucketing")
    paint_folder(folder / "photos", 60, longest=160)
    return mmcache.build(folder / "photos", folder / "a.mmc", size=64, progress=False)


@pytest.fixture(scope="module")
def few(cache):
    return mmcache.buckets(cache, BATCH, count=5)


def padded_batch(cache, rows, shape):
    """Pad, or cut, each picture into the upper left corner of a batch."""
    batch = np.zeros((len(rows), *shape, 3), np.uint8)
    for place, row in enumerate(rows):
        part = cache[int(row)][: shape[0], : shape[1]]
        batch[place, : part.shape[0], : part.shape[1]] = part
    return batch


def naive_waste(cache, batch_size, multiple_of=1):
    order = permuted(len(cache), 0)
    pixels = own = 0
    for start in range(0, len(order), batch_size):
        shapes = [cache[int(row)].shape for row in order[start : start + batch_size]]
        height, width = (
            -(-max(shape[axis] for shape in shapes) // multiple_of) * multiple_of for axis in (0, 1)
        )
        pixels += len(shapes) * height * width
        own += sum(shape[0] * shape[1] for shape in shapes)
    return 1 - own / pixels


# The figures -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "settings",
    [
        {},
        {"multiple_of": 16},
        {"fit": "crop"},
        {"max_pixels": 1_500},
        {"max_pixels": 2_000, "multiple_of": 8, "fit": "crop"},
    ],
    ids=str,
)
def test_the_figures_are_what_counting_pixels_gives(cache, settings):
    found = mmcache.buckets(cache, BATCH, count=5, **settings)
    assert found.counts.tolist() == np.bincount(found.which).tolist()
    assert found.counts.sum() == len(cache)
    for bucket, shape in enumerate(found.shapes.tolist()):
        padded = cut = 0
        for row in np.flatnonzero(found.which == bucket):
            height, width, _ = cache[int(row)].shape
            kept = min(height, shape[0]) * min(width, shape[1])
            padded += shape[0] * shape[1] - kept
            cut += height * width - kept
        assert (found.padded[bucket], found.cut[bucket]) == (padded, cut)
        whole = shape[0] * shape[1] * found.counts[bucket] + cut
        assert found.bucket_waste[bucket] == pytest.approx((padded + cut) / whole)
    if "multiple_of" in settings:
        assert (found.shapes % settings["multiple_of"] == 0).all()
    if "max_pixels" in settings:
        assert found.shapes.prod(axis=1).max() <= settings["max_pixels"]
        assert found.cut.any()
    if not {"fit", "max_pixels"} & set(settings):
        assert not found.cut.any()
    assert found.naive_waste == pytest.approx(
        naive_waste(cache, BATCH, settings.get("multiple_of", 1))
    )


def test_more_buckets_waste_less_and_all_less_than_naive_padding(cache):
    wastes = [mmcache.buckets(cache, BATCH, count=count).waste for count in (2, 4, 8, 16)]
    assert wastes == sorted(wastes, reverse=True)
    assert wastes[1] < mmcache.buckets(cache, BATCH).naive_waste / 2
    exact = mmcache.buckets(cache, BATCH, count=len(cache))
    assert exact.waste == 0


def test_a_part_of_a_cache_has_buckets_of_its_own_rows(cache):
    part = cache[[7, 3, 3, 20, 41]]
    found = mmcache.buckets(part, 2, count=2)
    assert len(found.which) == 5
    assert found.which[1] == found.which[2]
    for row, bucket in enumerate(found.which):
        assert (part[row].shape[:2] <= found.shapes[bucket]).all()


def test_a_cache_of_buckets_has_just_those_and_no_waste(tmp_path):
    folder = paint_folder(tmp_path / "in", 60, longest=160)
    for count, multiple_of in ((5, 8), (12, 1)):
        cache = mmcache.build(
            folder, tmp_path / f"{count}.mmc", size=64, resize="bucket", buckets=count,
            multiple_of=multiple_of, progress=False,
        )  # fmt: skip
        found = mmcache.buckets(cache, BATCH)
        there = {tuple(shape[:2]) for shape in cache.shapes.tolist()}
        assert {tuple(shape) for shape in found.shapes.tolist()} == there
        assert there <= set(cache.recipe.shapes)
        assert found.waste == 0
        rows = found.batches()[0]
        assert np.array_equal(
            np.asarray(cache.batch(rows)), padded_batch(cache, rows, found.shape_of(rows))
        )


def test_a_cache_of_one_shape_is_one_bucket(uniform):
    found = mmcache.buckets(uniform, BATCH)
    assert found.shapes.tolist() == [[48, 48]]
    assert found.waste == found.naive_waste == 0


def test_it_prints_what_is_wasted_and_names_small_buckets(cache):
    found = mmcache.buckets(cache, 16, count=6)
    assert len(found.small)
    assert (found.counts[found.small] < 16).all()
    assert found.small.tolist() == [n for n, rows in enumerate(found.counts) if rows < 16]
    shown = repr(found)
    for number, (height, width) in enumerate(found.shapes.tolist()):
        (line,) = (line for line in shown.splitlines() if f"{height} x {width} " in line)
        assert f"{found.counts[number]} row" in line
        assert f"{found.bucket_waste[number]:.1%} waste" in line
        assert ("less than a batch" in line) == (number in found.small)
    assert f"{found.waste:.1%}" in shown
    assert f"{found.naive_waste:.1%}" in shown
    assert f"{len(found.small)} bucket" in shown
    assert "<table>" in found._repr_html_()
    told = json.loads(json.dumps(found.to_json()))
    assert sum(one["rows"] for one in told["buckets"]) == 60
    assert told["waste"] == found.waste
    assert "small" not in repr(mmcache.buckets(cache, 1))


@pytest.mark.parametrize(
    ("settings", "word"),
    [
        ({"batch_size": 0}, "batch_size=0"),
        ({"batch_size": 2.5}, "batch_size=2.5"),
        ({"count": 0}, "count=0"),
        ({"count": True}, "count=True"),
        ({"multiple_of": 0}, "multiple_of=0"),
        ({"max_pixels": 63, "multiple_of": 8}, "max_pixels=63 .* from 64"),
        ({"fit": "stretch"}, "fit='stretch'"),
    ],
    ids=str,
)
def test_a_setting_that_makes_no_sense_is_named(cache, settings, word):
    with pytest.raises(mmcache.SettingError, match=word):
        mmcache.buckets(cache, **({"batch_size": 4} | settings))


def test_of_nothing_there_are_no_buckets(cache):
    with pytest.raises(mmcache.SettingError, match="no picture"):
        mmcache.buckets(cache[:0], 4)


def test_buckets_travel(few):
    again = pickle.loads(pickle.dumps(few))
    assert repr(again) == repr(few)
    assert [rows.tolist() for rows in again.batches()] == [r.tolist() for r in few.batches()]


def test_a_million_rows_are_no_million_objects(few):
    """The drawn shapes are grouped, whatever the cache's length."""
    assert len(few.seen) == len(np.unique(few.seen[:, :2], axis=0))
    assert few.seen[:, 2].sum() == len(few.which)


# Batches -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("shuffle", [False, True])
@pytest.mark.parametrize("batch_size", [1, 3, 7, 100])
def test_every_row_comes_exactly_once_in_batches_of_one_bucket(cache, shuffle, batch_size):
    found = mmcache.buckets(cache, batch_size, count=5)
    batches = found.batches(shuffle=shuffle)
    assert sorted(np.concatenate(batches).tolist()) == list(range(60))
    incomplete = dict.fromkeys(range(len(found)), 0)
    for rows in batches:
        assert rows.dtype == np.int64
        (bucket,) = set(found.which[rows].tolist())
        assert 1 <= len(rows) <= batch_size
        incomplete[bucket] += len(rows) < batch_size
        assert found.shape_of(rows) == tuple(found.shapes[bucket])
        pictures = padded_batch(cache, rows, found.shape_of(rows))
        for picture, row in zip(pictures, rows, strict=True):
            height, width, _ = cache[int(row)].shape
            assert np.array_equal(picture[:height, :width], cache[int(row)])
    assert max(incomplete.values()) <= 1


def test_without_shuffling_rows_and_batches_are_in_order(few):
    batches = [rows.tolist() for rows in few.batches()]
    assert all(rows == sorted(rows) for rows in batches)
    assert [rows[0] for rows in batches] == sorted(rows[0] for rows in batches)
    for bucket in range(len(few)):
        inside = [row for rows in batches for row in rows if few.which[row] == bucket]
        assert inside == np.flatnonzero(few.which == bucket).tolist()


def told(batches):
    return [rows.tolist() for rows in batches]


def test_the_order_is_that_of_seed_and_epoch(few):
    first = told(few.batches(shuffle=True, seed=3, epoch=2))
    assert first == told(few.batches(shuffle=True, seed=3, epoch=2))
    for other in ({"seed": 4, "epoch": 2}, {"seed": 3, "epoch": 3}, {"seed": 2, "epoch": 3}):
        assert first != told(few.batches(shuffle=True, **other))
    # Both rows and batches: neither is in its own order, nor do buckets follow one another.
    assert any(rows != sorted(rows) for rows in first)
    order = [int(few.which[rows[0]]) for rows in first]
    assert order != sorted(order)
    for nonsense in ({"seed": -1}, {"seed": 0.5}, {"epoch": True}):
        with pytest.raises(mmcache.SettingError):
            few.batches(shuffle=True, **nonsense)


def test_the_rows_of_a_bucket_come_in_the_order_of_the_epoch(few):
    """As a naive loop over the shuffled rows would fill one batch a bucket."""
    filling = {bucket: [] for bucket in range(len(few))}
    expected = []
    for row in permuted(60, 7, 1).tolist():
        batch = filling[int(few.which[row])]
        batch.append(row)
        if len(batch) == BATCH:
            expected.append(tuple(batch))
            batch.clear()
    expected += [tuple(batch) for batch in filling.values() if batch]
    got = few.batches(shuffle=True, seed=7, epoch=1)
    assert sorted(tuple(rows.tolist()) for rows in got) == sorted(expected)


def test_dropping_leaves_out_less_than_a_batch_of_each_bucket(cache):
    found = mmcache.buckets(cache, 3, count=3)
    assert not len(found.small)
    batches = found.batches(drop_last=True)
    assert {len(rows) for rows in batches} == {3}
    assert len(batches) == (found.counts // 3).sum()
    there = np.concatenate(batches)
    assert len(np.unique(there)) == len(there)


def test_a_bucket_that_is_left_out_as_a_whole_is_warned_of(cache):
    found = mmcache.buckets(cache, 16, count=6)
    small, rows = len(found.small), int(found.counts[found.small].sum())
    match = rf"{small} buckets? of 6 never fill a batch of 16, .* {rows} rows? of 60"
    with pytest.warns(mmcache.SmallBucketWarning, match=match) as caught:
        batches = found.batches(drop_last=True)
    assert caught[0].filename == __file__
    assert not set(found.small) & set(found.which[np.concatenate(batches)])
    with pytest.warns(mmcache.SmallBucketWarning, match=match) as caught:
        sampler = found.sampler(drop_last=True)
    assert caught[0].filename == __file__
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        found.batches()
        found.sampler()
        assert len(list(sampler)) == len(sampler) == len(batches)
    assert issubclass(mmcache.SmallBucketWarning, UserWarning)


def test_rows_of_several_buckets_have_no_shape(few):
    one, other = (int(np.flatnonzero(few.which == bucket)[0]) for bucket in (0, 1))
    with pytest.raises(mmcache.ShapesDifferError, match="2 buckets"):
        few.shape_of([one, other])
    with pytest.raises(mmcache.ShapesDifferError):
        few.shape_of([])
    with pytest.raises(mmcache.RowError):
        few.shape_of([60])
    assert few.shape_of([one - 60]) == few.shape_of([one])
    assert isinstance(few.shape_of([one]), Size)
    assert all(type(edge) is int for edge in few.shape_of([one]))


# The sampler -------------------------------------------------------------------------------------


def test_each_iteration_is_an_epoch_of_its_own(few):
    sampler = few.sampler(seed=5)
    epochs = [list(sampler) for _ in range(3)]
    assert epochs == [told(few.batches(shuffle=True, seed=5, epoch=epoch)) for epoch in range(3)]
    assert all(type(row) is int for rows in epochs[0] for row in rows)
    sampler.set_epoch(1)
    assert sampler.epoch == 1
    next(iter(sampler))  # broken off: it has been an epoch
    assert list(sampler) == epochs[2]
    plain = few.sampler(shuffle=False)
    assert list(plain) == list(plain) == told(few.batches())
    with pytest.raises(mmcache.SettingError):
        sampler.set_epoch(-1)


@given(st.integers(1, 30), st.booleans(), st.booleans())
def test_ranks_share_all_batches_and_have_equally_many(few, world_size, drop_last, shuffle):
    settings = {"drop_last": drop_last, "shuffle": shuffle, "world_size": world_size}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", mmcache.SmallBucketWarning)
        samplers = [few.sampler(rank=rank, **settings) for rank in range(world_size)]
        ranks = [list(sampler) for sampler in samplers]
        every = told(few.batches(shuffle=shuffle, drop_last=drop_last))
    assert {len(rank) for rank in ranks} == {len(samplers[0])}
    taken = [ranks[turn % world_size][turn // world_size] for turn in range(sum(map(len, ranks)))]
    rest = len(every) % world_size
    if drop_last:
        assert taken == every[: len(every) - rest]
    else:
        repeated = (every * world_size)[: (world_size - rest) % world_size]
        assert taken == every + repeated


@pytest.mark.parametrize(
    "nonsense",
    [{"rank": 2, "world_size": 2}, {"rank": -1}, {"world_size": 0}, {"seed": -1}, {"rank": 0.5}],
    ids=str,
)
def test_a_rank_that_is_none_is_an_error(few, nonsense):
    with pytest.raises(mmcache.SettingError, match=next(iter(nonsense))):
        few.sampler(**nonsense)


@pytest.mark.parametrize("workers", [0, 2])
def test_torchs_dataloader_takes_the_sampler(cache, few, workers):
    data = pytest.importorskip("torch.utils.data")

    class Padded(data.Dataset):
        def __getitems__(self, rows):
            return rows, padded_batch(cache, rows, few.shape_of(rows))

    loader = data.DataLoader(
        Padded(), batch_sampler=few.sampler(seed=9), num_workers=workers, collate_fn=tuple
    )
    assert len(loader) == len(few.batches())
    for epoch in range(2):
        expected = told(few.batches(shuffle=True, seed=9, epoch=epoch))
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", DeprecationWarning)  # of fork, with threads about
            got = list(loader)
        assert [rows for rows, _ in got] == expected
        assert all(batch.shape[1:3] == few.shape_of(rows) for rows, batch in got)


# The drawing -------------------------------------------------------------------------------------


@pytest.mark.parametrize("count", [1, 3, 40])
def test_it_draws_every_bucket_in_a_colour_of_its_own(cache, count, tmp_path):
    found = mmcache.buckets(cache, BATCH, count=count)
    drawn = found.draw(edge=300)
    assert isinstance(drawn, Image.Image)
    assert 300 < drawn.width < 1_000
    assert 300 < drawn.height < 1_200
    # A bubble of the legend, which is one colour.
    colours = drawn.getcolors(1 << 20)
    plain = [number for number, colour in colours if max(colour) - min(colour) > 60]
    assert len(plain) >= len(found)
    drawn.save(tmp_path / "drawn.png")


def test_choosing_buckets_needs_no_pillow(cache):
    code = (
        "import sys, mmcache\n"
        f"found = mmcache.buckets(mmcache.open({str(cache.path)!r}), 4)\n"
        "found.batches(); repr(found)\n"
        "assert 'PIL' not in sys.modules\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
