"""Controller and registry as real processes on a real broker: killed, started again, asked through the commands."""

import asyncio
import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any
from uuid import uuid4

import httpx
import pytest
from trimtab.cli.loops.apply import write
from trimtab.cli.registry import app
from trimtab.cli.topics import topic_admin
from trimtab.contracts import control, topics
from trimtab.runtime.control import LoopEvent, written
from trimtab.runtime.kafka.connection import Connection
from trimtab.runtime.kafka.edge import IdempotentProducer
from trimtab.store.signing import Signer, make_key_pair
from trimtab.testing.declarations import declared, offers
from trimtab.testing.models import measured, trained
from typer.testing import CliRunner

pytestmark = pytest.mark.kafka
DAY_MS = 86_400_000


class Processes:
    """Services of one folder. `environment`: what `trimtab up` would give them."""

    def __init__(self, folder: Path, bootstrap: str) -> None:
        self.folder, self._bootstrap = folder, bootstrap
        for signer in ("trainer", "registry"):
            make_key_pair(folder / "keys", signer)
        self.database = f"sqlite:///{folder / 'registry.db'}"
        self._running: dict[str, subprocess.Popen[bytes]] = {}

    def start(self, service: str) -> None:
        (self.folder / "run" / f"{service}-0.json").unlink(missing_ok=True)
        with (self.folder / f"{service}.log").open("ab") as log:
            command = [sys.executable, "-m", f"trimtab.{service.replace('-', '_')}"]
            self._running[service] = subprocess.Popen(command, env=self._environment(), stdout=log, stderr=log)

    def kill(self, service: str) -> None:
        process = self._running.pop(service)
        process.kill()
        process.wait()

    def stop(self) -> None:
        for process in self._running.values():
            process.terminate()
        codes = [process.wait(30) for process in self._running.values()]
        assert codes == [0] * len(codes), self.logs()

    def logs(self) -> str:
        return "\n".join(path.read_text()[-3000:] for path in self.folder.glob("*.log"))

    def url(self, service: str) -> str:
        told = self.until(lambda: self._told(service), service)
        return f"http://{told['host']}:{told['port']}"

    def _told(self, service: str) -> Any:
        path = self.folder / "run" / f"{service}-0.json"
        return json.loads(path.read_text()) if path.exists() else None

    def get(self, service: str, path: str, accept: Callable[[Any], bool] = bool) -> Any:
        """What is at a path, once it is there and acceptable."""
        url = self.url(service)

        def found() -> Any:
            try:
                answer = httpx.get(url + path, timeout=10, trust_env=False)
            except httpx.HTTPError:
                return None
            return answer.json() if answer.status_code == 200 and accept(answer.json()) else None

        return self.until(found, path)

    def until(self, look: Callable[[], Any], what: str) -> Any:
        deadline = time.monotonic() + 60
        while (found := look()) is None:
            assert time.monotonic() < deadline, f"not within 60 s: {what}\n{self.logs()}"
            time.sleep(0.05)
        return found

    def _environment(self) -> Mapping[str, str]:
        keys = self.folder / "keys"
        return os.environ | {
            "TRIMTAB_KAFKA__BOOTSTRAP_SERVERS": self._bootstrap,
            "TRIMTAB_DATA_DIR": str(self.folder),
            "TRIMTAB_STORE__URL": (self.folder / "blobs").as_uri(),
            "TRIMTAB_REGISTRY__DATABASE_URL": self.database,
            "TRIMTAB_SIGNING__PRIVATE_KEY_FILE": str(keys / "registry.private.pem"),
            "TRIMTAB_SIGNING__PUBLIC_KEY_FILE": str(keys / "trainer.public.pem"),
        }


@pytest.fixture
def processes(tmp_path: Path, kafka: str) -> Iterator[Processes]:
    made = Processes(tmp_path, kafka)
    asyncio.run(control_topics(kafka))
    made.start("registry")
    made.start("retrain-controller")
    try:
        yield made
    finally:
        made.stop()


