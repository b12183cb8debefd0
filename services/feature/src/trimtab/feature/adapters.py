"""What connects the feature service's HTTP with the tiles."""

from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import Literal

from trimtab.contracts import topics
from trimtab.feature.stages import AGGREGATE, SERVICE
from trimtab.loops.groups import TileGroup
from trimtab.loops.model import Loop
from trimtab.loops.online import OnlineStore
from trimtab.runtime.records import Read


class TilesView:
    """All tiles of a loop, as every reader of `<loop>.online` has them."""

    clock: Literal["marks", "none"] = "marks"

    def __init__(self, loop: Loop, groups: Sequence[TileGroup]) -> None:
        self.topic = topics.online(loop.name)
        self.writers: Mapping[str, int] = MappingProxyType(
            {topics.group(SERVICE, AGGREGATE, loop.name): loop.partitions}
        )
        self.store = OnlineStore(groups)

    def apply(self, records: Sequence[Read]) -> None:
        """Replace tiles; a tombstone drops one."""
        self.store.load([(record.key or b"", record.value) for record in records])
