"""Topics of a cluster: create them, wait until every broker shows them, know them by their id.

aiokafka's own admin client asks for metadata in a version that has no topic ids yet; the request below is version 12
(https://kafka.apache.org/protocol#The_Messages_Metadata).
"""

import asyncio
import uuid
from collections.abc import AsyncIterator, Callable, Iterable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from io import BytesIO
from typing import Any, Protocol

from aiokafka.admin import AIOKafkaAdminClient, NewTopic
from aiokafka.errors import KafkaError, for_code
from aiokafka.protocol.abstract import AbstractType
from aiokafka.protocol.api import Request, RequestStruct, Response
from aiokafka.protocol.types import Boolean, CompactArray, CompactString, Int16, Int32, Schema, TaggedFields

from trimtab.cli.errors import ClusterError

VISIBLE_S = 30.0
EXISTS = 36
UNKNOWN = 3
NO_ID = uuid.UUID(int=0)


class TopicSpec(Protocol):
    """What a topic should be, as trimtab.contracts.topics says."""

    @property
    def name(self) -> str: ...
    @property
    def partitions(self) -> int: ...
    @property
    def config(self) -> Mapping[str, str]: ...


@dataclass(frozen=True, slots=True)
class Topic:
    """What a topic is."""

    name: str
    id: str
    partitions: int


class TopicRefusedError(ClusterError):
    """Kafka did not create or delete a topic."""

    def __init__(self, verb: str, topic: str, error: str) -> None:
        super().__init__(f"Kafka did not {verb} the topic {topic}: {error}")


class OtherPartitionsError(ClusterError):
    """A topic stands there with another number of partitions."""

    def __init__(self, topic: str, found: int, wanted: int) -> None:
        super().__init__(
            f"the topic {topic} has {found} partitions, not {wanted}: a loop's number of partitions is fixed. "
            f"End the old loop with `trimtab delete` (its topics too), or give the new one another name"
        )


class NotSettledError(ClusterError):
    """Topics were created or deleted, but some broker has not heard of it."""

    def __init__(self, topics: Iterable[str], seconds: float) -> None:
        super().__init__(f"after {seconds:.0f} s not every broker agrees about {', '.join(sorted(topics))}; try again")


class UnreachableError(ClusterError):
    """No Kafka at the address."""

    def __init__(self, bootstrap: str, reason: str) -> None:
        super().__init__(f"no Kafka answers at {bootstrap}: {reason}. Is it running? `trimtab up` starts one")


class Uuid(AbstractType[uuid.UUID]):  # type: ignore[misc]  # aiokafka has no types
    """16 bytes."""

    @classmethod
    def encode(cls, value: uuid.UUID) -> bytes:
        """As the protocol has it."""
        return value.bytes

    @classmethod
    def decode(cls, data: BytesIO) -> uuid.UUID:
        """From the protocol's form."""
        return uuid.UUID(bytes=data.read(16))


class MetadataResponseV12(Response):  # type: ignore[misc]  # aiokafka has no types
    """Brokers and topics, with topic ids."""

    API_KEY = 3
    API_VERSION = 12
    SCHEMA = Schema(
        ("throttle_time_ms", Int32),
        (
            "brokers",
            CompactArray(
                ("node_id", Int32),
                ("host", CompactString("utf-8")),
                ("port", Int32),
                ("rack", CompactString("utf-8")),
                ("tags", TaggedFields),
            ),
        ),
        ("cluster_id", CompactString("utf-8")),
        ("controller_id", Int32),
        (
            "topics",
            CompactArray(
                ("error_code", Int16),
                ("name", CompactString("utf-8")),
                ("topic_id", Uuid),
                ("is_internal", Boolean),
                (
                    "partitions",
                    CompactArray(
                        ("error_code", Int16),
                        ("partition", Int32),
                        ("leader", Int32),
                        ("leader_epoch", Int32),
                        ("replicas", CompactArray(Int32)),
                        ("isr", CompactArray(Int32)),
                        ("offline_replicas", CompactArray(Int32)),
                        ("tags", TaggedFields),
                    ),
                ),
                ("authorized_operations", Int32),
                ("tags", TaggedFields),
            ),
        ),
        ("tags", TaggedFields),
    )


class MetadataRequestV12(RequestStruct):  # type: ignore[misc]  # aiokafka has no types
    """For some topics by name, or for all (None)."""

    FLEXIBLE_VERSION = True
    API_KEY = 3
    API_VERSION = 12
    RESPONSE_TYPE = MetadataResponseV12
    SCHEMA = Schema(
        ("topics", CompactArray(("topic_id", Uuid), ("name", CompactString("utf-8")), ("tags", TaggedFields))),
        ("allow_auto_topic_creation", Boolean),
        ("include_topic_authorized_operations", Boolean),
        ("tags", TaggedFields),
    )


