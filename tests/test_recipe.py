"""The recipe: every setting that can change a pixel, never in a wrong state."""

import dataclasses
import inspect
import json
import pickle

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import ImageColor

import mmcache
from mmcache import Recipe, SettingError, Size
from mmcache.geometry import RESIZES, closest, place
from mmcache.recipe import ICC, MODES, RESAMPLERS, RESAMPLES, TRUNCATED

edges = st.integers(1, 65_535)


@st.composite
def recipes(draw):
    mode = draw(st.sampled_from(MODES))
    names = ["white", "#123"] if mode != "P" else []
    resize = draw(st.sampled_from(RESIZES))
    grey = st.integers(0, 255)
    channels = {"L": 1, "RGB": 3, "RGBA": 4, "I;16": 1, "P": 1}[mode]
    upscale = st.sampled_from([None, True, False] if resize in ("contain", "pad") else [None, True])
    multiple_of = draw(st.integers(1, 256))
    box = draw(edges | st.tuples(edges, edges))
    buckets = None
    if resize == "bucket":  # which must have a shape
        box = max(box, multiple_of) if isinstance(box, int) else [max(multiple_of, e) for e in box]
        edge = multiple_of if draw(st.booleans()) else min(box) if isinstance(box, list) else box
        shape = (edge // multiple_of * multiple_of, multiple_of)
        buckets = draw(st.none() | st.integers(1, 20) | st.just((shape, shape[::-1])))
    resample = draw(st.sampled_from(RESAMPLES if mode != "P" else ["nearest"]))
    return Recipe(
        size=box,
        resize=resize,
        resample=resample,
        resampler=draw(
            st.sampled_from([who for who, has in RESAMPLERS.items() if resample in has])
        ),
        mode=mode,
        background=draw(st.one_of(grey, st.tuples(*[grey] * channels), *map(st.just, names))),
        upscale=draw(upscale),
        multiple_of=multiple_of,
        icc=draw(st.sampled_from(ICC)),
        value_range=draw(st.none() | st.tuples(st.integers(-9, 0), st.floats(1, 9))),
        frame=draw(st.integers(0, 3)),
        truncated=draw(st.sampled_from(TRUNCATED)),
        buckets=buckets,
    )


@pytest.mark.parametrize(
    "nonsense",
    [
        {"size": 0},
        {"size": -3},
        {"size": 65_536},
        {"size": 10**30},
        {"size": 2.0},
        {"size": True},
        {"size": "256"},
        {"size": None},
        {"size": (1, 2, 3)},
        {"size": ()},
        {"size": (256, 0)},
        {"size": (256, 1.5)},
        {"size": (True, 256)},
        {"size": [[1], [2]]},
        {"resize": "fit"},
        {"resize": None},
        {"resize": ["crop"]},
        {"resample": "cubic"},
        {"mode": "CMYK"},
        {"mode": "rgb"},
        {"background": "blurple"},
        {"background": ""},
        {"background": "rgb(300, 0, 0)"},
        {"background": "hsl(0, 100%, 150%)"},
        {"background": -1},
        {"background": 256},
        {"background": 0.5},
        {"background": None},
        {"background": True},
        {"background": (1, 2)},
        {"background": (1, 2, 3, 4)},
        {"background": (0, 0, 256)},
        {"background": (0, 0, "0")},
        {"background": (True, False, True)},
        {"background": (1, 2, 3), "mode": "L"},
        {"background": (1, 2, 3), "mode": "RGBA"},
        {"background": 65_536, "mode": "I;16"},
        {"background": 256, "mode": "P", "resample": "nearest"},
        {"background": "white", "mode": "P", "resample": "nearest"},
        {"mode": "P"},
        {"icc": "on"},
        {"icc": True},
        {"truncated": None},
        {"truncated": "drop"},
        {"frame": -1},
        {"frame": 1.0},
        {"frame": True},
        {"value_range": 255},
        {"value_range": (0,)},
        {"value_range": (5, 5)},
        {"value_range": (9, 1)},
        {"value_range": (0, float("inf"))},
        {"value_range": (float("nan"), 1)},
        {"value_range": (False, True)},
        {"value_range": ("0", "1")},
        {"upscale": "yes"},
        {"upscale": 2},
        {"upscale": False, "resize": "crop"},
        {"upscale": False, "resize": "cover"},
        {"upscale": False, "resize": "stretch"},
        {"multiple_of": 0},
        {"multiple_of": 1.0},
        {"multiple_of": "14"},
        {"multiple_of": True},
        {"buckets": 8},
        {"buckets": ((9, 9),), "resize": "crop"},
        {"buckets": 0, "resize": "bucket"},
        {"buckets": -1, "resize": "bucket"},
        {"buckets": True, "resize": "bucket"},
        {"buckets": 8.0, "resize": "bucket"},
        {"buckets": "8", "resize": "bucket"},
        {"buckets": (), "resize": "bucket"},
        {"buckets": (8, 9), "resize": "bucket"},
        {"buckets": ((8, 9, 3),), "resize": "bucket"},
        {"buckets": ((8, 0),), "resize": "bucket"},
        {"buckets": ((8, 8),) * 257, "resize": "bucket"},
        {"buckets": {"a": 1}, "resize": "bucket"},
        {"buckets": ((8, 9.0),), "resize": "bucket"},
        {"buckets": ((257, 256),), "resize": "bucket"},
        {"buckets": ((16, 24), (16, 20)), "resize": "bucket", "multiple_of": 8},
        {"multiple_of": 257, "resize": "bucket"},
        {"upscale": False, "resize": "bucket"},
    ],
    ids=str,
)
def test_a_setting_that_makes_no_sense_is_an_error_that_names_it(nonsense):
    with pytest.raises(SettingError) as caught:
        Recipe(**nonsense)
    assert isinstance(caught.value, ValueError)
    assert any(name in str(caught.value) for name in nonsense)
    assert len(str(caught.value).split()) > 3


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ({"size": 224}, {"size": (224, 224)}),
        ({"size": 224}, {"size": [224, 224]}),
        ({"size": np.int64(224)}, {"size": Size(224, 224)}),
        ({"background": "white"}, {"background": (255, 255, 255)}),
        ({"background": "#ff8000"}, {"background": [255, 128, 0]}),
        ({"background": 7}, {"background": (7, 7, 7)}),
        ({"background": np.uint8(7)}, {"background": np.array([7, 7, 7]).tolist()}),
        ({"background": "white", "mode": "L"}, {"background": 255, "mode": "L"}),
        ({"background": "white", "mode": "RGBA"}, {"background": 255, "mode": "RGBA"}),
        ({"upscale": None}, {"upscale": False}),
        ({"resize": "crop"}, {"resize": "crop", "upscale": True}),
        ({"multiple_of": np.int32(14)}, {"multiple_of": 14}),
        ({"value_range": [0, 4095]}, {"value_range": (0.0, np.float32(4095))}),
        ({"frame": np.uint8(3)}, {"frame": 3}),
        ({"background": "white", "mode": "I;16"}, {"background": 65_535, "mode": "I;16"}),
        ({"resize": "bucket"}, {"resize": "bucket", "buckets": np.int64(8)}),
        (
            {"resize": "bucket", "buckets": [[8, 9], [9, 8], [8, 9]]},
            {"resize": "bucket", "buckets": ((9, np.int64(8)), Size(8, 9))},
        ),
        (  # there are no more: 32 x 128, 64 x 64, 128 x 32
            {"resize": "bucket", "size": 64, "multiple_of": 32},
            {"resize": "bucket", "size": 64, "multiple_of": 32, "buckets": 3},
        ),
        ({}, {"size": 256, "resize": "contain", "resample": "bicubic", "mode": "RGB"}),
    ],
    ids=str,
)
def test_recipes_that_make_the_same_pixels_are_equal(one, other):
    assert Recipe(**one) == Recipe(**other)
    assert hash(Recipe(**one)) == hash(Recipe(**other))
    assert Recipe(**one).fingerprint == Recipe(**other).fingerprint
    assert repr(Recipe(**one)) == repr(Recipe(**other))


