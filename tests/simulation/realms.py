"""The two worlds that are simulated, as the long form sees them."""

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from tests.simulation import bugs, world
from tests.simulation.services import bugs as services_bugs
from tests.simulation.services import stand
from tests.simulation.services import world as services


@dataclass(frozen=True, slots=True)
class Realm:
    """A kind of schedules. `run`: (plan) → findings, steps, digest. `chunk`: schedules that one core runs at a time."""

    plan_of: Callable[[int], Any]
    run: Callable[[Any], "tuple[Sequence[str], int, str]"]
    fails: Callable[[int], bool]
    bugs: Collection[str]
    found: Callable[[str, int], bool]
    chunk: int


def run_runtime(plan: world.Plan) -> tuple[Sequence[str], int, str]:
    """A pipeline of small stages on the real runtime."""
    outcome = world.simulate(plan)
    return outcome.findings, outcome.steps, outcome.digest


def run_services(plan: services.Plan) -> tuple[Sequence[str], int, str]:
    """The seven services."""
    outcome = stand.stand().simulate(plan)
    return outcome.findings, outcome.steps, outcome.digest


def runtime_fails(seed: int) -> bool:
    return bool(run_runtime(world.plan_of(seed))[0])


def services_fail(seed: int) -> bool:
    return bool(run_services(stand.plan_of(seed))[0])


REALMS: Mapping[str, Realm] = {
    "runtime": Realm(world.plan_of, run_runtime, runtime_fails, bugs.BUGS, bugs.found, chunk=50),
    "services": Realm(stand.plan_of, run_services, services_fail, services_bugs.BUGS, services_bugs.found, chunk=5),
}
