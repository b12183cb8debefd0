"""Groups and latest values of a loop as one thing: what is taken of which event, by which key, over which windows."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import polars as pl

from trimtab.loops.aggregates import Plan, compile_plan, whole_plan
from trimtab.loops.columns import event_columns
from trimtab.loops.model import Event, Group, Latest, Loop, Window, settling_ms
from trimtab.loops.partials import Ints

TILE_GRAINS = 64


@dataclass(frozen=True)
class TileGroup:
    """A group or a latest value, compiled.

    `windows`: what it is finished over; a latest value has one, its max_age, of which only the newest event counts
    (`newest_only`). `digest` identifies the definition; two declarations with the same one share their tiles.
    """

    name: str
    digest: str
    of: str
    by: tuple[str, ...]
    grain_ms: int
    windows: tuple[Window, ...]
    plan: Plan
    newest_only: bool

    @property
    def tile_ms(self) -> int:
        """The length of a tile."""
        return self.grain_ms * TILE_GRAINS

    @property
    def settling_ms(self) -> int:
        """How long before its asker's time a window ends at least, to the grain."""
        return settling_ms(self.grain_ms)

    @property
    def keep_ms(self) -> int:
        """How far back a window reaches."""
        return max(window.width_ms + window.ago_ms for window in self.windows) + self.settling_ms

    @cached_property
    def spans_ms(self) -> Ints:
        """[2, w]: widths of the windows, and how long ago they ended."""
        return np.array([[w.width_ms for w in self.windows], [w.ago_ms for w in self.windows]], dtype=np.int64)

    def known_ms(self, at_ms: Ints) -> Ints:
        """Up to when events count, at most, for asks at these times: a grain of time has ended then, and settled."""
        settled: Ints = at_ms - self.settling_ms
        return settled - settled % self.grain_ms

    def bounds(self, at_ms: Ints) -> tuple[Ints, Ints]:
        """Per time and window [n, w] the first grain and the one after the last.

        [T - width, T) with T = floor(t - settling - ago); a latest value's window begins at t - width.
        """
        end = (at_ms[:, None] - self.settling_ms - self.spans_ms[1]) // self.grain_ms
        start = at_ms[:, None] - self.spans_ms[0] if self.newest_only else end * self.grain_ms - self.spans_ms[0]
        return start // self.grain_ms, end


def tile_groups(loop: Loop) -> tuple[TileGroup, ...]:
    """All groups and latest values of a loop. Raises ExpressionError for a declaration that was not checked."""
    groups = [group_of(group, loop.events[group.of]) for group in loop.features.groups]
    return (*groups, *(latest_of(latest, loop.events[latest.of]) for latest in loop.features.latest))


def group_of(group: Group, event: Event) -> TileGroup:
    """A group of windowed aggregates."""
    plan = compile_plan(group.values, event_columns(event))
    windows = tuple(group.windows)
    return TileGroup(group.name, group.digest, group.of, tuple(group.by), group.grain_ms, windows, plan, False)


def latest_of(latest: Latest, event: Event) -> TileGroup:
    """A latest value, as a group whose only window is its max_age."""
    plan = whole_plan(latest.values, event_columns(event))
    window = (Window("", latest.max_age_ms),)
    return TileGroup(latest.name, latest.digest, latest.of, tuple(latest.by), latest.grain_ms, window, plan, True)


@dataclass(frozen=True, slots=True)
class GroupedEvents:
    """Events of one group, one index a row: keys, event times, and the arguments of the group's plan.

    `arguments`: Float64 series, String for texts; NULL where there is none.
    """

    digest: str
    keys: Sequence[str]
    at_ms: Ints
    arguments: Sequence[pl.Series]

    def __len__(self) -> int:
        return len(self.keys)

    def __getitem__(self, part: slice) -> "GroupedEvents":
        arguments = [series[part] for series in self.arguments]
        return GroupedEvents(self.digest, self.keys[part], self.at_ms[part], arguments)


def together(batches: Sequence[GroupedEvents]) -> GroupedEvents:
    """Batches of one group as one, in their order."""
    if len(batches) == 1:
        return batches[0]
    keys = [key for batch in batches for key in batch.keys]
    at_ms = np.concatenate([batch.at_ms for batch in batches])
    arguments = [pl.concat(parts) for parts in zip(*(batch.arguments for batch in batches), strict=True)]
    return GroupedEvents(batches[0].digest, keys, at_ms, arguments)
