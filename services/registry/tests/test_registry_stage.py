"""The stage around the fold: signatures, ids, traces, batches that are run twice."""

import json
from collections.abc import Sequence

import pytest
from trimtab.contracts import control, envelope, topics
from trimtab.contracts.control import DeploymentChanged, ModelTrained
from trimtab.registry.stages import LOOPS, fold_stage
from trimtab.runtime.control import LoopEvent, written
from trimtab.runtime.records import Out, Record
from trimtab.runtime.stage import Stage
from trimtab.store.errors import BadSignatureError
from trimtab.store.signing import Signer
from trimtab.testing import record, run_step, tables_of
from trimtab.testing.declarations import declared, offers
from trimtab.testing.models import trained

TRACE = "00-" + "1" * 32 + "-" + "2" * 16 + "-01"
TRAINER, REGISTRY = Signer.generate(), Signer.generate()


@pytest.fixture
def stage() -> Stage:
    return fold_stage(REGISTRY, TRAINER.verifier())


def signed(event: ModelTrained, signer: Signer = TRAINER) -> ModelTrained:
    return event.model_copy(update={"signature": signer.sign(json.loads(control.encode(event)))})


def read(*events: LoopEvent) -> dict[str, Sequence[Record]]:
    found: dict[str, list[Record]] = {}
    for event in events:
        out = written(event, id="test", source="test", trace=TRACE)
        found.setdefault(out.topic, []).append(record(out.topic, out.value, key=out.key, headers=out.headers))
    return dict(found)


def ids(outs: Sequence[Out]) -> list[str]:
    return [envelope.require(out.headers, envelope.ID).decode() for out in outs]


def test_a_signed_model_is_registered_and_deployed_in_one_go(stage: Stage) -> None:
    result = run_step(stage, read(declared(offers()), signed(trained("a", verdict="first"))))
    assert [out.topic for out in result.out] == [topics.MODEL_REGISTERED, topics.DEPLOYMENT_CHANGED]
    assert ids(result.out) == ["offers-version-1", "offers-deployment-1"]
    assert {envelope.get(out.headers, envelope.TRACEPARENT) for out in result.out} == {TRACE.encode()}
    assert {out.key for out in result.out} == {b"offers"}


def test_deployments_are_signed_by_the_registry(stage: Stage) -> None:
    result = run_step(stage, read(declared(offers()), signed(trained("a", verdict="first"))))
    value = result.out[1].value or b""
    event = control.decode(topics.DEPLOYMENT_CHANGED, value)
    assert isinstance(event, DeploymentChanged)
    REGISTRY.verifier().check(json.loads(value))
    with pytest.raises(BadSignatureError):
        TRAINER.verifier().check(json.loads(value))


FORGED = [
    trained("a", verdict="first"),
    signed(trained("a", verdict="first"), Signer.generate()),
    signed(trained("a", verdict="first")).model_copy(update={"request_id": "b"}),
]


@pytest.mark.parametrize("event", FORGED, ids=["unsigned", "another key", "changed"])
def test_a_model_that_the_trainer_did_not_sign_is_counted_and_passed_over(stage: Stage, event: ModelTrained) -> None:
    tables = tables_of(stage)
    result = run_step(stage, read(declared(offers()), event), tables)
    assert result.out == []
    assert [measure.attributes["topic"] for measure in result.measures] == [topics.MODEL_TRAINED]
    state = tables[LOOPS.name].get("offers")
    assert state is not None
    assert state.versions == ()


def test_a_declaration_that_cannot_be_read_stops_no_other_loop(stage: Stage) -> None:
    broken = declared(offers()).model_copy(update={"loop": "broken", "declaration": {}})
    result = run_step(stage, read(broken, declared(offers()), signed(trained("a", verdict="first"))))
    assert ids(result.out) == ["offers-version-1", "offers-deployment-1"]
    assert result.measures[0].attributes["topic"] == topics.LOOP_DECLARED


def test_the_same_batch_twice_writes_once(stage: Stage) -> None:
    tables = tables_of(stage)
    batch = read(declared(offers()), signed(trained("a", verdict="first")))
    assert len(run_step(stage, batch, tables).out) == 2
    assert run_step(stage, batch, tables).out == []


def test_a_batch_that_is_run_again_after_a_crash_writes_the_same(stage: Stage) -> None:
    batch = read(declared(offers()), signed(trained("a", verdict="first")))
    assert run_step(stage, batch).out == run_step(stage, batch).out


def test_a_loop_that_ends_is_served_by_nobody(stage: Stage) -> None:
    tables = tables_of(stage)
    run_step(stage, read(declared(offers()), signed(trained("a", verdict="first"))), tables)
    end = {topics.LOOP_DECLARED: [record(topics.LOOP_DECLARED, None, key=b"offers")]}
    (out,) = run_step(stage, end, tables).out
    event = control.decode(out.topic, out.value or b"")
    assert isinstance(event, DeploymentChanged)
    assert (event.champion, event.shadows) == (None, [])
    assert run_step(stage, end, tables).out == []


def test_declared_topics_are_those_of_the_contract(stage: Stage) -> None:
    readers = {t.topic for t in topics.TEMPLATES.values() if "registry.fold" in t.readers}
    writers = {t.topic for t in topics.TEMPLATES.values() if "registry.fold" in t.writers}
    assert {one.topic for one in stage.inputs} == readers
    assert {one.topic for one in stage.outputs} == writers


@pytest.mark.parametrize("topic", [topics.MODEL_TRAINED, topics.REGISTRY_COMMANDS, topics.TIME_ADVANCED])
def test_a_record_without_a_value_stops_nothing_and_ends_no_loop(stage: Stage, topic: str) -> None:
    tables = tables_of(stage)
    run_step(stage, read(declared(offers())), tables)
    result = run_step(stage, {topic: [record(topic, None, key=b"offers")]}, tables)
    assert result.out == []
    assert [measure.attributes for measure in result.measures] == [{"stage": "registry.fold", "topic": topic}]
    followed = run_step(stage, read(signed(trained("a", verdict="first"))), tables)
    assert [out.topic for out in followed.out] == [topics.MODEL_REGISTERED, topics.DEPLOYMENT_CHANGED]


def test_a_model_with_a_number_that_json_does_not_have_is_refused(stage: Stage) -> None:
    value = control.encode(signed(trained("a", verdict="first"))).replace(b'"wall_s":1.0', b'"wall_s":Infinity')
    result = run_step(stage, {topics.MODEL_TRAINED: [record(topics.MODEL_TRAINED, value, key=b"offers")]})
    assert [measure.attributes["topic"] for measure in result.measures] == [topics.MODEL_TRAINED]
