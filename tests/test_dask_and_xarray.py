"""A cache as a lazy array: what it gives is what its pictures are, and what travels is no pixel."""

import pickle
import subprocess
import sys

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import mmcache
import mmcache.dask
import mmcache.xarray
from mmcache.errors import (
    DifferentCacheError,
    MissingLibraryError,
    MmcacheError,
    SettingError,
    ShapesDifferError,
)
from mmcache.stack import Stack

WHY = "{0} is not installed: `pip install {0}` to see a cache as a lazy array of it"
INDICES = st.one_of(
    st.integers(-24, 23),
    st.slices(24),
    st.lists(st.integers(-24, 23), max_size=9).map(lambda rows: np.array(rows, np.int64)),
)
INNER = st.one_of(st.integers(-48, 47), st.slices(48))


@pytest.fixture(scope="module")
def dask():
    return pytest.importorskip("dask", reason=WHY.format("dask"))


@pytest.fixture(scope="module")
def xarray():
    return pytest.importorskip("xarray", reason=WHY.format("xarray"))


@pytest.fixture(scope="module")
def caches(uniform, tmp_path_factory):
    """The same pictures where rows lie evenly, backwards, and anyhow; and in one file."""
    anyhow = uniform[np.random.default_rng(1).permutation(24)]
    where = tmp_path_factory.mktemp("stack") / "uniform.h5"
    return [uniform, uniform[::-1], anyhow, mmcache.convert(uniform, where, progress=False)]


@pytest.fixture
def read(monkeypatch):
    """Gather the numbers of pictures that are read at once."""
    counts = []
    plain = Stack._read

    def noted(self, rows):
        counts.append(len(self._cache[rows]))
        return plain(self, rows)

    monkeypatch.setattr(Stack, "_read", noted)
    return counts


def stacked(cache):
    return np.stack(list(cache)) if len(cache) else np.empty((0, 48, 48, 3), np.uint8)


# The array that both are made over ----------------------------------------------------------------


@given(which=st.integers(0, 3), rows=INDICES, top=INNER, left=INNER)
def test_a_part_of_a_stack_is_that_part_of_the_array(caches, which, rows, top, left):
    cache = caches[which]
    found = Stack(cache)[rows, top, left, slice(None)]
    # One axis after the other, from the last, so that numbers do not shift those before them.
    assert np.array_equal(found, stacked(cache)[:, :, left][:, top][rows])


def test_two_arrays_choose_rows_and_lines_of_each_as_isel_does(uniform):
    rows, lines = np.array([3, 1, 7]), np.array([0, 47, 5, 5])
    found = Stack(uniform)[rows, lines, slice(None), 1]
    assert np.array_equal(found, stacked(uniform)[np.ix_(rows, lines, range(48), [1])][..., 0])


@pytest.mark.parametrize("key", [(24, 0, 0, 0), (0, 48, 0, 0), (0, 0, 0, -4)])
def test_what_lies_outside_is_an_index_error(uniform, key):
    with pytest.raises(IndexError):
        Stack(uniform)[key]


def test_rows_that_lie_evenly_are_a_view_and_others_a_copy(uniform):
    plain = np.asarray(uniform)
    every = slice(None)
    for rows in (slice(3, 9), slice(20, 2, -3), 5):
        found = Stack(uniform)[rows, every, every, every]
        assert np.shares_memory(found, plain)
        assert not found.flags.writeable
    assert not np.shares_memory(Stack(uniform)[np.array([1, 5, 2]), every, every, every], plain)


# Dask ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("chunks", [1, 5, 24, 1000, "auto", "20 kB", np.int64(7)])
@pytest.mark.usefixtures("dask")
def test_a_dask_array_is_what_the_pictures_are(caches, chunks):
    for cache in caches:
        array = mmcache.dask.array(cache, chunks)
        assert (array.shape, array.dtype) == ((24, 48, 48, 3), np.dtype(np.uint8))
        assert np.array_equal(array.compute(scheduler="sync"), stacked(cache))
        if isinstance(chunks, (int, np.integer)):
            assert array.chunksize[0] == min(chunks, 24)


