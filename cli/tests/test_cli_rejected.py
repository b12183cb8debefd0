"""`trimtab rejected`: what is shown of a quarantine, and what is sent in again."""

import asyncio
import io
import json
from hashlib import sha256
from uuid import uuid4

import pytest
import typer
from rich.console import Console
from trimtab.cli.log import follower
from trimtab.cli.rejected import Choice, Passed, again, newest, plain, rejected, show, unsettled
from trimtab.cli.topics import topic_admin
from trimtab.contracts import data, envelope, topics
from trimtab.contracts.codec import AvroCodec, Reader, fingerprint
from trimtab.runtime.kafka.connection import Connection
from trimtab.runtime.kafka.edge import IdempotentProducer
from trimtab.runtime.records import Out
from trimtab.store.blobs import BlobStore, MemoryBlobs
from typer.testing import CliRunner

ORDER = {"type": "record", "name": "order", "fields": [{"name": "amount", "type": "double"}]}
WALL_MS = 1_717_200_000_000


def one(
    event: str = "order",
    rule: str = "schema",
    original: bytes | None = b'{"amount": "x"}',
    *,
    wall_ms: int = WALL_MS,
    blob: str | None = None,
) -> data.Rejected:
    return data.Rejected(
        event=event,
        rule=rule,
        reason='amount: expected number, got "x"',
        id="o1",
        source_topic=f"shop.source.{event}",
        source_partition=1,
        source_offset=7,
        original=original,
        blob=blob,
        wall_ms=wall_ms,
        event_time_ms=None,
    )


def shown(found: list[data.Rejected], limit: int = 20) -> str:
    console = Console(file=io.StringIO(), width=200)
    show(found, limit, console, Reader({fingerprint(ORDER): ORDER}))
    assert isinstance(console.file, io.StringIO)
    return console.file.getvalue()


def test_sums_come_first_and_then_the_newest() -> None:
    text = shown([one(), one(), one("refund", "conflict", b"[bold] is no markup")], limit=1)
    assert [line.split() for line in text.splitlines()[1:3]] == [["order", "schema", "2"], ["refund", "conflict", "1"]]
    assert "[bold] is no markup" in text
    assert '{"amount": "x"}' not in text
    assert "shop.source.refund 1@7" in text


def test_what_is_no_text_is_described() -> None:
    assert "Avro, 4 bytes" in shown([one(original=b"\xc3\x01ab")])
    assert '{"amount": 2.5}' in shown([one(original=AvroCodec(ORDER).encode({"amount": 2.5}))])
    assert "blob 0123" in shown([one(original=None, blob="0123")])


def test_an_empty_quarantine() -> None:
    assert shown([]) == "nothing is in quarantine\n"


def test_a_choice() -> None:
    some = [one(), one("refund"), one(rule="conflict"), one(wall_ms=WALL_MS + 1)]
    assert [Choice("order", "schema", WALL_MS + 1).covers(each) for each in some] == [False, False, False, True]
    assert all(Choice(None, None, None).covers(each) for each in some)


def test_originals_go_back_to_their_source() -> None:
    blobs = MemoryBlobs()
    large = one("refund", original=None, blob=blobs.put(b"large"))
    assert again("shop", [one(), large], blobs) == [
        Out("shop.source.order", b"o1", b'{"amount": "x"}'),
        Out("shop.source.refund", b"o1", b"large"),
    ]


def test_a_body_that_was_rejected_again_counts_once() -> None:
    first, other, second = one(wall_ms=1), one(original=b"{}", wall_ms=2), one(rule="quality", wall_ms=3)
    elsewhere = one("refund", wall_ms=4)
    assert newest([first, other, second, elsewhere]) == [other, second, elsewhere]
    kept = [one(original=None, blob="0123", wall_ms=at_ms) for at_ms in (1, 2)]
    assert newest(kept) == kept[1:]


def test_what_is_accepted_later_settles_what_its_contract_refused() -> None:
    assert [Passed(WALL_MS + later, "").settles(one()) for later in (-1, 0, 1)] == [False, False, True]


