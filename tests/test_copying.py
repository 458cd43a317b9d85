"""Convert and export: the same bytes, or the same pictures, and nothing decoded."""

import subprocess
import sys

import numpy as np
import pytest
import zarr
from PIL import Image

import mmcache
from mmcache import copying, layout
from mmcache.stores import payload
from mmcache.stores import zarr as zarr_store
from mmcache.testing import paint_folder

ENDINGS = ("mmc", "h5", "zarr")
RECIPES = {"ragged": {"size": 64}, "uniform": {"size": 48, "resize": "crop"}}


@pytest.fixture(autouse=True)
def small_slabs(monkeypatch):
    monkeypatch.setattr(layout, "SLAB", 40 << 10)
    monkeypatch.setattr(layout, "CHUNK", 1 << 10)
    monkeypatch.setattr(zarr_store, "CHUNK", 1 << 10)
    monkeypatch.setattr(zarr_store, "MOST_SHARDS", 4)
    monkeypatch.setattr(zarr_store, "SHARD", 1)
    monkeypatch.setattr(copying, "_PIECE", 10_000)


@pytest.fixture
def built(partly_broken, tmp_path):
    """Build a cache of painted pictures, two of which cannot be read."""

    def build(name, **settings):
        with pytest.warns(mmcache.PicturesSkippedWarning):
            return mmcache.build(partly_broken, tmp_path / name, progress=False, **settings)

    return build


def bytes_of(path):
    files = sorted(path.rglob("*")) if path.is_dir() else [path]
    return {str(f.relative_to(path)): f.read_bytes() for f in files if f.is_file()}


@pytest.mark.parametrize("recipe", RECIPES.values(), ids=RECIPES)
@pytest.mark.parametrize("there", ENDINGS)
@pytest.mark.parametrize("here", ENDINGS)
def test_converting_gives_the_bytes_of_building_directly(built, tmp_path, here, there, recipe):
    original = built(f"a.{here}", **recipe)
    copy = mmcache.convert(original, tmp_path / f"b.{there}", progress=False)
    direct = built(f"c.{there}", **recipe)
    assert bytes_of(copy.path) == bytes_of(direct.path)
    assert copy.fingerprint == original.fingerprint
    assert len(copy.failures) == 2


def test_converting_there_and_back_gives_the_same_bytes(built, tmp_path):
    original = built("a.mmc", size=64)
    path = original.path
    for number, ending in enumerate(["zarr", "h5", "zarr", "mmc"]):
        path = mmcache.convert(path, tmp_path / f"{number}.{ending}", progress=False).path
    assert bytes_of(path) == bytes_of(original.path)


def test_converting_decodes_nothing(built, tmp_path, monkeypatch):
    original = built("a.mmc", size=64)
    monkeypatch.setattr("PIL.Image.open", None)
    assert len(mmcache.convert(original, tmp_path / "b.h5", progress=False)) == len(original)


def test_a_system_that_cannot_copy_in_the_kernel_copies_the_same_bytes(
    built, tmp_path, monkeypatch
):
    original = built("a.mmc", size=64)
    there = mmcache.convert(original, tmp_path / "b.h5", progress=False)
    monkeypatch.setattr(payload, "_copied_inside", lambda *_: 0)
    again = mmcache.convert(original, tmp_path / "c.h5", progress=False)
    assert bytes_of(again.path) == bytes_of(there.path)


@pytest.mark.parametrize("recipe", RECIPES.values(), ids=RECIPES)
@pytest.mark.parametrize("ending", ENDINGS)
def test_a_selection_is_written_in_its_order(built, tmp_path, ending, recipe):
    original = built("a.mmc", **recipe)
    rows = [7, 3, 20, 0, 11]
    copy = mmcache.convert(original[rows], tmp_path / f"b.{ending}", progress=False)
    assert copy.keys == [original.keys[row] for row in rows]
    assert copy.labels.tolist() == [original.labels.tolist()[row] for row in rows]
    assert copy.checksums.tolist() == [original.checksums.tolist()[row] for row in rows]
    for name, column in copy.columns.items():
        assert column.tolist() == [original.columns[name].tolist()[row] for row in rows]
    for picture, row in zip(copy, rows, strict=True):
        assert np.array_equal(picture, original[row])
    for place, key in enumerate(copy.keys):
        assert np.array_equal(copy[key], copy[place])
    assert not copy.failures


