"""Every view of a control topic, and the registry's projection: a bad record stops neither, a good one counts."""

import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

from hypothesis import strategies as st
from trimtab.contracts import control, topics
from trimtab.contracts.control import DeploymentChanged, QualityViolated, RetrainAsked, TimeAdvanced
from trimtab.feature.adapters import LoopTimes
from trimtab.ingest.core.schemas import KnownSchemas
from trimtab.loops.incoming.contract import compile_contract
from trimtab.loops.incoming.ports import no_registry
from trimtab.monitor.adapters import ModelsView, QualityView, SchemasView
from trimtab.monitor.core.drifting import Watch
from trimtab.monitor.core.plan import plan_of
from trimtab.monitor.core.stretches import HeldStretches
from trimtab.predictor.adapters.deployments import DeploymentsView
from trimtab.registry.adapters.database import TOPICS as PROJECTED
from trimtab.registry.adapters.database import Projected, migrate
from trimtab.registry.adapters.queries import Queries
from trimtab.retrain_controller.adapters import TOPICS as JOURNALED
from trimtab.retrain_controller.adapters import JournalView
from trimtab.retrain_controller.core.journal import Journal
from trimtab.runtime.bus import Part
from trimtab.runtime.control import LoopEvent, as_written, written
from trimtab.runtime.host.loops import LoopsView
from trimtab.runtime.records import Out, Read
from trimtab.runtime.schemas import published
from trimtab.runtime.stage import View
from trimtab.store.blobs import MemoryBlobs
from trimtab.store.sql import create_sql_engine
from trimtab.testing import as_read
from trimtab.testing.declarations import SCHEMAS, declared
from trimtab.testing.models import trained

from tests.fuzz.entry import Check, Counted, Entry, LostError
from tests.fuzz.written import LOOP, QUIET, REGISTRY, TRAINER, Hand, records

AT_MS = 1_717_200_000_000
TRUSTED = {topics.MODEL_TRAINED: TRAINER.verifier(), topics.DEPLOYMENT_CHANGED: REGISTRY.verifier()}


def _out(event: LoopEvent) -> Out:
    signers = {topics.MODEL_TRAINED: TRAINER, topics.DEPLOYMENT_CHANGED: REGISTRY}
    if (signer := signers.get(control.TOPIC_OF[type(event)])) is not None:
        event = event.model_copy(update={"signature": signer.sign(json.loads(control.encode(event)))})
    return written(event, id="fuzz", source="fuzz", trace=None)


GOOD: Mapping[str, Out] = {
    out.topic: out
    for out in [
        _out(declared(QUIET)),
        _out(TimeAdvanced(loop="quiet", at_ms=AT_MS)),
        _out(RetrainAsked(loop="quiet", at_ms=AT_MS, ask_id="a", by="ada", note=None)),
        _out(trained("quiet-1", at_ms=AT_MS, loop="quiet", verdict="first")),
        _out(
            QualityViolated(
                loop="quiet", at_ms=AT_MS, rule="missing", subject="place", share=0.5, limit=0.1, since_ms=AT_MS
            )
        ),
        _out(
            DeploymentChanged(
                loop="quiet", at_ms=AT_MS, sequence=1, effective_at_ms=AT_MS, champion=None, shadows=[],
                cause="first", request_id=None, note=None, signature="",
            )
        ),
        *published([SCHEMAS["click"]], by="fuzz", at_ms=AT_MS),
    ]
}  # fmt: skip
"""A good event of the quiet loop, by topic."""


def _views() -> Sequence[View]:
    """All there are, once for the loop that is written about and once for the quiet one."""
    journal = Journal()
    contract = compile_contract(LOOP, LOOP.events["click"], no_registry)
    found: list[View] = [LoopsView(), LoopTimes(), SchemasView(), KnownSchemas([contract.reader])]
    found += [JournalView(topic, journal) for topic in JOURNALED]
    for loop in (LOOP, QUIET):
        plan, stretches = plan_of(loop), HeldStretches()
        found += [ModelsView(plan, Watch(plan)), DeploymentsView(loop, MemoryBlobs(), REGISTRY.verifier())]
        found += [
            QualityView(topic, loop.name, stretches) for topic in (topics.QUALITY_VIOLATED, topics.QUALITY_RESTORED)
        ]
    return found


def _holds(view: View) -> bool:
    """Whether a view that was given its topic's good event knows it."""
    match view:
        case LoopsView():
            return "quiet" in view.declared
        case LoopTimes():
            return view.reached_ms("quiet") == AT_MS
    return True


def _read(batch: Sequence[Hand]) -> Mapping[str, list[Read]]:
    found: dict[str, list[Read]] = {}
    for record in as_read([hand.out() for hand in batch]):
        found.setdefault(record.topic, []).append(record)
    return found


def _refused(found: Mapping[str, Sequence[Read]]) -> int:
    return sum(len(as_written(topic, some)[1]) for topic, some in found.items() if topic != topics.SCHEMAS)


@contextmanager
def _all_views() -> Iterator[Check]:
    def check(batch: Sequence[Hand]) -> Counted:
        given = _read(batch)
        for view in _views():
            view.apply(given.get(view.topic, ()))
            if view.topic in GOOD:
                view.apply(as_read([GOOD[view.topic]]))
            if not _holds(view):
                raise LostError(f"the view of {view.topic} does not know the good event behind the others")
        refused = _refused(given)
        return Counted(len(batch) - refused, refused)

    yield check


@contextmanager
def _projection() -> Iterator[Check]:
    """The database goes on from batch to batch; after each, whatever it holds has to be given out."""
    with TemporaryDirectory() as folder:
        engine = create_sql_engine(f"sqlite:///{Path(folder)}/registry.db")
        migrate(engine)
        projected, queries = Projected(engine, TRUSTED), Queries(engine)
        offset = 0

        def check(batch: Sequence[Hand]) -> Counted:
            nonlocal offset
            given = _read(batch)
            for topic, some in given.items():
                offset += len(some) + 1
                placed = [_Placed(one, offset + n) for n, one in enumerate(some)]
                projected.apply({Part(topic, 0): placed}, {Part(topic, 0): offset + len(some)})
            for loop in queries.loops(500, None).items:
                queries.versions(loop.loop, 500, None).model_dump_json()
                queries.deployments(loop.loop, 500, None).model_dump_json()
                queries.commands(loop.loop, 500, None).model_dump_json()
                for one in queries.versions(loop.loop, 5, None).items:
                    queries.version(loop.loop, one.version)
            refused = _refused(given)
            return Counted(len(batch) - refused, refused)

        yield check
        engine.dispose()


class _Placed:
    """A record at another offset."""

    def __init__(self, record: Read, offset: int) -> None:
        self.topic, self.partition, self.offset = record.topic, 0, offset
        self.key, self.value, self.headers, self.timestamp = record.key, record.value, record.headers, 0


def entries() -> list[Entry]:
    """The views, and the projection."""
    tables: st.SearchStrategy[Hand] = records(tuple(PROJECTED))
    return [
        Entry("control topics → views", records(), 20, _all_views),
        Entry("control topics → registry.project", tables, 20, _projection),
    ]
