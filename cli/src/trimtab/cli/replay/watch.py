"""What the control plane says about a loop: open retrains, the deployment, and who has read how far. Pure."""

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace

from trimtab.contracts import envelope, topics
from trimtab.contracts.control import (
    DeploymentChanged,
    ModelRegistered,
    RetrainRequested,
    TrainingFailed,
)
from trimtab.contracts.specs import TopicTemplate
from trimtab.runtime.control import as_written
from trimtab.runtime.records import Read

Place = tuple[str, int]
"""(topic, partition)"""
DECIDERS = ("retrain-controller.decide", "registry.fold")
"""Stages that turn control events into others; until they have read everything, more may follow from it."""

_FOLLOWED = (topics.RETRAIN_REQUESTED, topics.TRAINING_FAILED, topics.MODEL_REGISTERED, topics.DEPLOYMENT_CHANGED)


@dataclass(frozen=True, slots=True)
class Watched:
    """The control plane as far as it was read, whatever the order in which its topics were read.

    `requested`, `closed`: ids of retrains that were asked for, and that came to an end. `sequence`: of the newest
    deployment. `last`: newest offset by (topic, partition). `times`: (offset, event time) of the loop's own events by
    place, of those that some decider may not have read.
    """

    requested: frozenset[str]
    closed: frozenset[str]
    sequence: int
    last: Mapping[Place, int]
    times: Mapping[Place, Sequence[tuple[int, int]]] = field(default_factory=dict)

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
    last, times = dict(state.last), defaultdict(list, {place: list(some) for place, some in state.times.items()})
    for record in records:
        place = record.topic, record.partition
        last[place] = record.offset
        if record.value is not None and record.key == loop.encode():
            state, at_ms = _after(state, record)
            times[place] += [] if at_ms is None else [(record.offset, at_ms)]
    return replace(state, last=last, times=times)


def forget(state: Watched, read: Mapping[tuple[str, str, int], int]) -> Watched:
    """Without the times of events that every decider has read. `read`: (stage, topic, partition) → next offset."""
    slowest: dict[Place, int] = {}
    for (_, topic, partition), offset in read.items():
        slowest[topic, partition] = min(offset, slowest.get((topic, partition), offset))
    left = {
        place: [one for one in some if one[0] >= slowest[place]]
        for place, some in state.times.items()
        if place in slowest
    }
    return replace(state, times={place: some for place, some in left.items() if some})


def _after(state: Watched, record: Read) -> tuple[Watched, int | None]:
    """The state after one of the loop's events, and its event time; None: it keeps no schema, and nobody obeys it."""
    if record.topic not in _FOLLOWED and (at_ms := _headed_ms(record)) is not None:
        return state, at_ms
    for one in as_written(record.topic, [record])[0]:
        if one.event is not None:
            return _folded(state, one.event), one.event.at_ms
    return state, None


def _headed_ms(record: Read) -> int | None:
    """The event time in the headers, where our own writers put it."""
    try:
        return envelope.event_time_ms(record.headers)
    except (envelope.MissingHeaderError, ValueError):
        return None


def _folded(state: Watched, event: object) -> Watched:
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
