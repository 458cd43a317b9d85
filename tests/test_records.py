"""Names in one blob, rows by key, failures: against lists and dicts."""

import json
import os

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from mmcache import DamagedCacheError, SourceError
from mmcache.records import (
    STAGES,
    Failure,
    Failures,
    Strings,
    find,
    key_order,
    printable,
    to_bytes,
    to_str,
)

names = st.binary(max_size=12)
lists = st.lists(names, max_size=12)
slices = st.slices(12) | st.slices(5)


def decoded(raw):
    return [to_str(name) for name in raw]


@given(lists)
@example([])
@example([b""])
@example([b"caf\xe9", b"", b"caf\xc3\xa9", b"\xff\x00"])
def test_names_are_a_sequence_of_str_that_gives_the_bytes_back(raw):
    strings = Strings.of(raw)
    assert len(strings) == len(raw)
    assert list(strings) == decoded(raw)
    assert [to_bytes(name) for name in strings] == raw
    assert [strings.raw(index) for index in range(len(raw))] == raw
    assert strings == decoded(raw)
    assert strings == tuple(decoded(raw))


@given(names)
def test_a_key_is_the_str_that_the_file_system_would_give(raw):
    assert to_str(raw) == os.fsdecode(raw)
    assert to_bytes(to_str(raw)) == raw
    assert to_bytes(raw) is raw


@given(st.text(st.characters(exclude_categories=())))
def test_no_str_makes_a_key_raise(text):
    assert isinstance(to_bytes(text), bytes)
    assert isinstance(printable(text), str)


@given(lists, slices, slices)
def test_slices_of_names_are_slices_of_the_list(raw, one, other):
    strings = Strings.of(raw)
    assert strings[one] == decoded(raw[one])
    assert strings[one][other] == decoded(raw[one][other])


@given(lists.filter(len), st.data())
def test_an_index_of_names_is_that_of_the_list(raw, data):
    index = data.draw(st.integers(-len(raw), len(raw) - 1))
    assert Strings.of(raw)[index] == to_str(raw[index])


def test_a_name_that_is_not_there_is_an_index_error():
    for index in (2, -3):
        with pytest.raises(IndexError):
            Strings.of([b"a", b"b"])[index]


@given(lists.filter(len), slices, st.data())
def test_taken_names_are_those_and_packed_hold_nothing_else(raw, part, data):
    some = raw[part]
    places = data.draw(st.lists(st.integers(0, len(some) - 1), max_size=8)) if some else []
    taken = Strings.of(raw)[part].take(np.array(places, np.int64))
    expected = [some[place] for place in places]
    assert taken == decoded(expected)
    packed = taken.packed()
    assert packed.blob.tobytes() == b"".join(expected)
    assert packed.offsets.tolist() == [len(b"".join(expected[:n])) for n in range(len(places) + 1)]
    assert packed == taken


@pytest.mark.parametrize(
    "offsets",
    [[0, 2, 1, 3], [-1, 1, 2, 3], [0, 1, 2, 4], [0, -(2**63), 2**63 - 1, 3], [9, 9, 9, 9]],
)
def test_names_that_are_not_in_their_bytes_are_damage_when_packed(offsets):
    names = Strings(np.frombuffer(b"abc", np.uint8), np.array(offsets, np.int64))
    with pytest.raises(DamagedCacheError, match="do not divide"):
        names[::-1].packed()


def test_no_names_of_some_are_packed_too():
    none = Strings.of([b"a", b"b"])[:0]
    assert none.packed() == none == none.take(np.array([], np.int64)).packed() == []


def test_taking_copies_no_name():
    strings = Strings.of([b"a", b"bb", b"ccc"])
    assert strings.take(np.array([2, 0])).blob is strings.blob
    assert strings[::-1].blob is strings.blob
    assert strings.packed() is strings


@given(lists, lists)
@example([b"ab", b"c"], [b"a", b"bc"])
def test_names_are_equal_exactly_where_their_lists_are(one, other):
    assert (Strings.of(one) == Strings.of(other)) == (one == other)
    assert (Strings.of(one)[::-1] == Strings.of(other[::-1])) == (one == other)
    assert (Strings.of(one) == decoded(other)) == (one == other)


