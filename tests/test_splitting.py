"""Splits: by keys, so that they stay; by class, so that they are fair; groups stay together."""

import hashlib
import math
import os
import time
import tracemalloc
from collections import Counter, defaultdict
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import mmcache
from mmcache import splitting
from mmcache.errors import DamagedCacheError, SettingError
from mmcache.records import Strings, to_bytes
from mmcache.testing import paint_folder

SEEDS = st.integers(0, 2**64 - 1)
SHARES = st.one_of(
    st.sampled_from([0.5, 0.9, 0.57, 1 / 3]).map(lambda share: (share, 1 - share)),
    st.lists(st.integers(1, 9), min_size=1, max_size=4).map(
        lambda parts: tuple(part / (sum(parts) + 1) for part in parts)
    ),
)
NAMES = st.text(st.characters(codec="utf-8", exclude_characters="\0"), min_size=1, max_size=6)
PICTURES = st.dictionaries(NAMES, st.integers(-1, 3), min_size=1, max_size=40)


class Listed:
    """As much of a cache as a split asks for: keys, labels and narrowing."""

    def __init__(self, keys, labels=None):
        self.keys = Strings.of([to_bytes(key) for key in keys])
        self.labels = None if labels is None else np.array(labels, np.int64)

    def __len__(self):
        return len(self.keys)

    def __getitem__(self, rows):
        labels = None if self.labels is None else self.labels[rows]
        return Listed([self.keys[row] for row in rows.tolist()], labels)


def hash_of(name, seed):
    digest = hashlib.blake2b(to_bytes(name), digest_size=8, salt=seed.to_bytes(8, "little"))
    return int.from_bytes(digest.digest(), "little")


def sides(cache, fractions, **how):
    """Return the part of each key; keys that are in none are left out."""
    try:
        parts = mmcache.split(cache, fractions, **how)
    except SettingError as error:  # of few pictures, some parts have none
        assert "would be empty" in str(error)  # noqa: PT017  # most draws raise nothing
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr("mmcache.splitting._refuse_empty", lambda *_: None)
            parts = mmcache.split(cache, fractions, **how)
    return {key: number for number, part in enumerate(parts) for key in part.keys}


def naive(pictures, fractions, seed):
    """Rank the keys of each class by their hashes; the middle of each rank tells its part."""
    classes = defaultdict(list)
    for key, label in pictures.items():
        classes[label].append(key)
    found = {}
    for keys in classes.values():
        keys.sort(key=lambda key: hash_of(key, seed))
        for rank, key in enumerate(keys):
            end = Fraction()
            for part, share in enumerate(fractions):
                end += Fraction(repr(share))
                if abs(end - 1) < Fraction(1, 10**9):
                    end = Fraction(1)
                if rank + Fraction(1, 2) < end * len(keys):
                    found[key] = part
                    break
    return found


# The rule -----------------------------------------------------------------------------------------


@given(PICTURES, SHARES, SEEDS)
def test_a_split_is_what_ranking_each_class_by_hash_gives(pictures, fractions, seed):
    cache = Listed(pictures, list(pictures.values()))
    assert sides(cache, fractions, seed=seed) == naive(pictures, fractions, seed)


@given(PICTURES, SHARES, SEEDS)
def test_each_class_is_divided_exactly_to_within_one_picture(pictures, fractions, seed):
    there = Counter(pictures.values())
    found = sides(Listed(pictures, list(pictures.values())), fractions, seed=seed)
    counts = Counter((pictures[key], part) for key, part in found.items())
    for label, total in there.items():
        for part, share in enumerate(fractions):
            assert abs(counts[label, part] - share * total) <= 1 + 1e-9


@given(PICTURES, SHARES, SEEDS, NAMES, st.integers(-1, 3))
def test_a_picture_that_comes_moves_at_most_one_other_across_each_border(
    pictures, fractions, seed, new, label
):
    before = sides(Listed(pictures, list(pictures.values())), fractions, seed=seed)
    more = pictures | {new: pictures.get(new, label)}
    after = sides(Listed(more, list(more.values())), fractions, seed=seed)
    none = len(fractions)
    moved = [(before.get(key, none), after.get(key, none)) for key in pictures]
    for border in range(1, none + 1):
        assert sum(min(pair) < border <= max(pair) for pair in moved) <= 1
    assert all(pictures[key] == more[new] for key in pictures if before.get(key) != after.get(key))


@given(PICTURES, PICTURES, SHARES, SEEDS)
def test_by_none_no_picture_ever_changes_sides(pictures, others, fractions, seed):
    before = sides(Listed(pictures), fractions, seed=seed, by=None)
    after = sides(Listed(pictures | others), fractions, seed=seed, by=None)
    assert {key: part for key, part in after.items() if key in pictures} == before


