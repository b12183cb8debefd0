"""When a stream is too bad to learn from: shares of rows that break a declared limit.

A share is judged over the newest buckets that hold enough rows, so that five rows at night cannot break a 2% limit; it
is violated when even the lower Wilson bound (three standard errors) is above the limit, and restored when the share
itself is back. (E. B. Wilson, "Probable inference, the law of succession, and statistical inference", JASA 1927.)
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

Ints = NDArray[np.int64]
Rule = Literal["rejected", "missing", "unseen_category", "out_of_range", "silent"]

ENOUGH_ROWS = 500
"""How many rows a verdict looks back over, if the kept buckets hold as many."""
ENOUGH_TO_RESTORE = 100
"""The same for lifting a hold: the sooner it ends the less is lost."""
KEPT_BUCKETS = 24
DEVIATIONS = 3.0


@dataclass(frozen=True, slots=True)
class Subject:
    """What is judged by a rule: an event or a feature."""

    rule: Rule
    name: str


@dataclass(frozen=True, slots=True)
class Hold:
    """A rule that is broken: the share and its limit when that was found, and since when."""

    subject: Subject
    share: float
    limit: float
    since_ms: int


@dataclass(frozen=True, slots=True)
class Counts:
    """Rows and bad rows by subject in one bucket of event time, for the version that served then."""

    start_ms: int
    version: int
    rows: Ints
    bad: Ints


@dataclass(frozen=True, slots=True)
class Change:
    """A hold that began or ended; `share` is the one now."""

    hold: Hold
    ended: bool = False


def wilson_lower(bad: int, rows: int, deviations: float = DEVIATIONS) -> float:
    """The lower end of the Wilson interval of a share.

    >>> round(wilson_lower(20, 500), 4), wilson_lower(0, 10), wilson_lower(0, 0)
    (0.0208, 0.0, 0.0)
    """
    if bad == 0:
        return 0.0
    z2, share = deviations**2, bad / rows
    centre = share + z2 / (2 * rows)
    spread = deviations * math.sqrt(share * (1 - share) / rows + z2 / (4 * rows * rows))
    return max(0.0, (centre - spread) / (1 + z2 / rows))


@dataclass(frozen=True, slots=True)
class Standing:
    """The holds that stand, and until when ended ones reached: what was bad before does not count again."""

    holds: Mapping[Subject, Hold]
    cleared_ms: Mapping[Subject, int]


def judge(
    subjects: Sequence[Subject], recent: Sequence[Counts], limits: Sequence[float | None], standing: Standing
) -> Sequence[Change]:
    """What changed at the end of the newest of the `recent` buckets (newest last, at most KEPT_BUCKETS).

    `limits`: per subject, None where there is nothing to hold against. Only buckets of the newest one's version count.
    """
    newest = recent[-1]
    same = [c for c in reversed(recent) if c.version == newest.version and len(c.rows) == len(subjects)]
    rows, bad = np.stack([c.rows for c in same]), np.stack([c.bad for c in same])
    suspicious = bad.sum(axis=0).tolist()
    changes = list[Change]()
    for i, (subject, limit) in enumerate(zip(subjects, limits, strict=True)):
        hold = standing.holds.get(subject)
        if hold is None and suspicious[i] and limit is not None:
            after = [c.start_ms for c in same if c.start_ms >= standing.cleared_ms.get(subject, c.start_ms)]
            changes += _begun(subject, rows[: len(after), i], bad[: len(after), i], limit, after)
        elif hold is not None:
            changes += _ended(hold, rows[:, i], bad[:, i], limit)
    return changes


def _within(rows: Ints, bad: Ints, enough: int) -> tuple[int, int, int]:
    """(buckets, rows, bad rows) of the newest buckets, given newest first, that together hold enough rows."""
    cumulated = np.cumsum(rows)
    last = min(int(np.searchsorted(cumulated, enough)), len(rows) - 1)
    return last + 1, int(cumulated[last]), int(bad[: last + 1].sum())


def _begun(subject: Subject, rows: Ints, bad: Ints, limit: float, starts_ms: Sequence[int]) -> Sequence[Change]:
    if not starts_ms:
        return ()
    buckets, n, n_bad = _within(rows, bad, ENOUGH_ROWS)
    if wilson_lower(n_bad, n) <= limit:
        return ()
    worse = (bad[:buckets] > limit * rows[:buckets]).tolist()
    newest = worse.index(True)
    oldest = next((i for i in range(newest, buckets) if not worse[i] and rows[i]), buckets)
    first = max(i for i in range(newest, oldest) if worse[i])
    return [Change(Hold(subject, n_bad / n, limit, starts_ms[first]))]


def _ended(hold: Hold, rows: Ints, bad: Ints, limit: float | None) -> Sequence[Change]:
    _, n, n_bad = _within(rows, bad, ENOUGH_TO_RESTORE)
    if n == 0 or (limit is not None and n_bad > limit * n):
        return ()
    return [Change(Hold(hold.subject, n_bad / n, hold.limit, hold.since_ms), ended=True)]
