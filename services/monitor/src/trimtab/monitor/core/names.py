"""What the signals of a loop are called. Names travel with the rows, so the two sides need not agree on numbers."""

from collections.abc import Sequence
from dataclasses import dataclass

from trimtab.loops.model import Loop
from trimtab.loops.vectors import names_of

ROWS = "rows"
"""Predictions; its count is what missing and unseen ones are shares of."""
SCORE = "score"
ESTIMATE = "estimate"
LOSS = "loss"
LABEL = "label"
"""Labelled outcomes; its sum is that of the labels (binary: the positives)."""
SETTLED = "settled"
"""Outcomes, with a label or without."""
SCORED = "scored"
"""The scores of labelled outcomes."""
HIT = "hit"
"""Multiclass: whether the likeliest class was the true one."""
POSITIVE, NEGATIVE = "positive", "negative"
"""Labelled outcomes of either class by bin of their score."""


def feature(name: str) -> str:
    """The value of a feature."""
    return f"feature:{name}"


def missing(name: str) -> str:
    """Whether a feature had no value."""
    return f"missing:{name}"


def unseen(name: str) -> str:
    """Whether a category was none of those the model knows."""
    return f"unseen:{name}"


def beyond(name: str) -> str:
    """Whether a number lay outside the range the model was trained on."""
    return f"beyond:{name}"


def arrived(event: str) -> str:
    """Events that came through ingest."""
    return f"arrived:{event}"


def rejected(event: str) -> str:
    """Events that ingest put into quarantine."""
    return f"rejected:{event}"


def versus(version: int) -> str:
    """The loss on the rows that another version scored too."""
    return f"versus:{version}"


@dataclass(frozen=True, slots=True)
class FeatureNames:
    """A loop's features: numbers and categories, each in the order of the vector."""

    numbers: Sequence[str]
    categories: Sequence[str]


def features_of(loop: Loop) -> FeatureNames:
    """The columns of a loop's vectors."""
    vector = names_of(loop)
    return FeatureNames(vector.numbers, vector.categories)
