"""Topics are created with what the contract says, once, and known by their id."""

from collections.abc import Mapping
from dataclasses import dataclass, field

import pytest
from trimtab.cli.topics import OtherPartitionsError, UnreachableError, topic_admin
from trimtab.runtime.kafka.connection import Connection

pytestmark = pytest.mark.kafka


@dataclass(frozen=True)
class Spec:
    name: str
    partitions: int = 2
    config: Mapping[str, str] = field(default_factory=lambda: {"retention.ms": "-1"})


async def test_topics_are_created_once_and_keep_their_id(broker: Connection) -> None:
    specs = [Spec("ensure.a"), Spec("ensure.b", 3)]
    async with topic_admin(broker) as admin:
        first = await admin.ensure(specs)
        again = await admin.ensure(specs)
        assert first == again
        assert {(topic.name, topic.partitions) for topic in first} == {("ensure.a", 2), ("ensure.b", 3)}
        assert len({topic.id for topic in first}) == 2
        assert {topic.name for topic in await admin.show()} >= {"ensure.a", "ensure.b"}


async def test_another_number_of_partitions_is_refused_before_anything_is_created(broker: Connection) -> None:
    async with topic_admin(broker) as admin:
        await admin.ensure([Spec("fixed")])
        with pytest.raises(OtherPartitionsError, match="has 2 partitions, not 4"):
            await admin.ensure([Spec("fixed.new"), Spec("fixed", 4)])
        assert await admin.show(["fixed.new"]) == []


async def test_a_topic_made_again_has_another_id(broker: Connection) -> None:
    async with topic_admin(broker) as admin:
        [before] = await admin.ensure([Spec("again")])
        await admin.delete(["again", "never.there"])
        [after] = await admin.ensure([Spec("again")])
        assert before.id != after.id


async def test_no_kafka_says_so() -> None:
    with pytest.raises(UnreachableError, match=r"no Kafka answers at 127.0.0.1:1"):
        async with topic_admin(Connection("127.0.0.1:1")):
            pass
