"""One trace leads from the event that tipped the detector to the first prediction of the model that it led to."""

import asyncio
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import AsyncExitStack
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from trimtab.contracts import control, envelope, topics
from trimtab.contracts.codec import AvroCodec
from trimtab.contracts.control import DeploymentChanged, DriftDetected
from trimtab.loops.online import OnlineStore
from trimtab.loops.vectors import Assembler, Vectors
from trimtab.monitor.adapters import ModelsView, QualityView, SchemasView
from trimtab.monitor.core.drifting import Watch
from trimtab.monitor.core.plan import plan_of
from trimtab.monitor.core.stretches import HeldStretches
from trimtab.monitor.stages import detect_stage, join_stage, route_stage
from trimtab.monitor.stages.route import counted_events
from trimtab.predictor.adapters.deployments import DeploymentsView
from trimtab.predictor.core import Ask, writer
from trimtab.predictor.stages import Predicting
from trimtab.predictor.stages import stage as score_stage
from trimtab.registry.stages import fold_stage
from trimtab.retrain_controller.stages import decide_stage
from trimtab.runtime import marks
from trimtab.runtime.control import first_trace, written
from trimtab.runtime.memory import MemoryBus
from trimtab.runtime.records import Out, Read
from trimtab.runtime.spans import SpanExport
from trimtab.runtime.stage import Effect, Stage
from trimtab.runtime.worker import Worker
from trimtab.store.blobs import MemoryBlobs
from trimtab.store.signing import Signer
from trimtab.testing import drifting
from trimtab.testing.declarations import declared
from trimtab.testing.stages import Running, data, topics_of
from trimtab.trainer.adapters.child import answered
from trimtab.trainer.adapters.work import Workshop
from trimtab.trainer.stages import stage as fit_stage
from trimtab.trainer.wiring import order_of

LOOP = drifting.loop()
ASSEMBLER = Assembler(LOOP)
WRITER = writer(LOOP, ASSEMBLER.names, "stream")
PREDICTION = AvroCodec(WRITER.schema)
EVENTS = {name: AvroCodec(event.schema) for name, event in LOOP.events.items()}
WAY = [
    ("predictor", "predictor.score"),
    ("monitor", "monitor.route"),
    ("monitor", "drift.detected"),
    ("retrain-controller", "retrain-controller.decide"),
    ("retrain-controller", "retrain.requested"),
    ("trainer", "dataset"),
    ("trainer", "fit"),
    ("trainer", "gate"),
    ("trainer", "refit"),
    ("trainer", "package"),
    ("trainer", "model.trained"),
    ("registry", "registry.fold"),
    ("registry", "deployment.changed"),
    ("predictor", "first prediction"),
]
"""Service and span, each the parent of the next."""
WITHIN = {"monitor.join", "monitor.detect"}
"""Spans between route and drift that depend on what happened to come in the same batch."""
REQUESTED = ("dataset", "fit", "gate", "refit", "package", "model.trained", "deployment.changed")
"""Spans that name the request they come of."""


def monitor() -> list[Stage]:
    plan, stretches, schemas = plan_of(LOOP), HeldStretches(), SchemasView()
    watch = Watch(plan)
    models = ModelsView(plan, watch)
    quality = [QualityView(t, LOOP.name, stretches) for t in (topics.QUALITY_VIOLATED, topics.QUALITY_RESTORED)]
    return [
        route_stage(LOOP, models, schemas, [models, schemas]),
        join_stage(LOOP, stretches, quality),
        detect_stage(LOOP, watch, [models]),
    ]


