"""Keras: the batches of an epoch, and a model that is trained with them."""

import multiprocessing
import pickle

import numpy as np
import pytest

import mmcache

keras = pytest.importorskip("keras", reason="pip install keras torch==2.13.0")

from mmcache.keras import Dataset  # noqa: E402  # it needs keras


def of_every_row(dataset):
    """Return the rows of an epoch, in the order in which they come."""
    return np.concatenate([dataset[number] for number in range(len(dataset))])


def rows(batch):
    return batch.rows


@pytest.mark.parametrize("batch_size", [1, 5, 24, 100])
def test_a_dataset_is_the_batches_that_a_naive_loop_stacks(uniform, batch_size):
    dataset = Dataset(uniform, batch_size, shuffle=False)
    firsts = range(0, len(uniform), batch_size)
    assert len(dataset) == len(firsts)
    for (images, labels), first in zip(dataset, firsts, strict=True):
        places = range(first, min(first + batch_size, len(uniform)))
        assert np.array_equal(images, np.stack([uniform[row] for row in places]))
        assert labels.tolist() == [uniform.labels[row] for row in places]
        assert images.flags.writeable


@pytest.mark.parametrize(
    "shaping",
    [
        {"pad": "batch"},
        {"crop": 20, "pad": 20, "position": "random", "flip": True},
        {"crop": "random_resized", "size": (24, 32), "flip": 0.3},
    ],
)
def test_it_gives_what_the_loader_gives_for_seed_and_epoch(ragged, shaping):
    dataset = Dataset(ragged, 7, seed=5, **shaping)
    loader = mmcache.Loader(ragged, 7, shuffle=True, seed=5, remainder="keep", **shaping)
    for _ in range(3):
        for (images, labels), batch in zip(dataset, loader, strict=True):
            assert np.array_equal(images, batch.images)
            assert np.array_equal(labels, batch.labels)
        dataset.on_epoch_end()


def test_every_row_comes_once_an_epoch_each_in_an_order_of_its_own(ragged):
    dataset = Dataset(ragged, 7, transform=rows, pad="batch")
    orders = []
    for _ in range(3):
        orders.append(of_every_row(dataset).tolist())
        dataset.on_epoch_end()
    assert all(sorted(order) == list(range(len(ragged))) for order in orders)
    assert len({*map(tuple, orders)}) == 3
    assert dataset.epoch == 3
    dataset.set_epoch(1)
    assert of_every_row(dataset).tolist() == orders[1]
    again = Dataset(ragged, 7, transform=rows, pad="batch", seed=1)
    again.set_epoch(1)
    assert of_every_row(again).tolist() != orders[1]


def test_a_pickled_dataset_goes_on_where_it_was(ragged):
    dataset = Dataset(ragged[::2], 5, transform=rows, pad="batch", seed=3)
    dataset.set_epoch(4)
    again = pickle.loads(pickle.dumps(dataset))
    assert again.epoch == 4
    assert np.array_equal(of_every_row(again), of_every_row(dataset))
    assert again.workers == 1


def test_without_labels_the_images_are_alone(painted, tmp_path):
    cache = mmcache.build(painted / "circles", tmp_path / "flat.mmc", size=16, resize="crop")
    assert cache.labels is None
    assert Dataset(cache, 3)[0].shape == (3, 16, 16, 3)


def test_pictures_of_several_shapes_are_refused_at_once(ragged):
    with pytest.raises(mmcache.ShapesDifferError, match=r'pad="batch", pad=\(height, width\) or'):
        Dataset(ragged, 4)
    with pytest.raises(mmcache.ShapesDifferError, match="pad to more"):
        Dataset(ragged, 4, pad=30)
    with pytest.raises(mmcache.ShapesDifferError, match="crop less"):
        Dataset(ragged, 4, crop=60)


@pytest.mark.parametrize(
    ("settings", "sentence"),
    [
        ({"batch_size": 0}, "batch_size=0 is no whole number from 1 up"),
        ({"batch_size": True}, "batch_size=True is no whole number"),
        ({"batch_size": 2.5}, "batch_size=2.5 is no whole number"),
        ({"seed": -1}, "seed=-1"),
        ({"flip": 2}, "flip=2"),
    ],
)
def test_a_setting_that_makes_no_sense_is_named(uniform, settings, sentence):
    with pytest.raises(mmcache.SettingError, match=sentence):
        Dataset(uniform, **{"batch_size": 4} | settings)


