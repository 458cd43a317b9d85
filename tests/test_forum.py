"""What docs/forum-answer.md says of snippets is so: memmap, Pillow and mmcache, and the judge."""

import importlib.util
import re
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageOps

import mmcache
from mmcache.testing import paint, paint_folder

ROOT = Path(__file__).parent.parent
SCRIPTS = ROOT / "scripts"
PAGE = ROOT / "docs" / "forum-answer.md"
NO_OPENCV = importlib.util.find_spec("cv2") is None


@pytest.fixture(scope="module")
def forum():
    """The benchmark's rooms, which are beside the scripts and not installed."""
    sys.path.insert(0, str(SCRIPTS))
    try:
        import bench_forum  # noqa: PLC0415
        from contest.forum import pictures, snippets  # noqa: PLC0415
    finally:
        sys.path.remove(str(SCRIPTS))
    bench_forum.pictures, bench_forum.snippets = pictures, snippets
    return bench_forum


@pytest.fixture(scope="module")
def odd(forum, tmp_path_factory):
    """A folder of the odd pictures alone."""
    folder = tmp_path_factory.mktemp("forum") / "odd"
    folder.mkdir()
    forum.pictures.add_odd(folder)
    return folder


@pytest.fixture(scope="module")
def cache(odd, tmp_path_factory):
    path = tmp_path_factory.mktemp("forum") / "odd.mmc"
    with pytest.warns(mmcache.PicturesSkippedWarning):
        return mmcache.build(odd, path, size=256, progress=False)


# The third snippet -------------------------------------------------------------------------------


def test_a_memmap_of_a_jpeg_file_gives_its_bytes_and_not_its_pixels(tmp_path):
    path = tmp_path / "picture.jpg"
    paint(mmcache.Size(100, 100), 1).save(path, quality=95)
    shape = (20, 20, 3)
    seen = np.memmap(path, dtype="uint8", mode="r", shape=shape)
    assert seen.tobytes() == path.read_bytes()[: 20 * 20 * 3]
    assert not np.array_equal(seen, mmcache.apply(path, mmcache.Recipe(size=20)))
    assert np.array_equal(seen[0, 0], [0xFF, 0xD8, 0xFF])  # every JPEG file begins so


def test_a_memmap_of_a_file_that_is_too_short_raises(odd):
    with pytest.raises(ValueError, match="mmap length is greater than file size"):
        np.memmap(odd / "grey.jpg", dtype="uint8", mode="r", shape=(1000, 1000, 3))


def test_np_resize_repeats_the_bytes_of_a_file_that_is_too_short(odd):
    contents = np.fromfile(odd / "grey.jpg", np.uint8)
    tiled = np.resize(contents, (1000, 1000, 3)).reshape(-1)
    assert np.array_equal(tiled[: 2 * len(contents)], np.tile(contents, 2))


def test_a_memmap_without_a_mode_lengthens_the_file(tmp_path):
    path = tmp_path / "picture.jpg"
    paint(mmcache.Size(60, 60), 1).save(path)
    before = path.read_bytes()
    np.memmap(path, dtype="uint8", shape=(300, 300, 3))
    after = path.read_bytes()
    assert len(after) == 300 * 300 * 3 > len(before)
    assert after.rstrip(b"\0") == before.rstrip(b"\0")


# The second snippet ------------------------------------------------------------------------------


def page_blocks():
    text = PAGE.read_text(encoding="utf-8")
    return re.findall(r"^```python\n(.*?)^```$", text, re.MULTILINE | re.DOTALL)


@pytest.fixture(scope="module")
def batches():
    """The page's own snippet, without the lines that try it."""
    (code,) = (one for one in page_blocks() if "def batches" in one)
    names = {}
    exec(code.partition("\n\n\ntry:")[0], names)
    return names["batches"]


def test_a_folder_of_all_sizes_ends_the_batches_at_the_first(batches, tmp_path):
    folder = paint_folder(tmp_path / "photos", 8, longest=100)
    with pytest.raises(ValueError, match="inhomogeneous shape"):
        next(batches(folder))


def test_pictures_of_one_size_are_what_the_batches_are_fine_for(batches, tmp_path):
    for number in range(4):
        paint(mmcache.Size(60, 80), number).save(tmp_path / f"{number}.jpg")
    (only,) = batches(tmp_path, size=40)
    assert only.shape == (4, 30, 40, 3)


