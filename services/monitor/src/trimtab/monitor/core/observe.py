"""What predictions show by themselves: sums per bucket, version and signal. No state; columns in, columns out."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from trimtab.monitor.core import exact, names
from trimtab.monitor.core.predictions import NO_MODEL, Floats, Ints, Predictions
from trimtab.monitor.core.rows import Rows, joined
from trimtab.monitor.core.silence import HOUR_MS, Expectation, starts

ONE = 1 << 24
"""The number 1 in units of bin 0."""


@dataclass(frozen=True, slots=True)
class KnownModel:
    """What a model was trained on: per number its range [k] (NaN: unknown), per category its values (None: unknown).

    `classes`: the order of its probabilities (multiclass), else empty.
    """

    low: Floats
    high: Floats
    categories: Sequence[frozenset[str] | None]
    classes: Sequence[str] = ()


@dataclass(frozen=True, slots=True)
class Groups:
    """Rows that share a bucket and a version. `of`: the group of each row."""

    start_ms: Ints
    version: Ints
    of: Ints

    def __len__(self) -> int:
        return len(self.start_ms)


def grouped(at_ms: Ints, version: Ints, width_ms: int = HOUR_MS) -> Groups:
    """The (bucket, version) of each row."""
    start = at_ms // width_ms
    pairs, of = np.unique(np.stack([start, version]), axis=1, return_inverse=True)
    return Groups(pairs[0] * width_ms, pairs[1], of.reshape(-1))


@dataclass(frozen=True, slots=True)
class Named:
    """Rows whose `signal` indexes `names`."""

    names: Sequence[str]
    rows: Rows


def sums(groups: Groups, values: Floats) -> tuple[Ints, Ints, Ints, Ints, Ints]:
    """(group, column, bin, count, units) of the values [n, k] that are not NaN, added per group and column."""
    row, column = np.nonzero(~np.isnan(values))
    bins, units = exact.quantise(values[row, column])
    used, code = np.unique(bins, return_inverse=True)
    shape = (len(groups), values.shape[1], max(len(used), 1))
    flat = np.ravel_multi_index((groups.of[row], column, code), shape) if len(row) else np.empty(0, np.int64)
    size = int(np.prod(shape))
    counts = np.bincount(flat, minlength=size)
    added = np.bincount(flat, weights=units.astype(np.float64), minlength=size)
    held = np.flatnonzero(counts)
    group, signal, bin_code = np.unravel_index(held, shape)
    return group, signal, used[bin_code], counts[held], added[held].astype(np.int64)


def shares(groups: Groups, flags: NDArray[np.bool_]) -> tuple[Ints, Ints, Ints]:
    """(group, column, count) of the flags [n, k] that are set."""
    row, column = np.nonzero(flags)
    flat = groups.of[row] * flags.shape[1] + column
    counts = np.bincount(flat, minlength=len(groups) * flags.shape[1])
    held = np.flatnonzero(counts)
    return held // flags.shape[1], held % flags.shape[1], counts[held]


def observed(
    predictions: Predictions, features: names.FeatureNames, models: Mapping[int, KnownModel], estimate: Floats
) -> Named:
    """Rows of the predictions that a model made: their number, scores, estimates, features, and what is amiss.

    `models`: by version, one for each that occurs. `estimate` [n]: the loss the scores promise, NaN where none.
    """
    scored = predictions.version != NO_MODEL
    groups = grouped(predictions.at_ms[scored], predictions.version[scored])
    score = predictions.scores[scored].max(axis=1, initial=-np.inf)
    numbers, categories = _finite(predictions.numbers[scored]), predictions.categories[scored]
    values = np.column_stack([score, estimate[scored], numbers])
    group, column, bins, count, units = sums(groups, values)
    flagged, flag, flags = shares(groups, _amiss(predictions.version[scored], numbers, categories, models))
    everyone = np.bincount(groups.of, minlength=len(groups))
    group = np.concatenate([np.arange(len(groups)), group, flagged])
    start = groups.start_ms[group]
    return Named(
        names=[names.ROWS, names.SCORE, names.ESTIMATE, *map(names.feature, features.numbers), *_flag_names(features)],
        rows=Rows(
            seen_ms=start,
            asked_ms=start,
            version=groups.version[group],
            signal=np.concatenate([np.zeros_like(everyone), 1 + column, 1 + values.shape[1] + flag]),
            bin=np.concatenate([np.zeros_like(everyone), bins, np.zeros_like(flag)]),
            count=np.concatenate([everyone, count, flags]),
            units=np.concatenate([np.zeros_like(everyone), units, flags * ONE]),
        ),
    )


def _finite(numbers: Floats) -> Floats:
    """An infinity is no measurement: missing, as for the model."""
    return np.where(np.isfinite(numbers), numbers, np.nan)


def _flag_names(features: names.FeatureNames) -> Sequence[str]:
    """What the columns of `_amiss` are called."""
    return [
        *(names.missing(n) for n in (*features.numbers, *features.categories)),
        *(names.beyond(n) for n in features.numbers),
        *(names.unseen(n) for n in features.categories),
    ]


def _amiss(
    version: Ints, numbers: Floats, categories: NDArray[np.object_], models: Mapping[int, KnownModel]
) -> NDArray[np.bool_]:
    """[n, 2 (k + c)] flags: number missing, category missing, number out of range, category unseen."""
    absent = np.fromiter((c is None for c in categories.flat), np.bool_, categories.size).reshape(categories.shape)
    outside, strange = np.zeros(numbers.shape, np.bool_), np.zeros(categories.shape, np.bool_)
    for known in np.unique(version).tolist():
        model, those = models[known], version == known
        outside[those] = (numbers[those] < model.low) | (numbers[those] > model.high)
        strange[those] = _strange(categories[those], model)
    return np.column_stack([np.isnan(numbers), absent, outside, strange & ~absent])


def _strange(categories: NDArray[np.object_], model: KnownModel) -> NDArray[np.bool_]:
    columns = [
        np.zeros(len(column), np.bool_)
        if known is None
        else np.fromiter((value not in known for value in column.tolist()), np.bool_, len(column))
        for column, known in zip(categories.T, model.categories, strict=True)
    ]
    return np.column_stack(columns) if columns else np.zeros(categories.shape, np.bool_)


def counted(name: str, at_ms: Ints, expected: Expectation | None = None) -> Named:
    """How many events fell into each bucket, as rows of the signal `name` without a version.

    `expected`: of the buckets in `asked_ms`, by which silence is judged; what of one is in two hours makes two rows.
    """
    first, count = np.unique(np.maximum(starts(None, at_ms), starts(expected, at_ms)), return_counts=True)
    nothing = np.zeros_like(first)
    return Named(
        [name],
        Rows(starts(None, first), starts(expected, first), nothing, nothing, nothing, count.astype(np.int64), nothing),
    )


def merged(parts: Sequence[Named]) -> Named:
    """One table of names for all parts; rows with equal keys are added."""
    index = dict[str, int]()
    rows = list[Rows]()
    for part in parts:
        codes = np.array([index.setdefault(name, len(index)) for name in part.names], np.int64)
        r = part.rows
        rows.append(Rows(r.seen_ms, r.asked_ms, r.version, codes[r.signal], r.bin, r.count, r.units))
    return Named(list(index), joined(rows).added())
