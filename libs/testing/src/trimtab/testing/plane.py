"""What must hold of a control plane, whatever happened to those who write it. Pure."""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from trimtab.contracts import topics

Control = Mapping[str, Sequence[Any]]


@dataclass(frozen=True, slots=True)
class Serving:
    """Who says that which version serves: the log's last word, the registry's read API, each predictor."""

    deployed: int | None
    registry: int | None
    predictors: Sequence[int | None]


@dataclass(frozen=True, slots=True)
class Violation:
    """`at_ms`: event time of what is wrong; None: of the end."""

    what: str
    at_ms: int | None = None


def violations(control: Control, serving: Serving) -> Sequence[Violation]:
    """Everything that is not as it must be."""
    return [
        *one_retrain_a_drift(control),
        *one_end_a_request(control),
        *one_verdict_a_model(control),
        *one_champion(control, serving),
    ]


def one_retrain_a_drift(control: Control) -> Iterable[Violation]:
    """A drift leads to at most one retrain, and is told once."""
    drifts = Counter(one.drift_id for one in control[topics.DRIFT_DETECTED])
    for drift_id, count in drifts.items():
        if count > 1:
            yield Violation(f"drift {drift_id} was told {count} times")
    caused = Counter(one.cause.drift_id for one in control[topics.RETRAIN_REQUESTED] if one.cause.drift_id is not None)
    for drift_id, count in caused.items():
        if count > 1 or drift_id not in drifts:
            yield Violation(f"drift {drift_id} led to {count} retrains")


def one_end_a_request(control: Control) -> Iterable[Violation]:
    """A request is made once, and ends in exactly one model or one failure; nothing is trained unasked."""
    ends = Counter(one.request_id for name in (topics.MODEL_TRAINED, topics.TRAINING_FAILED) for one in control[name])
    asked = Counter(one.request_id for one in control[topics.RETRAIN_REQUESTED])
    for one in control[topics.RETRAIN_REQUESTED]:
        if (asked[one.request_id], ends[one.request_id]) != (1, 1):
            what = f"{asked[one.request_id]} requests {one.request_id} had {ends[one.request_id]} ends"
            yield Violation(what, one.at_ms)
    for request_id in ends.keys() - asked.keys():
        yield Violation(f"{request_id} was trained unasked")


def one_verdict_a_model(control: Control) -> Iterable[Violation]:
    """A trained model is registered once, and versions are 1, 2, 3 …"""
    registered = Counter(one.request_id for one in control[topics.MODEL_REGISTERED])
    for one in control[topics.MODEL_TRAINED]:
        if registered[one.request_id] != 1:
            yield Violation(f"the model of {one.request_id} had {registered[one.request_id]} verdicts", one.at_ms)
    versions = [one.version for one in control[topics.MODEL_REGISTERED]]
    if versions != list(range(1, len(versions) + 1)):
        yield Violation(f"versions are {versions}")
    sequences = [one.sequence for one in control[topics.DEPLOYMENT_CHANGED]]
    if sequences != list(range(1, len(sequences) + 1)):
        yield Violation(f"deployments are {sequences}")


def one_champion(control: Control, serving: Serving) -> Iterable[Violation]:
    """Log, registry and predictors agree."""
    if {serving.deployed, serving.registry, *serving.predictors} != {serving.deployed}:
        yield Violation(
            f"the log deployed version {serving.deployed}, the registry says {serving.registry}, "
            f"predictors serve {list(serving.predictors)}"
        )
    if serving.deployed is None and control[topics.MODEL_TRAINED]:
        yield Violation("models were trained, none was deployed")
