"""What a trained model's reference says: what it knows, what its detector watches, which limits follow."""

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from trimtab.contracts.control import ModelTrained, ReferenceSignal
from trimtab.loops.model import Drift
from trimtab.ml.detectors import Looks, LoopDetector
from trimtab.ml.signals import weighted
from trimtab.monitor.core import names
from trimtab.monitor.core.observe import KnownModel
from trimtab.monitor.core.plan import Plan
from trimtab.monitor.core.silence import HOUR_MS, floor


@dataclass(frozen=True, slots=True)
class Reference:
    """A model version's reference, ready for use. `identity` tells what its detector watches from anything else.

    `origin_ms`: looks start at it and at multiples of a look from it. `missing`: share of missing values by feature.
    """

    known: KnownModel
    detector: LoopDetector
    looks: Looks
    origin_ms: int
    missing: dict[str, float]
    identity: str


def known_model(features: names.FeatureNames, trained: ModelTrained) -> KnownModel:
    """What the model was trained on."""
    signals = trained.reference.signals
    numbers = [signals.get(names.feature(n)) for n in features.numbers]
    categories = [signals.get(names.feature(c)) for c in features.categories]
    return KnownModel(
        low=np.array([np.nan if s is None or s.low is None else s.low for s in numbers], np.float64),
        high=np.array([np.nan if s is None or s.high is None else s.high for s in numbers], np.float64),
        categories=[None if s is None or s.categories is None else frozenset(s.categories) for s in categories],
        classes=tuple(trained.model.classes or ()),
    )


def reference_of(plan: Plan, trained: ModelTrained) -> Reference:
    """The reference of a model for the monitor of its loop."""
    declared = trained.reference
    detector = detector_of(plan.drift, trained)
    held = [declared.signals[signal.name] for signal in detector.signals]
    count = max((len(s.means) for s in held), default=0)
    looks = Looks(
        declared.from_ms + declared.look_ms * np.arange(count),
        np.array([_means(s, count) for s in held]).reshape(len(held), count).T,
        np.array([_counts(s, count) for s in held], np.int64).reshape(len(held), count).T,
    )
    missing = {name.partition(":")[2]: _share(s) for name, s in declared.signals.items() if s.kind == "missing"}
    origin_ms = floor(declared.from_ms % declared.look_ms, HOUR_MS)
    watched = [declared.look_ms, *((signal.name, signal.weight) for signal in detector.signals)]
    identity = hashlib.sha256(json.dumps([trained.model.digest, watched]).encode()).hexdigest()[:16]
    return Reference(known_model(plan.features, trained), detector, looks, origin_ms, missing, identity)


def detector_of(drift: Drift, trained: ModelTrained) -> LoopDetector:
    """The detector that keeps the declared promise on the model's signals."""
    declared = trained.reference
    kinds = [(name, signal.kind) for name, signal in declared.signals.items() if signal.means]
    return LoopDetector(
        signals=weighted(kinds, drift.weights),
        look_ms=declared.look_ms,
        season_ms=declared.season_ms,
        threshold=drift.false_alarms_ms / declared.look_ms,
    )


def _means(signal: ReferenceSignal, count: int) -> list[float]:
    means = [np.nan if m is None else m for m in signal.means]
    return means + [np.nan] * (count - len(means))


def _counts(signal: ReferenceSignal, count: int) -> Sequence[int]:
    return [*signal.counts, *([0] * (count - len(signal.counts)))]


def _share(signal: ReferenceSignal) -> float:
    """The mean over all rows."""
    rows = sum(signal.counts)
    held = zip(signal.means, signal.counts, strict=False)
    return sum(m * n for m, n in held if m is not None) / rows if rows else 0.0
