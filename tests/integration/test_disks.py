"""Disks that are full or read-only, and databases and buckets that go away: what was promised stands, and goes on."""

import asyncio
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

import pytest
from fastapi import FastAPI
from fastapi.testclient import TestClient
from trimtab.contracts import control, topics
from trimtab.contracts.control import RetrainCause, RetrainRequested
from trimtab.predictor.adapters.answers import Spools
from trimtab.predictor.adapters.spool import Spool
from trimtab.predictor.errors import NotLoggedError
from trimtab.registry.adapters.database import Projected, migrate
from trimtab.registry.adapters.desk import Desk
from trimtab.registry.adapters.queries import Queries
from trimtab.registry.api import Deps, create_router
from trimtab.runtime.bus import Part
from trimtab.runtime.edge import Placed
from trimtab.runtime.errors import EdgeBusyError
from trimtab.runtime.memory import MemoryBus
from trimtab.runtime.records import Out, Record
from trimtab.store.blobs import BlobStore, MemoryBlobs, digest_of
from trimtab.store.sql import create_sql_engine
from trimtab.testing.bucket import State, bucket
from trimtab.testing.declarations import declared, offers
from trimtab.testing.disks import NoDiskError, SmallDisk, small_disk
from trimtab.testing.history import write_history
from trimtab.testing.postgres import programs, running_postgres
from trimtab.trainer.adapters.child import answered
from trimtab.trainer.adapters.orders import Order
from trimtab.trainer.adapters.work import Workshop

DAY_MS = 86_400_000
LOOP = offers()
REQUESTS = Part(topics.RETRAIN_REQUESTED, 0)


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[SmallDisk]:
    try:
        with small_disk(tmp_path / "disk", 8_000_000) as made:
            yield made
    except NoDiskError as error:
        pytest.skip(str(error))


def request(number: int) -> Record:
    """The `number`th request to retrain, with enough text that a database grows by it."""
    cause = RetrainCause(kind="person", signals=[], note="x" * 20_000)
    event = RetrainRequested(loop="offers", at_ms=number, request_id=f"r{number}", cause=cause, loop_version=1)
    return Record(REQUESTS.topic, 0, number, b"offers", control.encode(event))


class Database:
    """The registry's, fed request by request."""

    def __init__(self, url: str) -> None:
        self.engine = create_sql_engine(url)
        migrate(self.engine)
        self.projected = Projected(self.engine, {})
        self._desk = Desk(MemoryBus(), Queries(self.engine), self.projected, patience_s=1)

    async def take(self, number: int) -> None:
        await self._desk.apply({REQUESTS: [request(number)]}, {REQUESTS: number + 1})

    def holds(self, count: int) -> None:
        """Every request of the log, and none besides."""
        log = [request(number) for number in range(count)]
        assert self.projected.positions() == {REQUESTS: count}
        assert all(one.same for one in self.projected.rebuild({REQUESTS: log}, {REQUESTS: count}))
        self.engine.dispose()


async def test_a_full_disk_under_the_registry_only_keeps_its_database_waiting(disk: SmallDisk) -> None:
    database = Database(f"sqlite:///{disk.folder}/registry.db")
    for number in range(20):
        await database.take(number)
    disk.fill()
    waiting = asyncio.create_task(feed(database, range(20, 80)))
    await asyncio.sleep(2.5)
    assert not waiting.done()
    assert 20 <= database.projected.positions()[REQUESTS] < 80
    disk.empty()
    async with asyncio.timeout(20):
        await waiting
    database.holds(80)


async def feed(database: Database, numbers: Iterable[int]) -> None:
    for number in numbers:
        await database.take(number)


@pytest.mark.timeout(120)
async def test_postgresql_is_restarted_under_load_and_nothing_is_lost_or_doubled() -> None:
    found = programs()
    if found is None:
        pytest.skip("no PostgreSQL is installed here")
    with running_postgres(found) as server:
        database = Database(f"{server.url}/postgres")
        feeding = asyncio.create_task(feed(database, range(600)))
        for mode in ("fast", "immediate"):
            await asyncio.sleep(0.3)
            await asyncio.to_thread(server.restart, mode)
        async with asyncio.timeout(60):
            await feeding
        database.holds(600)


