"""Metrics, in numpy.

Every metric that can decide is a ratio of sums over rows, so that it can be summed per block of time and resampled by
blocks: log_loss, brier, mae, mse, accuracy (sum of the rows' losses, rows); rmse (sum of squares, rows; then the root);
auc (pairs in the right order, pairs; counted within each block, so that it says how well rows of one day are ordered).
"""

from collections.abc import Mapping, Sequence
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from trimtab.ml.errors import MetricNotForTaskError
from trimtab.ml.scoring import Scores, Task

Metric = Literal["log_loss", "brier", "auc", "accuracy", "mse", "rmse", "mae"]
Blocks = NDArray[np.int64]
Parts = NDArray[np.float64]

FOR_TASK: Mapping[Task, tuple[Metric, ...]] = {
    "binary": ("log_loss", "brier", "auc", "accuracy"),
    "multiclass": ("log_loss", "brier", "accuracy"),
    "regression": ("mae", "mse", "rmse"),
}
"""The metrics that can decide, by task."""

HIGHER_IS_BETTER = frozenset({"auc", "accuracy"})
FLOOR = 1e-6
"""Probabilities are kept this far from 0 and 1 in the log loss, so that one row cannot decide alone."""
_CALIBRATION_BINS = 15


def check(metric: str, task: Task) -> Metric:
    """The metric, if it can decide for the task. Raises MetricNotForTaskError."""
    for known in FOR_TASK[task]:
        if known == metric:
            return known
    raise MetricNotForTaskError(metric, task, FOR_TASK[task])


def row_losses(metric: Metric, labels: NDArray[np.float64], scores: Scores) -> NDArray[np.float64]:
    """[n] what each row adds to the metric's sum (accuracy: 1 where right). `auc` has none: it is of pairs.

    `labels`: 0/1, the value, or (scores [n, classes]) the position of the class, -1 where the model has no such class.

    >>> row_losses("brier", np.array([1.0, 0.0]), np.array([0.8, 0.5])).round(2).tolist()
    [0.04, 0.25]
    """
    if scores.ndim == 2:
        return _class_losses(metric, labels.astype(np.intp), scores)
    if metric == "log_loss":
        hit = np.where(labels > 0.5, scores, 1.0 - scores)
        return _surprise(hit)
    if metric == "accuracy":
        return np.asarray((scores >= 0.5) == (labels > 0.5), dtype=np.float64)
    errors = scores - labels
    return np.asarray(np.abs(errors) if metric == "mae" else np.square(errors))


def _class_losses(metric: Metric, labels: NDArray[np.intp], scores: Scores) -> NDArray[np.float64]:
    if metric == "accuracy":
        return np.asarray(scores.argmax(axis=1) == labels, dtype=np.float64)
    known = labels >= 0
    hit = np.where(known, scores[np.arange(len(scores)), labels], 0.0)
    if metric == "log_loss":
        return _surprise(hit)
    return np.asarray(np.square(scores).sum(axis=1) - 2.0 * hit + 1.0)


def expected_losses(metric: Metric, scores: Scores) -> NDArray[np.float64]:
    """[n] the row losses that probabilities themselves expect, if they come true: Σ p(class)·loss(class).

    Accuracy: the expected error. NaN where a score promises nothing: values (regression), and `auc`.

    >>> expected_losses("brier", np.array([0.5, 0.9])).round(2).tolist()
    [0.25, 0.09]
    """
    if metric not in ("log_loss", "brier", "accuracy"):
        return np.full(len(scores), np.nan)
    of_classes = np.column_stack([1.0 - scores, scores]) if scores.ndim == 1 else scores
    if metric == "accuracy":
        return np.asarray(1.0 - of_classes.max(axis=1))
    if metric == "log_loss":
        return np.asarray((of_classes * _surprise(of_classes)).sum(axis=1))
    spread = 1.0 - np.square(of_classes).sum(axis=1)
    return np.asarray(spread / 2.0 if scores.ndim == 1 else spread)


def _surprise(hit: Scores) -> Scores:
    return np.asarray(-np.log(np.clip(hit, FLOOR, 1.0 - FLOOR)))


def parts(metric: Metric, labels: NDArray[np.float64], scores: Scores, blocks: Blocks) -> Parts:
    """[blocks, 2] numerator and denominator of the metric in each block. `blocks`: per row, 0, 1, 2, …"""
    count = int(blocks.max()) + 1 if len(blocks) else 0
    if metric == "auc":
        return np.column_stack(ordered_pairs(labels, scores, blocks))
    losses = row_losses(metric, labels, scores)
    return np.column_stack(
        [np.bincount(blocks, weights=losses, minlength=count), np.bincount(blocks, minlength=count).astype(np.float64)]
    )


