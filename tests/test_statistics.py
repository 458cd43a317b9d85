"""What pixels are like, against numpy on all of them at once."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import mmcache
from mmcache import SelectionError
from mmcache.statistics import _spread
from mmcache.testing import paint_folder

SETTINGS = {
    "ragged": {"size": 40},
    "uniform": {"size": 32, "resize": "crop"},
    "padded": {"size": 36, "resize": "pad", "background": "white"},
    "multiples": {"size": 30, "multiple_of": 16},
    "grey": {"size": 40, "mode": "L"},
    "clear": {"size": 40, "mode": "RGBA"},
    "deep": {"size": 24, "mode": "I;16"},
    "numbers": {"size": 24, "mode": "L", "resample": "nearest"},
}


@pytest.fixture(scope="module")
def photos(tmp_path_factory):
    return paint_folder(tmp_path_factory.mktemp("source") / "photos", 70, longest=120)


@pytest.fixture(scope="module")
def caches(photos, tmp_path_factory):
    folder = tmp_path_factory.mktemp("caches")
    return {
        name: mmcache.build(photos, folder / f"{name}.mmc", progress=False, **settings)
        for name, settings in SETTINGS.items()
    }


def valid(cache, row):
    """The part of a record that is no padding."""
    placement = cache.placement(row)
    (top, left), (height, width) = placement.padding, placement.valid
    return cache[row][top : top + height, left : left + width]


def near(one, other):
    np.testing.assert_allclose(one, other, rtol=1e-12, atol=1e-15)


@pytest.mark.parametrize("name", SETTINGS)
def test_figures_are_those_of_numpy_over_all_pixels(caches, name):
    cache = caches[name]
    told = mmcache.stats(cache, progress=False)
    white = cache.recipe.brightest
    parts = [valid(cache, row) for row in range(len(cache))]
    pixels = np.concatenate([part.reshape(-1, cache.recipe.channels) for part in parts])
    near(told.mean, pixels.mean(axis=0, dtype=np.float64) / white)
    near(told.std, pixels.std(axis=0, dtype=np.float64) / white)
    assert told.minimum == tuple(pixels.min(axis=0).tolist())
    assert told.maximum == tuple(pixels.max(axis=0).tolist())
    assert (told.pictures, told.pixels) == (70, len(pixels))
    for channel, counts in enumerate(told.histogram):
        assert np.array_equal(counts, np.bincount(pixels[:, channel], minlength=white + 1))
    colours = 3 if cache.recipe.mode == "RGBA" else cache.recipe.channels
    for row, part in enumerate(parts):
        colour = part[..., :colours].astype(np.float64) / white
        assert told.brightness[row] == pytest.approx(colour.mean(), rel=1e-6)
        spread = colour.var(axis=(0, 1)).mean() ** 0.5
        assert told.contrast[row] == pytest.approx(spread, rel=1e-6, abs=1e-9)


def test_padding_counts_if_it_is_asked_for(caches):
    cache = caches["padded"]
    told = mmcache.stats(cache, padding=True, progress=False)
    everything = np.asarray(cache).reshape(-1, 3)
    near(told.mean, everything.mean(axis=0, dtype=np.float64) / 255)
    assert told.mean > mmcache.stats(cache, progress=False).mean  # it is white


@pytest.mark.parametrize("workers", [1, 3])
def test_the_number_of_threads_changes_nothing(caches, workers):
    told, other = (
        mmcache.stats(caches["ragged"], workers=some, progress=False) for some in (workers, 2)
    )
    assert told.mean == other.mean
    assert told.std == other.std
    assert np.array_equal(told.brightness, other.brightness)


def test_a_narrower_cache_is_told_in_its_own_order(caches):
    cache = caches["uniform"]
    whole = mmcache.stats(cache, progress=False)
    rows = [50, 3, 9, 3]
    told = mmcache.stats(cache[rows], progress=False)
    assert np.array_equal(told.brightness, whole.brightness[rows])
    near(told.mean, np.asarray(cache[rows]).mean(axis=(0, 1, 2)) / 255)
    darkest = cache[np.argsort(whole.brightness)[:5]]
    assert (
        mmcache.stats(darkest, progress=False).brightness.tolist() == sorted(whole.brightness)[:5]
    )


def test_a_path_will_do_and_an_empty_cache_will_not(caches):
    cache = caches["grey"]
    assert mmcache.stats(cache.path, progress=False).mean == mmcache.stats(cache).mean
    with pytest.raises(SelectionError, match="there is no picture"):
        mmcache.stats(cache[:0])


def test_they_print_and_are_json(caches):
    told = mmcache.stats(caches["clear"], progress=False)
    assert "red, green, blue, alpha" in repr(told)
    assert f"{told.mean[0]:.4f}" in told._repr_html_()
    assert told.to_json()["std"] == list(told.std)
    assert sum(told.to_json()["histogram"][0]) == told.pixels


def test_progress_is_told_to_the_end(caches):
    calls = []
    mmcache.stats(caches["ragged"], progress=lambda *call: calls.append(call))
    assert calls[-1] == (70, 70)
    assert calls == sorted(calls)


@given(st.lists(st.integers(0, 1 << 50), min_size=2, max_size=40).filter(any))
def test_mean_and_deviation_are_exact_however_many_pixels_there_are(counts):
    mean, std = _spread(counts, len(counts) - 1)
    levels = np.arange(len(counts)) / (len(counts) - 1)
    weights = np.array(counts, np.float64)
    expected = np.average(levels, weights=weights)
    assert mean == pytest.approx(expected, rel=1e-12)
    near_zero = np.sqrt(np.average((levels - expected) ** 2, weights=weights))
    assert std == pytest.approx(near_zero, rel=1e-9, abs=1e-12)
