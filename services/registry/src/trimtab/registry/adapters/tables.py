"""The database: a projection of the log. Everything in it can be made again by `trimtab registry rebuild`.

Times are ms since the epoch. Rows are keyed by what their events say, so that the order in which topics are read does
not show; a row may therefore be filled by two events (a command and its answer, a request and its failure).
"""

from typing import Any

from sqlalchemy import JSON, BigInteger, ForeignKeyConstraint, MetaData, Text
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column

NAMING = {
    "ix": "ix_%(column_0_label)s",
    "uq": "uq_%(table_name)s_%(column_0_name)s",
    "ck": "ck_%(table_name)s_%(constraint_name)s",
    "fk": "fk_%(table_name)s_%(column_0_name)s_%(referred_table_name)s",
    "pk": "pk_%(table_name)s",
}


class Base(DeclarativeBase):
    """All tables."""

    metadata = MetaData(naming_convention=NAMING)
    type_annotation_map = {str: Text, int: BigInteger, dict[str, Any]: JSON, list[Any]: JSON}  # noqa: RUF012  # its API


class Loop(Base):
    """A loop by its newest declaration. `ended`: by a tombstone."""

    __tablename__ = "loops"

    loop: Mapped[str] = mapped_column(primary_key=True)
    version: Mapped[int]
    digest: Mapped[str]
    declared_at_ms: Mapped[int]
    declared_by: Mapped[str]
    ended: Mapped[bool]


class Request(Base):
    """A retrain, from its cause to its failure. `cause`: as in `retrain.requested`."""

    __tablename__ = "requests"

    loop: Mapped[str] = mapped_column(primary_key=True)
    request_id: Mapped[str] = mapped_column(primary_key=True)
    at_ms: Mapped[int | None]
    cause: Mapped[dict[str, Any] | None] = mapped_column(JSON(none_as_null=True))
    champion_version: Mapped[int | None]
    loop_version: Mapped[int | None]
    failed_reason: Mapped[str | None]
    failed_error: Mapped[str | None]


class Training(Base):
    """What the trainer says of a model: its digests, dataset, environment; `signature` is the trainer's."""

    __tablename__ = "trainings"

    loop: Mapped[str] = mapped_column(primary_key=True)
    request_id: Mapped[str] = mapped_column(primary_key=True)
    at_ms: Mapped[int]
    digest: Mapped[str] = mapped_column(index=True)
    format: Mapped[str]
    onnx_digest: Mapped[str | None]
    skops_digest: Mapped[str]
    recipe_digest: Mapped[str]
    features_digest: Mapped[str]
    classes: Mapped[list[Any] | None] = mapped_column(JSON(none_as_null=True))
    parity: Mapped[dict[str, Any]]
    dataset_digest: Mapped[str]
    dataset_blob: Mapped[str]
    dataset_rows: Mapped[int]
    dataset_positives: Mapped[int | None]
    dataset_first_at_ms: Mapped[int]
    dataset_last_at_ms: Mapped[int]
    dataset_cluster_id: Mapped[str]
    gate_rule: Mapped[str]
    gate_metric: Mapped[str]
    gate_margin: Mapped[float]
    gate_confidence: Mapped[float]
    gate_verdict: Mapped[str]
    fits: Mapped[int]
    seed: Mapped[int]
    code_version: Mapped[str]
    lock_digest: Mapped[str]
    environment: Mapped[dict[str, Any]]
    wall_s: Mapped[float]
    signature: Mapped[str]


class DatasetRange(Base):
    """A stretch of the log that a training's rows were taken from."""

    __tablename__ = "dataset_ranges"
    __table_args__ = (ForeignKeyConstraint(["loop", "request_id"], ["trainings.loop", "trainings.request_id"]),)

    loop: Mapped[str] = mapped_column(primary_key=True)
    request_id: Mapped[str] = mapped_column(primary_key=True)
    topic: Mapped[str] = mapped_column(primary_key=True)
    partition: Mapped[int] = mapped_column(primary_key=True)
    topic_id: Mapped[str]
    first_offset: Mapped[int]
    end_offset: Mapped[int]


class Metric(Base):
    """A metric of a training on its holdout."""

    __tablename__ = "metrics"
    __table_args__ = (ForeignKeyConstraint(["loop", "request_id"], ["trainings.loop", "trainings.request_id"]),)

    loop: Mapped[str] = mapped_column(primary_key=True)
    request_id: Mapped[str] = mapped_column(primary_key=True)
    name: Mapped[str] = mapped_column(primary_key=True)
    value: Mapped[float]


class Comparison(Base):
    """One comparison of a gate: challenger against another on the same rows."""

    __tablename__ = "comparisons"
    __table_args__ = (ForeignKeyConstraint(["loop", "request_id"], ["trainings.loop", "trainings.request_id"]),)

    loop: Mapped[str] = mapped_column(primary_key=True)
    request_id: Mapped[str] = mapped_column(primary_key=True)
    against: Mapped[str] = mapped_column(primary_key=True)
    version: Mapped[int | None]
    challenger: Mapped[float]
    other: Mapped[float]
    difference: Mapped[float]
    low: Mapped[float]
    high: Mapped[float]
    rows: Mapped[int]
    blocks: Mapped[int]
    passed: Mapped[bool]


class Version(Base):
    """A numbered model. `verdict`: under which it was registered."""

    __tablename__ = "versions"

    loop: Mapped[str] = mapped_column(primary_key=True)
    version: Mapped[int] = mapped_column(primary_key=True)
    request_id: Mapped[str]
    digest: Mapped[str] = mapped_column(index=True)
    verdict: Mapped[str]
    at_ms: Mapped[int]


class Deployment(Base):
    """Who serves and who scores along, from an event time on. The newest sequence number counts."""

    __tablename__ = "deployments"

    loop: Mapped[str] = mapped_column(primary_key=True)
    sequence: Mapped[int] = mapped_column(primary_key=True)
    at_ms: Mapped[int]
    effective_at_ms: Mapped[int]
    champion: Mapped[int | None]
    shadows: Mapped[list[Any]]
    cause: Mapped[str]
    request_id: Mapped[str | None]
    note: Mapped[str | None]
    signature: Mapped[str]


class Command(Base):
    """What a person asked, and (once folded) what became of it."""

    __tablename__ = "commands"

    loop: Mapped[str] = mapped_column(primary_key=True)
    command_id: Mapped[str] = mapped_column(primary_key=True)
    at_ms: Mapped[int | None]
    kind: Mapped[str | None]
    version: Mapped[int | None]
    by: Mapped[str | None]
    note: Mapped[str | None]
    outcome: Mapped[str | None]
    detail: Mapped[str | None]
    sequence: Mapped[int | None]


class Performance(Base):
    """The newest measurement of a version on matured outcomes."""

    __tablename__ = "performance"

    loop: Mapped[str] = mapped_column(primary_key=True)
    version: Mapped[int] = mapped_column(primary_key=True)
    at_ms: Mapped[int]
    arm: Mapped[str]
    rows: Mapped[int]
    metrics: Mapped[dict[str, Any]]


class Position(Base):
    """How far a partition of the log has been read: in the transaction that wrote what was read."""

    __tablename__ = "positions"

    topic: Mapped[str] = mapped_column(primary_key=True)
    partition: Mapped[int] = mapped_column(primary_key=True)
    next_offset: Mapped[int]
