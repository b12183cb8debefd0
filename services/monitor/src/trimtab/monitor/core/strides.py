"""From which hour to which a loop's time goes on: hour by hour, and in strides once its stream has been quiet for long.

One event of a producer whose clock stands in 1970 would else be followed by half a million empty hours. Where a stride
ends follows from the events alone, as everything that is decided there.
"""

from trimtab.monitor.core.ledger import Clock, Ledger
from trimtab.monitor.core.plan import Plan
from trimtab.monitor.core.silence import HOUR_MS, floor

STRIDE_MS = 720 * HOUR_MS
QUIET_MS = 90 * 24 * HOUR_MS
"""The least silence that is long, if nothing that the monitor remembers reaches further back."""


def fold_end(plan: Plan, ledger: Ledger, clock: Clock) -> int:
    """The end of the next bucket to fold: the one after the last, or in a long silence the next that holds anything."""
    if clock.folded_ms < _quiet_ms(plan, clock):
        return clock.folded_ms + HOUR_MS
    held = [start for table in (ledger.open, ledger.tips) for (start,), _ in table.items()]
    return min(_stride(clock.folded_ms), min(held, default=clock.folded_ms + STRIDE_MS) + HOUR_MS)


def tick_ms(plan: Plan, clock: Clock) -> int:
    """The next time to be told of."""
    return clock.ticked_ms + HOUR_MS if clock.ticked_ms < _quiet_ms(plan, clock) else _stride(clock.ticked_ms)


def _stride(from_ms: int) -> int:
    return floor(from_ms, STRIDE_MS) + STRIDE_MS


def _quiet_ms(plan: Plan, clock: Clock) -> int:
    """From when on the silence is long: then empty hours change nothing any more."""
    expected = max((one.per_ms for one in plan.expected.values()), default=0)
    remembered = plan.window_ms + plan.horizon_ms + plan.mature_ms + 2 * (plan.block_ms + expected)
    return max(clock.began_ms, clock.filled_ms) + max(QUIET_MS, 2 * remembered)
