"""The modules that are made for a library, which need not be installed here."""

import importlib.util
import pkgutil

import mmcache

LIBRARIES = ("keras", "tensorflow", "torch")
"""Each module of mmcache that needs a library bears its name."""


def modules():
    """Return the names of all modules of mmcache that can be imported here."""
    missing = {f"mmcache.{name}" for name in LIBRARIES if importlib.util.find_spec(name) is None}
    found = {one.name for one in pkgutil.walk_packages(mmcache.__path__, "mmcache.")}
    return sorted(name for name in found if ".".join(name.split(".")[:2]) not in missing)
