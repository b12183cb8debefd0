"""What every test folder has: the broker, started once per session when a test asks for it, and a fresh seed."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import settings

settings.register_profile("untimed", deadline=None)  # a busy machine is no defect of what is tested
settings.load_profile("untimed")

pytest_plugins = ("tests.fresh",)

CLUSTERS = Path(__file__).parent / "tests" / "integration"


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """What works with a broker runs one after another, on one of pytest-xdist's workers; everything else beside it."""
    for item in items:
        if item.get_closest_marker("kafka") or CLUSTERS in item.path.parents:
            item.add_marker(pytest.mark.xdist_group("broker"))


@pytest.fixture(scope="session")
def kafka(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The bootstrap address of a real Kafka with an empty log; tests use topics and groups of their own."""
    from rich.console import Console
    from trimtab.cli.broker import running_broker, user_jars
    from trimtab.cli.settings import ClusterSettings
    from trimtab.cli.trained import train

    console = Console(stderr=True)
    cache = user_jars(ClusterSettings(), console)
    train(cache, console)
    with running_broker(tmp_path_factory.mktemp("kafka"), cache) as bootstrap:
        yield bootstrap
