"""What the monitor costs a prediction, in CPU, step by step, side by side with decoding the same predictions.

python bench/monitor.py [--rows N] [--batch N] [--per-hour N]

The flights loop's own declaration on made-up predictions with a champion and a shadow, each with its arrival some hours
later. Steps are called as the runtime calls them, with tables' entries encoded; the transport is left out (see
bench/runtime.py). Figures are microseconds of CPU, so other work on the machine counts little.
"""

import argparse
import json
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from trimtab.contracts import envelope, topics
from trimtab.contracts.codec import AvroCodec
from trimtab.contracts.control import ModelTrained, Reference, ReferenceSignal
from trimtab.contracts.prediction import field_name, prediction_schema
from trimtab.loops import declaration
from trimtab.loops.model import Loop
from trimtab.loops.vectors import VectorNames, names_of
from trimtab.monitor.adapters import ModelsView, SchemasView
from trimtab.monitor.core.drifting import Watch
from trimtab.monitor.core.plan import plan_of
from trimtab.monitor.core.references import reference_of
from trimtab.monitor.core.stretches import HeldStretches
from trimtab.monitor.stages import detect_stage, join_stage, route_stage
from trimtab.runtime.records import Out, Record
from trimtab.runtime.stage import Batch, Stage
from trimtab.testing.models import trained
from trimtab.testing.steps import as_read, tables_of

FLIGHTS = Path(__file__).parent.parent / "examples" / "flights"
HOUR, DAY = 3_600_000, 86_400_000
START = 1_356_998_400_000
CHAMPION, SHADOW = "c" * 64, "d" * 64
CARRIERS = ["AA", "B6", "DL", "EV", "UA", "WN"]


@dataclass(frozen=True)
class Figures:
    """Microseconds of CPU per prediction."""

    decode: float
    route: float
    join: float
    detect: float
    outcomes: int
    said: int

    def told(self) -> dict[str, float]:
        """Also as ratios to decoding."""
        steps = {"route": self.route, "join": self.join, "detect": self.detect}
        steps["monitor"] = sum(steps.values())
        return {
            "decode_us": round(self.decode, 1),
            **{f"{name}_us": round(value, 1) for name, value in steps.items()},
            **{f"{name}_to_decode": round(value / self.decode, 2) for name, value in steps.items()},
            "outcomes": self.outcomes,
            "said": self.said,
        }


def model(loop: Loop, names: VectorNames, digest: str) -> ModelTrained:
    """A trained model with the reference of two weeks."""
    generator = np.random.default_rng(0)
    looks = 14
    kinds = {
        **dict.fromkeys(["score", "estimate", "loss"], None),
        **{f"feature:{name}": "feature" for name in names.numbers},
        **{f"missing:{name}": "missing" for name in (*names.numbers, *names.categories)},
        **{f"unseen:{name}": "unseen" for name in names.categories},
    }
    signals = {
        name: ReferenceSignal(
            kind=kind or name,
            means=generator.normal(0.4, 0.1, looks).tolist(),
            counts=[900] * looks,
            low=-1e9,
            high=1e9,
        )
        for name, kind in kinds.items()
    }
    for name in names.categories:
        signals[f"feature:{name}"] = ReferenceSignal(kind="feature", means=[], counts=[], categories=CARRIERS)
    reference = Reference(look_ms=DAY, season_ms=7 * DAY, from_ms=START - 14 * DAY, signals=signals)
    return trained("r", loop=loop.name, digest=digest).model_copy(update={"reference": reference})


def predictions(loop: Loop, names: VectorNames, rows: int, per_hour: int) -> tuple[AvroCodec, list[Record]]:
    """Encoded predictions in event-time order, all in one partition."""
    schema = prediction_schema(loop.name, loop.features.names, categorical=names.categories, aged=names.aged)
    codec, generator = AvroCodec(schema), np.random.default_rng(1)
    numbers = generator.normal(20, 5, (rows, len(names.numbers)))
    numbers[generator.random(numbers.shape) < 0.02] = np.nan
    scores = generator.beta(2, 5, (rows, 2))
    fields = [field_name(name) for name in names.numbers]
    records = []
    for i, vector in enumerate(numbers.tolist()):
        at_ms, key = START + i * HOUR // per_hour, f"2013-01-01.UA.{i}.EWR"
        value = {
            "key": key,
            "at_ms": at_ms,
            "features": dict(zip(fields, [None if x != x else x for x in vector], strict=True))
            | {field_name(name): CARRIERS[i % 6] for name in names.categories},
            "ages_ms": dict.fromkeys([field_name(name) for name in names.aged], 3_600_000),
            "features_as_of_ms": at_ms,
            "features_digest": loop.features.digest,
            "score": scores[i, 0],
            "class": None,
            "probabilities": [],
            "arm": "champion",
            "version": 2,
            "model_digest": CHAMPION,
            "deployment": 2,
            "shadows": [
                {"version": 1, "model_digest": SHADOW, "score": scores[i, 1], "class": None, "probabilities": []}
            ],
            "origin": "stream",
            "declaration_version": 1,
            "by": [key],
        }
        headers = envelope.headers(key, "prediction", "bench", at_ms)
        records.append(Record(topics.predictions(loop.name), 0, i, key.encode(), codec.encode(value), headers))
    return codec, records