@given(st.lists(NAMES, min_size=1, max_size=40, unique=True), SHARES, SEEDS)
def test_by_none_the_hash_alone_tells_the_side(keys, fractions, seed):
    found = sides(Listed(keys), fractions, seed=seed, by=None)
    for key in keys:
        place = Fraction(hash_of(key, seed), 2**64)
        end, part = Fraction(), 0
        for share in fractions:
            end += Fraction(repr(share))
            part += place >= end
        near = abs(end - 1) < Fraction(1, 10**9)
        assert found.get(key, len(fractions)) == (min(part, len(fractions) - 1) if near else part)


def test_by_none_the_shares_are_right_on_average():
    keys = [f"{number:05}.jpg" for number in range(20_000)]
    parts = mmcache.split(Listed(keys), (0.7, 0.2, 0.05), by=None)
    for part, share in zip(parts, (0.7, 0.2, 0.05), strict=True):
        deviation = math.sqrt(len(keys) * share * (1 - share))
        assert abs(len(part) - share * len(keys)) < 4 * deviation


@given(PICTURES, SHARES, SEEDS, st.randoms())
def test_the_order_of_the_rows_makes_no_difference(pictures, fractions, seed, random):
    items = list(pictures.items())
    random.shuffle(items)
    shuffled = Listed([key for key, _ in items], [label for _, label in items])
    cache = Listed(pictures, list(pictures.values()))
    for by in ("label", None):
        assert sides(shuffled, fractions, seed=seed, by=by) == sides(
            cache, fractions, seed=seed, by=by
        )


# On a real cache ----------------------------------------------------------------------------------


def test_train_and_validation_are_narrower_caches_in_their_own_order(ragged):
    parts = mmcache.split(ragged, (0.5, 0.25, 0.25), seed=3)
    assert sum(map(len, parts)) == len(ragged)
    assert sorted(key for part in parts for key in part.keys) == list(ragged.keys)
    for part in parts:
        assert isinstance(part, mmcache.Cache)
        assert list(part.keys) == sorted(part.keys)
        for picture, key in zip(part, part.keys, strict=True):
            assert np.shares_memory(picture, ragged[key])


def test_a_number_alone_means_it_and_the_rest(uniform):
    whole = [list(part.keys) for part in mmcache.split(uniform, (0.75, 0.25))]
    assert [list(part.keys) for part in mmcache.split(uniform, 0.75)] == whole
    assert [list(part.keys) for part in mmcache.split(uniform, np.float64(0.75))] == whole
    (few,) = mmcache.split(uniform, [0.75])
    assert list(few.keys) == whole[0]


def test_three_thirds_are_a_whole(uniform):
    thirds = (1 / 3, 1 / 3, 1 / 3)
    assert sum(thirds) != 1 or sum(map(Fraction, thirds)) != 1
    assert splitting._borders(thirds)[-1] == 1
    assert sum(map(len, mmcache.split(uniform, thirds))) == len(uniform)


@pytest.mark.parametrize(("share", "pictures", "first"), [(0.1, 15, 1), (0.55, 10, 5), (0.7, 5, 3)])
def test_a_picture_whose_middle_lies_on_a_border_as_written_goes_to_the_later_part(
    share, pictures, first
):
    cache = Listed(map(str, range(pictures)))
    assert [len(part) for part in mmcache.split(cache, share)] == [first, pictures - first]


def test_a_hash_on_a_border_goes_to_the_later_part():
    hashes = np.array([0, 2**63 - 1, 2**63, 2**64 - 1], np.uint64)
    halves = [Fraction(1, 2), Fraction(1)]
    assert splitting._sides_by_hash(hashes, halves).tolist() == [0, 0, 1, 1]
    assert splitting._sides_by_hash(hashes, halves[:1]).tolist() == [0, 0, 1, 1]


def test_another_seed_is_another_split_and_the_same_one_the_same(ragged):
    def first(seed):
        return list(mmcache.split(ragged, 0.5, seed=seed)[0].keys)

    assert first(1) == first(1)
    assert len({tuple(first(seed)) for seed in range(5)}) > 1


def test_a_cache_that_is_moved_converted_or_reversed_is_divided_alike(uniform, tmp_path):
    elsewhere = mmcache.convert(uniform, tmp_path / "moved.h5", progress=False)
    for by in ("label", None):
        expected = sides(uniform, 0.5, by=by)
        assert sides(elsewhere, 0.5, by=by) == expected
        assert sides(uniform[::-1], 0.5, by=by) == expected


def test_a_part_of_a_cache_is_divided_by_none_as_the_whole_is(uniform):
    whole = sides(uniform, 0.5, by=None)
    part = sides(uniform[3::2], 0.5, by=None)
    assert part == {key: whole[key] for key in uniform[3::2].keys}


