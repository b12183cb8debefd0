"""What a simulation complains about."""


class SimulationError(Exception):
    """Root of the simulation's errors."""


class ScheduleStuckError(SimulationError):
    """A schedule does not come to its end."""

    def __init__(self, steps: int, now_s: float) -> None:
        self.steps, self.now_s = steps, now_s
        super().__init__(f"no end after {steps} steps, at {now_s:.1f} virtual seconds")
