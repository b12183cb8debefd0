"""A replay into a real broker, before services that follow at their own pace."""

import asyncio
import itertools
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import polars as pl
import pytest
from aiokafka import AIOKafkaProducer
from trimtab.cli.log import follower
from trimtab.cli.loops.apply import apply
from trimtab.cli.replay.feed import Feed
from trimtab.cli.replay.pace import Snapshot
from trimtab.cli.replay.run import Played, Player, RefusedDeploymentError, Score
from trimtab.cli.replay.slices import Span
from trimtab.cli.replay.watch import watched_topics
from trimtab.contracts import control, topics
from trimtab.contracts.codec import AvroCodec
from trimtab.contracts.control import RetrainCause, RetrainRequested, TrainingFailed
from trimtab.loops import declaration
from trimtab.loops.files import Recorded, opened
from trimtab.loops.model import Loop
from trimtab.runtime import marks
from trimtab.runtime.kafka.connection import Connection
from trimtab.runtime.records import Read

pytestmark = pytest.mark.kafka

HOUR_MS = 3_600_000
EVENTS = 240
LEAD_MS = 24 * HOUR_MS

TOML = """\
[loop]
name = "%s"
task = "binary"
[events]
ask = { schema = "ask.avsc", id = "id", time = "at" }
[predict]
on = "ask"
key = "id"
[label]
of = "ask"
by = ["id"]
within = "1d"
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
SCHEMA = """\
{ "type": "record", "name": "ask", "namespace": "t", "fields": [
  {"name": "id", "type": "string"},
  {"name": "at", "type": {"type": "long", "logicalType": "timestamp-millis"}},
  {"name": "size", "type": "double"} ] }
