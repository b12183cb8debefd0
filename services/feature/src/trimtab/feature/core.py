"""What goes into which group, and what its tiles become. Pure: decoded columns and tiles in, tiles out."""

from bisect import insort
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice

import numpy as np

from trimtab.loops.groups import GroupedEvents, TileGroup, tile_groups
from trimtab.loops.keys import key_columns
from trimtab.loops.model import Loop
from trimtab.loops.partials import Ints
from trimtab.loops.rows import EventReader, ReadEvents
from trimtab.loops.tiles import TileKey

Partition = Callable[[str], int]
"""The partition of a group's key."""


@dataclass(frozen=True, slots=True)
class Source:
    """An event that groups are made of, and how its fields are read."""

    event: str
    groups: Sequence[TileGroup]
    reader: EventReader


def sources(loop: Loop) -> list[Source]:
    """The events of a loop that some group needs."""
    groups = tile_groups(loop)
    found = []
    for event in loop.events.values():
        mine = [group for group in groups if group.of == event.name]
        if mine:
            found.append(Source(event.name, mine, EventReader(event, _fields(mine))))
    return found


def _fields(groups: Sequence[TileGroup]) -> list[str]:
    by = (name for group in groups for name in group.by)
    taken = (name for group in groups for argument in group.plan.arguments for name in argument.row.columns)
    return list(dict.fromkeys([*by, *taken]))


def parted(group: TileGroup, events: ReadEvents, at_ms: Ints, partition: Partition) -> dict[int, GroupedEvents]:
    """What events give to a group, by the partition of their key. One with a null in its key gives nothing."""
    keys = key_columns([events.values[name] for name in group.by])
    target = np.array([-1 if key is None else partition(key) for key in keys], dtype=np.int64)
    order = np.argsort(target, kind="stable")[np.count_nonzero(target < 0) :]
    chosen, times = [keys[row] or "" for row in order.tolist()], at_ms[order]
    arguments = [series.gather(order) for series in group.plan.evaluate(events.frame)]
    numbers, firsts = np.unique(target[order], return_index=True)
    ends = np.append(firsts, len(order))[1:]
    found = {}
    for number, first, end in zip(numbers.tolist(), firsts.tolist(), ends.tolist(), strict=True):
        some = [series.slice(first, end - first) for series in arguments]
        found[number] = GroupedEvents(group.digest, chosen[first:end], times[first:end], some)
    return found


def in_time(group: TileGroup, events: GroupedEvents, reached_ms: int, catch_up_ms: int) -> GroupedEvents:
    """The events that some ask may still see. Older ones would only bring back tiles that are gone."""
    oldest_ms = reached_ms - group.keep_ms - catch_up_ms
    rows = np.flatnonzero(events.at_ms >= oldest_ms)
    if len(rows) == len(events):
        return events
    keys = [events.keys[row] for row in rows.tolist()]
    return GroupedEvents(events.digest, keys, events.at_ms[rows], [series.gather(rows) for series in events.arguments])


class Lifetimes:
    """Which tiles there are, by the loop's time at which nobody asks for them any more. Mutable: an index over a table.

    A tile goes when it is older than every window (and `catch_up`), a tile of a latest value already when a newer one
    hides it from every ask within `catch_up`. So how much is kept does not depend on how long the service has run.
    """

    def __init__(self, groups: Mapping[str, TileGroup], catch_up_ms: int) -> None:
        self._groups, self._catch_up_ms = groups, catch_up_ms
        self._keys: dict[str, dict[int, list[str]]] = {digest: {} for digest in groups}
        self._hiding: dict[str, dict[int, list[str]]] = {digest: {} for digest in groups}
        self._tiles: dict[tuple[str, str], list[int]] = {}
        self._foreign: list[TileKey] = []
        self.alive = Counter[str]()

    def add(self, place: TileKey) -> None:
        """A tile that was not there before."""
        digest, key, tile = place
        group = self._groups.get(digest)
        if group is None:
            self._foreign.append(place)
            return
        self._keys[digest].setdefault(tile, []).append(key)
        self.alive[digest] += 1
        if group.newest_only:
            self._hiding[digest].setdefault(tile, []).append(key)
            insort(self._tiles.setdefault((digest, key), []), tile)

    def gone(self, progress_ms: int, most: int | None = None) -> list[TileKey]:
        """The tiles that can go now, each said once: also those of groups that the declaration has no more.

        With `most` the rest is said when this is asked again: it is in nobody's way, no ask sees it.
        """
        found = list(islice(self._leaving(progress_ms), most))
        self.alive.subtract(place[0] for place in found if place[0] in self._groups)
        return found

    def _leaving(self, progress_ms: int) -> Iterator[TileKey]:
        """What can go. Whoever stops in the midst finds the rest in another one."""
        while self._foreign:
            yield self._foreign.pop()
        for digest, group in self._groups.items():
            if group.newest_only:
                yield from self._hidden(digest, (progress_ms - group.settling_ms - self._catch_up_ms) // group.tile_ms)
            last = (progress_ms - group.keep_ms - self._catch_up_ms - 1) // group.tile_ms
            yield from (place for place in self._ended(digest, last) if self._there(place))

    def _ended(self, digest: str, end: int) -> Iterator[TileKey]:
        """The tiles that end before the tile of that number."""
        tiles = self._keys[digest]
        for tile in sorted(tile for tile in tiles if tile < end):
            keys = tiles[tile]
            while keys:
                yield digest, keys.pop(), tile
            del tiles[tile]

    def _hidden(self, digest: str, end: int) -> Iterator[TileKey]:
        """The tiles older than another of their key that ends before the tile of that number."""
        tiles = self._hiding[digest]
        for tile in sorted(tile for tile in tiles if tile < end):
            keys = tiles[tile]
            while keys:
                held = self._tiles.get((digest, keys[-1]), [])
                while held and held[0] < tile:
                    yield digest, keys[-1], held.pop(0)
                keys.pop()
            del tiles[tile]

    def _there(self, place: TileKey) -> bool:
        """Whether a tile has not gone yet, hidden by a newer one; one of a latest value is forgotten with this."""
        digest, key, tile = place
        if not self._groups[digest].newest_only:
            return True
        held = self._tiles.get((digest, key), [])
        if tile not in held:
            return False
        held.remove(tile)
        if not held:
            del self._tiles[(digest, key)]
        return True
