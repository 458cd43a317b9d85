"""Tensors of a cache: right, of their own memory, in order, in every kind of worker."""

import ast
import os
import pickle
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

torch = pytest.importorskip("torch", reason="mmcache.torch is for PyTorch")

from torch.utils.data import (  # noqa: E402  # there is none without torch
    ConcatDataset,
    DataLoader,
    Subset,
    default_collate,
)  # fmt: skip
from torch.utils.data.distributed import DistributedSampler  # noqa: E402

import mmcache  # noqa: E402
from mmcache import DifferentCacheError, RowError, SettingError  # noqa: E402
from mmcache.testing import paint_folder  # noqa: E402
from mmcache.torch import (  # noqa: E402
    BatchSampler,
    Dataset,
    Loader,
    Normalize,
    collate,
    dataloader,
    loaders,
    tensors,
)  # fmt: skip

EVERYTHING = ("image", "label", "row", "key", "size", "origin", "mask", "flipped")
MANY = 1 << 20


@pytest.fixture(scope="module")
def unlabelled(tmp_path_factory):
    where = tmp_path_factory.mktemp("unlabelled")
    photos = paint_folder(where / "photos", 6, longest=60, classes=False)
    return mmcache.build(photos, where / "photos.mmc", size=16, resize="crop", progress=False)


def first_of(cache, row):
    """Return the picture at a row, channels first, the plain way."""
    return torch.from_numpy(cache[row].copy()).permute(2, 0, 1)


def workers(count, method="fork"):
    """Return the settings of a DataLoader's workers; torch warns of fork beside threads of ours."""
    return {"num_workers": count, "multiprocessing_context": method if count else None}


forking = pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning")


# Items ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["uniform", "ragged"])
def test_an_item_is_the_picture_channels_first_and_its_label(kind, request):
    cache = request.getfixturevalue(kind)
    dataset = Dataset(cache)
    assert len(dataset) == len(cache)
    for row in (0, 5, len(cache) - 1, -1):
        image, label = dataset[row]
        assert torch.equal(image, first_of(cache, row))
        assert label == cache.labels[row]
        assert type(label) is int


def test_iterating_ends_after_the_last_row(uniform):
    assert len(list(Dataset(uniform))) == len(uniform)
    with pytest.raises(RowError):
        Dataset(uniform)[len(uniform)]


def test_without_labels_an_item_is_the_image_alone(unlabelled):
    dataset = Dataset(unlabelled)
    assert torch.equal(dataset[2], first_of(unlabelled, 2))
    (batch, *_) = DataLoader(dataset, 4, collate_fn=collate)
    assert batch.shape == (4, 3, 16, 16)
    with pytest.raises(SettingError, match="has no labels"):
        Dataset(unlabelled, fields=("image", "label"))


def test_one_field_is_the_thing_itself_and_several_are_a_tuple(uniform):
    assert Dataset(uniform, fields="key")[3] == uniform.keys[3]
    assert Dataset(uniform, fields=("key",))[3] == (uniform.keys[3],)
    assert Dataset(uniform, fields=["row", "key"])[3] == (3, uniform.keys[3])


@pytest.mark.parametrize(
    ("settings", "sentence"),
    [
        ({"fields": ("image", "labels")}, "'labels', which is not of image, label"),
        ({"fields": "window"}, "without crop there is no window"),
        ({"crop": "middle"}, "crop='middle'"),
        ({"background": (1, 2)}, "background"),
    ],
)
@pytest.mark.parametrize("made", [Dataset, lambda cache, **settings: Loader(cache, 4, **settings)])
def test_settings_that_make_no_sense_are_refused_at_once(uniform, made, settings, sentence):
    with pytest.raises(SettingError, match=sentence):
        made(uniform, **settings)


def test_pictures_of_16_bits_are_torch_uint16(tmp_path):
    photos = paint_folder(tmp_path / "photos", 3, longest=40)
    cache = mmcache.build(
        photos, tmp_path / "deep.mmc", size=16, resize="crop", mode="I;16", progress=False
    )
    image, _ = Dataset(cache)[1]
    assert image.dtype == torch.uint16
    assert np.array_equal(image.permute(1, 2, 0).numpy(), cache[1])
    (images, _), *_ = Loader(cache, 3)
    assert np.array_equal(images.permute(0, 2, 3, 1).numpy(), np.asarray(cache))


