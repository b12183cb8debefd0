"""The replica of a loop's online values."""

from collections.abc import Mapping, Sequence
from typing import Literal

from trimtab.contracts import envelope, topics
from trimtab.loops import tile_records
from trimtab.loops.groups import TileGroup
from trimtab.loops.model import Loop
from trimtab.loops.online import OnlineStore
from trimtab.runtime.records import Read


class OnlineView:
    """All tiles of a loop, from the feature service's topic. `newest_ms`: event time of the newest change."""

    clock: Literal["marks", "none"] = "marks"

    def __init__(self, loop: Loop, groups: Sequence[TileGroup]) -> None:
        self.topic = topics.online(loop.name)
        self.writers: Mapping[str, int] = {topics.group("feature", "aggregate", loop.name): loop.partitions}
        self.store = OnlineStore(groups)
        self.newest_ms = 0

    def apply(self, records: Sequence[Read]) -> None:
        """Take in new states of tiles; a tombstone ends a tile."""
        self.store.put(
            [
                (tile_records.decode_key(one.key or b""), None if one.value is None else tile_records.decode(one.value))
                for one in records
            ]
        )
        changed = [one for one in records if one.value is not None and one.headers]
        if changed:
            self.newest_ms = max(self.newest_ms, envelope.event_time_ms(changed[-1].headers))
