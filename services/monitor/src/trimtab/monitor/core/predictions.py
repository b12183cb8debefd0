"""Predictions in columns, as the monitor needs them."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Ints = NDArray[np.int64]
Floats = NDArray[np.float64]
Texts = NDArray[np.object_]

NO_MODEL = 0
"""The version of a prediction made before the first model."""


@dataclass(frozen=True, slots=True)
class Deployment:
    """That deployment `sequence` made predictions, with which model, at the earliest from `first_ms` on."""

    sequence: int
    version: int
    digest: str
    first_ms: int


@dataclass(frozen=True, slots=True)
class Shadows:
    """What shadows said: the row of the prediction each belongs to, their version, their scores [n, width]."""

    row: Ints
    version: Ints
    scores: Floats


@dataclass(frozen=True, slots=True)
class Predictions:
    """n predictions of one partition.

    `by`: the values of label.by as one text. `version`: NO_MODEL without a model; `digest`, `sequence` then "" and -1.
    `scores` [n, width]: P(true), the value, or the probability of each class in the model's order (0 where the model has
    fewer); NaN without a model. `numbers` [n, k] NaN missing; `categories` [n, c] None missing.
    `streamed`: asked by an event, not over HTTP.
    """

    key: Sequence[str]
    by: Sequence[str]
    at_ms: Ints
    offset: Ints
    version: Ints
    digest: Sequence[str]
    sequence: Ints
    scores: Floats
    numbers: Floats
    categories: Texts
    streamed: NDArray[np.bool_]
    shadows: Shadows

    def __len__(self) -> int:
        return len(self.at_ms)


def deployments(predictions: Predictions) -> Sequence[Deployment]:
    """The deployments that made these predictions, each with the earliest time here."""
    first = dict[tuple[int, int, str], int]()
    keys = zip(predictions.sequence.tolist(), predictions.version.tolist(), predictions.digest, strict=True)
    for key, at_ms in zip(keys, predictions.at_ms.tolist(), strict=True):
        if key[1] != NO_MODEL and at_ms < first.get(key, at_ms + 1):
            first[key] = at_ms
    return [Deployment(*key, at_ms) for key, at_ms in sorted(first.items())]
