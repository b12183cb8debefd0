"""The predictor's replica of the tiles: packed, and finished for many asks at once.

Rows stand at several levels: grains, then blocks of 64 grains, of 64² and so on, each the merged rows of the level
below. A window is the few whole blocks in it and the grains at its two ends, so an ask costs the same however long its
window is. A value depends on the rows inside its window alone, never on what was evicted or when.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from trimtab.loops.aggregates import SET_SIZE, Objects, distinct_counts
from trimtab.loops.arena import Arena, Found
from trimtab.loops.errors import LoopsError
from trimtab.loops.groups import TILE_GRAINS, TileGroup
from trimtab.loops.partials import Columns, Floats, Ints, Segments
from trimtab.loops.tile_records import decode_all, decode_key
from trimtab.loops.tiles import NO_TILE, Codes, Tile, TileKey, stack, union

Place = tuple[str, int]
"""Of a tile in its group: its key, and its number."""
Waiting = TypeVar("Waiting", bytes, None)

_FEW_TEXTS = 10_000
MOST_PENDING = 50_000
"""Records that wait to be taken in; beyond, a fifth is, which takes about a quarter of a second."""
MOST_DROPS = 1_000
"""Tiles that wait to be dropped; beyond, all are, together, since each time costs the same for few."""
GRAINS_A_LEVEL = 2_048
"""A group whose longest window has more grains gets another level."""
NOBODY = 0
"""The number of the key that has no rows."""


@dataclass(frozen=True, slots=True)
class Finished:
    """Values of a group, one row an ask and one column a window: float64 (NaN: NULL), texts as objects (None: NULL).

    `ages_ms`: from the newest event in the window to the ask, -1 where there is none.
    """

    values: Mapping[str, Floats | Objects]
    ages_ms: Ints


class UnknownGroupError(LoopsError):
    """A group that the store was not made for."""

    def __init__(self, digest: str) -> None:
        super().__init__(f"no group with the digest {digest}: the store follows another version of the declaration")
        self.digest = digest


class OnlineStore:
    """Tiles of a loop's groups by key. Mutable; it belongs to one event loop or one backtest.

    Loaded records are taken in when somebody asks for more than was taken in: of a tile that changed ten times
    meanwhile one state is decoded, and where nobody asks, hardly any. So what a log still tells of tiles that are long
    gone costs next to nothing, and what changes within a grain of time is taken in once, when asks come from the next.
    A tile that goes is seen by no ask any more: those are dropped a thousand at a time, and no ask waits for them.
    """

    def __init__(self, groups: Iterable[TileGroup]) -> None:
        self._groups = {group.digest: _GroupStore(group) for group in groups}
        self._pending: dict[bytes, bytes] = {}
        self._drops: dict[bytes, None] = {}
        self._waiting_bytes = 0
        self._begun = False
        self._newest_ms: int | None = None
        self._reached_ms: int | None = None
        self._taken_ms: int | None = None

    def put(self, updates: Sequence[tuple[TileKey, Tile | None]]) -> None:
        """Replace tiles; None drops one. Tiles of unknown groups are passed over: they belong to another version."""
        by_group: dict[str, dict[Place, Tile | None]] = {}
        for (digest, key, tile), value in updates:
            by_group.setdefault(digest, {})[(key, tile)] = value
        for digest, tiles in by_group.items():
            if digest in self._groups:
                self._put(digest, tiles)

    def _put(self, digest: str, tiles: Mapping[Place, Tile | None]) -> None:
        self._begun = True
        newest_ms = self._groups[digest].put(tiles)
        if newest_ms is not None and (self._newest_ms is None or newest_ms > self._newest_ms):
            self._newest_ms = newest_ms

    def load(self, records: Iterable[tuple[bytes, bytes | None]]) -> None:
        """Replace tiles by records of `<loop>.online` (key, value); no value drops one.

        A record that cannot be read raises a CodecError here or at any later use, until another one replaces it.
        """
        pending, drops = self._pending, self._drops
        for key, value in records:
            self._waiting_bytes += len(value or b"") - len(pending.pop(key, b""))
            if value is not None:
                drops.pop(key, None)
                pending[key] = value  # what changed last stands last
            elif self._begun:  # at first there is nothing to drop
                drops[key] = None
        if len(pending) > MOST_PENDING:
            self._take_in(MOST_PENDING // 5)
        if len(drops) > MOST_DROPS:
            self._drop()

    def reached(self, at_ms: int) -> None:
        """What was loaded tells of all events up to this time: asks need no more for what was before it."""
        self._reached_ms = at_ms

    def _take_in(self, most: int | None = None) -> None:
        """Take in what waits, those records first that have waited for longest."""
        if most is None:
            self._taken_ms = self._reached_ms
        if not self._pending:
            return
        taken = list(islice(self._pending.items(), most))
        for digest, records in self._by_group(taken).items():
            self._put(digest, dict(zip(records, decode_all(list(records.values())), strict=True)))
        for key, value in taken:
            del self._pending[key]
            self._waiting_bytes -= len(value)

    def _drop(self) -> None:
        """Drop what waits for it."""
        for digest, places in self._by_group(self._drops.items()).items():
            self._put(digest, places)
        self._drops.clear()

    def _by_group(self, records: Iterable[tuple[bytes, Waiting]]) -> dict[str, dict[Place, Waiting]]:
        """The records of the store's own groups, of those groups that have any."""
        found: dict[str, dict[Place, Waiting]] = {digest: {} for digest in self._groups}
        for key, value in records:
            digest, name, tile = decode_key(key)
            if digest in found:
                found[digest][(name, tile)] = value
        return {digest: places for digest, places in found.items() if places}

    def finish(self, digest: str, keys: Sequence[str | None], at_ms: Ints) -> Finished:
        """A group's values for asks with these keys at these times. A null key is equal to nothing: all is NULL."""
        if digest not in self._groups:
            raise UnknownGroupError(digest)
        group = self._groups[digest]
        if self._taken_ms is None or group.needs_ms(at_ms) > self._taken_ms:
            self._take_in()
        return group.finish(keys, at_ms)

    @property
    def newest_ms(self) -> int | None:
        """The newest event time that was ever put; None at first."""
        self._take_in()
        return self._newest_ms

    @property
    def keys(self) -> int:
        """How many keys there are, over all groups."""
        self._take_in()
        self._drop()
        return sum(group.keys for group in self._groups.values())

    @property
    def rows(self) -> int:
        """How many grains are not empty, over all groups."""
        self._take_in()
        self._drop()
        return sum(group.rows for group in self._groups.values())

    @property
    def nbytes(self) -> int:
        """Bytes of the packed rows and of the records that wait; names of keys and texts come on top (about 100 bytes
        each).
        """
        return sum(group.nbytes for group in self._groups.values()) + self._waiting_bytes


