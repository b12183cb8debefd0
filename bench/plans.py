"""What is measured, and how much of it."""

from dataclasses import dataclass

from made import Size

ALONE = ("forward", "ingest", "feature", "predictor", "monitor", "state")
"""Parts with one service at work, or none."""
TOGETHER = ("loop", "latency", "serving", "restore", "growth")
"""Parts with everything at work."""
PARTS = (*ALONE, *TOGETHER)
HISTORY_DAYS = 31
"""After so many days of flights the first model serves."""


@dataclass(frozen=True, slots=True)
class Plan:
    """`alone_day`: day of the flights at which the stretch that services work off alone ends; `days`: in all, as far as
    there is weather, for a silent source holds the stream.

    `intake`: events that ingest is given alone, in each encoding. `keys`: of tables that are read back. `rates`: events
    a second at which latency is measured, each for so many `seconds`. `monitor_rows`: predictions for the monitor's
    steps. `sizes`: generated loops.
    """

    alone_day: int
    days: int
    intake: int
    keys: int
    rates: tuple[int, ...]
    seconds: float
    monitor_rows: int
    sizes: tuple[Size, ...]


QUICK = Plan(
    alone_day=HISTORY_DAYS + 21,
    days=HISTORY_DAYS + 49,
    intake=100_000,
    keys=100_000,
    rates=(200,),
    seconds=10.0,
    monitor_rows=4_000,
    sizes=(Size(16_000, 1_000, 2), Size(16_000, 10_000, 4)),
)
WHOLE = Plan(
    alone_day=HISTORY_DAYS + 59,
    days=364,
    intake=300_000,
    keys=1_000_000,
    rates=(20, 200, 1_000),
    seconds=20.0,
    monitor_rows=20_000,
    sizes=(
        *(Size(events, 1_000, 2) for events in (20_000, 40_000, 80_000)),
        *(Size(40_000, entities, 2) for entities in (100, 10_000, 40_000)),
        *(Size(40_000, 1_000, partitions) for partitions in (1, 4, 8)),
    ),
)
