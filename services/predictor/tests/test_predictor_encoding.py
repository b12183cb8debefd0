"""The quick encoder writes what Avro's own writer writes."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from trimtab.contracts.codec import AvroCodec
from trimtab.loops.vectors import Vectors, names_of
from trimtab.predictor.core import Deployment, Encoder, Model, Said, Scored, writer
from trimtab.testing.declarations import offers

LOOP = offers(
    features={
        "row": {"place": "place", "price": "price", "hour": "hour(shown_at)", "dear": "price > 5"},
        "categorical": ["place", "dear", "newest_place"],
        "groups": {"shop": {"of": "offer", "by": ["place"], "windows": ["1h", "7d"], "values": {"n": "count()"}}},
        "latest": {"newest": {"of": "offer", "by": ["place"], "values": ["price", "place"]}},
    }
)
NAMES = names_of(LOOP)
WRITER = writer(LOOP, NAMES, "stream")


def model(version: int, classes: tuple[str, ...] = ()) -> Model:
    return Model(version, f"{version:064x}", classes, None)  # type: ignore[arg-type]  # it never scores here


TWO = Deployment(7, 0, model(3), (model(1), model(300)))
ALONE = Deployment(64, 0, model(2, ("a", "bé")), ())
HEADLESS = Deployment(2**40, 0, None, (model(5),))
SCORED = [
    Scored(),
    Scored(TWO, Said(0.25), [Said(-1.5), Said(float("inf"))]),
    Scored(ALONE, Said(0.75, "bé", [0.25, 0.75]), ()),
    Scored(HEADLESS, None, [Said(0.5)]),
]

numbers = st.none() | st.floats(allow_nan=False)
texts = st.none() | st.text(max_size=80)
ages = st.sampled_from([-1, 0, 63, 64, 8191, 8192, 2**31, 2**62 - 1]) | st.integers(0, 2**45)
rows = st.tuples(
    st.text(max_size=70),
    st.integers(-(2**50), 2**50),
    st.lists(numbers, min_size=len(NAMES.numbers), max_size=len(NAMES.numbers)),
    st.lists(texts, min_size=len(NAMES.categories), max_size=len(NAMES.categories)),
    st.lists(ages, min_size=len(NAMES.aged), max_size=len(NAMES.aged)),
    st.sampled_from(SCORED),
)


@given(st.lists(rows, min_size=1, max_size=6))
@settings(max_examples=80)
def test_the_bytes_are_those_of_the_codec(
    drawn: list[tuple[str, int, list[float | None], list[str | None], list[int], Scored]],
) -> None:
    vectors = Vectors(
        NAMES,
        np.array([[np.nan if x is None else x for x in row[2]] for row in drawn], dtype=np.float64),
        np.array([row[3] for row in drawn], dtype=object),
        np.array([row[4] for row in drawn], dtype=np.int64),
    )
    asks = [{"offer_id": row[0]} for row in drawn]
    at_ms, as_of_ms = [row[1] for row in drawn], [row[1] // 2 for row in drawn]
    scored = [row[5] for row in drawn]
    codec = AvroCodec(WRITER.schema)
    expected = [codec.encode(value) for value in WRITER.values(asks, at_ms, as_of_ms, vectors, scored)]
    assert Encoder(WRITER).encode(asks, at_ms, as_of_ms, vectors, scored) == expected


def test_a_loop_of_row_features_alone_is_encoded_too() -> None:
    plain = offers()
    made = writer(plain, names_of(plain), "stream")
    vectors = Vectors(
        names_of(plain), np.array([[2.5]]), np.array([["top"]], dtype=object), np.empty((1, 0), dtype=np.int64)
    )
    (message,) = Encoder(made).encode([{"offer_id": "7"}], [5], [5], vectors, [Scored()])
    found = AvroCodec(made.schema).decode(message)
    assert found["features"] == {"place": "top", "price": 2.5}
    assert found["ages_ms"] == {}
    assert found["by"] == ["7"]
    assert found["score"] is None
    assert found["arm"] == "none"


@pytest.mark.parametrize("scored", SCORED)
def test_what_was_said_is_read_back(scored: Scored) -> None:
    vectors = Vectors(
        NAMES,
        np.full((1, len(NAMES.numbers)), np.nan),
        np.full((1, len(NAMES.categories)), None, dtype=object),
        np.full((1, len(NAMES.aged)), -1, dtype=np.int64),
    )
    (message,) = Encoder(WRITER).encode([{"offer_id": "7"}], [5], [5], vectors, [scored])
    found = AvroCodec(WRITER.schema).decode(message)
    assert found["score"] == (None if scored.champion is None else scored.champion.score)
    assert [one["score"] for one in found["shadows"]] == [one.score for one in scored.shadows]
    assert set(found["features"].values()) == {None}
