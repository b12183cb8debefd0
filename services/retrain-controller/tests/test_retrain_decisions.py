"""What becomes of each cause. Every case is a story of control events, each dated by a day, and what it leads to."""

from collections.abc import Iterable, Sequence
from dataclasses import replace
from typing import Any

import msgspec
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from trimtab.contracts.control import (
    DeploymentChanged,
    DriftDetected,
    DriftSignal,
    ModelRef,
    ModelRegistered,
    PairedDifference,
    PerformanceMeasured,
    QualityRestored,
    QualityViolated,
    RetrainAsked,
    RetrainDeclined,
    RetrainRequested,
    TimeAdvanced,
    TrainingFailed,
)
from trimtab.retrain_controller.core import Event, State, decide
from trimtab.testing.declarations import declared, offers
from trimtab.testing.models import difference, measured

DAY_MS = 86_400_000
LOOP = "offers"
LAST = "the request before"
"""Stands for the id of the newest request of a story."""
Answer = RetrainRequested | RetrainDeclined


def at(day: float) -> int:
    return int(day * DAY_MS)


def day(day: float) -> TimeAdvanced:
    return TimeAdvanced(loop=LOOP, at_ms=at(day))


def rows(day: float, rows: int, positives: int | None = 5000, *paired: PairedDifference) -> PerformanceMeasured:
    event = measured(at(day), *paired, rows=rows)
    return event.model_copy(update={"matured_positives": positives})


def gain(version: int, other: int, gain: float, low: float) -> PairedDifference:
    """By how much `version` is better, and at least: losses, so its own difference is negative."""
    return difference(version, other, low - 2 * gain, -low)


def drift(day: float, version: int, kind: Any = "loss", name: str = "d") -> DriftDetected:
    signal = DriftSignal(name=f"{kind}-signal", kind=kind, weight=1, evidence=9, drifted=True)
    quiet = DriftSignal(name="quiet", kind="score", weight=1, evidence=1, drifted=False)
    return DriftDetected(
        loop=LOOP, at_ms=at(day), drift_id=f"{name}{day}", model_version=version, since_ms=0, evidence=9, threshold=8,
        look_ms=1, looks=1, signals=[signal, quiet],
    )  # fmt: skip


def registered(day: float, version: int, verdict: Any) -> ModelRegistered:
    return ModelRegistered(loop=LOOP, at_ms=at(day), version=version, request_id=LAST, digest="0" * 64, verdict=verdict)


OTHER = {"row": {"place": "place", "price": "price * 2"}}
"""Features that models of the loop's do not take."""


def deployed(
    day: float,
    version: int,
    sequence: int,
    cause: Any = "promoted",
    request_id: str | None = LAST,
    features: str = offers().features.digest,
) -> DeploymentChanged:
    ref = ModelRef(version=version, digest="0" * 64, format="onnx", features_digest=features)
    return DeploymentChanged(
        loop=LOOP, at_ms=at(day), sequence=sequence, effective_at_ms=at(day), champion=ref, shadows=[], cause=cause,
        request_id=request_id, signature="",
    )  # fmt: skip


def failed(day: float) -> TrainingFailed:
    return TrainingFailed(loop=LOOP, at_ms=at(day), request_id=LAST, reason="fit", error="it did not converge")


def violated(day: float) -> QualityViolated:
    return QualityViolated(
        loop=LOOP, at_ms=at(day), rule="missing", subject="price", share=0.5, limit=0.1, since_ms=at(day)
    )


def restored(day: float) -> QualityRestored:
    return QualityRestored(
        loop=LOOP, at_ms=at(day), rule="missing", subject="price", share=0.0, limit=0.1, since_ms=at(day)
    )


def asked(ask_id: str = "ask") -> RetrainAsked:
    return RetrainAsked(loop=LOOP, at_ms=at(20_000), ask_id=ask_id, by="anna", note="new prices")


def tell(story: Iterable[Event], state: State | None = None) -> tuple[State, list[Answer]]:
    """Fold a story; the state goes through its encoding after each event, as after a restart."""
    held = state or State(LOOP)
    answers: list[Answer] = []
    for event in story:
        held, out = decide(held, named(event, held))
        held = msgspec.json.decode(msgspec.json.encode(held), type=State)
        answers += out
    return held, answers


def named(event: Event, state: State) -> Event:
    """The event with the id of the newest request where it says LAST."""
    if getattr(event, "request_id", None) != LAST:
        return event
    return event.model_copy(update={"request_id": state.attempt.request_id if state.attempt else "none"})


