"""The join: early, late, repeated, corrected and missing labels; silent sources; holds."""

from collections.abc import Sequence
from dataclasses import replace
from itertools import pairwise
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from trimtab.loops.columns import event_columns
from trimtab.loops.labels import Asks, LabelEvents, LabelWindow
from trimtab.loops.model import Loop
from trimtab.monitor.core import exact, joining
from trimtab.monitor.core.joining import Joinables, Joined, JoinState, Spans
from trimtab.monitor.core.plan import Plan, plan_of
from trimtab.monitor.core.predictions import Shadows
from trimtab.monitor.core.settled import carried, payloads
from trimtab.runtime.table import Table
from trimtab.testing.declarations import offers

HOUR, DAY = 3_600_000, 86_400_000
LATE = 10 * 60_000
LOOP = offers(loop={"lateness": "10m"})


class Joining:
    """A join at work, on tables that go through their encoders after each step."""

    def __init__(self, loop: Loop = LOOP) -> None:
        self.tables: dict[str, Table[Any, Any]] = {spec.name: Table(spec) for spec in joining.SPECS}
        self.declare(loop)

    def declare(self, loop: Loop) -> None:
        """Go on with another declaration."""
        self.plan: Plan = plan_of(loop)
        self.window = LabelWindow(loop.label, event_columns(loop.events[loop.label.of]), loop.task)
        self.restart()

    def restart(self) -> None:
        """Restore everything from what was written."""
        for table in self.tables.values():
            for key, value in list(table.flush()):
                table.load(key, value)
        self.state = JoinState(self.tables)
        self.labels = joining.opened_join(self.plan, self.state, self.window)

    def step(self, new: Joinables, progress_ms: int, spans: Spans = ()) -> Joined:
        return joining.join(self.plan, self.state, self.labels, new, spans=spans, progress_ms=progress_ms)


def asks(*rows: tuple[str, int], version: int = 1, score: float = 0.8, shadow: float = 0.5) -> Asks:
    n = len(rows)
    loads = payloads(
        1,
        np.arange(n) + 100,
        np.full(n, version),
        np.full((n, 1), score),
        Shadows(np.arange(n), np.full(n, 7), np.full((n, 1), shadow)),
    )
    return Asks([r[0] for r in rows], [r[0] for r in rows], [r[1] for r in rows], loads)


def clicks(*rows: tuple[str, int, int]) -> LabelEvents:
    """(offer, time, id)"""
    return LabelEvents([r[0] for r in rows], [r[1] for r in rows], [r[2] for r in rows], [[] for _ in rows])


NO_ASKS, NO_CLICKS = asks(), clicks()


def told(joined: Joined) -> list[tuple[str, float, int]]:
    o = joined.outcomes
    return list(zip(o.key, o.label, o.revision, strict=True))


def sums(joined: Joined) -> dict[tuple[int, str], tuple[int, float]]:
    """(version, signal) to (count, sum)."""
    found: dict[tuple[int, str], tuple[int, float]] = {}
    r = joined.shown.rows
    for version, signal, bin_, count, units in zip(
        *(c.tolist() for c in (r.version, r.signal, r.bin, r.count, r.units)), strict=True
    ):
        key = (version, joined.shown.names[signal])
        ranked = key[1] in ("positive", "negative")
        before = found.get(key, (0, 0.0))
        found[key] = (before[0] + count, before[1] + (0.0 if ranked else exact.total([(bin_, units)])))
    return found


def test_payloads_come_back_whatever_their_shape() -> None:
    loads = [
        *payloads(0, np.array([5]), np.array([2]), np.array([[0.25]]), no_shadows(1)),
        *payloads(
            3,
            np.array([6, 7]),
            np.array([2, 0]),
            np.array([[0.1, 0.2, 0.7], [np.nan] * 3]),
            Shadows(np.array([0, 0]), np.array([1, 3]), np.array([[1.0, 0, 0], [0, 1.0, 0]])),
        ),
    ]
    found = carried(loads)
    assert found.partition.tolist() == [0, 3, 3]
    assert found.offset.tolist() == [5, 6, 7]
    assert found.version.tolist() == [2, 2, 0]
    assert found.scores[:2].tolist() == [[0.25, 0, 0], [0.1, 0.2, 0.7]]
    assert np.isnan(found.scores[2]).all()
    assert found.shadows.row.tolist() == [1, 1]
    assert found.shadows.version.tolist() == [1, 3]
    assert found.shadows.scores.tolist() == [[1, 0, 0], [0, 1, 0]]


def no_shadows(width: int) -> Shadows:
    return Shadows(np.empty(0, np.int64), np.empty(0, np.int64), np.empty((0, width)))


