"""Deployments: who serves, who scores along, from when on. Each function gives the state and the event that says so."""

from dataclasses import dataclass, replace
from typing import Literal

from trimtab.contracts.control import DeploymentChanged, ModelRef
from trimtab.registry.core.state import UNKNOWN_MS, Rules, Shadow, State, Version, Watch

Cause = Literal["first", "promoted", "rolled_back", "shadow_retired", "commanded"]
Deployed = tuple[State, DeploymentChanged]
UNSIGNED = ""
"""The signature of an event that has not left the core yet; the stage signs it."""


@dataclass(frozen=True, slots=True)
class Why:
    """Why a deployment changes: its cause, the request that led to it, words for people."""

    cause: Cause
    request_id: str | None = None
    note: str | None = None


def promoted(state: State, rules: Rules, version: int, at_ms: int, why: Why) -> Deployed:
    """Another champion. Its predecessor scores along and may come back for as long as the watch lasts.

    One that takes other features than the champion does neither: it cannot answer what the champion is asked.
    """
    at_ms = max(at_ms, state.effective_at_ms)
    before = state.champion
    shadows = _first_model(state, rules, version)
    watch = None
    if before is not None and rules.watch_ms > 0 and _alike(state, before, version):
        if before not in {shadow.version for shadow in shadows}:
            shadows = (Shadow(before, at_ms + rules.watch_ms), *shadows)
        watch = Watch(version, before, at_ms + rules.watch_ms + rules.verdict_ms)
    former = state.former if before is None else (*state.former, before)
    return _changed(replace(state, champion=version, shadows=shadows, watch=watch, former=former), at_ms, why)


def returned(state: State, rules: Rules, version: int, at_ms: int, why: Why) -> Deployed:
    """An earlier champion again. The one that it replaces is not watched any more."""
    former = state.former if state.champion is None else (*state.former, state.champion)
    shadows = _first_model(state, rules, version)
    after = replace(state, champion=version, shadows=shadows, watch=None, former=former)
    return _changed(after, max(at_ms, state.effective_at_ms), why)


def without_shadow(state: State, version: int, at_ms: int, why: Why) -> Deployed:
    """A shadow less."""
    shadows = tuple(shadow for shadow in state.shadows if shadow.version != version)
    return _changed(replace(state, shadows=shadows), max(at_ms, state.effective_at_ms), why)


def expired(state: State) -> tuple[State, tuple[DeploymentChanged, ...]]:
    """Retire the shadows whose time has come, each at its time."""
    said: list[DeploymentChanged] = []
    due = [shadow for shadow in state.shadows if shadow.until_ms is not None and shadow.until_ms <= state.now_ms]
    for shadow in sorted(due, key=lambda one: (one.until_ms or 0, one.version)):
        state, event = without_shadow(state, shadow.version, shadow.until_ms or 0, Why("shadow_retired"))
        said.append(event)
    return state, tuple(said)


def ended(state: State) -> tuple[State, tuple[DeploymentChanged, ...]]:
    """The loop has ended: nobody serves. Versions are kept; should it be declared again, numbers go on."""
    after = replace(state, rules=None, champion=None, shadows=(), watch=None, former=(), dropped=())
    if state.champion is None:
        return after, ()
    at_ms = max(state.now_ms, state.effective_at_ms)
    after, event = _changed(after, at_ms, Why("commanded", note="the loop has ended"))
    return after, (event,)


def _first_model(state: State, rules: Rules, champion: int) -> tuple[Shadow, ...]:
    first = next((version.number for version in reversed(state.versions) if version.verdict == "first"), None)
    if not rules.keeps_first or first is None or first == champion or first in state.dropped:
        return ()
    return (Shadow(first, None),) if _alike(state, first, champion) else ()


def _alike(state: State, version: int, champion: int) -> bool:
    serving = state.version(champion)
    return serving is not None and state.alike(version, serving.trained.features_digest)


def _changed(state: State, at_ms: int, why: Why) -> Deployed:
    state = replace(state, sequence=state.sequence + 1, effective_at_ms=at_ms)
    event = DeploymentChanged(
        loop=state.loop,
        at_ms=at_ms,
        sequence=state.sequence,
        effective_at_ms=at_ms,
        champion=_ref(state.version(state.champion)),
        shadows=[ref for one in state.shadows if (ref := _ref(state.version(one.version), one.until_ms))],
        cause=why.cause,
        request_id=why.request_id,
        note=why.note,
        signature=UNSIGNED,
    )
    return state, event


def _ref(version: Version | None, until_ms: int | None = None) -> ModelRef | None:
    if version is None:
        return None
    trained = version.trained
    return ModelRef(
        version=version.number,
        digest=trained.digest,
        format=trained.format,
        features_digest=trained.features_digest,
        classes=None if trained.classes is None else list(trained.classes),
        until_ms=until_ms,
    )


def event_time(state: State, otherwise_ms: int) -> int:
    """The loop's event time, as far as the registry knows it."""
    known = max(state.now_ms, state.effective_at_ms)
    return otherwise_ms if known == UNKNOWN_MS else known