@pytest.mark.parametrize("mode", ["RGB", "L", "RGBA"])
@pytest.mark.parametrize("name", ["white", "black", "orange", "#80c0ff", "hsl(120, 50%, 50%)"])
def test_a_named_colour_is_what_pillow_says(name, mode):
    expected = ImageColor.getcolor(name, mode)
    assert Recipe(background=name, mode=mode).background == (
        expected if isinstance(expected, tuple) else (expected,)
    )


def test_a_named_colour_is_as_bright_in_16_bits():
    for name in ("white", "black", "orange"):
        narrow, wide = (Recipe(background=name, mode=mode).background[0] for mode in ("L", "I;16"))
        assert wide / 65_535 == narrow / 255


def test_a_recipe_that_an_older_version_wrote_means_what_it_meant():
    older = {
        "size": [256, 256], "resize": "contain", "resample": "bicubic", "mode": "RGB",
        "background": [0, 0, 0], "upscale": False, "multiple_of": 1,
    }  # fmt: skip
    recipe = Recipe.from_json(older)
    assert recipe.icc == "ignore"
    assert recipe != Recipe()
    assert recipe == Recipe(icc="ignore")
    assert recipe.to_json() == older  # and has the fingerprint that it had


def test_where_there_is_alpha_nothing_said_is_transparent_and_a_grey_is_opaque():
    assert Recipe(mode="RGBA").background == (0, 0, 0, 0)
    assert Recipe(mode="RGBA", background=9).background == (9, 9, 9, 255)


@given(recipes())
def test_a_recipe_survives_json_and_pickle(recipe):
    again = Recipe.from_json(json.loads(json.dumps(recipe.to_json())))
    assert again == recipe
    assert again.fingerprint == recipe.fingerprint
    assert pickle.loads(pickle.dumps(recipe)) == recipe


@given(recipes(), recipes())
def test_fingerprints_are_equal_exactly_where_recipes_are(one, other):
    assert (one.fingerprint == other.fingerprint) == (one == other)


