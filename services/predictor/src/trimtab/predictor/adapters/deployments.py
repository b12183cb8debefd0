"""The loop's deployments with their loaded models, kept from the registry's topic."""

import asyncio
import json
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Literal

import structlog

from trimtab.contracts import topics
from trimtab.contracts.control import DeploymentChanged, ModelRef
from trimtab.loops.model import Loop
from trimtab.ml.errors import ModelError
from trimtab.ml.scoring import Scorer
from trimtab.predictor.core import Deployment, Deployments, Model
from trimtab.predictor.errors import ModelRefusedError, OtherFeaturesError
from trimtab.runtime.control import Heard, Refused, as_written
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

    A deployment is taken in with all models that can answer loaded and verified, or not at all: an unsigned or forged
    one, a missing or damaged blob, a champion of other features than the loop's are refused and told, and the one
    before goes on serving. A shadow of other features cannot answer: it is left out and told, and the champion serves.
    What was refused for its blobs is taken in later, when they are there (`again`).
    """

    clock: Literal["marks", "none"] = "none"
    writers: Mapping[str, int] = {}

    def __init__(self, loop: Loop, blobs: Blobs, verifier: Verifier) -> None:
        self.topic = topics.DEPLOYMENT_CHANGED
        self.deployments = Deployments()
        self.refused: dict[int, str] = {}
        self._loop, self._features, self._names = loop.name, loop.features.digest, loop.features.names
        self._blobs, self._verifier = blobs, verifier
        self._loaded: dict[str, Scorer] = {}
        self._wanting: dict[int, tuple[DeploymentChanged, Heard]] = {}

    def apply(self, records: Sequence[Read]) -> Sequence[Refused]:
        """Take in what is new of this loop; records that keep no schema are left out and given back."""
        key = self._loop.encode()
        events, refused = as_written(self.topic, [record for record in records if record.key == key])
        for one in events:
            if isinstance(one.event, DeploymentChanged):
                self._take(one.event, one)
        return refused

    async def again(self) -> None:
        """Look whether blobs have come for which deployments were refused, and take in those that are whole now."""
        for sequence, (event, heard) in sorted(self._wanting.items()):
            refs = [*self._able(event), *([] if event.champion is None else [event.champion])]
            try:
                for ref in refs:
                    self._loaded[ref.digest] = await asyncio.to_thread(self._load, ref)
            except (StoreError, ModelError, OtherFeaturesError) as error:
                self.refused[sequence] = str(error)
                continue
            del self.refused[sequence], self._wanting[sequence]
            self._take(event, heard)
            log.info("deployment taken in after all", loop=self._loop, sequence=sequence)

    def _take(self, event: DeploymentChanged, heard: Heard) -> None:
        try:
            made = replace(self._deployment(event, heard), trace=heard.trace)
            self.deployments = self.deployments.with_one(made)
        except ModelRefusedError as error:
            log.error("deployment refused", loop=self._loop, reason=str(error))

    def _deployment(self, event: DeploymentChanged, heard: Heard) -> Deployment:
        try:
            self._verifier.check(json.loads(heard.value))
            champion = None if event.champion is None else self._model(event.champion)
            able = self._able(event)
            shadows = [self._model(ref) for ref in able]
        except (StoreError, ModelError, OtherFeaturesError) as error:
            self.refused[event.sequence] = str(error)
            if isinstance(error, BlobMissingError | BlobDamagedError | StoreReadOnlyError | StoreUnreachableError):
                self._wanting[event.sequence] = event, heard
            raise ModelRefusedError(self._loop, event.sequence, str(error)) from error
        left_out = [ref.version for ref in event.shadows if ref not in able]
        if left_out:
            reasons = [str(OtherFeaturesError(version)) for version in left_out]
            log.warning("shadows left out", loop=self._loop, sequence=event.sequence, reasons=reasons)
        return Deployment(event.sequence, event.effective_at_ms, champion, shadows, left_out)

    def _able(self, event: DeploymentChanged) -> Sequence[ModelRef]:
        """The shadows that take the loop's features."""
        return [ref for ref in event.shadows if ref.features_digest == self._features]

    def _model(self, ref: ModelRef) -> Model:
        if ref.features_digest != self._features:
            raise OtherFeaturesError(ref.version)
        if ref.digest not in self._loaded:
            self._loaded[ref.digest] = self._load(ref)
        return Model(ref.version, ref.digest, tuple(ref.classes or ()), self._loaded[ref.digest], ref.until_ms)

    def _load(self, ref: ModelRef) -> Scorer:
        scorer = Scorer.load(ref.format, self._blobs.get(ref.digest))
        if {*scorer.spec.numbers, *scorer.spec.categories} != set(self._names):
            raise OtherFeaturesError(ref.version)
        return scorer
