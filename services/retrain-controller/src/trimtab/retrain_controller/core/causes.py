"""Causes that arise from the state itself: first training, growth, age, schedule.

Each is tied to what it counts from, so that it arises once: growth and age to the newest attempt (a model that failed
its gate has to be outgrown or outlived like a champion), a schedule to the number of its turn.
"""

from collections.abc import Iterator
from dataclasses import replace

from trimtab.retrain_controller.core.fold import waiting
from trimtab.retrain_controller.core.policy import Policy
from trimtab.retrain_controller.core.state import Cause, State


def with_due(state: State, policy: Policy, trace: str | None) -> State:
    """The state with all causes that are due by now, and without those that have lost their object."""
    for cause in _due(state, policy):
        if cause.kind == "schedule":
            state = _without_earlier_turns(state, cause)
        state = waiting(state, replace(cause, trace=trace))
    return state


def _due(state: State, policy: Policy) -> Iterator[Cause]:
    if state.serving is None:
        yield from _first(state, policy)
        return
    yield from _grown(state, policy)
    yield from _aged(state, policy)
    yield from _scheduled(state, policy)


def _first(state: State, policy: Policy) -> Iterator[Cause]:
    """Enough matured rows of the loop's features; after n failed attempts to learn from such, growth ^ n as many."""
    factor = policy.first_growth ** (state.attempts - state.other_attempts)
    enough_rows = state.rows >= policy.first_rows * factor
    enough_positives = state.positives is None or state.positives >= policy.first_positives * factor
    if state.open is None and enough_rows and enough_positives:
        yield Cause(key=f"first:{state.attempts}", kind="first", at_ms=state.measured_ms)


def _grown(state: State, policy: Policy) -> Iterator[Cause]:
    attempt = state.attempt
    if policy.grown is None or attempt is None or state.open is not None:
        return
    if attempt.rows > 0 and state.rows >= policy.grown * attempt.rows:
        yield Cause(key=f"grown:{attempt.request_id}", kind="grown", at_ms=state.measured_ms)


def _aged(state: State, policy: Policy) -> Iterator[Cause]:
    attempt = state.attempt
    if policy.max_age_ms is None or attempt is None or state.open is not None:
        return
    due_ms = attempt.at_ms + policy.max_age_ms
    if due_ms <= state.now_ms:
        yield Cause(key=f"age:{attempt.request_id}", kind="age", at_ms=due_ms)


def _scheduled(state: State, policy: Policy) -> Iterator[Cause]:
    if policy.every_ms is None or state.anchor_ms is None:
        return
    turn = (state.now_ms - state.anchor_ms) // policy.every_ms
    if turn > 0:
        yield Cause(key=f"schedule:{turn}", kind="schedule", at_ms=state.anchor_ms + turn * policy.every_ms)


def _without_earlier_turns(state: State, cause: Cause) -> State:
    kept = tuple(known for known in state.waiting if known.kind != "schedule" or known.key == cause.key)
    return replace(state, waiting=kept)
