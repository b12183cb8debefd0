"""Round durations for a draft."""

from trimtab.loops.declaration.quantities import DAY_MS, HOUR_MS, MINUTE_MS, SECOND_MS

ROUND_MS = (
    *(n * SECOND_MS for n in (1, 5, 10, 30)),
    *(n * MINUTE_MS for n in (1, 5, 10, 30)),
    *(n * HOUR_MS for n in (1, 2, 3, 6, 12)),
    *(n * DAY_MS for n in (1, 2, 3, 7, 14, 30, 60, 90, 180, 365)),
)


def at_least(ms: float) -> int:
    """The shortest round duration that is not shorter.

    >>> at_least(50 * MINUTE_MS) == HOUR_MS
    True
    """
    return next((length for length in ROUND_MS if length >= ms), -(-int(ms) // DAY_MS) * DAY_MS)


def at_most(ms: float) -> int:
    """The longest round duration that is not longer, at least a second.

    >>> at_most(50 * MINUTE_MS) == 30 * MINUTE_MS
    True
    """
    return max((length for length in ROUND_MS if length <= ms), default=SECOND_MS)
