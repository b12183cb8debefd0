"""What must be true at the end of every schedule, computed from what users sent. Each finding is a sentence."""

from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, NamedTuple

import numpy as np
from trimtab.contracts import data, envelope, topics
from trimtab.contracts.codec import AvroCodec
from trimtab.contracts.prediction import field_name, prediction_schema
from trimtab.loops.model import settling_ms
from trimtab.loops.vectors import names_of
from trimtab.ml.datasets import Dataset
from trimtab.ml.scoring import Scorer
from trimtab.runtime import marks
from trimtab.runtime.memory import MemoryBus
from trimtab.runtime.records import Read
from trimtab.store.blobs import BlobStore

from tests.simulation.oracle import differ
from tests.simulation.services.stream import Paid, Ride, between, loop

CLOSE = 1e-4
"""Models compute in single precision."""
NAME = loop().name
_LABEL_HOURS = 2
"""What is asked for is settled within so many hours."""


class Deployed(NamedTuple):
    """Who serves from an event time on."""

    effective_at_ms: int
    version: int
    digest: str
    format: str


@dataclass
class Evidence:
    """A bus at the end of a schedule of the hours `first` to `end`, and its models. Computed when asked for."""

    bus: MemoryBus
    blobs: BlobStore
    first: int
    end: int

    def records(self, topic: str) -> list[Read]:
        """Without marks."""
        return [record for record in self.bus.records(topic) if not marks.is_mark(record)]

    @cached_property
    def rides(self) -> Mapping[str, Ride]:
        """What was asked for since hour 0."""
        return {one.ride: one for one in between(0, self.end) if isinstance(one, Ride)}

    @cached_property
    def paid(self) -> Mapping[str, Sequence[Paid]]:
        """The payments of each ride, corrections after what they correct."""
        found: dict[str, list[Paid]] = defaultdict(list)
        for one in between(0, self.end):
            if isinstance(one, Paid):
                found[one.ride].append(one)
        return found

    def recent(self, key: bytes | None, before: int = 0) -> bool:
        """Whether the schedule itself has to do with a ride, not only the hours before it."""
        return int((key or b"r0-").decode()[1:].partition("-")[0]) >= self.first - before

    @cached_property
    def predictions(self) -> Sequence[tuple[Read, dict[str, Any]]]:
        """Those that the schedule made."""
        names = names_of(loop())
        schema = prediction_schema(NAME, loop().features.names, categorical=names.categories, aged=names.aged)
        decode = AvroCodec(schema).decode
        found = [one for one in self.records(topics.predictions(NAME)) if self.recent(one.key)]
        return [(one, decode(one.value or b"")) for one in found]

    @cached_property
    def outcomes(self) -> Mapping[str, Sequence[data.Outcome]]:
        """Of rides that the schedule settled, by ride, in the log's order."""
        found: dict[str, list[data.Outcome]] = defaultdict(list)
        for one in self.records(topics.outcomes(NAME)):
            if self.recent(one.key, _LABEL_HOURS):
                outcome = data.decode(data.Outcome, one.value or b"")
                found[outcome.key].append(outcome)
        return found


def data_plane(seen: Evidence, deployed: Sequence[Deployed]) -> Iterator[str]:
    """Everything about events, predictions and outcomes."""
    yield from _accepted(seen)
    yield from _predicted(seen)
    yield from _features(seen)
    yield from _scores(seen, deployed)
    yield from _settled(seen)


def _accepted(seen: Evidence) -> Iterator[str]:
    """Each event once: a ride by its id, a payment as often as it was corrected; and nothing was wrong with any."""
    due = {
        "ride": Counter(seen.rides.keys()),
        "paid": Counter(one.id for some in seen.paid.values() for one in some),
    }
    for event, ids in due.items():
        found = seen.records(topics.events(NAME, event))
        yield from differ(f"accepted {event}", ids, Counter(_id(record) for record in found))
    for record in seen.records(topics.rejected(NAME)):
        yield f"{_id(record)} is in quarantine"


def _id(record: Read) -> str:
    return envelope.require(record.headers, envelope.ID).decode()


def _predicted(seen: Evidence) -> Iterator[str]:
    keys = Counter((one.key or b"").decode() for one in seen.records(topics.predictions(NAME)))
    yield from differ("predictions", Counter(seen.rides.keys()), keys)


