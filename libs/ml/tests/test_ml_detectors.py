"""The promise of the detectors, and what they say when something has changed."""

from dataclasses import replace

import numpy as np
import pytest
from trimtab.ml import evidence as evidences
from trimtab.ml.datasets import Dataset
from trimtab.ml.detectors import Alarm, Looks, LoopDetector
from trimtab.ml.evidence import Evidence, normal_scores, upper_p
from trimtab.ml.reference import MOST_NUMBERS, Scored, build, look
from trimtab.ml.seasons import DAY_MS, HOUR_MS, Floats, autocorrelation, centred, innovations
from trimtab.ml.signals import weighted

WEIGHTS = {"loss": 0.5, "estimate": 0.2, "score": 0.1, "features": 0.2}
SIGNALS = weighted(
    [
        ("loss", "loss"),
        ("score", "score"),
        ("feature:a", "feature"),
        ("feature:b", "feature"),
        ("missing:a", "missing"),
    ],
    WEIGHTS,
)
DETECTOR = LoopDetector(SIGNALS, look_ms=DAY_MS, season_ms=7 * DAY_MS, threshold=60.0)
LOSS, SCORE, FEATURE_A, FEATURE_B, MISSING_A = range(5)


def looks(means: Floats) -> Looks:
    start = np.arange(len(means)) * DAY_MS
    return Looks(start, means, np.full(means.shape, 100))


def run(detector: LoopDetector, means: Floats, reference: int) -> tuple[Evidence, list[tuple[int, Alarm]]]:
    """The alarms with the number of the look at which they came."""
    evidence, alarms, all_looks = detector.fresh(), list[tuple[int, Alarm]](), looks(means)
    for t in range(reference, len(means)):
        seen = Looks(all_looks.start_ms[: t + 1], means[: t + 1], all_looks.counts[: t + 1])
        evidence, alarm = detector.judge(evidence, seen)
        if alarm is not None:
            alarms.append((t, alarm))
    return evidence, alarms


def stationary(seed: int, count: int = 200) -> Floats:
    """Heavy-tailed days with a weekly season, signals correlated with each other."""
    rng = np.random.default_rng(seed)
    shared = rng.standard_t(4, size=(count, 1))
    season = np.sin(2 * np.pi * np.arange(count)[:, None] / 7) * np.array([1.0, 3.0, 0.0, 5.0, 0.5])
    return np.asarray(shared + rng.standard_t(4, size=(count, 5)) + season)


def test_the_promise_holds_while_nothing_changes() -> None:
    alarms = sum(len(run(DETECTOR, stationary(seed), 14)[1]) for seed in range(30))
    assert alarms / (30 * 186) * 60 <= 1.0


def test_the_promise_holds_for_looks_that_remember() -> None:
    total = 0
    for seed in range(15):
        steps = stationary(seed)
        remembering = np.zeros_like(steps)
        for t in range(1, len(steps)):
            remembering[t] = 0.6 * remembering[t - 1] + steps[t]
        total += len(run(DETECTOR, remembering, 28)[1])
    assert total / (15 * 172) * 60 <= 1.0


def test_a_jump_of_the_loss_is_found_named_and_dated() -> None:
    found = []
    for seed in range(10):
        means = stationary(seed)
        means[100:, LOSS] += 4.0
        first = next((t, alarm) for t, alarm in run(DETECTOR, means, 30)[1] if t >= 98)
        found.append(first)
    assert np.median([t - 100 for t, _ in found]) <= 6
    for _, alarm in found:
        leading = alarm.signals[0]
        assert (leading.name, leading.kind, leading.drifted) == ("loss", "loss", True)
        assert leading.shift_sd is not None
        assert leading.shift_sd > 1.0
        assert alarm.evidence >= alarm.threshold
    assert np.median([abs(alarm.since_ms / DAY_MS - 100) for _, alarm in found]) <= 2


def test_a_loss_that_falls_is_no_drift() -> None:
    means = stationary(1)
    means[100:, LOSS] -= 6.0
    assert [t for t, alarm in run(DETECTOR, means, 30)[1] if t >= 100 and alarm.signals[0].name == "loss"] == []


