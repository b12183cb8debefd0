"""The short form of `make chaos`: every service is killed once while events flow."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
from trimtab.cli.cluster.programs import SERVICES

CAMPAIGN = Path(__file__).resolve().parents[1] / "chaos" / "campaign.py"
WRONG = ("lost", "doubled", "out_of_order", "wrong_aggregates", "control_violations")


@pytest.mark.timeout(600)
def test_every_service_is_killed_and_nothing_is_lost_or_doubled(tmp_path: Path) -> None:
    table = tmp_path / "chaos.json"
    argv = [sys.executable, str(CAMPAIGN), "--quick", "--json", str(table)]
    done = subprocess.run(argv, capture_output=True, text=True, check=False, timeout=580)
    assert done.returncode == 0, done.stdout + done.stderr
    rows = json.loads(table.read_text())["faults"]
    assert {row["fault"] for row in rows} >= {f"kill {name}" for name in SERVICES}
    assert sum(row["events"] for row in rows) >= 5_000
    assert {row[name] for row in rows for name in WRONG} == {0}
