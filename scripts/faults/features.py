"""What a format's library would follow out of a cache, would run, or would choke on."""

from __future__ import annotations

import io
import json
import os
import pickle
from typing import TYPE_CHECKING, Any

import google_crc32c
import h5py
import numpy as np
from forging import CANARY, ODD, nested

from mmcache.stores.frame import PAGE

if TYPE_CHECKING:
    import random
    from pathlib import Path

    from forging import Forgery

__all__ = ["a_header", "a_zarr_feature", "an_hdf5_feature"]

SHAPES = [[2**60], [2**31] * 9, [-1], [0], [1], "x", []]


def a_header(forgery: Forgery, chance: random.Random) -> str:
    """Write a header of .npy, or something quite different, before or over an array."""
    name = chance.choice(list(forgery.plain["files"]))
    evil = pickle.dumps(Payload(forgery.path.parent / CANARY))
    objects = io.BytesIO()
    np.lib.format.write_array_header_1_0(
        objects, {"descr": "|O", "fortran_order": False, "shape": (1,)}
    )
    data = chance.choice(
        [
            objects.getvalue().ljust(PAGE)[: PAGE - 1] + b"\n" + evil,
            objects.getvalue() + evil,
            evil,
            b"\x93NUMPY\x02\0\xff\xff\xff\xff{",
            b"\x93NUMPY\x03\0\x10\0\0\0" + b"(" * 60_000,
            b"\x93NUMPY\x01\0\x76\0{'descr': '<i8', 'fortran_order': False, 'shape': (2**99,)}",
            b"PK\x03\x04" + bytes(100),
        ]
    )
    length = forgery.plain["files"][name]["length"]
    forgery.write(name, 0, data[:length])
    forgery.digest()
    return f"{name} begins with {data[:30]!r}"


class Payload:
    """What runs code when it is unpickled."""

    def __init__(self, canary: Path) -> None:
        self.canary = canary

    def __reduce__(self) -> tuple[Any, ...]:
        return os.mkdir, (str(self.canary),)


def an_hdf5_feature(forgery: Forgery, chance: random.Random) -> str:
    """Let a dataset lie elsewhere, or be of a kind that a cache has not."""
    name = chance.choice(["pixels", *forgery.plain["arrays"]])
    one = forgery.plain["arrays"][name]
    shape, dtype = tuple(one["shape"]), np.dtype(one["dtype"])
    secret = forgery.secret_like(forgery.path.name)
    how = chance.choice(
        ["external", "link", "soft", "virtual", "filter", "chunks", "group", "vlen"]
    )
    with h5py.File(forgery.path, "r+") as file:
        file.move(name, "moved")  # its bytes stay where they are
        if how == "external":
            file.create_dataset(name, shape, dtype, external=[(str(secret), 0, h5py.h5f.UNLIMITED)])
        elif how == "link":
            file[name] = h5py.ExternalLink(str(secret), "x")
        elif how == "soft":
            file[name] = h5py.SoftLink(f"/{name}")
        elif how == "virtual":
            layout = h5py.VirtualLayout(shape, dtype)
            layout[...] = h5py.VirtualSource(str(secret), "x", shape, dtype)
            file.create_virtual_dataset(name, layout)
        elif how == "group":
            file.create_group(name)
        elif how == "vlen":
            file.create_dataset(name, (3,), h5py.vlen_dtype(np.dtype("u1")))
        else:
            made = h5py.h5p.create(h5py.h5p.DATASET_CREATE)
            made.set_chunk(tuple(max(1, edge) for edge in shape))
            if how == "filter":
                made.set_filter(32_015, h5py.h5z.FLAG_OPTIONAL, (1, 2))
            kind = h5py.h5t.py_create(dtype, logical=True)
            h5py.h5d.create(file.id, name.encode(), kind, h5py.h5s.create_simple(shape), dcpl=made)
    forgery.moved_end()
    forgery.digest()
    return f"{name}: {how}"


def a_zarr_feature(forgery: Forgery, chance: random.Random) -> str:
    """Describe an array as no cache has it."""
    name = chance.choice(["pixels", *forgery.plain["arrays"]])
    file = forgery.path / name / "zarr.json"
    plain = json.loads(file.read_bytes())
    odd_shape = chance.choice(SHAPES)
    changes: list[dict[str, Any]] = [
        {"codecs": [{"name": chance.choice(["evil", "numcodecs.pickle", "gzip", "os.system"])}]},
        {"codecs": [{"name": "bytes", "configuration": {"endian": chance.choice(ODD)}}]},
        {"codecs": []},
        {"codecs": [{"name": "bytes"}] * 100},
        {"storage_transformers": [{"name": "evil"}]},
        {"evil": {"name": "evil", "must_understand": True}},
        {"data_type": chance.choice([{"name": "numpy.object"}, "string", "r99999999", "float64"])},
        {"shape": odd_shape},
        {"fill_value": chance.choice(ODD)},
        {"chunk_key_encoding": {"name": "v2", "configuration": {"separator": "/../../outside/"}}},
        {"chunk_grid": plain["chunk_grid"] | {"configuration": {"chunk_shape": odd_shape}}},
        {"node_type": "group"},
        {"zarr_format": chance.choice([2, 4, None])},
        {"attributes": {"x": nested(400)}},
    ]  # fmt: skip
    change = chance.choice([*changes, {}, {}])
    what = f"{name}: {change!r:.80}"
    if change:
        file.write_text(json.dumps(plain | change))
    else:
        what = chance.choice([_old_metadata, _shard_index])(forgery, chance)
    forgery.digest()
    return what


def _old_metadata(forgery: Forgery, chance: random.Random) -> str:
    """Describe an array as the older version of Zarr did, which knew of pickles."""
    name = chance.choice(list(forgery.plain["arrays"]))
    old = {
        "zarr_format": 2, "shape": [1], "chunks": [1], "dtype": "|O", "order": "C",
        "fill_value": None, "compressor": None, "filters": [{"id": "pickle", "protocol": 5}],
    }  # fmt: skip
    (forgery.path / name / ".zarray").write_text(json.dumps(old))
    (forgery.path / name / "0").write_bytes(pickle.dumps(Payload(forgery.path.parent / CANARY)))
    (forgery.path / ".zgroup").write_text('{"zarr_format": 2}')
    (forgery.path / name / "zarr.json").unlink()
    del forgery.plain["files"][f"{name}/zarr.json"]
    return f"{name} of version 2"


def _shard_index(forgery: Forgery, chance: random.Random) -> str:
    """Let the chunks of a shard lie anywhere, under a checksum that is right."""
    file, _, length = chance.choice(forgery.plain["arrays"]["pixels"]["segments"])
    data = forgery.file(file).read_bytes()
    whole, entries = len(data), (len(data) - length - 4) // 8 // 2 * 2
    index = np.frombuffer(data[-4 - 8 * entries : -4], "<u8").copy()
    for place in range(len(index)):
        index[place] = chance.choice([index[place], 0, 1, whole, 2**63, 2**64 - 2, index[-1]])
    data = index.tobytes()
    forgery.write(
        file, whole - 4 - len(data), data + google_crc32c.value(data).to_bytes(4, "little")
    )
    return f"shard index {index[:6].tolist()}"
