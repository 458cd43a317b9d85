"""The modules that are made for a library, which need not be installed here."""

import importlib.util
import pkgutil

import mmcache

LIBRARIES = {"keras": "keras", "tensorflow": "tensorflow", "torch": "torch", "widget": "anywidget"}
"""The modules of mmcache that need a library to be imported, and that library."""


def modules():
    """Return the names of all modules of mmcache that can be imported here."""
    missing = {
        f"mmcache.{module}"
        for module, library in LIBRARIES.items()
        if importlib.util.find_spec(library) is None
    }
    found = {one.name for one in pkgutil.walk_packages(mmcache.__path__, "mmcache.")}
    return sorted(name for name in found if ".".join(name.split(".")[:2]) not in missing)
