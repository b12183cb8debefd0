"""What a transaction writes: a step's records, its tables, marks and the position, by partition."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from trimtab.runtime import marks, position
from trimtab.runtime.bus import Part
from trimtab.runtime.errors import OutputRefusedError
from trimtab.runtime.marks import Mark
from trimtab.runtime.partitioner import partitions_of
from trimtab.runtime.records import Out
from trimtab.runtime.stage import Stage
from trimtab.runtime.table import Table

Lists = dict[str, list[list[Out]]]


class Draft:
    """The writes of one transaction of one task, while they are collected."""

    def __init__(self, stage: Stage, partition: int) -> None:
        self._stage, self._partition = stage, partition
        self._lists: Lists = {output.topic: [[] for _ in range(output.partitions)] for output in stage.outputs}
        self._own: dict[str, list[Out]] = {}

    def add(self, outs: Iterable[Out]) -> None:
        """A step's records, each to its key's partition. Raises OutputRefusedError."""
        by_topic: dict[str, list[Out]] = {}
        for out in outs:
            by_topic.setdefault(out.topic, []).append(out)
        for topic, some in by_topic.items():
            parts = self._lists.get(topic)
            if parts is None:
                raise OutputRefusedError(self._stage.group, topic, "it is not among the stage's outputs")
            for out, target in zip(some, self._targets(some, len(parts)), strict=True):
                parts[target].append(out)

    def _targets(self, outs: Sequence[Out], partitions: int) -> list[int]:
        """The partition of each record of one topic."""
        keyed = iter(
            partitions_of([out.key for out in outs if out.partition is None and out.key is not None], partitions)
        )
        return [self._target(out, partitions, keyed) for out in outs]

    def _target(self, out: Out, partitions: int, keyed: Iterator[int]) -> int:
        if out.partition is None:
            return self._partition % partitions if out.key is None else next(keyed)
        if not 0 <= out.partition < partitions:
            raise OutputRefusedError(
                self._stage.group, out.topic, f"there is no partition {out.partition} of {partitions}"
            )
        return out.partition

    def flush(self, tables: Mapping[str, Table[Any, Any]]) -> bool:
        """The tables' touched entries; whether there were any."""
        before = sum(len(outs) for outs in self._own.values())
        for name, table in tables.items():
            topic = table.spec.topic
            if topic is None:
                topic = self._stage.changelog
                entries = [Out(topic, position.entry_key(name, key), value) for key, value in table.flush()]
            else:
                entries = [Out(topic, key, value) for key, value in table.flush()]
            self._own.setdefault(topic, []).extend(entries)
        return sum(len(outs) for outs in self._own.values()) > before

    def place(self, at: position.Position) -> None:
        """The position."""
        self._own.setdefault(self._stage.changelog, []).append(
            Out(self._stage.changelog, position.KEY, position.encode(at))
        )

    def writes(self, said: Sequence[Mark]) -> dict[Part, list[Out]]:
        """Everything by partition, with these marks at the end of every partition that carries them."""
        found: dict[Part, list[Out]] = {}
        for topic, outs in self._own.items():
            if outs:
                found[Part(topic, self._partition)] = outs
        for topic, parts in self._lists.items():
            for partition, outs in enumerate(parts):
                if outs:
                    found.setdefault(Part(topic, partition), []).extend(outs)
        for mark in said:
            for output in self._stage.outputs:
                if output.marks:
                    for partition in range(output.partitions):
                        out = Out(output.topic, marks.key_of(mark.task), None, marks.headers_of(mark))
                        found.setdefault(Part(output.topic, partition), []).append(out)
        return found
