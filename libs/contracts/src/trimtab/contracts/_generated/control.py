"""Generated from schemas/ by `python -m trimtab.contracts.generate`. Never edited."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field
from trimtab.contracts.times import Instant


class ModelRef(BaseModel):
    """
    A served model.
    """

    model_config = ConfigDict(
        extra='ignore',
        populate_by_name=True,
        frozen=True,
        arbitrary_types_allowed=True,
    )
    version: Annotated[int, Field(ge=1)]
    """
    version number within the loop
    """
    digest: Annotated[str, Field(pattern='^[0-9a-f]{64}$')]
    """
    of the served blob
    """
    format: Literal['onnx', 'skops']
    """
    how the blob is read
    """
    features_digest: Annotated[str, Field(pattern='^[0-9a-f]{64}$')]
    """
    of the features it was fitted on
    """
    classes: Sequence[str] | None = None
    """
    class names in the order of its probabilities; null unless multiclass
    """
    until_ms: Annotated[Instant | None, Field(alias='until')] = None
    """
    of a shadow: asks from this event time on are not scored by it; null: until another deployment
    """


class DeclaredTopic(BaseModel):
    """
    A topic as it was created.
    """

    model_config = ConfigDict(
        extra='ignore',
        populate_by_name=True,
        frozen=True,
    )
    name: str
    id: str
    """
    the broker's topic id
    """
    partitions: Annotated[int, Field(ge=1)]


class Parity(BaseModel):
    """
    How far ONNX and scikit-learn differ on the same rows.
    """

    model_config = ConfigDict(
        extra='ignore',
        populate_by_name=True,
        frozen=True,
    )
    rows: Annotated[int, Field(ge=0)]
    max_difference: Annotated[float, Field(ge=0.0)]
    """
    largest difference of a score; 0 without ONNX
    """
    passed: bool


class TrainedModel(BaseModel):
    """
    What was fitted.
    """

    model_config = ConfigDict(
        extra='ignore',
        populate_by_name=True,
        frozen=True,
    )
    digest: Annotated[str, Field(pattern='^[0-9a-f]{64}$')]
    """
    of the blob to serve
    """
    format: Literal['onnx', 'skops']
    onnx_digest: Annotated[str | None, Field(pattern='^[0-9a-f]{64}$')] = None
    """
    null when conversion or parity failed
    """
    skops_digest: Annotated[str, Field(pattern='^[0-9a-f]{64}$')]
    """
    of the inspectable form
    """
    parity: Parity
    recipe_digest: Annotated[str, Field(pattern='^[0-9a-f]{64}$')]
    """
    of estimator, parameters, calibration and features
    """
    features_digest: Annotated[str, Field(pattern='^[0-9a-f]{64}$')]
    """
    of the features
    """
    classes: Sequence[str] | None = None
    """
    class names in order; null unless multiclass
    """


class OffsetRange(BaseModel):
    """
    A stretch of one partition: from <= offset < to.
    """

    model_config = ConfigDict(
        extra='ignore',
        populate_by_name=True,
        frozen=True,
    )
    topic: str
    topic_id: str
    partition: Annotated[int, Field(ge=0)]
    from_: Annotated[int, Field(alias='from', ge=0)]
    """
    first offset
    """
    to: Annotated[int, Field(ge=0)]
    """
    offset after the last
    """


class Dataset(BaseModel):
    """
    The rows a model was fitted on.
    """

    model_config = ConfigDict(
        extra='ignore',
        populate_by_name=True,
        frozen=True,
        arbitrary_types_allowed=True,
    )
    cluster_id: str
    ranges: Sequence[OffsetRange]
    rows: Annotated[int, Field(ge=0)]
    positives: Annotated[int | None, Field(ge=0)] = None
    """
    null unless binary
    """
    digest: Annotated[str, Field(pattern='^[0-9a-f]{64}$')]
    """
    of the rows sorted by event time and prediction key
    """
    blob: Annotated[str, Field(pattern='^[0-9a-f]{64}$')]
    """
    of the Parquet file with those rows
    """
    first_at_ms: Annotated[Instant, Field(alias='first_at')]
    """
    event time of the oldest row
    """
    last_at_ms: Annotated[Instant, Field(alias='last_at')]
    """
    event time of the newest row
    """


class Comparison(BaseModel):
    """
    Challenger against another on the same rows.
    """

    model_config = ConfigDict(
        extra='ignore',
        populate_by_name=True,
        frozen=True,
    )
    against: Annotated[str, Field(min_length=1)]
    """
    champion, constant, first_model or another named baseline
    """
    version: Annotated[int | None, Field(ge=1)] = None
    """
    of the other, where it has one
    """
    challenger: float
    """
    the challenger's metric
    """
    other: float
    """
    the other's metric
    """
    difference: float
    """
    challenger less other; below 0 is better for a loss
    """
    low: float
    """
    lower bound of the difference
    """
    high: float
    """
    upper bound of the difference
    """
    rows: Annotated[int, Field(ge=0)]
    blocks: Annotated[int, Field(ge=0)]
    """
    blocks of the bootstrap
    """
    passed: bool


class GateResult(BaseModel):
    """
    Whether a challenger may serve.
    """

    model_config = ConfigDict(
        extra='ignore',
        populate_by_name=True,
        frozen=True,
    )
    verdict: Literal['first', 'passed', 'failed']
    rule: Literal['not_worse', 'better']
    margin: Annotated[float, Field(ge=0.0)]
    """
    share of the champion's metric
    """
    confidence: Annotated[float, Field(gt=0.0, lt=1.0)]
    """
    of the bounds
    """
    metric: str
    """
    the metric that decides
    """
    comparisons: Sequence[Comparison]


class ReferenceSignal(BaseModel):
    """
    One signal's means by look on the holdout.
    """

    model_config = ConfigDict(
        extra='ignore',
        populate_by_name=True,
        frozen=True,
    )
    kind: Literal['score', 'feature', 'missing', 'unseen', 'loss', 'estimate']
    means: Sequence[float | None]
    """
    null: an empty look
    """
    counts: Sequence[int]
    """
    rows in each look
    """
    low: float | None = None
    """
    features that are numbers: the smallest value trained on
    """
    high: float | None = None
    """
    features that are numbers: the largest value trained on
    """
    categories: Sequence[str] | None = None
    """
    categorical features: the values trained on; null when there are too many to list
    """


class Reference(BaseModel):
    """
    What the detectors of a model version compare with.
    """

    model_config = ConfigDict(
        extra='ignore',
        populate_by_name=True,
        frozen=True,
        arbitrary_types_allowed=True,
    )
    look_ms: Annotated[int, Field(ge=1)]
    """
    length of a look
    """
    season_ms: Annotated[int, Field(ge=0)]
    """
    length of the season; 0 without
    """
    from_ms: Annotated[Instant, Field(alias='from')]
    """
    start of the first look
    """
    signals: Mapping[str, ReferenceSignal]


class Environment(BaseModel):
    """
    Where a model was fitted.
    """

    model_config = ConfigDict(
        extra='ignore',
        populate_by_name=True,
        frozen=True,
    )
    python: str
    platform: str
    packages: Mapping[str, str]
    """
    name to version
    """


class RetrainCause(BaseModel):
    """
    Why a retrain is wanted.
    """

    model_config = ConfigDict(
        extra='ignore',
        populate_by_name=True,
        frozen=True,
    )
    kind: Literal['first', 'drift', 'grown', 'age', 'schedule', 'person']
    drift_id: str | None = None
    ask_id: str | None = None
    """
    of the person's wish
    """
    signals: Sequence[str]
    """
    drifted signals
    """
    note: str | None = None
    by: str | None = None


class DriftSignal(BaseModel):
    """
    One signal at the time of an alarm.
    """

    model_config = ConfigDict(
        extra='ignore',
        populate_by_name=True,
        frozen=True,
    )
    name: str
    kind: Literal['score', 'feature', 'missing', 'unseen', 'loss', 'estimate']
    weight: Annotated[float, Field(ge=0.0)]
    """
    its share of the evidence
    """
    evidence: Annotated[float, Field(ge=0.0)]
    """
    its Shiryaev-Roberts statistic
    """
    reference_mean: float | None = None
    """
    mean over the reference
    """
    recent_mean: float | None = None
    """
    mean since the change
    """
    shift_sd: float | None = None
    """
    difference in standard deviations of looks
    """
    drifted: bool
    """
    by e-Benjamini-Hochberg
    """


class ModelPerformance(BaseModel):
    """
    One version on matured outcomes.
    """

    model_config = ConfigDict(
        extra='ignore',
        populate_by_name=True,
        frozen=True,
    )
    version: Annotated[int, Field(ge=1)]
    arm: Literal['champion', 'shadow']
    rows: Annotated[int, Field(ge=0)]
    metrics: Mapping[str, float]


class PairedDifference(BaseModel):
    """
    Two versions on the same rows.
    """

    model_config = ConfigDict(
        extra='ignore',
        populate_by_name=True,
        frozen=True,
    )
    version: Annotated[int, Field(ge=1)]
    other: Annotated[int, Field(ge=1)]
    rows: Annotated[int, Field(ge=0)]
    blocks: Annotated[int, Field(ge=0)]
    difference: float
    """
    version less other in the deciding metric
    """
    low: float
    high: float


class CommandSettled(BaseModel):
    """
    What became of a command.
    """

    model_config = ConfigDict(
        extra='ignore',
        populate_by_name=True,
        frozen=True,
        arbitrary_types_allowed=True,
    )
    loop: Annotated[str, Field(pattern='^[a-z][a-z0-9_]{0,62}$')]
    at_ms: Annotated[Instant, Field(alias='at')]
    """
    event time
    """
    command_id: Annotated[str, Field(max_length=200, min_length=1)]
    outcome: Literal['done', 'refused']
    detail: str
    """
    what was done, or why not
    """
    sequence: Annotated[int | None, Field(ge=1)] = None
    """
    of the deployment that it led to; null when nothing changed
    """


class DeploymentChanged(BaseModel):
    """
    Which versions serve a loop.
    """

    model_config = ConfigDict(
        extra='ignore',
        populate_by_name=True,
        frozen=True,
        arbitrary_types_allowed=True,
    )
    loop: Annotated[str, Field(pattern='^[a-z][a-z0-9_]{0,62}$')]
    at_ms: Annotated[Instant, Field(alias='at')]
    """
    event time
    """
    sequence: Annotated[int, Field(ge=1)]
    """
    counts up; a later one wins
    """
    effective_at_ms: Annotated[Instant, Field(alias='effective_at')]
    """
    asks from this event time on are scored by it
    """
    champion: ModelRef | None = None
    shadows: Sequence[ModelRef]
    cause: Literal['first', 'promoted', 'rolled_back', 'shadow_retired', 'commanded']
    request_id: Annotated[str | None, Field(max_length=200, min_length=1)] = None
    note: str | None = None
    signature: str
    """
    ed25519 over the canonical JSON without this field, base64
    """


class DriftDetected(BaseModel):
    """
    A version's stream has changed.
    """

    model_config = ConfigDict(
        extra='ignore',
        populate_by_name=True,
        frozen=True,
        arbitrary_types_allowed=True,
    )
    loop: Annotated[str, Field(pattern='^[a-z][a-z0-9_]{0,62}$')]
    at_ms: Annotated[Instant, Field(alias='at')]
    """
    event time
    """
    drift_id: Annotated[str, Field(max_length=200, min_length=1)]
    model_version: Annotated[int, Field(ge=1)]
    since_ms: Annotated[Instant, Field(alias='since')]
    """
    estimated time of the change
    """
    evidence: Annotated[float, Field(ge=0.0)]
    """
    weighted mean of the signals' statistics
    """
    threshold: Annotated[float, Field(ge=0.0)]
    """
    that it reached
    """
    look_ms: Annotated[int, Field(ge=1)]
    looks: Annotated[int, Field(ge=1)]
    """
    looks since the reference
    """
    signals: Sequence[DriftSignal]


class LoopDeclared(BaseModel):
    """
    A loop's declaration, whole.
    """

    model_config = ConfigDict(
        extra='ignore',
        populate_by_name=True,
        frozen=True,
        arbitrary_types_allowed=True,
    )
    loop: Annotated[str, Field(pattern='^[a-z][a-z0-9_]{0,62}$')]
    at_ms: Annotated[Instant, Field(alias='at')]
    """
    wall clock
    """
    version: Annotated[int, Field(ge=1)]
    """
    counts up with each apply
    """
    digest: Annotated[str, Field(pattern='^[0-9a-f]{64}$')]
    """
    of the declaration
    """
    declaration: Mapping[str, Any]
    """
    loop.toml as data
    """
    schemas: Mapping[str, Mapping[str, Any]]
    """
    Avro schema of each event
    """
    partitions: Annotated[int, Field(ge=1)]
    topics: Sequence[DeclaredTopic]
    by: str
    """
    who applied it
    """


class ModelRegistered(BaseModel):
    """
    A trained model got its number.
    """

    model_config = ConfigDict(
        extra='ignore',
        populate_by_name=True,
        frozen=True,
        arbitrary_types_allowed=True,
    )
    loop: Annotated[str, Field(pattern='^[a-z][a-z0-9_]{0,62}$')]
    at_ms: Annotated[Instant, Field(alias='at')]
    """
    event time
    """
    version: Annotated[int, Field(ge=1)]
    request_id: Annotated[str, Field(max_length=200, min_length=1)]
    """
    of the request
    """
    digest: Annotated[str, Field(pattern='^[0-9a-f]{64}$')]
    """
    of the served blob
    """
    verdict: Literal['first', 'passed', 'failed']


class ModelTrained(BaseModel):
    """
    A fitted model with everything needed to judge and reproduce it.
    """

    model_config = ConfigDict(
        extra='ignore',
        populate_by_name=True,
        frozen=True,
        arbitrary_types_allowed=True,
    )
    loop: Annotated[str, Field(pattern='^[a-z][a-z0-9_]{0,62}$')]
    at_ms: Annotated[Instant, Field(alias='at')]
    """
    event time of the request
    """
    request_id: Annotated[str, Field(max_length=200, min_length=1)]
    """
    of the request
    """
    cause_kind: Literal['first', 'drift', 'grown', 'age', 'schedule', 'person']
    model: TrainedModel
    dataset: Dataset
    metrics: Mapping[str, float]
    """
    on the holdout
    """
    gate: GateResult
    reference: Reference
    fits: Annotated[int, Field(ge=1)]
    """
    fits it took, refit included
    """
    seed: Annotated[int, Field(ge=0)]
    code_version: str
    lock_digest: Annotated[str, Field(pattern='^[0-9a-f]{64}$')]
    """
    of the locked dependencies
    """
    environment: Environment
    wall_s: Annotated[float, Field(ge=0.0)]
    """
    seconds it took
    """
    signature: str
    """
    ed25519 over the canonical JSON without this field, base64
    """


class PerformanceMeasured(BaseModel):
    """
    What matured outcomes say.
    """

    model_config = ConfigDict(
        extra='ignore',
        populate_by_name=True,
        frozen=True,
        arbitrary_types_allowed=True,
    )
    loop: Annotated[str, Field(pattern='^[a-z][a-z0-9_]{0,62}$')]
    at_ms: Annotated[Instant, Field(alias='at')]
    """
    event time
    """
    from_ms: Annotated[Instant, Field(alias='from')]
    """
    event time of the oldest outcome counted
    """
    matured_rows: Annotated[int, Field(ge=0)]
    """
    labelled rows old enough to train on
    """
    matured_positives: Annotated[int | None, Field(ge=0)] = None
    """
    null unless binary
    """
    outcomes: Annotated[int, Field(ge=0)]
    """
    in this measurement
    """
    models: Sequence[ModelPerformance]
    paired: Sequence[PairedDifference]


class QualityRestored(BaseModel):
    """
    A violated rule holds again.
    """

    model_config = ConfigDict(
        extra='ignore',
        populate_by_name=True,
        frozen=True,
        arbitrary_types_allowed=True,
    )
    loop: Annotated[str, Field(pattern='^[a-z][a-z0-9_]{0,62}$')]
    at_ms: Annotated[Instant, Field(alias='at')]
    """
    event time
    """
    rule: Literal['rejected', 'missing', 'unseen_category', 'out_of_range', 'silent']
    subject: str
    """
    an event or a feature
    """
    share: Annotated[float, Field(ge=0.0)]
    """
    found
    """
    limit: Annotated[float, Field(ge=0.0)]
    """
    declared
    """
    since_ms: Annotated[Instant, Field(alias='since')]
    """
    start of the violation
    """


class QualityViolated(BaseModel):
    """
    A stream broke a declared share.
    """

    model_config = ConfigDict(
        extra='ignore',
        populate_by_name=True,
        frozen=True,
        arbitrary_types_allowed=True,
    )
    loop: Annotated[str, Field(pattern='^[a-z][a-z0-9_]{0,62}$')]
    at_ms: Annotated[Instant, Field(alias='at')]
    """
    event time
    """
    rule: Literal['rejected', 'missing', 'unseen_category', 'out_of_range', 'silent']
    subject: str
    """
    an event or a feature
    """
    share: Annotated[float, Field(ge=0.0)]
    """
    found
    """
    limit: Annotated[float, Field(ge=0.0)]
    """
    declared
    """
    since_ms: Annotated[Instant, Field(alias='since')]
    """
    start of the violation
    """


class RegistryCommand(BaseModel):
    """
    A command to the registry.
    """

    model_config = ConfigDict(
        extra='ignore',
        populate_by_name=True,
        frozen=True,
        arbitrary_types_allowed=True,
    )
    loop: Annotated[str, Field(pattern='^[a-z][a-z0-9_]{0,62}$')]
    at_ms: Annotated[Instant, Field(alias='at')]
    """
    wall clock
    """
    command_id: Annotated[str, Field(max_length=200, min_length=1, pattern='^[^\\x00]*$')]
    kind: Literal['promote', 'rollback', 'retire_shadow']
    version: Annotated[int | None, Field(ge=1, le=2147483647)] = None
    by: Annotated[str, Field(pattern='^[^\\x00]*$')]
    note: Annotated[str | None, Field(pattern='^[^\\x00]*$')] = None


class RetrainAsked(BaseModel):
    """
    A person wants a retrain.
    """

    model_config = ConfigDict(
        extra='ignore',
        populate_by_name=True,
        frozen=True,
        arbitrary_types_allowed=True,
    )
    loop: Annotated[str, Field(pattern='^[a-z][a-z0-9_]{0,62}$')]
    at_ms: Annotated[Instant, Field(alias='at')]
    """
    wall clock
    """
    ask_id: Annotated[str, Field(max_length=200, min_length=1, pattern='^[^\\x00]*$')]
    by: Annotated[str, Field(pattern='^[^\\x00]*$')]
    note: Annotated[str | None, Field(pattern='^[^\\x00]*$')] = None


class RetrainDeclined(BaseModel):
    """
    A retrain that was not worth it.
    """

    model_config = ConfigDict(
        extra='ignore',
        populate_by_name=True,
        frozen=True,
        arbitrary_types_allowed=True,
    )
    loop: Annotated[str, Field(pattern='^[a-z][a-z0-9_]{0,62}$')]
    at_ms: Annotated[Instant, Field(alias='at')]
    """
    event time
    """
    cause: RetrainCause
    reason: Literal['cooldown', 'budget', 'hold', 'damped', 'open', 'covered', 'retired_version', 'not_listed', 'no_rows']
    until_ms: Annotated[Instant | None, Field(alias='until')] = None
    """
    event time at which the reason ends, where it does
    """
    detail: str


class RetrainRequested(BaseModel):
    """
    A retrain, decided.
    """

    model_config = ConfigDict(
        extra='ignore',
        populate_by_name=True,
        frozen=True,
        arbitrary_types_allowed=True,
    )
    loop: Annotated[str, Field(pattern='^[a-z][a-z0-9_]{0,62}$')]
    at_ms: Annotated[Instant, Field(alias='at')]
    """
    event time
    """
    request_id: Annotated[str, Field(max_length=200, min_length=1)]
    """
    of the request
    """
    cause: RetrainCause
    champion_version: Annotated[int | None, Field(ge=1)] = None
    loop_version: Annotated[int, Field(ge=1)]


class PublishedSchema(BaseModel):
    """
    An Avro schema in use.
    """

    model_config = ConfigDict(
        extra='ignore',
        populate_by_name=True,
        frozen=True,
    )
    fingerprint: Annotated[str, Field(pattern='^[0-9a-f]{16}$')]
    """
    CRC-64-AVRO of the parsing canonical form, as in single-object encoding
    """
    schema_: Annotated[Mapping[str, Any], Field(alias='schema')]
    """
    the schema
    """
    by: str
    """
    the stage that writes it
    """


class TimeAdvanced(BaseModel):
    """
    The event time that a loop has reached.
    """

    model_config = ConfigDict(
        extra='ignore',
        populate_by_name=True,
        frozen=True,
        arbitrary_types_allowed=True,
    )
    loop: Annotated[str, Field(pattern='^[a-z][a-z0-9_]{0,62}$')]
    at_ms: Annotated[Instant, Field(alias='at')]
    """
    event time
    """


class TrainingFailed(BaseModel):
    """
    A fit that ended without a model.
    """

    model_config = ConfigDict(
        extra='ignore',
        populate_by_name=True,
        frozen=True,
        arbitrary_types_allowed=True,
    )
    loop: Annotated[str, Field(pattern='^[a-z][a-z0-9_]{0,62}$')]
    at_ms: Annotated[Instant, Field(alias='at')]
    """
    event time of the request
    """
    request_id: Annotated[str, Field(max_length=200, min_length=1)]
    """
    of the request
    """
    reason: str
    """
    one word
    """
    error: str
    """
    what happened and what to do
    """