"""What a loop has done, read from its topics by a plain consumer that sees committed records only."""

from collections import Counter
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import polars as pl
from aiokafka import AIOKafkaConsumer, TopicPartition

from trimtab.contracts import control, data, topics
from trimtab.contracts.codec import AvroCodec
from trimtab.contracts.prediction import field_name, prediction_schema
from trimtab.loops.model import Loop
from trimtab.loops.vectors import names_of
from trimtab.trainer.adapters.columns import OUTCOME, column, names

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
    """`predictions`: one row a record, with scores of shadows as a list and features; `outcomes`: one a record.

    `control`: events by topic, in the order of their offsets. `rejected`: records in quarantine.
    """

    predictions: pl.DataFrame
    outcomes: pl.DataFrame
    control: Mapping[str, Sequence[Any]]
    rejected: int

    def copies(self) -> int:
        """How many predictions, and outcomes of the same revision, there are too many."""
        keys = Counter(self.predictions["key"].to_list())
        places = Counter(self.outcomes.select("prediction_partition", "prediction_offset", "revision").iter_rows())
        return sum(n - 1 for n in keys.values()) + sum(n - 1 for n in places.values())


async def collect(bootstrap: str, loop: Loop, told: Told = lambda _: None) -> Collected:
    """Read everything that is committed now."""
    predictions = pl.DataFrame(
        [row async for row in prediction_rows(bootstrap, loop, told)], infer_schema_length=None, orient="row"
    )
    codec = data.codec(data.Outcome)
    outcomes = []
    async for record in records(bootstrap, topics.outcomes(loop.name), told):
        row = codec.decode(record.value)
        outcomes.append({**row, "labelled": row["status"] == "labelled"})
    rejected = [1 async for _ in records(bootstrap, topics.rejected(loop.name), told)]
    events = {topic: await control_events(bootstrap, topic, loop.name) for topic in CONTROL}
    schema: dict[str, type[pl.DataType]] = {"key": pl.String, **OUTCOME}
    kept = [{name: row[name] for name in schema} for row in outcomes]
    return Collected(predictions, pl.DataFrame(kept, schema=schema, orient="row"), events, len(rejected))


async def prediction_rows(bootstrap: str, loop: Loop, told: Told) -> AsyncIterator[dict[str, Any]]:
    """Every prediction as a row: where it stands, what was said by whom, the features under their columns' names."""
    known = names_of(loop)
    codec = AvroCodec(prediction_schema(loop.name, loop.features.names, categorical=known.categories, aged=known.aged))
    numbers, categories = names(loop)
    fields = [(column(name), field_name(name)) for name in (*numbers, *categories)]
    async for record in records(bootstrap, topics.predictions(loop.name), told):
        value = codec.decode(record.value)
        features = value["features"]
        yield {
            "partition": record.partition,
            "offset": record.offset,
            "key": value["key"],
            "at_ms": value["at_ms"],
            "version": value["version"],
            "score": value["score"],
            "shadow_versions": [shadow["version"] for shadow in value["shadows"]],
            "shadow_scores": [shadow["score"] for shadow in value["shadows"]],
            **{name: features[field] for name, field in fields},
        }


async def control_events(bootstrap: str, topic: str, loop: str) -> list[Any]:
    """The events of a control topic about one loop."""
    key = loop.encode()
    return [
        control.decode(topic, one.value) async for one in records(bootstrap, topic, lambda _: None) if one.key == key
    ]


async def records(bootstrap: str, topic: str, told: Told) -> AsyncIterator[Any]:
    """Every committed record with a value, of all partitions, up to the end as it is now."""
    consumer = AIOKafkaConsumer(bootstrap_servers=bootstrap, isolation_level="read_committed", enable_auto_commit=False)
    await consumer.start()
    try:
        partitions = [TopicPartition(topic, number) for number in sorted(await partitions_of(consumer, topic))]
        consumer.assign(partitions)
        await consumer.seek_to_beginning(*partitions)
        ends = await consumer.end_offsets(partitions)
        while any([await consumer.position(part) < ends[part] for part in partitions]):
            for found in (await consumer.getmany(timeout_ms=500)).values():
                told(len(found))
                for record in found:
                    if record.value is not None:
                        yield record
    finally:
        await consumer.stop()


async def partitions_of(consumer: Any, topic: str) -> set[int]:
    """The partitions of a topic, asked for by name."""
    consumer._client.add_topic(topic)  # the only way to ask without subscribing
    await consumer._client.force_metadata_update()
    return set(consumer.partitions_for_topic(topic) or ())
