"""The declared graph equals the wired one, both ways: what every stage reads and writes, and that none is missing."""

import importlib
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path

import pytest
from trimtab.contracts import control, topics
from trimtab.contracts.specs import TopicTemplate
from trimtab.loops import declaration
from trimtab.loops.model import Loop
from trimtab.runtime.host import Service
from trimtab.runtime.stage import Stage
from trimtab.store.signing import make_key_pair

ROOT = Path(__file__).resolve().parents[2]
SERVICES = ("ingest", "feature", "predictor", "monitor", "retrain_controller", "trainer", "registry")
OUTSIDE_OF_STEPS = {
    ("trainer.fit", "predictions"): "read by the fitting process, as a range of offsets",
    ("trainer.fit", "outcomes"): "as above",
}
"""What a stage reads or writes otherwise than by its inputs, views and outputs."""
EVERYBODY = {"loop_declared", "schemas"}
"""Followed by the host for all services, and by views where a step needs it."""


@pytest.fixture(scope="module")
def loop() -> Loop:
    return declaration.load(ROOT / "examples/flights")


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Mapping[str, Service]:
    """Every service as its own wiring builds it; nothing is connected."""
    folder = tmp_path_factory.mktemp("services")
    private, public = make_key_pair(folder, "any")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("TRIMTAB_DATA_DIR", str(folder))
        patch.setenv("TRIMTAB_STORE__URL", (folder / "blobs").as_uri())
        patch.setenv("TRIMTAB_SIGNING__PRIVATE_KEY_FILE", str(private))
        patch.setenv("TRIMTAB_SIGNING__PUBLIC_KEY_FILE", str(public))
        patch.setenv("TRIMTAB_REGISTRY__DATABASE_URL", f"sqlite:///{folder / 'registry.db'}")
        return {name: build(name) for name in SERVICES}


def build(name: str) -> Service:
    settings = importlib.import_module(f"trimtab.{name}.settings").Settings()
    service: Service = importlib.import_module(f"trimtab.{name}.wiring").build(settings)
    return service


def declared(loop: Loop) -> control.LoopDeclared:
    body, schemas = declaration.declared(loop)
    return control.LoopDeclared(
        loop=loop.name,
        at_ms=0,
        version=1,
        digest=loop.digest,
        declaration=body,
        schemas=schemas,
        partitions=loop.partitions,
        topics=[],
        by="test",
    )


@pytest.fixture(scope="module")
def stages(built: Mapping[str, Service], loop: Loop) -> Mapping[str, Stage]:
    """Every stage by its declared name."""
    return {stage.group.removesuffix(f".{loop.name}"): stage for stage in all_stages(built.values(), loop)}


def all_stages(services: Iterable[Service], loop: Loop) -> Iterator[Stage]:
    for service in services:
        yield from service.stages
        work = service.work(declared(loop)) if service.work else None
        yield from work.stages if work else ()


def names(template: TopicTemplate, loop: Loop) -> set[str]:
    """The topics of a template in one loop."""
    if template.per == "event":
        return {template.topic.format(loop=loop.name, event=event) for event in loop.events}
    return {template.topic.format(loop=loop.name)} if template.per == "loop" else {template.topic}


DRAWN = [
    template for template in topics.TEMPLATES.values() if template.per != "stage" and template.name not in EVERYBODY
]


def test_every_declared_stage_is_wired_and_every_wired_one_declared(stages: Mapping[str, Stage]) -> None:
    assert set(stages) == set(topics.STAGES)


@pytest.mark.parametrize("name", topics.STAGES)
def test_a_stage_runs_under_its_declared_names(name: str, stages: Mapping[str, Stage], loop: Loop) -> None:
    declared_stage, stage = topics.STAGES[name], stages[name]
    of = loop.name if declared_stage.per == "loop" else None
    assert stage.group == topics.group(declared_stage.service, declared_stage.verb, of)
    assert stage.changelog == topics.changelog(declared_stage.service, declared_stage.verb, of)
    assert stage.partitions == topics.stage_partitions(declared_stage.service, declared_stage.verb, loop.partitions)


@pytest.mark.parametrize("name", topics.STAGES)
def test_a_stage_reads_what_is_declared(name: str, stages: Mapping[str, Stage], loop: Loop) -> None:
    stage = stages[name]
    read = {source.topic for source in stage.inputs} | {view.topic for view in stage.views}
    wired = {template.name for template in DRAWN if names(template, loop) & read}
    said = {
        template.name
        for template in DRAWN
        if name in template.readers and (name, template.name) not in OUTSIDE_OF_STEPS
    }
    assert wired == said


@pytest.mark.parametrize("name", topics.STAGES)
def test_a_stage_writes_what_is_declared(name: str, stages: Mapping[str, Stage], loop: Loop) -> None:
    stage = stages[name]
    written = {output.topic: output.partitions for output in stage.outputs}
    written |= {spec.topic: stage.partitions for spec in stage.tables if spec.topic is not None}
    wired = {template.name for template in DRAWN if names(template, loop) & set(written)}
    assert wired == {template.name for template in DRAWN if name in template.writers}
    created = {spec.name: spec.partitions for spec in topics.of_loop(loop.name, list(loop.events), loop.partitions)}
    created |= {spec.name: spec.partitions for spec in topics.control()}
    assert {topic: created[topic] for topic in written} == written


@pytest.mark.parametrize("name", topics.STAGES)
def test_marks_come_from_the_declared_writers(name: str, stages: Mapping[str, Stage], loop: Loop) -> None:
    """Who waits for a writer that does not write would wait for ever."""
    stage = stages[name]
    heard = [(one.topic, one.writers) for one in stage.inputs if one.clock == "marks"]
    heard += [(one.topic, one.writers) for one in stage.views if one.clock == "marks"]
    tasks = {one.group: one.partitions for one in stages.values()}
    for topic, writers in heard:
        template = next(template for template in DRAWN if topic in names(template, loop))
        assert template.marks, f"{topic} carries no marks"
        marking = {
            stages[end].group
            for end in template.writers
            if end in stages and any(output.topic == topic and output.marks for output in stages[end].outputs)
        }
        assert dict(writers) == {group: tasks[group] for group in marking}, topic
