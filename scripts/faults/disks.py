"""A disk that forgets what was not synced: what may be in a folder after a power cut.

The model: what a file holds, and how long it is, is on disk when an ``fsync`` or ``fdatasync`` of
that file has ended that began after the write had; ``sync_file_range`` is nothing. An entry of a
folder (created, renamed, exchanged, removed) is on disk when the folder was synced; a rename
happened or did not, in both its folders. Anything else that was called before the cut may be on
disk or not, each by itself, whatever came before it: see :class:`Luck`. Pages without data are
zeros.

Not modelled: pages torn within their 4 KiB, stale bytes in place of zeros, disks that lie about
what they have, hard links, times and permissions.
"""

from __future__ import annotations

import copy
import itertools
import math
import shutil
from collections import defaultdict
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import random
    from collections.abc import Iterator
    from pathlib import Path

__all__ = ["KEPT", "Disk", "Luck", "Named", "Node", "Sized", "Tree", "Written", "contents_of"]

KEPT = ("nothing", "metadata", "data", "a part")
"""What of the unsynced may reach the disk: none; names and sizes alone; contents alone; any."""

_PAGE = 4096


@dataclass(eq=False)
class Node:
    """A file or a folder, whatever its name."""

    is_folder: bool


class Tree:
    """Folders, and what is in files: what a process sees, or what is on disk."""

    def __init__(self) -> None:
        self.root = Node(is_folder=True)
        self.folders: dict[Node, dict[str, Node]] = defaultdict(dict)
        self.sizes: dict[Node, int] = defaultdict(int)
        self.data: dict[Node, bytearray] = defaultdict(bytearray)

    def copy(self) -> Tree:
        """Return a tree of the same nodes that changes by itself."""
        other = copy.copy(self)
        other.folders = defaultdict(dict, {one: dict(all_) for one, all_ in self.folders.items()})
        other.sizes = self.sizes.copy()
        other.data = defaultdict(bytearray, {one: data[:] for one, data in self.data.items()})
        return other

    def walk(self, folder: Node | None = None, above: str = "") -> Iterator[tuple[str, Node]]:
        """Yield all paths and their nodes, folders before what is in them."""
        for name, node in self.folders[folder or self.root].items():
            yield above + name, node
            if node.is_folder:
                yield from self.walk(node, f"{above}{name}/")

    def contents(self) -> dict[str, bytes | None]:
        """Return what each path holds; None for a folder."""
        return {path: None if one.is_folder else self.read(one) for path, one in self.walk()}

    def read(self, node: Node) -> bytes:
        """Return what a file holds."""
        size = self.sizes[node]
        return bytes(self.data[node][:size]).ljust(size, b"\0")

    def write(self, node: Node, offset: int, data: bytes) -> None:
        """Put *data* into a file, which may still be too short to show it."""
        held = self.data[node]
        held.extend(bytes(max(0, offset + len(data) - len(held))))
        held[offset : offset + len(data)] = data

    def resize(self, node: Node, size: int) -> None:
        """Cut or lengthen a file."""
        del self.data[node][size:]
        self.sizes[node] = size

    def remove(self, node: Node) -> None:
        """Take a file or folder out of where it is."""
        for entries in self.folders.values():
            for name in [name for name, one in entries.items() if one is node]:
                del entries[name]

    def place(self, path: str) -> tuple[Node, str]:
        """Return the folder and the name that a path means."""
        *above, name = path.split("/")
        folder = self.root
        for one in above:
            folder = self.folders[folder][one]
        return folder, name


@dataclass
class Change:
    """What a call did to *nodes*; a sync of any of them brings it to disk."""

    nodes: tuple[Node, ...]
    begun: int
    ended: int
    on_disk: float = field(default=math.inf, init=False)

    def apply(self, tree: Tree, luck: Luck) -> None:
        """Let it happen in *tree*, or as much of it as *luck* keeps."""
        raise NotImplementedError


@dataclass
class Named(Change):
    """Entries of folders: new ones, and nodes that are no longer where they were."""

    put: dict[tuple[Node, str], Node]
    removed: Node | None = None

    def apply(self, tree: Tree, luck: Luck) -> None:
        """Let it happen, or not."""
        if not luck.keeps("metadata"):
            return
        for node in (self.removed, *self.put.values()):
            if node is not None:
                tree.remove(node)
        for (folder, name), node in self.put.items():
            tree.folders[folder][name] = node


