"""Run a stage's step as the runtime would, without a bus: records in, result and tables out."""

from collections.abc import Mapping, Sequence
from typing import Any

from trimtab.runtime.partitioner import partition_of
from trimtab.runtime.records import Headers, Out, Read, Record
from trimtab.runtime.stage import UNKNOWN_MS, Batch, EffectDone, Result, Stage
from trimtab.runtime.table import Table


def tables_of(stage: Stage) -> dict[str, Table[Any, Any]]:
    """Empty tables as a task of the stage has them at its first start."""
    return {spec.name: Table(spec) for spec in stage.tables}


def record(
    topic: str,
    value: bytes | None,
    *,
    key: bytes | None = None,
    headers: Headers = (),
    offset: int = 0,
    partition: int = 0,
) -> Record:
    """A record to feed to a step."""
    return Record(topic, partition, offset, key, value, headers)


def as_read(outs: Sequence[Out], *, partitions: int = 1, topic: str | None = None) -> list[Record]:
    """What a stage wrote, as the next stage would read it (offsets count up); of one topic if one is named."""
    chosen = [out for out in outs if topic in (None, out.topic)]
    where = [out.partition if out.partition is not None else partition_of(out.key or b"", partitions) for out in chosen]
    return [
        Record(out.topic, partition, offset, out.key, out.value, out.headers)
        for offset, (out, partition) in enumerate(zip(chosen, where, strict=True))
    ]


def run_step(
    stage: Stage,
    records: Mapping[str, Sequence[Read]],
    tables: Mapping[str, Table[Any, Any]] | None = None,
    *,
    progress_ms: int = UNKNOWN_MS,
    now_ms: int = 0,
    done: Sequence[EffectDone] = (),
    partition: int = 0,
) -> Result:
    """One call of the stage's step. Pass the same `tables` again (see `tables_of`) to carry state over.

    Every declared table's touched entries go through its encoders and back, so that one which does not survive
    a restart fails here.
    """
    held = tables if tables is not None else tables_of(stage)
    result = stage.step(partition, held, Batch(records, progress_ms, now_ms, done))
    for table in held.values():
        for key, value in list(table.flush()):
            table.load(key, value)
    return result
