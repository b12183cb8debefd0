"""The long form: schedule after schedule for some minutes, or one again, shrunk to what it takes to fail.

python -m tests.simulation --minutes 5
python -m tests.simulation --world services --seed 1886877179
"""

import argparse
import sys
from collections.abc import Sequence

import numpy as np
from trimtab.testing.simulation import silence

from tests.simulation.explore import explore
from tests.simulation.realms import REALMS, Realm
from tests.simulation.shrink import shrink

PLANTED_SEEDS = 400


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.simulation", description=__doc__)
    parser.add_argument("--world", choices=REALMS, help="what is simulated (default: both, half of the time each)")
    parser.add_argument("--seed", type=int, help="run one schedule (of the runtime, where no world is named) again")
    parser.add_argument("--minutes", type=float, default=1.0)
    parser.add_argument("--first", type=int, help="first seed (default: a fresh one)")
    given = parser.parse_args()
    with silence():
        if given.seed is not None:
            return again(REALMS[given.world or "runtime"], given.seed)
        first = given.first if given.first is not None else int(np.random.SeedSequence().generate_state(1)[0])
        names = [given.world] if given.world else list(REALMS)
        return max(searched(name, first, given.minutes * 60 / len(names)) for name in names)


def searched(name: str, first: int, seconds: float) -> int:
    """Run a world's schedules for so long, then plant its bugs."""
    realm, failed = REALMS[name], list[int]()
    for so_far in explore(first, seconds, realm.fails, chunk=realm.chunk):
        failed += so_far.failed
        print(f"{name}: {so_far}")
    for seed in failed:
        again(realm, seed)
    return int(bool(failed) + planted(realm))


def again(realm: Realm, seed: int) -> int:
    """Run the schedule of a seed; where it fails, say with how little it still does."""
    plan = realm.plan_of(seed)
    outcome = realm.run(plan)
    print(f"{plan}\n{outcome.steps} steps, digest {outcome.digest}")
    if not outcome.findings:
        print("nothing lost, nothing doubled")
        return 0
    tell(outcome.findings)
    least = shrink(plan, lambda smaller: bool(realm.run(smaller).findings))
    print(f"shrunk: {least}")
    tell(realm.run(least).findings)
    return 1


def tell(findings: Sequence[str]) -> None:
    for finding in findings:
        print(f"  FOUND {finding}")


def planted(realm: Realm) -> bool:
    """How many schedules it takes to find each planted bug; whether one is not found."""
    missed = False
    for name in realm.bugs:
        seed = next((seed for seed in range(PLANTED_SEEDS) if realm.found(name, seed)), None)
        missed = missed or seed is None
        print(f"planted: {name:<36}", "NOT FOUND" if seed is None else f"found in schedule {seed + 1}")
    return missed


if __name__ == "__main__":
    sys.exit(main())
