"""Which rows a model is fitted on, and which are held out to judge it."""

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from trimtab.loops.model import Loop
from trimtab.ml.datasets import Dataset
from trimtab.trainer.errors import TooFewMaturedRowsError

FEWEST_ROWS = 20
"""A fit or a holdout with fewer rows says nothing."""


@dataclass(frozen=True, slots=True)
class Outcomes:
    """Outcomes as columns, one index a row, any order, every revision its own row.

    `row`: position of the prediction they belong to. `labelled`: whether there is a label.
    """

    row: NDArray[np.int64]
    settled_at_ms: NDArray[np.int64]
    revision: NDArray[np.int64]
    labelled: NDArray[np.bool_]
    suspect: NDArray[np.bool_]
    labels: NDArray[np.float64] | NDArray[np.object_]


def newest(outcomes: Outcomes, known_by_ms: int) -> NDArray[np.intp]:
    """Positions of the newest revision of each prediction's outcome that was settled by then."""
    known = np.flatnonzero(outcomes.settled_at_ms <= known_by_ms)
    order = known[np.lexsort((outcomes.revision[known], outcomes.row[known]))]
    last = np.ones(len(order), dtype=np.bool_)
    last[:-1] = outcomes.row[order][1:] != outcomes.row[order][:-1]
    return order[last]


def matured(loop: Loop, predictions: Dataset, outcomes: Outcomes, at_ms: int) -> Dataset:
    """The rows to train on at event time `at_ms`, as `chosen` finds them. The labels of `predictions` are ignored."""
    rows, of = chosen(loop, predictions.keys, predictions.at_ms, outcomes, at_ms)
    return replace(predictions.take(rows), labels=outcomes.labels[of])


def chosen(
    loop: Loop, keys: NDArray[np.object_], asked_ms: NDArray[np.int64], outcomes: Outcomes, at_ms: int
) -> tuple[NDArray[np.int64], NDArray[np.intp]]:
    """Which predictions to train on at event time `at_ms`, sorted by (at_ms, key), and the outcome of each.

    Those at least `mature` old and inside `[train] window`, with the newest outcome known by then, where that has a
    label and the stream was not held. `keys`, `asked_ms`: of all predictions that were made, any order.
    """
    of = newest(outcomes, at_ms)
    of = of[outcomes.labelled[of] & ~outcomes.suspect[of]]
    rows = outcomes.row[of]
    inside = asked_ms[rows] <= at_ms - loop.label.mature_ms
    if loop.train.window_ms is not None:
        inside &= asked_ms[rows] > at_ms - loop.train.window_ms
    of, rows = of[inside], rows[inside]
    order = np.lexsort((keys[rows].astype(str), asked_ms[rows]))
    return rows[order], of[order]


@dataclass(frozen=True, slots=True)
class Cut:
    """`fit`: rows older than the holdout by at least the label's window. `held_out`: the newest matured rows."""

    fit: Dataset
    held_out: Dataset


def cut(loop: Loop, rows: Dataset, at_ms: int) -> Cut:
    """Cut matured rows in time. No row to fit on has a label that was known only inside the holdout.

    The holdout is the declared one, or the newest third of a history that is shorter than three of them: a first model
    that was judged on two weeks should have been fitted on more than days. Raises TooFewMaturedRowsError.
    """
    end_ms = at_ms - loop.label.mature_ms
    start_ms = end_ms - min(loop.gate.holdout_ms, _third(rows, end_ms))
    found = Cut(rows.between(0, start_ms - loop.label.within_ms), rows.between(start_ms, at_ms + 1))
    if min(len(found.fit), len(found.held_out)) < FEWEST_ROWS:
        raise TooFewMaturedRowsError(len(found.fit), len(found.held_out))
    return found


def _third(rows: Dataset, end_ms: int) -> int:
    """A third of the rows' history in ms."""
    return (end_ms - int(rows.at_ms[0])) // 3 if len(rows) else 0
