"""A loop as its declaration says it: typed, checked, immutable. Durations are ms, times ms since the epoch (UTC)."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

HOUR_MS = 3_600_000
Task = Literal["binary", "multiclass", "regression"]


@dataclass(frozen=True, slots=True)
class Event:
    """One kind of event. `schema`: its Avro record schema as JSON. `id` None: the digest of the body.

    `dedupe_ms`: how long an id is remembered in event time. `expect`: (count, per ms) below which its source counts
    as silent. `revisions`: the same id with another body is a correction, not a conflict.
    """

    name: str
    schema: Mapping[str, Any]
    time: str
    dedupe_ms: int
    id: str | None = None
    subject: str | None = None
    expect: tuple[int, int] | None = None
    revisions: bool = False


@dataclass(frozen=True, slots=True)
class Quality:
    """`rules`: event → SQL predicate; a row for which it is not true is quarantined. `hold_when`: share → limit."""

    rules: Mapping[str, str] = field(default_factory=dict)
    hold_when: Mapping[str, float] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Predict:
    """`on`: the event that asks. `key`: its field that names a prediction; asked twice, there is one prediction."""

    on: str
    key: str


@dataclass(frozen=True, slots=True)
class Label:
    """An aggregate over a window ahead of the prediction: events `of` with equal `by` fields in (t, t + within]."""

    of: str
    by: Sequence[str]
    within_ms: int
    value: str
    settle: Literal["close", "first"]
    mature_ms: int


@dataclass(frozen=True, slots=True)
class Window:
    """`width_ms` long, ended `ago_ms` before the asker's time. `name` as declared: "7d" or "7d@7d"."""

    name: str
    width_ms: int
    ago_ms: int = 0


def settling_ms(grain_ms: int) -> int:
    """How long the end of a grain takes until asks may know of it: by then it has come through a healthy cluster.

    A tenth of the grain, so that windows are hardly older for it, and at most half a second.

    >>> settling_ms(HOUR_MS), settling_ms(5_000), settling_ms(1_000), settling_ms(1)
    (500, 500, 100, 0)
    """
    return min(grain_ms // 10, 500)


@dataclass(frozen=True, slots=True)
class Group:
    """Windowed aggregates of the events `of` with equal `by` fields. `values`: name → SQL aggregate expression.

    `digest` identifies the definition: a changed group is another group. `grain_ms` is the resolution of time: windows
    start and end on multiples of it, so that a value depends on its asker's time alone, never on how far the
    feature service has read; they end at the last that settled before the asker's time (`settling_ms`).
    """

    name: str
    digest: str
    of: str
    by: Sequence[str]
    windows: Sequence[Window]
    values: Mapping[str, str]
    grain_ms: int


@dataclass(frozen=True, slots=True)
class Latest:
    """The newest values of an event's fields with equal `by` fields, none older than `max_age_ms`."""

    name: str
    digest: str
    of: str
    by: Sequence[str]
    values: Sequence[str]
    max_age_ms: int
    grain_ms: int


@dataclass(frozen=True, slots=True)
class Features:
    """`row`: feature → SQL expression over the asking event. `names`: all columns of a vector, in their order."""

    row: Mapping[str, str]
    categorical: Sequence[str]
    groups: Sequence[Group]
    latest: Sequence[Latest]
    names: Sequence[str]
    digest: str

    @property
    def looked_up(self) -> bool:
        """Whether any of them is more than what the ask itself says: only then the feature service has work."""
        return bool(self.groups or self.latest)

    @property
    def grain_ms(self) -> int:
        """The grain of time that divides those of all groups: a looked-up value knows of whole ones alone."""
        grains = [group.grain_ms for group in self.groups] + [latest.grain_ms for latest in self.latest]
        return math.gcd(*grains) or 1

    @property
    def awaited_ms(self) -> int | None:
        """Asks wait for the beginnings of grains of so many ms; None: they look nothing up."""
        return self.grain_ms if self.looked_up else None


@dataclass(frozen=True, slots=True)
class Model:
    """An estimator by import path, its parameters, calibration and the metric that decides."""

    estimator: str
    params: Mapping[str, Any]
    calibrate: Literal["sigmoid", "none"]
    metric: str


@dataclass(frozen=True, slots=True)
class Train:
    """`window_ms` None: all history. `fit_time_ms`: what a fit costs in event time when history is replayed."""

    window_ms: int | None
    first_rows: int
    first_positives: int
    fit_time_ms: int = 0


@dataclass(frozen=True, slots=True)
class Gate:
    """How a challenger is compared with the champion. `margin` is a share of the champion's metric."""

    holdout_ms: int
    rule: Literal["not_worse", "better"]
    margin: float
    confidence: float
    block_ms: int
    baselines: Sequence[str]
    watch_ms: int


@dataclass(frozen=True, slots=True)
class Drift:
    """`false_alarms_ms`: mean event time to the loop's first alarm while nothing changes."""

    false_alarms_ms: int
    season_ms: int
    weights: Mapping[str, float]


@dataclass(frozen=True, slots=True)
class Retrain:
    """`on`: drift kinds that ask for a retrain. `grown`: factor in matured rows. `budget`: (count, per ms)."""

    on: Sequence[str]
    grown: float | None
    max_age_ms: int | None
    every_ms: int | None
    cooldown_ms: int
    budget: tuple[int, int]


@dataclass(frozen=True, slots=True)
class Loop:
    """A whole declaration. `declaration` is the TOML as data, as `loop.declared` carries it; `digest` is of it."""

    name: str
    version: int
    task: Task
    lateness_ms: int
    max_ahead_ms: int
    max_gap_ms: int
    catch_up_ms: int
    clock: Literal["event", "wall"]
    events: Mapping[str, Event]
    quality: Quality
    predict: Predict
    label: Label
    features: Features
    model: Model
    train: Train
    gate: Gate
    drift: Drift
    retrain: Retrain
    partitions: int
    declaration: Mapping[str, Any]
    digest: str

    @property
    def verdict_ms(self) -> int:
        """How long after a prediction a measurement may still be the first to count it: its label has to mature, its
        block of time to end, and measurements come every hour."""
        return max(self.label.mature_ms, self.label.within_ms) + self.gate.block_ms + self.lateness_ms + HOUR_MS

    @property
    def asks(self) -> Event:
        """The event that asks for a prediction."""
        return self.events[self.predict.on]
