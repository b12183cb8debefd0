"""Ranking quality from counts by bin of the score, so that it adds up over batches and partitions."""

from collections.abc import Iterable

import numpy as np
from numpy.typing import NDArray

STEPS_PER_LOGIT = 20
HIGHEST_BIN = 400
_TINY = 1e-12


def score_bins(probability: NDArray[np.float64]) -> NDArray[np.int64]:
    """The bin of each probability: equal steps of the log-odds (one twentieth), so that rare events keep their order.

    >>> score_bins(np.array([0.0, 0.5, 0.51, 1.0])).tolist()
    [-400, 0, 1, 400]
    """
    p = np.clip(probability, _TINY, 1 - _TINY)
    steps: NDArray[np.float64] = np.rint(STEPS_PER_LOGIT * np.log(p / (1 - p)))
    return steps.clip(-HIGHEST_BIN, HIGHEST_BIN).astype(np.int64)


def auc(positive: Iterable[tuple[int, int]], negative: Iterable[tuple[int, int]]) -> float | None:
    """Area under the ROC curve from (bin, count) pairs: P(positive scores higher), ties count half; None without both.

    (J. A. Hanley and B. J. McNeil, "The meaning and use of the area under a ROC curve", Radiology 1982.)

    >>> auc([(3, 1), (5, 1)], [(3, 1), (1, 1)])
    0.875
    """
    counts = np.zeros((2, 2 * HIGHEST_BIN + 1), np.int64)
    for row, pairs in enumerate((positive, negative)):
        for bin_, count in pairs:
            counts[row, bin_ + HIGHEST_BIN] += count
    n_positive, n_negative = int(counts[0].sum()), int(counts[1].sum())
    if n_positive <= 0 or n_negative <= 0:
        return None
    below = np.cumsum(counts[1]) - counts[1]
    wins = int((counts[0] * (2 * below + counts[1])).sum())
    return wins / (2 * n_positive * n_negative)