class _GroupStore:
    """Tiles of one group. Mutable. In its arenas the rows of a key at a level stand under number x levels + level."""

    def __init__(self, group: TileGroup) -> None:
        self._group = group
        self._levels = _levels(group)
        self._rows = Arena(group.plan.width)
        self._sets = [Arena(1) for _ in group.plan.sets]
        self._numbers: dict[str, int] = {}
        self._free: list[int] = []
        self._codes = Codes()

    @property
    def keys(self) -> int:
        return len(self._numbers)

    @property
    def rows(self) -> int:
        numbers = np.fromiter(self._numbers.values(), np.int64, len(self._numbers))
        return int(self._rows.length(numbers * self._levels).sum())

    @property
    def nbytes(self) -> int:
        return sum(arena.nbytes for arena in (self._rows, *self._sets))

    def needs_ms(self, at_ms: Ints) -> int:
        """Up to when events count for the last of the asks at these times."""
        return int(self._group.known_ms(at_ms).max(initial=0))

    def put(self, tiles: Mapping[Place, Tile | None]) -> int | None:
        """Replaces tiles; gives their newest event time."""
        numbers = {key: self._number(key) for key, _ in tiles}
        keys = np.array([numbers[key] for key, _ in tiles], dtype=np.int64)
        units = np.array([tile for _, tile in tiles], dtype=np.int64)
        order = np.lexsort((units, keys))
        keys, units = keys[order], units[order]
        found = list(tiles.values())
        held = [found[position] or NO_TILE for position in order.tolist()]
        stacked = stack(self._group, held, self._codes)
        of = stacked.cells // TILE_GRAINS
        at = units[of] * TILE_GRAINS + stacked.cells % TILE_GRAINS
        keys = keys * self._levels
        _replace(self._rows, keys, units, Found(of, at, stacked.columns))
        for arena, one in zip(self._sets, stacked.sets, strict=True):
            tile = one.cells // TILE_GRAINS
            _replace(
                arena, keys, units, Found(tile, units[tile] * TILE_GRAINS + one.cells % TILE_GRAINS, [one.members])
            )
        self._climb(keys, units)
        self._forget(numbers)
        self._forget_texts()
        newest = stacked.columns[0]
        return int(newest.max()) if len(newest) else None

    def _climb(self, keys: Ints, units: Ints) -> None:
        """Merges the changed blocks of each level into the rows of the next."""
        for _ in range(1, self._levels):
            above = keys + 1
            blocks = _blocks(self._rows, keys, units)
            merged = self._merged(blocks, len(keys))
            rows = np.unique(blocks.of)
            _replace_rows(self._rows, above, units, Found(rows, units[rows], [column[rows] for column in merged]))
            for arena in self._sets:
                members = _blocks(arena, keys, units)
                united = union(members.of, members.columns[0])
                _replace_rows(arena, above, units, Found(united.cells, units[united.cells], [united.members]))
            keys, units = _parents(above, units)

    def _merged(self, rows: Found, count: int) -> Columns:
        return self._group.plan.merge(rows.columns, Segments(rows.of, count))

    def _number(self, key: str) -> int:
        number = self._numbers.get(key)
        if number is None:
            number = self._free.pop() if self._free else len(self._numbers) + 1
            self._numbers[key] = number
        return number

    def _forget(self, numbers: Mapping[str, int]) -> None:
        """Lets go of keys without rows."""
        lengths = self._rows.length(np.fromiter(numbers.values(), np.int64, len(numbers)) * self._levels)
        for (key, number), length in zip(numbers.items(), lengths.tolist(), strict=True):
            if length == 0:
                del self._numbers[key]
                self._free.append(number)

    def _forget_texts(self) -> None:
        """Numbers the texts anew once most of them are in no row any more."""
        text_columns = self._group.plan.text_columns
        if len(self._codes.texts) <= max(_FEW_TEXTS, 4 * self.rows * len(text_columns)):
            return
        old, self._codes = self._codes.texts, Codes()
        used = np.unique(self._rows.live(text_columns))
        mapping = np.full(len(old), np.nan)
        for code in used.astype(np.int64).tolist():
            mapping[code] = self._codes.code(old[code])
        self._rows.map_columns(text_columns, lambda codes: _mapped(codes, mapping))

    def finish(self, keys: Sequence[str | None], at_ms: Ints) -> Finished:
        get = self._numbers.get
        numbers = np.array([NOBODY if key is None else get(key, NOBODY) for key in keys], dtype=np.int64)
        shape = (len(keys), len(self._group.windows))
        starts, ends = (edge.reshape(-1) for edge in self._group.bounds(at_ms))
        asked = numbers.repeat(shape[1])
        if self._group.newest_only:
            columns = self._newest(asked, starts, ends, at_ms)
            sizes: list[Floats] = []
        else:
            spans = _spans(asked, starts, ends, self._levels)
            columns = self._merged(spans.take(self._rows), len(asked))
            sizes = [_set_sizes(spans.take(arena), len(asked)) for arena in self._sets]
        values = self._group.plan.finish(columns, sizes, self._codes.texts)
        shaped = {name: found.reshape(shape) for name, found in values.items()}
        newest = columns[0].reshape(shape)
        ages = np.where(np.isnan(newest), -1.0, at_ms[:, None] - newest).astype(np.int64)
        if None in keys:
            shaped = _without(shaped, np.array([key is None for key in keys], dtype=np.bool_))
        return Finished(shaped, ages)

    def _newest(self, keys: Ints, starts: Ints, ends: Ints, at_ms: Ints) -> Columns:
        """The newest row before each end, where its event is not older than the window."""
        first, last = self._rows.find(keys, starts), self._rows.find(keys, ends)
        some = last > first
        _, rows = self._rows.at_rows(np.where(some, last - 1, 0))
        oldest = at_ms - self._group.windows[0].width_ms
        fresh = some & (rows[0] >= oldest)
        return [np.where(fresh, column, np.nan) for column in rows]


