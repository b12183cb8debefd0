"""The column-wise encoder against Avro's own."""

from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st
from trimtab.contracts import times
from trimtab.contracts.codec import AvroCodec
from trimtab.loops.incoming.columns import stamps
from trimtab.loops.incoming.encoding import Encoder
from trimtab.loops.incoming.fields import fields_of

VALUES: dict[str, st.SearchStrategy[Any]] = {
    "boolean": st.booleans(),
    "int": st.integers(-(2**31), 2**31 - 1),
    "long": st.integers(-(2**63), 2**63 - 1),
    "float": st.floats(width=32, allow_nan=False),
    "double": st.floats(allow_nan=False),
    "string": st.text(max_size=200),
    "bytes": st.binary(max_size=200),
}
ENUM = {"type": "enum", "name": "sign", "symbols": ["plus", "minus"]}


def field(name: str, kind: str, shape: str) -> dict[str, Any]:
    plain = ENUM if kind == "enum" else kind
    types = {"plain": plain, "null first": ["null", plain], "null last": [plain, "null"], "alone": [plain]}
    return {"name": name, "type": types[shape]}


@st.composite
def tables(draw: st.DrawFn) -> tuple[dict[str, Any], list[tuple[Any, ...]]]:
    """A schema and rows that keep it; at most one enum, since a name may be defined once."""
    kinds = draw(st.lists(st.sampled_from(list(VALUES)), min_size=1, max_size=6)) + draw(
        st.sampled_from([[], ["enum"]])
    )
    shapes = [draw(st.sampled_from(["plain", "null first", "null last", "alone"])) for _ in kinds]
    fields = [field(f"f{n}", kind, shape) for n, (kind, shape) in enumerate(zip(kinds, shapes, strict=True))]
    columns = [
        st.none() | values if "null" in shape else values
        for kind, shape in zip(kinds, shapes, strict=True)
        for values in [VALUES.get(kind, st.sampled_from(ENUM["symbols"]))]
    ]
    rows = draw(st.lists(st.tuples(*columns), min_size=1, max_size=5))
    return {"type": "record", "name": "Row", "fields": fields}, rows


@given(tables())
@settings(max_examples=200)
def test_every_row_is_what_avro_makes_of_it(table: tuple[dict[str, Any], list[tuple[Any, ...]]]) -> None:
    schema, rows = table
    codec, encoder = AvroCodec(schema), Encoder(schema, fields_of(schema))
    names = [field["name"] for field in schema["fields"]]
    expected = [codec.encode(dict(zip(names, row, strict=True))) for row in rows]
    assert encoder.encode(list(zip(*rows, strict=True))) == expected


def test_a_nested_record_is_left_to_avro() -> None:
    inner = {"type": "record", "name": "Inner", "fields": [{"name": "n", "type": "int"}]}
    schema = {"type": "record", "name": "Outer", "fields": [{"name": "inner", "type": inner}]}
    assert Encoder(schema, fields_of(schema)).encode([[{"n": 3}]]) == [AvroCodec(schema).encode({"inner": {"n": 3}})]


@given(st.lists(st.integers(times.EARLIEST_MS, times.LATEST_MS), min_size=1, max_size=5))
def test_few_times_are_written_as_many_are(some: list[int]) -> None:
    assert stamps(some) == stamps(some * 64)[: len(some)]
