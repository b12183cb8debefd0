"""Vectors: every kind of feature in its column, the same for one ask as for many."""

import numpy as np
import polars as pl
from hypothesis import given, settings
from hypothesis import strategies as st
from trimtab.contracts.codec import AvroCodec
from trimtab.loops.groups import GroupedEvents
from trimtab.loops.keys import key_columns, key_texts
from trimtab.loops.model import Loop
from trimtab.loops.online import OnlineStore
from trimtab.loops.rows import EventReader, EventRows, Row
from trimtab.loops.tiles import fold
from trimtab.loops.vectors import Assembler, Vectors
from trimtab.testing.declarations import offers

HOUR = 3_600_000
NOON = 1_700_049_600_000
CATEGORICAL = [
    "place",
    "dear",
    "shop_last_place_1h",
    "shop_last_place_24h",
    "shop_last_place_1h_ago_24h",
    "newest_place",
]
LOOP = offers(
    features={
        "row": {"place": "place", "price": "price", "hour": "hour(shown_at)", "half": "price / 2", "dear": "price > 5"},
        "categorical": CATEGORICAL,
        "groups": {
            "shop": {
                "of": "offer",
                "by": ["place"],
                "windows": ["1h", "24h", "1h@24h"],
                "values": {"n": "count()", "mean": "avg(price)", "last_place": "last(place)"},
            }
        },
        "latest": {"newest": {"of": "offer", "by": ["place"], "values": ["price", "place"], "max_age": "2h"}},
    }
)


def offer(number: int, place: str | None, at_ms: int, price: float) -> Row:
    return {"offer_id": str(number), "shown_at": at_ms, "place": place, "price": price}


def stored(loop: Loop, past: list[Row]) -> tuple[Assembler, OnlineStore]:
    assembler = Assembler(loop)
    store = OnlineStore(assembler.groups)
    rows = EventRows(loop.events["offer"], {"place", "price", "shown_at"})
    known = [row for row in past if row["place"] is not None]
    at_ms = np.array([row["shown_at"] for row in known], dtype=np.int64)
    for group in assembler.groups:
        keys = [key or "" for key in key_texts(known, group.by)]
        arguments = group.plan.evaluate(rows.frame(known))
        store.put(fold(group, GroupedEvents(group.digest, keys, at_ms, arguments), lambda _: None))
    return assembler, store


def times(asks: list[Row]) -> np.ndarray[tuple[int], np.dtype[np.int64]]:
    return np.array([ask["shown_at"] for ask in asks], dtype=np.int64)


def column(vectors: Vectors, name: str) -> list[object]:
    if name in vectors.names.categories:
        return list(vectors.categories[:, vectors.names.categories.index(name)])
    return [None if value != value else value for value in vectors.numbers[:, vectors.names.numbers.index(name)]]


def age(vectors: Vectors, name: str) -> list[int]:
    found: list[int] = vectors.ages_ms[:, vectors.names.aged.index(name)].tolist()
    return found


def test_every_kind_of_feature_stands_in_its_column() -> None:
    past = [offer(1, "top", NOON - 2 * HOUR, 4.0), offer(2, "top", NOON - 60_000, 8.0)]
    assembler, store = stored(LOOP, past)
    asks = [offer(3, "top", NOON, 10.0), offer(4, None, NOON, 3.0), offer(5, "top", NOON + 24 * HOUR + 60_000, 1.0)]
    vectors = assembler.assemble(asks, times(asks), store)
    assert column(vectors, "place") == ["top", None, "top"]
    assert column(vectors, "dear") == ["true", "false", "false"]
    assert column(vectors, "hour") == [12.0, 12.0, 12.0]
    assert column(vectors, "half") == [5.0, 1.5, 0.5]
    assert column(vectors, "shop_n_1h") == [1.0, None, 0.0]
    assert column(vectors, "shop_n_24h") == [2.0, None, 0.0]
    assert column(vectors, "shop_mean_24h") == [6.0, None, None]
    assert column(vectors, "shop_n_1h_ago_24h") == [0.0, None, 1.0]
    assert column(vectors, "shop_last_place_1h") == ["top", None, None]
    assert column(vectors, "newest_price") == [8.0, None, None]
    assert column(vectors, "newest_place") == ["top", None, None]
    assert age(vectors, "newest_price") == [60_000, -1, -1]
    assert age(vectors, "shop_n_24h") == [60_000, -1, -1]
    assert set(vectors.names.aged).isdisjoint(LOOP.features.row)
    assert {*vectors.names.numbers, *vectors.names.categories} == set(LOOP.features.names)


