"""Whether a retrain is worth it: a pure function of what was heard so far and one more event.

A cause (first training, drift, growth, age, a schedule, a person) becomes at most one `retrain.requested`. What holds
it back (an open request, a held stream, cooldown, damping, budget) is told once for each cause and reason; the cause
is considered again when that ends. A request is dated at the event time from which nothing held its cause back, so
that it does not depend on when this was noticed.
"""

from trimtab.contracts.control import RetrainDeclined, RetrainRequested
from trimtab.retrain_controller.core.decisions import Decision, decided, request_id
from trimtab.retrain_controller.core.fold import Event
from trimtab.retrain_controller.core.state import State

__all__ = ["Decision", "Event", "State", "decide", "decided", "request_id"]


def decide(state: State, event: Event) -> tuple[State, tuple[RetrainRequested | RetrainDeclined, ...]]:
    """`decided` without traces. A loop's fold begins with `State(loop)`."""
    state, decisions = decided(state, event)
    return state, tuple(decision.event for decision in decisions)
