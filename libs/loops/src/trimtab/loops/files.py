"""Recorded events: the files of a loop, read in event-time order with bounded memory.

A folder holds `<event>.parquet`, `.csv`, `.jsonl` or `.ndjson`; one event may have several (`<event>-2024-05.csv`,
`<event>.2.parquet`). Rows need not be sorted. Every file is first rewritten as sorted Parquet into a temporary folder,
then read from there a chunk at a time.
"""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import polars as pl
from numpy.typing import NDArray

from trimtab.loops.conform import TIME_MS, conform
from trimtab.loops.errors import EventFileError
from trimtab.loops.merge import Source, merged
from trimtab.loops.model import Event, Loop

ENDINGS = (".parquet", ".csv", ".jsonl", ".ndjson")
DATA = "data"
CHUNK_ROWS = 50_000


@dataclass(frozen=True, slots=True)
class Chunk:
    """Events that follow those of the chunk before, in event-time order.

    `events`: the loop's events; `frames[e]`: the rows of `events[e]` (its schema's fields, times as UTC) in order.
    Row i of the chunk is the next row of `frames[event[i]]`, at `time_ms[i]`. Events of one instant come in the order
    of `events`, then in that of their files.
    """

    events: Sequence[str]
    frames: Sequence[pl.DataFrame]
    event: NDArray[np.int64]
    time_ms: NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class Recorded:
    """Opened files. `counts`: rows by event; `first_ms`, `last_ms`: the event times between which they lie."""

    counts: Mapping[str, int]
    first_ms: int
    last_ms: int
    _events: Sequence[str]
    _sources: Sequence[Source]

    def chunks(self, rows: int = CHUNK_ROWS) -> Iterator[Chunk]:
        """All events in event-time order, about `rows` of each file at a time."""
        for part in merged(self._sources, rows):
            yield _chunk(self._events, part)


def data_folder(folder: Path) -> Path:
    """Where a loop's recorded events are: its folder `data` if there is one, else the folder itself."""
    return folder / DATA if (folder / DATA).is_dir() else folder


def event_files(folder: Path, event: str) -> list[Path]:
    """The files of an event in a folder, in the order of their names."""
    named = (path for path in folder.iterdir() if path.suffix in ENDINGS and path.is_file())
    return sorted(path for path in named if path.stem == event or path.name.startswith((f"{event}.", f"{event}-")))


@contextmanager
def opened(loop: Loop, folder: Path) -> Iterator[Recorded]:
    """The recorded events of a loop in a folder. Raises EventFileError for what cannot be read as declared."""
    found = {name: event_files(folder, name) for name in loop.events} if folder.is_dir() else {}
    if not found.get(loop.predict.on):
        right = f"{loop.predict.on}.parquet, .csv or .jsonl, with a file for each other event beside it"
        raise EventFileError(str(folder), f"no recorded `{loop.predict.on}` events", right)
    with TemporaryDirectory(prefix="trimtab-events-") as scratch:
        files = [(loop.events[name], path) for name, paths in found.items() for path in paths]
        yield _recorded(loop, [_spooled(event, path, Path(scratch)) for event, path in files])


def scan(path: Path) -> pl.LazyFrame:
    """The rows of a file as they stand in it. CSV: every value a text, an empty one null."""
    if path.suffix == ".parquet":
        return pl.scan_parquet(path)
    if path.suffix == ".csv":
        return pl.scan_csv(path, infer_schema=False)
    return pl.scan_ndjson(path, infer_schema_length=None)


def _spooled(event: Event, path: Path, scratch: Path) -> Source:
    try:
        rows = conform(event, scan(path), str(path))
        target = scratch / f"{len(list(scratch.iterdir()))}-{path.stem}.parquet"
        ordered = rows.rows if rows.is_sorted else rows.rows.sort(TIME_MS, maintain_order=True)
        ordered.sink_parquet(target, compression="lz4", row_group_size=CHUNK_ROWS)
    except pl.exceptions.PolarsError as error:
        raise EventFileError(
            str(path), f"not readable: {error}", "Parquet, CSV with a header, or JSON lines"
        ) from error
    return Source(event.name, target, rows.count)


def _recorded(loop: Loop, sources: Sequence[Source]) -> Recorded:
    events = list(loop.events)
    counts = {name: sum(source.count for source in sources if source.event == name) for name in events}
    spans = [
        pl.scan_parquet(source.file).select(pl.col(TIME_MS).min().alias("a"), pl.col(TIME_MS).max().alias("b"))
        for source in sources
        if source.count
    ]
    times = pl.concat(spans).collect() if spans else pl.DataFrame({"a": [0], "b": [0]})
    ordered = sorted(sources, key=lambda source: events.index(source.event))
    return Recorded(counts, int(times["a"].min()), int(times["b"].max()), events, ordered)  # type: ignore[arg-type]


def _chunk(events: Sequence[str], part: Sequence[tuple[str, pl.DataFrame]]) -> Chunk:
    frames = []
    for name in events:
        own = [frame for event, frame in part if event == name]
        frames.append(pl.concat(own).sort(TIME_MS, maintain_order=True) if own else pl.DataFrame())
    times = [frame[TIME_MS].to_numpy() if TIME_MS in frame.columns else np.empty(0, np.int64) for frame in frames]
    kinds = [np.full(len(time), number, np.int64) for number, time in enumerate(times)]
    time_ms, event = np.concatenate(times), np.concatenate(kinds)
    order = np.argsort(time_ms, kind="stable")
    return Chunk(events, [frame.drop(TIME_MS, strict=False) for frame in frames], event[order], time_ms[order])
