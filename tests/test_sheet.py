"""Contact sheets and what a notebook shows: true aspects, captions, nothing unescaped."""

import base64
import html.parser
import io
import json
import re

import numpy as np
import pytest
from PIL import Image

import mmcache
from mmcache.geometry import Size
from mmcache.sheet import as_html, as_image, contact_sheet
from mmcache.testing import paint

PAPER = 255


def solid(height, width, colour):
    return np.full((height, width, len(colour)), colour, np.uint8)


def extent(sheet, colour, tolerance=40):
    """Return height and width of the part of the sheet that has this colour."""
    near = (np.abs(np.asarray(sheet).astype(int) - colour) < tolerance).all(axis=2)
    rows, columns = near.any(axis=1).nonzero()[0], near.any(axis=0).nonzero()[0]
    return int(np.ptp(rows)) + 1, int(np.ptp(columns)) + 1


@pytest.mark.parametrize(
    ("height", "width", "shown"),
    [
        (100, 200, (50, 100)),
        (400, 100, (100, 25)),
        (1000, 1000, (100, 100)),
        (30, 20, (30, 20)),  # smaller than a thumbnail: not enlarged
        (1, 5000, (1, 100)),
    ],
)
def test_a_thumbnail_has_the_aspect_of_its_picture(height, width, shown):
    red = solid(height, width, (220, 0, 0))
    sheet = contact_sheet([red], [""], edge=100)
    assert extent(sheet, (220, 0, 0)) == shown


def test_thumbnails_stand_in_rows_and_do_not_overlap():
    colours = [(200, 0, 0), (0, 200, 0), (0, 0, 200), (120, 120, 0), (0, 120, 120)]
    sheet = contact_sheet([solid(40, 40, c) for c in colours], [""] * 5, columns=3, edge=40)
    pixels = np.asarray(sheet)
    places = []
    for colour in colours:
        assert extent(sheet, colour) == (40, 40)
        places.append([int(axis.min()) for axis in (pixels == colour).all(axis=2).nonzero()])
    rows = [row for row, _ in places]
    assert rows[0] == rows[1] == rows[2] < rows[3] == rows[4]
    assert places[0][1] == places[3][1] < places[1][1] == places[4][1] < places[2][1]


def test_captions_are_drawn_below_and_only_where_there_are_any():
    def ink(caption):
        return int(
            (np.asarray(contact_sheet([solid(40, 40, (200, 0, 0))], [caption])) < 90)
            .all(axis=2)
            .sum()
        )

    assert ink("") == 0
    assert 0 < ink("ab") < ink("ab\ncd")


def test_a_long_caption_keeps_both_its_ends_and_stays_in_its_cell():
    sheet = contact_sheet([solid(9, 9, (200, 0, 0))], ["x" * 4000], edge=96)
    assert sheet.width == contact_sheet([solid(9, 9, (200, 0, 0))], ["x"], edge=96).width
    ink = (np.asarray(sheet) < 90).all(axis=2).any(axis=0).nonzero()[0]
    assert ink.max() < sheet.width - 8
    assert np.ptp(ink) > 80


def test_as_many_captions_as_pictures():
    with pytest.raises(ValueError, match="longer"):
        contact_sheet([], ["one"])


def test_an_empty_sheet_is_a_picture_too(uniform):
    assert min(contact_sheet([], []).size) > 0
    assert min(mmcache.show(uniform[:0]).size) > 0


@pytest.mark.parametrize(
    ("channels", "mode", "dtype"),
    [(1, "L", "u1"), (3, "RGB", "u1"), (4, "RGBA", "u1"), (1, "I;16", "<u2")],
)
def test_a_record_is_the_same_picture_in_pillow(channels, mode, dtype):
    most = np.iinfo(dtype).max + 1
    pixels = np.random.default_rng(3).integers(0, most, (7, 5, channels), dtype)
    image = as_image(pixels)
    assert image.mode == mode
    assert np.array_equal(np.asarray(image).reshape(pixels.shape), pixels)


def test_sixteen_bits_are_shown_as_eight():
    wide = np.full((40, 40, 1), 200 * 256 + 99, np.uint16)
    sheet = np.asarray(contact_sheet([wide], [""], columns=1, edge=40))
    assert (200, 200, 200) in set(map(tuple, sheet.reshape(-1, 3).tolist()))


def test_what_is_transparent_shows_the_paper():
    clear = solid(40, 40, (200, 0, 0, 0))
    opaque = solid(40, 40, (200, 0, 0, 255))
    assert (np.asarray(contact_sheet([clear], [""])) == PAPER).all()
    assert extent(contact_sheet([opaque], [""]), (200, 0, 0)) == (40, 40)


