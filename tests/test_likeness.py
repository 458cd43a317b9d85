"""Hashes of what is seen, and which are near each other: every pair compared is the rule."""

import json

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

import mmcache
from mmcache import likeness
from mmcache.geometry import Size
from mmcache.likeness import difference_hashes, distances, near_duplicates
from mmcache.testing import paint, paint_folder

# Hypothesis's own many 64-bit numbers are never near each other: few ones, with few bits turned.
BASES = st.lists(st.integers(0, 2**64 - 1), min_size=1, max_size=5)
TURNS = st.lists(st.integers(0, 63), max_size=6)


@st.composite
def hashes(draw):
    """Return hashes of which many are near each other, and some are 0."""
    bases = [0, *draw(BASES)]
    many = draw(st.lists(st.tuples(st.sampled_from(bases), TURNS), max_size=60))
    return np.array([base ^ sum(1 << bit for bit in set(bits)) for base, bits in many], np.uint64)


def naive(given, most, same=None):
    """Return the groups, each pair compared, joined one by one."""
    group = list(range(len(given)))
    for one, first in enumerate(given.tolist()):
        for other, second in enumerate(given.tolist()[:one]):
            if first and second:
                near = (first ^ second).bit_count() <= most
            else:
                near = first == second and same is not None and same[one] == same[other]
            if near and group[one] != group[other]:
                keep, gone = group[other], group[one]
                group = [keep if number == gone else number for number in group]
    groups = [
        [row for row, number in enumerate(group) if number == one] for one in sorted(set(group))
    ]
    return sorted((one for one in groups if len(one) > 1), key=lambda rows: (-len(rows), rows[0]))


def listed(groups):
    assert all(group.dtype == np.int64 for group in groups)
    return [group.tolist() for group in groups]


@given(hashes(), st.integers(0, 12))
def test_groups_are_those_of_comparing_every_pair(given, most):
    assert listed(near_duplicates(given, most)) == naive(given, most)


@given(hashes(), st.integers(0, 12))
def test_large_heaps_give_the_same_groups_as_small_ones(given, most):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(likeness, "_FEW", 2)
        patch.setattr(likeness, "_AT_ONCE", 3)
        assert listed(near_duplicates(given, most)) == naive(given, most)


@given(hashes(), st.integers(0, 6), st.data())
def test_pictures_without_detail_are_alike_only_where_they_are_the_same(given, most, data):
    count = len(given)
    same = np.array(data.draw(st.lists(st.integers(-3, 3), min_size=count, max_size=count)))
    same = same.astype(np.int64)
    assert listed(near_duplicates(given, most, same=same)) == naive(given, most, same)


@pytest.mark.parametrize("most", [1, 4, 7])
def test_many_hashes_give_what_comparing_every_pair_gives(most):
    random = np.random.default_rng(most)
    given = random.integers(1, 2**63, 1_500, dtype=np.uint64)[random.integers(0, 300, 1_500)]
    for _ in range(most):
        turned = random.integers(0, 64, 1_500).astype(np.uint64)
        given = given ^ (np.uint64(1) << turned)
    assert listed(near_duplicates(given, most)) == naive(given, most)


def test_a_chain_of_near_ones_is_one_group():
    given = np.array([(1 << number) - 1 for number in range(1, 65)], np.uint64)
    assert listed(near_duplicates(given, 1)) == [list(range(64))]
    assert near_duplicates(given, 0) == []


def test_few_masks_catch_every_pair_of_bits_that_differ():
    some = np.random.default_rng(3).integers(0, 2**63, 50, dtype=np.uint64)
    masks = [int(mask) for mask in likeness._masks(2, some)]
    for one in range(64):
        for other in range(one):
            turned = 1 << one | 1 << other
            assert any(not mask & turned for mask in masks)


@pytest.mark.slow
def test_a_million_hashes_take_seconds():
    random = np.random.default_rng(1)
    given = random.integers(1, 2**63, 1_000_000, dtype=np.uint64)
    given[::1_000] = given[1::1_000] ^ np.uint64(0b1011 << 20)
    groups = near_duplicates(given)  # without bands it would take an hour, and more than is waited
    assert listed(groups)[:1_000] == [[row, row + 1] for row in range(0, 1_000_000, 1_000)]


