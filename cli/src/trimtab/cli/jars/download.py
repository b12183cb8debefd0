"""Fetch jars by their coordinates, through jgo's resolver."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import requests
from jgo.config import GlobalSettings
from jgo.maven import MavenContext, PythonResolver
from jgo.maven._core import DEFAULT_REMOTE_REPOS

from trimtab.cli.jars.lock import Jar

ATTEMPTS = 3


class JgoDownloader:
    """Downloads into a folder of its own; takes what the user's local Maven repository has, without writing there."""

    def __init__(self, folder: Path, on_bytes: Callable[[int], None]) -> None:
        self._folder = folder
        settings = GlobalSettings.load()

        @contextmanager
        def report(_name: str, _size: int) -> Iterator[Callable[[int], None]]:
            yield on_bytes

        self._context = MavenContext(
            resolver=PythonResolver(progress_callback=report),
            repo_cache=folder,
            local_repos=[settings.repo_cache],
            remote_repos={**settings.repositories, **DEFAULT_REMOTE_REPOS},
            timeout=30,
        )

    def fetch(self, jar: Jar) -> Path:
        """The path of the jar's bytes, not yet verified. OSError when it cannot be had."""
        component = self._context.project(jar.group, jar.artifact).at_version(jar.version)
        artifact = component.artifact(jar.classifier)
        for attempt in range(ATTEMPTS):
            try:
                return artifact.resolve()
            except requests.RequestException as error:
                (self._folder / artifact.component.path_prefix / artifact.filename).unlink(missing_ok=True)
                if attempt == ATTEMPTS - 1:
                    raise OSError(str(error)) from error
            except RuntimeError as error:
                raise OSError(f"{jar.file} is in none of the repositories") from error
        raise OSError(jar.file)