@pytest.mark.usefixtures("dask")
@given(rows=st.slices(24), lines=st.slices(48), chunks=st.integers(1, 30))
def test_slices_of_a_dask_array_are_those_of_the_array(caches, rows, lines, chunks):
    cache = caches[2]
    found = mmcache.dask.array(cache, chunks)[rows, lines].compute(scheduler="sync")
    assert np.array_equal(found, stacked(cache)[rows, lines])


@pytest.mark.usefixtures("dask")
def test_making_a_dask_array_reads_nothing(uniform, read):
    array = mmcache.dask.array(uniform, 6).mean(axis=0)
    assert read == []
    array.compute(scheduler="sync")
    assert read == [6] * 4


@pytest.mark.parametrize("scheduler", ["sync", "threads", "processes"])
def test_every_scheduler_gives_the_same(dask, caches, scheduler):
    for cache in caches:
        with dask.config.set(scheduler=scheduler, num_workers=2):
            total = mmcache.dask.array(cache, 7).sum(axis=(1, 2, 3), dtype=np.int64).compute()
        assert np.array_equal(total, stacked(cache).sum(axis=(1, 2, 3), dtype=np.int64))


@pytest.mark.slow
def test_workers_of_a_cluster_open_the_cache_themselves(uniform):
    distributed = pytest.importorskip("distributed", reason=WHY.format("distributed"))
    with (
        distributed.LocalCluster(n_workers=1, threads_per_worker=2, dashboard_address=None) as some,
        distributed.Client(some),
    ):
        total = mmcache.dask.array(uniform, 7).sum(dtype=np.int64).compute()
    assert total == stacked(uniform).sum(dtype=np.int64)


@pytest.mark.usefixtures("dask")
def test_what_travels_is_path_and_rows_and_never_pixels(uniform):
    array = mmcache.dask.array(uniform, 6)
    sent = pickle.dumps(dict(array.dask))
    assert len(sent) < 4000 < uniform.nbytes
    assert str(uniform.path).encode() in sent
    assert uniform[0].tobytes() not in sent


@pytest.mark.usefixtures("dask")
def test_a_cache_that_was_built_anew_is_not_read_as_the_one_that_was_sent(painted, tmp_path):
    how = {"size": 16, "resize": "crop", "progress": False}
    cache = mmcache.build(painted, tmp_path / "out.mmc", **how)
    sent = pickle.dumps(mmcache.dask.array(cache, 6))
    assert np.array_equal(pickle.loads(sent).compute(scheduler="sync"), stacked(cache))
    mmcache.build(painted, tmp_path / "out.mmc", exist="overwrite", **(how | {"resize": "stretch"}))
    with pytest.raises(DifferentCacheError):
        pickle.loads(sent)


@pytest.mark.usefixtures("dask")
def test_the_name_of_a_dask_array_is_that_of_its_pictures(uniform, ragged):
    def name(cache, **how):
        return mmcache.dask.array(cache, 6, **how).name

    assert name(uniform) == name(mmcache.open(uniform.path)) == name(uniform[:])
    others = [name(uniform[::-1]), name(uniform[[1, 2]]), name(ragged, pad=64), name(uniform)]
    others += [name(ragged, pad=65), name(ragged, pad=64, background=9)]
    assert len(set(others)) == len(others)


def test_pictures_of_several_shapes_are_padded_or_cut_as_a_batch_is(dask, ragged):
    with pytest.raises(ShapesDifferError, match=r"pass pad=\(height, width\) or crop="):
        mmcache.dask.array(ragged)
    for how in (
        {"pad": (70, 64)}, {"pad": 64, "centering": (0, 1), "background": (1, 2, 3)},
        {"pad": 30, "crop": 30}, {"crop": (9, 4)},
    ):  # fmt: skip
        expected = ragged.batch(slice(None), **how).images
        with dask.config.set(scheduler="sync"):
            array = mmcache.dask.array(ragged, 7, **how)
            assert array.shape == expected.shape
            assert np.array_equal(array.compute(), expected)
            assert np.array_equal(array[3:9, 1].compute(), expected[3:9, 1])


