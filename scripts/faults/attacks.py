"""What an attacker makes of a cache: anything, under digests that are right.

An attack gets a cache to write to and chance, and returns in words what it did.
"""

from __future__ import annotations

import math
import os
import stat
from typing import TYPE_CHECKING, Any

import numpy as np
from features import a_header, a_zarr_feature, an_hdf5_feature
from forging import ODD, nested, sealed

from mmcache.stores.frame import FRAME_FILE, GROUP_FILE, PAGE

if TYPE_CHECKING:
    import random
    from collections.abc import Callable
    from pathlib import Path

    from forging import Forgery

__all__ = ["attacks_of"]

LARGE = 33_000_000  # bytes, about as many as a frame may have
WORDS = [0, -1, 1, 3, 255, 2**31 - 1, 2**32, 2**62, 2**63 - 1, -(2**63)]


# The frame ----------------------------------------------------------------------------------------


def a_value(forgery: Forgery, chance: random.Random) -> str:
    """Put something odd in place of a value, however deep."""
    inside: Any = forgery.plain
    path = []
    while True:
        names = list(inside) if isinstance(inside, dict) else range(len(inside))
        path.append(chance.choice(names))
        value = inside[path[-1]]
        if not isinstance(value, (dict, list)) or not value or not chance.randrange(5):
            break
        inside = value
    odd = chance.choice([*ODD, nested(chance.choice([50, 500]))])
    inside[path[-1]] = odd
    return f"{path} is {odd!r:.60}"


def a_name(forgery: Forgery, chance: random.Random) -> str:
    """Leave an entry out, call it otherwise, or add one that nobody knows."""
    tables = [forgery.plain, *forgery.plain["arrays"].values()]
    tables += [forgery.plain[name] for name in ("recipe", "counts", "arrays", "files", "libraries")]
    table = chance.choice(tables)
    name = chance.choice(list(table))
    how = chance.choice(["dropped", "renamed", "added"])
    if how == "added":
        new = ["x", "", "\0", "pixels ", "../../evil", "value_range", "frame", "icc", name + "x"]
        table[chance.choice(new)] = chance.choice([*ODD, value_of(table, chance)])
    else:
        value = table.pop(name)
        if how == "renamed":
            table[chance.choice(["x", name.upper(), "../" + name])] = value
    return f"{name} {how}"


def value_of(table: dict[str, Any], chance: random.Random) -> Any:
    """Return a value that is in a table already."""
    return table[chance.choice(list(table))]


def a_place(forgery: Forgery, chance: random.Random) -> str:
    """Let an array have another shape, dtype or place than it has."""
    name = chance.choice([*forgery.plain["arrays"], *["pixels", "records", "keys"] * 3])
    one = forgery.plain["arrays"][name]
    size = math.prod(one["shape"])
    file, offset, length = one["segments"][0] if one["segments"] else [name, 0, 0]
    other = chance.choice(
        [other for other in forgery.plain["arrays"].values() if other["segments"]]
    )
    half = length // 2
    end = forgery.plain["files"].get(file, {}).get("length", 0)
    changes: list[dict[str, Any]] = [
        {"shape": chance.choice([[size], [1, size], [size, 1], [*one["shape"][::-1]], [0],
                                 [0, 2**70], [-1, -size], [], [2**32, 2**32], [*one["shape"], 1]])},
        {"dtype": chance.choice(["|O", "O", "<f8", ">i8", "<M8[ns]", "|V8", "|S8", "<i4", "|b1",
                                 "<c16", "<u2", "i8", "<i8 ", [["a", "<i4"], ["b", "<i4"]]])},
        {"segments": [[file, end - length + chance.choice([0, 1, 7]), length]]},
        {"segments": [[file, chance.choice([0, 1, PAGE, offset + 1, 2**63]), length]]},
        {"segments": [[file, offset, half], [file, offset + half, length - half]]},
        {"segments": [[file, offset, 1]] * min(length, 3000)},
        {"segments": [], "shape": [0, *one["shape"][1:]]},
        {"segments": [[file, offset, 0]], "shape": [0, *one["shape"][1:]]},
        {"segments": one["segments"] * 2, "shape": [2 * one["shape"][0], *one["shape"][1:]]},
        {"segments": one["segments"][::-1]},
        other,
    ]  # fmt: skip
    change = chance.choice(changes)
    one |= change
    if chance.randrange(2):  # and nothing else contradicts it
        forgery.plain["counts"]["rows"] = (one["shape"] or [0])[0]
    return f"{name} with {change!r:.200}"


