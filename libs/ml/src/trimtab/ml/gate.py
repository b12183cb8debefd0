"""The gate: is a challenger good enough to take the champion's place?

Both are asked about the same matured rows, later than both training ends. Rows of one day share their weather, so
whole blocks of time are drawn again (block bootstrap, Künsch 1989): on flights the day-block error of a difference is
4 to 10 times that of independent rows.
"""

from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from trimtab.ml import metrics
from trimtab.ml.metrics import HIGHER_IS_BETTER, Metric, Parts

Rule = Literal["not_worse", "better"]
DRAWS = 2_000
FEWEST_BLOCKS = 3
"""With fewer blocks there is no saying how much they vary, and nothing passes."""


@dataclass(frozen=True, slots=True)
class Judge:
    """How a comparison is decided.

    `margin`: the share of the other's metric by which "not_worse" may lose. `confidence`: of each of the two bounds
    (0.9: the difference is above the upper one with probability 0.1).
    """

    metric: Metric
    rule: Rule
    margin: float
    confidence: float
    block_ms: int
    seed: int


@dataclass(frozen=True, slots=True)
class Difference:
    """Challenger less other, in the metric's own units, with one-sided bounds."""

    challenger: float
    other: float
    difference: float
    low: float
    high: float
    rows: int
    blocks: int


@dataclass(frozen=True, slots=True)
class Comparison:
    """A difference and whether it is good enough."""

    measured: Difference
    passed: bool


def compare(
    judge: Judge,
    labels: NDArray[np.float64],
    at_ms: NDArray[np.int64],
    challenger: NDArray[np.float64],
    other: NDArray[np.float64],
) -> Comparison:
    """Compare two models' scores of the same rows. Deterministic for a seed.

    passed: "not_worse": the worse bound of the difference is within `margin` of the other's metric; "better": the
    worse bound is on the better side of zero. Never passed on fewer than 3 blocks.
    """
    blocks = metrics.blocks_of(at_ms, judge.block_ms)
    ours = metrics.parts(judge.metric, labels, challenger, blocks)
    theirs = metrics.parts(judge.metric, labels, other, blocks)
    return judged(judge, ours, theirs, len(labels))


def compare_losses(
    judge: Judge, at_ms: NDArray[np.int64], challenger: NDArray[np.float64], other: NDArray[np.float64]
) -> Comparison:
    """As `compare`, from the rows' losses (`metrics.row_losses`): for models whose classes differ."""
    blocks = metrics.blocks_of(at_ms, judge.block_ms)
    return judged(judge, _summed(challenger, blocks), _summed(other, blocks), len(at_ms))


def _summed(losses: NDArray[np.float64], blocks: metrics.Blocks) -> Parts:
    return np.column_stack([np.bincount(blocks, weights=losses), np.bincount(blocks).astype(np.float64)])


def judged(judge: Judge, ours: Parts, theirs: Parts, rows: int) -> Comparison:
    """The comparison from each model's parts by block."""
    measured = measure(judge.metric, ours, theirs, judge.confidence, judge.seed, rows)
    return Comparison(measured, _passes(judge, measured))


def _passes(judge: Judge, measured: Difference) -> bool:
    if measured.blocks < FEWEST_BLOCKS:
        return False
    worst = -measured.low if judge.metric in HIGHER_IS_BETTER else measured.high
    if judge.rule == "better":
        return worst < 0.0
    return worst <= judge.margin * abs(measured.other)


def measure(metric: Metric, ours: Parts, theirs: Parts, confidence: float, seed: int, rows: int) -> Difference:
    """The paired difference and its bounds by block bootstrap.

    Percentiles of the drawn differences, widened around the observed one by √(b / (b - 1)) for b blocks, because b
    blocks drawn from b vary less than blocks do (Efron 1982). Bounds are infinite below 2 blocks.
    """
    blocks = len(ours)
    challenger, other = (
        float(metrics.value(metric, parts.sum(axis=0))) if blocks else np.nan for parts in (ours, theirs)
    )
    difference = challenger - other
    low, high = -np.inf, np.inf
    if blocks > 1:
        drawn = _drawn(metric, ours, theirs, seed)
        widened = difference + (drawn - difference) * np.sqrt(blocks / (blocks - 1))
        low, high = np.nanquantile(widened, [1.0 - confidence, confidence])
    return Difference(challenger, other, difference, float(low), float(high), rows, blocks)


def _drawn(metric: Metric, ours: Parts, theirs: Parts, seed: int) -> NDArray[np.float64]:
    """[draws] differences over as many blocks drawn with replacement: how often each was drawn, times its parts."""
    times = np.random.default_rng(seed).multinomial(len(ours), np.full(len(ours), 1.0 / len(ours)), size=DRAWS)
    return metrics.value(metric, times @ ours) - metrics.value(metric, times @ theirs)
