"""What the controller remembers of a loop: a fold of the control plane. Times are ms of event time."""

from dataclasses import dataclass
from typing import Literal

from trimtab.retrain_controller.core.policy import Policy

Kind = Literal["first", "drift", "grown", "age", "schedule", "person"]
Reason = Literal["cooldown", "budget", "hold", "damped", "open", "covered", "retired_version", "not_listed", "no_rows"]

UNKNOWN_MS = -(2**62)
"""Before anything is known."""
REMEMBERED = 500
"""How many answered causes and told declines are remembered, so that copies of an event have no second effect."""


@dataclass(frozen=True, slots=True)
class Cause:
    """Something that asks for a retrain. `key` names it: the same cause always has the same key.

    `version`: the champion that it is evidence about (None: none is needed). `trace`: the traceparent it came with.
    """

    key: str
    kind: Kind
    at_ms: int
    version: int | None = None
    drift_id: str | None = None
    signals: tuple[str, ...] = ()
    drifted: tuple[str, ...] = ()
    ask_id: str | None = None
    note: str | None = None
    by: str | None = None
    trace: str | None = None


@dataclass(frozen=True, slots=True)
class Champion:
    """Who serves, or is about to. `features`: the digest of those that it takes, "" where it is not known."""

    version: int
    effective_at_ms: int
    features: str = ""


@dataclass(frozen=True, slots=True)
class Attempt:
    """The newest request: growth and age count from it. `rows`: what it trained on."""

    request_id: str
    at_ms: int
    rows: int


@dataclass(frozen=True, slots=True)
class Open:
    """A request whose end has not been heard. `verdict`: of its registration; `deployed`: its deployment is known."""

    request_id: str
    verdict: str | None = None
    deployed: bool = False
    ended_ms: int = UNKNOWN_MS


@dataclass(frozen=True, slots=True)
class Hold:
    """The newest word on one quality rule: broken, or well again."""

    rule: str
    subject: str
    at_ms: int
    broken: bool


@dataclass(frozen=True, slots=True)
class Watch:
    """A promotion whose gain is being measured. `gain_low`, `gain_high` bound how much better it is than its
    predecessor, in the deciding metric; None until measured."""

    version: int
    predecessor: int
    judge_at_ms: int
    gain: float | None = None
    gain_low: float | None = None


@dataclass(frozen=True, slots=True)
class State:
    """`now_ms`: newest event time heard from the monitor. `free_ms`: when the last hold or open request ended.

    `misses`: retrains in a row that did not help. `requested_ms`: times of requests within the budget's span.
    `anchor_ms`: the first request, from which a schedule counts. `waiting`: causes neither followed nor dropped.
    `rows`, `positives`: matured ones with the features that the loop has now. Up to a measurement at `mixed_until_ms`
    all may have other features; `other_rows`, `other_positives` were matured by then. `other_attempts`: of `attempts`,
    those for other features.
    """

    loop: str
    policy: Policy | None = None
    now_ms: int = UNKNOWN_MS
    rows: int = 0
    positives: int | None = None
    measured_ms: int = UNKNOWN_MS
    champion: Champion | None = None
    highest_version: int = 0
    sequence: int = 0
    open: Open | None = None
    attempt: Attempt | None = None
    attempts: int = 0
    anchor_ms: int | None = None
    requested_ms: tuple[int, ...] = ()
    holds: tuple[Hold, ...] = ()
    free_ms: int = UNKNOWN_MS
    misses: int = 0
    watch: Watch | None = None
    waiting: tuple[Cause, ...] = ()
    answered: tuple[str, ...] = ()
    told: tuple[str, ...] = ()
    mixed_until_ms: int | None = None
    other_rows: int = 0
    other_positives: int = 0
    other_attempts: int = 0

    @property
    def serving(self) -> Champion | None:
        """The champion; one that takes other features than the loop has now cannot answer, and does not count."""
        champion, policy = self.champion, self.policy
        if champion is None or policy is None or "" in (champion.features, policy.features):
            return champion
        return champion if champion.features == policy.features else None
