"""Which records may be offered already: those of whose event time the views have passed what they show.

A record dated within a minute of the wall clock waits at most `max_wait_ms`; an older one (a replay) without bound, so
that a replay gives the same answers as the undisturbed run.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from trimtab.contracts import envelope, times
from trimtab.runtime.records import Read

LIVE_MS = 60_000
"""A record dated at most so far from the wall clock is live."""


@dataclass(frozen=True, slots=True)
class Opening:
    """How far the gate is open: `passed_ms` by the views' progress (None: no bound), live records anyway if `late`.

    `late`: whether the record has waited `max_wait_ms` already. `now_ms`: the wall clock. `grain_ms`, `settling_ms`: a
    record needs what was before a grain of time alone, the one at its time less the settling.
    """

    passed_ms: int | None
    now_ms: int
    late: bool
    grain_ms: int = 1
    settling_ms: int = 0


def passable(records: Sequence[Read], opening: Opening) -> int:
    """How many of the records, from the first on, may be offered. Marks and undated records pass."""
    if opening.passed_ms is None:
        return len(records)
    said = [envelope.get(record.headers, envelope.TIME) if record.value is not None else None for record in records]
    dated = [index for index, one in enumerate(said) if one is not None]
    for index, at_ms in zip(dated, times.parse_many([one for one in said if one is not None]), strict=True):
        settled_ms = at_ms - opening.settling_ms
        needed_ms = settled_ms - settled_ms % opening.grain_ms
        if needed_ms > opening.passed_ms and not (opening.late and abs(opening.now_ms - at_ms) <= LIVE_MS):
            return index
    return len(records)
