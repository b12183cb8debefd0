"""`trimtab backtest`."""

import json
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import numpy as np
import typer
from rich.console import Console
from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeElapsedColumn, TimeRemainingColumn
from rich.table import Table

from trimtab.cli.backtest import closed
from trimtab.cli.backtest.contenders import contender, scored
from trimtab.cli.backtest.policy import Policy, parse
from trimtab.cli.backtest.recorded import Recording, recording
from trimtab.cli.backtest.rows import History
from trimtab.cli.backtest.schedules import Kept, kept
from trimtab.cli.errors import ClusterError
from trimtab.cli.report.data import Contender, Cost, Mark, PolicyRun
from trimtab.cli.report.page import policies_page
from trimtab.cli.settings import ClusterSettings
from trimtab.contracts.control import DeploymentChanged, DriftDetected, RetrainRequested
from trimtab.loops import declaration
from trimtab.loops.files import data_folder, event_files, opened
from trimtab.loops.model import Loop
from trimtab.ml.scoring import Scores

DEFAULT = ["never", "every=30d", "loop"]


class NeverDueError(ClusterError):
    """There is no first model to compare anything with."""

    def __init__(self, loop: Loop, rows: int) -> None:
        positives = f" with {loop.train.first_positives:,} positives" if loop.task == "binary" else ""
        super().__init__(
            f"{loop.name}: the recorded events never give {loop.train.first_rows:,} matured rows"
            f"{positives} ([train] first_after): {rows:,} asks have a label. "
            "Record more, or lower first_after"
        )


@dataclass(frozen=True, slots=True)
class Tested:
    """A policy with what came of it. `scores`: per ask, see `History.unscored`."""

    policy: Policy
    scores: Scores
    marks: Sequence[Mark]
    cost: Cost


def backtest(
    folder: Annotated[Path, typer.Argument(help="The loop's folder.")],
    policy: Annotated[
        list[str] | None, typer.Option("--policy", help="never, every=7d, loop. Give it several times.")
    ] = None,
    history: Annotated[
        list[str] | None, typer.Option("--history", help="all or 60d: rows to train on. Give it several times.")
    ] = None,
    data: Annotated[Path | None, typer.Option(help="Recorded events; default: FOLDER/data, or FOLDER itself.")] = None,
    out: Annotated[Path | None, typer.Option(help="Where backtest.html and backtest.json go.")] = None,
) -> None:
    """Run policies over recorded events in virtual time: what each would have cost and gained.

    The features, labels, detectors, decisions, gates and fits are those of the services themselves, in one process,
    without Kafka. `never` keeps the first model, `every=30d` refits and deploys on schedule, `loop` does what the
    declaration says. All are measured on the same rows: those that each of them scored and whose label is known.
    """
    loop = declaration.load(folder)
    place = out or ClusterSettings().data_dir / f"backtest-{loop.name}"
    policies = [parse(text, rows) for rows in history or ["all"] for text in policy or DEFAULT]
    console = Console()
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        TaskProgressColumn(),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=console) as progress:
        source = recorded_events(folder, loop, data)
        read = reading(loop, source, progress)
        first_ms = read.history.first_due_ms()
        if first_ms is None:
            raise NeverDueError(loop, int((~np.isnan(read.history.labels)).sum()))
        tested = [test(read, one, first_ms, progress) for one in policies]
    contenders = measured(read.history, tested)
    told(loop, tested, contenders, console)
    fit_s, all_s = sum(one.cost.fit_cpu_s for one in tested), time.process_time()
    ratio = f", {all_s / fit_s:.1f} times what the fits took" if fit_s else ""
    console.print(f"{all_s:.0f} CPU s in all{ratio}")
    place.mkdir(parents=True, exist_ok=True)
    kept_files(loop, tested, contenders, place, read)
    console.print(f"the pictures: {place / 'backtest.html'}")


def recorded_events(folder: Path, loop: Loop, data: Path | None) -> Path:
    """Where the recorded events are; an example's own prepare.py makes them at the first time."""
    source = data or data_folder(folder)
    script = folder / "prepare.py"
    if data is None and script.is_file() and not event_files(source, loop.predict.on):
        source = ClusterSettings().data_dir / f"data-{loop.name}"
        if not source.is_dir() or not event_files(source, loop.predict.on):
            subprocess.run([sys.executable, str(script), str(source)], check=True)
    return source


def reading(loop: Loop, source: Path, progress: Progress) -> Recording:
    """Read the events once, with a bar."""
    with opened(loop, source) as recorded:
        bar = progress.add_task("features and labels", total=sum(recorded.counts.values()))
    return recording(loop, source, lambda _at, count: progress.advance(bar, count))


