"""What becomes of trained models, measurements and commands: stories of control events, dated by days."""

from collections.abc import Iterable, Sequence
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from trimtab.contracts.control import (
    CommandSettled,
    DeploymentChanged,
    LoopDeclared,
    ModelPerformance,
    ModelRegistered,
    ModelTrained,
    PerformanceMeasured,
    RegistryCommand,
    TimeAdvanced,
)
from trimtab.registry.core import Event, Said, State, ended, fold
from trimtab.testing.declarations import declared, offers
from trimtab.testing.models import difference, measured, trained

DAY_MS = 86_400_000
LOOP = "offers"


def at(day: float) -> int:
    return int(day * DAY_MS)


OTHER = {"row": {"place": "place", "price": "price * 2"}}
"""Features that models of the loop's do not take."""


def loop(version: int = 1, *, keep_first: bool = False, watch: str = "7d", **tables: Any) -> LoopDeclared:
    baselines = ["constant", "first_model"] if keep_first else ["constant"]
    gate, train = {"watch": watch, "baselines": baselines}, {"fit_time": "1d"}
    return declared(offers(gate=gate, train=train, **tables), version=version)


def other(version: int = 2, *, keep_first: bool = False) -> LoopDeclared:
    """The loop with other features."""
    return loop(version, keep_first=keep_first, features=OTHER)


def model(request_id: str, day: float, verdict: Any = "passed", against: int | None = None) -> ModelTrained:
    return trained(request_id, at_ms=at(day), verdict=verdict, against=against)


def other_model(request_id: str, day: float, verdict: Any = "passed", against: int | None = None) -> ModelTrained:
    """A model that takes the other features."""
    digest = offers(features=OTHER).features.digest
    return trained(request_id, at_ms=at(day), verdict=verdict, against=against, features_digest=digest)


def day(day: float) -> TimeAdvanced:
    return TimeAdvanced(loop=LOOP, at_ms=at(day))


def worse(
    day: float, version: int, other: int, blocks: int, low: float = 0.1, *, metric: float | None = None
) -> PerformanceMeasured:
    """`version` is worse than `other` by low to low + 0.2; `metric`: the other's."""
    metrics = {} if metric is None else {"log_loss": metric}
    shadow = ModelPerformance(version=other, arm="shadow", rows=100, metrics=metrics)
    return measured(at(day), difference(version, other, low, low + 0.2, blocks=blocks), models=[shadow])


def command(kind: Any, version: int | None = None, command_id: str = "c", note: str | None = None) -> RegistryCommand:
    return RegistryCommand(
        loop=LOOP, at_ms=at(20_000), command_id=command_id, kind=kind, version=version, by="anna", note=note
    )


def tell(story: Iterable[Event], state: State | None = None) -> tuple[State, list[Said]]:
    """Fold a story; the state goes through its encoding after each event, as after a restart."""
    held, said = state or State(LOOP), list[Said]()
    for event in story:
        held, more = fold(held, event)
        held = msgspec.json.decode(msgspec.json.encode(held), type=State)
        said += more
    return held, said


def short(said: Sequence[Said]) -> list[str]:
    return [_short(one) for one in said]


def _short(one: Said) -> str:
    match one:
        case ModelRegistered():
            return f"{one.version} {one.verdict}@{one.at_ms / DAY_MS:g}"
        case DeploymentChanged():
            shadows = "".join(f"+{ref.version}" for ref in one.shadows)
            champion = None if one.champion is None else one.champion.version
            return f"#{one.sequence} {one.cause} {champion}{shadows} from {one.effective_at_ms / DAY_MS:g}"
    return f"{one.command_id} {one.outcome}"


TWO: list[Event] = [loop(), model("a", 10, "first"), model("b", 20, against=1)]
TWO_SAID = [
    "1 first@11",
    "#1 first 1 from 11",
    "2 passed@21",
    "#2 promoted 2+1 from 21",
]


def test_a_promotion_says_until_when_its_predecessor_scores_along() -> None:
    _, said = tell([*TWO, day(29)])
    promoted, retired = [one for one in said if isinstance(one, DeploymentChanged)][1:]
    assert [(ref.version, ref.until_ms) for ref in promoted.shadows] == [(1, retired.effective_at_ms)]