@pytest.mark.usefixtures("dask")
def test_an_array_that_cannot_be_is_refused_when_it_is_made(ragged, uniform):
    for how in ({"pad": "batch"}, {"crop": "random_resized"}, {"pad": 0}, {"centering": 5}):
        with pytest.raises(SettingError, match=next(iter(how))):
            mmcache.dask.array(ragged, **how)
    for how in ({"pad": 20}, {"crop": 64}):
        ((name, edge),) = how.items()
        with pytest.raises(ShapesDifferError, match=rf"{name}=\({edge}, {edge}\) was asked for"):
            mmcache.dask.array(ragged, **how)
    for chunks in (0, -1, None, 1.5, True, (3, 4)):
        with pytest.raises(SettingError, match="chunks="):
            mmcache.dask.array(uniform, chunks)


@pytest.mark.usefixtures("dask")
def test_a_cache_of_no_rows_is_an_array_of_none(uniform, ragged):
    assert mmcache.dask.array(uniform[:0], 6).compute().shape == (0, 48, 48, 3)
    assert mmcache.dask.array(ragged[:0], 6, pad=(5, 6)).compute().shape == (0, 5, 6, 3)


# xarray -------------------------------------------------------------------------------------------


@pytest.fixture(params=[None, 7, "auto"])
def dataset(request, uniform, xarray):  # noqa: ARG001  # which may be missing
    if request.param is not None:
        pytest.importorskip("dask", reason=WHY.format("dask"))
    return mmcache.xarray.dataset(uniform, request.param)


def test_a_dataset_has_pixels_keys_classes_and_columns(dataset, uniform):
    assert dataset.pixels.dims == ("row", "y", "x", "channel")
    assert dict(dataset.sizes) == {"row": 24, "y": 48, "x": 48, "channel": 3}
    assert np.array_equal(dataset.pixels.values, stacked(uniform))
    assert list(dataset.key.values) == list(uniform.keys)
    assert np.array_equal(dataset.label, uniform.labels)
    assert list(dataset["class"].values) == [uniform.classes[label] for label in uniform.labels]
    for name, column in uniform.columns.items():
        assert dataset[name].dims == ("row",)
        assert dataset[name].dtype == column.dtype
        assert np.array_equal(dataset[name], column)
    assert dataset.attrs["fingerprint"] == uniform.fingerprint
    assert dataset.attrs["path"] == str(uniform.path)


def test_pictures_are_chosen_by_key_by_class_and_by_column(dataset, uniform):
    key = uniform.keys[17]
    assert np.array_equal(dataset.set_index(row="key").sel(row=key).pixels, uniform[17])
    name = uniform.classes[1]
    some = dataset.isel(row=dataset["class"] == name)
    assert np.array_equal(some.pixels, stacked(uniform[uniform.labels == 1]))
    upright = dataset.isel(row=(dataset.height > dataset.width).values)
    columns = uniform.columns
    assert list(upright.key.values) == list(uniform[columns["height"] > columns["width"]].keys)


def test_means_by_class_are_those_of_the_pictures(dataset, uniform):
    means = dataset.pixels.mean(("y", "x", "channel")).groupby("class").mean()
    for number, name in enumerate(uniform.classes):
        expected = np.mean(stacked(uniform[uniform.labels == number]))
        assert float(means.sel({"class": name})) == pytest.approx(expected)


@given(rows=INDICES, lines=INNER, pairs=st.lists(st.integers(0, 23), max_size=9))
def test_isel_gives_what_isel_of_the_array_gives(caches, xarray, rows, lines, pairs):
    lazy = mmcache.xarray.dataset(caches[2], None).pixels
    whole = xarray.DataArray(stacked(caches[2]), dims=lazy.dims)
    points = xarray.DataArray(np.array(pairs, np.int64), dims="point")
    for key in (
        {"row": rows, "y": lines}, {"row": rows, "x": rows}, {"row": points, "x": 2 * points},
    ):  # fmt: skip
        assert np.array_equal(lazy.isel(key), whole.isel(key))


@pytest.mark.usefixtures("xarray")
def test_without_dask_only_what_is_used_is_read(uniform, read):
    dataset = mmcache.xarray.dataset(uniform, None)
    repr(dataset), dataset._repr_html_()
    some = dataset.pixels.isel(row=slice(3, 9))
    assert read == []
    assert np.array_equal(some.isel(row=[1, 2]), stacked(uniform)[4:6])
    assert read == [2]


