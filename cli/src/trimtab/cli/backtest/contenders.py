"""From scores and labels to a contender: pooled, within a day, week by week."""

from collections.abc import Iterator, Mapping, Sequence
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from trimtab.cli.report.data import Contender
from trimtab.loops.model import Loop, Task
from trimtab.ml import metrics
from trimtab.ml.metrics import Metric
from trimtab.ml.scoring import Scores

DAY_MS = 86_400_000
WEEK_MS = 7 * DAY_MS
SHOWN: Mapping[Task, tuple[Metric, ...]] = {
    "binary": ("log_loss", "auc"),
    "multiclass": ("log_loss", "accuracy"),
    "regression": ("rmse", "mae"),
}
"""Beside the metric that the loop declares."""
FEWEST_ROWS = 30
"""A week or a day with fewer rows says too little to be drawn."""


def contender(
    name: str,
    title: str,
    refits: int,
    *,
    loop: Loop,
    at_ms: NDArray[np.int64],
    labels: NDArray[np.float64],
    scores: Scores,
) -> Contender:
    """A contender from its rows: labels [n], scores [n] (or [n, classes]); rows without a finite score are left out."""
    rows = scored(scores)
    at_ms, labels, scores = at_ms[rows], labels[rows], scores[rows]
    names = shown(loop)
    return Contender(
        name=name,
        title=title,
        refits=refits,
        rows=len(labels),
        metrics={m: measure(m, labels, scores) for m in names} if len(labels) else {},
        within_day_auc=within_day(at_ms, labels, scores) if loop.task == "binary" and len(labels) else None,
        weekly={m: list(by_week(m, at_ms, labels, scores)) for m in names},
    )


def shown(loop: Loop) -> Sequence[Metric]:
    """What a contender is measured by: the declared metric first."""
    return tuple(dict.fromkeys((metrics.check(loop.model.metric, loop.task), *SHOWN[loop.task])))


def scored(scores: Scores) -> NDArray[np.bool_]:
    """[n] whether a model said something."""
    return np.isfinite(scores if scores.ndim == 1 else scores[:, 0])


def measure(metric: Metric, labels: NDArray[np.float64], scores: Scores) -> float:
    """One metric by its name, over all rows."""
    found = metrics.parts(metric, labels, scores, np.zeros(len(labels), dtype=np.int64))
    return float(metrics.value(metric, found.sum(axis=0)))


def within_day(at_ms: NDArray[np.int64], labels: NDArray[np.float64], scores: Scores) -> float | None:
    """The mean of each day's own AUC, weighted by rows: what is left when knowing the day is worth nothing."""
    total = weight = 0.0
    for rows in slices(at_ms // DAY_MS):
        if len(np.unique(labels[rows])) == 2:
            count = rows.stop - rows.start
            total, weight = total + count * measure("auc", labels[rows], scores[rows]), weight + count
    return total / weight if weight else None


def by_week(
    metric: Metric, at_ms: NDArray[np.int64], labels: NDArray[np.float64], scores: Scores
) -> Iterator[tuple[int, float]]:
    """(middle of the week, value) for each week with enough rows of more than one kind."""
    weeks = at_ms // WEEK_MS
    for rows in slices(weeks):
        if rows.stop - rows.start >= FEWEST_ROWS and len(np.unique(labels[rows])) > 1:
            yield int(weeks[rows.start]) * WEEK_MS + WEEK_MS // 2, measure(metric, labels[rows], scores[rows])


def slices(groups: NDArray[np.int64]) -> Iterator[slice]:
    """The runs of equal values in a sorted array."""
    edges = np.flatnonzero(np.diff(groups)) + 1
    bounds = [0, *edges.tolist(), len(groups)]
    return (slice(a, b) for a, b in pairwise(bounds) if b > a)
