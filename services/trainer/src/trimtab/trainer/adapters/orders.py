"""What is handed to the fitting process. Apart from the work itself, whose libraries only that process imports."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, slots=True)
class Order:
    """A request as it is handed to the fitting process. `declared`: the value of loop.declared.

    `champion`, `first`: {version, format, digest, features_digest, until_ms, recipe} of the models to compare with.
    """

    declared: Mapping[str, Any]
    request_id: str
    cause_kind: str
    at_ms: int
    champion: Mapping[str, Any] | None
    first: Mapping[str, Any] | None
    seed: int = 0