def with_ids(story: Iterable[Event]) -> list[Event]:
    state, found = State(LOOP), list[Event]()
    for event in story:
        found.append(named(event, state))
        state, _ = decide(state, found[-1])
    return found


def short(answers: Sequence[Answer]) -> list[str]:
    return [_short(answer) for answer in answers]


def _short(answer: Answer) -> str:
    where = f"{answer.cause.kind}@{answer.at_ms / DAY_MS:g}"
    if isinstance(answer, RetrainRequested):
        return f"{where} go"
    until = "" if answer.until_ms is None else f" until {answer.until_ms / DAY_MS:g}"
    return f"{where} {answer.reason}{until}"


def apply(**retrain: Any) -> Event:
    return declared(offers(retrain=retrain))


def other(version: int = 2, **retrain: Any) -> Event:
    """The loop with other features."""
    return declared(offers(features=OTHER, retrain=retrain), version=version)


def other_model(day: float, version: int, sequence: int) -> list[Event]:
    """A model that takes the other features, deployed."""
    features = offers(features=OTHER).features.digest
    return [registered(day, version, "first"), deployed(day, version, sequence, "first", features=features)]


def first_model(**retrain: Any) -> list[Event]:
    """Declared, 1000 rows on day 10, version 1 serves from then on."""
    return [apply(**retrain), rows(10, 1000), registered(10, 1, "first"), deployed(10, 1, 1, "first")]


def second_model(start: float, day: float, **retrain: Any) -> list[Event]:
    """As `first_model`; then drift, and version 2 is promoted."""
    return [*first_model(**retrain), drift(start, 1), registered(day, 2, "passed"), deployed(day, 2, 2)]