def test_an_ask_takes_at_most_64_bytes_beside_its_keys() -> None:
    joining_ = Joining()
    one = asks(("offer", DAY))
    joining_.step(Joinables(one, NO_CLICKS), DAY)
    for key, chunk in joining_.state.chunks.items():
        spec = joining_.state.chunks.spec
        assert len(spec.encode(chunk)) - len("offer") <= 64
        assert key[0] == "offer"


def test_a_missing_label_is_false_when_its_window_closes_by_the_watermark() -> None:
    joining_ = Joining()
    assert told(joining_.step(Joinables(asks(("a", HOUR)), NO_CLICKS), HOUR + DAY + LATE)) == []
    closed = joining_.step(Joinables(NO_ASKS, NO_CLICKS), HOUR + DAY + LATE + 1)
    assert told(closed) == [("a", 0.0, 0)]
    assert closed.outcomes.settled_at_ms == [HOUR + DAY]
    assert closed.carried.partition.tolist() == [1]
    assert closed.carried.offset.tolist() == [100]
    assert closed.suspect == [False]


def test_a_label_may_come_before_its_ask() -> None:
    joining_ = Joining()
    joining_.step(Joinables(NO_ASKS, clicks(("a", 2 * HOUR, 1))), 2 * HOUR)
    joining_.step(Joinables(asks(("a", HOUR)), NO_CLICKS), 2 * HOUR)
    assert told(joining_.step(Joinables(NO_ASKS, NO_CLICKS), 3 * DAY)) == [("a", 1.0, 0)]


def test_a_late_label_makes_a_revision_and_what_it_showed_is_corrected() -> None:
    joining_ = Joining()
    first = joining_.step(Joinables(asks(("a", HOUR)), NO_CLICKS), 2 * DAY)
    assert told(first) == [("a", 0.0, 0)]
    late = joining_.step(Joinables(NO_ASKS, clicks(("a", 2 * HOUR, 1))), 2 * DAY)
    assert told(late) == [("a", 1.0, 1)]
    together = {k: tuple(np.add(v, sums(late).get(k, (0, 0.0)))) for k, v in sums(first).items()}
    assert together[1, "label"] == (1, 1.0)
    assert together[0, "settled"] == (1, 0.0), "an outcome is counted once"
    assert sums(late)[1, "positive"] == (1, 0)
    assert sums(late)[1, "negative"] == (-1, 0)
    both = sums(first)[1, "loss"], sums(late)[1, "loss"]
    assert both[0][0] + both[1][0] == 1
    assert both[0][1] + both[1][1] == pytest.approx(-np.log(0.8), rel=1e-6)


def test_a_label_that_comes_twice_changes_nothing() -> None:
    joining_ = Joining()
    click = clicks(("a", 2 * HOUR, 1))
    joining_.step(Joinables(asks(("a", HOUR)), click), 2 * HOUR)
    again = joining_.step(Joinables(asks(("a", HOUR)), click), 2 * HOUR)
    assert again.counts.repeated == 2
    assert told(joining_.step(Joinables(NO_ASKS, NO_CLICKS), 3 * DAY)) == [("a", 1.0, 0)]


def test_a_corrected_label_makes_a_revision() -> None:
    joining_ = Joining()
    joining_.step(Joinables(asks(("a", HOUR)), clicks(("a", 2 * HOUR, 1))), 2 * DAY)
    moved = joining_.step(Joinables(NO_ASKS, clicks(("a", 40 * HOUR, 1))), 2 * DAY)
    assert told(moved) == [("a", 0.0, 1)]
    assert moved.counts.corrected == 1


def test_labels_show_each_version_and_their_differences() -> None:
    joining_ = Joining()
    shown = sums(joining_.step(Joinables(asks(("a", HOUR)), clicks(("a", 2 * HOUR, 1))), 3 * DAY))
    assert shown[1, "loss"][1] == pytest.approx(-np.log(0.8), rel=1e-6)
    assert shown[7, "loss"][1] == pytest.approx(-np.log(0.5), rel=1e-6)
    assert shown[1, "versus:7"] == shown[1, "loss"]
    assert shown[7, "versus:1"] == shown[7, "loss"]
    assert shown[1, "scored"][1] == pytest.approx(0.8)


def test_before_the_first_model_labels_are_counted_all_the_same() -> None:
    joining_ = Joining()
    some = Asks(
        ["a"], ["a"], [HOUR], payloads(0, np.zeros(1, int), np.zeros(1, int), np.full((1, 1), np.nan), no_shadows(1))
    )
    shown = sums(joining_.step(Joinables(some, NO_CLICKS), 3 * DAY))
    assert shown == {(0, "settled"): (1, 0.0), (0, "label"): (1, 0.0)}


EXPECTING = replace(LOOP, events={**LOOP.events, "click": replace(LOOP.events["click"], expect=(1, HOUR))})


