"""The two worlds that are simulated, as the long form sees them."""

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from typing import Any

from tests.simulation import bugs, world
from tests.simulation.outcome import Outcome
from tests.simulation.services import bugs as services_bugs
from tests.simulation.services import stand
from tests.simulation.services import world as services


@dataclass(frozen=True, slots=True)
class Realm:
    """A kind of schedules. `chunk`: so many one core runs at a time."""

    plan_of: Callable[[int], Any]
    run: Callable[[Any], Outcome]
    fails: Callable[[int], bool]
    bugs: Collection[str]
    found: Callable[[str, int], bool]
    chunk: int


def run_services(plan: services.Plan) -> Outcome:
    """On this process's stand."""
    return stand.stand().simulate(plan)


def runtime_fails(seed: int) -> bool:
    return bool(world.simulate(world.plan_of(seed)).findings)


def services_fail(seed: int) -> bool:
    return bool(run_services(stand.plan_of(seed)).findings)


REALMS: Mapping[str, Realm] = {
    "runtime": Realm(world.plan_of, world.simulate, runtime_fails, bugs.BUGS, bugs.found, chunk=50),
    "services": Realm(stand.plan_of, run_services, services_fail, services_bugs.BUGS, services_bugs.found, chunk=5),
}