# Batches ----------------------------------------------------------------------------------------


@given(st.lists(st.integers(-24, 23), min_size=1, max_size=12), st.sampled_from(["uniform", "pad"]))
def test_any_rows_collate_to_what_a_loop_would_stack(uniform, ragged, rows, kind):
    cache, settings = (uniform, {}) if kind == "uniform" else (ragged, {"pad": (64, 70)})
    dataset = Dataset(cache, fields=EVERYTHING, **settings)
    images, labels, numbers, keys, sizes, origins, masks, flipped = collate(
        dataset.__getitems__(rows)
    )
    for place, row in enumerate(rows):
        picture = first_of(cache, row)
        height, width = picture.shape[1:]
        assert sizes[place].tolist() == [height, width]
        top, left = origins[place].tolist()
        inside = images[place][:, top : top + height, left : left + width]
        assert torch.equal(inside, picture)
        expected = torch.zeros(images.shape[2:], dtype=torch.bool)
        expected[top : top + height, left : left + width] = True
        assert torch.equal(masks[place], expected)
        assert labels[place] == cache.labels[row]
        assert numbers[place] == row % len(cache)
        assert keys[place] == cache.keys[row]
    assert not flipped.any()
    assert images.is_contiguous(memory_format=torch.channels_last)


def test_torchs_own_collate_gives_the_same(uniform):
    dataset = Dataset(uniform, fields=EVERYTHING)
    ours = next(iter(DataLoader(dataset, 8, collate_fn=collate)))
    theirs = next(iter(DataLoader(dataset, 8)))
    assert isinstance(ours, tuple)
    for one, other, name in zip(ours, theirs, EVERYTHING, strict=True):
        assert list(one) == list(other) if name == "key" else torch.equal(one, other)
        assert name == "key" or one.dtype == other.dtype


def test_a_batch_is_one_gather_and_is_handed_over_as_it_lies(uniform, monkeypatch):
    gathers = []
    gathered = mmcache.Cache.gathered

    def noted(*arguments, **settings):
        gathers.append(batch := gathered(*arguments, **settings))
        return batch

    monkeypatch.setattr(mmcache.Cache, "gathered", noted)
    dataset = Dataset(uniform, fields=("image", "row"))
    batches = list(DataLoader(dataset, 10, collate_fn=collate))
    assert len(gathers) == len(batches) == 3
    for (images, rows), batch in zip(batches, gathers, strict=True):
        assert images.data_ptr() == batch.images.ctypes.data
        assert rows.data_ptr() != batch.rows.ctypes.data  # which may be an epoch's order


def test_buffers_are_used_again_and_never_while_a_batch_is_kept(uniform):
    dataset = Dataset(uniform)
    for loader in (DataLoader(dataset, 6, collate_fn=collate), Loader(uniform, 6)):
        places = {images.data_ptr() for _ in range(10) for images, _ in loader}
        assert len(places) < 8
        kept = [images for _ in range(3) for images, _ in loader]
        whole = torch.cat(kept).reshape(3, 24, 3, 48, 48)
        for epoch in whole:
            assert np.array_equal(epoch.permute(0, 2, 3, 1).numpy(), np.asarray(uniform))


def test_pictures_of_several_shapes_are_a_list(ragged):
    for loader in (DataLoader(Dataset(ragged), 7, collate_fn=collate), Loader(ragged, 7)):
        row = 0
        for images, labels in loader:
            assert isinstance(images, list)
            assert len(images) == len(labels)
            for image in images:
                assert torch.equal(image, first_of(ragged, row))
                row += 1
        assert row == len(ragged)


