"""Unfinished work: a payload that is being filled, and what tells how far it is."""

from __future__ import annotations

import shutil
from typing import TYPE_CHECKING, Any

from mmcache.stores.journal import Journal
from mmcache.stores.payload import synced, synced_directory

if TYPE_CHECKING:
    from pathlib import Path

__all__ = ["Unfinished", "identity", "removed"]


class Unfinished:
    """A folder with a payload, the journal of what is done of it, and the plan of what is to be.

    Attributes
    ----------
    content : pathlib.Path
        What becomes the cache.
    plan : pathlib.Path
        Of the file with the plan.
    journal : Journal
        Read when this is made, and right as long as nobody else writes it.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.content = folder / "new"
        self.plan = folder / "plan"
        self.journal = Journal(folder / "journal")

    @property
    def is_of_use(self) -> bool:
        """Whether ``content`` is what the journal tells of, and something of it is done.

        After an exchange it is not: the old generation then lies there, and is left to be removed.
        """
        there = identity(self.content)
        same = there is not None and self.journal.facts.get("content") == list(there)
        return same and self.journal.has_steps

    def begin(self, facts: dict[str, Any]) -> None:
        """Begin the journal of ``content``, which is there and is what *facts* say."""
        for path in (self.content, self.plan):
            if path.exists():
                synced(path)
        for folder in (self.folder, self.folder.parent, self.folder.parent.parent):
            synced_directory(folder)
        self.journal.begin(facts | {"content": list(identity(self.content) or ())})

    def keep(self, names: set[str]) -> None:
        """Remove all of ``content`` but these files, and those in folders where one of them is.

        A builder that was killed near its end has written arrays that may not be the same again.
        """
        kept = {name.partition("/")[0] for name in names}
        for entry in self.content.iterdir() if self.content.is_dir() else ():
            if entry.name not in kept:
                removed(entry)

    def clear(self) -> None:
        """Remove the payload, its journal and its plan."""
        self.journal.remove()  # first: what is removed in part is of no use
        removed(self.content)
        removed(self.plan)


def identity(path: Path) -> tuple[int, int] | None:
    """Return what tells one file or folder from another that takes its name; None for nothing."""
    try:
        status = path.lstat()
    except FileNotFoundError:
        return None
    return status.st_dev, status.st_ino


def removed(path: Path) -> None:
    """Remove a file, or a folder with all that is in it; nothing where there is neither."""
    if path.is_dir():
        shutil.rmtree(path, ignore_errors=True)
    else:
        path.unlink(missing_ok=True)
