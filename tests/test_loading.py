"""The loader: every row once, the same for the same seed, ahead of time, never overwritten."""

import gc
import itertools
import json
import os
import pickle
import threading
import time

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import mmcache
from mmcache import DifferentCacheError, Loader, SettingError, loading
from mmcache.chances import permuted, uniform
from mmcache.orders import Order, mixture, share
from mmcache.testing import paint_folder


@pytest.fixture(scope="module")
def many(tmp_path_factory):
    """A cache of 60 pictures that differ in shape, and one of 60 that do not."""
    where = tmp_path_factory.mktemp("many")
    photos = paint_folder(where / "photos", 60, longest=60)
    ragged = mmcache.build(photos, where / "ragged.mmc", size=32, progress=False)
    even = mmcache.build(photos, where / "even.h5", size=16, resize="crop", progress=False)
    return {"ragged": ragged, "even": even}


@pytest.fixture(scope="module")
def even(many):
    return many["even"]


def rows_of(batches):
    return [row for batch in batches for row in batch.rows.tolist()]


def copied(batches):
    """Return what the batches held when they came."""
    return [np.concatenate([image.ravel() for image in batch.images]) for batch in batches]


shuffles = st.sampled_from([False, True, "blocks"])


# Which rows ------------------------------------------------------------------------------------


@given(
    st.integers(0, 300), shuffles, st.integers(0, 9), st.integers(0, 9), st.integers(1, 40),
    st.integers(1, 9),
)  # fmt: skip
def test_an_order_has_every_row_once(length, shuffle, seed, epoch, block, mixed):  # noqa: PLR0917  # each is varied
    order = Order(length=length, shuffle=shuffle, seed=seed, block=block, mixed=mixed)
    rows = list(order.rows(epoch))
    assert sorted(rows) == list(range(length))
    assert rows == list(order.rows(epoch))
    if shuffle is False:
        assert rows == list(range(length))


