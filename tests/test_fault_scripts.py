"""A short run of each fault script finds nothing bad; docs/reliability.md has the full counts."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

FAULTS = Path(__file__).parents[1] / "scripts/faults"

SHORT = {
    "builders": ["--tries", "1", "--pictures", "30"],
    "damage": ["--tries", "2", "--pictures", "30", "--bits", "2", "--good", "3"],
    "full": ["--tries", "2", "--pictures", "30"],
    "hostile": ["--tries", "16"],
    "interrupt": ["--tries", "1", "--pictures", "30"],
    "kill": ["--tries", "1", "--each", "1", "--over", "1", "--pictures", "30"],
    "power": ["--tries", "1", "--after", "1", "--pictures", "30"],
    "readers": ["--tries", "1", "--pictures", "30"],
}


@pytest.mark.slow
@pytest.mark.parametrize("name", SHORT)
def test_a_fault_script_finds_nothing_bad(name):
    if name == "power" and shutil.which("strace") is None:
        pytest.skip("power.py records what builders write with strace, which is not installed")
    ran = subprocess.run(
        [sys.executable, FAULTS / f"{name}.py", *SHORT[name]],
        capture_output=True, text=True, check=False, timeout=280,
    )  # fmt: skip
    assert ran.returncode == 0, ran.stdout + ran.stderr
    head, _, *rows = [line for line in ran.stdout.splitlines() if line.startswith("|")]
    assert head.endswith("| bad |")
    assert len(rows) >= 12
    assert all(row.endswith("| 0 |") for row in rows)


def test_each_script_has_a_short_run():
    scripts = {path.stem for path in FAULTS.glob("*.py") if "\ndef main(" in path.read_text()}
    assert scripts == set(SHORT)
