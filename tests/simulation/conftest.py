"""How much is simulated, named in pytest's header, and silence: thousands of tasks fail here on purpose."""

from collections.abc import Iterator

import pytest
from trimtab.testing.simulation import silence

from tests.simulation.short import RUNTIME_FIXED, RUNTIME_FRESH, SERVICES_FIXED, SERVICES_FRESH


def pytest_report_header() -> str:
    runtime, services = RUNTIME_FIXED + RUNTIME_FRESH, SERVICES_FIXED + SERVICES_FRESH
    return f"simulation: {runtime} schedules of the runtime, {services} of the services"


@pytest.fixture(autouse=True)
def silent() -> Iterator[None]:
    with silence():
        yield
