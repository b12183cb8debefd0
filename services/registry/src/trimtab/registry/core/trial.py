"""Whether a promotion is taken back.

A promotion is rolled back when, during its watch, the predecessor is clearly better: by more than the gate's margin (a
share of the predecessor's metric) over the whole interval of the paired difference, over at least three blocks, and a
later measurement over more blocks says so again. So the gate and the trial draw the same line from both sides; and
measurements come every hour and are looked at again and again, so that one alone would be a coin thrown often enough.
Metrics are losses: a difference above 0 is the first version's disadvantage.
"""

from dataclasses import replace

from trimtab.contracts.control import PairedDifference, PerformanceMeasured
from trimtab.registry.core.rollout import Deployed, Why, returned
from trimtab.registry.core.state import Rules, State, Watch

LEAST_BLOCKS = 3


def tried(state: State, rules: Rules, event: PerformanceMeasured) -> tuple[State, Deployed | None]:
    """The state after a measurement, and the rollback that it leads to, if it does."""
    watch = state.watch
    if watch is None or event.at_ms > watch.ends_ms:
        return replace(state, watch=None), None
    pair = _of_watch(watch, event)
    if pair is None:
        return state, None
    if pair.low <= _line(rules, watch, event) or pair.blocks < LEAST_BLOCKS:
        return replace(state, watch=replace(watch, blocks=0)), None
    if watch.blocks == 0:
        return replace(state, watch=replace(watch, blocks=pair.blocks)), None
    if pair.blocks <= watch.blocks:
        return state, None
    note = (
        f"version {watch.predecessor} was better than {watch.version} by {pair.difference:.4g} "
        f"({pair.low:.4g} to {pair.high:.4g}) over {pair.blocks} blocks, {pair.rows} rows"
    )
    return state, returned(state, rules, watch.predecessor, event.at_ms, Why("rolled_back", note=note))


def _line(rules: Rules, watch: Watch, event: PerformanceMeasured) -> float:
    """How much worse the version may be; 0 where the measurement does not give the predecessor's metric."""
    found = [one.metrics.get(rules.metric, 0.0) for one in event.models if one.version == watch.predecessor]
    return rules.margin * abs(found[0]) if found else 0.0


def _of_watch(watch: Watch, event: PerformanceMeasured) -> PairedDifference | None:
    """The watched version less its predecessor."""
    for pair in event.paired:
        if (pair.version, pair.other) == (watch.version, watch.predecessor):
            return pair
        if (pair.other, pair.version) == (watch.version, watch.predecessor):
            update = {"difference": -pair.difference, "low": -pair.high, "high": -pair.low}
            return pair.model_copy(update=update)
    return None
