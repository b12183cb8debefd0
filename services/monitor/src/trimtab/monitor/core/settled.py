"""Predictions on their way through the join: what an ask carries along, and what its label then shows."""

import struct
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from trimtab.loops.labels import Outcomes
from trimtab.ml import metrics
from trimtab.monitor.core import binned, exact, names
from trimtab.monitor.core.observe import Named
from trimtab.monitor.core.plan import Plan
from trimtab.monitor.core.predictions import NO_MODEL, Floats, Ints, Shadows
from trimtab.monitor.core.rows import Rows, joined
from trimtab.monitor.core.silence import HOUR_MS

_HEAD = struct.Struct("<HqiB")
Classes = Mapping[int, Sequence[str]]
"""The classes of each version, in the order of its probabilities (multiclass); else empty."""


def payloads(partition: int, offset: Ints, version: Ints, scores: Floats, shadows: Shadows) -> list[bytes]:
    """What each ask carries through the join: where its prediction stands, and who said what (15 bytes, 8 a score)."""
    width = scores.shape[1]
    asked = np.zeros(len(offset), _ask_type(width))
    asked["partition"], asked["offset"], asked["version"] = partition, offset, version
    asked["width"], asked["scores"] = width, scores
    said = np.zeros(len(shadows.row), _shadow_type(width))
    said["version"], said["scores"] = shadows.version, shadows.scores
    heads, tails = asked.tobytes(), said.tobytes()
    n, m = asked.itemsize, said.itemsize
    ends = np.searchsorted(shadows.row, np.arange(len(offset) + 1)).tolist()
    return [heads[i * n : (i + 1) * n] + tails[ends[i] * m : ends[i + 1] * m] for i in range(len(offset))]


def _ask_type(width: int) -> np.dtype[np.void]:
    return np.dtype(
        [("partition", "<u2"), ("offset", "<i8"), ("version", "<i4"), ("width", "u1"), ("scores", "<f8", (width,))]
    )


def _shadow_type(width: int) -> np.dtype[np.void]:
    return np.dtype([("version", "<i4"), ("scores", "<f8", (width,))])


@dataclass(frozen=True, slots=True)
class Carried:
    """What n asks carried: see `payloads`."""

    partition: Ints
    offset: Ints
    version: Ints
    scores: Floats
    shadows: Shadows


