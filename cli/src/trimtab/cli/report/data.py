"""What a report shows, as plain data. Times are ms since the epoch (UTC)."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal


@dataclass(frozen=True, slots=True)
class Contender:
    """A way of keeping a model, scored on the same rows as the others.

    `metrics` are pooled over all rows; `within_day_auc` is the mean of each day's own AUC, weighted by rows. `weekly`:
    metric → (start of the week, value) points. `beside`: the contender to compare it with, on the same rows; None: the
    loop itself.
    """

    name: str
    title: str
    refits: int
    rows: int
    metrics: Mapping[str, float]
    within_day_auc: float | None
    weekly: Mapping[str, Sequence[tuple[int, float]]]
    beside: str | None = None


@dataclass(frozen=True, slots=True)
class Mark:
    """Something that happened at a time (and lasted until `to_ms`, where it lasted)."""

    kind: Literal["drift", "hold", "retrain", "promoted", "failed", "rolled_back"]
    at_ms: int
    text: str
    to_ms: int | None = None


@dataclass(frozen=True, slots=True)
class Cost:
    """What a policy of a backtest took: models, the fits for them, seconds of CPU in all and in the fits."""

    models: int
    fits: int
    cpu_s: float
    fit_cpu_s: float


@dataclass(frozen=True, slots=True)
class PolicyRun:
    """A policy of a backtest: how it did, what happened under it, and what it took."""

    contender: Contender
    marks: Sequence[Mark]
    cost: Cost


@dataclass(frozen=True, slots=True)
class RetrainRow:
    """One retrain: why it was asked for, what the gate said, and what it gained while its predecessor was a shadow.

    `gain` is the predecessor's mean loss minus the new model's on the same rows (positive: the retrain helped), with
    the ends of its interval.
    """

    at_ms: int
    cause: str
    verdict: str
    version: int | None
    rows: int
    gate: str
    gain: tuple[float, float, float] | None = None
    watched_rows: int = 0


@dataclass(frozen=True, slots=True)
class Report:
    """All that the page and the terminal's summary are made of. `broken`: promises that were not kept, in sentences."""

    loop: str
    metric: str
    from_ms: int
    to_ms: int
    counts: Mapping[str, int]
    contenders: Sequence[Contender]
    marks: Sequence[Mark]
    retrains: Sequence[RetrainRow]
    declined: Mapping[str, int] = field(default_factory=dict)
    broken: Sequence[str] = ()

    def alternatives(self) -> Sequence[Contender]:
        """What the loop is compared with: all but the loop, and the loop on others' rows."""
        own = {"loop", *(one.beside for one in self.contenders)}
        return [one for one in self.contenders if one.name not in own]

    def contender(self, name: str) -> Contender:
        """The contender of that name; KeyError where there is none."""
        for contender in self.contenders:
            if contender.name == name:
                return contender
        raise KeyError(name)