def test_datasets_of_datasets_work(uniform, ragged):
    subset = Subset(Dataset(uniform), [3, 1, 20])
    images, labels = next(iter(DataLoader(subset, 3, collate_fn=collate)))
    assert torch.equal(images, torch.stack([first_of(uniform, row) for row in (3, 1, 20)]))
    both = ConcatDataset([Dataset(uniform), Dataset(ragged)])
    images, labels = collate([both[0], both[30]])
    assert torch.equal(images[1], first_of(ragged, 6))
    assert labels.tolist() == [uniform.labels[0], ragged.labels[6]]
    images, _ = collate([both[0], both[1]])
    assert images.shape == (2, 3, 48, 48)
    keys = ConcatDataset([Dataset(uniform, fields="key")] * 2)
    assert collate([keys[0], keys[25]]) == [uniform.keys[0], uniform.keys[1]]


def test_ranks_of_a_distributed_sampler_share_the_rows(uniform):
    dataset = Dataset(uniform, fields="row")
    seen = []
    for rank in range(2):
        sampler = DistributedSampler(dataset, num_replicas=2, rank=rank, shuffle=True)
        seen += torch.cat(
            list(DataLoader(dataset, 5, sampler=sampler, collate_fn=collate))
        ).tolist()
    assert sorted(seen) == list(range(24))


# Transforms -------------------------------------------------------------------------------------


def darkened(image):
    return image // 2


def labelled(label):
    return label + 100