def test_an_object_array_takes_some_ragged_pictures_and_not_others():
    lying, standing = np.zeros((3, 4, 3)), np.zeros((4, 3, 3))
    assert np.array([lying, standing], dtype=object).shape == (2,)
    with pytest.raises(ValueError, match="could not broadcast"):
        np.array([standing, np.zeros((4, 5, 3))], dtype=object)


def test_a_strip_is_rounded_to_nothing_by_pillow_and_keeps_a_row_in_mmcache(odd, cache):
    with Image.open(odd / "strip.png") as strip:
        assert strip.size == (5000, 1)
        ratio = 256 / max(strip.size)
        with pytest.raises(ValueError, match="height and width must be > 0"):
            strip.resize((int(strip.width * ratio), int(strip.height * ratio)))
        strip.thumbnail((256, 256))
        assert strip.size == (256, 1)
    assert cache["strip.png"].shape == (1, 256, 3)


def test_portraits_lie_on_their_side_in_pillow_and_stand_in_mmcache(odd, cache):
    with Image.open(odd / "portrait.jpg") as image:
        assert image.width > image.height
        upright = ImageOps.exif_transpose(image)
        assert upright.height > upright.width
    height, width, _ = cache["portrait.jpg"].shape
    assert (height, width) == (256, 192)


def test_channels_differ_in_pillow_and_are_three_in_mmcache(odd, cache, tmp_path):
    shapes = {}
    for name in ("grey.jpg", "clear.png", "portrait.jpg"):
        with Image.open(odd / name) as image:
            shapes[name] = np.array(image).shape[2:]
    assert list(shapes.values()) == [(), (4,), (3,)]
    assert all(picture.shape[2] == 3 for picture in cache)
    paint(mmcache.Size(9, 9), 1, "P").save(tmp_path / "p.png")
    with Image.open(tmp_path / "p.png") as image:  # numbers of colours, and no colours
        assert not np.array_equal(np.array(image), np.array(image.convert("L")))


def test_convert_turns_a_16_bit_picture_white_and_mmcache_does_not(odd, cache):
    with Image.open(odd / "deep.png") as image:
        assert image.mode == "I;16"
        assert (np.array(image.convert("RGB")) == 255).mean() > 0.99
    assert cache["deep.png"].std() > 20


def test_convert_shows_what_was_clear_and_mmcache_does_not(odd, cache):
    with Image.open(odd / "clear.png") as image:
        assert image.convert("RGB").getpixel((5, 5)) == (255, 0, 0)
    assert cache["clear.png"][5, 5].tolist() == [0, 0, 0]


def test_pillow_raises_at_files_that_mmcache_names(odd, cache):
    with pytest.raises(Image.UnidentifiedImageError):
        Image.open(odd / "text.jpg")
    with Image.open(odd / "cut.jpg") as image, pytest.raises(OSError, match="truncated"):
        image.load()
    assert {failure.key for failure in cache.failures} == {"cut.jpg", "text.jpg"}
    assert all(failure.reason for failure in cache.failures)


# The first snippet -------------------------------------------------------------------------------


@pytest.mark.skipif(NO_OPENCV, reason="OpenCV is not installed here")
def test_what_the_page_says_of_opencv(odd, tmp_path):
    cv2 = pytest.importorskip("cv2")

    def shape(name, *flags):
        image = cv2.imread(str(odd / name), *flags)
        return None if image is None else image.shape

    assert shape("portrait.jpg") == (400, 300, 3)
    assert shape("portrait.jpg", cv2.IMREAD_UNCHANGED) == (300, 400, 3)
    assert shape("grey.jpg") == shape("deep.png") == shape("clear.png") == (300, 400, 3)
    assert shape("clear.png", cv2.IMREAD_UNCHANGED) == (300, 400, 4)
    assert cv2.imread(str(odd / "clear.png"))[5, 5].tolist() == [0, 0, 255]  # red, in BGR
    assert shape("text.jpg") is None
    assert shape("cut.jpg") == (300, 400, 3)
    strip = cv2.imread(str(odd / "strip.png"))
    assert cv2.resize(strip, (256, 256)).shape == (256, 256, 3)
    with pytest.raises(cv2.error):
        cv2.resize(strip, (256, int(256 / 5000)))
    with pytest.raises(cv2.error):
        cv2.resize(None, (256, 256))
    paint(mmcache.Size(9, 9), 1, "P").save(tmp_path / "p.png")
    assert cv2.imread(str(tmp_path / "p.png")).shape == (9, 9, 3)


