"""The trainer as a real process on a real broker, killed while it fits; its model made again by the command."""

import asyncio
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from uuid import uuid4

import polars as pl
import pytest
import typer
from trimtab.cli.dataset import dataset
from trimtab.cli.lineage import Lineage, read_lineage
from trimtab.cli.loops.apply import write
from trimtab.cli.reproduce import reproduce
from trimtab.cli.topics import topic_admin
from trimtab.contracts import topics
from trimtab.contracts.control import ModelTrained, RetrainCause, RetrainRequested
from trimtab.loops.model import Loop
from trimtab.runtime.control import LoopEvent, written
from trimtab.runtime.kafka.connection import Connection
from trimtab.runtime.kafka.edge import IdempotentProducer
from trimtab.store.signing import make_key_pair
from trimtab.testing.declarations import declared, offers
from trimtab.testing.history import DAY_MS, write_history
from typer.testing import CliRunner

pytestmark = pytest.mark.kafka
ROWS = 600


class Trainer:
    """The trainer as a process."""

    def __init__(self, folder: Path, bootstrap: str) -> None:
        make_key_pair(folder / "keys", "trainer")
        self.folder, self.bootstrap = folder, bootstrap
        self.environment = os.environ | {
            "TRIMTAB_KAFKA__BOOTSTRAP_SERVERS": bootstrap,
            "TRIMTAB_DATA_DIR": str(folder),
            "TRIMTAB_STORE__URL": (folder / "blobs").as_uri(),
            "TRIMTAB_SIGNING__PRIVATE_KEY_FILE": str(folder / "keys" / "trainer.private.pem"),
        }
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        with (self.folder / "trainer.log").open("ab") as log:
            command = [sys.executable, "-m", "trimtab.trainer"]
            self._process = subprocess.Popen(command, env=self.environment, stdout=log, stderr=log)

    def kill(self) -> None:
        if self._process is not None:
            self._process.kill()
            self._process.wait()

    def stop(self) -> None:
        if self._process is not None:
            self._process.terminate()
            self._process.wait(30)

    def log(self) -> str:
        return (self.folder / "trainer.log").read_text()[-4000:]


@pytest.fixture
def trainer(tmp_path: Path, kafka: str) -> Iterator[Trainer]:
    made = Trainer(tmp_path, kafka)
    try:
        yield made
    finally:
        made.stop()


async def create(kafka: str, loop: Loop) -> None:
    async with topic_admin(Connection(kafka)) as admin:
        await admin.ensure([*topics.control(), *topics.of_loop(loop.name, list(loop.events), loop.partitions)])


async def tell(kafka: str, loop: Loop, *events: LoopEvent) -> None:
    """History, and what was asked."""
    async with IdempotentProducer(Connection(kafka), timeout_s=60) as edge:
        await write_history(edge.send, loop, range(ROWS), of=ROWS)
        await edge.send([written(event, id=uuid4().hex, source="test", trace=None) for event in events])


def request(loop: Loop) -> RetrainRequested:
    return RetrainRequested(
        loop=loop.name,
        request_id=f"{loop.name}-1",
        at_ms=60 * DAY_MS,
        cause=RetrainCause(kind="first", signals=[]),
        champion_version=None,
        loop_version=1,
    )


async def trained(kafka: str, loop: Loop, trainer: Trainer) -> list[ModelTrained]:
    """The loop's models, once there is one."""
    for _ in range(600):
        found = (await asyncio.to_thread(read_lineage, Connection(kafka))).trained
        mine = [one for one in found if one.loop == loop.name]
        if mine:
            return mine
        await asyncio.sleep(0.2)
    raise AssertionError(trainer.log())


def run(command: object, *arguments: str, environment: dict[str, str]) -> tuple[int, str]:
    app = typer.Typer()
    app.command()(command)  # type: ignore[type-var]
    result = CliRunner().invoke(app, list(arguments), env=environment)
    return result.exit_code, result.output + repr(result.exception or "")


@pytest.fixture
def loop(kafka: str) -> Iterator[Loop]:
    """One of which there is no other; it ends with the test."""
    made = offers(loop={"name": f"offers_{uuid4().hex[:8]}"})
    yield made
    asyncio.run(write(Connection(kafka), made.name, None))


@pytest.mark.timeout(180)
def test_a_killed_trainer_answers_once_and_its_model_is_made_again(kafka: str, trainer: Trainer, loop: Loop) -> None:
    asyncio.run(create(kafka, loop))
    trainer.start()
    asyncio.run(tell(kafka, loop, declared(loop), request(loop)))
    trainer.kill()
    trainer.start()
    (model,) = asyncio.run(trained(kafka, loop, trainer))
    assert model.gate.verdict == "first"

    code, said = run(reproduce, model.model.digest[:12], environment=trainer.environment)
    assert code == 0, said
    assert f"the same model, byte by byte: {model.model.digest}" in said
    assert f"{model.dataset.rows} rows from the log: the same rows" in said

    file = trainer.folder / "rows.parquet"
    code, said = run(dataset, loop.name, "--out", str(file), environment=trainer.environment)
    assert code == 0, said
    now = pl.read_parquet(file)
    code, said = run(
        dataset, loop.name, "--model", model.model.digest, "-o", str(file), environment=trainer.environment
    )
    assert code == 0, said
    then = pl.read_parquet(file)
    assert then.height == model.dataset.rows
    assert now.columns == then.columns == ["key", "at_ms", "price", "place", "label"]
    assert then.equals(now.filter(pl.col("at_ms") <= then["at_ms"].max()))

    code, said = run(reproduce, "nobody/7", environment=trainer.environment)
    assert code == 1
    assert "LOOP/VERSION" in said
    assert isinstance(read_lineage(Connection(kafka)), Lineage)
