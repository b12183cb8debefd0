"""Where a task stands: a record in its own changelog, written in the same transaction as its outputs and tables."""

from collections.abc import Mapping
from typing import Any

import msgspec

from trimtab.runtime.bus import Declared, TopicInfo
from trimtab.runtime.errors import (
    PartitionsChangedError,
    PositionLostError,
    PositionOutOfRangeError,
    TopicMissingError,
    TopicReplacedError,
)

RESERVED = b"\x00"
"""Changelog keys that begin so are the runtime's own, and no table's: a table has a name."""
KEY = RESERVED + b"position"
_SEPARATOR = b"\x00"


class Position(msgspec.Struct, frozen=True):
    """`offsets`: next offset by input topic. `topic_ids`: which topics these offsets belong to."""

    offsets: dict[str, int]
    topic_ids: dict[str, str]
    progress: dict[str, Any]


_encoder = msgspec.json.Encoder()
_decoder = msgspec.json.Decoder(Position)


def encode(position: Position) -> bytes:
    """As it stands in the changelog."""
    return _encoder.encode(position)


def decode(value: bytes) -> Position:
    """Raises msgspec.DecodeError where it is not one."""
    return _decoder.decode(value)


def entry_key(table: str, key: bytes) -> bytes:
    """The changelog key of a table's entry."""
    return table.encode() + _SEPARATOR + key


def split_entry_key(key: bytes) -> tuple[str, bytes]:
    """The table and the entry's own key of a changelog key.

    >>> split_entry_key(entry_key("seen", b"a"))
    ('seen', b'a')
    """
    table, _, rest = key.partition(_SEPARATOR)
    return table.decode(), rest


def check_topics(found: Mapping[str, TopicInfo], needed: Mapping[str, int | None], declared: Declared) -> None:
    """Refuse topics that are missing, were made anew, or have another number of partitions than they should.

    `needed`: topic → partitions that the stage counts on (None: any).
    """
    for topic, partitions in needed.items():
        if topic not in found:
            raise TopicMissingError(topic)
        said = declared.topics.get(topic)
        if said is not None and said.id != found[topic].id:
            raise TopicReplacedError(topic, said.id, found[topic].id)
        expected = said.partitions if said is not None else partitions
        if expected is not None and expected != found[topic].partitions:
            raise PartitionsChangedError(topic, expected, found[topic].partitions)


class Held(msgspec.Struct, frozen=True):
    """What was found when a task opens: its position, if any, and traces of earlier work without one."""

    task: str
    changelog: str
    position: Position | None
    entries: int
    committed: Mapping[str, int]


def starts(held: Held, ids: Mapping[str, str], bounds: Mapping[str, tuple[int, int]]) -> dict[str, int]:
    """From which offset each input topic is to be read.

    `ids`, `bounds`: of the input topics as they are now. A task that never ran starts at the beginning, and so does
    an input that is new to it. Raises TopicReplacedError, PositionLostError, PositionOutOfRangeError.
    """
    if held.position is None:
        if held.committed:
            raise PositionLostError(
                held.task, held.changelog, f"its group has committed offsets {dict(held.committed)}"
            )
        if held.entries:
            raise PositionLostError(held.task, held.changelog, f"the changelog holds {held.entries} table entries")
        return {topic: begin for topic, (begin, _) in bounds.items()}
    return {topic: _start(held.task, held.position, topic, ids[topic], bounds[topic]) for topic in bounds}


def _start(task: str, position: Position, topic: str, topic_id: str, bounds: tuple[int, int]) -> int:
    offset = position.offsets.get(topic)
    if offset is None:
        return bounds[0]
    known = position.topic_ids.get(topic)
    if known is not None and known != topic_id:
        raise TopicReplacedError(topic, known, topic_id)
    if not bounds[0] <= offset <= bounds[1]:
        raise PositionOutOfRangeError(task, topic, offset)
    return offset
