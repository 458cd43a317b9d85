"""A real Jupyter kernel, without a browser."""

import json

import nbclient
import nbformat
import pytest

from mmcache.testing import paint_folder

pytestmark = pytest.mark.slow


@pytest.fixture
def outputs(tmp_path, monkeypatch):
    """Run cells in a kernel whose working directory has a folder of painted pictures."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("IPYTHONDIR", str(tmp_path / "ipython"))
    paint_folder(tmp_path / "photos", 12, longest=200)

    def run(*cells):
        notebook = nbformat.v4.new_notebook(
            cells=[nbformat.v4.new_code_cell(cell) for cell in cells],
            metadata={"kernelspec": {"name": "python3", "display_name": "Python 3"}},
        )
        nbclient.NotebookClient(notebook, allow_errors=True, timeout=120).execute()
        # Where widgets are installed, a bar is one, and what it shows is kept apart.
        run.widgets = json.dumps(notebook.metadata.get("widgets", {}))
        return [cell.outputs for cell in notebook.cells]

    return run


def shown(outputs, kind):
    return "".join(one.data.get(kind, "") for one in outputs if "data" in one)


def printed(outputs):
    return "".join(one.get("text", "") for one in outputs)


def test_each_executor_builds_the_same_bytes_from_a_cell(outputs, tmp_path):
    cells = [
        f"import mmcache; mmcache.build('photos', '{executor}.mmc', executor='{executor}', size=64)"
        for executor in ("serial", "threads", "processes")
    ]
    for output in outputs(*cells):
        assert "Cache of 12 pictures in 3 classes" in shown(output, "text/plain")
    pixels = {(path / "pixels.npy").read_bytes() for path in tmp_path.glob("*.mmc")}
    assert len(list(tmp_path.glob("*.mmc"))) == 3
    assert len(pixels) == 1


def test_a_build_shows_a_bar_and_no_warning_about_widgets(outputs):
    (output,) = outputs("import mmcache; mmcache.build('photos', 'a.mmc', size=64)")
    bar = printed(output) + shown(output, "text/plain") + outputs.widgets
    assert "pictures" in bar
    assert "12/12" in bar
    assert "Warning" not in bar


def test_a_saved_notebook_tells_how_a_bar_ended(outputs):
    pytest.importorskip("ipywidgets", reason="not installed here: ipywidgets")
    # It keeps no widget, but the text beside it.
    built, opened = outputs(
        "import mmcache; mmcache.build('photos', 'a.mmc', size=64)",
        "mmcache.build('photos', 'a.mmc', size=64)",
    )
    bar = printed(built) + shown(built, "text/plain")
    assert "12/12" in bar
    assert "0/12" not in bar
    assert "0/12" not in printed(opened) + shown(opened, "text/plain")


def test_a_plan_a_cache_and_a_slice_show_themselves_as_html(outputs):
    plan, cache, part = outputs(
        "import mmcache; mmcache.plan('photos', 'a.mmc', progress=False)",
        "cache = mmcache.build('photos', 'a.mmc', size=64, progress=False); cache",
        "cache[3:5]",
    )
    assert "12 pictures in 3 classes" in shown(plan, "text/html")
    assert "data:image/webp;base64," in shown(cache, "text/html")
    assert "Cache of 2 pictures" in shown(part, "text/html")


def test_a_mistyped_path_is_one_sentence(outputs):
    (output,) = outputs("import mmcache; mmcache.open('photo.mmc')")
    assert output[-1].ename == "CacheNotFoundError"
    assert "there is no cache at" in output[-1].evalue