@pytest.mark.usefixtures("xarray")
def test_writing_to_a_dataset_writes_to_memory_and_never_to_the_cache(uniform):
    dataset = mmcache.xarray.dataset(uniform, None)
    before = stacked(uniform)
    dataset.pixels[3] = 7
    assert (dataset.pixels[3] == 7).all()
    assert np.array_equal(stacked(uniform), before)


def test_a_dataset_travels_without_its_pixels(dataset, uniform):
    sent = pickle.dumps(dataset)
    assert len(sent) < uniform.nbytes / 4
    assert pickle.loads(sent).identical(dataset)


def test_a_dataset_is_computed_in_other_processes(dask, xarray, uniform):  # noqa: ARG001
    with dask.config.set(scheduler="processes", num_workers=2):
        total = mmcache.xarray.dataset(uniform, 7).pixels.sum(dtype=np.int64).compute()
    assert int(total) == stacked(uniform).sum(dtype=np.int64)


@pytest.mark.usefixtures("xarray")
def test_pictures_without_a_class_have_no_name_and_without_classes_there_is_no_coordinate(
    painted, tmp_path
):
    folder = tmp_path / "photos"
    (folder / "cats").mkdir(parents=True)
    some = [path for path in sorted(painted.rglob("*.*")) if path.is_file()][:3]
    for path, name in zip(some, ("one", "cats/two", "cats/three"), strict=True):
        (folder / f"{name}{path.suffix}").write_bytes(path.read_bytes())
    how = {"size": 8, "resize": "crop", "progress": False}
    labelled = mmcache.xarray.dataset(mmcache.build(folder, tmp_path / "some.mmc", **how), None)
    assert list(labelled["class"].values) == ["cats", "cats", ""]
    assert labelled.label.values.tolist() == [0, 0, -1]
    flat = mmcache.build(folder / "cats", tmp_path / "flat.mmc", **how)
    assert not {"class", "label"} & set(mmcache.xarray.dataset(flat, None).coords)


@pytest.mark.usefixtures("xarray")
def test_a_dataset_of_several_shapes_is_padded_as_a_batch_is(ragged):
    with pytest.raises(ShapesDifferError, match="pass pad="):
        mmcache.xarray.dataset(ragged)
    expected = ragged.batch(slice(None), pad=64).images
    assert np.array_equal(mmcache.xarray.dataset(ragged, None, pad=64).pixels, expected)


# Where they are missing ---------------------------------------------------------------------------


@pytest.mark.parametrize("library", ["dask", "xarray"])
def test_a_library_that_is_missing_is_an_error_that_says_what_to_install(uniform, library):
    code = (
        "import sys; sys.modules[sys.argv[1]] = None\n"
        "import mmcache, mmcache.dask, mmcache.xarray\n"
        "make = {'dask': mmcache.dask.array, 'xarray': mmcache.xarray.dataset}[sys.argv[1]]\n"
        "try: make(mmcache.open(sys.argv[2]))\n"
        "except ImportError as error: print(type(error).__name__, error)\n"
    )
    command = [sys.executable, "-c", code, library, str(uniform.path)]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert done.stdout.startswith(f"MissingLibraryError mmcache.{library} needs ")
    assert f'pip install "mmcache[{library}]"' in done.stdout
    assert issubclass(MissingLibraryError, MmcacheError)


@pytest.mark.usefixtures("xarray")
def test_without_dask_a_dataset_is_lazy_all_the_same(uniform, monkeypatch):
    monkeypatch.setattr("importlib.util.find_spec", lambda _: None)
    dataset = mmcache.xarray.dataset(uniform)
    assert dataset.pixels.chunks is None
    assert np.array_equal(dataset.pixels, stacked(uniform))
    with pytest.raises(MissingLibraryError, match="chunks=7 needs Dask"):
        mmcache.xarray.dataset(uniform, 7)


def test_importing_a_room_imports_no_library():
    code = (
        "import sys, mmcache.dask, mmcache.xarray\n"
        "print({'dask', 'xarray', 'pandas', 'PIL'} & set(sys.modules))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "set()\n"