@pytest.mark.parametrize("collated", [collate, default_collate])
def test_transforms_are_called_for_each_picture_each_label_and_each_batch(uniform, collated):
    plain = torch.stack([first_of(uniform, row) for row in range(5)])
    calls = []

    def batched(images):
        calls.append(images.shape)
        return images + 1

    dataset = Dataset(
        uniform, transform=darkened, target_transform=labelled, batch_transform=batched
    )
    images, labels = next(iter(DataLoader(dataset, 5, collate_fn=collated)))
    assert torch.equal(images, (plain + 1) // 2)
    assert images.is_contiguous(memory_format=torch.channels_last) == (collated is collate)
    assert labels.tolist() == (uniform.labels[:5] + 100).tolist()
    assert calls == [(5, 3, 48, 48)]
    assert torch.equal(dataset[2][0], images[2])


def test_a_transform_may_give_pictures_of_several_shapes(ragged):
    dataset = Dataset(ragged, transform=lambda image: image[:, ::2])
    images, _ = next(iter(DataLoader(dataset, 6, collate_fn=collate)))
    assert all(torch.equal(images[row], first_of(ragged, row)[:, ::2]) for row in range(6))


# Workers ----------------------------------------------------------------------------------------


METHODS = [
    pytest.param("fork", marks=forking),
    pytest.param("spawn", marks=pytest.mark.slow),
    pytest.param("forkserver", marks=pytest.mark.slow),
]


@pytest.mark.parametrize("method", METHODS)
def test_workers_of_every_kind_give_what_this_process_gives(uniform, ragged, method):
    if sys.platform == "win32" and method != "spawn":
        pytest.skip("only spawn is known there")
    for cache, settings in (
        (uniform, {"fields": EVERYTHING}),
        (uniform[::-2], {"transform": darkened, "target_transform": labelled}),
        (ragged, {}),
    ):
        here, there = (
            list(dataloader(cache, 7, seed=1, shuffle=True, **settings, **workers(count, method)))
            for count in (0, 2)
        )
        assert len(here) == len(there)
        for one, other in zip(here, there, strict=True):
            assert all(map(same, one, other))
            assert isinstance(other[0], list) == (cache is ragged)


def same(one, other):
    if isinstance(one, torch.Tensor):
        return torch.equal(one, other)
    if isinstance(one, list):
        return len(one) == len(other) and all(map(same, one, other))
    return one == other


def in_a_worker(monkeypatch):
    monkeypatch.setattr("mmcache.torch.datasets.get_worker_info", lambda: "a worker")


def test_in_a_worker_a_batch_is_gathered_into_the_memory_that_is_sent(uniform, ragged, monkeypatch):
    in_a_worker(monkeypatch)
    images, _ = collate(Dataset(uniform).__getitems__([1, 2]))
    assert images.is_shared()
    images, _ = collate(Dataset(ragged).__getitems__([1, 2, 3]))
    assert images[0].is_shared()
    # All of them are sent as one: a file descriptor each would be too many.
    assert {image.untyped_storage().data_ptr() for image in images} == {
        images.flat.untyped_storage().data_ptr()
    }
    assert images.__reduce__()[1][0] is images.flat


def test_an_empty_batch_has_its_shape_in_a_worker_too(uniform, monkeypatch):
    in_a_worker(monkeypatch)
    images, labels = collate(Dataset(uniform).__getitems__([]))
    assert images.shape == (0, 3, 48, 48)
    assert len(labels) == 0


def test_what_is_pickled_does_not_grow_with_the_cache(uniform, unlabelled):
    sizes = []
    for cache in (uniform, unlabelled, uniform[3:17]):
        dataset = Dataset(cache, fields="image", pad=64)
        before = len(pickle.dumps(dataset))
        assert len(list(DataLoader(dataset, 4, collate_fn=collate))) == -(-len(cache) // 4)
        again = pickle.dumps(dataset)
        assert len(again) == before
        sizes.append(before - len(str(cache.path)))
        assert torch.equal(pickle.loads(again)[1], dataset[1])
    assert max(sizes) < 1500
    assert max(sizes) - min(sizes) < 100


def test_a_dataset_of_another_generation_is_refused(tmp_path):
    photos = paint_folder(tmp_path / "photos", 3, longest=40)
    path = tmp_path / "photos.mmc"
    pickled = pickle.dumps(Dataset(mmcache.build(photos, path, size=16, progress=False)))
    mmcache.build(photos, path, size=24, exist="overwrite", progress=False)
    with pytest.raises(DifferentCacheError):
        pickle.loads(pickled)


@pytest.mark.filterwarnings("ignore:'pin_memory' argument is set as true:UserWarning")
@forking
@pytest.mark.parametrize("count", [0, 1])
def test_memory_is_pinned_where_there_is_an_accelerator(uniform, count):
    loader = DataLoader(Dataset(uniform), 6, collate_fn=collate, pin_memory=True, num_workers=count)
    for images, labels in loader:
        assert images.is_pinned() == labels.is_pinned() == torch.cuda.is_available()


# Random crops and flips -------------------------------------------------------------------------


@forking
@pytest.mark.parametrize("count", [0, 2])
def test_random_crops_follow_torchs_seed_and_differ_between_epochs_and_workers(uniform, count):
    same_rows = uniform[[4] * 8]
    dataset = Dataset(same_rows, fields=("window", "flipped"), crop=9, position="random", flip=True)

    def epochs(seed):
        torch.manual_seed(seed)
        loader = DataLoader(
            dataset, 4, collate_fn=collate, persistent_workers=count > 0, num_workers=count
        )
        return [[window.tolist() for window, _ in loader] for _ in range(2)]

    one = epochs(3)
    assert one == epochs(3)
    assert one != epochs(4)
    (first, second), (third, _) = one
    assert first != second  # with two workers: of one and of the other
    assert first != third


def test_what_is_not_random_leaves_torchs_generator_alone(uniform):
    before = torch.get_rng_state()
    collate(Dataset(uniform).__getitems__([1, 2]))
    Dataset(uniform, crop=9)[3]
    assert torch.equal(torch.get_rng_state(), before)


@pytest.mark.parametrize("settings", [
    {"shuffle": True}, {"shuffle": "blocks", "drop_last": True}, {},
    {"shuffle": True, "rank": 1, "world_size": 2},
])  # fmt: skip
@pytest.mark.parametrize("count", [0, pytest.param(2, marks=forking)])
def test_a_dataloader_gives_what_the_loader_of_its_seed_gives(uniform, settings, count):
    random = {"crop": 32, "position": "random", "flip": True}
    loader = mmcache.Loader(uniform, 5, seed=7, **settings, **random)
    theirs = dataloader(uniform, 5, seed=7, **settings, **random, **workers(count))
    assert len(theirs) == len(loader)
    for _ in range(3):
        for (images, labels), batch in zip(theirs, loader, strict=True):
            assert np.array_equal(images.permute(0, 2, 3, 1).numpy(), batch.images)
            assert np.array_equal(labels.numpy(), batch.labels)
    assert theirs.batch_sampler.epoch == loader.epoch == 2
    theirs.batch_sampler.set_epoch(0)
    loader.set_epoch(0)
    assert np.array_equal(next(iter(theirs))[1], next(iter(loader)).labels)


def test_a_dataloader_without_a_seed_follows_torchs(uniform):
    orders = []
    for seed in (1, 1, 2):
        torch.manual_seed(seed)
        (rows,) = dataloader(uniform, 24, shuffle=True, fields="row")
        orders.append(rows.tolist())
    assert orders[0] == orders[1] != orders[2]


def test_a_dataloader_is_set_up_for_its_workers(uniform):
    alone, helped = dataloader(uniform, 4), dataloader(uniform, 4, num_workers=2)
    assert not alone.persistent_workers
    assert helped.persistent_workers
    assert alone.collate_fn is collate
    assert alone.pin_memory == torch.cuda.is_available()
    given = dataloader(uniform, 4, num_workers=2, persistent_workers=False, prefetch_factor=5)
    assert not given.persistent_workers
    assert given.prefetch_factor == 5


@pytest.mark.skipif(not hasattr(mmcache, "buckets"), reason="buckets are not there")
@forking
@pytest.mark.parametrize("count", [0, 2])
def test_batches_of_buckets_have_the_buckets_shape(ragged, count):
    buckets = mmcache.buckets(ragged, 4, count=3)
    loader = mmcache.Loader(ragged, 4, seed=7, shuffle=True, buckets=buckets, flip=True)
    theirs = dataloader(
        ragged, 4, seed=7, shuffle=True, buckets=buckets, flip=True, **workers(count)
    )
    for (images, labels), batch in zip(theirs, loader, strict=True):
        assert np.array_equal(images.permute(0, 2, 3, 1).numpy(), batch.images)
        assert np.array_equal(labels.numpy(), batch.labels)


# Resuming ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("made", [
    lambda cache: Loader(cache, 5, shuffle=True, seed=3, fields="row"),
    lambda cache: BatchSampler(cache, 5, shuffle=True, seed=3),
])  # fmt: skip
@pytest.mark.parametrize("stop", [0, 1, 3, 5])
def test_a_state_goes_on_with_the_very_next_row(uniform, made, stop):
    def rows(batches):
        return [row for batch in batches for row in [*batch]]

    whole = made(uniform)
    expected = [rows(whole) for _ in range(3)]
    broken = made(uniform)
    assert rows(broken) == expected[0]
    begun = iter(broken)
    seen = rows(next(begun) for _ in range(stop))
    state = pickle.loads(pickle.dumps(broken.state_dict()))
    resumed = made(uniform)
    resumed.load_state_dict(state)
    if stop < 5:
        seen += rows(resumed)
    assert seen == expected[1]
    assert rows(resumed) == expected[2]
    with pytest.raises(DifferentCacheError):
        made(uniform[:20]).load_state_dict(state)


