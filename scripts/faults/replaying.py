"""What recorded calls did to a folder, as changes of a disk that knows what was synced."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from disks import Disk, Named, Node, Sized, Written, contents_of
from recording import Call, File

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

__all__ = ["Replay"]

_SAME = {
    "openat": "open", "creat": "open", "mkdirat": "mkdir", "rmdir": "unlink", "unlinkat": "unlink",
    "renameat": "rename", "renameat2": "rename", "fdatasync": "fsync", "syncfs": "sync",
    "pwrite64": "pwrite",
}  # fmt: skip


class Replay:
    """A folder before calls are made that change it, and then what they did to it.

    Attributes
    ----------
    disk : Disk
        The folder before, between and after.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._positions: dict[File, int] = {}
        self.disk = Disk(folder)

    def run(self, calls: Iterable[Call]) -> None:
        """Do what the calls did; :class:`ValueError` where that does not give what is there."""
        for call in calls:
            if call.result >= 0:
                getattr(self, f"_{_SAME.get(call.name, call.name)}", self._refuse)(call)
        told, there = self.disk.now.contents(), contents_of(self._folder)
        if differ := [path for path in told | there if told.get(path, 0) != there.get(path, 0)]:
            raise ValueError(f"the record and the folder disagree about {', '.join(differ)}")

    def _inside(self, path: str) -> str | None:
        """Return a path as it is in the folder; "" is the folder, None what is elsewhere."""
        inside = os.path.relpath(path or "/", self._folder)
        if inside == ".":
            return ""
        return None if inside.split("/")[0] == ".." else inside

    def _node(self, path: str) -> Node | None:
        """Return what a path means, if it is in the folder."""
        inside = self._inside(path)
        if not inside:
            return None if inside is None else self.disk.now.root
        folder, name = self.disk.now.place(inside)
        return self.disk.now.folders[folder].get(name)

    def _place(self, path: str) -> tuple[Node, str] | None:
        """Return the folder and the name that a path means, if it is in the folder."""
        inside = self._inside(path)
        return self.disk.now.place(inside) if inside else None

    def _refuse(self, call: Call) -> None:
        """Raise where a call that is not modelled was about the folder."""
        about = [*call.paths, *(file.path for file in call.files)]
        if any(self._inside(path) is not None for path in about):
            raise ValueError(f"{call.name} with {call.flags} is not modelled")

    # What each call does: methods by their names -------------------------------------------------

    def _open(self, call: Call) -> None:
        place = self._place(call.paths[0])
        if place is None:
            return
        if "O_APPEND" in call.flags or "SYNC" in call.flags:
            self._refuse(call)
        node = self._node(call.paths[0])
        if node is None:
            node = Node(is_folder=False)
            self.disk.add(Named((place[0],), call.begun, call.ended, {place: node}))
        if "O_TRUNC" in call.flags:
            self._resize(call, node, 0)
        self._positions[File(str(call.result), call.paths[0])] = 0

    def _mkdir(self, call: Call) -> None:
        if place := self._place(call.paths[0]):
            new = {place: Node(is_folder=True)}
            self.disk.add(Named((place[0],), call.begun, call.ended, new))

    def _unlink(self, call: Call) -> None:
        place, node = self._place(call.paths[0]), self._node(call.paths[0])
        if place and node:
            self.disk.add(Named((place[0],), call.begun, call.ended, {}, node))

    def _rename(self, call: Call) -> None:
        old, new = map(self._place, call.paths)
        moved, instead = map(self._node, call.paths)
        if not (old and new and moved):
            self._refuse(call)
            return
        put = {new: moved}
        if instead and "RENAME_EXCHANGE" in call.flags:
            put[old] = instead
        self.disk.add(Named((old[0], new[0]), call.begun, call.ended, put))

    def _ftruncate(self, call: Call) -> None:
        if node := self._node(call.files[0].path):
            self._resize(call, node, call.numbers[0])

    def _fallocate(self, call: Call) -> None:
        if node := self._node(call.files[0].path):
            if call.flags:
                self._refuse(call)
            _, start, length = call.numbers
            self._resize(call, node, max(self.disk.now.sizes[node], start + length))

    def _write(self, call: Call) -> None:
        if node := self._node(call.files[0].path):
            position = self._positions[call.files[0]]
            self._positions[call.files[0]] += call.result
            self._put(call, node, position, call.data)

    def _pwrite(self, call: Call) -> None:
        if node := self._node(call.files[0].path):
            self._put(call, node, call.numbers[1], call.data)

    def _copy_file_range(self, call: Call) -> None:
        source, target = (self._node(file.path) for file in call.files)
        if target is None:
            return
        if source is None or call.flags:
            self._refuse(call)
            return
        start, to, *_ = call.numbers
        self._put(call, target, to, self.disk.now.read(source)[start : start + call.result])

    def _fsync(self, call: Call) -> None:
        if node := self._node(call.files[0].path):
            self.disk.sync(node, call.begun, call.ended)

    def _sync(self, call: Call) -> None:
        self.disk.sync(None, call.begun, call.ended)

    def _resize(self, call: Call, node: Node, size: int) -> None:
        if size != self.disk.now.sizes[node]:
            self.disk.add(Sized((node,), call.begun, call.ended, size))

    def _put(self, call: Call, node: Node, offset: int, data: bytes) -> None:
        self.disk.add(Written((node,), call.begun, call.ended, offset, data))
        self._resize(call, node, max(self.disk.now.sizes[node], offset + len(data)))
