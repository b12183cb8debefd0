"""What each control event writes into the database. Writing an event again changes nothing."""

from collections.abc import Callable, Mapping
from typing import Any, TypeVar

from sqlalchemy.orm import Session

from trimtab.contracts import control
from trimtab.registry.adapters import tables

T = TypeVar("T", bound=tables.Base)


def project(session: Session, event: control.Event) -> None:
    """Write what an event says. Events that the database does not hold are passed over."""
    write = _WRITES.get(type(event))
    if write is not None:
        write(session, event)
        session.flush()


def end_loop(session: Session, loop: str) -> None:
    """Write that a loop has ended."""
    row = session.get(tables.Loop, loop)
    if row is not None:
        row.ended = True


def _declared(session: Session, event: control.LoopDeclared) -> None:
    row = session.get(tables.Loop, event.loop)
    if row is not None and event.version < row.version and not row.ended:
        return
    session.merge(
        tables.Loop(
            loop=event.loop,
            version=event.version,
            digest=event.digest,
            declared_at_ms=event.at_ms,
            declared_by=event.by,
            ended=False,
        )
    )


def _requested(session: Session, event: control.RetrainRequested) -> None:
    row = _row(session, tables.Request, loop=event.loop, request_id=event.request_id)
    row.at_ms = event.at_ms
    row.cause = event.cause.model_dump(mode="json")
    row.champion_version = event.champion_version
    row.loop_version = event.loop_version


def _failed(session: Session, event: control.TrainingFailed) -> None:
    row = _row(session, tables.Request, loop=event.loop, request_id=event.request_id)
    row.failed_reason = event.reason
    row.failed_error = event.error


def _trained(session: Session, event: control.ModelTrained) -> None:
    if session.get(tables.Training, (event.loop, event.request_id)) is not None:
        return
    model, dataset, gate = event.model, event.dataset, event.gate
    session.add(
        tables.Training(
            loop=event.loop,
            request_id=event.request_id,
            at_ms=event.at_ms,
            digest=model.digest,
            format=model.format,
            onnx_digest=model.onnx_digest,
            skops_digest=model.skops_digest,
            recipe_digest=model.recipe_digest,
            features_digest=model.features_digest,
            classes=None if model.classes is None else list(model.classes),
            parity=model.parity.model_dump(mode="json"),
            dataset_digest=dataset.digest,
            dataset_blob=dataset.blob,
            dataset_rows=dataset.rows,
            dataset_positives=dataset.positives,
            dataset_first_at_ms=dataset.first_at_ms,
            dataset_last_at_ms=dataset.last_at_ms,
            dataset_cluster_id=dataset.cluster_id,
            gate_rule=gate.rule,
            gate_metric=gate.metric,
            gate_margin=gate.margin,
            gate_confidence=gate.confidence,
            gate_verdict=gate.verdict,
            fits=event.fits,
            seed=event.seed,
            code_version=event.code_version,
            lock_digest=event.lock_digest,
            environment=event.environment.model_dump(mode="json"),
            wall_s=event.wall_s,
            signature=event.signature,
        )
    )
    session.flush()
    key = {"loop": event.loop, "request_id": event.request_id}
    session.add_all(tables.Metric(**key, name=name, value=value) for name, value in event.metrics.items())
    for one in dataset.ranges:
        where = {"topic": one.topic, "partition": one.partition, "topic_id": one.topic_id}
        session.merge(tables.DatasetRange(**key, **where, first_offset=one.from_, end_offset=one.to))
    for compared in gate.comparisons:
        session.merge(tables.Comparison(**key, **compared.model_dump()))


def _registered(session: Session, event: control.ModelRegistered) -> None:
    row = _row(session, tables.Version, loop=event.loop, version=event.version)
    row.request_id = event.request_id
    row.digest = event.digest
    row.verdict = event.verdict
    row.at_ms = event.at_ms


def _deployed(session: Session, event: control.DeploymentChanged) -> None:
    row = _row(session, tables.Deployment, loop=event.loop, sequence=event.sequence)
    row.at_ms = event.at_ms
    row.effective_at_ms = event.effective_at_ms
    row.champion = None if event.champion is None else event.champion.version
    row.shadows = [ref.version for ref in event.shadows]
    row.cause = event.cause
    row.request_id = event.request_id
    row.note = event.note
    row.signature = event.signature


def _commanded(session: Session, event: control.RegistryCommand) -> None:
    row = _row(session, tables.Command, loop=event.loop, command_id=event.command_id)
    if row.kind is not None:
        return
    row.at_ms = event.at_ms
    row.kind = event.kind
    row.version = event.version
    row.by = event.by
    row.note = event.note


def _settled(session: Session, event: control.CommandSettled) -> None:
    row = _row(session, tables.Command, loop=event.loop, command_id=event.command_id)
    row.outcome = event.outcome
    row.detail = event.detail
    row.sequence = event.sequence


def _measured(session: Session, event: control.PerformanceMeasured) -> None:
    for model in event.models:
        row = session.get(tables.Performance, (event.loop, model.version))
        if row is None or row.at_ms <= event.at_ms:
            session.merge(
                tables.Performance(
                    loop=event.loop,
                    version=model.version,
                    at_ms=event.at_ms,
                    arm=model.arm,
                    rows=model.rows,
                    metrics=dict(model.metrics),
                )
            )


def _row(session: Session, table: type[T], **key: Any) -> T:
    row = session.get(table, tuple(key.values()))
    if row is None:
        row = table(**key)
        session.add(row)
    return row


_WRITES: Mapping[type, Callable[[Session, Any], None]] = {
    control.LoopDeclared: _declared,
    control.RetrainRequested: _requested,
    control.TrainingFailed: _failed,
    control.ModelTrained: _trained,
    control.ModelRegistered: _registered,
    control.DeploymentChanged: _deployed,
    control.RegistryCommand: _commanded,
    control.CommandSettled: _settled,
    control.PerformanceMeasured: _measured,
}
