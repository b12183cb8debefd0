"""The projection's adapter: records of the log in, rows out, positions in the same transaction."""

import json
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from importlib.resources import as_file, files
from pathlib import Path

from sqlalchemy import Connection, Engine, func, inspect, select, text
from sqlalchemy.orm import Session

from trimtab.contracts import topics
from trimtab.registry.adapters import tables
from trimtab.registry.adapters.projecting import end_loop, project
from trimtab.runtime.bus import Part
from trimtab.runtime.control import as_written
from trimtab.runtime.records import Read
from trimtab.store.errors import BadSignatureError
from trimtab.store.signing import Verifier
from trimtab.store.sql import reading, unit_of_work

TOPICS = (
    topics.LOOP_DECLARED,
    topics.RETRAIN_REQUESTED,
    topics.TRAINING_FAILED,
    topics.MODEL_TRAINED,
    topics.MODEL_REGISTERED,
    topics.DEPLOYMENT_CHANGED,
    topics.REGISTRY_COMMANDS,
    topics.COMMAND_SETTLED,
    topics.PERFORMANCE_MEASURED,
)
"""What is projected."""
Records = Mapping[Part, Sequence[Read]]
LOCK = 0x7472_696D
"""Key of the advisory lock by which replicas that share a PostgreSQL take turns."""


def migrate(engine: Engine) -> None:
    """Bring the database's tables to this version's. Replicas that start together take turns.

    Tables that a later release has brought further stay as they are: it has only added what may be left out.
    """
    with ExitStack() as stack:
        scripts = stack.enter_context(as_file(files("trimtab.registry") / "migrations"))
        connection = stack.enter_context(engine.begin())
        _take_turns(connection)
        found = revision(connection)
        if found is None or found < newest_revision(scripts):
            _upgrade(connection, scripts)


def newest_revision(scripts: Path) -> str:
    """The last of the migrations, which count up."""
    return max(script.name.partition("_")[0] for script in (scripts / "versions").glob("*_*.py"))


def revision(connection: Connection) -> str | None:
    """The migration that a database's tables are at; None for one without tables."""
    if not inspect(connection).has_table("alembic_version"):
        return None
    found: str | None = connection.scalar(text("SELECT version_num FROM alembic_version"))
    return found


def _upgrade(connection: Connection, scripts: Path) -> None:
    from alembic import (
        command,
    )  # only here: it takes longer to import than all of the registry, for nothing at most starts
    from alembic.config import Config

    config = Config()
    config.set_main_option("script_location", str(scripts).replace("%", "%%"))
    config.attributes["connection"] = connection
    command.upgrade(config, "head")


@dataclass(frozen=True, slots=True)
class Rebuilt:
    """A table after a rebuild. `same`: it held exactly that before."""

    table: str
    rows: int
    same: bool


class Projected:
    """The registry's database as a fold of the log. `trusted`: by topic, whose signature its events have to carry."""

    def __init__(self, engine: Engine, trusted: Mapping[str, Verifier]) -> None:
        self._engine = engine
        self._trusted = trusted

    def positions(self) -> dict[Part, int]:
        """The next offset of each partition that has been read."""
        with reading(self._engine) as session:
            return _positions(session)

    def apply(self, records: Records, positions: Mapping[Part, int]) -> None:
        """Write what records say and how far they go, in one transaction; what was read before is passed over."""
        with unit_of_work(self._engine) as session:
            _take_turns(session.connection())
            self._apply(session, records, positions)

    def rebuild(self, records: Records, positions: Mapping[Part, int]) -> Sequence[Rebuilt]:
        """Make the database again from the whole log, in one transaction: nobody sees it half. Says what differs."""
        with unit_of_work(self._engine) as session:
            _take_turns(session.connection())
            before = _contents(session)
            for table in reversed(tables.Base.metadata.sorted_tables):
                session.execute(table.delete())
            session.expire_all()
            self._apply(session, records, positions)
            session.flush()
            after = _contents(session)
        return [Rebuilt(name, len(rows), rows == before[name]) for name, rows in after.items()]

    def _apply(self, session: Session, records: Records, positions: Mapping[Part, int]) -> None:
        before = _positions(session)
        for part, read in records.items():
            for record in read:
                if record.offset >= before.get(part, 0):
                    self._write(session, record)
        for part, offset in positions.items():
            if offset > before.get(part, 0):
                session.merge(tables.Position(topic=part.topic, partition=part.partition, next_offset=offset))

    def _write(self, session: Session, record: Read) -> None:
        if record.value is None:
            if record.topic == topics.LOOP_DECLARED and record.key is not None:
                end_loop(session, record.key.decode("utf-8", "replace"))
            return
        (found, _) = as_written(record.topic, [record])
        for one in found:  # none: written by hand and not by us; the stage counts them
            if one.event is not None and self._is_trusted(record.topic, record.value):
                project(session, one.event)

    def _is_trusted(self, topic: str, value: bytes) -> bool:
        try:
            if topic in self._trusted:
                self._trusted[topic].check(json.loads(value))
        except BadSignatureError:
            return False
        return True


def _take_turns(connection: Connection) -> None:
    """Wait for other replicas' transactions. (SQLite's transactions begin as writers: they do so anyway.)"""
    if connection.dialect.name == "postgresql":
        connection.execute(select(func.pg_advisory_xact_lock(LOCK)))


def _contents(session: Session) -> dict[str, list[str]]:
    """Every table's rows as sorted text, positions left out (the log may have grown since)."""
    found = [table for table in tables.Base.metadata.sorted_tables if table.name != tables.Position.__tablename__]
    return {table.name: sorted(repr(tuple(row)) for row in session.execute(select(table))) for table in found}


def _positions(session: Session) -> dict[Part, int]:
    rows = session.scalars(select(tables.Position))
    return {Part(row.topic, row.partition): row.next_offset for row in rows}
