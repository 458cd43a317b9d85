"""The training benchmark is fair: all give the same pixels, and what goes wrong is told."""

import importlib
import sys
import xml.etree.ElementTree as ET
from pathlib import Path

import numpy as np
import pytest

SCRIPTS = Path(__file__).resolve().parent.parent / "scripts"
BY_HAND = ["MemmapLoop", "H5pyChunks", "MmcacheBatchOut", "MmcacheBatch", "MmcacheLoader"]


@pytest.fixture(scope="module")
def contest():
    """The package beside the scripts, which is not installed."""
    sys.path.insert(0, str(SCRIPTS))
    try:
        for room in ("chart", "client", "cold", "peers", "pictures"):
            importlib.import_module(f"contest.{room}")
    finally:
        sys.path.remove(str(SCRIPTS))
    return sys.modules["contest"]


def peer_of(contest, name, cache, tmp_path):
    kind = contest.peers.PEERS[name]
    for module in kind.modules:
        pytest.importorskip(module)
    peer = kind(tmp_path / name, contest.pictures.Pictures(cache.path), tmp_path)
    peer.write(peer.pictures, peer.pictures.labels)
    peer.open()
    return peer


def test_pictures_read_by_numpy_alone_are_those_of_the_cache(contest, ragged, uniform):
    for cache in (ragged, uniform):
        pictures = contest.pictures.Pictures(cache.path)
        assert len(pictures) == len(cache)
        assert all(np.array_equal(one, other) for one, other in zip(pictures, cache, strict=True))
    assert pictures.shape == cache[0].shape


def test_shuffled_rows_are_every_row_in_each_pass(contest):
    rows = contest.pictures.shuffled_rows(7, 3, seed=5)
    assert [sorted(rows[first : first + 7]) for first in (0, 7, 14)] == [list(range(7))] * 3
    assert rows != contest.pictures.shuffled_rows(7, 3, seed=6)


@pytest.mark.parametrize("name", BY_HAND)
def test_batches_of_contenders_are_those_of_a_loop(contest, name, ragged, uniform, tmp_path):
    for number, cache in enumerate((ragged, uniform)):
        (tmp_path / str(number)).mkdir()
        peer = peer_of(contest, name, cache, tmp_path / str(number))
        in_order = [np.array(one) for batch in peer.epoch(0, 1) for one in batch]
        assert all(np.array_equal(one, other) for one, other in zip(in_order, cache, strict=True))
        shuffled = sorted(one.tobytes() for batch in peer.random(1, 2) for one in batch)
        assert shuffled == sorted(one.tobytes() for one in [*cache, *cache])


@pytest.mark.parametrize("name", ["MemmapLoop", "MmcacheBatchOut", "MmcacheBatch", "MmcacheLoader"])
def test_padded_batches_hold_the_same_bytes_and_zeros(contest, name, ragged, tmp_path):
    peer = peer_of(contest, name, ragged, tmp_path)
    padded = sum(int(np.asarray(batch).sum()) for batch in peer.padded(1, 1))
    assert padded == sum(int(one.sum()) for one in ragged)


def test_a_contender_that_dies_is_one_line_that_says_how(contest, uniform, tmp_path):
    paths = (tmp_path / "x", uniform.path, tmp_path)
    contender = contest.client.Contender("NoSuchPeer", Path(sys.executable), *paths)
    with pytest.raises(contest.client.FailedError, match=r"exit status 1: KeyError: 'NoSuchPeer'"):
        contender.ask("open")
    contender.close()
    assert contender.ended


def test_what_a_peer_has_no_way_for_is_told_and_the_peer_goes_on(contest, ragged, tmp_path):
    paths = (tmp_path / "x", ragged.path, tmp_path)
    contender = contest.client.Contender("ZarrChunks", Path(sys.executable), *paths)
    with pytest.raises(contest.client.FailedError, match="differ in shape"):
        contender.ask("write")
    assert "Pss_Anon" in contender.ask("memory") or sys.platform != "linux"
    contender.close()


@pytest.mark.skipif(sys.platform != "linux", reason="mincore and posix_fadvise")
def test_a_file_that_was_read_is_in_memory_and_one_that_was_dropped_is_not(contest, tmp_path):
    path = tmp_path / "file"
    path.write_bytes(bytes(1 << 20))
    assert contest.cold.resident([path]) == 1
    contest.cold.drop([path])
    if contest.cold.resident([path]) == 1:
        pytest.skip("this file system lives in memory")
    assert contest.cold.resident([path]) == 0


def test_a_chart_is_xml_whose_bars_are_as_long_as_their_figures(contest):
    panel = contest.chart.Panel("warm <fast>", "pictures/s", [("`a`", 1000.0), ("b & c", 250.0)])
    root = ET.fromstring(contest.chart.drawn([panel, panel]))
    bars = [float(one.get("width")) for one in root.iter("{http://www.w3.org/2000/svg}rect")][1:]
    assert len(bars) == 4
    assert bars[0] == pytest.approx(4 * bars[1], rel=1e-3)
    assert "b & c" in {one.text for one in root.iter("{http://www.w3.org/2000/svg}text")}
