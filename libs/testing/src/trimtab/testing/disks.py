"""A disk that is soon full: a small file system in memory, where this process may mount one."""

import os
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path


class NoDiskError(Exception):
    """This machine lets nobody, or not this user, mount a file system."""

    def __init__(self, reason: str) -> None:
        super().__init__(f"no small disk can be mounted here: {reason.strip()}")


class SmallDisk:
    """A mounted file system. Mutable: it is filled and emptied."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    @property
    def _filling(self) -> Path:
        return self.folder / "filling"

    def fill(self, but: int = 0) -> None:
        """Leave no room, or as good as none: so many bytes, rounded down to whole pages."""
        with self._filling.open("wb", buffering=0) as file, suppress(OSError):
            while file.write(bytes(4096)) == 4096:
                pass
        os.truncate(self._filling, max(0, self._filling.stat().st_size - but))

    def empty(self) -> None:
        """Give the room back."""
        self._filling.unlink()

    def make_read_only(self, only: bool = True) -> None:
        """Let nobody write, whoever it is, or let everybody write again. Files open for writing are in the way."""
        _run("mount", "-o", "remount,ro" if only else "remount,rw", str(self.folder))


@contextmanager
def small_disk(folder: Path, size: int) -> Iterator[SmallDisk]:
    """Mount one for a `with`, in a folder that is made. Raises NoDiskError."""
    folder.mkdir(parents=True)
    _run("mount", "-t", "tmpfs", "-o", f"size={size}", "tmpfs", str(folder))
    try:
        yield SmallDisk(folder)
    finally:
        _run("umount", "--lazy", str(folder))


def _run(*command: str) -> None:
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=False)  # noqa: S603  # our own words
    except FileNotFoundError as error:
        raise NoDiskError(str(error)) from error
    if done.returncode:
        raise NoDiskError(done.stderr)
