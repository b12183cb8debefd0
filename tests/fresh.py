"""The fresh seed of a session, named in pytest's header. A plugin: xdist's workers run the seed that is printed."""

from typing import Protocol

import numpy as np
import pytest

SEED = pytest.StashKey[int]()


class Node(Protocol):
    """A worker as xdist's controller sees it; xdist has no types."""

    config: pytest.Config
    workerinput: dict[str, int]


def pytest_configure(config: pytest.Config) -> None:
    """Draw the seed, once for all workers."""
    given: dict[str, int] = getattr(config, "workerinput", {})
    config.stash[SEED] = given.get("fresh_seed", int(np.random.SeedSequence().generate_state(1)[0]))


@pytest.hookimpl(optionalhook=True)
def pytest_configure_node(node: Node) -> None:
    """Hand it to a worker."""
    node.workerinput["fresh_seed"] = node.config.stash[SEED]


def pytest_report_header(config: pytest.Config) -> str:
    return f"fresh seed: {config.stash[SEED]}"


@pytest.fixture(scope="session")
def fresh_seed(pytestconfig: pytest.Config) -> int:
    """The first of the seeds that no earlier session has had."""
    return pytestconfig.stash[SEED]
