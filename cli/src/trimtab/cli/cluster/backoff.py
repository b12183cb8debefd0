"""When a process that ended is started again. Pure: times come in as seconds."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Backoff:
    """The n-th crash in a row waits first · factorⁿ⁻¹ seconds, at most `longest_s`; a run of `calm_s` ends the row."""

    first_s: float = 0.5
    factor: float = 2.0
    longest_s: float = 30.0
    calm_s: float = 60.0

    def crashes(self, before: int, ran_s: float) -> int:
        """How many crashes in a row there are after one more, which came `ran_s` seconds after its start."""
        return 1 if ran_s >= self.calm_s else before + 1

    def delay_s(self, crashes: int) -> float:
        """How long to wait before the next start."""
        exponent = min(crashes - 1, 32)
        return min(self.first_s * self.factor**exponent, self.longest_s)
