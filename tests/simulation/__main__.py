"""The long form: schedule after schedule for some minutes, or one again, shrunk to what it takes to fail.

python -m tests.simulation --minutes 5
python -m tests.simulation --seed 1886877179
"""

import argparse
import sys
from collections.abc import Sequence

import numpy as np
from trimtab.testing.simulation import silence

from tests.simulation.bugs import BUGS, found
from tests.simulation.explore import explore, fails
from tests.simulation.shrink import shrink
from tests.simulation.world import plan_of, simulate

PLANTED_SEEDS = 400


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.simulation", description=__doc__)
    parser.add_argument("--seed", type=int, help="run one schedule and shrink it if it fails")
    parser.add_argument("--minutes", type=float, default=1.0)
    parser.add_argument("--first", type=int, help="first seed (default: a fresh one)")
    given = parser.parse_args()
    with silence():
        if given.seed is not None:
            return again(given.seed)
        first = given.first if given.first is not None else int(np.random.SeedSequence().generate_state(1)[0])
        failed: list[int] = []
        for so_far in explore(first, given.minutes * 60):
            failed += so_far.failed
            print(so_far)
        for seed in failed:
            again(seed)
        return int(bool(failed) + planted())


def again(seed: int) -> int:
    """Run the schedule of a seed; where it fails, say with how little it still does."""
    outcome = simulate(plan_of(seed))
    print(f"{outcome.plan}\n{outcome.steps} steps, digest {outcome.digest}")
    if not outcome.findings:
        print("nothing lost, nothing doubled")
        return 0
    tell(outcome.findings)
    least = shrink(outcome.plan, fails)
    print(f"shrunk: {least}")
    tell(simulate(least).findings)
    return 1


def tell(findings: Sequence[str]) -> None:
    for finding in findings:
        print(f"  FOUND {finding}")


def planted() -> bool:
    """How many schedules it takes to find each planted bug; whether one is not found."""
    missed = False
    for name in BUGS:
        seed = next((seed for seed in range(PLANTED_SEEDS) if found(name, seed)), None)
        missed = missed or seed is None
        print(f"planted: {name:<28}", "NOT FOUND" if seed is None else f"found in schedule {seed + 1}")
    return missed


if __name__ == "__main__":
    sys.exit(main())