def value(metric: Metric, summed: Parts) -> NDArray[np.float64]:
    """The metric from summed parts [..., 2]; NaN where there is nothing to divide by."""
    with np.errstate(divide="ignore", invalid="ignore"):
        ratio: NDArray[np.float64] = summed[..., 0] / summed[..., 1]
    return np.sqrt(ratio) if metric == "rmse" else ratio


def ordered_pairs(
    labels: NDArray[np.float64], scores: Scores, blocks: Blocks
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Per block: pairs of a positive and a negative row that the scores order rightly (ties half), and all such pairs.

    Mann and Whitney's U from ranks within the block.
    """
    count = int(blocks.max()) + 1 if len(blocks) else 0
    order = np.lexsort((scores, blocks))
    block, score, positive = blocks[order], scores[order], labels[order] > 0.5
    new_tie = np.ones(len(order), dtype=bool)
    new_tie[1:] = (block[1:] != block[:-1]) | (score[1:] != score[:-1])
    tie = np.cumsum(new_tie) - 1
    firsts = np.flatnonzero(new_tie)
    lasts = np.append(firsts[1:], len(order)) - 1
    rank = ((firsts + lasts) / 2.0)[tie] - np.searchsorted(block, block) + 1.0
    positives = np.bincount(block, weights=positive, minlength=count)
    rows = np.bincount(block, minlength=count)
    rank_sum = np.bincount(block, weights=rank * positive, minlength=count)
    return rank_sum - positives * (positives + 1.0) / 2.0, positives * (rows - positives)


def auc(labels: NDArray[np.float64], scores: Scores) -> float:
    """The share of pairs in the right order, over all rows; NaN with one class alone.

    >>> auc(np.array([0.0, 0.0, 1.0, 1.0]), np.array([0.1, 0.4, 0.35, 0.8]))
    0.75
    """
    right, pairs = ordered_pairs(labels, scores, np.zeros(len(labels), dtype=np.int64))
    return float(right.sum() / pairs.sum()) if pairs.sum() else float("nan")


def auc_within(labels: NDArray[np.float64], scores: Scores, blocks: Blocks) -> float:
    """The mean over blocks (days) of the AUC within each; blocks with one class alone are left out."""
    right, pairs = ordered_pairs(labels, scores, blocks)
    judged = pairs > 0
    return float(np.mean(right[judged] / pairs[judged])) if judged.any() else float("nan")


def calibration_error(labels: NDArray[np.float64], scores: Scores) -> float:
    """Mean distance of score and label over 15 bins with equally many rows (Naeini et al. 2015, equal mass)."""
    if len(labels) == 0:
        return float("nan")
    order = np.argsort(scores, kind="stable")
    bins = np.array_split(order, min(_CALIBRATION_BINS, len(order)))
    gaps = [abs(float(scores[rows].mean() - labels[rows].mean())) * len(rows) for rows in bins]
    return sum(gaps) / len(labels)


def measure(task: Task, labels: NDArray[np.float64], scores: Scores) -> dict[str, float]:
    """All metrics of the task by name, over all rows; those that are not defined on the rows are left out."""
    one_block = np.zeros(len(labels), dtype=np.int64)
    found: dict[str, float] = {
        metric: float(value(metric, parts(metric, labels, scores, one_block).sum(axis=0))) for metric in FOR_TASK[task]
    }
    if task == "binary":
        found["calibration_error"] = calibration_error(labels, scores)
    return {name: number for name, number in found.items() if np.isfinite(number)}


def codes(labels: NDArray[np.object_], classes: Sequence[str]) -> NDArray[np.float64]:
    """Positions of class names, -1 for a class that is not among `classes`.

    >>> codes(np.array(["b", "a", "new"], dtype=object), ["a", "b"]).tolist()
    [1.0, 0.0, -1.0]
    """
    position = {name: float(i) for i, name in enumerate(classes)}
    return np.array([position.get(label, -1.0) for label in labels.tolist()])


def blocks_of(at_ms: NDArray[np.int64], block_ms: int) -> Blocks:
    """Which block of time each row belongs to, numbered 0, 1, 2, … without gaps (UTC, from midnight for a day)."""
    _, numbers = np.unique(at_ms // block_ms, return_inverse=True)
    return numbers.astype(np.int64)
