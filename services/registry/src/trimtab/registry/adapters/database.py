"""The projection's adapter: records of the log in, rows out, positions in the same transaction."""

import json
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from importlib.resources import as_file, files

from alembic import command
from alembic.config import Config
from sqlalchemy import Connection, Engine, func, select
from sqlalchemy.orm import Session

from trimtab.contracts import control, topics
from trimtab.contracts.errors import BadControlEventError
from trimtab.registry.adapters import tables
from trimtab.registry.adapters.projecting import end_loop, project
from trimtab.runtime.bus import Part
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
LOCK = 0x7472_696D
"""Key of the advisory lock by which replicas that share a PostgreSQL take turns."""


def migrate(engine: Engine) -> None:
    """Bring the database's tables to this version's. Replicas that start together take turns."""
    with ExitStack() as stack:
        scripts = stack.enter_context(as_file(files("trimtab.registry") / "migrations"))
        connection = stack.enter_context(engine.begin())
        _take_turns(connection)
        config = Config()
        config.set_main_option("script_location", str(scripts).replace("%", "%%"))
        config.attributes["connection"] = connection
        command.upgrade(config, "head")


class Projected:
    """The registry's database as a fold of the log. `trusted`: by topic, whose signature its events have to carry."""

    def __init__(self, engine: Engine, trusted: Mapping[str, Verifier]) -> None:
        self._engine = engine
        self._trusted = trusted

    def positions(self) -> dict[Part, int]:
        """The next offset of each partition that has been read."""
        with reading(self._engine) as session:
            return _positions(session)

    def apply(self, records: Mapping[Part, Sequence[Read]], positions: Mapping[Part, int]) -> None:
        """Write what records say and how far they go, in one transaction; what was read before is passed over."""
        with unit_of_work(self._engine) as session:
            _take_turns(session.connection())
            before = _positions(session)
            for part, read in records.items():
                for record in read:
                    if record.offset >= before.get(part, 0):
                        self._write(session, record)
            for part, offset in positions.items():
                if offset > before.get(part, 0):
                    session.merge(tables.Position(topic=part.topic, partition=part.partition, next_offset=offset))

    def clear(self) -> None:
        """Empty all tables, positions too, in one transaction."""
        with unit_of_work(self._engine) as session:
            for table in reversed(tables.Base.metadata.sorted_tables):
                session.execute(table.delete())

    def _write(self, session: Session, record: Read) -> None:
        if record.value is None:
            if record.topic == topics.LOOP_DECLARED and record.key is not None:
                end_loop(session, record.key.decode("utf-8", "replace"))
            return
        try:
            event = control.decode(record.topic, record.value)
            if record.topic in self._trusted:
                self._trusted[record.topic].check(json.loads(record.value))
        except (BadControlEventError, BadSignatureError):
            return  # written by hand and not by us; the stage counts them
        project(session, event)


def _take_turns(connection: Connection) -> None:
    """Wait for other replicas' transactions. (SQLite's transactions begin as writers: they do so anyway.)"""
    if connection.dialect.name == "postgresql":
        connection.execute(select(func.pg_advisory_xact_lock(LOCK)))


def _positions(session: Session) -> dict[Part, int]:
    rows = session.scalars(select(tables.Position))
    return {Part(row.topic, row.partition): row.next_offset for row in rows}
