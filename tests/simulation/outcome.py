"""How a schedule ended, whichever world it was run in."""

from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Outcome:
    """`findings`: what is not as it must be. `digest`: of every choice made and every record written."""

    findings: Sequence[str]
    digest: str
    steps: int
