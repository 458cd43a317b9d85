"""Marks are sets of numbers: Python's own sets are the oracle."""

from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mmcache import marks
from mmcache.marks import Marks

LENGTHS = st.sampled_from([0, 1, 7, 8, 9, 63, 64, 100, 4095, 4096, 4097, 9000])


@st.composite
def sets(draw, count=1):
    """A length and so many sets of numbers below it, dense, sparse or in runs."""
    length = draw(LENGTHS)
    picked = []
    for _ in range(count):
        seed = np.random.default_rng(draw(st.integers(0, 1000)))
        mask = seed.random(length) < draw(st.sampled_from([0, 0.001, 0.3, 0.99, 1]))
        start, stop = sorted(draw(st.tuples(*[st.integers(0, length)] * 2)))
        mask[start:stop] = draw(st.booleans())
        picked.append(set(np.flatnonzero(mask).tolist()))
    return length, *picked


def marks_of(length, numbers):
    mask = np.isin(np.arange(length), list(numbers))
    return Marks.where(length, lambda start, stop: mask[start:stop])


@given(sets())
def test_marks_have_what_was_marked_in_order(given):
    length, numbers = given
    marked = marks_of(length, numbers)
    assert len(marked) == len(numbers)
    assert list(marked.rows()) == sorted(numbers)
    everything = np.arange(length)
    assert marked.has(everything).tolist() == [number in numbers for number in range(length)]
    assert [number in marked for number in range(min(length, 70))] == [
        number in numbers for number in range(min(length, 70))
    ]


@given(sets(2))
def test_marks_are_united_cut_and_subtracted_as_sets_are(given):
    length, one, other = given
    mine, theirs = marks_of(length, one), marks_of(length, other)
    assert list((mine | theirs).rows()) == sorted(one | other)
    assert list((mine & theirs).rows()) == sorted(one & other)
    assert list((mine - theirs).rows()) == sorted(one - other)


@given(sets(), st.integers(0, 9100), st.integers(0, 9100))
def test_places_are_those_of_a_sorted_list(given, start, stop):
    length, numbers = given
    marked, listed = marks_of(length, numbers), sorted(numbers)
    assert marked.numbers(start, stop).tolist() == listed[start:stop]
    assert marked.below(start) == sum(number < start for number in listed)


@given(LENGTHS, st.integers(0, 9100), st.integers(0, 9100))
def test_a_stretch_is_a_slice_of_all_numbers(length, start, stop):
    assert list(Marks.between(length, start, stop).rows()) == list(range(length))[start:stop]


@given(sets(), st.integers(1, 50))
def test_runs_put_together_are_the_numbers(given, most):
    length, numbers = given
    marked = marks_of(length, numbers)
    runs = marked.runs(length + 1)
    assert [number for start, stop in runs for number in range(start, stop)] == sorted(numbers)
    assert all(before < after for (_, before), (after, _) in pairwise(runs))
    assert marked.runs(most) == runs[:most]


def test_runs_that_cross_parts_stay_whole(monkeypatch):
    monkeypatch.setattr(marks, "_SPAN", 4096)
    mask = np.ones(20_000, bool)
    mask[[0, 5000, 19_990]] = False
    marked = Marks.where(20_000, lambda start, stop: mask[start:stop])
    assert marked.runs(10) == [(1, 5000), (5001, 19_990), (19_991, 20_000)]
    assert list(marked.rows()) == np.flatnonzero(mask).tolist()


@pytest.mark.parametrize(("start", "stop"), [(0, 3_000_000), (17, 2_999_999), (5, 6)])
def test_what_follows_one_another_is_a_range(start, stop):
    assert Marks.between(3_000_000, start, stop).rows() == range(start, stop)


def test_a_million_marks_are_a_bit_each():
    marked = Marks.where(1_000_000, lambda start, stop: np.arange(start, stop) % 3 == 0)
    assert marked._bits.nbytes + marked._before.nbytes < 130_000
