"""What batches will look like, known before any is gathered."""

import numpy as np
import pytest

import mmcache
from mmcache import stacking

SHAPINGS = [
    {},
    {"pad": "batch"},
    {"pad": 64},
    {"pad": (64, 80)},
    {"pad": (63, 80)},
    {"crop": 10},
    {"crop": 12},
    {"crop": (11, 16)},
    {"crop": (30, 20), "pad": (30, 20)},
    {"crop": (30, 20), "pad": (40, 40)},
    {"crop": 40, "pad": "batch"},
    {"crop": "random_resized", "size": (24, 32)},
]


def seen(cache, shaping):
    """Return the edges of all batches of one picture and of two, or the error of one of them."""
    edges = set()
    for first in range(len(cache)):
        for second in range(first + 1):
            images = cache.batch([first, second], **shaping).images
            if isinstance(images, list):
                raise mmcache.ShapesDifferError
            edges.add(images.shape[1:3])
    (height, *taller), (width, *wider) = map(set, zip(*edges, strict=True))
    return None if taller else height, None if wider else width


@pytest.mark.parametrize("shaping", SHAPINGS, ids=str)
@pytest.mark.parametrize("name", ["ragged", "uniform"])
def test_the_edges_are_those_of_every_batch(name, shaping, request):
    cache = request.getfixturevalue(name)
    loader = mmcache.Loader(cache, 2, **shaping)
    try:
        expected = seen(cache, shaping)
    except mmcache.ShapesDifferError:
        with pytest.raises(mmcache.ShapesDifferError):
            _ = loader.edges
        return
    assert loader.edges == expected


@pytest.mark.parametrize("rows", [1, 5])
def test_shapes_that_differ_are_found_wherever_they_lie(ragged, rows, monkeypatch):
    monkeypatch.setattr(stacking, "_ROWS", rows)  # so that they are looked at in several parts
    with pytest.raises(mmcache.ShapesDifferError, match="these pictures differ in shape"):
        _ = mmcache.Loader(ragged, 2).edges
    assert mmcache.Loader(ragged, 2, pad=64).edges == (64, 64)


def test_a_narrower_cache_whose_shapes_agree_needs_no_shaping(ragged):
    shapes = [tuple(shape) for shape in ragged.shapes.tolist()]
    most = max(shapes, key=shapes.count)
    alike = ragged[np.array([shape == most for shape in shapes])]
    assert len(alike) > 1
    assert mmcache.Loader(alike, 2).edges == most[:2]
    assert mmcache.Loader(ragged[:0], 2, pad=64).edges == (64, 64)
