"""Sizes in, sizes out, against exact rational arithmetic."""

from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mmcache.geometry import RESIZES, Size, closest, place, scaled_size, snug_shapes

edges = st.integers(1, 70_000)
sizes = st.builds(Size, edges, edges)
boxes = st.builds(Size, st.integers(1, 4096), st.integers(1, 4096))
resizes = st.sampled_from(RESIZES)
settings_ = {
    "source": sizes,
    "box": boxes,
    "resize": resizes,
    "upscale": st.booleans(),
    "multiple_of": st.integers(1, 64),
}
placements = st.builds(place, **settings_)


def turned(size):
    return type(size)(size[1], size[0])


def rounded(exact):
    """Round half up, and to one pixel at least."""
    return max(1, int((exact + Fraction(1, 2)) // 1))


def fitting(source, box):
    """By how much *source* grows until it meets the box: exactly."""
    return min(Fraction(box.height, source.height), Fraction(box.width, source.width))


def covering(source, box):
    return max(Fraction(box.height, source.height), Fraction(box.width, source.width))


@given(sizes, boxes, st.booleans(), st.sampled_from(["contain", "pad"]))
def test_contain_is_the_largest_size_inside_the_box(source, box, upscale, resize):
    grows = fitting(source, box)
    if not upscale:
        grows = min(grows, 1)
    expected = Size(*(rounded(edge * grows) for edge in source))
    assert scaled_size(source, box, resize, upscale=upscale) == expected


@given(sizes, boxes, st.booleans(), st.sampled_from(["cover", "crop", "bucket"]))
def test_cover_is_the_smallest_size_that_fills_the_box(source, box, upscale, resize):
    grows = covering(source, box)
    expected = Size(*(rounded(edge * grows) for edge in source))
    assert scaled_size(source, box, resize, upscale=upscale) == expected
    assert expected.height >= box.height
    assert expected.width >= box.width


@given(sizes, boxes, st.sampled_from(["contain", "cover", "crop", "pad"]), st.booleans())
def test_the_aspect_ratio_is_kept_to_within_half_a_pixel(source, box, resize, upscale):
    height, width = scaled_size(source, box, resize, upscale=upscale)
    # One edge decides and is exact; the other is what it implies, rounded, and at least 1.
    by_height = abs(Fraction(source.width * height, source.height) - width)
    by_width = abs(Fraction(source.height * width, source.width) - height)
    half = Fraction(1, 2)
    assert by_height <= half or by_width <= half or 1 in (height, width)


@given(**settings_)
def test_contain_stays_inside_the_box_and_enlarges_only_when_asked(
    source, box, resize, upscale, multiple_of
):
    placement = place(source, box, resize, upscale=upscale, multiple_of=multiple_of)
    if resize in ("contain", "pad"):
        assert placement.scaled.height <= box.height
        assert placement.scaled.width <= box.width
        if not upscale:
            assert placement.scaled.height <= source.height
            assert placement.scaled.width <= source.width


@given(**settings_)
def test_turning_the_picture_turns_the_result(source, box, resize, upscale, multiple_of):
    upright = place(source, box, resize, upscale=upscale, multiple_of=multiple_of)
    across = place(turned(source), turned(box), resize, upscale=upscale, multiple_of=multiple_of)
    for name in ("source", "scaled", "crop", "valid", "padding", "size"):
        assert getattr(across, name) == turned(getattr(upright, name))


@given(**settings_)
def test_records_are_multiples_and_nothing_is_cut_for_it(source, box, resize, upscale, multiple_of):
    placement = place(source, box, resize, upscale=upscale, multiple_of=multiple_of)
    without = place(source, box, resize, upscale=upscale)
    assert placement.valid == without.valid
    for edge, before in zip(placement.size, without.size, strict=True):
        assert edge % multiple_of == 0
        assert 0 <= edge - before < multiple_of


@given(sizes, boxes, st.sampled_from(["crop", "pad", "stretch"]), st.booleans())
def test_crop_pad_and_stretch_reach_exactly_the_box(source, box, resize, upscale):
    assert place(source, box, resize, upscale=upscale).size == box


@given(placements)
def test_every_part_lies_inside_what_it_is_part_of(placement):
    for axis in range(2):
        assert placement.valid[axis] >= 1
        assert placement.crop[axis] >= 0
        assert placement.crop[axis] + placement.valid[axis] <= placement.scaled[axis]
        assert placement.padding[axis] >= 0
        assert placement.padding[axis] + placement.valid[axis] <= placement.size[axis]


@given(placements)
def test_crop_and_padding_are_centred_to_within_a_pixel(placement):
    for axis in range(2):
        cut = placement.scaled[axis] - placement.valid[axis]
        filled = placement.size[axis] - placement.valid[axis]
        assert cut - 2 * placement.crop[axis] in (0, 1)
        assert filled - 2 * placement.padding[axis] in (0, 1)


@pytest.mark.parametrize("resize", RESIZES)
@pytest.mark.parametrize("source", [Size(10_000, 1), Size(1, 10_000), Size(65_500, 1), Size(1, 1)])
def test_an_edge_never_vanishes_and_nothing_overflows(source, resize):
    placement = place(source, Size(256, 256), resize, multiple_of=14)
    assert min(*placement.scaled, *placement.valid, *placement.size) >= 1
    grows = covering if resize in ("cover", "crop", "bucket") else fitting
    if resize not in ("stretch", "contain", "pad"):
        exact = Size(*(rounded(edge * grows(source, Size(256, 256))) for edge in source))
        assert placement.scaled == exact
        assert all(type(edge) is int for edge in placement.scaled)


@given(**settings_)
def test_the_corners_of_the_source_land_on_the_corners_of_the_valid_area(
    source, box, resize, upscale, multiple_of
):
    placement = place(source, box, resize, upscale=upscale, multiple_of=multiple_of)
    top, left = placement.padding
    bottom, right = top + placement.valid.height, left + placement.valid.width
    landed = placement.boxes_to_cached([0, 0, *source])
    if placement.scaled == placement.valid:
        assert np.allclose(landed, [top, left, bottom, right], rtol=1e-12)
    else:  # cut: they land outside by what was cut
        above, before = placement.crop
        below = placement.scaled.height - placement.valid.height - above
        behind = placement.scaled.width - placement.valid.width - before
        outside = [top - above, left - before, bottom + below, right + behind]
        assert np.allclose(landed, outside, rtol=1e-12)


coordinates = st.floats(-1e5, 1e5)


@given(placements, st.lists(st.tuples(coordinates, coordinates), max_size=4))
def test_points_come_back_from_the_record(placement, points):
    there = np.array(points, float).reshape(-1, 2)
    assert np.allclose(
        placement.points_to_source(placement.points_to_cached(there)), there, rtol=1e-9, atol=1e-5
    )


@given(placements, st.lists(st.tuples(*[coordinates] * 4), max_size=4))
def test_boxes_come_back_from_the_record_and_are_two_points(placement, boxes):
    there = np.array(boxes, float).reshape(-1, 4)
    cached = placement.boxes_to_cached(there)
    assert cached.shape == there.shape
    assert np.array_equal(cached[:, :2], placement.points_to_cached(there[:, :2]))
    assert np.array_equal(cached[:, 2:], placement.points_to_cached(there[:, 2:]))
    assert np.allclose(placement.boxes_to_source(cached), there, rtol=1e-9, atol=1e-5)


def test_points_keep_the_shape_they_came_in():
    placement = place(Size(300, 400), Size(64, 64), "pad")
    assert placement.points_to_cached((0, 0)).shape == (2,)
    assert placement.points_to_cached(np.zeros((3, 5, 2))).shape == (3, 5, 2)
    assert placement.boxes_to_source(np.zeros((3, 5, 4))).shape == (3, 5, 4)


# Shapes for many -------------------------------------------------------------------------------


@given(st.builds(Size, st.integers(1, 40), st.integers(1, 40)), st.integers(1, 9))
def test_snug_shapes_are_all_that_cannot_grow(box, multiple_of):
    pixels = box.height * box.width
    edges = range(multiple_of, pixels + 1, multiple_of)
    fits = {(h, w) for h in edges for w in edges if h * w <= pixels}
    snug = {
        (h, w) for h, w in fits if not {(h + multiple_of, w), (h, w + multiple_of)} & fits
    }  # fmt: skip
    found = list(snug_shapes(box, multiple_of))
    assert set(found) == snug
    assert found == sorted(found)
    assert len(found) == len(snug)


def test_no_edge_of_a_snug_shape_is_longer_than_a_record_may_be():
    found = list(snug_shapes(Size(65_535, 65_535), 1_000))
    assert max(max(shape) for shape in found) == 65_000
    assert list(snug_shapes(Size(1_000, 1_000), 1))[0] == Size(15, 65_535)  # noqa: RUF015


@given(sizes, st.lists(boxes, min_size=1, max_size=6))
def test_the_closest_shape_keeps_the_largest_part_of_a_picture(source, shapes):
    def kept(shape):
        # Of the picture that covers the shape, exactly and unrounded.
        grows = covering(source, shape)
        return Fraction(shape.height * shape.width) / (source.height * source.width * grows**2)

    # Ties: more pixels, and then the first, which max() gives.
    assert closest(source, shapes) == max(shapes, key=lambda s: (kept(s), s.height * s.width))


@pytest.mark.parametrize(
    ("source", "shapes", "expected"),
    [
        (Size(7, 7), [Size(10, 20), Size(20, 10)], Size(10, 20)),
        (Size(7, 7), [Size(20, 10), Size(10, 20)], Size(20, 10)),
        (Size(7, 7), [Size(10, 20), Size(40, 20), Size(20, 40)], Size(40, 20)),
        (Size(3, 4), [Size(3, 4), Size(6, 8), Size(5, 5)], Size(6, 8)),
    ],
)
def test_of_shapes_that_cut_equally_much_the_largest_is_taken_and_then_the_first(
    source, shapes, expected
):
    assert closest(source, shapes) == expected