@pytest.mark.parametrize("recipe", RECIPES.values(), ids=RECIPES)
def test_a_selection_in_order_is_what_building_from_its_pictures_gives(
    built, partly_broken, tmp_path, recipe
):
    original = built("a.mmc", **recipe)
    copy = mmcache.convert(original[::2], tmp_path / "b.zarr", progress=False)
    few = tmp_path / "few"
    for key in copy.keys:
        place = few / key
        place.parent.mkdir(parents=True, exist_ok=True)
        place.hardlink_to(partly_broken / key)
    direct = mmcache.build(few, tmp_path / "c.zarr", progress=False, **recipe)
    assert bytes_of(copy.path) == bytes_of(direct.path)


def test_a_picture_selected_twice_is_one_sentence_and_nothing_written(built, tmp_path):
    original = built("a.mmc", size=32)
    before = sorted(tmp_path.iterdir())
    with pytest.raises(mmcache.SelectionError, match="selected twice"):
        mmcache.convert(original[[1, 2, 1]], tmp_path / "b.mmc", progress=False)
    with pytest.raises(mmcache.SelectionError, match="no picture is selected"):
        mmcache.convert(original[:0], tmp_path / "b.mmc", progress=False)
    assert sorted(tmp_path.iterdir()) == before


def test_what_stands_there_is_kept_unless_it_is_a_cache_to_overwrite(built, tmp_path):
    original = built("a.mmc", size=32)
    other = mmcache.convert(original[:5], tmp_path / "b.h5", progress=False)
    with pytest.raises(mmcache.DestinationError, match="exists"):
        mmcache.convert(original, other.path, progress=False)
    whole = mmcache.convert(original, other.path, exist="overwrite", progress=False)
    assert len(whole) == len(original)
    assert np.array_equal(other[4], original[4])  # who has it open keeps it
    foreign = tmp_path / "letter.h5"
    foreign.write_text("dear")
    with pytest.raises(mmcache.DestinationError, match="is no cache"):
        mmcache.convert(original, foreign, exist="overwrite", progress=False)
    assert foreign.read_text() == "dear"
    with pytest.raises(mmcache.SettingError, match="exist='x'"):
        mmcache.convert(original, tmp_path / "c.h5", exist="x")


@pytest.mark.parametrize("ending", ENDINGS)
def test_a_cache_that_was_overwritten_since_it_was_opened_is_converted_as_it_was(
    built, tmp_path, ending
):
    old = built(f"a.{ending}", size=64)
    expected = bytes_of(mmcache.convert(old, tmp_path / "b.mmc", progress=False).path)
    built(f"a.{ending}", size=64, resample="nearest", exist="overwrite")
    again = mmcache.convert(old, tmp_path / "c.mmc", progress=False)
    assert bytes_of(again.path) == expected


def test_what_came_to_stand_at_the_destination_meanwhile_is_kept(built, tmp_path):
    original = built("a.mmc", size=32)
    path = tmp_path / "b.h5"

    def write_there(*_):
        path.write_text("dear")

    with pytest.raises(mmcache.DestinationError, match="is no cache"):
        mmcache.convert(original, path, progress=write_there)
    assert path.read_text() == "dear"
    assert {one.name for one in tmp_path.iterdir()} == {"a.mmc", "b.h5"}


# Exports ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("recipe", RECIPES)
@pytest.mark.parametrize("column", range(4))
@pytest.mark.parametrize("value", [-1, 2**31, 2**62, -(2**63)])
def test_records_that_make_no_sense_are_damage_before_a_byte_is_copied(
    built, tmp_path, recipe, column, value
):
    cache = built("a.mmc", **RECIPES[recipe])
    records = np.load(cache.path / "records.npy", mmap_mode="r+")
    records[3, column] = value
    records.flush()
    before = sorted(tmp_path.iterdir())
    damaged = mmcache.open(cache.path)
    for selection in (damaged, damaged[::-1]):
        for ending in ENDINGS:
            with pytest.raises(mmcache.DamagedCacheError, match="damaged"):
                mmcache.convert(selection, tmp_path / f"copy.{ending}", progress=False)
    assert sorted(tmp_path.iterdir()) == before
    assert mmcache.convert(damaged[4:], tmp_path / "rest.h5", progress=False).keys == cache[4:].keys


def test_png_restores_names_folders_and_every_pixel(built, tmp_path):
    cache = built("a.mmc", size=48)
    folder = mmcache.export(cache, tmp_path / "out", progress=False)
    assert folder == tmp_path / "out"
    files = sorted(str(f.relative_to(folder)) for f in folder.rglob("*") if f.is_file())
    assert files == sorted(f"{key.rpartition('.')[0]}.png" for key in cache.keys)
    for key, picture in zip(cache.keys, cache, strict=True):
        with Image.open(folder / f"{key.rpartition('.')[0]}.png") as image:
            assert np.array_equal(np.asarray(image), picture)


