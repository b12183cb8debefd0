"""What features and predictions cost an event, in CPU, side by side with decoding the same events.

python bench/features.py [--days N] [--batch N]

The flights loop's own declaration on made-up flights: 4,600 departures and arrivals a day and hourly weather at three
airports, five times as dense as the real ones. Steps are called as the runtime calls them, their tables encoded; the
transport is left out (see bench/runtime.py). Figures are microseconds of CPU.
"""

import argparse
import json
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray
from trimtab.contracts import envelope, topics
from trimtab.contracts.codec import AvroCodec
from trimtab.feature.adapters import LoopTimes
from trimtab.feature.stages import aggregate_stage, route_stage
from trimtab.loops import declaration
from trimtab.loops.model import Loop
from trimtab.loops.online import OnlineStore
from trimtab.loops.vectors import Assembler, Vectors
from trimtab.ml.datasets import Dataset
from trimtab.ml.packaging import package
from trimtab.ml.scoring import Scorer
from trimtab.ml.training import fit
from trimtab.predictor.core import Ask, Deployment, Deployments, Model, writer
from trimtab.predictor.stages import Predicting
from trimtab.predictor.stages import stage as score_stage
from trimtab.runtime.records import Record
from trimtab.runtime.stage import Batch, Stage
from trimtab.testing.steps import as_read, tables_of

FLIGHTS = Path(__file__).parent.parent / "examples" / "flights"
MINUTE, DAY = 60_000, 86_400_000
START = 1_356_998_400_000
PER_DAY = 4_600
T = TypeVar("T")


class Spent:
    """CPU seconds by what they were spent on."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = {}

    def on(self, name: str, work: Callable[[], T]) -> T:
        """Do some work and note what it took."""
        started = time.process_time()
        result = work()
        self.seconds[name] = self.seconds.get(name, 0.0) + time.process_time() - started
        return result


def flights(loop: Loop, days: int) -> list[Record]:
    """Departures, their arrivals hours later, and weather, in event-time order."""
    generator = np.random.default_rng(0)
    found: list[tuple[int, str, dict[str, Any]]] = []
    for number in range(days * PER_DAY):
        at_ms = START + number * DAY // PER_DAY
        flight = {
            "flight_id": f"2013-01-01/UA{number}/EWR-IAH/0515",
            "carrier": f"C{generator.integers(0, 16)}",
            "flight": int(generator.integers(1, 3000)),
            "tailnum": f"N{generator.integers(0, 4000)}",
            "origin": str(generator.choice(["EWR", "JFK", "LGA"])),
            "dest": f"D{generator.integers(0, 105)}",
        }
        asked = {"scheduled_at": at_ms, "distance": int(generator.integers(80, 3000)), "due_minute": number % 1440}
        arrived_ms = at_ms + int(generator.integers(60, 400)) * MINUTE
        found.append((at_ms, "departure", flight | asked))
        delay = {"arrived_at": arrived_ms, "arr_delay_min": int(generator.normal(5, 30))}
        found.append((arrived_ms, "arrival", flight | delay))
    for hour in range(days * 24):
        at_ms = START + hour * 60 * MINUTE
        for origin in ("EWR", "JFK", "LGA"):
            seen = {
                "observation_id": f"{origin}{hour}",
                "observed_at": at_ms,
                "origin": origin,
                "temp": float(hour % 30),
            }
            found.append((at_ms, "weather", seen))
    encode = {name: AvroCodec(event.schema).encode for name, event in loop.events.items()}
    ordered = sorted(found, key=lambda one: one[0])
    return [record(loop, name, encode[name](body), body, at_ms) for at_ms, name, body in ordered]


def record(loop: Loop, name: str, value: bytes, body: Mapping[str, Any], at_ms: int) -> Record:
    """An event as ingest writes it."""
    id = str(body.get("flight_id", body.get("observation_id")))
    return Record(
        topics.events(loop.name, name), 0, 0, id.encode(), value, envelope.headers(id, name, "ingest.dedupe", at_ms)
    )


def batches(records: Sequence[Record], size: int) -> Iterator[dict[str, list[Record]]]:
    """Records in batches, by topic."""
    for start in range(0, len(records), size):
        by_topic: dict[str, list[Record]] = {}
        for one in records[start : start + size]:
            by_topic.setdefault(one.topic, []).append(one)
        yield by_topic


def two_models(loop: Loop, names: Any) -> Deployments:
    """A champion and a shadow: the declared estimator on made-up rows, served as ONNX."""
    generator, n = np.random.default_rng(1), 4_000
    categories = generator.choice(["C1", "D2", "EWR", "JFK"], (n, len(names.categories))).astype(object)
    rows = Dataset(
        number_names=names.numbers,
        category_names=names.categories,
        keys=np.array([str(i) for i in range(n)], dtype=object),
        at_ms=np.arange(n),
        numbers=generator.normal(size=(n, len(names.numbers))),
        categories=categories,
        labels=(generator.random(n) < 0.2).astype(np.float64),
        versions=np.full(n, -1),
        scores=np.full(n, np.nan),
    )
    packed = package(fit(loop.model, loop.task, rows, seed=0), rows)
    models = [Model(version, packed.digest, (), Scorer.load(packed.format, packed.blob)) for version in (1, 2)]
    return Deployments().with_one(Deployment(1, 0, models[0], models[1:]))


class Course:
    """Route, aggregate, the predictor's replica and its step, one after the other on the same events."""

    def __init__(self, loop: Loop) -> None:
        self.spent = Spent()
        self.asks = 0
        self._loop = loop
        self._assembler = Assembler(loop)
        self.store = OnlineStore(self._assembler.groups)
        self._route, self._aggregate = route_stage(loop), aggregate_stage(loop, LoopTimes())
        self._tiles = tables_of(self._aggregate)
        deployments = two_models(loop, self._assembler.names)
        self._score = score_stage(
            Predicting(loop, self._assemble, lambda _: deployments, writer(loop, self._assembler.names, "stream")), ()
        )
        self._asked = tables_of(self._score)
        self._decoders = {
            topics.events(loop.name, name): AvroCodec(event.schema).decode for name, event in loop.events.items()
        }

    def run(self, batch: dict[str, list[Record]], progress_ms: int) -> None:
        """All steps over one batch."""
        self.spent.on("decode", lambda: [self._decoders[t](one.value or b"") for t in batch for one in batch[t]])
        routed = self.spent.on("route", lambda: self._route.step(0, {}, Batch(batch, progress_ms, 0)).out)
        grouped = {topics.grouped(self._loop.name): as_read(routed)}
        written = self.spent.on("aggregate", lambda: self._step(self._aggregate, self._tiles, grouped, progress_ms))
        self.spent.on("replica", lambda: self.store.load(written["tiles"]))
        asks = {topic: records for topic, records in batch.items() if topic.endswith(".departure")}
        self.asks += sum(map(len, asks.values()))
        self.spent.on("score", lambda: self._step(self._score, self._asked, asks, progress_ms))

    def alone(self, records: Sequence[Record]) -> float:
        """Microseconds for the vector of a single ask, as an HTTP request in quiet times needs it."""
        decode = self._decoders[records[0].topic]
        asks = [([decode(one.value or b"")], np.array([envelope.event_time_ms(one.headers)])) for one in records]
        started = time.process_time()
        for ask, at_ms in asks:
            self._assembler.assemble(ask, at_ms, self.store)
        return round((time.process_time() - started) / len(asks) * 1e6)

    def _assemble(self, asks: Sequence[Ask], at_ms: NDArray[np.int64]) -> Vectors:
        return self.spent.on("vectors", lambda: self._assembler.assemble(asks, at_ms, self.store))

    def _step(
        self, stage: Stage, tables: dict[str, Any], records: Mapping[str, Sequence[Record]], progress_ms: int
    ) -> dict[str, list[tuple[bytes, bytes | None]]]:
        stage.step(0, tables, Batch(records, progress_ms, 0))
        return {name: list(table.flush()) for name, table in tables.items()}


