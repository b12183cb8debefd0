"""The tables that grow with a loop's keys, filled as the services fill them."""

import tempfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
from made import DAY_MS, Size, made
from trimtab.contracts import topics
from trimtab.feature.core import Lifetimes
from trimtab.feature.stages import tiles_table
from trimtab.ingest.core.memory import SEEN, Memory, id_digest
from trimtab.loops.columns import event_columns
from trimtab.loops.groups import GroupedEvents, tile_groups
from trimtab.loops.label_state import Chunk, PendingAsk
from trimtab.loops.labels import LabelJoin, LabelWindow
from trimtab.loops.model import Loop
from trimtab.loops.tiles import by_digest, fold
from trimtab.monitor.core.joining import CHUNKS
from trimtab.predictor.stages import ASKED
from trimtab.runtime.stage import Batch, Result, Stage, Tables
from trimtab.runtime.table import TableSpec

FROM_MS = 1_700_000_000_000 // DAY_MS * DAY_MS
PARTITIONS = 2
EVENTS_A_KEY = 3
IDS_A_BATCH = 500


@dataclass(frozen=True, slots=True)
class Kind:
    """A table under the stage that keeps it.

    `put`: keys from one number up to, not including, another go into the tables. `index`: what the stage's step makes
    of them before its first batch.
    """

    stage: Stage
    put: Callable[[Tables, int, int], None]
    index: Callable[[Tables], object]


def generated() -> Loop:
    """The loop, the same in each process."""
    with tempfile.TemporaryDirectory() as folder:
        return made(Path(folder) / "made", Size(30, 10, PARTITIONS), FROM_MS)


def kinds(loop: Loop) -> Mapping[str, Kind]:
    """All of a loop."""
    return {
        "asked": Kind(_stage(loop, "predictor", "score", ASKED), _put_asked, len),
        "ids": Kind(_stage(loop, "ingest", "dedupe", SEEN), _put_ids, lambda tables: Memory(tables[SEEN.name])),
        "windows": Kind(_stage(loop, "monitor", "join", CHUNKS), _put_windows, _windows_index(loop)),
        "tiles": _tiles(loop),
    }


def _stage(loop: Loop, service: str, verb: str, table: TableSpec[Any, Any]) -> Stage:
    def step(_partition: int, _tables: Tables, _batch: Batch) -> Result:
        return Result()

    group, changelog = topics.group(service, verb, loop.name), topics.changelog(service, verb, loop.name)
    return Stage(group, changelog, PARTITIONS, inputs=(), step=step, tables=[table])


def _put_asked(tables: Tables, first: int, end: int) -> None:
    """The predictor's: one a prediction."""
    for number in range(first, end):
        tables[ASKED.name].put(b"b%d" % number, FROM_MS + number)


def _put_ids(tables: Tables, first: int, end: int) -> None:
    """Ingest's: one an event, in chunks of a batch."""
    for start in range(first, end, IDS_A_BATCH):
        numbers = range(start, min(start + IDS_A_BATCH, end))
        pairs = b"".join([id_digest(b"b%d" % number) + id_digest(b"body %d" % number) for number in numbers])
        tables[SEEN.name].put(("bought", FROM_MS + DAY_MS, start), pairs)


def _put_windows(tables: Tables, first: int, end: int) -> None:
    """The monitor's: one a prediction whose label is awaited, as large as one with a champion and no shadow."""
    for number in range(first, end):
        key = f"b{number}"
        ask = PendingAsk(key, FROM_MS + number, b"\x01" * 23)
        tables[CHUNKS.name].put((key, ask.at_ms // DAY_MS), Chunk({key: ask}, {}))


def _windows_index(loop: Loop) -> Callable[[Tables], object]:
    window = LabelWindow(loop.label, event_columns(loop.events[loop.label.of]), loop.task)
    return lambda tables: LabelJoin(window, keep_ms=DAY_MS, chunks=tables[CHUNKS.name], buckets=1)


def _tiles(loop: Loop) -> Kind:
    """The feature service's: a tile a customer, with some events each."""
    groups = tile_groups(loop)
    group = next(one for one in groups if one.name == "customer")
    spec = tiles_table(loop.name)

    def put(tables: Tables, first: int, end: int) -> None:
        keys = [f"c{number}" for number in range(first, end) for _ in range(EVENTS_A_KEY)]
        start_ms = FROM_MS // group.tile_ms * group.tile_ms
        at_ms = start_ms + np.random.default_rng(first).integers(0, group.tile_ms, len(keys))
        prices = [pl.Series(np.random.default_rng(first).gamma(3.0, 10.0, len(keys))) for _ in group.plan.arguments]
        for place, tile in fold(group, GroupedEvents(group.digest, keys, at_ms, prices), tables[spec.name].get):
            tables[spec.name].put(place, tile)

    def index(tables: Tables) -> Lifetimes:
        lifetimes = Lifetimes(by_digest(groups), loop.catch_up_ms)
        for place, _ in tables[spec.name].items():
            lifetimes.add(place)
        return lifetimes

    return Kind(_stage(loop, "feature", "aggregate", spec), put, index)
