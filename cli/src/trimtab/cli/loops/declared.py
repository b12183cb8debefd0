"""What the log says of declared loops."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from trimtab.cli.log import follower
from trimtab.contracts import topics
from trimtab.contracts.control import LoopDeclared
from trimtab.runtime.control import as_written
from trimtab.runtime.kafka.connection import Connection
from trimtab.runtime.records import Read


@dataclass(frozen=True, slots=True)
class History:
    """A loop's declarations, the oldest first. `current` None: the loop has ended."""

    versions: Sequence[LoopDeclared]
    current: LoopDeclared | None

    @property
    def next_version(self) -> int:
        """The number of the next declaration; numbers are not used again when a loop has ended."""
        return self.versions[-1].version + 1 if self.versions else 1


NEVER = History((), None)
"""Of a loop that was never declared."""


def fold(records: Sequence[Read]) -> dict[str, History]:
    """Histories by loop, from the records of `loop.declared` in each partition's order.

    What keeps no schema (written by hand) is passed over, as every service does.
    """
    found: dict[str, History] = {}
    events, _ = as_written(topics.LOOP_DECLARED, records)
    for one in events:
        before = found.get(one.loop, NEVER)
        if isinstance(one.event, LoopDeclared):
            found[one.loop] = History((*before.versions, one.event), one.event)
        elif before is not NEVER:
            found[one.loop] = History(before.versions, None)
    return found


async def read_declared(connection: Connection) -> Mapping[str, History]:
    """The histories of all loops of a cluster. Raises UnreachableError."""
    async with follower(connection, [topics.LOOP_DECLARED]) as reader:
        return fold(await reader.catch_up())
