"""Silence: what is refused here is refused on purpose."""

from collections.abc import Iterator

import pytest
from trimtab.testing.simulation import silence


@pytest.fixture(autouse=True)
def silent() -> Iterator[None]:
    with silence():
        yield
