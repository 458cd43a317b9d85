"""The notebooks of the documentation, and the block of docs/notebook.md, in real kernels."""

import base64
import importlib.machinery
import importlib.util
import io
import re
import subprocess
import sys
import sysconfig
import warnings
from pathlib import Path

import nbclient
import nbformat
import pytest
from PIL import Image

import mmcache
from mmcache.testing import paint

pytestmark = pytest.mark.slow

ROOT = Path(__file__).parent.parent
NOTEBOOKS = ROOT / "docs" / "notebooks"
NAMES = ["crash-and-cure", "looking", "sharing"]
ON_LINUX = {"crash-and-cure", "sharing"}  # which tell of memory as Linux does
LARGEST = 400_000  # bytes of a notebook


def script():
    """Return scripts/run_notebooks as a module."""
    loader = importlib.machinery.SourceFileLoader("run_notebooks", f"{ROOT}/scripts/run_notebooks")
    module = importlib.util.module_from_spec(importlib.util.spec_from_loader(loader.name, loader))
    loader.exec_module(module)
    return module


def committed(name):
    return nbformat.read(NOTEBOOKS / f"{name}.ipynb", 4)


@pytest.fixture(scope="module")
def executed(tmp_path_factory):
    """Execute a notebook once, in an empty folder."""
    done = {}

    def execute(name):
        if name in ON_LINUX and sys.platform != "linux":
            pytest.skip("it tells of memory as Linux does")
        if name not in done:
            folder = tmp_path_factory.mktemp(name)
            with pytest.MonkeyPatch.context() as patch:
                patch.setenv("IPYTHONDIR", str(tmp_path_factory.mktemp("ipython")))
                done[name] = script().executed(NOTEBOOKS / f"{name}.ipynb", folder)
            # Of a notebook's own folder alone, as it says.
            assert [path.name for path in folder.iterdir()] == [name.partition("-")[0]]
        return done[name]

    return execute


def code(notebook):
    return [cell for cell in notebook.cells if cell.cell_type == "code"]


def text(notebook, cell_id):
    """Return what a cell printed, and its value as text."""
    (cell,) = (cell for cell in notebook.cells if cell.id == cell_id)
    return "".join(
        output.get("text", "") or output.get("data", {}).get("text/plain", "")
        for output in cell.outputs
    )


def shown(notebook):
    """Return all that outputs show as text or HTML, but for the data of pictures."""
    told = [
        output.get("text", "") + "".join(map(str, output.get("data", {}).values()))
        for cell in code(notebook)
        for output in cell.outputs
    ]
    return re.sub(r"data:image/\w+;base64,[\w+/=]*", "", "\n".join(told))


def numbers(line):
    return [float(number.replace(",", "")) for number in re.findall(r"\d[\d,]*\.?\d*", line)]


# What each claims ---------------------------------------------------------------------------------


def test_the_naive_way_ends_where_the_memory_does(executed):
    notebook = executed("crash-and-cure")
    ways = text(notebook, "run-naive").splitlines()
    assert [way.split()[0] for way in ways] == ["whole", "resized"]
    for way in ways:
        assert "MemoryError" in way
        at, of = numbers(way)
        assert 1 < at < of
    assert "Unable to allocate" in text(notebook, "limit")


def test_building_and_training_stay_within_what_a_list_of_pictures_exceeds(executed):
    notebook = executed("crash-and-cure")
    bill = {
        line[:22].strip(): numbers(line[22:])[0] for line in text(notebook, "bill").splitlines()
    }
    limit = bill["what we may have"]
    assert bill["the pixels of all"] > 8 * limit
    assert bill["the cache, on disk"] > limit
    assert bill["had while building"] < limit
    assert bill["had while training"] < limit
    assert text(notebook, "whole").startswith("(500, 384, 384, 3)")


def test_the_classifier_learns(executed):
    notebook = executed("crash-and-cure")
    losses = [numbers(line)[1] for line in text(notebook, "epochs").splitlines()]
    assert losses[-1] < losses[0] / 2
    right, of = numbers(text(notebook, "validate"))
    assert right > 80 > of / 2


