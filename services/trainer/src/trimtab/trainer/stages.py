"""The stage that answers requests to retrain: exactly one verdict for each."""

import json
from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from typing import Any

import msgspec

from trimtab.contracts import control, telemetry, topics
from trimtab.contracts.control import DeploymentChanged, LoopDeclared, ModelTrained, RetrainRequested, TrainingFailed
from trimtab.runtime.control import Heard, Refused, heard, written
from trimtab.runtime.records import Out
from trimtab.runtime.stage import Batch, Effect, EffectDone, Input, Measure, Milestone, Output, Result, Stage, Tables
from trimtab.runtime.table import Table, TableSpec
from trimtab.trainer.errors import NotDeclaredError

NAME = "trainer.fit"
PARTITIONS = topics.CONTROL_PARTITIONS
INPUTS = (topics.LOOP_DECLARED, topics.DEPLOYMENT_CHANGED, topics.RETRAIN_REQUESTED)
OUTPUTS = (topics.MODEL_TRAINED, topics.TRAINING_FAILED)
REMEMBERED = 200
"""How many answered requests of a loop are remembered, so that none is answered twice."""

Ref = dict[str, Any]


class Wanted(msgspec.Struct, frozen=True):
    """A request that is open."""

    request_id: str
    cause_kind: str
    at_ms: int
    trace: str | None


class Made(msgspec.Struct, frozen=True):
    """How a model was made: the event time of its newest row, and the digest of what was declared."""

    until_ms: int
    recipe: str


class Desk(msgspec.Struct, frozen=True):
    """What is remembered of a loop. `declared`: the JSON of its loop.declared. `made`: how models were made, by digest.
    `champion`, `first`: {version, format, digest, features_digest}.
    """

    declared: str | None = None
    champion: Ref | None = None
    first: Ref | None = None
    made: dict[str, Made] = {}
    open: tuple[Wanted, ...] = ()
    answered: tuple[str, ...] = ()


DESKS: TableSpec[str, Desk] = TableSpec(
    name="desks",
    encode_key=str.encode,
    decode_key=bytes.decode,
    encode=msgspec.json.Encoder().encode,
    decode=msgspec.json.Decoder(Desk).decode,
)
Sign = Callable[[Mapping[str, Any]], str]
Perform = Callable[[Effect], Awaitable[Any]]


class Answering:
    """The step. `sign` gives the trainer's signature over the fields of an event."""

    def __init__(self, sign: Sign) -> None:
        self._sign = sign

    def __call__(self, partition: int, tables: Tables, batch: Batch) -> Result:  # noqa: ARG002 all loops alike
        """Note requests, answer those whose fit has ended, start the next of each loop."""
        desks = tables[DESKS.name]
        events, refused = heard(batch.records)
        milestones = [one for done in batch.done for one in worked(desks, done)]
        said = [answer for done in batch.done for answer in self._answered(desks, done)]
        for one in events:
            said += self._noted(desks, one)
        return Result(
            out=[out for out, _ in said],
            effects=orders(desks),
            measures=[*map(count_refused, refused), *(measure for _, measure in said)],
            milestones=milestones,
        )

    def _noted(self, desks: Table[str, Desk], one: Heard) -> Iterator[tuple[Out, Measure]]:
        desk = desks.get(one.loop) or Desk()
        changed = noted(desk, one)
        if changed is not desk:
            desks.put(one.loop, changed)
        if changed.declared is None:
            for wanted in changed.open:
                error = NotDeclaredError(one.loop)
                yield self._failed(desks, one.loop, wanted, error.reason, str(error))

    def _answered(self, desks: Table[str, Desk], done: EffectDone) -> Iterator[tuple[Out, Measure]]:
        loop, wanted = answering(desks, done)
        if wanted is None:
            return
        if done.error is not None:
            yield self._failed(desks, loop, wanted, "trainer", f"{type(done.error).__name__}: {done.error}")
        elif "failed" in done.value:
            yield self._failed(desks, loop, wanted, done.value["failed"], done.value["error"])
        else:
            yield self._trained(desks, loop, wanted, done.value)

    def _trained(
        self, desks: Table[str, Desk], loop: str, wanted: Wanted, value: Mapping[str, Any]
    ) -> tuple[Out, Measure]:
        fields = {**value["trained"], "wall_s": value["wall_s"], "signature": ""}
        event = ModelTrained.model_validate(fields)
        event = event.model_copy(update={"signature": self._sign(json.loads(control.encode(event)))})
        desk = closed(desks.get(loop) or Desk(), wanted)
        made = {**desk.made, event.model.digest: Made(event.dataset.last_at_ms, value["recipe"])}
        desks.put(loop, msgspec.structs.replace(desk, made=made))
        measure = Measure(telemetry.TRAINER_MODELS, 1, {"loop": loop, "verdict": event.gate.verdict})
        return written(event, id=f"trained-{wanted.request_id}", source=NAME, trace=wanted.trace), measure

    def _failed(
        self, desks: Table[str, Desk], loop: str, wanted: Wanted, reason: str, error: str
    ) -> tuple[Out, Measure]:
        desks.put(loop, closed(desks.get(loop) or Desk(), wanted))
        event = TrainingFailed(loop=loop, at_ms=wanted.at_ms, request_id=wanted.request_id, reason=reason, error=error)
        measure = Measure(telemetry.TRAINER_FAILURES, 1, {"loop": loop, "reason": reason})
        return written(event, id=f"failed-{wanted.request_id}", source=NAME, trace=wanted.trace), measure


