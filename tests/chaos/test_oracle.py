"""The oracle finds what is wrong: a judge that finds nothing proves nothing."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import polars as pl
import pytest
from oracle import Found, Settled, Wrong, features, judged
from orders import MINUTE_MS, Order, Rating, Stream, declared
from trimtab.contracts import topics
from trimtab.loops.model import Loop
from trimtab.testing.plane import Serving, violations
from verdict import Row, together

BEGAN_MS = 1_700_000_000_000


@pytest.fixture(scope="module")
def loop(tmp_path_factory: pytest.TempPathFactory) -> Loop:
    folder: Path = tmp_path_factory.mktemp("chaos") / "orders"
    return declared(folder, "1d")


@pytest.fixture(scope="module")
def stream() -> Stream:
    made = Stream(3, BEGAN_MS, 2 * MINUTE_MS)
    for _ in range(40):
        made.piece(20)
    made.rest()
    return made


@pytest.fixture
def right(loop: Loop, stream: Stream) -> Found:
    """What an exact system leaves."""
    due = features(loop, stream.orders, stream.ratings)
    rows = [{"key": key, **{f"feature {name}": value for name, value in row.items()}} for key, row in due.items()]
    places = [(0, number) for number in range(len(rows))]
    return Found(
        events={
            "ordered": Counter(one.id for one in stream.orders),
            "rated": Counter(one.id for one in stream.ratings),
        },
        predictions=pl.DataFrame(rows, infer_schema_length=None),
        outcomes=settled(stream.orders, stream.ratings),
        live=(places, places),
        final=(places, places),
    )


def settled(orders: Sequence[Order], ratings: Sequence[Rating]) -> list[Settled]:
    of_order: dict[str, list[float]] = {one.id: [] for one in orders}
    for one in sorted(ratings, key=lambda one: one.number):
        of_order[one.order].append(one.stars)
    return [
        Settled(key, number, label) for key, stars in of_order.items() for number, label in enumerate(stars or [None])
    ]


def counts(wrong: Wrong) -> tuple[int, int, int, int]:
    return len(wrong.lost), len(wrong.doubled), len(wrong.out_of_order), len(wrong.aggregates)


def judge(loop: Loop, stream: Stream, found: Found) -> tuple[int, int, int, int]:
    return counts(judged(loop, stream.orders, stream.ratings, found))


def test_nothing_is_wrong_with_what_is_right(loop: Loop, stream: Stream, right: Found) -> None:
    assert judge(loop, stream, right) == (0, 0, 0, 0)
    assert len({one.customer for one in stream.orders}) > 500
    assert any(one.number for one in stream.ratings)


def test_a_prediction_is_missing_or_there_twice(loop: Loop, stream: Stream, right: Found) -> None:
    assert judge(loop, stream, replace(right, predictions=right.predictions[1:])) == (1, 0, 0, 0)
    twice = pl.concat([right.predictions, right.predictions[:1]])
    assert judge(loop, stream, replace(right, predictions=twice)) == (0, 1, 0, 0)


def test_an_accepted_event_is_missing_or_there_twice(loop: Loop, stream: Stream, right: Found) -> None:
    some = stream.ratings[0].id
    for change, told in ((-1, (1, 0, 0, 0)), (1, (0, 1, 0, 0))):
        rated = Counter(right.events["rated"])
        rated[some] += change
        assert judge(loop, stream, replace(right, events={**right.events, "rated": rated})) == told


def test_an_outcome_is_missing_doubled_wrong_or_in_the_wrong_place(loop: Loop, stream: Stream, right: Found) -> None:
    corrected = next(one.order for one in stream.ratings if one.number)
    own = [one for one in right.outcomes if one.key == corrected]
    others = [one for one in right.outcomes if one.key != corrected]

    def told(outcomes: Sequence[Settled]) -> tuple[int, int, int, int]:
        return judge(loop, stream, replace(right, outcomes=[*others, *outcomes]))

    assert told([]) == (1, 0, 0, 0)
    assert told([*own, own[-1]]) == (0, 1, 1, 0)
    assert told([own[1], own[0], *own[2:]])[2] == 1
    assert told(own[:-1]) == (0, 0, 0, 1)
    assert told([*own, replace(own[-1], revision=len(own))]) == (0, 0, 1, 0)
    assert told([*own, replace(own[-1], revision=len(own), suspect=True)]) == (0, 0, 0, 0)
    assert told([Settled(corrected, 0, 99.0)]) == (0, 0, 0, 1)


@pytest.mark.parametrize("name", ["customer_n_6h", "customer_n_7d", "customer_spent_7d", "rated_n_1d"])
def test_one_event_more_or_less_in_a_window_shows(loop: Loop, stream: Stream, right: Found, name: str) -> None:
    column = f"feature {name}"
    at = right.predictions[column].is_not_null().arg_max() or 0
    off = pl.when(pl.int_range(pl.len()) == at).then(pl.col(column) + 1).otherwise(pl.col(column)).alias(column)
    assert judge(loop, stream, replace(right, predictions=right.predictions.with_columns(off))) == (0, 0, 0, 1)


def test_what_was_read_and_is_gone_was_never_promised(loop: Loop, stream: Stream, right: Found) -> None:
    gone = (right.final[0], right.final[1][1:])
    assert judge(loop, stream, replace(right, final=gone)) == (1, 0, 0, 0)
    assert judge(loop, stream, replace(right, live=gone)) == (1, 0, 0, 0)


def control(**events: Sequence[Mapping[str, Any]]) -> dict[str, list[Any]]:
    """A drift that led to a retrain, a model, a version and a deployment, with what is changed in it."""
    whole: dict[str, Sequence[Mapping[str, Any]]] = {
        topics.DRIFT_DETECTED: [{"drift_id": "d"}],
        topics.RETRAIN_REQUESTED: [{"request_id": "r", "at_ms": 1, "cause": SimpleNamespace(drift_id="d")}],
        topics.MODEL_TRAINED: [{"request_id": "r", "at_ms": 1}],
        topics.TRAINING_FAILED: [],
        topics.MODEL_REGISTERED: [{"request_id": "r", "at_ms": 1, "version": 1}],
        topics.DEPLOYMENT_CHANGED: [{"sequence": 1}],
        **{name.replace("_", "."): some for name, some in events.items()},
    }
    return {name: [SimpleNamespace(**one) for one in some] for name, some in whole.items()}


def told(serving: Serving = Serving(1, 1, [1]), **events: Sequence[Mapping[str, Any]]) -> list[str]:  # noqa: B008  # frozen
    return [one.what for one in violations(control(**events), serving)]


def test_a_control_plane_that_fits_together_is_right() -> None:
    assert told() == []


def test_every_broken_rule_of_the_control_plane_is_told() -> None:
    asked = {"request_id": "r", "at_ms": 1, "cause": SimpleNamespace(drift_id="d")}
    again = {**asked, "request_id": "s"}
    assert "drift d led to 2 retrains" in told(retrain_requested=[asked, again])
    assert "drift d was told 2 times" in told(drift_detected=[{"drift_id": "d"}] * 2)
    assert "1 requests s had 0 ends" in told(retrain_requested=[asked, again])
    assert "1 requests r had 2 ends" in told(training_failed=[{"request_id": "r"}])
    assert "2 requests r had 1 ends" in told(retrain_requested=[asked, asked])
    assert "x was trained unasked" in told(training_failed=[{"request_id": "x"}])
    assert "the model of r had 0 verdicts" in told(model_registered=[])
    assert "versions are [2]" in told(model_registered=[{"request_id": "r", "version": 2}])
    assert "deployments are [1, 3]" in told(deployment_changed=[{"sequence": 1}, {"sequence": 3}])


@pytest.mark.parametrize(
    "serving", [Serving(1, 2, [1]), Serving(1, None, [1]), Serving(1, 1, [1, 2]), Serving(2, 1, [1])]
)
def test_everybody_names_the_same_champion(serving: Serving) -> None:
    assert len(told(serving)) == 1


def test_rows_of_one_fault_on_several_clusters_become_one() -> None:
    one, other = Row("none", 1, 10, 0, 1, 0, 0, 0, 2.5, 1.0), Row("none", 2, 20, 3, 0, 0, 0, 0, 0.5, 4.0)
    alone = Row("freeze a worker", 1, 5, 0, 0, 0, 0, 0, 6.0, 7.0)
    assert together([one, alone, other]) == [Row("none", 3, 30, 3, 1, 0, 0, 0, 2.5, 4.0), alone]


def test_a_stall_beyond_its_limit_is_shown_and_is_no_loss() -> None:
    calm = Row("kill monitor", 3, 100, 0, 0, 0, 0, 0, 3.9, 4.5)
    assert calm.stall == "3.9"
    slow = replace(calm, longest_stall_s=4.6)
    assert slow.stall == "4.6 > 4"
    assert slow.is_right
    assert replace(slow, fault="restart").stall == "4.6"
