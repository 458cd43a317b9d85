"""Places with little room: disks that another file nearly fills, and a limit to a file's length."""

from __future__ import annotations

import contextlib
import errno
import os
import shutil
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = ["FileLimit", "Mounted", "NotMountedError", "filled"]


def filled(path: Path, left: int) -> None:
    """Write a file that leaves *left* bytes of its disk, or as many as are free."""
    free = shutil.disk_usage(path.parent).free
    with path.open("wb") as file:
        for length in range(free - left, 0, -4096):  # the file's own blocks take room, too
            try:
                os.posix_fallocate(file.fileno(), 0, length)
            except OSError as error:
                if error.errno != errno.ENOSPC:
                    raise
            else:
                return


class NotMountedError(Exception):
    """A disk that this user may not mount."""


class Mounted:
    """A disk of its own, nearly all of which another file takes."""

    is_shared = True
    under = ()

    def __init__(self, name: str) -> None:
        self.name = name
        self.folder = self.other = Path()

    @contextlib.contextmanager
    def at(self, folder: Path, size: int) -> Iterator[None]:
        """Mount it at *folder*, with *size* bytes; :class:`NotMountedError` for all but root."""
        folder.mkdir()
        image = folder.with_name(f"{folder.name}.image")
        try:
            if self.name == "ext4":
                with image.open("wb") as file:
                    file.truncate(size)
                _ordered("mkfs.ext4", "-q", "-m", "0", image)
                _ordered("mount", "-o", "loop", image, folder)
            else:
                _ordered("mount", "-t", "tmpfs", "-o", f"size={size}", "tmpfs", folder)
        except (OSError, subprocess.CalledProcessError) as error:
            raise NotMountedError(self.name) from error
        self.folder, self.other = folder / "caches", folder / "other"
        try:
            yield
        finally:
            _ordered("umount", folder)

    def need(self, good: Path) -> int:
        """Return about how many bytes of it a cache takes."""
        return sum(512 * path.lstat().st_blocks for path in [good, *good.rglob("*")])

    def leave(self, size: int) -> None:
        """Leave *size* bytes."""
        self.give()
        filled(self.other, size)

    def give(self) -> None:
        """Give all of its room."""
        self.other.unlink(missing_ok=True)


def _ordered(*words: object) -> None:
    subprocess.run([*map(str, words)], check=True, capture_output=True)


class FileLimit:
    """The length that a process may give a file."""

    name = "RLIMIT_FSIZE"
    is_shared = False

    def __init__(self) -> None:
        self.under: tuple[str, ...] = ()
        self.folder = self.other = Path()

    @contextlib.contextmanager
    def at(self, folder: Path, size: int) -> Iterator[None]:  # noqa: ARG002  # a disk has one
        """Use *folder*."""
        folder.mkdir()
        self.folder = folder / "caches"
        yield

    def need(self, good: Path) -> int:
        """Return the length of the largest file of a cache."""
        return max(path.lstat().st_size for path in [good, *good.rglob("*")] if path.is_file())

    def leave(self, size: int) -> None:
        """Let files be *size* bytes long."""
        self.under = ("prlimit", f"--fsize={size}")

    def give(self) -> None:
        """Let files be of any length."""
        self.under = ()
