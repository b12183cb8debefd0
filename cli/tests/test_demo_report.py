"""The demo's report, from a small loop's topics to the summary, the sentences and the page."""

import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import polars as pl
import pytest
from pydantic import BaseModel
from trimtab.cli.demo.collect import CONTROL, Collected
from trimtab.cli.demo.events import Accepted, Events
from trimtab.cli.demo.made import report, retrain_row
from trimtab.cli.demo.promises import Sent
from trimtab.cli.demo.summary import summary
from trimtab.cli.demo.worth import worth
from trimtab.cli.report.data import Contender, Report
from trimtab.cli.report.page import page
from trimtab.cli.report.words import verdicts
from trimtab.contracts import topics
from trimtab.contracts.control import (
    DeploymentChanged,
    DriftDetected,
    ModelRegistered,
    ModelTrained,
    PerformanceMeasured,
    RetrainRequested,
    TrainingFailed,
)
from trimtab.testing.declarations import offers

EXAMPLES = Path(__file__).parents[2] / "schemas" / "examples"
LOOP = offers(
    train={"first_after": {"rows": 20, "positives": 2}, "fit_time": "1d"},
    model={"estimator": "sklearn.ensemble.HistGradientBoostingClassifier", "params": {"max_iter": 10}},
)
HOUR_MS, DAY_MS = 3_600_000, 86_400_000
YEAR_MS = 1_704_067_200_000
"""2024-01-01."""
DAYS, A_DAY = 200, 8
ROWS = DAYS * A_DAY
EventT = TypeVar("EventT", bound=BaseModel)


def example(kind: type[EventT], file: str, **changes: Any) -> EventT:
    told = json.loads((EXAMPLES / f"{file}.json").read_text())
    return kind.model_validate(told | changes)


ASKED = example(RetrainRequested, "retrain.requested/drift")
TRAINED = example(ModelTrained, "model.trained/passed")
CONTROL_EVENTS: dict[str, list[Any]] = {
    topics.DRIFT_DETECTED: [example(DriftDetected, "drift.detected/loss")],
    topics.RETRAIN_REQUESTED: [ASKED],
    topics.MODEL_TRAINED: [example(ModelTrained, "model.trained/first", at="2024-02-10T00:00:00.000Z"), TRAINED],
    topics.MODEL_REGISTERED: [example(ModelRegistered, "model.registered/passed")],
    topics.DEPLOYMENT_CHANGED: [
        example(DeploymentChanged, "deployment.changed/first", effective_at="2024-02-12T00:00:00.000Z"),
        example(DeploymentChanged, "deployment.changed/promoted"),
    ],
    topics.PERFORMANCE_MEASURED: [example(PerformanceMeasured, "performance.measured/two_versions")],
}


def events(**changes: Sequence[Any]) -> dict[str, Sequence[Any]]:
    return {topic: [] for topic in CONTROL} | CONTROL_EVENTS | changes


