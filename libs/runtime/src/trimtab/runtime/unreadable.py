"""What nobody who reads committed records can read: the rest of a partition, behind a transaction that does not end."""

from collections.abc import Collection, Mapping

from trimtab.runtime.bus import Catalog, Part


class Unreadable:
    """Watches how far partitions can be read. Mutable: one watch owns it.

    `patience_s`: so long a transaction may be open before it is told.
    """

    def __init__(self, catalog: Catalog, patience_s: float) -> None:
        self._catalog = catalog
        self._patience_s = patience_s
        self._since: dict[Part, tuple[int, float]] = {}

    async def look(self, parts: Collection[Part], now_s: float) -> Mapping[Part, str]:
        """Look once; what is to be told, by partition. Raises BusSilentError or TopicMissingError."""
        ends = await self._catalog.bounds(parts)
        held = {part: at for part, (_, at) in (await self._catalog.stable(parts)).items() if at < ends[part][1]}
        self._since = {part: self._first_seen(part, at, now_s) for part, at in held.items()}
        waited = {part: now_s - since_s for part, (_, since_s) in self._since.items()}
        return {
            part: _told(part, held[part], spent_s) for part, spent_s in waited.items() if spent_s > self._patience_s
        }

    def _first_seen(self, part: Part, at: int, now_s: float) -> tuple[int, float]:
        was = self._since.get(part)
        return was if was is not None and was[0] == at else (at, now_s)


def _told(part: Part, at: int, spent_s: float) -> str:
    return (
        f"{part.topic}[{part.partition}] cannot be read beyond offset {at}: a transaction has been open there for "
        f"{spent_s:.0f} s. If no producer is still at work on it, Kafka has lost its end: `kafka-transactions.sh "
        "find-hanging` names it, and `abort` drops what it wrote"
    )
