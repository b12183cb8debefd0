"""What predictions show: exact sums that do not depend on how the stream was cut."""

from itertools import pairwise
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from trimtab.monitor.core import exact, names, observe
from trimtab.monitor.core.predictions import Predictions, Shadows, deployments
from trimtab.monitor.core.rows import Rows, joined, unpack

HOUR = 3_600_000
FEATURES = names.FeatureNames(numbers=("temp", "wind"), categories=("carrier",))
MODEL = observe.KnownModel(
    low=np.array([0.0, np.nan]), high=np.array([40.0, np.nan]), categories=(frozenset({"AA", "UA"}),)
)


def predictions(n: int, *, seed: int = 0) -> Predictions:
    """n predictions over two days by versions 1 and 2, a few without a model."""
    rng = np.random.default_rng(seed)
    version = rng.integers(0, 3, n)
    numbers = rng.normal(20, 15, (n, 2))
    numbers[rng.random((n, 2)) < 0.1] = np.nan
    scores = np.where(version > 0, rng.random(n), np.nan)
    return Predictions(
        key=[f"k{i}" for i in range(n)],
        by=[f"k{i}" for i in range(n)],
        at_ms=np.sort(rng.integers(0, 48 * HOUR, n)),
        offset=np.arange(n),
        version=version,
        sequence=version - 1,
        digests={1: "d1", 2: "d2"},
        scores=scores[:, None],
        numbers=numbers,
        categories=rng.choice(np.array(["AA", "UA", "ZZ", None], object), (n, 1)),
        streamed=np.ones(n, np.bool_),
        shadows=Shadows(np.empty(0, np.int64), np.empty(0, np.int64), np.empty((0, 1))),
    )


def observed(some: Predictions) -> observe.Named:
    estimate = np.full(len(some), np.nan)
    return observe.observed(some, FEATURES, {1: MODEL, 2: MODEL}, estimate)


def as_dict(named: observe.Named) -> dict[tuple[int, int, str, int], tuple[int, int]]:
    """(bucket, version, signal, bin) to (count, units)."""
    r = named.rows
    return {
        (seen, version, named.names[signal], bin_): (count, units)
        for seen, version, signal, bin_, count, units in zip(
            r.seen_ms.tolist(), r.version.tolist(), r.signal.tolist(), r.bin.tolist(), r.count.tolist(),
            r.units.tolist(), strict=True,
        )
    }  # fmt: skip


@settings(max_examples=25)
@given(st.integers(0, 400), st.lists(st.integers(0, 400), max_size=5))
def test_sums_do_not_depend_on_how_the_stream_was_cut(n: int, cuts: list[int]) -> None:
    whole = predictions(n)
    edges = sorted({0, n, *(min(c, n) for c in cuts)})
    pieces = [observed(whole.take(np.arange(a, b))) for a, b in pairwise(edges)]
    if pieces:
        rng = np.random.default_rng(1)
        shuffled = [pieces[i] for i in rng.permutation(len(pieces))]
        assert as_dict(observe.merged(shuffled)) == as_dict(observe.merged([observed(whole)]))


def test_means_are_those_of_the_values() -> None:
    some = predictions(500)
    named = observe.merged([observed(some)])
    found = as_dict(named)
    hour, version = 5 * HOUR, 1
    here = (some.at_ms // HOUR == 5) & (some.version == version)
    parts = {b: cu for (seen, v, s, b), cu in found.items() if (seen, v, s) == (hour, version, "feature:temp")}
    values = some.numbers[here, 0]
    count = sum(c for c, _ in parts.values())
    assert count == np.count_nonzero(~np.isnan(values))
    assert exact.mean([(b, u) for b, (_, u) in parts.items()], count) == pytest.approx(np.nanmean(values), rel=1e-6)
    assert found[hour, version, "rows", 0][0] == here.sum()


def test_what_is_amiss_is_counted() -> None:
    some = predictions(500)
    found = as_dict(observe.merged([observed(some)]))

    def count(signal: str) -> int:
        return sum(c for (_, _, s, _), (c, _) in found.items() if s == signal)

    scored = some.version > 0
    assert count("missing:temp") == np.isnan(some.numbers[scored, 0]).sum()
    assert count("missing:carrier") == sum(c is None for c in some.categories[scored, 0])
    assert count("unseen:carrier") == (some.categories[scored, 0] == "ZZ").sum()
    assert count("beyond:temp") == ((some.numbers[scored, 0] < 0) | (some.numbers[scored, 0] > 40)).sum()
    assert count("beyond:wind") == 0, "a model that does not know its range judges nothing"


def test_an_infinity_counts_as_missing() -> None:
    some = predictions(50)
    some.numbers[:, 0] = np.inf
    found = as_dict(observe.merged([observed(some)]))
    assert not [s for (_, _, s, _) in found if s == "feature:temp"]
    assert sum(c for (_, _, s, _), (c, _) in found.items() if s == "missing:temp") == (some.version > 0).sum()


def test_predictions_without_a_model_give_no_rows() -> None:
    some = predictions(20)
    some.version[:] = 0
    assert len(observe.merged([observed(some)]).rows) == 0


def test_deployments_come_with_their_earliest_time() -> None:
    some = predictions(100)
    found = {d.version: d for d in deployments(some)}
    assert set(found) == {1, 2}
    assert found[1].first_ms == some.at_ms[some.version == 1].min()
    assert (found[2].sequence, found[2].digest) == (1, "d2")


def test_rows_survive_packing() -> None:
    rows = observe.merged([observed(predictions(50))]).rows
    again = unpack(rows.pack())
    for name in ("seen_ms", "asked_ms", "version", "signal", "bin", "count", "units"):
        assert np.array_equal(getattr(again, name), getattr(rows, name))


def test_rows_with_equal_keys_add() -> None:
    rows = observe.merged([observed(predictions(50))]).rows
    twice = joined([rows, rows]).added()
    assert np.array_equal(twice.count, 2 * rows.count)
    assert np.array_equal(twice.units, 2 * rows.units)
    assert [start for start, _ in twice.by_seen()] == sorted(set(rows.seen_ms.tolist()))
    assert len(joined([]).added()) == len(Rows()) == 0


@given(st.lists(st.floats(allow_nan=False, allow_infinity=False), min_size=1), st.randoms())
def test_exact_sums_do_not_depend_on_order(values: list[float], order: Any) -> None:
    def total(some: list[float]) -> float:
        bins, units = exact.quantise(np.array(some))
        added: dict[int, int] = {}
        for b, u in zip(bins.tolist(), units.tolist(), strict=True):
            added[b] = added.get(b, 0) + u
        return exact.total(added.items())

    shuffled = values[:]
    order.shuffle(shuffled)
    assert total(values) == total(shuffled)
    assert total(values[:1]) == pytest.approx(np.clip(values[0], -3.4028235e38, 3.4028235e38), rel=1e-7, abs=1e-44)
