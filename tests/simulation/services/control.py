"""What must be true of the control plane, of the tables of its deciders, and of the registry's databases."""

from collections.abc import Iterator, Mapping, Sequence
from itertools import pairwise
from typing import Any

from trimtab.contracts import control, topics
from trimtab.registry.adapters.database import TOPICS
from trimtab.runtime.bus import Part
from trimtab.runtime.restore import Restored
from trimtab.testing.plane import Control, Serving, violations

from tests.simulation.oracle import ALL, positions
from tests.simulation.services.judge import NAME, Deployed, Evidence
from tests.simulation.services.processes import Site, projected
from tests.simulation.services.stream import COOLDOWN_MS

TOLD = (
    topics.DRIFT_DETECTED,
    topics.RETRAIN_REQUESTED,
    topics.RETRAIN_DECLINED,
    topics.MODEL_TRAINED,
    topics.TRAINING_FAILED,
    topics.MODEL_REGISTERED,
    topics.DEPLOYMENT_CHANGED,
)


def told(seen: Evidence) -> Control:
    """The loop's control events by topic."""
    return {topic: [control.decode(topic, one.value or b"") for one in seen.records(topic)] for topic in TOLD}


def deployments(events: Control) -> Sequence[Deployed]:
    """In their order, those with a champion."""
    return [
        Deployed(one.effective_at_ms, one.champion.version, one.champion.digest, one.champion.format)
        for one in events[topics.DEPLOYMENT_CHANGED]
        if one.champion is not None
    ]


def decisions(events: Control) -> list[str]:
    """What was found, asked for, judged and deployed, and as of when."""
    return [
        *(f"drift at {one.at_ms}" for one in events[topics.DRIFT_DETECTED]),
        *(f"{one.cause.kind} request at {one.at_ms}" for one in events[topics.RETRAIN_REQUESTED]),
        *(f"version {one.version} {one.verdict}: {one.digest}" for one in events[topics.MODEL_REGISTERED]),
        *(f"{one.cause} deployment from {one.effective_at_ms} on" for one in events[topics.DEPLOYMENT_CHANGED]),
    ]


def control_plane(
    seen: Evidence, events: Control, served: Sequence[int | None], site: Site, registries: Sequence[str]
) -> Iterator[str]:
    """One effect for each cause, and everybody names the same champion.

    `served`: by each predictor. `registries`: the processes that project.
    """
    champions = {process: _champion(site, process) for process in registries}
    deployed = deployments(events)
    last = deployed[-1].version if deployed else None
    for process, champion in champions.items():
        serving = Serving(last, champion, [*served, *_scored(seen)])
        yield from (f"{one.what} ({process})" for one in violations(events, serving))
    yield from _requests(events)
    yield from _answers(events)
    yield from _lineage(events)
    for process in registries:
        yield from _database(seen, site, process)


def _scored(seen: Evidence) -> list[int | None]:
    """Which version scored the last ask of each partition."""
    last = {record.partition: value["version"] for record, value in seen.predictions}
    return list(last.values())


def _champion(site: Site, process: str) -> int | None:
    """Whom a registry's database names."""
    versions = site.queries(process).versions(NAME, 100, None).items
    return next((one.version for one in versions if one.role == "champion"), None)


def _requests(events: Control) -> Iterator[str]:
    """One at a time, and none within the cooldown of the one before."""
    for one, other in pairwise(events[topics.RETRAIN_REQUESTED]):
        if other.at_ms - one.at_ms < COOLDOWN_MS:
            yield f"request {other.request_id} came within the cooldown of {one.request_id}"


def _answers(events: Control) -> Iterator[str]:
    """Each drift is answered."""
    answers = [*events[topics.RETRAIN_REQUESTED], *events[topics.RETRAIN_DECLINED]]
    answered = {one.cause.drift_id for one in answers}
    yield from (
        f"drift {one.drift_id} has no answer" for one in events[topics.DRIFT_DETECTED] if one.drift_id not in answered
    )


def _lineage(events: Control) -> Iterator[str]:
    """Versions are the models that were trained, deployments name versions, a verdict that passes is obeyed once."""
    trained = {one.request_id: one.model.digest for one in events[topics.MODEL_TRAINED]}
    versions = {one.version: one for one in events[topics.MODEL_REGISTERED]}
    for one in versions.values():
        if trained.get(one.request_id) != one.digest:
            yield f"version {one.version} is not the model of {one.request_id}"
        obeyed = [other for other in events[topics.DEPLOYMENT_CHANGED] if other.request_id == one.request_id]
        if len(obeyed) != (one.verdict != "failed"):
            yield f"version {one.version}, {one.verdict}, was deployed {len(obeyed)} times"
    for one in events[topics.DEPLOYMENT_CHANGED]:
        for model in (one.champion, *one.shadows):
            if model is not None and (model.version not in versions or versions[model.version].digest != model.digest):
                yield f"deployment {one.sequence} names version {model.version}, which is not registered so"


def _database(seen: Evidence, site: Site, process: str) -> Iterator[str]:
    """It holds what the log says: made again from it, it is the same; its positions are the ends."""
    database = projected(site, process)
    parts = [Part(topic, 0) for topic in TOPICS]
    ends = {part: seen.bus.end(part) for part in parts}
    known = database.positions()
    for part in parts:
        left, _ = seen.bus.after(part, known.get(part, 0), ALL)
        if left:
            yield f"database of {process} stands at {known.get(part, 0)} of {part.topic}, {len(left)} records left"
    records = {part: seen.bus.after(part, 0, ALL)[0] for part in parts}
    yield from (
        f"database of {process}: {one.table} is not what the log says"
        for one in database.rebuild(records, ends)
        if not one.same
    )


def tables(seen: Evidence, stages: Mapping[str, Any], events: Control) -> Iterator[str]:
    """Positions stand at the ends, and the deciders remember what they have said."""
    held: dict[str, dict[str, dict[Any, Any]]] = {}
    for group, stage in stages.items():
        for partition in range(stage.partitions):
            restored = Restored(stage, partition)
            for part in restored.parts:
                restored.apply(part, seen.bus.after(part, 0, ALL)[0])
            for name, table in restored.tables.items():
                held.setdefault(group, {}).setdefault(name, {}).update(dict(table.items()))
            yield from positions(seen.bus, stage, partition, restored)
    yield from _remembered(seen, held, events)


def _remembered(seen: Evidence, held: Mapping[str, Mapping[str, Mapping[Any, Any]]], events: Control) -> Iterator[str]:
    requested, deployed = events[topics.RETRAIN_REQUESTED], deployments(events)
    controller = held[topics.group("retrain-controller", "decide")]["loops"][NAME]
    desk = held[topics.group("trainer", "fit")]["desks"][NAME]
    registry = held[topics.group("registry", "fold")]["loops"][NAME]
    asked = held[topics.group("predictor", "score", NAME)]["asked"]
    versions = [one.digest for one in events[topics.MODEL_REGISTERED]]
    for what, found, due in (
        ("requests of the controller", list(controller.requested_ms), [one.at_ms for one in requested]),
        ("the controller's open request", controller.open, None),
        ("requests that the trainer has answered", sorted(desk.answered), sorted(one.request_id for one in requested)),
        ("requests that are open at the trainer", list(desk.open), []),
        ("versions of the registry", [one.trained.digest for one in registry.versions], versions),
        ("the registry's champion", registry.champion, deployed[-1].version if deployed else None),
        ("asks that the predictor knows", set(asked), {key.encode() for key in seen.rides}),
    ):
        if found != due:
            yield f"table: {what}: {found}, recomputed {due}"
