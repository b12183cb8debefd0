"""Training as a pure function: verdicts, baselines, the same bytes for the same rows."""

from concurrent.futures import Executor, Future, ThreadPoolExecutor
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from trimtab.ml import training
from trimtab.ml.datasets import Dataset
from trimtab.ml.scoring import Scorer
from trimtab.testing.declarations import offers
from trimtab.trainer.core import Job, Known, Trained, cut, train
from trimtab.trainer.errors import ModelFailedError, TooFewMaturedRowsError

DAY = 86_400_000
LOOP = offers(model={"estimator": "sklearn.linear_model.LogisticRegression", "metric": "log_loss"})
AT = 60 * DAY


def rows(signal: float = 1.5, seed: int = 1) -> Dataset:
    """Offers of 58 days, clicked on the likelier the cheaper they are (if `signal` is not 0) and at the top."""
    rng = np.random.default_rng(seed)
    n = 3_000
    price = rng.normal(size=n)
    place = rng.choice(["top", "side"], n)
    chance = 1 / (1 + np.exp(signal * price - (place == "top")))
    return Dataset(
        number_names=("price",),
        category_names=("place",),
        keys=np.array([f"{i:05}" for i in range(n)], dtype=object),
        at_ms=np.sort(rng.integers(0, 58 * DAY, n)),
        numbers=price.reshape(-1, 1),
        categories=place.astype(object).reshape(-1, 1),
        labels=(rng.random(n) < chance).astype(np.float64),
        versions=np.full(n, -1),
        scores=np.full(n, np.nan),
    )


def known(
    trained: Trained, version: int, until_ms: int, features: str = LOOP.features.digest, recipe: str | None = None
) -> Known:
    package = trained.package
    return Known(version, Scorer.load(package.format, package.blob), until_ms, features, recipe)


def test_the_first_model_has_to_beat_the_constant() -> None:
    good = train(Job(LOOP, AT, None, None), rows())
    assert good.verdict == "first"
    assert good.fits == 2
    assert [one.against for one in good.compared] == ["constant"]
    assert good.metrics["auc"] > 0.7
    noise = replace(rows(), labels=np.random.default_rng(0).integers(0, 2, 3_000).astype(np.float64))
    poor = train(Job(LOOP, AT, None, None), noise)
    assert poor.verdict == "failed"
    assert poor.fits == 1


class Never(Executor):
    """Takes work and does not get round to it."""

    def submit(self, fn: Any, /, *_: Any, **__: Any) -> Future[Any]:
        return Future()


def test_a_refit_that_began_ahead_is_the_same_and_nobody_waits_for_it_in_vain() -> None:
    trees = offers(model={"estimator": "sklearn.ensemble.HistGradientBoostingClassifier", "metric": "log_loss"})
    job = Job(trees, AT, None, None)
    with ThreadPoolExecutor(1) as beside:
        ahead, after = train(job, rows(), beside=beside), train(job, rows())
    assert (ahead.verdict, ahead.fits) == ("first", 2)
    assert ahead.package == after.package
    noise = replace(rows(), labels=np.random.default_rng(0).integers(0, 2, 3_000).astype(np.float64))
    assert train(job, noise, beside=Never()).package == train(job, noise).package


def test_a_challenger_is_compared_on_rows_later_than_the_champions_training() -> None:
    champion = train(Job(LOOP, AT, None, None), rows())
    again = train(Job(LOOP, AT, known(champion, 1, 50 * DAY), None), rows())
    assert again.verdict == "passed"
    (against,) = [one for one in again.compared if one.against == "champion"]
    assert against.version == 1
    later = (rows().at_ms > 50 * DAY) & (rows().at_ms >= AT - LOOP.label.mature_ms - LOOP.gate.holdout_ms)
    assert against.comparison.measured.rows == int(later.sum())


def test_without_rows_that_neither_has_seen_nothing_passes() -> None:
    champion = train(Job(LOOP, AT, None, None), rows())
    assert train(Job(LOOP, AT, known(champion, 1, 59 * DAY), None), rows()).verdict == "failed"


def test_a_challenger_that_learned_of_another_world_fails() -> None:
    champion = train(Job(LOOP, AT, None, None), rows())
    holdout_ms = AT - LOOP.label.mature_ms - LOOP.gate.holdout_ms
    other = rows(signal=-1.5)
    mixed = replace(rows(), labels=np.where(rows().at_ms < holdout_ms, other.labels, rows().labels))
    assert train(Job(LOOP, AT, known(champion, 1, 0), None), mixed).verdict == "failed"


def test_the_same_rows_give_the_same_bytes() -> None:
    one, two = (train(Job(LOOP, AT, None, None), rows()) for _ in range(2))
    assert one.package.digest == two.package.digest
    assert one.package.skops_digest == two.package.skops_digest
    assert one.rows.digest() == two.rows.digest()


@pytest.mark.parametrize(
    ("labels", "error"), [(np.zeros(3_000), ModelFailedError), (np.full(3_000, 1.0), ModelFailedError)]
)
def test_one_class_alone_says_so(labels: np.ndarray, error: type[Exception]) -> None:
    with pytest.raises(error, match=r"class|label"):
        train(Job(LOOP, AT, None, None), replace(rows(), labels=labels))


def test_an_empty_dataset_says_so() -> None:
    with pytest.raises(TooFewMaturedRowsError):
        train(Job(LOOP, AT, None, None), rows().take(np.zeros(3_000, dtype=np.bool_)))


def test_the_reference_is_of_the_holdout() -> None:
    trained = train(Job(LOOP, AT, None, None), rows())
    assert {"score", "loss", "estimate", "feature:price", "missing:price"} <= set(trained.reference.signals)
    assert trained.reference.from_ms >= AT - LOOP.label.mature_ms - LOOP.gate.holdout_ms - DAY


def test_another_recipe_than_the_champions_has_to_be_better() -> None:
    champion = train(Job(LOOP, AT, None, None), rows())
    same = training.declared_digest(LOOP.model, LOOP.task, LOOP.train.window_ms, LOOP.features.digest)
    refresh = train(Job(LOOP, AT, known(champion, 1, 0, recipe=same), None), rows())
    changed = train(Job(LOOP, AT, known(champion, 1, 0, recipe="another"), None), rows())
    assert (refresh.rule, refresh.verdict) == ("not_worse", "passed")
    assert (changed.rule, changed.verdict) == ("better", "failed")


def test_a_champion_of_other_features_is_no_champion() -> None:
    """It cannot answer what is asked now; whoever beats the constant is the first that can."""
    champion = train(Job(LOOP, AT, None, None), rows())
    other = known(champion, 1, 0, features="others")
    found = train(Job(LOOP, AT, other, other), rows())
    assert found.verdict == "first"
    assert [one.against for one in found.compared] == ["constant"]


def test_a_short_history_gives_two_thirds_to_the_fit() -> None:
    short = rows().between(0, 6 * DAY)
    parts = cut(LOOP, short, 6 * DAY + LOOP.label.mature_ms)
    assert parts.held_out.at_ms.min() >= 4 * DAY
    assert parts.held_out.at_ms.min() < 4 * DAY + DAY // 4
    assert len(parts.fit) > len(parts.held_out)
