"""`trimtab check`: read a declaration, and say what it means or what is wrong with it."""

import asyncio
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.table import Table
from rich.text import Text

from trimtab.cli.findings import cluster_findings
from trimtab.cli.settings import ClusterSettings
from trimtab.contracts import topics
from trimtab.loops import declaration, files
from trimtab.loops.declaration.quantities import duration_text
from trimtab.loops.errors import DeclarationError, Problem
from trimtab.loops.model import Group, Latest, Loop
from trimtab.ml import estimators
from trimtab.ml.errors import EstimatorNotAllowedError, EstimatorParameterError
from trimtab.runtime.kafka.connection import Connection


def check(
    folder: Annotated[Path, typer.Argument(help="The folder that holds loop.toml and the Avro schemas beside it.")],
    events: Annotated[bool, typer.Option("--events", help="Also read the recorded events beside it.")] = False,
) -> None:
    """Read a declaration: every mistake with its file, line, key and what would be right, else what it means.

    With a Kafka of your own (TRIMTAB_KAFKA__BOOTSTRAP_SERVERS) also its settings that break or weaken a promise.
    """
    console = Console()
    try:
        loop = checked(folder)
    except DeclarationError as error:
        _tell_problems(Console(stderr=True), error)
        raise typer.Exit(1) from error
    console.print(_summary(loop))
    console.print(_events(loop))
    console.print(_features(loop))
    if events:
        _tell_recorded(console, loop, folder)
    console.print(Text(f"{folder / declaration.FILE} is right", style="green"))
    kafka = ClusterSettings().kafka.connection()
    if kafka is not None and _tell_cluster(console, kafka, loop):
        raise typer.Exit(1)


def checked(folder: Path) -> Loop:
    """The loop of a folder, its estimator found and built too. Raises DeclarationError."""
    loop = declaration.load(folder)
    problem = _estimator_problem(loop, str(folder / declaration.FILE))
    if problem is not None:
        raise DeclarationError([problem])
    return loop


def _estimator_problem(loop: Loop, file: str) -> Problem | None:
    line = declaration.lines(Path(file))
    try:
        estimators.build(loop.model.estimator, loop.model.params, seed=0)
    except EstimatorNotAllowedError as error:
        key = ("model", "estimator")
        return Problem(file, line.get(key, 0), ".".join(key), str(error), "a class of scikit-learn by its import path")
    except EstimatorParameterError as error:
        known = list(estimators.resolve(loop.model.estimator)._get_param_names())
        key = ("model", "params")
        return Problem(file, line.get(key, 0), ".".join(key), str(error), ", ".join(known))
    return None


def _tell_problems(console: Console, error: DeclarationError) -> None:
    for problem in error.problems:
        first, *rest = str(problem).splitlines()
        console.print(Text(first, style="red"), soft_wrap=True)
        for line in rest:
            console.print(Text(line), soft_wrap=True)
    count = len(error.problems)
    console.print(Text(f"{count} mistake{'s' if count > 1 else ''}", style="bold red"))


def _summary(loop: Loop) -> Text:
    label, retrain = loop.label, loop.retrain
    lines = [
        f"{loop.name}: {loop.task}, {loop.model.estimator.rpartition('.')[2]}, decided by {loop.model.metric}",
        f"each {loop.predict.on} asks; the label is {label.value} over {label.of} with the same "
        f"{', '.join(label.by)} within {duration_text(label.within_ms)}",
        f"trained on rows older than {duration_text(label.mature_ms)}, first after {loop.train.first_rows} of them; "
        f"again on drift of {', '.join(retrain.on) or 'nothing'}"
        + (f", when rows grew {retrain.grown:g}-fold" if retrain.grown else "")
        + (f", every {duration_text(retrain.every_ms)}" if retrain.every_ms else "")
        + (f", after {duration_text(retrain.max_age_ms)}" if retrain.max_age_ms else ""),
        f"at most {retrain.budget[0]} per {duration_text(retrain.budget[1])}, "
        f"{duration_text(retrain.cooldown_ms)} apart; one false alarm per {duration_text(loop.drift.false_alarms_ms)}",
    ]
    return Text("\n".join(lines) + "\n")


def _events(loop: Loop) -> Table:
    table = Table(box=None, pad_edge=False, title="Events", title_justify="left")
    for column in ("event", "topic to produce to", "id", "time", "copies dropped"):
        table.add_column(column, overflow="fold", no_wrap=column == "topic to produce to")
    for name, event in loop.events.items():
        table.add_row(
            name,
            topics.source(loop.name, name),
            event.id or "digest of the body",
            event.time,
            f"for {duration_text(event.dedupe_ms)}",
        )
    return table


def _features(loop: Loop) -> Table:
    table = Table(box=None, pad_edge=False, title=f"{len(loop.features.names)} features", title_justify="left")
    for column in ("features", "of", "by", "as of"):
        table.add_column(column, overflow="fold")
    table.add_row(", ".join(loop.features.row), loop.predict.on, "", "the question itself")
    for group in loop.features.groups:
        table.add_row(*_group(group))
    for latest in loop.features.latest:
        table.add_row(*_latest(latest))
    return table


def _group(group: Group) -> tuple[str, str, str, str]:
    windows = ", ".join(window.name for window in group.windows)
    what = ", ".join(f"{name} = {sql}" for name, sql in group.values.items())
    grain = duration_text(group.grain_ms)
    return f"{group.name}: {what}", group.of, ", ".join(group.by), f"{windows}, in steps of {grain}"


def _latest(latest: Latest) -> tuple[str, str, str, str]:
    age = duration_text(latest.max_age_ms)
    return f"{latest.name}: {', '.join(latest.values)}", latest.of, ", ".join(latest.by), f"newest, at most {age} old"


def _tell_recorded(console: Console, loop: Loop, folder: Path) -> None:
    place = files.data_folder(folder)
    with files.opened(loop, place) as recorded:
        for name, count in recorded.counts.items():
            console.print(Text(f"{place}: {count} {name} events"))


def _tell_cluster(console: Console, kafka: Connection, loop: Loop) -> bool:
    """Whether settings of one's own Kafka break a promise; those that only weaken one are told too."""
    specs = [*topics.control(), *topics.of_loop(loop.name, list(loop.events), loop.partitions)]
    found = asyncio.run(cluster_findings(kafka, specs))
    for finding in found:
        console.print(Text(str(finding), style="red" if finding.breaks else "yellow"), soft_wrap=True)
    if not found:
        console.print(Text(f"the Kafka at {kafka.bootstrap_servers} keeps every promise", style="green"))
    return any(finding.breaks for finding in found)
