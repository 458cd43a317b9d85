"""Windows of crops, against one-by-one loops that are written after the published rules."""

import math

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from mmcache import crops
from mmcache.chances import uniform
from mmcache.geometry import Size, place

edges = st.integers(1, 3000)
pictures = st.lists(st.tuples(edges, edges), min_size=1, max_size=20)
sizes = st.builds(Size, edges, edges)
seeds = st.integers(0, 2**32)
shares = st.floats(1e-6, 4)
shapes = st.floats(1e-3, 1e3)
LAST = 1 - 2.0**-53  # the largest draw


def edges_of(some):
    heights, widths = np.array(some, np.int64).reshape(-1, 2).T
    return heights, widths


def drawn(seed, count, each):
    """Draws as the package makes them, with the first and the last number among them."""
    draws = uniform(0, count, each, seed)
    draws[uniform(0, count, each, seed, purpose=2) < 0.05] = 0
    draws[uniform(0, count, each, seed, purpose=3) < 0.05] = LAST
    return draws


def are_inside(windows, heights, widths):
    top, left, height, width = windows.T
    return (
        windows.dtype == np.int64
        and windows.shape == (len(heights), 4)
        and bool(np.all((top >= 0) & (left >= 0) & (height >= 1) & (width >= 1)))
        and bool(np.all((top + height <= heights) & (left + width <= widths)))
    )


def rounded(value):
    return int(round(value))  # noqa: RUF046  # as torchvision writes it


