"""The one stage that decides: trained models, measurements and commands in, versions and deployments out."""

import json
from collections.abc import Iterator

import msgspec

from trimtab.contracts import control, telemetry, topics
from trimtab.contracts.control import CommandSettled, DeploymentChanged, ModelRegistered
from trimtab.loops.errors import DeclaredError
from trimtab.registry.core import Event, Said, State, ended, fold
from trimtab.runtime.control import Heard, Refused, heard, written
from trimtab.runtime.records import Out
from trimtab.runtime.stage import Batch, Input, Measure, Output, Result, Stage, Tables
from trimtab.runtime.table import TableSpec
from trimtab.store.errors import BadSignatureError
from trimtab.store.signing import Signer, Verifier

NAME = "registry.fold"
GROUP = topics.group("registry", "fold")
PARTITIONS = topics.CONTROL_PARTITIONS
INPUTS = (
    topics.LOOP_DECLARED,
    topics.MODEL_TRAINED,
    topics.PERFORMANCE_MEASURED,
    topics.TIME_ADVANCED,
    topics.REGISTRY_COMMANDS,
)
OUTPUTS = (topics.MODEL_REGISTERED, topics.DEPLOYMENT_CHANGED, topics.COMMAND_SETTLED)
COMMIT_INTERVAL_MS = 50

LOOPS: TableSpec[str, State] = TableSpec(
    name="loops",
    encode_key=str.encode,
    decode_key=bytes.decode,
    encode=msgspec.json.Encoder().encode,
    decode=msgspec.json.Decoder(State).decode,
)
"""What is remembered of each loop."""


class Folding:
    """The step. Trusts models that the trainer signed, signs what it deploys."""

    def __init__(self, signer: Signer, trainers: Verifier) -> None:
        self._signer = signer
        self._trainers = trainers

    def __call__(self, partition: int, tables: Tables, batch: Batch) -> Result:  # noqa: ARG002  # all loops fold alike
        """Fold the batch into each loop's state. One effect for each cause, however often a batch is run."""
        events, refused = heard(batch.records)
        said = [pair for one in events for pair in self._fold(tables, one, refused)]
        return Result(
            out=[out for _, out in said],
            measures=[*map(_count_refused, refused), *(_count(event) for event, _ in said)],
        )

    def _fold(self, tables: Tables, one: Heard, refused: list[Refused]) -> Iterator[tuple[Said, Out]]:
        if one.topic == topics.MODEL_TRAINED and (why := self._distrust(one)) is not None:
            refused.append(Refused(one.topic, why))
            return
        loops = tables[LOOPS.name]
        before = loops.get(one.loop) or State(one.loop)
        said: tuple[Said, ...]
        if one.event is None:
            state, said = ended(before)
        elif isinstance(one.event, Event):
            try:
                state, said = fold(before, one.event)
            except DeclaredError as error:  # written by hand, or by a newer version: other loops must not wait for it
                refused.append(Refused(one.topic, str(error)))
                return
        else:
            return
        if state != before:
            loops.put(one.loop, state)
        for event in said:
            yield event, written(self._signed(event), id=_id(event), source=NAME, trace=one.trace)

    def _distrust(self, one: Heard) -> str | None:
        try:
            self._trainers.check(json.loads(one.value))
        except BadSignatureError as error:
            return error.reason
        return None

    def _signed(self, event: Said) -> Said:
        if not isinstance(event, DeploymentChanged):
            return event
        signature = self._signer.sign(json.loads(control.encode(event)))
        return event.model_copy(update={"signature": signature})


def fold_stage(signer: Signer, trainers: Verifier) -> Stage:
    """Numbers versions and decides deployments, for all loops. `trainers` verifies `model.trained`."""
    return Stage(
        group=GROUP,
        changelog=topics.changelog("registry", "fold"),
        partitions=PARTITIONS,
        inputs=tuple(Input(topic, clock="none") for topic in INPUTS),
        outputs=tuple(Output(topic, PARTITIONS, marks=False) for topic in OUTPUTS),
        tables=(LOOPS,),
        step=Folding(signer, trainers),
        commit_interval_ms=COMMIT_INTERVAL_MS,
    )


def _id(event: Said) -> str:
    """Follows from what is written: the same decision has the same id."""
    match event:
        case ModelRegistered():
            return f"{event.loop}-version-{event.version}"
        case DeploymentChanged():
            return f"{event.loop}-deployment-{event.sequence}"
        case CommandSettled():
            return f"{event.loop}-command-{event.command_id}"


def _count(event: Said) -> Measure:
    match event:
        case ModelRegistered():
            return Measure(telemetry.REGISTRY_VERSIONS, 1, {"loop": event.loop, "verdict": event.verdict})
        case DeploymentChanged():
            return Measure(telemetry.REGISTRY_DEPLOYMENTS, 1, {"loop": event.loop, "kind": event.cause})
        case CommandSettled():
            return Measure(telemetry.REGISTRY_COMMANDS, 1, {"loop": event.loop, "outcome": event.outcome})


def _count_refused(refused: Refused) -> Measure:
    return Measure(telemetry.RUNTIME_RECORDS_REFUSED, 1, {"stage": NAME, "topic": refused.topic})