def test(read: Recording, policy: Policy, first_ms: int, progress: Progress) -> Tested:
    """Run one policy, with a bar over event time."""
    began_s = time.process_time()
    asks = read.history.asks
    bar = progress.add_task(policy.name, total=int(asks.at_ms[-1] - asks.at_ms[0]))

    def reached(at_ms: int) -> None:
        progress.update(bar, completed=at_ms - int(asks.at_ms[0]))

    if policy.kind == "loop":
        ran = closed.run(read, policy.history_ms, reached)
        scores, fits, fit_s, marks = ran.scores, ran.fits, ran.fit_s, closed_marks(ran)
        models = closed.models_registered(ran.events)
    else:
        done = kept(read.history, first_ms, policy.every_ms, policy.history_ms, reached)
        scores, fits, fit_s, marks = done.scores, len(done.fits), done.fit_s, schedule_marks(done)
        models = fits
    progress.update(bar, completed=int(asks.at_ms[-1] - asks.at_ms[0]))
    return Tested(policy, scores, marks, Cost(models, fits, time.process_time() - began_s, fit_s))


def measured(history: History, tested: Sequence[Tested]) -> Sequence[Contender]:
    """Each policy on the labelled rows that all of them scored, but for those that never had a model."""
    rows = ~np.isnan(history.labels)
    for one in tested:
        some = scored(one.scores)
        rows &= some if some.any() else True
    return [
        contender(
            one.policy.name,
            one.policy.name,
            one.cost.models,
            loop=history.loop,
            at_ms=history.asks.at_ms[rows],
            labels=history.labels[rows],
            scores=one.scores[rows],
        )
        for one in tested
    ]


def closed_marks(ran: closed.Ran) -> list[Mark]:
    """Drifts, requests and promotions on the time axis."""
    found = []
    for event in ran.events:
        if isinstance(event, DriftDetected):
            found.append(Mark("drift", event.at_ms, ", ".join(s.name for s in event.signals if s.drifted)))
        if isinstance(event, RetrainRequested):
            found.append(Mark("retrain", event.at_ms, event.cause.kind))
        if isinstance(event, DeploymentChanged) and event.cause in {"first", "promoted"} and event.champion:
            found.append(Mark("promoted", event.effective_at_ms, f"version {event.champion.version}"))
    return found


def schedule_marks(done: Kept) -> list[Mark]:
    """When a schedule fitted."""
    return [Mark("retrain", at_ms, f"{rows:,} rows") for at_ms, rows in done.fits]


def told(loop: Loop, tested: Sequence[Tested], contenders: Sequence[Contender], console: Console) -> None:
    """The table."""
    table = Table(title=f"{loop.name}: the same rows for every policy")
    metrics = list(contenders[0].metrics)
    ranked = any(one.within_day_auc is not None for one in contenders)
    costs = ("models", "fits", "CPU s", "of it fits")
    for name in ("policy", *metrics, *(["AUC within a day"] if ranked else []), *costs):
        table.add_column(name, justify="left" if name == "policy" else "right")
    for one, found in zip(tested, contenders, strict=True):
        values = [f"{found.metrics[name]:.4f}" if name in found.metrics else "–" for name in metrics]
        day = "–" if found.within_day_auc is None else f"{found.within_day_auc:.4f}"
        took = one.cost
        cost = (str(took.models), str(took.fits), f"{took.cpu_s:.0f}", f"{took.fit_cpu_s:.0f}")
        table.add_row(one.policy.name, *values, *([day] if ranked else []), *cost)
    console.print(table)


def kept_files(
    loop: Loop, tested: Sequence[Tested], contenders: Sequence[Contender], place: Path, read: Recording
) -> None:
    """backtest.html with a chart for each metric, backtest.json with the figures."""
    span = (int(read.history.asks.at_ms[0]), int(read.history.asks.at_ms[-1]))
    runs = [PolicyRun(found, one.marks, one.cost) for one, found in zip(tested, contenders, strict=True)]
    (place / "backtest.html").write_text(
        policies_page(f"{loop.name}: policies compared", runs, span, loop.model.metric)
    )
    figures = [
        {
            "policy": one.policy.name,
            "metrics": dict(found.metrics),
            "auc_within_day": found.within_day_auc,
            "models": one.cost.models,
            "fits": one.cost.fits,
            "rows": found.rows,
            "cpu_s": round(one.cost.cpu_s, 1),
            "fit_cpu_s": round(one.cost.fit_cpu_s, 1),
        }
        for one, found in zip(tested, contenders, strict=True)
    ]
    (place / "backtest.json").write_text(json.dumps({"loop": loop.name, "policies": figures}, indent=2) + "\n")
