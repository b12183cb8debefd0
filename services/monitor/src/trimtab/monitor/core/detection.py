"""The detector of a loop: buckets of sums in, verdicts out, one event-hour after the other.

A bucket is folded once the watermark has passed its end. Everything that is said is decided at such a boundary from
buckets before it, so it depends neither on how the stream was cut into batches nor on the order in which its partitions
were read.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Literal, NamedTuple

import msgspec
import numpy as np

from trimtab.contracts.control import DriftDetected, PerformanceMeasured, QualityRestored, QualityViolated, TimeAdvanced
from trimtab.monitor.core import drifting, holding, measuring, performance, strides, tallying
from trimtab.monitor.core.ledger import Clock, Ledger, Tip
from trimtab.monitor.core.observe import Named
from trimtab.monitor.core.plan import Plan
from trimtab.monitor.core.predictions import NO_MODEL, Deployment
from trimtab.monitor.core.reigns import Reign, reign_at
from trimtab.monitor.core.rows import Rows, joined
from trimtab.monitor.core.silence import HOUR_MS, floor

Event = DriftDetected | PerformanceMeasured | QualityRestored | QualityViolated | TimeAdvanced


@dataclass(frozen=True, slots=True)
class Said:
    """A control event and the record that gave rise to it, if one was sampled."""

    event: Event
    tip: Tip | None = None


def absorb(ledger: Ledger, named: Named, deployments: Sequence[Deployment], tip: Tip | None) -> int:
    """Take in rows; how many came too late for their bucket and were dropped.

    Rows of labels are never dropped: what comes too late counts in the oldest bucket that is open.
    """
    for deployment in deployments:
        ledger.see(deployment)
    rows = named.rows
    clock = _begun(ledger, floor(int(rows.seen_ms.min()), HOUR_MS)) if len(rows) else ledger.clock
    if clock is not None and tip is not None:
        _keep(ledger, clock, tip)
    if clock is None or not len(rows):
        return 0
    numbers = np.array([ledger.number(name) for name in named.names], np.int64)
    kept = np.array([tallying.of_label(name) for name in named.names])[rows.signal]
    late = rows.seen_ms < clock.folded_ms
    seen = np.where(late & kept, clock.folded_ms, rows.seen_ms)
    moved = Rows(seen, rows.asked_ms, rows.version, numbers[rows.signal], rows.bin, rows.count, rows.units)
    _add(ledger, moved.take(~late | kept))
    return int(np.count_nonzero(late & ~kept))


def _begun(ledger: Ledger, start_ms: int) -> Clock:
    """The clock, begun at the earliest bucket that came before anything was folded."""
    clock = ledger.clock
    if clock is None or start_ms < clock.began_ms == clock.folded_ms:
        clock = Clock(start_ms, start_ms, start_ms, start_ms)
        ledger.set_clock(clock)
    return clock


def _keep(ledger: Ledger, clock: Clock, tip: Tip) -> None:
    start = max(floor(tip.at_ms, HOUR_MS), clock.folded_ms)
    before = ledger.tips.get((start,))
    ledger.tips.put((start,), tip if before is None else max(before, tip))


def _add(ledger: Ledger, rows: Rows) -> None:
    held = [r for start in np.unique(rows.seen_ms).tolist() if (r := ledger.open.get((start,))) is not None]
    for start, part in joined([*held, rows]).added().by_seen():
        ledger.open.put((start,), part)


def advance(plan: Plan, ledger: Ledger, watch: drifting.Watch, progress_ms: int) -> Sequence[Said]:
    """Everything there is to say up to `progress_ms`, in event-time order.

    It stops before an hour whose champion's reference is not known yet (`watch` is told later); the next call goes on.
    """
    said = list[Said]()
    clock = ledger.clock
    if clock is None:
        return said
    while (moment := _next(plan, ledger, clock)).at_ms <= progress_ms:
        if moment.what == "tick":
            said.append(Said(TimeAdvanced(loop=plan.loop, at_ms=moment.at_ms)))
            clock = msgspec.structs.replace(clock, ticked_ms=moment.at_ms)
            continue
        end_ms = moment.at_ms - plan.lateness_ms
        reign = reign_at(_deployments(ledger), end_ms)
        if reign is not None and not watch.knows(reign.digest):
            break
        clock, new = _fold(plan, ledger, clock, watch, reign, end_ms)
        said += new
    ledger.set_clock(clock)
    return said


class _Moment(NamedTuple):
    at_ms: int
    what: Literal["fold", "tick"]


def _next(plan: Plan, ledger: Ledger, clock: Clock) -> _Moment:
    """Ends of buckets, as the watermark passes them, and hours, as progress does; at one time the fold first."""
    fold, tick = strides.fold_end(plan, ledger, clock) + plan.lateness_ms, strides.tick_ms(plan, clock)
    return _Moment(fold, "fold") if fold <= tick else _Moment(tick, "tick")


def _deployments(ledger: Ledger) -> Iterator[Deployment]:
    return (Deployment(sequence, *known) for (sequence,), known in ledger.deployments.items())


def _fold(
    plan: Plan, ledger: Ledger, clock: Clock, watch: drifting.Watch, reign: Reign | None, end_ms: int
) -> tuple[Clock, Sequence[Said]]:
    """Fold the bucket that ends at `end_ms`."""
    start = end_ms - HOUR_MS
    rows = ledger.open.get((start,)) or Rows()
    ledger.open.remove((start,))
    tip = ledger.tips.get((start,))
    ledger.tips.remove((start,))
    name_of = ledger.name_of()
    label = np.array([tallying.of_label(name) for name in name_of.values()], np.bool_)[rows.signal]
    labels, shown = rows.take(label), rows.take(~label)
    clock = tallying.fold(plan, ledger, clock, labels, end_ms)
    holding.count(ledger, plan, shown)
    clock = holding.close(plan, ledger, clock, end_ms)
    clock = msgspec.structs.replace(
        clock,
        folded_ms=end_ms,
        ticked_ms=max(clock.ticked_ms, start),  # behind it only after a long silence
        filled_ms=end_ms if len(rows) else clock.filled_ms,
        tip=tip or clock.tip,
    )
    tallies = performance.tallied(shown, name_of)
    version = NO_MODEL if reign is None else reign.version
    limits = watch.limits(reign)
    clock, verdicts = holding.judged(plan, ledger, clock, tallies, version, limits, end_ms)
    said = [Said(verdict, tip) for verdict in verdicts]
    clock, alarms = watch.looked(ledger, clock, reign, drifting.Hour(end_ms, shown, labels, name_of))
    said += [Said(alarm, _tipping(clock, alarm, end_ms)) for alarm in alarms]
    if measuring.due(clock, end_ms):
        clock, measured = measuring.measure(plan, ledger, clock, reign, end_ms)
        said.append(Said(measured, tip))
    return clock, said


def _tipping(clock: Clock, alarm: DriftDetected, end_ms: int) -> Tip | None:
    """The newest sampled record of the look that raised the alarm, if one was sampled."""
    return clock.tip if clock.tip is not None and clock.tip.at_ms >= end_ms - alarm.look_ms else None
