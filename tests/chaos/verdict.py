"""The campaign's table: a row a fault, with what was wrong in its stretches of the stream."""

import bisect
import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from operator import add
from pathlib import Path

from faults import Injected
from oracle import Key, Wrong
from orders import Order, Stream
from rich.console import Console
from rich.table import Table
from trimtab.cli.cluster.programs import SERVICES
from trimtab.testing.plane import Violation

NOWHERE = "none of them"
"""What is wrong and belongs to no stretch."""
STALL_LIMITS_S: Mapping[str, float] = {
    **{f"kill {name}{which}": 4.0 for name in SERVICES for which in ("", " of 2", " of 2 (loaded)")},
    "kill for good": 10.0,
    "kill the broker": 20.0,
    **{
        f"kill {one}{load}": 20.0
        for one in ("one of 3 brokers", "a leader", "a coordinator")
        for load in ("", " (loaded)")
    },
}
"""How long nothing may come after one process was killed. A longer stall is shown, and fails nothing: what else the
machine does may be the cause."""


@dataclass(frozen=True, slots=True)
class Row:
    """One fault. `longest_stall_s`: without a new prediction or outcome. `recovery_s`: the longest."""

    fault: str
    injected: int
    events: int
    lost: int
    doubled: int
    out_of_order: int
    wrong_aggregates: int
    control_violations: int
    longest_stall_s: float
    recovery_s: float

    @property
    def is_right(self) -> bool:
        """Whether nothing is wrong."""
        return not (self.lost + self.doubled + self.out_of_order + self.wrong_aggregates + self.control_violations)

    @property
    def stall(self) -> str:
        """The longest stall as the table shows it: beside its limit where it was longer."""
        limit_s = STALL_LIMITS_S.get(self.fault, math.inf)
        return f"{self.longest_stall_s:,}" + (f" > {limit_s:g}" if self.longest_stall_s > limit_s else "")


@dataclass(frozen=True, slots=True)
class Attribution:
    """Which fault the stretches of the stream belong to, and when they began."""

    faults: Mapping[int, str]
    stretches: Mapping[Key, int]
    times_ms: Sequence[int]
    at: Sequence[int]

    def of_key(self, key: Key) -> str:
        """The fault while that order was sent."""
        return self.faults.get(self.stretches.get(key, -1), NOWHERE)

    def of_violation(self, violation: Violation) -> str:
        """The fault while the stream was at that time."""
        if violation.at_ms is None:
            return NOWHERE
        later = bisect.bisect_left(self.times_ms, violation.at_ms)
        return self.faults.get(self.at[min(later, len(self.at) - 1)], NOWHERE)


def attribution(stream: Stream, injected: Sequence[Injected]) -> Attribution:
    """By the order of the stream, which is that of its times."""
    orders: Sequence[Order] = stream.orders
    return Attribution(
        faults={one.stretch: one.fault for one in injected},
        stretches={one.id: one.stretch for one in orders},
        times_ms=[one.at_ms for one in orders],
        at=[one.stretch for one in orders],
    )


def rows(stream: Stream, injected: Sequence[Injected], wrong: Wrong, violations: Sequence[Violation]) -> Sequence[Row]:
    """The table. What was sent before the first fault and after the last one counts where nothing was done."""
    to = attribution(stream, injected)
    names = list(dict.fromkeys(one.fault for one in injected))
    blamed = {
        name: [to.of_key(key) for key in keys]
        for name, keys in (
            ("lost", wrong.lost),
            ("doubled", wrong.doubled),
            ("out_of_order", wrong.out_of_order),
            ("wrong_aggregates", wrong.aggregates),
        )
    }
    blamed["control_violations"] = [to.of_violation(one) for one in violations]
    sent = [to.of_key(key) for key in (*(one.id for one in stream.orders), *(one.order for one in stream.ratings))]
    if any(NOWHERE in places for places in (*blamed.values(), sent)):
        names.append(NOWHERE)
    return [
        _row(name, injected, sent.count(name), {what: where.count(name) for what, where in blamed.items()})
        for name in names
    ]


def _row(name: str, injected: Sequence[Injected], events: int, wrong: Mapping[str, int]) -> Row:
    own = [one for one in injected if one.fault == name]
    return Row(
        fault=name,
        injected=len(own),
        events=events,
        lost=wrong["lost"],
        doubled=wrong["doubled"],
        out_of_order=wrong["out_of_order"],
        wrong_aggregates=wrong["wrong_aggregates"],
        control_violations=wrong["control_violations"],
        longest_stall_s=max((one.stall_s for one in own), default=0.0),
        recovery_s=max((one.recovery_s for one in own), default=0.0),
    )


def together(rows: Sequence[Row]) -> Sequence[Row]:
    """One row a fault, of those that several clusters met."""
    found: dict[str, Row] = {}
    for row in rows:
        found[row.fault] = _sum(found[row.fault], row) if row.fault in found else row
    return list(found.values())


def _sum(one: Row, other: Row) -> Row:
    """Counts are added; of seconds the most counts."""
    numbers = [
        (max if field.name.endswith("_s") else add)(getattr(one, field.name), getattr(other, field.name))
        for field in fields(Row)[1:]
    ]
    return Row(one.fault, *numbers)


def tell(console: Console, rows: Sequence[Row]) -> None:
    """Print the table."""
    table = Table(box=None, pad_edge=False)
    for number, field in enumerate(fields(Row)):
        table.add_column(field.name.replace("_", " "), justify="right" if number else "left")
    for row in rows:
        cells = {name: _cell(value) for name, value in asdict(row).items()} | {"longest_stall_s": row.stall}
        table.add_row(*cells.values(), style=None if row.is_right else "red")
    console.print(table)


def _cell(value: object) -> str:
    return f"{value:,}" if isinstance(value, int | float) else str(value)


def write(path: Path, rows: Sequence[Row]) -> None:
    """Write the table as JSON."""
    path.write_text(json.dumps({"faults": [asdict(row) for row in rows]}, indent=2) + "\n")
