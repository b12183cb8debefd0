"""The fewest faults and events with which a schedule still fails."""

from collections.abc import Callable, Iterator
from dataclasses import replace

from tests.simulation.world import CHUNK, Plan


def shrink(plan: Plan, fails: Callable[[Plan], bool]) -> Plan:
    """Take away what is not needed, a piece at a time, until every piece is (Zeller, Hildebrandt 2002: 1-minimal)."""
    while (smaller := next(filter(fails, _smaller(plan)), None)) is not None:
        plan = smaller
    return plan


def _smaller(plan: Plan) -> Iterator[Plan]:
    half = len(plan.faults) // 2
    if half > 1:
        yield replace(plan, faults=plan.faults[:half])
        yield replace(plan, faults=plan.faults[half:])
    for index in range(len(plan.faults)):
        yield replace(plan, faults=[*plan.faults[:index], *plan.faults[index + 1 :]])
    if plan.events > CHUNK:
        yield replace(plan, events=plan.events - CHUNK)
