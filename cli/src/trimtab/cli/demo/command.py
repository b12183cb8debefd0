"""`trimtab demo`."""

import asyncio
import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.progress import Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

from trimtab.cli.cluster.address import find
from trimtab.cli.cluster.state import StateFile, left_behind
from trimtab.cli.demo import made, promises
from trimtab.cli.demo.collect import Collected, collect
from trimtab.cli.demo.memory import PeakMemory
from trimtab.cli.demo.summary import Figures, summary, told
from trimtab.cli.demo.worth import worth
from trimtab.cli.errors import ClusterError
from trimtab.cli.moments import moment
from trimtab.cli.processes import end
from trimtab.cli.report.data import Report
from trimtab.cli.report.page import page
from trimtab.cli.settings import ClusterSettings
from trimtab.contracts import times
from trimtab.loops import declaration
from trimtab.loops.files import event_files
from trimtab.loops.model import Loop

COMMAND = (sys.executable, "-m", "trimtab.cli")
DATA_DIR = "TRIMTAB_DATA_DIR"
DOWN_S = 60.0


class DemoError(ClusterError):
    """A step of the demo failed."""

    def __init__(self, command: Sequence[str], code: int) -> None:
        super().__init__(f"`trimtab {' '.join(command)}` ended with code {code}; `trimtab logs` says what happened")


class NoExampleError(ClusterError):
    """The example is not there."""

    def __init__(self, folder: Path) -> None:
        super().__init__(f"{folder} holds no loop.toml: run the demo from a checkout, or name the example's folder")


class DemoUpError(ClusterError):
    """The demo's folder is that of a cluster that is up."""

    def __init__(self, place: Path) -> None:
        super().__init__(
            f"the cluster of an earlier demo is up in {place}, and a new demo starts with an empty folder; "
            f"end it with `{DATA_DIR}={place} trimtab down`"
        )


class PromiseBrokenError(ClusterError):
    """The loop did not do what it promises of each event."""

    def __init__(self, broken: Sequence[str], place: Path) -> None:
        self.broken = tuple(broken)
        super().__init__(f"a promise was broken: {' '.join(broken)} `{DATA_DIR}={place} trimtab logs` says more")


def demo(
    folder: Annotated[Path, typer.Argument(help="The example's folder.")] = Path("examples/flights"),
    until: Annotated[
        int | None, typer.Option("--to", parser=moment, metavar="TIME", help="Play only up to this date or time.")
    ] = None,
    keep: Annotated[bool, typer.Option("--keep", help="Leave the cluster running when it is done.")] = False,
) -> None:
    """Play a year of real flights through a cluster of its own, and report what the closed loop was worth.

    Starts Kafka and the seven services in `.trimtab/demo`, declares the loop, plays the recorded events in event-time
    order, then reads the topics and writes `report.html` and `summary.json` there. Nothing is staged: change the
    declaration or the data, and other results come out. Returns 1 when an event, a prediction or an outcome is missing
    or stands there twice.
    """
    began_s = time.monotonic()
    console = Console()
    if not (folder / declaration.FILE).is_file():
        raise NoExampleError(folder)
    place = (ClusterSettings().data_dir / "demo").absolute()
    os.environ[DATA_DIR] = str(place)
    loop = declaration.load(folder)
    data = prepared(folder, loop, place.parent / f"data-{loop.name}", console)
    cleared(place)
    console.rule(f"[bold]{loop.name}")
    with cluster(keep) as leave, PeakMemory() as memory:
        step("apply", str(folder))
        step("replay", loop.name, "--data", str(data), *([] if until is None else ["--to", times.text(until)]))
        collected = read(loop, console)
        leave()
        report = compared(loop, collected, promises.sent(loop, data, until), console)
    written(report, summary(report, wall_s=time.monotonic() - began_s, peak_rss_mb=memory.peak_mb), place, console)


def cleared(place: Path) -> None:
    """Empty the folder, with what a killed cluster left running. Raises DemoUpError while one is up there."""
    file = StateFile(place)
    with file.held() as free:
        if not free:
            raise DemoUpError(place)
        last = file.read()
        for who in left_behind(last) if last else ():
            end(who, DOWN_S)
        shutil.rmtree(place)


def written(report: Report, figures: Figures, place: Path, console: Console) -> None:
    """The report as files and on the terminal. Raises PromiseBrokenError once they are there."""
    (place / "summary.json").write_text(json.dumps(figures, indent=2) + "\n")
    (place / "report.html").write_text(page(report))
    told(report, figures, place, console)
    if report.broken:
        raise PromiseBrokenError(report.broken, place)


def prepared(folder: Path, loop: Loop, data: Path, console: Console) -> Path:
    """The example's recorded events; made by its own prepare.py at the first time."""
    if not all(event_files(data, name) for name in loop.events) if data.is_dir() else True:
        with console.status("preparing the recorded events"):
            subprocess.run([sys.executable, str(folder / "prepare.py"), str(data)], check=True)
    return data


@contextmanager
def cluster(keep: bool) -> Iterator[Callable[[], None]]:
    """A cluster that is up while this is open. Gives what lets it go down meanwhile, where it is needed no more."""
    step("up", "--detach")
    going = list[subprocess.Popen[bytes]]()

    def leave() -> None:
        if not keep and not going:
            # in a session of its own: Ctrl-C ends the demo, and still no cluster stays behind
            down = subprocess.Popen([*COMMAND, "down"], stdout=subprocess.DEVNULL, start_new_session=True)
            going.append(down)

    try:
        yield leave
    finally:
        leave()
        for one in going:
            if code := one.wait():
                raise DemoError(("down",), code)


def step(*command: str) -> None:
    """Run a `trimtab` command as a person would. Raises DemoError."""
    done = subprocess.run([*COMMAND, *command], check=False)
    if done.returncode:
        raise DemoError(command, done.returncode)


def read(loop: Loop, console: Console) -> Collected:
    """Everything that stands in the loop's topics."""
    with shown(console) as progress:
        reading, seen = progress.add_task("reading the topics", said=""), 0

        def told(count: int) -> None:
            nonlocal seen
            seen += count
            progress.update(reading, said=f"{seen:,} records")

        return asyncio.run(collect(find(ClusterSettings()).kafka.bootstrap_servers, loop, told))


def compared(loop: Loop, collected: Collected, played: promises.Sent, console: Console) -> Report:
    """The report, with what else could have been done."""
    with shown(console) as progress:
        fitting = progress.add_task("what else could have been done", said="")
        contenders = worth(loop, collected, lambda text: progress.update(fitting, said=text))
        return made.report(loop, collected, contenders, played)


def shown(console: Console) -> Progress:
    """Progress of work whose end is not known."""
    fields = (TextColumn("{task.description}"), TextColumn("{task.fields[said]}"))
    return Progress(SpinnerColumn(), *fields, TimeElapsedColumn(), console=console)
