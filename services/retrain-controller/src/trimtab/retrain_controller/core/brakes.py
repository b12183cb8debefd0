"""What keeps a cause from becoming a request, and until when."""

from dataclasses import dataclass

from trimtab.contracts.times import text
from trimtab.retrain_controller.core.damping import cooldown_ms
from trimtab.retrain_controller.core.policy import Policy
from trimtab.retrain_controller.core.state import Cause, Reason, State

KIND_OF_SIGNAL = {"feature": "features", "missing": "features", "unseen": "features"}
"""How the declaration's `retrain.on` names the kinds of signals that it does not name as they are."""


@dataclass(frozen=True, slots=True)
class Go:
    """Nothing holds the cause back from `at_ms` on."""

    at_ms: int


@dataclass(frozen=True, slots=True)
class Held:
    """Not now; reconsidered when the reason ends, at `until_ms` where that is known."""

    reason: Reason
    detail: str
    until_ms: int | None = None


@dataclass(frozen=True, slots=True)
class Never:
    """The cause is dropped."""

    reason: Reason
    detail: str


Ruling = Go | Held | Never


def ruling(cause: Cause, state: State, policy: Policy) -> Ruling | None:
    """What becomes of a cause; None while evidence names a version whose deployment has not been heard of.

    A person's wish is answered at once, for good: it overrides cooldown and damping, nothing else.
    """
    for check in (_object, _rows, _open, _held):
        found = check(cause, state, policy)
        if found is not None:
            return Never(found.reason, found.detail) if cause.kind == "person" and isinstance(found, Held) else found
    if _is_unheard_of(cause, state):
        return None
    return _in_time(cause, state, policy)


def _is_unheard_of(cause: Cause, state: State) -> bool:
    return cause.version is not None and cause.version > state.highest_version


def _object(cause: Cause, state: State, policy: Policy) -> Ruling | None:
    if cause.kind == "drift" and not _listed(cause, policy):
        kinds = ", ".join(cause.drifted) or "nothing of its own"
        return Never("not_listed", f"drifted: {kinds}; retrain.on lists {', '.join(policy.on) or 'nothing'}")
    serving = None if state.serving is None else state.serving.version
    if cause.kind == "first" and serving is not None:
        return Never("retired_version", f"version {serving} serves already")
    if cause.version is not None and cause.version != serving and not _is_unheard_of(cause, state):
        return Never("retired_version", f"it is about version {cause.version}, {_served_by(state)}")
    return None


def _served_by(state: State) -> str:
    if state.champion is not None and state.serving is None:
        return "which takes other features than the loop has now"
    return f"the champion is {None if state.champion is None else state.champion.version}"


def _listed(cause: Cause, policy: Policy) -> bool:
    return any(KIND_OF_SIGNAL.get(kind, kind) in policy.on for kind in cause.drifted)


def _rows(cause: Cause, state: State, _policy: Policy) -> Ruling | None:
    if cause.kind == "person" and (state.rows == 0 or state.positives == 0):
        what = "no row" if state.rows == 0 else "no positive row"
        return Never("no_rows", f"{what} with the loop's features has matured yet: there is nothing to learn from")
    return None


def _open(_cause: Cause, state: State, _policy: Policy) -> Ruling | None:
    if state.open is None:
        return None
    return Held("open", f"request {state.open.request_id} is open")


def _held(_cause: Cause, state: State, _policy: Policy) -> Ruling | None:
    broken = [f"{hold.rule} of {hold.subject}" for hold in state.holds if hold.broken]
    return Held("hold", f"the stream is held: {', '.join(sorted(broken))}") if broken else None


def _in_time(cause: Cause, state: State, policy: Policy) -> Ruling:
    """Cooldown and budget, counted from the time at which nothing else held the cause back.

    The end of a request may lie ahead of the loop's event time (its fit takes `fit_time`): till then it is open.
    """
    at_ms = max(cause.at_ms, state.free_ms)
    first = Held("open", "the last request ends then", at_ms) if at_ms > state.now_ms else None
    waits = (_budget,) if cause.kind == "person" else (_cooldown, _budget)
    for wait in waits:
        found = wait(at_ms, state, policy)
        if found is not None and found.until_ms is not None:
            first, at_ms = first or found, found.until_ms
    if first is None or at_ms <= state.now_ms:
        return Go(at_ms)
    return Never(first.reason, first.detail) if cause.kind == "person" else first


def _cooldown(at_ms: int, state: State, policy: Policy) -> Held | None:
    if state.attempt is None:
        return None
    until_ms = state.attempt.at_ms + cooldown_ms(policy, state.misses)
    if at_ms >= until_ms:
        return None
    since = f"the last request was at {text(state.attempt.at_ms)}"
    if state.misses == 0:
        return Held("cooldown", since, until_ms)
    return Held("damped", f"{since}, and the last {state.misses} retrains did not help", until_ms)


def _budget(at_ms: int, state: State, policy: Policy) -> Held | None:
    counted = [ms for ms in state.requested_ms if ms > at_ms - policy.budget_per_ms]
    if len(counted) < policy.budget:
        return None
    until_ms = counted[len(counted) - policy.budget] + policy.budget_per_ms
    return Held("budget", f"{len(counted)} requests in the budget's span, {policy.budget} are allowed", until_ms)