@forking
@pytest.mark.filterwarnings("ignore:'set_vital' is deprecated:UserWarning")  # torchdata's own call
@pytest.mark.parametrize("count", [0, 2])
def test_a_stateful_dataloader_resumes_in_the_middle_of_an_epoch(uniform, count):
    stateful = pytest.importorskip("torchdata.stateful_dataloader")

    def made():
        return dataloader(
            uniform, 5, shuffle=True, seed=3, flip=True, kind=stateful.StatefulDataLoader,
            **workers(count),
        )  # fmt: skip

    expected = [list(loader) for loader in [made()] for _ in range(2)]
    loader = made()
    begun = iter(loader)
    seen = [next(begun) for _ in range(2)]
    resumed = made()
    resumed.load_state_dict(loader.state_dict())
    seen += list(resumed)
    for got, wanted in ((seen, expected[0]), (list(resumed), expected[1])):
        assert len(got) == len(wanted)
        assert all(all(map(torch.equal, *pair)) for pair in zip(got, wanted, strict=True))


# The loader -------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["uniform", "ragged"])
def test_the_loader_gives_the_batches_of_mmcaches_own(kind, request):
    cache = request.getfixturevalue(kind)
    settings = {"shuffle": True, "seed": 5, "flip": True, "threads": 2}
    ours = Loader(cache, 5, fields=("image", "row", "size", "key", "flipped"), **settings)
    theirs = mmcache.Loader(cache, 5, **settings)
    assert len(ours) == len(theirs)
    for _ in range(2):
        for (images, rows, sizes, keys, flipped), batch in zip(ours, theirs, strict=True):
            for image, expected in zip(images, batch.images, strict=True):
                assert np.array_equal(image.permute(1, 2, 0).numpy(), expected)
            assert rows.tolist() == batch.rows.tolist()
            assert sizes.tolist() == batch.sizes.tolist()
            assert keys == list(batch.keys)
            assert flipped.tolist() == batch.flipped.tolist()
    assert ours.epoch == theirs.epoch == 1
    assert ours.quality == theirs.quality
    assert ours.cache is cache
    ours.set_epoch(4)
    theirs.set_epoch(4)
    assert next(iter(ours))[1].tolist() == next(iter(theirs)).rows.tolist()
    assert "as tensors" in repr(ours)


