"""The tables that say how a loop learns: `[model]`, `[train]`, `[gate]`, `[drift]`, `[retrain]`."""

import re
from collections.abc import Callable, Mapping, Sequence
from importlib.metadata import entry_points
from typing import Any, Literal, cast

from trimtab.loops.declaration.quantities import (
    DAY_MS,
    HOUR_MS,
    QuantityError,
    duration_ms,
    rate,
    share,
)
from trimtab.loops.declaration.reading import Section, choices
from trimtab.loops.model import Drift, Gate, Model, Retrain, Task, Train

METRICS: Mapping[Task, Sequence[str]] = {
    "binary": ("log_loss", "brier", "auc", "accuracy"),
    "multiclass": ("log_loss", "brier", "accuracy"),
    "regression": ("mae", "mse", "rmse"),
}
BASELINES = ("constant", "first_model")
SIGNALS = ("loss", "estimate", "score", "features")
DRIFT_WEIGHTS: Mapping[str, float] = {"loss": 0.5, "estimate": 0.2, "score": 0.1, "features": 0.2}
HOLDOUT_MS = 14 * DAY_MS
WEEK_MS = 7 * DAY_MS
FIRST_ROWS = 2_000
FIRST_POSITIVES = 50

_ESTIMATOR = re.compile(r"sklearn(\.[A-Za-z_]\w*)+")


def read_model(section: Section, task: Task) -> Model:
    estimator = section.required("estimator", '"sklearn.ensemble.HistGradientBoostingClassifier"')
    if estimator:
        _check_estimator(section, estimator, task)
    calibrate = section.choice("calibrate", ("none", "sigmoid"), "none")
    if calibrate == "sigmoid" and task == "regression":
        section.wrong("calibrate", "a regression has no probabilities to calibrate", 'calibrate = "none"')
    model = Model(
        estimator=estimator,
        params=section.table("params"),
        calibrate=cast(Literal["sigmoid", "none"], calibrate),
        metric=section.choice("metric", METRICS[task], METRICS[task][0]),
    )
    section.close()
    return model


def _check_estimator(section: Section, estimator: str, task: Task) -> None:
    if not _ESTIMATOR.fullmatch(estimator) and estimator not in entry_points(group="trimtab.estimators").names:
        right = "a class of scikit-learn by its import path, such as sklearn.linear_model.LogisticRegression"
        section.wrong("estimator", f"`{estimator}` is neither in scikit-learn nor an installed plugin", right)
    if estimator.endswith("Regressor") and task != "regression":
        section.wrong("estimator", f"`{estimator}` predicts numbers, and the task is {task}", "a classifier")
    if estimator.endswith("Classifier") and task == "regression":
        section.wrong("estimator", f"`{estimator}` predicts classes, and the task is regression", "a regressor")


def read_train(section: Section, task: Task) -> Train:
    first = section.section("first_after")
    rows = _count(first, "rows", FIRST_ROWS)
    positives = 0
    if task == "binary":
        positives = _count(first, "positives", FIRST_POSITIVES)
    elif "positives" in first:
        first.value("positives", int, 0)
        first.wrong("positives", f"a {task} task has no positives", "leave it out")
    first.close()
    window = section.text("window", "all")
    train = Train(
        window_ms=None if window == "all" else section.positive("window", _window, WEEK_MS),
        first_rows=rows,
        first_positives=positives,
        fit_time_ms=section.parsed("fit_time", duration_ms, 0),
    )
    section.close()
    return train


def _window(text: str) -> int:
    try:
        return duration_ms(text)
    except QuantityError as error:
        raise QuantityError(error.wrong, '"all", or a duration such as "180d"') from error


