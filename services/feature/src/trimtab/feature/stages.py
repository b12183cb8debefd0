"""The two stages of a loop: route re-keys events by group, aggregate folds them into tiles."""

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from typing import Protocol

import numpy as np

from trimtab.contracts import envelope, telemetry, topics
from trimtab.contracts.data import SCHEMAS
from trimtab.feature.core import Lifetimes, Source, in_time, parted, sources
from trimtab.loops.groups import GroupedEvents, TileGroup, tile_groups, together
from trimtab.loops.model import Loop
from trimtab.loops.partials import Ints
from trimtab.loops.tile_records import decode, decode_grouped, decode_key, encode, encode_grouped, encode_key
from trimtab.loops.tiles import Tile, TileKey, by_digest, fold
from trimtab.runtime.partitioner import partition_of
from trimtab.runtime.records import Out, Read
from trimtab.runtime.stage import UNKNOWN_MS, Batch, Input, Measure, Output, Result, Stage, Tables, View
from trimtab.runtime.table import Table, TableSpec

SERVICE, ROUTE, AGGREGATE = "feature", "route", "aggregate"
LIVE_INTERVAL_MS = 500
"""Asks wait for beginnings of grains alone, and those end every rest."""
LEAST_GONE = 1_000
"""So many tiles may go in a step, and two for each that it changed: nobody waits while those of a year go."""
MOST_BYTES = 900_000
"""Of a record with many events."""


class Times(View, Protocol):
    """How far loops have come as a whole."""

    def reached_ms(self, loop: str) -> int | None:
        """The event time that a loop has reached; None: nothing has come through all of it yet."""


def tiles_table(loop: str) -> TableSpec[TileKey, Tile]:
    """The tiles of a loop: the table whose changelog is `<loop>.online` itself."""
    return TableSpec("tiles", encode_key, decode_key, encode, decode, topics.online(loop), SCHEMAS["tile"])


def stages(loop: Loop, times: Times) -> list[Stage]:
    """Both stages of a loop; none for a loop without groups and latest values."""
    return [route_stage(loop), aggregate_stage(loop, times)] if sources(loop) else []


def route_stage(loop: Loop) -> Stage:
    """Events → column batches of groups, in the partition of their key. Delivery: exactly once."""
    needed = sources(loop)
    writers = {topics.group("ingest", "dedupe", loop.name): loop.partitions}
    return Stage(
        group=topics.group(SERVICE, ROUTE, loop.name),
        changelog=topics.changelog(SERVICE, ROUTE, loop.name),
        partitions=loop.partitions,
        live_interval_ms=LIVE_INTERVAL_MS,
        awaited_grain_ms=loop.features.awaited_ms,
        inputs=[
            Input(topics.events(loop.name, source.event), writers=writers, schema=loop.events[source.event].schema)
            for source in needed
        ],
        outputs=[Output(topics.grouped(loop.name), loop.partitions)],
        step=RouteStep(loop, needed),
    )


def aggregate_stage(loop: Loop, times: Times) -> Stage:
    """Column batches → tiles on `<loop>.online`. Delivery: exactly once, so nothing is counted twice."""
    writers = {topics.group(SERVICE, ROUTE, loop.name): loop.partitions}
    return Stage(
        group=topics.group(SERVICE, AGGREGATE, loop.name),
        changelog=topics.changelog(SERVICE, AGGREGATE, loop.name),
        partitions=loop.partitions,
        live_interval_ms=LIVE_INTERVAL_MS,
        awaited_grain_ms=loop.features.awaited_ms,
        inputs=[Input(topics.grouped(loop.name), writers=writers, schema=SCHEMAS["grouped"])],
        outputs=[Output(topics.online(loop.name), loop.partitions)],
        tables=[tiles_table(loop.name)],
        views=[times],
        step=AggregateStep(loop, times),
    )


