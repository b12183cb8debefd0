"""Windows and latest values, through tiles and the online store, against a plain recomputation."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from statistics import stdev

import numpy as np
import polars as pl
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from trimtab.loops.arena import Arena, Found
from trimtab.loops.groups import GroupedEvents, TileGroup, group_of, latest_of
from trimtab.loops.model import Event, Group, Latest, Window
from trimtab.loops.online import Finished, OnlineStore, UnknownGroupError
from trimtab.loops.tile_records import decode, decode_grouped, encode, encode_grouped, encode_key
from trimtab.loops.tiles import Tile, TileKey, fold

AVRO = [
    {"name": "key", "type": ["null", "string"]},
    {"name": "at", "type": {"type": "long", "logicalType": "timestamp-millis"}},
    {"name": "x", "type": ["null", "double"]},
    {"name": "kind", "type": ["null", "string"]},
]
EVENT = Event("payment", {"type": "record", "name": "payment", "fields": AVRO}, time="at", dedupe_ms=0)
VALUES = {
    "n": "count()",
    "known": "count(kind)",
    "total": "sum(x)",
    "mean": "avg(x)",
    "low": "min(x)",
    "high": "max(x)",
    "spread": "stddev(x)",
    "oldest": "first(x)",
    "newest": "last(x)",
    "last_kind": "last(kind)",
    "kinds": "count(DISTINCT kind)",
    "sizes": "count(DISTINCT x)",
    "rate": "coalesce(sum(x), 0) / (count() + 1)",
}
WINDOWS = [Window("200", 200), Window("3000", 3000), Window("3000@1000", 3000, 1000)]
GROUP = group_of(Group("card", "g1", "payment", ["key"], WINDOWS, VALUES, 10), EVENT)
DEEP = group_of(Group("card", "g2", "payment", ["key"], [Window("w", 300_000), Window("v", 5)], VALUES, 1), EVENT)
LATEST = latest_of(Latest("last", "g3", "payment", ["key"], ["x", "kind"], 1000, 10), EVENT)


@dataclass(frozen=True)
class Payment:
    key: str
    at_ms: int
    x: float | None
    kind: str | None


def grouped(group: TileGroup, payments: Sequence[Payment]) -> GroupedEvents:
    frame = pl.DataFrame(
        {"x": [p.x for p in payments], "kind": [p.kind for p in payments]},
        schema={"x": pl.Float64(), "kind": pl.String()},
    )
    keys, at_ms = [p.key for p in payments], np.array([p.at_ms for p in payments], dtype=np.int64)
    return GroupedEvents(group.digest, keys, at_ms, group.plan.evaluate(frame))


def folded(
    group: TileGroup, payments: Sequence[Payment], cuts: Sequence[int], store: OnlineStore | None = None
) -> dict[TileKey, Tile]:
    tiles: dict[TileKey, Tile] = {}
    edges = [0, *sorted({cut for cut in cuts if cut < len(payments)}), len(payments)]
    for start, end in pairwise(edges):
        events = decode_grouped(encode_grouped(grouped(group, payments[start:end])), {group.digest: group})
        assert events is not None
        changed = fold(group, events, tiles.get)
        tiles.update({key: decode(encode(tile)) for key, tile in changed})
        if store is not None:
            store.load([(encode_key(key), encode(tile)) for key, tile in changed])
    return tiles


def finished(
    group: TileGroup, payments: Sequence[Payment], cuts: Sequence[int], asks: Sequence[tuple[str, int]]
) -> Finished:
    store = OnlineStore([group])
    folded(group, payments, cuts, store)
    return store.finish(group.digest, [key for key, _ in asks], np.array([at for _, at in asks], dtype=np.int64))


def inside(group: TileGroup, window: Window, payments: Sequence[Payment], key: str, at_ms: int) -> list[Payment]:
    """The definition: T = floor(t - settling - ago, grain), T - width ≤ time < T."""
    end = (at_ms - group.settling_ms - window.ago_ms) // group.grain_ms * group.grain_ms
    return [p for p in payments if p.key == key and end - window.width_ms <= p.at_ms < end]


def plain(events: Sequence[Payment]) -> dict[str, float | str | None]:
    xs = [p.x for p in events if p.x is not None]
    by_time = sorted((p for p in events if p.x is not None), key=lambda p: p.at_ms)
    kinds = [p for p in sorted(events, key=lambda p: p.at_ms) if p.kind is not None]
    oldest = [p.x for p in by_time if p.at_ms == by_time[0].at_ms]
    return {
        "n": len(events),
        "known": len(kinds),
        "total": sum(xs) if xs else None,
        "mean": sum(xs) / len(xs) if xs else None,
        "low": min(xs, default=None),
        "high": max(xs, default=None),
        "spread": stdev(xs) if len(xs) > 1 else None,
        "oldest": oldest[0] if oldest else None,
        "newest": by_time[-1].x if by_time else None,
        "last_kind": kinds[-1].kind if kinds else None,
        "kinds": len({p.kind for p in kinds}),
        "sizes": len(set(xs)),
        "rate": sum(xs) / (len(events) + 1),
    }


def same(found: object, expected: float | str | None) -> bool:
    if expected is None or isinstance(expected, str):
        return found == expected or (expected is None and isinstance(found, float) and math.isnan(found))
    return isinstance(found, float) and found == pytest.approx(expected, rel=1e-9, abs=1e-6)


payments = st.lists(
    st.builds(
        Payment,
        key=st.sampled_from(["a", "b", "c"]),
        at_ms=st.integers(0, 9_000) | st.sampled_from([0, 639, 640, 1280, 4999, 5000]),
        x=st.none() | st.integers(-5, 5).map(float) | st.floats(-1e6, 1e6).map(lambda x: round(x, 3)),
        kind=st.none() | st.sampled_from(["p", "q", "r"]),
    ),
    max_size=60,
)
asks = st.lists(st.tuples(st.sampled_from(["a", "b", "z"]), st.integers(0, 12_000)), min_size=1, max_size=8)
cuts = st.lists(st.integers(1, 60), max_size=6)


@given(payments, cuts, asks)
@settings(max_examples=60)
@example([Payment("a", 5, 1.0, "p"), Payment("a", 5, 2.0, "q")], [1], [("a", 200), ("a", 9)])
def test_windows_are_what_their_definition_says(
    payments: list[Payment], cuts: list[int], asks: list[tuple[str, int]]
) -> None:
    found = finished(GROUP, payments, cuts, asks)
    for row, (key, at_ms) in enumerate(asks):
        for column, window in enumerate(WINDOWS):
            events = inside(GROUP, window, payments, key, at_ms)
            for name, expected in plain(events).items():
                assert same(found.values[name][row, column], expected), (name, window)
            newest = max((p.at_ms for p in events), default=None)
            assert found.ages_ms[row, column] == (-1 if newest is None else at_ms - newest)


@given(payments, cuts, asks)
@settings(max_examples=50)
def test_latest_is_the_newest_event_before_the_grain_and_not_too_old(
    payments: list[Payment], cuts: list[int], asks: list[tuple[str, int]]
) -> None:
    found = finished(LATEST, payments, cuts, asks)
    for row, (key, at_ms) in enumerate(asks):
        before = (at_ms - 1) // 10 * 10
        fitting = [p for p in payments if p.key == key and at_ms - 1000 <= p.at_ms < before]
        newest = sorted(fitting, key=lambda p: p.at_ms)[-1] if fitting else None
        assert same(found.values["x"][row, 0], newest.x if newest else None)
        assert same(found.values["kind"][row, 0], newest.kind if newest else None)
        assert found.ages_ms[row, 0] == (at_ms - newest.at_ms if newest else -1)


@given(st.integers(0, 2**32 - 1), cuts)
@settings(max_examples=8)
def test_long_windows_are_the_same_through_their_levels(seed: int, cuts: list[int]) -> None:
    generator = np.random.default_rng(seed)
    payments = [
        Payment(str(key), int(at), float(x), str(kind))
        for key, at, x, kind in zip(
            generator.choice(["a", "b"], 400),
            generator.integers(0, 400_000, 400),
            generator.integers(-9, 9, 400),
            generator.integers(0, 50, 400),
            strict=True,
        )
    ]
    asks = [("a", int(at)) for at in generator.integers(0, 500_000, 5)]
    found = finished(DEEP, payments, cuts, asks)
    for row, (key, at_ms) in enumerate(asks):
        expected = plain(inside(DEEP, Window("w", 300_000), payments, key, at_ms))
        for name, value in expected.items():
            assert same(found.values[name][row, 0], value), name


@given(payments, cuts, cuts)
@settings(max_examples=50)
def test_tiles_are_the_same_bytes_wherever_the_stream_is_cut(
    payments: list[Payment], cuts: list[int], others: list[int]
) -> None:
    assert _values(folded(GROUP, payments, cuts)) == _values(folded(GROUP, payments, others))
    one, other = OnlineStore([GROUP]), OnlineStore([GROUP])
    folded(GROUP, payments, cuts, one)
    other.put(list(folded(GROUP, payments, others).items()))
    at_ms = np.array([5000, 9100], dtype=np.int64)
    for name in VALUES:
        a, b = (store.finish("g1", ["a", "b"], at_ms).values[name] for store in (one, other))
        assert np.array_equal(a, b, equal_nan=a.dtype != object), name


def _values(tiles: Mapping[TileKey, Tile]) -> dict[TileKey, object]:
    """Tiles with their codes resolved: which text has which code depends on the order in which they came."""
    found: dict[TileKey, object] = {}
    for key, tile in tiles.items():
        rows = np.frombuffer(tile.rows).reshape(-1, GROUP.plan.width).astype(object)
        for column in GROUP.plan.text_columns:
            rows[:, column] = [None if code != code else tile.texts[int(code)] for code in rows[:, column]]
        found[key] = (tile.grains, repr(rows.tolist()), tile.set_sizes, tile.set_members)
    return found


def test_nothing_of_its_own_instant_or_later_counts() -> None:
    payments = [Payment("a", 90, 1.0, None), Payment("a", 100, 2.0, None), Payment("a", 101, 4.0, None)]
    found = finished(GROUP, payments, [], [("a", 101), ("a", 110), ("a", 111)])
    assert found.values["total"][:, 0].tolist() == [1.0, 1.0, 7.0]


def test_a_grain_settles_before_it_counts() -> None:
    found = finished(GROUP, [Payment("a", 95, 1.0, None)], [], [("a", 99), ("a", 100), ("a", 101)])
    assert found.values["n"][:, 0].tolist() == [0.0, 0.0, 1.0]


def test_a_null_key_is_equal_to_nothing() -> None:
    store = OnlineStore([GROUP])
    folded(GROUP, [Payment("a", 5, 1.0, "p")], [], store)
    found = store.finish("g1", [None, "a", "unknown"], np.array([100, 100, 100]))
    assert np.isnan(found.values["n"][0]).all()
    assert found.values["last_kind"][0].tolist() == [None, None, None]
    assert found.values["n"][1:, 0].tolist() == [1.0, 0.0]


def test_values_do_not_depend_on_what_was_evicted() -> None:
    generator = np.random.default_rng(7)
    payments = [
        Payment("a", int(at), float(x), None)
        for at, x in zip(range(0, 400_000, 97), generator.normal(size=9999), strict=False)
    ]
    whole, evicted = OnlineStore([DEEP]), OnlineStore([DEEP])
    tiles = folded(DEEP, payments, [], whole)
    evicted.put(list(tiles.items()))
    at_ms = np.array([400_000], dtype=np.int64)
    oldest_ms = 400_000 - DEEP.keep_ms
    evicted.put([(key, None) for key in tiles if (key[2] + 1) * DEEP.tile_ms < oldest_ms])
    assert evicted.rows < whole.rows
    for name in VALUES:
        a, b = (store.finish("g2", ["a"], at_ms).values[name] for store in (whole, evicted))
        assert np.array_equal(a, b, equal_nan=a.dtype != object), name


@given(st.integers(0, 2**32 - 1), st.sampled_from([0.0, 0.2, 0.8]), st.integers(0, 400), st.booleans())
@settings(max_examples=20)
def test_a_store_that_dropped_tiles_is_one_that_never_had_them(
    seed: int, elsewhere: float, oldest: int, twice: bool
) -> None:
    generator = np.random.default_rng(seed)
    paid = [
        Payment(str(key), int(at), float(at % 7), str(at % 11))
        for key, at in zip(generator.choice(["a", "b", "c"], 300), generator.integers(0, 260_000, 300), strict=True)
    ]
    tiles = folded(DEEP, paid, [])
    gone = [place for place in tiles if place[2] < oldest or generator.random() < elsewhere]
    dropped, never = OnlineStore([DEEP]), OnlineStore([DEEP])
    dropped.put(list(tiles.items()))
    for some in (gone[::2], gone[1::2]) if twice else (gone,):
        dropped.put([(place, None) for place in some])
    never.put([(place, tile) for place, tile in tiles.items() if place not in set(gone)])
    assert (dropped.keys, dropped.rows) == (never.keys, never.rows)
    for later in (0, 1):
        at_ms = np.array([90_000, 200_000, 270_000], dtype=np.int64)
        for name in VALUES:
            a, b = (store.finish("g2", ["a", "b", "c"], at_ms).values[name] for store in (dropped, never))
            assert np.array_equal(a, b, equal_nan=a.dtype != object), (name, later)
        for store in (dropped, never):
            store.put(list(tiles.items())[::3])


def test_no_ask_waits_for_what_goes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("trimtab.loops.online.MOST_DROPS", 3)
    store = OnlineStore([GROUP])
    tiles = folded(GROUP, [Payment(key, 5, 1.0, None) for key in "abcdef"], [], store)
    everybody = list("abcdef")
    assert store.finish("g1", everybody, np.array([100] * 6)).values["n"][:, 0].sum() == 6
    places = [(encode_key(place), None) for place in tiles]
    store.load(places[:3])
    assert store.finish("g1", everybody, np.array([5_000] * 6)).values["n"][:, 0].sum() == 0
    assert store.finish("g1", everybody, np.array([100] * 6)).values["n"][:, 0].sum() == 6
    store.load([*places[3:5], (places[0][0], encode(tiles["g1", "a", 0]))])
    assert store.finish("g1", everybody, np.array([100] * 6)).values["n"][:, 0].tolist() == [1, 0, 0, 0, 0, 1]


def test_a_key_whose_tiles_are_gone_is_forgotten() -> None:
    store = OnlineStore([GROUP])
    tiles = folded(GROUP, [Payment("a", 5, 1.0, "p"), Payment("b", 5, 1.0, "p")], [], store)
    assert (store.keys, store.rows) == (2, 2)
    store.put([(key, None) for key in tiles if key[1] == "a"])
    assert (store.keys, store.rows) == (1, 1)
    folded(GROUP, [Payment("c", 5, 3.0, "q")], [], store)
    assert store.finish("g1", ["a", "b", "c"], np.array([100] * 3)).values["n"][:, 0].tolist() == [0.0, 1.0, 1.0]


def test_very_many_different_values_are_estimated_and_few_are_exact() -> None:
    payments = [Payment("a", number % 200, None, f"kind {number}") for number in range(30_000)]
    store = OnlineStore([GROUP])
    tiles = folded(GROUP, payments, [7_000], store)
    found = store.finish("g1", ["a"], np.array([201]))
    assert found.values["kinds"][0, 0] == pytest.approx(30_000, rel=0.15)
    assert max(len(tile.set_members) for tile in tiles.values()) <= 64 * 1024 * 8
    few = finished(GROUP, payments[:900], [], [("a", 201)])
    assert few.values["kinds"][0, 0] == 900


def test_a_tile_knows_its_place_and_groups_of_other_versions_are_passed_over() -> None:
    tiles = folded(GROUP, [Payment("a", 70 * 640, 1.0, "p")], [])
    assert [tile.place for tile in tiles.values()] == list(tiles) == [("g1", "a", 70)]
    assert decode_grouped(encode_grouped(grouped(GROUP, [])), {}) is None


def test_a_store_follows_one_version_of_the_declaration() -> None:
    store = OnlineStore([GROUP])
    store.put([(("other", "a", 0), Tile("other", "a", 0, 10, b"\x00", b""))])
    assert store.keys == 0
    with pytest.raises(UnknownGroupError, match="other"):
        store.finish("other", ["a"], np.array([1]))


def test_what_was_gone_before_anybody_asked_takes_nothing() -> None:
    store = OnlineStore([GROUP])
    tiles = folded(GROUP, [Payment(key, 5, 1.0, "p") for key in "ab"], [])
    before = store.nbytes
    store.load([(encode_key(place), encode(tile)) for place, tile in tiles.items()])
    store.load([(encode_key(place), None) for place in tiles if place[1] == "a"])
    assert store.keys == 1
    store.load([(encode_key(place), None) for place in tiles])
    assert (store.keys, store.nbytes) == (0, before)


@given(payments.filter(bool), cuts, st.integers(0, 9))
def test_what_is_known_to_have_been_taken_in_is_not_missed(
    payments: list[Payment], cuts: list[int], within: int
) -> None:
    payments = sorted(payments, key=lambda one: one.at_ms)
    told, plain = OnlineStore([GROUP]), OnlineStore([GROUP])
    tiles: dict[TileKey, Tile] = {}
    for start, end in pairwise([0, *sorted({cut for cut in cuts if cut < len(payments)}), len(payments)]):
        changed = fold(GROUP, grouped(GROUP, payments[start:end]), tiles.get)
        tiles.update(changed)
        for store in (told, plain):
            store.load([(encode_key(key), encode(tile)) for key, tile in changed])
        reached_ms = payments[end - 1].at_ms
        told.reached(reached_ms)
        asked = np.array([reached_ms - reached_ms % 10 + within] * 3)
        ours, all_of_it = (store.finish("g1", ["a", "b", "c"], asked) for store in (told, plain))
        for name, values in all_of_it.values.items():
            np.testing.assert_array_equal(ours.values[name], values)
        np.testing.assert_array_equal(ours.ages_ms, all_of_it.ages_ms)


def test_what_changes_within_a_grain_waits_for_asks_from_the_next() -> None:
    store = OnlineStore([GROUP])
    tiles = folded(GROUP, [Payment("a", 5, 1.0, "p")], [], store)
    store.reached(11)
    assert store.finish("g1", ["a"], np.array([15])).values["n"][0, 0] == 1
    later = fold(GROUP, grouped(GROUP, [Payment("a", 12, 1.0, "p")]), tiles.get)
    store.load([(encode_key(key), encode(tile)) for key, tile in later])
    waiting = store.nbytes
    assert store.finish("g1", ["a"], np.array([20])).values["n"][0, 0] == 1
    assert store.nbytes == waiting
    assert store.finish("g1", ["a"], np.array([21])).values["n"][0, 0] == 2
    assert store.nbytes < waiting


def test_what_waits_is_taken_in_as_it_is_asked_for_or_becomes_too_much(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("trimtab.loops.online.MOST_PENDING", 5)
    store = OnlineStore([GROUP])
    paid = [Payment(key, 640 * at, 1.0, "p") for at in range(4) for key in "abc"]
    tiles = folded(GROUP, paid, range(1, 12), store)
    gone = [(encode_key(place), None) for place in tiles if place[1] == "b"]
    store.load(gone)
    found = store.finish("g1", ["a", "c"], np.array([3000] * 2))
    assert found.values["n"][:, 1].tolist() == [4.0, 4.0]
    assert store.keys == 2


def test_texts_that_no_row_has_any_more_are_forgotten(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("trimtab.loops.online._FEW_TEXTS", 8)
    store = OnlineStore([LATEST])
    for number in range(100):
        folded(LATEST, [Payment("a", 5, 1.0, f"kind {number}")], [], store)
    found = store.finish("g3", ["a"], np.array([100]))
    assert found.values["kind"].tolist() == [["kind 99"]]


@given(st.lists(st.tuples(st.integers(1, 5), st.integers(0, 50)), max_size=80), st.integers(1, 10))
@settings(max_examples=50)
def test_an_arena_holds_what_was_put_there(puts: list[tuple[int, int]], size: int) -> None:
    arena, expected = Arena(1), dict[int, list[int]]()
    for start in range(0, len(puts), size):
        for key, at in puts[start : start + size]:
            starts, _ = arena.tail(np.array([key]), np.array([at]))
            arena.replace_tail(np.array([key]), starts, Found(np.array([0]), np.array([at]), [np.array([float(at)])]))
            expected[key] = [*(one for one in expected.get(key, []) if one < at), at]
    keys = np.array(sorted(expected), dtype=np.int64)
    found = arena.take(*(arena.find(keys, np.full(len(keys), edge)) for edge in (-1, 99)))
    assert found.at.tolist() == [at for key in keys.tolist() for at in expected[key]]
    assert found.columns[0].tolist() == [float(at) for at in found.at.tolist()]
