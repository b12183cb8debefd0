"""Predictions in columns, as the monitor needs them."""

from collections.abc import Collection, Mapping, Sequence
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

    `by`: the values of label.by as one text, "" where one is null. `version`: NO_MODEL without a model, `sequence` then
    -1. `digests`: of the model of each version here, shadows' too. `scores` [n, width]: P(true), the value, or the
    probability of each class in the model's order (0 where the model has fewer); NaN without a model. `numbers` [n, k]
    NaN missing; `categories` [n, c] None missing. `streamed`: asked by an event, not over HTTP.
    """

    key: Sequence[str]
    by: Sequence[str]
    at_ms: Ints
    offset: Ints
    version: Ints
    sequence: Ints
    digests: Mapping[int, str]
    scores: Floats
    numbers: Floats
    categories: Texts
    streamed: NDArray[np.bool_]
    shadows: Shadows

    def __len__(self) -> int:
        return len(self.at_ms)

    def take(self, rows: Ints) -> "Predictions":
        """Some of the predictions; `rows` ascending."""
        place = np.full(len(self), -1, np.int64)
        place[rows] = np.arange(len(rows))
        mine = place[self.shadows.row] >= 0
        chosen = rows.tolist()
        return Predictions(
            key=[self.key[i] for i in chosen],
            by=[self.by[i] for i in chosen],
            at_ms=self.at_ms[rows],
            offset=self.offset[rows],
            version=self.version[rows],
            sequence=self.sequence[rows],
            digests=self.digests,
            scores=self.scores[rows],
            numbers=self.numbers[rows],
            categories=self.categories[rows],
            streamed=self.streamed[rows],
            shadows=Shadows(place[self.shadows.row[mine]], self.shadows.version[mine], self.shadows.scores[mine]),
        )

    def of_versions(self, versions: Collection[int]) -> Ints:
        """The rows that one of the versions scored, as champion or as shadow."""
        named = list(versions)
        hit = np.isin(self.version, named)
        hit[self.shadows.row[np.isin(self.shadows.version, named)]] = True
        return np.flatnonzero(hit)


def deployments(predictions: Predictions) -> Sequence[Deployment]:
    """The deployments that made these predictions, each with the earliest time here."""
    scored = np.flatnonzero(predictions.version != NO_MODEL)
    if not len(scored):
        return ()
    pairs, of = np.unique(
        np.stack([predictions.sequence[scored], predictions.version[scored]]), axis=1, return_inverse=True
    )
    first = np.full(pairs.shape[1], np.iinfo(np.int64).max)
    np.minimum.at(first, of.reshape(-1), predictions.at_ms[scored])
    return [
        Deployment(sequence, version, predictions.digests[version], at_ms)
        for sequence, version, at_ms in zip(*pairs.tolist(), first.tolist(), strict=True)
    ]