class TopicsRequest(Request[MetadataRequestV12]):  # type: ignore[misc]  # aiokafka has no types
    """Metadata of these topics; None: of all."""

    API_KEY = 3

    def __init__(self, names: Sequence[str] | None) -> None:
        self._names = names

    def build(self, request_struct_class: type[MetadataRequestV12]) -> MetadataRequestV12:
        """The request on the wire."""
        topics: list[tuple[uuid.UUID, str, dict[int, bytes]]] | None
        topics = None if self._names is None else [(NO_ID, name, {}) for name in self._names]
        return request_struct_class(topics, False, False, {})


class TopicAdmin:
    """Creates, shows and deletes topics. Made by `topic_admin`."""

    def __init__(self, client: AIOKafkaAdminClient) -> None:
        self._client = client

    async def ensure(self, specs: Sequence[TopicSpec], replication: int = -1) -> list[Topic]:
        """Create what is missing and wait until every broker shows all of them; the same again changes nothing.

        `replication` -1: what the brokers have as default. Raises OtherPartitionsError for a topic that stands there
        with another number of partitions, before anything is created.
        """
        names = [spec.name for spec in specs]
        existing = {topic.name: topic for topic in await self.show(names)}
        for spec in specs:
            found = existing.get(spec.name)
            if found is not None and found.partitions != spec.partitions:
                raise OtherPartitionsError(spec.name, found.partitions, spec.partitions)
        missing = [spec for spec in specs if spec.name not in existing]
        if missing:
            await self._create(missing, replication)
        return await self._until_visible(names)

    async def show(self, names: Sequence[str] | None = None) -> list[Topic]:
        """The topics that exist, of these names or of all; internal ones of Kafka left out."""
        return _topics(await self._metadata(names, None))

    async def delete(self, names: Sequence[str]) -> None:
        """Delete topics with all that is in them; returns when no broker shows them. Others are passed over."""
        response = (await self._client.delete_topics(list(names))).to_object()
        for entry in response.get("topic_error_codes") or response["responses"]:
            name, code = (entry[0], entry[1]) if isinstance(entry, tuple) else (entry["topic"], entry["error_code"])
            if code not in (0, UNKNOWN):
                raise TopicRefusedError("delete", name, for_code(code).__name__)
        await self._until_gone(names)

    async def _create(self, specs: Sequence[TopicSpec], replication: int) -> None:
        wanted = [NewTopic(spec.name, spec.partitions, replication, {}, dict(spec.config)) for spec in specs]
        response = (await self._client.create_topics(wanted)).to_object()
        for entry in response["topic_errors"]:
            code = entry["error_code"]
            if code not in (0, EXISTS):
                raise TopicRefusedError("create", entry["topic"], entry.get("error_message") or for_code(code).__name__)

    async def _until_visible(self, names: Sequence[str]) -> list[Topic]:
        """Wait until every broker shows all of these."""
        shown = await self._until(names, lambda seen: set(names) - {topic.name for topic in seen})
        return shown[0]

    async def _until_gone(self, names: Sequence[str]) -> None:
        """Wait until no broker shows any of these."""
        await self._until(names, lambda seen: {topic.name for topic in seen})

    async def _until(self, names: Sequence[str], left: Callable[[list[Topic]], set[str]]) -> list[list[Topic]]:
        deadline = asyncio.get_running_loop().time() + VISIBLE_S
        while True:
            brokers = [broker["node_id"] for broker in (await self._metadata([], None))["brokers"]]
            shown = [_topics(await self._metadata(names, broker)) for broker in brokers]
            remaining = {name for seen in shown for name in left(seen)}
            if brokers and not remaining:
                return shown
            if asyncio.get_running_loop().time() > deadline:
                raise NotSettledError(remaining, VISIBLE_S)
            await asyncio.sleep(0.05)

    async def _metadata(self, names: Sequence[str] | None, broker: int | None) -> dict[str, Any]:
        request = TopicsRequest(names)
        if broker is None:
            response = await self._client._send_request(request)
        else:
            response = await self._client._send_request_to_node(broker, request)
        answer: dict[str, Any] = response.to_object()
        return answer


@asynccontextmanager
async def topic_admin(bootstrap: str) -> AsyncIterator[TopicAdmin]:
    """An admin client for a `with`. Raises UnreachableError."""
    client = AIOKafkaAdminClient(bootstrap_servers=bootstrap, request_timeout_ms=15_000)
    try:
        await client.start()
    except KafkaError as error:
        await client.close()
        raise UnreachableError(bootstrap, str(error)) from error
    try:
        yield TopicAdmin(client)
    finally:
        await client.close()


def _topics(metadata: Mapping[str, Any]) -> list[Topic]:
    """Topics whose partitions all have a leader."""
    return [
        Topic(entry["name"], str(entry["topic_id"]), len(entry["partitions"]))
        for entry in metadata["topics"]
        if entry["error_code"] == 0
        and not entry["is_internal"]
        and entry["partitions"]
        and all(partition["leader"] >= 0 for partition in entry["partitions"])
    ]
