"""Tiles and grouped events as records: Avro on `<loop>.online` and `<loop>.grouped`."""

from collections.abc import Mapping, Sequence
from functools import lru_cache
from itertools import count, pairwise
from sys import intern

import numpy as np
import polars as pl

from trimtab.contracts.codec import AvroCodec
from trimtab.contracts.columnar import ColumnReader, Items
from trimtab.contracts.data import SCHEMAS
from trimtab.contracts.errors import CodecError
from trimtab.loops.groups import GroupedEvents, TileGroup
from trimtab.loops.incoming.encoding import varints
from trimtab.loops.tiles import Tile, TileKey

_PARTS = "\x1e"
_NO_MORE = b"\x00"
_LAST = 0x7F
"""The last byte of a varint is not larger."""
_MOST_SHIFT = 56
"""Of a varint's last byte. Longer ones, up to 64 bits, no tile needs."""
_MANY = 300
"""So many are read faster together than one by one."""
_FIELDS = Tile.__struct_fields__
_TILE = AvroCodec(SCHEMAS["tile"])
_TILES = ColumnReader(SCHEMAS["tile"])
_GROUPED = AvroCodec(SCHEMAS["grouped"])


def encode_key(key: TileKey) -> bytes:
    """Digest, key and number of the tile, parted by U+001E.

    >>> decode_key(encode_key(("g1", "JFK", 12)))
    ('g1', 'JFK', 12)
    """
    return f"{key[0]}{_PARTS}{key[1]}{_PARTS}{key[2]}".encode()


def decode_key(data: bytes) -> TileKey:
    """The inverse of `encode_key`. Raises ValueError for bytes that it did not make."""
    digest, rest = data.decode().split(_PARTS, 1)
    key, tile = rest.rsplit(_PARTS, 1)
    return digest, key, int(tile)


def encode(tile: Tile) -> bytes:
    """The Avro record of a tile, field by field in the schema's order.

    Written out because a tile is written with every event: a fifth of `AvroCodec.encode`'s time.
    """
    return b"".join(
        (
            _TILE.head,
            _sized(tile.group.encode()),
            _sized(tile.key.encode()),
            _long(tile.tile_ms),
            _long(tile.grain_ms),
            _sized(tile.grains),
            _sized(tile.rows),
            _texts_of(tile) if tile.texts else _NO_MORE,
            _sized(tile.set_sizes),
            _sized(tile.set_members),
        )
    )


@lru_cache(maxsize=8192)
def _long(number: int) -> bytes:
    """A zigzag varint (Avro 1.12, "Binary encoding")."""
    return varints([number])[0]


def _sized(data: bytes) -> bytes:
    return _long(len(data)) + data


def _texts_of(tile: Tile) -> bytes:
    """An array in one block."""
    return _long(len(tile.texts)) + b"".join([_sized(text.encode()) for text in tile.texts]) + _NO_MORE


def decode(data: bytes) -> Tile:
    """The inverse of `encode`. Raises a CodecError.

    Written out as well, for the predictor reads every tile that is written, and a restart all of them: half of
    `AvroCodec.decode`'s time. What `encode` would not have written is left to that.
    """
    if data.startswith(_TILE.head):
        try:
            return _tile(data)
        except (_OtherwiseWrittenError, IndexError, UnicodeDecodeError):
            pass
    value = _TILE.decode(data)
    return Tile(**{**value, "texts": tuple(value["texts"])})


def decode_all(values: Sequence[bytes]) -> list[Tile]:
    """As `decode`, of many tiles: field by field of all of them at once, which takes less time a tile."""
    if len(values) < _MANY:
        return [decode(value) for value in values]
    try:
        found = _TILES.read(values)
    except CodecError:  # of one of them at least: what can be done about it, `decode` knows
        return [decode(value) for value in values]
    columns = [_texts_by_row(found[name], len(values)) if name == "texts" else found[name].tolist() for name in _FIELDS]
    return list(map(Tile, *columns))


