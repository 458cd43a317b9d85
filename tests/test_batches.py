"""Index arithmetic and batches: Python's own lists are the rule."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import mmcache
from mmcache import RowError, SelectionError, ShapesDifferError
from mmcache.batches import chosen, position

lengths = st.integers(0, 12)
kinds = st.sampled_from(["i1", "i2", "i4", "i8", "u1", "u8", ">i4"])


@given(lengths, st.integers(-20, 20), st.sampled_from([int, np.int64, np.int8]))
def test_a_position_is_that_of_a_list(length, index, kind):
    rows = list(range(length))
    try:
        expected = rows[index]
    except IndexError:
        with pytest.raises(RowError, match=f"row {index} was asked for, and there are {length}"):
            position(kind(index), length)
    else:
        assert position(kind(index), length) == expected
        assert type(position(kind(index), length)) is int


@pytest.mark.parametrize("nonsense", [1.5, 1.0, None, (1,), [1]])
def test_what_is_no_row_has_no_position(nonsense):
    with pytest.raises(SelectionError, match="is no row"):
        position(nonsense, 10)


@given(st.integers(1, 12), st.data(), kinds)
def test_a_list_of_rows_means_what_a_list_would_give_one_by_one(length, data, kind):
    low = 0 if "u" in kind else -length
    wanted = data.draw(st.lists(st.integers(low, length - 1), max_size=9))
    expected = [list(range(length))[index] for index in wanted]
    for index in (wanted, tuple(wanted), np.array(wanted, kind)):
        rows = chosen(index, length)
        assert rows.tolist() == expected
        assert rows.dtype == np.int64


@given(st.lists(st.booleans(), max_size=12))
def test_a_mask_means_the_rows_where_it_is_true(mask):
    expected = [row for row, kept in enumerate(mask) if kept]
    assert chosen(np.array(mask, bool), len(mask)).tolist() == expected
    if mask:
        assert chosen(mask, len(mask)).tolist() == expected


@pytest.mark.parametrize("length", [0, 3, 5])
def test_a_mask_of_another_length_is_an_index_error_that_tells_both(length):
    with pytest.raises(RowError, match=f"a mask of {length} was given, and there are 4 rows"):
        chosen(np.zeros(length, bool), 4)


@pytest.mark.parametrize(
    ("rows", "named"),
    [
        ([0, 4], 4),
        ([-5, 0], -5),
        (np.array([200], np.uint8), 200),
        (np.array([2**63], np.uint64), 2**63),
        ([2**62], 2**62),
        ([-(2**63)], -(2**63)),
    ],
    ids=str,
)
def test_a_row_that_is_not_there_is_an_index_error_that_names_it(rows, named):
    with pytest.raises(RowError, match=f"row {named} was asked for, and there are 4") as caught:
        chosen(rows, 4)
    assert isinstance(caught.value, IndexError)


@pytest.mark.parametrize(
    "nonsense",
    [
        1.5,
        [1.0, 2.0],
        None,
        {1, 2},
        {"a": 1},
        [[1, 2]],
        [[1], [2, 3]],
        object(),
        ["a", 1],
        [1, "a"],
        [None],
        np.zeros((2, 2), int),
        np.array(3),
        iter([1]),
    ],
    # An address in a name would be another one in each process.
    ids=lambda value: repr(value).partition(" at 0x")[0],
)
def test_what_is_no_index_is_a_type_error(nonsense):
    with pytest.raises(SelectionError, match="is no index") as caught:
        chosen(nonsense, 4)
    assert isinstance(caught.value, TypeError)


def test_a_batch_of_one_shape_is_an_array_of_its_own(uniform):
    rows = [3, 1, 2, 1]
    batch = uniform.batch(rows)
    assert np.array_equal(batch.images, np.stack([uniform[row] for row in rows]))
    assert batch.images.flags.writeable
    assert not np.shares_memory(batch.images, np.asarray(uniform))
    assert np.asarray(batch) is batch.images
    assert batch.rows.tolist() == rows
    assert batch.labels.tolist() == [uniform.labels[row] for row in rows]
    assert batch.keys == [uniform.keys[row] for row in rows]
    assert batch.sizes.tolist() == [[48, 48]] * 4
    assert len(batch) == 4


def test_a_batch_as_an_array_obeys_dtype_and_copy(uniform):
    batch = uniform.batch([0, 1])
    assert np.asarray(batch, np.float32).dtype == np.float32
    assert np.array_equal(np.asarray(batch, np.float32), batch.images)
    assert not np.shares_memory(np.array(batch), batch.images)
    assert np.array(batch, copy=False) is batch.images
    with pytest.raises(ValueError, match="copy"):
        np.array(batch, np.float32, copy=False)


def test_a_batch_of_many_shapes_is_a_list_of_views(ragged):
    rows = [5, -1, 0]
    batch = ragged.batch(rows)
    assert isinstance(batch.images, list)
    for image, row in zip(batch, rows, strict=True):
        assert np.array_equal(image, ragged[row])
        assert np.shares_memory(image, ragged[row])
        assert not image.flags.writeable
    assert batch.rows.tolist() == [5, len(ragged) - 1, 0]
    assert batch.sizes.tolist() == [list(ragged[row].shape[:2]) for row in rows]
    with pytest.raises(ShapesDifferError, match=r"batch\.images, a list"):
        np.asarray(batch)


def test_one_picture_of_a_ragged_cache_makes_a_batch_of_one_shape(ragged):
    assert ragged.batch([4]).images.shape == (1, *ragged[4].shape)


@pytest.mark.parametrize("rows", [slice(2, 9, 3), slice(None, None, -5), slice(4, 4)])
def test_a_batch_of_a_slice_has_the_rows_of_the_slice(uniform, rows):
    expected = list(range(len(uniform)))[rows]
    batch = uniform.batch(rows)
    assert batch.rows.tolist() == expected
    assert batch.keys == list(uniform.keys)[rows]
    assert len(batch.images) == len(expected)


def test_a_batch_of_a_mask_or_of_keys_has_their_rows(uniform):
    mask = uniform.labels == 1
    assert uniform.batch(mask).rows.tolist() == np.flatnonzero(mask).tolist()
    keys = uniform.keys
    assert uniform.batch([keys[4], keys[2]]).rows.tolist() == [4, 2]
    assert uniform.batch(keys[5:2:-1]).rows.tolist() == [5, 4, 3]


def test_rows_of_a_batch_count_in_the_narrower_cache(uniform):
    part = uniform[10:20]
    batch = part.batch([0, -1])
    assert batch.rows.tolist() == [0, 9]
    assert batch.keys == [uniform.keys[10], uniform.keys[19]]


def test_an_empty_batch_has_the_shape_of_a_full_one(uniform, ragged):
    assert uniform.batch([]).images.shape == (0, 48, 48, 3)
    assert np.asarray(ragged.batch([])).shape == (0, 0, 0, 3)
    for batch in (uniform.batch([]), ragged.batch([])):
        assert len(batch) == 0
        assert batch.sizes.shape == (0, 2)
        assert batch.labels.shape == (0,)
        assert batch.keys == []


@pytest.mark.parametrize(
    ("rows", "error"), [([99], IndexError), (["x.jpg"], KeyError), (3, TypeError), (1.5, TypeError)]
)
def test_a_batch_of_what_is_not_there_is_the_error_of_an_index(uniform, rows, error):
    with pytest.raises(error) as caught:
        uniform.batch(rows)
    assert isinstance(caught.value, mmcache.MmcacheError)


def test_a_batch_without_classes_has_no_labels(painted, tmp_path):
    cache = mmcache.build(
        painted / "waves", tmp_path / "waves.mmc", size=16, resize="crop", progress=False
    )
    assert cache.labels is None
    assert cache.batch([0, 1]).labels is None


@pytest.mark.parametrize("padding", [{"resize": "pad"}, {"multiple_of": 16}])
def test_the_sizes_of_a_batch_do_not_count_padding(painted, tmp_path, padding):
    cache = mmcache.build(
        painted / "waves",
        tmp_path / "waves.mmc",
        size=48,
        background=77,
        progress=False,
        **padding,
    )
    batch = cache.batch(slice(None))
    padded = 0
    for row, (height, width) in enumerate(batch.sizes.tolist()):
        placement = cache.placement(row)
        assert placement.valid == (height, width)
        assert placement.size == cache[row].shape[:2]
        top, left = placement.padding
        outside = np.ones(placement.size, bool)
        outside[top : top + height, left : left + width] = False
        assert (cache[row][outside] == 77).all()
        padded += outside.any()
    assert padded
