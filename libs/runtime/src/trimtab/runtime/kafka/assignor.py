"""The group's way of sharing: partition p of all of a stage's inputs goes to one member, and stays there."""

# aiokafka has no types, so its classes are Any to mypy.
# mypy: disable-error-code="misc"

from collections.abc import Callable, Iterable, Mapping

import msgspec
from aiokafka.cluster import ClusterMetadata
from aiokafka.coordinator.assignors.abstract import AbstractPartitionAssignor
from aiokafka.coordinator.protocol import ConsumerProtocolMemberAssignment, ConsumerProtocolMemberMetadata

from trimtab.runtime.assignment import assign
from trimtab.runtime.errors import AssignmentOutdatedError

_VERSION = 0


class UnitAssignor(AbstractPartitionAssignor):
    """One object a consumer (aiokafka takes objects as well as classes).

    What a member owns travels as its user data. `assigned` is called within the join, directly after aiokafka has
    taken the assignment over and before it fetches anything for it: the only moment at which positions can be set
    without a gap.
    """

    name = "trimtab-unit"

    def __init__(self, group: str, partitions: int, topics: Iterable[str]) -> None:
        self._group, self._partitions, self._topics = group, partitions, frozenset(topics)
        self._owned: frozenset[int] = frozenset()
        self.assigned: Callable[[frozenset[int]], None] | None = None

    def assign(
        self, _cluster: ClusterMetadata, members: Mapping[str, ConsumerProtocolMemberMetadata]
    ) -> dict[str, ConsumerProtocolMemberAssignment]:
        """Share the units among the members; each gets them of the topics that it subscribed to itself."""
        owned = {member: _decode(metadata.user_data) for member, metadata in members.items()}
        shares = assign(self._partitions, owned)
        return {
            member: ConsumerProtocolMemberAssignment(
                _VERSION, [(topic, sorted(units)) for topic in sorted(members[member].subscription)], b""
            )
            for member, units in shares.items()
        }

    def metadata(self, topics: Iterable[str]) -> ConsumerProtocolMemberMetadata:
        """What this member reads and owns."""
        return ConsumerProtocolMemberMetadata(_VERSION, list(topics), msgspec.json.encode(sorted(self._owned)))

    def on_assignment(self, assignment: ConsumerProtocolMemberAssignment) -> None:
        """Raises AssignmentOutdatedError: a restarted static member is given what it had, also if it reads other
        topics now. Its consumer then fails, leaves the group and joins anew.
        """
        units = {part.partition for part in assignment.partitions()}
        if units and {part.topic for part in assignment.partitions()} != self._topics:
            raise AssignmentOutdatedError(self._group)
        self._owned = frozenset(units)
        if self.assigned is not None:
            self.assigned(self._owned)


def _decode(user_data: bytes | None) -> frozenset[int]:
    try:
        return frozenset(msgspec.json.decode(user_data or b"[]", type=list[int]))
    except msgspec.DecodeError:
        return frozenset()