def test_a_drift_is_told_once() -> None:
    means = stationary(3, count=160)
    means[60:, LOSS] += 6.0
    assert len([alarm for _, alarm in run(DETECTOR, means, 30)[1] if alarm.signals[0].name == "loss"]) == 1


def test_evidence_survives_as_bytes() -> None:
    evidence, _ = run(DETECTOR, stationary(2, count=60), 30)
    again = evidences.unpack(evidence.pack())
    assert again.pack() == evidence.pack()
    np.testing.assert_array_equal(again.m, evidence.m)
    np.testing.assert_array_equal(again.began_ms, evidence.began_ms)
    assert again.looks == evidence.looks == 30


def test_the_same_looks_give_the_same_evidence() -> None:
    first, again = (run(DETECTOR, stationary(4, count=60), 30)[0].pack() for _ in range(2))
    assert first == again


def test_labels_that_come_as_looks_of_their_own_say_the_same() -> None:
    """What is NaN in a look neither counts in it nor comes between the looks before and after it."""
    means = stationary(5, count=50)
    patient = replace(DETECTOR, threshold=1e9)
    together = run(patient, means, 30)[0]
    evidence, start, rows = patient.fresh(), list[int](), list[Floats]()
    for t in range(50):
        label, shown = means[t].copy(), means[t].copy()
        label[1:], shown[LOSS] = np.nan, np.nan
        for row in (shown, label):
            start.append(t * DAY_MS)
            rows.append(row)
            if t >= 30:
                seen = Looks(np.array(start), np.array(rows), np.full((len(rows), 5), 100))
                evidence, _ = patient.judge(evidence, seen)
    np.testing.assert_allclose(evidence.m, together.m)


def test_p_is_uniform_and_ties_are_broken_by_a_fixed_draw() -> None:
    rng = np.random.default_rng(0)
    found = np.array([upper_p(rng.integers(0, 4, (40, 1)).astype(np.float64), seed=i)[0] for i in range(3_000)])
    assert found.mean() == pytest.approx(0.5, abs=0.02)
    assert np.quantile(found, 0.1) == pytest.approx(0.1, abs=0.02)
    assert np.isnan(upper_p(np.array([[1.0], [np.nan]]), seed=0)[0])


def test_bets_have_mean_one() -> None:
    z = normal_scores((np.arange(100_000) + 0.5) / 100_000)
    for shift in evidences.SHIFTS:
        assert np.exp(shift * z - shift**2 / 2).mean() == pytest.approx(1.0, abs=0.05)


def test_a_season_is_taken_out_and_none_is_made_up() -> None:
    rng = np.random.default_rng(0)
    start = np.arange(28 * 24) * HOUR_MS
    by_hour = 10 * np.sin(2 * np.pi * (start % DAY_MS) / DAY_MS)
    noise = rng.normal(size=len(start))
    both = np.column_stack([by_hour + noise, noise])
    left = centred(start, both, HOUR_MS, 7 * DAY_MS)
    assert left[:, 0].std() == pytest.approx(1.0, abs=0.2)
    assert left[:, 1].std() == pytest.approx(1.0, abs=0.1)
    assert abs(autocorrelation(left)[0]) < 0.15


def test_memory_is_taken_out_only_where_there_is_some() -> None:
    rng = np.random.default_rng(1)
    steps = rng.normal(size=(400, 2))
    walk = steps.copy()
    for t in range(1, 400):
        walk[t, 0] += 0.7 * walk[t - 1, 0]
    left = innovations(walk)
    assert abs(autocorrelation(left)[0]) < 0.1
    np.testing.assert_array_equal(left[:, 1], walk[:, 1])


def test_weights_of_what_is_not_there_go_to_the_rest() -> None:
    assert sum(signal.weight for signal in SIGNALS) == pytest.approx(1.0)
    by_name = {signal.name: signal.weight for signal in SIGNALS}
    assert by_name["loss"] / by_name["score"] == pytest.approx(5.0)
    assert by_name["feature:b"] == pytest.approx(2 * by_name["feature:a"])
    assert [s.name for s in weighted([("loss", "loss"), ("score", "score")], {"loss": 1.0})] == ["loss"]


