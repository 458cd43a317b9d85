"""The loader as a ``tf.data.Dataset``.

>>> dataset = mmcache.tensorflow.dataset(mmcache.Loader(cache, 64, shuffle=True))  # doctest: +SKIP
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from mmcache.errors import MissingLibraryError, SettingError

try:
    import tensorflow as tf
except ImportError as error:
    raise MissingLibraryError(
        f"mmcache.tensorflow needs TensorFlow, pip install tensorflow: {error}"
    ) from error

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from mmcache.loading import Loader

__all__ = ["dataset"]


def dataset(
    loader: Loader, *, fields: Sequence[str] | None = None, prefetch: int = 1
) -> tf.data.Dataset:
    """Return the batches of *loader* as tensors; each iteration is the loader's next epoch.

    Parameters
    ----------
    loader : Loader
        Whose batches are one array each.
    fields : sequence of str, optional
        What of a :class:`~mmcache.batches.Batch` an element has, in this order: ``"images"``,
        ``"labels"``, ``"rows"``, ``"sizes"``, ``"origins"``, ``"mask"``. By default images and
        labels, or the images alone where the cache has no labels.
    prefetch : int
        Batches that TensorFlow takes beforehand; those that the loader gathers ahead are its own.

    Returns
    -------
    tf.data.Dataset
        Of tuples, or of tensors where there is one field. Dimensions that every batch has are known
        to TensorFlow, others are None.

    Raises
    ------
    ShapesDifferError
        (a ``ValueError``) where pictures differ in shape, and the loader does not pad or crop them.
    SettingError
        (a ``ValueError``) where a field is not there.
    """
    specs = _specs(loader)
    if fields is None:
        fields = [name for name in ("images", "labels") if name in specs]
    for name in fields:
        if name not in specs:
            raise SettingError(
                f"the field {name!r} was asked for, and these batches have {', '.join(specs)}"
            )
    first, *others = fields

    def epoch() -> Iterator[Any]:
        for batch in loader:
            one = getattr(batch, first)
            yield (one, *(getattr(batch, name) for name in others)) if others else one

    signature = tuple(specs[name] for name in fields) if others else specs[first]
    made = tf.data.Dataset.from_generator(epoch, output_signature=signature)
    if not loader.state_dict()["position"]:  # in the middle of an epoch, the first has fewer
        made = made.apply(tf.data.experimental.assert_cardinality(len(loader)))
    return made.prefetch(prefetch)


def _specs(loader: Loader) -> dict[str, tf.TensorSpec]:
    """Return what the loader's batches have, and how it will look."""
    recipe = loader.cache.recipe
    height, width = loader.edges
    specs = {
        "images": tf.TensorSpec((None, height, width, recipe.channels), recipe.dtype),
        "labels": tf.TensorSpec((None,), tf.int64),
        "rows": tf.TensorSpec((None,), tf.int64),
        "sizes": tf.TensorSpec((None, 2), tf.int64),
        "origins": tf.TensorSpec((None, 2), tf.int64),
        "mask": tf.TensorSpec((None, height, width), tf.bool),
    }
    if loader.cache.labels is None:
        del specs["labels"]
    if not loader.shaping.mask:
        del specs["mask"]
    return specs
