"""Models in memory: those that score now, and the last used of all others up to a size."""

from collections import OrderedDict
from collections.abc import Collection
from dataclasses import dataclass

from trimtab.contracts.control import ModelRef
from trimtab.loops.model import Loop
from trimtab.loops.vectors import Vectors
from trimtab.ml.scoring import Scorer, Scores
from trimtab.predictor.errors import OtherFeaturesError
from trimtab.store.blobs import Blobs


@dataclass(frozen=True, slots=True)
class Loaded:
    """A model that can score. `size`: bytes of its blob."""

    scorer: Scorer
    size: int


class Shelf:
    """One loop's loaded models, by digest.

    `keep_bytes`: how much may stay beside what is needed, the last used, by the size of blobs. A model that went is
    loaded again when it is asked for.
    """

    def __init__(self, loop: Loop, blobs: Blobs, keep_bytes: int) -> None:
        self._names, self._blobs, self._keep_bytes = {*loop.features.names}, blobs, keep_bytes
        self._loaded: OrderedDict[str, Loaded] = OrderedDict()

    def __contains__(self, digest: str) -> bool:
        return digest in self._loaded

    def load(self, ref: ModelRef) -> Loaded:
        """The model behind the reference, verified.

        Raises a StoreError or a ModelError when its blob cannot be read, and OtherFeaturesError when it takes others.
        """
        blob = self._blobs.get(ref.digest)
        scorer = Scorer.load(ref.format, blob)
        if {*scorer.spec.numbers, *scorer.spec.categories} != self._names:
            raise OtherFeaturesError(ref.version)
        return Loaded(scorer, len(blob))

    def put(self, digest: str, loaded: Loaded) -> None:
        """Keep a loaded model, as the last used."""
        self._loaded[digest] = loaded

    def use(self, ref: ModelRef) -> Scorer:
        """The model, loaded now if it is not in memory; from now on the last used. Raises as `load`."""
        if ref.digest in self._loaded:
            self._loaded.move_to_end(ref.digest)
        else:
            self.put(ref.digest, self.load(ref))
        return self._loaded[ref.digest].scorer

    def clear(self, needed: Collection[str]) -> None:
        """Let go of those that were not used for longest, until what is not needed is no more than may be kept."""
        spare = [digest for digest in self._loaded if digest not in needed]
        size = sum(self._loaded[digest].size for digest in spare)
        for digest in spare:
            if size > self._keep_bytes:
                size -= self._loaded.pop(digest).size


@dataclass(frozen=True, slots=True)
class Shelved:
    """A deployed model's scorer: takes it from the shelf when it scores."""

    shelf: Shelf
    ref: ModelRef

    def score(self, vectors: Vectors, /) -> Scores:
        """[n], or [n, classes]. Raises as `Shelf.load` when it was not in memory and cannot be had."""
        return self.shelf.use(self.ref).score(vectors)
