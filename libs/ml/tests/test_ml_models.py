"""Fit, package, score: what a model says is the same in every format, twice over."""

import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from trimtab.loops.model import Model
from trimtab.ml import errors, estimators, packaging, training
from trimtab.ml.datasets import Dataset
from trimtab.ml.scoring import Scorer, Task

HGB = "sklearn.ensemble.HistGradientBoosting"
CLASSES = np.array(["high", "low", "middle"], dtype=object)


def rows(task: Task, count: int = 800, seed: int = 0) -> Dataset:
    """Rows with a time among the numbers, missing values, and a label that depends on a number and a category."""
    rng = np.random.default_rng(seed)
    numbers = rng.normal(size=(count, 4))
    numbers[:, 3] = 1_357_000_000_000 + np.cumsum(rng.integers(1, 60_000, count))
    categories = np.array(["aa", "b", "", "cc"], dtype=object)[rng.integers(0, 4, (count, 2))]
    value = numbers[:, 0] + (categories[:, 0] == "aa") + 0.3 * rng.normal(size=count)
    numbers[::13, 1], categories[::11, 1] = np.nan, None
    labels: dict[Task, NDArray[np.float64] | NDArray[np.object_]] = {
        "binary": (value > 0).astype(np.float64),
        "multiclass": CLASSES[np.digitize(value, [-0.3, 0.7])],
        "regression": value,
    }
    return Dataset(
        number_names=("x", "gap", "noise", "at"),
        category_names=("carrier", "tail"),
        keys=np.array([f"k{i}" for i in range(count)], dtype=object),
        at_ms=np.arange(count, dtype=np.int64),
        numbers=numbers,
        categories=categories,
        labels=labels[task],
        versions=np.full(count, -1, dtype=np.int64),
        scores=np.full(count, np.nan),
    )


def model(estimator: str, calibrate: str = "none", **params: Any) -> Model:
    """A declared model; boosting in few rounds, so that the tests are quick."""
    params = {"max_iter": 15, **params} if estimator.startswith(HGB) else params
    return Model(estimator, params, "sigmoid" if calibrate == "sigmoid" else "none", "log_loss")


@dataclass(frozen=True)
class Asked:
    """Vectors as the predictor has them."""

    numbers: NDArray[np.float64]
    categories: NDArray[np.object_]


ONNX_CASES: list[tuple[str, Task, str]] = [
    (f"{HGB}Classifier", "binary", "none"),
    (f"{HGB}Classifier", "binary", "sigmoid"),
    (f"{HGB}Classifier", "multiclass", "none"),
    (f"{HGB}Regressor", "regression", "none"),
    ("sklearn.ensemble.GradientBoostingClassifier", "binary", "none"),
    ("sklearn.tree.DecisionTreeClassifier", "multiclass", "none"),
    ("sklearn.linear_model.LogisticRegression", "binary", "none"),
    ("sklearn.linear_model.LogisticRegression", "multiclass", "sigmoid"),
    ("sklearn.linear_model.Ridge", "regression", "none"),
    ("sklearn.linear_model.PoissonRegressor", "regression", "none"),
    ("sklearn.svm.LinearSVC", "binary", "sigmoid"),
]


@pytest.mark.parametrize(("estimator", "task", "calibrate"), ONNX_CASES)
def test_onnx_says_what_scikit_learn_says_on_real_and_on_odd_rows(estimator: str, task: Task, calibrate: str) -> None:
    data = rows(task)
    if "Poisson" in estimator:
        data = replace(data, labels=np.exp(np.asarray(data.labels, dtype=np.float64)))
    fitted = training.fit(model(estimator, calibrate), task, data, seed=1)
    made = packaging.package(fitted, data)
    assert made.format == "onnx", made.obstacle
    odd = packaging.parity_rows(fitted.spec, data)
    served, kept = Scorer.load("onnx", made.blob), Scorer.load("skops", made.skops)
    ours = fitted.score(odd)
    np.testing.assert_allclose(served.score(odd), ours, rtol=1e-4, atol=1e-4 * float(np.std(fitted.score(data))))
    np.testing.assert_array_equal(kept.score(odd), fitted.score(odd))


@pytest.mark.parametrize(
    ("estimator", "task", "calibrate"),
    [
        *ONNX_CASES,
        ("sklearn.svm.SVR", "regression", "none"),
        ("sklearn.neural_network.MLPRegressor", "regression", "none"),
    ],
)
def test_a_rows_score_is_the_same_to_the_bit_whichever_rows_are_beside_it(
    estimator: str, task: Task, calibrate: str
) -> None:
    data = rows(task, 300)
    if "Poisson" in estimator:
        data = replace(data, labels=np.exp(np.asarray(data.labels, dtype=np.float64)))
    made = packaging.package(training.fit(model(estimator, calibrate), task, data, seed=1), data)
    for scorer in (Scorer.load("onnx", made.blob), Scorer.load("skops", made.skops)):
        whole = scorer.score(data)
        for size in (1, 2, 3, 13):
            parts = [scorer.score(data.take(np.arange(at, min(at + size, 60)))) for at in range(0, 60, size)]
            np.testing.assert_array_equal(np.concatenate(parts), whole[:60], err_msg=f"{size} at a time")


