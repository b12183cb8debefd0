"""The unit of work on SQLite; services test it on PostgreSQL with their own tables."""

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from sqlalchemy import Engine, text
from sqlalchemy.exc import IntegrityError
from trimtab.store.errors import BadDatabaseUrlError
from trimtab.store.sql import create_sql_engine, reading, unit_of_work


@pytest.fixture
def engine(tmp_path: Path) -> Engine:
    engine = create_sql_engine(f"sqlite:///{tmp_path}/made/on/demand.db")
    with unit_of_work(engine) as session:
        session.execute(text("CREATE TABLE parent (id INTEGER PRIMARY KEY)"))
        session.execute(text("CREATE TABLE child (parent INTEGER NOT NULL REFERENCES parent (id))"))
    return engine


def rows(engine: Engine, table: str) -> int:
    with unit_of_work(engine) as session:
        return int(session.execute(text(f"SELECT count(*) FROM {table}")).scalar_one())  # noqa: S608  # a constant


def test_all_or_nothing(engine: Engine) -> None:
    def fail_half_way() -> None:
        with unit_of_work(engine) as session:
            session.execute(text("INSERT INTO parent VALUES (1)"))
            raise RuntimeError("half-way")

    with pytest.raises(RuntimeError):
        fail_half_way()
    assert rows(engine, "parent") == 0


def test_tables_are_made_in_the_transaction_too(engine: Engine) -> None:
    def fail_half_way() -> None:
        with unit_of_work(engine) as session:
            session.execute(text("CREATE TABLE other (id INTEGER)"))
            raise RuntimeError("half-way")

    for _ in range(2):  # the second would say that the table exists
        with pytest.raises(RuntimeError):
            fail_half_way()


def test_foreign_keys_are_enforced(engine: Engine) -> None:
    with pytest.raises(IntegrityError), unit_of_work(engine) as session:
        session.execute(text("INSERT INTO child VALUES (7)"))


def test_writers_queue_instead_of_failing(engine: Engine) -> None:
    def add(number: int) -> None:
        with unit_of_work(engine) as session:
            top = session.execute(text("SELECT coalesce(max(id), 0) FROM parent")).scalar_one()
            session.execute(text("INSERT INTO parent VALUES (:id)"), {"id": int(top) + 1})

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(add, range(40)))
    assert rows(engine, "parent") == 40


def test_readers_do_not_wait_for_a_writer(engine: Engine) -> None:
    with unit_of_work(engine) as writer:
        writer.execute(text("INSERT INTO parent VALUES (1)"))
        with reading(engine) as reader:
            assert reader.execute(text("SELECT count(*) FROM parent")).scalar_one() == 0
    with reading(engine) as reader:
        assert reader.execute(text("SELECT count(*) FROM parent")).scalar_one() == 1


@pytest.mark.parametrize("url", ["", "nonsense", "sqlite://", "sqlite:///:memory:", "mysql://host/db"])
def test_a_url_that_names_no_usable_database(url: str) -> None:
    with pytest.raises(BadDatabaseUrlError, match="postgresql\\+psycopg"):
        create_sql_engine(url)


def test_postgresql_gets_the_driver_that_is_installed() -> None:
    assert create_sql_engine("postgresql://user@host/name").url.drivername == "postgresql+psycopg"