@dataclass(frozen=True, slots=True)
class _Spans:
    """The parts that make up windows, `parts` a window: grains at its ends, whole blocks of the levels in between."""

    keys: Ints
    starts: Ints
    ends: Ints
    parts: int

    def take(self, arena: Arena) -> Found:
        """The rows in them, by position of the window. `at` differs between levels too."""
        found = _between(arena, self.keys, self.starts, self.ends)
        if self.parts == 1:
            return found
        part = found.of % self.parts
        return Found(found.of // self.parts, found.at + part * _LEVELS_APART, found.columns)


def _spans(keys: Ints, starts: Ints, ends: Ints, levels: int) -> _Spans:
    if levels == 1:
        return _Spans(keys, starts, ends, 1)
    parts: list[tuple[Ints, Ints, Ints]] = []
    for level in range(levels - 1):
        first, last = -(-starts // TILE_GRAINS), ends // TILE_GRAINS
        inner = first < last
        head, tail = np.where(inner, first * TILE_GRAINS, ends), np.where(inner, last * TILE_GRAINS, ends)
        at_level = keys * levels + level
        parts += [(at_level, starts, head), (at_level, tail, ends)]
        starts, ends = np.where(inner, first, 0), np.where(inner, last, 0)
    parts.append((keys * levels + levels - 1, starts, ends))
    stacked = [np.stack(column, axis=1).reshape(-1) for column in zip(*parts, strict=True)]
    return _Spans(stacked[0], stacked[1], stacked[2], len(parts))


def _levels(group: TileGroup) -> int:
    """How many levels a group has: by its definition alone, so that sums are always taken in the same order."""
    if group.newest_only:
        return 1
    grains = max(window.width_ms for window in group.windows) // group.grain_ms
    levels = 1
    while grains > GRAINS_A_LEVEL:
        grains //= TILE_GRAINS
        levels += 1
    return levels


def _between(arena: Arena, keys: Ints, starts: Ints, ends: Ints) -> Found:
    both = arena.find(np.concatenate([keys, keys]), np.concatenate([starts, ends]))
    return arena.take(both[: len(keys)], both[len(keys) :])


def _blocks(arena: Arena, keys: Ints, units: Ints) -> Found:
    """The rows inside blocks of 64."""
    return _between(arena, keys, units * TILE_GRAINS, (units + 1) * TILE_GRAINS)


def _parents(keys: Ints, units: Ints) -> tuple[Ints, Ints]:
    """The blocks of the next level that hold these, each once."""
    parents = np.unique(np.stack([keys, units // TILE_GRAINS]), axis=1)
    return parents[0], parents[1]


def _replace(arena: Arena, keys: Ints, units: Ints, rows: Found) -> None:
    """The rows inside blocks of 64 become `rows` (of: position of the block). Blocks ascend by key and unit."""
    _replace_spans(arena, keys, units * TILE_GRAINS, TILE_GRAINS, rows)


def _replace_rows(arena: Arena, keys: Ints, units: Ints, rows: Found) -> None:
    """Single rows (or the members at one place of a set) become `rows`."""
    _replace_spans(arena, keys, units, 1, rows)


def _replace_spans(arena: Arena, keys: Ints, spans: Ints, width: int, rows: Found) -> None:
    """Rewrites each key from its first changed span on; mostly that is its end. What only loses its head is cut."""
    if len(rows.of) == 0:
        keys, spans = _cut_heads(arena, keys, spans, width)
    if len(keys) == 0:
        return
    different, first, of_span = np.unique(keys, return_index=True, return_inverse=True)
    starts, old = arena.tail(different, spans[first])
    codes = of_span * _FAR + spans // width
    kept = ~np.isin(old.of * _FAR + old.at // width, codes)
    of = np.concatenate([old.of[kept], of_span[rows.of]])
    at = np.concatenate([old.at[kept], rows.at])
    order = np.lexsort((at, of))
    columns = [np.concatenate([a[kept], b])[order] for a, b in zip(old.columns, rows.columns, strict=True)]
    arena.replace_tail(different, starts, Found(of[order], at[order], columns))


def _cut_heads(arena: Arena, keys: Ints, spans: Ints, width: int) -> tuple[Ints, Ints]:
    """Empties the spans of keys that have nothing before or between them, as when the oldest go; the others stay."""
    different, first, of_span = np.unique(keys, return_index=True, return_inverse=True)
    starts, ends = arena.find(keys, spans), arena.find(keys, spans + width)
    emptied = np.bincount(of_span, weights=ends - starts, minlength=len(different)).astype(np.int64)
    last = np.append(first[1:], len(keys)) - 1
    head = arena.find(different, spans[last] + width) - arena.first(different) == emptied
    arena.cut(different[head], emptied[head])
    others = ~head[of_span]
    return keys[others], spans[others]


def _mapped(codes: Floats, mapping: Floats) -> Floats:
    present = ~np.isnan(codes)
    found = np.full(len(codes), np.nan)
    found[present] = mapping[codes[present].astype(np.int64)]
    return found


def _set_sizes(rows: Found, count: int) -> Floats:
    """How many different members each window's sets have together; estimated where a set was cut to a sample.

    A cut set holds all of its members below its largest: of the union those below the least such bound are known
    completely, and their number divided by the bound estimates all (theta sketch: Dasgupta, Lang, Rhodes, Thaler,
    "A framework for estimating stream expression cardinalities", ICDT 2016).
    """
    members = rows.columns[0]
    if len(members) < SET_SIZE:
        return distinct_counts(rows.of, members, count)
    new = np.ones(len(members), np.bool_)
    new[1:] = (rows.of[1:] != rows.of[:-1]) | (rows.at[1:] != rows.at[:-1])
    starts = np.flatnonzero(new)
    full = np.diff(starts, append=len(members)) >= SET_SIZE
    bound = np.full(count, 1.0)
    np.minimum.at(bound, rows.of[starts[full]], members[starts[full] + SET_SIZE - 1])
    below = members < bound[rows.of]
    estimates: Floats = distinct_counts(rows.of[below], members[below], count) / bound
    return estimates


def _without(values: Mapping[str, Floats | Objects], null: NDArray[np.bool_]) -> dict[str, Floats | Objects]:
    """The values without those of the asks whose key is null."""
    found = {}
    for name, old in values.items():
        found[name] = old.copy()
        found[name][null] = None if old.dtype == object else np.nan
    return found


_FAR = 2**40
_LEVELS_APART = 2**50
