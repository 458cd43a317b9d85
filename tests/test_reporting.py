"""The report: one page, whole or not there, that asks for nothing and escapes everything."""

import os
import re
from html.parser import HTMLParser

import numpy as np
import pytest
from PIL import Image

import mmcache
from mmcache import charts, reporting
from mmcache.cli import main
from mmcache.records import printable
from mmcache.testing import paint, paint_folder

HOSTILE = b"<script>alert(1)</script> & \"'\n\xff.jpg"
EMPTY = {"meta", "img"}


class Page(HTMLParser):
    """Reads a page, and fails where a tag is not closed in its order."""

    def __init__(self, text):
        super().__init__()
        self.open, self.tags, self.attributes, self.said = [], [], [], []
        self.feed(text)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        self.attributes += attrs
        if tag not in EMPTY:
            self.open.append(tag)

    def handle_startendtag(self, tag, attrs):
        self.tags.append(tag)
        self.attributes += attrs

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        self.said.append(data)

    @property
    def text(self):
        return " ".join("".join(f"{one}\0" for one in self.said).replace("\0", " ").split())


def page_of(cache, out, **how):
    where = mmcache.report(cache, out, progress=False, **how)
    assert where == out
    return Page(where.read_text("utf-8"))


@pytest.fixture(scope="module")
def hostile(tmp_path_factory):
    """A cache with keys, classes and failures whose names are made to do harm, and with copies."""
    folder = paint_folder(tmp_path_factory.mktemp("hostile") / "in", 30, longest=160)
    inside = os.fsencode(folder) + b"/<b onclick=x>&\xfe"
    os.mkdir(inside)  # noqa: PTH102  # bytes
    for number in range(2):
        paint(mmcache.Size(90, 120), 77).save(folder / f"{number}.jpg")
        os.rename(  # noqa: PTH104  # bytes
            os.fsencode(folder / f"{number}.jpg"), inside + b"/%d" % number + HOSTILE
                .replace(b"/", b"|")
        )  # fmt: skip
    for number in range(3):
        broken = os.fsencode(folder) + b"/circles/%d broken " % number + HOSTILE.replace(b"/", b"|")
        with open(broken, "wb") as file:  # noqa: PTH123  # bytes
            file.write(b"\xff\xd8\xff\xe0 no picture")
    with pytest.warns(mmcache.PicturesSkippedWarning):
        return mmcache.build(folder, folder.parent / "<i>&.mmc", size=64, progress=False)


def test_a_page_is_well_formed_and_says_what_is_in_the_cache(uniform, tmp_path):
    page = page_of(uniform, tmp_path / "out.html")
    assert "24" in page.said
    assert "crop 48 x 48" in page.text
    assert all(name in page.said for name in uniform.classes)
    found = mmcache.stats(uniform, progress=False)
    assert f"mmcache.torch.{found.code}" in page.said
    for figures in (found.mean, found.std):
        assert all(f"{one:.4f}" in page.said for one in figures)
    assert "Every record is 48 x 48 (height x width)." in page.said
    assert "Most cut" in page.said
    assert "Most padded" not in page.said
    assert "Every picture of the source is in the cache." in page.said


def test_no_request_leaves_the_machine_and_no_script_runs(hostile, tmp_path):
    page = page_of(hostile, tmp_path / "out.html")
    for name, value in page.attributes:
        assert name in (
            "src", "class", "style", "alt", "title", "id", "href", "width", "height", "viewbox",
            "role", "aria-label", "points", "x", "y", "x1", "x2", "y1", "y2", "text-anchor",
            "lang", "charset", "name", "content", "http-equiv",
        )  # fmt: skip
        if name == "src":
            assert value.startswith("data:image/jpeg;base64,")
        if name == "href":
            assert value.startswith("#")
    assert not {"script", "link", "iframe", "object", "i", "b"} & set(page.tags)
    text = (tmp_path / "out.html").read_text("utf-8")
    assert not re.search(r"https?:|url\(|@import|//\w", re.sub(r"base64,[\w+/=]+", "", text))
    assert "default-src &#x27;none&#x27;" in text or "default-src 'none'" in text


def test_hostile_names_are_shown_and_do_nothing(hostile, tmp_path):
    page = page_of(hostile, tmp_path / "out.html")
    keys = [printable(key) for key in hostile.keys if "script" in key]
    assert len(keys) == 2
    assert all(key in page.said for key in keys)
    for failure in hostile.failures:
        assert printable(failure.key) in page.said
        assert failure.reason in page.said
    assert "<i>&.mmc" in page.said
    assert r"<b onclick=x>&\xfe" in page.said


def test_near_duplicates_are_shown_in_groups(hostile, tmp_path):
    page = page_of(hostile, tmp_path / "out.html")
    assert "2 pictures in 1 group" in page.text