def _texts_by_row(items: Items, rows: int) -> list[tuple[str, ...]]:
    if not len(items.row):
        return [()] * rows
    texts = items.values.tolist()
    return [tuple(texts[start:end]) for start, end in pairwise(np.searchsorted(items.row, range(rows + 1)).tolist())]


class _OtherwiseWrittenError(Exception):
    """Not as `encode` writes it, or damaged."""


def _tile(data: bytes) -> Tile:
    group, at = _bytes_at(data, len(_TILE.head))
    key, at = _bytes_at(data, at)
    tile_ms, at = _long_at(data, at)
    grain_ms, at = _long_at(data, at)
    grains, at = _bytes_at(data, at)
    rows, at = _bytes_at(data, at)
    texts, at = _texts_at(data, at)
    set_sizes, at = _bytes_at(data, at)
    set_members, at = _bytes_at(data, at)
    if at != len(data):
        raise _OtherwiseWrittenError
    digest = intern(group.decode())  # of very many tiles
    return Tile(digest, key.decode(), tile_ms, grain_ms, grains, rows, texts, set_sizes, set_members)


def _long_at(data: bytes, at: int) -> tuple[int, int]:
    """A zigzag varint, and where it ends."""
    value = shift = 0
    while data[at] > _LAST:
        value |= (data[at] & _LAST) << shift
        at, shift = at + 1, shift + 7
        if shift > _MOST_SHIFT:
            raise _OtherwiseWrittenError
    value |= data[at] << shift
    return (value >> 1) ^ -(value & 1), at + 1


def _bytes_at(data: bytes, at: int) -> tuple[bytes, int]:
    """What stands behind its length, and where it ends: behind all data, if some is missing."""
    size = data[at]
    if size > _LAST:
        size, at = _long_at(data, at)
    else:
        size, at = (size >> 1) ^ -(size & 1), at + 1
    if size < 0:
        raise _OtherwiseWrittenError
    return data[at : at + size], at + size


def _texts_at(data: bytes, at: int) -> tuple[tuple[str, ...], int]:
    """An array in one block or none."""
    count, at = _long_at(data, at)
    if count == 0:
        return (), at
    texts = list[str]()
    for _ in range(count):
        text, at = _bytes_at(data, at)
        texts.append(text.decode())
    if count < 0 or data[at]:
        raise _OtherwiseWrittenError
    return tuple(texts), at + 1


def encode_grouped(events: GroupedEvents) -> bytes:
    """The Avro record of a batch of grouped events."""
    numbers = [series.to_numpy() for series in events.arguments if series.dtype != pl.String]
    return _GROUPED.encode(
        {
            "group": events.digest,
            "keys": list(events.keys),
            "at_ms": events.at_ms.astype("<i8").tobytes(),
            "numbers": b"".join(column.astype("<f8").tobytes() for column in numbers),
            "texts": [text for series in events.arguments if series.dtype == pl.String for text in series.to_list()],
        }
    )


def decode_grouped(data: bytes, groups: Mapping[str, TileGroup]) -> GroupedEvents | None:
    """The inverse of `encode_grouped`; None for a group of another version of the declaration. Raises a CodecError."""
    value = _GROUPED.decode(data)
    group = groups.get(value["group"])
    if group is None:
        return None
    rows = len(value["keys"])
    columns = sum(argument.kind != "text" for argument in group.plan.arguments)
    numbers = iter(np.frombuffer(value["numbers"], "<f8").reshape(columns, rows))
    texts = count(0, rows)
    arguments = [
        _texts(value["texts"][(start := next(texts)) : start + rows])
        if argument.kind == "text"
        else pl.Series(next(numbers), nan_to_null=True)
        for argument in group.plan.arguments
    ]
    return GroupedEvents(group.digest, value["keys"], np.frombuffer(value["at_ms"], "<i8").astype(np.int64), arguments)


def _texts(values: list[str | None]) -> pl.Series:
    return pl.Series(values, dtype=pl.String)