def test_jpeg_is_smaller_and_near(built, tmp_path):
    cache = built("a.mmc", size=48)
    folder = mmcache.export(cache[:6], tmp_path / "out", format="jpeg", quality=90, progress=False)
    files = sorted(folder.rglob("*.jpg"))
    assert len(files) == 6
    with Image.open(folder / f"{cache.keys[0].rpartition('.')[0]}.jpg") as image:
        assert np.abs(np.asarray(image).astype(int) - cache[0]).mean() < 8


def test_names_that_meet_or_lead_out_stay_apart_and_inside(tmp_path):
    paint_folder(tmp_path / "in" / "deep", 2, longest=40, classes=False)
    first, second = sorted((tmp_path / "in" / "deep").glob("*.jpg"))
    paths = [first, second, tmp_path / "in" / "deep" / ".." / "deep" / first.name]
    twin = first.with_suffix(".png")
    with Image.open(first) as image:
        image.save(twin)
    cache = mmcache.build([*paths, twin], tmp_path / "a.mmc", size=16, progress=False)
    folder = mmcache.export(cache, tmp_path / "out", progress=False)
    assert sum(1 for file in folder.rglob("*.png")) == 4
    assert {one.name for one in tmp_path.iterdir()} == {"in", "a.mmc", "out"}


@pytest.mark.parametrize("compression", copying.COMPRESSIONS)
@pytest.mark.parametrize("recipe", RECIPES.values(), ids=RECIPES)
def test_a_compressed_zarr_has_the_same_pictures(built, tmp_path, recipe, compression, monkeypatch):
    monkeypatch.setattr(copying, "_SHARD", 4)
    cache = built("a.mmc", **recipe)
    path = mmcache.export(cache, tmp_path / "out.zarr", compression=compression, progress=False)
    group = zarr.open_group(path, mode="r")
    flat = group["pixels"][...].reshape(-1)
    for (offset, *shape), picture in zip(group["records"][...], cache, strict=True):
        assert np.array_equal(flat[offset : offset + np.prod(shape)].reshape(shape), picture)
    assert group["labels"][...].tolist() == cache.labels.tolist()
    assert group.attrs["classes"] == list(cache.classes)
    keys, offsets = group["keys"][...].tobytes(), group["key_offsets"][...]
    assert keys[offsets[3] : offsets[4]].decode() == cache.keys[3]
    assert (len(group["pixels"].shape) == 4) == (recipe is RECIPES["uniform"])
    with pytest.raises(mmcache.DamagedCacheError, match="holds no frame"):
        mmcache.open(path)


@pytest.mark.parametrize(
    ("settings", "sentence"),
    [
        ({"format": "gif"}, "format='gif' is not one of"),
        ({"quality": 0}, "quality=0"),
        ({"compression": "rar"}, "compression='rar'"),
        ({"format": "zarr"}, "does not end in .zarr"),
    ],
)
def test_nonsense_is_one_sentence_and_nothing_written(built, tmp_path, settings, sentence):
    cache = built("a.mmc", size=32)
    with pytest.raises(mmcache.SettingError, match=sentence):
        mmcache.export(cache, tmp_path / "out", progress=False, **settings)
    with pytest.raises(mmcache.SettingError, match="ends as a cache does"):
        mmcache.export(cache, tmp_path / "out.h5", progress=False)
    with pytest.raises(mmcache.DestinationError, match="overwrites nothing"):
        mmcache.export(cache, tmp_path, progress=False)
    assert {one.name for one in tmp_path.iterdir()} == {"a.mmc"}


def test_jpeg_refuses_transparency(built, tmp_path):
    cache = built("a.mmc", size=32, mode="RGBA")
    with pytest.raises(mmcache.SettingError, match="holds no transparency"):
        mmcache.export(cache, tmp_path / "out", format="jpeg", progress=False)


def test_the_command_line_converts_and_exports(built, tmp_path):
    cache = built("a.mmc", size=32)

    def run(*words):
        return subprocess.run(
            [sys.executable, "-m", "mmcache", *words, "--quiet"],
            cwd=tmp_path, capture_output=True, text=True, check=False,
        )  # fmt: skip

    assert run("convert", "a.mmc", "b.h5", "3:9").returncode == 0
    assert mmcache.open(tmp_path / "b.h5").keys == list(cache.keys[3:9])
    again = run("convert", "a.mmc", "b.h5")
    assert again.returncode == 1
    assert again.stderr.startswith("mmcache: error: ")
    assert run("convert", "a.mmc", "b.h5", "--exist", "overwrite").returncode == 0
    assert run("export", "a.mmc", "out", "5", "--format", "jpeg").returncode == 0
    assert len(list((tmp_path / "out").rglob("*.jpg"))) == 1
    assert run("export", "a.mmc", "out").returncode == 1
    assert run("export", "a.mmc", "x", "900:").returncode == 2