def answering(desks: Table[str, Desk], done: EffectDone) -> tuple[str, Wanted | None]:
    """The loop and the open request that an effect answers; None: it is answered already."""
    loop, request_id = done.id.split("/", 1)
    desk = desks.get(loop) or Desk()
    return loop, next((one for one in desk.open if one.request_id == request_id), None)


def worked(desks: Table[str, Desk], done: EffectDone) -> Iterator[Milestone]:
    """The steps of a fit that has ended, on the way from its request to its verdict."""
    loop, wanted = answering(desks, done)
    if wanted is None or wanted.trace is None or done.error is not None:
        return
    trained = done.value.get("trained")
    for step, began_ns, ended_ns in done.value["laps"]:
        attributes = {"trimtab.loop": loop, "trimtab.request_id": wanted.request_id}
        if step == "gate" and trained is not None:
            attributes["trimtab.verdict"] = trained["gate"]["verdict"]
        yield Milestone(wanted.trace, step, attributes, (began_ns, ended_ns))


def noted(desk: Desk, one: Heard) -> Desk:
    """The desk after one more event; the same object where nothing changed."""
    match one.event:
        case None:
            return msgspec.structs.replace(desk, declared=None)
        case LoopDeclared():
            return msgspec.structs.replace(desk, declared=one.value.decode())
        case DeploymentChanged() as event:
            champion = None if event.champion is None else event.champion.model_dump()
            first = champion if event.cause == "first" else desk.first
            return msgspec.structs.replace(desk, champion=champion, first=first)
        case RetrainRequested() as event:
            return requested(desk, event, one.trace)
        case _:
            return desk


def requested(desk: Desk, event: RetrainRequested, trace: str | None) -> Desk:
    """With one more open request; one that is open or answered already changes nothing."""
    if event.request_id in desk.answered or any(one.request_id == event.request_id for one in desk.open):
        return desk
    wanted = Wanted(event.request_id, event.cause.kind, event.at_ms, trace)
    return msgspec.structs.replace(desk, open=(*desk.open, wanted))


def closed(desk: Desk, wanted: Wanted) -> Desk:
    """Without the request, which is answered from now on."""
    answered = (*desk.answered, wanted.request_id)[-REMEMBERED:]
    left = tuple(one for one in desk.open if one.request_id != wanted.request_id)
    return msgspec.structs.replace(desk, open=left, answered=answered)


def orders(desks: Table[str, Desk]) -> list[Effect]:
    """The first open request of each loop: one fit a loop at a time."""
    return [
        Effect(f"{loop}/{desk.open[0].request_id}", (desk, desk.open[0]))
        for loop, desk in desks.items()
        if desk.open and desk.declared is not None
    ]


def compared_with(desk: Desk, ref: Ref | None) -> Ref | None:
    """A deployed model and how it was made."""
    if ref is None:
        return None
    made = desk.made.get(ref["digest"])
    return {**ref, "until_ms": 0 if made is None else made.until_ms, "recipe": None if made is None else made.recipe}


def count_refused(refused: Refused) -> Measure:
    """A record that keeps no schema, as a metric."""
    return Measure(telemetry.RUNTIME_RECORDS_REFUSED, 1, {"stage": NAME, "topic": refused.topic})


def stage(sign: Sign, perform: Perform) -> Stage:
    """`trainer.fit`, for all loops. `perform` fits (see `adapters.fitting`)."""

    def resume(_partition: int, tables: Tables) -> Sequence[Effect]:
        return orders(tables[DESKS.name])

    return Stage(
        group=topics.group("trainer", "fit"),
        changelog=topics.changelog("trainer", "fit"),
        partitions=PARTITIONS,
        inputs=tuple(Input(topic, clock="none") for topic in INPUTS),
        outputs=tuple(Output(topic, PARTITIONS, marks=False) for topic in OUTPUTS),
        tables=(DESKS,),
        step=Answering(sign),
        perform=perform,
        resume=resume,
    )
