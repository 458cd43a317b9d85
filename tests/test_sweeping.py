"""Every record once, whatever is read how: statistics of the pixels, with numpy as the rule."""

import importlib
import math
import os
import subprocess
import sys

import numpy as np
import pytest
from PIL import Image

import mmcache
from mmcache import layout
from mmcache.stores import zarr as zarr_store
from mmcache.testing import paint, paint_folder

ULPS = 1e-14  # relative


def numbers_of(cache, *, padding=False):
    """Return all pixels of a cache, (pixels, channels), by its pictures and placements alone."""
    parts = []
    for row, picture in enumerate(cache):
        placed = cache.placement(row)
        top, left = (0, 0) if padding else placed.padding
        height, width = picture.shape[:2] if padding else placed.valid
        part = picture[top : top + height, left : left + width]
        parts.append(part.reshape(-1, picture.shape[2]))
    return parts


def check(cache, **how):
    """Compare with numpy, in 128-bit floats where there are such."""
    found = mmcache.stats(cache, progress=False, **how)
    parts = numbers_of(cache, padding=how.get("padding", False))
    whole = np.concatenate(parts)
    white = np.iinfo(whole.dtype).max
    exact = whole.astype(np.longdouble)
    assert found.mean == pytest.approx((exact.mean(axis=0) / white).tolist(), rel=ULPS, abs=0)
    assert found.std == pytest.approx((exact.std(axis=0) / white).tolist(), rel=ULPS, abs=0)
    assert found.minimum == tuple(whole.min(axis=0).tolist())
    assert found.maximum == tuple(whole.max(axis=0).tolist())
    assert (found.pictures, found.pixels) == (len(cache), len(whole))
    counted = np.stack([np.bincount(one, minlength=white + 1) for one in whole.T])
    assert found.histogram.dtype == np.int64
    assert np.array_equal(found.histogram, counted)
    assert len(found.channels) == cache.recipe.channels
    means = np.array([part[:, :3].mean(axis=0) / white for part in parts])
    assert found.brightness.dtype == found.contrast.dtype == np.float32
    assert np.allclose(found.brightness, means.mean(axis=1), rtol=1e-6, atol=0)
    spread = [math.sqrt((part[:, :3] / white).var(axis=0).mean()) for part in parts]
    assert np.allclose(found.contrast, spread, rtol=1e-6, atol=1e-12)
    return found


def test_statistics_are_those_of_numpy_on_the_whole_array(uniform):
    found = check(uniform)
    whole = np.asarray(uniform)
    assert found.mean == pytest.approx((whole / 255).mean(axis=(0, 1, 2)), rel=1e-12)
    assert found.std == pytest.approx((whole / 255).std(axis=(0, 1, 2)), rel=1e-12)


@pytest.mark.parametrize("workers", [1, 3])
def test_statistics_of_pictures_of_several_shapes(ragged, workers):
    check(ragged, workers=workers)


@pytest.mark.parametrize("mode", ["L", "RGBA", "I;16"])
def test_statistics_of_every_mode(painted, tmp_path, mode):
    cache = mmcache.build(painted, tmp_path / "out.mmc", size=40, mode=mode, progress=False)
    found = check(cache)
    assert found.histogram.shape[1] == (65_536 if mode == "I;16" else 256)


def test_statistics_of_the_numbers_of_masks(tmp_path):
    (tmp_path / "in").mkdir()
    for number in range(3):
        Image.fromarray(np.full((9, 7), number, np.uint8)).save(tmp_path / f"in/{number}.png")
    cache = mmcache.build(
        tmp_path / "in", tmp_path / "out.mmc", mode="P", resample="nearest", progress=False
    )
    found = check(cache)
    assert found.histogram[0, :4].tolist() == [63, 63, 63, 0]
    assert not found.contrast.any()


@pytest.mark.parametrize("settings", [{"resize": "pad"}, {"multiple_of": 32}])
@pytest.mark.parametrize("mode", ["RGB", "I;16"])
def test_padding_is_left_out_unless_it_is_asked_for(painted, tmp_path, settings, mode):
    cache = mmcache.build(
        painted, tmp_path / "out.mmc", size=60, mode=mode, background="white", progress=False,
        **settings,
    )  # fmt: skip
    without, with_it = check(cache), check(cache, padding=True)
    assert without.pixels < with_it.pixels == int(cache.shapes[:, :2].prod(axis=1).sum())
    assert without.mean[0] < with_it.mean[0]


@pytest.mark.parametrize("ending", ["mmc", "h5", "zarr"])
def test_statistics_are_the_same_in_every_format(ragged, tmp_path, ending):
    other = mmcache.convert(ragged, tmp_path / f"out.{ending}", progress=False)
    found, mine = mmcache.stats(other, progress=False), mmcache.stats(ragged, progress=False)
    assert np.array_equal(found.histogram, mine.histogram)
    assert found.brightness.tolist() == mine.brightness.tolist()


def test_statistics_of_a_cache_of_several_shards(tmp_path, monkeypatch):
    monkeypatch.setattr(layout, "SLAB", 1 << 18)
    monkeypatch.setattr(zarr_store, "MOST_SHARDS", 8)
    monkeypatch.setattr(zarr_store, "SHARD", 1)
    folder = paint_folder(tmp_path / "in", 24, longest=300)
    cache = mmcache.build(folder, tmp_path / "out.zarr", size=200, progress=False)
    assert len(cache.files.frame.arrays["pixels"].segments) > 2
    check(cache)
    check(cache[::-3])


