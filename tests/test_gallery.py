"""What one who browses asks for, against loops over the same cache."""

import io
import json
import os
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

import mmcache
from mmcache import searching
from mmcache.answering import Answers
from mmcache.gallery import Filter, Gallery
from mmcache.records import Failures, Strings, to_bytes
from mmcache.searching import holding
from mmcache.testing import paint
from mmcache.thumbnails import encoded, for_eyes, sprite

NAMES = st.lists(st.text("abAB./é0", max_size=6).map(to_bytes), max_size=40)
TEXTS = st.text("abABé0.", min_size=1, max_size=4).map(to_bytes)


def naive(names, text):
    return [place for place, name in enumerate(names) if text.lower() in name.lower()]


@given(NAMES, TEXTS)
def test_names_that_hold_a_text_are_found_and_no_other(names, text):
    assert list(holding(Strings.of(names), text).rows()) == naive(names, text)


@given(NAMES, TEXTS, st.data())
def test_of_some_names_in_any_order_those_are_found_that_hold_it(names, text, data):
    strings = Strings.of(names)
    rows = data.draw(st.lists(st.integers(0, len(names) - 1), max_size=30)) if names else []
    picked = strings.take(np.array(rows, np.int64))
    assert list(holding(picked, text).rows()) == naive([names[row] for row in rows], text)
    backwards = strings.take(range(len(names) - 1, -1, -2))
    assert list(holding(backwards, text).rows()) == naive(names[::-1][::2], text)


def test_a_text_that_crosses_two_names_or_two_pieces_is_in_neither(monkeypatch):
    monkeypatch.setattr(searching, "_SPAN", 3)
    names = [b"ab", b"ab", b"aba", b"", b"b", b"aabb", b"a"]
    for text in (b"ba", b"ab", b"bab", b"aa", b"abab", b"b"):
        assert list(holding(Strings.of(names), text).rows()) == naive(names, text)


def test_offsets_that_divide_nothing_are_damage():
    keys = Strings(np.zeros(10, np.uint8), np.array([0, 5, 3, 10]))
    with pytest.raises(mmcache.DamagedCacheError, match="offsets"):
        holding(keys, b"a")
    keys = Strings(np.zeros(10, np.uint8), np.array([0, 5, 30]))
    with pytest.raises(mmcache.DamagedCacheError, match="offsets"):
        holding(keys, b"a")


# Filters -----------------------------------------------------------------------------------------


def parts_of(cache):
    return [cache, cache[3:20], cache[::-1], cache[[5, 5, 2, 23]], cache[[]]]


def wanted_by_a_loop(cache, wanted):
    return [
        place
        for place in range(len(cache))
        if wanted.label in (None, int(cache.labels[place]))
        and wanted.text.lower() in cache.keys[place].lower()
        and wanted.shape in (None, tuple(cache.shapes[place, :2].tolist()))
    ]


@given(st.sampled_from([None, 0, 1, 2, 7, -1]), st.sampled_from(["", "1", "WAVES", "z", ".jpg"]),
       st.sampled_from([None, 0, 5, (1, 1)]), st.integers(0, 4))  # fmt: skip
def test_filters_leave_what_a_loop_leaves(ragged, label, text, shape, which):
    cache = parts_of(ragged)[which]
    if isinstance(shape, int):
        shape = tuple(ragged.shapes[shape, :2].tolist())
    wanted = Filter(label, text, shape)
    gallery, left = Gallery(cache), wanted_by_a_loop(cache, wanted)
    assert list(gallery.filtered(*wanted)) == left
    assert gallery.count(wanted) == len(left)
    assert gallery.places(wanted, 2, 5).tolist() == left[2:5]
    assert [*gallery.narrowed(gallery.filtered(*wanted)).keys] == [cache.keys[at] for at in left]


def test_nothing_filtered_is_a_range_that_takes_nothing(uniform):
    gallery = Gallery(uniform)
    assert gallery.filtered() == range(24)
    assert gallery._marks == {}


def test_of_many_filters_the_last_few_are_kept(uniform):
    gallery = Gallery(uniform)
    for number in range(30):
        gallery.filtered(text=str(number))
    assert len(gallery._marks) < 6


