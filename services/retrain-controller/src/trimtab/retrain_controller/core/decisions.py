"""Which cause becomes a request, which is told why not."""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, replace

from trimtab.contracts.control import RetrainCause, RetrainDeclined, RetrainRequested
from trimtab.retrain_controller.core.brakes import Go, Held, Never, ruling
from trimtab.retrain_controller.core.causes import with_due
from trimtab.retrain_controller.core.damping import judged
from trimtab.retrain_controller.core.fold import Event, folded, requested
from trimtab.retrain_controller.core.policy import Policy
from trimtab.retrain_controller.core.state import REMEMBERED, Cause, State

PRIORITY = ("first", "person", "drift", "schedule", "age", "grown")
"""Of causes that come free at the same instant, the first of these is the one that is named."""


@dataclass(frozen=True, slots=True)
class Decision:
    """An event to write, and the traceparent of what caused it."""

    event: RetrainRequested | RetrainDeclined
    trace: str | None


def decided(state: State, event: Event, trace: str | None = None) -> tuple[State, tuple[Decision, ...]]:
    """The state after an event, and what it leads to. Pure; the same event again leads to nothing."""
    state = folded(state, event, trace)
    policy = state.policy
    if policy is None:
        return state, ()
    if state.watch is not None and state.now_ms >= state.watch.judge_at_ms:
        state = judged(state)
    return _settled(with_due(state, policy, trace), policy)


def request_id(loop: str, cause: str, at_ms: int) -> str:
    """The same cause at the same time has the same id, whoever decides and however often.

    >>> request_id("flights", "drift:7", 0)
    'flights-8b25bbbd56a1'
    """
    return f"{loop}-{hashlib.sha256(f'{loop}|{cause}|{at_ms}'.encode()).hexdigest()[:12]}"


def _settled(state: State, policy: Policy) -> tuple[State, tuple[Decision, ...]]:
    state, request = _follow_one(state, policy)
    state, declines = _tell_the_others(state, policy)
    return state, (*request, *declines)


def _follow_one(state: State, policy: Policy) -> tuple[State, tuple[Decision, ...]]:
    free = [(cause, found) for cause in state.waiting if isinstance(found := ruling(cause, state, policy), Go)]
    if not free:
        return state, ()
    cause, go = min(free, key=lambda pair: (pair[1].at_ms, PRIORITY.index(pair[0].kind), pair[0].key))
    made = RetrainRequested(
        loop=state.loop,
        at_ms=go.at_ms,
        request_id=request_id(state.loop, cause.key, go.at_ms),
        cause=_wire(cause),
        champion_version=None if state.champion is None else state.champion.version,
        loop_version=policy.loop_version,
    )
    state = requested(_answered(state, cause), made.request_id, made.at_ms)
    state, covered = _cover(_within_budget_span(state, policy), made)
    return state, (Decision(made, cause.trace), *covered)


def _cover(state: State, made: RetrainRequested) -> tuple[State, list[Decision]]:
    """A request answers every cause that had come up by then: its data hold their evidence too."""
    covered = [cause for cause in state.waiting if cause.at_ms <= made.at_ms]
    detail = f"request {made.request_id}, made for another cause, answers this one too"
    told = [Decision(_declined(state, cause, Never("covered", detail)), cause.trace) for cause in covered]
    for cause in covered:
        state = _answered(state, cause)
    return state, told


def _tell_the_others(state: State, policy: Policy) -> tuple[State, list[Decision]]:
    told: list[Decision] = []
    for cause in state.waiting:
        found = ruling(cause, state, policy)
        if isinstance(found, Never):
            state = _answered(state, cause)
        elif not isinstance(found, Held) or _mark(cause, found) in state.told:
            continue
        else:
            state = replace(state, told=(*state.told, _mark(cause, found))[-REMEMBERED:])
        told.append(Decision(_declined(state, cause, found), cause.trace))
    return state, told


def _mark(cause: Cause, found: Held) -> str:
    return f"{cause.key}|{found.reason}"


def _answered(state: State, cause: Cause) -> State:
    return replace(
        state,
        waiting=tuple(known for known in state.waiting if known.key != cause.key),
        answered=(*state.answered, cause.key)[-REMEMBERED:],
        told=tuple(mark for mark in state.told if not mark.startswith(f"{cause.key}|")),
    )


def _within_budget_span(state: State, policy: Policy) -> State:
    newest_ms = max(state.requested_ms)
    kept: Sequence[int] = [ms for ms in state.requested_ms if ms > newest_ms - policy.budget_per_ms]
    return replace(state, requested_ms=tuple(kept))


def _declined(state: State, cause: Cause, found: Held | Never) -> RetrainDeclined:
    return RetrainDeclined(
        loop=state.loop,
        at_ms=max(cause.at_ms, state.now_ms),
        cause=_wire(cause),
        reason=found.reason,
        until_ms=found.until_ms if isinstance(found, Held) else None,
        detail=found.detail,
    )


def _wire(cause: Cause) -> RetrainCause:
    return RetrainCause(
        kind=cause.kind,
        drift_id=cause.drift_id,
        ask_id=cause.ask_id,
        signals=list(cause.signals),
        note=cause.note,
        by=cause.by,
    )
