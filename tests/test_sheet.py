"""Contact sheets, and what a notebook shows: true aspects, captions, nothing unescaped."""

import base64
import html.parser
import io
import json
import re

import numpy as np
import pytest
from PIL import Image, features

import mmcache
from mmcache.geometry import Size
from mmcache.lettering import font_for
from mmcache.records import Failures
from mmcache.sheet import as_html, captions_of, contact_sheet, evenly
from mmcache.testing import paint
from mmcache.thumbnails import as_image, for_eyes

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


def test_an_empty_sheet_is_a_picture_too():
    assert min(contact_sheet([], []).size) > 0


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


def test_what_is_transparent_lies_over_checks():
    clear = solid(40, 40, (200, 0, 0, 0))
    opaque = solid(40, 40, (200, 0, 0, 255))
    drawn = np.asarray(contact_sheet([clear], [""], columns=1, edge=40))[8:48, 8:48]
    greys = np.unique(drawn)
    assert len(greys) == 2
    assert (drawn == drawn[..., :1]).all()
    assert extent(contact_sheet([opaque], [""]), (200, 0, 0)) == (40, 40)


def test_the_numbers_of_a_mask_are_colours():
    numbers = np.repeat(np.arange(4, dtype=np.uint8), 10).reshape(40, 1, 1).repeat(40, axis=1)
    drawn = np.asarray(contact_sheet([numbers], [""], columns=1, edge=40, masks=True))[8:48, 8:48]
    assert np.array_equal(drawn, np.asarray(for_eyes(numbers, masks=True)))
    assert len({tuple(row[0]) for row in drawn.tolist()}) == 4


@pytest.mark.parametrize("mode", ["L", "RGBA"])
def test_grey_and_transparent_caches_are_shown(painted, tmp_path, mode):
    cache = mmcache.build(
        painted / "waves", tmp_path / "waves.mmc", size=32, mode=mode, progress=False
    )
    assert np.asarray(image_of(cache._repr_html_())).std() > 10


def test_a_clear_sheet_reads_on_light_and_on_dark():
    sheet = contact_sheet([solid(40, 60, (200, 0, 0))], ["name"], edge=60, clear=True)
    assert sheet.mode == "RGBA"
    alpha = np.asarray(sheet)[..., 3]
    assert alpha[8 + 10 : 8 + 50, 8 : 8 + 60].min() == 255  # the picture is opaque
    assert (alpha == 0).mean() > 0.3  # and the paper is what lies behind
    (ink,) = {tuple(one) for one in np.asarray(sheet)[alpha == 255].tolist() if one[0] != 200}
    for paper in (0, 255):
        assert contrast(ink[:3], (paper,) * 3) > 4.5


def contrast(one, other):
    """Return the contrast ratio of two colours, as WCAG 2 has it."""

    def light(colour):
        linear = [
            part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4
            for part in (value / 255 for value in colour)
        ]
        return float(np.dot(linear, [0.2126, 0.7152, 0.0722]))

    dark, bright = sorted([light(one), light(other)])
    return (bright + 0.05) / (dark + 0.05)


def image_of(page):
    """Return the one picture that a page of HTML has within it."""
    (data,) = re.findall(r'src="data:image/\w+;base64,([^"]+)"', page)
    return Image.open(io.BytesIO(base64.b64decode(data)))


def test_the_html_is_one_image_that_reads_back():
    for clear, form in ((True, "WEBP"), (False, "JPEG")):
        sheet = contact_sheet([solid(40, 40, (200, 0, 0))], ["a"], clear=clear)
        image = image_of(as_html(sheet))
        assert image.format == form
        assert image.mode == sheet.mode
        assert image.size == sheet.size


def test_without_webp_the_html_is_a_jpeg_on_white(monkeypatch):
    monkeypatch.setattr(features, "check", lambda _: False)
    sheet = contact_sheet([solid(40, 40, (200, 0, 0))], ["a"], clear=True)
    image = image_of(as_html(sheet))
    assert image.format == "JPEG"
    assert min(image.getpixel((0, 0))) > 250


class Tags(html.parser.HTMLParser):
    """Collects the tags and the text of a page."""

    def __init__(self):
        super().__init__()
        self.tags, self.text, self.alt = set(), "", ""

    def handle_starttag(self, tag, attrs):
        self.tags.add(tag)
        self.alt += dict(attrs).get("alt", "")
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
    shown = {"div", "b", "table", "tr", "th", "td", "img", "details", "summary"}
    assert seen.tags == shown
    assert "<u>&.mmc" in seen.text
    assert r"<b>&0\n.jpg, <script>" in seen.alt
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