def test_batches_are_moved_and_then_transformed(uniform, ragged):
    devices = []

    def noted(images):
        devices.append(images[0].device.type)
        return images

    for cache in (uniform, ragged):
        loader = Loader(
            cache, 5, device="meta", fields=("image", "label", "key"), batch_transform=noted
        )
        for images, labels, keys in loader:
            assert images[0].is_meta
            assert labels.is_meta
            assert isinstance(keys[0], str)
    assert set(devices) == {"meta"}
    assert [image.shape for image in images] == [
        first_of(ragged, row).shape for row in range(20, 24)
    ]


@pytest.mark.parametrize("kind", ["uniform", "ragged"])
def test_page_locked_batches_are_views_of_tensors_that_torch_allocated(kind, request, monkeypatch):
    # Without a GPU there is no such memory: what asks for it is given other memory of torch's.
    asked = []
    empty = torch.empty

    def plain(*shape, pin_memory=False, **settings):
        made = empty(*shape, **settings)
        if pin_memory:
            asked.append(made)
        return made

    monkeypatch.setattr(torch, "empty", plain)
    monkeypatch.setattr(loaders, "_can_pin", lambda _: True)
    cache = request.getfixturevalue(kind)
    loader = Loader(cache, 5, fields=("image", "row"))
    assert loader.is_pinned
    for images, rows in loader:
        for image, row in zip(images, rows.tolist(), strict=True):
            assert torch.equal(image, first_of(cache, row))
            # The very storage, by which the allocator knows what is still being copied.
            (owner,) = (
                one for one in asked
                if one.untyped_storage()._cdata == image.untyped_storage()._cdata
            )  # fmt: skip
            start = image.data_ptr() - owner.data_ptr()
            assert 0 <= start <= owner.numel() - image.numel()
    assert len(asked) == 5  # a new one each time: the allocator knows when memory is free
    assert not Loader(cache, 5, pin_memory=False).is_pinned


def test_what_is_moved_to_another_device_is_not_page_locked_for_a_gpu():
    assert not loaders._can_pin(torch.device("meta"))
    assert loaders._can_pin(None) == torch.cuda.is_available()


def test_a_view_of_another_tensors_array_is_a_view_of_that_tensor():
    owner = torch.arange(40, dtype=torch.int16)[4:]
    array = owner.numpy()[3:33].reshape(5, 6)[1:, ::2]
    view = tensors.over(array)
    assert np.array_equal(view.numpy(), array)
    assert view.untyped_storage()._cdata == owner.untyped_storage()._cdata
    read_only = np.arange(4)
    read_only.flags.writeable = False
    tensors.over(read_only).fill_(0)
    assert read_only.tolist() == [0, 1, 2, 3]


# Safety -----------------------------------------------------------------------------------------


