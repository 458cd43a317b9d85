"""A cache of as many rows as one likes, cheaply: all records lie on the few pictures of another."""

import dataclasses
import shutil

import numpy as np

import mmcache
from mmcache.stores.frame import ArrayFrame, FileFrame
from mmcache.stores.npy import PAGE, NpyStore, npy_header

NAME = b"photo/00000000.JPG"
_TOLD = ("records", "labels", "height", "width", "orientation", "format", "mode")


def enlarge(few, path, rows):
    """Write a cache of *rows* rows: row i is picture ``i % len(few)``, called photo/0000000i.JPG.

    What tells nothing here (checksums, times, hashes) are files of holes.
    """
    path.mkdir()
    shutil.copy(few.path / "pixels.npy", path)
    frame, which = few.files.frame, np.arange(rows) % len(few)
    arrays = {name: few.files.array(name)[which] for name in _TOLD if name in frame.arrays}
    arrays["keys"] = _names(rows)
    arrays["key_offsets"] = np.arange(rows + 1, dtype="<i8") * len(NAME)
    arrays |= {name: few.files.array(name) for name in frame.arrays if name.startswith("failure")}
    NpyStore().write_arrays(path, arrays)
    shapes = {name: (one.dtype.str, one.shape) for name, one in arrays.items()}
    for name in frame.arrays.keys() - arrays.keys() - {"pixels", "key_order"}:
        shapes[name] = frame.arrays[name].dtype, (rows,)
        holes = np.dtype(shapes[name][0]).itemsize * rows
        with (path / f"{name}.npy").open("wb") as file:
            file.write(npy_header(np.dtype(shapes[name][0]), (rows,)))
            file.truncate(PAGE + holes)
    frames = {"pixels": frame.arrays["pixels"]}
    for name, (dtype, shape) in shapes.items():
        length = np.dtype(dtype).itemsize * int(np.prod(shape))
        segment = frame.arrays["pixels"].segments[0]._replace(file=f"{name}.npy", length=length)
        frames[name] = ArrayFrame(dtype, shape, (segment._replace(offset=PAGE),))
    files = {f"{name}.npy": FileFrame((path / f"{name}.npy").stat().st_size, "") for name in frames}
    counts = frame.counts | {"rows": rows}
    NpyStore().write_frame(
        path, dataclasses.replace(frame, arrays=frames, files=files, counts=counts)
    )
    return mmcache.open(path)


def _names(rows):
    names = np.tile(np.frombuffer(NAME, np.uint8), (rows, 1))
    number = np.arange(rows)
    for place in reversed(range(6, 14)):
        names[:, place] += (number % 10).astype(np.uint8)
        number //= 10
    return names.reshape(-1)
