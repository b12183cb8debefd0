"""What the control plane says about a loop: open retrains, the deployment, and who has read how far. Pure."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace

from trimtab.cli.log import Read
from trimtab.contracts import control, topics
from trimtab.contracts.control import DeploymentChanged, ModelRegistered, RetrainRequested, TrainingFailed
from trimtab.contracts.specs import TopicTemplate

DECIDERS = ("retrain-controller.decide", "registry.fold")
"""Stages that turn control events into others; until they have read everything, more may follow from it."""


@dataclass(frozen=True, slots=True)
class Watched:
    """The control plane as far as it was read, whatever the order in which its topics were read.

    `requested`, `closed`: ids of retrains that were asked for, and that came to an end. `sequence`: of the newest
    deployment. `last`: newest offset by (topic, partition).
    """

    requested: frozenset[str]
    closed: frozenset[str]
    sequence: int
    last: Mapping[tuple[str, int], int]

    @property
    def open(self) -> frozenset[str]:
        """Retrains under way: until they failed, did not pass, or are deployed."""
        return self.requested - self.closed


NOTHING = Watched(frozenset(), frozenset(), 0, {})


def watched_topics() -> list[str]:
    """The control topics that the deciders read or write."""
    names = {template.topic for template in topics.TEMPLATES.values() if _is_decided(template)}
    return sorted(names - {topics.LOOP_DECLARED, topics.SCHEMAS})


def fold(state: Watched, records: Iterable[Read], loop: str) -> Watched:
    """The state after these records, which are in their partitions' order."""
    for record in records:
        last = {**state.last, (record.topic, record.partition): record.offset}
        state = replace(state, last=last)
        if record.value is not None and record.key == loop.encode():
            state = _after(state, control.decode(record.topic, record.value))
    return state


def _after(state: Watched, event: object) -> Watched:
    match event:
        case RetrainRequested(request_id=request):
            return replace(state, requested=state.requested | {request})
        case TrainingFailed(request_id=request) | ModelRegistered(request_id=request, verdict="failed"):
            return replace(state, closed=state.closed | {request})
        case DeploymentChanged(request_id=request, sequence=sequence):
            closed = state.closed if request is None else state.closed | {request}
            return replace(state, closed=closed, sequence=max(state.sequence, sequence))
        case _:
            return state


def _is_decided(template: TopicTemplate) -> bool:
    parties = {*template.readers, *template.writers}
    return template.plane == "control" and template.per == "all" and bool(parties & set(DECIDERS))