@given(st.lists(st.tuples(st.integers(0, 2**64 - 1), st.integers(0, 2**64 - 1)), min_size=1))
def test_the_distance_is_the_number_of_bits_that_differ(pairs):
    one, other = np.array(pairs, np.uint64).T
    told = distances(one, other)
    assert told.tolist() == [(a ^ b).bit_count() for a, b in pairs]


# Hashes ------------------------------------------------------------------------------------------


def overlapping(length, parts):
    """Return what each of *length* pixels adds to each of *parts*: a triangle, two parts wide."""
    step = length / parts
    middles = (np.arange(parts) + 0.5) * step
    away = np.abs(np.arange(length) + 0.5 - middles[:, None]) / max(step, 1)
    weights = np.maximum(0, 1 - away)
    return weights / weights.sum(axis=1, keepdims=True)


def bits_of(picture):
    """Return the hash of a grey picture, and by how much greys differ at the closest."""
    shrunk = overlapping(len(picture), 8) @ picture @ overlapping(picture.shape[1], 9).T
    told = 0
    for left, right in zip(shrunk[:, :-1].ravel(), shrunk[:, 1:].ravel(), strict=True):
        told = told << 1 | bool(right > left)
    return told, float(np.abs(np.diff(shrunk)).min())


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_a_hash_is_what_its_algorithm_says(dtype):
    """By numpy alone, of pictures that are small enough not to be halved before."""
    random = np.random.default_rng(5)
    seen = 0
    for _ in range(300):
        size = random.integers(8, 24, 2)
        picture = random.integers(0, np.iinfo(dtype).max + 1, (*size, 1)).astype(dtype)
        told, least = bits_of(picture[:, :, 0] * (255 / np.iinfo(dtype).max))
        if least > 0.13:  # what is closer is equal
            seen += 1
            assert int(difference_hashes([picture])[0]) == told
    assert seen > 20


def test_hashes_of_large_pictures_are_near_those_of_the_algorithm_alone(ragged):
    for picture, told in zip(ragged, difference_hashes(ragged), strict=True):
        mine, _ = bits_of(np.asarray(Image.fromarray(picture).convert("L")))
        assert (mine ^ int(told)).bit_count() <= 3


def test_a_single_colour_is_no_detail_at_any_size():
    for number, size in enumerate([(1, 1), (1, 900), (333, 7), (500, 700), (64, 64)]):
        flat = np.full((*size, 3), (number * 40, 255 - number, 17), np.uint8)
        deep = np.full((*size, 1), 257 * number + 3, np.uint16)
        assert difference_hashes([flat, deep]).tolist() == [0, 0]


def test_a_pixel_that_is_a_shade_brighter_is_no_detail():
    flat = np.full((400, 400, 1), 200, np.uint8)
    flat[37, 111] += 1
    assert difference_hashes([flat]).tolist() == [0]


def test_copies_in_other_sizes_and_qualities_are_near_and_others_are_not(tmp_path):
    pictures = [paint(Size(300, 400), seed) for seed in range(40)]
    for number, picture in enumerate(pictures):
        picture.save(tmp_path / f"{number}.jpg", quality=30)
    small = [np.asarray(one.resize((133, 100))) for one in pictures]
    again = [np.asarray(Image.open(tmp_path / f"{number}.jpg")) for number in range(40)]
    whole = difference_hashes(np.asarray(one) for one in pictures)
    for other in (small, again):
        apart = distances(whole, difference_hashes(other))
        assert np.count_nonzero(apart > 4) <= 1
        assert apart.max() <= 6
    every = distances(whole[:, None], whole[None])
    assert np.median(every) > 20


@pytest.mark.parametrize("mode", ["L", "RGBA", "I;16"])
def test_every_mode_has_the_hash_of_its_grey(mode):
    grey = paint(Size(80, 90), 7, "L")
    plain = difference_hashes([np.asarray(grey)[:, :, None]])
    if mode == "I;16":
        other = np.asarray(grey).astype(np.uint16)[:, :, None] * 257
    else:
        other = np.atleast_3d(np.asarray(grey.convert(mode)))
    assert distances(plain, difference_hashes([other]))[0] <= 1


def test_colours_that_are_clear_do_not_count():
    seen = np.asarray(paint(Size(80, 90), 7)).copy()
    alpha = np.zeros((80, 90, 1), np.uint8)
    alpha[20:60, 20:70] = 255
    other = np.where(alpha > 0, seen, 255 - seen)
    one, two = difference_hashes([np.dstack([seen, alpha]), np.dstack([other, alpha])])
    assert one == two != 0


