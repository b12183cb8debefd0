"""Times: text ⇄ ms."""

from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import BaseModel, ConfigDict, ValidationError
from trimtab.contracts import times
from trimtab.contracts.errors import BadTimeError

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
MS = st.integers(times.parse("0001-01-01T00:00:00Z"), times.parse("9999-12-31T23:59:59.999Z"))


@given(MS)
def test_text_is_rfc_3339_and_comes_back(ms: int) -> None:
    assert times.text(ms) == (EPOCH + timedelta(milliseconds=ms)).isoformat(timespec="milliseconds").replace(
        "+00:00", "Z"
    )
    assert times.parse(times.text(ms)) == ms


@given(st.lists(MS, max_size=30))
def test_many_are_each_what_they_would_be_alone(many: list[int]) -> None:
    written = [times.text(ms).encode() for ms in many]
    assert times.parse_many(written) == many
    assert times.parse_many([*written, b"1970-01-01T00:00:00+00:01"]) == [*many, -60_000]


@pytest.mark.parametrize(
    ("value", "ms"),
    [
        ("1970-01-01T00:00:00Z", 0),
        ("1970-01-01t00:00:00z", 0),
        ("1970-01-01 00:00:01.5Z", 1500),
        ("1970-01-01T00:00:00.123999Z", 123),
        ("1970-01-01T01:00:00+01:00", 0),
        ("1969-12-31T19:00:00-05:00", 0),
        ("2024-02-29T00:00:00Z", 1_709_164_800_000),
    ],
)
def test_other_writers_are_read(value: str, ms: int) -> None:
    assert times.parse(value) == ms
    assert times.parse_many([value.encode()]) == [ms]


BAD = [
    "",
    "now",
    "1970-01-01",
    "1970-01-01T00:00:00",
    "1970-01-01T00:00Z",
    "19700101T000000Z",
    "1970-13-01T00:00:00Z",
    "2023-02-29T00:00:00.000Z",
    "1970-01-01T24:00:00Z",
    "1970-01-01T00:60:00Z",
    "1970-01-01T00:00:60.000Z",
    "1970-01-01T00:00:00+25:00",
    "1970-01-01T00:00:00.Z",
    "１970-01-01T00:00:00Z",
    "1970-01-01T00:00:00.000Z ",
    "1970-01-01T00:00: 1.000Z",
]


@pytest.mark.parametrize("value", BAD)
def test_what_is_no_time_is_refused(value: str) -> None:
    with pytest.raises(BadTimeError, match="expected RFC 3339 with a zone"):
        times.parse(value)
    with pytest.raises(BadTimeError):
        times.parse_many([value.encode(), b"1970-01-01T00:00:00.000Z"])


class Moment(BaseModel):
    model_config = ConfigDict(frozen=True)

    at_ms: times.Instant


def test_an_instant_is_text_on_the_wire_and_ms_inside() -> None:
    assert Moment(at_ms=7).model_dump_json() == '{"at_ms":"1970-01-01T00:00:00.007Z"}'
    assert Moment.model_validate_json('{"at_ms":"1970-01-01T00:00:00.007Z"}').at_ms == 7
    assert Moment.model_json_schema()["properties"]["at_ms"]["format"] == "date-time"
    with pytest.raises(ValidationError, match="RFC 3339"):
        Moment.model_validate_json('{"at_ms":"yesterday"}')
