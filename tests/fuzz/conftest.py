"""A fresh seed of this session, named in pytest's header, and silence: what is refused here is refused on purpose."""

from collections.abc import Iterator

import numpy as np
import pytest
from trimtab.testing.simulation import silence

FRESH = int(np.random.SeedSequence().generate_state(1)[0])


def pytest_report_header() -> str:
    return f"fuzz: fresh seed {FRESH}"


@pytest.fixture
def fresh_seed() -> int:
    return FRESH


@pytest.fixture(autouse=True)
def silent() -> Iterator[None]:
    with silence():
        yield
