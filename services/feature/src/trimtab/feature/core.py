"""What goes into which group, and what its tiles become. Pure: decoded columns and tiles in, tiles out."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from trimtab.loops.groups import GroupedEvents, TileGroup, tile_groups
from trimtab.loops.keys import key_columns
from trimtab.loops.model import Loop
from trimtab.loops.partials import Ints
from trimtab.loops.rows import EventReader, ReadEvents
from trimtab.loops.tiles import Tile, TileKey, expired

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
    arguments = group.plan.evaluate(events.frame)
    found = {}
    for number in np.unique(target[target >= 0]).tolist():
        rows = np.flatnonzero(target == number)
        chosen = [keys[row] or "" for row in rows.tolist()]
        found[number] = GroupedEvents(group.digest, chosen, at_ms[rows], [series.gather(rows) for series in arguments])
    return found


def in_time(group: TileGroup, events: GroupedEvents, progress_ms: int, catch_up_ms: int) -> GroupedEvents:
    """The events that some ask may still see. Older ones would only bring back tiles that are gone."""
    oldest_ms = progress_ms - group.keep_ms - catch_up_ms
    rows = np.flatnonzero(events.at_ms >= oldest_ms)
    if len(rows) == len(events):
        return events
    keys = [events.keys[row] for row in rows.tolist()]
    return GroupedEvents(events.digest, keys, events.at_ms[rows], [series.gather(rows) for series in events.arguments])


def sweep_ms(groups: Iterable[TileGroup], catch_up_ms: int) -> int:
    """How often, in event time, it is worth looking for tiles that are gone: a small part of what is kept."""
    return min((group.keep_ms + catch_up_ms) // 16 + group.tile_ms for group in groups)


def gone(
    groups: Mapping[str, TileGroup], tiles: Iterable[tuple[TileKey, Tile]], progress_ms: int, catch_up_ms: int
) -> list[TileKey]:
    """Tiles that no ask may still see: older than every window, or of a latest value that a newer one hides."""
    old: list[TileKey] = []
    hidden: dict[tuple[str, str], TileKey] = {}
    for place, _ in tiles:
        group = groups.get(place[0])
        if group is None or expired(group, place[2], progress_ms, catch_up_ms):
            old.append(place)
        elif group.newest_only and (place[2] + 1) * group.tile_ms <= progress_ms - catch_up_ms:
            known = hidden.setdefault(place[:2], place)
            if known != place:
                old.append(min(known, place))
                hidden[place[:2]] = max(known, place)
    return old
