"""A broker that is killed cuts its connections at any moment, also while a client is about to write."""

import asyncio
from collections.abc import Iterator

import aiokafka.conn
import pytest
import uvloop
from aiokafka.client import AIOKafkaClient
from trimtab.runtime.kafka.broken import expect_cuts
from trimtab.runtime.kafka.connection import Connection

pytestmark = pytest.mark.kafka
PATIENCE_S = 10.0


@pytest.fixture
def on_uvloop(monkeypatch: pytest.MonkeyPatch) -> Iterator[asyncio.Runner]:
    """As services run; what they change in aiokafka is put back."""
    monkeypatch.setattr(aiokafka.conn, "AIOKafkaConnection", aiokafka.conn.AIOKafkaConnection)
    expect_cuts()
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        yield runner


def test_metadata_are_still_to_be_had_after_a_connection_was_cut(on_uvloop: asyncio.Runner, kafka: str) -> None:
    on_uvloop.run(metadata_after_a_cut(kafka))


async def metadata_after_a_cut(bootstrap: str) -> None:
    client = AIOKafkaClient(**Connection(bootstrap).arguments("cut"))
    await client.bootstrap()
    try:
        node = client.get_random_node()
        assert await client.ready(node)
        [connection] = client._conns.values()
        connection._read_task.cancel()  # it would see the cut first, if it were its turn
        await asyncio.wait([connection._read_task])
        connection._reader.feed_eof = lambda: None  # a reset is no end of the stream
        connection._writer.transport.abort()
        await asyncio.sleep(0.1)
        async with asyncio.timeout(PATIENCE_S):
            await client.force_metadata_update()
            assert await client.force_metadata_update()
    finally:
        await client.close()