def collected() -> Collected:
    """Offers that are the likelier clicked on the cheaper they are; the loop knows that, its first model does not."""
    rng = np.random.default_rng(0)
    price = rng.normal(size=ROWS)
    clicked = (rng.uniform(size=ROWS) < 1 / (1 + np.exp(2 * price))).astype(float)
    at_ms = YEAR_MS + np.arange(ROWS) * (DAY_MS // A_DAY)
    keys = [f"o{number}" for number in range(ROWS)]
    place = {"partition": pl.Series([0] * ROWS, dtype=pl.Int32), "offset": pl.Series(range(ROWS), dtype=pl.Int64)}
    predictions = pl.DataFrame(
        {
            **place,
            "key": keys,
            "at_ms": at_ms,
            "version": pl.Series([2] * ROWS, dtype=pl.Int64),
            "score": 1 / (1 + np.exp(2 * price)),
            "feature price": price,
            "feature place": ["top"] * ROWS,
        }
    )
    outcomes = pl.DataFrame(
        {
            "prediction_partition": place["partition"],
            "prediction_offset": place["offset"],
            "settled_at_ms": at_ms + HOUR_MS,
            "revision": pl.Series([0] * ROWS, dtype=pl.Int32),
            "labelled": [True] * ROWS,
            "suspect": [False] * ROWS,
            "label": clicked,
            "label_class": pl.Series([None] * ROWS, dtype=pl.String),
            "key": keys,
        }
    )
    shadows = pl.DataFrame({**place, "version": pl.Series([1] * ROWS, dtype=pl.Int64), "score": [0.5] * ROWS})
    asks = frozenset(keys)
    return Collected(
        events=Events({"offer": Accepted(ROWS, ROWS, asks), "click": Accepted(0, 0, frozenset())}, asks, asks),
        keys=[key.encode() for key in keys],
        predictions=predictions,
        shadows=shadows,
        outcomes=outcomes,
        control=events(),
        rejected=[],
    )


PLAYED = Sent({"offer": ROWS}, {"offer": frozenset(f"o{number}" for number in range(ROWS))})


@pytest.fixture(scope="module")
def made() -> Report:
    found = collected()
    return report(LOOP, found, worth(LOOP, found, lambda _: None), PLAYED)


def test_contenders_are_measured_on_the_same_rows(made: Report) -> None:
    rows = {one.name: one.rows for one in made.contenders}
    march = (DAYS - 60) * A_DAY
    assert rows["loop"] == rows["first_model"] == rows["cron_30d"] == march
    assert rows["jan_apr_model"] == rows["loop_may_dec"] < march
    assert made.contender("jan_apr_model").beside == "loop_may_dec"
    assert {one.name: one.refits for one in made.contenders if one.beside is None} == {
        "loop": 2,
        "first_model": 1,
        "cron_30d": 6,
        "loop_may_dec": 2,
    }


def test_scores_are_those_that_were_said(made: Report) -> None:
    assert made.contender("first_model").metrics["log_loss"] == pytest.approx(np.log(2))
    assert made.contender("loop").metrics["auc"] > 0.7
    assert made.contender("cron_30d").metrics["auc"] > 0.7


def test_without_a_model_nothing_is_compared() -> None:
    found = replace(collected(), control=events(**{topics.MODEL_TRAINED: []}))
    assert worth(LOOP, found, lambda _: None) == []


def test_the_summary_has_every_figure(made: Report) -> None:
    figures = summary(made, wall_s=61.26, peak_rss_mb=1234.5)
    compared = ("loop", "first_model", "jan_apr_model", "cron_30d")
    assert {f"{metric}_{name}" for metric in ("auc", "log_loss") for name in compared} <= figures.keys()
    counted = {"events": ROWS, "predictions": ROWS, "outcomes": ROWS, "rejected": 0, "lost": 0, "duplicated": 0}
    happened = {"drifts": 1, "retrains_requested": 1, "models_trained": 2, "promotions": 2, "rollbacks": 0}
    whole = {"refits": 2, "wall_s": 61.3, "peak_rss_mb": 1234}
    assert {name: figures[name] for name in (*counted, *happened, *whole)} == counted | happened | whole


def test_what_is_lost_is_in_the_figures_and_in_the_first_words() -> None:
    found = collected()
    told = report(LOOP, replace(found, keys=found.keys[1:]), [], PLAYED)
    assert told.counts["lost"] == 1
    assert next(iter(verdicts(told))) == "Accepted asks without a prediction: 1 (o0)."


def test_the_page_shows_it_all(made: Report) -> None:
    shown = page(made)
    assert f"<b>{ROWS:,}</b><span>events</span>" in shown
    assert "<td>The first model, kept</td>" in shown
    assert "The loop did better than the first model, kept" in shown
    assert "log-loss, week by week" in shown
    assert "+0.0100 (-0.0010 … +0.0200)" in shown
    assert "loss: evidence 1,602 of 1,440" in shown


def test_a_retrain_with_what_its_predecessor_says_it_gained() -> None:
    row = retrain_row(ASKED, events())
    assert (row.cause, row.verdict, row.version, row.rows) == ("drift (loss)", "passed", 3, 80_100)
    assert row.gate == "log_loss 0.4610 against 0.4680 of champion on 12,900 rows"
    assert row.gain == (0.01, -0.001, 0.02)
    assert row.watched_rows == 1_000


def test_a_retrain_that_made_no_model() -> None:
    asked = example(RetrainRequested, "retrain.requested/drift", request_id="flights-2")
    failed = example(TrainingFailed, "training.failed/one_class")
    assert retrain_row(asked, events()).gate == "no answer yet"
    row = retrain_row(asked, events(**{topics.TRAINING_FAILED: [failed]}))
    assert (row.verdict, row.gate, row.gain) == ("no model", failed.error, None)


def test_a_retrain_that_failed_its_gate_gained_nothing() -> None:
    failed = TRAINED.model_copy(update={"gate": TRAINED.gate.model_copy(update={"verdict": "failed"})})
    row = retrain_row(ASKED, events(**{topics.MODEL_TRAINED: [failed]}))
    assert (row.verdict, row.gain) == ("failed", None)


def contender(name: str, title: str, log_loss: float, refits: int) -> Contender:
    return Contender(name, title, refits, 100, {"log_loss": log_loss}, None, {})


@pytest.mark.parametrize(
    ("log_loss", "refits", "said"),
    [
        (0.5, 3, "A refit every 30 days did as well as the loop, with fewer fits (log-loss 0.5000 against 0.5000, "),
        (0.5, 9, "A refit every 30 days did as well as the loop, with as many fits or more ("),
        (
            0.4,
            9,
            "A refit every 30 days did better than the loop (log-loss 0.5000 against 0.4000, 8 refits against 9).",
        ),
        (0.6, 9, "The loop did better than a refit every 30 days ("),
    ],
)
def test_a_plain_schedule_gets_its_due(log_loss: float, refits: int, said: str) -> None:
    both = [
        contender("loop", "The loop", 0.5, 8),
        contender("cron_30d", "A refit every 30 days", log_loss, refits),
    ]
    told = Report("offers", "log_loss", 0, 1, {}, contenders=both, marks=[], retrains=[])
    assert next(iter(verdicts(told))).startswith(said)
