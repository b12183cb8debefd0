"""Many messages of one Avro schema as columns, decoded field by field for all of them at once.

Reading a wide record value by value costs a Python call a field. Here every field is one handful of numpy operations
for the whole batch, whatever the number of rows, so a batch of a thousand costs little more than one of ten.
"""

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from trimtab.contracts.codec import HEADER_BYTES, MARKER, Schema, fingerprint, parsed
from trimtab.contracts.errors import BadSchemaError, NotSingleObjectError, UndecodableError, UnknownFingerprintError

Ints = NDArray[np.int64]
Column = NDArray[Any]
Columns = Mapping[str, Any]
"""By field: a column, the Columns of a record, or an `Items` of an array."""

NO_LONG = -(2**63)
"""What a null is in a column of longs; in one of doubles it is NaN, elsewhere None."""

_PADDING = bytes(16)
_LONGEST_VARINT = 10
_SHIFTS = np.arange(0, 7 * _LONGEST_VARINT, 7, dtype=np.uint64)
_ONE = np.uint64(1)


@dataclass(frozen=True, slots=True)
class Items:
    """The items of an array field: which message each belongs to, ascending, and their values."""

    row: Ints
    values: Any


@dataclass(slots=True)
class _Buffer:
    """All messages in one buffer. `at`: where each message's next field starts; it moves on while fields are read.

    `windows`: by width, the bytes from each place on.
    """

    octets: NDArray[np.uint8]
    data: bytes
    at: Ints
    windows: Mapping[int, NDArray[np.uint8]]


_Read = Callable[[_Buffer], Any]
Spread = Callable[[Column, Ints, int], Column]
"""The values of a nullable field at their places among so many rows, nulls at the others."""


class ColumnReader:
    """Decodes messages in Avro's single-object encoding by one schema.

    `wanted`: the top-level fields to return, all by default; the others are passed over. `spread`: what a null is in
    a column, a number by default. Supported: null, boolean, int, long, float, double, string, bytes, enum, records,
    arrays of these, and unions of null and one of these.

    >>> from trimtab.contracts.codec import AvroCodec
    >>> fields = [{"name": "at_ms", "type": "long"}, {"name": "x", "type": ["null", "double"]}]
    >>> schema = {"type": "record", "name": "Point", "fields": fields}
    >>> codec = AvroCodec(schema)
    >>> found = ColumnReader(schema).read([codec.encode({"at_ms": 5, "x": 0.5}), codec.encode({"at_ms": 6, "x": None})])
    >>> found["at_ms"].tolist(), found["x"].tolist()
    ([5, 6], [0.5, nan])
    """

    def __init__(self, schema: Schema, wanted: Collection[str] | None = None, *, spread: Spread | None = None) -> None:
        parsed(schema)
        self.fingerprint = fingerprint(schema)
        self._head = MARKER + self.fingerprint
        try:
            self._fields = [
                (field["name"], _reader(field["type"], wanted is None or field["name"] in wanted, spread or as_numbers))
                for field in schema["fields"]
            ]
        except KeyError as error:  # a record without fields, which the parser lets pass
            raise BadSchemaError(f"there is no {error}") from error
        self._wanted = wanted

    def read(self, messages: Sequence[bytes]) -> Columns:
        """The columns. Raises NotSingleObjectError, UnknownFingerprintError, UndecodableError."""
        for message in messages:
            if not message.startswith(self._head):
                raise _wrong_head(message)
        data = b"".join([*messages, _PADDING])
        ends = np.cumsum(np.fromiter(map(len, messages), np.int64, len(messages)))
        starts = np.concatenate([[0], ends[:-1]]) if len(messages) else ends
        one = np.frombuffer(data, np.uint8)
        windows = {width: np.lib.stride_tricks.sliding_window_view(one, width) for width in (4, 8, _LONGEST_VARINT)}
        buffer = _Buffer(one, data, starts + HEADER_BYTES, windows)
        try:
            columns = {name: read(buffer) for name, read in self._fields}
        except (IndexError, ValueError, OverflowError) as error:
            raise UndecodableError(f"{type(error).__name__}: {error}") from error
        if not np.array_equal(buffer.at, ends):
            wrong = int(np.flatnonzero(buffer.at != ends)[0])
            raise UndecodableError(
                f"message {wrong} ends {int(buffer.at[wrong] - ends[wrong])} bytes from where it should"
            )
        return columns if self._wanted is None else {name: columns[name] for name in self._wanted}


def _wrong_head(message: bytes) -> NotSingleObjectError | UnknownFingerprintError:
    if message[:2] != MARKER or len(message) < HEADER_BYTES:
        return NotSingleObjectError(message[:4])
    return UnknownFingerprintError(message[2:HEADER_BYTES])