def test_names_equal_nothing_of_another_kind():
    assert Strings.of([b"a"]) != "a"
    assert Strings.of([]) != 0


def test_many_names_print_as_a_few():
    assert repr(Strings.of([b"a", b"b"])) == "['a', 'b']"
    assert repr(Strings.of([b"a"] * 1000)) == "['a', 'a', 'a', ... 1000 in all]"


unique = st.lists(names, max_size=12, unique=True)


@given(unique)
def test_the_order_of_keys_is_that_of_their_bytes(raw):
    order = key_order(Strings.of(raw))
    if raw == sorted(raw):
        assert order is None
    else:
        assert [raw[row] for row in order] == sorted(raw)
        assert order.dtype == np.int64


@given(st.lists(names, min_size=1, max_size=6, unique=True), st.data())
def test_a_key_that_is_there_twice_is_named(raw, data):
    twice = data.draw(st.sampled_from(raw))
    place = data.draw(st.integers(0, len(raw)))
    with pytest.raises(SourceError, match="is there twice") as caught:
        key_order(Strings.of([*raw[:place], twice, *raw[place:]]))
    assert str(caught.value).startswith(printable(twice) + " ")


@given(unique, names)
def test_a_key_is_found_where_a_dict_would_find_it(raw, other):
    strings = Strings.of(raw)
    order = key_order(strings)
    oracle = {name: row for row, name in enumerate(raw)}
    for key in [*raw, other, other + b"\0", b""]:
        assert find(strings, order, key) == oracle.get(key)


@given(st.binary() | st.text(st.characters(exclude_categories=())))
def test_what_is_printed_prints_on_one_line_and_encodes(key):
    shown = printable(key)
    assert shown.isprintable()
    shown.encode("utf-8")


def test_printable_leaves_what_people_read_and_escapes_the_rest():
    assert printable("Fotos/Zürich 東京.jpg") == "Fotos/Zürich 東京.jpg"
    assert printable(b"caf\xe9.jpg") == "caf\\xe9.jpg"
    assert printable("a\nb\x1b[31m\u2028\u202e") == "a\\nb\\x1b[31m\\u2028\\u202e"


sizes = st.none() | st.integers(0, 2**40)
rows = st.lists(st.tuples(names, st.sampled_from(STAGES), st.text(max_size=9), sizes), max_size=6)


@given(rows, slices)
def test_failures_are_a_sequence_of_records(raw, part):
    failures = Failures.of(raw)
    expected = [Failure(to_str(key), *rest) for key, *rest in raw]
    assert len(failures) == len(raw)
    assert list(failures) == expected
    assert failures == expected
    assert failures[part] == expected[part]
    assert list(failures.raw()) == raw
    assert bool(failures) == bool(raw)


def test_a_failure_tells_key_stage_reason_and_the_size_of_the_file():
    (failure,) = Failures.of([(b"a.jpg", "header", "no picture", 12)])
    assert (failure.key, failure.stage, failure.reason) == ("a.jpg", "header", "no picture")
    assert failure.file_size == 12
    assert Failures.of([(b"a.jpg", "list", "no file", None)])[0].file_size is None


@given(rows)
def test_failures_are_json_whatever_a_name_or_a_reason_has(raw):
    failures = Failures.of(raw)
    told = json.loads(json.dumps(failures.to_json()).encode("ascii"))
    assert [(one["stage"], one["file_size"]) for one in told] == [row[1::2] for row in raw]
    assert all(one["key"].isprintable() and one["reason"].isprintable() for one in told)
    assert len(failures.to_text().splitlines()) == max(1, len(raw))


def test_failures_print_a_line_each_and_a_few_of_many():
    assert repr(Failures.of([])) == "no failures"
    assert repr(Failures.of([(b"a\n.jpg", "decode", "cut", None)])) == "a\\n.jpg: cut (decode)"
    assert (
        repr(Failures.of([(b"a.jpg", "decode", "cut", 4096)])) == "a.jpg: cut (decode, 4,096 bytes)"
    )
    many = repr(Failures.of([(b"a.jpg", "decode", "cut", 7)] * 1000)).splitlines()
    assert len(many) == 21
    assert many[-1] == "... 1,000 in all"
