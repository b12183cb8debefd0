"""What the core asks of the world outside."""

from collections.abc import Callable, Mapping
from typing import Any

ResolveSchema = Callable[[int], Mapping[str, Any] | None]
"""Confluent schema id → Avro schema; None where nobody knows it. An id's schema never changes."""
Keep = Callable[[bytes], str]
"""Keeps the bytes and gives their digest; the same bytes again change nothing."""


def no_registry(_: int) -> Mapping[str, Any] | None:
    """Where no schema registry is configured, no id is known."""
    return None
