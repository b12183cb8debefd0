"""The three stages that read control topics: a bad record ends no step, and another loop does not notice it."""

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

from trimtab.contracts import control, topics
from trimtab.contracts.control import RetrainCause, RetrainRequested
from trimtab.registry import stages as registry
from trimtab.retrain_controller import stages as retrain_controller
from trimtab.runtime.control import LoopEvent, heard, written
from trimtab.runtime.records import Out, Read
from trimtab.runtime.stage import Result, Stage, no_effects
from trimtab.testing import as_read, run_step, tables_of
from trimtab.testing.declarations import declared
from trimtab.testing.models import measured, trained
from trimtab.trainer import stages as trainer

from tests.fuzz.entry import Check, Counted, Entry, LostError
from tests.fuzz.written import LOOP, QUIET, REGISTRY, TRAINER, Hand, records

NOW_MS = 1_800_000_000_000
AT_MS = NOW_MS - 86_400_000


def _out(event: LoopEvent) -> Out:
    return written(event, id="fuzz", source="fuzz", trace=None)


def _model() -> Out:
    made = trained("quiet-1", at_ms=AT_MS, loop="quiet", verdict="first")
    return _out(made.model_copy(update={"signature": TRAINER.sign(json.loads(control.encode(made)))}))


def _request() -> Out:
    cause = RetrainCause(kind="first", drift_id=None, ask_id=None, signals=[], note=None, by=None)
    return _out(
        RetrainRequested(
            loop="quiet", at_ms=AT_MS, request_id="quiet-1", cause=cause, champion_version=None, loop_version=1
        )
    )


def _by_topic(outs: Sequence[Out], partition: int = 0) -> Mapping[str, Sequence[Read]]:
    found: dict[str, list[Read]] = {}
    for record in as_read([Out(out.topic, out.key, out.value, out.headers, partition) for out in outs]):
        found.setdefault(record.topic, []).append(record)
    return found


def _checked(stage: Stage, quiet: Sequence[Out], follows: Callable[[Result], bool]) -> Check:
    """The batch is folded, then folded again, then the quiet loop's events come: what is written can be read."""
    read = {source.topic for source in stage.inputs}

    def check(batch: Sequence[Hand]) -> Counted:
        tables = tables_of(stage)
        first = _by_topic([_out(declared(LOOP)), _out(declared(QUIET))])
        run_step(stage, first, tables, now_ms=NOW_MS)
        given = _by_topic([hand.out() for hand in batch if hand.topic in read])
        for _ in range(2):
            _readable(run_step(stage, given, tables, now_ms=NOW_MS))
        result = run_step(stage, _by_topic(quiet), tables, now_ms=NOW_MS)
        _readable(result)
        if not follows(result):
            raise LostError(f"{stage.group}: the other loop's event led to nothing")
        refused = len(heard(given)[1])
        return Counted(sum(map(len, given.values())) - refused, refused)

    return check


def _readable(result: Result) -> None:
    for out in result.out:
        control.decode(out.topic, out.value or b"")


def _writes(topic: str) -> Callable[[Result], bool]:
    return lambda result: any(out.topic == topic and out.key == b"quiet" for out in result.out)


def _entry(stage: Stage, quiet: Sequence[Out], follows: Callable[[Result], bool]) -> Entry:
    @contextmanager
    def opened() -> Iterator[Check]:
        yield _checked(stage, quiet, follows)

    inputs = records(tuple(source.topic for source in stage.inputs))
    return Entry(f"control topics → {stage.group}", inputs, 15, opened)


def entries() -> list[Entry]:
    """One a stage."""

    def sign(fields: Mapping[str, Any]) -> str:
        return TRAINER.sign(fields)

    return [
        _entry(registry.fold_stage(REGISTRY, TRAINER.verifier()), [_model()], _writes(topics.DEPLOYMENT_CHANGED)),
        _entry(
            retrain_controller.decide_stage(),
            [_out(measured(AT_MS, loop="quiet", rows=5_000))],
            _writes(topics.RETRAIN_REQUESTED),
        ),
        _entry(
            trainer.stage(sign, no_effects),
            [_request()],
            lambda result: any(effect.id == "quiet/quiet-1" for effect in result.effects),
        ),
    ]
