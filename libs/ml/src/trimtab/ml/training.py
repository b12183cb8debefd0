"""Fitting: a declared estimator on rows. The same rows, recipe and seed give the same model, bit by bit."""

import hashlib
import json
import platform
import time
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from importlib.metadata import version
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.base import is_classifier, is_regressor
from sklearn.pipeline import Pipeline
from threadpoolctl import threadpool_limits  # type: ignore[import-untyped]  # it ships no types

from trimtab.loops.model import Model
from trimtab.ml import estimators, pipelines
from trimtab.ml.datasets import Dataset
from trimtab.ml.errors import (
    EstimatorFailedError,
    NoProbabilitiesError,
    OneClassError,
    TooFewRowsError,
    WrongKindError,
)
from trimtab.ml.scoring import ModelSpec, Scores, Task, Vectors, shape_scores, tensors

PACKAGES = ("numpy", "scikit-learn", "scipy", "pandas", "onnx", "skl2onnx", "skops", "trimtab-ml")
"""Libraries whose versions are part of a recipe: another version may fit another model."""

_COARSE = 1e-4


@dataclass(frozen=True, slots=True)
class Fitted:
    """A fitted pipeline with what it takes and gives, and the seconds of CPU that its fit took."""

    spec: ModelSpec
    pipeline: Pipeline
    cpu_s: float

    def score(self, vectors: Vectors) -> Scores:
        """As `Scorer.score`, by scikit-learn itself."""
        numbers, categories = tensors(self.spec, vectors)
        with threadpool_limits(limits=1):
            raw = pipelines.raw_scores(self.pipeline, self.spec.task, numbers, categories)
        return shape_scores(self.spec.task, raw)


def fit(model: Model, task: Task, rows: Dataset, seed: int, weights: NDArray[np.float64] | None = None) -> Fitted:
    """Fit the declared estimator. Deterministic, on one core. `weights`: per row, for the estimator's sample_weight.

    Raises a ModelError: EstimatorNotAllowedError, EstimatorParameterError, WrongKindError, NoProbabilitiesError,
    TooFewRowsError, OneClassError, EstimatorFailedError.
    """
    estimator = estimators.build(model.estimator, model.params, seed)
    _check_kind(model, task, estimator)
    spec, target = describe(task, rows)
    if not estimators.takes_missing(estimator):
        spec = replace(spec, flagged=with_missing(rows.numbers))
    numbers, categories = tensors(spec, rows)
    pipeline = pipelines.build(estimator, model.calibrate, numbers, categories)
    extra = {} if weights is None else {"estimator__sample_weight": weights}
    began_s = time.thread_time()
    with confined():
        try:
            pipeline.fit(pipelines.frame(numbers, categories), target, **extra)
        except (ValueError, TypeError, ArithmeticError, MemoryError, RuntimeError, np.linalg.LinAlgError) as error:
            raise EstimatorFailedError(model.estimator, f"{type(error).__name__}: {error}") from error
    return Fitted(spec, pipeline, time.thread_time() - began_s)


@contextmanager
def confined() -> Iterator[None]:
    """Numerical libraries on one core, no warnings of convergence and the like: the gate judges a model, not its fit.

    Both are settings of the process. Who fits in several threads is within from before the first until after the last,
    so that what one of them takes back is what the others need.
    """
    with threadpool_limits(limits=1), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


def _check_kind(model: Model, task: Task, estimator: Any) -> None:
    right = is_regressor(estimator) if task == "regression" else is_classifier(estimator)
    if not right:
        raise WrongKindError(model.estimator, task)
    if task != "regression" and model.calibrate == "none" and not hasattr(estimator, "predict_proba"):
        raise NoProbabilitiesError(model.estimator)


def describe(task: Task, rows: Dataset) -> tuple[ModelSpec, NDArray[Any]]:
    """The spec that the rows imply, and the target as the estimator sees it. Raises TooFewRowsError, OneClassError."""
    if len(rows) < 2:
        raise TooFewRowsError(len(rows))
    classes: tuple[str, ...] = ()
    target: NDArray[Any] = rows.labels
    if task != "regression":
        found, target = np.unique(rows.labels, return_inverse=True)
        if len(found) == 1:
            raise OneClassError(_label_text(task, found[0]), len(rows))
        classes = tuple(str(name) for name in found) if task == "multiclass" else ()
    spec = ModelSpec(task, rows.number_names, rows.category_names, centres(rows.numbers), classes=classes)
    return spec, target


def _label_text(task: Task, label: Any) -> str:
    return repr(label) if task == "multiclass" else str(bool(label)).lower()


def with_missing(numbers: NDArray[np.float64]) -> tuple[int, ...]:
    """The positions of the columns in which something is missing or infinite."""
    return tuple(int(i) for i in np.flatnonzero(~np.isfinite(numbers).all(axis=0)))


def centres(numbers: NDArray[np.float64]) -> tuple[float, ...]:
    """Per column what to subtract before float32: 0, or the median where float32 is too coarse for its spread.

    Too coarse: the distance of neighbouring float32 at the column's magnitude is over 1e-4 standard deviations.

    >>> centres(np.array([[0.0, 1.7e12], [1.0, 1.7e12 + 2_000.0]]))
    (0.0, 1700000001000.0)
    """
    return tuple(_centre(column) for column in numbers.T)


def _centre(column: NDArray[np.float64]) -> float:
    finite = column[np.isfinite(column)]
    if len(finite) == 0:
        return 0.0
    largest = float(np.abs(finite).max())
    if largest < 2**12:
        return 0.0
    spread = float(finite.std())
    return float(np.median(finite)) if spread > 0 and largest * 2.0**-23 > _COARSE * spread else 0.0


def declared(model: Model, task: Task, window_ms: int | None, features_digest: str) -> Mapping[str, Any]:
    """What a declaration says of how a model is made."""
    return {
        "estimator": model.estimator,
        "params": dict(model.params),
        "calibrate": model.calibrate,
        "task": task,
        "window_ms": window_ms,
        "features": features_digest,
    }


def declared_digest(model: Model, task: Task, window_ms: int | None, features_digest: str) -> str:
    """The digest of `declared`: equal for two models of which the later is a mere refresh of the earlier."""
    return recipe_digest(declared(model, task, window_ms, features_digest))


def recipe(model: Model, task: Task, window_ms: int | None, features_digest: str) -> Mapping[str, Any]:
    """All that decides, beside rows and seed, which model comes out: `declared`, our encoders, library versions."""
    return {
        **declared(model, task, window_ms, features_digest),
        "encoders": {"one_hot_rows": pipelines.ONE_HOT_ROWS, "one_hot_columns": pipelines.ONE_HOT_COLUMNS},
        "packages": package_versions(),
    }


def recipe_digest(content: Mapping[str, Any]) -> str:
    """sha256 of the recipe's canonical JSON."""
    return hashlib.sha256(json.dumps(content, sort_keys=True, separators=(",", ":")).encode()).hexdigest()


def package_versions() -> dict[str, str]:
    """The versions of the libraries that shape a model."""
    return {name: version(name) for name in PACKAGES}


def environment() -> dict[str, Any]:
    """Python, platform and packages, as `model.trained` names them."""
    return {"python": platform.python_version(), "platform": platform.platform(), "packages": package_versions()}
