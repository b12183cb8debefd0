"""Rows of settled outcomes: added up per block of asking time, and counted until they have matured."""

import msgspec
import numpy as np
from numpy.typing import NDArray

from trimtab.monitor.core import names
from trimtab.monitor.core.ledger import Clock, Ledger
from trimtab.monitor.core.observe import ONE
from trimtab.monitor.core.plan import Plan
from trimtab.monitor.core.rows import Rows, joined
from trimtab.monitor.core.silence import HOUR_MS, floor

_OF_LABELS = {names.SETTLED, names.LABEL, names.SCORED, names.LOSS, names.HIT, names.POSITIVE, names.NEGATIVE}
_VERSUS = names.versus(0).removesuffix("0")


def of_label(name: str) -> bool:
    """Whether a signal is known only with the label."""
    return name in _OF_LABELS or name.startswith(_VERSUS)


def fold(plan: Plan, ledger: Ledger, clock: Clock, rows: Rows, end_ms: int) -> Clock:
    """Take in the rows of labels that became known before `end_ms`."""
    settled = rows.signal == ledger.number(names.SETTLED)
    labelled = rows.take(rows.signal == ledger.number(names.LABEL))
    _tally(plan, ledger, rows.take(~settled))
    clock = msgspec.structs.replace(clock, outcomes=clock.outcomes + int(rows.count[settled].sum()))
    return _mature(plan, ledger, _count(ledger, clock, labelled), end_ms)


def _tally(plan: Plan, ledger: Ledger, rows: Rows) -> None:
    blocks = rows.asked_ms // plan.block_ms * plan.block_ms
    moved = Rows(blocks, blocks, rows.version, rows.signal, rows.bin, rows.count, rows.units)
    held = [t for b in np.unique(blocks).tolist() if (t := ledger.tallies.get((b,))) is not None]
    for block, part in joined([*held, moved]).added().by_seen():
        ledger.tallies.put((block,), part)


def _count(ledger: Ledger, clock: Clock, labelled: Rows) -> Clock:
    asked, of = np.unique(labelled.asked_ms, return_inverse=True)
    counts = _sums(of, labelled.count, len(asked))
    positives = _sums(of, labelled.units // ONE, len(asked))
    rows, positive = 0, 0
    for start, n, p in zip(asked.tolist(), counts, positives, strict=True):
        if start < clock.matured_ms:
            rows, positive = rows + n, positive + p
        else:
            before = ledger.labelled.get((start,)) or (0, 0)
            ledger.labelled.put((start,), (before[0] + n, before[1] + p))
    return _grown(clock, rows, positive)


def _sums(of: NDArray[np.int64], values: NDArray[np.int64], size: int) -> list[int]:
    sums = np.zeros(size, np.int64)
    np.add.at(sums, of, values)
    return [int(s) for s in sums]


def _mature(plan: Plan, ledger: Ledger, clock: Clock, end_ms: int) -> Clock:
    """Add what was asked before end - mature, bucket by bucket."""
    until = floor(end_ms - plan.mature_ms, HOUR_MS)
    rows, positives = 0, 0
    for start in [start for (start,), _ in ledger.labelled.items() if start < until]:
        n, p = ledger.labelled.get((start,)) or (0, 0)
        ledger.labelled.remove((start,))
        rows, positives = rows + n, positives + p
    return msgspec.structs.replace(_grown(clock, rows, positives), matured_ms=max(clock.matured_ms, until))


def _grown(clock: Clock, rows: int, positives: int) -> Clock:
    return msgspec.structs.replace(
        clock,
        matured_rows=clock.matured_rows + rows,
        matured_positives=clock.matured_positives + positives,
    )