def test_a_split_stays_when_pictures_are_added_to_the_folder(tmp_path):
    folder = paint_folder(tmp_path / "photos", 40, longest=32)
    last = [path for path in sorted(folder.rglob("*.*")) if path.is_file()][::7]
    for path in last:
        path.rename(path.with_name("." + path.name))
    before = mmcache.build(folder, tmp_path / "out.mmc", size=8, progress=False)
    old = {by: sides(before, 0.8, by=by) for by in ("label", None)}
    for path in last:
        path.with_name("." + path.name).rename(path)
    after = mmcache.build(folder, tmp_path / "out.mmc", size=8, progress=False, exist="update")
    assert len(after) == len(before) + len(last)
    new = {by: sides(after, 0.8, by=by) for by in ("label", None)}
    assert old[None].items() <= new[None].items()
    moved = sum(new["label"][key] != part for key, part in old["label"].items())
    assert moved <= len(last)


def test_a_cache_without_classes_is_one_class(painted, tmp_path):
    (tmp_path / "flat").mkdir()
    for path in painted.rglob("*.*"):
        if path.is_file():
            os.link(path, tmp_path / "flat" / f"{path.parent.name}-{path.name}")
    flat = mmcache.build(tmp_path / "flat", tmp_path / "flat.mmc", size=16, progress=False)
    assert flat.labels is None
    assert [len(part) for part in mmcache.split(flat, 0.75)] == [18, 6]


def test_a_picture_that_is_there_twice_is_on_one_side(uniform):
    doubled = uniform[np.tile(np.arange(len(uniform)), 3)]
    for by in ("label", None):
        one, other = mmcache.split(doubled, 0.5, by=by)
        assert not {*one.keys} & {*other.keys}
        assert len(one) + len(other) == len(doubled)


def test_by_an_array_each_of_its_groups_is_divided(uniform):
    groups = np.arange(len(uniform)) % 2
    for by in (groups, groups.tolist(), np.array(["even", "odd"])[groups], groups.astype(np.uint8)):
        train, _ = mmcache.split(uniform, 0.75, by=by)
        rows = [uniform.row_of(key) for key in train.keys]
        assert Counter(groups[rows].tolist()) == {0: 9, 1: 9}


# Groups that stay together ------------------------------------------------------------------------


GROUPED = st.lists(
    st.tuples(st.integers(0, 7), st.integers(0, 2)), min_size=1, max_size=60
)  # of each picture its group, and its class


def grouped(rows):
    return Listed([f"{row}.jpg" for row in range(len(rows))], [label for _, label in rows])


def sides_of_groups(rows, fractions, **how):
    found = sides(grouped(rows), fractions, together=[group for group, _ in rows], **how)
    of = defaultdict(set)
    for row, (group, _) in enumerate(rows):
        of[group].add(found.get(f"{row}.jpg"))
    assert all(len(parts) == 1 for parts in of.values())
    return {group: parts.pop() for group, parts in of.items()}


@given(GROUPED, SHARES, SEEDS)
def test_groups_are_not_torn_apart_and_shares_are_off_by_half_a_group_at_most(
    rows, fractions, seed
):
    parts = sides_of_groups(rows, fractions, seed=seed)
    sizes = Counter(group for group, _ in rows)
    of = {
        group: min(range(3), key=lambda label: (-sum(row == (group, label) for row in rows), label))
        for group in sizes
    }
    for label in set(of.values()):
        here = [group for group in sizes if of[group] == label]
        total, largest = sum(sizes[g] for g in here), max(sizes[g] for g in here)
        for border in range(1, len(fractions) + 1):
            below = sum(sizes[g] for g in here if parts[g] is not None and parts[g] < border)
            assert abs(below - sum(fractions[:border]) * total) <= largest / 2 + 1e-6


@given(GROUPED, SHARES, SEEDS, st.data())
def test_a_picture_that_comes_moves_at_most_one_group_across_each_border(
    rows, fractions, seed, data
):
    pure = [(group, group % 3) for group, _ in rows]
    new = data.draw(st.integers(0, 8))
    before = sides_of_groups(pure, fractions, seed=seed)
    after = sides_of_groups([*pure, (new, new % 3)], fractions, seed=seed)
    none = len(fractions)
    for border in range(1, none + 1):
        moved = [
            group
            for group, part in before.items()
            if ((none if part is None else part) < border)
            != ((none if after[group] is None else after[group]) < border)
        ]
        assert len(moved) <= 1


@given(GROUPED, SHARES, SEEDS)
def test_by_none_a_groups_name_alone_tells_its_side(rows, fractions, seed):
    parts = sides_of_groups(rows, fractions, seed=seed, by=None)
    names = [str(group) for group in parts]
    by_name = sides(Listed(names), fractions, seed=seed, by=None)
    assert parts == {int(name): by_name.get(name) for name in names}


