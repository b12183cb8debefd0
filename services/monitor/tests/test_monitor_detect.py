"""The detector of a loop: drift found and dated, holds, measurements, time; independent of cuts and order."""

from collections.abc import Callable, Sequence
from itertools import pairwise
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from trimtab.contracts.control import (
    DriftDetected,
    PerformanceMeasured,
    QualityRestored,
    QualityViolated,
    Reference,
    ReferenceSignal,
    TimeAdvanced,
)
from trimtab.loops.model import Loop
from trimtab.monitor.core import detection, exact, names, observe
from trimtab.monitor.core.drifting import Watch
from trimtab.monitor.core.ledger import SPECS, Ledger, Tip
from trimtab.monitor.core.observe import ONE, Named, merged
from trimtab.monitor.core.plan import plan_of
from trimtab.monitor.core.predictions import Deployment
from trimtab.monitor.core.references import reference_of
from trimtab.monitor.core.rows import Rows
from trimtab.runtime.table import Table
from trimtab.testing.declarations import offers
from trimtab.testing.models import trained

HOUR, DAY = 3_600_000, 86_400_000
LATE = 10 * 60_000
LOOP = offers(
    loop={"lateness": "10m"},
    label={"within": "2h"},
    quality={"hold_when": {"rejected": "2%", "missing": "+5%", "unseen_category": "2%", "out_of_range": "1%"}},
    gate={"block": "1h", "holdout": "2d", "watch": "1d", "baselines": ["constant"]},
    drift={"false_alarms": "1 per 60d", "season": "1d"},
)
V1 = Deployment(1, 1, "a" * 64, 0)


def named(name: str, seen: int, *, asked: int | None = None, version: int = 1, values: Sequence[float] = ()) -> Named:
    """Rows of one signal with these values."""
    bins, units = exact.quantise(np.array(values, np.float64))
    full = np.full(len(values), 1, np.int64)
    return Named(
        [name],
        Rows(full * seen, full * (seen if asked is None else asked), full * version, full * 0, bins, full, units),
    )


def count(name: str, seen: int, n: int, *, version: int = 0) -> Named:
    """A signal that is only counted."""
    one = np.ones(1, np.int64)
    return Named([name], Rows(one * seen, one * seen, one * version, one * 0, one * 0, one * n, one * 0))


class Detecting:
    """A detector at work on tables that survive their encoders."""

    def __init__(self, loop: Loop = LOOP, *, reference: Reference | None = None) -> None:
        self.plan = plan_of(loop)
        self.tables: dict[str, Table[Any, Any]] = {spec.name: Table(spec) for spec in SPECS}
        self.reference = reference or steady_reference()
        self.restart()

    def restart(self) -> None:
        for table in self.tables.values():
            for key, value in list(table.flush()):
                table.load(key, value)
        self.ledger = Ledger(self.tables)
        self.watch = Watch(self.plan)
        if self.reference.signals:
            self.knows("a" * 64)

    def knows(self, digest: str) -> None:
        model = trained("r", digest=digest).model_copy(update={"reference": self.reference})
        self.watch.add(digest, reference_of(self.plan, model))

    def absorb(self, *parts: Named, deployments: Sequence[Deployment] = (V1,), tip: Tip | None = None) -> int:
        return detection.absorb(self.ledger, merged(parts), deployments, tip)

    def advance(self, progress_ms: int) -> list[detection.Event]:
        return [s.event for s in detection.advance(self.plan, self.ledger, self.watch, progress_ms)]


def steady_reference(days: int = 14) -> Reference:
    """Hourly looks of a stationary stream."""
    rng = np.random.default_rng(5)
    hours = days * 24
    signals = {
        "score": ("score", 0.3 + 0.02 * rng.standard_normal(hours)),
        "feature:price": ("feature", 10 + 0.5 * rng.standard_normal(hours)),
        "missing:place": ("missing", np.zeros(hours)),
        "loss": ("loss", 0.5 + 0.03 * rng.standard_normal(hours)),
    }
    return Reference(
        look_ms=HOUR,
        season_ms=DAY,
        from_ms=-days * DAY,
        signals={
            name: ReferenceSignal(kind=kind, means=means.tolist(), counts=[50] * hours)
            for name, (kind, means) in signals.items()
        },
    )


