"""Bytes that claim to be Avro: a value, or an error of the codec's own; columns say what rows say."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

from hypothesis import strategies as st
from trimtab.contracts import data, topics
from trimtab.contracts.codec import AvroCodec, Reader, fingerprint
from trimtab.contracts.columnar import ColumnReader, as_objects
from trimtab.contracts.errors import BadSchemaError, CodecError
from trimtab.runtime.records import Record
from trimtab.runtime.schemas import published_in

from tests.fuzz.entry import Check, Counted, Entry, LostError
from tests.fuzz.shop import CODECS, SCHEMAS, STORED
from tests.fuzz.values import DEEP, damaged, dumped, mutated

ORDER, REFUND = CODECS["order"], CODECS["refund"]
BODIES = {event: CODECS[event].encode(STORED[event]) for event in CODECS}
HEADS = st.sampled_from([ORDER.head, REFUND.head, b"\0\0\0\0\1", b"\0\0\0\0\2"])
UNKNOWN = st.binary(min_size=8, max_size=8).map(lambda mark: b"\xc3\x01" + mark)
FRAMES = st.one_of(
    st.sampled_from([*BODIES.values(), b"\0\0\0\0\1" + BODIES["refund"][10:]]),
    damaged(st.sampled_from(list(BODIES.values()))),
    st.builds(lambda head, body: head + body, HEADS | UNKNOWN, st.binary(max_size=60)),
    damaged(damaged(st.just(b"\0\0\0\0\1" + BODIES["refund"][10:]))),
    DEEP,
)


def _reader() -> Reader:
    known: Mapping[int, Mapping[str, Any]] = {1: SCHEMAS["refund"]}
    return Reader({fingerprint(SCHEMAS["order"]): SCHEMAS["order"]}, resolve=known.get)


@contextmanager
def _frames() -> Iterator[Check]:
    reader, columns = _reader(), ColumnReader(SCHEMAS["order"], spread=as_objects)

    def check(batch: Sequence[bytes]) -> Counted:
        rows = [_row(reader, value) for value in batch]
        for value in batch:
            _struct(value)
        for value, row in zip(batch, rows, strict=True):
            if value.startswith(ORDER.head):
                _compare(columns, value, row)
        read = sum(row is not None for row in rows)
        return Counted(read, len(rows) - read)

    yield check


def _row(reader: Reader, value: bytes) -> Mapping[str, Any] | None:
    try:
        return reader.decode(value)
    except CodecError:
        return None


def _struct(value: bytes) -> None:
    try:
        data.decode(data.Rejected, data.codec(data.Rejected).head + value)
    except CodecError:
        return


def _compare(columns: ColumnReader, value: bytes, row: Mapping[str, Any] | None) -> None:
    try:
        found = columns.read([value])
    except CodecError:
        return
    if row is None:
        raise LostError("columns are read of what has no row")
    for name, column in found.items():
        if repr(column.tolist()[0]) != repr(row[name]):
            raise LostError(f"{name} is {column.tolist()[0]!r} in columns, {row[name]!r} in rows")


@contextmanager
def _schemas() -> Iterator[Check]:
    def check(batch: Sequence[bytes]) -> Counted:
        records = [Record(topics.SCHEMAS, 0, n, b"k", value) for n, value in enumerate(batch)]
        found, refused = published_in(records)
        reader = _reader()
        for schema in found.values():
            reader.add(schema)
            _tried(schema)
        return Counted(len(batch) - len(refused), len(refused))

    yield check


def _tried(schema: Mapping[str, Any]) -> None:
    """What may be published may be used: to decode anything, by rows and by columns."""
    codec = AvroCodec(schema)
    for body in (b"", b"\0" * 40, b"\xff" * 40, b"\x02" * 40):
        try:
            codec.decode(codec.head + body)
        except CodecError:
            continue
    try:
        ColumnReader(schema)
    except BadSchemaError:
        return


def _published(schema: Mapping[str, Any]) -> Mapping[str, Any]:
    return {"fingerprint": "00" * 8, "schema": schema, "by": "a hand"}


def entries() -> list[Entry]:
    """Frames by known schemas, and schemas that anybody publishes."""
    schemas = st.one_of(
        *(mutated(schema).map(_published).map(dumped) for schema in SCHEMAS.values()),
        mutated(_published(SCHEMAS["order"])).map(dumped),
        damaged(st.just(dumped(_published(SCHEMAS["refund"])))),
    )
    return [Entry("Avro frames", FRAMES, 30, _frames, weight=8), Entry("published schemas", schemas, 20, _schemas)]