def test_a_silent_source_keeps_windows_open() -> None:
    joining_ = Joining(EXPECTING)
    heard = [(hour * HOUR, 3) for hour in range(24)]
    joining_.step(Joinables(asks(("a", HOUR), ("b", 2 * HOUR)), NO_CLICKS, source=heard), 24 * HOUR)
    quiet = joining_.step(Joinables(NO_ASKS, NO_CLICKS), 30 * HOUR)
    assert told(quiet) == []
    assert quiet.silent
    found = joining_.step(Joinables(NO_ASKS, clicks(("b", 25 * HOUR, 1)), source=[(29 * HOUR, 1)]), 30 * HOUR + LATE)
    assert not found.silent
    assert sorted(told(found)) == [("a", 0.0, 0), ("b", 1.0, 0)], "what the outage hid came with the backlog"
    assert found.outcomes.settled_at_ms[0] == 30 * HOUR - 1, "just before the source was heard again"


def test_a_hold_that_is_found_later_marks_what_settled_and_its_end_clears_the_rest() -> None:
    joining_ = Joining()
    first = joining_.step(Joinables(asks(("a", HOUR), ("b", 3 * HOUR)), NO_CLICKS), 2 * DAY)
    assert first.suspect == [False, False]
    held = joining_.step(Joinables(NO_ASKS, NO_CLICKS), 2 * DAY, ((2 * HOUR, 2**62),))
    assert told(held) == [("b", 0.0, 1)]
    assert held.suspect == [True]
    assert sums(held)[1, "label"] == (-1, 0.0)
    ended = joining_.step(Joinables(NO_ASKS, NO_CLICKS), 2 * DAY, ((2 * HOUR, 3 * HOUR),))
    assert told(ended) == [("b", 0.0, 2)]
    assert ended.suspect == [False]
    assert sums(ended)[1, "label"] == (1, 0.0)


def test_suspect_rows_show_nothing_but_are_counted() -> None:
    joining_ = Joining()
    held = joining_.step(Joinables(asks(("a", HOUR)), NO_CLICKS), 2 * DAY, ((0, 2 * HOUR),))
    assert held.suspect == [True]
    assert sums(held) == {(0, "settled"): (1, 0.0)}


def test_a_longer_window_is_followed_by_the_asks_that_wait() -> None:
    joining_ = Joining()
    joining_.step(Joinables(asks(("a", HOUR), ("b", HOUR)), clicks(("a", 2 * HOUR, 1))), 2 * HOUR)
    joining_.declare(offers(loop={"lateness": "10m"}, label={"within": "3d"}))
    assert told(joining_.step(Joinables(NO_ASKS, clicks(("b", 50 * HOUR, 2))), 2 * DAY)) == []
    assert told(joining_.step(Joinables(NO_ASKS, NO_CLICKS), 4 * DAY)) == [("a", 1.0, 0), ("b", 1.0, 0)]


def test_another_label_begins_anew() -> None:
    joining_ = Joining()
    joining_.step(Joinables(asks(("a", HOUR)), clicks(("a", 2 * HOUR, 1))), 2 * HOUR)
    joining_.declare(offers(loop={"lateness": "10m"}, label={"value": "count() > 1"}))
    assert told(joining_.step(Joinables(asks(("b", 3 * HOUR)), NO_CLICKS), 3 * DAY)) == [("b", 0.0, 0)]


def pieces(cuts: Sequence[int], n: int) -> list[range]:
    edges = sorted({0, n, *(min(c, n) for c in cuts)})
    return [range(a, b) for a, b in pairwise(edges)]


@settings(max_examples=25)
@given(
    st.lists(st.tuples(st.integers(0, 30), st.integers(0, 60)), min_size=1, max_size=20),
    st.lists(st.integers(0, 20), max_size=4),
    st.booleans(),
)
def test_cuts_and_restarts_do_not_matter(rows: list[tuple[int, int]], cuts: list[int], restart: bool) -> None:
    """(hour of the ask, hours until the click) of each row; the click comes with its ask."""

    def run(parts: Sequence[range]) -> tuple[list[tuple[str, float, int]], dict[tuple[int, str], tuple[int, float]]]:
        joining_ = Joining()
        found: list[tuple[str, float, int]] = []
        total: dict[tuple[int, str], tuple[int, float]] = {}
        for part in [*parts, range(0)]:
            some = asks(*((f"k{i}", rows[i][0] * HOUR) for i in part))
            events = clicks(*((f"k{i}", sum(rows[i]) * HOUR, i) for i in part))
            joined = joining_.step(Joinables(some, events), 9 * DAY if len(parts) == 1 or not len(part) else 0)
            found += told(joined)
            for key, value in sums(joined).items():
                total[key] = (total.get(key, (0, 0.0))[0] + value[0], total.get(key, (0, 0.0))[1] + value[1])
            if restart:
                joining_.restart()
        return sorted(found), {k: (n, round(s, 6)) for k, (n, s) in total.items()}

    assert run(pieces(cuts, len(rows))) == run([range(len(rows))])
