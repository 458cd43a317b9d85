"""The frame: what it says is checked before it is believed."""

import contextlib
import json
import shutil
import socket
import tracemalloc
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from odd_frames import altered

import mmcache
from mmcache import CacheNotFoundError, DamagedCacheError
from mmcache.stores.frame import (
    FRAME_FILE,
    VERSION,
    Frame,
    _out_of_group,
    _seal,
    _sealed,
    in_group,
    is_cache,
    read_frame,
)


@pytest.fixture
def copied(uniform, tmp_path):
    """A copy of a cache, to be damaged."""
    return shutil.copytree(uniform.path, tmp_path / "copied.mmc")


@pytest.fixture(scope="session")
def document(uniform):
    return (uniform.path / FRAME_FILE).read_bytes()


def plain_of(document):
    plain = json.loads(document)
    plain.pop("sha256")
    return plain


def sealed_at(path, plain):
    """Write a frame of which the digest is right, whatever it says."""
    (path / FRAME_FILE).write_bytes(_sealed(plain))


def test_a_frame_survives_its_document(document, uniform):
    frame = Frame.from_bytes(document, uniform.path)
    assert frame.to_bytes() == document
    assert Frame.from_bytes(frame.to_bytes(), uniform.path) == frame


def test_a_frame_is_json_that_any_program_reads(document, uniform):
    plain = json.loads(document)
    assert (plain["format"], plain["version"], plain["store"]) == ("mmcache", VERSION, "npy")
    assert plain["counts"]["rows"] == len(uniform)
    assert plain["classes"] == list(uniform.classes)
    (segment,) = plain["arrays"]["pixels"]["segments"]
    file, offset, length = segment
    raw = (uniform.path / file).read_bytes()[offset : offset + length]
    pixels = np.frombuffer(raw, plain["arrays"]["pixels"]["dtype"])
    assert np.array_equal(pixels.reshape(plain["arrays"]["pixels"]["shape"]), np.asarray(uniform))


def test_bare_numpy_reads_every_array_at_the_place_that_the_frame_says(document, uniform):
    plain = json.loads(document)
    for name, one in plain["arrays"].items():
        ((file, offset, length),) = one["segments"]
        array = np.load(uniform.path / file, mmap_mode="r")
        assert array.dtype.str == one["dtype"]
        assert list(array.shape) == one["shape"], name
        assert array.offset == offset
        assert array.nbytes == length


def test_every_flipped_byte_is_refused(document, uniform):
    random = np.random.default_rng(0)
    for place, bit in enumerate(random.integers(0, 8, len(document)).tolist()):
        damaged = bytearray(document)
        damaged[place] ^= 1 << bit
        with pytest.raises(DamagedCacheError):
            Frame.from_bytes(bytes(damaged), uniform.path)


def test_every_cut_and_everything_appended_is_refused(document, uniform):
    for end in range(len(document)):
        with pytest.raises(DamagedCacheError):
            Frame.from_bytes(document[:end], uniform.path)
    for more in (b"\n", b"\0", b" ", b"{}", document):
        with pytest.raises(DamagedCacheError):
            Frame.from_bytes(document + more, uniform.path)


@pytest.mark.parametrize(
    "damage", [lambda d: d[: len(d) // 2], lambda d: d + b" ", lambda _: b"", lambda d: d[::-1]]
)
def test_opening_a_damaged_frame_says_so_and_names_the_file(copied, damage):
    file = copied / FRAME_FILE
    file.write_bytes(damage(file.read_bytes()))
    with pytest.raises(DamagedCacheError, match=str(file)):
        mmcache.open(copied)
    assert not is_cache(copied)


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner),
    max_leaves=8,
)


@given(st.binary(max_size=50) | json_values.map(lambda value: json.dumps(value).encode()))
def test_a_document_that_is_no_frame_is_refused(uniform, document):
    with pytest.raises(DamagedCacheError):
        Frame.from_bytes(document, uniform.path)


@pytest.mark.parametrize("deep", [b"[" * 100_000, b'{"a":' * 100_000])
def test_a_document_of_a_hundred_thousand_levels_is_refused(uniform, deep):
    with pytest.raises(DamagedCacheError):
        Frame.from_bytes(deep, uniform.path)


