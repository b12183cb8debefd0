"""Recorded events: any format, any order, several files, read back in event-time order."""

from collections.abc import Mapping, Sequence
from datetime import date
from pathlib import Path
from typing import Any

import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from trimtab.contracts import codec
from trimtab.contracts.errors import UnencodableError
from trimtab.loops import declaration, files
from trimtab.loops.bodies import BodyEncoder
from trimtab.loops.conform import bodies, conform
from trimtab.loops.errors import EventFileError
from trimtab.loops.model import Event, Loop

MILLIS = {"type": "long", "logicalType": "timestamp-millis"}
SHOWN = {
    "type": "record",
    "name": "shown",
    "fields": [
        {"name": "id", "type": "string"},
        {"name": "at", "type": "string"},
        {"name": "price", "type": ["null", "double"]},
        {"name": "new", "type": "boolean", "default": False},
    ],
}
CLICKED = {
    "type": "record",
    "name": "clicked",
    "fields": [{"name": "id", "type": "string"}, {"name": "at", "type": MILLIS}],
}
NESTED = {"type": "array", "items": "string"}
TEXT = """
[loop]
name = "clicks"
[events]
shown = { schema = "shown.avsc", time = "at" }
clicked = { schema = "clicked.avsc", time = "at" }
[predict]
on = "shown"
key = "id"
[label]
of = "clicked"
by = ["id"]
within = "30m"
value = "count() > 0"
[features.row]
price = "price"
[model]
estimator = "sklearn.linear_model.LogisticRegression"
"""
NOON_MS = 1_717_156_800_000


def loop() -> Loop:
    return declaration.parse(TEXT, {"shown": SHOWN, "clicked": CLICKED})


def shown(folder: Path, name: str, times: Sequence[int]) -> None:
    stamped = pl.Series("at", times, pl.Int64).cast(pl.Datetime("ms", "UTC"))
    frame = pl.DataFrame({"id": [f"{name}-{n}" for n in range(len(times))], "at": stamped, "price": [1.5] * len(times)})
    frame.with_columns(pl.lit(True).alias("new")).write_parquet(folder / f"{name}.parquet")


def clicked(folder: Path, times: Sequence[int]) -> None:
    pl.DataFrame(
        {"id": [str(time) for time in times], "at": times}, schema={"id": pl.String, "at": pl.Int64}
    ).write_csv(folder / "clicked.csv")


def read(folder: Path, rows: int = files.CHUNK_ROWS) -> list[tuple[int, str, str]]:
    """All (time, event, id) as the chunks give them."""
    found = []
    with files.opened(loop(), folder) as recorded:
        for chunk in recorded.chunks(rows):
            positions = [0] * len(chunk.events)
            for kind, time_ms in zip(chunk.event.tolist(), chunk.time_ms.tolist(), strict=True):
                row = chunk.frames[kind].row(positions[kind], named=True)
                positions[kind] += 1
                found.append((time_ms, chunk.events[kind], row["id"]))
    return found


TIMES = st.lists(st.integers(NOON_MS, NOON_MS + 9), max_size=25)


@given(first=TIMES, second=TIMES, clicks=TIMES, rows=st.integers(1, 7))
@settings(max_examples=40)
def test_merged_in_event_time_order_whatever_the_chunk(
    tmp_path_factory: pytest.TempPathFactory, first: list[int], second: list[int], clicks: list[int], rows: int
) -> None:
    folder = tmp_path_factory.mktemp("events")
    shown(folder, "shown-1", first)
    shown(folder, "shown-2", second)
    clicked(folder, clicks)

    found = read(folder, rows)

    wanted = [
        *((time, "shown", f"shown-1-{n}") for n, time in sorted(enumerate(first), key=lambda pair: pair[1])),
        *((time, "shown", f"shown-2-{n}") for n, time in sorted(enumerate(second), key=lambda pair: pair[1])),
        *((time, "clicked", str(time)) for time in sorted(clicks)),
    ]
    assert found == sorted(wanted, key=lambda row: row[0])