def test_a_conflict_is_settled_by_its_own_body_alone() -> None:
    conflict = one(rule="conflict", original=b"other")
    assert not Passed(WALL_MS + 1, sha256(b"first").hexdigest()).settles(conflict)
    assert Passed(WALL_MS + 1, sha256(b"other").hexdigest()).settles(conflict)
    assert Passed(WALL_MS + 1, "0123").settles(one(rule="conflict", original=None, blob="0123"))


def test_what_was_accepted_under_another_name_settles_nothing() -> None:
    found = [one(), one("refund")]
    assert unsettled(found, {}) == found
    assert unsettled(
        found, {("refund", "o1"): [Passed(WALL_MS + 1, "")], ("order", "o2"): [Passed(WALL_MS + 1, "")]}
    ) == [one()]


def test_for_scripts() -> None:
    found = plain(one(), Reader({}))
    assert found["original"] == '{"amount": "x"}'
    assert found["at_wall"] == "2024-06-01T00:00:00.000Z"
    assert plain(one(original=b"\xff"), Reader({}))["original_hex"] == "ff"
    assert json.dumps(found)


@pytest.mark.kafka
def test_the_command_on_a_real_log(broker: Connection, tmp_path: object, monkeypatch: pytest.MonkeyPatch) -> None:
    loop = f"q{uuid4().hex[:8]}"
    store = f"file://{tmp_path}/blobs"
    blob = BlobStore(store).put(b"large")
    asyncio.run(fill(broker, loop, [one(), one("refund", "conflict", None, blob=blob)]))
    monkeypatch.setenv("TRIMTAB_KAFKA__BOOTSTRAP_SERVERS", broker.bootstrap_servers)
    monkeypatch.setenv("TRIMTAB_STORE__URL", store)
    lines = run(loop, "--json").splitlines()
    assert [json.loads(line)["rule"] for line in lines] == ["schema", "conflict"]
    assert "refund  conflict  1" in run(loop, "--rule", "conflict")
    assert "sent 2 events" in run(loop, "--redrive", "--yes")
    assert asyncio.run(values(broker, topics.source(loop, "refund"))) == [b"large"]
    assert asyncio.run(values(broker, topics.source(loop, "order"))) == [b'{"amount": "x"}']
    asyncio.run(fill(broker, loop, [one("refund", "conflict", None, blob=blob, wall_ms=WALL_MS + 1)]))
    asyncio.run(accept(broker, loop, "order", "o1"))
    asyncio.run(accept(broker, loop, "refund", "o1"))
    assert [json.loads(line)["rule"] for line in run(loop, "--json").splitlines()] == ["conflict"]
    assert "2 more rejections are settled" in run(loop)
    assert "sent 1 events" in run(loop, "--redrive", "--yes")
    assert asyncio.run(values(broker, topics.source(loop, "refund"))) == [b"large", b"large"]
    assert len(run(loop, "--all", "--json").splitlines()) == 3


@pytest.mark.kafka
def test_a_loop_that_is_not_there(broker: Connection, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TRIMTAB_KAFKA__BOOTSTRAP_SERVERS", broker.bootstrap_servers)
    result = CliRunner().invoke(command(), ["nothing_like_it"])
    assert "no loop nothing_like_it is declared" in str(result.exception)


def command() -> typer.Typer:
    app = typer.Typer()
    app.command()(rejected)
    return app


def run(*arguments: str) -> str:
    result = CliRunner().invoke(command(), arguments, catch_exceptions=False)
    assert result.exit_code == 0, result.output
    return result.output


async def fill(broker: Connection, loop: str, some: list[data.Rejected]) -> None:
    async with topic_admin(broker) as admin:
        await admin.ensure(topics.of_loop(loop, ["order", "refund"], 2))
    headers = envelope.headers("1", "rejected", "test", 0)
    async with IdempotentProducer(broker) as producer:
        await producer.send([Out(topics.rejected(loop), b"k", data.encode(each), headers) for each in some])


async def accept(broker: Connection, loop: str, event: str, id_: str) -> None:
    headers = envelope.headers(id_, event, "ingest", WALL_MS)
    async with IdempotentProducer(broker) as producer:
        await producer.send([Out(topics.events(loop, event), b"k", b"accepted", headers)])


async def values(broker: Connection, topic: str) -> list[bytes | None]:
    async with follower(broker, [topic]) as log:
        return [record.value for record in await log.catch_up()]
