"""When windows may close: a function of the events alone, however the watermark came along."""

from collections import Counter
from collections.abc import Sequence

import numpy as np
from hypothesis import given
from hypothesis import strategies as st
from trimtab.monitor.core.silence import (
    Closing,
    Expectation,
    Waited,
    advance,
    expectation,
    floor,
    opened,
    seen_share,
    starts,
)

HOUR = 3_600_000
TWO_AN_HOUR = Expectation(2, HOUR, HOUR)


def counts(*busy: int) -> dict[int, int]:
    """Two events in each of the named hours."""
    return {hour * HOUR: 2 for hour in busy}


def close(arrived: dict[int, int], watermarks: Sequence[int]) -> tuple[Closing, list[Waited]]:
    closing, waited = opened(0, TWO_AN_HOUR), list[Waited]()
    for at_ms in watermarks:
        closing, more = advance(closing, lambda start: arrived.get(start, 0), TWO_AN_HOUR, 0, at_ms)
        waited += more
    return closing, waited


def test_a_declared_stretch_is_judged_each_hour_or_as_often_as_it_passes() -> None:
    assert expectation((100, 24 * HOUR)) == Expectation(100, 24 * HOUR, HOUR)
    assert expectation((5, 60_000)) == Expectation(5, 60_000, 60_000)


def test_a_source_is_not_silent_before_a_whole_stretch_has_passed() -> None:
    assert seen_share({}.get, Expectation(1, 2 * HOUR, HOUR), 0, HOUR) == 1.0  # type: ignore[arg-type]  # never asked
    assert seen_share(lambda _: 0, Expectation(1, 2 * HOUR, HOUR), 0, 2 * HOUR) == 0.0


@given(
    st.integers(1, 5 * HOUR) | st.integers(1, 300).map(lambda minutes: minutes * 60_000),
    st.integers(1, 9),
    st.integers(0, 5 * HOUR),
    st.lists(st.integers(0, 10 * HOUR), max_size=30),
)
def test_of_any_stretch_all_events_count_and_no_others(per_ms: int, count: int, after: int, times: list[int]) -> None:
    expected = expectation((count, per_ms))
    arrived = Counter(starts(expected, np.array(times, np.int64)).tolist())
    at_ms = floor(per_ms + after, expected.width_ms) + expected.width_ms
    within = sum(at_ms - per_ms <= time < at_ms for time in times)
    assert seen_share(lambda start: arrived[start], expected, 0, at_ms) == within / count


def test_windows_close_with_the_watermark_while_the_source_is_heard() -> None:
    closing, waited = close(counts(0, 1, 2), [2 * HOUR + 17])
    assert (closing.through_ms, closing.silent, waited) == (2 * HOUR + 17, False, [])


def test_a_silent_source_holds_windows_open_until_it_is_heard_again() -> None:
    quiet, _ = close(counts(0, 1), [5 * HOUR])
    assert (quiet.through_ms, quiet.silent) == (3 * HOUR, True), "hour 2 had nothing, which is known at its end"
    again, waited = close(counts(0, 1, 5), [6 * HOUR + 1])
    assert (again.through_ms, again.silent) == (6 * HOUR + 1, False)
    assert waited == [Waited(3 * HOUR, 6 * HOUR)]


def test_without_an_expectation_nothing_is_held() -> None:
    closing, _ = advance(opened(0, None), lambda _: 0, None, 0, 7)
    assert closing.through_ms == 7


@given(
    st.sets(st.integers(0, 20)),
    st.lists(st.integers(0, 20 * HOUR), max_size=6),
)
def test_the_way_of_the_watermark_does_not_matter(busy: set[int], steps: list[int]) -> None:
    end = 20 * HOUR + 5
    arrived = counts(*busy)
    assert close(arrived, [*sorted(steps), end]) == close(arrived, [end])
