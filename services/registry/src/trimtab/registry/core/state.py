"""What the registry's task remembers of a loop: a fold of the control plane. Times are ms of event time."""

from dataclasses import dataclass
from typing import Literal

from trimtab.loops.model import Loop

UNKNOWN_MS = -(2**62)
"""Before anything is known."""
REMEMBERED = 500
"""How many commands are remembered, so that a copy has no second effect."""

Verdict = Literal["first", "passed", "failed"]
Format = Literal["onnx", "skops"]
CommandKind = Literal["promote", "rollback", "retire_shadow"]


@dataclass(frozen=True, slots=True)
class Rules:
    """What a loop's declaration says about rollout. `verdict_ms`: see `Loop`.

    `keeps_first`: the first model stays a shadow for good, because a gate compares with it. `margin`: the share of the
    deciding `metric` by which a gate lets a model be worse. `features`: the digest of the features that models have to
    take; "" where it is not known.
    """

    loop_version: int
    fit_time_ms: int
    watch_ms: int
    verdict_ms: int
    keeps_first: bool
    metric: str
    margin: float
    features: str = ""

    def answers(self, version: "Version") -> bool:
        """Whether a model takes the features that the loop has now: of another one nobody would have a score."""
        return self.features in ("", version.trained.features_digest)


def rules_of(loop: Loop) -> Rules:
    """The rules of a declared loop."""
    return Rules(
        loop_version=loop.version,
        fit_time_ms=loop.train.fit_time_ms,
        watch_ms=loop.gate.watch_ms,
        verdict_ms=loop.verdict_ms,
        keeps_first="first_model" in loop.gate.baselines,
        metric=loop.model.metric,
        margin=loop.gate.margin,
        features=loop.features.digest,
    )


@dataclass(frozen=True, slots=True)
class Trained:
    """A trained model. `at_ms`: of its request. `compared_with`: the champion that its gate compared it with."""

    request_id: str
    at_ms: int
    digest: str
    format: Format
    features_digest: str
    classes: tuple[str, ...] | None
    verdict: Verdict
    compared_with: int | None


@dataclass(frozen=True, slots=True)
class Version:
    """A numbered model. `verdict`: under which it was registered."""

    number: int
    verdict: Verdict
    trained: Trained


@dataclass(frozen=True, slots=True)
class Shadow:
    """A version that scores along, until an event time or (None) for good."""

    version: int
    until_ms: int | None


@dataclass(frozen=True, slots=True)
class Watch:
    """A promotion that is still on trial. `ends_ms`: when the last label of its watch has matured.

    `blocks`: how many blocks the newest measurement rested on that found the predecessor clearly better; 0: none did.
    """

    version: int
    predecessor: int
    ends_ms: int
    blocks: int = 0


@dataclass(frozen=True, slots=True)
class Command:
    """What a person asks of the registry."""

    id: str
    kind: CommandKind
    version: int | None
    by: str
    note: str | None
    at_ms: int


@dataclass(frozen=True, slots=True)
class State:
    """`former`: earlier champions, the newest last. `parked`, `commands`: what came before the declaration.

    `dropped`: shadows that a person retired; they do not come back by themselves.
    """

    loop: str
    rules: Rules | None = None
    now_ms: int = UNKNOWN_MS
    measured_ms: int = UNKNOWN_MS
    versions: tuple[Version, ...] = ()
    sequence: int = 0
    effective_at_ms: int = UNKNOWN_MS
    champion: int | None = None
    shadows: tuple[Shadow, ...] = ()
    watch: Watch | None = None
    former: tuple[int, ...] = ()
    dropped: tuple[int, ...] = ()
    settled: tuple[str, ...] = ()
    parked: tuple[Trained, ...] = ()
    commands: tuple[Command, ...] = ()

    def version(self, number: int | None) -> Version | None:
        """A version by its number (they have no gaps)."""
        return self.versions[number - 1] if number is not None and 0 < number <= len(self.versions) else None

    def alike(self, number: int | None, features_digest: str) -> bool:
        """Whether there is such a version and it takes those features: only such models answer the same asks."""
        version = self.version(number)
        return version is not None and version.trained.features_digest == features_digest
