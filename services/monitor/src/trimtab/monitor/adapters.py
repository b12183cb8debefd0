"""Views of the topics that all tasks of the process share: models, holds, published schemas."""

from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import Literal

from trimtab.contracts import topics
from trimtab.contracts.codec import Schema
from trimtab.contracts.control import ModelTrained, QualityRestored, QualityViolated
from trimtab.monitor.core.drifting import Watch
from trimtab.monitor.core.observe import KnownModel
from trimtab.monitor.core.plan import Plan
from trimtab.monitor.core.references import Reference, reference_of
from trimtab.monitor.core.stretches import HeldStretches
from trimtab.runtime.control import Refused, as_written
from trimtab.runtime.records import Read
from trimtab.runtime.schemas import published_in


class ModelsView:
    """The models of a loop, from the topic of trained models; the detector's watch is told of each."""

    topic: str = topics.MODEL_TRAINED
    clock: Literal["marks", "none"] = "none"
    writers: Mapping[str, int] = MappingProxyType({})

    def __init__(self, plan: Plan, watch: Watch) -> None:
        self._plan, self._watch = plan, watch
        self._references: dict[str, Reference] = {}

    def apply(self, records: Sequence[Read]) -> Sequence[Refused]:
        """Take in what is new of this loop; records that keep no schema are left out and given back."""
        key = self._plan.loop.encode()
        events, refused = as_written(self.topic, [record for record in records if record.key == key])
        for one in events:
            if isinstance(one.event, ModelTrained):
                self.learn(one.event.model.digest, reference_of(self._plan, one.event))
        return refused

    def known(self, digest: str) -> KnownModel | None:
        """What a model was trained on; None while it is not known."""
        found = self._references.get(digest)
        return None if found is None else found.known

    def learn(self, digest: str, reference: Reference) -> None:
        """Know one more model, and tell the watch."""
        self._references[digest] = reference
        self._watch.add(digest, reference)


class QualityView:
    """One of the quality topics, folded into the stretches of a loop."""

    clock: Literal["marks", "none"] = "none"
    writers: Mapping[str, int] = MappingProxyType({})

    def __init__(self, topic: str, loop: str, stretches: HeldStretches) -> None:
        self.topic = topic
        self._key, self._stretches = loop.encode(), stretches

    def apply(self, records: Sequence[Read]) -> Sequence[Refused]:
        """Take in what is new of this loop; records that keep no schema are left out and given back."""
        events, refused = as_written(self.topic, [record for record in records if record.key == self._key])
        for one in events:
            if isinstance(one.event, QualityViolated):
                self._stretches.begin(one.event)
            elif isinstance(one.event, QualityRestored):
                self._stretches.end(one.event)
        return refused


class SchemasView:
    """Every schema that a writer has published, by fingerprint."""

    topic: str = topics.SCHEMAS
    clock: Literal["marks", "none"] = "none"
    writers: Mapping[str, int] = MappingProxyType({})

    def __init__(self) -> None:
        self._schemas: dict[bytes, Schema] = {}

    def get(self, mark: bytes) -> Schema | None:
        """The schema with that fingerprint; None while it is not known."""
        return self._schemas.get(mark)

    def apply(self, records: Sequence[Read]) -> Sequence[Refused]:
        """Take in what is new."""
        schemas, refused = published_in(records)
        self._schemas |= schemas
        return refused
