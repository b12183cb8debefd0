"""`monitor.detect`: one task a loop that sees all its signals and says what they mean."""

import hashlib
from collections.abc import Callable, Mapping, Sequence

from trimtab.contracts import telemetry, topics
from trimtab.contracts.control import DriftDetected, PerformanceMeasured
from trimtab.contracts.data import SCHEMAS
from trimtab.loops.model import Loop
from trimtab.monitor.core import detection
from trimtab.monitor.core.detection import Event, Said
from trimtab.monitor.core.drifting import Watch
from trimtab.monitor.core.ledger import SPECS, Clock, Ledger
from trimtab.monitor.core.plan import plan_of
from trimtab.monitor.stages import encoding
from trimtab.monitor.stages.rhythm import COMMIT_INTERVAL_MS, LIVE_INTERVAL_MS
from trimtab.runtime.control import written
from trimtab.runtime.records import Out
from trimtab.runtime.stage import Batch, Input, Measure, Output, Result, Stage, Tables, View

SERVICE, VERB = "monitor", "detect"
MOST_RECORDS = 16
"""In a batch: each may reach over days of event time, hour by hour of which is judged in one step."""
OUTPUTS = (
    topics.DRIFT_DETECTED,
    topics.PERFORMANCE_MEASURED,
    topics.QUALITY_VIOLATED,
    topics.QUALITY_RESTORED,
    topics.TIME_ADVANCED,
)


def detect_stage(loop: Loop, watch: Watch, views: Sequence[View]) -> Stage:
    """The stage of one loop. `views` tell `watch` of models."""
    writers = {
        topics.group(SERVICE, "route", loop.name): loop.partitions,
        topics.group(SERVICE, "join", loop.name): loop.partitions,
    }
    return Stage(
        group=topics.group(SERVICE, VERB, loop.name),
        changelog=topics.changelog(SERVICE, VERB, loop.name),
        partitions=topics.stage_partitions(SERVICE, VERB, loop.partitions),
        inputs=[Input(topics.signals(loop.name), "marks", writers, SCHEMAS["signals"])],
        outputs=[Output(topic, topics.CONTROL_PARTITIONS, marks=False) for topic in OUTPUTS],
        tables=SPECS,
        views=views,
        step=detect_step(loop, watch),
        max_batch=MOST_RECORDS,
        commit_interval_ms=COMMIT_INTERVAL_MS,
        live_interval_ms=LIVE_INTERVAL_MS,
    )


def detect_step(loop: Loop, watch: Watch) -> Callable[[int, Tables, Batch], Result]:
    """The step: absorb what came, say what the watermark allows."""
    plan, source = plan_of(loop), topics.group(SERVICE, VERB, loop.name)

    def step(_partition: int, tables: Tables, batch: Batch) -> Result:
        ledger = Ledger(tables)
        before = ledger.clock
        late = 0
        for record in batch.records.get(topics.signals(loop.name), ()):
            seen = encoding.seen(record)
            late += detection.absorb(ledger, seen.named, seen.deployments, seen.tip)
        said = detection.advance(plan, ledger, watch, batch.progress_ms)
        return Result(
            out=[_out(one, source) for one in said],
            measures=[
                *_measures(plan.loop, said, late, _looks(before, ledger.clock), ledger.clock),
                *_evidence(plan.loop, watch.evidence(ledger) if _looks(before, ledger.clock) else {}),
            ],
        )

    return step


def _out(said: Said, source: str) -> Out:
    return written(said.event, id=_id(said.event), source=source, trace=said.tip.traceparent if said.tip else None)


def _id(event: Event) -> str:
    """Follows from what is said: saying it again gives the same record."""
    if isinstance(event, DriftDetected):
        return event.drift_id
    what = hashlib.sha256(event.model_dump_json().encode()).hexdigest()
    return f"{event.loop}-{what[:12]}"


def _looks(before: Clock | None, after: Clock | None) -> int:
    """How many looks were judged: those of a new reign, or the more of the same."""
    if after is None:
        return 0
    same = before is not None and before.reign == after.reign
    return after.looks - (before.looks if before is not None and same else 0)


def _measures(loop: str, said: Sequence[Said], late: int, looks: int, clock: Clock | None) -> Sequence[Measure]:
    of_loop = {"loop": loop}
    drifts = sum(isinstance(one.event, DriftDetected) for one in said)
    counted = (
        (telemetry.MONITOR_LATE, late),
        (telemetry.MONITOR_LOOKS, looks),
        (telemetry.MONITOR_DRIFTS, drifts),
    )
    return [
        *(Measure(metric, count, of_loop) for metric, count in counted if count),
        Measure(telemetry.MONITOR_HELD, len(clock.holds) if clock else 0, of_loop),
        *(measure for one in said if isinstance(one.event, PerformanceMeasured) for measure in _metrics(one.event)),
    ]


def _evidence(loop: str, strength: Mapping[str, float]) -> Sequence[Measure]:
    return [Measure(telemetry.MONITOR_EVIDENCE, m, {"loop": loop, "signal": name}) for name, m in strength.items()]


def _metrics(event: PerformanceMeasured) -> Sequence[Measure]:
    return [
        Measure(telemetry.MONITOR_METRIC, value, {"loop": event.loop, "version": str(model.version), "kind": name})
        for model in event.models
        for name, value in model.metrics.items()
    ]
