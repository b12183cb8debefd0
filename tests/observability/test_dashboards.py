"""Every query of the dashboards and alerts, asked of a real Prometheus that scrapes real services while a loop closes.

It needs the program `prometheus` (Debian: apt-get install prometheus), so it stands outside of `make test` and of CI:
`make test-dashboards` runs it, before a release.
"""

import json
import shutil
import subprocess
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import httpx
import pytest
import yaml
from trimtab.cli.cluster.programs import SERVICES
from trimtab.cli.processes import free_port
from trimtab.runtime.clock import wall_ms
from trimtab.testing import drifting
from trimtab.testing.clusters import Cluster
from trimtab.testing.dashboards import Query, queries

pytestmark = pytest.mark.timeout(600)
ROOT = Path(__file__).resolve().parents[2]
QUERIES = list(queries(ROOT / "infra/grafana/dashboards"))
LOOP = drifting.loop().name
INTERVAL_S = 1
RATE_S = 8
"""What Grafana would put for $__rate_interval: some scrapes."""
PATIENCE_S = 60.0
QUIET = {"failed: {{reason}}", "{{stage}}: {{reason}}"}
"""Failed trainings and restarted tasks: there are none here, so the answer is right when it is empty."""
HAPPENED = {"drifts": 1, "requested: {{kind}}": 1, "registered: {{verdict}}": 1, "deployed: {{kind}}": 1}
"""What happens once, by legend, and how often each of its series counts it at least."""


@dataclass(frozen=True)
class Prometheus:
    """A running server. `began_s`: since when it scrapes."""

    url: str
    began_s: float

    def asked(self, query: Query) -> list[dict[str, Any]]:
        """The series that a panel would draw of everything since the beginning."""
        expression = query.expression.replace("$loop", LOOP).replace("$__rate_interval", f"{RATE_S}s")
        window = {"start": self.began_s, "end": wall_ms() / 1000, "step": INTERVAL_S}
        answer = httpx.get(f"{self.url}/api/v1/query_range", params={"query": expression, **window}, trust_env=False)
        body = answer.json()
        assert body["status"] == "success", body
        found: list[dict[str, Any]] = body["data"]["result"]
        return found

    def get(self, path: str, **params: str) -> Any:
        return httpx.get(f"{self.url}{path}", params=params, trust_env=False).json()["data"]


def configured(urls: Mapping[str, str]) -> dict[str, Any]:
    """The configuration of docker-compose's Prometheus, its targets found on this machine."""
    config: dict[str, Any] = yaml.safe_load((ROOT / "infra/prometheus/prometheus.yml").read_text())
    config["global"] = {"scrape_interval": f"{INTERVAL_S}s", "evaluation_interval": f"{INTERVAL_S}s"}
    config["rule_files"] = [str(ROOT / "infra/prometheus" / file) for file in config["rule_files"]]
    [trimtab] = [job for job in config["scrape_configs"] if job["job_name"] == "trimtab"]
    trimtab["relabel_configs"] += [
        {
            "source_labels": ["service"],
            "regex": service,
            "target_label": "__address__",
            "replacement": urlsplit(url).netloc,
        }
        for service, url in urls.items()
    ]
    return {**config, "scrape_configs": [trimtab]}


@contextmanager
def running_prometheus(folder: Path, config: Mapping[str, Any]) -> Iterator[Prometheus]:
    program = shutil.which("prometheus")
    assert program, "there is no program `prometheus`: apt-get install prometheus (or put its binary on PATH)"
    folder.mkdir()
    (folder / "prometheus.yml").write_text(yaml.safe_dump(config))
    address = f"127.0.0.1:{free_port(None)}"
    argv = [program, f"--config.file={folder / 'prometheus.yml'}", f"--storage.tsdb.path={folder / 'data'}"]
    with (folder / "log").open("wb") as log:
        process = subprocess.Popen([*argv, f"--web.listen-address={address}"], stdout=log, stderr=log)
        try:
            found = Prometheus(f"http://{address}", wall_ms() / 1000)
            eventually(lambda: answers(f"{found.url}/-/ready"), (folder / "log").read_text)
            yield found
        finally:
            process.terminate()
            process.wait(timeout=20)


