"""Moving a task: its position is written under its own transactional id, so whoever runs it is fenced and reads it."""

import asyncio
import getpass
import json
from dataclasses import dataclass

import pytest
from trimtab.cli import tasks
from trimtab.cli.log import follower
from trimtab.cli.tasks import NotAnInputError, OffsetOutsideError, TaskName, UnknownTaskError, move, parse
from trimtab.cli.topics import topic_admin
from trimtab.contracts import topics
from trimtab.runtime import decisions, parking, position
from trimtab.runtime.bus import Part
from trimtab.runtime.errors import FencedError, TaskUnfitError
from trimtab.runtime.kafka.bus import KafkaBus
from trimtab.runtime.kafka.connection import Connection
from trimtab.runtime.parking import Parked, RecordAt
from trimtab.runtime.position import Position
from trimtab.runtime.records import Out
from typer.testing import CliRunner, Result


def test_tasks_are_named_as_the_status_names_them() -> None:
    assert parse("trainer.fit-3") == TaskName("trainer", "fit", None, 3)
    assert parse("trainer.fit-3").changelog == topics.changelog("trainer", "fit")
    assert str(parse("retrain-controller.decide-0")) == "retrain-controller.decide-0"
    assert parse("monitor.join.a_b-12").loop == "a_b"


@pytest.mark.parametrize("text", ["", "ingest", "ingest.dedupe.flights", "nobody.knows.flights-1", "trainer.fit-x"])
def test_what_is_no_task_is_refused(text: str) -> None:
    with pytest.raises(UnknownTaskError, match="STAGE-PARTITION"):
        parse(text)


@dataclass(frozen=True)
class Spec:
    name: str
    partitions: int = 2

    @property
    def config(self) -> dict[str, str]:
        return {}


@pytest.mark.kafka
async def test_a_moved_task_keeps_its_other_positions_and_its_owner_is_fenced(broker: Connection) -> None:
    name = TaskName("ingest", "dedupe", "moved", 1)
    async with topic_admin(broker) as admin:
        await admin.ensure([Spec("moved.in"), Spec("moved.other"), Spec(name.changelog)])
    async with KafkaBus(broker) as bus:
        owner = bus.transactions(str(name), name.group)
        await owner.open()
        log = Part(name.changelog, 1)
        first = Position({"moved.in": 0, "moved.other": 4}, {"moved.other": "x"}, {"marks": {}})
        filling = {Part("moved.in", 1): [Out("moved.in", b"k", b"%d" % number) for number in range(5)]}
        await owner.commit({log: [Out(log.topic, position.KEY, position.encode(first))], **filling}, {})

        before, after = await move(broker, name, "moved.in", 3)
        assert before == first
        assert after.offsets == {"moved.in": 3, "moved.other": 4}
        assert after.progress == {"marks": {}}
        with pytest.raises(FencedError):
            await owner.commit({log: [Out(log.topic, b"late", b"")]}, {})
        await owner.close()

        with pytest.raises(OffsetOutsideError, match="holds offsets 0 to"):
            await move(broker, name, "moved.in", 99)
        with pytest.raises(NotAnInputError, match=r"does not read moved\.never, but moved\.in, moved\.other"):
            await move(broker, name, "moved.never", 0)
    async with follower(broker, [name.changelog]) as reader:
        written = [record for record in await reader.catch_up() if record.key == position.KEY]
    assert position.decode(written[-1].value or b"") == after


@pytest.mark.kafka
async def test_people_park_skip_and_retry_by_the_names_that_the_status_shows(
    broker: Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without an owner: a decision stands in the log, and whoever opens the task next finds it."""
    monkeypatch.setenv("TRIMTAB_KAFKA__BOOTSTRAP_SERVERS", broker.bootstrap_servers)
    name = TaskName("ingest", "dedupe", "decided", 0)
    async with topic_admin(broker) as admin:
        await admin.ensure([Spec("decided.in"), Spec(name.changelog)])
    log, source = Part(name.changelog, 0), Part("decided.in", 0)
    stuck = Parked("KeyError: 'x'", 0, {"decided.in": 1}, tries=5, record=RecordAt("decided.in", 1))
    async with KafkaBus(broker) as bus:
        owner = bus.transactions(str(name), name.group)
        await owner.open()
        written = [Out(log.topic, position.KEY, position.encode(Position({"decided.in": 1}, {}, {})))]
        filling = [Out(source.topic, b"k", b"%d" % number) for number in range(3)]
        await owner.commit({log: [*written, Out(log.topic, parking.KEY, parking.encode(stuck))], source: filling}, {})
        await owner.close()

    def command(*arguments: str) -> Result:
        return CliRunner().invoke(tasks.app, list(arguments))

    refused = await asyncio.to_thread(command, "skip", str(name), "decided.in", "2", "--why", "x", "--yes")
    assert isinstance(refused.exception, TaskUnfitError)
    done = await asyncio.to_thread(command, "skip", str(name), "decided.in", "1", "--why", "bug 12", "--yes")
    assert f"{name}: goes on behind decided.in 1" in done.output
    shown = json.loads((await asyncio.to_thread(command, "skipped", str(name))).output)
    assert (shown["by"], shown["why"]) == (getpass.getuser(), "bug 12")
    assert (shown["topic"], shown["offset"], shown["key"], shown["value"]) == ("decided.in", 1, "k", "1")
    again = await asyncio.to_thread(command, "retry", str(name))
    assert "is not parked" in str(again.exception)
    assert "parked" in (await asyncio.to_thread(command, "park", str(name), "--why", "a move")).output
    async with KafkaBus(broker) as bus, decisions.reading(bus, name) as changelog:
        found = await changelog.found()
    assert found.position.offsets == {"decided.in": 2}
    assert found.parked is not None
    assert (found.parked.by, found.parked.reason, found.parked.record) == (getpass.getuser(), "a move", None)
    assert "tries again" in (await asyncio.to_thread(command, "retry", str(name))).output
