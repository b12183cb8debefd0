"""What goes wrong in a run, and when: data, so that a run can be repeated with less of it."""

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum

from trimtab.testing.simulation.dice import Dice


class Kind(StrEnum):
    """What happens."""

    KILL = "kill"
    PAUSE = "pause"
    JOIN = "join"
    LEAVE = "leave"
    LOSE = "lose a request"
    UNANSWERED = "lose an answer"
    HOLD = "hold a request"
    STORM = "lose and hold many requests"
    COMPACT = "compact the logs"


@dataclass(frozen=True, slots=True)
class Fault:
    """Before the `step`-th callback of the run. `who`: counts through the processes that run then.

    `lasts_s`: how long a process is paused, or dead until it is started again; how long a storm goes on.
    """

    step: int
    kind: Kind
    who: int = 0
    lasts_s: float = 0.0

    def __str__(self) -> str:
        return f"step {self.step}: {self.kind} (process {self.who}, {self.lasts_s:.2f} s)"


def draw(dice: Dice, *, most: int, steps: int) -> Sequence[Fault]:
    """Up to `most` faults, at least one, within so many steps.

    Of some kinds only: so what is rare together becomes likely (Groce et al., Swarm Testing, ISSTA 2012).
    """
    kinds = [kind for kind in Kind if dice.chance(0.5)] or list(Kind)
    made = [
        Fault(dice.below(steps), dice.pick(kinds), dice.below(8), dice.unit() ** 2) for _ in range(1 + dice.below(most))
    ]
    return sorted(made, key=lambda fault: fault.step)
