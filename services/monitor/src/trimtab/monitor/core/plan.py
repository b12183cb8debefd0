"""What a declaration means to the monitor: derived once, read everywhere."""

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from trimtab.loops.model import Drift, Event, Loop
from trimtab.loops.model import Task as Task
from trimtab.monitor.core import names
from trimtab.monitor.core.quality import Rule, Subject
from trimtab.monitor.core.silence import Expectation, expectation


@dataclass(frozen=True, slots=True)
class Plan:
    """A loop as the monitor sees it. Times in ms. `asks`: the event that asks.

    `metric`: the one that decides; a ranking has no loss of its own for a row, so the log-loss stands in for it.
    `label`: what tells a label's definition from another. `keyed_alike`: label.by is the prediction's key.
    `horizon_ms`: how long after an ask its label is decided, so far as drift and metrics go. `window_ms`: how far back
    performance looks. `limits`: the share of each quality subject above which the stream is held; of missing values the
    share above the reference's.
    """

    loop: str
    task: Task
    metric: str
    features: names.FeatureNames
    events: Sequence[str]
    asks: str
    label_of: str
    label: str
    keyed_alike: bool
    horizon_ms: int
    mature_ms: int
    lateness_ms: int
    block_ms: int
    window_ms: int
    confidence: float
    drift: Drift
    subjects: Sequence[Subject]
    limits: Sequence[float]
    expected: Mapping[str, Expectation]


def plan_of(loop: Loop) -> Plan:
    """The plan of a declaration."""
    features = names.features_of(loop)
    subjects = _subjects(loop, features)
    label = loop.label
    return Plan(
        loop=loop.name,
        task=loop.task,
        metric="log_loss" if loop.model.metric == "auc" else loop.model.metric,
        features=features,
        events=tuple(loop.events),
        asks=loop.predict.on,
        label_of=label.of,
        label=hashlib.sha256(json.dumps([label.of, list(label.by), label.value]).encode()).hexdigest()[:16],
        keyed_alike=list(label.by) == [loop.predict.key],
        horizon_ms=label.mature_ms if label.settle == "first" else max(label.within_ms, label.mature_ms),
        mature_ms=label.mature_ms,
        lateness_ms=loop.lateness_ms,
        block_ms=loop.gate.block_ms,
        window_ms=max(loop.gate.holdout_ms, loop.gate.watch_ms),
        confidence=loop.gate.confidence,
        drift=loop.drift,
        subjects=subjects,
        limits=[loop.quality.hold_when[s.rule] for s in subjects],
        expected=_expected(loop.events),
    )


def _subjects(loop: Loop, features: names.FeatureNames) -> Sequence[Subject]:
    judged: Mapping[Rule, Sequence[str]] = {
        "rejected": tuple(loop.events),
        "missing": (*features.numbers, *features.categories),
        "unseen_category": features.categories,
        "out_of_range": features.numbers,
    }
    return [Subject(rule, name) for rule, those in judged.items() if rule in loop.quality.hold_when for name in those]


def _expected(events: Mapping[str, Event]) -> Mapping[str, Expectation]:
    return {name: expectation(event.expect) for name, event in events.items() if event.expect is not None}
