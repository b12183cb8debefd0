"""What the bench is doing now, for the eyes: a line a part, with its time; a line at its end where nobody watches."""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Self

from rich.console import Console
from rich.progress import Progress, SpinnerColumn, TextColumn, TimeElapsedColumn


class Shown:
    """Use it in a `with`; `part` for each part."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._lines = Progress(
            SpinnerColumn(finished_text="✓"),
            TextColumn("{task.description}"),
            TimeElapsedColumn(),
            TextColumn("{task.fields[said]}", style="dim"),
            console=console,
            disable=not console.is_terminal,
        )

    def __enter__(self) -> Self:
        self._lines.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._lines.stop()

    @contextmanager
    def part(self, title: str) -> Iterator[Callable[[str], None]]:
        """Show a part while it runs; what is yielded takes what it says of itself."""
        line, began_s = self._lines.add_task(title, total=1, said=""), time.monotonic()
        yield lambda said: self._lines.update(line, said=said)
        self._lines.update(line, completed=1, said="")
        if not self._console.is_terminal:
            self._console.print(f"{title}: {time.monotonic() - began_s:.0f} s", highlight=False)
