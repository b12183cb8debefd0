"""Applying a loop: its topics, its versions, and what changes nothing."""

from dataclasses import dataclass
from pathlib import Path

import pytest
from trimtab.cli.loops.apply import ChangeRefusedError, Outcome, TopicsChangedError, apply, declare, write
from trimtab.cli.loops.declared import NEVER, History, fold, read_declared
from trimtab.cli.topics import OtherPartitionsError, topic_admin
from trimtab.contracts import control, topics
from trimtab.contracts.envelope import Headers
from trimtab.loops import declaration
from trimtab.loops.model import Loop
from trimtab.runtime.kafka.connection import Connection
from trimtab.testing.declarations import declared, offers

NOTE = """\
{ "type": "record", "name": "note", "namespace": "t", "fields": [
  {"name": "id", "type": "string"},
  {"name": "at", "type": {"type": "long", "logicalType": "timestamp-millis"}},
  {"name": "size", "type": "double"} ] }
"""

TOML = """\
[loop]
name = "%(name)s"
task = "binary"
partitions = %(partitions)s
[events]
ask = { schema = "ask.avsc", id = "id", time = "at" }
answer = { schema = "answer.avsc", id = "id", time = "at" }
[predict]
on = "ask"
key = "id"
[label]
of = "answer"
by = ["id"]
within = "%(within)s"
value = "last(size) > 1"
[features.row]
size = "size"
[model]
estimator = "sklearn.linear_model.LogisticRegression"
metric = "log_loss"
[train]
first_after = { rows = 100, positives = 10 }
[gate]
holdout = "1d"
[drift]
false_alarms = "1 per 60d"
[retrain]
on = ["loss"]
"""


def loop(folder: Path, name: str, within: str = "1d", partitions: int = 2) -> Loop:
    text = TOML % {"name": name, "within": within, "partitions": partitions}
    (folder / "loop.toml").write_text(text)
    for event in ("ask", "answer"):
        (folder / f"{event}.avsc").write_text(NOTE.replace('"note"', f'"{event}"'))
    return declaration.load(folder)


@pytest.mark.kafka
async def test_an_apply_creates_every_topic_then_declares_them_by_id(broker: Connection, tmp_path: Path) -> None:
    wanted = loop(tmp_path, "applied")
    done = await apply(broker, wanted, 1_000, "somebody")
    assert (done.outcome, done.declared.version, done.declared.by) == (Outcome.NEW, 1, "somebody")
    async with topic_admin(broker) as admin:
        there = {topic.name: topic.id for topic in await admin.show()}
    specs = topics.of_loop("applied", ["ask", "answer"], 2)
    assert {topic.name: topic.id for topic in done.declared.topics} == {spec.name: there[spec.name] for spec in specs}
    assert {spec.name for spec in topics.control()} <= there.keys()
    history = (await read_declared(broker))["applied"]
    assert history.current == done.declared
    again = declaration.from_declared(
        history.current.declaration,
        history.current.schemas,
        version=1,
        partitions=history.current.partitions,
        digest=history.current.digest,
    )
    assert again.digest == wanted.digest


@pytest.mark.kafka
async def test_only_a_changed_declaration_is_a_new_version(broker: Connection, tmp_path: Path) -> None:
    await apply(broker, loop(tmp_path, "versions"), 1, "a")
    same = await apply(broker, loop(tmp_path, "versions"), 2, "a")
    changed = await apply(broker, loop(tmp_path, "versions", within="2d"), 3, "a")
    back = await apply(broker, loop(tmp_path, "versions"), 4, "a")
    assert [(done.outcome, done.declared.version) for done in (same, changed, back)] == [
        (Outcome.UNCHANGED, 1),
        (Outcome.CHANGED, 2),
        (Outcome.CHANGED, 3),
    ]


@pytest.mark.kafka
async def test_a_number_of_partitions_is_for_ever(broker: Connection, tmp_path: Path) -> None:
    await apply(broker, loop(tmp_path, "counted"), 1, "a")
    with pytest.raises(OtherPartitionsError):
        await apply(broker, loop(tmp_path, "counted", partitions=3), 2, "a")


def test_a_schema_that_cannot_read_the_events_on_their_way_is_refused(tmp_path: Path) -> None:
    running = declare(loop(tmp_path, "kept"), NEVER, [], 1, "a")
    assert running is not None
    (tmp_path / "answer.avsc").write_text(NOTE.replace('"note"', '"another"'))
    changed = declaration.load(tmp_path)
    with pytest.raises(ChangeRefusedError, match="schema of answer: the record was called answer"):
        declare(changed, History((running,), running), [], 2, "a")


@pytest.mark.kafka
async def test_topics_made_again_under_a_running_loop_are_refused(broker: Connection, tmp_path: Path) -> None:
    wanted = loop(tmp_path, "remade")
    await apply(broker, wanted, 1, "a")
    async with topic_admin(broker) as admin:
        await admin.delete([topics.predictions("remade")])
    with pytest.raises(TopicsChangedError, match=r"remade\.predictions"):
        await apply(broker, wanted, 2, "a")
    await write(broker, "remade", None)
    assert (await apply(broker, wanted, 3, "a")).declared.version == 2


@dataclass(frozen=True)
class Written:
    key: bytes | None
    value: bytes | None
    topic: str = topics.LOOP_DECLARED
    partition: int = 0
    offset: int = 0
    headers: Headers = ()
    timestamp: int = 0


def test_an_ended_loop_has_a_history_but_no_current_declaration(tmp_path: Path) -> None:
    data, schemas = declaration.declared(loop(tmp_path, "gone"))
    event = control.LoopDeclared(
        loop="gone",
        at_ms=0,
        version=4,
        digest="0" * 64,
        declaration=data,
        schemas=schemas,
        partitions=2,
        topics=[],
        by="a",
    )
    found = fold([Written(b"gone", control.encode(event)), Written(b"gone", None)])["gone"]
    assert found.current is None
    assert found.next_version == 5


def test_a_declaration_by_hand_that_keeps_no_schema_hides_no_loop() -> None:
    event = control.encode(declared(offers()))
    by_hand = [Written(b"\xff", b"{"), Written(b"offers", b"please"), Written(None, None), Written(b"\xff", None)]
    found = fold([*by_hand, Written(b"offers", event), *by_hand])
    assert list(found) == ["offers"]
    assert found["offers"].next_version == 2
