"""Facts about topics and groups, asked of the brokers."""

import asyncio
import base64
from collections import defaultdict
from collections.abc import Awaitable, Callable, Collection, Mapping
from dataclasses import dataclass
from typing import Any, TypeVar

import aiokafka.errors as kafka_errors
from aiokafka.client import AIOKafkaClient, ConnectionGroup, CoordinationType
from aiokafka.protocol.commit import OffsetFetchRequest
from aiokafka.protocol.offset import OffsetRequest

from trimtab.runtime.bus import Part, TopicInfo
from trimtab.runtime.errors import BusSilentError, TopicMissingError
from trimtab.runtime.kafka.connection import REQUEST_TIMEOUT_MS, Connection
from trimtab.runtime.kafka.wire import TopicIdsRequest

T = TypeVar("T")
_EARLIEST, _LATEST = -2, -1
_UNCOMMITTED, _COMMITTED = 0, 1
_UNKNOWN_TOPIC = 3
_PAUSE_S = 0.1


@dataclass(frozen=True, slots=True)
class _Topic:
    info: TopicInfo
    leaders: Mapping[int, int]


class KafkaCatalog:
    """Asks over a connection of its own. Errors that pass by are waited out for as long as a request may take."""

    def __init__(self, connection: Connection) -> None:
        self._client = AIOKafkaClient(**connection.arguments("trimtab-catalog"))

    async def start(self) -> None:
        """Connect. Raises aiokafka's KafkaConnectionError."""
        await self._client.bootstrap()

    async def close(self) -> None:
        """Disconnect."""
        await self._client.close()

    async def cluster_id(self) -> str:
        """The cluster's own id."""
        return str((await self._ask(TopicIdsRequest([]))).cluster_id)

    async def describe(self, topics: Collection[str]) -> Mapping[str, TopicInfo]:
        """Identity and size of topics; those that do not exist are left out."""
        found = await patiently("describe topics", lambda: self._topics(topics))
        return {name: topic.info for name, topic in found.items()}

    async def bounds(self, parts: Collection[Part]) -> Mapping[Part, tuple[int, int]]:
        """First and next offset of each partition, uncommitted records included. Raises TopicMissingError."""
        return await patiently("list offsets", lambda: self._bounds(parts, _UNCOMMITTED))

    async def stable(self, parts: Collection[Part]) -> Mapping[Part, tuple[int, int]]:
        """The same for who reads committed records, to the first open transaction. Raises TopicMissingError."""
        return await patiently("list offsets", lambda: self._bounds(parts, _COMMITTED))

    async def committed(self, group: str, parts: Collection[Part]) -> Mapping[Part, int]:
        """The group's committed offsets, where there are any."""
        return await patiently("fetch offsets", lambda: self._committed(group, parts))

    async def _ask(self, request: TopicIdsRequest) -> Any:
        node = self._client.get_random_node()
        if node is None:
            await self._client.force_metadata_update()
            raise kafka_errors.NodeNotReadyError("no broker is known yet")
        return await self._client.send(node, request)

    async def _topics(self, topics: Collection[str]) -> dict[str, _Topic]:
        if not topics:
            return {}
        found: dict[str, _Topic] = {}
        for error, name, topic_id, _, partitions, *_ in (await self._ask(TopicIdsRequest(list(topics)))).topics:
            if error == _UNKNOWN_TOPIC:
                continue
            if error:
                raise kafka_errors.for_code(error)(name)
            leaders = {partition: leader for _, partition, leader, *_ in partitions}
            text = base64.urlsafe_b64encode(topic_id).decode().rstrip("=")
            found[name] = _Topic(TopicInfo(text, len(leaders)), leaders)
        return found

    async def _bounds(self, parts: Collection[Part], isolation: int) -> dict[Part, tuple[int, int]]:
        topics = await self._topics({part.topic for part in parts})
        by_leader: dict[int, list[Part]] = defaultdict(list)
        for part in parts:
            if part.topic not in topics:
                raise TopicMissingError(part.topic)
            by_leader[topics[part.topic].leaders.get(part.partition, -1)].append(part)
        first, last = await asyncio.gather(
            self._ends(by_leader, _EARLIEST, isolation), self._ends(by_leader, _LATEST, isolation)
        )
        return {part: (first[part], last[part]) for part in parts}

    async def _ends(self, by_leader: Mapping[int, Collection[Part]], which: int, isolation: int) -> dict[Part, int]:
        asked = [self._offsets(leader, led, which, isolation) for leader, led in by_leader.items()]
        return {part: offset for answer in await asyncio.gather(*asked) for part, offset in answer.items()}

    async def _offsets(self, leader: int, parts: Collection[Part], which: int, isolation: int) -> dict[Part, int]:
        if leader < 0:
            raise kafka_errors.LeaderNotAvailableError(str(list(parts)))
        by_topic: dict[str, list[tuple[int, int]]] = defaultdict(list)
        for part in parts:
            by_topic[part.topic].append((part.partition, which))
        response = await self._client.send(leader, OffsetRequest(-1, isolation, list(by_topic.items())))
        found: dict[Part, int] = {}
        for topic, partitions in response.topics:
            for partition, error, _, offset, *_ in partitions:
                if error:
                    raise kafka_errors.for_code(error)(f"{topic}[{partition}]")
                found[Part(topic, partition)] = offset
        return found

    async def _committed(self, group: str, parts: Collection[Part]) -> dict[Part, int]:
        by_topic: dict[str, list[int]] = defaultdict(list)
        for part in parts:
            by_topic[part.topic].append(part.partition)
        node = await self._client.coordinator_lookup(CoordinationType.GROUP, group)
        request = OffsetFetchRequest(group, list(by_topic.items()))
        response = await self._client.send(node, request, group=ConnectionGroup.COORDINATION)
        found: dict[Part, int] = {}
        for topic, partitions in response.topics:
            for partition, offset, _, error in partitions:
                if error not in (0, _UNKNOWN_TOPIC):
                    raise kafka_errors.for_code(error)(f"{topic}[{partition}]")
                if offset >= 0 and not error:
                    found[Part(topic, partition)] = offset
        return found


async def patiently(request: str, ask: Callable[[], Awaitable[T]]) -> T:
    """Ask again while the broker says that it cannot answer yet. Raises BusSilentError."""
    timeout_s = REQUEST_TIMEOUT_MS / 1000
    try:
        async with asyncio.timeout(timeout_s):
            while True:
                try:
                    return await ask()
                except kafka_errors.KafkaError as error:
                    if not (error.retriable or isinstance(error, kafka_errors.KafkaConnectionError)):
                        raise
                await asyncio.sleep(_PAUSE_S)
    except TimeoutError as error:
        raise BusSilentError(request, timeout_s) from error