def arrivals(loop: Loop, asked: Sequence[Record]) -> list[Record]:
    """An arrival for each prediction, one to seven hours later."""
    schema = loop.events[loop.label.of].schema
    codec, generator = AvroCodec(schema), np.random.default_rng(2)
    found = []
    for i, ask in enumerate(asked):
        at_ms = envelope.event_time_ms(ask.headers) + int(generator.integers(HOUR, 7 * HOUR))
        value = {field["name"]: _filled(field["type"]) for field in schema["fields"]}
        value |= {
            "flight_id": (ask.key or b"").decode(),
            "arrived_at": at_ms,
            "arr_delay_min": float(generator.normal(7, 40)),
        }
        headers = envelope.headers(value["flight_id"], loop.label.of, "bench", at_ms)
        found.append(
            (at_ms, Record(topics.events(loop.name, loop.label.of), 0, i, ask.key, codec.encode(value), headers))
        )
    return [record for _, record in sorted(found, key=lambda pair: pair[0])]


def _filled(kind: Any) -> Any:
    """Some value of an Avro type."""
    one = kind if isinstance(kind, str) else kind["type"] if isinstance(kind, Mapping) else kind[-1]
    return {"string": "UA", "boolean": True, "null": None}.get(one, 1) if isinstance(one, str) else _filled(one)


class Step:
    """One stage's step with its tables, and the CPU it has taken."""

    def __init__(self, stage: Stage) -> None:
        self.stage, self.tables, self.seconds = stage, tables_of(stage), 0.0

    def __call__(self, records: Mapping[str, Sequence[Record]], progress_ms: int) -> Sequence[Out]:
        """Run a batch as the runtime would."""
        started = time.process_time()
        out = self.stage.step(0, self.tables, Batch(records, progress_ms, 0)).out
        for table in self.tables.values():
            for _ in table.flush():
                pass
        self.seconds += time.process_time() - started
        return out


def measure(rows: int, batch: int, per_hour: int) -> Figures:
    """Run the three steps over so many predictions."""
    loop = declaration.load(FLIGHTS)
    names, plan = names_of(loop), plan_of(loop)
    codec, asked = predictions(loop, names, rows, per_hour)
    watch = Watch(plan)
    models = ModelsView(plan, watch)
    known = {digest: reference_of(plan, model(loop, names, digest)) for digest in (CHAMPION, SHADOW)}
    for digest, reference in known.items():
        models.learn(digest, reference)
    route, join, detect = (
        Step(stage)
        for stage in (
            route_stage(loop, models, SchemasView(), ()),
            join_stage(loop, HeldStretches(), ()),
            detect_stage(loop, watch, ()),
        )
    )
    outcomes = said = 0
    for records, progress_ms in batches(asked, arrivals(loop, asked), batch):
        routed = route(records, progress_ms)
        joinable, shown = topics.joinable(loop.name), topics.signals(loop.name)
        joined = join({joinable: [r for r in as_read(routed, topic=joinable) if r.partition == 0]}, progress_ms)
        outcomes += sum(out.topic == topics.outcomes(loop.name) for out in joined)
        said += len(detect({shown: as_read([*routed, *joined], topic=shown)}, progress_ms))
    started = time.process_time()
    for record in asked:
        codec.decode(record.value or b"")
    each = 1e6 / rows
    decode = (time.process_time() - started) * each
    return Figures(decode, route.seconds * each, join.seconds * each, detect.seconds * each, outcomes, said)


def batches(
    asked: Sequence[Record], arrived: Sequence[Record], size: int
) -> Iterator[tuple[Mapping[str, Sequence[Record]], int]]:
    """Predictions `size` at a time with the arrivals of the same stretch, and the time they reach."""
    times = np.array([envelope.event_time_ms(record.headers) for record in arrived])
    done = 0
    for first in range(0, len(asked), size):
        some = asked[first : first + size]
        progress_ms = envelope.event_time_ms(some[-1].headers)
        until = int(np.searchsorted(times, progress_ms, "right"))
        yield {some[0].topic: some, arrived[0].topic: arrived[done:until]}, progress_ms
        done = until


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", type=int, default=20_000)
    parser.add_argument("--batch", type=int, default=1_000)
    parser.add_argument("--per-hour", type=int, default=38, help="predictions an event-hour; the real flights have 38")
    chosen = parser.parse_args()
    print(json.dumps(measure(chosen.rows, chosen.batch, chosen.per_hour).told(), indent=2))


if __name__ == "__main__":
    main()