def random_resized_one_by_one(height, width, scale, ratio, draws):
    """torchvision's rule for one picture, where each random number is the next of *draws*."""
    (vertical, horizontal), tries = draws[:2], iter(draws[2:])
    low, high = np.log(ratio[0]), np.log(ratio[1])
    for _ in range(10):
        area = height * width * (scale[0] + (scale[1] - scale[0]) * next(tries))
        aspect = np.exp(low + (high - low) * next(tries))
        w = rounded(math.sqrt(area * aspect))
        h = rounded(math.sqrt(area / aspect))
        if 0 < w <= width and 0 < h <= height:
            top = math.floor(vertical * (height - h + 1))
            left = math.floor(horizontal * (width - w + 1))
            return [top, left, h, w]
    w, h = width, height
    if width / height < min(ratio):
        h = max(1, rounded(width / min(ratio)))
    elif width / height > max(ratio):
        w = max(1, rounded(height * max(ratio)))
    return [(height - h) // 2, (width - w) // 2, h, w]


@given(pictures, sizes)
def test_a_centred_window_lies_where_a_build_with_crop_would_have_cut(some, size):
    heights, widths = edges_of(some)
    windows = crops.centred(heights, widths, size)
    assert are_inside(windows, heights, widths)
    for (top, left, *kept), (height, width) in zip(windows.tolist(), some, strict=True):
        assert kept == [min(height, size.height), min(width, size.width)]
        # What remains is halved as where padding is: the picture would be padded by that.
        padding = place(Size(*kept), Size(height, width), "pad").padding
        assert (top, left) == padding


@given(pictures, sizes, seeds)
def test_a_random_window_has_the_wanted_size_or_the_whole_edge(some, size, seed):
    heights, widths = edges_of(some)
    windows = crops.at_random(heights, widths, size, drawn(seed, len(some), 2))
    assert are_inside(windows, heights, widths)
    assert np.array_equal(windows[:, 2], np.minimum(heights, size.height))
    assert np.array_equal(windows[:, 3], np.minimum(widths, size.width))


@given(pictures, sizes)
def test_the_first_and_the_last_draw_are_the_first_and_the_last_place(some, size):
    heights, widths = edges_of(some)
    first = crops.at_random(heights, widths, size, np.zeros((len(some), 2)))
    last = crops.at_random(heights, widths, size, np.full((len(some), 2), LAST))
    assert not first[:, :2].any()
    assert np.array_equal(last[:, 0] + last[:, 2], heights)
    assert np.array_equal(last[:, 1] + last[:, 3], widths)


@given(
    pictures,
    st.tuples(shares, shares).map(sorted),
    st.tuples(shapes, shapes).map(sorted),
    seeds,
)
@example([(500, 375), (1, 1), (1, 3000), (3000, 1)], [0.08, 1.0], [3 / 4, 4 / 3], 0)
@example([(1, 1), (2, 2)], [1e-6, 1e-6], [3, 4], 0)  # the last resort would be empty
@example([(5, 5)], [0.25, 0.25], [1, 1], 0)  # a half is rounded to even
@example([(100, 100)], [2, 4], [1, 1], 0)  # nothing fits
def test_random_resized_windows_equal_a_loop_over_the_published_rule(some, scale, ratio, seed):
    heights, widths = edges_of(some)
    draws = drawn(seed, len(some), crops.DRAWS_RESIZED + 3)  # more than are needed
    windows = crops.random_resized(heights, widths, scale, ratio, draws)
    assert are_inside(windows, heights, widths)
    assert windows.tolist() == [
        random_resized_one_by_one(*one, scale, ratio, list(row))
        for one, row in zip(some, draws, strict=True)
    ]


@given(pictures, seeds)
def test_a_window_depends_on_its_own_picture_and_draws_alone(some, seed):
    heights, widths = edges_of(some)
    draws = drawn(seed, len(some), crops.DRAWS_RESIZED)
    settings = (0.08, 1.0), (3 / 4, 4 / 3)
    together = crops.random_resized(heights, widths, *settings, draws)
    alone = [
        crops.random_resized(heights[i:][:1], widths[i:][:1], *settings, draws[i:][:1])
        for i in range(len(some))
    ]
    assert np.array_equal(together, np.concatenate(alone))


def test_no_pictures_have_no_windows():
    none = np.empty(0, np.int64)
    assert crops.centred(none, none, Size(2, 2)).shape == (0, 4)
    assert crops.at_random(none, none, Size(2, 2), np.empty((0, 2))).shape == (0, 4)
    resized = crops.random_resized(none, none, (0.08, 1), (0.75, 4 / 3), np.empty((0, 22)))
    assert resized.shape == (0, 4)


# Distributions, on a fixed seed ------------------------------------------------------------------


MANY = 60_000


def surprise(counts, expected):
    """By how many standard deviations chi-squared is beyond what chance gives."""
    freedom = len(counts) - 1
    return (np.sum((counts - expected) ** 2 / expected) - freedom) / math.sqrt(2 * freedom)


def many(height, width):
    return np.full(MANY, height), np.full(MANY, width)


@pytest.mark.parametrize("size", [Size(3, 2), Size(6, 1), Size(9, 4)])
def test_every_place_is_as_likely_as_another(size):
    height, width = 7, 9
    draws = uniform(0, MANY, 2, seed=1)
    windows = crops.at_random(*many(height, width), size, draws)
    places = (height - min(height, size.height) + 1) * (width - size.width + 1)
    counts = np.bincount(windows[:, 0] * (width - size.width + 1) + windows[:, 1])
    assert len(counts) == places
    assert surprise(counts, MANY / places) < 4


def test_every_place_of_a_resized_window_is_as_likely_whatever_its_size():
    draws = uniform(0, MANY, crops.DRAWS_RESIZED, seed=2)
    windows = crops.random_resized(*many(12, 12), (0.08, 1.0), (3 / 4, 4 / 3), draws)
    tried = 0
    for size in np.unique(windows[:, 2:], axis=0):
        top, left = windows[np.all(windows[:, 2:] == size, axis=1), :2].T
        down, across = 13 - size
        if len(top) > 20 * down * across > 20:
            counts = np.bincount(top * across + left, minlength=down * across)
            assert surprise(counts, len(top) / (down * across)) < 5
            tried += 1
    assert tried > 20


def test_areas_are_uniform_and_shapes_are_uniform_in_their_logarithm():
    draws = uniform(0, MANY, crops.DRAWS_RESIZED, seed=3)
    # Large, so that rounding is nothing; and wide enough that every first try fits.
    windows = crops.random_resized(*many(60_000, 60_000), (0.1, 0.5), (1 / 2, 2), draws)
    height, width = windows[:, 2:].T.astype(float)
    for values, low, high in (
        (height * width / 60_000**2, 0.1, 0.5),
        (np.log(width / height), -math.log(2), math.log(2)),
    ):
        # The outermost may be rounded over the end.
        counts = np.histogram(np.clip(values, low, high), 50, (low, high))[0]
        assert surprise(counts, MANY / 50) < 4
    assert abs(np.corrcoef(height * width, np.log(width / height))[0, 1]) < 0.02