@pytest.mark.parametrize("text", [b"[],", b"{},", b"[[[[[[[[[]]]]]]]]],", b"1,"])
def test_a_document_of_millions_of_values_is_refused_in_little_memory(document, uniform, text):
    many = sealed_with(document, b"[" + text * (12_000_000 // len(text)) + b"1]")
    tracemalloc.start()
    try:
        with pytest.raises(DamagedCacheError):
            Frame.from_bytes(many, uniform.path)
        assert tracemalloc.get_traced_memory()[1] < 3 * len(many)
    finally:
        tracemalloc.stop()


def sealed_with(document, classes):
    """Return a sealed frame with some text in place of its classes."""
    body = _sealed(plain_of(document) | {"classes": "here"}).replace(b'"here"', classes)
    body = body[: body.rindex(b",")]
    return body + _seal(body)


@pytest.mark.parametrize(
    "name", ["../../evil", "/evil", "evil/evil", "a\0b", "\ud800", "x" * 65, "", "Pixels", "a b"]
)
def test_an_array_whose_name_leads_elsewhere_is_refused(copied, document, tmp_path, name):
    plain = plain_of(document)
    plain["arrays"][name] = plain["arrays"]["height"]
    sealed_at(copied, plain)
    before = sorted(tmp_path.rglob("*"))
    with pytest.raises(DamagedCacheError):
        mmcache.convert(copied, tmp_path / "copy.mmc", progress=False)
    assert sorted(tmp_path.rglob("*")) == before


def test_an_array_of_a_newer_mmcache_is_kept_and_copied(copied, document, tmp_path):
    plain = plain_of(document)
    shutil.copy(copied / "height.npy", copied / "newer.npy")
    plain["files"]["newer.npy"] = plain["files"]["height.npy"]
    plain["arrays"]["newer"] = plain["arrays"]["height"] | {"segments": [["newer.npy", 4096, 0]]}
    plain["arrays"]["newer"]["segments"][0][2] = plain["arrays"]["height"]["segments"][0][2]
    sealed_at(copied, plain)
    copy = mmcache.convert(copied, tmp_path / "copy.mmc", progress=False)
    assert np.array_equal(np.load(copy.path / "newer.npy"), mmcache.open(copied).columns["height"])


@pytest.mark.parametrize("shape", [[], [0, 2**62], [1, 4], [2, 2, 1]])
def test_an_unknown_array_of_another_form_than_columns_is_refused(copied, document, shape):
    plain = plain_of(document)
    segments = plain["arrays"]["keys"]["segments"]
    length = int(np.prod(shape, dtype=object))
    place = [[*segments[0][:2], length]] if length else []
    plain["arrays"]["newer"] = {"dtype": "|u1", "shape": shape, "segments": place}
    sealed_at(copied, plain)
    with pytest.raises(DamagedCacheError, match="newer"):
        mmcache.open(copied)


@pytest.mark.parametrize("slab", [0, 1, 7, 2**40, 2**62, 2**80])
def test_a_slab_that_no_cache_has_is_refused(copied, document, slab):
    sealed_at(copied, plain_of(document) | {"slab": slab})
    with pytest.raises(DamagedCacheError, match="pixels"):
        mmcache.open(copied)


def test_pixels_of_another_shape_than_the_recipe_makes_are_refused(copied, document):
    plain = plain_of(document)
    elements = int(np.prod(plain["arrays"]["pixels"]["shape"]))
    for shape in ([elements], [1, elements], [elements, 1, 1, 1], [1] * 40 + [elements]):
        plain["arrays"]["pixels"]["shape"] = shape
        sealed_at(copied, plain)
        with pytest.raises(DamagedCacheError, match="pixels"):
            mmcache.open(copied)


@pytest.mark.parametrize("place", ["store", "content", "classes", "libraries", "recipe"])
def test_a_word_of_megabytes_is_refused(document, uniform, place):
    plain = plain_of(document)
    word = "x" * (2 << 20)
    plain[place] = {"classes": [word], "libraries": {"x": word}}.get(place, word)
    with pytest.raises(DamagedCacheError) as caught:
        Frame.from_bytes(_sealed(plain), uniform.path)
    assert len(str(caught.value)) < 1000


@pytest.mark.parametrize("libraries", [[], "pillow", {"pillow": 12}, None])
def test_versions_of_libraries_are_words(document, uniform, libraries):
    with pytest.raises(DamagedCacheError):
        Frame.from_bytes(_sealed(plain_of(document) | {"libraries": libraries}), uniform.path)


@given(st.lists(st.text(), max_size=5))
def test_a_frame_in_a_group_is_the_json_that_zarr_would_write(classes):
    document = _sealed({"format": "mmcache", "classes": classes})
    metadata = in_group(document)
    group = {
        "zarr_format": 3,
        "node_type": "group",
        "attributes": {"mmcache": json.loads(document)},
    }
    assert metadata == json.dumps(group, indent=1).encode() + b"\n"
    assert _out_of_group(metadata, Path("zarr.json")) == document


def test_a_newer_version_is_told_from_damage(copied, document):
    sealed_at(copied, plain_of(document) | {"version": 2})
    with pytest.raises(DamagedCacheError, match=r"format version 2.* reads version 1: upgrade"):
        mmcache.open(copied)


def test_a_recipe_of_a_newer_version_says_to_upgrade(copied, document):
    plain = plain_of(document)
    plain["recipe"]["sharpen"] = 3
    sealed_at(copied, plain)
    with pytest.raises(DamagedCacheError, match=r"sharpen.* newer mmcache wrote it: upgrade"):
        mmcache.open(copied)


@pytest.mark.parametrize(
    "name",
    ["../pixels.npy", "/etc/passwd", "a/../../pixels.npy", "", ".", "..", "a//b", "./pixels.npy",
     "a\\b", "..\\pixels.npy", "a\0b", "pixels.npy/", "\ud800"],
    ids=repr,
)  # fmt: skip
def test_a_file_outside_the_cache_is_refused_before_it_is_opened(copied, document, name):
    plain = plain_of(document)
    plain["files"][name] = plain["files"].pop("pixels.npy")
    plain["arrays"]["pixels"]["segments"][0][0] = name
    shutil.copy(copied / "pixels.npy", copied.parent / "pixels.npy")
    sealed_at(copied, plain)
    with pytest.raises(DamagedCacheError, match="does not read as a frame"):
        mmcache.open(copied)


def test_a_folder_of_the_cache_that_is_a_link_is_refused(copied, document):
    outside = copied.parent / "outside"
    outside.mkdir()
    (copied / "pixels.npy").rename(outside / "pixels.npy")
    (copied / "sub").symlink_to(outside)
    plain = plain_of(document)
    plain["files"]["sub/pixels.npy"] = plain["files"].pop("pixels.npy")
    plain["arrays"]["pixels"]["segments"][0][0] = "sub/pixels.npy"
    sealed_at(copied, plain)
    with pytest.raises(DamagedCacheError):
        mmcache.open(copied)


def test_a_folder_that_is_a_loop_of_links_is_damage(uniform, tmp_path):
    copy = mmcache.convert(uniform, tmp_path / "copy.zarr", progress=False).path
    shutil.rmtree(copy / "labels")
    (copy / "labels").symlink_to("labels")
    with pytest.raises(DamagedCacheError, match="labels"):
        mmcache.open(copy)


def used(cache):
    """Touch everything that a cache gives."""
    cache.keys[:3] == list(cache.keys)[:3]  # noqa: B015  # reading is what is tried
    cache.keys[0] in cache  # noqa: B015
    _ = cache.labels, cache.shapes, cache.columns, list(cache.failures), cache.nbytes
    cache[len(cache) - 1].sum()
    cache.batch([0, -1])
    cache.placement(0)
    np.asarray(cache).sum()
    cache.to_json(), repr(cache)


def test_a_frame_in_which_anything_is_something_else_opens_right_or_is_refused(copied, document):
    refused = 0
    for plain in altered(plain_of(document)):
        sealed_at(copied, plain)
        try:
            used(mmcache.open(copied))
        except mmcache.MmcacheError:
            refused += 1
    assert refused > 1000


@pytest.mark.parametrize("name", sorted(json.loads("""["pixels", "records", "keys", "key_offsets",
    "checksums", "height", "width", "failure_keys", "failure_stages"]""")))  # fmt: skip
def test_an_array_that_every_cache_has_may_not_be_missing(copied, document, name):
    plain = plain_of(document)
    del plain["arrays"][name]
    sealed_at(copied, plain)
    with pytest.raises(DamagedCacheError, match=name):
        mmcache.open(copied)


def test_nothing_there_is_told_from_no_cache(tmp_path):
    (tmp_path / "file.mmc").write_bytes(b"")
    (tmp_path / "folder.mmc").mkdir()
    with pytest.raises(CacheNotFoundError, match=r"no cache at .*nothing\.mmc: build one with"):
        read_frame(tmp_path / "nothing.mmc")
    for name in ("file.mmc", "folder.mmc"):
        with pytest.raises(DamagedCacheError, match="is no cache of mmcache"):
            read_frame(tmp_path / name)
    assert not any(is_cache(tmp_path / name) for name in ("file.mmc", "folder.mmc", "nothing.mmc"))


def test_a_frame_that_is_no_plain_file_is_refused(copied, document, uniform):
    file = copied / FRAME_FILE
    file.unlink()
    file.symlink_to(uniform.path / FRAME_FILE)
    with pytest.raises(DamagedCacheError, match="not a plain file"):
        read_frame(copied)
    file.unlink()
    file.mkdir()
    with pytest.raises(DamagedCacheError, match="not a plain file"):
        read_frame(copied)
    file.rmdir()
    file.write_bytes(document)
    assert is_cache(copied)


@pytest.mark.skipif(not hasattr(socket, "AF_UNIX"), reason="there are no such sockets here")
def test_what_no_program_can_open_is_no_cache(tmp_path):
    with socket.socket(socket.AF_UNIX) as server, contextlib.chdir(tmp_path):
        server.bind("a.h5")  # relative, since the name of a socket is short
        with pytest.raises(DamagedCacheError, match=r"a\.h5 cannot be read"):
            mmcache.open("a.h5")


def test_a_frame_of_a_gigabyte_is_not_read(copied):
    with (copied / FRAME_FILE).open("r+b") as file:
        file.truncate(1 << 30)  # sparse: it takes no room
    with pytest.raises(DamagedCacheError, match="frame's size"):
        read_frame(copied)
