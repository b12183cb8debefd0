"""What a loop has done, read from its topics by a plain consumer that sees committed records only."""

import asyncio
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, replace
from multiprocessing import get_context
from typing import Any

import numpy as np
import polars as pl

from trimtab.cli.demo.events import Events, Reading, named
from trimtab.cli.log import follower
from trimtab.contracts import data, topics
from trimtab.contracts.codec import Schema
from trimtab.contracts.columnar import ColumnReader
from trimtab.loops.model import Loop
from trimtab.runtime.control import as_written
from trimtab.runtime.kafka.bus import KafkaBus
from trimtab.runtime.kafka.connection import Connection
from trimtab.runtime.records import Read
from trimtab.runtime.schemas import Published, Resolver
from trimtab.trainer.adapters.columns import OUTCOMES, Frame
from trimtab.trainer.adapters.columns import predictions as predictions_of

CONTROL = (
    topics.DRIFT_DETECTED,
    topics.QUALITY_VIOLATED,
    topics.QUALITY_RESTORED,
    topics.RETRAIN_REQUESTED,
    topics.RETRAIN_DECLINED,
    topics.MODEL_TRAINED,
    topics.TRAINING_FAILED,
    topics.MODEL_REGISTERED,
    topics.DEPLOYMENT_CHANGED,
    topics.PERFORMANCE_MEASURED,
)
Told = Callable[[int], None]


@dataclass(frozen=True, slots=True)
class Collected:
    """What stands in a loop's topics.

    `keys`: of all predictions, one a record. `predictions`: one row a record of the present features: where it stands,
    what was said, the features under their columns' names. `shadows`: what else was said there, one row a version.
    `outcomes`: one row a record, with its key. `control`: events by topic, in the order of their offsets. `rejected`:
    the name and the identity (see `events.named`) of each record in quarantine.
    """

    events: Events
    keys: Sequence[bytes]
    predictions: pl.DataFrame
    shadows: pl.DataFrame
    outcomes: pl.DataFrame
    control: Mapping[str, Sequence[Any]]
    rejected: Sequence[tuple[str, str]]

    def predicted(self) -> frozenset[str]:
        """What there is a prediction of."""
        return frozenset(key.decode() for key in self.keys)

    def rejected_ids(self, event: str) -> frozenset[str]:
        """The events of a name that are in quarantine."""
        return frozenset(id_ for name, id_ in self.rejected if name == event)

    def copies(self) -> int:
        """How many events, predictions, and outcomes of the same revision, there are too many."""
        events = sum(one.records - one.bodies for one in self.events.accepted.values())
        places = self.outcomes.select("prediction_partition", "prediction_offset", "revision")
        return events + len(self.keys) - len(set(self.keys)) + len(places) - places.n_unique()


async def collect(bootstrap: str, loop: Loop, told: Told = lambda _: None) -> Collected:
    """Read everything that is committed now; another process reads the events meanwhile."""
    with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as beside:
        reading = beside.submit(accepted, bootstrap, loop)
        found = await predicted(bootstrap, loop, told)
        events = await asyncio.wrap_future(reading)
        told(sum(one.records for one in events.accepted.values()))
        return replace(found, events=events)


async def predicted(bootstrap: str, loop: Loop, told: Told) -> Collected:
    """All but the events."""
    reading = predictions_of(loop)
    asked, also, settled = reading.frame, shadow_frame(reading.schema), list[pl.DataFrame]()
    keys, predictions, shadows = list[bytes](), list[pl.DataFrame](), list[pl.DataFrame]()
    async for batch in in_schema(bootstrap, topics.predictions(loop.name), reading.schema, told):
        keys += [record.key for record in batch]
        predictions.append(asked(batch))
        shadows.append(also(batch))
    async for batch in in_schema(bootstrap, topics.outcomes(loop.name), OUTCOMES.schema, told):
        settled.append(outcome_frame(batch))
    return Collected(
        events=Events({}, frozenset(), frozenset()),
        keys=keys,
        predictions=pl.concat(predictions or [asked(())]),
        shadows=pl.concat(shadows or [also(())]),
        outcomes=pl.concat(settled or [outcome_frame(())]),
        control={topic: await control_events(bootstrap, topic, loop.name) for topic in CONTROL},
        rejected=await rejected(bootstrap, loop, told),
    )


async def rejected(bootstrap: str, loop: Loop, told: Told) -> list[tuple[str, str]]:
    """The name and the identity of each event in quarantine. (A blob is named by the digest of what it holds.)"""
    found = list[tuple[str, str]]()
    async for batch in in_schema(bootstrap, topics.rejected(loop.name), data.SCHEMAS["rejected"], told):
        for one in (data.decode(data.Rejected, record.value) for record in batch):
            event = loop.events[one.event]
            kept = one.blob if event.id is None else None
            found.append((one.event, kept or named(event, one.id, one.original or b"")))
    return found


def accepted(bootstrap: str, loop: Loop) -> Events:
    """What the loop has accepted, and what has to follow from it."""

    async def read() -> Events:
        reading = Reading(loop)
        for name in loop.events:
            async for batch in batches(bootstrap, topics.events(loop.name, name), lambda _: None):
                reading.take(name, batch)
        return reading.events()

    return asyncio.run(read())


def outcome_frame(records: Sequence[Read]) -> pl.DataFrame:
    """Outcomes with the keys of their predictions."""
    keys = [(record.key or b"").decode() for record in records]
    return OUTCOMES.frame(records).with_columns(key=pl.Series(keys, dtype=pl.String))


def shadow_frame(schema: Mapping[str, Any]) -> Frame:
    """Reads what versions beside the champion said: where the prediction stands, the version, its score."""
    reader = ColumnReader(schema, ["shadows"])

    def frame(records: Sequence[Read]) -> pl.DataFrame:
        found = reader.read([record.value or b"" for record in records])["shadows"]
        said = found.values or {"version": np.empty(0, np.int64), "score": np.empty(0)}
        return pl.DataFrame(
            {
                "partition": pl.Series([records[row].partition for row in found.row.tolist()], dtype=pl.Int32),
                "offset": pl.Series([records[row].offset for row in found.row.tolist()], dtype=pl.Int64),
                "version": pl.Series(said["version"], dtype=pl.Int64),
                "score": pl.Series(said["score"]).fill_nan(None).cast(pl.Float64),
            }
        )

    return frame


async def control_events(bootstrap: str, topic: str, loop: str) -> list[Any]:
    """The events of a control topic about one loop."""
    key = loop.encode()
    return [
        one.event
        async for batch in batches(bootstrap, topic, lambda _: None)
        for one in as_written(topic, [record for record in batch if record.key == key])[0]
    ]


async def in_schema(bootstrap: str, topic: str, schema: Schema, told: Told) -> AsyncIterator[Sequence[Any]]:
    """The same as `batches` in one Avro schema, whichever version of it each was written by."""
    async with KafkaBus(Connection(bootstrap)) as bus:
        resolver = Resolver(schema, Published(bus))
        async for batch in batches(bootstrap, topic, told):
            yield await resolver.resolved(batch)


async def batches(bootstrap: str, topic: str, told: Told) -> AsyncIterator[Sequence[Any]]:
    """Every committed record with a value, of all partitions, up to the end as it is now."""
    async with follower(Connection(bootstrap), [topic]) as log:
        async for found in log.batches():
            told(len(found))
            yield [record for record in found if record.value is not None]
