"""Holds of a loop's stream at the end of an event-hour: which begin, which end, and which looks they spoil."""

from collections.abc import Mapping, Sequence

import msgspec
import numpy as np

from trimtab.contracts.control import QualityRestored, QualityViolated
from trimtab.monitor.core import names
from trimtab.monitor.core.ledger import Clock, Closed, Held, Ledger
from trimtab.monitor.core.performance import Tallies
from trimtab.monitor.core.plan import Plan
from trimtab.monitor.core.predictions import NO_MODEL
from trimtab.monitor.core.quality import KEPT_BUCKETS, Change, Counts, Hold, Standing, Subject, judge
from trimtab.monitor.core.rows import Rows
from trimtab.monitor.core.silence import HOUR_MS, Arrived, advance, floor, opened, seen_share

STANDS = 2**62
"""The end of a hold that has none yet."""

_SIGNAL = {"missing": names.missing, "unseen_category": names.unseen, "out_of_range": names.beyond}


def count(ledger: Ledger, plan: Plan, rows: Rows) -> None:
    """Remember how many events arrived in each fine bucket, for those whose source may fall silent."""
    of_events = rows.take(rows.version == NO_MODEL)
    for event in plan.expected:
        number = ledger.number(names.arrived(event))
        arrived = of_events.take(of_events.signal == number)
        for start, n in zip(arrived.asked_ms.tolist(), arrived.count.tolist(), strict=True):
            ledger.arrivals.put((number, start), (ledger.arrivals.get((number, start)) or 0) + n)


def close(plan: Plan, ledger: Ledger, clock: Clock, end_ms: int) -> Clock:
    """How far label windows are closed by `end_ms`."""
    expected = plan.expected.get(plan.label_of)
    before = clock.closing
    closing = opened(clock.began_ms, expected) if before is None else before.closing()
    closing, _ = advance(closing, _arrived(ledger, plan.label_of), expected, clock.began_ms, end_ms)
    return msgspec.structs.replace(clock, closing=Closed.of(closing))


def _arrived(ledger: Ledger, event: str) -> Arrived:
    number = ledger.number(names.arrived(event))
    return lambda start: ledger.arrivals.get((number, start)) or 0


def judged(
    plan: Plan,
    ledger: Ledger,
    clock: Clock,
    tallies: Tallies,
    version: int,
    limits: Sequence[float | None],
    end_ms: int,
) -> tuple[Clock, Sequence[QualityViolated | QualityRestored]]:
    """The verdicts at `end_ms`. `tallies`: what the last hour's rows were; `limits`: per subject of the plan."""
    standing = _standing(clock)
    ledger.counts.put((end_ms - HOUR_MS,), _counts(plan, tallies, version, end_ms - HOUR_MS))
    for key in [key for key, _ in ledger.counts.items() if key[0] < end_ms - KEPT_BUCKETS * HOUR_MS]:
        ledger.counts.remove(key)
    recent = [c for _, c in sorted(ledger.counts.items())]
    changes = [
        *(judge(plan.subjects, recent, limits, standing) if plan.subjects else ()),
        *_silences(plan, ledger, clock, standing.holds, end_ms),
        *_orphans(plan, standing.holds),
    ]
    return _applied(clock, changes, end_ms), [
        _event(plan.loop, change, end_ms + plan.lateness_ms) for change in changes
    ]


def _standing(clock: Clock) -> Standing:
    holds = [Hold(Subject(h.rule, h.name), h.share, h.limit, h.since_ms) for h in clock.holds]
    return Standing({h.subject: h for h in holds}, {Subject(rule, name): at for rule, name, at in clock.cleared})


