"""A changed declaration, and each service in another release and back, while events flow: nothing lost or doubled."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

CAMPAIGN = Path(__file__).resolve().parents[1] / "chaos" / "campaign.py"
FAULTS = ("new version", "upgrade and downgrade")
WRONG = ("lost", "doubled", "out_of_order", "wrong_aggregates", "control_violations")


@pytest.mark.timeout(600)
def test_versions_and_releases_change_under_load_and_nothing_is_lost_or_doubled(tmp_path: Path) -> None:
    table = tmp_path / "chaos.json"
    argv = [sys.executable, str(CAMPAIGN), "--only", ",".join(FAULTS), "--rounds", "1", "--json", str(table)]
    done = subprocess.run(argv, capture_output=True, text=True, check=False, timeout=580)
    assert done.returncode == 0, done.stdout + done.stderr
    rows = json.loads(table.read_text())["faults"]
    assert {row["fault"] for row in rows} >= set(FAULTS)
    assert {row[name] for row in rows for name in WRONG} == {0}
