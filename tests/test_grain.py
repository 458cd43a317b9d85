"""Grain: a source of pictures, alone and in Grain's pipelines."""

import importlib
import pickle

import numpy as np
import pytest

import mmcache
from mmcache.grain import DataSource


@pytest.mark.parametrize("name", ["uniform", "ragged"])
def test_a_source_gives_copies_of_the_pictures_with_their_labels_and_rows(name, request):
    cache = request.getfixturevalue(name)[::-2]
    source = DataSource(cache)
    assert len(source) == len(cache)
    for row in range(-len(cache), len(cache)):
        one = source[row]
        assert one.keys() == {"image", "label", "row"}
        assert np.array_equal(one["image"], cache[row])
        assert one["label"] == cache.labels[row]
        assert one["row"] == row % len(cache)
        one["image"][:] = 0  # a copy: neither a segmentation fault nor another cache
        assert np.array_equal(source[row]["image"], cache[row])


def test_padded_and_cropped_pictures_are_those_of_a_batch(ragged):
    source = DataSource(ragged, pad=(40, 50), crop=(40, 50), centering=(0, 1), mask=True)
    for row in range(len(ragged)):
        batch = ragged.batch([row], pad=(40, 50), crop=(40, 50), centering=(0, 1), mask=True)
        one = source[row]
        assert np.array_equal(one["image"], batch.images[0])
        assert np.array_equal(one["mask"], batch.mask[0])
        assert np.array_equal(one["size"], batch.sizes[0])
        one["image"][:] = 0


def test_without_labels_there_is_no_label(painted, tmp_path):
    cache = mmcache.build(painted / "circles", tmp_path / "flat.mmc", size=16, progress=False)
    assert DataSource(cache)[0].keys() == {"image", "row"}


@pytest.mark.parametrize("row", [24, -25])
def test_a_row_that_is_not_there_is_an_index_error(uniform, row):
    with pytest.raises(IndexError, match="there are 24"):
        DataSource(uniform)[row]


@pytest.mark.parametrize(
    ("settings", "sentence"),
    [
        ({"crop": 20, "position": "random"}, "MapDataset.random_map"),
        ({"flip": True}, "MapDataset.random_map"),
        ({"crop": "random_resized", "size": 20}, "MapDataset.random_map"),
        ({"pad": "batch"}, r"pass pad=\(height, width\)"),
        ({"pad": 0}, "pad=0"),
    ],
)
def test_settings_that_are_not_of_one_picture_are_refused(ragged, settings, sentence):
    with pytest.raises(mmcache.SettingError, match=sentence):
        DataSource(ragged, **settings)


def test_a_source_travels_without_its_pictures_and_labels(ragged):
    source = DataSource(ragged, pad=64)
    sent = pickle.dumps(source)
    assert ragged.labels.tobytes() not in sent
    again = pickle.loads(sent)
    assert repr(again) == repr(source)
    assert all(np.array_equal(again[row]["image"], source[row]["image"]) for row in range(24))


def test_the_repr_tells_sources_apart_as_checkpoints_need_it(ragged, uniform):
    sources = [
        DataSource(ragged), DataSource(uniform), DataSource(ragged[::2]), DataSource(ragged[[3]]),
        DataSource(ragged[[4]]), DataSource(ragged, pad=64),
    ]  # fmt: skip
    assert len({*map(repr, sources)}) == len(sources)
    assert repr(DataSource(ragged[[3]])) == repr(DataSource(ragged[[3]]))


# In Grain's pipelines -----------------------------------------------------------------------------


@pytest.fixture
def grain():
    library = pytest.importorskip("grain", reason="pip install grain")
    # Its processes look at flags of the command line where jax is installed.
    importlib.import_module("absl.flags").FLAGS.mark_as_parsed()
    return library


def by_row(batches):
    """Return the pictures of batches by their rows."""
    return {
        int(row): image
        for batch in batches
        for row, image in zip(batch["row"], batch["image"], strict=True)
    }


def are_those_of(cache, batches, total):
    seen = by_row(batches)
    assert sum(len(batch["row"]) for batch in batches) == total
    assert seen.keys() == set(range(len(cache)))
    assert all(np.array_equal(image, cache[row]) for row, image in seen.items())


def test_a_map_dataset_shuffles_and_batches_it(grain, uniform):
    source = DataSource(uniform)
    assert isinstance(source, grain.sources.RandomAccessDataSource)
    dataset = grain.MapDataset.source(source).shuffle(seed=3).batch(7)
    batches = [dataset[number] for number in range(len(dataset))]
    are_those_of(uniform, batches, 24)
    again = list(dataset.to_iter_dataset())
    for one, other in zip(batches, again, strict=True):
        assert np.array_equal(one["image"], other["image"])
        assert one["label"].tolist() == uniform.labels[one["row"]].tolist()


def test_random_crops_are_a_random_map(grain, uniform):
    def cropped(one, rng):
        top, left = rng.integers(0, 48 - 32 + 1, 2)
        return one | {"image": one["image"][top : top + 32, left : left + 32]}

    dataset = grain.MapDataset.source(DataSource(uniform)).seed(1).random_map(cropped).repeat(2)
    first, second = dataset[0], dataset[24]
    assert first["row"] == second["row"] == 0
    assert not np.array_equal(first["image"], second["image"])


def test_processes_of_grain_read_it(grain, uniform, ragged):
    dataset = grain.MapDataset.source(DataSource(uniform)).shuffle(seed=3).batch(5)
    options = grain.MultiprocessingOptions(num_workers=2)
    batches = list(dataset.to_iter_dataset().mp_prefetch(options))
    are_those_of(uniform, batches, 24)
    loaded = list(loader(grain, DataSource(ragged, pad=64), worker_count=2))
    padded = ragged.batch(range(24), pad=64)
    are_those_of(padded.images, loaded, 24)


def loader(grain, source, **settings):
    sampler = grain.samplers.IndexSampler(len(source), shuffle=True, seed=1, num_epochs=1)
    return grain.DataLoader(
        data_source=source,
        sampler=sampler,
        operations=[grain.transforms.Batch(4)],
        **settings,
    )


def test_a_data_loader_goes_on_where_its_state_says(grain, uniform):
    batches = list(loader(grain, DataSource(uniform)))
    stopped = iter(loader(grain, DataSource(uniform)))
    for _ in range(2):
        next(stopped)
    resumed = iter(loader(grain, pickle.loads(pickle.dumps(DataSource(uniform)))))
    resumed.set_state(stopped.get_state())
    rest = list(resumed)
    assert [one["row"].tolist() for one in rest] == [one["row"].tolist() for one in batches[2:]]
    other = iter(loader(grain, DataSource(uniform[::-1])))
    with pytest.raises(ValueError, match=r"(?i)source"):
        other.set_state(stopped.get_state())
