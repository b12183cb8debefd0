"""Topics of a cluster: create them, wait until every broker shows them, know them by their id."""

import asyncio
import base64
from collections.abc import AsyncIterator, Callable, Iterable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any, Protocol

from aiokafka.admin import NewTopic
from aiokafka.admin.config_resource import ConfigResource, ConfigResourceType
from aiokafka.errors import KafkaError, for_code

from trimtab.cli.admin import PatientAdmin
from trimtab.cli.errors import ClusterError
from trimtab.runtime.kafka.connection import Connection
from trimtab.runtime.kafka.wire import TopicIdsRequest

VISIBLE_S = 30.0
EXISTS = 36
UNKNOWN = 3


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


class TopicAdmin:
    """Creates, shows and deletes topics. Made by `topic_admin`."""

    def __init__(self, client: PatientAdmin) -> None:
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
        wanted = await self._client.list_topics() if names is None else names
        return _topics(await self._metadata(wanted))

    async def delete(self, names: Sequence[str]) -> None:
        """Delete topics with all that is in them; returns when no broker shows them. Others are passed over."""
        response = (await self._client.delete_topics(list(names))).to_object()
        for entry in response.get("topic_error_codes") or response["responses"]:
            name, code = (entry[0], entry[1]) if isinstance(entry, tuple) else (entry["topic"], entry["error_code"])
            if code not in (0, UNKNOWN):
                raise TopicRefusedError("delete", name, for_code(code).__name__)
        await self._until_gone(names)

    async def brokers(self) -> list[str]:
        """The ids of all brokers."""
        return [str(broker["node_id"]) for broker in (await self._metadata([]))["brokers"]]

    async def configs(self, kind: ConfigResourceType, names: Sequence[str]) -> dict[str, dict[str, str]]:
        """The settings of brokers or topics, defaults included; secret ones are left out."""
        if not names:
            return {}
        answers = await self._client.describe_configs([ConfigResource(kind, name) for name in names])
        found: dict[str, dict[str, str]] = {}
        for answer in answers:
            for _, _, _, name, entries in (tuple(resource)[:5] for resource in answer.resources):
                found[name] = {entry[0]: entry[1] for entry in entries if entry[1] is not None}
        return found

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
            brokers = [broker["node_id"] for broker in (await self._metadata([]))["brokers"]]
            answers = [await self._client.of(broker, TopicIdsRequest(list(names))) for broker in brokers]
            shown = [_topics(answer.to_object()) for answer in answers if answer is not None]
            remaining = {name for seen in shown for name in left(seen)}
            if brokers and len(shown) == len(brokers) and not remaining:
                return shown
            if asyncio.get_running_loop().time() > deadline:
                raise NotSettledError(remaining or names, VISIBLE_S)
            await asyncio.sleep(0.05)

    async def _metadata(self, names: Sequence[str]) -> dict[str, Any]:
        answer: dict[str, Any] = (await self._client._send_request(TopicIdsRequest(list(names)))).to_object()
        return answer


@asynccontextmanager
async def topic_admin(connection: Connection) -> AsyncIterator[TopicAdmin]:
    """An admin client for a `with`. Raises UnreachableError."""
    client = PatientAdmin(**connection.arguments("trimtab-cli"))
    try:
        await client.start()
    except KafkaError as error:
        await client.close()
        raise UnreachableError(connection.bootstrap_servers, str(error)) from error
    try:
        yield TopicAdmin(client)
    finally:
        await client.close()


def _topics(metadata: Mapping[str, Any]) -> list[Topic]:
    """Topics whose partitions all have a leader."""
    return [
        Topic(entry["topic"], _text(entry["topic_id"]), len(entry["partitions"]))
        for entry in metadata["topics"]
        if entry["error_code"] == 0
        and not entry["is_internal"]
        and entry["partitions"]
        and all(partition["leader"] >= 0 for partition in entry["partitions"])
    ]


def _text(topic_id: bytes) -> str:
    """A topic id as Kafka's own tools print it."""
    return base64.urlsafe_b64encode(topic_id).decode().rstrip("=")
