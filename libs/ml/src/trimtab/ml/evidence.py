"""Ranks, bets and what they add up to: the state of a detector between looks."""

import struct
from dataclasses import dataclass, replace
from statistics import NormalDist

import numpy as np
from numpy.typing import NDArray

from trimtab.ml.seasons import Floats, Ints

SHIFTS = np.array([0.5, 1.0, 2.0, 3.0])
"""The shifts, in standard deviations of a look, that bets are laid on."""
NEVER_MS = -(2**62)
_LARGEST_LOG = 600.0
_SMALLEST_P = 1e-12


@dataclass(frozen=True, slots=True, eq=False)
class Evidence:
    """What a detector remembers between looks, beside the looks themselves.

    `m` [k, 2, d]: Shiryaev-Roberts' statistic of each signal, direction (up, down) and shift. `cusum` [k, 2, d]: the
    log of Page's statistic of the same bets; `began_ms` [k, 2, d]: when its present excursion began. `from_ms` [k]:
    looks that start before do not count for the signal any more. `looks`: how many have been judged.
    """

    m: Floats
    cusum: Floats
    began_ms: Ints
    from_ms: Ints
    looks: int

    def pack(self) -> bytes:
        """As bytes, the same for the same evidence."""
        head = struct.pack("<qq", len(self.from_ms), self.looks)
        floats = np.concatenate([self.m.ravel(), self.cusum.ravel()]).astype("<f8").tobytes()
        return head + floats + np.concatenate([self.began_ms.ravel(), self.from_ms]).astype("<i8").tobytes()


def unpack(data: bytes) -> Evidence:
    """The inverse of `Evidence.pack`."""
    signals, looks = struct.unpack_from("<qq", data)
    shape = (signals, 2, len(SHIFTS))
    size = signals * 2 * len(SHIFTS)
    floats = np.frombuffer(data, "<f8", 2 * size, 16).astype(np.float64)
    ints = np.frombuffer(data, "<i8", offset=16 + 16 * size).astype(np.int64)
    return Evidence(
        m=floats[:size].reshape(shape),
        cusum=floats[size:].reshape(shape),
        began_ms=ints[:size].reshape(shape),
        from_ms=ints[size:],
        looks=looks,
    )


def fresh(signals: int) -> Evidence:
    """The evidence before the first look."""
    shape = (signals, 2, len(SHIFTS))
    none = np.zeros(shape)
    return Evidence(none, none, np.full(shape, NEVER_MS), np.full(signals, NEVER_MS), 0)


def upper_p(residual: Floats, seed: int) -> Floats:
    """[k] smoothed rank of the last row among all: small where it is high; NaN where it has none.

    p = (#{greater} + u #{equal, itself included}) / #{all} with u uniform, drawn from the look's own start.
    """
    newest = residual[-1]
    greater = (residual > newest).sum(axis=0)
    equal = (residual == newest).sum(axis=0)
    held = np.isfinite(residual).sum(axis=0)
    u = np.random.default_rng(seed % 2**63).random(len(newest))
    return np.where(np.isfinite(newest), (greater + u * equal) / np.maximum(held, 1), np.nan)


def normal_scores(p: Floats) -> Floats:
    """z with P(Z > z) = p."""
    inverse = NormalDist().inv_cdf
    return np.array([-inverse(min(max(x, _SMALLEST_P), 1.0 - _SMALLEST_P)) for x in p.tolist()])


def raised(evidence: Evidence, p: Floats, start_ms: int) -> Evidence:
    """The evidence after one more look; signals without rows in it stay as they are."""
    judged = np.isfinite(p)
    z = normal_scores(np.where(judged, p, 0.5))
    log_bets = np.stack([z, -z], axis=1)[:, :, None] * SHIFTS - SHIFTS**2 / 2.0
    now = judged[:, None, None]
    fresh = now & (evidence.cusum <= 0.0)
    bets = np.exp(log_bets)
    return Evidence(
        m=np.where(now, np.minimum((evidence.m + 1.0) * bets, np.exp(_LARGEST_LOG)), evidence.m),
        cusum=np.where(now, np.maximum(evidence.cusum, 0.0) + log_bets, evidence.cusum),
        began_ms=np.where(fresh, start_ms, evidence.began_ms),
        from_ms=evidence.from_ms,
        looks=evidence.looks + 1,
    )


def leading_began(evidence: Evidence, one_sided: NDArray[np.bool_]) -> Ints:
    """[k] when the excursion behind each signal's largest M began."""
    m = evidence.m.copy()
    m[one_sided, 1] = -1.0
    flat = m.reshape(len(m), -1)
    return np.asarray(evidence.began_ms.reshape(len(m), -1)[np.arange(len(m)), flat.argmax(axis=1)])


def reset(evidence: Evidence, told: NDArray[np.bool_], drifted: NDArray[np.bool_], began: Ints) -> Evidence:
    """What was told without evidence; what drifted also with the looks since the change as its only reference."""
    clear = told[:, None, None]
    return replace(
        evidence,
        m=np.where(clear, 0.0, evidence.m),
        cusum=np.where(clear, 0.0, evidence.cusum),
        from_ms=np.where(drifted, began, evidence.from_ms),
    )
