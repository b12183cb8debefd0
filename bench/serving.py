"""From a drift event, written by hand, to the first prediction of the new champion, while flights go on coming in."""

import asyncio
import time
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

from aiokafka import AIOKafkaProducer
from flights import Flights
from latency import Pace, Trip, committed, send
from local import Running
from play import Told
from trimtab.cli.cluster.status import StatusReader
from trimtab.cli.log import follower
from trimtab.contracts import control, envelope, topics
from trimtab.contracts.codec import AvroCodec
from trimtab.contracts.control import DriftDetected, DriftSignal
from trimtab.contracts.prediction import prediction_schema
from trimtab.loops.model import Loop
from trimtab.loops.vectors import names_of
from trimtab.runtime.kafka.connection import Connection

LIVE_PER_S = 20
"""The least rate of those at which latency is measured: a thousand times what the flights of 2013 came to."""
IDLE_S = 20.0
"""How long flights come in before the drift: one comes days after the fit before it, not in its last second."""
PATIENCE_S = 120.0
STEPS = (
    topics.RETRAIN_REQUESTED,
    topics.MODEL_TRAINED,
    topics.MODEL_REGISTERED,
    topics.DEPLOYMENT_CHANGED,
)


class NotServedError(Exception):
    """The drift did not lead to a new champion."""

    def __init__(self, said: Mapping[str, tuple[int, Any]]) -> None:
        told = "; ".join(f"{topic}: {str(event)[:200]}" for topic, (_, event) in said.items())
        super().__init__(f"no new version serves {PATIENCE_S:.0f} s after the drift event; said was: {told}")


@dataclass(frozen=True, slots=True)
class Served:
    """`seconds`: from the drift event's acknowledgement to the first prediction of the new champion that is readable.

    `steps_s`: when each control event on the way was appended. `rows`: that the new model was fitted on.
    """

    seconds: float
    steps_s: Mapping[str, float]
    rows: int


async def serving(running: Running, flights: Flights, first: int, told: Told) -> Served:
    """Write the drift event of the champion's version, and follow what comes of it."""
    kafka, loop = running.addresses.kafka, flights.loop
    champion = _champion(running, loop.name)
    async with _live(kafka, flights, first, told):
        await asyncio.sleep(IDLE_S)
        began_ms = int(time.time() * 1000)
        began_s = await write_drift(kafka, loop.name, champion, began_ms)
        try:
            async with asyncio.timeout(PATIENCE_S):
                ended_s = await _first_of_another(kafka, loop, champion, began_ms)
        except TimeoutError as error:
            raise NotServedError(await _said(kafka, loop.name, began_ms)) from error
    said = await _said(kafka, loop.name, began_ms)
    steps_s = {topic: round((at_ms - began_ms) / 1000, 2) for topic, (at_ms, _) in said.items()}
    return Served(round(ended_s - began_s, 2), steps_s, said[topics.MODEL_TRAINED][1].dataset.rows)


def _champion(running: Running, loop: str) -> int:
    with StatusReader() as reader:
        status = reader.loop(running.addresses.services["predictor"][0], loop)
    assert status is not None
    assert status.champion is not None, "the history was long enough for a first model"
    return status.champion


@asynccontextmanager
async def _live(kafka: Connection, flights: Flights, first: int, told: Told) -> AsyncIterator[None]:
    """Flights that come in meanwhile."""
    sending = asyncio.create_task(send(kafka, flights, Pace(first, LIVE_PER_S, 2 * PATIENCE_S), Trip(), told))
    try:
        yield
    finally:
        sending.cancel()
        await asyncio.gather(sending, return_exceptions=True)


async def write_drift(kafka: Connection, loop: str, version: int, at_ms: int) -> float:
    """Write a drift of the loss as anyone may; returns when it was acknowledged."""
    loss = DriftSignal(name="loss", kind="loss", weight=0.5, evidence=9_999.0, reference_mean=0.4, recent_mean=0.6,
                       shift_sd=3.0, drifted=True)  # fmt: skip
    event = DriftDetected(
        loop=loop, at_ms=at_ms, drift_id=f"bench-{at_ms}", model_version=version, since_ms=at_ms,
        evidence=9_999.0, threshold=1_440.0, look_ms=3_600_000, looks=100, signals=[loss],
    )  # fmt: skip
    headers = envelope.headers(event.drift_id, topics.DRIFT_DETECTED, "bench", at_ms)
    producer: Any = AIOKafkaProducer(acks="all", **kafka.arguments("trimtab-bench"))
    await producer.start()
    try:
        await producer.send_and_wait(topics.DRIFT_DETECTED, control.encode(event), loop.encode(), headers=list(headers))
    finally:
        await producer.stop()
    return time.perf_counter()


async def _first_of_another(kafka: Connection, loop: Loop, version: int, since_ms: int) -> float:
    """When the first prediction of another version than this was readable."""
    known = names_of(loop)
    codec = AvroCodec(prediction_schema(loop.name, loop.features.names, categorical=known.categories, aged=known.aged))
    async with committed(kafka, topics.predictions(loop.name), since_ms) as predictions:
        while True:
            for records in (await predictions.getmany(timeout_ms=100)).values():
                now_s = time.perf_counter()
                if any(codec.decode(one.value)["version"] != version for one in records if one.value is not None):
                    return now_s


async def _said(kafka: Connection, loop: str, since_ms: int) -> dict[str, tuple[int, Any]]:
    """The first event of each kind since then: when it was appended, and what it says."""
    found: dict[str, tuple[int, Any]] = {}
    async with follower(kafka, [*STEPS, topics.RETRAIN_DECLINED, topics.TRAINING_FAILED]) as reader:
        for record in await reader.catch_up():
            at_ms: int = record.timestamp
            if at_ms >= since_ms and record.value is not None and record.key == loop.encode():
                found.setdefault(record.topic, (at_ms, control.decode(record.topic, record.value)))
    return dict(sorted(found.items(), key=lambda pair: pair[1][0]))
