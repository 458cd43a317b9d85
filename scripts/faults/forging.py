"""A cache in the hands of someone who knows how it is sealed: all digests become right."""

from __future__ import annotations

import hashlib
import json
import math
import os
from typing import TYPE_CHECKING, Any

import google_crc32c
import numpy as np

from mmcache.recipe import Recipe
from mmcache.stores.digests import content_digest, file_frames
from mmcache.stores.frame import FRAME_FILE, GROUP_FILE, Frame, file_of, read_frame, signpost

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray

__all__ = ["CANARY", "ODD", "SECRET", "Forgery", "nested", "sealed"]

SECRET = b"what nobody may read "
CANARY = "code has run"
"""The name of a file beside the cache that only an attacker's code would write."""

ODD = [
    None, True, -1, 0, 1, 7, 2**31, 2**62, 2**63 - 1, 2**64, 10**400, 1.5, math.nan, math.inf, "",
    "\ud800", "\0", "x" * 100_000, "../secret", "/dev/zero", "O", "<M8[ns]", "|V8", "<i4,<i8", [],
    [[]], [None], {}, {"x": 1}, [0] * 1000, [2**40, 2**40], [0, 10**400],
    ["../secret", 0, 8],
]  # fmt: skip
"""What may stand in place of anything."""


class Forgery:
    """A copy of a good cache, to be changed and sealed again; *outside* is a folder beside it."""

    def __init__(self, path: Path, outside: Path) -> None:
        self.path, self.outside = path, outside
        frame = read_frame(path)
        self.store = frame.store
        self.plain: dict[str, Any] = json.loads(frame.to_bytes())
        self.sealed_already = False
        self.document = b""  # in place of the frame, where an attack writes one of its own
        if frame.trailing:  # the frame is cut off, and written anew at the end
            os.truncate(path, path.stat().st_size - frame.trailing)

    def file(self, name: str) -> Path:
        """Return where a file is."""
        return file_of(self.path, name)

    def secret_like(self, name: str) -> Path:
        """Write a secret outside that is as long as a file of the cache, and return where."""
        secret = self.outside / "secret"
        length = self.file(name).stat().st_size
        secret.write_bytes((SECRET * (1 + length // len(SECRET)))[:length])
        return secret

    def array(self, name: str) -> NDArray[Any]:
        """Return a copy of an array, flat."""
        one = self.plain["arrays"][name]
        if not one["segments"]:
            return np.empty(0, one["dtype"])
        file, offset, length = one["segments"][0]
        data = self.file(file).read_bytes()[offset : offset + length]
        return np.frombuffer(data, one["dtype"]).copy()

    def put(self, name: str, array: NDArray[Any]) -> None:
        """Write an array where it was."""
        for file, offset, _ in self.plain["arrays"][name]["segments"]:
            self.write(file, offset, array.tobytes())

    def write(self, name: str, offset: int, data: bytes) -> None:
        """Write bytes into a file."""
        with self.file(name).open("r+b") as file:
            file.seek(offset)
            file.write(data)

    # Digests -------------------------------------------------------------------------------------

    def digest(self) -> None:
        """Bring all digests and lengths in the frame in line with what is in the files now."""
        self._checksums()
        arrays = self.plain["arrays"]
        for name, one in arrays.items():
            if name != "pixels":
                one["sha256"] = hashlib.sha256(self.array(name).tobytes()).hexdigest()
        framed = Frame.from_bytes(sealed(self.plain), self.path)
        records = self.array("records").reshape(-1, 4)
        told = file_frames(self.path, framed.arrays, self._sensible(records))
        own = {
            name: vars(one) for name, one in told.items() if name not in (FRAME_FILE, GROUP_FILE)
        }
        self.plain["files"] |= own
        recipe, classes = Recipe.from_json(self.plain["recipe"]), self.plain["classes"]
        self.plain["content"] = content_digest(recipe.fingerprint, classes, framed.arrays)

    def _checksums(self) -> None:
        checksums = self.array("checksums")
        pixels = b"".join(
            self.file(file).read_bytes()[offset : offset + length]
            for file, offset, length in self.plain["arrays"]["pixels"]["segments"]
        )
        records = self.array("records").reshape(-1, 4).tolist()
        for row, (offset, *edges) in enumerate(records):
            length = math.prod(edges)
            if 0 <= offset <= offset + length <= len(pixels):
                checksums[row] = google_crc32c.value(pixels[offset : offset + length])
        self.put("checksums", checksums)

    def _sensible(self, records: NDArray[np.int64]) -> NDArray[np.int64]:
        """Return the rows that lie one behind the other, of which digests can be made."""
        rows, end = [], 0
        for row in records.tolist():
            length = math.prod(row[1:])
            if min(row) >= 0 and end <= row[0] < 1 << 40 and 0 < length < 1 << 40:
                rows.append(row)
                end = row[0] + length
        return np.array(rows, np.int64).reshape(-1, 4)

    def seal(self) -> None:
        """Write the frame where one is, under its own digest."""
        document = self.document or sealed(self.plain)
        if self.store == "hdf5":
            with self.path.open("ab") as file:
                file.write(document)
        elif self.store == "zarr":
            self.file(GROUP_FILE).write_bytes(self._grouped(document))
        else:
            self.file(FRAME_FILE).write_bytes(document)

    def _grouped(self, document: bytes) -> bytes:
        group = {"zarr_format": 3, "node_type": "group", "attributes": {"mmcache": "here"}}
        inner = document.rstrip().replace(b"\n", b"\n  ")
        return json.dumps(group, indent=1).encode().replace(b'"here"', inner) + b"\n"

    def moved_end(self) -> None:
        """Tell where the HDF5 data end by now."""
        end = self.path.stat().st_size
        self.write(self.path.name, 0, signpost(end))


def sealed(plain: dict[str, Any], here: bytes = b"") -> bytes:
    """Return a frame's document: JSON whose last entry is the digest of the rest.

    Some text may stand *here*, in place of the string of that name.
    """
    plain = {name: value for name, value in plain.items() if name != "sha256"}
    body = json.dumps(plain, indent=1).encode().replace(b'"here"', here or b'"here"')
    digest = hashlib.sha256(body).hexdigest()
    return body.removesuffix(b"\n}") + b',\n "sha256": "%s"\n}\n' % digest.encode()


def nested(depth: int) -> list[Any]:
    """Return a list in a list in a list."""
    whole: list[Any] = []
    for _ in range(depth):
        whole = [whole]
    return whole