def test_a_cache_shows_some_of_all_its_pictures_in_order(uniform, monkeypatch):
    drawn = []
    monkeypatch.setattr(mmcache.sheet, "overview", lambda _, names, **__: drawn.append(names) or "")
    many = uniform[np.arange(5000) % len(uniform)]
    many._repr_html_()
    (names,) = drawn
    rows = [4999 * place // 23 % len(uniform) for place in range(24)]
    assert names == captions_of(uniform.keys.take(rows), uniform.labels[rows], uniform.classes)


@pytest.mark.parametrize("count", [0, 1, 2, 3, 7, 24, 25, 1000])
@pytest.mark.parametrize("most", [1, 2, 24])
def test_evenly_chosen_positions(count, most):
    places = evenly(count, most).tolist()
    assert len(places) == min(count, most)
    assert places == sorted(set(places))
    if len(places) > 1:
        steps = np.diff(places)
        assert (places[0], places[-1]) == (0, count - 1)
        assert steps.max() - steps.min() <= 1


def test_a_selection_tells_how_many_classes_it_has(uniform):
    one = uniform[uniform.labels == 1]
    assert repr(one).startswith(f"Cache of {len(one)} pictures in 1 of 3 classes\n")
    assert "in 1 of 3 classes</b>" in one._repr_html_()
    assert repr(uniform[::-1]).startswith("Cache of 24 pictures in 3 classes\n")


def test_one_line_of_facts_comes_first(ragged):
    first = ragged._repr_html_().split("</div>")[0]
    for fact in ("24 pictures in 3 classes", "kB", "heights", str(ragged.recipe)):
        assert fact in first, fact
    assert str(ragged.path) not in first


def test_a_batch_shows_itself(uniform, ragged):
    batch = uniform.batch(range(5), flip=True)
    assert repr(batch).splitlines()[0] == "Batch of 5 pictures"
    assert "uint8 5 x 48 x 48 x 3" in batch._repr_html_()
    assert "flipped" in repr(batch)
    listed = ragged.batch([0, 1, 2])
    assert "list of arrays" in repr(listed)
    for one in (batch, listed, ragged.batch([0, 1, 2], pad="batch")):
        assert np.asarray(image_of(one._repr_html_())).std() > 10
    assert "img" not in uniform.batch([])._repr_html_()


def test_a_batch_is_captioned_with_its_own_labels(uniform):
    seen = Tags()
    seen.feed(uniform.batch([17, 2])._repr_html_())
    wanted = captions_of(uniform.keys.take([17, 2]), uniform.labels[[17, 2]], uniform.classes)
    assert seen.alt.split("; ") == [caption.replace("\n", ", ") for caption in wanted]


def test_failures_show_themselves_as_a_table():
    failures = Failures.of(
        [(b"<b>/%03d.jpg" % number, "decode", "<i>cut", 7) for number in range(30)]
        + [(b"x", "header", "none", None)]
    )
    seen = Tags()
    page = failures._repr_html_()
    seen.feed(page)
    assert seen.tags == {"div", "b", "table", "tr", "th", "td"}
    assert "31 failures · 1 header · 30 decode" in seen.text
    assert "<b>/019.jpg" in seen.text
    assert "<b>/020.jpg" not in seen.text
    assert "11 more" in seen.text
    assert "7 bytes" in seen.text
    assert "0 failures" in Failures.of([])._repr_html_()


def test_letters_of_other_scripts_are_drawn_where_a_font_has_them():
    latin, cyrillic = font_for(["abc"], 11), font_for(["БДЖЛ", "abc"], 11)
    if cyrillic.getname() == latin.getname():
        pytest.skip("no font with Cyrillic letters is installed")
    box = bytes(cyrillic.getmask("\U0010ffff"))
    assert all(bytes(cyrillic.getmask(letter)) != box for letter in "БДЖЛabc")


def test_letters_that_no_font_has_do_no_harm():
    assert font_for(["\U0010fffe \ue000"], 11) is not None
    contact_sheet([solid(9, 9, (9, 9, 9))], ["\U0010fffe"])


def test_an_empty_selection_shows_itself(uniform):
    assert repr(uniform[:0]).startswith("Cache of 0 pictures")
    assert "img" not in uniform[:0]._repr_html_()
