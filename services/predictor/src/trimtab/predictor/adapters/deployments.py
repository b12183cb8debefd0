"""The loop's deployments with their loaded models, kept from the registry's topic."""

import asyncio
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import structlog
from numpy.typing import NDArray

from trimtab.contracts import topics
from trimtab.contracts.control import DeploymentChanged, ModelRef
from trimtab.loops.model import Loop
from trimtab.ml.errors import ModelError
from trimtab.predictor.adapters.shelf import Shelf, Shelved
from trimtab.predictor.core import Deployment, Deployments, Model
from trimtab.predictor.errors import OtherFeaturesError
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


UNLOADABLE = (StoreError, ModelError, OtherFeaturesError)
"""Why a model cannot be served."""
MAY_COME = (BlobMissingError, BlobDamagedError, StoreReadOnlyError, StoreUnreachableError)
"""Those of them that end when its blob is there."""
NO_TIMES = np.empty(0, dtype=np.int64)


@dataclass(frozen=True, slots=True)
class Known:
    """A deployment that was signed. `shadows`: those that take the loop's features; `left_out`: the others."""

    event: DeploymentChanged
    shadows: Sequence[ModelRef]
    left_out: Sequence[int]
    trace: str | None

    @property
    def refs(self) -> Sequence[ModelRef]:
        """Its models that can answer."""
        champion = self.event.champion
        return [*self.shadows] if champion is None else [champion, *self.shadows]


