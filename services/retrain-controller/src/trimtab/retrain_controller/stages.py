"""The one stage: control events in, decisions out."""

import hashlib
from collections.abc import Mapping

import msgspec

from trimtab.contracts import telemetry, topics
from trimtab.contracts.control import RetrainRequested
from trimtab.loops.errors import DeclaredError
from trimtab.retrain_controller.core import Decision, Event, State, decided
from trimtab.runtime.control import Heard, Refused, heard, written
from trimtab.runtime.records import Out
from trimtab.runtime.stage import Batch, Input, Measure, Output, Result, Stage, Tables
from trimtab.runtime.table import TableSpec

NAME = "retrain-controller.decide"
GROUP = topics.group("retrain-controller", "decide")
PARTITIONS = topics.CONTROL_PARTITIONS
INPUTS = (
    topics.LOOP_DECLARED,
    topics.MODEL_TRAINED,
    topics.MODEL_REGISTERED,
    topics.DEPLOYMENT_CHANGED,
    topics.TRAINING_FAILED,
    topics.QUALITY_VIOLATED,
    topics.QUALITY_RESTORED,
    topics.PERFORMANCE_MEASURED,
    topics.DRIFT_DETECTED,
    topics.RETRAIN_ASKED,
    topics.TIME_ADVANCED,
)
OUTPUTS = (topics.RETRAIN_REQUESTED, topics.RETRAIN_DECLINED)
COMMIT_INTERVAL_MS = 50

LOOPS: TableSpec[str, State] = TableSpec(
    name="loops",
    encode_key=str.encode,
    decode_key=bytes.decode,
    encode=msgspec.json.Encoder().encode,
    decode=msgspec.json.Decoder(State).decode,
)
"""What is remembered of each loop."""


def decide_stage() -> Stage:
    """Follows or declines causes, for all loops. One effect for each cause, however often a batch is run."""
    return Stage(
        group=GROUP,
        changelog=topics.changelog("retrain-controller", "decide"),
        partitions=PARTITIONS,
        inputs=tuple(Input(topic, clock="none") for topic in INPUTS),
        outputs=tuple(Output(topic, PARTITIONS, marks=False) for topic in OUTPUTS),
        tables=(LOOPS,),
        step=step,
        commit_interval_ms=COMMIT_INTERVAL_MS,
    )


def step(partition: int, tables: Tables, batch: Batch) -> Result:  # noqa: ARG001  # all loops are decided alike
    """Fold the batch into each loop's state; the decisions are what it leads to."""
    events, refused = heard(batch.records)
    decisions = [decision for event in events for decision in _fold(tables, event, refused)]
    return Result(
        out=[_out(decision) for decision in decisions],
        measures=[*map(_refused, refused), *map(_measure, decisions)],
    )


def _fold(tables: Tables, one: Heard, refused: list[Refused]) -> tuple[Decision, ...]:
    loops = tables[LOOPS.name]
    if one.event is None:
        loops.remove(one.loop)
        return ()
    if not isinstance(one.event, Event):
        return ()
    before = loops.get(one.loop) or State(one.loop)
    try:
        state, decisions = decided(before, one.event, one.trace)
    except DeclaredError as error:  # written by hand, or by a newer version: other loops must not wait for it
        refused.append(Refused(one.topic, str(error)))
        return ()
    if state != before:
        loops.put(one.loop, state)
    return decisions


def _out(decision: Decision) -> Out:
    return written(decision.event, id=_id(decision), source=NAME, trace=decision.trace)


def _id(decision: Decision) -> str:
    """Follows from what is written: the same decision has the same id."""
    event = decision.event
    if isinstance(event, RetrainRequested):
        return event.request_id
    cause = event.cause
    what = f"{cause.kind}|{cause.drift_id}|{cause.ask_id}|{event.reason}|{event.at_ms}"
    return f"{event.loop}-{hashlib.sha256(f'{event.loop}|{what}'.encode()).hexdigest()[:12]}"


def _measure(decision: Decision) -> Measure:
    event = decision.event
    attributes: Mapping[str, str]
    if isinstance(event, RetrainRequested):
        attributes = {"loop": event.loop, "kind": event.cause.kind}
        return Measure(telemetry.RETRAIN_CONTROLLER_REQUESTS, 1, attributes)
    attributes = {"loop": event.loop, "reason": event.reason}
    return Measure(telemetry.RETRAIN_CONTROLLER_DECLINES, 1, attributes)


def _refused(refused: Refused) -> Measure:
    return Measure(telemetry.RUNTIME_RECORDS_REFUSED, 1, {"stage": NAME, "topic": refused.topic})