def a_document(forgery: Forgery, chance: random.Random) -> str:
    """Write a frame that is enormous, endlessly deep, or not quite JSON."""
    plain = forgery.plain | {"classes": "here"}
    forgery.document, what = chance.choice(
        [
            lambda: (b"[" * LARGE, "a level a byte"),
            lambda: (b'{"a":' * (LARGE // 5), "a level five bytes"),
            lambda: (b"[" + b"1," * (LARGE // 2) + b"1]", "a long list"),
            lambda: (b"[" + b"[]," * (LARGE // 3) + b"1]", "many lists"),
            lambda: (b'{"a":"' + b"\\u0000" * (LARGE // 6) + b'"}', "a long string"),
            lambda: (sealed(plain, b"[" + b"1," * (LARGE // 2) + b"1]"), "many numbers"),
            lambda: (sealed(plain, b"[" + b"[]," * 500_000 + b"1]"), "half a million lists"),
            lambda: (sealed(plain, b'["x"' + b',"x"' * 1_900_000 + b"]"), "many classes"),
            lambda: (
                sealed(plain, b'["\\ud83d\\ude00' + b"x" * LARGE + b'"]'),
                "a wide class",
            ),
            lambda: (sealed(plain, b"[" * 900 + b"]" * 900), "900 levels"),
            lambda: (
                sealed(forgery.plain).replace(b'"slab"', b'"slab": 1, "slab"'),
                "a name twice",
            ),
            lambda: (sealed(forgery.plain) + sealed(forgery.plain), "two frames"),
            lambda: (b"1" * LARGE, "a long number"),
            lambda: (b"\xff\xfe" * 1000, "no text"),
        ]
    )()
    return what


def a_file_name(forgery: Forgery, chance: random.Random) -> str:
    """Call a file by a name that leads out of the cache, or that none can have."""
    old = chance.choice(list(forgery.plain["files"]))
    secret = forgery.secret_like(old)
    if forgery.path.is_dir():
        (forgery.path / "link").symlink_to(secret)
        (forgery.path / "folder").symlink_to(forgery.outside)
    new = chance.choice(
        ["../outside/secret", str(secret), f"/{secret}", "/dev/zero", "/proc/self/mem", "a\0b",
         "link", "folder/secret", "./link", "folder/../link", "x" * 5000, "a/" * 3000 + "b", "..",
         ".", "", "\ud800", "a\\b", "..\\..\\secret", "C:\\secret", "CON", "folder"]
    )  # fmt: skip
    forgery.plain["files"][new] = forgery.plain["files"].pop(old)
    for one in forgery.plain["arrays"].values():
        one["segments"] = [[new if file == old else file, *rest] for file, *rest in one["segments"]]
    return f"{old} is called {new!r:.60}"


# The files ----------------------------------------------------------------------------------------


def an_index(forgery: Forgery, chance: random.Random) -> str:
    """Write other numbers into an index array."""
    arrays = [name for name in forgery.plain["arrays"] if name != "pixels"]
    often = ["records", "key_offsets", "key_order", "failure_key_offsets", "failure_reason_offsets"]
    name = chance.choice([*arrays, *often * 3])
    array = forgery.array(name)
    if not len(array):
        return f"nothing in {name}"
    places = chance.sample(
        range(len(array)), chance.choice([1, 1, 2, len(array)]) % (len(array) + 1)
    )
    low, high = np.iinfo(array.dtype).min, np.iinfo(array.dtype).max
    for place in places:
        word = chance.choice([*WORDS, int(array[place]) + 1, int(chance.choice(array)), high])
        array[place] = min(max(word, low), high)
    forgery.put(name, array)
    forgery.digest()
    return f"{name} has {array[places[:4]].tolist()} at {places[:4]}"


def a_link(forgery: Forgery, chance: random.Random) -> str:
    """Put a link, a FIFO, a device or a folder where a file is, its frame perhaps."""
    own = {"npy": FRAME_FILE, "zarr": GROUP_FILE}.get(forgery.store, forgery.path.name)
    name = chance.choice([own, *forgery.plain["files"]])
    file = forgery.file(name)
    secret = forgery.secret_like(name)
    framed = file == forgery.file(own)
    if framed:
        forgery.seal()
        secret.write_bytes(file.read_bytes())
    # A cache of one file may itself stand behind a link.
    how = chance.choice([how for how in SPECIAL if forgery.path.is_dir() or "link" not in how])
    file.unlink()
    SPECIAL[how](file, secret)
    forgery.sealed_already = framed
    return f"{name} is {how}"


def _device(number: int) -> Callable[[Path, Path], None]:
    return lambda file, _: os.mknod(file, stat.S_IFCHR | 0o600, os.makedev(1, number))


def _linked_folder(file: Path, secret: Path) -> None:
    """Let the folder of a file be a link, where it has one."""
    secret.rename(secret.with_name(file.name))
    if "." in file.parent.name:  # the cache itself
        file.symlink_to(secret.with_name(file.name))
    else:
        file.parent.rename(file.parent.with_name("moved"))
        file.parent.symlink_to(secret.parent)


SPECIAL: dict[str, Callable[[Path, Path], None]] = {
    "a link to a secret": lambda file, secret: file.symlink_to(secret),
    "a link to zeros": lambda file, _: file.symlink_to("/dev/zero"),
    "a link to itself": lambda file, _: file.symlink_to(file.name),
    "a link to memory": lambda file, _: file.symlink_to("/proc/self/mem"),
    "behind a linked folder": _linked_folder,
    "a FIFO": lambda file, _: os.mkfifo(file),
    "a folder": lambda file, _: file.mkdir(),
    "endless zeros": _device(5),
    "a terminal": lambda file, _: os.mknod(file, stat.S_IFCHR | 0o600, os.makedev(5, 0)),
}


def attacks_of(store: str) -> dict[str, Callable[[Forgery, random.Random], str]]:
    """Return the attacks on caches of a format, by what they attack."""
    own = {
        "npy": ("a header of .npy", a_header),
        "hdf5": ("a feature of HDF5", an_hdf5_feature),
        "zarr": ("a feature of Zarr", a_zarr_feature),
    }
    return dict(
        [
            ("a value of the frame", a_value),
            ("a name in the frame", a_name),
            ("a shape, dtype or place", a_place),
            ("a frame that is none", a_document),
            ("a file's name", a_file_name),
            ("numbers of the index", an_index),
            ("a link, FIFO or device", a_link),
            own[store],
        ]
    )