async def test_a_registry_whose_database_is_away_says_so(tmp_path: Path) -> None:
    database = Database(f"sqlite:///{tmp_path}/registry.db")
    database.engine.dispose()
    (tmp_path / "registry.db").unlink()
    (tmp_path / "registry.db").mkdir()
    queries = Queries(database.engine)
    desk = Desk(MemoryBus(), queries, database.projected, patience_s=1)
    app = FastAPI()
    app.include_router(create_router(Deps(queries, queries, desk, MemoryBlobs(), lambda: 0, lambda: "made")))
    answer = TestClient(app).get("/v1/loops")
    assert (answer.status_code, answer.headers["Retry-After"]) == (503, "1")
    assert "the database cannot be used now" in answer.json()["detail"]


ORDER = Order(declared(LOOP).model_dump(by_alias=True, mode="json"), "r1", "first", 60 * DAY_MS, None, None)


async def workshop(store: BlobStore, folder: Path) -> Workshop:
    """A trainer's, with a history to learn from."""
    bus = MemoryBus()
    for topic in (topics.predictions(LOOP.name), topics.outcomes(LOOP.name)):
        bus.create(topic, LOOP.partitions)
    await write_history(bus.send, LOOP, range(1_500), of=1_500)
    return Workshop(bus, store, folder / "columns", "cluster", "1.0", "0" * 64)


async def test_an_object_store_that_takes_nothing_fails_the_training_and_not_the_next(
    disk: SmallDisk, tmp_path: Path
) -> None:
    store = BlobStore(disk.folder.as_uri())
    shop = await workshop(store, tmp_path)
    disk.fill()
    full = await answered(shop, ORDER, lambda: 0)
    disk.empty()
    disk.make_read_only()
    read_only = await answered(shop, ORDER, lambda: 0)
    disk.make_read_only(False)
    assert (full["failed"], read_only["failed"]) == ("store", "store")
    assert "has no room" in full["error"]
    assert "write permission" in read_only["error"]
    assert not list(disk.folder.iterdir())
    made = (await answered(shop, ORDER, lambda: 0))["trained"]
    assert store.has(made["model"]["digest"])


@pytest.mark.parametrize("state", ["unavailable", "silent", "cut", "answer lost"])
async def test_a_bucket_that_is_away_fails_the_training_and_not_the_next(
    state: State, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with bucket(monkeypatch.setenv) as made:
        store = BlobStore("s3://bucket/models", retries=1)
        shop = await workshop(store, tmp_path)
        made.state = state
        failed = await answered(shop, ORDER, lambda: 0)
        assert (failed["failed"], "cannot be used" in failed["error"]) == ("store", True)
        made.state = "serving"
        model = (await answered(shop, ORDER, lambda: 0))["trained"]["model"]["digest"]
        assert digest_of(store.get(model)) == model


class KafkaAway:
    """An edge without a log."""

    async def send(self, outs: Sequence[Out]) -> Sequence[Placed]:
        raise EdgeBusyError(len(outs))


async def test_a_full_disk_under_the_spool_refuses_and_keeps_what_it_has(disk: SmallDisk) -> None:
    said = [Out("offers.answered", b"o%d" % n, bytes(10_000)) for n in range(20)]
    async with Spools(disk.folder / "spool", KafkaAway(), 1_000_000_000) as spools:
        answers = spools.open("offers", "1")
        await answers.write(said[:5])
        disk.fill()
        with pytest.raises(NotLoggedError, match="No space left"):
            await answers.write(said[5:])
        disk.empty()
        await answers.write(said[5:])
    spool = Spool(disk.folder / "spool" / "offers.1")
    assert (spool.read(0, 100)[0], spool.cut) == (said, 0)
    spool.close()
