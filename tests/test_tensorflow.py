"""TensorFlow: the loader's batches as a ``tf.data.Dataset``."""

import numpy as np
import pytest

import mmcache

tf = pytest.importorskip("tensorflow", reason="pip install tensorflow")

from mmcache.tensorflow import dataset  # noqa: E402  # it needs tensorflow

SHAPINGS = [
    ({"pad": "batch"}, (None, None, None, 3)),
    ({"pad": (70, 80)}, (None, 70, 80, 3)),
    ({"crop": 20, "pad": 20, "position": "random", "flip": True}, (None, 20, 20, 3)),
    ({"crop": "random_resized", "size": (24, 32)}, (None, 24, 32, 3)),
]


@pytest.mark.parametrize(("shaping", "shape"), SHAPINGS)
def test_each_iteration_is_the_loaders_next_epoch(ragged, shaping, shape):
    made = dataset(mmcache.Loader(ragged, 7, shuffle=True, seed=5, **shaping))
    loader = mmcache.Loader(ragged, 7, shuffle=True, seed=5, **shaping)
    assert tuple(made.element_spec[0].shape) == shape
    assert made.element_spec[0].dtype == tf.uint8
    assert made.element_spec[1].dtype == tf.int64
    assert len(made) == len(loader) == 4
    for _ in range(3):
        for (images, labels), batch in zip(made, loader, strict=True):
            assert np.array_equal(images.numpy(), batch.images)
            assert np.array_equal(labels.numpy(), batch.labels)


def test_shapes_that_agree_are_known_to_tensorflow(uniform):
    images, labels = dataset(mmcache.Loader(uniform, 7)).element_spec
    assert tuple(images.shape) == (None, 48, 48, 3)
    assert tuple(labels.shape) == (None,)


def test_tensors_that_are_kept_stay_what_they_were(uniform):
    rows = np.arange(24 * 20) % 24
    made = dataset(mmcache.Loader(uniform[rows], 16), fields=["images", "rows"])
    kept = list(made)
    assert len(kept) == 30
    for images, places in kept:
        assert np.array_equal(images.numpy(), [uniform[rows[place]] for place in places.numpy()])


def test_fields_come_in_the_order_in_which_they_are_asked_for(ragged):
    fields = ["rows", "images", "mask", "sizes", "origins"]
    loader = mmcache.Loader(ragged, 7, pad="batch", mask=True, centering=(1, 0))
    made = dataset(loader, fields=fields)
    again = mmcache.Loader(ragged, 7, pad="batch", mask=True, centering=(1, 0))
    for one, batch in zip(made, again, strict=True):
        for name, tensor in zip(fields, one, strict=True):
            assert np.array_equal(tensor.numpy(), getattr(batch, name)), name


def test_one_field_is_no_tuple(ragged):
    (rows,) = dataset(mmcache.Loader(ragged, 24, pad=64), fields=["rows"])
    assert rows.numpy().tolist() == list(range(24))


def test_without_labels_the_images_are_alone(painted, tmp_path):
    cache = mmcache.build(
        painted / "circles", tmp_path / "flat.mmc", size=16, resize="crop", progress=False
    )
    (first, *_) = dataset(mmcache.Loader(cache, 3))
    assert first.shape == (3, 16, 16, 3)


def test_a_loader_in_the_middle_of_an_epoch_goes_on_there(uniform):
    loader = mmcache.Loader(uniform, 5, shuffle=True, seed=2)
    batches = iter(loader)
    for _ in range(2):
        next(batches)
    resumed = mmcache.Loader(uniform, 5, shuffle=True, seed=2)
    resumed.load_state_dict(loader.state_dict())
    made = dataset(resumed, fields=["rows"])
    rest = [batch.rows.tolist() for batch in batches]
    assert [rows.numpy().tolist() for rows in made] == rest
    assert len(list(made)) == 5


def test_pictures_of_several_shapes_are_refused_at_once(ragged):
    with pytest.raises(mmcache.ShapesDifferError, match='pad="batch"'):
        dataset(mmcache.Loader(ragged, 4))


@pytest.mark.parametrize("field", ["mask", "picture"])
def test_a_field_that_is_not_there_is_named(uniform, field):
    with pytest.raises(mmcache.SettingError, match=f"'{field}' was asked for.*images, labels"):
        dataset(mmcache.Loader(uniform, 4), fields=["images", field])


def test_keras_trains_with_it(uniform):
    model = tf.keras.Sequential(
        [
            tf.keras.Input((48, 48, 3)),
            tf.keras.layers.Rescaling(1 / 255),
            tf.keras.layers.GlobalAveragePooling2D(),
            tf.keras.layers.Dense(len(uniform.classes)),
        ]
    )
    loss = tf.keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile(tf.keras.optimizers.Adam(0.1), loss)
    made = dataset(mmcache.Loader(uniform, 8, shuffle=True))
    told = model.fit(made, epochs=8, shuffle=False, verbose=0)
    assert told.history["loss"][-1] < told.history["loss"][0]