def read_gate(section: Section) -> Gate:
    baselines = section.texts("baselines", ("constant",))
    for number, name in enumerate(baselines):
        path = (*section.at("baselines"), number)
        if name.startswith("seasonal_naive"):
            section.report.add(path, "this baseline is part of the format but not yet supported", choices(BASELINES))
        elif name not in BASELINES:
            section.report.unknown(path, name, BASELINES, "baseline")
    confidence = section.value("confidence", float, 0.9)
    if not 0.5 <= confidence < 1:
        section.wrong("confidence", f"{confidence} is no confidence", "a number from 0.5 to below 1, such as 0.9")
    gate = Gate(
        holdout_ms=section.positive("holdout", duration_ms, HOLDOUT_MS),
        rule=cast(Literal["not_worse", "better"], section.choice("rule", ("not_worse", "better"), "not_worse")),
        margin=section.parsed("margin", share, 0.02),
        confidence=confidence,
        block_ms=section.positive("block", duration_ms, DAY_MS),
        baselines=baselines,
        watch_ms=section.parsed("watch", duration_ms, WEEK_MS),
    )
    if gate.block_ms > gate.holdout_ms:
        section.wrong("block", "is longer than the holdout that it divides", 'block = "1d"')
    section.close()
    return gate


def read_drift(section: Section) -> Drift:
    weights = section.section("weights")
    declared = {name: weights.value(name, float, 0.0) for name in SIGNALS if name in weights}
    weights.close()
    if declared and (min(declared.values()) < 0 or abs(sum(declared.values()) - 1) > 1e-6):
        section.wrong("weights", f"the weights sum to {sum(declared.values()):g}", "weights from 0 that sum to 1")
    drift = Drift(
        false_alarms_ms=section.parsed("false_alarms", mean_time_ms, 60 * DAY_MS),
        season_ms=section.positive("season", duration_ms, WEEK_MS),
        weights={**dict.fromkeys(SIGNALS, 0.0), **(declared or DRIFT_WEIGHTS)},
    )
    if drift.season_ms % HOUR_MS:
        section.wrong("season", "must be whole hours", 'season = "1d" or "7d"')
    section.close()
    return drift


def mean_time_ms(text: str) -> int:
    """The mean time between events of a rate: "1 per 60d" is 60 days.

    >>> mean_time_ms("2 per 60d") == 30 * DAY_MS
    True
    """
    count, per_ms = rate(text)
    return max(1, per_ms // count)


def read_retrain(section: Section) -> Retrain:
    on = section.texts("on", ("loss", "estimate"))
    for number, name in enumerate(on):
        if name not in SIGNALS:
            section.report.unknown((*section.at("on"), number), name, SIGNALS, "kind of drift")
    grown = section.value("grown", float, 1.5)
    if grown <= 1 and grown != 0:
        section.wrong("grown", f"rows grown {grown:g}-fold have not grown", "a factor above 1, such as 1.5; 0: never")
    retrain = Retrain(
        on=on,
        grown=grown or None,
        max_age_ms=_optional(section, "max_age"),
        every_ms=_optional(section, "every"),
        cooldown_ms=section.parsed("cooldown", duration_ms, WEEK_MS),
        budget=section.parsed("budget", rate, (24, 365 * DAY_MS)),
    )
    section.close()
    return retrain


def _optional(section: Section, key: str) -> int | None:
    return section.positive(key, duration_ms, 0) or None if key in section else None


def _count(section: Section, key: str, default: int) -> int:
    found = section.value(key, int, default)
    if found < 1:
        section.wrong(key, f"{found} rows are too few to learn from", f"{key} = {default}")
    return found


def not_json(value: Any, path: tuple[str | int, ...], note: Callable[[tuple[str | int, ...], str], None]) -> None:
    """Notes what JSON, which carries a declaration, cannot hold: dates and times, infinities, NaN."""
    if isinstance(value, dict):
        for key, inner in value.items():
            not_json(inner, (*path, key), note)
    elif isinstance(value, list):
        for number, inner in enumerate(value):
            not_json(inner, (*path, number), note)
    elif not isinstance(value, str | int | float) or value in (float("inf"), -float("inf")) or value != value:
        note(path, f"{value} cannot be carried")
