"""Two releases beside each other: who writes Avro publishes its schema first, who reads it has it in its own."""

from collections.abc import Callable, Mapping, Sequence
from contextlib import AsyncExitStack
from pathlib import Path

import pytest
from trimtab.contracts import control, topics
from trimtab.contracts.codec import fingerprint
from trimtab.contracts.data import SCHEMAS
from trimtab.feature import wiring as feature
from trimtab.ingest import wiring as ingest
from trimtab.ingest.settings import Settings as IngestSettings
from trimtab.loops import declaration
from trimtab.loops.model import Loop
from trimtab.monitor import wiring as monitor
from trimtab.predictor import wiring as predictor
from trimtab.predictor.settings import Settings as PredictorSettings
from trimtab.runtime.edge import Edge, Placed
from trimtab.runtime.host import LoopWork, Service
from trimtab.runtime.records import Out
from trimtab.runtime.stage import AvroView, Stage
from trimtab.store.signing import make_key_pair
from trimtab.testing.declarations import declared
from trimtab.trainer.adapters.columns import OUTCOMES, predictions

ROOT = Path(__file__).resolve().parents[2]
OF_RECORDS = {name: template for name, template in topics.TEMPLATES.items() if template.value == "avro"}
"""Topics of records whose schema is the same for every loop."""


class Told:
    """An edge that remembers what was written."""

    def __init__(self) -> None:
        self.outs: list[Out] = []

    async def send(self, outs: Sequence[Out]) -> Sequence[Placed]:
        """Remember it."""
        self.outs += outs
        return [Placed(out.topic, 0, 0) for out in outs]


@pytest.fixture(scope="module")
def loop() -> Loop:
    return declaration.load(ROOT / "examples/flights")


@pytest.fixture
def wired(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Mapping[str, Callable[[Edge], Service]]:
    """The services that write records of the data plane, to be wired on an edge."""
    _, public = make_key_pair(tmp_path, "any")
    monkeypatch.setenv("TRIMTAB_DATA_DIR", str(tmp_path))
    monkeypatch.setenv("TRIMTAB_STORE__URL", (tmp_path / "blobs").as_uri())
    monkeypatch.setenv("TRIMTAB_SIGNING__PUBLIC_KEY_FILE", str(public))
    return {
        "ingest": lambda edge: ingest.wired(IngestSettings(), edge),
        "feature": feature.wired,
        "predictor": lambda edge: predictor.wired(PredictorSettings(), edge),
        "monitor": monitor.wired,
    }


def work_of(service: Service, loop: Loop) -> LoopWork:
    assert service.work is not None
    found = service.work(declared(loop))
    assert found is not None
    return found


def template_of(topic: str, loop: Loop) -> str | None:
    """The template of a topic of records."""
    return next((name for name, one in OF_RECORDS.items() if one.topic.format(loop=loop.name) == topic), None)


def written_by(stage: Stage, loop: Loop) -> set[str]:
    tables = [spec.topic for spec in stage.tables if spec.topic is not None]
    found = {template_of(topic, loop) for topic in (*(one.topic for one in stage.outputs), *tables)}
    return {name for name in found if name is not None}


def schema_of(template: str) -> str:
    """The name of the schema of a topic of records."""
    return Path(topics.TEMPLATES[template].schema or "").stem


@pytest.mark.parametrize("name", ["ingest", "feature", "predictor", "monitor"])
async def test_what_a_service_writes_it_has_published(
    name: str, wired: Mapping[str, Callable[[Edge], Service]], loop: Loop
) -> None:
    told = Told()
    service = wired[name](told)
    work = work_of(service, loop)
    async with AsyncExitStack() as stack:
        for resource in service.resources:
            await stack.enter_async_context(resource)
        await work.prepare()
    published = {control.decode_as(control.PublishedSchema, out.value or b"").fingerprint for out in told.outs}
    due = [SCHEMAS[schema_of(template)] for stage in work.stages for template in written_by(stage, loop)]
    due += [event.schema for event in loop.events.values()] if name == "ingest" else []
    due += [predictions(loop).schema] if name == "predictor" else []
    assert {fingerprint(one).hex() for one in due} <= published
    assert due


@pytest.mark.parametrize("name", ["feature", "predictor", "monitor"])
def test_what_a_service_reads_it_has_in_its_own_schema(
    name: str, wired: Mapping[str, Callable[[Edge], Service]], loop: Loop
) -> None:
    work = work_of(wired[name](Told()), loop)
    read = {one.topic: one.schema for stage in work.stages for one in stage.inputs}
    read |= {spec.topic: spec.schema for stage in work.stages for spec in stage.tables if spec.topic is not None}
    views = [*work.views, *(view for stage in work.stages for view in stage.views)]
    read |= {view.topic: view.schema if isinstance(view, AvroView) else None for view in views}
    known = {topic: template for topic in read if (template := template_of(topic, loop)) is not None}
    assert known
    assert {topic: read[topic] for topic in known} == {topic: SCHEMAS[schema_of(one)] for topic, one in known.items()}


@pytest.mark.parametrize("name", ["feature", "predictor"])
def test_events_come_in_the_schema_of_the_declaration_at_work(
    name: str, wired: Mapping[str, Callable[[Edge], Service]], loop: Loop
) -> None:
    """Those on their way when another version is applied were written by the one before."""
    declared_as = {topics.events(loop.name, event): one.schema for event, one in loop.events.items()}
    work = work_of(wired[name](Told()), loop)
    read = {one.topic: one.schema for stage in work.stages for one in stage.inputs if one.topic in declared_as}
    assert read
    assert read == {topic: declared_as[topic] for topic in read}


def test_the_trainer_reads_in_its_own_schema() -> None:
    assert OUTCOMES.schema == SCHEMAS["outcome"]