def shown_of(page, title):
    """Return the rows that are shown below a title, and what is said of each."""
    place = page.said.index(title)
    following = page.said[place + 1 :]
    end = next(
        (
            at
            for at, one in enumerate(following)
            if one in TITLES or one in ("Near duplicates", "Classes", "Failures")
        ),
        None,
    )
    some = following[:end]
    return [int(one.removeprefix("row ")) for one in some if re.fullmatch(r"row \d+", one)]


TITLES = (
    "Smallest sources", "Largest sources", "Darkest", "Brightest", "Least contrast",
    "Widest sources", "Tallest sources", "Most enlarged", "Most cut", "Most padded",
)  # fmt: skip


@pytest.mark.parametrize(
    "settings",
    [
        {"size": 90, "resize": "pad", "upscale": True},
        {"size": 110, "resize": "crop", "mode": "RGBA"},
        {"size": (60, 90), "multiple_of": 32, "mode": "L"},
    ],
)
def test_the_pictures_worth_a_look_are_those_of_a_plain_sort(painted, tmp_path, settings):
    cache = mmcache.build(painted, tmp_path / "out.mmc", progress=False, **settings)
    page = page_of(cache, tmp_path / "out.html")
    placed = [cache.placement(row) for row in range(len(cache))]
    found = mmcache.stats(cache, progress=False)

    def area(size):
        return size.height * size.width

    aspects = [one.source.width / one.source.height for one in placed]
    keys = {
        "Smallest sources": ([area(one.source) for one in placed], None),
        "Largest sources": ([-area(one.source) for one in placed], None),
        "Darkest": (found.brightness.tolist(), None),
        "Brightest": ((-found.brightness).tolist(), None),
        "Least contrast": (found.contrast.tolist(), None),
        "Widest sources": ([-one for one in aspects], -1),
        "Tallest sources": (aspects, 1),
        "Most enlarged": ([-area(one.scaled) / area(one.source) for one in placed], -1),
        "Most cut": ([area(one.valid) / area(one.scaled) - 1 for one in placed], 0),
        "Most padded": ([area(one.valid) / area(one.size) - 1 for one in placed], 0),
    }
    assert set(keys) == set(TITLES)
    for title, (values, bound) in keys.items():
        rows = sorted(range(len(cache)), key=values.__getitem__)[: reporting._SHOWN]
        rows = [row for row in rows if bound is None or values[row] < bound]
        if rows:
            told = shown_of(page, title)
            assert [values[row] for row in told] == pytest.approx([values[row] for row in rows])
        else:
            assert title not in page.said


@pytest.mark.parametrize("mode", ["L", "RGBA", "I;16"])
@pytest.mark.parametrize("ending", ["mmc", "h5", "zarr"])
def test_every_mode_and_format_has_a_report(painted, tmp_path, mode, ending):
    out = tmp_path / f"out.{ending}"
    cache = mmcache.build(painted, out, size=40, mode=mode, progress=False)
    page = page_of(cache, tmp_path / "out.html")
    assert page.tags.count("img") > 50


def test_a_narrower_cache_has_a_report_of_its_own(hostile, tmp_path):
    page = page_of(hostile[5:8], tmp_path / "out.html")
    assert f"3 of the {len(hostile)} there are" in page.said
    assert shown_of(page, "Darkest") == sorted(
        range(3), key=mmcache.stats(hostile[5:8], progress=False).brightness.__getitem__
    )
    assert "of the whole cache" in page.text
    one = page_of(hostile[[0]], tmp_path / "one.html")
    assert "Darkest" in one.said


def test_of_very_many_failures_the_first_are_named_and_the_rest_counted(
    hostile, tmp_path, monkeypatch
):
    monkeypatch.setattr(reporting, "_FAILURES", 2)
    page = page_of(hostile, tmp_path / "out.html")
    assert "and 1 more picture" in page.text
    assert sum("broken" in one for one in page.said) == 2


def test_of_very_many_classes_the_largest_and_the_smallest_are_counted(tmp_path, monkeypatch):
    for number in range(9):
        (tmp_path / f"in/class {number}").mkdir(parents=True)
        for picture in range(9 - number):
            Image.new("L", (8, 8), 20 * picture).save(tmp_path / f"in/class {number}/{picture}.png")
    cache = mmcache.build(tmp_path / "in", tmp_path / "out.mmc", progress=False)
    monkeypatch.setattr(reporting, "_BARS", 4)
    monkeypatch.setattr(reporting, "_CLASSES", 3)
    page = page_of(cache, tmp_path / "out.html")
    assert "5 classes between them, with 25 pictures" in page.text
    assert "and 6 more classes" in page.text
    place = len(page.said) - page.said[::-1].index("Classes")
    counted = [one for one in page.said[place:] if one.strip()]
    assert counted[:4] == ["class 0", "9", "class 1", "8"]
    assert counted[5:9] == ["class 7", "2", "class 8", "1"]


