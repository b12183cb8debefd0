"""What the read API answers. Times are RFC 3339 in JSON."""

from collections.abc import Mapping, Sequence
from typing import Annotated, Any, Generic, Literal, TypeVar

from pydantic import BaseModel, ConfigDict, Field

from trimtab.contracts.times import Instant

T = TypeVar("T")
Role = Literal["champion", "shadow", "none"]


class Answer(BaseModel):
    """Frozen; fields with a time are called `at` in JSON and `at_ms` in Python."""

    model_config = ConfigDict(frozen=True, populate_by_name=True)


class Page(Answer, Generic[T]):
    """Some of many. `next`: pass it as `after` to get those that follow; null at the end."""

    items: Sequence[T]
    next: str | None


class FailureFacts(Answer):
    """A retrain that led to no model, and why. `at`: event time of the request."""

    request_id: str
    at_ms: Annotated[Instant, Field(alias="at")]
    reason: str
    error: str


class LoopSummary(Answer):
    """A loop and who serves it. `training_failed`: the last training, if it failed."""

    loop: str
    declaration_version: int
    declaration_digest: str
    declared_at_ms: Annotated[Instant, Field(alias="declared_at")]
    declared_by: str
    ended: bool
    versions: int
    champion: int | None
    shadows: Sequence[int]
    training_failed: FailureFacts | None


class VersionSummary(Answer):
    """A registered model. `role`: now."""

    loop: str
    version: int
    at_ms: Annotated[Instant, Field(alias="at")]
    digest: str
    verdict: str
    role: Role
    request_id: str
    cause: str | None
    rows: int | None
    metrics: Mapping[str, float]


class ModelFacts(Answer):
    """What was fitted."""

    format: str
    onnx_digest: str | None
    skops_digest: str
    recipe_digest: str
    features_digest: str
    classes: Sequence[str] | None
    parity: Mapping[str, Any]


class RangeFacts(Answer):
    """A stretch of one partition: first <= offset < end."""

    topic: str
    topic_id: str
    partition: int
    first_offset: int
    end_offset: int


class DatasetFacts(Answer):
    """The rows a model was fitted on."""

    digest: str
    blob: str
    rows: int
    positives: int | None
    first_at_ms: Annotated[Instant, Field(alias="first_at")]
    last_at_ms: Annotated[Instant, Field(alias="last_at")]
    cluster_id: str
    ranges: Sequence[RangeFacts]


class ComparisonFacts(Answer):
    """Challenger less other in a loss; below 0 the challenger is better."""

    against: str
    version: int | None
    challenger: float
    other: float
    difference: float
    low: float
    high: float
    rows: int
    blocks: int
    passed: bool


class GateFacts(Answer):
    """How the model was tested before it was registered."""

    verdict: str
    rule: str
    metric: str
    margin: float
    confidence: float
    comparisons: Sequence[ComparisonFacts]


class RequestFacts(Answer):
    """Why it was trained."""

    request_id: str
    at_ms: Annotated[Instant | None, Field(alias="at")]
    cause: Mapping[str, Any] | None
    champion_version: int | None
    loop_version: int | None


class EnvironmentFacts(Answer):
    """With what it was trained."""

    code_version: str
    lock_digest: str
    seed: int
    fits: int
    wall_s: float
    environment: Mapping[str, Any]


class PerformanceFacts(Answer):
    """The newest measurement on matured outcomes."""

    at_ms: Annotated[Instant, Field(alias="at")]
    arm: str
    rows: int
    metrics: Mapping[str, float]


class DeploymentFacts(Answer):
    """Who serves and who scores along, from an event time on."""

    loop: str
    sequence: int
    at_ms: Annotated[Instant, Field(alias="at")]
    effective_at_ms: Annotated[Instant, Field(alias="effective_at")]
    champion: int | None
    shadows: Sequence[int]
    cause: str
    request_id: str | None
    note: str | None


class VersionDetail(VersionSummary):
    """A registered model with its whole lineage."""

    model: ModelFacts | None
    dataset: DatasetFacts | None
    gate: GateFacts | None
    request: RequestFacts | None
    training: EnvironmentFacts | None
    performance: PerformanceFacts | None
    deployments: Sequence[DeploymentFacts]


class CommandFacts(Answer):
    """What a person asked and what became of it (`outcome` null: not decided yet)."""

    loop: str
    command_id: str
    at_ms: Annotated[Instant | None, Field(alias="at")]
    kind: str | None
    version: int | None
    by: str | None
    note: str | None
    outcome: str | None
    detail: str | None
    sequence: int | None
