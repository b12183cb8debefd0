"""The stage: exactly one verdict for each request, however often and in whatever order things come."""

from collections.abc import Mapping
from typing import Any

import pytest
from trimtab.contracts import control, times, topics
from trimtab.contracts.control import (
    DeploymentChanged,
    ModelRef,
    ModelTrained,
    RetrainCause,
    RetrainRequested,
    TrainingFailed,
)
from trimtab.runtime.control import written
from trimtab.runtime.records import Record
from trimtab.runtime.stage import EffectDone, Result
from trimtab.testing.declarations import declared, offers
from trimtab.testing.steps import as_read, run_step, tables_of
from trimtab.trainer.errors import ChildEndedError
from trimtab.trainer.stages import compared_with, stage

DAY = 86_400_000
DIGEST = "ab" * 32
LAPS = [["dataset", 10, 20], ["fit", 20, 40], ["gate", 40, 45]]
STAGE = stage(lambda fields: "signed", lambda effect: None)  # type: ignore[arg-type, return-value] # never performed


def request(number: int = 1) -> RetrainRequested:
    return RetrainRequested(
        loop="offers",
        request_id=f"r{number}",
        at_ms=30 * DAY,
        cause=RetrainCause(kind="first", signals=[]),
        champion_version=None,
        loop_version=1,
    )


def read(*events: Any) -> dict[str, list[Record]]:
    found: dict[str, list[Record]] = {}
    for one in as_read([written(event, id=str(i), source="test", trace=None) for i, event in enumerate(events)]):
        found.setdefault(one.topic, []).append(one)
    return found


def trained_fields() -> Mapping[str, Any]:
    at = times.text(30 * DAY)
    return {
        "loop": "offers",
        "at": at,
        "request_id": "r1",
        "cause_kind": "first",
        "model": {
            "digest": DIGEST,
            "format": "onnx",
            "onnx_digest": DIGEST,
            "skops_digest": DIGEST,
            "parity": {"rows": 1, "max_difference": 0.0, "passed": True},
            "recipe_digest": DIGEST,
            "features_digest": DIGEST,
            "classes": None,
        },
        "dataset": {
            "cluster_id": "c",
            "ranges": [],
            "rows": 5,
            "positives": 1,
            "digest": DIGEST,
            "blob": DIGEST,
            "first_at": times.text(DAY),
            "last_at": times.text(20 * DAY),
        },
        "metrics": {"log_loss": 0.5},
        "gate": {
            "verdict": "first",
            "rule": "not_worse",
            "margin": 0.02,
            "confidence": 0.9,
            "metric": "log_loss",
            "comparisons": [],
        },
        "reference": {"look_ms": DAY, "season_ms": 0, "from": times.text(DAY), "signals": {}},
        "fits": 2,
        "seed": 0,
        "code_version": "1",
        "lock_digest": DIGEST,
        "environment": {"python": "3.11", "platform": "p", "packages": {}},
    }


def events_of(result: Result) -> list[Any]:
    return [control.decode(out.topic, out.value or b"") for out in result.out]


def test_a_request_starts_one_fit_and_is_answered_once() -> None:
    tables = tables_of(STAGE)
    first = run_step(STAGE, read(declared(offers()), request()), tables)
    assert [effect.id for effect in first.effects] == ["offers/r1"]
    assert not first.out
    done = EffectDone("offers/r1", {"trained": trained_fields(), "recipe": DIGEST, "wall_s": 1.5, "laps": LAPS})
    second = run_step(STAGE, {}, tables, done=[done])
    (event,) = events_of(second)
    assert isinstance(event, ModelTrained)
    assert event.signature == "signed"
    assert event.wall_s == 1.5
    assert not second.effects
    again = run_step(STAGE, read(request()), tables, done=[done])
    assert not again.out
    assert not again.effects