CASES: dict[str, tuple[list[Event], list[str]]] = {
    "too few rows: nothing": ([apply(), rows(1, 999), day(2)], []),
    "too few positives: nothing": ([apply(), rows(1, 5000, 99)], []),
    "first training": ([apply(), rows(1, 999), rows(2, 1000), rows(3, 1001), day(4)], ["first@2 go"]),
    "first training of a task without positives": ([apply(), rows(2, 1000, None)], ["first@2 go"]),
    "what came before the declaration counts": ([rows(2, 1000), day(3), apply()], ["first@2 go"]),
    "a failed first training waits for half as many rows again, and the doubled cooldown": (
        [apply(), rows(1, 1000), failed(1), rows(2, 1499), rows(3, 1500), day(14), day(15)],
        ["first@1 go", "first@3 damped until 15", "first@15 go"],
    ),
    "a first model that failed its gate": (
        [apply(), rows(1, 1000), registered(1, 1, "failed"), rows(20, 1500)],
        ["first@1 go", "first@20 go"],
    ),
    "drift": ([*first_model(), drift(20, 1)], ["first@10 go", "drift@20 go"]),
    "drift of a kind that is not listed": (
        [*first_model(), drift(20, 1, "score")],
        ["first@10 go", "drift@20 not_listed"],
    ),
    "drift of a feature, listed as features": (
        [*first_model(on=["features"]), drift(20, 1, "missing")],
        ["first@10 go", "drift@20 go"],
    ),
    "drift in the cooldown is told once and reconsidered when it ends, dated then": (
        [*first_model(), drift(12, 1), day(13), day(14), day(19)],
        ["first@10 go", "drift@12 cooldown until 17", "drift@17 go"],
    ),
    "drift of a version that was replaced": (
        [*second_model(20, 20), drift(21, 1)],
        ["first@10 go", "drift@20 go", "drift@21 retired_version"],
    ),
    "drift of a version whose deployment is not known yet waits for it": (
        [*first_model(), drift(20, 1), drift(30, 2), day(31), registered(20, 2, "passed"), deployed(20, 2, 2)],
        ["first@10 go", "drift@20 go", "drift@30 open", "drift@30 go"],
    ),
    "drift while a request is open, whose model then replaces the drifted one": (
        [*first_model(), drift(20, 1), drift(21, 1), registered(22, 2, "passed"), deployed(22, 2, 2)],
        ["first@10 go", "drift@20 go", "drift@21 open", "drift@21 retired_version"],
    ),
    "drift while a request is open, whose model then fails: damped": (
        [*first_model(), drift(20, 1), drift(21, 1), registered(22, 2, "failed"), day(33), day(34)],
        ["first@10 go", "drift@20 go", "drift@21 open", "drift@33 damped until 34", "drift@34 go"],
    ),
    "the end of a request is known only when its deployment is, in any order": (
        [*first_model(), drift(20, 1), deployed(20, 2, 2), drift(40, 2), registered(20, 2, "passed")],
        ["first@10 go", "drift@20 go", "drift@40 open", "drift@40 go"],
    ),
    "a request that ends ahead of event time is open till then": (
        [
            *first_model(cooldown="0s"),
            drift(20, 1),
            registered(22, 2, "failed"),
            drift(21, 1),
            day(21.5),
            day(22),
        ],
        ["first@10 go", "drift@20 go", "drift@21 open until 22", "drift@22 go"],
    ),
    "two causes at once: one request answers both": (
        [*first_model(max_age="2d"), drift(12, 1), day(20)],
        ["first@10 go", "drift@12 cooldown until 17", "age@12 cooldown until 17", "drift@17 go", "age@20 covered"],
    ),
    "a held stream": (
        [*first_model(), violated(19), drift(20, 1), day(21), restored(22), day(23)],
        ["first@10 go", "drift@20 hold", "drift@22 go"],
    ),
    "an old word on quality does not undo a newer one": (
        [*first_model(), violated(15), restored(16), violated(15), drift(20, 1)],
        ["first@10 go", "drift@20 go"],
    ),
    "growth counts from the rows of the newest attempt": (
        [*first_model(), rows(20, 1499), rows(21, 1500), registered(21, 2, "failed"), rows(40, 2249), rows(60, 2250)],
        ["first@10 go", "grown@21 go", "grown@60 go"],
    ),
    "growth within the cooldown": (
        [*first_model(), rows(11, 1500), rows(12, 1600), day(17)],
        ["first@10 go", "grown@11 cooldown until 17", "grown@17 go"],
    ),
    "growth switched off": ([*first_model(grown=0), rows(20, 9000)], ["first@10 go"]),
    "age, dated when it was due": (
        [*first_model(max_age="30d"), day(39), day(41), registered(40, 2, "failed"), day(69), day(70)],
        ["first@10 go", "age@40 go", "age@70 go"],
    ),
    "a schedule counts from the first request, whatever lies between": (
        [*first_model(every="10d", cooldown="1d"), day(19.9), day(20.5), registered(21, 2, "failed"), day(29), day(30)],
        ["first@10 go", "schedule@20 go", "schedule@30 go"],
    ),
    "of the turns of a schedule that were missed, the newest counts": (
        [*first_model(every="10d"), violated(15), day(21), day(33), restored(35), day(36)],
        ["first@10 go", "schedule@21 hold", "schedule@33 hold", "schedule@35 go"],
    ),
    "a person overrides the cooldown": ([*first_model(), day(11), asked()], ["first@10 go", "person@11 go"]),
    "a person overrides damping": (
        [*first_model(), drift(20, 1), registered(20, 2, "failed"), day(21), asked()],
        ["first@10 go", "drift@20 go", "person@21 go"],
    ),
    "a person is told at once of a hold, for good": (
        [*first_model(), violated(20), asked(), restored(21), day(22)],
        ["first@10 go", "person@20 hold"],
    ),
    "a person is told of an open request": (
        [*first_model(), drift(20, 1), asked(), registered(20, 2, "failed"), day(60)],
        ["first@10 go", "drift@20 go", "person@20 open"],
    ),
    "a person is bound by the budget": (
        [*first_model(budget="1 per 30d"), day(11), asked(), day(60)],
        ["first@10 go", "person@11 budget"],
    ),
    "a person may ask before the first training": ([apply(), rows(3, 20), asked()], ["person@3 go"]),
    "a person asks where there is nothing to learn from": (
        [apply(), asked("a"), rows(3, 20, 0), asked("b")],
        ["person@20000 no_rows", "person@3 no_rows"],
    ),
    "the budget": (
        [
            *first_model(budget="2 per 100d", cooldown="1d"),
            drift(20, 1),
            registered(20, 2, "failed"),
            drift(30, 1),
            day(109),
            day(111),
        ],
        ["first@10 go", "drift@20 go", "drift@30 budget until 110", "drift@110 go"],
    ),
    "rolled back: damped": (
        [*second_model(20, 20), deployed(22, 1, 3, "rolled_back", None), drift(28, 1)],
        ["first@10 go", "drift@20 go", "drift@28 damped until 34"],
    ),
    "a watch without gain: damped": (
        [*second_model(20, 20), rows(22, 1100, 5000, gain(2, 1, -0.1, -0.2)), day(30), drift(30.5, 2)],
        ["first@10 go", "drift@20 go", "drift@30.5 damped until 34"],
    ),
    "a watch without gain, seen from the other side": (
        [*second_model(20, 20), rows(22, 1100, 5000, gain(1, 2, 0.1, 0.05)), day(30), drift(30.5, 2)],
        ["first@10 go", "drift@20 go", "drift@30.5 damped until 34"],
    ),
    "a watch with an unproven gain changes nothing": (
        [*second_model(20, 20), rows(22, 1100, 5000, gain(2, 1, 0.1, -0.1)), day(30), drift(30.5, 2)],
        ["first@10 go", "drift@20 go", "drift@30.5 go"],
    ),
    "a champion of other features is none: first training again, of rows that matured with the new ones": (
        [
            *first_model(),
            *(day(20), other(), rows(20.5, 5000), rows(21, 5200), rows(21.5, 6000, 5000)),
            *(rows(22, 6999, 5999), rows(22.5, 7000, 5099), rows(23, 7000, 5100), *other_model(23, 2, 2)),
            *(rows(24, 7400), day(60)),
        ],
        ["first@10 go", "first@23 go"],
    ),
    "and grown, from the rows of the new ones": (
        [
            *(*first_model(), day(20), other(), rows(21.5, 6000, 600), rows(23, 7000, 700), *other_model(23, 2, 2)),
            *(rows(40, 7499, 2000), rows(41, 7500, 2000)),
        ],
        ["first@10 go", "first@23 go", "grown@41 go"],
    ),
    "other features before the first model": (
        [
            apply(),
            rows(20, 999),
            other(),
            rows(20.5, 1500),
            rows(21.5, 1600, 0),
            rows(22, 2599, 900),
            rows(23, 2600, 900),
        ],
        ["first@23 go"],
    ),
    "a champion of other features grows neither old nor due, and nothing is evidence about it": (
        [
            *first_model(max_age="20d", every="15d"),
            day(20),
            other(2, max_age="20d", every="15d"),
            drift(21, 1),
            day(60),
        ],
        ["first@10 go", "drift@21 retired_version"],
    ),
    "features as they were: the champion counts again": (
        [*first_model(), day(20), other(), declared(offers(), version=3), drift(30, 1)],
        ["first@10 go", "drift@30 go"],
    ),
    "a person asks before rows with the new features have matured": (
        [*first_model(), day(20), other(), rows(20.5, 5000), asked()],
        ["first@10 go", "person@20.5 no_rows"],
    ),
    "a loop that nobody declared": ([rows(3, 5000), day(4), asked()], []),
}


