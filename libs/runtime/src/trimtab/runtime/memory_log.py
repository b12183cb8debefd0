"""One partition of the bus in memory: records at offsets with holes, and transactions that are still open."""

from bisect import bisect_left
from collections.abc import Sequence
from operator import attrgetter

from trimtab.runtime.bus import Part
from trimtab.runtime.records import Out, Record

_offset = attrgetter("offset")


class PartitionLog:
    """Mutable: its bus alone owns it.

    `first`: offset of the oldest record kept. `end`: the next offset to be written. `open`: by transactional id, the
    offsets written by a transaction that is neither committed nor aborted.
    """

    def __init__(self, part: Part) -> None:
        self._part = part
        self._records: list[Record] = []
        self.first = self.end = 0
        self.open: dict[str, list[int]] = {}

    @property
    def stable(self) -> int:
        """Up to where a reader of committed records may read."""
        return min((offsets[0] for offsets in self.open.values()), default=self.end)

    def append(self, outs: Sequence[Out], now_ms: int) -> None:
        """Write at the end, committed."""
        topic, partition = self._part
        self._records.extend(
            Record(topic, partition, offset, out.key, out.value, out.headers, now_ms)
            for offset, out in enumerate(outs, self.end)
        )
        self.end += len(outs)

    def read(self, offset: int, limit: int) -> tuple[list[Record], int]:
        """Committed records from an offset on, and the next offset to read: past holes at the end."""
        start = bisect_left(self._records, offset, key=_offset)
        found = self._records[start : start + limit]
        stable = self.stable
        if stable < self.end:
            found = found[: bisect_left(found, stable, key=_offset)]
        return found, found[-1].offset + 1 if found and len(found) == limit else max(offset, stable)

    def hold(self, transactional_id: str, outs: Sequence[Out], now_ms: int) -> None:
        """Write at the end, as part of a transaction that goes on."""
        self.open.setdefault(transactional_id, []).extend(range(self.end, self.end + len(outs)))
        self.append(outs, now_ms)

    def settle(self, transactional_id: str, *, commit: bool) -> None:
        """End a transaction. Its end takes an offset, as a marker does in Kafka; an aborted one leaves only holes."""
        offsets = self.open.pop(transactional_id, None)
        if offsets is None:
            return
        if not commit:
            void = set(offsets)
            self._records = [record for record in self._records if record.offset not in void]
        self.end += 1

    def compact(self, end: int) -> None:
        """Of the committed records before an offset, keep the newest of each key, where it stands."""
        end = min(end, self.stable)
        newest = {record.key: record.offset for record in self._records if record.offset < end}
        self._records = [one for one in self._records if one.offset >= end or newest[one.key] == one.offset]

    def copy(self) -> "PartitionLog":
        """The same as it stands, without transactions that are open."""
        made = PartitionLog(self._part)
        void = {offset for offsets in self.open.values() for offset in offsets}
        made._records = [record for record in self._records if record.offset not in void]
        made.first, made.end = self.first, self.end
        return made

    def delete_before(self, offset: int) -> None:
        """Drop the oldest records."""
        del self._records[: bisect_left(self._records, offset, key=_offset)]
        self.first = offset
