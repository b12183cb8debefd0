"""`trimtab init` and `trimtab check` as a user meets them."""

import asyncio
import json
import re
import secrets
from pathlib import Path

import polars as pl
import pytest
import typer
from trimtab.cli.check import check
from trimtab.cli.init import init
from trimtab.cli.loops.apply import apply
from trimtab.cli.plan import plan
from trimtab.loops import declaration
from trimtab.loops.errors import DraftError
from trimtab.runtime.kafka.connection import Connection
from typer.testing import CliRunner, Result

ROWS = 60


@pytest.fixture
def runner(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> CliRunner:
    monkeypatch.chdir(tmp_path)
    hours = [f"2024-05-{1 + n // 24:02d}T{n % 24:02d}:00:00Z" for n in range(ROWS)]
    rides = pl.DataFrame(
        {
            "ride_id": range(ROWS),
            "asked_at": hours,
            "zone": ["north", "south"] * 30,
            "minutes": [n % 7 + 0.5 for n in range(ROWS)],
        }
    )
    rides.write_csv("rides.csv")
    monkeypatch.delenv("TRIMTAB_KAFKA__BOOTSTRAP_SERVERS", raising=False)
    return CliRunner(env={"COLUMNS": "200"})


def run(runner: CliRunner, *arguments: str, answers: str | None = None) -> Result:
    app = typer.Typer()
    app.command("init")(init)
    app.command("check")(check)
    app.command("plan")(plan)
    return runner.invoke(app, list(arguments), input=answers)


def test_from_a_csv_to_a_right_declaration(runner: CliRunner) -> None:
    made = run(runner, "init", "rides.csv", "--label", "minutes", "--label-delay", "2h", "--yes")

    assert made.exit_code == 0, made.output
    assert "Next: trimtab check rides, then trimtab backtest rides" in made.output
    assert {path.name for path in Path("rides").iterdir()} == {"loop.toml", "asked.avsc", "labelled.avsc", "data"}

    checked = run(runner, "check", "rides", "--events")
    assert checked.exit_code == 0, checked.output
    assert "rides.source.asked" in checked.output
    assert f"{ROWS} labelled events" in checked.output
    assert "rides/loop.toml is right" in checked.output


def test_a_person_answers_the_questions(runner: CliRunner) -> None:
    made = run(runner, "init", "rides.csv", "--out", "mine", answers="minutes\n30m\n")

    assert made.exit_code == 0, made.output
    assert "when the label becomes known" in made.output
    assert 'within = "1h"' in Path("mine/loop.toml").read_text()


def test_scripts_are_told_which_option_to_give(runner: CliRunner) -> None:
    made = run(runner, "init", "rides.csv", "--label", "minutes", "--yes")

    assert isinstance(made.exception, DraftError)
    assert "say it with --label-time or --label-delay" in str(made.exception)


def test_mistakes_end_with_code_1_and_all_at_once(runner: CliRunner) -> None:
    run(runner, "init", "rides.csv", "--label", "minutes", "--label-delay", "2h", "--yes")
    path = Path("rides/loop.toml")
    path.write_text(path.read_text().replace('"hour(asked_at)"', '"huor(asked_at)"').replace("grown", "grwon"))

    checked = run(runner, "check", "rides")

    assert checked.exit_code == 1
    assert "`huor` is no allowed function" in checked.output
    assert "right: `hour`" in checked.output
    assert "unknown key `grwon`" in checked.output
    assert "2 mistakes" in checked.output


@pytest.mark.parametrize(
    ("old", "new", "place", "right"),
    [
        ("max_iter = 100", "max_itr = 100", "model.params", "max_iter"),
        ("HistGradientBoostingRegressor", "HistGradientBostingRegressor", "model.estimator", "import path"),
        ("sklearn.ensemble.HistGradientBoostingRegressor", "sklearn.utils.Bunch", "model.estimator", "import path"),
    ],
)
def test_the_estimator_is_built_too(runner: CliRunner, old: str, new: str, place: str, right: str) -> None:
    run(runner, "init", "rides.csv", "--label", "minutes", "--label-delay", "2h", "--yes")
    path = Path("rides/loop.toml")
    path.write_text(path.read_text().replace(old, new))

    checked = run(runner, "check", "rides")

    assert checked.exit_code == 1
    assert re.search(rf"rides/loop.toml:\d+: {place}:", checked.output), checked.output
    assert right in checked.output


@pytest.mark.kafka
def test_plan_compares_with_what_is_declared(
    runner: CliRunner, broker: Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    name = f"rides_{secrets.token_hex(4)}"
    run(runner, "init", "rides.csv", "--label", "minutes", "--label-delay", "2h", "--yes", "--name", name)
    monkeypatch.setenv("TRIMTAB_KAFKA__BOOTSTRAP_SERVERS", broker.bootstrap_servers)
    folder = Path(name)

    new = run(runner, "plan", name)
    assert "is not declared: apply makes it version 1" in new.output
    assert f"topic {name}.source.asked" in new.output

    asyncio.run(apply(broker, declaration.load(folder), at_ms=0, by="test"))
    assert "is declared exactly so" in run(runner, "plan", name).output

    path = folder / "loop.toml"
    path.write_text(path.read_text().replace("grown = 1.5", "grown = 2.0").replace("max_iter = 100", "max_iter = 50"))
    changes = json.loads(run(runner, "plan", name, "--json").output)
    assert [change["what"] for change in changes] == ["recipe (params)", "retrain.grown"]

    path.write_text(path.read_text().replace("[events]", "partitions = 4\n[events]"))
    refused = run(runner, "plan", name)
    assert refused.exit_code == 1
    assert "partitions 2 → 4" in refused.output