@pytest.mark.parametrize(("story", "answers"), CASES.values(), ids=CASES.keys())
def test_decision(story: list[Event], answers: list[str]) -> None:
    assert short(tell(story)[1]) == answers


@pytest.mark.parametrize(("story", "answers"), CASES.values(), ids=CASES.keys())
def test_copies_lead_to_nothing(story: list[Event], answers: list[str]) -> None:
    """Each event twice in a row, and the whole story once more at its end."""
    state, told = tell(copy for event in story for copy in (event, event))
    assert short(told) == answers
    again, more = tell(with_ids(story), state)
    assert short(more) == []
    assert again == state


@pytest.mark.parametrize(("failures", "until"), [(0, 27), (1, 34), (2, 48), (3, 76), (4, 76)])
def test_useless_retrains_double_the_cooldown_up_to_eight_times(failures: int, until: int) -> None:
    state, _ = tell([*first_model(), drift(20, 1), registered(20, 2, "passed"), deployed(20, 2, 2)])
    _, told = tell([drift(20.5, 2)], replace(state, misses=failures))
    assert short(told) == [f"drift@20.5 {'damped' if failures else 'cooldown'} until {until}"]


def test_a_clear_gain_ends_the_damping() -> None:
    state, _ = tell([*second_model(20, 20), rows(22, 1100, 5000, gain(2, 1, 0.2, 0.1))])
    assert tell([day(30)], replace(state, misses=3))[0].misses == 0


def test_a_watch_is_judged_when_another_promotion_ends_it() -> None:
    story = [
        *second_model(20, 20),
        rows(22, 1100, 5000, gain(2, 1, -0.1, -0.2)),
        asked(),
        registered(23, 3, "passed"),
        deployed(23, 3, 3),
    ]
    state = tell(story)[0]
    assert (state.misses, state.watch and state.watch.version) == (1, 3)


def test_a_request_says_why_and_about_whom() -> None:
    _, told = tell([*second_model(20, 20), asked()])
    drifted, person = told[1:]
    assert isinstance(drifted, RetrainRequested)
    assert isinstance(person, RetrainRequested)
    assert (drifted.cause.drift_id, drifted.cause.signals, drifted.champion_version) == ("d20", ["loss-signal"], 1)
    assert (person.cause.by, person.cause.note, person.cause.ask_id) == ("anna", "new prices", "ask")
    assert (person.champion_version, person.loop_version) == (2, 1)