async def control_topics(bootstrap: str) -> None:
    async with topic_admin(Connection(bootstrap)) as admin:
        await admin.ensure(topics.control())


def tell(bootstrap: str, *events: LoopEvent) -> None:
    async def send() -> None:
        async with IdempotentProducer(Connection(bootstrap)) as edge:
            await edge.send([written(event, id=uuid4().hex, source="test", trace=None) for event in events])

    asyncio.run(send())


def sign(processes: Processes, event: Any) -> Any:
    signer = Signer.load(processes.folder / "keys" / "trainer.private.pem")
    return event.model_copy(update={"signature": signer.sign(json.loads(control.encode(event)))})


def has(items: int) -> Callable[[Any], bool]:
    return lambda page: len(page["items"]) >= items


@pytest.fixture
def loop(kafka: str) -> Iterator[str]:
    """A name that nobody else has; its loop ends with the test."""
    name = f"offers_{uuid4().hex[:8]}"
    yield name
    asyncio.run(write(Connection(kafka), name, None))


def test_from_a_cause_to_a_deployment_and_back_through_kills(kafka: str, processes: Processes, loop: str) -> None:
    tell(kafka, declared(offers(loop={"name": loop})), measured(10 * DAY_MS, loop=loop))
    page = processes.get("retrain-controller", f"/v1/loops/{loop}/decisions", has(1))
    request_id = page["items"][0]["request_id"]

    first = trained(request_id, at_ms=10 * DAY_MS, loop=loop, verdict="first")
    second = trained("by-hand", at_ms=12 * DAY_MS, loop=loop, verdict="failed", against=1, digest="b" * 64)
    tell(kafka, sign(processes, first), sign(processes, second))
    processes.get("registry", f"/v1/loops/{loop}/versions", has(2))
    one = processes.get("registry", f"/v1/loops/{loop}/versions/1")
    assert (one["role"], one["cause"], one["request"]["cause"]["kind"]) == ("champion", "first", "first")

    processes.kill("registry")
    processes.start("registry")
    url = processes.url("registry") + f"/v1/loops/{loop}/commands"
    processes.get("registry", "/ready")
    body = {"kind": "promote", "version": 2, "by": "anna", "command_id": "mine"}
    assert httpx.post(url, json=body, timeout=30, trust_env=False).json()["outcome"] == "done"
    processes.kill("registry")
    processes.start("registry")
    processes.get("registry", "/ready")
    again = processes.url("registry") + f"/v1/loops/{loop}/commands"
    assert httpx.post(again, json=body, timeout=30, trust_env=False).json()["outcome"] == "done"
    deployments = processes.get("registry", f"/v1/loops/{loop}/deployments")["items"]
    assert [(one["sequence"], one["champion"], one["cause"]) for one in deployments] == [
        (2, 2, "commanded"),
        (1, 1, "first"),
    ]

    processes.kill("retrain-controller")
    processes.start("retrain-controller")
    wish = processes.url("retrain-controller") + f"/v1/loops/{loop}/retrain"
    processes.get("retrain-controller", "/ready")
    ask_id = httpx.post(wish, json={"by": "anna"}, timeout=30, trust_env=False).json()["ask_id"]
    asks = f"/v1/loops/{loop}/asks/{ask_id}"
    assert processes.get("retrain-controller", asks, lambda one: one["state"] != "pending")["state"] == "requested"

    told = rebuilt(kafka, processes)
    assert told.exit_code == 0, told.output
    assert told.output.count("the same") == 10
    assert "different" not in told.output


def rebuilt(bootstrap: str, processes: Processes) -> Any:
    env = {"TRIMTAB_KAFKA__BOOTSTRAP_SERVERS": bootstrap, "TRIMTAB_DATA_DIR": str(processes.folder)}
    command = ["rebuild", "--database-url", processes.database]
    return CliRunner().invoke(app, command, env=env, catch_exceptions=False)
