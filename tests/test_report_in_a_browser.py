"""The report as a real browser shows it: all its pictures, light and dark, on a narrow screen."""

import functools
import http.server
import threading

import pytest
from browsers import chromium, needs, page_of

import mmcache
from mmcache.testing import paint_folder

pytestmark = [pytest.mark.slow, needs("playwright")]

EVIL = "<img src=x onerror=alert(1)>"


@pytest.fixture(scope="module")
def browser():
    with chromium() as browser:
        yield browser


@pytest.fixture(scope="module")
def address(tmp_path_factory):
    """Serve the report of a cache whose names are made to do harm."""
    folder = tmp_path_factory.mktemp("report")
    paint_folder(folder / "in", 60, longest=300)
    (folder / "in" / f"{EVIL}.jpg").write_bytes(b"no picture")
    (folder / "in" / EVIL).mkdir()
    whole = next((folder / "in").glob("*/*.jpg")).read_bytes()
    (folder / "in" / EVIL / f"{EVIL}.jpg").write_bytes(whole)
    with pytest.warns(mmcache.PicturesSkippedWarning):
        cache = mmcache.build(folder / "in", folder / "in.mmc", size=128, progress=False)
    (folder / "out").mkdir()
    mmcache.report(cache, folder / "out" / "report.html", progress=False)
    handler = functools.partial(Quiet, directory=folder / "out")
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as served:
        threading.Thread(target=served.serve_forever, args=(0.05,), daemon=True).start()
        yield f"http://127.0.0.1:{served.server_port}/report.html"
        served.shutdown()


class Quiet(http.server.SimpleHTTPRequestHandler):
    """Serves files and says nothing."""

    def log_message(self, *_args):
        pass


@pytest.fixture
def page(browser, address):
    with page_of(browser) as page:
        asked = []
        page.on("request", lambda sent: asked.append(sent.url))
        page.goto(address)
        yield page
        assert [url for url in asked if not url.startswith("data:")] == [address]


def test_every_picture_is_shown(page):
    widths = page.eval_on_selector_all("img", "all => all.map(one => one.naturalWidth)")
    assert len(widths) > 60
    assert min(widths) > 0


def test_names_are_text(page):
    assert page.locator("img[src=x]").count() == 0
    assert EVIL in page.inner_text("main")


def test_its_contents_lead_to_its_parts(page):
    links = page.locator("a[href^='#']")
    assert links.count() >= 4
    for number in range(links.count()):
        name = links.nth(number).get_attribute("href")
        assert page.locator(f"[id='{name[1:]}']").count() == 1


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_it_reads_in_light_and_in_dark(page, scheme):
    page.emulate_media(color_scheme=scheme)
    ink, paper = page.evaluate("""() => {
        const style = getComputedStyle(document.body);
        const canvas = document.createElement('canvas').getContext('2d');
        const light = (colour) => {
            canvas.fillStyle = colour;
            canvas.fillRect(0, 0, 1, 1);
            const [red, green, blue] = canvas.getImageData(0, 0, 1, 1).data;
            return (red + green + blue) / 765;
        };
        const root = getComputedStyle(document.documentElement);
        const clear = style.backgroundColor === 'rgba(0, 0, 0, 0)';
        return [light(style.color), light(clear ? root.backgroundColor : style.backgroundColor)];
    }""")
    assert abs(ink - paper) > 0.7
    assert (ink > paper) == (scheme == "dark")


def test_it_fits_a_narrow_screen(page):
    page.set_viewport_size({"width": 360, "height": 640})
    assert page.evaluate("document.documentElement.scrollWidth") <= 360