def stream(hours: int, *, shift: Callable[[int], float] = lambda _: 0.0, seed: int = 1) -> list[list[Named]]:
    """Per hour the rows of fifty predictions and of the labels that settled two hours after their asks."""
    rng = np.random.default_rng(seed)
    found = list[list[Named]]()
    for hour in range(hours):
        at, labels = hour * HOUR, (hour - 2) * HOUR
        parts = [
            count(names.ROWS, at, 50, version=1),
            count(names.arrived("offer"), at, 50),
            named(names.SCORE, at, values=np.clip(0.3 + 0.14 * rng.standard_normal(50), 0, 1).tolist()),
            named(names.feature("price"), at, values=(10 + 3.5 * rng.standard_normal(50)).tolist()),
        ]
        if labels >= 0:
            losses = 0.5 + 0.2 * rng.standard_normal(50) + shift(hour - 2)
            label = (rng.random(50) < 0.3).astype(float)
            parts += [
                named(names.LOSS, at, asked=labels, values=losses.tolist()),
                named(names.LABEL, at, asked=labels, values=label.tolist()),
                count(names.SETTLED, at, 50),
            ]
        found.append(parts)
    return found


def run(detecting: Detecting, hours: Sequence[Sequence[Named]], *, step: int = 1) -> list[detection.Event]:
    """Feed the hours, `step` at a time."""
    said = list[detection.Event]()
    for first in range(0, len(hours), step):
        some = hours[first : first + step]
        detecting.absorb(*(part for parts in some for part in parts))
        said += detecting.advance((first + len(some)) * HOUR + LATE)
    return said


def of(kind: type[detection.Event], said: Sequence[detection.Event]) -> list[Any]:
    return [event for event in said if isinstance(event, kind)]


def test_a_planted_shift_is_found_named_and_dated() -> None:
    planted = 10 * 24
    said = run(Detecting(), stream(14 * 24, shift=lambda hour: 0.1 if hour >= planted else 0.0))
    drifts: list[DriftDetected] = of(DriftDetected, said)
    assert [d.model_version for d in drifts] == [1]
    drift = drifts[0]
    assert planted * HOUR < drift.at_ms < (planted + 24) * HOUR
    assert abs(drift.since_ms - planted * HOUR) <= 6 * HOUR
    assert drift.look_ms == HOUR
    assert drift.evidence >= drift.threshold == 60 * 24
    assert [s.name for s in drift.signals if s.drifted] == ["loss"]
    assert drift.signals[0].recent_mean == pytest.approx(0.6, abs=0.03)
    assert drift.signals[0].reference_mean == pytest.approx(0.5, abs=0.01)
    assert drift.drift_id.startswith("offers-")


def test_a_stationary_stream_raises_no_alarm() -> None:
    assert of(DriftDetected, run(Detecting(), stream(20 * 24))) == []


def test_every_event_hour_is_told_once_and_in_order() -> None:
    said = run(Detecting(), stream(30), step=7)
    assert [e.at_ms for e in of(TimeAdvanced, said)] == [hour * HOUR for hour in range(1, 31)]
    at = [e.at_ms for e in said]
    assert at == sorted(at)


@settings(max_examples=6, suppress_health_check=[HealthCheck.too_slow])
@given(st.lists(st.integers(0, 48), max_size=5), st.booleans(), st.integers(0, 9))
def test_cuts_order_and_restarts_do_not_matter(cuts: list[int], restart: bool, seed: int) -> None:
    hours = stream(48, shift=lambda hour: 0.4 if hour >= 24 else 0.0)
    plain = run(Detecting(), hours)
    assert of(DriftDetected, plain)
    assert of(PerformanceMeasured, plain)
    detecting, said = Detecting(), list[detection.Event]()
    edges = sorted({0, 48, *cuts})
    rng = np.random.default_rng(seed)
    for first, last in pairwise(edges):
        parts = [part for some in hours[first:last] for part in some]
        for at in rng.permutation(len(parts)).tolist():
            detecting.absorb(parts[at])
        said += detecting.advance(last * HOUR + LATE)
        if restart:
            detecting.restart()
    assert said == plain


