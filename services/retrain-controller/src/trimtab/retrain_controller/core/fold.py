"""What each control event changes in the state. Copies and late events change nothing twice."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

from trimtab.contracts.control import (
    DeploymentChanged,
    DriftDetected,
    DriftSignal,
    LoopDeclared,
    ModelRegistered,
    ModelTrained,
    PerformanceMeasured,
    QualityRestored,
    QualityViolated,
    RetrainAsked,
    TimeAdvanced,
    TrainingFailed,
)
from trimtab.loops import declaration
from trimtab.retrain_controller.core.damping import judged, missed
from trimtab.retrain_controller.core.policy import Policy, policy_of
from trimtab.retrain_controller.core.state import UNKNOWN_MS, Attempt, Cause, Champion, Hold, Open, State, Watch

Event = (
    LoopDeclared
    | ModelTrained
    | ModelRegistered
    | DeploymentChanged
    | TrainingFailed
    | QualityViolated
    | QualityRestored
    | PerformanceMeasured
    | DriftDetected
    | RetrainAsked
    | TimeAdvanced
)


def folded(state: State, event: Event, trace: str | None) -> State:
    """The state after an event. `trace`: the event's traceparent, which the causes it brings carry on."""
    return _FOLDS[type(event)](state, event, trace)


def _declared(state: State, event: LoopDeclared, _trace: str | None) -> State:
    if state.policy is not None and event.version <= state.policy.loop_version:
        return state
    loop = declaration.of(event)
    subjects = {*loop.events, *loop.features.names}
    holds = tuple(hold for hold in state.holds if hold.subject in subjects)
    before, policy = state.policy, policy_of(loop)
    state = replace(state, policy=policy, holds=holds)
    if before is None or before.features in ("", policy.features):
        return state
    return _with_other_features(state, policy)


def _with_other_features(state: State, policy: Policy) -> State:
    """Rows count from zero, and so do attempts: none was fitted on such rows. What did not help before says nothing.

    Rows with the features of before go on maturing for a while; a measurement that may count some has none of the new.
    """
    mixed_until_ms = None if state.now_ms == UNKNOWN_MS else state.now_ms + policy.matured_after_ms
    positives = None if state.positives is None else 0
    state = replace(state, rows=0, positives=positives, mixed_until_ms=mixed_until_ms)
    return replace(state, other_attempts=state.attempts, misses=0, watch=None)


def _trained(state: State, event: ModelTrained, _trace: str | None) -> State:
    attempt, policy = state.attempt, state.policy
    if attempt is None or policy is None or policy.windowed or attempt.request_id != event.request_id:
        return state
    return replace(state, attempt=replace(attempt, rows=event.dataset.rows))


def _registered(state: State, event: ModelRegistered, _trace: str | None) -> State:
    if state.open is None or state.open.request_id != event.request_id:
        return state
    ended = max(state.open.ended_ms, event.at_ms)
    return _closed(replace(state, open=replace(state.open, verdict=event.verdict, ended_ms=ended)))


def _failed(state: State, event: TrainingFailed, _trace: str | None) -> State:
    if state.open is None or state.open.request_id != event.request_id:
        return state
    return missed(replace(state, open=None, free_ms=max(state.free_ms, event.at_ms)))


def _deployed(state: State, event: DeploymentChanged, _trace: str | None) -> State:
    if state.open is not None and event.request_id == state.open.request_id:
        ended = max(state.open.ended_ms, event.at_ms)
        state = replace(state, open=replace(state.open, deployed=True, ended_ms=ended))
    if event.sequence > state.sequence:
        state = _changed_hands(replace(state, sequence=event.sequence), event)
    return _closed(state)


def _changed_hands(state: State, event: DeploymentChanged) -> State:
    before, version = state.champion, None if event.champion is None else event.champion.version
    features = "" if event.champion is None else event.champion.features_digest
    if (None if before is None else before.version) == version:
        return state
    if event.cause == "rolled_back" and state.watch is not None:
        state = missed(replace(state, watch=None))
    state = judged(state)
    if version is None:
        return replace(state, champion=None)
    state = replace(
        state,
        champion=Champion(version, event.effective_at_ms, features),
        highest_version=max(version, state.highest_version),
    )
    if event.cause != "promoted" or before is None or state.policy is None:
        return state
    judge_at_ms = event.effective_at_ms + state.policy.judged_after_ms
    return replace(state, watch=Watch(version, before.version, judge_at_ms))


def _closed(state: State) -> State:
    """Close the open request once all of its end is known (its topics may be read in any order)."""
    request = state.open
    if request is None or request.verdict is None:
        return state
    if request.verdict == "failed":
        state = missed(state)
    elif not request.deployed:
        return state
    return replace(state, open=None, free_ms=max(state.free_ms, request.ended_ms))


