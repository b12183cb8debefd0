"""What each control event leads to. Copies and late events lead to nothing."""

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

from trimtab.contracts.control import (
    CommandSettled,
    DeploymentChanged,
    LoopDeclared,
    ModelRegistered,
    ModelTrained,
    PerformanceMeasured,
    RegistryCommand,
    TimeAdvanced,
)
from trimtab.loops import declaration
from trimtab.registry.core.commands import obeyed
from trimtab.registry.core.rollout import Why, expired, promoted
from trimtab.registry.core.state import Command, Rules, State, Trained, Verdict, Version, rules_of
from trimtab.registry.core.trial import tried

Event = LoopDeclared | ModelTrained | PerformanceMeasured | TimeAdvanced | RegistryCommand
Said = ModelRegistered | DeploymentChanged | CommandSettled
Folded = tuple[State, tuple[Said, ...]]


def fold(state: State, event: Event) -> Folded:
    """The state after an event, and what it leads to. Pure. A loop's fold begins with `State(loop)`.

    Deployments leave it unsigned. Raises DeclaredError for a declaration that this version cannot read.
    """
    return _FOLDS[type(event)](state, event)


def _declared(state: State, event: LoopDeclared) -> Folded:
    if state.rules is not None and event.version <= state.rules.loop_version:
        return state, ()
    loop = declaration.of(event)
    rules = rules_of(loop)
    parked, commands = state.parked, state.commands
    watch = state.watch if state.rules is None or state.rules.features in ("", rules.features) else None
    state, said = replace(state, rules=rules, watch=watch, parked=(), commands=()), list[Said]()
    for trained in parked:
        state, more = _register(state, rules, trained)
        said += more
    for command in commands:
        state, answers = obeyed(state, rules, command)
        said += answers
    return state, tuple(said)


def _trained(state: State, event: ModelTrained) -> Folded:
    compared = [one.version for one in event.gate.comparisons if one.against == "champion"]
    trained = Trained(
        request_id=event.request_id,
        at_ms=event.at_ms,
        digest=event.model.digest,
        format=event.model.format,
        features_digest=event.model.features_digest,
        classes=None if event.model.classes is None else tuple(event.model.classes),
        verdict=event.gate.verdict,
        compared_with=compared[0] if compared else None,
    )
    known = {version.trained.request_id for version in state.versions} | {one.request_id for one in state.parked}
    if trained.request_id in known:
        return state, ()
    if state.rules is None:
        return replace(state, parked=(*state.parked, trained)), ()
    return _register(state, state.rules, trained)


def _register(state: State, rules: Rules, trained: Trained) -> Folded:
    version = Version(len(state.versions) + 1, _verdict(state, trained), trained)
    state = replace(state, versions=(*state.versions, version))
    at_ms = trained.at_ms + rules.fit_time_ms
    registered = ModelRegistered(
        loop=state.loop,
        at_ms=at_ms,
        version=version.number,
        request_id=trained.request_id,
        digest=trained.digest,
        verdict=version.verdict,
    )
    if version.verdict == "failed":
        return state, (registered,)
    why = Why("first" if version.verdict == "first" else "promoted", trained.request_id)
    state, deployed = promoted(state, rules, version.number, at_ms, why)
    return state, (registered, deployed)


def _verdict(state: State, trained: Trained) -> Verdict:
    """The gate's, unless it was passed against a champion that has been replaced since: that proves nothing.

    Beside a champion of other features a model is the first: of those that take its own.
    """
    stale = trained.compared_with is not None and trained.compared_with != state.champion
    if trained.verdict == "first" and state.alike(state.champion, trained.features_digest):
        return "passed"
    return "failed" if stale else trained.verdict


def _measured(state: State, event: PerformanceMeasured) -> Folded:
    copy = event.at_ms <= state.measured_ms
    state = _at(replace(state, measured_ms=max(state.measured_ms, event.at_ms)), event.at_ms)
    if state.rules is None or copy:
        return state, ()
    state, rollback = tried(state, state.rules, event)
    if rollback is None:
        return _retired(state)
    state, deployed = rollback
    return state, (deployed,)


def _advanced(state: State, event: TimeAdvanced) -> Folded:
    return _retired(_at(state, event.at_ms))


def _at(state: State, at_ms: int) -> State:
    return replace(state, now_ms=max(state.now_ms, at_ms))


def _retired(state: State) -> Folded:
    if state.watch is not None and state.now_ms > state.watch.ends_ms:
        state = replace(state, watch=None)
    return expired(state)


def _commanded(state: State, event: RegistryCommand) -> Folded:
    command = Command(event.command_id, event.kind, event.version, event.by, event.note, event.at_ms)
    if state.rules is not None:
        return obeyed(state, state.rules, command)
    if any(known.id == command.id for known in state.commands):
        return state, ()
    return replace(state, commands=(*state.commands, command)), ()


_FOLDS: Mapping[type, Callable[[State, Any], Folded]] = {
    LoopDeclared: _declared,
    ModelTrained: _trained,
    PerformanceMeasured: _measured,
    TimeAdvanced: _advanced,
    RegistryCommand: _commanded,
}
