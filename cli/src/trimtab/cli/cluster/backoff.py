"""When a process that ended is started again. Pure: times come in as seconds."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Backoff:
    """A crash after a calm run waits for nothing, the n-th after it first · factorⁿ⁻¹ seconds, at most `longest_s`.

    A run is calm that went on for `calm_s` after it was ready: what fails at its start, or at the first thing that it
    does, has to wait.
    """

    first_s: float = 0.5
    factor: float = 2.0
    longest_s: float = 30.0
    calm_s: float = 2.0

    def crashes(self, before: int, ready_s: float) -> int:
        """How many crashes followed the calm run after one more, of a process that was ready so long before."""
        return 0 if ready_s >= self.calm_s else before + 1

    def delay_s(self, crashes: int) -> float:
        """How long to wait before the next start."""
        if not crashes:
            return 0.0
        exponent = min(crashes - 1, 32)
        return min(self.first_s * self.factor**exponent, self.longest_s)
