"""Metrics agree with scikit-learn's, and the gate keeps its error rates on rows that come in correlated days."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from sklearn import metrics as reference
from trimtab.ml import gate, metrics
from trimtab.ml.errors import MetricNotForTaskError

DAY = 86_400_000


@given(st.integers(2, 200), st.integers(0, 10_000))
@settings(max_examples=40)
def test_binary_metrics_are_scikit_learns(count: int, seed: int) -> None:
    rng = np.random.default_rng(seed)
    labels = (rng.random(count) < 0.4).astype(np.float64)
    labels[:2] = 0, 1
    scores = rng.random(count).round(1) * 0.98 + 0.01
    found = metrics.measure("binary", labels, scores)
    assert found["log_loss"] == pytest.approx(reference.log_loss(labels, scores))
    assert found["brier"] == pytest.approx(reference.brier_score_loss(labels, scores))
    assert found["auc"] == pytest.approx(reference.roc_auc_score(labels, scores))
    assert found["accuracy"] == pytest.approx(reference.accuracy_score(labels, scores >= 0.5))


def test_multiclass_and_regression_metrics_are_scikit_learns() -> None:
    rng = np.random.default_rng(0)
    labels, scores = rng.integers(0, 3, 100).astype(np.float64), rng.dirichlet([1, 1, 1], 100)
    found = metrics.measure("multiclass", labels, scores)
    assert found["log_loss"] == pytest.approx(reference.log_loss(labels, scores))
    assert found["accuracy"] == pytest.approx(reference.accuracy_score(labels, scores.argmax(1)))
    values, guesses = rng.normal(size=100), rng.normal(size=100)
    found = metrics.measure("regression", values, guesses)
    assert found["rmse"] == pytest.approx(reference.root_mean_squared_error(values, guesses))
    assert found["mae"] == pytest.approx(reference.mean_absolute_error(values, guesses))


def test_a_class_the_model_never_saw_costs_the_most_and_is_never_right() -> None:
    labels = metrics.codes(np.array(["a", "new"], dtype=object), ["a", "b"])
    scores = np.array([[0.9, 0.1], [0.9, 0.1]])
    assert metrics.row_losses("log_loss", labels, scores)[1] == pytest.approx(-np.log(metrics.FLOOR))
    assert metrics.row_losses("accuracy", labels, scores).tolist() == [1.0, 0.0]
    assert metrics.row_losses("brier", labels, scores)[0] == pytest.approx(0.02)


def test_auc_within_a_day_is_the_mean_of_the_days() -> None:
    rng = np.random.default_rng(1)
    days = np.repeat(np.arange(5), 40)
    labels = (rng.random(200) < 0.3).astype(np.float64)
    scores = rng.random(200) + days  # days apart tell much of the pooled order and nothing of the order within
    by_day = [reference.roc_auc_score(labels[days == day], scores[days == day]) for day in range(5)]
    assert metrics.auc_within(labels, scores, days) == pytest.approx(np.mean(by_day))


def test_calibration_error_is_zero_for_shares_that_come_true_and_the_shift_for_shifted_ones() -> None:
    labels = np.tile([0.0, 0.0, 0.0, 1.0], 150)
    assert metrics.calibration_error(labels, np.full(600, 0.25)) == pytest.approx(0.0)
    assert metrics.calibration_error(labels, np.full(600, 0.45)) == pytest.approx(0.2)


def test_what_is_not_defined_is_left_out() -> None:
    found = metrics.measure("binary", np.zeros(5), np.full(5, 0.1))
    assert "auc" not in found
    assert metrics.measure("binary", np.empty(0), np.empty(0)) == {}


def test_a_metric_of_another_task_is_refused() -> None:
    with pytest.raises(MetricNotForTaskError, match="mae, mse, rmse"):
        metrics.check("auc", "regression")
    assert metrics.check("log_loss", "multiclass") == "log_loss"


def judge(rule: gate.Rule = "not_worse", metric: metrics.Metric = "log_loss", margin: float = 0.02) -> gate.Judge:
    return gate.Judge(metric=metric, rule=rule, margin=margin, confidence=0.9, block_ms=DAY, seed=3)


def days(
    seed: int, worse: float, count: int = 28
) -> tuple[NDArray[np.int64], NDArray[np.float64], NDArray[np.float64]]:
    """Losses of two models over days that hit both, and one of them a little more or less than the other."""
    rng = np.random.default_rng(seed)
    at = np.repeat(np.arange(count) * DAY, 200)
    base = rng.gamma(2.0, 0.25, len(at))
    by_day = np.repeat(rng.normal(worse, 0.02, count), 200)
    return at, base + by_day, base


def passed(rule: gate.Rule, worse: float, seeds: int = 150) -> float:
    """How often a challenger passes whose loss (about 0.5) is `worse` by so much."""
    return float(np.mean([gate.compare_losses(judge(rule), *days(seed, worse)).passed for seed in range(seeds)]))


def test_the_gate_passes_what_it_should_and_seldom_what_it_should_not() -> None:
    assert passed("not_worse", worse=0.010) <= 0.15  # at the margin: 10% nominal
    assert passed("not_worse", worse=0.0) >= 0.75
    assert passed("better", worse=0.0) <= 0.15
    assert passed("better", worse=-0.015) >= 0.95


def test_the_same_seed_gives_the_same_bounds() -> None:
    assert gate.compare_losses(judge(), *days(0, 0.0)) == gate.compare_losses(judge(), *days(0, 0.0))


def test_for_auc_higher_is_better() -> None:
    rng = np.random.default_rng(5)
    labels = (rng.random(4_000) < 0.3).astype(np.float64)
    at = np.repeat(np.arange(20) * DAY, 200)
    good, bad = labels + rng.normal(size=4_000), labels + 3 * rng.normal(size=4_000)
    assert gate.compare(judge("better", "auc"), labels, at, good, bad).passed
    assert not gate.compare(judge("not_worse", "auc"), labels, at, bad, good).passed


def test_nothing_passes_on_a_day_or_two() -> None:
    at, better, worse = days(0, -0.3, count=2)
    found = gate.compare_losses(judge("better"), at, better, worse)
    assert not found.passed
    assert found.measured.blocks == 2
    empty = gate.compare_losses(judge(), at[:0], better[:0], worse[:0])
    assert not empty.passed
    assert empty.measured.rows == 0


def test_compare_and_compare_losses_agree() -> None:
    rng = np.random.default_rng(2)
    labels, at = rng.normal(size=600), np.repeat(np.arange(6) * DAY, 100)
    first, second = labels + rng.normal(size=600), labels + rng.normal(size=600)
    whole = gate.compare(judge(metric="rmse"), labels, at, first, second)
    by_loss = gate.compare_losses(
        judge(metric="rmse"), at, metrics.row_losses("rmse", labels, first), metrics.row_losses("rmse", labels, second)
    )
    assert whole == by_loss
