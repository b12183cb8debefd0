"""The bus suite runs on both buses."""

from collections.abc import AsyncIterator

import pytest
from trimtab.testing import KafkaLab, Lab, MemoryLab


@pytest.fixture(params=["memory", pytest.param("kafka", marks=pytest.mark.kafka)])
async def lab(request: pytest.FixtureRequest) -> AsyncIterator[Lab]:
    """A bus with handles for tests, in memory and on Kafka."""
    if request.param == "memory":
        async with MemoryLab() as memory:
            yield memory
    else:
        async with KafkaLab(request.getfixturevalue("kafka")) as kafka:
            yield kafka


@pytest.fixture
async def kafka_lab(kafka: str) -> AsyncIterator[KafkaLab]:
    """A lab on the real broker, for what only a broker can do."""
    async with KafkaLab(kafka) as made:
        yield made
