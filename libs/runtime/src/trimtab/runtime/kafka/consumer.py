"""A member of a stage's group, on aiokafka's consumer."""

import asyncio
from typing import Any

import aiokafka.errors as kafka_errors
import structlog
from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.protocol.group import LeaveGroupRequest

from trimtab.runtime.bus import Fetched, Membership, Part
from trimtab.runtime.errors import NotAssignedError
from trimtab.runtime.kafka.assignor import UnitAssignor
from trimtab.runtime.kafka.connection import Connection
from trimtab.runtime.kafka.fetched import Pace, slim

log = structlog.get_logger(__name__)

FETCH = {
    "isolation_level": "read_committed",
    "enable_auto_commit": False,
    "auto_offset_reset": "none",
    "max_partition_fetch_bytes": 1024 * 1024,
    "fetch_max_wait_ms": 500,
    "check_crcs": False,
}
"""A fetch returns as soon as anything came; what it costs while nothing does is its number of partitions. TCP checks
sums."""
FEW_PARTITIONS = 16
SHORT_WAIT_MS = 250
"""A fetch in flight holds back partitions that were resumed meanwhile: where there are few, it waits that long only."""


def _fetching(partitions: int) -> dict[str, object]:
    return FETCH if partitions > FEW_PARTITIONS else {**FETCH, "fetch_max_wait_ms": SHORT_WAIT_MS}


_REJOIN_S = 1.0
_STOP_S = 5.0


async def stop(consumer: Any) -> None:
    """Stop one of aiokafka's consumers in bounded time: it waits for a join under way, which may never end.

    One turn of the loop first: its stop cancels tasks and lets a cancellation through if one of them never ran.
    """
    await asyncio.sleep(0)
    try:
        async with asyncio.timeout(_STOP_S):
            await consumer.stop()
    except TimeoutError:
        log.warning("consumer cut off", seconds=_STOP_S)
        await consumer._client.close()


class KafkaConsumer:
    """Positions come from the tasks alone: after each assignment every partition is paused until it is sought."""

    def __init__(self, connection: Connection, membership: Membership, instance: str | None) -> None:
        self._membership = membership
        self._assignor = UnitAssignor(membership.group, membership.partitions, membership.topics)
        self._assignor.assigned = self._take
        self._consumer = AIOKafkaConsumer(
            group_id=membership.group,
            group_instance_id=instance,
            partition_assignment_strategy=(self._assignor,),
            session_timeout_ms=6_000,
            heartbeat_interval_ms=1_000,
            rebalance_timeout_ms=60_000,
            **_fetching(len(membership.topics) * membership.partitions),
            **connection.arguments(f"trimtab-{membership.group}"),
        )
        self._flowing: set[TopicPartition] = set()
        self._pace = Pace()

    async def start(self) -> None:
        """Join the group. Subscribed after start: a topic that does not exist yet must not block it."""
        try:
            await self._consumer.start()
        except BaseException:
            await stop(self._consumer)
            raise
        slim(self._consumer)
        self._pace.keep(self._consumer)
        self._consumer.subscribe(list(self._membership.topics))

    async def poll(self, timeout_s: float) -> Fetched:
        """What came in. Nothing yields between aiokafka's own check of its positions and the return.

        While the group rebalances, aiokafka waits for as long as that takes; who polls must be able to stop.
        """
        lost: dict[Part, int] = {}
        try:
            async with asyncio.timeout(timeout_s + _REJOIN_S):
                found = await self._consumer.getmany(timeout_ms=int(timeout_s * 1000))
        except TimeoutError:
            return Fetched({})
        except kafka_errors.OffsetOutOfRangeError as error:
            found, lost = {}, {Part(*part): offset for part, offset in error.args[0].items()}
        ended, ends = set[Part](), dict[Part, int]()
        for part in self._flowing:
            end, at = self._consumer.highwater(part), self._position(part)
            if end is not None and at is not None:
                ends[Part(*part)] = end
                ended |= {Part(*part)} if at >= end else set()
        return Fetched({Part(*part): records for part, records in found.items()}, ended, ends, lost)

    def seek(self, part: Part, offset: int) -> None:
        """Deliver from here on. Raises NotAssignedError."""
        where = TopicPartition(*part)
        if where not in self._consumer.assignment():
            raise NotAssignedError(part.topic, part.partition)
        self._consumer.seek(where, offset)
        self._consumer.resume(where)
        self._flowing.add(where)

    def pause(self, part: Part) -> None:
        """Deliver no more; nothing where the partition has gone to another member."""
        where = TopicPartition(*part)
        if where in self._consumer.assignment():
            self._consumer.pause(where)
        self._flowing.discard(where)

    def rest(self, seconds: float) -> None:
        """Fetch no sooner than so long after the last answer, from now on."""
        self._pace.rest_s = seconds

    async def close(self) -> None:
        """Leave the group at once, also as a static member: who stops on purpose must not be waited for."""
        coordinator = self._consumer._coordinator
        if coordinator is not None and coordinator.generation > 0:
            try:
                await coordinator._send_req(LeaveGroupRequest(coordinator.group_id, coordinator.member_id))
            except kafka_errors.KafkaError as error:
                log.warning("left without goodbye", group=self._membership.group, error=str(error))
        await stop(self._consumer)

    def _take(self, units: frozenset[int]) -> None:
        self._flowing.clear()
        for part in self._consumer.assignment():
            self._consumer.seek(part, 0)
            self._consumer.pause(part)
        self._membership.assigned(units)

    def _position(self, part: TopicPartition) -> int | None:
        assignment = self._consumer._subscription.subscription.assignment
        state = assignment.state_value(part) if assignment is not None else None
        return state.position if state is not None and state.has_valid_position else None
