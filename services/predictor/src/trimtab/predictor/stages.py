"""The stage that predicts: asks in, one prediction a key out, with everything that went into it."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from trimtab.contracts import envelope, telemetry, topics
from trimtab.contracts.codec import AvroCodec
from trimtab.loops.model import Loop, settling_ms
from trimtab.predictor.core import Ask, Assemble, Deployed, Deployment, Encoder, Scored, Writer, score
from trimtab.runtime.records import Headers, Out, Read
from trimtab.runtime.stage import Batch, Input, Measure, Milestone, Output, Result, Stage, Tables, View
from trimtab.runtime.table import Table, TableSpec

SERVICE, VERB = "predictor", "score"
ASKED: TableSpec[bytes, int] = TableSpec(
    name="asked",
    encode_key=bytes,
    decode_key=bytes,
    encode=lambda at_ms: at_ms.to_bytes(8, "big", signed=True),
    decode=lambda data: int.from_bytes(data, "big", signed=True),
)
"""Which predictions were made: key → event time of the ask, or that of the task if it was further, in their order."""
BEGUN: TableSpec[str, int] = TableSpec(
    name="begun",
    encode_key=str.encode,
    decode_key=bytes.decode,
    encode=lambda sequence: sequence.to_bytes(8, "big"),
    decode=lambda data: int.from_bytes(data, "big"),
)
"""Which deployments have scored an ask: NEWEST → the highest sequence of those."""
NEWEST = "newest"


@dataclass(frozen=True, slots=True)
class Predicting:
    """What the step needs of the process around it: how vectors are made, which models score them.

    `memory`: bytes of the replica of online values, for its metric.
    """

    loop: Loop
    assemble: Assemble
    deployed: Deployed
    writer: Writer
    memory: Callable[[], int] = lambda: 0


def stage(predicting: Predicting, views: Sequence[View]) -> Stage:
    """`predictor.score` of one loop. Exactly one prediction a key within the asking event's `dedupe`."""
    loop = predicting.loop
    asks = topics.events(loop.name, loop.predict.on)
    writers = {topics.group("ingest", "dedupe", loop.name): loop.partitions}
    encoder, decode = Encoder(predicting.writer), AvroCodec(loop.asks.schema).decode

    def step(_partition: int, tables: Tables, batch: Batch) -> Result:
        asked = tables[ASKED.name]
        repeats = sum(map(len, batch.records.values()))
        answered = first_asked(asked, batch.records.get(topics.answered(loop.name), ()), batch.progress_ms)
        out = [Out(topics.predictions(loop.name), one.key, one.value, one.headers) for one, _ in answered]
        fresh = first_asked(asked, batch.records.get(asks, ()), batch.progress_ms)
        repeats -= len(out) + len(fresh)
        scored: list[Scored] = []
        first: Mapping[int, Deployment] = {}
        if fresh:
            asked_at = Asked([decode(record.value or b"") for record, _ in fresh], [at_ms for _, at_ms in fresh])
            made, scored = predict(predicting, encoder, asked_at, batch.progress_ms)
            first = first_scored(tables[BEGUN.name], scored)
            out += [
                Out(
                    topics.predictions(loop.name), record.key, value, headers(predicting, record, at_ms, first.get(row))
                )
                for row, ((record, at_ms), value) in enumerate(zip(fresh, made, strict=True))
            ]
        forget(asked, batch.progress_ms - loop.asks.dedupe_ms)
        counts = measures(loop, scored, len(out), repeats)
        return Result(
            out,
            measures=[*counts, *gauges(predicting, batch.progress_ms)],
            milestones=[milestone(fresh[row][0], by, by.trace) for row, by in first.items() if by.trace is not None],
        )

    return Stage(
        group=topics.group(SERVICE, VERB, loop.name),
        changelog=topics.changelog(SERVICE, VERB, loop.name),
        partitions=loop.partitions,
        inputs=[Input(asks, "marks", writers, loop.asks.schema), Input(topics.answered(loop.name), "none")],
        outputs=[Output(topics.predictions(loop.name), loop.partitions)],
        tables=[ASKED, BEGUN],
        views=views,
        gate=[topics.online(loop.name)] if loop.features.looked_up else [],
        gate_grain_ms=loop.features.grain_ms,
        gate_settling_ms=settling_ms(loop.features.grain_ms),
        step=step,
    )