def _counts(plan: Plan, tallies: Tallies, version: int, start_ms: int) -> Counts:
    """The last hour's rows and bad rows by subject."""

    def n(of_version: int, signal: str) -> int:
        tally = tallies.get((of_version, signal))
        return tally.count if tally else 0

    predictions = n(version, names.ROWS)
    pairs = [
        (n(0, names.arrived(s.name)) + n(0, names.rejected(s.name)), n(0, names.rejected(s.name)))
        if s.rule == "rejected"
        else (predictions, n(version, _SIGNAL[s.rule](s.name)))
        for s in plan.subjects
    ]
    rows, bad = np.array(pairs, np.int64).reshape(-1, 2).T
    return Counts(start_ms, version, rows.copy(), bad.copy())


def _silences(
    plan: Plan, ledger: Ledger, clock: Clock, standing: Mapping[Subject, Hold], end_ms: int
) -> Sequence[Change]:
    changes = list[Change]()
    for event, expected in plan.expected.items():
        subject = Subject("silent", event)
        boundary = floor(end_ms, expected.width_ms)
        share = seen_share(_arrived(ledger, event), expected, clock.began_ms, boundary)
        hold = standing.get(subject)
        if hold is None and share < 1:
            changes.append(Change(Hold(subject, share, 1.0, boundary - expected.per_ms)))
        elif hold is not None and share >= 1:
            changes.append(Change(Hold(subject, share, 1.0, hold.since_ms), ended=True))
    _forget(ledger, plan, end_ms)
    return changes


def _orphans(plan: Plan, standing: Mapping[Subject, Hold]) -> Sequence[Change]:
    """Holds that a new declaration no longer asks for."""
    asked = {*plan.subjects, *(Subject("silent", event) for event in plan.expected)}
    return [Change(hold, ended=True) for subject, hold in standing.items() if subject not in asked]


def _forget(ledger: Ledger, plan: Plan, end_ms: int) -> None:
    """Drop the buckets that no verdict looks back to."""
    oldest = {
        ledger.number(names.arrived(event)): end_ms - 2 * expected.per_ms - HOUR_MS
        for event, expected in plan.expected.items()
    }
    for key in [key for key, _ in ledger.arrivals.items() if key[1] < oldest.get(key[0], end_ms)]:
        ledger.arrivals.remove(key)


def _applied(clock: Clock, changes: Sequence[Change], end_ms: int) -> Clock:
    """The holds that stand, and the stretches they spoil."""
    held = {(h.rule, h.name): h for h in clock.holds}
    spoiled = list(clock.spoiled)
    cleared = [c for c in clock.cleared if c[2] > end_ms - KEPT_BUCKETS * HOUR_MS]
    for change in changes:
        hold = change.hold
        key = (hold.subject.rule, hold.subject.name)
        if change.ended:
            held.pop(key, None)
            spoiled.remove((hold.since_ms, STANDS))
            spoiled.append((hold.since_ms, end_ms))
            cleared.append((*key, end_ms))
        else:
            held[key] = Held(hold.subject.rule, hold.subject.name, hold.share, hold.limit, hold.since_ms)
            spoiled.append((hold.since_ms, STANDS))
    return msgspec.structs.replace(
        clock, holds=tuple(held.values()), spoiled=tuple(sorted(spoiled)), cleared=tuple(cleared)
    )


def forgotten(clock: Clock, before_ms: int) -> Clock:
    """Without the holds that ended before anything that is still looked at."""
    return msgspec.structs.replace(clock, spoiled=tuple(s for s in clock.spoiled if s[1] > before_ms))


def spoils(clock: Clock, from_ms: int, until_ms: int) -> bool:
    """Whether a hold touched the stretch."""
    return any(since < until_ms and end > from_ms for since, end in clock.spoiled)


def _event(loop: str, change: Change, at_ms: int) -> QualityViolated | QualityRestored:
    hold = change.hold
    kind = QualityRestored if change.ended else QualityViolated
    return kind(
        loop=loop,
        at_ms=at_ms,
        rule=hold.subject.rule,
        subject=hold.subject.name,
        share=hold.share,
        limit=hold.limit,
        since_ms=hold.since_ms,
    )
