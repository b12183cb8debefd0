"""What the log says of declared loops."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from trimtab.cli.log import Read, follower
from trimtab.contracts import control, topics
from trimtab.contracts.control import LoopDeclared
from trimtab.runtime.kafka.connection import Connection


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
    """Histories by loop, from the records of `loop.declared` in each partition's order."""
    found: dict[str, History] = {}
    for record in records:
        if record.key is None:
            continue
        name = record.key.decode()
        before = found.get(name, NEVER)
        if record.value is None:
            found[name] = History(before.versions, None)
        else:
            event = control.decode_as(LoopDeclared, record.value)
            found[name] = History((*before.versions, event), event)
    return found


async def read_declared(connection: Connection) -> Mapping[str, History]:
    """The histories of all loops of a cluster. Raises UnreachableError."""
    async with follower(connection, [topics.LOOP_DECLARED]) as reader:
        return fold(await reader.catch_up())
