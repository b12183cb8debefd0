"""Fixtures of the command's tests."""

import pytest
from trimtab.runtime.kafka.connection import Connection


@pytest.fixture
def broker(kafka: str) -> Connection:
    """How to reach the session's broker."""
    return Connection(kafka)
