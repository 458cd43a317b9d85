"""The surface: what `import mmcache` gives, whatever else was imported."""

import ast
import importlib
import importlib.util
import inspect
import pickle
import subprocess
import sys
from pathlib import Path

import pytest
from rooms import LIBRARIES, modules

import mmcache
from mmcache import errors

MODULES = [name for name in modules() if "__main__" not in name]


def run(code):
    """Run *code* in a bare Python, and return what it printed."""
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", code], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.split()


def test_the_package_has_modules():
    assert {"mmcache.cache", "mmcache.stores.npy", "mmcache.testing"} <= set(MODULES)


@pytest.mark.parametrize("module", MODULES)
def test_every_module_imports_says_what_it_is_for_and_what_it_exports(module):
    imported = importlib.import_module(module)
    assert imported.__doc__
    assert all(hasattr(imported, name) for name in imported.__all__)


@pytest.mark.parametrize(("module", "library"), LIBRARIES.items())
def test_a_module_whose_library_is_missing_says_in_one_sentence_what_to_install(module, library):
    said = run(
        f"import sys; sys.modules[{library!r}] = None\n"  # as if it were not installed
        "import mmcache\n"
        f"try: import mmcache.{module}\n"
        "except mmcache.MissingLibraryError as error: print(error)"
    )
    assert said[:2] == [f"mmcache.{module}", "needs"]
    assert "pip install" in " ".join(said)


@pytest.mark.parametrize("room", sorted(mmcache._ROOMS))
def test_a_room_of_another_library_is_there_when_it_is_asked_for(room):
    library = LIBRARIES.get(room, "numpy")
    if importlib.util.find_spec(library) is None:
        with pytest.raises(mmcache.MissingLibraryError, match="pip install"):
            getattr(mmcache, room)
        return
    said = run(
        "import sys, mmcache\n"
        f"print('mmcache.{room}' in sys.modules, {library!r} in sys.modules)\n"
        "import warnings; warnings.simplefilter('ignore')\n"  # of the library's own
        f"print(mmcache.{room}.__name__)\n"
    )
    assert said == ["False", "False", f"mmcache.{room}"]


def test_every_room_of_another_library_is_among_them():
    assert set(LIBRARIES) - {"widget"} <= mmcache._ROOMS


def test_no_module_shadows_a_public_name():
    names = run(
        "import importlib, mmcache\n"
        "before = {name: getattr(mmcache, name) for name in mmcache.__all__}\n"
        f"for module in {MODULES}: importlib.import_module(module)\n"
        "for name, was in before.items():\n"
        "    if getattr(mmcache, name) is not was: print(name)\n"
    )
    assert names == []


def test_no_module_shadows_a_public_name_that_is_asked_for_afterwards():
    names = run(
        "import importlib, types, mmcache\n"
        f"for module in {MODULES}: importlib.import_module(module)\n"
        "for name in mmcache.__all__:\n"
        "    if isinstance(getattr(mmcache, name), types.ModuleType): print(name)\n"
    )
    assert names == []


def test_all_is_what_is_exported_and_what_dir_shows():
    shown = run("import mmcache; print(*(n for n in dir(mmcache) if n[0] != '_'))")
    assert shown == sorted(mmcache.__all__) == list(mmcache.__all__)
    tree = ast.parse(Path(mmcache.__file__).read_text("utf-8"))
    (typed,) = (node for node in tree.body if isinstance(node, ast.If))
    # What a type checker sees is what is there when the program runs.
    told = [
        alias.asname or alias.name
        for line in typed.body
        if isinstance(line, ast.ImportFrom)
        for alias in line.names
    ]
    assert sorted(told) == sorted(mmcache.__all__)


def test_a_name_that_is_not_there_is_an_attribute_error_that_names_it():
    with pytest.raises(AttributeError, match="'mmcache' has no attribute 'bild'"):
        _ = mmcache.bild


def test_star_import_gives_the_surface():
    names = run("from mmcache import *; print(*(n for n in dir() if n[0] != '_'))")
    assert names == sorted(mmcache.__all__)


def test_import_is_light():
    imported = run("import sys, mmcache; print(*sys.modules)")
    heavy = {"numpy", "PIL", "h5py", "zarr", "tqdm", "argparse", "torch", "mmcache.cache"}
    assert heavy & set(imported) == set()


