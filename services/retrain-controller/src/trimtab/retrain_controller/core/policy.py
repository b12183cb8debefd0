"""What a loop's declaration says about retraining, as far as the controller needs it."""

from dataclasses import dataclass

from trimtab.loops.model import Loop

FIRST_GROWTH = 1.5
"""Where `grown` is switched off: how much more data a failed first training waits for."""
HOUR_MS = 3_600_000


@dataclass(frozen=True, slots=True)
class Policy:
    """Durations are ms of event time.

    `on`: kinds of drift that ask for a retrain, as the declaration names them. `windowed`: training sees a window,
    not all history. `judged_after_ms`: from a promotion until the labels of its whole watch have matured. `features`:
    the digest of the loop's features, "" where it is not known. `matured_after_ms`: from the newest event time that was
    heard of until a measurement counts all that was asked up to then, and an hour more.
    """

    loop_version: int
    on: tuple[str, ...]
    grown: float | None
    max_age_ms: int | None
    every_ms: int | None
    cooldown_ms: int
    budget: int
    budget_per_ms: int
    first_rows: int
    first_positives: int
    windowed: bool
    judged_after_ms: int
    features: str = ""
    matured_after_ms: int = 0

    @property
    def first_growth(self) -> float:
        """By how much the rows must have grown before a failed first training is tried again."""
        return self.grown or FIRST_GROWTH


def policy_of(loop: Loop) -> Policy:
    """The policy of a declared loop."""
    count, per_ms = loop.retrain.budget
    return Policy(
        loop_version=loop.version,
        on=tuple(loop.retrain.on),
        grown=loop.retrain.grown,
        max_age_ms=loop.retrain.max_age_ms,
        every_ms=loop.retrain.every_ms,
        cooldown_ms=loop.retrain.cooldown_ms,
        budget=count,
        budget_per_ms=per_ms,
        first_rows=loop.train.first_rows,
        first_positives=loop.train.first_positives,
        windowed=loop.train.window_ms is not None,
        judged_after_ms=loop.gate.watch_ms + loop.verdict_ms,
        features=loop.features.digest,
        # event time is told of once an hour, and a measurement counts whole hours of asking
        matured_after_ms=loop.label.mature_ms + loop.lateness_ms + 2 * HOUR_MS,
    )