@pytest.mark.parametrize("mode", ["L", "RGBA"])
def test_grey_and_transparent_caches_are_shown(painted, tmp_path, mode):
    cache = mmcache.build(
        painted / "waves", tmp_path / "waves.mmc", size=32, mode=mode, progress=False
    )
    sheet = mmcache.show(cache)
    assert sheet.mode == "RGB"
    assert np.asarray(sheet).std() > 10
    assert "data:image/jpeg" in cache._repr_html_()


def test_show_draws_the_pictures_of_the_cache(uniform):
    sheet = np.asarray(mmcache.show(uniform[4:5], edge=48)).astype(int)
    picture = uniform[4]
    top, left = 8, 8
    assert np.array_equal(sheet[top : top + 48, left : left + 48], picture)


def test_show_names_the_class_on_a_second_line(uniform, painted, tmp_path):
    alone = mmcache.build(painted / "waves", tmp_path / "w.mmc", size=48, progress=False)
    labelled, bare = mmcache.show(uniform[:4]), mmcache.show(alone[:4])
    assert labelled.height > bare.height
    assert labelled.width == bare.width


def test_show_of_many_takes_evenly_chosen_ones(uniform):
    many = uniform[np.zeros(1000, int)]
    assert mmcache.show(many, most=10).size == mmcache.show(uniform[:10]).size
    assert mmcache.show(many).size == mmcache.show(many[:91]).size


def test_the_html_is_one_image_that_reads_back():
    sheet = contact_sheet([solid(40, 40, (200, 0, 0))], ["a"])
    (data,) = re.findall(r'src="data:image/jpeg;base64,([^"]+)"', as_html(sheet))
    with Image.open(io.BytesIO(base64.b64decode(data))) as image:
        assert image.size == sheet.size


class Tags(html.parser.HTMLParser):
    """Collects the tags and the text of a page."""

    def __init__(self):
        super().__init__()
        self.tags, self.text = set(), ""

    def handle_starttag(self, tag, attrs):
        self.tags.add(tag)
        assert not any(name.startswith("on") for name, _ in attrs)

    def handle_data(self, data):
        self.text += data


@pytest.fixture(scope="module")
def hostile(tmp_path_factory):
    """A cache whose every name wants to be markup."""
    folder = tmp_path_factory.mktemp("hostile") / "<i>photos & co"
    for name in ("<script>", "&amp;"):
        (folder / name).mkdir(parents=True)
        for number in range(2):
            paint(Size(30, 40), number).save(folder / name / f"<b>&{number}\n.jpg")
    (folder / "&amp;" / "<img src=x>.jpg").write_bytes(b"no picture")
    path = folder.parent / "<u>&.mmc"
    with pytest.warns(mmcache.PicturesSkippedWarning):
        return mmcache.build(folder, path, size=32, progress=False)


def test_the_html_of_a_cache_escapes_every_name(hostile):
    page = hostile._repr_html_()
    seen = Tags()
    seen.feed(page)
    assert seen.tags == {"div", "b", "table", "tr", "th", "td", "img"}
    assert "<u>&.mmc" in seen.text
    assert "4 pictures in 2 classes" in seen.text


def test_the_text_of_a_cache_is_its_facts_on_lines_of_their_own(hostile):
    lines = repr(hostile).splitlines()
    assert lines[0] == "Cache of 4 pictures in 2 classes"
    assert {line.split()[0] for line in lines[1:]} == {
        "pixels", "shapes", "recipe", "format", "path", "failures", "memory", "process",
    }  # fmt: skip
    assert str(hostile.path) in repr(hostile)
    assert "\x1b" not in repr(hostile)


def test_facts_of_a_cache_go_through_json(hostile):
    facts = json.loads(json.dumps(hostile.to_json()))
    assert facts["pictures"] == 4
    assert facts["failures"] == 1
    assert facts["bytes"] == sum(picture.nbytes for picture in hostile)


def test_the_html_of_a_cache_is_small_whatever_it_holds(tmp_path):
    folder = tmp_path / "photos"
    folder.mkdir()
    noise = np.random.default_rng(5)
    for number in range(40):
        pixels = noise.integers(0, 256, (300, 300, 3), np.uint8)
        Image.fromarray(pixels).save(folder / f"{number:0200}.png", compress_level=0)
    cache = mmcache.build(folder, tmp_path / "noise.mmc", progress=False)
    assert len(cache._repr_html_()) < 200_000
    assert len(repr(cache)) < 1000


def test_an_empty_selection_shows_itself(uniform):
    assert repr(uniform[:0]).startswith("Cache of 0 pictures")
    assert "img" not in uniform[:0]._repr_html_()
