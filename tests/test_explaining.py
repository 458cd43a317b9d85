"""One record's story."""

import json
from pathlib import Path

import numpy as np
import pytest

import mmcache
from mmcache.cli import main
from mmcache.geometry import Size
from mmcache.testing import odd_pictures, paint, save


@pytest.fixture
def cache(tmp_path):
    folder = tmp_path / "in"
    folder.mkdir()
    save(paint(Size(900, 1_200)), folder / "large.jpg", 6, quality=90)
    save(paint(Size(30, 20), mode="L"), folder / "small.png")
    save(paint(Size(90, 40), mode="CMYK"), folder / "7", format="TIFF")
    (folder / "text.jpg").write_text("no picture")
    with pytest.warns(mmcache.PicturesSkippedWarning):
        return mmcache.build(folder, tmp_path / "out.mmc", size=64, resize="pad", multiple_of=9)


def test_a_photo_that_lay_on_its_side_tells_what_was_done(cache):
    told = mmcache.explain(cache, "large.jpg")
    assert (told.format, told.mode, told.orientation) == ("JPEG", "RGB", 6)
    assert told.placement == cache.placement("large.jpg")
    assert told.placement.source == (1_200, 900)
    assert told.decoded == (225, 300)  # as it is stored, at 1/4
    assert told.file_size > 10_000
    assert told.notes == ()
    assert told.steps == (
        "decoded at 1/4, as 225 x 300",
        "turned by 90 degrees, clockwise",
        "resampled to 64 x 48, bicubic",
        "filled up by 4 above, 4 below, 12 left, 12 right",
    )


def test_a_small_picture_tells_that_it_was_kept(cache):
    told = mmcache.explain(cache, 2)
    assert (told.key, told.row) == ("small.png", 2)
    assert told.steps[:4] == (
        "decoded in full", "stored upright", "kept at its size", "brought from L to RGB",
    )  # fmt: skip


@pytest.mark.parametrize("ask", ["7", 0, -3, np.int64(0), b"7"])
def test_rows_and_keys_are_asked_for_as_everywhere(cache, ask):
    assert mmcache.explain(cache, ask).key == "7"
    assert mmcache.explain(cache, ask).row == 0
    assert mmcache.explain(cache[:2], ask if ask != -3 else -2).mode == "CMYK"


def test_a_picture_that_failed_tells_why(cache):
    with pytest.raises(mmcache.UnknownKeyError, match="is not in the cache: not a picture"):
        mmcache.explain(cache, "text.jpg")
    with pytest.raises(mmcache.UnknownKeyError, match="is not among the 3 pictures"):
        mmcache.explain(cache, "nobody.jpg")
    with pytest.raises(mmcache.RowError):
        mmcache.explain(cache, 3)


def test_it_shows_itself_and_is_json(cache, capsys):
    told = mmcache.explain(cache, 1)
    assert "decoded at 1/4" in repr(told)
    assert "decoded at 1/4" in told._repr_html_()
    assert main(["explain", str(cache.path), "1", "--json"]) == 0
    assert json.loads(capsys.readouterr().out) == told.to_json()
    assert main(["explain", str(cache.path), "small.png"]) == 0
    assert "kept at its size" in capsys.readouterr().out
    assert main(["explain", str(cache.path), "7"]) == 0  # a picture is called so
    assert "CMYK" in capsys.readouterr().out
    assert main(["explain", str(cache.path), "9"]) == 1
    assert "row 9" in capsys.readouterr().err


def test_every_kind_of_picture_has_a_story(tmp_path):
    folder = tmp_path / "in"
    folder.mkdir()
    for odd in odd_pictures():
        (folder / odd.name).write_bytes(odd.data)
    with pytest.warns(mmcache.PicturesSkippedWarning):
        cache = mmcache.build(folder, tmp_path / "out.mmc", size=20)
    stories = {key: mmcache.explain(cache, key) for key in cache.keys}
    assert all(story.format for story in stories.values())
    assert {name for name, story in stories.items() if not story.mode} == {
        name for name in stories if name.endswith(".jxl")
    }
    assert stories["float-any.tif"].notes == ("stretched",)
    assert stories["wrong-profile.jpg"].notes == ("profile",)


def test_a_cache_of_the_first_version_tells_what_it_knows():
    cache = mmcache.open(Path(__file__).parent / "golden" / "ragged.mmc")
    told = mmcache.explain(cache, 0)
    assert (told.format, told.mode) == ("", "")
    assert "not told" in repr(told)