@pytest.mark.parametrize("name", mmcache.__all__)
def test_everything_public_says_what_it_is(name):
    public = getattr(mmcache, name)
    assert inspect.getdoc(public)
    # Not the signature that a dataclass writes where nothing else stands.
    assert not public.__doc__.startswith(f"{name}(")
    members = vars(public).items() if isinstance(public, type) else ()
    for member, value in members:
        called = isinstance(value, (property, classmethod, staticmethod)) or inspect.isfunction(
            value
        )
        if called and not member.startswith("_"):
            assert inspect.getdoc(value), f"{name}.{member}"


def test_every_word_of_a_signature_stands_in_its_docstring():
    for function in (
        mmcache.build, mmcache.plan, mmcache.apply, mmcache.show, mmcache.explain, mmcache.verify,
        mmcache.compare, mmcache.convert, mmcache.export, mmcache.discard, mmcache.buckets,
        mmcache.split, mmcache.browse, mmcache.stats, mmcache.duplicates, mmcache.report,
    ):  # fmt: skip
        for parameter in inspect.signature(function).parameters:
            assert parameter in function.__doc__, (function.__name__, parameter)


ERRORS = [
    errors.MmcacheError("why"),
    errors.SettingError("why"),
    errors.SourceError("why"),
    errors.SourceNotFoundError("why"),
    errors.DestinationError("why"),
    errors.NoSpaceError("why", needed=3, free=2),
    errors.BusyError("why"),
    errors.TooManyFilesError("why"),
    errors.CacheNotFoundError("why"),
    errors.DamagedCacheError("why"),
    errors.DifferentCacheError("why"),
    errors.MissingLibraryError("why"),
    errors.ShapesDifferError("why"),
    errors.SelectionError("why"),
    errors.RowError("why"),
    errors.UnknownKeyError("why"),
    errors.PictureError("a.jpg", "decode", "why"),
    errors.TooManyFailuresError("why", ("a.jpg",)),
    errors.WorkerError("why"),
]


def test_every_error_is_public_and_is_in_this_list():
    made = {type(error).__name__ for error in ERRORS} | {
        "PicturesSkippedWarning",
        "SmallBucketWarning",
    }
    assert (
        made
        == set(errors.__all__)
        == {n for n in mmcache.__all__ if n.endswith(("Error", "Warning"))}
    )


@pytest.mark.parametrize("error", ERRORS, ids=lambda error: type(error).__name__)
def test_an_error_is_ours_prints_its_sentence_and_travels(error):
    again = pickle.loads(pickle.dumps(error))
    for one in (error, again):
        assert isinstance(one, mmcache.MmcacheError)
        assert str(one) == ("a.jpg: why" if isinstance(one, errors.PictureError) else "why")
    assert type(again) is type(error)
    assert vars(again) == vars(error)


@pytest.mark.parametrize(
    ("name", "builtin"),
    [
        ("SettingError", ValueError),
        ("SourceError", ValueError),
        ("SourceNotFoundError", FileNotFoundError),
        ("DestinationError", FileExistsError),
        ("NoSpaceError", OSError),
        ("TooManyFilesError", OSError),
        ("BusyError", OSError),
        ("CacheNotFoundError", FileNotFoundError),
        ("DamagedCacheError", ValueError),
        ("DifferentCacheError", ValueError),
        ("MissingLibraryError", ImportError),
        ("ShapesDifferError", ValueError),
        ("SelectionError", TypeError),
        ("RowError", IndexError),
        ("UnknownKeyError", KeyError),
        ("PictureError", OSError),
        ("TooManyFailuresError", OSError),
        ("WorkerError", RuntimeError),
    ],
)
def test_an_error_is_the_builtin_that_a_caller_would_expect(name, builtin):
    assert issubclass(getattr(mmcache, name), builtin)


def test_the_values_of_an_error_are_attributes():
    room = errors.NoSpaceError("why", needed=3, free=2)
    assert (room.needed, room.free) == (3, 2)
    picture = errors.PictureError("a.jpg", "decode", "why")
    assert (picture.key, picture.stage, picture.reason) == ("a.jpg", "decode", "why")