def test_a_label_where_there_are_none_is_a_sentence(painted, tmp_path):
    cache = mmcache.build(painted / "waves", tmp_path / "w.mmc", size=32, progress=False)
    with pytest.raises(mmcache.SettingError, match="has no labels"):
        Gallery(cache).filtered(label=1)
    assert Gallery(cache).outline()["labelled"] is False


def test_common_shapes_come_in_the_order_of_their_number(ragged):
    shapes = [tuple(shape) for shape in ragged.shapes[:, :2].tolist()]
    told = Gallery(ragged[[0, 1, 1, 2, 2, 2]]).common_shapes()
    assert told == [shapes[2], shapes[1], shapes[0]]
    assert Gallery(ragged[[]]).common_shapes() == []


# The selection -----------------------------------------------------------------------------------


@given(st.lists(st.tuples(st.sampled_from(["add", "drop", "only"]), st.sampled_from(["", "1"]),
                          st.integers(0, 30), st.integers(0, 30)), max_size=8))  # fmt: skip
def test_a_selection_is_what_sets_would_make_of_it(ragged, steps):
    gallery, oracle = Gallery(ragged), set()
    for how, text, start, stop in steps:
        meant = set(wanted_by_a_loop(ragged, Filter(text=text))[start:stop])
        gallery.select(Filter(text=text), [(start, stop)], how)
        oracle = {"add": oracle | meant, "drop": oracle - meant, "only": meant}[how]
    assert list(gallery.selected) == sorted(oracle)
    assert gallery.selection == (len(steps), len(oracle))
    assert eval(gallery.selected_rows()) == sorted(oracle)  # it is Python
    assert gallery.selected_keys().split() == [ragged.keys[place] for place in sorted(oracle)]
    assert [*gallery.narrowed(gallery.selected).keys] == [ragged.keys[at] for at in sorted(oracle)]


def test_rows_that_follow_one_another_are_copied_as_a_range(ragged):
    gallery = Gallery(ragged)
    gallery.select(Filter(), [(0, 2), (5, 20)])
    assert gallery.selected_rows() == "[0, 1, *range(5, 20)]"


# Pixels ------------------------------------------------------------------------------------------


def opened(data):
    with Image.open(io.BytesIO(data)) as image:
        return np.asarray(image.convert("RGB")).astype(int)


@pytest.mark.parametrize("edge", [40, 48, 100])
def test_a_sprite_has_each_picture_at_its_aspect_where_its_box_says(ragged, edge):
    pictures = list(ragged)
    drawn = sprite(pictures, edge)
    seen = opened(drawn.jpeg)
    taken, differences = np.zeros(seen.shape[:2], int), []
    for pixels, (left, top, width, height) in zip(pictures, drawn.boxes, strict=True):
        assert max(width, height) == min(edge, max(pixels.shape[:2]))
        assert abs(width * pixels.shape[0] - height * pixels.shape[1]) <= max(pixels.shape)
        mine = Image.fromarray(pixels).resize((width, height), Image.Resampling.BOX)
        part = seen[top : top + height, left : left + width]
        differences.append(np.abs(part - np.asarray(mine)).mean())
        taken[top : top + height, left : left + width] += 1
    assert taken.max() == 1
    assert np.mean(differences) < 10


def test_a_sprite_of_nothing_is_a_picture():
    assert sprite([], 64).boxes == []
    assert opened(sprite([], 64).jpeg).size


def test_of_a_large_record_few_pixels_are_touched_and_it_looks_the_same():
    large = np.asarray(paint(mmcache.Size(3000, 2000), 1))
    box = sprite([large], 128).boxes[0]
    assert box == (0, 0, 85, 128)
    small = np.asarray(Image.fromarray(large).resize((85, 128), Image.Resampling.BOX))
    part = opened(sprite([large], 128).jpeg)[:128, :85]
    assert np.abs(part - small).mean() < 8


def test_sixteen_bits_are_eight_numbers_are_colours_and_glass_lies_over_checks():
    wide = np.full((4, 4, 1), 200 * 256 + 99, np.uint16)
    assert set(np.asarray(for_eyes(wide)).reshape(-1).tolist()) == {200}
    mask = np.arange(16, dtype=np.uint8).reshape(4, 4, 1)
    colours = np.asarray(for_eyes(mask, masks=True)).reshape(-1, 3)
    assert len({tuple(colour) for colour in colours.tolist()}) == 16
    assert not colours[0].any()
    clear = np.zeros((40, 40, 4), np.uint8)
    assert len(np.unique(np.asarray(for_eyes(clear)))) == 2
    opaque = np.full((40, 40, 4), 255, np.uint8)
    assert np.asarray(for_eyes(opaque)).min() == 255