def test_no_picture_has_no_hash():
    assert difference_hashes([]).shape == (0,)
    assert near_duplicates(np.empty(0, np.uint64)) == []


# Of a cache --------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def copies(tmp_path_factory):
    """A cache of pictures and copies of some, of single colours, all with padding."""
    folder = paint_folder(tmp_path_factory.mktemp("copies") / "in", 12, longest=300, classes=False)
    with Image.open(folder / "00005.jpg") as image:
        image.save(folder / "a copy.jpg", quality=40, exif=image.getexif())
        image.reduce(2).save(folder / "half.png", exif=image.getexif())
    for number, colour in enumerate(["white", "white", "black"]):
        Image.new("RGB", (90, 60), colour).save(folder / f"flat {number}.png")
    path = folder.parent / "out.mmc"
    return mmcache.build(folder, path, size=96, resize="pad", progress=False)


def test_copies_are_found_the_largest_source_first(copies):
    found = mmcache.duplicates(copies, progress=False)
    keys = [[copies.keys[row] for row in group] for group in found.groups]
    assert keys == [["00005.jpg", "a copy.jpg", "half.png"], ["flat 0.png", "flat 1.png"]]
    assert [copies.keys[row] for row in found.extra] == ["a copy.jpg", "flat 1.png", "half.png"]
    assert len(found) == 2
    left = copies[np.delete(np.arange(len(copies)), found.extra)]
    assert len(mmcache.duplicates(left, progress=False)) == 0


def test_pictures_of_one_colour_and_other_shapes_are_not_alike(tmp_path):
    (tmp_path / "in").mkdir()
    for number, size in enumerate([(90, 60), (60, 90), (90, 60)]):
        Image.new("RGB", size, "white").save(tmp_path / f"in/{number}.png")
    cache = mmcache.build(tmp_path / "in", tmp_path / "out.mmc", progress=False)
    assert listed(mmcache.duplicates(cache, progress=False).groups) == [[0, 2]]


def test_padding_makes_no_pictures_alike(copies):
    valid = []
    for row, picture in enumerate(copies):
        placed = copies.placement(row)
        (top, left), (height, width) = placed.padding, placed.valid
        valid.append(picture[top : top + height, left : left + width])
    told = mmcache.duplicates(copies, progress=False).hashes
    assert told.tolist() == difference_hashes(valid).tolist()


def test_rows_are_those_of_a_narrower_cache(copies):
    random = np.random.default_rng(2)
    whole = mmcache.duplicates(copies, progress=False)
    order = random.permutation(len(copies))
    found = mmcache.duplicates(copies[order], progress=False)
    assert [sorted(order[one].tolist()) for one in found.groups] == [
        sorted(one.tolist()) for one in whole.groups
    ]
    assert found.hashes.tolist() == whole.hashes[order].tolist()
    twice = mmcache.duplicates(copies[[0, 1, 0]], progress=False)
    assert listed(twice.groups) == [[0, 2]]


def test_a_larger_distance_never_finds_less(copies):
    found = [
        len(mmcache.duplicates(copies, distance=bits, progress=False).extra)
        for bits in (0, 2, 4, 8, 16)
    ]
    assert found == sorted(found)


def test_duplicates_print_well_and_are_plain_data(copies):
    found = mmcache.duplicates(copies.path, progress=False)
    assert "5 pictures of 17 in 2 groups" in repr(found)
    assert "00005.jpg, a copy.jpg, half.png" in repr(found)
    html = found._repr_html_()
    assert html.count("<img") == 2
    assert len(html) < 200_000
    told = json.loads(json.dumps(found.to_json()))
    assert told["groups"][1]["keys"] == ["flat 0.png", "flat 1.png"]
    assert told["groups"][0]["rows"] == found.groups[0].tolist()
    none = mmcache.duplicates(copies[:1], progress=False)
    assert "0 groups" in repr(none)
    assert none.extra.tolist() == []
    assert "<img" not in none._repr_html_()


@pytest.mark.parametrize("distance", [-1, 17, 1.5, None])
def test_a_distance_that_makes_no_sense_is_refused(copies, distance):
    with pytest.raises(mmcache.SettingError, match="distance="):
        mmcache.duplicates(copies, distance=distance, progress=False)
    with pytest.raises(mmcache.SelectionError):
        mmcache.duplicates(copies[:0], progress=False)