# The benchmark -----------------------------------------------------------------------------------


def test_the_judge_takes_a_careful_picture_and_no_other(forum, odd, cache):
    judged = forum.pictures.is_right
    for name in cache.keys:
        assert judged(odd / name, cache[name], 256)
    portrait = cache["portrait.jpg"]
    for wrong in (
        portrait[..., ::-1],  # blue for red
        portrait.transpose(1, 0, 2),  # on its side
        portrait[:, :, 0],
        portrait[:-2],
        portrait.astype(np.float32),
        np.repeat(portrait, 2, axis=1)[:, :256],  # a square
        255 - portrait,
    ):
        assert not judged(odd / "portrait.jpg", wrong, 256)
    assert not judged(odd / "cut.jpg", portrait, 256)


@pytest.mark.parametrize("by", ["BOX", "BILINEAR", "BICUBIC", "LANCZOS"])
def test_the_judge_punishes_nobody_for_a_filter_of_their_own(forum, tmp_path, by):
    grain = np.random.default_rng(1).integers(0, 256, (300, 401, 3), np.uint8)  # they all differ
    Image.fromarray(grain).save(tmp_path / "picture.png")
    with Image.open(tmp_path / "picture.png") as image:
        small = np.array(image.resize((128, 95), Image.Resampling[by]))
    assert forum.pictures.is_right(tmp_path / "picture.png", small, 128)


def test_what_becomes_of_each_file_is_counted_once(forum, odd, tmp_path):
    count = len(list(odd.iterdir()))
    for name, way in forum.snippets.WAYS.items():
        if name.startswith("OpenCv") and NO_OPENCV:
            continue
        (tmp_path / name).mkdir()
        gone = way(odd, tmp_path / name, 256)
        came = list(gone.first())
        assert sorted(file for file, _ in came) == sorted(path.name for path in odd.iterdir())
        assert len(came) == len(list(gone.epoch())) == count


def test_without_opencv_the_benchmark_says_why_it_is_not_in_the_table(
    forum, tmp_path, monkeypatch, capsys
):
    found = forum.python_of
    monkeypatch.setattr(
        forum,
        "python_of",
        lambda way, **more: None if way.modules == ("cv2",) else found(way, **more),
    )
    page = tmp_path / "page.md"
    page.write_text("<!-- tables of bench_forum.py -->\n<!-- end of them -->\n")
    given = ["--painted=6", "--size=64", "--rounds=1", f"--into={page}"]
    assert forum.main(given) == 0
    rows = [line.split("|")[1:-1] for line in capsys.readouterr().out.splitlines() if "|" in line]
    told = {cells[0].strip(): [cell.strip() for cell in cells[1:]] for cells in rows}
    why = "cv2 is not installed here (--peers installs it)"
    assert told["1. OpenCV generator"] == told["1. mended by hand"][:1] == [why]
    assert told["2. Pillow batches"][:4] == ["0", "0", "0", "13"]
    assert told["mmcache"][:4] == ["11", "0", "0", "2"]
    assert why in page.read_text()


def test_the_pages_picture_is_small_and_shows_what_the_script_draws(forum, tmp_path):
    file = ROOT / "docs" / "memmap.jpg"
    assert file.stat().st_size < 60_000
    drawn = forum.drawn(tmp_path)
    true, noise = (drawn.crop((left, 0, left + 224, 224)) for left in (0, 240))
    with Image.open(file) as image:
        assert image.size == drawn.size
        left = np.asarray(image.crop((0, 0, 224, 224)), float)
    assert np.abs(left - np.asarray(true, float)).mean() < 4  # it is a JPEG
    greys = np.asarray(noise.convert("L"), float)
    neighbours = np.corrcoef(greys[:, 1:].ravel(), greys[:, :-1].ravel())[0, 1]
    assert abs(neighbours) < 0.1
    assert np.corrcoef(left[:, 1:].ravel(), left[:, :-1].ravel())[0, 1] > 0.9