def test_one_picture_is_sent_as_it_is(ragged):
    kind, data = encoded(ragged[3])
    assert kind == "image/png"
    assert np.array_equal(opened(data), ragged[3])
    kind, data = encoded(np.zeros((1200, 1000, 3), np.uint8))
    assert kind == "image/jpeg"
    assert max(opened(encoded(np.zeros((9000, 3, 3), np.uint8))[1]).shape) == 3000


# Facts and failures ------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def hostile(tmp_path_factory):
    """A cache whose every name wants to be something else."""
    folder = os.fsencode(tmp_path_factory.mktemp("hostile") / "in")
    for number, name in enumerate((b"<script>alert(1)</script".replace(b"/", b"_"), b"\"'&\n")):
        Path(os.fsdecode(folder + b"/" + name)).mkdir(parents=True)
        paint(mmcache.Size(30, 40), number).save(folder + b"/" + name + b"/caf\xe9 <b>.jpg")
    Path(os.fsdecode(folder), "<img src=x onerror=alert(2)>.jpg").write_bytes(b"no picture")
    path = os.fsdecode(folder + b".mmc")
    with pytest.warns(mmcache.PicturesSkippedWarning):
        return mmcache.build(os.fsdecode(folder), path, size=32, progress=False)


def test_details_are_those_that_explain_tells(ragged):
    part = ragged[[7, 3]]
    told = Gallery(part).details(1)
    facts = dict(told["facts"])
    assert told["key"] == part.keys[1]
    assert facts["row"] == "1"
    assert facts["in the file"] == "row 3"
    assert facts["label"] == f"{ragged.classes[ragged.labels[3]]} ({ragged.labels[3]})"
    explained = mmcache.explain(ragged, 3)
    assert facts["picture"] == " x ".join(map(str, explained.placement.source))
    assert facts["record"] == " x ".join(map(str, ragged[3].shape[:2]))
    assert "in the file" not in dict(Gallery(ragged).details(3)["facts"])


def test_failures_are_paged_and_found_by_their_keys(uniform, monkeypatch):
    rows = [(f"{number:03}.jpg".encode(), "decode", f"why {number}", None) for number in range(500)]
    monkeypatch.setattr(mmcache.Cache, "failures", Failures.of(rows))
    gallery = Gallery(uniform)
    plain = [(key.decode(), stage, reason) for key, stage, reason, _ in rows]
    assert gallery.failures("", 490, 600) == plain[490:]
    assert gallery.count_failures("") == 500
    held = [one for one in plain if "77" in one[0]]
    assert gallery.failures("77", 0, 100) == held
    assert gallery.failures("77", 2, 4) == held[2:4]
    assert gallery.count_failures("77") == len(held)


def test_names_that_are_no_text_go_through_json(hostile):
    answers = Answers(Gallery(hostile))
    for message in (
        {"ask": "outline"},
        {"ask": "cells", "start": 0, "stop": 2, "edge": 64},
        {"ask": "details", "position": 1},
        {"ask": "failures", "start": 0, "stop": 10},
    ):
        told, _ = answers.answer(message)
        assert "error" not in told
        assert json.dumps(told).isascii()
        json.dumps(told, ensure_ascii=False).encode()  # as a kernel sends it
    answers.answer({"ask": "select", "how": "add", "ranges": [[0, 2]]})
    lines = answers.answer({"ask": "copy", "as": "keys"})[1].decode().split("\n")
    assert len(lines) == 2
    assert all(line.endswith("caf\\xe9 <b>.jpg") for line in lines)


