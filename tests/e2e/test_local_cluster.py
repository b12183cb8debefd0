"""`trimtab up` and `down` as a person uses them, and what is left after a kill of everything."""

import json
import os
import signal
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from trimtab.cli.cluster.programs import SERVICES
from trimtab.testing.clusters import Cluster

ROOT = Path(__file__).resolve().parents[2]
FLIGHTS = ROOT / "examples" / "flights"
PATIENCE_S = 120.0


def eventually(holds: Callable[[], bool], what: str) -> None:
    deadline = time.monotonic() + PATIENCE_S
    while not holds():
        assert time.monotonic() < deadline, f"not in {PATIENCE_S:.0f} s: {what}"
        time.sleep(0.2)


@pytest.fixture
def cluster(tmp_path: Path) -> Iterator[Cluster]:
    found = Cluster(tmp_path / "data")
    yield found
    found.run("down")
    found.kill()


@pytest.mark.timeout(600)
def test_a_cluster_comes_up_mends_itself_and_comes_back_after_a_kill_of_everything(
    cluster: Cluster, tmp_path: Path
) -> None:
    cluster.ok("up", "--detach")
    up = cluster.status()
    assert up["ready"]
    assert {one["service"] for one in up["services"]} == {"kafka", *SERVICES}
    assert "up already" in cluster.run("up", "--detach").stderr
    assert "version 1" in cluster.ok("apply", str(FLIGHTS))

    before = cluster.service("ingest")
    os.kill(before["pid"], signal.SIGKILL)
    eventually(lambda: cluster.service("ingest")["restarts"] == 1, "ingest is started again")
    eventually(lambda: cluster.status()["ready"], "everything is ready again")
    assert cluster.service("ingest")["url"] == before["url"]

    assert len(cluster.processes()) >= len(SERVICES) + 2
    cluster.kill()
    assert "no cluster is up" in cluster.run("status", "--json").stderr

    shown = tmp_path / "shown"
    with shown.open("w") as terminal:
        up_again = cluster.begin("up", shown=terminal)
    eventually(lambda: cluster.run("status", "--json").returncode == 0, "everything is ready again")
    assert [loop["loop"] for loop in json.loads(cluster.ok("loops", "--json"))] == ["flights"]
    assert "nothing changed" in cluster.ok("apply", str(FLIGHTS))
    assert "ingest" in cluster.ok("logs", "ingest", "--lines", "5")
    os.killpg(up_again.pid, signal.SIGINT)  # Ctrl-C goes to all that the terminal runs
    assert up_again.wait(PATIENCE_S) == 0
    assert shown.read_text().endswith("stopped; `trimtab up` goes on where it was\n")
    assert cluster.processes() == []


@pytest.mark.timeout(400)
def test_a_killed_supervisor_takes_everything_with_it(cluster: Cluster) -> None:
    cluster.ok("up", "--detach")
    state = json.loads((cluster.folder / "run" / "cluster.json").read_text())
    os.kill(state["supervisor"]["pid"], signal.SIGKILL)
    if sys.platform == "linux":
        eventually(lambda: cluster.processes() == [], "the kernel tells the children, and they end")
    cluster.ok("up", "--detach")
    assert cluster.status()["ready"]
    cluster.ok("down")
    assert cluster.processes() == []
