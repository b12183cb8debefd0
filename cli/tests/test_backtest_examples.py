"""The example loops through the backtest: labels equal the generators' truth, and the loop closes by itself."""

import json
import runpy
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from trimtab.cli.backtest import closed
from trimtab.cli.backtest.command import backtest
from trimtab.cli.backtest.recorded import recording
from trimtab.cli.backtest.schedules import kept
from trimtab.contracts.control import DeploymentChanged, ModelRegistered, ModelTrained, RetrainRequested
from trimtab.loops import declaration

EXAMPLES = Path(__file__).resolve().parents[2] / "examples"


def generate(name: str, folder: Path) -> None:
    runpy.run_path(str(EXAMPLES / name / "generate.py"))["generate"](folder)


@pytest.fixture(params=["clicks", "demand", "machines"])
def example(request: pytest.FixtureRequest, tmp_path: Path) -> tuple[str, Path]:
    generate(request.param, tmp_path)
    return request.param, tmp_path


def test_labels_equal_the_truth_and_the_loop_closes(example: tuple[str, Path]) -> None:
    name, data = example
    loop = declaration.load(EXAMPLES / name)
    read = recording(loop, data)
    truth = pl.read_parquet(data / "truth.parquet")
    asked = pl.DataFrame({loop.predict.key: read.history.asks.keys.tolist(), "found": read.history.labels})
    both = asked.join(truth.with_columns(pl.col(loop.predict.key).cast(pl.String)), on=loop.predict.key)
    known = both.filter(pl.col("found").is_not_nan())
    assert known.height > 0.5 * truth.height
    assert np.array_equal(known["found"].to_numpy(), known["label"].cast(pl.Float64).to_numpy())
    ran = closed.run(read, None)
    kinds = [type(event) for event in ran.events]
    assert kinds.count(RetrainRequested) == kinds.count(ModelTrained) == kinds.count(ModelRegistered) >= 1
    assert any(isinstance(event, DeploymentChanged) and event.cause == "first" for event in ran.events)
    assert np.isfinite(ran.scores).sum() > 0


def test_the_first_model_is_that_of_the_schedule(tmp_path: Path) -> None:
    """Both ask for it at the same event hour, on the same rows, and so score alike until something else is promoted."""
    generate("clicks", tmp_path)
    loop = declaration.load(EXAMPLES / "clicks")
    read = recording(loop, tmp_path)
    first_ms = read.history.first_due_ms()
    assert first_ms is not None
    plain = kept(read.history, first_ms, None, None)
    ran = closed.run(read, None)
    (request, *_) = [event for event in ran.events if isinstance(event, RetrainRequested)]
    assert abs(request.at_ms - first_ms) <= 2 * 3_600_000 + loop.lateness_ms
    assert plain.fits[0][1] > 0


def test_the_command_compares_policies(tmp_path: Path) -> None:
    generate("clicks", tmp_path / "data")
    backtest(EXAMPLES / "clicks", ["never", "loop"], None, tmp_path / "data", tmp_path / "out")
    figures = json.loads((tmp_path / "out" / "backtest.json").read_text())
    assert [one["policy"] for one in figures["policies"]] == ["never", "loop"]
    assert all(0 < one["metrics"]["log_loss"] < 0.8 for one in figures["policies"])
    assert len({one["rows"] for one in figures["policies"]}) == 1, "all on the same rows"
    assert "<svg" in (tmp_path / "out" / "backtest.html").read_text()
