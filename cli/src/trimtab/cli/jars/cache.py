"""The per-user cache of jars: verified at every use, repaired when something is missing or broken."""

import fcntl
import shutil
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Protocol

from trimtab.cli.errors import JarDigestError, JarsUnavailableError
from trimtab.cli.jars.lock import Jar, Lock, digest

PARALLEL = 6


class Downloader(Protocol):
    """Where jars come from."""

    def fetch(self, jar: Jar) -> Path:
        """A file that should be the jar; it may be moved away. OSError when it cannot be had."""


class Progress(Protocol):
    """What is told about a running download; called from several threads."""

    def bytes(self, count: int) -> None:
        """`count` more bytes have come."""

    def jar(self) -> None:
        """One more jar is whole and verified."""


Open = Callable[[Path, Callable[[int], None]], Downloader]
Watch = Callable[[str, int], AbstractContextManager[Progress]]


@contextmanager
def locked(path: Path) -> Iterator[None]:
    """Hold a lock file against other processes; the lock goes with the process, so a killed one leaves none."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("a") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


class JarCache:
    """`folder`/<set>-<digest>/*.jar. Files appear there whole or not at all.

    `open_downloader` gets a scratch folder and a callback for bytes; it is only called when something is missing, so
    that a start with a full cache neither imports the resolver nor needs a network.
    """

    def __init__(self, folder: Path, *, open_downloader: Open, watch: Watch) -> None:
        self.folder = folder
        self._open = open_downloader
        self._watch = watch

    def classpath(self, lock: Lock) -> list[Path]:
        """The paths of all jars of the set, each verified against its digest; downloads what is missing or broken.

        Raises JarsUnavailableError (nothing to download from) or JarDigestError (the wrong bytes came).
        """
        folder = self.folder / f"{lock.name}-{lock.digest[:12]}"
        if _broken(lock, folder):
            with locked(self.folder / f"{lock.name}.lock"):
                self._repair(lock, _broken(lock, folder), folder)
        return [folder / jar.file for jar in lock.jars]

    def _repair(self, lock: Lock, broken: Sequence[Jar], folder: Path) -> None:
        if not broken:
            return
        folder.mkdir(parents=True, exist_ok=True)
        scratch = self.folder / f"{lock.name}.part"
        shutil.rmtree(scratch, ignore_errors=True)
        try:
            with self._watch(lock.name, len(broken)) as progress:
                self._download(broken, scratch, folder, progress)
        finally:
            shutil.rmtree(scratch, ignore_errors=True)

    def _download(self, jars: Sequence[Jar], scratch: Path, folder: Path, progress: Progress) -> None:
        downloader = self._open(scratch, progress.bytes)

        def one(jar: Jar) -> None:
            place(jar, downloader.fetch(jar), folder)
            progress.jar()

        with ThreadPoolExecutor(PARALLEL) as threads:
            futures = [threads.submit(one, jar) for jar in jars]
            try:
                for future in futures:
                    future.result()
            except OSError as error:
                threads.shutdown(cancel_futures=True)
                raise JarsUnavailableError([jar.file for jar in _of(jars, folder)], str(error)) from error
            except BaseException:
                threads.shutdown(wait=False, cancel_futures=True)
                raise


def place(jar: Jar, source: Path, folder: Path) -> None:
    """Put a downloaded file into the folder under its name, if it is what the lock says."""
    part = folder / f"{jar.file}.part"
    shutil.copyfile(source, part)
    actual = digest(part)
    if actual != jar.sha256:
        part.unlink()
        raise JarDigestError(jar.file, jar.sha256, actual)
    part.replace(folder / jar.file)


def _broken(lock: Lock, folder: Path) -> list[Jar]:
    return _of(lock.jars, folder)


def _of(jars: Sequence[Jar], folder: Path) -> list[Jar]:
    return [jar for jar in jars if not jar.is_at(folder / jar.file)]
