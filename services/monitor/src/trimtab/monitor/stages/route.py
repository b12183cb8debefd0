"""`monitor.route`: what predictions show goes to the detector, asks and label events go to where they meet."""

import hashlib
from collections.abc import Mapping, Sequence
from typing import Protocol

import msgspec
import numpy as np

from trimtab.contracts import envelope, telemetry, topics
from trimtab.contracts.data import SCHEMAS
from trimtab.loops.model import Loop
from trimtab.monitor.core import routing
from trimtab.monitor.core.observe import KnownModel
from trimtab.monitor.core.plan import plan_of
from trimtab.monitor.core.predictions import Ints, Predictions, deployments
from trimtab.monitor.core.routing import Arrivals
from trimtab.monitor.stages import encoding
from trimtab.monitor.stages.decoding import (
    LabelReader,
    LabelRows,
    PredictionReader,
    Schemas,
    rejected,
)
from trimtab.monitor.stages.encoding import Routed, Shared, Writing
from trimtab.monitor.stages.rhythm import COMMIT_INTERVAL_MS, LIVE_INTERVAL_MS
from trimtab.runtime.partitioner import partition_of
from trimtab.runtime.records import Out, Read, Record
from trimtab.runtime.stage import Batch, Input, Measure, Output, Result, Stage, Tables, View
from trimtab.runtime.table import Table, TableSpec

Records = Mapping[str, Sequence[Read]]
"""By topic, none empty."""
SERVICE, VERB = "monitor", "route"
MOST_RECORDS = 2_000
"""In a batch: all of it goes into one record a partition."""


class Waiting(msgspec.Struct, frozen=True, array_like=True):
    """A prediction whose model is not known here yet: predictions and models come by different topics."""

    at_ms: int
    digests: list[str]
    value: bytes


WAITING: TableSpec[int, Waiting] = TableSpec(
    name="waiting",
    encode_key=lambda offset: offset.to_bytes(8, "big"),
    decode_key=lambda data: int.from_bytes(data, "big"),
    encode=msgspec.msgpack.Encoder().encode,
    decode=msgspec.msgpack.Decoder(Waiting).decode,
)
"""By offset."""


class Models(Protocol):
    """The models of the loop, by digest."""

    def known(self, digest: str) -> KnownModel | None:
        """What a model was trained on; None while it is not known."""
        ...


def route_stage(loop: Loop, models: Models, schemas: Schemas, views: Sequence[View]) -> Stage:
    """The stage of one loop. `views` keep `models` and `schemas`."""
    dedupe = {topics.group("ingest", "dedupe", loop.name): loop.partitions}
    both = {**dedupe, topics.group("ingest", "accept", loop.name): loop.partitions}
    score = {topics.group("predictor", "score", loop.name): loop.partitions}
    return Stage(
        group=topics.group(SERVICE, VERB, loop.name),
        changelog=topics.changelog(SERVICE, VERB, loop.name),
        partitions=loop.partitions,
        inputs=[
            Input(topics.predictions(loop.name), "marks", score),
            *(Input(topics.events(loop.name, event), "marks", dedupe) for event in counted_events(loop)),
            Input(topics.rejected(loop.name), "marks", both, SCHEMAS["rejected"]),
        ],
        outputs=[Output(topics.joinable(loop.name), loop.partitions), Output(topics.signals(loop.name), 1)],
        tables=[WAITING],
        views=views,
        step=Route(loop, models, schemas),
        max_batch=MOST_RECORDS,
        commit_interval_ms=COMMIT_INTERVAL_MS,
        live_interval_ms=LIVE_INTERVAL_MS,
    )


def counted_events(loop: Loop) -> Sequence[str]:
    """The events that are read. Asks are known from their predictions, unless they are the labels too."""
    return [event for event in loop.events if event != loop.predict.on or event == loop.label.of]