CASES: dict[str, tuple[list[Event], list[str]]] = {
    "first model": ([loop(), model("a", 10, "first")], TWO_SAID[:2]),
    "a model that failed its gate gets a number and nothing else": (
        [loop(), model("a", 10, "first"), model("b", 20, "failed", 1)],
        [*TWO_SAID[:2], "2 failed@21"],
    ),
    "promotion: the predecessor scores along for the watch": (
        [*TWO, day(27.9), day(28), day(29)],
        [*TWO_SAID, "#3 shadow_retired 2 from 28"],
    ),
    "a watch of no length: no shadow": (
        [loop(watch="0s"), model("a", 10, "first"), model("b", 20, against=1)],
        [*TWO_SAID[:3], "#2 promoted 2 from 21"],
    ),
    "the first model stays for good when a gate compares with it": (
        [
            loop(keep_first=True),
            model("a", 10, "first"),
            model("b", 20, against=1),
            day(60),
            model("c", 60, against=2),
            day(90),
        ],
        [*TWO_SAID, "3 passed@61", "#3 promoted 3+2+1 from 61", "#4 shadow_retired 3+1 from 68"],
    ),
    "a promotion within a watch: only the newest predecessor is watched": (
        [*TWO, model("c", 22, against=2), day(60)],
        [*TWO_SAID, "3 passed@23", "#3 promoted 3+2 from 23", "#4 shadow_retired 3 from 30"],
    ),
    "what was trained before the declaration is read waits for it": (
        [model("a", 10, "first"), command("promote", 1), loop()],
        [*TWO_SAID[:2], "c refused"],
    ),
    "a gate passed against a champion that has been replaced since proves nothing": (
        [*TWO, model("c", 22, against=1)],
        [*TWO_SAID, "3 failed@23"],
    ),
    "a first model beside a champion is a promotion": (
        [loop(), model("a", 10, "first"), model("b", 20, "first")],
        TWO_SAID,
    ),
    "rolled back when the predecessor is clearly better twice, over more blocks": (
        [*TWO, worse(24, 2, 1, 3), worse(25, 2, 1, 4)],
        [*TWO_SAID, "#3 rolled_back 1 from 25"],
    ),
    "measured from the other side": (
        [
            *TWO,
            measured(at(24), difference(1, 2, -0.3, -0.1, blocks=3)),
            measured(at(25), difference(1, 2, -0.3, -0.1, blocks=4)),
        ],
        [*TWO_SAID, "#3 rolled_back 1 from 25"],
    ),
    "not rolled back: one measurement, or two over the same blocks": (
        [*TWO, worse(24, 2, 1, 3), worse(24.1, 2, 1, 3)],
        TWO_SAID,
    ),
    "not rolled back: too few blocks": ([*TWO, worse(24, 2, 1, 1), worse(25, 2, 1, 2)], TWO_SAID),
    "not rolled back: the interval holds 0": (
        [*TWO, worse(24, 2, 1, 3, -0.01), worse(25, 2, 1, 4, -0.01)],
        TWO_SAID,
    ),
    "not rolled back: the second measurement takes the first one back": (
        [*TWO, worse(24, 2, 1, 3), worse(25, 2, 1, 4, -0.1), worse(26, 2, 1, 5)],
        TWO_SAID,
    ),
    "not rolled back: worse by less than the gate's margin": (
        [*TWO, worse(24, 2, 1, 3, 0.001, metric=0.4), worse(25, 2, 1, 4, 0.001, metric=0.4)],
        TWO_SAID,
    ),
    "rolled back: worse by more than the gate's margin": (
        [*TWO, worse(24, 2, 1, 3, 0.009, metric=0.4), worse(25, 2, 1, 4, 0.009, metric=0.4)],
        [*TWO_SAID, "#3 rolled_back 1 from 25"],
    ),
    "not rolled back: about other versions": (
        [*TWO, worse(24, 3, 1, 3), worse(25, 2, 3, 4), worse(26, 3, 2, 5)],
        TWO_SAID,
    ),
    "rolled back after the shadow has gone, while labels of the watch still come in": (
        [*TWO, worse(27.5, 2, 1, 3), day(28), worse(29, 2, 1, 4)],
        [*TWO_SAID, "#3 shadow_retired 2 from 28", "#4 rolled_back 1 from 29"],
    ),
    "not rolled back after the last label of the watch": (
        [*TWO, worse(27.5, 2, 1, 3), day(28), worse(30.1, 2, 1, 4)],
        [*TWO_SAID, "#3 shadow_retired 2 from 28"],
    ),
    "a person promotes a model that failed": (
        [loop(), model("a", 10, "first"), model("b", 20, "failed", 1), day(30), command("promote", 2)],
        [*TWO_SAID[:2], "2 failed@21", "#2 commanded 2+1 from 30", "c done"],
    ),
    "a person promotes before any event time is known: from the newest deployment on": (
        [loop(), model("a", 10, "first"), model("b", 20, "failed", 1), command("promote", 2)],
        [*TWO_SAID[:2], "2 failed@21", "#2 commanded 2+1 from 11", "c done"],
    ),
    "what a person promotes is watched as well": (
        [
            loop(),
            model("a", 10, "first"),
            model("b", 20, "failed", 1),
            day(30),
            command("promote", 2),
            worse(33, 2, 1, 3),
            worse(34, 2, 1, 4),
        ],
        [*TWO_SAID[:2], "2 failed@21", "#2 commanded 2+1 from 30", "c done", "#3 rolled_back 1 from 34"],
    ),
    "promote the champion: refused": (
        [loop(), model("a", 10, "first"), command("promote", 1)],
        [*TWO_SAID[:2], "c refused"],
    ),
    "promote nothing, or what does not exist: refused": (
        [loop(), command("promote", None, "c1"), command("promote", 1, "c2")],
        ["c1 refused", "c2 refused"],
    ),
    "a person rolls back to the champion before": (
        [*TWO, day(22), command("rollback")],
        [*TWO_SAID, "#3 commanded 1 from 22", "c done"],
    ),
    "rolled back before the promotion takes effect: it still wins": (
        [*TWO, day(20.5), command("rollback")],
        [*TWO_SAID, "#3 commanded 1 from 21", "c done"],
    ),
    "a person rolls back to one of long ago": (
        [*TWO, model("c", 40, against=2), day(42), command("rollback", 1)],
        [*TWO_SAID, "3 passed@41", "#3 promoted 3+2 from 41", "#4 commanded 1 from 42", "c done"],
    ),
    "roll back to what never served: refused": (
        [*TWO, model("c", 40, "failed", 2), command("rollback", 3, "c1"), command("rollback", 9, "c2")],
        [*TWO_SAID, "3 failed@41", "c1 refused", "c2 refused"],
    ),
    "roll back the first model: refused": (
        [loop(), model("a", 10, "first"), command("rollback")],
        [*TWO_SAID[:2], "c refused"],
    ),
    "a person retires a shadow": (
        [*TWO, day(22), command("retire_shadow", 1), day(40)],
        [*TWO_SAID, "#3 commanded 2 from 22", "c done"],
    ),
    "a first model that a person retired does not come back": (
        [loop(keep_first=True), *TWO[1:], day(22), command("retire_shadow", 1), model("c", 40, against=2)],
        [*TWO_SAID, "#3 commanded 2 from 22", "c done", "3 passed@41", "#4 promoted 3+2 from 41"],
    ),
    "retire what is no shadow: refused": (
        [*TWO, command("retire_shadow", 2, "c1"), command("retire_shadow", None, "c2")],
        [*TWO_SAID, "c1 refused", "c2 refused"],
    ),
    "the first model of other features is a first one: its predecessor could answer nothing beside it": (
        [*TWO, other(), other_model("c", 40, "first"), day(60)],
        [*TWO_SAID, "3 first@41", "#3 first 3 from 41"],
    ),
    "and neither could the first model that there was; the new one is it from then on": (
        [
            *(loop(keep_first=True), *TWO[1:], other(keep_first=True)),
            *(other_model("c", 40, "first"), other_model("d", 60, against=3), day(90)),
        ],
        [*TWO_SAID, "3 first@41", "#3 first 3 from 41", "4 passed@61", "#4 promoted 4+3 from 61"],
    ),
    "not rolled back: to what could not answer": (
        [*TWO, other(), worse(24, 2, 1, 3), worse(25, 2, 1, 4)],
        TWO_SAID,
    ),
    "a person rolls back past what could not answer": (
        [*TWO, other(), other_model("c", 40, "first"), loop(3), day(42), command("rollback")],
        [*TWO_SAID, "3 first@41", "#3 first 3 from 41", "#4 commanded 2 from 42", "c done"],
    ),
    "a new declaration holds for the next promotion": (
        [loop(), model("a", 10, "first"), loop(2, watch="1d"), loop(1), model("b", 20, against=1), day(22)],
        [*TWO_SAID, "#3 shadow_retired 2 from 22"],
    ),
}