def carried(loads: Sequence[bytes]) -> Carried:
    """The inverse of `payloads`, for asks of any partitions and widths (0 where one is narrower)."""
    size = np.fromiter(map(len, loads), np.int64, len(loads))
    widths = np.array([load[_HEAD.size - 1] for load in loads], np.int64)
    width = int(widths.max(initial=1))
    none = np.empty(0, np.int64)
    partition, offset, version = np.zeros((3, len(loads)), np.int64)
    nobody = Shadows(none, none, np.empty((0, width)))
    whole = Carried(partition, offset, version, np.zeros((len(loads), width)), nobody)
    parts = list[Shadows]()
    for length, w in {*zip(size.tolist(), widths.tolist(), strict=True)}:
        where = np.flatnonzero((size == length) & (widths == w))
        parts.append(_unpacked(whole, loads, where, w, (length - _ask_type(w).itemsize) // _shadow_type(w).itemsize))
    row = np.concatenate([whole.shadows.row, *(p.row for p in parts)])
    order = np.argsort(row, kind="stable")
    version = np.concatenate([whole.shadows.version, *(p.version for p in parts)])
    scores = np.concatenate([whole.shadows.scores, *(p.scores for p in parts)])
    shadows = Shadows(row[order], version[order], scores[order])
    return Carried(whole.partition, whole.offset, whole.version, whole.scores, shadows)


def _unpacked(whole: Carried, loads: Sequence[bytes], where: Ints, width: int, n_shadows: int) -> Shadows:
    """Fill in the asks at `where`, all of one shape; their shadows."""
    shape = np.dtype([("ask", _ask_type(width)), ("shadows", _shadow_type(width), (n_shadows,))])
    held = np.frombuffer(b"".join([loads[i] for i in where.tolist()]), shape)
    ask, said = held["ask"], held["shadows"]
    whole.partition[where], whole.offset[where] = ask["partition"], ask["offset"]
    whole.version[where], whole.scores[where, :width] = ask["version"], ask["scores"]
    scores = np.zeros((said.size, whole.scores.shape[1]))
    scores[:, :width] = said["scores"].reshape(said.size, width)
    return Shadows(np.repeat(where, n_shadows), said["version"].reshape(-1).astype(np.int64), scores)


@dataclass(frozen=True, slots=True)
class Settled:
    """Outcomes with what their asks carried. `sign`: per row how it counts now: 1 new, 0 not at all.

    `before`: how the label it replaces counted: -1, or 0 where there was none or it did not count.
    """

    outcomes: Outcomes
    carried: Carried
    sign: Ints
    before: Ints


def shown(plan: Plan, settled: Settled, classes: Classes) -> Named:
    """What the labels show of each version: losses, ranks, labels; added up."""
    if not len(settled.outcomes):
        return Named([], Rows())
    new, old = np.flatnonzero(settled.sign), np.flatnonzero(settled.before)
    out = settled.outcomes
    labels = _labels(plan, out.label, out.label_class)
    replaced = _labels(plan, [_number(b) for b in out.before], [b if isinstance(b, str) else None for b in out.before])
    counted = _Counted(
        index=np.concatenate([new, old]),
        label=np.concatenate([labels[new], replaced[old]]),
        sign=np.concatenate([settled.sign[new], settled.before[old]]),
    )
    return _Showing(plan, settled, classes).rows(counted)


def _number(before: float | str | None) -> float:
    return float("nan") if before is None or isinstance(before, str) else float(before)


def _labels(plan: Plan, numbers: Sequence[float], classes: Sequence[str | None]) -> NDArray[np.object_] | Floats:
    """Labels as the task has them: numbers, or class names."""
    if plan.task != "multiclass":
        return np.array(numbers, np.float64)
    found = np.empty(len(classes), object)
    found[:] = classes
    return found


@dataclass(frozen=True, slots=True)
class _Counted:
    """Labels that count: of which row, what, and whether added or taken back."""

    index: Ints
    label: NDArray[np.object_] | Floats
    sign: Ints

    def take(self, where: Ints) -> "_Counted":
        return _Counted(self.index[where], self.label[where], self.sign[where])


class _Showing:
    """Makes the rows of one batch of outcomes."""

    def __init__(self, plan: Plan, settled: Settled, classes: Classes) -> None:
        self._plan, self._classes, self._carried = plan, classes, settled.carried
        self._metric = metrics.check(plan.metric, plan.task)
        self._seen = np.array(settled.outcomes.settled_at_ms, np.int64) // HOUR_MS * HOUR_MS
        at_ms = np.array(settled.outcomes.at_ms, np.int64)
        self._hour, self._block = at_ms // HOUR_MS * HOUR_MS, at_ms // plan.block_ms * plan.block_ms
        self._first = np.flatnonzero(np.array(settled.outcomes.revision) == 0)
        self._names = dict[str, int]()
        self._parts = list[Rows]()

    def rows(self, counted: _Counted) -> Named:
        """All rows, added up."""
        nothing = np.zeros(len(self._first), np.int64)
        self._put(names.SETTLED, self._first, self._hour, nothing, (nothing, nothing + 1, nothing))
        self._put_values(names.LABEL, counted, self._carried.version[counted.index], self._code(counted), self._hour)
        champion = counted.take(np.flatnonzero(self._carried.version[counted.index] != NO_MODEL))
        version, scores = self._carried.version[champion.index], self._carried.scores[champion.index]
        self._put_scores(champion, version, scores)
        of, shadow, versions, shadow_scores = self._shadows(champion)
        self._put_scores(shadow, versions, shadow_scores)
        ours, theirs = self._losses(champion, version, scores), self._losses(shadow, versions, shadow_scores)
        for other in np.unique(versions).tolist():
            those = np.flatnonzero(versions == other)
            self._put_versus(champion.take(of[those]), version[of[those]], ours[of[those]], other)
            for one in np.unique(version[of[those]]).tolist():
                there = those[version[of[those]] == one]
                self._put_versus(shadow.take(there), versions[there], theirs[there], one)
        return Named(list(self._names), joined(self._parts).added())

    def _shadows(self, champion: _Counted) -> tuple[Ints, _Counted, Ints, Floats]:
        """(position among `champion`, label, version, scores) of each shadow's word on a row that counts."""
        shadows = self._carried.shadows
        first = np.searchsorted(shadows.row, champion.index, "left")
        many = np.searchsorted(shadows.row, champion.index, "right") - first
        of = np.repeat(np.arange(len(many)), many)
        place = first[of] + np.arange(len(of)) - np.repeat(np.cumsum(many) - many, many)
        return of, champion.take(of), shadows.version[place], shadows.scores[place]

    def _code(self, counted: _Counted) -> Floats:
        """Labels as numbers; a class counts as 1."""
        return np.ones(len(counted.index)) if self._plan.task == "multiclass" else counted.label.astype(np.float64)

    def _losses(self, counted: _Counted, version: Ints, scores: Floats) -> Floats:
        """[n] the deciding metric's loss."""
        if self._plan.task != "multiclass":
            return metrics.row_losses(self._metric, counted.label.astype(np.float64), scores[:, 0])
        found = np.empty(len(version))
        for one in np.unique(version).tolist():
            those, known = version == one, self._classes[one]
            codes = metrics.codes(counted.label[those], known)
            found[those] = metrics.row_losses(self._metric, codes, scores[those, : len(known)])
        return found

    def _put_scores(self, counted: _Counted, version: Ints, scores: Floats) -> None:
        """Loss of each version, and what its scores are worth as ranks or choices."""
        self._put_values(names.LOSS, counted, version, self._losses(counted, version, scores), self._hour)
        if self._plan.task == "multiclass":
            self._put_hits(counted, version, scores)
        else:
            self._put_values(names.SCORED, counted, version, scores[:, 0], self._block)
        if self._plan.task == "binary":
            bins = binned.score_bins(scores[:, 0])
            for name, those in ((names.POSITIVE, counted.label > 0), (names.NEGATIVE, counted.label <= 0)):
                at = np.flatnonzero(those)
                units = np.zeros(len(at), np.int64)
                self._put(name, counted.index[at], self._block, version[at], (bins[at], counted.sign[at], units))

    def _put_hits(self, counted: _Counted, version: Ints, scores: Floats) -> None:
        best = scores.argmax(axis=1).tolist()
        said = [self._classes[v][b] for v, b in zip(version.tolist(), best, strict=True)]
        right = np.array([s == label for s, label in zip(said, counted.label, strict=True)], np.float64)
        self._put_values(names.HIT, counted, version, right, self._block)

    def _put_versus(self, counted: _Counted, version: Ints, losses: Floats, other: int) -> None:
        self._put_values(names.versus(other), counted, version, losses, self._block)

    def _put_values(self, name: str, counted: _Counted, version: Ints, values: Floats, asked: Ints) -> None:
        bins, units = exact.quantise(values)
        self._put(name, counted.index, asked, version, (bins, counted.sign, counted.sign * units))

    def _put(self, name: str, index: Ints, asked: Ints, version: Ints, sums: tuple[Ints, Ints, Ints]) -> None:
        """Rows of one signal: `sums` are bins, counts and units."""
        number = self._names.setdefault(name, len(self._names))
        signal = np.full(len(index), number, np.int64)
        self._parts.append(Rows(self._seen[index], asked[index], version, signal, *sums))
