"""The projection on SQLite and PostgreSQL: what it holds follows from the log, whatever the order and the batches."""

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Any

import pytest
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from sqlalchemy import Engine, select, text
from sqlalchemy.exc import DBAPIError
from trimtab.contracts import control, topics
from trimtab.contracts.control import (
    ModelPerformance,
    RegistryCommand,
    RetrainCause,
    RetrainRequested,
    TimeAdvanced,
    TrainingFailed,
)
from trimtab.registry.adapters.database import Projected, Rebuilt, migrate
from trimtab.registry.adapters.queries import Queries
from trimtab.registry.adapters.tables import Base
from trimtab.registry.stages import fold_stage
from trimtab.runtime.bus import Part
from trimtab.runtime.control import LoopEvent, written
from trimtab.runtime.records import Out, Read, Record
from trimtab.store.signing import Signer
from trimtab.store.sql import create_sql_engine, reading, unit_of_work
from trimtab.testing import as_read, run_step, tables_of
from trimtab.testing.declarations import declared, offers
from trimtab.testing.models import difference, measured, trained
from trimtab.testing.postgres import programs, running_postgres

TRAINER, REGISTRY = Signer.generate(), Signer.generate()
TRUSTED = {topics.MODEL_TRAINED: TRAINER.verifier(), topics.DEPLOYMENT_CHANGED: REGISTRY.verifier()}
DAY_MS = 86_400_000


@pytest.fixture(scope="session")
def postgres() -> Iterator[str | None]:
    found = programs()
    if found is None:
        yield None
        return
    with running_postgres(found) as server:
        yield server.url


@pytest.fixture(scope="module", params=["sqlite", "postgresql"])
def database(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Engine]:
    if request.param == "sqlite":
        engine = create_sql_engine(f"sqlite:///{tmp_path_factory.mktemp('sqlite')}/registry.db")
    else:
        url = request.getfixturevalue("postgres")
        if url is None:
            pytest.skip("no PostgreSQL is installed here")
        engine = create_sql_engine(f"{url}/postgres")
    migrate(engine)
    yield engine
    engine.dispose()


@pytest.fixture
def engine(database: Engine) -> Engine:
    Projected(database, TRUSTED).rebuild({}, {})
    return database


def story() -> list[LoopEvent]:
    """Three models: the first, a promotion, one that failed; a failed fit; a rollback by hand; measurements."""
    models = [
        trained("a", at_ms=10 * DAY_MS, verdict="first", digest="1" * 64),
        trained("b", at_ms=20 * DAY_MS, against=1, digest="2" * 64),
        trained("c", at_ms=30 * DAY_MS, verdict="failed", against=2, digest="3" * 64),
    ]
    champion = ModelPerformance(version=1, arm="champion", rows=90, metrics={"log_loss": 0.41})
    return [
        declared(offers(train={"fit_time": "1d"})),
        *(requested(name, at) for name, at in (("a", 10), ("b", 20), ("c", 30), ("d", 35))),
        *(sign(model) for model in models),
        TrainingFailed(loop="offers", at_ms=35 * DAY_MS, request_id="d", reason="one_class", error="only one class"),
        measured(15 * DAY_MS, models=[champion]),
        measured(25 * DAY_MS, difference(2, 1, -0.2, -0.1), models=[champion.model_copy(update={"rows": 120})]),
        RegistryCommand(loop="offers", at_ms=0, command_id="back", kind="rollback", by="anna", note="sales fell"),
        RegistryCommand(loop="offers", at_ms=0, command_id="again", kind="promote", version=9, by="anna"),
        TimeAdvanced(loop="offers", at_ms=40 * DAY_MS),
    ]


def requested(request_id: str, day: int) -> RetrainRequested:
    cause = RetrainCause(kind="drift", drift_id=f"d{day}", signals=["loss"])
    return RetrainRequested(loop="offers", at_ms=day * DAY_MS, request_id=request_id, cause=cause, loop_version=1)


def sign(event: Any) -> Any:
    return event.model_copy(update={"signature": TRAINER.sign(json.loads(control.encode(event)))})


def log_of(events: Sequence[LoopEvent]) -> list[Record]:
    """The whole log: what others wrote, and what the registry's stage answers to it."""
    outs = [written(event, id="test", source="test", trace=None) for event in events]
    stage = fold_stage(REGISTRY, TRAINER.verifier())
    tables = tables_of(stage)
    read = as_read(outs)
    said: list[Out] = []
    for record in read:
        said += run_step(stage, {record.topic: [record]}, tables).out
    return as_read([*outs, *said])