@pytest.mark.parametrize(
    ("estimator", "task", "calibrate"), [*ONNX_CASES[:3], ("sklearn.svm.SVC", "binary", "sigmoid")]
)
def test_the_same_rows_recipe_and_seed_give_the_same_bytes(estimator: str, task: Task, calibrate: str) -> None:
    first, again = (
        packaging.package(training.fit(model(estimator, calibrate), task, rows(task), seed=5), rows(task))
        for _ in range(2)
    )
    assert first.digest == again.digest
    assert (first.onnx_digest, first.skops_digest) == (again.onnx_digest, again.skops_digest)


PROGRAM = """
import numpy as np
from trimtab.loops.model import Model
from trimtab.ml import packaging, training
from trimtab.ml.datasets import Dataset
rng = np.random.default_rng(0)
n = 400
texts = np.array(["a", "b", None], dtype=object)[rng.integers(0, 3, (n, 2))]
rows = Dataset(("x", "y"), ("c", "d"), np.arange(n).astype(str).astype(object), np.arange(n), rng.normal(size=(n, 2)),
               texts, (rng.random(n) < 0.5).astype(float), np.full(n, -1), np.full(n, np.nan))
for name in ("linear_model.LogisticRegression", "ensemble.HistGradientBoostingClassifier"):
    model = Model(f"sklearn.{name}", {}, "sigmoid", "log_loss")
    made = packaging.package(training.fit(model, "binary", rows, 3), rows)
    print(made.onnx_digest, made.skops_digest)
"""


def test_another_process_makes_the_same_bytes() -> None:
    """Whatever its hash seed: no order of a set may get into a blob."""
    said = {
        subprocess.run(
            [sys.executable, "-W", "ignore", "-c", PROGRAM],
            env={"PYTHONHASHSEED": str(seed), "OMP_NUM_THREADS": str(1 + seed)},
            capture_output=True,
            check=True,
            text=True,
        ).stdout
        for seed in range(2)
    }
    assert len(said) == 1


@pytest.mark.parametrize("estimator", ["sklearn.linear_model.LogisticRegression", f"{HGB}Classifier"])
def test_models_made_side_by_side_are_those_made_alone(estimator: str) -> None:
    """As a backtest makes them, on all cores."""

    def made(seed: int) -> packaging.Package:
        few = rows("binary", count=120, seed=seed)
        unconverged = model(estimator, max_iter=2)
        return packaging.package(training.fit(unconverged, "binary", few, seed), few)

    with training.confined(), ThreadPoolExecutor(8) as pool:
        beside = list(pool.map(made, range(24)))
    assert [(one.onnx_digest, one.skops_digest, one.obstacle) for one in beside] == [
        (one.onnx_digest, one.skops_digest, one.obstacle) for one in map(made, range(24))
    ]


def test_another_seed_may_give_another_model() -> None:
    forest = model("sklearn.ensemble.RandomForestClassifier", n_estimators=5)
    digests = {
        packaging.package(training.fit(forest, "binary", rows("binary"), seed), rows("binary")).digest
        for seed in (1, 2)
    }
    assert len(digests) == 2


def test_a_model_that_onnx_gets_wrong_is_served_as_skops() -> None:
    data = rows("binary")
    neighbours = model("sklearn.neighbors.KNeighborsClassifier")
    made = packaging.package(training.fit(neighbours, "binary", data, seed=1), data)
    assert made.format == "skops"
    assert made.onnx is not None
    assert not made.parity.passed
    assert made.parity.max_difference > packaging.TOLERANCE


def test_a_model_without_a_converter_is_served_as_skops_and_says_why() -> None:
    data = rows("binary")
    made = packaging.package(training.fit(model("sklearn.dummy.DummyClassifier"), "binary", data, seed=1), data)
    assert (made.format, made.onnx) == ("skops", None)
    assert made.obstacle is not None
    assert "DummyClassifier" in made.obstacle


def test_missing_and_unseen_categories_are_values_of_their_own() -> None:
    data = rows("binary", 2_000)
    labels = np.array([1.0 if name is None else 0.0 for name in data.categories[:, 1]])
    made = packaging.package(
        training.fit(model(f"{HGB}Classifier"), "binary", replace(data, labels=labels), seed=1), data
    )
    numbers = np.repeat(data.numbers[:1], 3, axis=0)
    texts = np.array([["aa", None], ["aa", "never seen"], ["aa", ""]], dtype=object)
    missing, unseen, empty = Scorer.load("onnx", made.blob).score(Asked(numbers, texts))
    assert missing > 0.7
    assert unseen < 0.3
    assert empty < 0.1