def test_groups_can_be_numbers_text_or_a_function_of_the_key(uniform):
    names = [key.rpartition("/")[2][:4] for key in uniform.keys]
    expected = sides(uniform, 0.5, by=None, together=names)
    assert sides(uniform, 0.5, by=None, together=lambda key: key.rpartition("/")[2][:4]) == expected
    assert sides(uniform, 0.5, by=None, together=np.array(names)) == expected
    numbers = np.arange(len(uniform)) // 3
    by_number = sides(uniform, 0.5, by=None, together=numbers)
    assert by_number == sides(uniform, 0.5, by=None, together=lambda key: uniform.row_of(key) // 3)
    assert by_number == sides(uniform, 0.5, by=None, together=numbers.astype(str))


def test_a_function_that_keeps_each_picture_alone_changes_nothing(uniform):
    for by in ("label", None):
        assert sides(uniform, 0.5, by=by, together=str) == sides(uniform, 0.5, by=by)


# What is refused ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "fractions",
    [0, 1, 1.0, -0.1, 1.2, math.nan, (), (0.5, 0), (0.9, 0.2), (0.5, -0.1), "0.9", None, ["a"], {}],
    ids=repr,
)
def test_fractions_that_make_no_sense_are_a_setting_error_that_repeats_them(uniform, fractions):
    with pytest.raises(SettingError) as caught:
        mmcache.split(uniform, fractions)
    assert f"fractions={fractions!r}" in str(caught.value)


def test_an_empty_part_is_an_error_that_says_what_to_do(uniform):
    with pytest.raises(SettingError, match=r"part 2 .* empty, of 24 pictures: .* by=None,"):
        mmcache.split(uniform, 0.99)
    with pytest.raises(SettingError, match=r"part 1 .* empty, of 24 pictures: .* another seed"):
        mmcache.split(uniform, 1e-9, by=None)
    with pytest.raises(SettingError, match=r"part 1 .* of 0 pictures"):
        mmcache.split(uniform[:0], 0.5)


@pytest.mark.parametrize("seed", [-1, 0.5, True, None, 2**64])
def test_a_seed_is_a_whole_number(uniform, seed):
    with pytest.raises(SettingError, match="seed="):
        mmcache.split(uniform, 0.5, seed=seed)


@pytest.mark.parametrize("name", ["by", "together"])
@pytest.mark.parametrize(
    "groups", [np.arange(23), np.zeros((24, 1), int), np.ones(24), [[1], [1, 2]], 5], ids=repr
)
def test_groups_are_one_integer_or_string_for_each_picture(uniform, name, groups):
    with pytest.raises(SettingError, match=name):
        mmcache.split(uniform, 0.5, **{name: groups})


def test_by_is_label_none_or_an_array(uniform):
    with pytest.raises(SettingError, match="by='class'"):
        mmcache.split(uniform, 0.5, by="class")


@pytest.mark.parametrize("group", [None, 0.5, ("a",), True])
def test_a_function_gives_the_name_of_a_group(uniform, group):
    with pytest.raises(SettingError, match=r"together gave .* for 'circles/00000\.jpg'"):
        mmcache.split(uniform, 0.5, together=lambda _: group)


# The bytes of the keys ----------------------------------------------------------------------------


@given(st.lists(st.binary(max_size=5), max_size=20), st.data())
def test_the_views_of_names_are_their_bytes(names, data):
    strings = Strings.of(names)
    assert [bytes(view) for view in strings.views()] == names
    rows = data.draw(st.lists(st.integers(0, max(0, len(names) - 1)), max_size=8 if names else 0))
    taken = strings.take(np.array(rows, np.int64))
    assert [bytes(view) for view in taken.views()] == [names[row] for row in rows]


@pytest.mark.parametrize("offsets", [[0, 3, 2], [-1, 1, 2], [0, 1, 9]])
def test_damaged_offsets_of_names_are_an_error_and_no_other_hash(offsets):
    names = Strings(np.zeros(4, np.uint8), np.array(offsets, np.int64))
    with pytest.raises(DamagedCacheError, match="offsets"):
        list(names.views())


@pytest.mark.slow
def test_a_million_keys_take_seconds_and_memory_that_stays_flat():
    cache = Listed(f"class{row % 100:03}/{row:08}.jpg" for row in range(1_000_000))
    cache.labels = np.arange(1_000_000) % 100
    began = time.perf_counter()
    hashes = splitting._hashes(cache.keys.views(), 0)
    splitting._sides_by_rank(hashes, cache.labels, [Fraction(9, 10), Fraction(1)])
    assert time.perf_counter() - began < 30  # 1.3 s where nothing else runs
    tracemalloc.start()
    splitting._hashes(cache.keys.views(), 0)
    most = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert most < 40_000_000  # 8 bytes a key, while they are gathered a little more
