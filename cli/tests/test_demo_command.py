"""`trimtab demo`: what it refuses, and how it ends."""

import io
import json
import subprocess
import sys
from pathlib import Path

import pytest
import typer
from rich.console import Console
from trimtab.cli.cluster.state import ClusterState, ProcessState, StateFile
from trimtab.cli.demo.command import DemoUpError, PromiseBrokenError, cleared, demo, written
from trimtab.cli.demo.summary import summary
from trimtab.cli.processes import Identity, identity, is_alive
from trimtab.cli.report.data import Report
from typer.testing import CliRunner

FLIGHTS = Path(__file__).parents[2] / "examples" / "flights"


def report(*broken: str) -> Report:
    counts = {"events": 3, "lost": len(broken)}
    return Report("flights", "log_loss", 0, 1, counts, contenders=[], marks=[], retrains=[], broken=broken)


def end_of(told: Report, place: Path) -> None:
    console = Console(file=io.StringIO(), width=200)
    written(told, summary(told, wall_s=1.0, peak_rss_mb=1.0), place, console)


def test_a_broken_promise_ends_it_after_the_report_is_written(tmp_path: Path) -> None:
    with pytest.raises(PromiseBrokenError, match=r"a promise was broken: Click events sent .*: 1 \(c1\)"):
        end_of(report("Click events sent that are neither accepted nor in quarantine: 1 (c1)."), tmp_path)
    assert json.loads((tmp_path / "summary.json").read_text())["lost"] == 1
    assert "neither accepted nor in quarantine: 1 (c1)" in (tmp_path / "report.html").read_text()


def test_with_every_promise_kept_it_just_ends(tmp_path: Path) -> None:
    end_of(report(), tmp_path)
    assert json.loads((tmp_path / "summary.json").read_text())["lost"] == 0


def test_the_folder_of_a_running_cluster_is_left_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    log = tmp_path / "demo" / "kafka" / "log"
    log.parent.mkdir(parents=True)
    log.write_text("records")
    (tmp_path / "data-flights").mkdir()
    for event in ("departure", "arrival", "weather"):
        (tmp_path / "data-flights" / f"{event}.parquet").touch()
    monkeypatch.setenv("TRIMTAB_DATA_DIR", str(tmp_path))
    app = typer.Typer()
    app.command()(demo)
    with StateFile(tmp_path / "demo").held():
        result = CliRunner().invoke(app, [str(FLIGHTS)])
    assert isinstance(result.exception, DemoUpError)
    assert f"TRIMTAB_DATA_DIR={tmp_path / 'demo'} trimtab down" in str(result.exception)
    assert log.read_text() == "records"


def test_what_a_killed_cluster_left_running_ends_before_its_folder_goes(tmp_path: Path) -> None:
    with subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"]) as left:
        who = identity(left.pid)
        assert who is not None
        process = ProcessState("kafka", 0, "ready", 0.0, who)
        file = StateFile(tmp_path / "demo")
        with file.held():
            file.write(ClusterState(Identity(2**22 + 1, 0.0), "127.0.0.1:9092", (process,)))
        cleared(tmp_path / "demo")
        assert not is_alive(who)
    assert not (tmp_path / "demo").exists()


def test_a_first_demo_finds_no_folder(tmp_path: Path) -> None:
    cleared(tmp_path / "demo")
    assert not (tmp_path / "demo").exists()
