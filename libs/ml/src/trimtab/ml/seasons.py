"""What is new in a look: its mean less its season, less what the look before foretold."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]

HOUR_MS = 3_600_000
DAY_MS = 24 * HOUR_MS
_LONGEST_MEMORY = 0.95


def centred(start_ms: Ints, means: Floats, look_ms: int, season_ms: int) -> Floats:
    """[t, k] what remains of each look's mean: less hour of the day, then day of the season, then slot of the season.

    Every look, the newest included, adds to the season that is taken out of it, so that under exchangeability within a
    slot the residuals are exchangeable too. Each step is shrunk by 1 - 1/F (F: variance between slots over variance
    within, James and Stein's positive part): where there is no season, nothing is taken out, and two looks a slot do
    not eat up each other. NaN stays NaN.
    """
    residual = means - _mean(means)
    for slots in _slots(start_ms, look_ms, season_ms):
        residual = residual - _season(residual, slots)
    return residual


def _slots(start_ms: Ints, look_ms: int, season_ms: int) -> Sequence[Ints]:
    """From coarse to fine, each only where it has more than one slot and differs from the next."""
    if season_ms <= look_ms:
        return []
    found = []
    if look_ms < DAY_MS < season_ms:
        found = [start_ms % DAY_MS // look_ms, start_ms % season_ms // DAY_MS]
    return [*found, start_ms % season_ms // look_ms]


def _mean(means: Floats) -> Floats:
    held = np.isfinite(means)
    return np.asarray(np.where(held, means, 0.0).sum(axis=0) / np.maximum(held.sum(axis=0), 1))


def _season(residual: Floats, slots: Ints) -> Floats:
    """[t, k] the shrunken mean of each look's slot."""
    names, which = np.unique(slots, return_inverse=True)
    order = np.argsort(which, kind="stable")
    firsts = np.searchsorted(which[order], np.arange(len(names)))
    held = np.isfinite(residual)
    values = np.where(held, residual, 0.0)
    counts = np.add.reduceat(held[order].astype(np.float64), firsts, axis=0)
    effects = np.add.reduceat(values[order], firsts, axis=0) / np.maximum(counts, 1.0)
    within = np.square(np.where(held, values - effects[which], 0.0)).sum(axis=0)
    between = (counts * np.square(effects)).sum(axis=0)
    return (_shrinkage(between, within, counts) * effects)[which]


def _shrinkage(between: Floats, within: Floats, counts: Floats) -> Floats:
    """[k] the share of the slots' means that is season and not chance."""
    slots = np.maximum((counts > 0).sum(axis=0) - 1.0, 1.0)
    left = np.maximum(counts.sum(axis=0) - slots - 1.0, 1.0)
    chance = (within / left) * slots
    with np.errstate(divide="ignore", invalid="ignore"):
        share = 1.0 - chance / between
    return np.asarray(np.clip(np.nan_to_num(share, nan=0.0, neginf=0.0), 0.0, 1.0))


def _before(residual: Floats) -> Floats:
    """[t, k] the look before, per signal: looks without rows of it are passed over."""
    at = np.where(np.isfinite(residual), np.arange(len(residual))[:, None], -1)
    last = np.vstack([np.full((1, residual.shape[1]), -1), np.maximum.accumulate(at, axis=0)[:-1]])
    found = residual[last, np.arange(residual.shape[1])]
    return np.asarray(np.where(last >= 0, found, np.nan))


def autocorrelation(residual: Floats) -> Floats:
    """[k] lag-1 correlation of each signal's successive looks; 0 with fewer than 3 pairs or where nothing varies."""
    return _correlation(residual, _before(residual))


def _correlation(residual: Floats, before: Floats) -> Floats:
    paired = np.isfinite(before) & np.isfinite(residual)
    product = np.where(paired, before * residual, 0.0).sum(axis=0)
    scale = np.sqrt(np.where(paired, before**2, 0.0).sum(axis=0) * np.where(paired, residual**2, 0.0).sum(axis=0))
    enough = (paired.sum(axis=0) >= 3) & (scale > 0.0)
    return np.asarray(np.where(enough, product / np.where(scale > 0.0, scale, 1.0), 0.0))


def innovations(residual: Floats) -> Floats:
    """[t, k] what the look before did not foretell: r(t) - ρ r(t-1), where the lag-1 correlation ρ is real.

    A signal that remembers (a 30-day mean, the weather) would else look as if it drifted all the time: ranks of its
    looks are not exchangeable, those of its innovations nearly are. ρ counts as real above 2/√t, the 95% bound of
    white noise, so that independent looks stay as they are.
    """
    looks = np.isfinite(residual).sum(axis=0)
    before = _before(residual)
    correlation = _correlation(residual, before)
    memory = np.where(correlation > 2.0 / np.sqrt(np.maximum(looks, 1)), np.minimum(correlation, _LONGEST_MEMORY), 0.0)
    alone = residual * np.sqrt(1.0 - memory**2)
    return np.where(np.isfinite(before), residual - memory * before, alone)
