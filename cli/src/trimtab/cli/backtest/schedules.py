"""Policies without decisions: the first model kept, one model kept from a date on, a refit on schedule."""

import os
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import pairwise

import numpy as np

from trimtab.cli.backtest.rows import FOREVER_MS, History
from trimtab.ml import packaging, training
from trimtab.ml.scoring import Scorer, Scores

SEED = 0
Told = Callable[[int], None]
"""Called with the event time that has been reached, for a progress bar."""


@dataclass(frozen=True, slots=True)
class Kept:
    """`scores`: per ask, see `History.unscored`. `fits`: (event time, rows) of each fit; `fit_s`: their CPU."""

    scores: Scores
    fits: tuple[tuple[int, int], ...]
    fit_s: float


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
    scores = history.unscored(len(history.asks))
    fits, fit_s = [], 0.0
    spans = list(pairwise([*due_times(history, first_ms, every_ms), FOREVER_MS]))
    with training.confined(), ThreadPoolExecutor(os.cpu_count()) as pool:
        for (at_ms, _), served in zip(
            spans, pool.map(lambda span: _served(history, history_ms, span), spans), strict=True
        ):
            scores[served.first : served.first + len(served.scores)] = served.scores
            fits.append((at_ms, served.learned))
            fit_s += served.fit_s
            told(at_ms)
    return Kept(scores, tuple(fits), fit_s)


@dataclass(frozen=True, slots=True)
class _Served:
    """What one model says of the asks that it serves, from the first of them on, and how many rows it learned from."""

    first: int
    scores: Scores
    learned: int
    fit_s: float


def _served(history: History, history_ms: int | None, span: tuple[int, int]) -> _Served:
    """The model of a fit at the span's start, which serves until that of a fit at its end."""
    rows = history.matured(span[0], history_ms)
    fitted = training.fit(history.loop.model, history.loop.task, rows, SEED)
    package = packaging.package(fitted, rows)
    from_ms, until_ms = (at_ms + history.loop.train.fit_time_ms for at_ms in span)
    asks = history.asks.between(from_ms, until_ms)
    scorer = Scorer.load(package.format, package.blob)
    said = history.in_columns(scorer.score(asks), scorer.spec.classes)
    return _Served(int(np.searchsorted(history.asks.at_ms, from_ms)), said, len(rows), fitted.cpu_s)