def test_a_page_of_a_million_rows_is_small(uniform, tmp_path):
    many = uniform[np.tile(np.arange(24), 2_000)]
    where = mmcache.report(many, tmp_path / "out.html", progress=False)
    assert where.stat().st_size < 1_500_000  # it does not grow with the rows


# Where it is written -----------------------------------------------------------------------------


def test_what_is_there_stays_unless_it_is_a_report_and_overwriting_was_asked_for(ragged, tmp_path):
    out = tmp_path / "out.html"
    mmcache.report(ragged, out, progress=False)
    first = out.read_bytes()
    with pytest.raises(mmcache.DestinationError, match="exists"):
        mmcache.report(ragged[:3], out, progress=False)
    assert out.read_bytes() == first
    mmcache.report(ragged[:3], out, exist="overwrite", progress=False)
    assert out.read_bytes() != first
    other = tmp_path / "other.html"
    other.write_text("<html>a page of one's own</html>")
    (tmp_path / "folder").mkdir()
    for path in (other, tmp_path / "folder", ragged.path):
        with pytest.raises(mmcache.DestinationError, match="is no report"):
            mmcache.report(ragged, path, exist="overwrite", progress=False)
    assert other.read_text() == "<html>a page of one's own</html>"
    with pytest.raises(mmcache.SettingError, match="exist="):
        mmcache.report(ragged, out, exist="replace", progress=False)
    with pytest.raises(mmcache.DestinationError, match="no folder"):
        mmcache.report(ragged, tmp_path / "no/such.html", progress=False)
    with pytest.raises(mmcache.SelectionError):
        mmcache.report(ragged[:0], tmp_path / "none.html", progress=False)
    assert sorted(one.name for one in tmp_path.iterdir()) == ["folder", "other.html", "out.html"]


@pytest.mark.parametrize("exist", ["error", "overwrite"])
def test_a_report_that_fails_leaves_what_was_there(ragged, tmp_path, monkeypatch, exist):
    out = tmp_path / "out.html"
    if exist == "overwrite":
        mmcache.report(ragged, out, progress=False)
    before = out.read_bytes() if out.exists() else None

    def fail(_):
        yield "half a page"
        raise OSError("the disk is full")

    monkeypatch.setattr(reporting, "_page", fail)
    with pytest.raises(OSError, match="the disk is full"):
        mmcache.report(ragged, out, exist=exist, progress=False)
    assert (out.read_bytes() if out.exists() else None) == before
    assert len(list(tmp_path.iterdir())) == (before is not None)


def test_the_same_cache_has_the_same_report(ragged, tmp_path):
    one, other = (
        mmcache.report(ragged, tmp_path / f"{number}.html", workers=1 + number, progress=False)
        for number in range(2)
    )
    assert one.read_bytes() == other.read_bytes()


def test_the_commands_say_what_python_says(ragged, tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    path = str(ragged.path)
    assert main(["stats", path]) == 0
    assert capsys.readouterr().out == f"{mmcache.stats(ragged, progress=False)!r}\n"
    assert main(["stats", path, "3:9", "--quiet", "--padding", "--json"]) == 0
    told = mmcache.stats(ragged[3:9], padding=True, progress=False).to_json()
    assert eval(capsys.readouterr().out, {"false": False, "true": True}) == told
    assert main(["report", path, "--quiet"]) == 0
    assert capsys.readouterr().out == f"24 pictures in {tmp_path / 'report.html'}\n"
    assert main(["report", path, "--out", "report.html"]) == 1
    assert main(["report", path, "--out", "report.html", "--exist", "overwrite"]) == 0
    assert main(["stats", path, "nonsense"]) == 2
    mine = mmcache.report(ragged, tmp_path / "mine.html", progress=False)
    assert mine.read_bytes() == (tmp_path / "report.html").read_bytes()


# Figures -----------------------------------------------------------------------------------------


def test_bars_are_as_long_as_their_counts_and_one_is_seen_beside_a_million():
    page = Page(charts.bars([("<a>", 1_000_000), ("b", 500_000), ("c", 0)]))
    widths = [value for name, value in page.attributes if name == "style"]
    assert widths == ["width:100.0%", "width:50.0%", "width:0.0%"]
    assert page.said == ["<a>", "1,000,000", "b", "500,000", "c", "0"]
    drawn = Page(charts.histogram([1_000_000, 0, 1], [(0, "<0>"), (3, "3")], title="a & b"))
    assert drawn.tags.count("rect") == 2
    heights = [float(value) for name, value in drawn.attributes if name == "height"]
    assert heights[0] == 120
    assert heights[1] >= 1
    assert {"<0>", "3", "a & b"} <= set(drawn.said)


def test_a_figure_of_nothing_is_a_figure():
    assert Page(charts.histogram([0, 0], [], title="none")).tags.count("rect") == 0
    assert Page(charts.curves(np.zeros((1, 8), np.int64), ["red"], [], title="none")).said
