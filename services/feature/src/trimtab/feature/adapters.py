"""What connects the feature service with topics beside its inputs: tiles for HTTP, and how far loops have come."""

from collections.abc import Mapping, Sequence
from typing import Literal

from trimtab.contracts import topics
from trimtab.contracts.codec import Schema
from trimtab.contracts.control import TimeAdvanced
from trimtab.contracts.data import SCHEMAS
from trimtab.loops.groups import TileGroup
from trimtab.loops.model import Loop
from trimtab.loops.online import OnlineStore
from trimtab.runtime.control import Refused, as_written
from trimtab.runtime.records import Read


class TilesView:
    """All tiles of a loop, as every reader of `<loop>.online` has them."""

    clock: Literal["marks", "none"] = "marks"
    schema: Schema = SCHEMAS["tile"]

    def __init__(self, loop: Loop, groups: Sequence[TileGroup]) -> None:
        self.topic = topics.online(loop.name)
        self.writers: Mapping[str, int] = {topics.group("feature", "aggregate", loop.name): loop.partitions}
        self.store = OnlineStore(groups)

    def apply(self, records: Sequence[Read]) -> None:
        """Replace tiles; a tombstone drops one."""
        self.store.load([(record.key or b"", record.value) for record in records])


class LoopTimes:
    """The event time that each loop has reached, its predictor included. Mutable: the view reader feeds it.

    The monitor's newest word counts, not the greatest: a loop that was deleted and declared again begins anew.
    """

    clock: Literal["marks", "none"] = "none"
    writers: Mapping[str, int] = {}

    def __init__(self) -> None:
        self.topic = topics.TIME_ADVANCED
        self._reached: dict[str, int] = {}

    def apply(self, records: Sequence[Read]) -> Sequence[Refused]:
        """Take in what is new. What somebody wrote by hand against the schema is passed over and given back."""
        events, refused = as_written(self.topic, records)
        for one in events:
            if isinstance(one.event, TimeAdvanced):
                self._reached[one.loop] = one.event.at_ms
        return refused

    def reached_ms(self, loop: str) -> int | None:
        """That of one loop; None: nothing has come through all of it yet."""
        return self._reached.get(loop)

    def forget(self, loop: str) -> None:
        """The loop has ended."""
        self._reached.pop(loop, None)
