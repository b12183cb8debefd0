"""When performance is measured, over what, and the event that says so."""

import zlib
from collections.abc import Mapping, Sequence

import msgspec

from trimtab.contracts.control import ModelPerformance, PairedDifference, PerformanceMeasured
from trimtab.ml.metrics import check
from trimtab.monitor.core import performance
from trimtab.monitor.core.ledger import Clock, Ledger
from trimtab.monitor.core.plan import Plan
from trimtab.monitor.core.reigns import Reign
from trimtab.monitor.core.rows import Rows, joined
from trimtab.monitor.core.silence import floor

ENOUGH_OUTCOMES = 1_000
"""New outcomes, or newly matured rows, that call for a measurement at the end of their event-hour."""
LONGEST_MS = 86_400_000
"""After so long any new outcome does."""


def due(clock: Clock, end_ms: int) -> bool:
    """Whether enough has become known since the last measurement."""
    new = max(clock.outcomes - clock.outcomes_measured, clock.matured_rows - clock.matured_measured)
    return new >= ENOUGH_OUTCOMES or (new > 0 and end_ms - clock.measured_ms >= LONGEST_MS)


def measure(
    plan: Plan, ledger: Ledger, clock: Clock, reign: Reign | None, end_ms: int
) -> tuple[Clock, PerformanceMeasured]:
    """The measurement at `end_ms`, over whole blocks of asks whose labels are all decided.

    It looks back over the longer of holdout and watch, but not before the champion's reign, so that champion and
    shadows are seen on the same stretch.
    """
    from_ms = end_ms - plan.window_ms if reign is None else max(reign.start_ms, end_ms - plan.window_ms)
    through_ms = end_ms if clock.closing is None else clock.closing.through_ms
    last_ms = through_ms - plan.horizon_ms - plan.block_ms
    blocks = [rows for (b,), rows in sorted(ledger.tallies.items()) if floor(from_ms, plan.block_ms) <= b <= last_ms]
    name_of = ledger.name_of()
    _forget(ledger, end_ms - plan.window_ms - plan.horizon_ms - 2 * plan.block_ms)
    event = PerformanceMeasured(
        loop=plan.loop,
        at_ms=end_ms + plan.lateness_ms,
        from_ms=from_ms,
        matured_rows=clock.matured_rows,
        matured_positives=clock.matured_positives if plan.task == "binary" else None,
        outcomes=clock.outcomes,
        models=() if reign is None else _models(plan, blocks, reign, name_of),
        paired=() if reign is None else _paired(plan, blocks, reign, name_of, end_ms),
    )
    return _measured(clock, end_ms), event


def _models(plan: Plan, blocks: Sequence[Rows], reign: Reign, name_of: Mapping[int, str]) -> Sequence[ModelPerformance]:
    tallies = performance.tallied(joined(blocks), name_of)
    return performance.models(tallies, reign.version, check(plan.metric, plan.task))


def _paired(
    plan: Plan, blocks: Sequence[Rows], reign: Reign, name_of: Mapping[int, str], end_ms: int
) -> Sequence[PairedDifference]:
    seed = zlib.crc32(f"{plan.loop} {end_ms}".encode())
    by_block = [performance.tallied(performance.beside(rows, name_of), name_of) for rows in blocks]
    return performance.paired(
        by_block, reign.version, check(plan.metric, plan.task), confidence=plan.confidence, seed=seed
    )


def _measured(clock: Clock, end_ms: int) -> Clock:
    return msgspec.structs.replace(
        clock, measured_ms=end_ms, outcomes_measured=clock.outcomes, matured_measured=clock.matured_rows
    )


def _forget(ledger: Ledger, before_ms: int) -> None:
    for key in [key for key, _ in ledger.tallies.items() if key[0] < before_ms]:
        ledger.tallies.remove(key)
