"""Recorded events as a loop's history: every vector as it would have been asked for, every label as it became known."""

from bisect import bisect_left
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
from numpy.typing import NDArray

from trimtab.cli.backtest.rows import History
from trimtab.feature.core import Lifetimes, Source, parted, sources
from trimtab.loops.columns import event_columns
from trimtab.loops.conform import bodies
from trimtab.loops.files import Chunk, opened
from trimtab.loops.keys import key_columns, value_text
from trimtab.loops.labels import NO_ASKS, NO_EVENTS, Asks, LabelEvents, LabelJoin, LabelWindow, Outcomes
from trimtab.loops.model import Loop
from trimtab.loops.online import OnlineStore
from trimtab.loops.rows import ReadEvents
from trimtab.loops.tiles import Tile, TileKey, by_digest, fold
from trimtab.loops.vectors import Assembler, Vectors
from trimtab.ml.datasets import Dataset
from trimtab.runtime.stage import UNKNOWN_MS
from trimtab.trainer.core import rows as trainer_rows

HOUR_MS, DAY_MS = 3_600_000, 86_400_000
Told = Callable[[int, int], None]
"""Called with (event time reached, events read since the last call)."""


@dataclass(frozen=True, slots=True)
class Part:
    """What one chunk of events brought: asks with their vectors, label events, and the time that was reached."""

    keys: Sequence[str]
    by: Sequence[str]
    at_ms: NDArray[np.int64]
    vectors: Vectors
    labels: LabelEvents
    times: Mapping[str, NDArray[np.int64]]
    reached_ms: int


@dataclass(frozen=True, slots=True)
class Recording:
    """Recorded events, read once for all policies. `by`: per ask, where its label is looked for. `labels`: label events
    in event-time order. `times`: of all events, by name.
    """

    history: History
    by: Sequence[str]
    labels: LabelEvents
    times: Mapping[str, NDArray[np.int64]]


class Replaying:
    """Reads recorded events through the features' own code. Mutable; lives for one pass."""

    def __init__(self, loop: Loop) -> None:
        self.loop = loop
        self._assembler = Assembler(loop)
        self._store = OnlineStore(self._assembler.groups)
        self._groups = by_digest(self._assembler.groups)
        self._sources: Mapping[str, Source] = {source.event: source for source in sources(loop)}
        self._tiles: dict[TileKey, Tile] = {}
        self._lifetimes = Lifetimes(self._groups, loop.catch_up_ms)
        self.window = LabelWindow(loop.label, event_columns(loop.events[loop.label.of]), loop.task)

    def parts(self, folder: Path, told: Told = lambda _at, _count: None) -> Iterator[Part]:
        """Chunk by chunk, in event-time order."""
        with opened(self.loop, folder) as recorded:
            for chunk in recorded.chunks():
                yield self._part(chunk)
                told(int(chunk.time_ms[-1]), len(chunk.time_ms))

    def _part(self, chunk: Chunk) -> Part:
        times = {name: chunk.time_ms[chunk.event == number] for number, name in enumerate(chunk.events)}
        frames = dict(zip(chunk.events, chunk.frames, strict=True))
        for name, source in self._sources.items():
            if len(frames.get(name, ())):
                self._fold(source, frames[name], times[name])
        self._forget(int(chunk.time_ms[0]))
        ask, label = self.loop.predict.on, self.loop.label.of
        rows = bodies(self.loop.asks, frames[ask])
        at_ms = times[ask]
        return Part(
            keys=[value_text(row[self.loop.predict.key]) for row in rows],
            by=key_texts_of(frames[ask], self.loop.label.by),
            at_ms=at_ms,
            vectors=self._assembler.assemble(rows, at_ms, self._store),
            labels=self._labels(frames[label], times[label]),
            times=times,
            reached_ms=int(chunk.time_ms[-1]),
        )

    def _fold(self, source: Source, frame: pl.DataFrame, at_ms: NDArray[np.int64]) -> None:
        read = ReadEvents({name: frame[name].to_list() for name in frame.columns}, frame)
        for group in source.groups:
            for events in parted(group, read, at_ms, lambda _: 0).values():
                changed = fold(group, events, self._tiles.get)
                for key, tile in changed:
                    if key not in self._tiles:
                        self._lifetimes.add(key)
                    self._tiles[key] = tile
                self._store.put(changed)

    def _forget(self, reached_ms: int) -> None:
        old = self._lifetimes.gone(reached_ms)
        for key in old:
            del self._tiles[key]
        self._store.put([(key, None) for key in old])

    def _labels(self, frame: pl.DataFrame, at_ms: NDArray[np.int64]) -> LabelEvents:
        numbers, texts = self.window.arguments(frame)
        event = self.loop.events[self.loop.label.of]
        ids = frame[event.id].hash(seed=0) if event.id else frame.hash_rows(seed=0)
        return LabelEvents(
            by=key_texts_of(frame, self.loop.label.by),
            at_ms=at_ms.tolist(),
            id=ids.reinterpret(signed=True).to_list(),
            numbers=numbers.tolist(),
            texts=texts,
        )


