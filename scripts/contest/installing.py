"""Environments of the peers: each is installed by name, and one that cannot be is left out."""

from __future__ import annotations

import functools
import hashlib
import json
import os
import subprocess
import sys
import venv
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable

    from contest.entrant import Entrant

__all__ = ["installed", "python_of"]

ROOT = Path(__file__).resolve().parent.parent.parent
LIMIT = 900  # seconds for one peer

# Where torchvision does not fit torch, all that imports it fails; nothing measured here needs it.
NO_TORCHVISION = (
    "import importlib.util as look, sys\n"
    "if look.find_spec('torchvision'):\n"
    "    import torchvision\n"
)


def installed(peers: Iterable[type[Entrant]]) -> dict[str, str]:
    """Install what *peers* need, once; return the errors of those that could not be."""
    failed: dict[str, str] = {}
    wanted: dict[str, dict[tuple[str, ...], str]] = {}
    for peer in peers:
        if peer.packages:
            wanted.setdefault(peer.environment, {}).setdefault(peer.packages, peer.title)
    for environment, each in wanted.items():
        home = ROOT / ".venv" / environment
        told = home / "installed.json"
        state = hashlib.sha256(repr((sorted(each), sys.version)).encode()).hexdigest()
        if not told.exists() or json.loads(told.read_text())["state"] != state:
            errors = _filled(home, each)
            told.write_text(json.dumps({"state": state, "errors": errors}))
        failed |= json.loads(told.read_text())["errors"]
    return failed


def _filled(home: Path, wanted: dict[tuple[str, ...], str]) -> dict[str, str]:
    """Make the environment and install each peer; return the errors by title."""
    print(f"preparing {home.relative_to(ROOT)} (once)", file=sys.stderr, flush=True)
    venv.create(home, with_pip=True, clear=True)
    errors = {}
    spare = home / "tmp"
    spare.mkdir()
    # torch first, so that nobody asks for another one.
    for packages, title in sorted(wanted.items(), key=lambda pair: "torch" not in pair[0][0]):
        try:
            subprocess.run(
                [_python(home), "-m", "pip", "install", "--quiet", *packages],
                env=os.environ | {"TMPDIR": str(spare), "PIP_DISABLE_PIP_VERSION_CHECK": "1"},
                capture_output=True, text=True, timeout=LIMIT, check=True,
            )  # fmt: skip
        except subprocess.TimeoutExpired:
            errors[title] = f"pip was not done after {LIMIT} seconds"
        except subprocess.CalledProcessError as failed:
            said = [line for line in failed.stderr.splitlines() if "error" in line.lower()]
            errors[title] = (said or ["pip failed"])[-1].strip()[:200]
    if not _succeeds([_python(home), "-c", NO_TORCHVISION]):
        remove = ["-m", "pip", "uninstall", "--yes", "--quiet", "torchvision"]
        subprocess.run([_python(home), *remove], check=True)
    return errors


def python_of(peer: type[Entrant], *, installed: bool) -> Path | None:
    """Return a Python that has what *peer* imports: this one, or the peers' where *installed*."""
    theirs = [_python(ROOT / ".venv" / peer.environment)] if installed else []
    for python in (Path(sys.executable), *theirs):
        if python.exists() and _has(python, peer.modules):
            return python
    return None


@functools.cache
def _has(python: Path, modules: tuple[str, ...]) -> bool:
    look = (
        "import importlib.util as look, sys; sys.exit(not all(map(look.find_spec, sys.argv[1:])))"
    )
    return _succeeds([python, "-c", look, *modules])


def _succeeds(command: list[str | Path]) -> bool:
    env = os.environ | {"PYTHONPATH": str(ROOT)}
    return not subprocess.run(command, env=env, capture_output=True, check=False).returncode


def _python(home: Path) -> Path:
    return home / ("Scripts/python.exe" if os.name == "nt" else "bin/python")
