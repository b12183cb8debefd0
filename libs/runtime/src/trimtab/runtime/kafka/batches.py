"""Record batches as a transactional producer sends them: numbered, so that a repeated one is recognised."""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Any

from aiokafka.record.default_records import DefaultRecordBatchBuilder

from trimtab.runtime.bus import Part
from trimtab.runtime.records import Out

MAX_BYTES = 900_000
"""Of one batch; the broker's limit is 1 MiB and a little. A single larger record is left for the broker to refuse."""
_MAGIC, _UNCOMPRESSED, _TRANSACTIONAL = 2, 0, 1
_MAX_SEQUENCE = 2**31 - 1


@dataclass(frozen=True, slots=True)
class Identity:
    """Who produces: an id of the broker's, and the epoch that fences earlier owners of the transactional id."""

    producer_id: int
    epoch: int


class Sequences:
    """The number of the next record of each partition, from 0 on in each epoch. Mutable: its producer alone owns it."""

    def __init__(self) -> None:
        self._next: dict[Part, int] = {}

    def take(self, part: Part, count: int) -> int:
        """The first of so many numbers. They begin again after 2^31 - 1 (as in Kafka's own incrementSequence)."""
        first = self._next.get(part, 0)
        self._next[part] = (first + count) & _MAX_SEQUENCE
        return first


def encode(part: Part, outs: Sequence[Out], identity: Identity, sequences: Sequences) -> list[bytes]:
    """The records of one partition in as many batches as they need."""
    batches, start = [], 0
    while start < len(outs):
        builder = DefaultRecordBatchBuilder(_MAGIC, _UNCOMPRESSED, _TRANSACTIONAL, -1, -1, 0, MAX_BYTES)
        count = _fill(builder, islice(outs, start, None))
        builder.set_producer_state(identity.producer_id, identity.epoch, sequences.take(part, count))
        batches.append(bytes(builder.build()))
        start += count
    return batches


def _fill(builder: Any, outs: "islice[Out]") -> int:
    """Put records into a batch until it is full, and say how many it took (one at least)."""
    append, count = builder.append, 0
    for out in outs:
        if append(count, None, key=out.key, value=out.value, headers=list(out.headers)) is None:
            break
        count += 1
    return count
