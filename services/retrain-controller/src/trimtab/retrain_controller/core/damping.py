"""How useless retrains slow the next ones down.

The cooldown is doubled for each retrain in a row that did not help, up to eight times its length:

    cooldown(misses) = cooldown * 2 ^ min(misses, 3)

A retrain did not help when its fit or its gate failed, when it was rolled back, or when its paired comparison with its
predecessor, at the end of the watch, shows no gain (difference <= 0). One that is clearly better (the whole interval
above 0) ends the damping; one whose gain is unproven, or never measured, changes nothing.
"""

from dataclasses import replace

from trimtab.retrain_controller.core.policy import Policy
from trimtab.retrain_controller.core.state import State, Watch

MOST_DOUBLINGS = 3


def cooldown_ms(policy: Policy, misses: int) -> int:
    """The cooldown after so many useless retrains in a row."""
    return int(policy.cooldown_ms * 2 ** min(misses, MOST_DOUBLINGS))


def missed(state: State) -> State:
    """One more retrain that did not help."""
    return replace(state, misses=state.misses + 1)


def judged(state: State) -> State:
    """Close the watch and count what it showed."""
    watch = state.watch
    if watch is None:
        return state
    return replace(state, watch=None, misses=_misses(watch, state.misses))


def _misses(watch: Watch, misses: int) -> int:
    if watch.gain is None or watch.gain_low is None:
        return misses
    if watch.gain_low > 0:
        return 0
    return misses + 1 if watch.gain <= 0 else misses