@pytest.mark.parametrize(("story", "said"), CASES.values(), ids=CASES.keys())
def test_fold(story: list[Event], said: list[str]) -> None:
    assert short(tell(story)[1]) == said


@pytest.mark.parametrize(("story", "said"), CASES.values(), ids=CASES.keys())
def test_copies_lead_to_nothing(story: list[Event], said: list[str]) -> None:
    """Each event twice in a row, and the whole story once more at its end."""
    state, told = tell(copy for event in story for copy in (event, event))
    assert short(told) == said
    again, more = tell(story, state)
    assert short(more) == []
    assert again == state


def test_a_loop_that_ends_serves_nobody_and_its_numbers_go_on_when_it_comes_back() -> None:
    state, said = ended(tell([*TWO, day(30)])[0])
    assert short(said) == ["#4 commanded None from 30"]
    assert ended(state) == (state, ())
    _, said_later = tell([loop(), model("c", 40, "first")], state)
    assert short(said_later) == ["3 first@41", "#5 first 3 from 41"]


def test_a_deployment_names_what_to_load() -> None:
    event = tell([loop(), model("a", 10, "first")])[1][1]
    assert isinstance(event, DeploymentChanged)
    assert event.champion is not None
    assert (event.champion.digest, event.champion.format, event.request_id) == ("a" * 64, "onnx", "a")


