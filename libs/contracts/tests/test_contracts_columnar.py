"""The column reader against the codec that reads value by value."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from trimtab.contracts.codec import MARKER, AvroCodec
from trimtab.contracts.columnar import NO_LONG, ColumnReader, Items, as_objects
from trimtab.contracts.errors import BadSchemaError, NotSingleObjectError, UndecodableError, UnknownFingerprintError

SHADOW = {
    "type": "record",
    "name": "Shadow",
    "fields": [
        {"name": "version", "type": "int"},
        {"name": "score", "type": ["null", "double"]},
        {"name": "probabilities", "type": {"type": "array", "items": "double"}},
    ],
}
SCHEMA: dict[str, Any] = {
    "type": "record",
    "name": "Row",
    "fields": [
        {"name": "key", "type": "string"},
        {"name": "at_ms", "type": "long"},
        {"name": "flag", "type": "boolean"},
        {"name": "ratio", "type": ["double", "null"]},
        {"name": "age", "type": ["null", "long"]},
        {"name": "kind", "type": {"type": "enum", "name": "Kind", "symbols": ["a", "b"]}},
        {"name": "name", "type": ["null", "string"]},
        {"name": "blob", "type": "bytes"},
        {"name": "small", "type": "float"},
        {
            "name": "inner",
            "type": {"type": "record", "name": "Inner", "fields": [{"name": "x", "type": ["null", "double"]}]},
        },
        {"name": "tags", "type": {"type": "array", "items": "string"}},
        {"name": "shadows", "type": {"type": "array", "items": SHADOW}},
    ],
}
CODEC = AvroCodec(SCHEMA)
LONGS = st.integers(-(2**63) + 1, 2**63 - 1)
DOUBLES = st.floats(allow_nan=False)
ROWS = st.fixed_dictionaries(
    {
        "key": st.text(),
        "at_ms": LONGS,
        "flag": st.booleans(),
        "ratio": st.none() | DOUBLES,
        "age": st.none() | LONGS,
        "kind": st.sampled_from(["a", "b"]),
        "name": st.none() | st.text(),
        "blob": st.binary(),
        "small": st.floats(width=32, allow_nan=False),
        "inner": st.fixed_dictionaries({"x": st.none() | DOUBLES}),
        "tags": st.lists(st.text(), max_size=3),
        "shadows": st.lists(
            st.fixed_dictionaries(
                {
                    "version": st.integers(-(2**31), 2**31 - 1),
                    "score": st.none() | DOUBLES,
                    "probabilities": st.lists(DOUBLES, max_size=3),
                }
            ),
            max_size=3,
        ),
    }
)


def plain(column: Any) -> list[Any]:
    """A column as the codec gives it."""
    return [None if v is None or v != v or v == NO_LONG else v for v in column.tolist()]


def listed(items: Items, size: int, column: Any) -> list[list[Any]]:
    """The items of each row."""
    found: list[list[Any]] = [[] for _ in range(size)]
    for row, value in zip(items.row.tolist(), plain(column) if len(items.row) else [], strict=True):
        found[row].append(value)
    return found


@given(st.lists(ROWS, max_size=8))
def test_columns_hold_what_the_codec_reads(rows: list[dict[str, Any]]) -> None:
    found = ColumnReader(SCHEMA).read([CODEC.encode(row) for row in rows])
    for name in ("key", "at_ms", "flag", "ratio", "age", "kind", "name", "blob", "small"):
        assert plain(found[name]) == [row[name] for row in rows]
    assert plain(found["inner"]["x"]) == [row["inner"]["x"] for row in rows]
    assert listed(found["tags"], len(rows), found["tags"].values) == [row["tags"] for row in rows]
    shadows = found["shadows"]
    if shadows.values is not None:
        every = [shadow for row in rows for shadow in row["shadows"]]
        assert listed(shadows, len(rows), shadows.values["version"]) == [
            [s["version"] for s in row["shadows"]] for row in rows
        ]
        assert plain(shadows.values["score"]) == [s["score"] for s in every]
        inner = shadows.values["probabilities"]
        assert listed(inner, len(every), inner.values) == [s["probabilities"] for s in every]
    else:
        assert not any(row["shadows"] for row in rows)


@given(st.lists(ROWS, max_size=5), st.sets(st.sampled_from([f["name"] for f in SCHEMA["fields"]])))
def test_fields_that_are_not_wanted_are_passed_over(rows: list[dict[str, Any]], wanted: set[str]) -> None:
    messages = [CODEC.encode(row) for row in rows]
    found, everything = ColumnReader(SCHEMA, wanted).read(messages), ColumnReader(SCHEMA).read(messages)
    assert set(found) == wanted
    for name in wanted & {"key", "at_ms", "ratio", "age", "name"}:
        assert plain(found[name]) == plain(everything[name])


@given(st.lists(ROWS, max_size=8))
def test_columns_of_objects_tell_nulls_from_every_number(rows: list[dict[str, Any]]) -> None:
    rows = [{**row, "age": -(2**63) if row["flag"] else row["age"]} for row in rows]
    found = ColumnReader(SCHEMA, {"age", "ratio", "name"}, spread=as_objects).read([CODEC.encode(row) for row in rows])
    for name, column in found.items():
        assert column.tolist() == [row[name] for row in rows]
        assert {type(value) for value in column.tolist()} <= {int, float, str, type(None)}


def one() -> bytes:
    row = {"key": "k", "at_ms": 5, "flag": True, "ratio": None, "age": 3, "kind": "b", "name": "n", "blob": b"",
           "small": 0.5, "inner": {"x": 1.0}, "tags": ["t"], "shadows": []}  # fmt: skip
    return CODEC.encode(row)


@pytest.mark.parametrize("wrong", [one()[:-1], one() + b"\x00", one()[:12] + b"\xff" * 12])
def test_bytes_that_do_not_keep_the_schema_are_refused(wrong: bytes) -> None:
    with pytest.raises(UndecodableError):
        ColumnReader(SCHEMA).read([one(), wrong])


@pytest.mark.parametrize("written", ["06", "01", "80"])
def test_branches_and_symbols_that_the_schema_does_not_have_are_refused(written: str) -> None:
    fields = [
        {"name": "x", "type": ["null", "long"]},
        {"name": "y", "type": {"type": "enum", "name": "E", "symbols": ["a"]}},
    ]
    reader = ColumnReader({"type": "record", "name": "Odd", "fields": fields})
    head = MARKER + reader.fingerprint
    assert reader.read([head + bytes.fromhex("0200" + "00")])["y"].tolist() == ["a"]
    for odd in (written + "0000", "0200" + written):
        with pytest.raises(UndecodableError):
            reader.read([head + bytes.fromhex(odd)])


def test_other_schemas_and_other_bytes_are_refused() -> None:
    other = AvroCodec({"type": "record", "name": "Other", "fields": []}).encode({})
    with pytest.raises(UnknownFingerprintError):
        ColumnReader(SCHEMA).read([one(), other])
    with pytest.raises(NotSingleObjectError):
        ColumnReader(SCHEMA).read([b"{}"])


def test_a_union_of_two_types_has_no_column() -> None:
    fields = [{"name": "x", "type": ["int", "string"]}]
    with pytest.raises(BadSchemaError, match="union"):
        ColumnReader({"type": "record", "name": "Odd", "fields": fields})


def test_a_record_without_fields_has_no_columns() -> None:
    with pytest.raises(BadSchemaError, match="fields"):
        ColumnReader({"type": "record", "name": "Odd"})