def test_chunks_are_bounded(tmp_path: Path) -> None:
    shown(tmp_path, "shown", range(NOON_MS, NOON_MS + 10_000))
    clicked(tmp_path, range(NOON_MS + 5_000, NOON_MS + 5_100))

    with files.opened(loop(), tmp_path) as recorded:
        sizes = [len(chunk.time_ms) for chunk in recorded.chunks(rows=500)]
        assert (recorded.counts, recorded.first_ms, recorded.last_ms) == (
            {"shown": 10_000, "clicked": 100},
            NOON_MS,
            NOON_MS + 9_999,
        )

    assert sum(sizes) == 10_100
    assert max(sizes) <= 1_000 + 100


def test_the_same_rows_from_every_format(tmp_path: Path) -> None:
    rows = [
        {"id": "a", "at": "2024-05-31T12:00:00Z", "price": 1.5, "new": True},
        {"id": "b", "at": "2024-05-31T14:00:01.250+02:00", "price": None, "new": False},
    ]
    texts = pl.DataFrame(rows)
    texts.write_csv(tmp_path / "a.csv")
    texts.write_ndjson(tmp_path / "b.jsonl")
    texts.write_parquet(tmp_path / "c.parquet")
    event = loop().events["shown"]

    frames = [
        conform(event, files.scan(tmp_path / name), name).rows.collect() for name in ("a.csv", "b.jsonl", "c.parquet")
    ]

    assert frames[0].equals(frames[1])
    assert frames[0].equals(frames[2])
    assert bodies(event, frames[0]) == [
        {"id": "a", "at": "2024-05-31T12:00:00.000Z", "price": 1.5, "new": True},
        {"id": "b", "at": "2024-05-31T12:00:01.250Z", "price": None, "new": False},
    ]


def test_bodies_are_what_avro_stores(tmp_path: Path) -> None:
    clicked(tmp_path, [NOON_MS])
    event = loop().events["clicked"]

    (body,) = bodies(event, conform(event, files.scan(tmp_path / "clicked.csv"), "clicked.csv").rows.collect())

    coder = codec.AvroCodec(event.schema)
    assert body == {"id": str(NOON_MS), "at": NOON_MS}
    assert coder.decode(coder.encode(body)) == body


@pytest.mark.parametrize(
    ("text", "ms"),
    [
        ("2024-05-31T12:00:00Z", 0),
        ("2024-05-31 12:00:00z", 0),
        ("2024-05-31T12:00:00+00:00", 0),
        ("2024-05-31T07:00-0500", 0),
        ("2024-05-31T17:30:00.001234+05:30", 1),
        ("2024-05-31 12:00:00.5 UTC", 500),
        ("5/31/2024 12:00 Z", 0),
    ],
)
def test_times_with_their_zone(tmp_path: Path, text: str, ms: int) -> None:
    (tmp_path / "shown.csv").write_text(f"id,at\na,{text}\n")

    assert read(tmp_path) == [(NOON_MS + ms, "shown", "a")]


WRONG: Mapping[str, tuple[str, str, str]] = {
    "no zone": ("id,at\na,2024-05-31T12:00:00\n", "does not fit the schema of `shown`", "with its zone"),
    "no time": ("id,at\na,noon\n", "'noon' in 1 rows", "with its zone"),
    "impossible time": ("id,at\na,2024-05-31T25:00:00Z\n", "does not fit", "with its zone"),
    "empty time": ("id,at\na,\nb,2024-05-31T12:00:00Z\n", "`at` is empty in 1 rows", "a time in every row"),
    "missing column": ("idd,at\na,2024-05-31T12:00:00Z\n", "there is no column `id`", "`idd`"),
    "no number": ("id,at,price\na,2024-05-31T12:00:00Z,cheap\n", "`price`: 'cheap' in 1 rows", "Float64"),
    "no boolean": ("id,at,new\na,2024-05-31T12:00:00Z,maybe\n", "`new`: 'maybe'", "Boolean"),
}


