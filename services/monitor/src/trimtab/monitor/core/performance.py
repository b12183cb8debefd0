"""What matured outcomes say of each version: metrics, and paired differences against the champion."""

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np
from numpy.typing import NDArray

from trimtab.contracts.control import ModelPerformance, PairedDifference
from trimtab.ml import gate, metrics
from trimtab.ml.metrics import Metric
from trimtab.monitor.core import binned, exact, names
from trimtab.monitor.core.rows import Rows

_VERSUS = names.versus(0).removesuffix("0")
_UNBOUNDED = 1e308
"""JSON has no infinity; below two blocks a difference has no bounds."""


@dataclass(slots=True)
class Tally:
    """Counts and sums by bin of one signal of one version. Mutable while it is being added up."""

    bins: dict[int, list[int]] = field(default_factory=dict)

    def add(self, bin_: int, count: int, units: int) -> None:
        """Add one row."""
        held = self.bins.setdefault(bin_, [0, 0])
        held[0] += count
        held[1] += units

    @property
    def count(self) -> int:
        """All rows."""
        return sum(count for count, _ in self.bins.values())

    @property
    def mean(self) -> float:
        """Their mean; there must be rows."""
        return exact.mean(((b, u) for b, (_, u) in self.bins.items()), self.count)

    @property
    def counts(self) -> Iterable[tuple[int, int]]:
        """(bin, rows)."""
        return [(b, c) for b, (c, _) in self.bins.items()]


Tallies = Mapping[tuple[int, str], Tally]
"""By version and signal."""


def tallied(rows: Rows, name_of: Mapping[int, str]) -> dict[tuple[int, str], Tally]:
    """Rows by version and signal."""
    found = dict[tuple[int, int], Tally]()
    whenever = np.zeros(len(rows), np.int64)
    rows = replace(rows, seen_ms=whenever, asked_ms=whenever).added()
    columns = (rows.version, rows.signal, rows.bin, rows.count, rows.units)
    for version, signal, bin_, count, units in zip(*(c.tolist() for c in columns), strict=True):
        tally = found.get((version, signal))
        if tally is None:
            tally = found[version, signal] = Tally()
        tally.add(bin_, count, units)
    return {(version, name_of[signal]): tally for (version, signal), tally in found.items()}


def beside(rows: Rows, name_of: Mapping[int, str]) -> Rows:
    """Those rows that a paired difference is made of."""
    numbers = [number for number, name in name_of.items() if name.startswith(_VERSUS)]
    return rows.take(np.isin(rows.signal, numbers))


def models(tallies: Tallies, champion: int, metric: Metric) -> Sequence[ModelPerformance]:
    """Each version with labelled rows, the champion first."""
    versions = sorted({version for (version, signal), t in tallies.items() if signal == names.LOSS and t.count > 0})
    return [
        ModelPerformance(
            version=version,
            arm="champion" if version == champion else "shadow",
            rows=tallies[version, names.LOSS].count,
            metrics=_metrics(tallies, version, metric),
        )
        for version in sorted(versions, key=lambda v: (v != champion, v))
    ]


def _metrics(tallies: Tallies, version: int, metric: Metric) -> dict[str, float]:
    loss = tallies[version, names.LOSS]
    found: dict[str, float] = {metric: float(metrics.value(metric, np.array([loss.mean, 1.0])))}
    for name, signal in (("accuracy", names.HIT), ("label_mean", names.LABEL), ("score_mean", names.SCORED)):
        tally = tallies.get((version, signal))
        if tally is not None and tally.count > 0:
            found[name] = tally.mean
    positive, negative = tallies.get((version, names.POSITIVE)), tallies.get((version, names.NEGATIVE))
    area = binned.auc(positive.counts, negative.counts) if positive and negative else None
    return found if area is None else {**found, "auc": area}


def paired(
    by_block: Sequence[Tallies], champion: int, metric: Metric, *, confidence: float, seed: int
) -> Sequence[PairedDifference]:
    """The champion against each other version on the rows that both scored, with bounds over blocks of time."""
    signals = {signal for t in by_block for (v, signal) in t if v == champion and signal.startswith(_VERSUS)}
    others = sorted(int(signal.removeprefix(_VERSUS)) for signal in signals)
    found = list[PairedDifference]()
    for other in others:
        ours, theirs = _parts(by_block, champion, other), _parts(by_block, other, champion)
        if len(ours) and len(ours) == len(theirs):
            measured = gate.measure(metric, ours, theirs, confidence, seed, int(ours[:, 1].sum()))
            found.append(_difference(champion, other, measured))
    return found


def _parts(by_block: Sequence[Tallies], version: int, other: int) -> NDArray[np.float64]:
    """[blocks, 2] sum of losses and rows of `version` where `other` scored too."""
    held = [t[version, names.versus(other)] for t in by_block if (version, names.versus(other)) in t]
    return np.array([[t.mean * t.count, t.count] for t in held if t.count > 0]).reshape(-1, 2)


def _difference(version: int, other: int, measured: gate.Difference) -> PairedDifference:
    bounds = measured.difference, measured.low, measured.high
    difference, low, high = (x if math.isfinite(x) else math.copysign(_UNBOUNDED, x) for x in bounds)
    return PairedDifference(
        version=version,
        other=other,
        rows=measured.rows,
        blocks=measured.blocks,
        difference=difference,
        low=low,
        high=high,
    )