class DeploymentsView:
    """The loop's deployments, as the registry signed them.

    A deployment is taken in with all models that can answer loaded and verified, or not at all: an unsigned or forged
    one, a missing or damaged blob, a champion of other features than the loop's are refused and told, and the one
    before goes on serving. A shadow of other features cannot answer: it is left out and told, and the champion serves.
    What was refused for its blobs is taken in later, when they are there (`look`).

    Of those that are there at a start, the last is loaded before the view is ready (`prepare`), and those before it by
    the first ask of their time (`deployed`), which are refused then if they cannot be. One that comes while asks are
    answered calls `arrived` and is loaded by the next `look`. Both load in a thread: neither a large model nor a store
    that does not answer keeps anybody waiting who can be answered.
    """

    clock: Literal["marks", "none"] = "none"
    writers: Mapping[str, int] = {}

    def __init__(
        self,
        loop: Loop,
        blobs: Blobs,
        verifier: Verifier,
        keep_bytes: int = 0,
        arrived: Callable[[], None] = lambda: None,
    ) -> None:
        self.topic = topics.DEPLOYMENT_CHANGED
        self.deployments = Deployments()
        self.refused: dict[int, str] = {}
        self._loop, self._features, self._verifier = loop.name, loop.features.digest, verifier
        self._shelf = Shelf(loop, blobs, keep_bytes)
        self._known: dict[int, Known] = {}
        self._arrived, self._is_prepared, self._is_looking = arrived, False, False
        self._wanting: set[int] = set()

    def apply(self, records: Sequence[Read]) -> Sequence[Refused]:
        """Take in what is new of this loop; records that keep no schema are left out and given back."""
        key = self._loop.encode()
        events, refused = as_written(self.topic, [record for record in records if record.key == key])
        for one in events:
            if isinstance(one.event, DeploymentChanged):
                self._take(one.event, one)
        if self._wanting and self._is_prepared:
            self._arrived()
        return refused

    async def prepare(self) -> None:
        """Load what serves from now on; where that cannot be, what served before it."""
        while scoring := self._scoring(NO_TIMES):
            [known] = scoring
            try:
                await self._load_beside(known)
            except UNLOADABLE as error:
                self._leave_out(known.event.sequence, error)
            else:
                break
        self._is_prepared = True

    def deployed(self, at_ms: NDArray[np.int64]) -> Deployments:
        """The deployments, with all models in memory that score asks at these times [n]."""
        self._serve(at_ms)
        return self.deployments

    def loading(self) -> Sequence[int]:
        """The sequences of those that have arrived and are not in memory yet."""
        return sorted(self._wanting - self.refused.keys())

    async def look(self) -> None:
        """Load what has arrived, and what was refused for its blobs if they have come; the newest first."""
        if self._is_looking:
            return
        self._is_looking, looked = True, set[int]()
        try:
            while left := self._wanting - looked:
                sequence = max(left)
                looked.add(sequence)
                await self._look_for(self._known[sequence])
        finally:
            self._is_looking = False

    async def _look_for(self, known: Known) -> None:
        sequence = known.event.sequence
        try:
            await self._load_beside(known)
        except UNLOADABLE as error:
            self._refuse(sequence, error)
            return
        self._wanting.discard(sequence)
        if self.refused.pop(sequence, None) is not None:
            log.info("deployment taken in after all", loop=self._loop, sequence=sequence)
        self.deployments = self.deployments.with_one(self._made(known))
        self._serve(NO_TIMES)

    async def _load_beside(self, known: Known) -> None:
        """Have its models in memory, loaded in a thread. Raises what is UNLOADABLE."""
        missing = [ref for ref in known.refs if ref.digest not in self._shelf]
        for ref, one in zip(missing, [await asyncio.to_thread(self._shelf.load, ref) for ref in missing], strict=True):
            self._shelf.put(ref.digest, one)

    def _take(self, event: DeploymentChanged, heard: Heard) -> None:
        able = [ref for ref in event.shadows if ref.features_digest == self._features]
        champion = event.champion
        try:
            self._verifier.check(json.loads(heard.value))
            if champion is not None and champion.features_digest != self._features:
                raise OtherFeaturesError(champion.version)
        except UNLOADABLE as error:
            self._refuse(event.sequence, error)
            return
        left_out = [ref.version for ref in event.shadows if ref not in able]
        if left_out:
            reasons = [str(OtherFeaturesError(version)) for version in left_out]
            log.warning("shadows left out", loop=self._loop, sequence=event.sequence, reasons=reasons)
        known = Known(event, able, left_out, heard.trace)
        if event.sequence in self._known:
            return
        self._known[event.sequence] = known
        if self._is_prepared:
            self._wanting.add(event.sequence)
        else:
            self.deployments = self.deployments.with_one(self._made(known))

    def _made(self, known: Known) -> Deployment:
        event = known.event
        champion = None if event.champion is None else self._model(event.champion)
        shadows = [self._model(ref) for ref in known.shadows]
        return Deployment(event.sequence, event.effective_at_ms, champion, shadows, known.left_out, known.trace)

    def _model(self, ref: ModelRef) -> Model:
        return Model(ref.version, ref.digest, tuple(ref.classes or ()), Shelved(self._shelf, ref), ref.until_ms)

    def _serve(self, at_ms: NDArray[np.int64]) -> None:
        """Have all models in memory that asks at these times and from now on need."""
        scoring = self._scoring(at_ms)
        while not all(map(self._load, scoring)):  # what is refused leaves its time to the one before it
            scoring = self._scoring(at_ms)
        self._shelf.clear({ref.digest for known in scoring for ref in known.refs})

    def _scoring(self, at_ms: NDArray[np.int64]) -> Sequence[Known]:
        """What scores asks at these times, and what scores those to come."""
        found = {one.sequence for one, _ in self.deployments.runs(at_ms) if one is not None}
        found |= {one.sequence for one in self.deployments.ordered[-1:]}
        return [self._known[sequence] for sequence in found if sequence in self._known]

    def _load(self, known: Known) -> bool:
        try:
            for ref in known.refs:
                self._shelf.use(ref)
        except UNLOADABLE as error:
            self._leave_out(known.event.sequence, error)
            return False
        return True

    def _leave_out(self, sequence: int, error: Exception) -> None:
        """What scored by it is scored by the one before."""
        self.deployments = self.deployments.without(sequence)
        self._refuse(sequence, error)

    def _refuse(self, sequence: int, error: Exception) -> None:
        if self.refused.get(sequence) != str(error):
            log.error("deployment refused", loop=self._loop, sequence=sequence, reason=str(error))
        self.refused[sequence] = str(error)
        if isinstance(error, MAY_COME):
            self._wanting.add(sequence)
        else:
            self._wanting.discard(sequence)