def test_what_a_person_did_is_in_the_event() -> None:
    _, said = tell([*TWO, command("rollback", note="sales fell")])
    deployed, settled = said[-2:]
    assert isinstance(deployed, DeploymentChanged)
    assert isinstance(settled, CommandSettled)
    assert deployed.note == "rollback by anna: sales fell"
    assert settled.sequence == deployed.sequence


REFUSALS = [
    (command("promote", 7), "there is no version 7: the versions are 1 to 2"),
    (command("promote"), "which version? say its number"),
    (command("promote", 2), "version 2 is the champion already"),
    (command("rollback", 2), "version 2 has not served before: promote it instead"),
    (command("retire_shadow", 2), "version 2 is no shadow (shadows: 1)"),
]


@pytest.mark.parametrize(
    ("wish", "version"), [(command("rollback"), 2), (command("rollback", 1), 1), (command("promote", 2), 2)]
)
def test_what_takes_other_features_is_not_brought_back(wish: RegistryCommand, version: int) -> None:
    answer = tell([*TWO, other(), other_model("c", 40, "first"), wish])[1][-1]
    assert isinstance(answer, CommandSettled)
    assert answer.outcome == "refused"
    assert answer.detail == (
        f"version {version} takes other features than the loop declares now: it could not score a single ask"
    )


@pytest.mark.parametrize(("wish", "detail"), REFUSALS)
def test_a_refusal_says_why(wish: RegistryCommand, detail: str) -> None:
    answer = tell([*TWO, wish])[1][-1]
    assert isinstance(answer, CommandSettled)
    assert answer.detail == detail


events = st.lists(
    st.tuples(
        st.sampled_from(["train", "train", "day", "measure", "command"]),
        st.integers(1, 8),
        st.sampled_from(["promote", "rollback", "retire_shadow"]),
        st.integers(0, 6),
        st.booleans(),
    ),
    max_size=60,
)


@settings(max_examples=50)
@given(events)
def test_the_champion_is_the_one_of_the_last_deployment(story: list[tuple[str, int, str, int, bool]]) -> None:
    state, _ = tell([loop(keep_first=True)])
    now, said, wishes = 0.0, list[Said](), 0
    for number, (kind, days, wish, version, yes) in enumerate(story):
        now += days / 4
        match kind:
            case "train":
                verdict = "first" if state.champion is None else ("passed" if yes else "failed")
                event: Event = model(f"r{number}", now, verdict, state.champion)
            case "measure":
                event = worse(now, state.champion or 1, version or 1, days)
            case "command":
                wishes += 1
                event = command(wish, version or None, f"c{number}")
            case _:
                event = day(now)
        for _ in range(1 + yes):
            state, more = tell([event], state)
            said += more
    registered = [one.version for one in said if isinstance(one, ModelRegistered)]
    assert registered == list(range(1, len(registered) + 1))
    deployments = [one for one in said if isinstance(one, DeploymentChanged)]
    assert [one.sequence for one in deployments] == list(range(1, len(deployments) + 1))
    assert [one.effective_at_ms for one in deployments] == sorted(one.effective_at_ms for one in deployments)
    assert sum(isinstance(one, CommandSettled) for one in said) == wishes
    if deployments:
        last = deployments[-1]
        assert state.champion == (last.champion and last.champion.version)
        told = [(ref.version, ref.until_ms) for ref in last.shadows]
        assert told == [(shadow.version, shadow.until_ms) for shadow in state.shadows]
        assert state.champion not in [shadow.version for shadow in state.shadows]