def services(bus: MemoryBus, folder: Path) -> Mapping[str, Sequence[Stage]]:
    """The services' stages as their wirings make them; the fit runs in this process."""
    trainer, registry, blobs = Signer.generate(), Signer.generate(), MemoryBlobs()
    shop = Workshop(bus, blobs, folder, "cluster", "1.0", "0" * 64)
    looks = set[asyncio.Task[None]]()
    deployments = DeploymentsView(
        LOOP, blobs, registry.verifier(), arrived=lambda: looks.add(asyncio.create_task(deployments.look()))
    )

    async def perform(effect: Effect) -> Mapping[str, Any]:
        return {**await answered(shop, order_of(effect), time.time_ns), "wall_s": 0.0}

    def assemble(asks: Sequence[Ask], at_ms: NDArray[np.int64]) -> Vectors:
        return ASSEMBLER.assemble(asks, at_ms, OnlineStore(ASSEMBLER.groups))

    predicting = Predicting(LOOP, assemble, deployments.deployed, WRITER)
    return {
        "predictor": [score_stage(predicting, [deployments])],
        "monitor": monitor(),
        "retrain-controller": [decide_stage()],
        "trainer": [fit_stage(trainer.sign, perform)],
        "registry": [fold_stage(registry, trainer.verifier())],
    }


def happened(hour: int) -> Iterator[Out]:
    """An hour of events, its last ask sampled."""
    for name, id, at_ms, body in drifting.happened(hour):
        trace = first_trace(id) if id == f"o{hour}-{drifting.EACH - 1}" else None
        headers = envelope.headers(id, name, "test", at_ms, trace)
        yield Out(topics.events(LOOP.name, name), id.encode(), EVENTS[name].encode(body), headers)


def passed(until_ms: int) -> list[Out]:
    """What ingest's tasks say of how far they came."""
    reached = {
        topics.rejected(LOOP.name): ("accept", "dedupe"),
        **{topics.events(LOOP.name, name): ("dedupe",) for name in {*counted_events(LOOP), *LOOP.events}},
    }
    return [
        Out(topic, marks.key_of(name), None, marks.headers_of(marks.Mark(name, until_ms)), partition)
        for topic, verbs in reached.items()
        for verb in verbs
        for task in range(LOOP.partitions)
        for name in [marks.task_name(topics.group("ingest", verb, LOOP.name), task)]
        for partition in range(LOOP.partitions)
    ]


def told(bus: MemoryBus, topic: str) -> list[Any]:
    return [control.decode(topic, record.value or b"") for record in data(bus, topic)]


def quiet(bus: MemoryBus, workers: Sequence[Worker], until_ms: int) -> bool:
    """Whether the monitor has come that far, all has been read and every request has been answered."""
    ticks = data(bus, topics.TIME_ADVANCED)
    came = bool(ticks) and envelope.event_time_ms(ticks[-1].headers) >= until_ms
    read = all(task.lag == 0 for worker in workers for task in worker.status().tasks)
    requested, failed, registered = (
        len(data(bus, topic)) for topic in (topics.RETRAIN_REQUESTED, topics.TRAINING_FAILED, topics.MODEL_REGISTERED)
    )
    return came and read and requested == failed + registered


def promotion(bus: MemoryBus) -> Read | None:
    """The first deployment that replaced a champion."""
    for record in data(bus, topics.DEPLOYMENT_CHANGED):
        event = control.decode(record.topic, record.value or b"")
        if isinstance(event, DeploymentChanged) and event.cause == "promoted":
            return record
    return None


def predicted(bus: MemoryBus, version: int) -> dict[int, list[Read]]:
    """By partition, the predictions of a version."""
    found: dict[int, list[Read]] = {}
    for record in data(bus, topics.predictions(LOOP.name)):
        if PREDICTION.decode(record.value or b"")["version"] == version:
            found.setdefault(record.partition, []).append(record)
    return found


