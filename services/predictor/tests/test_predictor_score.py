"""The stage: one prediction a key, each by the deployment of its time, with everything that went into it."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import pairwise

import numpy as np
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray
from trimtab.contracts import envelope, topics
from trimtab.contracts.codec import AvroCodec
from trimtab.loops.groups import tile_groups
from trimtab.loops.online import OnlineStore
from trimtab.loops.vectors import Assembler, Vectors
from trimtab.predictor.core import Ask, Deployment, Deployments, Model, writer
from trimtab.predictor.stages import Predicting, stage
from trimtab.runtime.records import Out, Record
from trimtab.runtime.stage import Result
from trimtab.testing.declarations import offers
from trimtab.testing.steps import run_step, tables_of

HOUR = 3_600_000
LOOP = offers()
ASSEMBLER = Assembler(LOOP)
STORE = OnlineStore(tile_groups(LOOP))
EVENT = AvroCodec(LOOP.asks.schema)
ASKS = topics.events("offers", "offer")
PREDICTION = AvroCodec(writer(LOOP, ASSEMBLER.names, "stream").schema)


@dataclass(frozen=True)
class Always:
    """A scorer that always says the same."""

    said: float

    def score(self, vectors: Vectors, /) -> NDArray[np.float64]:
        return np.full(len(vectors), self.said)


def model(version: int, said: float) -> Model:
    return Model(version, f"{version:064x}", (), Always(said))


def assemble(asks: Sequence[Ask], at_ms: NDArray[np.int64]) -> Vectors:
    return ASSEMBLER.assemble(asks, at_ms, STORE)


def scoring(*deployments: Deployment) -> Predicting:
    every = Deployments()
    for one in deployments:
        every = every.with_one(one)
    return Predicting(LOOP, assemble, lambda _: every, writer(LOOP, ASSEMBLER.names, "stream"))


def ask(key: str, at_ms: int, offset: int = 0, place: str | None = "top") -> Record:
    body = EVENT.encode({"offer_id": key, "shown_at": at_ms, "place": place, "price": 2.5})
    return Record(ASKS, 0, offset, key.encode(), body, envelope.headers(key, "offer", "test", at_ms))


def predictions(result: Result) -> list[dict[str, object]]:
    return [PREDICTION.decode(out.value or b"") for out in result.out]


FIRST = Deployment(1, 10 * HOUR, model(1, 0.25), ())
SECOND = Deployment(2, 20 * HOUR, model(2, 0.75), (model(1, 0.25),))


def test_each_ask_is_scored_by_the_deployment_of_its_time() -> None:
    made = stage(scoring(FIRST, SECOND), ())
    asks = [ask("a", 5 * HOUR), ask("b", 10 * HOUR), ask("c", 20 * HOUR - 1), ask("d", 20 * HOUR)]
    found = predictions(run_step(made, {ASKS: asks}, progress_ms=30 * HOUR))
    assert [(one["key"], one["score"], one["version"], one["arm"]) for one in found] == [
        ("a", None, None, "none"),
        ("b", 0.25, 1, "champion"),
        ("c", 0.25, 1, "champion"),
        ("d", 0.75, 2, "champion"),
    ]
    assert found[3]["shadows"] == [
        {"version": 1, "model_digest": f"{1:064x}", "score": 0.25, "class": None, "probabilities": []}
    ]
    assert found[3]["features"] == {"place": "top", "price": 2.5}
    assert found[3]["deployment"] == 2
    assert found[3]["by"] == ["d"]


def test_asked_twice_there_is_one_prediction() -> None:
    made, tables = stage(scoring(FIRST), ()), None
    tables = tables_of(made)
    once = run_step(made, {ASKS: [ask("a", 11 * HOUR), ask("a", 11 * HOUR, 1)]}, tables, progress_ms=11 * HOUR)
    again = run_step(made, {ASKS: [ask("a", 11 * HOUR, 2)]}, tables, progress_ms=11 * HOUR)
    assert len(once.out) == 1
    assert not again.out


def test_what_was_answered_over_http_is_logged_as_it_was_said() -> None:
    made = stage(scoring(FIRST), ())
    tables = tables_of(made)
    answered = topics.answered("offers")
    said = Record(answered, 0, 0, b"a", b"as it was", envelope.headers("a", "prediction", "http", 11 * HOUR))
    result = run_step(made, {answered: [said], ASKS: [ask("a", 11 * HOUR)]}, tables, progress_ms=12 * HOUR)
    assert [(out.topic, out.value) for out in result.out] == [(topics.predictions("offers"), b"as it was")]


def test_keys_are_forgotten_after_the_dedupe_time() -> None:
    made = stage(scoring(FIRST), ())
    tables = tables_of(made)
    run_step(made, {ASKS: [ask("a", 11 * HOUR)]}, tables, progress_ms=11 * HOUR)
    run_step(made, {}, tables, progress_ms=11 * HOUR + LOOP.asks.dedupe_ms)
    assert b"a" in tables["asked"]
    run_step(made, {}, tables, progress_ms=11 * HOUR + LOOP.asks.dedupe_ms + 1)
    assert b"a" not in tables["asked"]


def test_an_answer_that_comes_late_counts_once_however_late_it_is() -> None:
    made = stage(scoring(FIRST), ())
    tables = tables_of(made)
    answered, now_ms = topics.answered("offers"), 12 * HOUR + 2 * LOOP.asks.dedupe_ms
    said = [Record(answered, 0, n, b"a", b"said", envelope.headers("a", "offer", "http", 11 * HOUR)) for n in range(2)]
    assert len(run_step(made, {answered: said[:1]}, tables, progress_ms=now_ms).out) == 1
    assert not run_step(made, {answered: said[1:]}, tables, progress_ms=now_ms + LOOP.asks.dedupe_ms).out


def test_the_trace_of_the_ask_goes_on() -> None:
    made = stage(scoring(FIRST), ())
    plain = ask("a", 11 * HOUR)
    trace = "00-" + "a" * 32 + "-" + "b" * 16 + "-01"
    traced = Record(ASKS, 0, 0, plain.key, plain.value, (*plain.headers, ("traceparent", trace.encode())))
    (out,) = run_step(made, {ASKS: [traced]}, progress_ms=12 * HOUR).out
    assert envelope.get(out.headers, "traceparent") == trace.encode()


def test_the_first_prediction_of_a_deployment_carries_its_trace_on_and_no_later_one_does() -> None:
    first, second = (f"00-{n * 32}-{n * 16}-01" for n in "12")
    made = stage(scoring(replace(FIRST, trace=first), replace(SECOND, trace=second)), ())
    tables = tables_of(made)
    asks = [ask("a", 5 * HOUR), ask("b", 11 * HOUR), ask("c", 20 * HOUR), ask("d", 12 * HOUR), ask("e", 21 * HOUR)]
    result = run_step(made, {ASKS: asks}, tables, progress_ms=21 * HOUR)
    traces = [envelope.get(out.headers, "traceparent") for out in result.out]
    assert traces == [None, first.encode(), second.encode(), None, None]
    told = [(one.trace, one.attributes["trimtab.key"], one.attributes["trimtab.version"]) for one in result.milestones]
    assert told == [(first, "b", 1), (second, "c", 2)]
    later = run_step(made, {ASKS: [ask("f", 22 * HOUR)]}, tables, progress_ms=22 * HOUR)
    assert envelope.get(later.out[0].headers, "traceparent") is None
    assert not later.milestones


def test_the_same_batch_twice_gives_the_same_records() -> None:
    made = stage(scoring(FIRST), ())
    batch = {ASKS: [ask("a", 11 * HOUR), ask("b", 12 * HOUR)]}
    assert run_step(made, batch, progress_ms=12 * HOUR).out == run_step(made, batch, progress_ms=12 * HOUR).out


@given(
    asked=st.lists(
        st.tuples(st.sampled_from("abcd"), st.integers(8, 22), st.sampled_from(["top", None])), min_size=1, max_size=8
    ),
    cuts=st.lists(st.integers(0, 8), max_size=8),
)
def test_how_asks_are_cut_into_batches_does_not_matter(
    asked: list[tuple[str, int, str | None]], cuts: list[int]
) -> None:
    asks = [ask(key, hour * HOUR, offset, place) for offset, (key, hour, place) in enumerate(asked)]
    edges = [0, *sorted({cut for cut in cuts if cut < len(asks)}), len(asks)]
    assert said([asks[start:end] for start, end in pairwise(edges) if start < end]) == said([asks])


def said(batches: Sequence[Sequence[Record]]) -> list[Out]:
    """What one task writes for some batches."""
    made = stage(scoring(FIRST, SECOND), ())
    tables = tables_of(made)
    return [out for batch in batches for out in run_step(made, {ASKS: batch}, tables, progress_ms=22 * HOUR).out]


def test_deployments_are_ordered_by_effect_and_sequence() -> None:
    late = Deployment(3, 10 * HOUR, model(3, 0.5), ())
    every = Deployments().with_one(late).with_one(SECOND).with_one(FIRST).with_one(late)
    assert [one.sequence for one in every.ordered] == [1, 3, 2]
    assert every.at(9 * HOUR) is None
    assert every.at(15 * HOUR) == replace(late, shadows=[])
    newest = every.newest()
    assert newest is not None
    assert newest.sequence == 3


def until(version: int, hour: int | None) -> Model:
    return replace(model(version, 0.5), until_ms=None if hour is None else hour * HOUR)


def test_a_shadow_ends_on_time_also_where_nobody_has_said_yet_that_it_has() -> None:
    watched = Deployment(2, 20 * HOUR, model(3, 0.5), (until(2, 30), until(1, None), until(4, 20)))
    every = Deployments().with_one(FIRST).with_one(watched)
    assert shadows_at(every, 15, 20, 29, 30, 90) == [[], [2, 1], [2, 1], [1], [1]]
    retired = every.with_one(Deployment(3, 30 * HOUR, model(3, 0.5), (until(1, None),)))
    assert shadows_at(retired, 15, 20, 29, 30, 90) == [[], [2, 1], [2, 1], [1], [1]]
    assert [one.sequence for hour in (15, 29, 30) if (one := retired.at(hour * HOUR))] == [1, 2, 3]
    early = every.with_one(Deployment(3, 25 * HOUR, model(5, 0.5), (until(3, 40),)))
    assert shadows_at(early, 24, 25, 30, 39, 40) == [[2, 1], [3], [3], [3], []]


def shadows_at(every: Deployments, *hours: int) -> list[list[int]]:
    """The versions that score along, asked one by one and all at once."""
    singly = [every.at(hour * HOUR) for hour in hours]
    found = [[one.version for one in deployment.shadows] if deployment else [] for deployment in singly]
    together = list[list[int]]([[]] * len(hours))
    for deployment, rows in every.runs(np.array(hours) * HOUR):
        for row in rows.tolist():
            together[row] = [one.version for one in deployment.shadows] if deployment else []
    assert together == found
    return found