WRITE_EVERYWHERE = """
import sys
import torch
import mmcache, mmcache.torch
from torch.utils.data import DataLoader

def written(what):
    if isinstance(what, torch.Tensor):
        what.fill_(1)
        return what.numel() > 0
    if isinstance(what, (tuple, list)):
        return sum(written(one) for one in what)
    return 0

if __name__ == "__main__":
    uniform, ragged = (mmcache.open(path) for path in sys.argv[1:3])
    fields = ("image", "label", "row", "key", "size", "origin", "mask", "flipped")
    narrow = [uniform, uniform[::-2], uniform[[5, 1, 2]]]
    caches = [(one, {"fields": fields}) for one in narrow] + [(ragged, {}), (ragged[3:4], {})]
    caches += [(ragged, {"fields": fields, "pad": 64}), (uniform, {"crop": 9, "flip": 1.0})]
    count = 0
    for cache, settings in caches:
        dataset = mmcache.torch.Dataset(cache, **settings)
        count += sum(written(dataset[row]) for row in range(len(dataset)))
        count += written(list(dataset.__getitems__([1, 2]))) if len(dataset) > 2 else 0
        for workers in (0, 2):
            loader = DataLoader(
                dataset, 3, collate_fn=mmcache.torch.collate, num_workers=workers
            )
            count += sum(written(batch) for batch in loader)
        if cache.recipe.shape:
            count += sum(written(batch) for batch in DataLoader(dataset, 3))
        for prefetch in (0, 2):
            for shuffle in (False, True, "blocks"):
                loader = mmcache.torch.Loader(
                    cache, 3, shuffle=shuffle, prefetch=prefetch, **settings
                )
                for _ in range(2):
                    count += sum(written(batch) for batch in loader)
                    loader.set_epoch(0)
    assert count > 500, count
"""


def in_a_process(code, *arguments):
    return subprocess.run(
        [sys.executable, "-W", "ignore", "-c", code, *map(str, arguments)],
        capture_output=True, text=True, check=False, timeout=200,
    )  # fmt: skip


