"""A replay for the eyes: a bar over event time on a terminal, a line now and then elsewhere."""

import time
from types import TracebackType
from typing import Self

from rich.console import Console
from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeElapsedColumn, TimeRemainingColumn

from trimtab.cli.replay.run import Played, Score
from trimtab.contracts import times
from trimtab.loops.files import Recorded

LINE_S = 10.0


class Shown:
    """Use it in a `with`; `show` takes what the replay says of itself."""

    def __init__(self, console: Console, score: Score, recorded: Recorded) -> None:
        self._console = console
        self._first_ms = max(recorded.first_ms, score.span.after_ms)
        total = max(1, min(recorded.last_ms, score.span.until_ms) - self._first_ms)
        self._bar = Progress(
            TextColumn("{task.description}"),
            BarColumn(),
            TaskProgressColumn(),
            TextColumn("{task.fields[said]}"),
            TimeElapsedColumn(),
            TimeRemainingColumn(),
            TextColumn("{task.fields[waits]}", style="yellow"),
            console=console,
            speed_estimate_period=20,
            disable=not console.is_terminal,
        )
        self._task = self._bar.add_task(score.loop.name, total=total, said="", waits="")
        self._started_s = self._told_s = time.monotonic()

    @property
    def spent_s(self) -> float:
        """Seconds since the start."""
        return time.monotonic() - self._started_s

    def __enter__(self) -> Self:
        self._bar.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._bar.stop()

    def show(self, played: Played) -> None:
        """Show how far it is."""
        said = (
            f"{times.text(played.at_ms)[:16].replace('T', ' ')}  {played.rows / max(self.spent_s, 1e-3):,.0f} events/s"
        )
        waits = played.waits if played.feeding else f"all sent; {played.waits}"
        self._bar.update(self._task, completed=max(0, played.at_ms - self._first_ms), said=said, waits=waits)
        if not self._console.is_terminal and time.monotonic() - self._told_s >= LINE_S:
            self._told_s = time.monotonic()
            self._console.print(f"{said}  {waits}", highlight=False)
