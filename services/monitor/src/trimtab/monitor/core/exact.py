"""Sums that do not depend on the order in which they were taken.

Floating point addition is not associative, so partial sums of differently cut batches would differ in their last
digits, and with them the ranks and evidence that follow. Here a value is rounded to single precision (24 bits) and
counted in integer units of its *bin*: bin b holds the magnitudes in [2^(8b-1), 2^(8b+7)) and counts in units of
2^(8b-24), so a value is an integer below 2^31 and 2^32 of them fit an int64. Integers add exactly, in any order. (The
idea of binned, reproducible summation: Demmel and Nguyen, "Fast reproducible floating-point summation", ARITH 2013.)
"""

import math
from collections.abc import Iterable

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]

LOWEST_BIN = -19
"""The bin of the smallest single-precision magnitude, 2^-149."""
BINS = 36
"""How many bins there are; the highest holds magnitudes up to 2^128."""

_LARGEST = float(np.finfo(np.float32).max)
_WIDTH = 8
_MANTISSA = 24


def quantise(values: Floats) -> tuple[Ints, Ints]:
    """(bins, units) of finite values; magnitudes beyond single precision count as its largest.

    >>> bins, units = quantise(np.array([0.0, 1.0, -0.5, 300.0]))
    >>> bins.tolist(), (units * 2.0 ** (8 * bins - 24)).tolist()
    ([0, 0, 0, 1], [0.0, 1.0, -0.5, 300.0])
    """
    rounded = np.clip(values, -_LARGEST, _LARGEST).astype(np.float32).astype(np.float64)
    _, exponents = np.frexp(rounded)
    bins = exponents.astype(np.int64) >> 3
    units = np.ldexp(rounded, _MANTISSA - _WIDTH * bins)
    return bins, units.astype(np.int64)


def total(parts: Iterable[tuple[int, int]]) -> float:
    """The sum that (bin, units) pairs stand for, rounded once."""
    return mean(parts, 1)


def mean(parts: Iterable[tuple[int, int]], count: int) -> float:
    """The sum of (bin, units) pairs divided by `count`, rounded once.

    >>> mean([(0, 1 << 24), (1, 1 << 16)], 2)
    1.0
    """
    held = list(parts)
    if not held:
        return 0.0
    lowest = min(b for b, _ in held)
    units = sum(int(u) << (_WIDTH * (b - lowest)) for b, u in held)
    return math.ldexp(units / count, _WIDTH * lowest - _MANTISSA)
