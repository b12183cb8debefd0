"""Whatever happens to the processes of a pipeline, each record counts once. A failure names its seed: run it again with
`python -m tests.simulation --seed N`, which also says the fewest faults that it takes."""

from collections.abc import Iterable

import pytest

from tests.simulation.bugs import BUGS, found
from tests.simulation.short import RUNTIME_FIXED, RUNTIME_FRESH
from tests.simulation.shrink import shrink
from tests.simulation.world import Plan, plan_of, simulate

MOST_SEEDS = 100
"""Within so many seeds every planted bug has to show."""


def failures(seeds: Iterable[int]) -> dict[str, str]:
    """The first finding of each schedule that fails, by the command that runs it again."""
    outcomes = {seed: simulate(plan_of(seed)).findings for seed in seeds}
    return {f"python -m tests.simulation --seed {seed}": found[0] for seed, found in outcomes.items() if found}


def test_known_schedules_lose_nothing_and_double_nothing() -> None:
    assert failures(range(RUNTIME_FIXED)) == {}


def test_fresh_schedules_lose_nothing_and_double_nothing(fresh_seed: int) -> None:
    assert failures(range(fresh_seed, fresh_seed + RUNTIME_FRESH)) == {}


def test_a_schedule_is_a_function_of_its_seed() -> None:
    digests = [simulate(plan_of(seed)).digest for seed in (1, 2, 1)]
    assert digests[0] == digests[2] != digests[1]


@pytest.mark.parametrize("name", BUGS)
def test_a_planted_bug_is_found(name: str) -> None:
    assert any(found(name, seed) for seed in range(MOST_SEEDS))


def test_a_failing_schedule_is_shrunk_to_what_it_takes() -> None:
    build = BUGS["commit before produce"].build

    def fails(plan: Plan) -> bool:
        return bool(simulate(plan, build).findings)

    plan = plan_of(next(seed for seed in range(MOST_SEEDS) if fails(plan_of(seed))))
    shrunk = shrink(plan, fails)
    assert fails(shrunk)
    assert 0 < len(shrunk.faults) < len(plan.faults)
    assert shrink(shrunk, fails) == shrunk