def first_asked(asked: Table[bytes, int], records: Sequence[Read], progress_ms: int) -> Sequence[tuple[Read, int]]:
    """The records whose key was not asked for yet, with their event times; they are asked for from now on.

    One that is dated before what has been reached is remembered for as long as if it were not: an answer that had to
    wait on disk for Kafka may come a second time.
    """
    fresh = {}
    for record in records:
        key = record.key or b""
        if key not in asked and key not in fresh:
            fresh[key] = record
    times_ms = envelope.event_times_ms([record.headers for record in fresh.values()])
    for key, at_ms in zip(fresh, times_ms, strict=True):
        asked.put(key, max(at_ms, progress_ms))
    return list(zip(fresh.values(), times_ms, strict=True))


@dataclass(frozen=True, slots=True)
class Asked:
    """Asks and their event times."""

    asks: Sequence[Ask]
    at_ms: Sequence[int]


def predict(
    predicting: Predicting, encoder: Encoder, asked: Asked, progress_ms: int
) -> tuple[Sequence[bytes], list[Scored]]:
    """Encoded predictions for asks from the stream, and how they were scored."""
    times = np.array(asked.at_ms, dtype=np.int64)
    vectors = predicting.assemble(asked.asks, times)
    scored = score(predicting.deployed(times), times, vectors)
    as_of = np.minimum(times, max(progress_ms, 0)).tolist()
    return encoder.encode(asked.asks, asked.at_ms, as_of, vectors, scored), scored


def first_scored(begun: Table[str, int], scored: Sequence[Scored]) -> Mapping[int, Deployment]:
    """By row, the deployments whose champion predicts for the first time in this task; they have begun from now on."""
    newest, found = begun.get(NEWEST) or 0, {}
    for row, one in enumerate(scored):
        if one.champion is not None and one.deployment is not None and one.deployment.sequence > newest:
            newest, found[row] = one.deployment.sequence, one.deployment
    if found:
        begun.put(NEWEST, newest)
    return found


def headers(predicting: Predicting, record: Read, at_ms: int, first: Deployment | None = None) -> Headers:
    """The prediction's headers. Its trace goes on from the ask's, a deployment's `first` one from the deployment's."""
    trace = (first and first.trace) or envelope.traceparent(record.headers)
    key = (record.key or b"").decode()
    group = topics.group(SERVICE, VERB, predicting.loop.name)
    return envelope.headers(key, "prediction", group, at_ms, trace)


def milestone(record: Read, by: Deployment, trace: str) -> Milestone:
    """The first prediction of a deployment, as its trace ends with it."""
    version = {} if by.champion is None else {"trimtab.version": by.champion.version}
    key = (record.key or b"").decode()
    return Milestone(trace, "first prediction", {"trimtab.key": key, "trimtab.sequence": by.sequence, **version})


def forget(asked: Table[bytes, int], before_ms: int) -> None:
    """Drop keys that were asked for before that event time; they stand in about that order."""
    gone = []
    for key, at_ms in asked.items():
        if at_ms >= before_ms:
            break
        gone.append(key)
    for key in gone:
        asked.remove(key)


def measures(loop: Loop, scored: Sequence[Scored], logged: int, repeats: int) -> Sequence[Measure]:
    """What happened, as metrics."""
    champion = sum(one.champion is not None for one in scored)
    counts = (("champion", "stream", champion), ("none", "stream", len(scored) - champion))
    made = [
        Measure(telemetry.PREDICTOR_PREDICTIONS, count, {"loop": loop.name, "arm": arm, "origin": origin})
        for arm, origin, count in (*counts, ("champion", "http", logged - len(scored)))
        if count
    ]
    if repeats:
        made.append(Measure(telemetry.PREDICTOR_ASKS_REPEATED, repeats, {"loop": loop.name}))
    return made


def gauges(predicting: Predicting, progress_ms: int) -> Sequence[Measure]:
    """Which versions score now (0: none does), and what the replica takes."""
    name = predicting.loop.name
    deployment = predicting.deployed(np.array([progress_ms])).at(progress_ms)
    champion = None if deployment is None else deployment.champion
    shadow = None if deployment is None else next(iter(deployment.shadows), None)
    arms = {"champion": champion, "shadow": shadow}
    versions = {arm: 0 if model is None else model.version for arm, model in arms.items()}
    return [
        Measure(telemetry.PREDICTOR_ONLINE_MEMORY, predicting.memory(), {"loop": name}),
        *(Measure(telemetry.PREDICTOR_MODEL_VERSION, n, {"loop": name, "arm": arm}) for arm, n in versions.items()),
    ]