@given(st.integers(1, 300), st.integers(0, 5), st.integers(1, 40), st.integers(1, 9))
def test_blocks_that_are_mixed_are_whole_and_come_together(length, epoch, block, mixed):
    order = Order(length=length, shuffle="blocks", seed=1, block=block, mixed=mixed)
    rows = np.asarray(order.rows(epoch))
    start = 0
    for number, end in enumerate(ends := order.group_ends(epoch).tolist()):
        blocks = np.unique(rows[start:end] // block)
        last = number == len(ends) - 1
        assert len(blocks) == mixed or (last and len(blocks) <= mixed)
        whole = [row for b in blocks for row in range(b * block, min(length, (b + 1) * block))]
        assert sorted(rows[start:end].tolist()) == whole
        start = end
    assert start == length


def test_orders_of_two_epochs_and_of_two_seeds_differ():
    for shuffle in (True, "blocks"):
        orders = [
            tuple(Order(length=200, shuffle=shuffle, seed=seed, block=5, mixed=4).rows(epoch))
            for seed, epoch in itertools.product(range(3), repeat=2)
        ]
        assert len(set(orders)) == len(orders)


def test_a_shuffled_row_is_equally_likely_everywhere():
    counts = np.zeros((6, 6), int)
    for epoch in range(6000):
        counts[np.arange(6), permuted(6, 3, epoch)] += 1
    assert np.abs(counts - 1000).max() < 5 * np.sqrt(1000 * 5 / 6)


def test_random_numbers_are_what_they_were_in_every_version():
    # Written down once, so that an order made today is found again in years.
    assert permuted(8, 1, 2).tolist() == [4, 2, 0, 6, 1, 5, 7, 3]
    assert uniform(3, 1, 2, 1, epoch=2)[0].tolist() == [0.5244794198342909, 0.8160846990878203]


@given(
    st.integers(0, 50),
    st.integers(0, 50),
    st.integers(0, 9),
    st.sampled_from([0, 5, 2**63, 2**64 - 1024, 2**64 - 1]),
)
def test_a_place_has_the_same_numbers_whatever_comes_beside_it(first, count, each, seed):
    whole = uniform(0, first + count, each, seed, epoch=7)
    assert np.array_equal(uniform(first, count, each, seed, epoch=7), whole[first:])
    assert ((whole >= 0) & (whole < 1)).all()


@given(st.integers(0, 200), st.integers(1, 9))
def test_ranks_do_not_overlap_and_keep_or_drop_the_remainder(count, world):
    for remainder in ("drop", "keep"):
        shares = [share(count, rank, world, remainder) for rank in range(world)]
        together = [place for one in shares for place in one]
        sizes = {len(one) for one in shares}
        if remainder == "drop":
            assert together == list(range(count - count % world))
            assert len(sizes) == 1
        else:
            assert together == list(range(count))
            assert max(sizes) - min(sizes) <= 1


@pytest.mark.parametrize("kind", ["ragged", "even"])
@pytest.mark.parametrize("shuffle", [False, True, "blocks"])
@pytest.mark.parametrize(("prefetch", "threads"), [(0, 1), (1, 1), (3, 2)])
def test_every_epoch_gives_every_picture_once(many, kind, shuffle, prefetch, threads):
    cache = many[kind]
    loader = Loader(cache, 7, shuffle=shuffle, prefetch=prefetch, threads=threads)
    orders = []
    for _ in range(3):
        seen = []
        for batch in loader:
            for image, row, key in zip(batch.images, batch.rows, batch.keys, strict=True):
                assert np.array_equal(image, cache[int(row)])
                assert key == cache.keys[int(row)]
            assert batch.labels.tolist() == cache.labels[batch.rows].tolist()
            seen += batch.rows.tolist()
        assert sorted(seen) == list(range(60))
        orders.append(seen)
    assert (orders[0] == orders[1] == orders[2]) == (shuffle is False)


@pytest.mark.parametrize("drop_last", [False, True])
@pytest.mark.parametrize("size", [1, 7, 60, 100])
def test_its_length_is_the_number_of_its_batches(even, size, drop_last):
    loader = Loader(even, size, drop_last=drop_last)
    batches = [len(batch) for batch in loader]
    assert len(batches) == len(loader)
    assert all(length == size for length in batches[:-1])
    if drop_last:
        assert all(length == size for length in batches)
    else:
        assert sum(batches) == 60


@pytest.mark.parametrize("shuffle", [False, True, "blocks"])
def test_ranks_share_an_epoch(even, shuffle):
    world = 7
    loaders = [Loader(even, 4, shuffle=shuffle, rank=r, world_size=world) for r in range(world)]
    for _ in range(2):
        rows = [rows_of(loader) for loader in loaders]
        together = [row for one in rows for row in one]
        assert len(set(together)) == len(together)
        # Where rows are shuffled, all ranks have as many batches; else every row is read.
        assert len(together) == (56 if shuffle else 60)
        if shuffle:
            assert len({len(loader) for loader in loaders}) == 1
    kept = [
        row
        for r in range(world)
        for row in rows_of(
            Loader(even, 4, shuffle=True, rank=r, world_size=world, remainder="keep")
        )
    ]
    assert sorted(kept) == list(range(60))


# The same again --------------------------------------------------------------------------------


RANDOM = {"crop": (9, 9), "pad": (9, 9), "position": "random", "flip": True}


@pytest.mark.parametrize("shuffle", [False, True, "blocks"])
@pytest.mark.parametrize("kind", ["ragged", "even"])
def test_seed_and_epoch_decide_everything_and_threads_nothing(many, kind, shuffle):
    cache = many[kind]
    made = []
    for prefetch, threads in ((0, None), (1, 1), (4, 3)):
        loader = Loader(
            cache, 8, shuffle=shuffle, seed=5, prefetch=prefetch, threads=threads, **RANDOM
        )
        made.append([[batch.images.copy() for batch in loader] for _ in range(2)])
    for other in made[1:]:
        for epoch, expected in zip(other, made[0], strict=True):
            assert all(np.array_equal(a, b) for a, b in zip(epoch, expected, strict=True))
    first, second = (np.concatenate(epoch) for epoch in made[0])
    assert not np.array_equal(first, second)
    another = Loader(cache, 8, shuffle=shuffle, seed=6, **RANDOM)
    assert not np.array_equal(np.concatenate([b.images.copy() for b in another]), first)


def test_an_epoch_can_be_chosen_and_each_iteration_is_the_next(even):
    loader = Loader(even, 10, shuffle=True)
    epochs = [rows_of(loader) for _ in range(4)]
    assert loader.epoch == 3
    loader.set_epoch(1)
    assert rows_of(loader) == epochs[1]
    assert rows_of(loader) == epochs[2]
    # Also where the one before was left early: else a loop of few steps would see the same rows.
    loader.set_epoch(0)
    next(iter(loader))
    assert rows_of(loader) == epochs[1]


@given(st.data(), shuffles, st.integers(1, 17), st.sampled_from([0, 2]), st.booleans())
@settings(max_examples=40)
def test_a_state_goes_on_with_the_very_next_row(  # noqa: PLR0917  # each is varied
    many, data, shuffle, size, prefetch, drop
):
    cache = many[data.draw(st.sampled_from(["ragged", "even"]))]
    world = data.draw(st.integers(1, 3))
    ask = {
        "shuffle": shuffle, "seed": 3, "prefetch": prefetch, "drop_last": drop,
        "rank": world - 1, "world_size": world, **RANDOM,
    }  # fmt: skip
    whole = Loader(cache, size, **ask)
    batches = [(batch.rows.tolist(), batch.images.copy()) for _ in range(3) for batch in whole]
    stop = data.draw(st.integers(1, max(1, len(batches))))
    loader = Loader(cache, size, **ask)
    epochs = itertools.chain.from_iterable(itertools.repeat(loader, 3))
    for _ in itertools.islice(epochs, stop):
        pass
    state = json.loads(json.dumps(loader.state_dict()))
    resumed = Loader(cache, size, **ask)
    resumed.load_state_dict(state)
    rest = [
        (batch.rows.tolist(), batch.images.copy())
        for _ in range(3 - resumed.epoch)
        for batch in resumed
    ]
    expected = batches[stop:]
    assert [rows for rows, _ in rest] == [rows for rows, _ in expected]
    assert all(np.array_equal(a, b) for (_, a), (_, b) in zip(rest, expected, strict=True))


def test_a_state_of_the_end_of_an_epoch_begins_the_next(even):
    loader = Loader(even, 16, shuffle=True)
    first, second = rows_of(loader), rows_of(loader)
    loader.set_epoch(0)
    assert rows_of(loader) == first
    resumed = Loader(even, 16, shuffle=True)
    resumed.load_state_dict(loader.state_dict())
    assert resumed.epoch == 1
    assert rows_of(resumed) == second


def test_a_state_taken_in_the_middle_allows_batches_of_another_size(even):
    loader = Loader(even, 10, shuffle=True)
    batches = iter(loader)
    seen = [row for _ in range(2) for row in next(batches).rows.tolist()]
    resumed = Loader(even, 3, shuffle=True)
    resumed.load_state_dict(loader.state_dict())
    assert seen + rows_of(resumed) == rows_of(Loader(even, 60, shuffle=True))


@pytest.mark.parametrize(
    ("other", "says"),
    [
        ({"seed": 1}, "seed=0, and this one has 1"),
        ({"shuffle": False}, "shuffle=True"),
        ({"rank": 1, "world_size": 2}, "rank=0"),
    ],
)
def test_a_state_of_another_order_is_refused(even, other, says):
    state = Loader(even, 10, shuffle=True).state_dict()
    with pytest.raises(DifferentCacheError, match=says):
        Loader(even, 10, **({"shuffle": True} | other)).load_state_dict(state)


def test_a_state_of_another_cache_or_of_other_rows_is_refused(many):
    even, ragged = many["even"], many["ragged"]
    state = Loader(even, 10).state_dict()
    with pytest.raises(DifferentCacheError, match="fingerprint"):
        Loader(ragged, 10).load_state_dict(state)
    with pytest.raises(DifferentCacheError, match="rows"):
        Loader(even[1:], 10).load_state_dict(state)
    listed = Loader(even[[3, 1, 2]], 10).state_dict()
    Loader(even[[3, 1, 2]], 10).load_state_dict(listed)
    with pytest.raises(DifferentCacheError, match="rows"):
        Loader(even[[1, 3, 2]], 10).load_state_dict(listed)
    with pytest.raises(SettingError, match="no state of a loader"):
        Loader(even, 10).load_state_dict({})


# Buffers ---------------------------------------------------------------------------------------


def addresses(batches):
    return [batch.images.__array_interface__["data"][0] for batch in batches]


@pytest.mark.parametrize("prefetch", [0, 1, 3])
def test_buffers_are_used_again_and_few(even, prefetch):
    loader = Loader(even, 6, prefetch=prefetch)
    used = {batch.images.__array_interface__["data"][0] for _ in range(5) for batch in loader}
    assert len(used) <= prefetch + 2


KEPT = {
    "batch": (lambda batch: batch, lambda kept: kept.images[2]),
    "images": (lambda batch: batch.images, lambda kept: kept[2]),
    "a view": (lambda batch: batch.images[2], lambda kept: kept),
    "a view of a view": (
        lambda batch: batch.images[1:].reshape(-1).view(np.int8),
        lambda kept: kept.view(np.uint8).reshape(-1, *batch_shape(kept))[1],
    ),
    "a memoryview": (lambda batch: memoryview(batch.images), lambda kept: np.asarray(kept)[2]),
}


def batch_shape(flat):
    edge = {5 * 16 * 16 * 3: 16, 5 * 32 * 32 * 3: 32}[flat.size]
    return edge, edge, 3


@pytest.mark.parametrize("kind", ["ragged", "even"])
@pytest.mark.parametrize("name", KEPT)
def test_what_somebody_keeps_stays_what_it_was(many, kind, name):
    keep, look = KEPT[name]
    loader = Loader(many[kind], 6, shuffle=True, pad=None if kind == "even" else 32)
    kept, expected = [], []
    for _ in range(3):
        for batch in loader:
            expected.append(batch.images[2].copy())
            kept.append(keep(batch))
            del batch
    assert all(np.array_equal(look(a), b) for a, b in zip(kept, expected, strict=True))


def test_pictures_of_a_list_kept_from_a_ragged_batch_stay_what_they_were(many):
    cache = many["ragged"]
    loader = Loader(cache, 6, shuffle=True)
    kept = [(batch.images[1], int(batch.rows[1])) for _ in range(3) for batch in loader]
    assert all(np.array_equal(image, cache[row]) for image, row in kept)


def test_a_batch_may_be_written_to(even):
    before = [picture.copy() for picture in even]
    for batch in Loader(even, 8):
        batch.images[:] = 0
    assert all(np.array_equal(a, b) for a, b in zip(before, even, strict=True))


def test_buffers_of_ones_own_are_asked_for_each_batch(even):
    asked = []

    def allocate(elements, dtype):
        asked.append((elements, dtype))
        return np.empty(elements, dtype)

    loader = Loader(even, 8, allocate=allocate)
    batches = list(loader)
    assert asked == [(len(batch) * 16 * 16 * 3, np.dtype("u1")) for batch in batches]
    assert len(set(addresses(batches))) == len(batches)


# Threads ---------------------------------------------------------------------------------------


def loader_threads():
    return [one for one in threading.enumerate() if one.name.startswith("mmcache-load")]


def waited_for(condition, seconds=10):
    end = time.monotonic() + seconds
    while not condition() and time.monotonic() < end:
        time.sleep(0.01)
    return condition()


def test_the_next_batches_are_gathered_while_this_one_is_used(even, monkeypatch):
    gathered = []
    real = mmcache.Cache.gathered

    def noting(self, places, *args, **kwargs):
        gathered.append(len(places))
        return real(self, places, *args, **kwargs)

    monkeypatch.setattr(mmcache.Cache, "gathered", noting)
    batches = iter(Loader(even, 6, prefetch=3))
    next(batches)
    assert waited_for(lambda: len(gathered) == 4)
    time.sleep(0.05)
    assert len(gathered) == 4  # and no more: memory stays what it is
    next(batches)
    assert waited_for(lambda: len(gathered) == 5)


def test_threads_end_with_their_epoch_also_where_it_is_left_early(even):
    list(Loader(even, 6, prefetch=2, threads=2))
    assert waited_for(lambda: not loader_threads())
    for number, _ in enumerate(Loader(even, 6, prefetch=2)):
        if number == 1:
            break
    gc.collect()
    assert waited_for(lambda: not loader_threads())


def test_an_error_comes_at_the_batch_that_has_it(painted, tmp_path, monkeypatch):
    gathered = []
    real = mmcache.Cache.gathered

    def noting(self, places, *args, **kwargs):
        batch = real(self, places, *args, **kwargs)
        gathered.append(len(places))
        return batch

    monkeypatch.setattr(mmcache.Cache, "gathered", noting)
    cache = mmcache.build(painted, tmp_path / "cut.mmc", size=64, progress=False)
    loader = Loader(cache, 4, prefetch=1)
    batches = iter(loader)
    next(batches)
    # A file that is cut while it is being copied is what no check can see: the system's SIGBUS.
    assert waited_for(lambda: len(gathered) == 2)
    os.truncate(tmp_path / "cut.mmc" / "pixels.npy", 5000)
    with pytest.raises(mmcache.DamagedCacheError, match="was cut while it was open"):
        list(batches)
    assert waited_for(lambda: not loader_threads())


def test_two_iterations_at_once_do_not_disturb_each_other(even):
    loader = Loader(even, 7, shuffle=True)
    pairs = [(a.rows.tolist(), b.rows.tolist()) for a, b in zip(loader, loader, strict=True)]
    first, second = ([row for one in rows for row in one] for rows in zip(*pairs, strict=True))
    assert first == list(Order(length=60, shuffle=True).rows(0))
    assert second == list(Order(length=60, shuffle=True).rows(1))


def test_a_loader_can_be_pickled_with_its_place(even):
    loader = Loader(even, 7, shuffle=True, **RANDOM)
    batches = iter(loader)
    next(batches)
    again = pickle.loads(pickle.dumps(loader))
    again.load_state_dict(loader.state_dict())
    assert rows_of(again) == rows_of(batches)


# Cold and slow disks ---------------------------------------------------------------------------


def test_each_batch_is_asked_for_once_and_before_it_is_gathered(even, monkeypatch):
    told = []
    monkeypatch.setattr(loading.Pages, "are_there", lambda *_: False)
    monkeypatch.setattr(loading.Pages, "want", lambda _, located: told.append(("want", located)))
    real = mmcache.Cache.gathered

    def noting(self, places, *args, **kwargs):
        told.append(("gather", self.located(places)))
        return real(self, places, *args, **kwargs)

    monkeypatch.setattr(mmcache.Cache, "gathered", noting)
    list(Loader(even, 7, shuffle=True, prefetch=1))
    wanted = [located.starts.tolist() for what, located in told if what == "want"]
    gathered = [located.starts.tolist() for what, located in told if what == "gather"]
    assert wanted == gathered
    places = {
        what: [i for i, (w, _) in enumerate(told) if w == what] for what in ("want", "gather")
    }
    ahead = [gather - want for want, gather in zip(places["want"], places["gather"], strict=True)]
    assert min(ahead) > 0
    for number, gather in enumerate(places["gather"][:-3]):  # two batches ahead of each
        assert sum(want < gather for want in places["want"]) == number + 3


def test_what_is_read_in_order_is_left_to_the_system_unless_memory_is_short(even, monkeypatch):
    told = []
    monkeypatch.setattr(loading.Pages, "are_there", lambda *_: False)
    monkeypatch.setattr(loading.Pages, "want", lambda _, located: told.append(len(located)))
    list(Loader(even[10:50], 7))
    assert told == []
    list(Loader(even[::2], 7))  # with gaps, the system would not see an order
    assert sum(told) == 30
    monkeypatch.setattr(loading, "free_memory", lambda: 1000)
    list(Loader(even, 7))
    assert sum(told) == 90


def test_blocks_are_asked_for_as_they_lie_one_group_ahead(even, monkeypatch):
    told = []
    monkeypatch.setattr(loading.Pages, "are_there", lambda *_: False)
    monkeypatch.setattr(loading.Pages, "want", lambda _, located: told.append(located))
    loader = Loader(even, 4, shuffle="blocks", block=5, mixed=3, prefetch=0)
    order = Order(length=60, shuffle="blocks", block=5, mixed=3)
    ends = order.group_ends(0).tolist()
    seen = 0
    for batch in loader:
        seen += len(batch)
        asked = sum(len(located) for located in told)
        group = next(number for number, end in enumerate(ends) if seen <= end)
        assert asked >= ends[min(group + 1, len(ends) - 1)]
    rows = even.located(np.asarray(order.rows(0))).starts.tolist()
    assert [start for located in told for start in located.starts.tolist()] == rows


@pytest.mark.parametrize("shape", [{}, RANDOM, {"pad": 40, "flip": True}])
@pytest.mark.parametrize("kind", ["ragged", "even"])
def test_a_cache_larger_than_memory_gives_the_same_past_the_mapping(many, kind, shape, monkeypatch):
    cache = many[kind]
    expected = copied(Loader(cache, 7, shuffle=True, seed=2, **shape))
    told = []
    real = loading.Pages.read
    monkeypatch.setattr(
        loading.Pages, "read", lambda *args: told.append(len(args[1])) or real(*args)
    )
    monkeypatch.setattr(loading, "free_memory", lambda: 1000)
    for threads in (1, 3):
        made = copied(Loader(cache, 7, shuffle=True, seed=2, threads=threads, **shape))
        assert all(np.array_equal(a, b) for a, b in zip(made, expected, strict=True))
    assert sum(told) == 120


def test_a_cache_that_was_replaced_is_read_from_its_mapping(painted, tmp_path, monkeypatch):
    path = tmp_path / "photos.mmc"
    old = mmcache.build(painted, path, size=32, progress=False)
    expected = copied(Loader(old, 5))
    mmcache.build(painted, path, size=16, exist="overwrite", progress=False)
    monkeypatch.setattr(loading, "free_memory", lambda: 1000)
    assert all(np.array_equal(a, b) for a, b in zip(copied(Loader(old, 5)), expected, strict=True))


def test_mixture_is_1_for_a_full_shuffle_and_falls_with_the_blocks(even):
    length, size = 60_000, 250
    quality = {}
    for name, shuffle, mixed in (
        ("full", True, 1), ("many", "blocks", 400), ("few", "blocks", 20), ("none", False, 1),
    ):  # fmt: skip
        order = Order(length=length, shuffle=shuffle, seed=1, block=50, mixed=mixed)
        rows = np.asarray(order.rows(0))
        quality[name] = mixture(rows.reshape(-1, size), length)
    assert quality["full"] > 0.8
    assert quality["full"] > quality["many"] > quality["few"] > quality["none"]
    assert quality["few"] == pytest.approx(20 / size, rel=0.5)
    assert quality["none"] == pytest.approx(1 / size, rel=0.1)
    assert Loader(even, 6, shuffle=True).quality > Loader(even, 6).quality


# Settings --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("ask", "says"),
    [
        ({"batch_size": 0}, "batch_size=0 is no whole number from 1 up"),
        ({"batch_size": 2.5}, "batch_size=2.5"),
        ({"prefetch": -1}, "prefetch=-1"),
        ({"threads": 0}, "threads=0"),
        ({"seed": -1}, "seed=-1"),
        ({"shuffle": "rows"}, "none of True, False"),
        ({"rank": 2, "world_size": 2}, "ranks count from 0 to 1"),
        ({"world_size": 0}, "world_size=0"),
        ({"remainder": "pad"}, "neither drop nor keep"),
        ({"block": 0, "shuffle": "blocks"}, "block=0"),
        ({"mixed": 0, "shuffle": "blocks"}, "mixed=0"),
        ({"pad": "yes"}, "pad='yes'"),
        ({"background": (1, 2)}, "nor 3 of them"),
    ],
    ids=repr,
)
def test_a_setting_that_makes_no_sense_is_refused_before_an_epoch(even, ask, says):
    with pytest.raises(SettingError, match=says):
        Loader(even, **({"batch_size": 4} | ask))


def test_it_says_what_it_is(even):
    assert repr(Loader(even, 7, shuffle=True, rank=1, world_size=2)) == (
        "Loader of 60 pictures in 5 batches of 7, shuffle=True, seed=0, epoch 0, rank 1 of 2"
    )
