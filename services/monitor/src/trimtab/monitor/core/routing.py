"""What a batch of arrivals shows, and what of it goes into the join."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from trimtab.ml import metrics
from trimtab.monitor.core import names, observe
from trimtab.monitor.core.observe import KnownModel, Named
from trimtab.monitor.core.plan import Plan
from trimtab.monitor.core.predictions import Ints, Predictions
from trimtab.monitor.core.silence import starts

KnownModels = Callable[[str], KnownModel | None]
"""By digest."""


@dataclass(frozen=True, slots=True)
class Arrivals:
    """What came: predictions, and times of events and of rejected events by name.

    Among the events are not those that ask (their predictions are counted instead), unless they are the labels too.
    """

    predictions: Sequence[Predictions] = ()
    events: Mapping[str, Ints] = field(default_factory=dict)
    rejected: Mapping[str, Ints] = field(default_factory=dict)


def shown(plan: Plan, arrivals: Arrivals, known: KnownModels) -> Named:
    """Everything the detector is to know of the arrivals, added up. Every prediction's model must be known."""
    metric = metrics.check(plan.metric, plan.task)
    parts = [_observed(plan, part, metric, known) for part in arrivals.predictions]
    for event, at_ms in _arrived(plan, arrivals).items():
        parts.append(observe.counted(names.arrived(event), at_ms, plan.expected.get(event)))
    for event, at_ms in arrivals.rejected.items():
        parts.append(observe.counted(names.rejected(event), at_ms))
    return observe.merged(parts)


def _observed(plan: Plan, part: Predictions, metric: metrics.Metric, known: KnownModels) -> Named:
    models = {version: model for version, digest in part.digests.items() if (model := known(digest)) is not None}
    scores = part.scores if plan.task == "multiclass" else part.scores[:, 0]
    return observe.observed(part, plan.features, models, metrics.expected_losses(metric, scores))


def _arrived(plan: Plan, arrivals: Arrivals) -> Mapping[str, Ints]:
    """Times by event, none empty; asks by their predictions, those over HTTP left out."""
    found = dict(arrivals.events)
    if plan.asks not in found:
        streamed = [part.at_ms[part.streamed] for part in arrivals.predictions]
        found[plan.asks] = np.concatenate([np.empty(0, np.int64), *streamed])
    return {event: at_ms for event, at_ms in found.items() if len(at_ms)}


def source(plan: Plan, arrivals: Arrivals) -> Sequence[tuple[int, int]]:
    """Label events by bucket, and the bucket of the first ask with none: what the join judges silence by."""
    expected = plan.expected.get(plan.label_of)
    if expected is None:
        return ()
    times = arrivals.events.get(plan.label_of, np.empty(0, np.int64))
    start, count = np.unique(starts(expected, times), return_counts=True)
    asked = np.array([part.at_ms.min() for part in arrivals.predictions if len(part)], np.int64)
    return [
        *((at, 0) for at in np.sort(starts(expected, asked))[:1].tolist()),
        *zip(start.tolist(), count.tolist(), strict=True),
    ]


def classes(plan: Plan, predictions: Sequence[Predictions], known: KnownModels) -> Mapping[int, Sequence[str]]:
    """The classes of each version that scored something (multiclass)."""
    if plan.task != "multiclass":
        return {}
    digests = {version: digest for part in predictions for version, digest in part.digests.items()}
    return {version: model.classes for version, digest in digests.items() if (model := known(digest)) is not None}
