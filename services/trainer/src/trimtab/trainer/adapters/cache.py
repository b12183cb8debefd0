"""Columns of a topic on the local disk, grown by what is new in the log. Losing it is only slower."""

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import polars as pl

from trimtab.runtime.bus import Bus, Part, TopicInfo
from trimtab.runtime.marks import is_mark
from trimtab.runtime.records import Read
from trimtab.runtime.schemas import Published, Resolver
from trimtab.trainer.adapters.columns import Frame, Reading
from trimtab.trainer.errors import RangeGoneError

POLL_S = 1.0
SEGMENT_RECORDS = 50_000
AHEAD_RECORDS = 20_000
"""What is new in the log is read ahead when it is as much as this."""


@dataclass(frozen=True, slots=True)
class Range:
    """A stretch of one partition that was read: from_ ≤ offset < to."""

    topic: str
    topic_id: str
    partition: int
    from_: int
    to: int


@dataclass(frozen=True, slots=True)
class Cached:
    """All of a topic as columns, and the ranges that it stands for."""

    rows: pl.DataFrame
    ranges: tuple[Range, ...]


async def stretch(bus: Bus, ranges: Sequence[Range], reading: Reading) -> pl.DataFrame:
    """The records of one topic in exactly these ranges, as columns. Raises RangeGoneError."""
    await _check_there(bus, ranges)
    resolver = Resolver(reading.schema, Published(bus), reading.use)
    ends = {Part(one.topic, one.partition): one.to for one in ranges if one.to > one.from_}
    reader = await bus.reader({Part(one.topic, one.partition): one.from_ for one in ranges if one.to > one.from_})
    held: list[Read] = []
    try:
        while any(reader.positions()[part] < end for part, end in ends.items()):
            for part, records in (await reader.poll(POLL_S)).items():
                within = [one for one in records if one.offset < ends[part] and one.value is not None]
                held += await resolver.resolved(within)
    finally:
        await reader.close()
    return reading.frame([one for one in held if not is_mark(one)])


async def _check_there(bus: Bus, ranges: Sequence[Range]) -> None:
    found = await bus.catalog.describe({one.topic for one in ranges})
    for one in ranges:
        if one.topic not in found or found[one.topic].id != one.topic_id:
            raise RangeGoneError(one.topic, "the topic was deleted")
        part = Part(one.topic, one.partition)
        first, end = (await bus.catalog.bounds([part]))[part]
        if first > one.from_ or end < one.to:
            raise RangeGoneError(one.topic, f"partition {one.partition} holds offsets from {first} to {end} only")


@dataclass(frozen=True, slots=True)
class _Place:
    """A topic and what of it is on the disk: the folder of each partition's segments, the log's first offset, where
    the segments end, and where the log does."""

    id: str
    folders: Mapping[Part, Path]
    firsts: Mapping[Part, int]
    begins: Mapping[Part, int]
    ends: Mapping[Part, int]


@dataclass(frozen=True, slots=True)
class Cache:
    """Parquet segments `<topic id>/<key>/<partition>/<from>-<to>.parquet`, each written whole or not at all.

    `key` names how records became columns (the digest of the features): another way is another cache.
    """

    folder: Path
    bus: Bus

    async def read(self, topic: str, key: str, reading: Reading) -> Cached:
        """The topic up to what is committed now: old segments from the disk, what is new from the log."""
        place = await self._place(topic, (await self.bus.catalog.describe([topic]))[topic], key)
        reached = await self._grow(place, reading)
        ranges = tuple(Range(topic, place.id, part.partition, place.firsts[part], reached[part]) for part in reached)
        files = [file for part in reached for file in chain(place.folders[part], place.firsts[part])]
        rows = [pl.read_parquet(file) for file in files]
        return Cached(pl.concat(rows) if rows else reading.frame(()), ranges)

    async def read_ahead(self, topic: str, key: str, reading: Reading) -> None:
        """If much is new in the log, read it now: the next `read` finds it on the disk. Nothing without the topic.

        Cancelled, it keeps what it has read so far.
        """
        info = (await self.bus.catalog.describe([topic])).get(topic)
        if info is None:
            return
        place = await self._place(topic, info, key)
        if sum(place.ends[part] - begin for part, begin in place.begins.items()) >= AHEAD_RECORDS:
            await self._grow(place, reading)

    async def _place(self, topic: str, info: TopicInfo, key: str) -> "_Place":
        parts = [Part(topic, number) for number in range(info.partitions)]
        bounds = await self.bus.catalog.bounds(parts)
        folders = {part: self.folder / info.id / key / str(part.partition) for part in parts}
        return _Place(
            id=info.id,
            folders=folders,
            firsts={part: bounds[part][0] for part in parts},
            begins={part: segments_end(folders[part], bounds[part][0]) for part in parts},
            ends={part: bounds[part][1] for part in parts},
        )

    async def _grow(self, place: "_Place", reading: Reading) -> dict[Part, int]:
        """Read on until everything up to `ends` was seen; gives the offsets that were reached."""
        begins, ends, folders = place.begins, place.ends, place.folders
        reached = dict(begins)
        if all(begins[part] >= ends[part] for part in ends):
            return reached
        held: dict[Part, list[Read]] = {part: [] for part in begins}
        resolver = Resolver(reading.schema, Published(self.bus), reading.use)
        reader = await self.bus.reader(begins)
        try:
            while any(reader.positions()[part] < end for part, end in ends.items()):
                for part, records in (await reader.poll(POLL_S)).items():
                    data = [one for one in records if one.value is not None and not is_mark(one)]
                    held[part] += await resolver.resolved(data)
                    if len(held[part]) >= SEGMENT_RECORDS:
                        reached[part] = self._keep(
                            folders[part], reading.frame, held, part, reached[part], records[-1].offset + 1
                        )
            for part, position in reader.positions().items():
                reached[part] = self._keep(folders[part], reading.frame, held, part, reached[part], position)
        except asyncio.CancelledError:
            for part, records in held.items():
                if records:
                    self._keep(folders[part], reading.frame, held, part, reached[part], records[-1].offset + 1)
            raise
        finally:
            await reader.close()
        return reached

    def _keep(self, folder: Path, frame: Frame, held: dict[Part, list[Read]], part: Part, begin: int, end: int) -> int:
        records, held[part] = held[part], []
        if end > begin:
            folder.mkdir(parents=True, exist_ok=True)
            whole = folder / f"{begin}-{end}.parquet"
            half = whole.with_suffix(".half")
            frame(records).write_parquet(half)
            half.replace(whole)
        return end


def chain(folder: Path, begin: int) -> list[Path]:
    """The segments that follow each other without a hole from `begin` on; what does not fit is of an older log."""
    found = dict(sorted(((bounds(file)[0], file) for file in folder.glob("*.parquet")), reverse=True))
    files = []
    while begin in found:
        files.append(found[begin])
        begin = bounds(found[begin])[1]
    return files


def segments_end(folder: Path, begin: int) -> int:
    """The offset after the last of the segments that follow each other from `begin` on."""
    files = chain(folder, begin)
    return bounds(files[-1])[1] if files else begin


def bounds(file: Path) -> tuple[int, int]:
    """The offsets in a segment's name."""
    begin, end = file.stem.split("-")
    return int(begin), int(end)
