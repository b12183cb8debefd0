"""A changed declaration is applied under load, and changed back: nothing is lost or doubled."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

CAMPAIGN = Path(__file__).resolve().parents[1] / "chaos" / "campaign.py"
FAULT = "new version"
WRONG = ("lost", "doubled", "out_of_order", "wrong_aggregates", "control_violations")


@pytest.mark.timeout(300)
def test_a_changed_declaration_loses_nothing_and_doubles_nothing(tmp_path: Path) -> None:
    table = tmp_path / "chaos.json"
    argv = [sys.executable, str(CAMPAIGN), "--only", FAULT, "--rounds", "1", "--json", str(table)]
    done = subprocess.run(argv, capture_output=True, text=True, check=False, timeout=280)
    assert done.returncode == 0, done.stdout + done.stderr
    rows = json.loads(table.read_text())["faults"]
    assert FAULT in {row["fault"] for row in rows}
    assert {row[name] for row in rows for name in WRONG} == {0}
