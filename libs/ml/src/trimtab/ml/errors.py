"""What can go wrong with a model; each message says what to do."""

import difflib
from collections.abc import Sequence


class ModelError(Exception):
    """Root of this package's errors."""


class UnknownFormatError(ModelError):
    """A blob is in a format that no scorer reads."""

    def __init__(self, name: str) -> None:
        self.format = name
        super().__init__(f"unknown model format {name!r}: a model is served as 'onnx' or as 'skops'")


class MalformedModelError(ModelError):
    """A blob is not a model packaged by Trimtab."""

    def __init__(self, name: str, reason: str) -> None:
        self.format = name
        self.reason = reason
        super().__init__(f"the {name} blob is not a model packaged by Trimtab ({reason}): train it again")


class UntrustedTypeError(ModelError):
    """A skops blob names types that nobody vouched for."""

    def __init__(self, types: Sequence[str]) -> None:
        self.types = tuple(types)
        super().__init__(
            f"the model holds types that are not trusted: {', '.join(types)}; use an estimator of scikit-learn, "
            "or install the plugin that registers yours under the entry point group 'trimtab.estimators'"
        )


class VectorShapeError(ModelError):
    """Vectors have other columns than the model was trained on."""

    def __init__(self, expected: tuple[int, int], got: tuple[int, int]) -> None:
        self.expected = expected
        self.got = got
        super().__init__(
            f"the model takes {expected[0]} numbers and {expected[1]} categories, "
            f"the vectors have {got[0]} and {got[1]}: assemble them with the features of the model's own declaration"
        )


class EstimatorNotAllowedError(ModelError):
    """A declaration names an estimator that does not exist or is not allowed."""

    def __init__(self, path: str, reason: str, plugins: Sequence[str]) -> None:
        self.path = path
        self.reason = reason
        installed = f"; installed plugins: {', '.join(plugins)}" if plugins else ""
        super().__init__(
            f"estimator {path!r} cannot be used ({reason}): name a class of scikit-learn, e.g. "
            f"'sklearn.ensemble.HistGradientBoostingClassifier'{installed}"
        )


class EstimatorParameterError(ModelError):
    """A declaration gives an estimator a parameter it does not have."""

    def __init__(self, path: str, name: str, known: Sequence[str]) -> None:
        self.path = path
        self.name = name
        near = difflib.get_close_matches(name, known, n=1)
        hint = f"did you mean {near[0]!r}?" if near else f"it has {', '.join(sorted(known))}"
        super().__init__(f"{path.rpartition('.')[2]} has no parameter {name!r}: {hint}")


class NoProbabilitiesError(ModelError):
    """A classifier gives no probabilities."""

    def __init__(self, path: str) -> None:
        self.path = path
        super().__init__(f'{path} gives no probabilities: set calibrate = "sigmoid", or choose a classifier that does')


class WrongKindError(ModelError):
    """A classifier for values, or a regressor for classes."""

    def __init__(self, path: str, task: str) -> None:
        self.path = path
        self.task = task
        wanted = "a regressor" if task == "regression" else "a classifier"
        super().__init__(f"{path} does not fit task = {task!r}, which needs {wanted}")


class TooFewRowsError(ModelError):
    """There is nothing to learn from."""

    def __init__(self, rows: int) -> None:
        self.rows = rows
        super().__init__(f"{rows} labelled rows are too few to fit a model: wait for more labels")


class OneClassError(ModelError):
    """All labels are alike."""

    def __init__(self, label: str, rows: int) -> None:
        self.label = label
        self.rows = rows
        super().__init__(
            f"all {rows} labels are {label}: there is nothing to tell apart; check label.value, or raise "
            "train.first_after.positives"
        )


class EstimatorFailedError(ModelError):
    """The estimator itself raised while it was fitted."""

    def __init__(self, path: str, error: str) -> None:
        self.path = path
        self.error = error
        super().__init__(f"{path} failed while it was fitted: {error}")


class MetricNotForTaskError(ModelError):
    """A declaration names a metric that cannot decide for its task."""

    def __init__(self, metric: str, task: str, known: Sequence[str]) -> None:
        self.metric = metric
        self.task = task
        super().__init__(f"metric {metric!r} cannot decide for task = {task!r}: use one of {', '.join(known)}")
