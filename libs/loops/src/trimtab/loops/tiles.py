"""Tiles: the mergeable partial aggregates of 64 grains of one group and key.

Folding events into tiles adds row after row in the order of arrival, so a stream cut into other batches gives the same
bytes. A grain that holds no event has no row.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise

import msgspec
import numpy as np
import polars as pl
from numpy.typing import NDArray

from trimtab.loops.aggregates import SET_SIZE
from trimtab.loops.groups import TILE_GRAINS, GroupedEvents, TileGroup
from trimtab.loops.partials import Columns, Floats, Ints, Segments

TileKey = tuple[str, str, int]
"""(digest of the group, key, number of the tile: event time // tile_ms)"""
Bytes = NDArray[np.uint8]


class Tile(msgspec.Struct, frozen=True, gc=False):
    """A record of `<loop>.online`. `group`: the group's digest. `tile_ms`: the tile's start.

    `grains`: which of the 64 are not empty, ascending, a byte each. `rows`: their partials, float64, grain by grain.

    `texts`: what the codes in text columns stand for. `set_sizes` (uint16) and `set_members` (float64, ascending a
    grain): for each set of the plan, grain by grain, the hashes of the different values.
    """

    group: str
    key: str
    tile_ms: int
    grain_ms: int
    grains: bytes
    rows: bytes
    texts: tuple[str, ...] = ()
    set_sizes: bytes = b""
    set_members: bytes = b""

    @property
    def place(self) -> TileKey:
        """Under which key it stands."""
        return self.group, self.key, self.tile_ms // (self.grain_ms * TILE_GRAINS)


def fold(group: TileGroup, events: GroupedEvents, get: Callable[[TileKey], Tile | None]) -> list[tuple[TileKey, Tile]]:
    """The tiles that events change, with the events in them. `get` gives the tiles as they were."""
    if not len(events):
        return []
    units = _units(group, events)
    old = [get(key) for key in units.keys]
    codes = Codes()
    stacked = stack(group, [tile or NO_TILE for tile in old], codes)
    arguments = [coded(series, codes) for series in events.arguments]
    lifted = group.plan.lift(events.at_ms.astype(np.float64), arguments)
    cells = np.concatenate([stacked.cells, units.cells])
    order = np.argsort(cells, kind="stable")
    columns = [np.concatenate(pair)[order] for pair in zip(stacked.columns, lifted, strict=True)]
    ids, occupied = _runs(cells[order])
    merged = group.plan.merge(columns, Segments(ids, len(occupied)))
    sets = [
        _merged_set(old_set, units.cells, arguments[position])
        for old_set, position in zip(stacked.sets, group.plan.sets, strict=True)
    ]
    return list(zip(units.keys, _split(group, occupied, merged, sets, codes, units.keys), strict=True))


class Codes:
    """Numbers for texts, while several tiles are worked on together. Mutable."""

    def __init__(self) -> None:
        self._codes: dict[str, int] = {}
        self.texts: list[str] = []

    def code(self, text: str) -> int:
        """The number of a text, a new one for a new text."""
        found = self._codes.get(text)
        if found is None:
            found = self._codes[text] = len(self.texts)
            self.texts.append(text)
        return found

    def codes(self, texts: Sequence[str | None]) -> Floats:
        """The numbers of texts, NaN for None."""
        return np.array([np.nan if text is None else self.code(text) for text in texts], dtype=np.float64)


def coded(series: pl.Series, codes: Codes) -> Floats:
    """An argument as a plan takes it."""
    if series.dtype == pl.String:
        return codes.codes(series.to_list())
    numbers: Floats = series.to_numpy()
    return numbers


@dataclass(frozen=True, slots=True)
class SetRows:
    """Members of sets: which cell each is in, ascending, and its hash."""

    cells: Ints
    members: Floats


@dataclass(frozen=True, slots=True)
class Stacked:
    """Rows of several tiles. `cells`: number of the tile x 64 + grain."""

    cells: Ints
    columns: Columns
    sets: Sequence[SetRows]


def stack(group: TileGroup, tiles: Sequence[Tile], codes: Codes) -> Stacked:
    """The rows of tiles one after the other, their texts in common codes."""
    counts = np.array([len(tile.grains) for tile in tiles], dtype=np.int64)
    grains = np.frombuffer(b"".join([tile.grains for tile in tiles]), dtype=np.uint8)
    cells = np.repeat(np.arange(len(tiles)) * TILE_GRAINS, counts) + grains
    rows = np.frombuffer(b"".join([tile.rows for tile in tiles]), dtype="<f8").reshape(-1, group.plan.width)
    columns = [np.ascontiguousarray(rows[:, number]) for number in range(group.plan.width)]
    _recode(group, tiles, counts, columns, codes)
    return Stacked(cells, columns, _stacked_sets(group, tiles, cells))


def _recode(group: TileGroup, tiles: Sequence[Tile], counts: Ints, columns: list[Floats], codes: Codes) -> None:
    """Local codes of each tile → common codes."""
    if not group.plan.text_columns:
        return
    common = codes.codes([text for tile in tiles for text in tile.texts])
    sizes = np.array([len(tile.texts) for tile in tiles], dtype=np.int64)
    offsets = np.repeat(np.cumsum(sizes) - sizes, counts)
    for number in group.plan.text_columns:
        local = columns[number]
        present = ~np.isnan(local)
        found = np.full(len(local), np.nan)
        found[present] = common[offsets[present] + local[present].astype(np.int64)]
        columns[number] = found


def _stacked_sets(group: TileGroup, tiles: Sequence[Tile], cells: Ints) -> list[SetRows]:
    """The sets of tiles; in each tile they stand set by set."""
    count = len(group.plan.sets)
    sizes: list[list[NDArray[np.uint16]]] = [[] for _ in range(count)]
    members: list[list[Floats]] = [[] for _ in range(count)]
    for tile in tiles if count else ():
        tile_sizes = np.frombuffer(tile.set_sizes, dtype="<u2").reshape(count, -1)
        tile_members = np.frombuffer(tile.set_members, dtype="<f8")
        ends = np.cumsum(tile_sizes.sum(axis=1, dtype=np.int64))
        for number, part in enumerate(np.split(tile_members, ends[:-1])):
            sizes[number].append(tile_sizes[number])
            members[number].append(part)
    return [
        SetRows(np.repeat(cells, np.concatenate(s)), np.concatenate(m)) for s, m in zip(sizes, members, strict=True)
    ]


@dataclass(frozen=True, slots=True)
class _Units:
    """The tiles that events fall into, and the cell of each event."""

    keys: list[TileKey]
    cells: Ints


def _units(group: TileGroup, events: GroupedEvents) -> _Units:
    grains = events.at_ms // group.grain_ms
    tiles = grains // TILE_GRAINS
    numbers: dict[TileKey, int] = {}
    digest = group.digest
    units = [
        numbers.setdefault((digest, key, tile), len(numbers))
        for key, tile in zip(events.keys, tiles.tolist(), strict=True)
    ]
    return _Units(list(numbers), np.array(units, dtype=np.int64) * TILE_GRAINS + (grains - tiles * TILE_GRAINS))


def _runs(cells: Ints) -> tuple[Ints, Ints]:
    """(number of the run of each row, the cell of each run) of ascending cells."""
    new = np.ones(len(cells), np.bool_)
    new[1:] = cells[1:] != cells[:-1]
    return np.cumsum(new) - 1, cells[new]


def _merged_set(old: SetRows, cells: Ints, hashes: Floats) -> SetRows:
    present = ~np.isnan(hashes)
    return union(np.concatenate([old.cells, cells[present]]), np.concatenate([old.members, hashes[present]]))


def union(cells: Ints, members: Floats) -> SetRows:
    """The different members of each cell, ascending; of more than SET_SIZE the smallest, a sample of known rate.

    Bottom-k sampling: Cohen, Kaplan, "Summarizing data using bottom-k sketches", PODC 2007.
    """
    order = np.lexsort((members, cells))
    cells, members = cells[order], members[order]
    new = np.ones(len(cells), np.bool_)
    new[1:] = (cells[1:] != cells[:-1]) | (members[1:] != members[:-1])
    cells, members = cells[new], members[new]
    if len(cells) <= SET_SIZE:
        return SetRows(cells, members)
    ids, _ = _runs(cells)
    starts = np.flatnonzero(np.diff(ids, prepend=-1))
    kept = np.arange(len(cells)) - starts[ids] < SET_SIZE
    return SetRows(cells[kept], members[kept])


def _split(
    group: TileGroup, cells: Ints, columns: Columns, sets: Sequence[SetRows], codes: Codes, keys: Sequence[TileKey]
) -> list[Tile]:
    """One tile a key from the rows of all."""
    count = len(keys)
    edges = np.searchsorted(cells, np.arange(count + 1) * TILE_GRAINS)
    grains = (cells % TILE_GRAINS).astype(np.uint8).tobytes()
    rows = np.column_stack(columns).astype("<f8", copy=False)
    local = _local_texts(group, rows, edges, codes) if group.plan.text_columns else [()] * count
    parted = _split_sets(sets, cells, edges, count) if sets else [(b"", b"")] * count
    data = rows.tobytes()
    size = rows.shape[1] * 8
    return [
        Tile(
            digest,
            key,
            tile * group.tile_ms,
            group.grain_ms,
            grains[start:end],
            data[start * size : end * size],
            texts,
            *sized,
        )
        for (digest, key, tile), (start, end), texts, sized in zip(
            keys, pairwise(edges.tolist()), local, parted, strict=True
        )
    ]


def _local_texts(group: TileGroup, rows: Floats, edges: Ints, codes: Codes) -> list[tuple[str, ...]]:
    """Numbers each tile's texts from 0; `rows` is changed in place."""
    found = []
    text_columns = list(group.plan.text_columns)
    for start, end in pairwise(edges.tolist()):
        part = rows[start:end, text_columns]
        present = ~np.isnan(part)
        used, numbers = np.unique(part[present], return_inverse=True)
        part[present] = numbers
        rows[start:end, text_columns] = part
        found.append(tuple(codes.texts[int(code)] for code in used))
    return found


def _split_sets(sets: Sequence[SetRows], cells: Ints, edges: Ints, count: int) -> list[tuple[bytes, bytes]]:
    sizes, members = [], []
    bounds = np.arange(count + 1) * TILE_GRAINS
    for one in sets:
        firsts = np.searchsorted(one.cells, cells)
        lasts = np.searchsorted(one.cells, cells, side="right")
        sizes.append((lasts - firsts).astype("<u2"))
        cuts = np.searchsorted(one.cells, bounds)
        members.append([one.members[start:end] for start, end in pairwise(cuts.tolist())])
    parts: list[tuple[bytes, bytes]] = []
    for number, (start, end) in enumerate(pairwise(edges.tolist())):
        tile_sizes = b"".join([size[start:end].tobytes() for size in sizes])
        parts.append((tile_sizes, b"".join([part[number].astype("<f8").tobytes() for part in members])))
    return parts


def by_digest(groups: Sequence[TileGroup]) -> Mapping[str, TileGroup]:
    """Groups under the digests of their definitions."""
    return {group.digest: group for group in groups}


NO_TILE = Tile("", "", 0, 1, b"", b"")
"""A tile without rows."""
