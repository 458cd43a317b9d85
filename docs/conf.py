import dataclasses
from typing import Any

import mmcache

project = "mmcache"
author = "the authors of mmcache"
copyright = author
version = release = mmcache.__version__

extensions = ["myst_nb", "sphinx.ext.autodoc", "sphinx.ext.napoleon"]
exclude_patterns = ["_build"]
html_theme = "furo"
html_title = f"mmcache {release}"
myst_heading_anchors = 3
nb_execution_mode = "off"  # notebooks are shown as they were committed; tests execute them anew

autodoc_member_order = "bysource"
autodoc_typehints = "none"  # the docstrings say them, with shapes and units
autodoc_preserve_defaults = True
autodoc_mock_imports = [
    "anywidget",
    "keras",
    "tensorflow",
    "torch",
    "traitlets",
]  # what is said needs none of them
napoleon_google_docstring = False
napoleon_use_ivar = True
napoleon_use_rtype = False
napoleon_attr_annotations = False
napoleon_preprocess_types = True


def before_napoleon(*event: Any) -> None:
    """Mend what napoleon would read otherwise, and add what docstrings need not repeat."""
    _app, what, _name, documented, _options, lines = event
    if what == "property" and lines:
        # It would take what stands before a colon for a type; but not behind an empty comment.
        lines[:0] = ["..", ""]
    if documented is mmcache.Recipe:
        # Its settings explain themselves, once for this page and for the command line.
        lines += ["", "Attributes", "----------"]
        for one in dataclasses.fields(mmcache.Recipe):
            lines += [one.name, f"    {one.metadata['help']}; by default ``{one.default!r}``"]


def setup(app: Any) -> None:
    """Be called before napoleon, which has priority 500."""
    app.connect("autodoc-process-docstring", before_napoleon, priority=400)
