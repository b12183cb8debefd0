"""The same recorded events through a real cluster and through a backtest: the same features, scores and decisions."""

import asyncio
import runpy
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import pytest
from trimtab.cli.backtest import closed
from trimtab.cli.backtest.recorded import Recording, recording
from trimtab.cli.backtest.rows import History
from trimtab.cli.cluster.address import find
from trimtab.cli.demo.collect import Collected, collect
from trimtab.cli.demo.worth import history_of
from trimtab.cli.settings import ClusterSettings
from trimtab.contracts import times, topics
from trimtab.contracts.control import (
    DeploymentChanged,
    ModelPerformance,
    PairedDifference,
    PerformanceMeasured,
    RetrainRequested,
)
from trimtab.loops import declaration
from trimtab.ml.datasets import Dataset
from trimtab.testing.clusters import Cluster

CLICKS = Path(__file__).resolve().parents[2] / "examples" / "clicks"
FIT_TIME = ('fit_time = "1h"', 'fit_time = "12h"')
"""So that a replay may run half a day ahead: minutes become seconds."""
CATCH_UP = ("[loop]\n", '[loop]\ncatch_up = "30m"\n')
"""Far less than that: tiles have to live as long as the loop needs them, not as long as it is declared."""


@pytest.fixture
def clicks(tmp_path: Path) -> Path:
    """The folder of the loop, with its events in `data`."""
    runpy.run_path(str(CLICKS / "generate.py"))["generate"](tmp_path / "clicks" / "data")
    for schema in CLICKS.glob("*.avsc"):
        (tmp_path / "clicks" / schema.name).write_text(schema.read_text())
    toml = (CLICKS / "loop.toml").read_text()
    assert FIT_TIME[0] in toml
    assert CATCH_UP[0] in toml
    (tmp_path / "clicks" / "loop.toml").write_text(toml.replace(*FIT_TIME).replace(*CATCH_UP))
    return tmp_path / "clicks"


@pytest.fixture
def live(tmp_path: Path, clicks: Path) -> Iterator[Collected]:
    """What the loop's topics hold after a replay through a cluster."""
    cluster = Cluster(tmp_path / "cluster")
    try:
        cluster.ok("up", "--detach")
        cluster.ok("apply", str(clicks))
        cluster.ok("replay", str(clicks))
        kafka = find(ClusterSettings(data_dir=cluster.folder)).kafka
        yield asyncio.run(collect(kafka.bootstrap_servers, declaration.load(clicks)))
    finally:
        cluster.run("down")


@pytest.mark.timeout(600)
def test_a_live_run_and_a_backtest_agree(live: Collected, clicks: Path) -> None:
    loop = declaration.load(clicks)
    read = recording(loop, clicks / "data")
    ran = closed.run(read, None)
    history = history_of(loop, live)
    there = by_key(history.asks)
    assert different(there, by_key(read.history.asks)) == {}
    assert decisions(live.control[topics.RETRAIN_REQUESTED], live.control[topics.DEPLOYMENT_CHANGED]) == decisions(
        [event for event in ran.events if isinstance(event, RetrainRequested)],
        [event for event in ran.events if isinstance(event, DeploymentChanged)],
    )
    watched = measured([event for event in ran.events if isinstance(event, PerformanceMeasured)])
    assert measured(live.control[topics.PERFORMANCE_MEASURED]) == watched
    assert any(paired for _, _, paired in watched)
    assert other_scores(there, scores_by_key(read, ran.scores)) == []
    assert np.isfinite(there.scores).sum() > len(there) / 2
    assert labels(history) == labels(read.history)


def by_key(rows: Dataset) -> Dataset:
    return rows.take(np.argsort(rows.keys.astype(str)))


def different(one: Dataset, other: Dataset) -> dict[str, int]:
    """In how many rows they differ, by field."""
    assert one.keys.tolist() == other.keys.tolist()
    columns = {"at_ms": (one.at_ms, other.at_ms)}
    columns |= dict(zip(one.number_names, zip(one.numbers.T, other.numbers.T, strict=True), strict=True))
    columns |= dict(zip(one.category_names, zip(one.categories.T, other.categories.T, strict=True), strict=True))
    unlike = {name: int((~((a == b) | ((a != a) & (b != b)))).sum()) for name, (a, b) in columns.items()}
    return {name: count for name, count in unlike.items() if count}


def scores_by_key(read: Recording, scores: np.ndarray) -> np.ndarray:
    found: np.ndarray = scores[np.argsort(read.history.asks.keys.astype(str))]
    return found


def other_scores(rows: Dataset, scores: np.ndarray) -> list[tuple[str, float, float]]:
    """When, and the two scores, of the rows that were scored otherwise; in order of time."""
    unlike = np.flatnonzero(~((rows.scores == scores) | (np.isnan(rows.scores) & np.isnan(scores))))
    unlike = unlike[np.argsort(rows.at_ms[unlike])]
    return [(times.text(int(rows.at_ms[row])), float(rows.scores[row]), float(scores[row])) for row in unlike]


def decisions(
    requested: Sequence[RetrainRequested], deployed: Sequence[DeploymentChanged]
) -> list[tuple[int, str, str | None]]:
    """When what was asked for and deployed, and which model it was, to the byte."""
    causes = [(one.at_ms, one.cause.kind, None) for one in requested]
    champions = [
        (one.effective_at_ms, one.cause, None if one.champion is None else one.champion.digest) for one in deployed
    ]
    return [*causes, *champions]


def measured(events: Sequence[PerformanceMeasured]) -> list[tuple[int, list[ModelPerformance], list[PairedDifference]]]:
    """When versions were measured, each by itself and beside others: that decides what is taken back or slowed down."""
    return [(one.at_ms, list(one.models), list(one.paired)) for one in events]


def labels(history: History) -> dict[str, float]:
    """The label of each ask; -1 where there is none."""
    return dict(zip(history.asks.keys.tolist(), np.nan_to_num(history.labels, nan=-1.0).tolist(), strict=True))
