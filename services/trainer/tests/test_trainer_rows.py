"""Which rows are trained on: matured, newest revision, known by then, cut with a purge."""

from dataclasses import replace

import numpy as np
import pytest
from trimtab.ml.datasets import Dataset
from trimtab.testing.declarations import offers
from trimtab.trainer.core import cut, matured
from trimtab.trainer.core.rows import Outcomes
from trimtab.trainer.errors import TooFewMaturedRowsError

DAY = 86_400_000
LOOP = offers()


def predictions(days: list[float]) -> Dataset:
    n = len(days)
    return Dataset(
        number_names=("price",),
        category_names=("place",),
        keys=np.array([f"k{i}" for i in range(n)], dtype=object),
        at_ms=np.array([int(day * DAY) for day in days], dtype=np.int64),
        numbers=np.arange(n, dtype=np.float64).reshape(-1, 1),
        categories=np.array([["top"]] * n, dtype=object),
        labels=np.full(n, np.nan),
        versions=np.full(n, -1),
        scores=np.full(n, np.nan),
    )


def outcomes(*rows: tuple[int, float, int, bool, bool, float]) -> Outcomes:
    row, settled, revision, labelled, suspect, label = zip(*rows, strict=True)
    return Outcomes(
        row=np.array(row, dtype=np.int64),
        settled_at_ms=np.array([int(day * DAY) for day in settled], dtype=np.int64),
        revision=np.array(revision, dtype=np.int64),
        labelled=np.array(labelled),
        suspect=np.array(suspect),
        labels=np.array(label, dtype=np.float64),
    )


def test_rows_are_matured_labelled_and_not_suspect() -> None:
    asked = predictions([1, 2, 3, 4, 9.5])
    known = outcomes(
        (0, 2, 0, True, False, 1.0),
        (1, 3, 0, False, False, np.nan),
        (2, 4, 0, True, True, 1.0),
        (3, 5, 0, True, False, 0.0),
        (4, 10, 0, True, False, 1.0),
    )
    rows = matured(LOOP, asked, known, 10 * DAY)
    assert rows.keys.tolist() == ["k0", "k3"]
    assert rows.labels.tolist() == [1.0, 0.0]


def test_the_newest_revision_that_was_known_by_then_counts() -> None:
    asked = predictions([1])
    known = outcomes((0, 2, 0, True, False, 0.0), (0, 6, 1, True, False, 1.0))
    assert matured(LOOP, asked, known, 5 * DAY).labels.tolist() == [0.0]
    assert matured(LOOP, asked, known, 6 * DAY).labels.tolist() == [1.0]


def test_the_window_leaves_out_what_is_older() -> None:
    loop = replace(LOOP, train=replace(LOOP.train, window_ms=5 * DAY))
    asked = predictions([1, 7])
    known = outcomes((0, 2, 0, True, False, 0.0), (1, 8, 0, True, False, 1.0))
    assert matured(loop, asked, known, 10 * DAY).keys.tolist() == ["k1"]


def test_rows_stand_by_time_and_key_whatever_the_log_says() -> None:
    asked = predictions([3, 1, 3])
    known = outcomes((2, 4, 0, True, False, 1.0), (0, 4, 0, True, False, 0.0), (1, 4, 0, True, False, 0.0))
    assert matured(LOOP, asked, known, 10 * DAY).keys.tolist() == ["k1", "k0", "k2"]


def test_no_row_is_fitted_on_whose_label_was_known_only_in_the_holdout() -> None:
    at_ms = 60 * DAY
    asked = predictions([i / 10 for i in range(590)])
    rows = replace(asked, labels=np.zeros(len(asked)))
    parts = cut(LOOP, rows, at_ms)
    start = at_ms - LOOP.label.mature_ms - LOOP.gate.holdout_ms
    assert parts.held_out.at_ms.min() >= start
    assert parts.fit.at_ms.max() < start - LOOP.label.within_ms


def test_too_few_rows_say_so() -> None:
    rows = replace(predictions([1, 2, 3]), labels=np.zeros(3))
    with pytest.raises(TooFewMaturedRowsError, match="wait for labels"):
        cut(LOOP, rows, 60 * DAY)
