"""Libraries that know nothing of mmcache read its caches: dask and xarray, over zarr and h5py."""

import h5py
import numpy as np
import pytest

import mmcache
from mmcache import layout
from mmcache.stores import zarr as zarr_store

WHY = "{0} is not installed: `pip install {0}` to see that it reads what mmcache wrote"

RECIPES = {"ragged": {"size": 64}, "uniform": {"size": 48, "resize": "crop"}}


@pytest.fixture
def array():
    return pytest.importorskip("dask.array", reason=WHY.format("dask"))


@pytest.fixture
def xarray():
    pytest.importorskip("dask", reason=WHY.format("dask"))
    return pytest.importorskip("xarray", reason=WHY.format("xarray"))


def built(painted, where, ending, kind):
    """Build a cache, whose Zarr lies in several shards of several chunks."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(layout, "SLAB", 40 << 10)
        patch.setattr(layout, "CHUNK", 1 << 10)
        patch.setattr(zarr_store, "CHUNK", 1 << 10)
        patch.setattr(zarr_store, "MOST_SHARDS", 4)
        patch.setattr(zarr_store, "SHARD", 1)
        path = where / f"{kind}.{ending}"
        return mmcache.build(painted, path, progress=False, **RECIPES[kind])


@pytest.fixture(scope="module", params=RECIPES)
def group(request, painted, tmp_path_factory):
    """A Zarr cache."""
    cache = built(painted, tmp_path_factory.mktemp("neighbours"), "zarr", request.param)
    assert len(cache._flats) > 1
    return cache


@pytest.fixture(scope="module", params=RECIPES)
def file(request, painted, tmp_path_factory):
    """An HDF5 cache."""
    return built(painted, tmp_path_factory.mktemp("neighbours"), "h5", request.param)


def same_pictures(pixels, records, cache):
    """Tell whether lazy *pixels* hold the pictures of *cache*, each read on its own."""
    for row, (offset, *shape) in enumerate(np.asarray(records).tolist()):
        if pixels.ndim == 1:
            picture = pixels[offset : offset + np.prod(shape)].reshape(shape)
        else:
            picture = pixels[row]
        if not np.array_equal(np.asarray(picture), cache[row]):
            return False
    return len(records) == len(cache)


def test_dask_reads_pixels_and_records_of_a_zarr_cache(array, group):
    pixels, records = (
        array.from_zarr(str(group.path), component=name) for name in ("pixels", "records")
    )
    assert same_pictures(pixels, records.compute(), group)
    total = sum(int(picture.sum(dtype=np.int64)) for picture in group)
    assert pixels.sum(dtype=np.int64).compute() == total  # every shard, and gaps are zeros


def test_dask_reads_pixels_and_records_of_an_hdf5_cache(array, file):
    with h5py.File(file.path) as opened:
        dataset = opened["pixels"]
        pixels = array.from_array(dataset, chunks=(max(1, len(dataset) // 3), *dataset.shape[1:]))
        assert pixels.numblocks[0] > 1
        assert same_pictures(pixels, opened["records"], file)
        total = sum(int(picture.sum(dtype=np.int64)) for picture in file)
        assert pixels.sum(dtype=np.int64).compute() == total


def test_xarray_opens_a_zarr_cache_with_every_array(xarray, group):
    with xarray.open_zarr(str(group.path), consolidated=False) as opened:
        arrays = group._files.frame.arrays
        assert {*opened.variables} == {*arrays}
        for name, frame in arrays.items():
            assert opened[name].shape == frame.shape
            assert opened[name].dtype == np.dtype(frame.dtype)
        assert same_pictures(opened["pixels"].data, opened["records"], group)
        # Columns stand on the rows of the records, so that they can be selected together.
        assert opened["labels"].dims[0] == opened["records"].dims[0] == opened["mtime_ns"].dims[0]
        few = opened.isel({opened["labels"].dims[0]: slice(3, 7)})
        assert np.array_equal(few["labels"], group.labels[3:7])
        assert few["records"].shape == (4, 4)


def test_xarray_works_on_the_pixels_of_a_cache_of_one_shape(xarray, painted, tmp_path):
    cache = built(painted, tmp_path, "zarr", "uniform")
    import zarr  # noqa: PLC0415

    pixels = xarray.DataArray(
        zarr.open_group(cache.path, mode="r")["pixels"][...], dims=("row", "y", "x", "channel")
    )
    mean = pixels.groupby(xarray.DataArray(cache.labels, dims="row", name="label")).mean("row")
    for label in range(len(cache.classes)):
        assert np.allclose(mean.sel(label=label), np.mean(cache[cache.labels == label], axis=0))
