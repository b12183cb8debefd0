"""A loop with classes through the backtest: a class that comes late, a metric by its declaration, every policy."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from trimtab.cli.backtest import closed
from trimtab.cli.backtest.command import backtest
from trimtab.cli.backtest.contenders import measure
from trimtab.cli.backtest.recorded import Recording, recording
from trimtab.cli.backtest.schedules import kept
from trimtab.loops import declaration
from trimtab.ml import metrics

HOUR_MS = 3_600_000
DAY_MS = 24 * HOUR_MS
START_MS = 1_714_521_600_000
DAYS, PER_DAY = 16, 150
NEW_DAY = 8
"""From then on there is a third class."""
LOOP = """
[loop]
name = "parcels"
task = "multiclass"

[events]
sent = { schema = "sent.avsc", id = "parcel", time = "sent_at" }
ended = { schema = "ended.avsc", id = "parcel", time = "ended_at" }

[predict]
on = "sent"
key = "parcel"

[label]
of = "ended"
by = ["parcel"]
within = "2h"
value = "last(how)"
settle = "first"

[features.row]
weight = "weight"

[model]
estimator = "sklearn.linear_model.LogisticRegression"
metric = "brier"

[train]
first_after = { rows = 600 }
fit_time = "3h"

[gate]
holdout = "1d"
block = "3h"
watch = "12h"

[retrain]
grown = 1.3
cooldown = "12h"
budget = "12 per 30d"
"""


def schema(name: str, **fields: str) -> str:
    time = {"type": "long", "logicalType": "timestamp-millis"}
    listed = [{"name": field, "type": time if kind == "time" else kind} for field, kind in fields.items()]
    return json.dumps({"type": "record", "name": name, "fields": listed})


@pytest.fixture(scope="module")
def parcels(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a loop with its recorded events: light ones come back, heavy ones arrive, the heaviest get lost."""
    folder = tmp_path_factory.mktemp("parcels")
    (folder / "loop.toml").write_text(LOOP)
    (folder / "sent.avsc").write_text(schema("sent", parcel="string", sent_at="time", weight="double"))
    (folder / "ended.avsc").write_text(schema("ended", parcel="string", ended_at="time", how="string"))
    rng = np.random.default_rng(5)
    count = DAYS * PER_DAY
    at = np.sort(START_MS + rng.integers(0, DAYS * DAY_MS, count))
    weight = rng.normal(0.0, 1.0, count)
    how = np.where(weight + rng.normal(0.0, 0.5, count) > 0, "arrived", "back")
    how = np.where((weight > 0.8) & (at > START_MS + NEW_DAY * DAY_MS), "lost", how)
    frame = pl.DataFrame({"parcel": [f"p{n:05d}" for n in range(count)], "sent_at": at, "weight": weight})
    ended = pl.DataFrame({"parcel": frame["parcel"], "ended_at": at + HOUR_MS, "how": how})
    (folder / "data").mkdir()
    for name, rows, time in (("sent", frame, "sent_at"), ("ended", ended, "ended_at")):
        times = pl.col(time).cast(pl.Datetime("ms")).dt.replace_time_zone("UTC")
        rows.with_columns(times).write_parquet(folder / "data" / f"{name}.parquet")
    return folder


@pytest.fixture(scope="module")
def read(parcels: Path) -> Recording:
    return recording(declaration.load(parcels), parcels / "data")


def test_labels_are_positions_among_all_classes(read: Recording, parcels: Path) -> None:
    history = read.history
    assert history.classes == ("arrived", "back", "lost")
    how = pl.read_parquet(parcels / "data" / "ended.parquet")["how"].to_numpy()
    known = ~np.isnan(history.labels)
    assert known.mean() > 0.98
    assert np.array_equal(np.array(history.classes)[history.labels[known].astype(int)], how[known])


def test_a_class_that_a_model_does_not_know_was_impossible_to_it(read: Recording) -> None:
    history = read.history
    first_ms = history.first_due_ms()
    assert first_ms is not None
    scores = kept(history, first_ms, None, None).scores
    rows = np.isfinite(scores[:, 0]) & ~np.isnan(history.labels)
    assert (scores[rows, 2] == 0).all()
    assert scores[rows].sum(axis=1) == pytest.approx(1.0)
    own = np.where(history.labels == 2, -1, history.labels)
    for metric in metrics.FOR_TASK["multiclass"]:
        assert measure(metric, history.labels[rows], scores[rows]) == measure(metric, own[rows], scores[rows, :2])


def test_fits_on_all_cores_neither_fail_nor_change_each_other(read: Recording) -> None:
    """Each warns that it did not converge; a schedule that fits half as often made half of them."""
    history = read.history
    first_ms = history.first_due_ms()
    assert first_ms is not None
    unconverged = replace(history.loop, model=replace(history.loop.model, params={"max_iter": 1}))
    often, seldom = (kept(replace(history, loop=unconverged), first_ms, hours * HOUR_MS, None) for hours in (3, 6))
    assert len(often.fits) > 60
    assert set(seldom.fits) < set(often.fits)
    served_ms = history.asks.at_ms - first_ms - history.loop.train.fit_time_ms
    both = (served_ms >= 0) & (served_ms % (6 * HOUR_MS) < 3 * HOUR_MS)
    assert both.sum() > 100
    assert np.array_equal(often.scores[both], seldom.scores[both])


def test_the_closed_loop_learns_the_new_class(read: Recording) -> None:
    """Models of two classes and of three serve one after the other, each the other's shadow."""
    ran = closed.run(read, None)
    scored = np.isfinite(ran.scores[:, 0])
    assert ran.scores[scored].sum(axis=1) == pytest.approx(1.0)
    assert (ran.scores[scored][:50, 2] == 0).all()
    assert (ran.scores[scored][-50:, 2] > 0).all()


def test_the_command_compares_policies(parcels: Path, tmp_path: Path) -> None:
    backtest(parcels, ["never", "every=3d", "loop"], None, parcels / "data", tmp_path)
    figures = {one["policy"]: one for one in json.loads((tmp_path / "backtest.json").read_text())["policies"]}
    assert list(figures) == ["never", "every 3d", "loop"]
    assert all(list(one["metrics"]) == ["brier", "log_loss", "accuracy"] for one in figures.values())
    assert all(one["auc_within_day"] is None for one in figures.values())
    for policy in ("every 3d", "loop"):
        assert figures[policy]["fits"] > 1
        assert figures[policy]["metrics"]["brier"] < figures["never"]["metrics"]["brier"]
        assert figures[policy]["metrics"]["accuracy"] > figures["never"]["metrics"]["accuracy"]
    page = (tmp_path / "backtest.html").read_text()
    assert page.index("Brier, week by week") < page.index("log-loss, week by week") < page.index("accuracy, week")
    assert "AUC" not in page
    charts = 3 * 2  # metrics, and a wide and a narrow one of each
    for number, policy in enumerate(figures):
        dots = page.count(f'<circle class="mark own c{number}"') / charts
        assert dots == figures[policy]["fits"] if policy != "loop" else dots > figures[policy]["models"]
    took = page[page.index("What it took") :]
    assert [took.count(f"<td>{policy}</td>") for policy in figures] == [1, 1, 1]
    assert f'<td class="n">{figures["loop"]["fit_cpu_s"]:.1f}</td>' in took