def test_rows_within_lateness_count_and_later_ones_are_dropped() -> None:
    detecting = Detecting()
    hours = stream(4)
    for parts in hours:
        detecting.absorb(*parts)
    detecting.advance(2 * HOUR + LATE)
    assert detecting.absorb(count(names.ROWS, 1 * HOUR, 5, version=1)) == 1
    assert detecting.absorb(count(names.ROWS, 2 * HOUR, 5, version=1)) == 0
    assert detecting.absorb(count(names.SETTLED, 1 * HOUR, 5)) == 0, "what labels show is never dropped"


def test_evidence_about_a_retired_version_stops() -> None:
    detecting, said = Detecting(), list[detection.Event]()
    detecting.knows("b" * 64)
    for hour, parts in enumerate(stream(20 * 24, shift=lambda hour: 0.2 if hour >= 190 else 0.0)):
        second = (Deployment(2, 2, "b" * 64, 200 * HOUR),) if hour >= 200 else ()
        detecting.absorb(*parts, deployments=(V1, *second))
        said += detecting.advance((hour + 1) * HOUR + LATE)
    drifts = of(DriftDetected, said)
    assert all(d.at_ms <= 201 * HOUR + LATE for d in drifts), "version 1 has no looks after its reign"


def test_it_waits_for_a_reference_that_is_not_known_yet() -> None:
    detecting = Detecting()
    detecting.absorb(*stream(1)[0], deployments=(Deployment(1, 1, "c" * 64, 0),))
    assert detecting.advance(3 * HOUR + LATE) == [TimeAdvanced(loop="offers", at_ms=HOUR)]
    detecting.knows("c" * 64)
    assert [e.at_ms for e in of(TimeAdvanced, detecting.advance(3 * HOUR + LATE))] == [2 * HOUR, 3 * HOUR]


def test_a_bad_stream_is_held_and_restored_and_its_looks_are_left_out() -> None:
    def bad(hour: int) -> bool:
        return 100 <= hour < 130

    hours = stream(8 * 24, shift=lambda hour: 1.0 if bad(hour) else 0.0)
    for hour, parts in enumerate(hours):
        if bad(hour):
            parts.append(count(names.rejected("offer"), hour * HOUR, 25))
            parts.append(count(names.missing("place"), hour * HOUR, 20, version=1))
    said = run(Detecting(), hours)
    violated: dict[str, QualityViolated] = {e.rule: e for e in of(QualityViolated, said)}
    restored: dict[str, QualityRestored] = {e.rule: e for e in of(QualityRestored, said)}
    assert set(violated) == set(restored) == {"rejected", "missing"}
    assert len(of(QualityViolated, said)) == len(of(QualityRestored, said)) == 2, "told once each"
    assert violated["rejected"].subject == "offer"
    assert violated["rejected"].since_ms == 100 * HOUR
    assert violated["missing"].limit == pytest.approx(0.05), "five points above the reference's none"
    assert violated["missing"].at_ms < 110 * HOUR
    assert 130 * HOUR < restored["rejected"].at_ms < 140 * HOUR
    assert of(DriftDetected, said) == []


def test_few_rows_break_no_share() -> None:
    hours = stream(48)
    hours[20].append(count(names.rejected("offer"), 20 * HOUR, 2))
    assert of(QualityViolated, run(Detecting(), hours)) == []


def test_a_silent_source_is_told() -> None:
    loop = offers(
        loop={"lateness": "10m"},
        events={"click": {"schema": "click.avsc", "id": "click_id", "time": "clicked_at", "expect": "5 per 6h"}},
    )
    hours = stream(96)
    for hour, parts in enumerate(hours):
        if not 30 <= hour < 50:
            parts.append(count(names.arrived("click"), hour * HOUR, 3))
    said = [e for e in run(Detecting(loop), hours) if isinstance(e, QualityViolated | QualityRestored)]
    assert [(type(e).__name__, e.rule, e.subject) for e in said] == [
        ("QualityViolated", "silent", "click"),
        ("QualityRestored", "silent", "click"),
    ]
    assert said[0].at_ms == 35 * HOUR + LATE, "of six hours the first alone had events"
    assert said[0].share == pytest.approx(0.6)
    assert said[1].at_ms == 52 * HOUR + LATE


