"""The wall clock of a running service, as an argument to everything that needs it."""

import time
from collections.abc import Callable

Now = Callable[[], int]
"""Ms since the epoch."""


def wall_ms() -> int:
    """The machine's clock."""
    return time.time_ns() // 1_000_000
