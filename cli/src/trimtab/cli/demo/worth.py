"""What a loop was worth: its predictions beside those of models kept or refitted by plain rules, on the same rows."""

from collections.abc import Callable, Sequence
from dataclasses import replace
from datetime import UTC, datetime

import numpy as np
import polars as pl
from numpy.typing import NDArray

from trimtab.cli.backtest.contenders import contender
from trimtab.cli.backtest.rows import History
from trimtab.cli.backtest.schedules import Kept, kept
from trimtab.cli.demo.collect import Collected
from trimtab.cli.report.data import Contender
from trimtab.contracts import topics
from trimtab.loops.model import Loop
from trimtab.trainer.adapters.columns import dataset, settled

DAY_MS = 86_400_000
EVERY_MS = 30 * DAY_MS
FOUR_MONTHS = 4
Told = Callable[[str], None]


def history_of(loop: Loop, collected: Collected) -> History:
    """The predictions with their features, in event-time order, and their outcomes."""
    predictions = collected.predictions.sort("at_ms", "key")
    return History(loop, dataset(loop, predictions), settled(loop, predictions, collected.outcomes))


def worth(loop: Loop, collected: Collected, told: Told) -> Sequence[Contender]:
    """The loop, the first model kept, January–April's kept, and a refit every 30 days. Empty without a first model.

    All are measured from the first full month after the first model on; the one that learned of four months only from
    its own start on, beside the loop on the same rows.
    """
    ordered = collected.predictions.sort("at_ms", "key")
    history = history_of(loop, collected)
    trained = collected.control[topics.MODEL_TRAINED]
    deployed = collected.control[topics.DEPLOYMENT_CHANGED]
    if not trained or not deployed:
        return []
    first = trained[0]
    from_ms = month_after(deployed[0].effective_at_ms)
    refits = len(trained)
    measured = Measuring(history, from_ms)
    own = ordered["score"].fill_null(float("nan")).to_numpy()
    told("the loop and its first model")
    found = [
        measured.of("loop", "The loop", refits, own),
        measured.of("first_model", "The first model, kept", 1, first_model_scores(ordered, collected.shadows)),
    ]
    told("a refit every 30 days")
    cron = kept(history, first.at_ms, EVERY_MS, loop.train.window_ms, lambda at: told(f"a refit at {day(at)}"))
    found.append(measured.of("cron_30d", "A refit every 30 days", len(cron.fits), cron.scores))
    spring_ms = months_after(int(history.asks.at_ms[0]), FOUR_MONTHS)
    if spring_ms < int(history.asks.at_ms[-1]) - 2 * DAY_MS:
        told("the model of the first four months")
        spring = kept(history, spring_ms, None, None)
        found += measured.later(spring, spring_ms + loop.train.fit_time_ms, own, refits)
    return found


def first_model_scores(ordered: pl.DataFrame, shadows: pl.DataFrame) -> NDArray[np.float64]:
    """[n] what the first model said, as champion or as shadow; NaN where it was not asked."""
    beside = shadows.filter(pl.col("version") == 1).select("partition", "offset", beside="score")
    joined = ordered.join(beside, on=["partition", "offset"], how="left", maintain_order="left")
    said = joined.select(said=pl.when(pl.col("version") == 1).then("score").otherwise("beside"))
    return said["said"].fill_null(float("nan")).to_numpy()


class Measuring:
    """Contenders over the rows from a time on."""

    def __init__(self, history: History, from_ms: int) -> None:
        self._history, self._from_ms = history, from_ms

    def of(
        self, name: str, title: str, refits: int, scores: NDArray[np.float64], from_ms: int | None = None
    ) -> Contender:
        """A contender on all labelled rows from `from_ms` on."""
        start_ms = self._from_ms if from_ms is None else from_ms
        labels = self._history.labels
        rows = (self._history.asks.at_ms >= start_ms) & ~np.isnan(labels)
        return contender(
            name,
            title,
            refits,
            loop=self._history.loop,
            at_ms=self._history.asks.at_ms[rows],
            labels=labels[rows],
            scores=scores[rows],
        )

    def later(self, spring: Kept, from_ms: int, own: NDArray[np.float64], refits: int) -> list[Contender]:
        """January–April's model, and the loop on its rows."""
        beside = self.of("loop_may_dec", "The loop, from May on", refits, own, from_ms)
        alone = self.of("jan_apr_model", "January–April’s model, kept", 1, spring.scores, from_ms)
        return [replace(alone, beside=beside.name), beside]


def month_after(ms: int) -> int:
    """The start of the next month (UTC)."""
    return months_after(ms, 1)


def months_after(ms: int, months: int) -> int:
    """The start of the month that many months after the one of `ms` (UTC)."""
    at = datetime.fromtimestamp(ms / 1000, UTC)
    count = at.year * 12 + at.month - 1 + months
    return int(datetime(count // 12, count % 12 + 1, 1, tzinfo=UTC).timestamp() * 1000)


def day(ms: int) -> str:
    """The UTC date of a time."""
    return datetime.fromtimestamp(ms / 1000, UTC).strftime("%Y-%m-%d")
