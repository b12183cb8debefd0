"""Reads of the projection for the API."""

from collections.abc import Callable, Sequence
from typing import Any, TypeVar

from sqlalchemy import Engine, Select, func, or_, select
from sqlalchemy.orm import Session

from trimtab.registry.adapters import tables
from trimtab.registry.core.answers import (
    CommandFacts,
    ComparisonFacts,
    DatasetFacts,
    DeploymentFacts,
    EnvironmentFacts,
    FailureFacts,
    GateFacts,
    LoopSummary,
    ModelFacts,
    Page,
    PerformanceFacts,
    RangeFacts,
    RequestFacts,
    Role,
    VersionDetail,
    VersionSummary,
)
from trimtab.store.sql import reading

T = TypeVar("T")
A = TypeVar("A")


class Queries:
    """What the database holds. Lists come in pages; `after` is the last page's `next`."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine

    def has_loop(self, loop: str) -> bool:
        """Whether the loop was ever declared or has versions."""
        with reading(self._engine) as session:
            return session.get(tables.Loop, loop) is not None

    def loops(self, limit: int, after: str | None) -> Page[LoopSummary]:
        """By name."""
        wanted = select(tables.Loop).order_by(tables.Loop.loop).limit(limit + 1)
        if after is not None:
            wanted = wanted.where(tables.Loop.loop > after)
        with reading(self._engine) as session:
            return _page(session, wanted, limit, _loop, lambda row: row.loop)

    def versions(self, loop: str, limit: int, after: int | None) -> Page[VersionSummary]:
        """Newest first."""
        table = tables.Version
        wanted = select(table).where(table.loop == loop).order_by(table.version.desc()).limit(limit + 1)
        if after is not None:
            wanted = wanted.where(table.version < after)
        with reading(self._engine) as session:
            return _page(session, wanted, limit, _version, lambda row: str(row.version))

    def version(self, loop: str, version: int) -> VersionDetail | None:
        """With its whole lineage; None where there is none of that number."""
        with reading(self._engine) as session:
            row = session.get(tables.Version, (loop, version))
            return None if row is None else _detail(session, row)

    def deployments(self, loop: str, limit: int, after: int | None) -> Page[DeploymentFacts]:
        """Newest first."""
        table = tables.Deployment
        wanted = select(table).where(table.loop == loop).order_by(table.sequence.desc()).limit(limit + 1)
        if after is not None:
            wanted = wanted.where(table.sequence < after)
        with reading(self._engine) as session:
            return _page(session, wanted, limit, _deployment, lambda row: str(row.sequence))

    def commands(self, loop: str, limit: int, after: str | None) -> Page[CommandFacts]:
        """By id."""
        table = tables.Command
        wanted = select(table).where(table.loop == loop).order_by(table.command_id).limit(limit + 1)
        if after is not None:
            wanted = wanted.where(table.command_id > after)
        with reading(self._engine) as session:
            return _page(session, wanted, limit, _command, lambda row: row.command_id)

    def command(self, loop: str, command_id: str) -> CommandFacts | None:
        """One command; None where the database holds none of that id."""
        with reading(self._engine) as session:
            row = session.get(tables.Command, (loop, command_id))
            return None if row is None else _command(session, row)

    def is_model(self, digest: str) -> bool:
        """Whether a blob is a model of some version: others are not given out."""
        table = tables.Training
        wanted = select(func.count()).where(
            or_(table.digest == digest, table.onnx_digest == digest, table.skops_digest == digest)
        )
        with reading(self._engine) as session:
            return session.scalar(wanted) != 0


def _page(
    session: Session,
    wanted: Select[T],
    limit: int,
    answer: Callable[[Session, T], A],
    key: Callable[[T], str],
) -> Page[A]:
    rows = session.scalars(wanted).all()
    more = key(rows[limit - 1]) if len(rows) > limit else None
    return Page(items=[answer(session, row) for row in rows[:limit]], next=more)


def _newest_deployment(session: Session, loop: str) -> tables.Deployment | None:
    table = tables.Deployment
    return session.scalar(select(table).where(table.loop == loop).order_by(table.sequence.desc()).limit(1))


def _loop(session: Session, row: tables.Loop) -> LoopSummary:
    deployment = _newest_deployment(session, row.loop)
    count = session.scalar(select(func.count()).where(tables.Version.loop == row.loop))
    return LoopSummary(
        loop=row.loop,
        declaration_version=row.version,
        declaration_digest=row.digest,
        declared_at_ms=row.declared_at_ms,
        declared_by=row.declared_by,
        ended=row.ended,
        versions=count or 0,
        champion=None if deployment is None else deployment.champion,
        shadows=[] if deployment is None else deployment.shadows,
        training_failed=_failure(session, row.loop),
    )


def _failure(session: Session, loop: str) -> FailureFacts | None:
    """How the last training failed; None where it led to a model, or there was none."""
    table, training = tables.Request, tables.Training
    wanted = select(table).where(table.loop == loop, table.failed_reason.is_not(None), table.at_ms.is_not(None))
    last = session.scalar(wanted.order_by(table.at_ms.desc(), table.request_id.desc()).limit(1))
    trained_ms = session.scalar(select(func.max(training.at_ms)).where(training.loop == loop))
    if last is None or last.at_ms is None or (trained_ms is not None and trained_ms > last.at_ms):
        return None
    return FailureFacts(
        request_id=last.request_id,
        at_ms=last.at_ms,
        reason=last.failed_reason or "",
        error=last.failed_error or "",
    )


def _role(session: Session, row: tables.Version) -> Role:
    deployment = _newest_deployment(session, row.loop)
    if deployment is None:
        return "none"
    if deployment.champion == row.version:
        return "champion"
    return "shadow" if row.version in deployment.shadows else "none"


def _summary(session: Session, row: tables.Version) -> dict[str, Any]:
    training = session.get(tables.Training, (row.loop, row.request_id))
    request = session.get(tables.Request, (row.loop, row.request_id))
    return {
        "loop": row.loop,
        "version": row.version,
        "at_ms": row.at_ms,
        "digest": row.digest,
        "verdict": row.verdict,
        "role": _role(session, row),
        "request_id": row.request_id,
        "cause": None if request is None or request.cause is None else request.cause["kind"],
        "rows": None if training is None else training.dataset_rows,
        "metrics": {metric.name: metric.value for metric in _of(session, tables.Metric, row)},
    }


def _version(session: Session, row: tables.Version) -> VersionSummary:
    return VersionSummary(**_summary(session, row))


def _detail(session: Session, row: tables.Version) -> VersionDetail:
    training = session.get(tables.Training, (row.loop, row.request_id))
    request = session.get(tables.Request, (row.loop, row.request_id))
    performance = session.get(tables.Performance, (row.loop, row.version))
    table = tables.Deployment
    deployments = session.scalars(select(table).where(table.loop == row.loop).order_by(table.sequence))
    served = [one for one in deployments if row.version in (one.champion, *one.shadows)]
    return VersionDetail(
        **_summary(session, row),
        model=None if training is None else _facts(ModelFacts, training),
        dataset=None if training is None else _dataset(session, training),
        gate=None if training is None else _gate(session, training),
        request=None if request is None else _facts(RequestFacts, request),
        training=None if training is None else _facts(EnvironmentFacts, training),
        performance=None if performance is None else _facts(PerformanceFacts, performance),
        deployments=[_deployment(session, one) for one in served],
    )


def _of(session: Session, table: type[T], row: tables.Version | tables.Training) -> Sequence[T]:
    """The rows of a table that belong to a training, in the order of their keys."""
    columns = tables.Base.metadata.tables[table.__tablename__].primary_key.columns  # type: ignore[attr-defined]
    wanted = select(table).filter_by(loop=row.loop, request_id=row.request_id).order_by(*columns)
    return session.scalars(wanted).all()


F = TypeVar("F", ModelFacts, RequestFacts, EnvironmentFacts, PerformanceFacts, RangeFacts, ComparisonFacts)


def _facts(answer: type[F], row: tables.Base) -> F:
    """The columns of a row that an answer has fields for."""
    return answer(**{name: getattr(row, name) for name in answer.model_fields})


def _dataset(session: Session, row: tables.Training) -> DatasetFacts:
    return DatasetFacts(
        digest=row.dataset_digest,
        blob=row.dataset_blob,
        rows=row.dataset_rows,
        positives=row.dataset_positives,
        first_at_ms=row.dataset_first_at_ms,
        last_at_ms=row.dataset_last_at_ms,
        cluster_id=row.dataset_cluster_id,
        ranges=[_facts(RangeFacts, one) for one in _of(session, tables.DatasetRange, row)],
    )


def _gate(session: Session, row: tables.Training) -> GateFacts:
    return GateFacts(
        verdict=row.gate_verdict,
        rule=row.gate_rule,
        metric=row.gate_metric,
        margin=row.gate_margin,
        confidence=row.gate_confidence,
        comparisons=[_facts(ComparisonFacts, one) for one in _of(session, tables.Comparison, row)],
    )


def _deployment(_session: Session, row: tables.Deployment) -> DeploymentFacts:
    return DeploymentFacts(**{name: getattr(row, name) for name in DeploymentFacts.model_fields})


def _command(_session: Session, row: tables.Command) -> CommandFacts:
    return CommandFacts(**{name: getattr(row, name) for name in CommandFacts.model_fields})
