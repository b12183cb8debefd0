"""`trimtab demo`: how it ends."""

import io
import json
from pathlib import Path

import pytest
from rich.console import Console
from trimtab.cli.demo.command import PromiseBrokenError, written
from trimtab.cli.demo.summary import summary
from trimtab.cli.report.data import Report


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
