"""Policies without decisions: the first model kept, one model kept from a date on, a refit on schedule."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from trimtab.cli.backtest.rows import FOREVER_MS, History
from trimtab.ml import packaging, training
from trimtab.ml.scoring import Scorer

SEED = 0
Told = Callable[[int], None]
"""Called with the event time that has been reached, for a progress bar."""


@dataclass(frozen=True, slots=True)
class Kept:
    """`scores`: [n] per ask, NaN before the first model. `fits`: (event time, rows) of each fit."""

    scores: NDArray[np.float64]
    fits: tuple[tuple[int, int], ...]


def due_times(history: History, first_ms: int, every_ms: int | None) -> Iterator[int]:
    """When a schedule fits: at first, and then every so often until the history ends."""
    yield first_ms
    at_ms = first_ms
    while every_ms is not None and (at_ms := at_ms + every_ms) < int(history.asks.at_ms[-1]):
        yield at_ms


def kept(
    history: History, first_ms: int, every_ms: int | None, history_ms: int | None, told: Told = lambda _: None
) -> Kept:
    """Fit at `first_ms` and then on schedule, each time on all matured rows; each model serves from `fit_time` on.

    No gate: whatever comes out is deployed, as a plain cron job does. Models are packaged and scored as they would be
    in production.
    """
    scores = np.full(len(history.asks), np.nan)
    fits = []
    for at_ms in due_times(history, first_ms, every_ms):
        rows = history.matured(at_ms, history_ms)
        fitted = training.fit(history.loop.model, history.loop.task, rows, SEED)
        package = packaging.package(fitted, rows)
        fits.append((at_ms, len(rows)))
        start = int(np.searchsorted(history.asks.at_ms, at_ms + history.loop.train.fit_time_ms))
        served = history.asks.between(at_ms + history.loop.train.fit_time_ms, FOREVER_MS)
        scores[start:] = Scorer.load(package.format, package.blob).score(served)
        told(at_ms)
    return Kept(scores, tuple(fits))