@pytest.mark.parametrize("setting", [field.name for field in dataclasses.fields(Recipe)])
def test_every_setting_changes_the_fingerprint(setting):
    usual = {"resize": "bucket"} if setting == "buckets" else {}
    other = {
        "size": 255,
        "resize": "cover",
        "resample": "box",
        "mode": "L",
        "background": 1,
        "upscale": True,
        "multiple_of": 2,
        "icc": "ignore",
        "value_range": (0, 1),
        "frame": 1,
        "truncated": "keep",
        "buckets": 9,
        "resampler": "cykooz",
    }
    changed = Recipe(**usual, **{setting: other[setting]})
    assert changed.fingerprint != Recipe(**usual).fingerprint


@given(recipes(), st.builds(Size, st.integers(1, 5000), st.integers(1, 5000)))
def test_a_recipe_that_fixes_the_shape_makes_every_record_of_it(recipe, source):
    if recipe.shape is None:
        several = recipe.resize == "bucket" and len(recipe.shapes) != 1
        assert recipe.resize in ("contain", "cover") or several
    else:
        assert (*recipe.place(source).size, recipe.channels) == recipe.shape


def test_a_recipe_cannot_be_changed():
    with pytest.raises(dataclasses.FrozenInstanceError):
        Recipe().size = 3


def test_a_setting_of_a_newer_version_is_named():
    with pytest.raises(SettingError, match=r"sharpen; a newer mmcache wrote it"):
        Recipe.from_json(Recipe().to_json() | {"sharpen": 3})


@pytest.mark.parametrize("nonsense", [None, 3, [], "recipe", {"size": {}}, {"background": [[1]]}])
def test_json_that_is_no_recipe_is_a_setting_error(nonsense):
    with pytest.raises(SettingError):
        Recipe.from_json(nonsense)


@pytest.mark.parametrize("function", [mmcache.build, mmcache.plan])
def test_build_and_plan_have_the_settings_and_defaults_of_the_recipe(function):
    parameters = inspect.signature(function).parameters
    for setting in dataclasses.fields(Recipe):
        # A recipe names who resamples; a build may choose.
        default = "auto" if setting.name == "resampler" else setting.default
        assert parameters[setting.name].default == default
        assert parameters[setting.name].kind is inspect.Parameter.KEYWORD_ONLY


def test_every_setting_is_explained():
    assert all(len(field.metadata["help"]) > 20 for field in dataclasses.fields(Recipe))


@given(recipes())
def test_a_recipe_prints_on_one_line_what_it_does(recipe):
    shown = str(recipe)
    assert "\n" not in shown
    assert recipe.resize in shown
    assert f"{recipe.box.height} x {recipe.box.width}" in shown


@pytest.mark.parametrize("value", [(0, 10**400), (-(10**400), 0), [0, 10**400]])
def test_numbers_beyond_those_of_floats_are_no_range(value):
    with pytest.raises(SettingError, match="value_range"):
        Recipe(value_range=value)


def test_a_recipe_with_a_count_of_shapes_places_nothing():
    recipe = Recipe(resize="bucket", buckets=3)
    assert not recipe.has_shapes
    assert recipe.shape is None
    with pytest.raises(SettingError, match="buckets=3"):
        recipe.place(Size(3, 4))
    assert Recipe().has_shapes


@given(st.builds(Size, st.integers(1, 5000), st.integers(1, 5000)))
def test_a_picture_is_cropped_to_its_bucket_and_filled_up_with_nothing(source):
    shapes = ((48, 80), (64, 64), (80, 48))
    recipe = Recipe(resize="bucket", size=64, multiple_of=16, buckets=shapes)
    shape = closest(source, [Size(*one) for one in shapes])
    assert recipe.place(source) == place(source, shape, "crop")
    assert (*recipe.place(source).size,) in shapes


def test_a_count_becomes_the_shapes_of_a_recipe_that_is_equal_otherwise():
    asked = Recipe(resize="bucket", buckets=2)
    settled = Recipe(resize="bucket", buckets=((9, 8), (8, 9)))
    assert asked.settled_as(settled) == settled
    for other in (
        Recipe(),
        Recipe(resize="bucket", buckets=((9, 8),)),
        Recipe(resize="bucket", buckets=((9, 8), (8, 9)), size=300),
        Recipe(resize="bucket", buckets=((9, 8), (8, 9)), mode="L"),
        asked,
    ):
        assert asked.settled_as(other) == asked
    assert settled.settled_as(asked) == settled
    assert Recipe().settled_as(settled) == Recipe()


def test_shapes_and_counts_of_them_print():
    assert "in 1 shape," in str(Recipe(resize="bucket", buckets=1))
    assert "in 2 shapes," in str(Recipe(resize="bucket", buckets=((9, 8), (8, 9))))


def test_what_a_bucket_recipe_writes_is_json():
    recipe = Recipe(resize="bucket", buckets=((9, 8), (8, 9)))
    plain = recipe.to_json()
    assert plain["buckets"] == [[8, 9], [9, 8]]
    assert json.loads(json.dumps(plain)) == plain
    assert "buckets" not in Recipe().to_json()