def by_part(records: Sequence[Read]) -> dict[Part, list[Read]]:
    found: dict[Part, list[Read]] = {}
    for record in records:
        found.setdefault(Part(record.topic, record.partition), []).append(record)
    return found


def follow(projected: Projected, records: Sequence[Read], batch: int = 1000) -> None:
    for start in range(0, len(records), batch):
        parts = by_part(records[start : start + batch])
        projected.apply(parts, {part: read[-1].offset + 1 for part, read in parts.items()})


def rebuild(projected: Projected, records: Sequence[Read]) -> Sequence[Rebuilt]:
    parts = by_part(records)
    return projected.rebuild(parts, {part: read[-1].offset + 1 for part, read in parts.items()})


def dump(engine: Engine) -> Mapping[str, list[tuple[Any, ...]]]:
    with reading(engine) as session:
        return {
            table.name: sorted((tuple(row) for row in session.execute(select(table))), key=repr)
            for table in Base.metadata.sorted_tables
        }


def test_migrations_make_the_tables_that_the_code_has(engine: Engine) -> None:
    with engine.connect() as connection:
        context = MigrationContext.configure(connection, opts={"compare_type": True})
        assert compare_metadata(context, Base.metadata) == []


def test_migrating_again_changes_nothing(engine: Engine) -> None:
    migrate(engine)
    migrate(engine)


def test_tables_that_a_later_release_brought_further_are_worked_on(engine: Engine) -> None:
    with engine.begin() as connection:
        now = connection.scalar(text("SELECT version_num FROM alembic_version"))
        connection.execute(text("UPDATE alembic_version SET version_num = '9999'"))
        connection.execute(text("ALTER TABLE loops ADD COLUMN added_later VARCHAR"))
    try:
        migrate(engine)
        projected, records = Projected(engine, TRUSTED), log_of(story())
        follow(projected, records)
        assert all(one.same for one in rebuild(projected, records))
    finally:
        with engine.begin() as connection:
            connection.execute(text("ALTER TABLE loops DROP COLUMN added_later"))
            connection.execute(text("UPDATE alembic_version SET version_num = :now"), {"now": now})


def test_replicas_that_start_together_migrate_once(engine: Engine) -> None:
    with engine.begin() as connection:
        for table in reversed(Base.metadata.sorted_tables):
            table.drop(connection)
        connection.execute(text("DROP TABLE alembic_version"))
    side_by_side([partial(migrate, engine)] * 4)


def side_by_side(work: Sequence[Callable[[], None]]) -> None:
    with ThreadPoolExecutor(len(work)) as pool:
        for done in [pool.submit(one) for one in work]:
            done.result()


def test_rebuild_gives_the_same_database(engine: Engine) -> None:
    records = log_of(story())
    projected = Projected(engine, TRUSTED)
    follow(projected, records, batch=1)
    before = dump(engine)
    assert {name: len(rows) for name, rows in before.items() if name != "positions"} == {
        "loops": 1, "requests": 4, "trainings": 3, "dataset_ranges": 3, "metrics": 3, "comparisons": 3,
        "versions": 3, "deployments": 3, "commands": 2, "performance": 1,
    }  # fmt: skip
    told = rebuild(projected, records)
    assert all(table.same for table in told)
    assert dump(engine) == before
    with unit_of_work(engine) as session:
        session.execute(text("UPDATE versions SET verdict = 'failed'"))
        session.execute(text("DELETE FROM metrics"))
    assert {table.table for table in rebuild(projected, records) if not table.same} == {"versions", "metrics"}
    assert dump(engine) == before


def test_the_order_of_topics_does_not_show(engine: Engine) -> None:
    records = log_of(story())
    projected = Projected(engine, TRUSTED)
    follow(projected, records)
    before = dump(engine)
    projected.rebuild({}, {})
    for part, read in sorted(by_part(records).items(), reverse=True):
        projected.apply({part: read}, {part: read[-1].offset + 1})
    assert dump(engine) == before


def test_what_was_read_before_is_passed_over(engine: Engine) -> None:
    records = log_of(story())
    projected = Projected(engine, TRUSTED)
    follow(projected, records)
    before = dump(engine)
    follow(projected, records[:5])
    follow(projected, records)
    assert dump(engine) == before
    assert sum(projected.positions().values()) == sum(
        max(r.offset for r in read) + 1 for read in by_part(records).values()
    )


