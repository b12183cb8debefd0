"""`trimtab init`: the first draft of a loop from samples of its events."""

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, cast

import typer
from rich.console import Console
from rich.table import Table

from trimtab.loops import draft
from trimtab.loops.draft import Choices, Draft, Question
from trimtab.loops.errors import DraftError
from trimtab.loops.model import Loop, Task

TASKS: Sequence[Task] = ("binary", "multiclass", "regression")


def init(
    samples: Annotated[
        list[Path],
        typer.Argument(
            metavar="SAMPLE...",
            help="CSV, JSON lines or Parquet: one file of finished cases, or one file for each kind of event.",
        ),
    ],
    name: Annotated[str | None, typer.Option(help="The loop's name; the file's otherwise.")] = None,
    time: Annotated[str | None, typer.Option(help="The column that says when a prediction is asked for.")] = None,
    label: Annotated[
        str | None, typer.Option(help="The column to predict; with several files EVENT or EVENT.COLUMN.")
    ] = None,
    label_time: Annotated[str | None, typer.Option(help="The column that says when the label became known.")] = None,
    label_delay: Annotated[
        str | None, typer.Option(metavar="DURATION", help="Or how long after the question it is known, such as 2h.")
    ] = None,
    key: Annotated[str | None, typer.Option(help="The column that names a row.")] = None,
    asks: Annotated[str | None, typer.Option(metavar="EVENT", help="With several files: the event that asks.")] = None,
    task: Annotated[str | None, typer.Option(help="binary, multiclass or regression; guessed otherwise.")] = None,
    zone: Annotated[str, typer.Option(help="The time zone of times that carry no offset.")] = "UTC",
    out: Annotated[Path | None, typer.Option(help="The folder to write; named like the loop otherwise.")] = None,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Take every guess without asking, for scripts.")] = False,
) -> None:
    """Draft a loop from a sample of its events: a commented loop.toml, Avro schemas, and the events to try it on."""
    choices = Choices(
        name=name,
        time=time,
        label=label,
        label_time=label_time,
        label_delay=label_delay,
        key=key,
        asks=asks,
        task=_task(task),
        zone=zone,
    )
    made = draft.draft(samples, choices, draft.take_defaults if yes else _prompt)
    folder = out or Path(made.outline.name)
    loop = draft.write(made, folder)
    _tell(Console(), made, loop, folder)


def _task(text: str | None) -> Task | None:
    if text is not None and text not in TASKS:
        raise DraftError(f"--task {text}", f"one of {', '.join(TASKS)}")
    return cast(Task, text) if text else None


def _prompt(question: Question) -> str:
    return str(typer.prompt(f"{question.what} ({question.why})", default=question.default))


def _tell(console: Console, made: Draft, loop: Loop, folder: Path) -> None:
    guesses = Table(box=None, pad_edge=False, title="What was guessed, and why", title_justify="left")
    guesses.add_column("guess", style="bold")
    guesses.add_column("why")
    for what, why in made.notes:
        guesses.add_row(what, why)
    if made.notes:
        console.print(guesses)
        console.print()
    files = Table(box=None, pad_edge=False, title=f"Written to {folder}", title_justify="left")
    for column in ("file", "what"):
        files.add_column(column)
    files.add_row("loop.toml", f"{loop.task}, {len(loop.features.names)} features; read it, every line is a guess")
    for event in made.outline.events:
        role = (
            "asks" if event.name == loop.predict.on else "tells the label" if event.name == loop.label.of else "event"
        )
        files.add_row(f"{event.name}.avsc", f"{role}: {len(event.columns)} fields")
        files.add_row(f"data/{event.name}.parquet", f"{event.rows.height} recorded events")
    console.print(files)
    console.print(f"\nNext: trimtab check {folder}, then trimtab backtest {folder}", markup=False, highlight=False)