def test_a_damaged_picture_is_one_cell_and_no_more(uniform, monkeypatch):
    whole = mmcache.Cache.__getitem__

    def damaged(cache, index):
        if isinstance(index, int) and index == 2:
            raise mmcache.DamagedCacheError("row 2 is damaged")
        return whole(cache, index)

    monkeypatch.setattr(mmcache.Cache, "__getitem__", damaged)
    cells, jpeg = Gallery(uniform).cells(np.arange(4), 48)
    assert [cell.get("error") for cell in cells] == [None, None, "row 2 is damaged", None]
    left, top, width, height = cells[3]["box"]
    part = opened(jpeg)[top : top + height, left : left + width]
    assert np.abs(part - whole(uniform, 3)).mean() < 12


# Messages ----------------------------------------------------------------------------------------


def test_every_question_of_a_front_end_is_answered(ragged):
    answers, where = Answers(Gallery(ragged)), {"filter": {"text": "waves"}}
    left = wanted_by_a_loop(ragged, Filter(text="waves"))
    assert answers.answer({"ask": "outline"})[0]["total"] == 24
    assert answers.answer({"ask": "filter"} | where)[0]["count"] == len(left)
    told, jpeg = answers.answer({"ask": "cells", "start": 1, "stop": 9, "edge": 64} | where)
    assert [cell["place"] for cell in told["cells"]] == left[1:9]
    assert jpeg[:2] == b"\xff\xd8"
    told, png = answers.answer({"ask": "details", "position": 2} | where)
    assert told["key"] == ragged.keys[left[2]]
    assert np.array_equal(opened(png), ragged[left[2]])
    told, _ = answers.answer({"ask": "find", "place": left[3]} | where)
    assert (told["position"], told["exact"]) == (3, True)
    told, _ = answers.answer({"ask": "find", "place": 0} | where)
    assert (told["position"], told["exact"]) == (0, left[0] == 0)
    select = {"ask": "select", "how": "add", "ranges": [[1, 3]]} | where
    assert answers.answer(select)[0] == {"selection": (1, 2)}
    told, _ = answers.answer({"ask": "marked", "start": 0, "stop": 4} | where)
    assert told["marked"] == [False, True, True, False]
    assert eval(answers.answer({"ask": "copy", "as": "rows"})[1]) == left[1:3]
    assert answers.answer({"ask": "failures", "start": 0, "stop": 9})[0]["failures"] == []


ANYTHING = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner),
    max_leaves=6,
)
ASKED = [
    "outline", "filter", "cells", "details", "find", "select", "marked", "copy", "failures", "exec",
]  # fmt: skip


@given(st.fixed_dictionaries({"ask": st.sampled_from(ASKED)}, optional={
    name: ANYTHING | st.integers(-2, 30) for name in (
        "filter", "start", "stop", "edge", "position", "place", "how", "ranges", "as")}) | ANYTHING)  # fmt: skip  # noqa: E501
def test_whatever_is_asked_is_answered_in_a_sentence(uniform, message):
    told, data = Answers(Gallery(uniform)).answer(message)
    json.dumps(told)
    assert isinstance(data, bytes)
    if "error" in told:
        assert "could not be answered" not in told["error"]
        assert "\n" not in told["error"]


@pytest.mark.parametrize(
    ("message", "sentence"),
    [
        ({"ask": "cells", "start": 0, "stop": 10_000, "edge": 64}, "at once"),
        ({"ask": "cells", "start": 5, "stop": 3, "edge": 64}, "from low to high"),
        ({"ask": "cells", "start": 0, "stop": 5, "edge": 100_000}, "edge is no whole number"),
        ({"ask": "cells", "start": True, "stop": 5, "edge": 64}, "start is no whole number"),
        ({"ask": "details", "position": 99}, "no picture number 99"),
        ({"ask": "find", "place": 24}, "there are 24"),
        ({"ask": "filter", "filter": {"text": "x" * 5000}}, "1000 bytes"),
        ({"ask": "filter", "filter": {"shape": [1]}}, "two whole numbers"),
        ({"ask": "select", "how": "eat", "ranges": []}, "adds, drops"),
        ({"ask": "select", "how": "add", "ranges": [[0, 1]] * 999}, "256 at most"),
        ({"ask": "__class__"}, "no answer to '__class__'"),
        ([], "a message is an object"),
    ],
)
def test_what_makes_no_sense_is_refused_in_a_sentence(uniform, message, sentence):
    told, data = Answers(Gallery(uniform)).answer(message)
    assert sentence in told["error"]
    assert data == b""