async def play(bus: MemoryBus, exporter: InMemorySpanExporter, folder: Path) -> None:
    """Feed hours, until a second model predicts on every partition."""
    by_service = services(bus, folder)
    for topic, partitions in topics_of([stage for stages in by_service.values() for stage in stages]).items():
        bus.create(topic, partitions)
    bus.append([written(declared(LOOP), id="declared", source="test", trace=None)])
    workers: list[Worker] = []
    async with AsyncExitStack() as stack:
        for name, stages in by_service.items():
            tracing = SpanExport(name, 0, [SimpleSpanProcessor(exporter)]).tracing()
            running = await stack.enter_async_context(Running(stages, bus, tracing=tracing))
            workers += running.workers
        for first in range(0, drifting.HOURS, drifting.FIT_HOURS):
            last = first + drifting.FIT_HOURS
            bus.append([out for hour in range(first, last) for out in happened(hour)])
            bus.append(passed(drifting.hour_ms(last) - 1))
            await running.until(partial(quiet, bus, workers, drifting.hour_ms(last - 1)))
            if promotion(bus) is not None and len(predicted(bus, 2)) == LOOP.partitions:
                return


def traced(record: Read) -> str | None:
    """The id of a record's trace."""
    found = envelope.traceparent(record.headers)
    return None if found is None else found.split("-")[1]


def way_to(span: ReadableSpan, spans: Sequence[ReadableSpan]) -> list[ReadableSpan]:
    """A span and all that it follows from, the first of them first."""
    known = {one.context.span_id: one for one in spans if one.context is not None}
    way, parent = [span], span.parent
    while parent is not None and parent.span_id in known:
        way.append(known[parent.span_id])
        parent = way[-1].parent
    return way[::-1]


def of(span: ReadableSpan, name: str) -> Any:
    return (span.attributes or {}).get(f"trimtab.{name}")


def check(way: Sequence[ReadableSpan], drifts: Mapping[str, DriftDetected]) -> None:
    """The spans on a way are the expected ones, and tell what they are about."""
    services = [str(one.resource.attributes["service.name"]).removeprefix("trimtab-") for one in way]
    found = [pair for pair in zip(services, [one.name for one in way], strict=True) if pair[1] not in WITHIN]
    assert found == WAY
    assert {of(one, "loop") for one in way} == {LOOP.name}
    at = {one.name: one for one in way}
    drift = drifts[of(at["drift.detected"], "drift_id")]
    assert of(at["retrain.requested"], "cause.drift_id") == drift.drift_id
    assert {of(at[name], "request_id") for name in REQUESTED} == {of(at["retrain.requested"], "request_id")}
    assert of(at["gate"], "verdict") == "passed"
    assert of(at["deployment.changed"], "champion.version") == of(way[-1], "version") == 2
    assert of(at["deployment.changed"], "sequence") == of(way[-1], "sequence")
    check_tip(way[0], drift)


def check_tip(span: ReadableSpan, drift: DriftDetected) -> None:
    """The way begins with the span of a sampled ask, and that is one of the look which raised the alarm."""
    key = str((span.attributes or {})["messaging.kafka.message.key"])
    assert span.parent is not None
    assert first_trace(key).split("-")[2] == f"{span.parent.span_id:016x}"
    asked_in_ms, ended_ms = drifting.hour_ms(int(key[1:].split("-")[0])), drift.at_ms - LOOP.lateness_ms
    assert ended_ms - drift.look_ms <= asked_in_ms < ended_ms
    assert drift.at_ms > drifting.hour_ms(drifting.TURNS_AT)


async def test_one_trace_leads_from_the_tipping_event_to_the_new_models_first_prediction(tmp_path: Path) -> None:
    bus, exporter = MemoryBus(), InMemorySpanExporter()
    await play(bus, exporter, tmp_path)
    promoted = promotion(bus)
    assert promoted is not None
    trace_id = traced(promoted)
    spans = [one for one in exporter.get_finished_spans() if one.context and f"{one.context.trace_id:032x}" == trace_id]
    drifts = {one.drift_id: one for one in told(bus, topics.DRIFT_DETECTED)}
    first = [one for one in spans if one.name == "first prediction"]
    assert len(first) == LOOP.partitions, "one in each partition"
    for span in first:
        check(way_to(span, spans), drifts)
    assert any(one.name == "model.registered" for one in spans)
    for records in predicted(bus, 2).values():
        carry = [traced(record) == trace_id for record in records]
        assert carry == [True] + [False] * (len(records) - 1), "the first prediction alone carries it on"
