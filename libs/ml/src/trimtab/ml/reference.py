"""The reference of a model version: what its signals were on rows it was not fitted on."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from trimtab.ml import metrics
from trimtab.ml.datasets import Dataset
from trimtab.ml.metrics import Metric
from trimtab.ml.scoring import Scores
from trimtab.ml.seasons import DAY_MS, HOUR_MS, Floats, Ints, autocorrelation, centred
from trimtab.ml.signals import Kind

MOST_CATEGORIES = 2_000
"""A categorical feature with more values than these is not listed, and none of its values counts as unseen."""
MOST_NUMBERS = 20_000
"""A reference travels in one event: of many signals at short looks only the newest looks do."""
_DIGITS = 9
LOOK_ROWS = 50
_INDEPENDENT = 0.2


@dataclass(frozen=True, slots=True)
class ReferenceSignal:
    """One signal by look: mean (None: no rows) and rows. Features: the range or the values they were trained on."""

    kind: Kind
    means: tuple[float | None, ...]
    counts: tuple[int, ...]
    low: float | None = None
    high: float | None = None
    categories: tuple[str, ...] | None = None


@dataclass(frozen=True, slots=True)
class Reference:
    """Signals by name over looks of `look_ms` from `from_ms` on."""

    look_ms: int
    season_ms: int
    from_ms: int
    signals: Mapping[str, ReferenceSignal]


@dataclass(frozen=True, slots=True, eq=False)
class Column:
    """A signal row by row; NaN where a row says nothing."""

    name: str
    kind: Kind
    values: Floats


@dataclass(frozen=True, slots=True, eq=False)
class Scored:
    """Rows that a model was not fitted on, what it said of them, and what that cost."""

    rows: Dataset
    scores: Scores
    losses: Scores


def build(trained: Dataset, holdout: Scored, metric: Metric, season_ms: int) -> Reference:
    """The reference from a holdout. `trained`: all rows of the shipped model, for each feature's range and values.

    A categorical feature has no mean of its own: what it was trained on is listed, missing and unseen are watched.
    """
    rows = holdout.rows
    known = known_values(trained)
    columns = signals(holdout, metric, known)
    look_ms = look(rows.at_ms, [c.values for c in columns if c.kind in ("score", "estimate", "loss")], season_ms)
    from_ms = _start(rows.at_ms, look_ms, MOST_NUMBERS // len(columns))
    columns = [Column(c.name, c.kind, c.values[rows.at_ms >= from_ms]) for c in columns]
    rows = rows.take(rows.at_ms >= from_ms)
    which = ((rows.at_ms - from_ms) // look_ms).astype(np.int64)
    found = {column.name: _signal(column, which) for column in columns}
    return Reference(look_ms, season_ms, from_ms, _with_ranges(found, trained, known))


def _start(at_ms: Ints, look_ms: int, most: int) -> int:
    """The start of the first look, so that there are at most so many."""
    if not len(at_ms):
        return 0
    first, last = int(at_ms[0]) // look_ms, int(at_ms[-1]) // look_ms
    return max(first, last - most + 1) * look_ms


Known = Sequence[frozenset[str] | None]
"""The values of each categorical feature; None where there are too many to list."""


def known_values(trained: Dataset) -> Known:
    """What a model that is fitted on these rows knows of each categorical feature."""
    return [_values(column) for column in trained.categories.T]


def signals(scored: Scored, metric: Metric, known: Known) -> list[Column]:
    """All that is watched of scored rows, row by row."""
    return [*_of_scores(scored, metric), *_of_features(scored.rows, known)]


def _of_scores(holdout: Scored, metric: Metric) -> list[Column]:
    """Score (multiclass: of the likeliest class), loss, and the loss that the scores expect where they expect one."""
    scores = holdout.scores
    score = scores if scores.ndim == 1 else scores.max(axis=1)
    found = [Column("score", "score", score), Column("loss", "loss", holdout.losses)]
    expected = metrics.expected_losses(metric, scores)
    return found if np.isnan(expected).all() else [*found, Column("estimate", "estimate", expected)]


def _of_features(rows: Dataset, known: Known) -> list[Column]:
    """Means of numbers, shares of missing values, shares of values that were not trained on."""
    found = list[Column]()
    for name, column in zip(rows.number_names, rows.numbers.T, strict=True):
        finite = np.where(np.isfinite(column), column, np.nan)
        found.append(Column(f"feature:{name}", "feature", finite))
        found.append(Column(f"missing:{name}", "missing", np.isnan(finite).astype(np.float64)))
    for name, texts, values in zip(rows.category_names, rows.categories.T, known, strict=True):
        missing = np.array([text is None for text in texts.tolist()], dtype=np.float64)
        found.append(Column(f"missing:{name}", "missing", missing))
        if values is not None:
            unseen = np.array([text is not None and text not in values for text in texts.tolist()], dtype=np.float64)
            found.append(Column(f"unseen:{name}", "unseen", unseen))
    return found


def _values(column: NDArray[np.object_]) -> frozenset[str] | None:
    """The values of a categorical feature; None when there are too many to list."""
    found = frozenset(column.tolist()) - {None}
    return found if len(found) <= MOST_CATEGORIES else None


def _signal(column: Column, which: Ints) -> ReferenceSignal:
    held = np.isfinite(column.values)
    looks = int(which.max()) + 1 if len(which) else 0
    counts = np.bincount(which[held], minlength=looks)
    sums = np.bincount(which[held], weights=column.values[held], minlength=looks)
    means = tuple(total / rows if rows else None for total, rows in zip(sums.tolist(), counts.tolist(), strict=True))
    return ReferenceSignal(column.kind, means, tuple(counts.tolist()))


def _with_ranges(
    before_ranges: Mapping[str, ReferenceSignal], trained: Dataset, known: Known
) -> Mapping[str, ReferenceSignal]:
    found = dict(before_ranges)
    for name, column in zip(trained.number_names, trained.numbers.T, strict=True):
        finite = column[np.isfinite(column)]
        low, high = (float(finite.min()), float(finite.max())) if len(finite) else (None, None)
        before = found[f"feature:{name}"]
        found[f"feature:{name}"] = ReferenceSignal(before.kind, before.means, before.counts, low, high)
    for name, values in zip(trained.category_names, known, strict=True):
        if values is not None:
            found[f"feature:{name}"] = ReferenceSignal("feature", (), (), categories=tuple(sorted(values)))
    return found


def look(at_ms: Ints, series: Sequence[Floats], season_ms: int) -> int:
    """The length of a look: the shortest of 50 rows, an hour and a day at which looks no longer tell of each other.

    50 rows are counted in whole hours up to a day, in whole days above; no look is shorter. Looks tell of each other
    while the lag-1 correlation of a signal's season-centred means is .2 or more. If they always do, a day it is (or
    the time of 50 rows, if that is longer): the detector whitens what remains.
    """
    if len(at_ms) < 2:
        return DAY_MS
    candidates = sorted({length for length in (_rows_ms(at_ms), HOUR_MS, DAY_MS) if length >= _rows_ms(at_ms)})
    for candidate in candidates[:-1]:
        if _independent(at_ms, series, candidate, season_ms):
            return candidate
    return candidates[-1]


def _rows_ms(at_ms: Ints) -> int:
    """How long 50 rows take, rounded up to a number of hours that divides a day, or to days."""
    span = max(int(at_ms[-1] - at_ms[0]), 1)
    needed = LOOK_ROWS * span / len(at_ms)
    hours = next((h for h in (1, 2, 3, 4, 6, 8, 12, 24) if h * HOUR_MS >= needed), None)
    return hours * HOUR_MS if hours is not None else int(-(-needed // DAY_MS)) * DAY_MS


def _independent(at_ms: Ints, series: Sequence[Floats], look_ms: int, season_ms: int) -> bool:
    which = ((at_ms - at_ms[0] // look_ms * look_ms) // look_ms).astype(np.int64)
    looks = int(which.max()) + 1
    start_ms = (at_ms[0] // look_ms + np.arange(looks)) * look_ms
    means = np.column_stack([_means(values, which, looks) for values in series])
    return bool((autocorrelation(centred(start_ms, means, look_ms, season_ms)) < _INDEPENDENT).all())


def _means(values: Floats, which: Ints, looks: int) -> Floats:
    held = np.isfinite(values)
    counts = np.bincount(which[held], minlength=looks)
    sums = np.bincount(which[held], weights=values[held], minlength=looks)
    return np.asarray(np.where(counts > 0, sums / np.maximum(counts, 1), np.nan))