def test_the_steps_of_a_fit_are_told_once_on_the_way_of_the_request() -> None:
    tables = tables_of(STAGE)
    run_step(STAGE, read(declared(offers()), request()), tables)
    done = EffectDone("offers/r1", {"trained": trained_fields(), "recipe": DIGEST, "wall_s": 1.5, "laps": LAPS})
    result = run_step(STAGE, {}, tables, done=[done])
    assert [(one.name, one.times_ns) for one in result.milestones] == [
        ("dataset", (10, 20)),
        ("fit", (20, 40)),
        ("gate", (40, 45)),
    ]
    assert {one.trace.encode() for one in result.milestones} == {result.out[0].headers[-1][1]}
    assert result.milestones[2].attributes["trimtab.verdict"] == "first"
    assert not run_step(STAGE, {}, tables, done=[done]).milestones


def test_one_fit_at_a_time_in_a_loop() -> None:
    tables = tables_of(STAGE)
    started = run_step(STAGE, read(declared(offers()), request(1), request(2)), tables)
    assert [effect.id for effect in started.effects] == ["offers/r1"]
    done = EffectDone("offers/r1", {"failed": "too_few_rows", "error": "wait", "laps": LAPS})
    after = run_step(STAGE, {}, tables, done=[done])
    assert [effect.id for effect in after.effects] == ["offers/r2"]


@pytest.mark.parametrize(
    ("done", "reason"),
    [
        (EffectDone("offers/r1", {"failed": "estimator", "error": "one class alone", "laps": LAPS}), "estimator"),
        (EffectDone("offers/r1", error=ChildEndedError(-9, "")), "trainer"),
    ],
)
def test_what_fails_is_told(done: EffectDone, reason: str) -> None:
    tables = tables_of(STAGE)
    run_step(STAGE, read(declared(offers()), request()), tables)
    (event,) = events_of(run_step(STAGE, {}, tables, done=[done]))
    assert isinstance(event, TrainingFailed)
    assert event.reason == reason
    assert event.error


def test_a_request_for_an_ended_loop_fails() -> None:
    tables = tables_of(STAGE)
    run_step(STAGE, read(declared(offers())), tables)
    run_step(STAGE, {topics.LOOP_DECLARED: [Record(topics.LOOP_DECLARED, 0, 1, b"offers", None)]}, tables)
    (event,) = events_of(run_step(STAGE, read(request()), tables))
    assert isinstance(event, TrainingFailed)
    assert event.reason == "not_declared"


def test_open_requests_are_resumed_with_the_task() -> None:
    tables = tables_of(STAGE)
    run_step(STAGE, read(declared(offers()), request()), tables)
    assert [effect.id for effect in STAGE.resume(0, tables)] == ["offers/r1"]


def test_the_same_batch_twice_changes_nothing() -> None:
    tables = tables_of(STAGE)
    batch = read(declared(offers()), request())
    run_step(STAGE, batch, tables)
    before = dict(tables["desks"].items())
    assert not run_step(STAGE, batch, tables).out
    assert dict(tables["desks"].items()) == before


def test_a_challenger_is_told_how_the_champion_was_made() -> None:
    tables = tables_of(STAGE)
    run_step(STAGE, read(declared(offers()), request(1)), tables)
    run_step(
        STAGE,
        {},
        tables,
        done=[EffectDone("offers/r1", {"trained": trained_fields(), "recipe": DIGEST, "wall_s": 1, "laps": LAPS})],
    )
    run_step(STAGE, read(deployed()), tables)
    (effect,) = run_step(STAGE, read(request(2)), tables).effects
    desk, _ = effect.payload
    assert compared_with(desk, desk.champion) == {
        "version": 1,
        "digest": DIGEST,
        "format": "onnx",
        "features_digest": DIGEST,
        "classes": None,
        "until_ms": 20 * DAY,
        "recipe": DIGEST,
    }
    assert desk.first == desk.champion


def deployed() -> DeploymentChanged:
    return DeploymentChanged(
        loop="offers",
        at_ms=30 * DAY,
        sequence=1,
        effective_at_ms=30 * DAY,
        champion=ModelRef(version=1, digest=DIGEST, format="onnx", features_digest=DIGEST),
        shadows=[],
        cause="first",
        request_id="r1",
        note=None,
        signature="signed",
    )
