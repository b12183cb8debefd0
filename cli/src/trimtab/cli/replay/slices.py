"""Recorded events cut into slices of event time, each sent as a whole and closed by a mark."""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass

import numpy as np
import polars as pl

from trimtab.loops.files import Chunk


@dataclass(frozen=True, slots=True)
class Slice:
    """The events of (the slice before's `end_ms`, `end_ms`], by name; there may be none."""

    end_ms: int
    frames: Mapping[str, pl.DataFrame]

    @property
    def rows(self) -> int:
        """How many events."""
        return sum(frame.height for frame in self.frames.values())


@dataclass(frozen=True, slots=True)
class Span:
    """Which events to send: `after_ms` < time ≤ `until_ms`."""

    after_ms: int
    until_ms: int


def slices(chunks: Iterable[Chunk], span: Span, step_ms: int) -> Iterator[Slice]:
    """Cut chunks at multiples of `step_ms`. A stretch without events gives empty slices, so that time goes on there.

    A chunk's last slice ends with its last event, because later ones of that step may be in the next chunk.
    """
    reached_ms: int | None = None
    for chunk in chunks:
        kept = _within(chunk, span)
        if not len(kept.time_ms):
            continue
        first_ms, last_ms = int(kept.time_ms[0]), int(kept.time_ms[-1])
        start_ms = _floor(first_ms if reached_ms is None else reached_ms, step_ms)
        ends = [*range(start_ms + step_ms, last_ms, step_ms), last_ms]
        yield from _cut(kept, [end for end in ends if reached_ms is None or end > reached_ms])
        reached_ms = last_ms


def _cut(chunk: Chunk, ends: list[int]) -> Iterator[Slice]:
    at = 0
    taken = [0] * len(chunk.events)
    for end_ms in ends:
        upto = int(np.searchsorted(chunk.time_ms, end_ms, side="right"))
        counts = np.bincount(chunk.event[at:upto], minlength=len(chunk.events))
        frames = {
            name: chunk.frames[number].slice(taken[number], int(counts[number]))
            for number, name in enumerate(chunk.events)
            if counts[number]
        }
        taken = [before + int(count) for before, count in zip(taken, counts, strict=True)]
        at = upto
        yield Slice(end_ms, frames)


def _within(chunk: Chunk, span: Span) -> Chunk:
    """The events of a chunk that lie in the span."""
    low = int(np.searchsorted(chunk.time_ms, span.after_ms, side="right"))
    high = int(np.searchsorted(chunk.time_ms, span.until_ms, side="right"))
    skipped = np.bincount(chunk.event[:low], minlength=len(chunk.events))
    counts = np.bincount(chunk.event[low:high], minlength=len(chunk.events))
    frames = [
        frame.slice(int(skip), int(count)) if frame.height else frame
        for frame, skip, count in zip(chunk.frames, skipped, counts, strict=True)
    ]
    return Chunk(chunk.events, frames, chunk.event[low:high], chunk.time_ms[low:high])


def _floor(ms: int, step_ms: int) -> int:
    return ms - ms % step_ms