def _reader(avro: Any, wanted: bool, spread: Spread) -> _Read:
    """The reader of a type; of one that is not wanted, it returns None."""
    if isinstance(avro, list):
        return _union_reader(avro, wanted, spread)
    kind = avro["type"] if isinstance(avro, Mapping) else avro
    if isinstance(kind, Mapping | list):
        return _reader(kind, wanted, spread)
    if kind == "record":
        fields = [(field["name"], _reader(field["type"], wanted, spread)) for field in avro["fields"]]
        return _record_reader(fields, wanted)
    if kind == "array":
        return _array_reader(_reader(avro["items"], wanted, spread), wanted)
    if kind == "enum":
        return _enum_reader(avro["symbols"]) if wanted else _pass_varint
    if kind not in _PRIMITIVES:
        raise BadSchemaError(f"columns of type {kind!r} are not supported")
    return _PRIMITIVES[kind] if wanted else _PASSING.get(kind, _PRIMITIVES[kind])


def _varint(buffer: _Buffer) -> Ints:
    """Zig-zag longs, and the buffer moved past them."""
    held = buffer.windows[_LONGEST_VARINT][buffer.at]
    last = _last_byte(held)
    width = int(last.max(initial=0)) + 1
    buffer.at = buffer.at + last + 1
    septets = (held[:, :width] & 0x7F).astype(np.uint64)
    septets[np.arange(width) > last[:, None]] = 0
    value: NDArray[np.uint64] = np.bitwise_or.reduce(septets << _SHIFTS[:width], axis=1)
    magnitude: Ints = (value >> _ONE).view(np.int64)
    return magnitude ^ -(value & _ONE).view(np.int64)


def _pass_varint(buffer: _Buffer) -> None:
    buffer.at = buffer.at + _last_byte(buffer.windows[_LONGEST_VARINT][buffer.at]) + 1


def _last_byte(held: NDArray[np.uint8]) -> Ints:
    """Which of the ten bytes [n, 10] ends each number: the first without the continuation bit."""
    last: Ints = (held < 0x80).argmax(axis=1)
    if len(held) and held[np.arange(len(held)), last].max() >= 0x80:
        raise ValueError("a number of more than 64 bits")
    return last


def _fixed(dtype: str) -> _Read:
    size = np.dtype(dtype).itemsize

    def read(buffer: _Buffer) -> Column:
        found = buffer.windows[size][buffer.at].view(dtype).reshape(-1)
        buffer.at = buffer.at + size
        return found.astype(np.float64, copy=False)

    return read


def _boolean(buffer: _Buffer) -> Column:
    found: Column = buffer.octets[buffer.at] != 0
    buffer.at = buffer.at + 1
    return found


def _spans(buffer: _Buffer) -> tuple[Ints, Ints]:
    """(starts, ends) of strings or bytes, and the buffer moved past them."""
    length = _varint(buffer)
    if len(length) and int(length.min()) < 0:
        raise ValueError("a length below 0")
    starts = buffer.at
    buffer.at = starts + length
    return starts, buffer.at


def _pieces(buffer: _Buffer) -> list[bytes]:
    starts, ends = _spans(buffer)
    data = buffer.data
    return [data[a:b] for a, b in zip(starts.tolist(), ends.tolist(), strict=True)]


def _bytes(buffer: _Buffer) -> Column:
    return _objects(_pieces(buffer))


def _string(buffer: _Buffer) -> Column:
    return _objects([piece.decode() for piece in _pieces(buffer)])


def _objects(values: Sequence[object]) -> Column:
    column = np.empty(len(values), object)
    column[:] = values
    return column


def _null(buffer: _Buffer) -> Column:
    return np.full(len(buffer.at), None, object)


_PRIMITIVES: Mapping[str, _Read] = {
    "null": _null,
    "boolean": _boolean,
    "int": _varint,
    "long": _varint,
    "float": _fixed("<f4"),
    "double": _fixed("<f8"),
    "string": _string,
    "bytes": _bytes,
}
_PASSING: Mapping[str, _Read] = {"int": _pass_varint, "long": _pass_varint, "string": _spans, "bytes": _spans}


def _enum_reader(symbols: Sequence[str]) -> _Read:
    names = _objects(symbols)

    def read(buffer: _Buffer) -> Column:
        which = _varint(buffer)
        if which.min(initial=0) < 0:
            raise ValueError("a symbol below 0")
        return names[which]

    return read


def _record_reader(fields: Sequence[tuple[str, _Read]], wanted: bool) -> _Read:
    def read(buffer: _Buffer) -> Columns | None:
        columns = {name: read_field(buffer) for name, read_field in fields}
        return columns if wanted else None

    return read


