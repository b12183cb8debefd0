"""Users' bytes as rows: plain JSON, single-object Avro, or a Confluent frame."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import msgspec

from trimtab.contracts.errors import CodecError, UnknownFingerprintError, UnknownSchemaIdError
from trimtab.loops.incoming.columns import physical
from trimtab.loops.incoming.contract import Contract, Row
from trimtab.loops.incoming.diagnosis import diagnose
from trimtab.loops.incoming.verdicts import Refusal, Rejected

_AVRO = (b"\xc3", b"\x00")
"""First bytes of the single-object encoding and of the Confluent frame; no JSON begins with them."""
AT_ONCE = 64
"""Fewer events are read sooner one by one."""


@dataclass(frozen=True, slots=True)
class Readable:
    """What could be read of a batch: `rows`, from the values at `indexes`; and what could not."""

    indexes: Sequence[int]
    rows: Sequence[Row]
    refused: Sequence[Rejected]


@dataclass(frozen=True, slots=True)
class ReadableColumns:
    """The same as columns of physical values, in the order of the contract's fields."""

    indexes: Sequence[int]
    columns: Sequence[Sequence[Any]]
    refused: Sequence[Rejected]


def read_columns(contract: Contract, values: Sequence[bytes | None]) -> ReadableColumns:
    """Every value as a row of columns, or refused."""
    columns = _avro_columns(contract, values)
    if columns is not None:
        return ReadableColumns(range(len(values)), columns, ())
    found = read(contract, values)
    return ReadableColumns(found.indexes, physical(contract.fields, found.rows), found.refused)


def _avro_columns(contract: Contract, values: Sequence[bytes | None]) -> list[list[Any]] | None:
    """All values at once where each is Avro by the contract's own schema; None: they have to be read one by one."""
    known = [value for value in values if value is not None]
    if contract.columns is None or not AT_ONCE <= len(values) == len(known):
        return None
    try:
        found = contract.columns.read(known)
    except CodecError:
        return None
    return [found[field.name].tolist() for field in contract.fields]


def read(contract: Contract, values: Sequence[bytes | None]) -> Readable:
    """Every value as a row, or refused."""
    decode, row = contract.decoder.decode, msgspec.structs.astuple
    rows: list[Row] = []
    refused: list[Rejected] = []
    for index, value in enumerate(values):
        try:
            one = row(decode(value)) if value and value[:1] not in _AVRO else _read_avro(contract, value)
        except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
            one = diagnose(contract, value or b"")
        if isinstance(one, Refusal):
            refused.append(Rejected(index, one))
        else:
            rows.append(one)
    lost = {one.index for one in refused}
    indexes = [index for index in range(len(values)) if index not in lost] if lost else range(len(values))
    return Readable(indexes, rows, refused)


def _read_avro(contract: Contract, value: bytes | None) -> Row | Refusal:
    if not value:
        return Refusal("format", "expected JSON or Avro, got an empty record")
    try:
        decoded = contract.reader.decode(value)
    except (UnknownFingerprintError, UnknownSchemaIdError) as error:
        return Refusal("schema_id", str(error))
    except CodecError as error:
        return Refusal("format", f"expected JSON or Avro: {error}")
    return tuple([decoded[field.name] for field in contract.fields])