def test_a_batch_that_fails_leaves_neither_rows_nor_positions(engine: Engine) -> None:
    records = log_of(story())
    projected = Projected(engine, TRUSTED)
    parts = by_part(records)
    positions = {part: read[-1].offset + 1 for part, read in parts.items()}
    with pytest.raises((OverflowError, DBAPIError)):
        projected.apply(parts, {**positions, Part("broken", 0): 10**30})
    assert not any(dump(engine).values())


def test_two_replicas_share_a_database(engine: Engine) -> None:
    records = log_of(story())
    replicas = [Projected(engine, TRUSTED) for _ in range(3)]
    side_by_side([partial(follow, one, records, batch=2) for one in replicas])
    shared = dump(engine)
    rebuild(replicas[0], records)
    assert dump(engine) == shared


def test_what_was_forged_is_not_projected(engine: Engine) -> None:
    forged = trained("a", verdict="first")
    real = log_of(story())
    deployed = next(record for record in real if record.topic == topics.DEPLOYMENT_CHANGED)
    lie = json.loads(deployed.value or b"") | {"note": "trust me"}
    outs = [
        written(forged, id="x", source="x", trace=None),
        Out(topics.DEPLOYMENT_CHANGED, b"offers", json.dumps(lie).encode()),
        Out(topics.MODEL_REGISTERED, b"offers", b"no json"),
    ]
    projected = Projected(engine, TRUSTED)
    follow(projected, as_read(outs))
    held = dump(engine)
    assert {name for name, rows in held.items() if rows} == {"positions"}


def test_a_loop_that_ends_is_kept_as_ended(engine: Engine) -> None:
    end = Record(topics.LOOP_DECLARED, 0, 1, b"offers", None)
    projected = Projected(engine, TRUSTED)
    follow(projected, [*as_read([written(declared(offers()), id="x", source="x", trace=None)]), end])
    assert [one.ended for one in Queries(engine).loops(10, None).items] == [True]


def test_lineage(engine: Engine) -> None:
    projected, queries = Projected(engine, TRUSTED), Queries(engine)
    follow(projected, log_of(story()))
    found = queries.version("offers", 2)
    assert found is not None
    assert (found.verdict, found.role, found.cause, found.rows) == ("passed", "none", "drift", 1000)
    assert found.request is not None
    assert found.request.cause == {
        "kind": "drift", "drift_id": "d20", "ask_id": None, "signals": ["loss"], "note": None, "by": None
    }  # fmt: skip
    assert found.dataset is not None
    assert [(one.topic, one.first_offset, one.end_offset) for one in found.dataset.ranges] == [
        ("offers.predictions", 0, 1000)
    ]
    assert found.gate is not None
    assert [(one.against, one.version, one.passed) for one in found.gate.comparisons] == [("champion", 1, True)]
    assert [one.sequence for one in found.deployments] == [2]
    assert found.metrics == {"log_loss": 0.4}
    first = queries.version("offers", 1)
    assert first is not None
    assert first.role == "champion"
    assert first.performance is not None
    assert first.performance.rows == 120
    assert queries.version("offers", 4) is None
    assert queries.version("other", 1) is None


def test_commands_and_what_became_of_them(engine: Engine) -> None:
    projected, queries = Projected(engine, TRUSTED), Queries(engine)
    follow(projected, log_of(story()))
    told = [(one.command_id, one.by, one.outcome, one.detail) for one in queries.commands("offers", 10, None).items]
    assert told == [
        ("again", "anna", "refused", "there is no version 9: the versions are 1 to 3"),
        ("back", "anna", "done", "version 1 serves, shadows: []"),
    ]


def test_pages(engine: Engine) -> None:
    projected, queries = Projected(engine, TRUSTED), Queries(engine)
    follow(projected, log_of(story()))
    first = queries.versions("offers", 2, None)
    assert ([one.version for one in first.items], first.next) == ([3, 2], "2")
    second = queries.versions("offers", 2, 2)
    assert ([one.version for one in second.items], second.next) == ([1], None)
    assert [one.sequence for one in queries.deployments("offers", 10, 3).items] == [2, 1]
    assert queries.loops(10, "offers").items == []


def test_only_models_are_given_out(engine: Engine) -> None:
    projected, queries = Projected(engine, TRUSTED), Queries(engine)
    follow(projected, log_of(story()))
    assert queries.is_model("2" * 64)
    assert not queries.is_model("9" * 64)
