"""The replica of a loop's online values."""

from collections.abc import Mapping, Sequence
from typing import Literal

from trimtab.contracts import topics
from trimtab.contracts.codec import Schema
from trimtab.contracts.data import SCHEMAS
from trimtab.loops.groups import TileGroup
from trimtab.loops.model import Loop
from trimtab.loops.online import OnlineStore
from trimtab.runtime.records import Read

_MB = 1_000_000


class OnlineView:
    """All tiles of a loop, from the feature service's topic."""

    clock: Literal["marks", "none"] = "marks"
    schema: Schema = SCHEMAS["tile"]

    def __init__(self, loop: Loop, groups: Sequence[TileGroup]) -> None:
        self.topic = topics.online(loop.name)
        self.writers: Mapping[str, int] = {topics.group("feature", "aggregate", loop.name): loop.partitions}
        self.store = OnlineStore(groups)

    @property
    def newest_ms(self) -> int:
        """Event time of the newest event behind the values; 0 at first."""
        return self.store.newest_ms or 0

    def apply(self, records: Sequence[Read]) -> None:
        """Take in new states of tiles; a tombstone ends a tile."""
        self.store.load([(one.key or b"", one.value) for one in records])

    def reached(self, at_ms: int) -> None:
        """The feature service has come so far with what was applied."""
        self.store.reached(at_ms)


def over_budget(replicas: Mapping[str, OnlineStore], budget_mb: int) -> list[str]:
    """Why the predictor is not ready: its replicas take more memory than they may."""
    sizes = {loop: store.nbytes / _MB for loop, store in replicas.items()}
    if sum(sizes.values()) <= budget_mb:
        return []
    largest = ", ".join(f"{loop} {size:.1f} MB" for loop, size in sorted(sizes.items(), key=lambda one: -one[1]))
    return [f"online values take more than TRIMTAB_ONLINE__MEMORY_BUDGET_MB={budget_mb}: {largest}"]
