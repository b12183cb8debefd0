"""What a task takes from its inboxes for the next batch: as far as the gate lets it, marks told to the clocks."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from trimtab.runtime import marks
from trimtab.runtime.errors import StageInvalidError
from trimtab.runtime.gate import Opening, passable
from trimtab.runtime.inbox import Inbox
from trimtab.runtime.marks import Mark
from trimtab.runtime.progress import Progress, ReportedClock
from trimtab.runtime.records import Read
from trimtab.runtime.stage import Stage
from trimtab.runtime.views import ViewReader

BATCH_BYTES = 4 * 1024 * 1024
"""About how many bytes of values one batch takes from an input (column batches are large)."""


@dataclass(frozen=True, slots=True)
class Moment:
    """When records are taken, by the monotonic and by the wall clock, and how far the gate is open."""

    now_s: float
    now_ms: int
    passed_ms: int | None


class Gate:
    """The gate of one stage: how far its views have come."""

    def __init__(self, stage: Stage, readers: Sequence[ViewReader]) -> None:
        by_topic = {reader.view.topic: reader for reader in readers}
        for topic in stage.gate:
            if topic not in by_topic or by_topic[topic].view.clock != "marks":
                raise StageInvalidError(stage.group, f"gate {topic} is not one of its views with clock = marks")
        self._readers = [by_topic[topic] for topic in stage.gate]
        self.max_wait_s = stage.max_wait_ms / 1000
        self.grain_ms, self.settling_ms = stage.gate_grain_ms, stage.gate_settling_ms

    def passed_ms(self) -> int | None:
        """Up to which event time records may pass; None: all (no gate, or nothing is on its way to the views)."""
        known = [reader.progress.now() for reader in self._readers if reader.progress is not None]
        return min((at_ms for at_ms, idle in known if not idle), default=None)


class Intake:
    """The inboxes of one task while it is open. Mutable: the task alone owns it."""

    def __init__(self, inboxes: Mapping[str, Inbox], progress: Progress, gate: Gate) -> None:
        self._inboxes, self._progress, self._gate = inboxes, progress, gate
        self._held: dict[str, float] = {}
        self._waits: list[float] = []
        self._later: dict[str, list[Mark]] = {}

    def release(self) -> None:
        """A view has moved: held records are to be offered again."""
        self._held.clear()

    def full(self, limit: int) -> bool:
        """Whether a whole batch waits that is not held back."""
        return sum(box.waiting for topic, box in self._inboxes.items() if topic not in self._held) >= limit

    def ready(self, now_s: float) -> bool:
        """Whether there is anything to offer."""
        return any(box.waiting and self._held.get(topic, 0.0) <= now_s for topic, box in self._inboxes.items())

    def wakes_s(self) -> float:
        """When the next held record may pass in any case, or the next silent input counts as idle."""
        due = list(self._held.values())
        return min([*due, *(self._silent_s(topic) for topic in self._inboxes)], default=math.inf)

    def expire(self, now_s: float, now_ms: int) -> None:
        """Tell clocks of inputs that have been silent at their end for long enough. `now_ms`: the wall clock."""
        for topic in self._inboxes:
            if self._silent_s(topic) <= now_s and (clock := self._progress.clock(topic)) is not None:
                clock.silent(now_ms)

    def take(self, limit: int, now_s: float, now_ms: int) -> dict[str, Sequence[Read]]:
        """Records for one batch by topic, shared evenly among the inputs that have some (the oldest, if so few)."""
        ready = [t for t, box in self._inboxes.items() if box.waiting and self._held.get(t, 0.0) <= now_s]
        if limit < len(ready):
            ready = sorted(ready, key=lambda topic: self._inboxes[topic].head_ms)[:limit]
        passed_ms = self._gate.passed_ms()
        share = max(1, limit // max(1, len(ready)))
        taken = {topic: self._take(topic, share, Moment(now_s, now_ms, passed_ms)) for topic in ready}
        return {topic: records for topic, records in taken.items() if records}

    def _take(self, topic: str, limit: int, moment: Moment) -> Sequence[Read]:
        box = self._inboxes[topic]
        self._held.pop(topic, None)
        gated = moment.passed_ms is not None
        parts: list[Sequence[Read]] = []
        size = 0
        while limit > 0 and size < BATCH_BYTES and box.waiting and topic not in self._held:
            chunk = box.take(limit, moment.now_s)
            late_s = chunk.arrived_s + self._gate.max_wait_s
            is_late = late_s <= moment.now_s
            opening = Opening(moment.passed_ms, moment.now_ms, is_late, self._gate.grain_ms, self._gate.settling_ms)
            count = passable(chunk.records, opening)
            if count < len(chunk.records):
                box.give_back(chunk, count)
                self._held[topic] = math.inf if opening.late else late_s
            if gated and count:
                self._waits.append(moment.now_s - chunk.arrived_s)
            limit -= count
            size += chunk.size
            parts.append(self._data(topic, chunk.records[:count] if count < len(chunk.records) else chunk.records))
        return parts[0] if len(parts) == 1 else [record for part in parts for record in part]

    def take_waits(self) -> Sequence[float]:
        """How long records that came through a gate had waited, in s, since the last call."""
        waits, self._waits = self._waits, []
        return waits

    def after_step(self) -> None:
        """Tell users' clocks the marks after the last record of the batch: what the step reported is older."""
        for topic, later in self._later.items():
            self._tell(topic, later)
        self._later.clear()

    def _data(self, topic: str, records: Sequence[Read]) -> Sequence[Read]:
        """The records without marks; these are told to the clock."""
        data = [record for record in records if record.value is not None or not marks.is_mark(record)]
        if data:
            self._tell(topic, self._later.pop(topic, ()))
        if len(data) == len(records):
            return data
        if isinstance(self._progress.clock(topic), ReportedClock):
            last = data[-1].offset if data else -1
            self._tell(topic, [mark for offset, mark in _marks(records) if offset < last])
            self._later.setdefault(topic, []).extend(mark for offset, mark in _marks(records) if offset > last)
        else:
            self._tell(topic, [mark for _, mark in _marks(records)])
        return data

    def _tell(self, topic: str, said: Sequence[Mark]) -> None:
        clock = self._progress.clock(topic)
        if clock is not None:
            for mark in said:
                clock.mark(mark)

    def _silent_s(self, topic: str) -> float:
        box, clock = self._inboxes[topic], self._progress.clock(topic)
        if not isinstance(clock, ReportedClock) or clock.idle_after_ms is None or not box.ended or box.waiting:
            return math.inf
        return box.active_s + clock.idle_after_ms / 1000


def _marks(records: Sequence[Read]) -> list[tuple[int, Mark]]:
    """The marks among records, with their offsets."""
    return [(record.offset, mark) for record in records if (mark := marks.mark_of(record)) is not None]