def test_a_narrower_cache_has_its_own_statistics_in_its_own_order(ragged):
    random = np.random.default_rng(1)
    for index in (slice(3, 9), slice(None, None, -2), [5, 1, 5, 20], random.permutation(24)):
        check(ragged[index])
    whole = mmcache.stats(ragged, progress=False)
    turned = mmcache.stats(ragged[::-1], progress=False)
    assert turned.brightness.tolist() == whole.brightness[::-1].tolist()


def test_parts_of_any_size_add_up_to_the_same(ragged, monkeypatch):
    whole = mmcache.stats(ragged, progress=False)
    monkeypatch.setattr("mmcache.sweeping._PART_BYTES", 5_000)
    monkeypatch.setattr("mmcache.sweeping._SPAN", 7)
    parts = check(ragged)
    assert parts.to_json() == whole.to_json()
    assert parts.contrast.tolist() == whole.contrast.tolist()


def test_what_does_not_fit_into_memory_is_read_the_same(ragged, monkeypatch):
    monkeypatch.setattr("mmcache.sweeping.free_memory", lambda: 1_000)
    check(ragged)


def test_where_files_cannot_be_read_at_a_place_the_mapping_is_read(ragged, monkeypatch):
    monkeypatch.delattr(os, "preadv")
    check(ragged)


def test_a_single_colour_has_no_contrast_at_all(tmp_path):
    (tmp_path / "in").mkdir()
    for number, colour in enumerate([(0, 0, 0), (255, 255, 255), (7, 130, 201)]):
        Image.new("RGB", (37, 23), colour).save(tmp_path / f"in/{number}.png")
    cache = mmcache.build(tmp_path / "in", tmp_path / "out.mmc", progress=False)
    found = check(cache)
    assert found.contrast.tolist() == [0, 0, 0]
    assert found.brightness[:2].tolist() == [0, 1]


def test_half_black_and_half_white_has_a_contrast_of_a_half(tmp_path):
    (tmp_path / "in").mkdir()
    half = np.zeros((10, 10), np.uint8)
    half[:5] = 255
    Image.fromarray(half).save(tmp_path / "in/0.png")
    cache = mmcache.build(tmp_path / "in", tmp_path / "out.mmc", mode="L", progress=False)
    assert mmcache.stats(cache, progress=False).contrast.tolist() == [0.5]


def test_they_are_what_torch_normalises_by(uniform):
    torch = pytest.importorskip("torch")
    ours = importlib.import_module("mmcache.torch")

    found = mmcache.stats(uniform, progress=False)
    images = torch.from_numpy(np.array(uniform)).permute(0, 3, 1, 2)
    made = ours.Normalize(found.mean, found.std)(images)
    assert made.mean(dim=(0, 2, 3)).abs().max() < 1e-5
    assert (made.std(dim=(0, 2, 3), correction=0) - 1).abs().max() < 1e-5


def test_the_line_that_normalises_is_python_and_figures_cannot_be_changed(ragged):
    found = mmcache.stats(ragged, progress=False)
    mean = [round(one, 4) for one in found.mean]
    assert eval(found.code, {"Normalize": lambda mean, std: (mean, std)})[0] == tuple(mean)
    with pytest.raises(AttributeError):
        found.mean = (0, 0, 0)
    with pytest.raises(ValueError, match="read-only"):
        found.brightness[0] = 1


def test_nonsense_is_refused_in_a_sentence(ragged):
    with pytest.raises(mmcache.SelectionError, match="there is no picture"):
        mmcache.stats(ragged[:0], progress=False)
    with pytest.raises(mmcache.SettingError, match="workers=0"):
        mmcache.stats(ragged, workers=0, progress=False)


def test_a_file_that_is_cut_meanwhile_is_an_error_and_no_signal(painted, tmp_path):
    cache = mmcache.build(painted, tmp_path / "out.mmc", progress=False)
    os.truncate(tmp_path / "out.mmc/pixels.npy", 300_000)
    with pytest.raises(mmcache.DamagedCacheError, match="was cut"):
        mmcache.stats(cache, progress=False)


@pytest.mark.parametrize("error", [KeyboardInterrupt, RuntimeError])
def test_what_stops_it_gets_through(ragged, monkeypatch, error):
    monkeypatch.setattr("mmcache.sweeping._PART_ROWS", 1)

    def stop(done, _):
        if done > 5:
            raise error

    with pytest.raises(error):
        mmcache.stats(ragged, progress=stop)


MEMORY = """
import resource, sys
import mmcache, mmcache.reporting
import numpy as np
def most():
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss << 10
cache = mmcache.open(sys.argv[1])
mmcache.stats(cache[:8], workers=2, progress=False)
mmcache.duplicates(cache[:8], workers=2, progress=False)
before = most()
found = mmcache.stats(cache, workers=2, progress=False)
mmcache.duplicates(cache, workers=2, progress=False)
assert found.pixels == cache.nbytes
print(cache.nbytes, most() - before)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="ru_maxrss counts mapped pages as Linux does")
def test_memory_stays_flat(tmp_path):
    folder = tmp_path / "in"
    folder.mkdir()
    paint(mmcache.Size(512, 512)).convert("L").save(folder / "0.bmp")
    for number in range(1, 600):
        os.link(folder / "0.bmp", folder / f"{number}.bmp")
    mmcache.build(folder, tmp_path / "out.mmc", size=512, mode="L", progress=False)
    ran = subprocess.run(
        [sys.executable, "-c", MEMORY, tmp_path / "out.mmc"],
        capture_output=True, text=True, check=True, timeout=100,
    )  # fmt: skip
    nbytes, grown = map(int, ran.stdout.split())
    assert nbytes == 150 << 20
    assert grown < 60 << 20
