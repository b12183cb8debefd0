"""The log, from the edge."""

from collections.abc import Sequence
from dataclasses import dataclass

from aiokafka.errors import KafkaError

from trimtab.ingest.errors import LogAwayError
from trimtab.runtime.edge import Edge
from trimtab.runtime.errors import EdgeAwayError
from trimtab.runtime.records import Out


@dataclass(frozen=True, slots=True)
class EdgeLog:
    """Writes with the edge's producer."""

    edge: Edge

    async def write(self, outs: Sequence[Out]) -> None:
        """Return once the log has the records. Raises LogAwayError."""
        try:
            await self.edge.send(outs)
        except (EdgeAwayError, KafkaError) as error:
            raise LogAwayError(str(error)) from error
