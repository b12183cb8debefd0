"""Views of the topics that all tasks of the process share: models, holds, published schemas."""

from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import Literal

import structlog

from trimtab.contracts import control, topics
from trimtab.contracts.codec import Schema
from trimtab.contracts.control import ModelTrained, PublishedSchema, QualityRestored, QualityViolated
from trimtab.contracts.errors import ContractError
from trimtab.monitor.core.drifting import Watch
from trimtab.monitor.core.observe import KnownModel
from trimtab.monitor.core.plan import Plan
from trimtab.monitor.core.references import Reference, reference_of
from trimtab.monitor.core.stretches import HeldStretches
from trimtab.runtime.records import Read

log = structlog.get_logger(__name__)


class ModelsView:
    """The models of a loop, from the topic of trained models; the detector's watch is told of each."""

    topic: str = topics.MODEL_TRAINED
    clock: Literal["marks", "none"] = "none"
    writers: Mapping[str, int] = MappingProxyType({})

    def __init__(self, plan: Plan, watch: Watch) -> None:
        self._plan, self._watch = plan, watch
        self._references: dict[str, Reference] = {}

    def apply(self, records: Sequence[Read]) -> None:
        """Take in what is new of this loop; a record that keeps no schema is told of and left out."""
        for record in records:
            if record.key == self._plan.loop.encode() and record.value is not None:
                self._take(record.value)

    def known(self, digest: str) -> KnownModel | None:
        """What a model was trained on; None while it is not known."""
        found = self._references.get(digest)
        return None if found is None else found.known

    def _take(self, value: bytes) -> None:
        try:
            trained = control.decode_as(ModelTrained, value)
        except ContractError as error:
            log.error("trained model unreadable", loop=self._plan.loop, error=str(error))
            return
        self.learn(trained.model.digest, reference_of(self._plan, trained))

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

    def apply(self, records: Sequence[Read]) -> None:
        """Take in what is new of this loop; a record that keeps no schema is told of and left out."""
        for record in records:
            if record.key != self._key or record.value is None:
                continue
            try:
                event = control.decode(self.topic, record.value)
            except ContractError as error:
                log.error("quality event unreadable", topic=self.topic, error=str(error))
                continue
            if isinstance(event, QualityViolated):
                self._stretches.begin(event)
            elif isinstance(event, QualityRestored):
                self._stretches.end(event)


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

    def apply(self, records: Sequence[Read]) -> None:
        """Take in what is new."""
        for record in records:
            if record.value is None:
                continue
            try:
                event = control.decode_as(PublishedSchema, record.value)
            except ContractError as error:
                log.error("schema unreadable", error=str(error))
                continue
            self._schemas[bytes.fromhex(event.fingerprint)] = event.schema_
