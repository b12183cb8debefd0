"""What a loop has done, read from its topics by a plain consumer that sees committed records only."""

import asyncio
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, replace
from multiprocessing import get_context
from typing import Any

import numpy as np
import polars as pl

from trimtab.cli.log import follower
from trimtab.contracts import envelope, topics
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
class Accepted:
    """Events of one name that passed ingest: all records, and distinct ids."""

    records: int
    distinct: int


@dataclass(frozen=True, slots=True)
class Collected:
    """What stands in a loop's topics.

    `accepted`: events by name. `keys`: of all predictions, one a record. `predictions`: one row a record of the present
    features: where it stands, what was said, the features under their columns' names. `shadows`: what else was said
    there, one row a version. `outcomes`: one row a record. `control`: events by topic, in the order of their offsets.
    `rejected`: records in quarantine.
    """

    accepted: Mapping[str, Accepted]
    keys: Sequence[bytes]
    predictions: pl.DataFrame
    shadows: pl.DataFrame
    outcomes: pl.DataFrame
    control: Mapping[str, Sequence[Any]]
    rejected: int

    def copies(self) -> int:
        """How many events, predictions, and outcomes of the same revision, there are too many."""
        events = sum(one.records - one.distinct for one in self.accepted.values())
        places = self.outcomes.select("prediction_partition", "prediction_offset", "revision")
        return events + len(self.keys) - len(set(self.keys)) + len(places) - places.n_unique()


async def collect(bootstrap: str, loop: Loop, told: Told = lambda _: None) -> Collected:
    """Read everything that is committed now; another process counts the events meanwhile."""
    with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as beside:
        events = beside.submit(count, bootstrap, {name: topics.events(loop.name, name) for name in loop.events})
        found = await predicted(bootstrap, loop, told)
        accepted = await asyncio.wrap_future(events)
        told(sum(one.records for one in accepted.values()))
        return replace(found, accepted=accepted)


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
        settled.append(OUTCOMES.frame(batch))
    rejected = [len(batch) async for batch in batches(bootstrap, topics.rejected(loop.name), told)]
    return Collected(
        accepted={},
        keys=keys,
        predictions=pl.concat(predictions or [asked(())]),
        shadows=pl.concat(shadows or [also(())]),
        outcomes=pl.concat(settled or [OUTCOMES.frame(())]),
        control={topic: await control_events(bootstrap, topic, loop.name) for topic in CONTROL},
        rejected=sum(rejected),
    )


def count(bootstrap: str, events: Mapping[str, str]) -> dict[str, Accepted]:
    """How many events stand in each topic, and how many ids they have."""

    async def of(topic: str) -> Accepted:
        records, ids = 0, set[bytes | None]()
        async for batch in batches(bootstrap, topic, lambda _: None):
            records += len(batch)
            ids.update(envelope.get(record.headers, envelope.ID) for record in batch)
        return Accepted(records, len(ids))

    async def all_of_them() -> dict[str, Accepted]:
        return {name: await of(topic) for name, topic in events.items()}

    return asyncio.run(all_of_them())


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