@pytest.mark.slow
def test_every_tensor_may_be_written_to_and_the_cache_stays_what_it_was(uniform, ragged, tmp_path):
    script = tmp_path / "write_everywhere.py"
    script.write_text(WRITE_EVERYWHERE)
    before = [contents(cache.path) for cache in (uniform, ragged)]
    done = subprocess.run(
        [sys.executable, "-W", "ignore", script, uniform.path, ragged.path],
        capture_output=True, text=True, check=False, timeout=300, env=os.environ,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert [contents(cache.path) for cache in (uniform, ragged)] == before


def contents(path):
    return {file.name: file.read_bytes() for file in path.iterdir()}


@pytest.mark.skipif(os.name != "posix", reason="a process ends in another way there")
def test_a_tensor_over_the_mapping_itself_would_end_the_process(uniform):
    done = in_a_process(
        "import sys, torch, mmcache\n"
        "torch.from_numpy(mmcache.open(sys.argv[1])[0]).fill_(1)\n"
        "print('written')",
        uniform.path,
    )
    assert done.returncode < 0
    assert "written" not in done.stdout


# Normalising ------------------------------------------------------------------------------------


MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


def exactly(images, mean=MEAN, std=STD):
    """Return what the formula says, in float64."""
    largest = torch.iinfo(images.dtype).max
    mean, std = (torch.tensor(one, dtype=torch.float64).view(-1, 1, 1) for one in (mean, std))
    return (images.double() / largest - mean) / std


@given(
    arrays.arrays(
        st.sampled_from([np.uint8, np.uint16]),
        st.tuples(st.integers(0, 5), st.integers(1, 9), st.integers(1, 9), st.just(3)),
    ),
    st.booleans(),
)
def test_normalising_is_the_formula(array, last):
    images = torch.from_numpy(array).permute(0, 3, 1, 2)
    images = images if last else images.contiguous()
    before = images.clone()
    made = Normalize(MEAN, STD)(images)
    assert made.dtype == torch.float32
    assert made.shape == images.shape
    assert made.stride() == images.stride()
    # A few roundings of numbers below 3.
    assert torch.allclose(made.double(), exactly(images), rtol=0, atol=1e-6)
    assert torch.equal(images, before)


def test_every_value_is_as_near_as_the_formula_in_float32():
    images = torch.arange(256, dtype=torch.uint8).repeat(3, 1).view(3, 16, 16)
    naive = images.float().div(255).sub(torch.tensor(MEAN).view(-1, 1, 1))
    naive = naive.div(torch.tensor(STD).view(-1, 1, 1)).double()
    error = (Normalize(MEAN, STD)(images).double() - exactly(images)).abs().max()
    assert error <= 2 * (naive - exactly(images)).abs().max()


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
def test_normalised_images_are_rounded_once(uniform, dtype):
    images = collate(Dataset(uniform, fields="image").__getitems__(range(24)))
    expected = Normalize(MEAN, STD)(images).to(dtype)
    assert torch.equal(Normalize(MEAN, STD, dtype)(images), expected)


def test_large_batches_single_images_lists_and_grey_are_normalised(uniform, ragged, monkeypatch):
    monkeypatch.setattr("mmcache.torch.normalizing._AT_ONCE", 3 * 48 * 48 * 5)
    normalize = Normalize(MEAN, STD)
    (images,) = Loader(uniform, 24, fields="image")
    assert torch.equal(normalize(images)[7], normalize(images[7]))
    assert torch.allclose(normalize(images).double(), exactly(images), rtol=0, atol=1e-6)
    (images,) = Loader(ragged, 24, fields="image", batch_transform=normalize)
    for row, image in enumerate(images):
        expected = exactly(first_of(ragged, row))
        assert torch.allclose(image.double(), expected, rtol=0, atol=1e-6)
    grey = torch.randint(0, 256, (2, 1, 5, 6), dtype=torch.uint8)
    expected = exactly(grey, [0.5], [0.25])
    assert torch.allclose(Normalize([0.5], [0.25])(grey).double(), expected, atol=1e-6)


def test_normalize_works_on_other_devices_and_travels():
    normalize = Normalize(MEAN, STD)
    pickled = pickle.dumps(normalize)
    images = torch.zeros(2, 4, 5, 3, dtype=torch.uint8).permute(0, 3, 1, 2)
    away = normalize(images.to("meta"))
    assert away.is_meta
    assert (away.shape, away.stride(), away.dtype) == ((2, 3, 4, 5), images.stride(), torch.float32)
    assert torch.equal(pickle.loads(pickled)(images), normalize(images))
    assert len(pickle.dumps(normalize)) == len(pickled)  # nothing of the devices here
    assert "0.485" in repr(normalize)


def test_one_call_that_a_gpu_makes_is_the_formula():
    images = torch.randint(0, 256, (4, 3, 7, 9), dtype=torch.uint8)
    normalize = Normalize(MEAN, STD)
    scale, shift = normalize._constants_for(images)
    made = torch.addcmul(shift, images, scale)
    assert torch.allclose(made.double(), exactly(images), rtol=0, atol=1e-6)


@pytest.mark.parametrize(
    ("made", "sentence"),
    [
        (lambda: Normalize([0.5], [0.1, 0.2]), "not as many"),
        (lambda: Normalize([0.5], [0]), "std is not above 0"),
        (lambda: Normalize([0.5], [0.1], torch.uint8), "are floats"),
        (lambda: Normalize([0.5], [0.1])(torch.zeros(3, 2, 2, dtype=torch.uint8)), "3 channels"),
        (lambda: Normalize([0.5], [0.1])(torch.zeros(1, 2, 2)), "float32"),
    ],
)
def test_what_cannot_be_normalised_is_refused(made, sentence):
    with pytest.raises(SettingError, match=sentence):
        made()


# The room ---------------------------------------------------------------------------------------


def test_torch_is_imported_in_its_room_alone():
    package = Path(mmcache.__file__).parent
    importing = {
        file.relative_to(package).parts[0]
        for file in package.rglob("*.py")
        for node in ast.walk(ast.parse(file.read_text("utf-8")))
        if isinstance(node, (ast.Import, ast.ImportFrom))
        for name in [getattr(node, "module", None), *(alias.name for alias in node.names)]
        if name and name.split(".")[0] in {"torch", "torchdata", "torchvision"}
    }
    assert importing == {"torch"}