def test_what_is_no_measurement_is_missing() -> None:
    assembler, store = stored(LOOP, [])
    asks = [offer(1, "top", NOON, float("inf")), offer(2, "top", NOON, float("nan"))]
    vectors = assembler.assemble(asks, times(asks), store)
    assert column(vectors, "price") == [None, None]
    assert column(vectors, "half") == [None, None]


def test_no_asks_make_no_vectors() -> None:
    assembler, store = stored(LOOP, [])
    vectors = assembler.assemble([], times([]), store)
    assert (len(vectors), vectors.numbers.shape[1]) == (0, len(vectors.names.numbers))


rows = st.lists(
    st.tuples(st.sampled_from(["top", "side", None]), st.integers(0, 30 * HOUR), st.floats(0, 100)),
    min_size=1,
    max_size=20,
)


@given(rows, rows)
@settings(max_examples=25)
def test_one_ask_alone_gets_the_vector_it_gets_among_many(
    past: list[tuple[str | None, int, float]], asked: list[tuple[str | None, int, float]]
) -> None:
    assembler, store = stored(LOOP, [offer(at, place, NOON + ms, price) for at, (place, ms, price) in enumerate(past)])
    asks = [offer(at, place, NOON + ms, price) for at, (place, ms, price) in enumerate(asked)]
    together = assembler.assemble(asks, times(asks), store)
    for row, ask in enumerate(asks):
        alone = assembler.assemble([ask], times([ask]), store)
        assert np.array_equal(alone.numbers[0], together.numbers[row], equal_nan=True)
        assert alone.categories[0].tolist() == together.categories[row].tolist()
        assert alone.ages_ms[0].tolist() == together.ages_ms[row].tolist()
    some = together.take(np.array([0]))
    assert np.array_equal(some.numbers[0], together.numbers[0], equal_nan=True)


def test_times_and_numbers_arrive_as_their_schema_says() -> None:
    fields = [
        {"name": "micros", "type": {"type": "long", "logicalType": "timestamp-micros"}},
        {"name": "text", "type": ["null", "string"]},
        {"name": "day", "type": {"type": "int", "logicalType": "date"}},
        {"name": "ratio", "type": "float"},
    ]
    click = offers().events["click"]
    event = type(click)("e", {"type": "record", "name": "e", "fields": fields}, time="text", dedupe_ms=0)
    frame = EventRows(event, {"micros", "text", "day", "ratio"}).frame(
        [{"micros": 1_500_000, "text": "1970-01-01T01:00:02+01:00", "day": 1, "ratio": 2}, {"ratio": float("nan")}]
    )
    found = frame.select(pl.col("micros", "text").dt.epoch("ms"), pl.col("day").cast(pl.Int32), pl.col("ratio"))
    assert found.rows() == [(1500, 2000, 1, 2.0), (None, None, None, None)]


def test_events_are_the_same_read_one_by_one_or_in_columns() -> None:
    event = offers().events["offer"]
    codec = AvroCodec(event.schema)
    messages = [
        codec.encode(offer(number, None if number % 3 else "top", NOON + number, float("nan") if number % 5 else 2.5))
        for number in range(100)
    ]
    reader = EventReader(event, ["place", "price", "shown_at"])
    whole, parts = reader.read(messages), [reader.read(messages[start : start + 10]) for start in range(0, 100, 10)]
    assert whole.frame.equals(pl.concat([part.frame for part in parts]))
    for name in ("place", "shown_at"):
        assert whole.values[name] == [value for part in parts for value in part.values[name]]
    keys = key_columns([whole.values["place"], whole.values["shown_at"]])
    assert keys[:2] == [f"top\x1f{NOON}", None]