def test_readers_of_one_cache_share_its_memory(executed):
    notebook = executed("sharing")
    assert text(notebook, "read").rstrip().endswith("True")
    _, *readers, together, whole = map(numbers, text(notebook, "smaps").splitlines())
    (size,) = whole
    assert len(readers) == 3
    for cached, alone, share in readers:
        assert cached == pytest.approx(size, abs=0.2)
        assert alone == pytest.approx(0, abs=0.2)
        assert share == pytest.approx(size / 3, abs=0.2)
    assert together[0] == pytest.approx(size, abs=0.5)


def test_a_cache_is_sent_as_a_path(executed):
    notebook = executed("sharing")
    mapped, cache = map(numbers, text(notebook, "pickle").splitlines())
    assert cache[0] < 1000 < mapped[0] / 10_000
    assert text(notebook, "arrived").rstrip().endswith("True")


def test_formats_have_the_same_contents_and_bare_libraries_read_them(executed):
    notebook = executed("sharing")
    for cell in ("fingerprints", "equal"):
        lines = text(notebook, cell).splitlines()
        assert len(lines) == 3
        assert all(line.endswith("True") for line in lines)
    for name in ("numpy", "h5py", "zarr"):
        (cell,) = (cell for cell in notebook.cells if cell.id == name)
        assert "mmcache." not in cell.source


def test_the_bad_pictures_that_were_hidden_are_found_and_no_others(executed):
    notebook = executed("looking")
    (paints,) = (cell.source for cell in notebook.cells if cell.id == "paint")
    hidden = set(re.findall(r'folder / "(\w+/[\w.-]+)"', paints)) - {"stripes/00004.jpg"}
    failed = {line.partition(":")[0] for line in text(notebook, "failures").splitlines()}
    thrown, kept = text(notebook, "keep").split("kept:")
    assert failed | set(thrown.split()[2:]) == hidden
    assert numbers(kept) == [120, 124]
    assert "copy-of-4.jpg" in text(notebook, "duplicates")
    assert text(notebook, "report").rstrip().endswith("True")


def test_buckets_pad_less_than_shuffled_rows_and_built_ones_nothing(executed):
    shuffled, bucketed, built = map(numbers, text(executed("looking"), "padding").splitlines())
    assert shuffled[0] > 2 * bucketed[0] > 0
    assert built == [0]


# What is committed --------------------------------------------------------------------------------


@pytest.mark.parametrize("name", NAMES)
def test_what_is_committed_came_from_the_present_code(name, executed):
    before, now = committed(name), executed(name)
    assert [cell.id for cell in before.cells] == [cell.id for cell in now.cells]
    for old, new in zip(code(before), code(now), strict=True):
        # Where it is not so, scripts/run_notebooks mends it.
        kinds = [[(one.output_type, *sorted(one.get("data", {}))) for one in cell.outputs]
                 for cell in (old, new)]  # fmt: skip
        assert len(kinds[0]) == len(kinds[1]), new.id
        if "varies" not in new.metadata.get("tags", []):
            assert kinds[0] == kinds[1], new.id
            assert text(before, old.id) == text(now, new.id), new.id
    assert [cell.execution_count for cell in code(before)] == list(range(1, len(code(now)) + 1))


@pytest.mark.parametrize("name", NAMES)
def test_outputs_tell_nothing_of_the_machine_and_warn_of_nothing(name, executed):
    for notebook in (committed(name), executed(name)):
        told = shown(notebook)
        assert "Warning" not in told
        assert "stderr" not in [one.get("name") for cell in code(notebook) for one in cell.outputs]
        places = {str(Path.home()), sys.prefix, sysconfig.get_path("stdlib"), str(ROOT)}
        assert not [place for place in places if len(place) > 1 and place in told]
        assert not re.search(r"(?<![\w.:/<])/(?:tmp|home|root|var|usr|opt|mnt|Users)\b", told)