def answers(url: str) -> bool:
    try:
        return httpx.get(url, trust_env=False).status_code == 200
    except httpx.TransportError:
        return False


def eventually(holds: Callable[[], bool], otherwise: Callable[[], str]) -> None:
    deadline_s = time.monotonic() + PATIENCE_S
    while not holds():
        assert time.monotonic() < deadline_s, otherwise()
        time.sleep(0.2)


def send(ingest: str, *bodies: Mapping[str, Any]) -> None:
    """Offers over HTTP."""
    url = f"{ingest}/v1/loops/{LOOP}/events/offer"
    for body in bodies:
        assert httpx.post(url, content=json.dumps(body), trust_env=False).status_code in (200, 422)


def played(cluster: Cluster, folder: Path, ingest: str) -> None:
    """A first model, a drift and a second model; then bad events, copies, and a retrain that is beyond the budget."""
    cluster.ok("replay", str(folder))
    last = dict(list(drifting.happened(drifting.HOURS - 1))[-2:][0][3])
    price, late = {"price": "cheap"}, {"offer_id": "late"}
    for _ in range(2):
        send(ingest, {**last, **price}, {**last, **late})
        time.sleep(3 * INTERVAL_S)
    send(ingest, {**last, **late})
    assert "declined (budget)" in cluster.run("retrain", LOOP).stdout


@pytest.fixture(scope="module")
def prometheus(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Prometheus]:
    """One that has watched a loop close."""
    place = tmp_path_factory.mktemp("observed")
    cluster, folder = Cluster(place / "data"), place / LOOP
    drifting.write(folder)
    with ExitStack() as stack:
        stack.callback(cluster.run, "down")
        cluster.ok("up", "--detach")
        urls = {one["service"]: one["url"] for one in cluster.status()["services"] if one["service"] in SERVICES}
        found = stack.enter_context(running_prometheus(place / "prometheus", configured(urls)))
        cluster.ok("apply", str(folder))
        played(cluster, folder, urls["ingest"])
        time.sleep(5 * INTERVAL_S)
        yield found


def test_every_service_is_scraped_under_its_name(prometheus: Prometheus) -> None:
    targets = prometheus.get("/api/v1/targets")["activeTargets"]
    assert {one["labels"]["service"]: one["health"] for one in targets} == dict.fromkeys(SERVICES, "up")


def test_a_dashboard_finds_the_loop(prometheus: Prometheus) -> None:
    known = {"match[]": "trimtab_ingest_events_total"}
    assert prometheus.get("/api/v1/label/loop/values", **known) == [LOOP]


def test_every_alert_is_evaluated_and_none_is_raised_while_all_goes_well(prometheus: Prometheus) -> None:
    rules = [rule for group in prometheus.get("/api/v1/rules")["groups"] for rule in group["rules"]]
    assert rules
    assert {rule["name"]: rule["health"] for rule in rules} == {rule["name"]: "ok" for rule in rules}
    assert [rule["name"] for rule in rules if rule["state"] != "inactive" and rule["name"] != "LoopHeld"] == []


@pytest.mark.parametrize("query", QUERIES, ids=[f"{one.panel}: {one.legend}" for one in QUERIES])
def test_a_query_draws_what_happened(prometheus: Prometheus, query: Query) -> None:
    series = prometheus.asked(query)
    if query.legend in QUIET:
        return
    assert series, "nothing to draw"
    named = [part.split("}}")[0] for part in query.legend.split("{{")[1:]]
    assert all(one["metric"].get(name) for one in series for name in named), "a legend without its words"
    assert all(peak(one["values"]) >= HAPPENED.get(query.legend, 0) for one in series)


def peak(values: Sequence[tuple[float, str]]) -> float:
    return max((float(value) for _, value in values if value != "NaN"), default=0.0)
