"""Writing from the edge (HTTP, commands): outside of any stage, acknowledged, without copies from retries."""

from collections.abc import Sequence
from typing import NamedTuple, Protocol

from trimtab.runtime.records import Out


class Placed(NamedTuple):
    """Where a record was written."""

    topic: str
    partition: int
    offset: int


class Edge(Protocol):
    """What HTTP handlers write with."""

    async def send(self, outs: Sequence[Out]) -> Sequence[Placed]:
        """Write records and return once the log has them. Raises EdgeAwayError."""