@pytest.mark.parametrize("case", WRONG)
def test_what_does_not_fit_is_named(tmp_path: Path, case: str) -> None:
    content, wrong, right = WRONG[case]
    (tmp_path / "shown.csv").write_text(content)

    with pytest.raises(EventFileError) as caught:
        read(tmp_path)

    assert caught.value.file == str(tmp_path / "shown.csv")
    assert wrong in caught.value.wrong
    assert right in caught.value.right


@pytest.mark.parametrize("name", ["shown.parquet", "shown.jsonl"])
def test_a_broken_file_is_named(tmp_path: Path, name: str) -> None:
    (tmp_path / name).write_text("{nothing")

    with pytest.raises(EventFileError, match=name):
        read(tmp_path)


def test_without_asking_events_there_is_nothing_to_read(tmp_path: Path) -> None:
    clicked(tmp_path, [NOON_MS])

    with pytest.raises(EventFileError, match="no recorded `shown` events"):
        read(tmp_path)


def test_defaults_of_the_schema_fill_columns_that_a_file_leaves_out(tmp_path: Path) -> None:
    (tmp_path / "shown.csv").write_text("id,at\na,2024-05-31T12:00:00Z\n")
    event: Event = loop().events["shown"]

    frame = conform(event, files.scan(tmp_path / "shown.csv"), "shown.csv").rows.collect()

    assert frame.row(0, named=True)["new"] is False
    assert frame.row(0, named=True)["price"] is None


def test_the_folder_of_the_data(tmp_path: Path) -> None:
    assert files.data_folder(tmp_path) == tmp_path
    (tmp_path / "data").mkdir()
    assert files.data_folder(tmp_path) == tmp_path / "data"


def test_types_of_a_body(tmp_path: Path) -> None:
    schema: dict[str, Any] = {
        "type": "record",
        "name": "e",
        "fields": [
            {"name": "at", "type": {"type": "long", "logicalType": "timestamp-micros"}},
            {"name": "day", "type": ["null", {"type": "int", "logicalType": "date"}]},
            {"name": "n", "type": "int"},
        ],
    }
    event = Event("e", schema, time="at", dedupe_ms=0)
    frame = pl.DataFrame({"at": [NOON_MS * 1000], "day": [date(2024, 5, 31)], "n": [3.0]})

    (body,) = bodies(event, conform(event, frame.lazy(), "e.parquet").rows.collect())

    assert body == {"at": NOON_MS * 1000, "day": 19_874, "n": 3}


@pytest.mark.parametrize("kind", ["string", {"type": "enum", "name": "k", "symbols": ["x", "y"]}, NESTED])
def test_bodies_by_columns_are_those_of_avros_own_writer(kind: Any) -> None:
    schema = {
        "type": "record",
        "name": "e",
        "fields": [
            {"name": "at", "type": MILLIS},
            {"name": "kind", "type": kind},
            {"name": "price", "type": ["null", "double"], "default": None},
        ],
    }
    event = Event("e", schema, time="at", dedupe_ms=0)
    kinds = [["x"], ["y"]] if kind is NESTED else ["x", "y"]
    frame = pl.DataFrame({"at": [NOON_MS, NOON_MS + 1], "kind": kinds, "price": [None, 0.5]})
    rows = conform(event, frame.lazy(), "e.parquet").rows.collect()

    encoded = BodyEncoder(event).encode(rows)

    assert encoded == [codec.AvroCodec(schema).encode(body) for body in bodies(event, rows)]


def test_a_null_that_the_schema_forbids_is_named_before_it_is_sent() -> None:
    event = loop().events["shown"]
    frame = pl.DataFrame({"id": ["a", None], "at": ["2024-05-31T12:00:00Z"] * 2, "price": [1.0, 2.0]})
    rows = conform(event, frame.lazy(), "e.parquet").rows.collect()

    with pytest.raises(UnencodableError, match="id"):
        BodyEncoder(event).encode(rows)
