"""Pictures that go together: masks and other partners, row for row with the pictures of a cache."""

from __future__ import annotations

import numpy as np
import pytest
from PIL import Image

import mmcache
from mmcache.cli import main
from mmcache.geometry import RESIZES
from mmcache.testing import paint, painted_sizes, save

COUNT = 12


@pytest.fixture
def pairs(tmp_path):
    """Pictures of many sizes, and a mask of each: its bright half, as palette numbers."""
    for number, size in enumerate(painted_sizes(COUNT, longest=120)):
        name = f"{'abc'[number % 3]}/{number:02}"
        for folder in ("pictures", "masks"):
            (tmp_path / folder / name).parent.mkdir(parents=True, exist_ok=True)
        image = paint(size, number)
        save(image, tmp_path / "pictures" / f"{name}.jpg", 6 if number == 5 else 1, quality=95)
        labels = np.asarray(image.convert("L")) // 64
        mask = Image.fromarray(labels)
        upright = mask.transpose(Image.Transpose.ROTATE_270) if number == 5 else mask
        upright.save(tmp_path / "masks" / f"{name}.png")
    return tmp_path


def built(pairs, name="masks", **settings):
    settings = {"mode": "P", "resample": "nearest"} | settings
    return mmcache.build(pairs / name, pairs / f"{name}.mmc", **settings)


@pytest.mark.parametrize("resize", RESIZES)
def test_a_mask_lies_where_its_picture_does(pairs, resize):
    pictures = mmcache.build(
        pairs / "pictures", pairs / "p.mmc", size=(40, 50), resize=resize, multiple_of=3
    )
    masks = built(pairs, like=pictures)
    assert masks.keys == pictures.keys
    assert masks.shapes[:, :2].tolist() == pictures.shapes[:, :2].tolist()
    assert masks.labels.tolist() == pictures.labels.tolist()
    assert masks.classes == pictures.classes
    for row in range(COUNT):
        assert masks.placement(row) == pictures.placement(row)
        # Resized and then told apart, or the other way round: it differs at the edges of things.
        again = np.asarray(Image.fromarray(pictures[row]).convert("L")) // 64
        assert (masks[row][..., 0] == again).mean() > 0.75


def test_the_pictures_of_the_masks_are_found_by_their_keys(pairs):
    pictures = mmcache.build(pairs / "pictures", pairs / "p.mmc", size=40)
    some = pictures[[7, 2, 9]]
    masks = built(pairs, like=some)
    assert masks.keys == some.keys
    assert np.array_equal(masks[1], built(pairs, like=pictures, exist="overwrite")[2])


def test_a_partner_that_is_missing_or_of_another_size_is_named(pairs):
    pictures = mmcache.build(pairs / "pictures", pairs / "p.mmc", size=40)
    masks = pairs / "masks"
    (masks / "a/00.png").unlink()
    Image.new("L", (7, 9)).save(masks / "b/01.png")
    (masks / "c/02.png").write_text("no mask")
    Image.new("L", (7, 9)).save(masks / "a/03.bmp")
    Image.new("L", (7, 9)).save(masks / "a/nobody.png")
    with pytest.warns(mmcache.PicturesSkippedWarning):
        cache = built(pairs, like=pictures)
    failures = {failure.key: failure for failure in cache.failures}
    height, width = mmcache.open(pairs / "p.mmc").placement("b/01.jpg").source
    assert failures["a/00.jpg"].reason == "it has no partner: no file is called as it is"
    assert failures["b/01.jpg"].reason == (
        f"it is 9 x 7, and the picture that it goes with is {height} x {width}"
    )
    assert failures["c/02.jpg"].reason == "not a picture of a format that is read here"
    assert failures["a/03.jpg"].reason == "2 files could be its partner: a/03.bmp, a/03.png"
    assert set(failures) | set(cache.keys) == set(pictures.keys)
    assert pictures[list(cache.keys)].keys == cache.keys  # row for row again
    plan = mmcache.plan(masks, like=pictures, mode="P", resample="nearest")
    assert len(plan) == len(cache)
    assert plan.left_out == 3  # nobody's, and the two that could be anybody's
    assert type(plan).load(saved(plan, pairs)) == plan


def saved(plan, folder):
    plan.save(folder / "plan.npz")
    return folder / "plan.npz"


def test_a_file_of_the_very_key_is_the_partner_whatever_else_is_there(pairs):
    pictures = mmcache.build(pairs / "pictures", pairs / "p.mmc", size=40)
    twin = pairs / "masks" / "a/00.jpg"
    with Image.open(pairs / "masks/a/00.png") as mask:
        Image.new("L", mask.size, 200).save(twin, quality=100)
    assert (built(pairs, like=pictures)["a/00.jpg"] == 200).all()


@pytest.mark.parametrize("executor", ["serial", "threads", "processes"])
def test_any_executor_builds_the_same_masks(pairs, executor):
    pictures = mmcache.build(pairs / "pictures", pairs / "p.mmc", size=40)
    masks = built(pairs, like=pairs / "p.mmc", executor=executor)
    assert masks.keys == pictures.keys
    assert np.array_equal(masks[3], built(pairs, like=pictures)[3])


def test_masks_that_are_there_are_opened_and_changes_are_seen(pairs):
    pictures = mmcache.build(pairs / "pictures", pairs / "p.mmc", size=40)
    first = built(pairs, like=pictures)
    assert built(pairs, like=pictures).fingerprint == first.fingerprint
    with Image.open(pairs / "masks/a/00.png") as mask:
        Image.new("L", mask.size, 3).save(pairs / "masks/a/00.png", compress_level=0)
    with pytest.raises(mmcache.DifferentCacheError, match="1 changed"):
        built(pairs, like=pictures)
    assert (built(pairs, like=pictures, exist="update")["a/00.jpg"] == 3).all()


def test_sizes_that_contradict_are_refused(pairs):
    pictures = mmcache.build(pairs / "pictures", pairs / "p.mmc", size=40)
    for name, value in (("size", 50), ("resize", "crop"), ("multiple_of", 8)):
        with pytest.raises(mmcache.SettingError, match=rf"{name}=.*leave it out"):
            built(pairs, like=pictures, **{name: value})
    assert len(built(pairs, like=pictures, size=40)) == COUNT


def test_the_command_line_builds_masks(pairs, capsys):
    mmcache.build(pairs / "pictures", pairs / "p.mmc", size=40)
    status = main(
        ["build", str(pairs / "masks"), str(pairs / "m.mmc"), "--like", str(pairs / "p.mmc"),
         "--mode", "P", "--resample", "nearest"]
    )  # fmt: skip
    assert status == 0, capsys.readouterr().err
    assert mmcache.open(pairs / "m.mmc").recipe.mode == "P"


def test_a_cache_to_go_with_that_is_not_there_is_an_error(pairs):
    with pytest.raises(mmcache.CacheNotFoundError):
        built(pairs, like=pairs / "nowhere.mmc")
