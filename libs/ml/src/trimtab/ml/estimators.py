"""Estimators by name: what a declaration may name, and which types a model may hold."""

import importlib
import inspect
from collections.abc import Mapping
from functools import cache
from importlib.metadata import EntryPoint, entry_points
from typing import Any

from sklearn.base import BaseEstimator

from trimtab.ml.errors import EstimatorNotAllowedError, EstimatorParameterError

PLUGINS = "trimtab.estimators"
"""Entry point group: name → class of an installed estimator."""

_TREES = ("sklearn.ensemble.", "sklearn.tree.")
_NUMPY = frozenset({"numpy.dtype", "numpy.ndarray", "numpy.random.mtrand.RandomState", "numpy.random._mt19937.MT19937"})


def build(path: str, params: Mapping[str, Any], seed: int) -> BaseEstimator:
    """The estimator, unfitted, seeded where it draws numbers, on one core (scikit-learn's are by themselves).

    `path`: an import path below `sklearn.`, or a name of the entry point group `trimtab.estimators`.
    Raises EstimatorNotAllowedError, EstimatorParameterError.

    >>> build("sklearn.linear_model.LogisticRegression", {"C": 0.1}, seed=7).random_state
    7
    """
    kind = resolve(path)
    known = kind._get_param_names()
    for name in params:
        if name not in known:
            raise EstimatorParameterError(path, name, known)
    fixed = {"random_state": seed} if path.startswith("sklearn.") else {"random_state": seed, "n_jobs": 1}
    defaults = {name: value for name, value in fixed.items() if name in known}
    return kind(**{**defaults, **params})


def resolve(path: str) -> type[BaseEstimator]:
    """The class behind a name. Raises EstimatorNotAllowedError."""
    plugin = _plugins().get(path)
    found = plugin.load() if plugin else _from_sklearn(path)
    if not (inspect.isclass(found) and issubclass(found, BaseEstimator)):
        raise EstimatorNotAllowedError(path, "it is not an estimator class", sorted(_plugins()))
    return found


def _from_sklearn(path: str) -> object:
    module, _, name = path.rpartition(".")
    if not module.startswith("sklearn.") or "._" in path:
        raise EstimatorNotAllowedError(path, "it is neither in scikit-learn nor a plugin", sorted(_plugins()))
    try:
        return getattr(importlib.import_module(module), name)
    except (ImportError, AttributeError) as error:
        raise EstimatorNotAllowedError(path, str(error), sorted(_plugins())) from error


def trusted(type_name: str) -> bool:
    """Whether a model may hold this type: scikit-learn's, numpy's plain data, or a registered plugin's package.

    >>> trusted("sklearn.ensemble._hist_gradient_boosting.predictor.TreePredictor"), trusted("os.system")
    (True, False)
    """
    if type_name.startswith("sklearn.") or type_name in _NUMPY:
        return True
    return any(type_name.startswith(plugin.module.split(".")[0] + ".") for plugin in _plugins().values())


def splits_on_codes(estimator: BaseEstimator) -> bool:
    """Whether it divides its columns at thresholds, so that a category may be a code; others need a column each."""
    return type(estimator).__module__.startswith(_TREES)


def takes_missing(estimator: BaseEstimator) -> bool:
    """Whether NaN goes in as it is: only where ONNX can follow (plugins judge for themselves).

    Forests and single trees of scikit-learn take NaN too, but their ONNX form sends it the other way.
    """
    module = type(estimator).__module__
    if module.startswith("sklearn."):
        return module.startswith("sklearn.ensemble._hist_gradient_boosting")
    return bool(estimator.__sklearn_tags__().input_tags.allow_nan)


@cache
def _plugins() -> dict[str, EntryPoint]:
    return {point.name: point for point in entry_points(group=PLUGINS)}
