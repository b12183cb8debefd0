"""When a source of events is silent, and how far label windows may therefore be closed.

Counts are kept per bucket of event time and judged only at the buckets' boundaries that the watermark has passed, so
the verdict is a function of the events alone: the join (per partition) and the detector (per loop) come to the same.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from trimtab.monitor.core.rows import Ints

HOUR_MS = 3_600_000
Arrived = Callable[[int], int]
"""How many events fell into the bucket that starts there."""


@dataclass(frozen=True, slots=True)
class Expectation:
    """At least `count` events in each stretch of `per_ms`, judged at multiples of `width_ms`.

    Its buckets begin at those multiples, and `odd_ms` before them: where the stretches begin that end there.
    """

    count: int
    per_ms: int
    width_ms: int

    @property
    def odd_ms(self) -> int:
        """What a stretch has beyond whole multiples of `width_ms`."""
        return self.per_ms % self.width_ms


def expectation(expect: tuple[int, int]) -> Expectation:
    """From a declaration's (count, per ms): judged every hour, or as often as a shorter stretch passes."""
    count, per_ms = expect
    return Expectation(count, per_ms, min(per_ms, HOUR_MS))


def floor(time_ms: int, width_ms: int) -> int:
    """The start of the bucket that holds `time_ms`."""
    return time_ms // width_ms * width_ms


def starts(expected: Expectation | None, at_ms: Ints) -> Ints:
    """The start of the bucket in which each event is counted: as fine as silence is judged, else an hour."""
    if expected is None:
        return at_ms // HOUR_MS * HOUR_MS
    width, odd = expected.width_ms, expected.odd_ms
    return np.maximum(at_ms // width * width, (at_ms + odd) // width * width - odd)


def seen_share(arrived: Arrived, expected: Expectation, began_ms: int, at_ms: int) -> float:
    """How many of the expected events fell into the stretch that ends at the boundary `at_ms`; below 1 it was silent.

    Before a whole stretch has passed since the loop began nothing is silent.
    """
    if at_ms - expected.per_ms < began_ms:
        return 1.0
    first = at_ms - expected.per_ms
    begins = {first, first + expected.odd_ms}
    return sum(arrived(b) for begin in begins for b in range(begin, at_ms, expected.width_ms)) / expected.count


@dataclass(frozen=True, slots=True)
class Closing:
    """How far label windows are closed.

    `judged_ms`: the newest boundary looked at. `through_ms`: windows that end before it may close. `silent`: the
    verdict at that boundary; while it stands, `through_ms` does.
    """

    judged_ms: int
    through_ms: int
    silent: bool = False


@dataclass(frozen=True, slots=True)
class Waited:
    """Windows that ended in [from_ms, until_ms) had to wait and closed at `until_ms`."""

    from_ms: int
    until_ms: int


def advance(
    closing: Closing, arrived: Arrived, expected: Expectation | None, began_ms: int, watermark_ms: int
) -> tuple[Closing, Sequence[Waited]]:
    """Move on to `watermark_ms`. A silent boundary closes nothing; the first one that is not closes all that waited.

    The result is the same whether the watermark came here in one step or in many.
    """
    if expected is None:
        return Closing(watermark_ms, max(watermark_ms, closing.through_ms)), ()
    through, silent, waited = closing.through_ms, closing.silent, list[Waited]()
    for at in range(closing.judged_ms + expected.width_ms, watermark_ms + 1, expected.width_ms):
        was, silent = silent, seen_share(arrived, expected, began_ms, at) < 1
        if was and silent:
            continue
        if was:
            waited.append(Waited(through, at))
        through = max(through, at)
    judged = max(closing.judged_ms, floor(watermark_ms, expected.width_ms))
    if not silent:
        through = max(through, watermark_ms)
    return Closing(judged, through, silent), waited


def opened(began_ms: int, expected: Expectation | None) -> Closing:
    """Where a loop that began at `began_ms` starts."""
    start = began_ms if expected is None else floor(began_ms, expected.width_ms)
    return Closing(start, start)
