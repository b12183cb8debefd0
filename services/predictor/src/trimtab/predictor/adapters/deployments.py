"""The loop's deployments with their loaded models, kept from the registry's topic."""

import asyncio
import json
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Literal

import structlog

from trimtab.contracts import control, envelope, topics
from trimtab.contracts.errors import ContractError
from trimtab.loops.model import Loop
from trimtab.ml.errors import ModelError
from trimtab.ml.scoring import Scorer
from trimtab.predictor.core import Deployment, Deployments, Model
from trimtab.predictor.errors import ModelRefusedError, OtherFeaturesError
from trimtab.runtime.records import Read
from trimtab.store.blobs import Blobs
from trimtab.store.errors import (
    BlobDamagedError,
    BlobMissingError,
    StoreError,
    StoreReadOnlyError,
    StoreUnreachableError,
)
from trimtab.store.signing import Verifier

log = structlog.get_logger(__name__)


class DeploymentsView:
    """The loop's deployments, as the registry signed them.

    A deployment is taken in whole, with all its models loaded and verified, or not at all: an unsigned or forged one,
    a missing or damaged blob, other features than the loop's are refused and told, and the one before goes on serving.
    What was refused for its blobs is taken in later, when they are there (`again`).
    """

    clock: Literal["marks", "none"] = "none"
    writers: Mapping[str, int] = {}

    def __init__(self, loop: Loop, blobs: Blobs, verifier: Verifier) -> None:
        self.topic = topics.DEPLOYMENT_CHANGED
        self.deployments = Deployments()
        self.refused: dict[int, str] = {}
        self._loop, self._features = loop.name, loop.features.digest
        self._blobs, self._verifier = blobs, verifier
        self._loaded: dict[str, Scorer] = {}
        self._wanting: dict[int, Read] = {}

    def apply(self, records: Sequence[Read]) -> None:
        """Take in what is new of this loop."""
        key = self._loop.encode()
        for record in records:
            if record.key == key and record.value is not None:
                self._take(record)

    async def again(self) -> None:
        """Look whether blobs have come for which deployments were refused, and take in those that are whole now."""
        for sequence, record in sorted(self._wanting.items()):
            event = control.decode_as(control.DeploymentChanged, record.value or b"")
            refs = [*event.shadows, *([] if event.champion is None else [event.champion])]
            try:
                for ref in refs:
                    self._loaded[ref.digest] = await asyncio.to_thread(self._load, ref)
            except (StoreError, ModelError) as error:
                self.refused[sequence] = str(error)
                continue
            del self.refused[sequence], self._wanting[sequence]
            self._take(record)
            log.info("deployment taken in after all", loop=self._loop, sequence=sequence)

    def _take(self, record: Read) -> None:
        try:
            event = control.decode_as(control.DeploymentChanged, record.value or b"")
            made = replace(self._deployment(event, record), trace=envelope.traceparent(record.headers))
            self.deployments = self.deployments.with_one(made)
        except (ModelRefusedError, ContractError) as error:
            log.error("deployment refused", loop=self._loop, reason=str(error))

    def _deployment(self, event: control.DeploymentChanged, record: Read) -> Deployment:
        try:
            self._verifier.check(json.loads(record.value or b""))
            champion = None if event.champion is None else self._model(event.champion)
            shadows = [self._model(ref) for ref in event.shadows]
        except (StoreError, ModelError, OtherFeaturesError) as error:
            self.refused[event.sequence] = str(error)
            if isinstance(error, BlobMissingError | BlobDamagedError | StoreReadOnlyError | StoreUnreachableError):
                self._wanting[event.sequence] = record
            raise ModelRefusedError(self._loop, event.sequence, str(error)) from error
        return Deployment(event.sequence, event.effective_at_ms, champion, shadows)

    def _model(self, ref: control.ModelRef) -> Model:
        if ref.features_digest != self._features:
            raise OtherFeaturesError(ref.version)
        if ref.digest not in self._loaded:
            self._loaded[ref.digest] = self._load(ref)
        return Model(ref.version, ref.digest, tuple(ref.classes or ()), self._loaded[ref.digest])

    def _load(self, ref: control.ModelRef) -> Scorer:
        return Scorer.load(ref.format, self._blobs.get(ref.digest))