@pytest.mark.parametrize("number", [-1, 6])
def test_a_batch_that_is_not_there_is_an_index_error(uniform, number):
    with pytest.raises(IndexError, match=f"batch {number} was asked for, and there are 6"):
        Dataset(uniform, 4)[number]


# Trained with -------------------------------------------------------------------------------------


class Noting(keras.Model):
    """A small model that notes the rows that it is trained with."""

    def __init__(self):
        super().__init__()
        self.layer = keras.layers.Dense(1)
        self.epochs = []
        self.away = []

    def call(self, numbers):
        return self.layer(numbers)

    def train_step(self, *given):
        numbers, _ = given[-1]  # jax is given a state before it
        self.epochs[-1].extend(int(row) for row in numbers[:, 0])
        self.away.append(bool(numbers[0, 1]))
        return super().train_step(*given)


class Told(keras.callbacks.Callback):
    def __init__(self, dataset=None):
        super().__init__()
        self.told = dataset

    def on_epoch_begin(self, epoch, logs=None):
        del logs
        self.model.epochs.append([])
        if self.told is not None:
            self.told.set_epoch(epoch)


def as_numbers(batch):
    """Return rows, and whether a process of Keras made the batch, instead of pictures."""
    away = np.full(len(batch), multiprocessing.parent_process() is not None)
    return np.stack([batch.rows, away], axis=1).astype(np.float32), batch.labels[:, None]


def noting():
    model = Noting()
    model.compile("sgd", "mse", run_eagerly=True)
    return model


def expected(cache, epoch):
    order = Dataset(cache, 5, transform=rows)
    order.set_epoch(epoch)
    return of_every_row(order).tolist()


def test_fit_sees_every_row_once_an_epoch_in_the_order_of_seed_and_epoch(uniform):
    dataset = Dataset(uniform, 5, transform=as_numbers)
    model = noting()
    model.fit(dataset, epochs=3, shuffle=False, verbose=0, callbacks=[Told()])
    # Keras may end an epoch before the first one, in which it looks at a batch to build the model.
    first = dataset.epoch - 3
    assert first in (0, 1)
    assert model.epochs == [expected(uniform, first + epoch) for epoch in range(3)]


def test_a_callback_makes_the_epochs_those_of_fit(uniform):
    dataset = Dataset(uniform, 5, transform=as_numbers)
    model = noting()
    told = [Told(dataset)]
    model.fit(dataset, initial_epoch=2, epochs=4, shuffle=False, verbose=0, callbacks=told)
    assert model.epochs == [expected(uniform, epoch) for epoch in (2, 3)]


@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # of fork, in a process with threads
@pytest.mark.parametrize("processes", [False, True])
def test_the_workers_of_keras_bring_the_same_batches(uniform, processes):
    if processes and keras.backend.backend() == "jax":
        pytest.skip("jax warns of every fork")
    dataset = Dataset(uniform, 5, transform=as_numbers, workers=2, use_multiprocessing=processes)
    model = noting()
    model.fit(Dataset(uniform, 5, transform=as_numbers), verbose=0, callbacks=[Told()])
    model.epochs.clear()
    assert not any(model.away)
    model.away.clear()
    # A model that is built: Keras looks at no batch, and its workers have none ready before.
    model.fit(dataset, epochs=2, shuffle=False, verbose=0, callbacks=[Told(dataset)])
    assert model.epochs == [expected(uniform, epoch) for epoch in (0, 1)]
    assert model.away == [processes] * 10
    assert dataset.workers == 2


@pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")  # of Keras
def test_a_small_model_learns_from_pictures(uniform):
    keras.utils.set_random_seed(1)
    model = keras.Sequential(
        [
            keras.Input((32, 32, 3)),
            keras.layers.Rescaling(1 / 255),
            keras.layers.Conv2D(4, 3, strides=2, activation="relu"),
            keras.layers.GlobalAveragePooling2D(),
            keras.layers.Dense(len(uniform.classes)),
        ]
    )
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile(keras.optimizers.Adam(0.05), loss, metrics=["accuracy"])
    dataset = Dataset(uniform, 8, crop=32, position="random", flip=True)
    told = model.fit(dataset, epochs=12, shuffle=False, verbose=0)
    assert told.history["loss"][-1] < told.history["loss"][0]
    plain = Dataset(uniform, 5, shuffle=False, crop=32)
    assert model.predict(plain, verbose=0).shape == (len(uniform), len(uniform.classes))
    assert np.isfinite(model.evaluate(plain, verbose=0)).all()
