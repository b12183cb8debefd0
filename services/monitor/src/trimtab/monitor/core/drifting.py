"""Looks of the reigning model: opened by its first whole look, closed by the watermark, judged by its detector.

What a prediction shows is looked at once the look has passed; what its label shows once every window of the look has
closed, as a look of its own. Looks that a hold touched are left out.
"""

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import msgspec
import numpy as np

from trimtab.contracts.control import DriftDetected, DriftSignal
from trimtab.ml.detectors import MOST_LOOKS, Alarm, Looks
from trimtab.monitor.core import holding, names, performance
from trimtab.monitor.core.ledger import Clock, Key, Ledger, Look
from trimtab.monitor.core.performance import Tally
from trimtab.monitor.core.plan import Plan
from trimtab.monitor.core.references import Reference
from trimtab.monitor.core.reigns import Reign
from trimtab.monitor.core.rows import Rows, joined
from trimtab.runtime.table import Table

SHOWN, LABELLED = 0, 1
"""The two families of looks: what predictions show, what their labels show."""


@dataclass(frozen=True, slots=True)
class Hour:
    """The rows of a folded bucket that ends at `end_ms`: what predictions showed, and what labels that settled did."""

    end_ms: int
    shown: Rows
    labels: Rows
    name_of: Mapping[int, str]


class Watch:
    """The references by model digest, and the looks of the reign in memory, for one detector task.

    Mutable: references are added as models are trained. The looks are a copy of what the ledger holds, made again when
    the ledger is another one.
    """

    def __init__(self, plan: Plan) -> None:
        self._plan = plan
        self._references = dict[str, Reference]()
        self._owner: Table[Key, Look] | None = None
        self._held = (-1, "", 0)
        self._judging: Reference | None = None
        self._looks = Looks(np.empty(0, np.int64), np.empty((0, 0)), np.empty((0, 0), np.int64))

    def add(self, digest: str, reference: Reference) -> None:
        """Know one more model."""
        self._references[digest] = reference

    def knows(self, digest: str) -> bool:
        """Whether the model's reference is known."""
        return digest in self._references

    def limits(self, reign: Reign | None) -> Sequence[float | None]:
        """Per quality subject of the plan its limit; missing values count above those of the reference."""
        missing = {} if reign is None else self._references[reign.digest].missing
        pairs = zip(self._plan.subjects, self._plan.limits, strict=True)
        if reign is None:
            return [limit if subject.rule == "rejected" else None for subject, limit in pairs]
        return [limit + missing.get(s.name, 0.0) if s.rule == "missing" else limit for s, limit in pairs]

    def looked(
        self, ledger: Ledger, clock: Clock, reign: Reign | None, hour: Hour
    ) -> tuple[Clock, Sequence[DriftDetected]]:
        """Take in an hour and judge the looks that it ends. Evidence about a retired version is forgotten."""
        if reign is None:
            return clock, ()
        reference = self._references[reign.digest]
        if (clock.reign, clock.detector) != (reign.sequence, reference.identity):
            clock = _crowned(ledger, clock, reign, reference)
        _gather(ledger, clock, reference, reign, hour)
        last = _last(self._plan, clock, hour.end_ms)
        events = list[DriftDetected]()
        for family, start_ms in _ended(ledger, reference, last):
            rows = ledger.looks.get((family, start_ms)) or Rows()
            ledger.looks.remove((family, start_ms))
            if not holding.spoils(clock, start_ms, start_ms + reference.detector.look_ms):
                look = _closed(reference, start_ms, performance.tallied(rows, hour.name_of))
                clock, alarm = self._judge(ledger, clock, reference, look)
                if alarm is not None:
                    events.append(_event(self._plan, reign, alarm, reference.detector.look_ms, hour.end_ms))
        clock = msgspec.structs.replace(clock, labelled_ms=last[LABELLED])
        return holding.forgotten(clock, last[LABELLED] - reference.detector.look_ms), events

    def evidence(self, ledger: Ledger) -> Mapping[str, float]:
        """Shiryaev-Roberts' statistic of each signal of the reign, for those who watch the watch."""
        held = ledger.evidence.get(())
        if held is None or self._judging is None:
            return {}
        signals = [signal.name for signal in self._judging.detector.signals]
        return dict(zip(signals, held.m.mean(axis=(1, 2)).tolist(), strict=True))

    def _judge(self, ledger: Ledger, clock: Clock, reference: Reference, look: Look) -> tuple[Clock, Alarm | None]:
        looks = self._looks_of(ledger, clock, reference)
        means = np.array([np.nan if m is None else m for m in look.means], np.float64)
        self._looks = looks.and_then(look.start_ms, means, np.array(look.counts, np.int64)).newest()
        evidence = ledger.evidence.get(()) or reference.detector.fresh()
        evidence, alarm = reference.detector.judge(evidence, self._looks)
        ledger.evidence.put((), evidence)
        ledger.history.put((clock.looks,), look)
        ledger.history.remove((clock.looks - MOST_LOOKS,))
        self._held = (clock.reign, reference.identity, clock.looks + 1)
        self._judging = reference
        return msgspec.structs.replace(clock, looks=clock.looks + 1), alarm

    def _looks_of(self, ledger: Ledger, clock: Clock, reference: Reference) -> Looks:
        """The reference's looks and the reign's own, in the order in which they were judged."""
        if self._owner is not ledger.history or self._held != (clock.reign, reference.identity, clock.looks):
            own = [look for _, look in sorted(ledger.history.items())]
            self._looks = _followed(reference.looks, own)
            self._owner = ledger.history
        return self._looks