def _union_reader(branches: Sequence[Any], wanted: bool, spread: Spread) -> _Read:
    others = [branch for branch in branches if branch != "null"]
    if len(branches) != 2 or len(others) != 1:
        raise BadSchemaError(f"columns of the union {branches!r} are not supported")
    present_code, null_code = 2 * branches.index(others[0]), 2 * branches.index("null")
    read_present = _reader(others[0], wanted, spread)

    def read(buffer: _Buffer) -> Any:
        code = buffer.octets[buffer.at]
        at = buffer.at + 1
        there = np.flatnonzero(code == present_code)
        if len(there) == len(at):
            buffer.at = at
            return read_present(buffer)
        if np.count_nonzero(code == null_code) + len(there) != len(at):
            raise ValueError("a branch that the union does not have")
        buffer.at = at[there]
        found = read_present(buffer)
        at[there] = buffer.at
        buffer.at = at
        return _placed(found, there, len(at), spread) if wanted else None

    return read


def _placed(found: Any, there: Ints, size: int, spread: Spread) -> Any:
    """The values of some of the rows among all of them."""
    if isinstance(found, Items):
        return Items(there[found.row], found.values)
    if isinstance(found, Mapping):
        return {name: _placed(column, there, size, spread) for name, column in found.items()}
    return spread(found, there, size)


def as_numbers(found: Column, there: Ints, size: int) -> Column:
    """A null is NO_LONG among longs, NaN among doubles, None elsewhere: numbers stay numbers."""
    if found.dtype == np.float64:
        column = np.full(size, np.nan)
    elif found.dtype == np.int64:
        column = np.full(size, NO_LONG, np.int64)
    else:
        column = np.full(size, None, object)
    column[there] = found
    return column


def as_objects(found: Column, there: Ints, size: int) -> Column:
    """A null is None, and so not mistaken for any number; values are Python's own."""
    column = np.full(size, None, object)
    column[there] = found
    return column


def _array_reader(read_item: _Read, wanted: bool) -> _Read:
    """Items are read in rounds: the first of each message, then the second of those that have one, and so on."""

    def read(buffer: _Buffer) -> Items | None:
        rows, parts = list[Ints](), list[Any]()
        at, open_rows, left = buffer.at.copy(), np.arange(len(buffer.at)), np.zeros(len(buffer.at), np.int64)
        while len(open_rows):
            open_rows, left = _next_blocks(buffer, at, open_rows, left)
            if not len(open_rows):
                break
            buffer.at = at[open_rows]
            parts.append(read_item(buffer))
            rows.append(open_rows)
            at[open_rows] = buffer.at
            left = left - 1
        buffer.at = at
        return _items(rows, parts) if wanted else None

    return read


def _next_blocks(buffer: _Buffer, at: Ints, rows: Ints, left: Ints) -> tuple[Ints, Ints]:
    """The rows that have another item, with how many are left of their block; new blocks' headers are read."""
    ended = np.flatnonzero(left == 0)
    if not len(ended):
        return rows, left
    buffer.at = at[rows[ended]]
    count = _varint(buffer)
    sized = np.flatnonzero(count < 0)
    if len(sized):
        after = buffer.at
        buffer.at = after[sized]
        _varint(buffer)
        after[sized] = buffer.at
        buffer.at = after
    at[rows[ended]] = buffer.at
    left = left.copy()
    left[ended] = np.abs(count)
    return rows[left > 0], left[left > 0]


def _items(rows: Sequence[Ints], parts: Sequence[Any]) -> Items:
    if not rows:
        return Items(np.empty(0, np.int64), None)
    row = np.concatenate(rows)
    order = np.argsort(row, kind="stable")
    return Items(row[order], _gathered(parts, order, np.cumsum([0, *map(len, rows)])))


def _gathered(parts: Sequence[Any], order: Ints, firsts: Ints) -> Any:
    """The parts one after the other, in `order`. `firsts`: where the items of each part begin."""
    if isinstance(parts[0], Mapping):
        return {name: _gathered([part[name] for part in parts], order, firsts) for name in parts[0]}
    if not isinstance(parts[0], Items):
        return np.concatenate(parts)[order]
    place = np.empty(len(order), np.int64)
    place[order] = np.arange(len(order))
    owner = np.concatenate([place[part.row + first] for part, first in zip(parts, firsts.tolist(), strict=False)])
    inner = np.argsort(owner, kind="stable")
    held = [part.values for part in parts if part.values is not None]
    return Items(owner[inner], _nested(held, inner))


def _nested(held: Sequence[Any], order: Ints) -> Any:
    if not held:
        return None
    if isinstance(held[0], Mapping | Items):
        raise BadSchemaError("columns of arrays nested more than twice, or of records in them, are not supported")
    return np.concatenate(held)[order]
