"""The widget without a browser: what a view asks it, and what it gives back to Python."""

import subprocess
import sys

import pytest

import mmcache
from mmcache.gallery import Filter, Gallery

pytest.importorskip("anywidget")


@pytest.fixture
def widget(ragged, monkeypatch):
    widget = mmcache.browse(ragged, edge=64, height=300)
    widget.sent = []
    monkeypatch.setattr(type(widget), "send", lambda self, *what: self.sent.append(what))
    yield widget
    widget.close()


def ask(widget, **message):
    widget._handle_custom_msg({"id": "view-1", "message": message}, [])
    (told, (data,)) = widget.sent.pop()
    assert told["id"] == "view-1"
    return told["json"], data


def test_what_is_selected_is_a_narrower_cache_in_order(widget, ragged):
    assert len(widget.selected) == 0
    ask(widget, ask="select", ranges=[[7, 8], [2, 4]], how="add")
    assert [*widget.selected.keys] == [ragged.keys[row] for row in (2, 3, 7)]
    ask(widget, ask="select", ranges=[[0, 24]], how="only")
    assert widget.selected.is_whole


def test_what_is_filtered_is_a_narrower_cache(widget, ragged):
    assert widget.filtered.is_whole
    ask(widget, ask="filter", filter={"label": 1, "text": "0"})
    wanted = Gallery(ragged).filtered(*Filter(1, "0"))
    assert [*widget.filtered.keys] == [ragged.keys[row] for row in wanted]


def test_of_a_narrower_cache_rows_are_those_of_the_cache_at_its_path(ragged):
    widget = mmcache.browse(ragged[[9, 5, 1]])
    widget._gallery.select(Filter(), [(1, 3)])
    assert widget.selected.rows.tolist() == [5, 1]


def test_thumbnails_go_as_bytes_beside_the_message(widget):
    told, data = ask(widget, ask="cells", start=0, stop=4, edge=64)
    assert len(told["cells"]) == 4
    assert data[:2] == b"\xff\xd8"


def test_what_is_no_message_of_a_view_is_left_alone(widget):
    for content in (None, [], {}, {"id": 7}, {"message": {"ask": "outline"}}):
        widget._handle_custom_msg(content, [])
    assert widget.sent == []
    assert "error" in ask(widget)[0]


def test_no_trait_grows_with_the_cache(widget):
    state = widget.get_state()
    named = {name for name in state if not name.startswith("_")}
    assert named == {"edge", "height", "layout", "tabbable", "tooltip"}
    assert len(str(state)) < 60_000


def test_its_text_says_what_stays(widget):
    shown = widget._repr_mimebundle_()
    data = shown[0] if isinstance(shown, tuple) else shown
    assert data["text/plain"].startswith("Browser of 24 pictures in photos.mmc")
    assert "mmcache.show(cache)" in data["text/plain"]


@pytest.mark.parametrize(
    ("settings", "sentence"),
    [
        ({"edge": 8}, "edge=8"),
        ({"edge": 4000}, "512 are the most"),
        ({"height": 10}, "height=10"),
        ({"height": 9999}, "5000 are the most"),
        ({"edge": "wide"}, "edge='wide'"),
    ],
)
def test_a_setting_that_makes_no_sense_is_a_sentence(ragged, settings, sentence):
    with pytest.raises(mmcache.SettingError, match=sentence):
        mmcache.browse(ragged, **settings)


def test_the_surface_needs_no_widgets():
    code = (
        "import sys; sys.modules['anywidget'] = None\n"
        "from mmcache import *\n"
        "try: browse(None)\n"
        "except MissingLibraryError as error: print(error)"
    )
    said = subprocess.run(
        [sys.executable, "-W", "error", "-c", code], capture_output=True, text=True, check=True
    ).stdout
    assert 'pip install "mmcache[notebook]"' in said
    assert said.count("\n") == 1