@pytest.mark.parametrize("name", NAMES)
def test_a_notebook_is_small_and_holds_no_widget(name):
    path = NOTEBOOKS / f"{name}.ipynb"
    assert path.stat().st_size < LARGEST
    assert "widget" not in committed(name).metadata
    assert "widget-view" not in path.read_text(encoding="utf-8")


@pytest.mark.parametrize("name", NAMES)
def test_an_export_to_html_holds_every_sheet(name):
    nbconvert = pytest.importorskip("nbconvert", reason="not installed here: nbconvert")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of nbconvert's own libraries
        page, _ = nbconvert.HTMLExporter().from_notebook_node(committed(name))
    pictures = 0
    for output in (output for cell in code(committed(name)) for output in cell.outputs):
        for kind, value in output.get("data", {}).items():
            held = re.findall(r"data:image/\w+;base64,([\w+/=]+)", value)
            for data in [value.replace("\n", "")] if kind.startswith("image/") else held:
                with Image.open(io.BytesIO(base64.b64decode(data))) as image:
                    image.load()
                assert data in page.replace("\n", "")
                pictures += 1
    assert pictures >= 2


def test_the_documentation_shows_what_is_committed(tmp_path):
    command = [sys.executable, "-m", "sphinx", "-W", "--keep-going", "-q", "-b", "html"]
    subprocess.run([*command, ROOT / "docs", tmp_path], check=True, cwd=ROOT)
    for name in NAMES:
        page = (tmp_path / "notebooks" / f"{name}.html").read_text(encoding="utf-8")
        plain = re.sub("<[^>]*>", "", page)
        for cell in code(committed(name)):
            for output in cell.outputs:
                if output.output_type == "stream":
                    assert output.text.splitlines()[0].strip() in plain
        assert "output text_html" in page or "output image" in page
        assert not re.findall(r"<script[^>]*\ssrc=\"https?:", page)


# The first lines of one's own ---------------------------------------------------------------------


def first_lines():
    """Return the block of docs/notebook.md without its first line, which installs."""
    page = (ROOT / "docs" / "notebook.md").read_text(encoding="utf-8")
    (block,) = re.findall(r"^```ipython3\n(.*?)^```$", page, re.MULTILINE | re.DOTALL)
    install, _, block = block.partition("\n")
    assert install.startswith("%pip install")
    return block


def test_a_new_user_needs_at_most_nine_lines():
    assert len([line for line in first_lines().splitlines() if line.strip()]) <= 9


def test_the_first_lines_build_look_browse_and_train(tmp_path, monkeypatch):
    for library in ("torch", "anywidget"):
        if importlib.util.find_spec(library) is None:
            pytest.skip(f"not installed here: {library}")
    monkeypatch.setenv("IPYTHONDIR", str(tmp_path / "ipython"))
    for number in range(240):  # light falls from above on one half, and from below on the other
        light = Image.linear_gradient("L").rotate(number % 2 * 180).resize((80, 80)).convert("RGB")
        place = tmp_path / "photos" / ("above", "below")[number % 2]
        place.mkdir(parents=True, exist_ok=True)
        painted = paint(mmcache.Size(80, 80), number)
        Image.blend(painted, light, 0.4).save(place / f"{number}.jpg")
    judge = (
        "batches = mmcache.torch.Loader(cache, 1)\n"
        "guessed = [int(model(images / 255).argmax()) for images, _ in batches]\n"
        "print((cache.labels == guessed).mean())"
    )
    cells = [nbformat.v4.new_code_cell(cell) for cell in (first_lines(), judge)]
    notebook = nbformat.v4.new_notebook(cells=cells)
    nbclient.NotebookClient(
        notebook, timeout=240, resources={"metadata": {"path": str(tmp_path)}}
    ).execute()
    first, judged = (cell.outputs for cell in notebook.cells)
    data = [output.data for output in first if "data" in output]
    assert any("data:image/" in one.get("text/html", "") for one in data)
    assert any("widget-view" in kind for one in data for kind in one)
    assert float(judged[-1].text) > 0.75
