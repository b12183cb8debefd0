"""Kafka goes away under services that are asked over HTTP: nothing that they answered is lost, nothing stands twice."""

import asyncio
import json
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import httpx
import pytest
from rich.console import Console
from trimtab.cli.broker import running_broker, user_jars
from trimtab.cli.loops.apply import apply
from trimtab.cli.settings import ClusterSettings
from trimtab.contracts import topics
from trimtab.runtime.clock import wall_ms
from trimtab.runtime.kafka import Connection, KafkaBus
from trimtab.runtime.marks import is_mark
from trimtab.store.signing import make_key_pair
from trimtab.testing import read_all
from trimtab.testing.declarations import offers

pytestmark = pytest.mark.kafka
WAIT_S = 60.0
LOOP = offers()
PREDICTIONS, EVENTS = topics.predictions(LOOP.name), topics.events(LOOP.name, "offer")
PLAINLY: dict[str, Any] = {"timeout": 30.0, "trust_env": False}


class Process:
    """A service on a broker that comes and goes."""

    def __init__(self, service: str, folder: Path) -> None:
        self._service, self._folder = service, folder
        self._place = folder / "run" / f"{service}-0.json"
        self.start()

    def start(self) -> None:
        self._place.unlink(missing_ok=True)
        with (self._folder / f"{self._service}.log").open("ab") as log:
            command = [sys.executable, "-m", f"trimtab.{self._service}"]
            self._process = subprocess.Popen(command, stdout=log, stderr=log)

    def kill(self) -> None:
        self._process.kill()
        self._process.wait()

    def until_ready(self) -> None:
        wait(lambda: self._place.exists() and self.get("/ready").status_code == 200)

    def get(self, path: str) -> httpx.Response:
        return httpx.get(self._url + path, **PLAINLY)

    def post(self, path: str, body: Mapping[str, Any]) -> httpx.Response:
        return httpx.post(f"{self._url}/v1/loops/{LOOP.name}/{path}", json=body, **PLAINLY)

    @property
    def _url(self) -> str:
        told = json.loads(self._place.read_text())
        return f"http://{told['host']}:{told['port']}"


def wait(holds: Callable[[], bool]) -> None:
    deadline_s = time.monotonic() + WAIT_S
    while not holds():
        assert time.monotonic() < deadline_s
        time.sleep(0.1)


class Kafka:
    """A broker of the test's own, that keeps its log and its address."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._jars = user_jars(ClusterSettings(), Console(stderr=True))

    def __enter__(self) -> str:
        self._running = running_broker(self._folder, self._jars)
        return self._running.__enter__()

    def __exit__(self, *_: object) -> None:
        self._running.__exit__(None, None, None)

    @staticmethod
    def keys(bootstrap: str, topic: str) -> Counter[str]:
        """How often each key stands in a topic."""

        async def read() -> Counter[str]:
            async with KafkaBus(Connection(bootstrap)) as bus:
                return Counter((one.key or b"").decode() for one in await read_all(bus, topic) if not is_mark(one))

        return asyncio.run(read())


@pytest.fixture
def kafka_of_its_own(tmp_path: Path) -> Kafka:
    return Kafka(tmp_path / "kafka")


@pytest.fixture
def started(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[list[Process]]:
    made = list[Process]()
    _, public = make_key_pair(tmp_path, "registry")
    monkeypatch.setenv("TRIMTAB_DATA_DIR", str(tmp_path))
    monkeypatch.setenv("TRIMTAB_STORE__URL", (tmp_path / "blobs").as_uri())
    monkeypatch.setenv("TRIMTAB_SIGNING__PUBLIC_KEY_FILE", str(public))
    yield made
    for process in made:
        process.kill()


def offer(key: str) -> dict[str, Any]:
    return {"offer_id": key, "shown_at": wall_ms(), "place": "top", "price": 2.5}


def asked(predictor: Process, key: str) -> None:
    began_s = time.monotonic()
    answer = predictor.post("predictions", offer(key))
    assert (answer.status_code, answer.json().get("key")) == (200, key)
    assert time.monotonic() - began_s < 5


def test_answers_go_on_while_kafka_is_away_and_are_logged_once(
    tmp_path: Path, kafka_of_its_own: Kafka, started: list[Process], monkeypatch: pytest.MonkeyPatch
) -> None:
    with kafka_of_its_own as bootstrap:
        monkeypatch.setenv("TRIMTAB_KAFKA__BOOTSTRAP_SERVERS", bootstrap)
        asyncio.run(apply(Connection(bootstrap), LOOP, wall_ms(), "test"))
        predictor = Process("predictor", tmp_path)
        ingest = Process("ingest", tmp_path)
        started += [predictor, ingest]
        predictor.until_ready()
        ingest.until_ready()
        asked(predictor, "before")
        assert ingest.post("events/offer", offer("event")).status_code == 200

    for number in range(30):
        asked(predictor, f"away {number}")
    refused = ingest.post("events/offer", offer("unsure"))
    assert (refused.status_code, refused.headers["Retry-After"]) == (503, "1")
    predictor.kill()

    with kafka_of_its_own as bootstrap:
        predictor.start()
        predictor.until_ready()
        asked(predictor, "after")
        wait(lambda: ingest.post("events/offer", offer("unsure")).status_code == 200)
        expected = Counter(["before", *(f"away {number}" for number in range(30)), "after"])
        wait(lambda: Kafka.keys(bootstrap, PREDICTIONS).keys() >= expected.keys() | {"event", "unsure"})
        time.sleep(1)  # for a copy that must not come
        assert Kafka.keys(bootstrap, PREDICTIONS) == expected + Counter(["event", "unsure"])
        assert Kafka.keys(bootstrap, EVENTS) == Counter(["event", "unsure"])