def _features(seen: Evidence) -> Iterator[str]:
    """Those of the asker's time, computed again from what users sent."""
    past: dict[str, list[Ride]] = defaultdict(list)
    for ride in seen.rides.values():
        past[ride.rider].append(ride)
    for record, value in seen.predictions:
        asked = seen.rides.get((record.key or b"").decode())
        if asked is None:
            continue
        for name, due in features(asked, past[asked.rider]).items():
            found = value["features"][name]
            if not _same(found, due):
                yield f"prediction {asked.ride}: {name} is {found}, recomputed {due}"


def features(ride: Ride, past: Sequence[Ride]) -> Mapping[str, float | None]:
    """A ride's features: its length, and its rider's rides within the window before it, which ends on a grain."""
    found: dict[str, float | None] = {"km": ride.km}
    for group in loop().features.groups:
        for window in group.windows:
            grain_ms = group.grain_ms
            end_ms = (ride.at - settling_ms(grain_ms) - window.ago_ms) // grain_ms * grain_ms
            within = [one.km for one in past if end_ms - window.width_ms <= one.at < end_ms]
            prefix = field_name(f"{group.name}.")
            found[f"{prefix}n_{window.name}"] = float(len(within))
            found[f"{prefix}km_{window.name}"] = sum(within) if within else None
    return found


def _same(one: float | None, other: float | None) -> bool:
    return one == other if one is None or other is None else abs(one - other) <= CLOSE * max(1.0, abs(other))


def _scores(seen: Evidence, deployed: Sequence[Deployed]) -> Iterator[str]:
    """Each by a model that was in force at its time, as far as deployments were known, and just as that one scores."""
    scorers = {one.version: Scorer.load(one.format, seen.blobs.get(one.digest)) for one in deployed}
    by_version: dict[int, list[dict[str, Any]]] = defaultdict(list)
    for _, value in seen.predictions:
        version, allowed = value["version"], in_force(deployed, value["at_ms"])
        if version not in allowed:
            yield f"prediction {value['key']}: scored by version {version}, in force were {sorted(allowed, key=str)}"
        elif version is not None:
            by_version[version].append(value)
    for version, values in by_version.items():
        scores = scorers[version].score(_rows(values))
        for value, score in zip(values, np.asarray(scores).tolist(), strict=True):
            if not _same(value["score"], score):
                yield f"prediction {value['key']}: version {version} said {value['score']}, recomputed {score}"


def in_force(deployed: Sequence[Deployed], at_ms: int) -> set[int | None]:
    """Who may score an ask: of the first so many deployments the last that was in force, however many were known."""
    found: set[int | None] = {None}
    for count in range(1, len(deployed) + 1):
        found.add(next((one.version for one in reversed(deployed[:count]) if one.effective_at_ms <= at_ms), None))
    return found


def _rows(values: Sequence[Mapping[str, Any]]) -> Dataset:
    names = names_of(loop()).numbers
    fields = [field_name(name) for name in names]
    numbers = np.array([[value["features"][name] for name in fields] for value in values], dtype=np.float64)
    count = len(values)
    return Dataset(
        number_names=tuple(names),
        category_names=(),
        keys=np.array([value["key"] for value in values], dtype=object),
        at_ms=np.array([value["at_ms"] for value in values]),
        numbers=numbers,
        categories=np.empty((count, 0), dtype=object),
        labels=np.zeros(count),
        versions=np.full(count, -1),
        scores=np.full(count, np.nan),
    )


def _settled(seen: Evidence) -> Iterator[str]:
    """One outcome a ride, revised for corrections that come later, in their order; none without a prediction."""
    places = {(one.partition, one.offset): (one.key or b"").decode() for one in seen.records(topics.predictions(NAME))}
    due = [key for key in seen.rides if seen.recent(key.encode(), _LABEL_HOURS)]
    for key in [*due, *(seen.outcomes.keys() - set(due))]:
        found = seen.outcomes.get(key, ())
        fares = [one.fare for one in seen.paid.get(key, ())]
        if [one.revision for one in found] != list(range(len(found))) or not found:
            yield f"outcomes of {key}: revisions {[one.revision for one in found]}"
        elif not _follow([one.label for one in found], fares):
            yield f"outcomes of {key}: labels {[one.label for one in found]} for fares {fares}"
        if any(places.get((one.prediction_partition, one.prediction_offset)) != key for one in found):
            yield f"outcomes of {key} belong to no prediction of it"


def _follow(labels: Sequence[float | None], fares: Sequence[float]) -> bool:
    """Whether labels are some of the fares in their order, and the last is the last."""
    if not fares:
        return list(labels) == [None]
    left: Iterator[float | None] = iter(fares)
    return labels[-1] == fares[-1] and all(label in left for label in labels)
