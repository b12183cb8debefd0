"""The cache as the command uses it: jgo downloads, a progress bar on the terminal shows it."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn, TimeElapsedColumn

from trimtab.cli.jars.cache import Downloader, JarCache


class Bar:
    """A bar over the jars of a set, with the megabytes that have come so far."""

    def __init__(self, bar: Progress, jars: TaskID) -> None:
        self._bar = bar
        self._jars = jars
        self._bytes = 0

    def bytes(self, count: int) -> None:
        """Show `count` more bytes."""
        self._bytes += count
        self._bar.update(self._jars, downloaded=f"{self._bytes / 1e6:.1f} MB")

    def jar(self) -> None:
        """Show one more finished jar."""
        self._bar.advance(self._jars)


def user_cache(folder: Path, console: Console) -> JarCache:
    """The cache in `folder`; downloads are shown on `console`."""

    @contextmanager
    def watch(name: str, jars: int) -> Iterator[Bar]:
        columns = (
            TextColumn("first start: fetching {task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            TextColumn("jars, {task.fields[downloaded]}"),
            TimeElapsedColumn(),
        )
        with Progress(*columns, console=console) as bar:
            yield Bar(bar, bar.add_task(name, total=jars, downloaded="0 MB"))

    def download(scratch: Path, on_bytes: Callable[[int], None]) -> Downloader:
        from trimtab.cli.jars.download import JgoDownloader  # the resolver takes 0.3 s to import: only when needed

        return JgoDownloader(scratch, on_bytes)

    return JarCache(folder, open_downloader=download, watch=watch)
