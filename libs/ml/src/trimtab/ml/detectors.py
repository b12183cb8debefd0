"""The drift detector of one model version: a conformal Shiryaev-Roberts e-detector over looks.

A *look* is a stretch of event time; per signal it is summed up by its mean. While nothing changes, looks (less their
season) are exchangeable, so the rank of the newest among all since the reference began is uniform, whatever the
distribution: a conformal p-value (Vovk, arXiv 2102.10439; smoothed at ties). Looks that remember the one before are
whitened first (`seasons.innovations`). With z the normal score of p, the bet exp(δz - δ²/2) has mean 1 then, and grows
fastest when the signal has moved by δ standard deviations of a look. For each signal, direction and δ of a small grid,
Shiryaev-Roberts' M ← (M + 1)·bet has mean t after t looks, so the weighted mean of all M needs at least `threshold`
looks on average to reach it (e-detectors: Shin, Ramdas, Rinaldo, NEJSDS 2024; means over streams: Dandapanthula,
Ramdas, arXiv 2501.04130): that is the promise of `false_alarms`.

Which signals drifted is decided by e-Benjamini-Hochberg on weighted evidence; since when by the start of the CUSUM
that belongs to the leading M.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from trimtab.ml.evidence import Evidence, fresh, leading_began, raised, reset, upper_p
from trimtab.ml.seasons import Floats, Ints, centred, innovations
from trimtab.ml.signals import Kind, Signal

MOST_LOOKS = 2_000
"""Older looks than these are not looked at any more."""
_NAMED = 20


@dataclass(frozen=True, slots=True, eq=False)
class Looks:
    """Looks in the order in which they were closed: start [t], means [t, k] (NaN: no rows), rows [t, k]."""

    start_ms: Ints
    means: Floats
    counts: Ints

    def __len__(self) -> int:
        return len(self.start_ms)

    def and_then(self, start_ms: int, means: Floats, counts: Ints) -> "Looks":
        """These looks and a newest one."""
        return Looks(
            start_ms=np.append(self.start_ms, np.int64(start_ms)),
            means=np.vstack([self.means, means]),
            counts=np.vstack([self.counts, counts]),
        )

    def newest(self, most: int = MOST_LOOKS) -> "Looks":
        """At most so many of the newest."""
        return Looks(self.start_ms[-most:], self.means[-most:], self.counts[-most:])


@dataclass(frozen=True, slots=True)
class Drifted:
    """A signal at the time of an alarm. Means are over rows before and since the change; None where there are none."""

    name: str
    kind: Kind
    weight: float
    evidence: float
    reference_mean: float | None
    recent_mean: float | None
    shift_sd: float | None
    drifted: bool


@dataclass(frozen=True, slots=True)
class Alarm:
    """The weighted evidence has reached the threshold. `since_ms`: when the change began. Leading signals first."""

    at_ms: int
    since_ms: int
    evidence: float
    threshold: float
    looks: int
    signals: tuple[Drifted, ...]


@dataclass(frozen=True, slots=True)
class LoopDetector:
    """The detector of one version. Pure: what it knows is in the evidence and the looks, which their owner keeps.

    `threshold`: the loop's mean time between false alarms in looks. Looks of labelled signals may come later than
    those of the others, as looks of their own in which the others are NaN.
    """

    signals: tuple[Signal, ...]
    look_ms: int
    season_ms: int
    threshold: float

    def fresh(self) -> Evidence:
        """The evidence before the first look."""
        return fresh(len(self.signals))

    def judge(self, evidence: Evidence, looks: Looks) -> tuple[Evidence, Alarm | None]:
        """Judge the newest of all looks, those of the reference first. Deterministic.

        After an alarm the signals that drifted begin anew, with the looks since the change as their reference: a drift
        is told once.
        """
        looks = looks.newest()
        residual = self._residual(evidence, looks)
        p = upper_p(residual, int(looks.start_ms[-1]))
        now = raised(evidence, p, int(looks.start_ms[-1]))
        strength = self._strength(now)
        if float(self._weights @ strength) < self.threshold:
            return now, None
        chosen = self._chosen(strength)
        alarm = self._alarm(now, looks, residual, strength, chosen)
        return reset(now, self._told(chosen), chosen, leading_began(now, self._one_sided)), alarm

    @property
    def _weights(self) -> Floats:
        return np.array([signal.weight for signal in self.signals])

    @property
    def _one_sided(self) -> NDArray[np.bool_]:
        """A loss that falls is no drift to be told of."""
        return np.array([signal.kind == "loss" for signal in self.signals])

    def _residual(self, evidence: Evidence, looks: Looks) -> Floats:
        """[t, k] what is new in each look, in units that make large and small looks comparable; NaN: no look of it."""
        means = np.where(looks.start_ms[:, None] >= evidence.from_ms, looks.means, np.nan)
        residual = innovations(centred(looks.start_ms, means, self.look_ms, self.season_ms))
        return residual * _precision(looks.counts, np.isfinite(residual))

    def _strength(self, evidence: Evidence) -> Floats:
        """[k] each signal's M: the mean over shifts, and over directions where both count."""
        up, down = evidence.m.mean(axis=2).T
        return np.asarray(np.where(self._one_sided, up, (up + down) / 2.0))

    def _chosen(self, strength: Floats) -> NDArray[np.bool_]:
        """Which signals drifted: weighted e-Benjamini-Hochberg (Wang, Ramdas, JRSS B 2022), and at least as many of the
        leading ones that what remains of the evidence is below the threshold."""
        share = self._weights * strength / self.threshold
        order = np.argsort(-share, kind="stable")
        places = np.arange(1, len(share) + 1)
        significant = np.flatnonzero(share[order] >= 1.0 / places)
        remains = share.sum() - np.cumsum(share[order])
        needed = int(np.flatnonzero(remains < 1.0)[0]) + 1
        count = max(needed, int(significant[-1]) + 1 if len(significant) else 1)
        chosen = np.zeros(len(share), dtype=bool)
        chosen[order[:count]] = True
        return chosen

    def _told(self, chosen: NDArray[np.bool_]) -> NDArray[np.bool_]:
        """Whose evidence is spent: what drifted, and if that is a feature all features (one moves, others follow)."""
        of_features = np.array([signal.kind in ("feature", "missing", "unseen") for signal in self.signals])
        return chosen | of_features if (chosen & of_features).any() else chosen

    def _alarm(
        self, evidence: Evidence, looks: Looks, residual: Floats, strength: Floats, chosen: NDArray[np.bool_]
    ) -> Alarm:
        began = leading_began(evidence, self._one_sided)
        order = np.argsort(-self._weights * strength, kind="stable")
        told = [i for place, i in enumerate(order.tolist()) if place < _NAMED or chosen[i]]
        return Alarm(
            at_ms=int(looks.start_ms[-1]) + self.look_ms,
            since_ms=int(began[order[0]]),
            evidence=float(self._weights @ strength),
            threshold=self.threshold,
            looks=evidence.looks,
            signals=tuple(
                _drifted(self.signals[i], float(strength[i]), looks, residual, (i, int(began[i])), bool(chosen[i]))
                for i in told
            ),
        )