def test_an_alarm_without_a_drifted_signal_counts_as_the_one_with_most_evidence() -> None:
    sure = drift(20, 1)
    unsure = sure.model_copy(
        update={"signals": [signal.model_copy(update={"drifted": False}) for signal in sure.signals]}
    )
    assert short(tell([*first_model(), unsure])[1]) == ["first@10 go", "drift@20 go"]


def test_a_new_declaration_holds_from_then_on_and_an_older_one_changes_nothing() -> None:
    newer = declared(offers(retrain={"on": ["score"]}), version=2)
    _, told = tell([*first_model(), newer, apply(), drift(20, 1, "score"), drift(60, 1)])
    assert short(told) == ["first@10 go", "drift@20 go", "drift@60 not_listed"]
    assert isinstance(told[1], RetrainRequested)
    assert told[1].loop_version == 2


def test_a_hold_on_what_is_no_longer_declared_ends() -> None:
    fewer = offers(features={"row": {"place": "place"}})
    serves = deployed(10, 1, 1, "first", features=fewer.features.digest)
    _, told = tell([*first_model()[:-1], serves, violated(19), declared(fewer, version=2), drift(20, 1)])
    assert short(told) == ["first@10 go", "drift@20 go"]


def test_a_windowed_training_grows_from_the_rows_that_had_matured() -> None:
    loop = offers(train={"window": "30d"})
    _, told = tell(
        [declared(loop), rows(10, 1000), registered(10, 1, "first"), deployed(10, 1, 1, "first"), rows(20, 1499)]
    )
    assert short(told) == ["first@10 go"]


Move = tuple[str, float, int]
"""What happens next, how many days later, and a number that decides its details."""

moves = st.lists(
    st.tuples(
        st.sampled_from(["day", "rows", "drift", "violated", "restored", "asked", "end", "end"]),
        st.floats(0, 2),
        st.integers(0, 59),
    ),
    max_size=120,
)


def happening(kind: str, now: float, number: int, state: State) -> list[Event]:
    """Events of a world that answers requests: some fits fail, some models pass; evidence names any version."""
    match kind:
        case "rows":
            return [rows(now, int(now * 100))]
        case "drift":
            return [drift(now, 1 + number % 4, "loss" if number % 5 else "score")]
        case "violated":
            return [violated(now)]
        case "restored":
            return [restored(now)]
        case "asked":
            return [asked(f"ask{number % 10}")]
        case "end" if state.open is not None:
            return ending(now, number, state)
    return [day(now)]


def ending(now: float, number: int, state: State) -> list[Event]:
    version = state.highest_version + 1
    if number % 5 == 0:
        return [failed(now)]
    if number % 5 == 1:
        return [registered(now, version, "failed")]
    first = state.champion is None
    end: list[Event] = [
        registered(now, version, "first" if first else "passed"),
        deployed(now, version, state.sequence + 1, "first" if first else "promoted"),
    ]
    return end if number % 2 else end[::-1]


@settings(max_examples=60)
@given(moves)
@example([("rows", 1, 0), ("asked", 0, 0), ("rows", 1, 0), ("drift", 2, 1), ("end", 2, 22), ("day", 2, 0)])
def test_one_effect_for_each_cause(story: list[Move]) -> None:
    state, _ = tell([apply(max_age="20d", every="15d")])
    now, answers = 0.0, list[Answer]()
    for kind, days, number in story:
        now += days
        for event in happening(kind, now, number, state):
            state, out = tell([event], state)
            answers += out
            assert sum(isinstance(answer, RetrainRequested) for answer in out) <= 1
            if isinstance(event, DeploymentChanged) and event.champion is not None:
                assert state.champion is not None
                assert state.champion.version == event.champion.version
    requests = [answer for answer in answers if isinstance(answer, RetrainRequested)]
    assert len({request.request_id for request in requests}) == len(requests)
    assert only_once([request.cause.drift_id or request.cause.ask_id for request in requests])
    declines = [answer for answer in answers if isinstance(answer, RetrainDeclined)]
    named = [(decline.cause.drift_id or decline.cause.ask_id, decline.reason) for decline in declines]
    assert only_once([pair for pair in named if pair[0]])
    assert [request.at_ms for request in requests] == sorted(request.at_ms for request in requests)


def only_once(found: Sequence[object]) -> bool:
    known = [one for one in found if one is not None]
    return len(set(known)) == len(known)
