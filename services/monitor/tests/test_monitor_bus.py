"""The three stages on a bus, with marks, views and restarts: what an undisturbed run says, a disturbed one says."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from trimtab.contracts import control, envelope, topics
from trimtab.contracts import data as records
from trimtab.contracts.codec import AvroCodec
from trimtab.contracts.control import DriftDetected, Reference, ReferenceSignal, TimeAdvanced
from trimtab.contracts.prediction import prediction_schema
from trimtab.monitor.adapters import ModelsView, QualityView, SchemasView
from trimtab.monitor.core.drifting import Watch
from trimtab.monitor.core.plan import plan_of
from trimtab.monitor.core.stretches import HeldStretches
from trimtab.monitor.stages import detect_stage, join_stage, route_stage
from trimtab.monitor.stages.route import counted_events
from trimtab.runtime import marks
from trimtab.runtime.memory import MemoryBus
from trimtab.runtime.records import Out
from trimtab.runtime.stage import Stage
from trimtab.testing.declarations import offers
from trimtab.testing.models import trained
from trimtab.testing.stages import Running, data, topics_of

HOUR, DAY = 3_600_000, 86_400_000
HOURS, EACH = 48, 20
DIGEST = "a" * 64
LOOP = offers(
    loop={"lateness": "10m"},
    label={"within": "2h", "settle": "first"},
    gate={"block": "6h", "holdout": "2d", "watch": "1d", "baselines": ["constant"]},
    drift={"false_alarms": "1 per 60d", "season": "1d"},
)
PREDICTION = AvroCodec(prediction_schema("offers", LOOP.features.names, categorical=["place"]))
CLICK = AvroCodec(LOOP.events["click"].schema)
SCHEMAS = SchemasView()


def stages() -> list[Stage]:
    """The service's stages as its wiring makes them."""
    plan, stretches = plan_of(LOOP), HeldStretches()
    watch = Watch(plan)
    models = ModelsView(plan, watch)
    quality = [QualityView(t, "offers", stretches) for t in (topics.QUALITY_VIOLATED, topics.QUALITY_RESTORED)]
    return [
        route_stage(LOOP, models, SCHEMAS, [models, SCHEMAS]),
        join_stage(LOOP, stretches, quality),
        detect_stage(LOOP, watch, [models]),
    ]


def model() -> Out:
    """A model whose loss is .66 on average while it is right about clicks."""
    rng = np.random.default_rng(0)
    kinds = {"score": ("score", 0.4), "loss": ("loss", 0.66), "feature:price": ("feature", 10.0)}
    signals = {
        name: ReferenceSignal(kind=kind, means=rng.normal(mean, 0.035, 336).tolist(), counts=[EACH] * 336)
        for name, (kind, mean) in kinds.items()
    }
    reference = Reference(look_ms=HOUR, season_ms=0, from_ms=-14 * DAY, signals=signals)
    event = trained("r", digest=DIGEST).model_copy(update={"reference": reference})
    return Out(topics.MODEL_TRAINED, b"offers", control.encode(event), ())


def happened(hour: int) -> list[Out]:
    """An hour of predictions and the clicks on them; after 30 hours nearly everything is clicked."""
    rng = np.random.default_rng(hour)
    found = list[Out]()
    for i in range(EACH):
        key, at_ms = f"o{hour}-{i}", hour * HOUR + i * 60_000
        score = float(np.clip(0.4 + 0.16 * rng.standard_normal(), 0.02, 0.98))
        value: dict[str, Any] = {
            **{"key": key, "by": [key], "at_ms": at_ms, "features_as_of_ms": at_ms, "features_digest": DIGEST},
            **{"features": {"place": "top", "price": float(10 + 0.15 * rng.standard_normal())}, "ages_ms": {}},
            **{"score": score, "class": None, "probabilities": [], "arm": "champion", "version": 1},
            **{"model_digest": DIGEST, "deployment": 1, "shadows": [], "origin": "stream", "declaration_version": 1},
        }
        headers = envelope.headers(key, "prediction", "t", at_ms)
        found.append(Out(topics.predictions("offers"), key.encode(), PREDICTION.encode(value), headers))
        if rng.random() < (0.95 if hour >= 30 else score):
            clicked = {"click_id": f"c{key}", "offer_id": key, "clicked_at": at_ms + 90_000}
            headers = envelope.headers(f"c{key}", "click", "t", at_ms + 90_000)
            found.append(Out(topics.events("offers", "click"), f"c{key}".encode(), CLICK.encode(clicked), headers))
    return found


def passed(until_ms: int) -> list[Out]:
    """What the tasks before the monitor say of how far they came."""
    inputs = {
        topics.predictions("offers"): [("predictor", "score")],
        topics.rejected("offers"): [("ingest", "accept"), ("ingest", "dedupe")],
        **{topics.events("offers", event): [("ingest", "dedupe")] for event in counted_events(LOOP)},
    }
    return [
        Out(topic, marks.key_of(name), None, marks.headers_of(marks.Mark(name, until_ms)), partition)
        for topic, writers in inputs.items()
        for service, verb in writers
        for task in range(LOOP.partitions)
        for name in [marks.task_name(topics.group(service, verb, "offers"), task)]
        for partition in range(LOOP.partitions)
    ]


def told(bus: MemoryBus, topic: str) -> list[Any]:
    return [control.decode(topic, record.value or b"") for record in data(bus, topic)]


async def play(runs: Sequence[range]) -> MemoryBus:
    """Feed hours, with new stages for each run."""
    bus = MemoryBus(topics_of(stages()))
    bus.append([model()])
    for run in runs:
        async with Running(stages(), bus) as running:
            for hour in run:
                bus.append([*happened(hour), *passed((hour + 1) * HOUR)])
            last = run[-1] * HOUR

            def reached(at_ms: int = last) -> bool:
                return any(event.at_ms >= at_ms for event in told(bus, topics.TIME_ADVANCED))

            await running.until(reached)
    return bus


async def test_restarts_change_nothing_of_what_is_said() -> None:
    plain = await play([range(HOURS)])
    broken = await play([range(13), range(13, 14), range(14, HOURS)])
    for topic in (topics.DRIFT_DETECTED, topics.PERFORMANCE_MEASURED, topics.TIME_ADVANCED):
        once, again = ([e for e in told(bus, topic) if e.at_ms <= (HOURS - 1) * HOUR] for bus in (plain, broken))
        assert once == again
        assert once
    drift = told(plain, topics.DRIFT_DETECTED)[0]
    assert isinstance(drift, DriftDetected)
    assert drift.signals[0].name == "loss"
    assert abs(drift.since_ms - 30 * HOUR) <= 2 * HOUR
    hours = [event.at_ms for event in told(broken, topics.TIME_ADVANCED) if isinstance(event, TimeAdvanced)]
    assert hours == sorted(set(hours))
    for bus in (plain, broken):
        found = [records.decode(records.Outcome, one.value or b"") for one in data(bus, topics.outcomes("offers"))]
        keys = [(one.key, one.revision) for one in found]
        assert len(keys) == len(set(keys))
        assert len(keys) >= (HOURS - 4) * EACH
