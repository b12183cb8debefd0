"""What a detector watches, and how much each series counts."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

Kind = Literal["score", "estimate", "feature", "missing", "unseen", "loss"]


@dataclass(frozen=True, slots=True)
class Signal:
    """One of the series that are watched. `weight`: its share of the evidence; all of a detector's sum to 1."""

    name: str
    kind: Kind
    weight: float


def weighted(names: Sequence[tuple[str, Kind]], weights: Mapping[str, float]) -> tuple[Signal, ...]:
    """Signals with their shares of the evidence.

    `names`: name and kind; those of features end in `:<feature>`. `weights`: of "loss", "estimate", "score" and
    "features"; a group that is not there leaves its share to the others. Each feature has the same share, and within
    it each of its signals. Signals without weight are left out.

    >>> shares = {"loss": 0.5, "estimate": 0.25, "features": 0.25}
    >>> found = weighted([("loss", "loss"), ("feature:a", "feature"), ("missing:a", "missing")], shares)
    >>> [(signal.name, round(signal.weight, 3)) for signal in found]
    [('loss', 0.667), ('feature:a', 0.167), ('missing:a', 0.167)]
    """
    owner = {name: name.partition(":")[2] if kind in ("feature", "missing", "unseen") else "" for name, kind in names}
    per_feature = {feature: sum(1 for other in owner.values() if other == feature) for feature in owner.values()}
    features = len({feature for feature in owner.values() if feature})
    raw = [
        weights.get("features", 0.0) / features / per_feature[owner[name]] if owner[name] else weights.get(kind, 0.0)
        for name, kind in names
    ]
    total = sum(raw) or 1.0
    return tuple(Signal(name, kind, w / total) for (name, kind), w in zip(names, raw, strict=True) if w > 0.0)