def holdout(count: int = 14 * 60) -> Dataset:
    rng = np.random.default_rng(0)
    numbers = np.column_stack([rng.normal(size=count), np.full(count, np.nan)])
    numbers[::4, 0] = np.inf
    labels = (rng.random(count) < 0.3).astype(np.float64)
    texts = np.array(["aa", "b"], dtype=object)[rng.integers(0, 2, (count, 1))]
    texts[::3] = None
    return Dataset(
        number_names=("x", "never"),
        category_names=("carrier",),
        keys=np.array([str(i) for i in range(count)], dtype=object),
        at_ms=np.arange(count) * (24 * 60_000) + 5 * DAY_MS,
        numbers=numbers,
        categories=texts,
        labels=labels,
        versions=np.full(count, -1),
        scores=np.full(count, np.nan),
    )


def test_a_reference_holds_each_signal_by_look() -> None:
    rows = holdout()
    scores = np.full(len(rows), 0.3)
    found = build(rows, Scored(rows, scores, np.abs(rows.labels - scores)), "log_loss", 7 * DAY_MS)
    assert found.from_ms == 5 * DAY_MS
    assert (found.look_ms, found.season_ms) == (DAY_MS, 7 * DAY_MS)
    assert set(found.signals) == {
        "score", "loss", "estimate", "feature:x", "missing:x", "feature:never", "missing:never", "feature:carrier",
        "missing:carrier", "unseen:carrier",
    }  # fmt: skip
    x = found.signals["feature:x"]
    assert x.low is not None
    assert x.low < -1
    assert x.high is not None
    assert np.isfinite(x.high)
    assert sum(x.counts) == len(rows) * 3 // 4
    assert found.signals["feature:never"].means[0] is None
    assert found.signals["missing:never"].means[0] == 1.0
    assert found.signals["feature:carrier"].categories == ("aa", "b")
    assert found.signals["unseen:carrier"].means[0] == 0.0
    assert found.signals["estimate"].means[0] == pytest.approx(-(0.3 * np.log(0.3) + 0.7 * np.log(0.7)))


def test_a_reference_of_very_many_numbers_keeps_the_newest_looks() -> None:
    rows = holdout()
    wide = replace(
        rows,
        numbers=np.zeros((len(rows), 1_000)),
        number_names=tuple(f"n{i}" for i in range(1_000)),
        categories=rows.categories[:, :0],
        category_names=(),
    )
    scores = np.full(len(rows), 0.3)
    found = build(wide, Scored(wide, scores, scores), "log_loss", 7 * DAY_MS)
    assert len(found.signals["loss"].means) == MOST_NUMBERS // len(found.signals)
    assert found.from_ms + len(found.signals["loss"].means) * found.look_ms > rows.at_ms[-1]
    assert sum(found.signals["loss"].counts) < len(rows)


def test_an_empty_holdout_gives_a_reference_without_looks() -> None:
    rows = holdout()
    nothing = rows.take(np.arange(0))
    found = build(rows, Scored(nothing, np.empty(0), np.empty(0)), "log_loss", 0)
    assert found.signals["loss"].means == ()
    assert found.signals["feature:x"].high is not None


@pytest.mark.parametrize(
    ("per_day", "memory", "expected"),
    [(2_000, 0.0, HOUR_MS), (2_000, 0.9, DAY_MS), (100, 0.0, 12 * HOUR_MS), (5, 0.0, 10 * DAY_MS)],
)
def test_a_look_is_the_shortest_that_tells_nothing_of_the_next(per_day: float, memory: float, expected: int) -> None:
    rng = np.random.default_rng(0)
    count = max(int(14 * per_day), 150)
    at = (np.arange(count) * (DAY_MS / per_day)).astype(np.int64)
    hourly = rng.normal(size=int(at[-1] // HOUR_MS) + 1)
    for t in range(1, len(hourly)):
        hourly[t] += memory * hourly[t - 1]
    series = hourly[at // HOUR_MS] + rng.normal(size=count)
    assert look(at, [series], 7 * DAY_MS) == expected
