"""A virtual environment for one of the README's commands: nothing is needed but Python."""

from __future__ import annotations

import hashlib
import os
import subprocess
import sys
import venv
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
OLDEST = (3, 11)


def prepared(name: str, extras: str = "") -> Path:
    """Return the Python of the environment *name*, made and filled where it is not yet."""
    if sys.version_info < OLDEST:
        sys.exit(f"mmcache needs Python 3.11 or newer; this is {sys.version.split()[0]}")
    home = ROOT / ".venv" / name
    python = home / ("Scripts/python.exe" if os.name == "nt" else "bin/python")
    stamp = home / "installed-from"
    wanted = hashlib.sha256(
        (ROOT / "pyproject.toml").read_bytes() + sys.version.encode() + str(ROOT).encode()
    ).hexdigest()
    if stamp.exists() and stamp.read_text() == wanted:
        return python
    print(f"preparing {home.relative_to(ROOT)} (once)", flush=True)
    try:
        venv.create(home, with_pip=True, clear=True)
    except (subprocess.CalledProcessError, OSError) as error:
        sys.exit(
            "this Python cannot make virtual environments"
            f" ({error}); on Debian and Ubuntu, `apt install python3-venv` mends that"
        )
    install = [python, "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
    subprocess.run([*install, "--editable", f"{ROOT}{extras}"], check=True)
    stamp.write_text(wanted)
    return python