@dataclass
class Sized(Change):
    """A length."""

    size: int

    def apply(self, tree: Tree, luck: Luck) -> None:
        """Let it happen, or not."""
        if luck.keeps("metadata"):
            tree.resize(self.nodes[0], self.size)


@dataclass
class Written(Change):
    """Bytes of a file."""

    offset: int
    data: bytes

    def apply(self, tree: Tree, luck: Luck) -> None:
        """Let each of its pages be written, or not."""
        end = self.offset + len(self.data)
        pages = range((self.offset // _PAGE + 1) * _PAGE, end, _PAGE)
        for start, stop in itertools.pairwise([self.offset, *pages, end]):
            if luck.keeps("data"):
                page = self.data[start - self.offset : stop - self.offset]
                tree.write(self.nodes[0], start, page)


class Luck:
    """Decides what of the unsynced is on disk: one of :data:`KEPT`."""

    def __init__(self, kept: str, chance: random.Random) -> None:
        self._kept = kept
        self._chance = chance
        self._share = chance.choice([0.1, 0.5, 0.9])

    def keeps(self, what: str) -> bool:
        """Tell it of the next entry, size ("metadata") or page ("data")."""
        if self._kept == "a part":
            return self._chance.random() < self._share
        return self._kept == what


class _Synced(Luck):
    def __init__(self) -> None:
        pass

    def keeps(self, what: str) -> bool:  # noqa: ARG002  # all is
        return True


class Disk:
    """A folder before some changes, at any moment between, and after them."""

    def __init__(self, folder: Path) -> None:
        self.now = Tree()
        for path in sorted(folder.rglob("*")):
            node = Node(path.is_dir())
            inside, name = self.now.place(str(path.relative_to(folder)))
            self.now.folders[inside][name] = node
            if not node.is_folder:
                self.now.write(node, 0, path.read_bytes())
                self.now.sizes[node] = path.stat().st_size
        self._before = self.now.copy()
        self._changes: list[Change] = []

    def add(self, change: Change) -> None:
        """Let something happen."""
        change.apply(self.now, _Synced())
        self._changes.append(change)

    def sync(self, node: Node | None, begun: int, ended: int) -> None:
        """Bring to disk what was done to *node*, or to all, before the sync began."""
        for change in self._changes:
            if change.ended < begun and (node is None or node in change.nodes):
                change.on_disk = min(change.on_disk, ended)

    @property
    def moments(self) -> list[int]:
        """All moments at which something began or ended."""
        ends = {one.on_disk for one in self._changes if one.on_disk < math.inf}
        both = {moment for one in self._changes for moment in (one.begun, one.ended)}
        return sorted(both | {int(end) for end in ends})

    def after(self, cut: int, luck: Luck) -> Tree:
        """Return what is on disk when the power is cut just after the moment *cut*."""
        tree, synced = self._before.copy(), _Synced()
        for change in self._changes:
            if change.begun <= cut:
                change.apply(tree, synced if change.on_disk <= cut else luck)
        return tree

    def put_back(self, folder: Path, tree: Tree) -> None:
        """Make *folder*, which is as :attr:`now` tells, be as *tree* tells.

        Each file and folder that is still there stays the one that it is, by its inode.
        """
        aside = folder.with_name(f"{folder.name}-aside")
        aside.mkdir()
        for path, node in reversed(list(self.now.walk())):
            (folder / path).rename(aside / str(id(node)))
        for path, node in tree.walk():
            kept = aside / str(id(node))
            if kept.exists():
                kept.rename(folder / path)
            elif node.is_folder:
                (folder / path).mkdir()
            if not node.is_folder:
                (folder / path).write_bytes(tree.read(node))
        shutil.rmtree(aside)


def contents_of(folder: Path) -> dict[str, bytes | None]:
    """Return what each path in a real folder holds; None for a folder."""
    return {
        str(path.relative_to(folder)): None if path.is_dir() else path.read_bytes()
        for path in folder.rglob("*")
    }
