"""Tiles as bytes: what is written out by hand is what Avro's own codec reads and writes."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from trimtab.contracts.codec import AvroCodec
from trimtab.contracts.data import SCHEMAS
from trimtab.contracts.errors import CodecError
from trimtab.loops.tile_records import decode, decode_all, encode
from trimtab.loops.tiles import Tile

CODEC = AvroCodec(SCHEMAS["tile"])
LONGS = st.integers(-(2**63), 2**63 - 1)
TILES = st.builds(
    Tile,
    group=st.text(max_size=80),
    key=st.text(max_size=80),
    tile_ms=LONGS,
    grain_ms=LONGS,
    grains=st.binary(max_size=64),
    rows=st.binary(max_size=300),
    texts=st.lists(st.text(max_size=70), max_size=70).map(tuple),
    set_sizes=st.binary(max_size=8),
    set_members=st.binary(max_size=8),
)
PLAIN = Tile("g", "JFK", 1_700_000_000_000, 5_000, b"\x01", b"x" * 200, ("a", "b"))


def by_codec(data: bytes) -> Tile:
    """Field by field of the schema."""
    value = CODEC.decode(data)
    return Tile(**{**value, "texts": tuple(value["texts"])})


def by_either(data: bytes) -> list[Tile | None]:
    """What each makes of it; None: a CodecError."""
    found: list[Tile | None] = []
    for read in (decode, by_codec):
        try:
            found.append(read(data))
        except CodecError:
            found.append(None)
    return found


@given(TILES)
def test_it_is_the_schemas_encoding(tile: Tile) -> None:
    fields = {name: getattr(tile, name) for name in tile.__struct_fields__}
    data = encode(tile)
    assert data == CODEC.encode({**fields, "texts": list(tile.texts)})
    assert decode(data) == by_codec(data) == tile


@given(TILES, st.data())
def test_damaged_it_is_read_as_the_codec_reads_it(tile: Tile, data: st.DataObject) -> None:
    whole = bytearray(encode(tile))
    for _ in range(data.draw(st.integers(1, 3))):
        whole[data.draw(st.integers(0, len(whole) - 1))] = data.draw(
            st.sampled_from([0, 1, 2, 3, 0x7F, 0x80, 0x81, 0xFF])
        )
    damaged = bytes(whole[: data.draw(st.integers(0, len(whole)))])
    for one in (bytes(whole), damaged, bytes(whole) + b"\x00"):
        ours, codecs = by_either(one)
        assert ours == codecs


@pytest.mark.parametrize("together", [1, 300])
@given(tiles=st.lists(TILES, min_size=1, max_size=5))
def test_many_are_read_as_each_alone(tiles: list[Tile], together: int) -> None:
    many = (tiles * together)[: max(together, len(tiles))]
    assert decode_all([encode(tile) for tile in many]) == many


def test_of_many_one_that_is_otherwise_written_is_read_and_one_that_is_damaged_refused() -> None:
    data = encode(PLAIN)
    otherwise = data.replace(b"\x04\x02a\x02b\x00", b"\x03\x08\x02a\x02b\x00")
    assert decode_all([data, otherwise] * 300) == [PLAIN] * 600
    for wrong in (data[:-1], data + b"\x00", b"\x00" + data[1:]):
        with pytest.raises(CodecError):
            decode_all([data, wrong] * 300)


@pytest.mark.parametrize("blocks", [b"\x02\x02a\x02\x02b\x00", b"\x03\x08\x02a\x02b\x00"])
def test_texts_in_other_blocks_are_read_too(blocks: bytes) -> None:
    """Avro allows several blocks, and blocks that say their size; `encode` writes one that does not."""
    data = encode(PLAIN)
    assert data.count(b"\x04\x02a\x02b\x00") == 1
    assert decode(data.replace(b"\x04\x02a\x02b\x00", blocks)) == PLAIN


def test_bytes_of_something_else_are_refused() -> None:
    for data in (b"", b"\xc3\x01", encode(PLAIN)[:-1], b"\x00" + encode(PLAIN)[1:]):
        with pytest.raises(CodecError):
            decode(data)
