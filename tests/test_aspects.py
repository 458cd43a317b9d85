"""Shapes to which pictures are cut: against every choice that there is."""

from itertools import combinations

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from mmcache import aspects
from mmcache.aspects import chosen_shapes
from mmcache.geometry import Size, closest, snug_shapes

EDGES = st.integers(1, 60)
SIZES = st.lists(st.tuples(EDGES, EDGES), min_size=1, max_size=12, unique=True)
COUNTS = st.lists(st.integers(1, 9), min_size=12, max_size=12)


def arrays(sizes, counts):
    return np.array(sizes, np.int64), np.array(counts[: len(sizes)], np.int64)


def cut(sizes, counts, shapes):
    """Add up, picture by picture, which part of each is cut."""
    total = 0.0
    for (height, width), count in zip(sizes.tolist(), counts.tolist(), strict=True):
        least = min(
            1 - min(width / height * s.height / s.width, height / width * s.width / s.height)
            for s in shapes
        )
        total += count * least
    return total


@settings(max_examples=150)
@given(SIZES, COUNTS, st.integers(1, 4), st.integers(3, 9), st.integers(1, 3))
def test_no_other_choice_of_shapes_cuts_less(sizes, counts, count, edge, multiple_of):
    possible = list(snug_shapes(Size(edge, edge), multiple_of))
    count = min(count, len(possible))
    sizes, counts = arrays(sizes, counts)
    chosen = chosen_shapes(sizes, counts, possible, count)
    assert len(set(chosen)) == count
    assert set(chosen) <= set(possible)
    assert list(chosen) == sorted(chosen)
    least = min(cut(sizes, counts, some) for some in combinations(possible, count))
    assert cut(sizes, counts, chosen) <= least + 1e-9


def test_where_fewer_shapes_would_do_the_rest_are_nearest_to_square():
    possible = list(snug_shapes(Size(64, 64), 1))
    sizes, counts = np.array([[64, 128]], np.int64), np.array([9], np.int64)
    chosen = set(chosen_shapes(sizes, counts, possible, 4))
    rest = chosen - {closest(Size(64, 128), possible)}
    assert len(rest) == 3
    assert Size(64, 64) in rest
    assert all(max(shape) / min(shape) < 1.1 for shape in rest)


def test_of_no_pictures_shapes_are_chosen_too():
    none = np.empty((0, 2), np.int64)
    possible = list(snug_shapes(Size(64, 64), 32))
    chosen = chosen_shapes(none, np.empty(0, np.int64), possible, 1)
    assert chosen == (Size(64, 64),)
    assert len(chosen_shapes(none, np.empty(0, np.int64), possible, 3)) == 3


def test_of_very_many_shapes_a_part_is_nearly_as_good(monkeypatch):
    random = np.random.default_rng(0)
    ratio = np.exp(random.normal(0.2, 0.4, 500))
    sizes = np.column_stack([np.full(500, 1_000), 1_000 * ratio]).astype(np.int64)
    counts = np.ones(500, np.int64)
    possible = list(snug_shapes(Size(256, 256), 1))
    every = cut(sizes, counts, chosen_shapes(sizes, counts, possible, 8))
    monkeypatch.setattr(aspects, "_MOST", 150)
    fewer = cut(sizes, counts, chosen_shapes(sizes, counts, possible, 8))
    assert every <= fewer < every * 1.02


def test_the_order_of_the_pictures_does_not_matter():
    random = np.random.default_rng(1)
    sizes = random.integers(50, 900, (400, 2))
    counts = random.integers(1, 5, 400)
    order = random.permutation(400)
    possible = list(snug_shapes(Size(128, 128), 8))
    one = chosen_shapes(sizes, counts, possible, 5)
    assert one == chosen_shapes(sizes[order], counts[order], possible[::-1], 5)