def main() -> None:
    """Measure and print the figures as JSON."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--days", type=int, default=8, help="days of flights; the first two are not counted")
    parser.add_argument("--batch", type=int, default=1_000, help="events a batch")
    given = parser.parse_args()
    loop = declaration.load(FLIGHTS)
    course, events, asks = Course(loop), 0, list[Record]()
    for number, batch in enumerate(batches(flights(loop, given.days), given.batch)):
        if number * given.batch < 2 * 2 * PER_DAY <= (number + 1) * given.batch:
            course.spent.seconds.clear()
            course.asks = events = 0
        newest_ms = max(envelope.event_time_ms(records[-1].headers) for records in batch.values())
        course.run(batch, newest_ms)
        asks = batch.get(topics.events(loop.name, loop.predict.on), asks)
        events += sum(map(len, batch.values()))
    alone = course.alone(asks[-200:])
    print(json.dumps({**figures(course, events, given.batch), "vector_of_one_ask_alone": alone}, indent=2))


def figures(course: Course, events: int, batch: int) -> dict[str, Any]:
    """Microseconds an event (of `score` and `vectors`: an ask), and as multiples of decoding an event."""
    per_ask = {"score", "vectors"}
    each = {
        name: 1e6 * seconds / (course.asks if name in per_ask else events)
        for name, seconds in course.spent.seconds.items()
    }
    return {
        "batch": batch,
        "events": events,
        "asks": course.asks,
        "microseconds": {name: round(value, 1) for name, value in each.items()},
        "times_decoding": {name: round(value / each["decode"], 1) for name, value in each.items()},
        "keys": course.store.keys,
        "grains": course.store.rows,
        "bytes_per_key": round(course.store.nbytes / max(course.store.keys, 1)),
    }


if __name__ == "__main__":
    main()
