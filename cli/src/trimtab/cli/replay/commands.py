"""`trimtab replay`."""

import asyncio
import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Annotated

import typer
from rich.console import Console

from trimtab.cli.cluster.address import find
from trimtab.cli.errors import ClusterError
from trimtab.cli.loops.commands import NoLoopError
from trimtab.cli.loops.declared import NEVER, History, read_declared
from trimtab.cli.moments import moment
from trimtab.cli.replay.bookmark import BookmarkFile, about
from trimtab.cli.replay.run import Place, Score, lead_of
from trimtab.cli.replay.run import replay as play
from trimtab.cli.replay.shown import Shown
from trimtab.cli.replay.slices import Span
from trimtab.cli.settings import ClusterSettings
from trimtab.contracts import times
from trimtab.contracts.control import LoopDeclared
from trimtab.loops import declaration
from trimtab.loops.declaration.quantities import duration_ms
from trimtab.loops.files import Recorded, data_folder, event_files, opened
from trimtab.loops.model import Loop

ALL_MS = 2**62


class NoDataError(ClusterError):
    """Nothing to play."""

    def __init__(self, loop: str) -> None:
        super().__init__(
            f"nothing to play into {loop}: name the loop's folder, files (event=path or <event>.parquet, .csv, .jsonl) "
            "or --data FOLDER"
        )


class UnknownEventFileError(ClusterError):
    """A file whose event cannot be told."""

    def __init__(self, path: str, events: list[str]) -> None:
        super().__init__(f"{path}: which event is it? Write EVENT={path}, where EVENT is one of {', '.join(events)}")


class BadSpeedError(ClusterError):
    """`--speed` was not understood."""

    def __init__(self, text: str) -> None:
        super().__init__(f"--speed {text}: write event time per second, such as 1h or 7d, or a factor such as 60x")


def replay(
    loop: Annotated[str, typer.Argument(help="The loop's name, or its folder (its data are then in FOLDER/data).")],
    files: Annotated[
        list[str] | None, typer.Argument(metavar="[EVENT=]FILE...", help="Recorded events: Parquet, CSV or JSON lines.")
    ] = None,
    data: Annotated[Path | None, typer.Option(help="A folder with a file for each event.")] = None,
    speed: Annotated[
        str | None, typer.Option(help="Event time per second: 1h, 7d, or a factor, 60x. Left out: as fast as it goes.")
    ] = None,
    since: Annotated[
        int | None, typer.Option("--from", parser=moment, metavar="TIME", help="Only events from this date or time on.")
    ] = None,
    until: Annotated[
        int | None, typer.Option("--to", parser=moment, metavar="TIME", help="Only events up to this date or time.")
    ] = None,
    lead: Annotated[
        str | None,
        typer.Option(
            help="How far to run ahead of the slowest service, or none. Default: the loop's fit_time, else 1d."
        ),
    ] = None,
    again: Annotated[bool, typer.Option("--again", help="Play what was played before once more.")] = False,
) -> None:
    """Play recorded events into a loop, in event-time order, as if they happened now but faster.

    The services are never left behind further than the lead, and while a model is trained time stands still, so a year
    in minutes gives what the year itself would have given. Called again with the same files it goes on where it was.
    """
    settings = ClusterSettings()
    addresses = find(settings)
    folder = Path(loop) if (Path(loop) / declaration.FILE).is_file() else None
    name = declaration.load(folder).name if folder else loop
    declared = _declared(asyncio.run(read_declared(addresses.kafka)), name)
    known = declaration.of(declared)
    with _folder(known, files or [], data or (data_folder(folder) if folder else None)) as source:
        paths = [path for event in known.events for path in event_files(source, event)]
        identity = about([path.resolve() for path in paths], [topic.id for topic in declared.topics])
        place = Place(addresses, settings.data_dir.absolute())
        with opened(known, source) as recorded:
            span = _span(recorded, since, until)
            bookmark = None if again else BookmarkFile(place.folder, name).read(identity)
            resumed = bookmark is not None and bookmark.sent_ms > span.after_ms
            if bookmark is not None and resumed:
                print(f"going on after {times.text(bookmark.sent_ms)}, up to where these files were played before")
                span = replace(span, after_ms=bookmark.sent_ms)
            score = Score(known, span, _lead(lead, known), _speed(speed), resumed)
            _play(score, recorded, place, identity)


def _play(score: Score, recorded: Recorded, place: Place, identity: str) -> None:
    console = Console()
    shown = Shown(console, score, recorded)
    try:
        with shown:
            rows = asyncio.run(play(score, recorded, place, identity, shown.show))
    except KeyboardInterrupt:
        print("interrupted; `trimtab replay` with the same arguments goes on there")
        raise typer.Exit(130) from None
    print(f"{rows:,} events in {shown.spent_s:,.0f} s ({rows / max(shown.spent_s, 1e-3):,.0f} events/s)")


def _declared(histories: Mapping[str, History], name: str) -> LoopDeclared:
    current = histories.get(name, NEVER).current
    if current is None:
        raise NoLoopError(name, sorted(each for each, history in histories.items() if history.current))
    return current


@contextmanager
def _folder(loop: Loop, files: list[str], data: Path | None) -> Iterator[Path]:
    """A folder with the events' files: the given one, or one of links to the given files."""
    if not files:
        if data is None:
            raise NoDataError(loop.name)
        yield data
        return
    with TemporaryDirectory(prefix="trimtab-replay-") as scratch:
        for number, text in enumerate(files):
            event, path = _event_of(text, loop)
            (Path(scratch) / f"{event}-{number:04}{path.suffix}").symlink_to(path.absolute())
        yield Path(scratch)


def _event_of(text: str, loop: Loop) -> tuple[str, Path]:
    """The event that a file holds: named before it, or by its name."""
    event, named, path = text.partition("=")
    if named and event in loop.events:
        return event, Path(path)
    stem = Path(text).name
    for name in sorted(loop.events, key=len, reverse=True):
        if re.match(rf"{re.escape(name)}[.-]", stem):
            return name, Path(text)
    raise UnknownEventFileError(text, list(loop.events))


def _span(recorded: Recorded, since: int | None, until: int | None) -> Span:
    after_ms = recorded.first_ms - 1 if since is None else since - 1
    return Span(after_ms, recorded.last_ms if until is None else until)


def _lead(text: str | None, loop: Loop) -> int | None:
    if text is None:
        return lead_of(loop)
    if text == "none":
        return None
    return duration_ms(text)


def _speed(text: str | None) -> float | None:
    """Event seconds a second."""
    if text is None:
        return None
    if factor := re.fullmatch(r"(\d+(?:\.\d+)?)x", text):
        return float(factor[1])
    try:
        return duration_ms(text) / 1000
    except ValueError as error:
        raise BadSpeedError(text) from error
