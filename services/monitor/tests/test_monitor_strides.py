"""A long silence is passed in strides, whichever way its time comes, and what follows it is judged hour by hour."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from trimtab.contracts import times
from trimtab.contracts.control import TimeAdvanced
from trimtab.monitor.core import detection, names
from trimtab.monitor.core.detection import Event
from trimtab.monitor.core.drifting import Watch
from trimtab.monitor.core.ledger import SPECS, Ledger
from trimtab.monitor.core.observe import Named
from trimtab.monitor.core.plan import plan_of
from trimtab.monitor.core.rows import Rows
from trimtab.monitor.core.silence import HOUR_MS
from trimtab.monitor.core.strides import QUIET_MS, STRIDE_MS
from trimtab.runtime.table import Table
from trimtab.testing.declarations import offers

PLAN = plan_of(offers(loop={"lateness": "10m"}))
LONG_AGO, MIDDLE, NOW = (times.parse(f"{year}-01-01T00:00:00Z") for year in (1970, 1999, 2024))
DAY_MS = 24 * HOUR_MS


def arrived(seen_ms: int) -> Named:
    one = np.ones(1, np.int64)
    return Named([names.arrived("offer")], Rows(one * seen_ms, one * seen_ms, one * 0, one * 0, one * 0, one, one * 0))


def told(*steps: tuple[Sequence[int], int]) -> tuple[list[Event], dict[str, Table[Any, Any]]]:
    """What is said when rows come, and time with them."""
    tables: dict[str, Table[Any, Any]] = {spec.name: Table(spec) for spec in SPECS}
    ledger, watch, said = Ledger(tables), Watch(PLAN), list[Event]()
    for rows, progress_ms in steps:
        for seen_ms in rows:
            assert detection.absorb(ledger, arrived(seen_ms), (), None) == 0
        said += [one.event for one in detection.advance(PLAN, ledger, watch, progress_ms)]
    return said, tables


def test_half_a_century_between_two_events_is_passed_in_strides_and_then_hours_count_again() -> None:
    said, tables = told(([LONG_AGO, NOW], NOW), ([], NOW + DAY_MS))
    at_ms = [one.at_ms for one in said if isinstance(one, TimeAdvanced)]
    assert len(at_ms) < QUIET_MS // HOUR_MS + (NOW - LONG_AGO) // STRIDE_MS + 50
    assert at_ms[:3] == [LONG_AGO + HOUR_MS * n for n in (1, 2, 3)]
    assert at_ms[-24:] == [NOW + HOUR_MS * n for n in range(1, 25)]
    assert at_ms == sorted(at_ms)
    assert len(tables["counts"]) <= 25, "what is not looked back at is forgotten"


def test_what_is_said_does_not_depend_on_how_time_came() -> None:
    between = MIDDLE, MIDDLE + 40 * DAY_MS
    at_once, tables = told(([LONG_AGO, *between, NOW], NOW + DAY_MS))
    ticking: list[tuple[list[int], int]] = [([], LONG_AGO + QUIET_MS + 17 * DAY_MS * n) for n in range(3)]
    rows = [([at_ms], at_ms) for at_ms in (*between, NOW)]
    said, others = told(([LONG_AGO], LONG_AGO), *ticking, *rows, ([], NOW + HOUR_MS), ([], NOW + DAY_MS))
    assert said == at_once
    assert {name: dict(table.items()) for name, table in tables.items() if name != "counts"} == {
        name: dict(table.items()) for name, table in others.items() if name != "counts"
    }