def _precision(counts: Ints, held: NDArray[np.bool_]) -> Floats:
    """[t, k] √(n / (n + typical n)): a mean of few rows is no outlier for lying far out."""
    rows = np.where(held, counts, 0).astype(np.float64)
    typical = rows.sum(axis=0) / np.maximum(held.sum(axis=0), 1)
    return np.asarray(np.sqrt(rows / np.maximum(rows + typical, 1.0)))


def _drifted(
    signal: Signal, strength: float, looks: Looks, residual: Floats, change: tuple[int, int], chosen: bool
) -> Drifted:
    column, began_ms = change
    held = np.isfinite(residual[:, column])
    recent = held & (looks.start_ms >= began_ms)
    before, after = _mean(looks, column, held & ~recent), _mean(looks, column, recent)
    spread = float(looks.means[held & ~recent, column].std()) if (held & ~recent).any() else 0.0
    known = before is not None and after is not None and spread > 0.0
    return Drifted(
        name=signal.name,
        kind=signal.kind,
        weight=signal.weight,
        evidence=strength,
        reference_mean=before,
        recent_mean=after,
        shift_sd=(after - before) / spread if known and after is not None and before is not None else None,
        drifted=chosen,
    )


def _mean(looks: Looks, column: int, rows: NDArray[np.bool_]) -> float | None:
    """The mean over the rows of the chosen looks."""
    counts = looks.counts[rows, column]
    return float(looks.means[rows, column] @ counts / counts.sum()) if counts.sum() else None