@settings(max_examples=20)
@given(st.integers(1, 400), st.sampled_from([1, 60, 179]))
@example(90, 60)
@example(45, 60)
def test_a_source_that_brings_what_is_expected_is_not_silent_until_it_stops(count: int, seconds: int) -> None:
    expect = f"{count} per {count * seconds}s"
    events = {"click": {"schema": "click.avsc", "id": "click_id", "time": "clicked_at", "expect": expect}}
    detecting = Detecting(offers(loop={"lateness": "10m"}, events=events))
    expected, said = detecting.plan.expected["click"], list[detection.Event]()
    for hour in range(60):
        if not 30 <= hour < 40:
            at_ms = np.arange(hour * HOUR, (hour + 1) * HOUR, seconds * 1_000)
            detecting.absorb(observe.counted(names.arrived("click"), at_ms, expected))
        said += detecting.advance((hour + 1) * HOUR + LATE)
    held: list[QualityViolated] = of(QualityViolated, said)
    assert [30 * HOUR < event.at_ms - LATE <= 40 * HOUR for event in held] == [True], "only as it brings nothing"
    kept = 2 * expected.per_ms + 3 * HOUR
    assert len(detecting.ledger.arrivals) <= 2 * kept // expected.width_ms, "what no verdict looks at is forgotten"


def test_performance_says_what_matured_outcomes_say() -> None:
    detecting = Detecting()
    said: list[PerformanceMeasured] = of(PerformanceMeasured, run(detecting, stream(60)))
    at = [e.at_ms for e in said]
    assert at == [e for i, e in enumerate(at) if i == 0 or e - at[i - 1] >= HOUR]
    last = said[-1]
    assert last.matured_rows % 50 == 0
    assert last.matured_rows >= 2000
    assert last.matured_positives is not None
    assert last.matured_positives / last.matured_rows == pytest.approx(0.3, abs=0.05)
    assert [(m.version, m.arm) for m in last.models] == [(1, "champion")]
    assert last.models[0].metrics["log_loss"] == pytest.approx(0.5, abs=0.02)
    assert last.outcomes >= last.matured_rows


def test_champion_and_shadow_are_compared_on_the_rows_they_share() -> None:
    rng = np.random.default_rng(3)
    hours = stream(40)
    for hour, parts in enumerate(hours[2:], start=2):
        at, asked = hour * HOUR, (hour - 2) * HOUR
        ours = 0.5 + 0.1 * rng.standard_normal(50)
        parts += [
            named("versus:7", at, asked=asked, values=ours.tolist()),
            named("versus:1", at, asked=asked, version=7, values=(ours + 0.1).tolist()),
            named(names.LOSS, at, asked=asked, version=7, values=(ours + 0.1).tolist()),
        ]
    last: PerformanceMeasured = of(PerformanceMeasured, run(Detecting(), hours))[-1]
    assert [(m.version, m.arm) for m in last.models] == [(1, "champion"), (7, "shadow")]
    pair = last.paired[0]
    assert (pair.version, pair.other) == (1, 7)
    assert pair.difference == pytest.approx(-0.1, abs=1e-3)
    assert pair.low <= pair.difference <= pair.high < 0
    assert pair.rows == 50 * pair.blocks


def test_the_record_that_tipped_it_gives_its_trace() -> None:
    detecting = Detecting()
    found: list[tuple[detection.Event, Tip | None]] = []
    for hour, parts in enumerate(stream(5 * 24, shift=lambda hour: 0.5 if hour >= 48 else 0.0)):
        detecting.absorb(*parts, tip=Tip(hour * HOUR + 5, f"00-{hour:032x}-{1:016x}-01"))
        for said in detection.advance(detecting.plan, detecting.ledger, detecting.watch, (hour + 1) * HOUR + LATE):
            found.append((said.event, said.tip))
    drift, tip = next((e, t) for e, t in found if isinstance(e, DriftDetected))
    assert tip is not None
    assert tip.at_ms == drift.at_ms - LATE - HOUR + 5


def test_one_is_one() -> None:
    assert exact.total([(0, ONE)]) == 1.0
