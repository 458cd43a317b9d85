"""Shapes that waste little, against every division that there is."""

from __future__ import annotations

from itertools import combinations, pairwise, product

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mmcache import ladders
from mmcache.ladders import Rule, ladder, wasted

EDGES = st.integers(1, 30)
SIZES = st.lists(st.tuples(EDGES, EDGES), min_size=1, max_size=8, unique=True)
FEW = st.lists(st.tuples(*[st.integers(1, 12)] * 2), min_size=1, max_size=7, unique=True)
COUNTS = st.lists(st.integers(1, 9), min_size=8, max_size=8)


def arrays(sizes, counts):
    return np.array(sizes, np.int64), np.array(counts[: len(sizes)], np.int64)


def up(edge, multiple_of):
    return -(-edge // multiple_of) * multiple_of


def loss(size, shape):
    """Count pixel by pixel: those of the shape that have no picture, and the other way round."""
    inside = {(y, x) for y in range(size[0]) for x in range(size[1])}
    frame = {(y, x) for y in range(shape[0]) for x in range(shape[1])}
    return len(frame - inside), len(inside - frame)


def total(sizes, counts, found):
    padded, cut = wasted(sizes, found.shapes[found.which])
    return int(((padded + cut) * counts).sum())


def divisions(length, count):
    """Yield every division of a row of things into at most *count* stretches."""
    for number in range(min(count, length)):
        for cuts in combinations(range(1, length), number):
            bounds = [0, *cuts, length]
            yield [range(*pair) for pair in pairwise(bounds)]


def cheapest_division(sizes, counts, count, cost):
    """Try every division of sizes that are in their order."""
    return min(
        sum(cost(sizes[part.start : part.stop], counts[part.start : part.stop]) for part in parts)
        for parts in divisions(len(sizes), count)
    )


def holding_cost(multiple_of):
    def cost(sizes, counts):
        height, width = (up(int(edge), multiple_of) for edge in sizes.max(axis=0))
        return int((counts * (height * width - sizes.prod(axis=1))).sum())

    return cost


def cutting_cost(every, multiple_of, bound=None, *, only_at_the_bound=False):
    """The least of any shape; or of the one that holds all, and of those that cannot grow.

    None need be larger than the largest of *every* size.
    """
    top = [up(int(edge), multiple_of) for edge in every.max(axis=0)]
    heights, widths = (range(multiple_of, edge + 1, multiple_of) for edge in top)
    shapes = {(h, w) for h, w in product(heights, widths) if bound is None or h * w <= bound}

    def can_grow(shape):
        return {(shape[0] + multiple_of, shape[1]), (shape[0], shape[1] + multiple_of)} & shapes

    def cost(sizes, counts):
        largest = tuple(up(int(edge), multiple_of) for edge in sizes.max(axis=0))
        allowed = shapes
        if only_at_the_bound:
            allowed = [shape for shape in shapes if shape == largest or not can_grow(shape)]
        return min(int((counts * sum(wasted(sizes, np.array(shape)))).sum()) for shape in allowed)

    return cost


@given(st.tuples(EDGES, EDGES), st.tuples(EDGES, EDGES))
def test_what_is_wasted_is_what_is_in_one_and_not_in_the_other(size, shape):
    told = wasted(np.array(size), np.array(shape))
    assert tuple(int(one) for one in told) == loss(size, shape)


@settings(max_examples=150)
@given(SIZES, COUNTS, st.integers(1, 5), st.integers(1, 4))
def test_in_each_order_no_division_pads_less(sizes, counts, count, multiple_of):
    sizes, counts = arrays(sizes, counts)
    rule = Rule(multiple_of=multiple_of)
    found = ladder(sizes, counts, count, rule)
    assert len(found.shapes) <= count
    assert (found.shapes % multiple_of == 0).all()
    assert (sizes <= found.shapes[found.which]).all()
    for order in ladders._orders(sizes):
        ordered = ladders._Sizes(sizes[order], counts[order])
        divided = ladders._divided(ordered, count, rule, np.empty((0, 2), np.int64))
        assert not divided.cuts.any()
        least = cheapest_division(*ordered, count, holding_cost(multiple_of))
        # Each goes to the cheapest bucket, which may be another than that of its neighbours.
        assert ladders._cheapest(sizes, divided)[1] @ counts <= least
        assert total(sizes, counts, found) <= least


@settings(max_examples=100)
@given(FEW, COUNTS, st.integers(1, 4), st.integers(1, 3))
def test_in_each_order_no_division_wastes_less_where_all_may_be_cut(
    sizes, counts, count, multiple_of
):
    sizes, counts = arrays(sizes, counts)
    found = ladder(sizes, counts, count, Rule(multiple_of=multiple_of, crops=True))
    assert (found.shapes % multiple_of == 0).all()
    cost = cutting_cost(sizes, multiple_of)
    for order in ladders._orders(sizes):
        least = cheapest_division(sizes[order], counts[order], count, cost)
        assert total(sizes, counts, found) <= least


@settings(max_examples=100)
@given(FEW, COUNTS, st.integers(1, 4), st.integers(1, 3), st.integers(9, 144))
def test_in_each_order_no_division_wastes_less_where_there_is_a_bound(
    sizes, counts, count, multiple_of, bound
):
    sizes, counts = arrays(sizes, counts)
    rule = Rule(multiple_of=multiple_of, max_pixels=bound)
    found = ladder(sizes, counts, count, rule)
    assert (found.shapes.prod(axis=1) <= bound).all()
    cost = cutting_cost(sizes, multiple_of, bound, only_at_the_bound=True)
    for order in ladders._orders(sizes):
        least = cheapest_division(sizes[order], counts[order], count, cost)
        assert total(sizes, counts, found) <= least


@given(SIZES, COUNTS, st.integers(1, 3))
def test_a_bound_that_is_never_met_changes_nothing(sizes, counts, count):
    sizes, counts = arrays(sizes, counts)
    one = ladder(sizes, counts, count, Rule())
    other = ladder(sizes, counts, count, Rule(max_pixels=900))
    assert one.shapes.tolist() == other.shapes.tolist()


@settings(max_examples=60)
@given(
    SIZES, COUNTS, st.integers(1, 4), st.booleans(), st.none() | st.integers(40, 500),
)  # fmt: skip
def test_each_size_is_where_it_wastes_least(sizes, counts, count, crops, bound):
    sizes, counts = arrays(sizes, counts)
    found = ladder(sizes, counts, count, Rule(crops=crops, max_pixels=bound))
    assert sorted(set(found.which.tolist())) == list(range(len(found.shapes)))
    assert found.shapes.tolist() == sorted(found.shapes.tolist())
    for size, which in zip(sizes, found.which, strict=True):
        padded, cut = wasted(size, found.shapes)
        free = cut == 0  # where it is held it may always go
        assert (padded + cut)[which] <= (padded + cut)[free].min(initial=1 << 60)


def test_with_as_many_buckets_as_sizes_nothing_is_wasted():
    sizes = np.array([(h, w) for h in range(3, 9) for w in range(2, 7)], np.int64)
    counts = np.ones(len(sizes), np.int64)
    for rule in (Rule(), Rule(crops=True), Rule(max_pixels=48)):
        found = ladder(sizes, counts, len(sizes), rule)
        assert found.shapes.tolist() == sizes.tolist()
        assert total(sizes, counts, found) == 0


def test_of_very_many_sizes_those_that_are_near_are_merged(monkeypatch):
    random = np.random.default_rng(0)
    sizes = np.unique(random.integers(50, 400, (3_000, 2)), axis=0)
    counts = random.integers(1, 9, len(sizes))
    merged = ladders._merged(ladders._Sizes(sizes, counts))
    assert len(merged.sizes) <= 1_000
    assert merged.counts.sum() == counts.sum()
    quick = ladder(sizes, counts, 8, Rule())
    assert (sizes <= quick.shapes[quick.which]).all()
    assert {tuple(shape) for shape in quick.shapes} <= set(
        product(sizes[:, 0].tolist(), sizes[:, 1].tolist())
    )
    monkeypatch.setattr(ladders, "_MOST_SIZES", 3_000)
    slow = ladder(sizes, counts, 8, Rule())
    assert total(sizes, counts, quick) < 1.05 * total(sizes, counts, slow)


def test_of_very_many_edges_the_last_steps_are_climbed(monkeypatch):
    random = np.random.default_rng(2)
    sizes = np.unique(random.integers(50, 400, (300, 2)), axis=0)
    counts = random.integers(1, 9, len(sizes))
    rule = Rule(crops=True, max_pixels=90_000)
    climbed = ladder(sizes, counts, 5, rule)
    assert (climbed.shapes.prod(axis=1) <= 90_000).all()
    monkeypatch.setattr(ladders, "_STEPS", ())
    assert total(sizes, counts, climbed) < total(sizes, counts, ladder(sizes, counts, 5, rule))


@pytest.mark.parametrize("crops", [False, True])
def test_numbers_of_millions_do_not_overflow(crops):
    sizes = np.array([[60_000, 50_000], [50_000, 60_000], [9, 9]], np.int64)
    counts = np.array([1_000_000, 1_000_000, 1_000_000], np.int64)
    found = ladder(sizes, counts, 2, Rule(crops=crops))
    assert len(found.shapes) == 2
    assert [9, 9] in found.shapes.tolist()
