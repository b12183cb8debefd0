"""Whatever happens to the seven services' processes, every cause has one effect and everybody names the same champion.

A failure names its seed: run it again with `python -m tests.simulation --world services --seed N`, which also says the
fewest faults that it takes.
"""

from collections.abc import Iterable

import pytest

from tests.simulation.services.bugs import BUGS, found
from tests.simulation.services.stand import plan_of, stand
from tests.simulation.services.world import CHAPTERS, Plan
from tests.simulation.short import SERVICES_FIXED, SERVICES_FRESH

MOST_SEEDS = 20
"""Within so many seeds every planted bug has to show."""


def failures(seeds: Iterable[int]) -> dict[str, str]:
    """The first finding of each schedule that fails, by the command that runs it again."""
    findings = {seed: stand().simulate(plan_of(seed)).findings for seed in seeds}
    return {f"python -m tests.simulation --world services --seed {seed}": f[0] for seed, f in findings.items() if f}


def test_known_schedules_keep_every_promise() -> None:
    assert failures(range(SERVICES_FIXED)) == {}


def test_fresh_schedules_keep_every_promise(fresh_seed: int) -> None:
    assert failures(range(fresh_seed, fresh_seed + SERVICES_FRESH)) == {}


def test_a_schedule_is_a_function_of_its_seed() -> None:
    assert stand().simulate(plan_of(1)).digest == stand().simulate(plan_of(1)).digest


def test_the_loop_closes_within_the_hours_that_are_simulated() -> None:
    first, second = (stand().decided(chapter) for chapter in CHAPTERS)
    assert [what.partition(" at ")[0] for what in first if " at " in what] == ["first request"]
    assert [what.partition(" at ")[0] for what in second if " at " in what] == [
        "drift",
        "first request",
        "drift request",
    ]
    assert any(what.startswith("promoted deployment") for what in second)


@pytest.mark.parametrize("name", BUGS)
def test_a_planted_bug_is_found(name: str) -> None:
    assert any(found(name, seed) for seed in range(MOST_SEEDS))


def test_a_shorter_plan_has_an_hour_less() -> None:
    plan = Plan(1, CHAPTERS[0])
    assert [one.chapter.end for one in plan.shorter()] == [plan.chapter.end - 1]