class Route:
    """The step: pure but for its table; readers and plan are made once."""

    def __init__(self, loop: Loop, models: Models, schemas: Schemas) -> None:
        self._loop, self._plan, self._models = loop, plan_of(loop), models
        self._predictions, self._labels = PredictionReader(loop, schemas), LabelReader(loop, schemas)
        self._topic_of = {event: topics.events(loop.name, event) for event in counted_events(loop)}
        self._group = topics.group(SERVICE, VERB, loop.name)

    def __call__(self, partition: int, tables: Tables, batch: Batch) -> Result:
        """Decode, add up, re-key."""
        waiting: Table[int, Waiting] = tables[WAITING.name]
        records = {topic: those for topic, those in batch.records.items() if those}
        asked = self._asked(waiting, records.get(topics.predictions(self._loop.name), ()))
        newest_ms = _newest_ms(records, asked)
        arrivals = Arrivals(asked, self._times(records), self._rejected(records, max(batch.progress_ms, newest_ms)))
        writing = Writing(self._loop.name, f"{self._group}-{partition}", _id(records), newest_ms)
        task = {"loop": self._loop.name, "partition": str(partition)}
        return Result(
            out=[*self._signals(writing, arrivals, records), *self._joinables(writing, partition, arrivals, records)],
            progress_ms=_progress_ms(waiting, batch.progress_ms),
            measures=[Measure(telemetry.MONITOR_WAITING, len(waiting), task)],
        )

    def _asked(self, waiting: Table[int, Waiting], records: Sequence[Read]) -> Sequence[Predictions]:
        """The predictions whose models are known, those that waited for theirs included; the others wait."""
        come = [
            Record("", 0, offset, None, held.value)
            for offset, held in list(waiting.items())
            if all(self._models.known(digest) is not None for digest in held.digests)
        ]
        for record in come:
            waiting.remove(record.offset)
        value_of = {record.offset: record.value for record in records}
        found = list[Predictions]()
        for part in self._predictions.read([*come, *records]) if come or records else ():
            unknown = {version for version, digest in part.digests.items() if self._models.known(digest) is None}
            late = part.of_versions(unknown) if unknown else np.empty(0, np.int64)
            for row in late.tolist():
                _wait(waiting, part, row, value_of[int(part.offset[row])] or b"")
            found.append(part if not len(late) else part.take(np.delete(np.arange(len(part)), late)))
        return [part for part in found if len(part)]

    def _times(self, records: Records) -> Mapping[str, Ints]:
        return {event: _times(records.get(topic, ())) for event, topic in self._topic_of.items()}

    def _rejected(self, records: Records, otherwise_ms: int) -> Mapping[str, Ints]:
        refused = records.get(topics.rejected(self._loop.name), ())
        return rejected(refused, otherwise_ms) if refused else {}

    def _signals(self, writing: Writing, arrivals: Arrivals, records: Records) -> Sequence[Out]:
        named = routing.shown(self._plan, arrivals, self._models.known)
        seen = [one for part in arrivals.predictions for one in deployments(part)]
        tips = encoding.tips_of(records.get(topics.predictions(self._loop.name), ()))
        return encoding.signals(writing, named, seen, tips)

    def _joinables(self, writing: Writing, partition: int, arrivals: Arrivals, records: Records) -> Sequence[Out]:
        label_of = self._loop.label.of
        label_records = records.get(self._topic_of[label_of], ())
        ids = [_digest(record) for record in label_records]
        labels = self._labels.read(label_records, arrivals.events[label_of], ids) if label_records else None
        shared = Shared(
            predicted_in=partition,
            keyed_alike=self._plan.keyed_alike,
            source=routing.source(self._plan, arrivals),
            classes=routing.classes(self._plan, arrivals.predictions, self._models.known),
            tip=max(encoding.tips_of(label_records), default=None),
        )
        asks_in = [(part, self._places(part, partition)) for part in arrivals.predictions]
        labels_in = np.empty(0, np.int64) if labels is None else _label_places(labels, self._loop.partitions)
        outs = list[Out]()
        for place in range(self._loop.partitions):
            asks = [_at(part, at, place) for part, at in asks_in if (at == place).any()]
            routed = Routed(asks, labels, np.flatnonzero(labels_in == place))
            if asks or len(routed.rows) or shared.source:
                outs.append(encoding.joinables(writing, place, routed, shared))
        return outs

    def _places(self, part: Predictions, own: int) -> Ints:
        """The partition in which each ask meets its label; -1 where label.by is null."""
        if self._plan.keyed_alike:
            return np.full(len(part), own, np.int64)
        count = self._loop.partitions
        return np.fromiter((partition_of(by.encode(), count) if by else -1 for by in part.by), np.int64, len(part))


def _at(part: Predictions, at: Ints, place: int) -> Predictions:
    """The asks that go to a partition."""
    here = np.flatnonzero(at == place)
    return part if len(here) == len(part) else part.take(here)


def _wait(waiting: Table[int, Waiting], part: Predictions, row: int, value: bytes) -> None:
    shadows = part.shadows.version[part.shadows.row == row].tolist()
    digests = [part.digests[version] for version in (int(part.version[row]), *shadows) if version in part.digests]
    waiting.put(int(part.offset[row]), Waiting(int(part.at_ms[row]), digests, value))


def _progress_ms(waiting: Table[int, Waiting], reached_ms: int) -> int | None:
    """What may be passed on: nothing that still waits is claimed to have been."""
    if not len(waiting):
        return None
    return min(reached_ms, min(held.at_ms for _, held in waiting.items()) - 1)


def _label_places(labels: LabelRows, partitions: int) -> Ints:
    """The partition of each label event's `by`; often that of its record, whose key is the same."""
    pairs = zip(labels.by, labels.records, strict=True)
    return np.fromiter(
        (r.partition if r.key == (k := by.encode()) else partition_of(k, partitions) for by, r in pairs),
        np.int64,
        len(labels.by),
    )


def _digest(record: Read) -> int:
    """64 bits that an event's id has in common with its corrections, and with nothing else."""
    identity = envelope.require(record.headers, envelope.ID)
    return int.from_bytes(hashlib.blake2b(identity, digest_size=8).digest(), "big", signed=True)


def _times(records: Sequence[Read]) -> Ints:
    return np.array(envelope.event_times_ms([record.headers for record in records]), np.int64)


def _id(records: Records) -> str:
    """What tells this batch from others: how far it read each topic."""
    return "-".join(f"{those[-1].offset}" for _, those in sorted(records.items())) or "none"


def _newest_ms(records: Records, asked: Sequence[Predictions]) -> int:
    """The newest event time of the batch."""
    times = [envelope.event_time_ms(those[-1].headers) for those in records.values()]
    return max([*times, *(int(part.at_ms.max()) for part in asked)], default=0)