def key_texts_of(frame: pl.DataFrame, by: Sequence[str]) -> list[str]:
    """The joint key of each row; an empty one, which joins nothing else, where a field is null."""
    return [key or "" for key in key_columns([frame[name].to_list() for name in by])]


def recording(loop: Loop, folder: Path, told: Told = lambda _at, _count: None) -> Recording:
    """Everything that a policy is judged on. Labels settle as in the services, given that no source fell silent."""
    replaying = Replaying(loop)
    join = LabelJoin(replaying.window, keep_ms=min(loop.label.within_ms, 7 * DAY_MS))
    parts: list[Part] = []
    outcomes: list[Outcomes] = []
    count, through_ms = 0, UNKNOWN_MS
    slice_ms = min(max(loop.label.within_ms, HOUR_MS), DAY_MS)
    for part in replaying.parts(folder, told):
        parts.append(part)
        for asks, labels, until_ms in slices(part, slice_ms, count):
            outcomes.append(join.fold(asks, labels, through_ms).outcomes)
            through_ms = until_ms - loop.lateness_ms
            outcomes.append(join.fold(NO_ASKS, NO_EVENTS, through_ms).outcomes)
        count += len(part.keys)
    return Recording(
        history=History(loop, asked(parts), settled(loop, outcomes)),
        by=[by for part in parts for by in part.by],
        labels=LabelEvents(*(chained(parts, name) for name in ("by", "at_ms", "id", "numbers", "texts"))),
        times={name: np.concatenate([part.times[name] for part in parts]) for name in loop.events},
    )


def slices(part: Part, slice_ms: int, first: int) -> Iterator[tuple[Asks, LabelEvents, int]]:
    """A part in slices of event time, so that the join can forget as it goes; asks carry their row, from `first` on."""
    start_ms = min([*part.at_ms[:1].tolist(), *part.labels.at_ms[:1], part.reached_ms])
    ends = [*range(start_ms + slice_ms, part.reached_ms, slice_ms), part.reached_ms + 1]
    a = b = 0
    for end_ms in ends:
        c, d = int(np.searchsorted(part.at_ms, end_ms)), bisect_left(part.labels.at_ms, end_ms)
        payload = [number.to_bytes(8, "big") for number in range(first + a, first + c)]
        asks = Asks(part.keys[a:c], part.by[a:c], part.at_ms[a:c].tolist(), payload)
        yield asks, labels_between(part.labels, b, d), min(end_ms, part.reached_ms)
        a, b = c, d


def labels_between(labels: LabelEvents, first: int, last: int) -> LabelEvents:
    """Some of the label events, by position."""
    texts = labels.texts[first:last] if labels.texts else ()
    return LabelEvents(
        labels.by[first:last], labels.at_ms[first:last], labels.id[first:last], labels.numbers[first:last], texts
    )


def chained(parts: Sequence[Part], name: str) -> list[Any]:
    """One field of all label events."""
    return [value for part in parts for value in getattr(part.labels, name)]


def asked(parts: Sequence[Part]) -> Dataset:
    """All asks as one dataset, without labels."""
    names = parts[0].vectors.names
    at_ms = np.concatenate([part.at_ms for part in parts])
    keys = np.empty(len(at_ms), dtype=object)
    keys[:] = [key for part in parts for key in part.keys]
    return Dataset(
        number_names=names.numbers,
        category_names=names.categories,
        keys=keys,
        at_ms=at_ms,
        numbers=np.concatenate([part.vectors.numbers for part in parts]),
        categories=np.concatenate([part.vectors.categories for part in parts]),
        labels=np.full(len(at_ms), np.nan),
        versions=np.full(len(at_ms), -1),
        scores=np.full(len(at_ms), np.nan),
    )


def settled(loop: Loop, outcomes: Sequence[Outcomes]) -> trainer_rows.Outcomes:
    """Outcomes of the join as the trainer's core takes them; the payload is the row of the ask."""
    label = np.array([value for some in outcomes for value in some.label], dtype=np.float64)
    classes = np.array([value for some in outcomes for value in some.label_class], dtype=object)
    multiclass = loop.task == "multiclass"
    labelled = np.array([one is not None for one in classes.tolist()]) if multiclass else ~np.isnan(label)
    return trainer_rows.Outcomes(
        row=np.array([int.from_bytes(p, "big") for some in outcomes for p in some.payload], dtype=np.int64),
        settled_at_ms=np.array([at for some in outcomes for at in some.settled_at_ms], dtype=np.int64),
        revision=np.array([r for some in outcomes for r in some.revision], dtype=np.int64),
        labelled=labelled.astype(np.bool_),
        suspect=np.zeros(len(label), dtype=np.bool_),
        labels=classes if multiclass else label,
    )
