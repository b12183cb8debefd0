"""SQL: an engine that behaves alike on SQLite and PostgreSQL, and a unit of work."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from sqlite3 import Connection as SqliteConnection
from typing import Any

from sqlalchemy import Engine, create_engine, event, make_url
from sqlalchemy.exc import ArgumentError, DBAPIError, OperationalError
from sqlalchemy.orm import Session

from trimtab.store.errors import BadDatabaseUrlError, DatabaseAwayError

BUSY_MS = 60_000
"""How long a SQLite writer waits for another one."""
READING = "trimtab_reading"
"""Execution option of connections that only read."""


def create_sql_engine(url: str) -> Engine:
    """An engine for `sqlite:///file.db` or `postgresql+psycopg://…`.

    SQLite: the file's folder is made, WAL mode, foreign keys enforced, a transaction begins as a writer (BEGIN
    IMMEDIATE), so that two writers queue instead of failing half-way. PostgreSQL: connections are checked before
    use. Raises BadDatabaseUrlError.
    """
    try:
        parsed = make_url(url)
    except ArgumentError as error:
        raise BadDatabaseUrlError(url, str(error)) from error
    match parsed.get_backend_name():
        case "sqlite":
            return _sqlite(url, parsed.database)
        case "postgresql":
            return create_engine(parsed.set(drivername="postgresql+psycopg"), pool_pre_ping=True)
    raise BadDatabaseUrlError(url, f"{parsed.get_backend_name()} is not supported")


@contextmanager
def unit_of_work(engine: Engine) -> Iterator[Session]:
    """A session whose changes are all kept when the block ends, or none of them when it raises.

    Raises DatabaseAwayError.
    """
    with _away(), Session(engine, expire_on_commit=False) as session, session.begin():
        yield session


@contextmanager
def reading(engine: Engine) -> Iterator[Session]:
    """A session that only reads; on SQLite it does not wait for writers, nor they for it. Raises DatabaseAwayError."""
    with _away(), Session(engine.execution_options(**{READING: True})) as session:
        yield session


@contextmanager
def _away() -> Iterator[None]:
    try:
        yield
    except DBAPIError as error:
        if not (isinstance(error, OperationalError) or error.connection_invalidated):
            raise
        raise DatabaseAwayError(str(error.orig).strip()) from error


def _sqlite(url: str, database: str | None) -> Engine:
    if not database or database == ":memory:":
        raise BadDatabaseUrlError(url, "a database in memory is another one for every connection")
    Path(database).parent.mkdir(parents=True, exist_ok=True)
    engine = create_engine(url, connect_args={"timeout": BUSY_MS / 1000})
    event.listen(engine, "connect", _on_connect)
    event.listen(engine, "begin", _on_begin)
    return engine


def _on_connect(connection: SqliteConnection, _record: Any) -> None:
    # The driver's own implicit BEGIN comes too late for reads and DDL; SQLAlchemy's begin event takes its place.
    connection.isolation_level = None
    for pragma in ("journal_mode=WAL", "synchronous=NORMAL", "foreign_keys=ON"):
        connection.execute(f"PRAGMA {pragma}")


def _on_begin(connection: Any) -> None:
    only_reads = connection.get_execution_options().get(READING)
    connection.exec_driver_sql("BEGIN" if only_reads else "BEGIN IMMEDIATE")