def _quality(state: State, event: QualityViolated | QualityRestored, _trace: str | None) -> State:
    broken = isinstance(event, QualityViolated)
    word = Hold(event.rule, event.subject, event.at_ms, broken)
    others = tuple(hold for hold in state.holds if (hold.rule, hold.subject) != (event.rule, event.subject))
    for known in state.holds:
        if known not in others and (known.at_ms, not known.broken) >= (word.at_ms, not word.broken):
            return state
    free_ms = state.free_ms if broken else max(state.free_ms, event.at_ms)
    return replace(state, holds=(*others, word), free_ms=free_ms, now_ms=max(state.now_ms, event.at_ms))


def _measured(state: State, event: PerformanceMeasured, _trace: str | None) -> State:
    state = replace(state, now_ms=max(state.now_ms, event.at_ms))
    if event.at_ms <= state.measured_ms:
        return state
    state = _counted(replace(state, measured_ms=event.at_ms), event)
    return replace(state, watch=_watched(state.watch, event))


def _counted(state: State, event: PerformanceMeasured) -> State:
    """With the matured rows that have the features of now."""
    rows, positives, until_ms = event.matured_rows, event.matured_positives, state.mixed_until_ms
    if until_ms is not None:
        left_ms = until_ms if event.at_ms < until_ms else None
        state = replace(state, mixed_until_ms=left_ms, other_rows=rows, other_positives=positives or 0)
    positives = None if positives is None else positives - state.other_positives
    return replace(state, rows=rows - state.other_rows, positives=positives)


def _watched(watch: Watch | None, event: PerformanceMeasured) -> Watch | None:
    """Metrics are losses: the gain of a version over another is the other's less its own."""
    if watch is None:
        return None
    for pair in event.paired:
        if (pair.version, pair.other) == (watch.version, watch.predecessor):
            return replace(watch, gain=-pair.difference, gain_low=-pair.high)
        if (pair.other, pair.version) == (watch.version, watch.predecessor):
            return replace(watch, gain=pair.difference, gain_low=pair.low)
    return watch


def _drifted(state: State, event: DriftDetected, trace: str | None) -> State:
    drifted = _drifted_signals(event.signals)
    cause = Cause(
        key=f"drift:{event.drift_id}",
        kind="drift",
        at_ms=event.at_ms,
        version=event.model_version,
        drift_id=event.drift_id,
        signals=tuple(signal.name for signal in drifted),
        drifted=tuple(sorted({signal.kind for signal in drifted})),
        trace=trace,
    )
    return waiting(replace(state, now_ms=max(state.now_ms, event.at_ms)), cause)


def _drifted_signals(signals: Sequence[DriftSignal]) -> Sequence[DriftSignal]:
    """Those that drifted; where no single one did for sure, the one that brings most of the evidence."""
    found = [signal for signal in signals if signal.drifted]
    return found or sorted(signals, key=lambda signal: -signal.weight * signal.evidence)[:1]


def _asked(state: State, event: RetrainAsked, trace: str | None) -> State:
    at_ms = event.at_ms if state.now_ms == UNKNOWN_MS else state.now_ms
    cause = Cause(
        key=f"person:{event.ask_id}",
        kind="person",
        at_ms=at_ms,
        ask_id=event.ask_id,
        note=event.note,
        by=event.by,
        trace=trace,
    )
    return waiting(state, cause)


def _advanced(state: State, event: TimeAdvanced, _trace: str | None) -> State:
    return replace(state, now_ms=max(state.now_ms, event.at_ms))


def waiting(state: State, cause: Cause) -> State:
    """The state with one more cause, unless it is known already."""
    if cause.key in state.answered or any(cause.key == known.key for known in state.waiting):
        return state
    return replace(state, waiting=(*state.waiting, cause))


def requested(state: State, request_id: str, at_ms: int) -> State:
    """The state after a request was made."""
    return replace(
        state,
        open=Open(request_id),
        attempt=Attempt(request_id, at_ms, state.rows),
        attempts=state.attempts + 1,
        anchor_ms=at_ms if state.anchor_ms is None else state.anchor_ms,
        requested_ms=(*state.requested_ms, at_ms),
    )


_FOLDS: Mapping[type, Callable[[State, Any, str | None], State]] = {
    LoopDeclared: _declared,
    ModelTrained: _trained,
    ModelRegistered: _registered,
    TrainingFailed: _failed,
    DeploymentChanged: _deployed,
    QualityViolated: _quality,
    QualityRestored: _quality,
    PerformanceMeasured: _measured,
    DriftDetected: _drifted,
    RetrainAsked: _asked,
    TimeAdvanced: _advanced,
}