def test_a_time_among_the_features_keeps_its_resolution() -> None:
    """Minutes within 12 days around 2013: float32 alone would round them to 131 s."""
    data = rows("regression", 3_000)
    labels = (data.numbers[:, 3] // 60_000 % 2).astype(np.float64)
    data = replace(data, labels=labels, numbers=data.numbers[:, 3:] - 0.0, number_names=("at",))
    fitted = training.fit(model("sklearn.tree.DecisionTreeRegressor"), "regression", data, seed=1)
    made = packaging.package(fitted, data)
    assert made.format == "onnx"
    assert float(np.mean(Scorer.load("onnx", made.blob).score(data) == labels)) > 0.99


def test_scores_have_the_promised_shapes() -> None:
    shapes: dict[Task, tuple[int, ...]] = {"binary": (7,), "regression": (7,), "multiclass": (7, 3)}
    for task, shape in shapes.items():
        kind = "Regressor" if task == "regression" else "Classifier"
        fitted = training.fit(model(HGB + kind, max_iter=3), task, rows(task), seed=1)
        scorer = Scorer.load("onnx", packaging.to_onnx(fitted))
        some = rows(task).take(np.arange(7))
        assert scorer.score(some).shape == shape
        assert scorer.score(some.take(np.arange(0))).shape == (0, *shape[1:])
    assert fitted.spec.classes == ("high", "low", "middle") or task != "multiclass"


def test_vectors_of_another_shape_are_refused() -> None:
    data = rows("binary")
    scorer = Scorer.load("onnx", packaging.to_onnx(training.fit(model(f"{HGB}Classifier"), "binary", data, seed=1)))
    with pytest.raises(errors.VectorShapeError, match="4 numbers and 2 categories, the vectors have 3 and 2"):
        scorer.score(Asked(data.numbers[:, :3], data.categories))


@pytest.mark.parametrize(
    ("path", "params", "error", "message"),
    [
        ("os.system", {}, errors.EstimatorNotAllowedError, "name a class of scikit-learn"),
        ("sklearn.utils._testing.SomeThing", {}, errors.EstimatorNotAllowedError, "neither"),
        ("sklearn.ensemble.HistGradientBosting", {}, errors.EstimatorNotAllowedError, "no attribute"),
        ("sklearn.metrics.roc_auc_score", {}, errors.EstimatorNotAllowedError, "not an estimator class"),
        (f"{HGB}Classifier", {"max_iters": 3}, errors.EstimatorParameterError, "did you mean 'max_iter'"),
        (f"{HGB}Regressor", {}, errors.WrongKindError, "needs a classifier"),
        ("sklearn.svm.LinearSVC", {}, errors.NoProbabilitiesError, "calibrate"),
        (f"{HGB}Classifier", {"max_iter": -3}, errors.EstimatorFailedError, "max_iter"),
    ],
)
def test_a_wrong_estimator_says_what_would_be_right(
    path: str, params: dict[str, Any], error: type[errors.ModelError], message: str
) -> None:
    with pytest.raises(error, match=message):
        training.fit(model(path, **params), "binary", rows("binary"), seed=1)


def test_labels_that_teach_nothing_are_refused() -> None:
    data = rows("binary")
    with pytest.raises(errors.OneClassError, match="all 800 labels are false"):
        training.fit(model(f"{HGB}Classifier"), "binary", replace(data, labels=np.zeros(800)), seed=1)
    with pytest.raises(errors.TooFewRowsError, match="0 labelled rows"):
        training.fit(model(f"{HGB}Classifier"), "binary", data.take(np.arange(0)), seed=1)


def test_weights_reach_the_estimator() -> None:
    data = rows("regression")
    heavy = np.where(np.asarray(data.labels, dtype=np.float64) > 0, 100.0, 1.0)
    plain = training.fit(model("sklearn.linear_model.Ridge"), "regression", data, seed=1)
    weighted = training.fit(model("sklearn.linear_model.Ridge"), "regression", data, seed=1, weights=heavy)
    assert weighted.score(data).mean() > plain.score(data).mean()


@pytest.mark.parametrize(("format", "blob"), [("onnx", b"no model"), ("skops", b"no archive")])
def test_a_blob_that_is_no_model_is_refused(format: str, blob: bytes) -> None:
    with pytest.raises(errors.MalformedModelError):
        Scorer.load(format, blob)


def test_types_of_others_are_not_trusted() -> None:
    assert not estimators.trusted("subprocess.Popen")
    assert not estimators.trusted("sklearnx.Thing")


def test_the_digest_of_rows_is_of_their_content() -> None:
    data = rows("binary")
    assert data.digest() == rows("binary").digest()
    other = data.categories.copy()
    other[5, 1] = "changed"
    assert replace(data, categories=other).digest() != data.digest()
    assert data.take(np.arange(799)).digest() != data.digest()


def test_the_recipe_digest_changes_with_what_decides() -> None:
    base = training.recipe(model(f"{HGB}Classifier"), "binary", None, "features")
    other = training.recipe(model(f"{HGB}Classifier", max_iter=3), "binary", None, "features")
    assert training.recipe_digest(base) == training.recipe_digest(dict(base))
    assert training.recipe_digest(base) != training.recipe_digest(other)