class RouteStep:
    """The step of `route`; immutable."""

    def __init__(self, loop: Loop, needed: Sequence[Source]) -> None:
        self._loop, self._sources = loop, needed
        self._writer = topics.group(SERVICE, ROUTE, loop.name)

    def __call__(self, partition: int, tables: Tables, batch: Batch) -> Result:
        del partition, tables  # a stage without state, the same for every partition
        out: list[Out] = []
        for source in self._sources:
            records = batch.records.get(topics.events(self._loop.name, source.event))
            if records:
                out += self._routed(source, records)
        return Result(out)

    def _routed(self, source: Source, records: Sequence[Read]) -> list[Out]:
        events = source.reader.read([record.value or b"" for record in records])
        at_ms = event_times(records)
        place = f"{records[0].topic}-{records[0].partition}-{records[0].offset}"
        return [
            self._record(target, *piece, f"{place}-{group.name}-{target}")
            for group in source.groups
            for target, grouped in parted(group, events, at_ms, self._partition).items()
            for piece in pieces(grouped)
        ]

    def _partition(self, key: str) -> int:
        return partition_of(key.encode(), self._loop.partitions)

    def _record(self, target: int, events: GroupedEvents, value: bytes, id: str) -> Out:
        headers = envelope.headers(id, "grouped", self._writer, int(events.at_ms.max()))
        return Out(topics.grouped(self._loop.name), events.digest.encode(), value, headers, partition=target)


class AggregateStep:
    """The step of `aggregate`. Keeps an index over each open task's table, made anew when the task has a new table."""

    def __init__(self, loop: Loop, times: Times) -> None:
        self._loop, self._times = loop, times
        self._groups = by_digest(tile_groups(loop))
        self._indices: dict[int, tuple[Table[TileKey, Tile], Lifetimes]] = {}

    def __call__(self, partition: int, tables: Tables, batch: Batch) -> Result:
        tiles: Table[TileKey, Tile] = tables["tiles"]
        lifetimes = self._lifetimes(partition, tiles)
        reached_ms = self._reached_ms(batch.progress_ms)
        measures: list[Measure] = []
        changed = 0
        for digest, events in self._read(batch).items():
            group = self._groups[digest]
            fresh = in_time(group, events, reached_ms, self._loop.catch_up_ms)
            for place, tile in fold(group, fresh, tiles.get):
                if place not in tiles:
                    lifetimes.add(place)
                tiles.put(place, tile)
                changed += 1
            measures += self._measures(group, len(events), len(fresh))
        if reached_ms != UNKNOWN_MS:
            for place in lifetimes.gone(reached_ms, LEAST_GONE + 2 * changed):
                tiles.remove(place)
        return Result(measures=[*measures, *self._alive()])

    def _reached_ms(self, progress_ms: int) -> int:
        """The time behind which no ask comes any more, but for `catch_up`. One batch may hold days."""
        reached_ms = self._times.reached_ms(self._loop.name)
        return UNKNOWN_MS if reached_ms is None else min(progress_ms, reached_ms)

    def _lifetimes(self, partition: int, tiles: Table[TileKey, Tile]) -> Lifetimes:
        known = self._indices.get(partition)
        if known is None or known[0] is not tiles:
            known = self._indices[partition] = (tiles, Lifetimes(self._groups, self._loop.catch_up_ms))
            for place, _ in tiles.items():
                known[1].add(place)
        return known[1]

    def _read(self, batch: Batch) -> dict[str, GroupedEvents]:
        """The events of each group in the batch, in their order."""
        parts: dict[str, list[GroupedEvents]] = {}
        for record in batch.records.get(topics.grouped(self._loop.name), ()):
            events = decode_grouped(record.value or b"", self._groups)
            if events is not None:
                parts.setdefault(events.digest, []).append(events)
        return {digest: together(batches) for digest, batches in parts.items()}

    def _alive(self) -> list[Measure]:
        """How many tiles this process holds."""
        alive = sum((lifetimes.alive for _, lifetimes in self._indices.values()), Counter[str]())
        return [
            Measure(telemetry.FEATURE_TILES, alive[digest], {"loop": self._loop.name, "group": group.name})
            for digest, group in self._groups.items()
        ]

    def _measures(self, group: TileGroup, came: int, fresh: int) -> list[Measure]:
        of_group: Mapping[str, str] = {"loop": self._loop.name, "group": group.name}
        late = [Measure(telemetry.FEATURE_LATE, came - fresh, of_group)] if came > fresh else []
        return [Measure(telemetry.FEATURE_CONTRIBUTIONS, fresh, of_group), *late]


def pieces(events: GroupedEvents) -> Iterator[tuple[GroupedEvents, bytes]]:
    """Events in their order with their encoding, halved until a record can hold it (long texts in a long batch)."""
    value = encode_grouped(events)
    if len(value) <= MOST_BYTES or len(events) == 1:
        yield events, value
        return
    middle = len(events) // 2
    yield from pieces(events[:middle])
    yield from pieces(events[middle:])


def event_times(records: Sequence[Read]) -> Ints:
    """The event times in the headers. Raises MissingHeaderError, BadTimeError."""
    found = envelope.event_times_ms([record.headers for record in records])
    return np.array(found, dtype=np.int64)
