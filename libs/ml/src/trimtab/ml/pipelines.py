"""The pipeline around an estimator: encoders, imputation, calibration; and how it is asked for scores."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from sklearn.base import BaseEstimator
from sklearn.calibration import CalibratedClassifierCV
from sklearn.compose import ColumnTransformer
from sklearn.impute import SimpleImputer
from sklearn.pipeline import Pipeline, make_pipeline
from sklearn.preprocessing import OneHotEncoder, OrdinalEncoder, StandardScaler

from trimtab.ml.estimators import splits_on_codes, takes_missing
from trimtab.ml.scoring import MISSING, Categories, Numbers, Task, whole_blocks

ONE_HOT_ROWS = 10
"""A category in fewer rows gets no column of its own where each costs one."""
ONE_HOT_COLUMNS = 100
"""The most columns that one categorical feature becomes; rarer categories count as unseen."""
CALIBRATION_FOLDS = 3
BLOCK = 16
"""A multiple of the rows that numpy's BLAS takes at a time. On x86-64 4 were too few for products of matrices."""


def frame(numbers: Numbers, categories: Categories) -> pd.DataFrame:
    """What a pipeline is fitted on and asked with: numbers first, then categories, named by position."""
    left = pd.DataFrame(numbers.astype(np.float64), columns=[f"n{i}" for i in range(numbers.shape[1])], copy=False)
    right = pd.DataFrame(categories, columns=[f"c{i}" for i in range(categories.shape[1])], dtype=object, copy=False)
    return pd.concat([left, right], axis=1)


def raw_scores(pipeline: Pipeline, task: Task, numbers: Numbers, categories: Categories) -> NDArray[np.float64]:
    """[n, classes] probabilities, or [n, 1] values; infinite where an odd row goes beyond what floats hold. n > 0."""
    ask = pipeline.predict if task == "regression" else pipeline.predict_proba
    rows = frame(*whole_blocks(numbers, categories, BLOCK))
    with np.errstate(over="ignore"):
        scores = np.asarray(ask(rows), dtype=np.float64)
    return scores.reshape(len(rows), -1)[: len(numbers)]


def build(estimator: BaseEstimator, calibrate: str, numbers: Numbers, categories: Categories) -> Pipeline:
    """The unfitted pipeline. Rows are looked at only for the sets of categories.

    Trees take a category as a code (OrdinalEncoder, unseen → -1); other estimators get a column per category (unseen →
    all zero) and standardised numbers. Where a missing number means nothing to the estimator, the median stands in
    (`ModelSpec.flagged` keeps that it was missing). "Missing" is a category like others. All of these reach ONNX
    unchanged, measured by the parity gate.
    """
    last = estimator if calibrate == "none" else _calibrated(estimator)
    return Pipeline([("columns", _columns(estimator, numbers, categories)), ("estimator", last)])


def _calibrated(estimator: BaseEstimator) -> CalibratedClassifierCV:
    """Platt's sigmoid on three contiguous folds: rows stand in order of time, so no fold is a shuffle of the others."""
    return CalibratedClassifierCV(estimator, method="sigmoid", cv=CALIBRATION_FOLDS)


def _columns(estimator: BaseEstimator, numbers: Numbers, categories: Categories) -> ColumnTransformer:
    k, c = numbers.shape[1], categories.shape[1]
    steps: list[tuple[str, Any, list[int]]] = []
    if k:
        steps.append(("numbers", _number_step(estimator), list(range(k))))
    if c:
        steps.append(("categories", _category_step(estimator, categories), list(range(k, k + c))))
    return ColumnTransformer(steps, sparse_threshold=0.0)


def _number_step(estimator: BaseEstimator) -> BaseEstimator | str:
    if takes_missing(estimator):
        return "passthrough"
    median = SimpleImputer(strategy="median", keep_empty_features=True)
    return median if splits_on_codes(estimator) else make_pipeline(median, StandardScaler())


def _category_step(estimator: BaseEstimator, categories: Categories) -> BaseEstimator:
    columns = [pd.Series(column, dtype=object).value_counts() for column in categories.T]
    if splits_on_codes(estimator):
        known = [_with_missing(counts.index.to_list()) for counts in columns]
        return OrdinalEncoder(categories=known, handle_unknown="use_encoded_value", unknown_value=-1)
    frequent = [counts[counts >= ONE_HOT_ROWS].head(ONE_HOT_COLUMNS) for counts in columns]
    known = [_with_missing(counts.index.to_list()) for counts in frequent]
    return OneHotEncoder(categories=known, handle_unknown="ignore", sparse_output=False)


def _with_missing(seen: Sequence[str]) -> NDArray[np.object_]:
    return np.array(sorted({MISSING, *seen}), dtype=object)