def _followed(looks: Looks, own: Sequence[Look]) -> Looks:
    if not own:
        return looks
    return Looks(
        np.concatenate([looks.start_ms, np.array([one.start_ms for one in own], np.int64)]),
        np.vstack(
            [looks.means, np.array([[np.nan if m is None else m for m in one.means] for one in own], np.float64)]
        ),
        np.vstack([looks.counts, np.array([one.counts for one in own], np.int64)]),
    ).newest()


def _crowned(ledger: Ledger, clock: Clock, reign: Reign, reference: Reference) -> Clock:
    """A new reign (or other signals) begins without looks and evidence; earlier deployments are of no more use."""
    for table in (ledger.looks, ledger.history, ledger.evidence):
        for key in [key for key, _ in table.items()]:
            table.remove(key)
    for key in [key for key, _ in ledger.deployments.items() if key[0] < reign.sequence]:
        ledger.deployments.remove(key)
    return msgspec.structs.replace(clock, reign=reign.sequence, detector=reference.identity, looks=0)


def _look_of(reference: Reference, at_ms: int) -> int:
    """The start of the look that holds the time."""
    look_ms, origin_ms = reference.detector.look_ms, reference.origin_ms
    return (at_ms - origin_ms) // look_ms * look_ms + origin_ms


def _gather(ledger: Ledger, clock: Clock, reference: Reference, reign: Reign, hour: Hour) -> None:
    """Add the champion's rows to their looks, from its first whole look on, but to none that is closed."""
    first_ms = _look_of(reference, reign.start_ms - 1) + reference.detector.look_ms
    named = {signal.name for signal in reference.detector.signals} | {names.ROWS}
    watched = np.array([name in named for name in hour.name_of.values()], np.bool_)
    for family, rows in ((SHOWN, hour.shown), (LABELLED, hour.labels)):
        oldest_ms = first_ms if family == SHOWN else max(first_ms, _look_of(reference, clock.labelled_ms))
        mine = (rows.version == reign.version) & (rows.asked_ms >= oldest_ms) & watched[rows.signal]
        _put(ledger, reference, family, rows.take(mine))


def _put(ledger: Ledger, reference: Reference, family: int, rows: Rows) -> None:
    look_ms, origin_ms = reference.detector.look_ms, reference.origin_ms
    start = (rows.asked_ms - origin_ms) // look_ms * look_ms + origin_ms
    moved = Rows(start, start, rows.version, rows.signal, rows.bin, rows.count, rows.units)
    held = [r for s in np.unique(start).tolist() if (r := ledger.looks.get((family, s))) is not None]
    for start_ms, part in joined([*held, moved]).added().by_seen():
        ledger.looks.put((family, start_ms), part)


def _last(plan: Plan, clock: Clock, end_ms: int) -> Mapping[int, int]:
    """By family: looks that end up to then are complete."""
    through_ms = end_ms if clock.closing is None else clock.closing.through_ms
    return {SHOWN: end_ms, LABELLED: max(clock.labelled_ms, through_ms - plan.horizon_ms)}


def _ended(ledger: Ledger, reference: Reference, last: Mapping[int, int]) -> Sequence[tuple[int, int]]:
    """(family, start) of the looks that are complete, oldest first."""
    look_ms = reference.detector.look_ms
    return sorted((f, start_ms) for (f, start_ms), _ in ledger.looks.items() if start_ms + look_ms <= last[f])


def _closed(reference: Reference, start_ms: int, tallies: Mapping[tuple[int, str], Tally]) -> Look:
    """Each signal's mean over the look; a share of all predictions for what was missing or unseen."""
    found = {name: tally for (_, name), tally in tallies.items()}
    everyone = found[names.ROWS].count if names.ROWS in found else 0
    means, counts = list[float | None](), list[int]()
    for signal in reference.detector.signals:
        tally = found.get(signal.name)
        if signal.kind in ("missing", "unseen"):
            means.append((tally.count if tally else 0) / everyone if everyone else None)
            counts.append(everyone)
        else:
            rows = max(tally.count, 0) if tally else 0
            means.append(tally.mean if tally and rows else None)
            counts.append(rows)
    return Look(start_ms, means, counts)


def _event(plan: Plan, reign: Reign, alarm: Alarm, look_ms: int, end_ms: int) -> DriftDetected:
    at_ms = end_ms + plan.lateness_ms
    identity = f"{plan.loop} {reign.sequence} {reign.digest} {at_ms} {alarm.looks}"
    return DriftDetected(
        loop=plan.loop,
        drift_id=f"{plan.loop}-{hashlib.sha256(identity.encode()).hexdigest()[:12]}",
        at_ms=at_ms,
        model_version=reign.version,
        since_ms=alarm.since_ms,
        evidence=alarm.evidence,
        threshold=alarm.threshold,
        look_ms=look_ms,
        looks=alarm.looks,
        signals=[
            DriftSignal(
                name=s.name,
                kind=s.kind,
                weight=s.weight,
                evidence=s.evidence,
                reference_mean=s.reference_mean,
                recent_mean=s.recent_mean,
                shift_sd=s.shift_sd,
                drifted=s.drifted,
            )
            for s in alarm.signals
        ],
    )
