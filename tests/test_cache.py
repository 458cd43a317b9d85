"""The cache: Python's own list slicing is the oracle; opening and slicing never decode."""

import functools
import itertools
import json
import os
import pickle
import shutil
import subprocess
import sys
import textwrap
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import mmcache
from mmcache import (
    CacheNotFoundError,
    DamagedCacheError,
    DifferentCacheError,
    RowError,
    SelectionError,
    ShapesDifferError,
    UnknownKeyError,
)
from mmcache.geometry import Size
from mmcache.memory import free_memory
from mmcache.recipe import Recipe
from mmcache.stores.frame import read_frame
from mmcache.testing import paint

COUNT = 24
HEADER = 4096  # bytes before the elements of each file

# The caches never change, so that one fixture may serve all examples.
unchanging = settings(suppress_health_check=[HealthCheck.function_scoped_fixture])


def run(script, *arguments):
    """Run *script*, a file or code, in a Python of its own, and return what it printed."""
    program = [str(script)] if isinstance(script, Path) else ["-c", textwrap.dedent(script)]
    done = subprocess.run(
        [sys.executable, "-W", "error", *program, *map(str, arguments)],
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, (done.returncode, done.stderr)
    return done.stdout.split()


@pytest.fixture
def copied(uniform, tmp_path):
    """A copy of the uniform cache, to be damaged."""
    return shutil.copytree(uniform.path, tmp_path / "copied.mmc")


@pytest.fixture
def copied_ragged(ragged, tmp_path):
    return shutil.copytree(ragged.path, tmp_path / "ragged.mmc")


@pytest.fixture(params=["ragged", "uniform"])
def cache(request):
    return request.getfixturevalue(request.param)


@pytest.fixture(scope="module")
def pictures(ragged, uniform):
    """The pictures of both caches as lists, by the path of the cache."""
    return {cache.path: [picture.copy() for picture in cache] for cache in (ragged, uniform)}


# Selecting: as a list does --------------------------------------------------------------------


class Selection:
    """An index, and what a list makes of it."""

    def __init__(self, index, rows):
        self.index, self.rows = index, rows

    def __repr__(self):
        return repr(self.index)


@st.composite
def selections(draw, rows, keys):
    """Draw any index that narrows a cache which has *rows* of the whole one."""
    length = len(rows)
    kind = draw(st.sampled_from(["slice", "list", "array", "mask", "keys", "key array"]))
    if kind == "slice":
        index = draw(st.slices(length))
        return Selection(index, rows[index])
    if kind == "mask":
        mask = draw(st.lists(st.booleans(), min_size=length, max_size=length))
        return Selection(
            np.array(mask, bool), [r for r, kept in zip(rows, mask, strict=True) if kept]
        )
    places = draw(st.lists(st.integers(-length, length - 1), max_size=8)) if length else []
    chosen = [rows[place] for place in places]
    if kind == "array":
        return Selection(np.array(places, draw(st.sampled_from(["i1", "i4", "i8"]))), chosen)
    if kind == "keys" and places:
        return Selection([keys[row] for row in chosen], chosen)
    if kind == "key array" and places:
        return Selection([keys[row].encode() for row in chosen], chosen)
    return Selection(places, chosen)


def assert_same(part, rows, whole, pictures):
    """Compare every view that a narrower cache gives with lists of the whole."""
    assert len(part) == len(rows)
    assert part.keys == [whole.keys[row] for row in rows]
    assert part.labels.tolist() == [whole.labels.tolist()[row] for row in rows]
    assert part.shapes.tolist() == [list(pictures[row].shape) for row in rows]
    assert part.nbytes == sum(pictures[row].nbytes for row in rows)
    for name, column in part.columns.items():
        assert column.tolist() == [whole.columns[name].tolist()[row] for row in rows], name
    for picture, row in zip(part, rows, strict=True):
        assert np.array_equal(picture, pictures[row])


@settings(unchanging, max_examples=60)
@given(data=st.data())
def test_slices_of_slices_equal_what_a_list_would_have_given(cache, pictures, data):
    part, rows, keys = cache, list(range(len(cache))), list(cache.keys)
    for _ in range(data.draw(st.integers(1, 3))):
        selection = data.draw(selections(rows, keys))
        # A key means the first of the rows that have it.
        part, rows = part[selection.index], selection.rows
    assert_same(part, rows, cache, pictures[cache.path])
    assert type(part) is mmcache.Cache
    assert part.recipe == cache.recipe
    assert part.classes == cache.classes


@unchanging
@given(
    index=st.integers(-30, 30),
    part=st.slices(COUNT),
    kind=st.sampled_from([int, np.int64, np.int8, np.uint8]),
)
def test_a_row_is_that_of_a_list_or_its_index_error(cache, pictures, index, part, kind):
    index = abs(index) if kind is np.uint8 else index
    narrower, expected = cache[part], pictures[cache.path][part]
    if -len(expected) <= index < len(expected):
        assert np.array_equal(narrower[kind(index)], expected[index])
    else:
        with pytest.raises(RowError, match=f"row {index} was asked for, and .* {len(expected)}"):
            narrower[kind(index)]


@unchanging
@given(part=st.slices(COUNT), rows=st.lists(st.integers(0, COUNT - 1), max_size=6))
def test_a_key_is_found_exactly_where_a_narrower_cache_has_it(cache, pictures, part, rows):
    keys = list(cache.keys)
    for narrower, kept in ((cache[part], list(range(COUNT))[part]), (cache[rows], rows)):
        for row, key in enumerate(keys):
            assert (key in narrower) == (row in kept)
            assert (key.encode() in narrower) == (row in kept)
            if row in kept:
                for name in (key, key.encode(), np.str_(key)):
                    assert np.array_equal(narrower[name], pictures[cache.path][row])
            else:
                with pytest.raises(UnknownKeyError, match=f"{key} is not among the {len(kept)} "):
                    narrower[key]


@pytest.mark.parametrize(
    ("index", "error", "sentence"),
    [
        (99, RowError, "row 99 was asked for, and there are 24"),
        (-25, RowError, "row -25 was asked for, and there are 24"),
        (2**70, RowError, "there are 24"),
        (np.int64(24), RowError, "row 24 was asked for, and there are 24"),
        ([0, 24], RowError, "row 24 was asked for, and there are 24"),
        (np.ones(23, bool), RowError, "a mask of 23 was given, and there are 24 rows"),
        (np.ones(0, bool), RowError, "a mask of 0 was given, and there are 24 rows"),
        ("nothing.jpg", UnknownKeyError, "nothing.jpg is not among the 24 pictures here"),
        (b"caf\xe9.jpg", UnknownKeyError, r"caf\\xe9.jpg is not among"),
        ("\ud800", UnknownKeyError, "is not among"),
        ("", UnknownKeyError, "is not among"),
        (["nothing.jpg"], UnknownKeyError, "nothing.jpg is not among"),
        (1.0, SelectionError, "float is no index"),
        (None, SelectionError, "NoneType is no index"),
        (True, SelectionError, "bool is no index"),
        (..., SelectionError, "ellipsis is no index"),
        ([1.5], SelectionError, "list is no index"),
        ([[1, 2]], SelectionError, "list is no index"),
        ((0, slice(3)), SelectionError, "tuple is no index"),
        ((0, 1), SelectionError, "tuple is no index"),
        ({1, 2}, SelectionError, "set is no index"),
    ],
    ids=repr,
)
def test_what_is_not_there_is_the_error_that_python_would_raise(cache, index, error, sentence):
    for whole in (cache, cache[:], cache[list(range(COUNT))]):
        with pytest.raises(error, match=sentence) as caught:
            whole[index]
        assert isinstance(caught.value, mmcache.MmcacheError)
        assert isinstance(caught.value, (IndexError, KeyError, TypeError))


def test_a_list_of_keys_is_of_keys_alone(cache):
    with pytest.raises(SelectionError):
        cache[[cache.keys[0], 1]]
    with pytest.raises(SelectionError):
        cache[[1, cache.keys[0]]]


def test_keys_of_one_selection_select_in_another(cache):
    assert cache[cache.keys[5:2:-1]].keys == list(cache.keys)[5:2:-1]


def test_duplicate_rows_are_there_as_often_as_they_were_asked_for(cache):
    part = cache[[3, 3, 1, 3]]
    assert [np.array_equal(picture, cache[3]) for picture in part] == [True, True, False, True]
    assert np.shares_memory(part[0], part[3])
    assert part[1:].keys == [cache.keys[row] for row in (3, 1, 3)]


@pytest.mark.parametrize("index", [slice(0, 0), slice(20, 10), [], np.zeros(COUNT, bool)])
def test_an_empty_selection_is_an_empty_cache(cache, index):
    for empty in (cache[index], cache[index][::-1], cache[index][[]]):
        assert len(empty) == 0
        assert list(empty) == []
        assert empty.keys == []
        assert empty.shapes.shape == (0, 3)
        assert empty.labels.shape == (0,)
        assert empty.nbytes == 0
        assert np.asarray(empty).shape[0] == 0
        assert cache.keys[0] not in empty
        with pytest.raises(IndexError):
            empty[0]


def test_membership_is_of_keys(cache):
    assert cache.keys[3] in cache
    assert 3 not in cache
    assert None not in cache
    assert cache[0] not in cache


# Views, not copies ----------------------------------------------------------------------------


def test_pictures_are_plain_read_only_views_of_the_file(cache):
    for picture in (cache[3], cache[-1], cache[np.int64(2)], cache[cache.keys[5]], cache[::-1][4]):
        assert type(picture) is np.ndarray
        assert picture.dtype == np.uint8
        assert not picture.flags.writeable
        assert not picture.flags.owndata
        assert picture.flags.c_contiguous
        with pytest.raises(ValueError, match="read-only"):
            picture[0] = 0
        with pytest.raises(ValueError, match="WRITEABLE"):
            picture.flags.writeable = True
    assert np.shares_memory(cache[3], cache[2:8][[1]][0])


def test_a_view_shows_the_bytes_of_the_file(copied):
    cache = mmcache.open(copied)
    view = cache[0]
    with (copied / "pixels.npy").open("r+b") as file:
        file.seek(HEADER)
        file.write(bytes([1 + view[0, 0, 0] % 200]))
    # Nothing was copied: a byte that is written into the file is seen in the view.
    assert view.tobytes() == (copied / "pixels.npy").read_bytes()[HEADER:][: view.nbytes]


def test_a_view_outlives_its_cache(copied):
    view = mmcache.open(copied)[7]
    before = view.copy()
    assert np.array_equal(view, before)


def test_views_and_columns_are_read_only(cache):
    for whole in (cache, cache[[2, 1]]):
        for array in (whole.shapes, whole.labels, *whole.columns.values()):
            with pytest.raises(ValueError, match="read-only"):
                array[0] = 0


def test_slicing_reads_nothing_and_keeps_no_list_of_rows(copied):
    overwrite(copied, "records", lambda records: records.fill(-1))
    cache = mmcache.open(copied)
    part = cache[3:20][::-2][1:]
    assert part._rows == range(3, 20)[::-2][1:]
    assert np.shares_memory(np.asarray(part._records), np.asarray(cache._records))
    assert len(part[[0, 1, 2]][np.array([True, False, True])]) == 2


def test_even_rows_as_one_array_are_a_view(uniform, pictures):
    expected = np.stack(pictures[uniform.path])
    parts = [slice(None), slice(None, None, -1), slice(2, 20, 3), slice(20, 1, -4), [2, 4, 6], [5],
             [6, 6, 6], slice(4, 5)]  # fmt: skip
    for part in parts:
        array = np.asarray(uniform[part])
        assert np.array_equal(array, expected[part])
        assert type(array) is np.ndarray
        assert not array.flags.writeable
        assert np.shares_memory(array, np.asarray(uniform))
        assert np.asarray(uniform[part], copy=False) is not None


def test_uneven_rows_as_one_array_are_a_copy_of_ones_own(uniform, pictures):
    rows = [3, 1, 2, 9]
    array = np.asarray(uniform[rows])
    assert np.array_equal(array, np.stack([pictures[uniform.path][row] for row in rows]))
    assert not np.shares_memory(array, np.asarray(uniform))
    array[:] = 0
    with pytest.raises(ShapesDifferError, match="is a copy"):
        np.asarray(uniform[rows], copy=False)


def test_one_array_obeys_dtype_and_copy(uniform):
    plain = np.asarray(uniform)
    wide = np.asarray(uniform, np.float32)
    assert wide.dtype == np.float32
    assert np.array_equal(wide, plain)
    own = np.array(uniform)
    assert own.flags.writeable
    assert not np.shares_memory(own, plain)
    assert np.shares_memory(np.asarray(uniform, np.uint8), plain)
    assert np.array_equal(np.asarray(uniform[::-1], np.int16), plain[::-1])
    with pytest.raises(ShapesDifferError, match="copy"):
        np.asarray(uniform, np.float32, copy=False)


def test_one_array_of_many_shapes_is_a_value_error_that_names_two(ragged):
    with pytest.raises(ShapesDifferError, match=r"differ in shape, \(\d+, \d+, 3\) and") as caught:
        np.asarray(ragged)
    assert isinstance(caught.value, ValueError)
    shapes = {str(tuple(shape)) for shape in ragged.shapes.tolist()}
    assert sum(shape in str(caught.value) for shape in shapes) == 2


def test_rows_of_one_shape_in_a_ragged_cache_are_one_array(ragged):
    shapes = ragged.shapes
    for shape in np.unique(shapes, axis=0):
        part = ragged[(shapes == shape).all(axis=1)]
        assert np.array_equal(np.asarray(part), np.stack(list(part)))


def test_one_array_larger_than_memory_is_refused_with_a_sentence(uniform, monkeypatch):
    monkeypatch.setattr("mmcache.cache.free_memory", lambda: 1000)
    assert np.shares_memory(np.asarray(uniform), uniform[0])  # no copy, no memory
    with pytest.raises(ShapesDifferError, match=r"a copy of 20\.7 kB, more than .* \(1\.0 kB are"):
        np.asarray(uniform[[2, 1, 3]])


def test_free_memory_counts_what_the_system_would_free_of_its_file_pages():
    meminfo = Path("/proc/meminfo")
    if not meminfo.exists():
        pytest.skip("the system has no /proc/meminfo")
    told = next(
        line for line in meminfo.read_text().splitlines() if line.startswith("MemAvailable")
    )
    assert free_memory() == pytest.approx(int(told.split()[1]) * 1024, rel=0.2)


# What else it tells ---------------------------------------------------------------------------


def test_classes_and_labels_are_those_of_the_folders(cache):
    assert cache.classes == ("circles", "stripes", "waves")
    folders = [key.split("/")[0] for key in cache.keys]
    assert [cache.classes[label] for label in cache.labels] == folders


def test_pictures_are_what_apply_makes_of_their_files(cache, painted):
    for key in cache.keys:
        assert np.array_equal(cache[key], mmcache.apply(painted / key, cache.recipe))


def test_a_placement_is_that_of_the_source(cache):
    columns = cache.columns
    for row in (0, 5, -1):
        placement = cache.placement(row)
        assert placement.source == (columns["height"][row], columns["width"][row])
        assert placement == cache.recipe.place(Size(*map(int, placement.source)))
        assert placement.size == cache[row].shape[:2]
        key = cache.keys[row]
        assert cache.placement(key) == cache.placement(key.encode()) == placement
        assert cache[::-1].placement(key) == placement
    assert cache[::-1].placement(0) == cache.placement(-1)


@pytest.mark.parametrize(
    ("index", "error"), [(24, IndexError), ("nothing", KeyError), (1.5, TypeError)]
)
def test_a_placement_of_what_is_not_there_is_the_error_of_an_index(cache, index, error):
    with pytest.raises(error):
        cache.placement(index)


def test_failures_are_kept_and_named(tmp_path):
    folder = tmp_path / "photos"
    folder.mkdir()
    paint(Size(20, 30)).save(folder / "good.png")
    (folder / "bad.jpg").write_bytes(b"no picture")
    with pytest.warns(mmcache.PicturesSkippedWarning, match="1 picture of 2"):
        cache = mmcache.build(folder, tmp_path / "photos.mmc", progress=False)
    for one in (cache, cache[:0], pickle.loads(pickle.dumps(cache))):
        (failure,) = one.failures
        assert (failure.key, failure.stage) == ("bad.jpg", "header")
        assert failure.reason
    assert cache.keys == ["good.png"]
    assert "bad.jpg" not in cache


def test_keys_that_are_not_utf8_are_found_by_str_and_by_bytes(tmp_path):
    folder = tmp_path / "photos"
    folder.mkdir()
    names = [b"caf\xe9.png", "café.png".encode(), b"caf\xfe.png", b"cafd.png", b"z\n.png"]
    for number, name in enumerate(names):
        paint(Size(20, 30), number).save(folder / os.fsdecode(name))
    cache = mmcache.build(folder, tmp_path / "photos.mmc", progress=False)
    assert [os.fsencode(key) for key in cache.keys] == sorted(names)
    for name in names:
        expected = mmcache.apply(folder / os.fsdecode(name), cache.recipe)
        assert np.array_equal(cache[name], expected)
        assert np.array_equal(cache[os.fsdecode(name)], expected)
    repr(cache).encode("utf-8")


# Travelling -----------------------------------------------------------------------------------


def test_a_pickle_is_a_path_and_a_fingerprint(uniform):
    for part in (uniform, uniform[3:20:2], uniform[::-1], uniform[[5, 3]]):
        sent = pickle.dumps(part)
        assert len(sent) < 1000
        assert uniform.fingerprint.encode() in sent
        again = pickle.loads(sent)
        assert again.keys == part.keys
        assert again.path == part.path
        assert all(np.array_equal(a, b) for a, b in zip(again, part, strict=True))


def test_another_generation_at_the_path_is_refused(painted, tmp_path):
    path = tmp_path / "photos.mmc"
    first = mmcache.build(painted, path, size=16, progress=False)
    sent, narrower = pickle.dumps(first), pickle.dumps(first[3:5])
    mmcache.build(painted, path, size=24, exist="overwrite", progress=False)
    for one in (sent, narrower):
        with pytest.raises(DifferentCacheError, match=r"was built anew .* mmcache\.open\("):
            pickle.loads(one)
    shutil.rmtree(path)
    with pytest.raises(CacheNotFoundError):
        pickle.loads(sent)


def test_equal_builds_have_equal_fingerprints_and_others_others(painted, tmp_path):
    one = mmcache.build(painted, tmp_path / "one.mmc", size=16, progress=False)
    same = mmcache.build(painted, tmp_path / "same.mmc", size=(16, 16), progress=False)
    other = mmcache.build(painted, tmp_path / "other.mmc", size=17, progress=False)
    assert one.fingerprint == same.fingerprint != other.fingerprint


SPAWNED = """
    import multiprocessing, sys, mmcache

    def total(part):
        return sum(int(picture.sum()) for picture in part)

    if __name__ == "__main__":
        cache = mmcache.open(sys.argv[1])
        parts = [cache, cache[3:20:2], cache[[5, 3, 3]]]
        context = multiprocessing.get_context(sys.argv[2])
        with context.Pool(2) as pool:
            sums = pool.map(total, parts)
        pool.join()
        print(sums == [total(part) for part in parts])
"""


@pytest.mark.parametrize("start", ["spawn", "fork", "forkserver"])
def test_worker_processes_read_the_same_pictures(uniform, tmp_path, start):
    script = tmp_path / "script.py"
    script.write_text(textwrap.dedent(SPAWNED))
    assert run(script, uniform.path, start) == ["True"]


def test_a_forked_child_reads_what_its_parent_opened(ragged):
    printed = run(
        """
        import os, sys, mmcache
        cache = mmcache.open(sys.argv[1])
        before = [picture.tobytes() for picture in cache]
        child = os.fork()
        if not child:
            same = [picture.tobytes() for picture in cache] == before and cache.keys[2] in cache
            os._exit(0 if same else 1)
        _, status = os.waitpid(child, 0)
        print(os.waitstatus_to_exitcode(status))
        """,
        ragged.path,
    )
    assert printed == ["0"]


def test_many_threads_read_one_cache(cache, pictures):
    expected = pictures[cache.path]
    keys = list(cache.keys)
    narrower = cache[[*range(5, 20), 5]]

    def reads(seed):
        random = np.random.default_rng(seed)
        for row in random.integers(5, 20, 200).tolist():
            right = np.array_equal(cache[row], expected[row])
            right &= np.array_equal(narrower[keys[row]], expected[row])
            if not right:
                return False
        return True

    with ThreadPoolExecutor(8) as pool:
        assert all(pool.map(reads, range(16)))


LOADER = """
    import sys, warnings, torch, mmcache
    from torch.utils.data import DataLoader, Dataset

    class Pictures(Dataset):
        def __init__(self, cache):
            self.cache = cache

        def __len__(self):
            return len(self.cache)

        def __getitem__(self, row):
            return torch.from_numpy(self.cache[row].copy()), row

    if __name__ == "__main__":
        cache = mmcache.open(sys.argv[1])[::-1]
        loader = DataLoader(
            Pictures(cache), batch_size=5, shuffle=True, num_workers=2,
            multiprocessing_context=sys.argv[2],
        )
        seen = []
        for images, rows in loader:
            for image, row in zip(images, rows.tolist(), strict=True):
                assert (image.numpy() == cache[row]).all()
                seen.append(row)
        print(sorted(seen) == list(range(len(cache))))
"""


@pytest.mark.slow
@pytest.mark.parametrize("start", ["spawn", "fork"])
def test_a_torch_dataloader_reads_the_same_pictures(uniform, tmp_path, start):
    pytest.importorskip("torch", reason="torch is not a dependency")
    script = tmp_path / "script.py"
    script.write_text(textwrap.dedent(LOADER))
    assert run(script, uniform.path, start) == ["True"]


# Opening --------------------------------------------------------------------------------------


def test_opening_imports_no_decoder_and_no_format(uniform):
    imported = run(
        """
        import sys, mmcache
        cache = mmcache.open(sys.argv[1])
        cache[3].sum(), cache[2:5].keys[0], cache[cache.keys[1]], cache.batch([1, 2]), repr(cache)
        cache.labels, cache.shapes, cache.columns, list(cache.failures), cache.placement(2)
        print(*sys.modules)
        """,
        uniform.path,
    )
    heavy = ["PIL", "h5py", "zarr", "tqdm", "mmcache.images", "mmcache.sources", "mmcache.planning"]
    assert set(heavy) & set(imported) == set()


@pytest.mark.parametrize("name", ["nothing.mmc", "no/such/folder.mmc", "nothing"])
def test_opening_a_mistyped_path_creates_nothing(tmp_path, name):
    with pytest.raises(CacheNotFoundError, match="there is no cache at") as caught:
        mmcache.open(tmp_path / name)
    assert isinstance(caught.value, FileNotFoundError)
    assert list(tmp_path.iterdir()) == []


def test_a_cache_opens_by_any_kind_of_path(uniform, monkeypatch):
    monkeypatch.chdir(uniform.path.parent)
    for path in (str(uniform.path), uniform.path, uniform.path.name, Path(uniform.path.name)):
        cache = mmcache.open(path)
        assert cache.path == uniform.path
        assert cache.fingerprint == uniform.fingerprint


def test_a_cache_opens_through_a_link_to_it_and_after_a_move(copied, tmp_path, uniform):
    link = tmp_path / "link.mmc"
    link.symlink_to(copied)
    assert np.array_equal(mmcache.open(link)[3], uniform[3])
    copied.rename(tmp_path / "moved.mmc")
    assert np.array_equal(mmcache.open(tmp_path / "moved.mmc")[3], uniform[3])


def test_opening_changes_nothing(copied):
    before = {file: (file.stat().st_mtime_ns, file.read_bytes()) for file in copied.iterdir()}
    mmcache.open(copied).batch([1, 2])
    assert before == {f: (f.stat().st_mtime_ns, f.read_bytes()) for f in copied.iterdir()}


def files_of(cache):
    return sorted(file.name for file in cache.path.iterdir())


def test_every_file_that_is_cut_extended_missing_or_a_link_is_refused(copied, uniform):
    for name in files_of(uniform):
        file, whole = copied / name, (uniform.path / name).read_bytes()
        for content in (whole[:-1], whole[:HEADER], b"", whole + b"\0"):
            if content == whole:
                continue
            file.write_bytes(content)
            with pytest.raises(DamagedCacheError, match=name):
                mmcache.open(copied)
        file.unlink()
        with pytest.raises(DamagedCacheError, match=name):
            mmcache.open(copied)
        file.symlink_to(uniform.path / name)
        with pytest.raises(DamagedCacheError, match=name):
            mmcache.open(copied)
        file.unlink()
        file.mkdir()
        with pytest.raises(DamagedCacheError, match=name):
            mmcache.open(copied)
        file.rmdir()
        os.mkfifo(file)
        with pytest.raises(DamagedCacheError, match=name):  # and no waiting for a writer
            mmcache.open(copied)
        file.unlink()
        file.write_bytes(whole)
    assert mmcache.open(copied).fingerprint == uniform.fingerprint


# Damage ---------------------------------------------------------------------------------------

HUGE = [2**31, 2**62, 2**63 - 1, -1, -(2**63), -(2**62)]


def overwrite(path, name, change):
    """Change an array of a cache in place, as a bad disk would."""
    array = np.load(path / f"{name}.npy", mmap_mode="r+")
    change(array)
    array.flush()


def assert_damaged(read):
    with pytest.raises(DamagedCacheError, match="damaged"):
        read()


@pytest.mark.parametrize("layout", ["copied", "copied_ragged"])
@pytest.mark.parametrize(
    ("column", "value"),
    [(column, value) for column in (0, 1, 2) for value in (*HUGE, 0) if column or value],
)
def test_a_row_that_points_outside_the_pixels_is_named_at_use(request, layout, column, value):
    path = request.getfixturevalue(layout)

    def change(records):
        records[5, column] = value

    overwrite(path, "records", change)
    cache = mmcache.open(path)
    for whole in (cache, cache[list(range(COUNT))]):
        assert_damaged(lambda: whole[5])  # noqa: B023  # called at once
        assert_damaged(lambda: whole[-19])  # noqa: B023
        assert_damaged(lambda: whole.batch([4, 5]))  # noqa: B023
        with pytest.raises(mmcache.MmcacheError):
            np.asarray(whole)
    assert_damaged(lambda: np.asarray(cache[5:6]))
    assert cache[4].shape == (*cache.placement(4).size, 3)


def test_an_offset_that_counts_from_the_end_is_refused(copied):
    def change(records):
        records[5, 0] = -int(records[:, 1:].prod(axis=1).sum())

    overwrite(copied, "records", change)
    cache = mmcache.open(copied)
    assert_damaged(lambda: cache[5])
    assert_damaged(lambda: np.asarray(cache[5:6]))


def test_a_record_past_the_end_by_one_element_is_refused(copied_ragged):
    def change(records):
        records[-1, 0] += 1

    overwrite(copied_ragged, "records", change)
    cache = mmcache.open(copied_ragged)
    last = int(np.argmax(cache._column("records")[:, 0]))
    assert_damaged(lambda: cache[last])


@pytest.mark.parametrize("value", [*HUGE, 0], ids=str)
@pytest.mark.parametrize("column", [0, 1, 2, 3])
def test_an_index_that_is_damaged_throughout_never_ends_the_process(copied, column, value):
    def change(records):
        records[:, column] = value

    overwrite(copied, "records", change)
    printed = run(
        """
        import sys, mmcache, numpy as np
        cache = mmcache.open(sys.argv[1])
        reads = [
            lambda: np.asarray(cache).sum(), lambda: np.asarray(cache[::-1]).sum(),
            lambda: [p.sum() for p in cache], lambda: cache.batch([1, 2]).images.sum(),
            lambda: np.asarray(cache[[3, 1]]).sum(), lambda: repr(cache), lambda: cache.nbytes,
            lambda: np.asarray(cache[2:3]).sum(), lambda: cache.batch([1]).sizes.sum(),
        ]
        for read in reads:
            try:
                read()
                print("read")
            except mmcache.MmcacheError as error:
                print(type(error).__name__)
        """,
        copied,
    )
    assert len(printed) == 9


def test_offsets_that_wrap_around_are_never_followed(copied):
    # Each is 2**62 from the one before, modulo 2**64: evenly, and far outside of the file.
    def change(records):
        records[:5, 0] = [0, 2**62, -(2**63), -(2**62), 0]

    overwrite(copied, "records", change)
    printed = run(
        """
        import sys, mmcache, numpy as np
        try:
            np.asarray(mmcache.open(sys.argv[1])[:5]).sum()
        except mmcache.DamagedCacheError:
            print("refused")
        """,
        copied,
    )
    assert printed == ["refused"]


@pytest.mark.parametrize("value", [0, -1, -(2**31)])
def test_a_damaged_size_of_a_source_is_named(painted, tmp_path, value):
    cache = mmcache.build(painted, tmp_path / "a.mmc", size=16, resize="pad", progress=False)

    def change(heights):
        heights[3] = value

    overwrite(cache.path, "height", change)
    assert_damaged(lambda: cache.placement(3))
    assert_damaged(lambda: cache.batch([2, 3]))
    assert cache.batch([2, 4]).sizes.shape == (2, 2)


@pytest.mark.parametrize("column", [1, 2])
@pytest.mark.parametrize("change", [-4, 4])
def test_a_record_of_another_size_than_all_others_is_damage(copied, uniform, column, change):
    def alter(records):
        records[3, column] += change

    overwrite(copied, "records", alter)
    cache = mmcache.open(copied)
    assert_damaged(lambda: cache[3])
    assert_damaged(lambda: cache[::-1][-4])
    assert_damaged(lambda: cache.batch([3]))
    assert np.array_equal(cache[2], uniform[2])


@pytest.mark.parametrize("name", ["key_offsets", "keys", "key_order", "labels"])
@pytest.mark.parametrize("value", [2**62, -1, -(2**63), 255], ids=str)
def test_damaged_names_and_labels_are_an_error_of_ours_or_another_name(tmp_path, name, value):
    folder = tmp_path / "photos"
    paths = []
    for number, place in enumerate(["b", "a", "c"]):
        (folder / place).mkdir(parents=True)
        paths.append(folder / place / f"{number}.png")
        paint(Size(9, 9), number).save(paths[-1])
    source = paths if name == "key_order" else folder
    cache = mmcache.build(source, tmp_path / "a.mmc", progress=False)
    keys = list(cache.keys)

    def change(array):
        array[:] = np.array(value).astype(array.dtype)

    overwrite(cache.path, name, change)
    damaged = mmcache.open(cache.path)
    for key in keys:
        try:
            damaged[key]
        except (DamagedCacheError, UnknownKeyError):
            continue
    assert len(list(damaged.keys)) == 3
    assert len(damaged[::2].keys[1]) >= 0
    repr(damaged), mmcache.show(damaged), damaged._repr_html_()


def test_a_file_that_is_cut_under_an_open_cache_raises_at_next_access(copied, copied_ragged):
    for path in (copied, copied_ragged):
        for name in ("pixels", "records", "keys", "labels", "height"):
            again = shutil.copytree(path, path.parent / f"{path.stem}-{name}.mmc")
            printed = run(
                """
                import os, sys, time, mmcache, numpy as np
                path, name = sys.argv[1:]
                cache = mmcache.open(path)
                key = cache.keys[3]
                cache[3].sum(), cache.batch([1, 2])
                reads = {
                    "pixels": [
                        lambda: cache[20].sum(), lambda: [p.sum() for p in cache],
                        lambda: cache.batch([0, 1]), lambda: cache[key].sum(),
                        lambda: cache[5:][3].sum(), lambda: np.asarray(cache[4:3:-1]).sum(),
                        lambda: np.asarray(cache[3:4]).sum(), lambda: cache[:4]._repr_html_()
                        .index("no picture:") and cache[0],
                    ],
                    "records": [
                        lambda: cache[20].sum(), lambda: cache.shapes.sum(),
                        lambda: np.asarray(cache[3:4]).sum(), lambda: cache[1:].nbytes,
                    ],
                    "keys": [lambda: cache[key], lambda: list(cache.keys), lambda: key in cache],
                    "labels": [lambda: cache.labels, lambda: cache.batch([1])],
                    "height": [lambda: cache.placement(3), lambda: cache.columns],
                }
                os.truncate(f"{path}/{name}.npy", 0)
                time.sleep(0.001)  # longer than a look is believed
                for read in reads[name]:
                    try:
                        read()
                        print("read")
                    except mmcache.DamagedCacheError as error:
                        print("cut" if "was cut while it was open" in str(error) else error)
                """,
                again,
                name,
            )
            assert set(printed) == {"cut"}, (name, printed)


def test_an_open_cache_reads_on_after_it_was_deleted(copied, uniform):
    cache = mmcache.open(copied)
    shutil.rmtree(copied)
    assert all(np.array_equal(a, b) for a, b in zip(cache, uniform, strict=True))
    assert cache.keys == uniform.keys
    assert np.array_equal(np.asarray(cache), np.asarray(uniform))


def test_an_open_cache_reads_on_after_another_took_its_place(painted, tmp_path, uniform):
    path = tmp_path / "photos.mmc"
    settings_ = {"resize": "crop", "progress": False}
    old = mmcache.build(painted, path, size=48, **settings_)
    new = mmcache.build(painted, path, size=20, exist="overwrite", **settings_)
    assert all(np.array_equal(a, b) for a, b in zip(old, uniform, strict=True))
    assert old.keys == uniform.keys
    assert new[0].shape == mmcache.open(path)[0].shape == (20, 20, 3)


def test_a_frame_tells_the_recipe_that_the_cache_was_built_with(uniform):
    plain = json.loads((uniform.path / "mmcache.json").read_bytes())
    assert Recipe.from_json(plain["recipe"]) == uniform.recipe
    assert uniform.recipe == Recipe(size=48, resize="crop", resampler=uniform.recipe.resampler)


@pytest.mark.parametrize("name", ["out.mmc", "out.h5", "out.zarr"])
@pytest.mark.parametrize("other", [{"size": 32}, {"size": 48}], ids=["as long", "longer"])
def test_a_cache_that_is_rebuilt_while_it_is_opened_is_whole(
    painted, tmp_path, monkeypatch, name, other
):
    # With another size the files have other lengths; else nothing tells a mixture.
    build = functools.partial(mmcache.build, painted, resize="crop", progress=False)
    old = build(tmp_path / name, size=32, resample="box")
    new = build(tmp_path / f"new-{name}", **other)

    def read_frame_and_rebuild(path):
        frame = read_frame(path)
        if frame.content == old.fingerprint:
            monkeypatch.setattr(mmcache.cache, "read_frame", read_frame)
            build(path, exist="overwrite", **other)
        return frame

    monkeypatch.setattr(mmcache.cache, "read_frame", read_frame_and_rebuild)
    opened = mmcache.open(tmp_path / name)
    assert opened.fingerprint == new.fingerprint
    assert all(map(np.array_equal, opened, new))


def test_a_path_that_changes_at_each_look_is_an_error_and_no_hang(ragged, monkeypatch):
    looks = itertools.count()
    monkeypatch.setattr(mmcache.cache, "_identity", lambda _: next(looks))
    with pytest.raises(DamagedCacheError, match="changes all the time"):
        mmcache.open(ragged.path)
