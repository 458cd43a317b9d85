"""The benchmark scripts run, say what they measure, and leave nothing behind. Nothing is timed."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

SCRIPTS = Path(__file__).resolve().parent.parent / "scripts"

TINY = {
    "bench_pixels": ["--painted=8", "--size=64", "--camera=1", "--sample=3"],
    "bench_build": ["--painted=16", "--size=64", "--sizes=48", "--rounds=1", "--camera=0",
                    "--large=0", "--sample=4", "--plot=bars.svg"],
    "bench_pictures": ["--painted=8", "--size=64", "--rounds=1", "--edge=300"],
    "bench_rows": ["--painted=8", "--size=64", "--rounds=2", "--rows=2000", "--reads=100",
                   "--opens=1"],
    "bench_read": ["--painted=8", "--size=64", "--crop=48", "--rounds=1",
                   "--limit=4", "--some=8", "--starts=1", "--passes=1", "--seconds=1",
                   "--plot=bars.svg",
                   "--only=warm,ragged,padded,views,sequential,single,crops,cold,memory,first"],
    "bench_formats": ["--painted=8", "--size=64", "--rounds=1", "--hand-rounds=1",
                      "--read-rounds=2", "--reads=100", "--hand-reads=5"],
    "bench_crops": ["--painted=8", "--size=64", "--rounds=1", "--crops=6", "--sample=2",
                    "--crop=48", "--small=20"],
    "bench_copying": ["--painted=8", "--size=64", "--rounds=1"],
    "bench_memory": ["--painted=8", "--few=20", "--many=60", "--files=6", "--rounds=1"],
    "bench_forum": ["--painted=6", "--size=64", "--rounds=1"],
    "bench_scaling": ["--painted=8", "--size=64", "--rounds=1", "--pictures=20", "--workers=2"],
}  # fmt: skip

ROWS = {
    "bench_pixels": ["minimum", "pictures under 40 dB", "full decode", "what mmcache does"],
    "bench_build": [
        "bare loop, 1 thread",
        "build, serial",
        "build, 2 processes",
        "checksums",
        "loop with Pillow",
        "mmcache, Pillow alone",
        "limit: scaled decoding",
        "Pillow, lanczos",
        "times the Pillow loop",
        "FFCV's DatasetWriter",
    ],
    "bench_pictures": ["the bare steps", "mmcache's decode step", "PNG, palette", "JPEG 2000"],
    "bench_rows": ["bare loop over lists", "`cache[key]`", "`cache.batch` of 8", "opening, ms"],
    "bench_read": [
        "a memory copy, 2 threads",
        "mmcache.Loader, Zarr",
        "np.memmap, a loop",
        "preadv, 32 threads",
        "h5py, contiguous",
        "Pillow, by hand",
        "FFCV",
    ],
    "bench_formats": ["npy", "hdf5", "zarr, one (1 shard)", "zarr, a picture a chunk", "vlen"],
    "bench_crops": ["mmcache, Pillow", "Pillow, box of the whole", "NumPy, two matrices"],
    "bench_copying": ["brought to disk", "mmc to zarr", "jpeg, quality 95", "zarr, zstd"],
    "bench_memory": ["plan 20", "plan 60", "build 20", "build 60"],
    "bench_forum": ["2. Pillow batches", "3. `np.memmap` on the file", "mmcache"],
    "bench_scaling": [
        "worker: all but decoding",
        "coordinator of processes",
        "Python's lock",
        "64",
    ],
}


@pytest.fixture(scope="module")
def measuring():
    sys.path.insert(0, str(SCRIPTS))
    try:
        import measuring  # noqa: PLC0415  # beside the scripts, and not installed
    finally:
        sys.path.remove(str(SCRIPTS))
    return measuring


SLOW = {"bench_build", "bench_read"}  # they start a process for each contender


@pytest.mark.parametrize(
    "name", [pytest.param(one, marks=pytest.mark.slow if one in SLOW else ()) for one in TINY]
)
def test_a_benchmark_prints_its_tables_and_leaves_nothing_behind(name, tmp_path):
    run = subprocess.run(
        [sys.executable, "-W", "error::RuntimeWarning", SCRIPTS / f"{name}.py", *TINY[name]],
        env=os.environ | {"TMPDIR": str(tmp_path)},
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
    )
    assert run.returncode == 0, run.stderr
    assert run.stderr == ""
    cells = [line.split("|")[1].strip() for line in run.stdout.splitlines() if line[:1] == "|"]
    for row in ROWS[name]:
        assert any(row in cell for cell in cells), run.stdout
    for drawn in tmp_path.glob("*.svg"):
        drawn.unlink()
    assert list(tmp_path.iterdir()) == []


def test_every_benchmark_is_tried_here_and_told_of_in_the_docs():
    told = (SCRIPTS.parent / "docs" / "benchmarks.md").read_text()
    scripts = {path.stem for path in SCRIPTS.glob("bench_*.py")}
    assert scripts == set(TINY)
    assert all(f"scripts/{name}.py" in told for name in scripts)


def test_pictures_of_a_given_folder_are_measured_where_they_lie(tmp_path):
    from mmcache.testing import paint_folder  # noqa: PLC0415

    photos = paint_folder(tmp_path / "photos", 4)
    before = {path: path.stat().st_mtime_ns for path in photos.rglob("*")}
    run = subprocess.run(
        [sys.executable, SCRIPTS / "bench_pixels.py", "--photos", photos, "--size=32",
         "--camera=0", "--sample=1"],
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    assert "4 pictures to 32" in run.stdout
    assert {path: path.stat().st_mtime_ns for path in photos.rglob("*")} == before


def test_contenders_take_turns_and_every_second_round_runs_backwards(measuring):
    calls = []
    contenders = {name: lambda name=name: calls.append(name) for name in "abc"}
    taken = measuring.take_turns(contenders, 3, after=lambda: calls.append("-"))
    assert "".join(calls) == "a-b-c-" + "c-b-a-" + "a-b-c-"
    assert [len(rounds) for rounds in taken.values()] == [3, 3, 3]


def test_a_ratio_is_taken_round_by_round(measuring):
    # A round that was slow for both says as much as any other.
    assert measuring.ratio([1, 20, 3], [2, 40, 6]) == 0.5


def test_processor_time_counts_ended_children_and_not_waiting(measuring):
    import time  # noqa: PLC0415

    waiting = measuring.spent(lambda: time.sleep(0.2))
    assert waiting.clock >= 0.2 > waiting.processor
    busy = [sys.executable, "-c", "import time\nwhile time.process_time() < 0.3: pass"]
    assert measuring.spent(lambda: subprocess.check_call(busy)).processor >= 0.3


def test_a_table_is_markdown_with_even_columns(measuring):
    text = measuring.table(("way", "ms"), [("one", 1), ("another", 12.5)])
    assert text.splitlines() == [
        "| way     |   ms |",
        "| ------- | ---: |",
        "| one     |    1 |",
        "| another | 12.5 |",
    ]