"""


def loop(folder: Path, name: str) -> Loop:
    (folder / "loop.toml").write_text(TOML % name)
    (folder / "ask.avsc").write_text(SCHEMA)
    frame = pl.DataFrame(
        {
            "id": [f"e{n}" for n in range(EVENTS)],
            "at": [n * HOUR_MS for n in range(EVENTS)],
            "size": [float(n) for n in range(EVENTS)],
        },
        schema_overrides={"at": pl.Datetime("ms", "UTC")},
    )
    frame.sample(fraction=1.0, shuffle=True, seed=1).write_parquet(folder / "ask.parquet")
    return declaration.load(folder)


@dataclass
class FakeServices:
    """Services whose progress is `behind_ms` behind what the replay has sent, and that read control events at once."""

    sent: list[Played] = field(default_factory=list)
    held: asyncio.Event = field(default_factory=asyncio.Event)
    behind_ms: int = HOUR_MS
    refused: tuple[str, ...] = ()
    sequence: int = 0
    reads_up_to: int = 1_000

    async def snapshot(self) -> Snapshot:
        await asyncio.sleep(0.001)
        at_ms = self.sent[-1].at_ms if self.sent else None
        feeding = bool(self.sent) and self.sent[-1].feeding
        read = {
            (decider, topic, partition): self.reads_up_to
            for decider in ("retrain-controller.decide", "registry.fold")
            for topic in watched_topics()
            for partition in range(8)
        }
        began = feeding and self.sent[-1].rows > 0
        progress_ms = None if at_ms is None else at_ms - (self.behind_ms if began else 0)
        return Snapshot(progress_ms, read, self.sequence, True, not feeding, self.refused)


class KilledError(Exception):
    """The end of a process."""


async def play(
    broker: Connection, score: Score, recorded: Recorded, services: FakeServices, stop_ms: int = 2**62
) -> int:
    """Play; returns the last acknowledged time. Stops like a killed process after `stop_ms`."""
    kept = score.span.after_ms

    def keep(at_ms: int) -> None:
        nonlocal kept
        kept = at_ms

    def on_played(played: Played) -> None:
        services.sent.append(played)
        if played.waits == "a retrain is open":
            services.held.set()
        if played.at_ms >= stop_ms:
            raise KilledError

    async with follower(broker, watched_topics()) as reader:
        producer = AIOKafkaProducer(enable_idempotence=True, **broker.arguments("test"))
        await producer.start()
        try:
            player = Player(score, Feed(producer, score.loop), services, reader, on_played)  # type: ignore[arg-type]
            await player.play(recorded, keep)
            await player.drain()
        except KilledError:
            pass
        finally:
            await producer.stop()
    return kept


async def source(broker: Connection, name: str) -> list[Read]:
    async with follower(broker, [topics.source(name, "ask")]) as reader:
        return await reader.catch_up()


def by_partition(records: list[Read]) -> Mapping[int, list[Read]]:
    return {p: [record for record in records if record.partition == p] for p in {r.partition for r in records}}


async def test_every_event_is_written_once_before_the_mark_that_covers_it(broker: Connection, tmp_path: Path) -> None:
    wanted = loop(tmp_path, "played")
    await apply(broker, wanted, 0, "me")
    services = FakeServices()
    with opened(wanted, tmp_path) as recorded:
        await play(broker, Score(wanted, Span(-1, 2**60), LEAD_MS), recorded, services)
    records = await source(broker, "played")
    codec = AvroCodec(wanted.events["ask"].schema)
    ids = [codec.decode(record.value)["id"] for record in records if record.value is not None]
    assert sorted(ids) == sorted(f"e{n}" for n in range(EVENTS))
    for own in by_partition(records).values():
        marked = -1
        for record in own:
            if record.value is not None:
                assert codec.decode(record.value)["at"] > marked
            elif (mark := marks.read(record)) is not None and mark.ms is not None:
                marked = mark.ms
        last = marks.read(own[-1])
        assert last == marks.Mark("replay", None), "at its end a replay says that it is idle"
        assert marked == (EVENTS - 1) * HOUR_MS


async def test_events_never_lead_the_services_by_more_than_the_lead(broker: Connection, tmp_path: Path) -> None:
    wanted = loop(tmp_path, "led")
    await apply(broker, wanted, 0, "me")
    score = Score(wanted, Span(-1, 2**60), LEAD_MS)
    services = FakeServices(behind_ms=LEAD_MS - score.step_ms)
    with opened(wanted, tmp_path) as recorded:
        await play(broker, score, recorded, services)
    steps = [later.at_ms - before.at_ms for before, later in itertools.pairwise(services.sent)]
    assert max(steps) <= score.step_ms + 1, "the first step begins just before the first event"
    assert any(played.waits == "services are behind" for played in services.sent)


async def test_an_interrupted_replay_goes_on_and_sends_hardly_anything_twice(
    broker: Connection, tmp_path: Path
) -> None:
    wanted = loop(tmp_path, "resumed")
    await apply(broker, wanted, 0, "me")
    services = FakeServices()
    with opened(wanted, tmp_path) as recorded:
        score = Score(wanted, Span(-1, 2**60), LEAD_MS)
        kept = await play(broker, score, recorded, services, stop_ms=100 * HOUR_MS)
        assert kept <= 100 * HOUR_MS
        again = Score(wanted, Span(kept, 2**60), LEAD_MS, resumed=True)
        await play(broker, again, recorded, services)
    codec = AvroCodec(wanted.events["ask"].schema)
    records = await source(broker, "resumed")
    ids = [codec.decode(record.value)["id"] for record in records if record.value is not None]
    assert set(ids) == {f"e{n}" for n in range(EVENTS)}


async def test_time_stands_still_while_a_retrain_is_open(broker: Connection, tmp_path: Path) -> None:
    wanted = loop(tmp_path, "held")
    await apply(broker, wanted, 0, "me")
    producer = AIOKafkaProducer(**broker.arguments("test"))
    await producer.start()
    cause = RetrainCause(kind="first", drift_id=None, signals=[], note=None, by=None)
    opening = RetrainRequested(loop="held", at_ms=0, request_id="r", cause=cause, champion_version=None, loop_version=1)
    await producer.send_and_wait(topics.RETRAIN_REQUESTED, control.encode(opening), key=b"held")
    services = FakeServices()
    with opened(wanted, tmp_path) as recorded:
        playing = asyncio.create_task(play(broker, Score(wanted, Span(-1, 2**60), LEAD_MS), recorded, services))
        await services.held.wait()
        assert services.sent[-1].at_ms <= LEAD_MS
        closing = TrainingFailed(loop="held", at_ms=0, request_id="r", reason="no_rows", error="e")
        await producer.send_and_wait(topics.TRAINING_FAILED, control.encode(closing), key=b"held")
        await playing
    await producer.stop()
    assert services.sent[-1].at_ms == (EVENTS - 1) * HOUR_MS


async def test_a_refused_deployment_ends_the_replay_with_its_reason(broker: Connection, tmp_path: Path) -> None:
    wanted = loop(tmp_path, "refusing")
    await apply(broker, wanted, 0, "me")
    producer = AIOKafkaProducer(**broker.arguments("test"))
    await producer.start()
    deployed = control.DeploymentChanged(
        loop="refusing",
        at_ms=0,
        sequence=1,
        effective_at_ms=0,
        champion=None,
        shadows=[],
        cause="first",
        request_id=None,
        note=None,
        signature="x",
    )
    await producer.send_and_wait(topics.DEPLOYMENT_CHANGED, control.encode(deployed), key=b"refusing")
    await producer.stop()
    services = FakeServices(refused=("deployment 1: bad signature",))
    with opened(wanted, tmp_path) as recorded:
        score = Score(wanted, Span(-1, 2**60), LEAD_MS)
        with pytest.raises(RefusedDeploymentError, match="bad signature"):
            await play(broker, score, recorded, services)
